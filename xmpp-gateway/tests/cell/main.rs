//! A whole cell without libvirt: the real server and exchange, a real node link with a fake agent behind it, real clients and
//! the real command line. Only the wires between them are ours, so that they can be cut.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod authority;
mod carriage;
mod cli;
mod joining;
mod link;
mod viewer;
mod world;
