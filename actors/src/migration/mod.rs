//! Moving machines between hosts.
//!
//! | file | holds |
//! |---|---|
//! | [`saga`] | one move as its source drives it: a pure machine, explored by a model checker |

pub mod saga;
