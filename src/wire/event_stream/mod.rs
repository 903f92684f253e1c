//! Server-sent events without I/O (WHATWG HTML §9.2), both sides.
//!
//! - `write` writes an event, a comment or the end as one HTTP/1.1 chunk each, for a response whose head announced
//!   `Transfer-Encoding: chunked`: no state is left behind, so a parked channel has none.
//! - [`Parser`] reads the stream out of a decoded body, for our own client and the load generator.
//!
//! **What holds.** One event is one chunk, and fits one TLS record: a client that reads a record has whole events. What
//! is written is read back as it was meant, or refused ([`Unwritable`]) before a byte is out; only line ends in data are
//! made LF, as the format has no other. The parser gives the same events however the input is split.
//!
//! **What never happens here.** No event has a line that its fields did not have. No input of a peer panics, and no line
//! or event grows over the parser's limit.

mod parse;
mod write;

#[cfg(test)]
mod tests;

pub use parse::{Item, Parser, TooLong};
pub use write::{EVENT_MAX, Event, Unwritable, write_comment, write_end, write_event};

/// Content type of a stream.
pub const CONTENT_TYPE: &[u8] = b"text/event-stream";
