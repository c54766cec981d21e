//! Logins: SCRAM without channel binding, PLAIN inside TLS, EXTERNAL by certificate, and what slows down guessing.

pub mod scram;
pub mod server;
pub mod throttle;

pub use server::{Failure, Identity, Login, Step};
pub use throttle::{Throttle, ThrottleRules};
