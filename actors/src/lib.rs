//! Who does it.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod routes;
