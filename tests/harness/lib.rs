//! What tests and benchmarks share: a whole cell in this process.
#![forbid(unsafe_code)]

pub mod cell;
