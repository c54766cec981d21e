//! The tests every implementation of a port must pass.
