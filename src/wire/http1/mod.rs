//! HTTP/1.1 without I/O (RFC 9112, RFC 9110), both directions.
//!
//! - [`Server`] reads requests and writes responses; [`Client`] writes requests and reads responses. Both hand out what
//!   they read as events that borrow from the input; only what is split between two inputs, or belongs to a later
//!   request, is kept inside, and a connection at rest keeps nothing.
//! - `scan` finds where a head or trailer section ends and holds the limits; `line` and `meaning` read its first line
//!   and its fields, `head` makes one of them; `body` finds where a body ends; `intake` joins kept bytes and input;
//!   `write` writes; `fields` tells fields apart.
//!
//! **What holds.** Every accepted message can be read in one way only, whoever stands before or behind us: what two
//! readers could take for two things (RFC 9112 §11.2) is refused and the connection ends. The same bytes give the same
//! events and the same refusal however they are split. A head that arrives whole is neither copied nor allocated for.
//! What is written has exactly one framing, and no line that its fields did not have.
//!
//! **What never happens here.** No input of a peer panics, nor does what another process may have sent to our caller
//! (a body over its length, a request line that cannot be written, a 101 unasked): such a message is written as far as
//! it is harmless, and its end says false. Assertions are for the order of calls and for statuses, which the relay
//! checks too; each is named at its function. Nothing is decided about paths, identities or routes. No body is held.
//!
//! **What is refused although the grammar has it**, since nobody sane sends it and servers differ about it: spaces
//! around a chunk size, a Content-Length list even of equal numbers, codings before `chunked`, escapes or punctuation in
//! Host, an absolute target whose authority is not Host, `HTTP/1.2`. `CONNECT` is 501: this is no forward proxy.

mod body;
mod client;
mod fields;
mod head;
mod intake;
mod line;
mod meaning;
mod scan;
mod server;
mod write;

#[cfg(test)]
mod tests;

pub use crate::wire::Field;
pub use client::{Client, ClientEvent};
pub use fields::{Fields, FieldsIter, is_hop_by_hop};
pub use head::FIELDS_MAX;
pub use line::{is_idempotent, is_request_line};
pub use server::{Server, ServerEvent};

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Request or status line and all headers, in bytes.
    pub head_bytes: usize,
    /// Header fields, and apart from them trailer fields; at most [`FIELDS_MAX`] counts.
    pub header_count: usize,
    /// Trailer section, in bytes, its final empty line included.
    pub trailer_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body at all (also: HEAD, 204, 304).
    None,
    Length(u64),
    Chunked,
    /// Responses only: the body ends with the connection.
    UntilClose,
}

#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// Any token of at most 32 characters.
    pub method: &'a [u8],
    /// As sent, visible ASCII without `#`; origin-form, or absolute-form (then `host` is the target's authority), or `*`
    /// with OPTIONS. See [`RequestHead::origin_form`].
    pub target: &'a [u8],
    /// Host header (or the authority of an absolute-form target), with its port if it has one: a name, an IPv4 or a
    /// bracketed IPv6 address, well formed. Empty when HTTP/1.0 had none.
    pub host: &'a [u8],
    pub http10: bool,
    pub fields: Fields<'a>,
    /// Never `UntilClose`.
    pub framing: Framing,
    /// The client waits for a 100 before it sends the body.
    pub expect_continue: bool,
    /// `Connection: upgrade` and the Upgrade header's value.
    pub upgrade: Option<&'a [u8]>,
}

impl<'a> RequestHead<'a> {
    /// Path and query of the target, whatever its form; `*` for OPTIONS of the server itself.
    pub fn origin_form(&self) -> &'a [u8] {
        match line::split_absolute(self.target) {
            Some((_, b"")) => b"/",
            Some((_, path)) => path,
            None => self.target,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// From 100 to 999.
    pub status: u16,
    /// May be empty.
    pub reason: &'a [u8],
    pub http10: bool,
    pub fields: Fields<'a>,
    /// `None` for answers to HEAD, 1xx, 204 and 304, whatever their fields say; `UntilClose` also for 101 and a 2xx to
    /// CONNECT.
    pub framing: Framing,
    /// 1xx, 101 excepted.
    pub interim: bool,
}

/// Why a message is refused: the status to answer with (then close), and what was wrong, for the error's detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// 400, 414, 417, 431, 501 or 505; for responses always 502.
    pub status: u16,
    pub why: &'static str,
}
