//! XML streams (RFC 6120) and their WebSocket framing (RFC 7395), for the server's side and the client's.
//!
//! ```text
//!   bytes --> [decode] --> Piece::Open | Piece::Element | Piece::Close      limits are enforced while reading
//!   Element --> [encode] --> Stanza (serialised once, shared by all who get it) --> [wire] --> one write per batch
//! ```
//! The parser is `rxml`'s raw stage: it knows no DTD, no entities and no processing instructions. Names are resolved here, so
//! that the number and the size of attributes can be bounded before anything is kept.

pub mod condition;
pub mod decode;
pub mod encode;
pub mod ns;
pub mod wire;

pub use condition::{StreamCondition, StreamError};
pub use decode::{Bounds, Decoder, Header, Piece};
pub use encode::{Stanza, escape_into, write_element};
