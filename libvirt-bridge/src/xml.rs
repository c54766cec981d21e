//! libvirt's XML: [`tree`] keeps everything, known or not; [`domain`] builds definitions, [`edit`] changes them; [`read`] takes out what the
//! facts need, [`needs`] what moving a machine needs, [`backup`] what backing it up and bringing it back needs. Nothing here calls libvirt, and no text is put together by hand, so
//! nothing can break out of its place.

pub mod backup;
pub mod domain;
pub mod edit;
pub mod needs;
pub mod network;
pub mod read;
pub mod storage;
pub mod tree;
