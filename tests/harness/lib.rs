//! What tests and benchmarks share: a whole cell in this process, on real or on simulated time.
#![forbid(unsafe_code)]

pub mod cell;
pub mod sim;
