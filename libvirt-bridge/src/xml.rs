//! libvirt's XML: [`tree`] keeps everything, known or not; [`domain`] and [`create`] build definitions, [`edit`] changes them; [`read`] takes out what the
//! facts need, [`needs`] what moving a machine needs, [`backup`] what backing it up and bringing it back needs, [`host`] what the host is made of. Nothing
//! here calls libvirt, and no text is put together by hand, so nothing can break out of its place.

pub mod backup;
pub mod create;
pub mod domain;
pub mod edit;
pub mod host;
pub mod likeness;
pub mod needs;
pub mod network;
pub mod read;
pub mod storage;
pub mod tree;
