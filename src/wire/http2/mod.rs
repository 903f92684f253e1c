//! HTTP/2 without I/O, the client's side of one connection (RFC 9113).
//!
//! Frames, HPACK, stream states and flow control are the `h2` crate's. It is written for tasks, so this core gives it
//! what it expects and nothing else of a runtime: an in-memory pipe for a socket (`pipe`), and for tasks a list of
//! streams that have something to tell (`wakes`). A [`Client`] is driven by calls:
//!
//! ```text
//! handle_input(bytes) ▸ pipe ▸ h2 ▸ wakes the streams it concerns ▸ next_event() gives their events, one by one
//! open · send_data · send_end · reset ▸ h2 ▸ pipe ▸ transmit(out)
//! ```
//!
//! - `request` makes heads that h2 takes of ours; `client` is the connection.
//!
//! **What holds.**
//! - A stream that is held open costs nothing in a turn: only streams that h2 woke are looked at.
//! - One slow reader stops no other. A stream whose owner wants no more (`pause`) is not read, so that its window closes
//!   after [`STREAM_WINDOW`] bytes; the connection's window, [`CONNECTION_WINDOW`], has room for that of every stream the
//!   connection may have, and so never closes before theirs. Window is given back when bytes are handed out.
//! - A request's body is taken as far as the peer's window goes and no further; [`Event::Room`] says when to go on.
//! - What is refused before it was looked at (REFUSED_STREAM, a GOAWAY whose last stream is lower) comes as
//!   [`Failed::refused`]: it is safe to repeat, whatever it was. Nothing else is.
//! - 1xx heads are given as they come ([`Event::Interim`]). Promised streams are refused (SETTINGS_ENABLE_PUSH is 0).
//!
//! **What never happens here.** No input panics (h2 ends the connection for it), nothing is decided about routes, no clock
//! is read by us (h2 reads one to forget streams that were reset), no runtime is entered. h2 guards its state by a mutex:
//! here one thread alone takes it, which costs two atomic operations, never a wait.

mod client;
mod pipe;
mod request;
mod wakes;

#[cfg(test)]
mod tests;

pub use client::{Client, State};
pub use request::{Request, is_sendable};

use crate::wire::Field;
use bytes::Bytes;
use http::HeaderMap;
use std::time::Duration;

/// Streams on one connection, whatever more the peer allows.
pub const STREAMS_MAX: usize = 256;
/// What a peer may send on a stream before its owner took something of it.
pub const STREAM_WINDOW: u32 = 64 * 1024;
/// All streams' windows together, and one more: it never is the one that closes.
pub const CONNECTION_WINDOW: u32 = STREAM_WINDOW * (STREAMS_MAX as u32 + 1);
/// A response's head or trailers, names and values and 32 bytes for each.
pub const HEAD_BYTES: u32 = 64 * 1024;
/// Bytes of a request's body that wait for the connection to send them.
pub const SEND_BUFFER: usize = 64 * 1024;
/// Bytes that are kept for the owner to send; h2 writes no more until they are taken.
pub const OUTPUT_BYTES: usize = 64 * 1024;
/// Bytes received that h2 does not take, because what it must answer finds no room. More end the connection.
pub const INPUT_BYTES: usize = 1024 * 1024;
/// Streams in a row that we reset and the peer may still send to.
pub const RESETS_KEPT: usize = 1024;
/// After this silence, while streams are open, the peer is asked whether it is there.
pub const PING_AFTER: Duration = Duration::from_secs(30);
/// And has this long to say so.
pub const PONG_WITHIN: Duration = Duration::from_secs(15);

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing, and nothing is said of a length: END_STREAM came with the head, or is sent with it.
    None,
    Length(u64),
    Unknown,
}

/// Header or trailer fields as received, names in lower case.
#[derive(Debug, Default)]
pub struct Fields(HeaderMap);

impl Fields {
    /// Fields of one name stand together; their order among each other is kept. Those that HTTP/2 has no place for
    /// (RFC 9113 §8.2.2) are not here: h2 refuses them.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.0.iter().map(|(name, value)| Field {
            name: name.as_str().as_bytes(),
            value: value.as_bytes(),
        })
    }
}

/// What a stream has to tell.
#[derive(Debug)]
pub enum Event {
    /// 1xx; more heads follow.
    Interim { status: u16, fields: Fields },
    /// `Content::None`: answers to HEAD, 204 and 304, whatever their fields say.
    Head {
        status: u16,
        fields: Fields,
        content: Content,
    },
    /// Never empty.
    Data(Bytes),
    /// The answer is complete, and the stream is gone; what was left to send of the request is not wanted any more.
    End { trailers: Fields },
    /// The stream is gone.
    Failed(Failed),
    /// `send_data` takes more.
    Room,
}

/// Why a stream, or the connection, ended before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The peer did not look at the request: it may be repeated, whatever it is.
    pub refused: bool,
    /// The peer wants such requests over HTTP/1.1.
    pub wants_http1: bool,
    pub why: String,
}

/// The usual words for a status: HTTP/2 sends none.
pub fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or_default()
}
