//! How the process keeps its memory. It stands in this crate because it is the only one that may call C.
//!
//! glibc gives every busy thread an arena of its own and returns what was freed only from the end of one. Listing ten
//! thousand machines once would leave some eight kibibytes a machine resident for ever, of which two are in use. The daemon
//! has a handful of threads and allocates little once everything is listed, so one arena costs nothing that was measurable.

/// Uses one arena and returns free memory early. To be called first thing, before any thread exists.
#[allow(unsafe_code, reason = "the allocator can only be told in C")]
pub fn keep_small() {
    const RETURN_ABOVE: libc::c_int = 256 * 1024;
    // SAFETY: mallopt only sets parameters of the allocator; both are documented and any value is allowed.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, RETURN_ABOVE);
    }
}
