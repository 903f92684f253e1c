//! The relay protocol, version 1 (TGR/1): requests of many clients over one link between gateway and connector.
//!
//! This page is the specification; the code below it keeps to it, and tests compare the two. A *link* is a reliable,
//! ordered, authenticated byte stream (TLS over TCP). One *session* lives on one link. All numbers are unsigned and in
//! network order; all texts are UTF-8.
//!
//! # Frames
//!
//! ```text
//!  0        3      4           8
//!  | length | kind | stream    | payload: `length` bytes
//!     u24     u8     u32
//! ```
//!
//! `stream` is 0 for frames of the session. A payload is at most 65,536 bytes, and within the bounds of its kind. Frames
//! need not align with TLS records; a DATA payload of 16,376 bytes fills one with its header.
//!
//! | kind | name | sent by | stream | payload bytes |
//! |---|---|---|---|---|
//! | 0x01 | HELLO | connector | 0 | 42–296 |
//! | 0x02 | READY | gateway | 0 | 64–64 |
//! | 0x03 | REFUSE | both | 0 | 2–514 |
//! | 0x04 | PING | both | 0 | 8–8 |
//! | 0x05 | PONG | both | 0 | 8–8 |
//! | 0x06 | GOAWAY | both | 0 | 8–8 |
//! | 0x08 | PUBLISH | connector | 0 | 40–16376 |
//! | 0x09 | PUBLISHED | gateway | 0 | 33–545 |
//! | 0x10 | OPEN | gateway | id | 16–65536 |
//! | 0x11 | HEAD | connector | id | 14–65536 |
//! | 0x12 | DATA | both | id | 1–16376 |
//! | 0x13 | END | both | id | 0–65536 |
//! | 0x14 | RESET | both | id | 2–514 |
//! | 0x15 | CREDIT | both | id or 0 | 4–4 |
//! | 0x20 | CHANNEL_UP | gateway | 0 | 1–16376 |
//! | 0x21 | CHANNEL_DOWN | gateway | 0 | 9–16376 |
//! | 0x22 | CHANNEL_CLOSE | connector | 0 | 9–16376 |
//! | 0x23 | NOTIFY | connector | 0 | 19–16376 |
//! | 0x24 | OUTCOME | gateway | 0 | 26–16376 |
//! | 0x25 | RECEIPT | gateway | 0 | 18–16376 |
//!
//! An unknown kind from 0x80 on is skipped (its length is still bounded by 65,536); any other unknown kind, a payload out
//! of bounds, a stream that is 0 where an id must stand or the reverse, or a kind from the wrong side ends the session.
//!
//! # Opening, versions, the end
//!
//! The connector sends HELLO; the gateway answers READY or REFUSE. Nothing else is sent before READY. Both within 15 s of
//! the link's start. HELLO's layout is the same in all versions of this protocol; READY names the version (one of those
//! offered) and the features (a part of those offered) of everything after it.
//!
//! ```text
//! HELLO      0  4  "TGR/"
//!            4  1  lowest version offered         5  1  highest version offered
//!            6  2  link index                     8  2  wanted shard; 0xffff: any
//!           10  4  most streams open at once on this link, at least 1
//!           14  8  features offered, one bit each
//!           22 16  incarnation: random at each start of the connector's process
//!           38  1  length of the connector id (1–128), then the id;  then 1 length of the site's name (1–128), the name
//! READY      0  1  version    1  1  zero
//!            2  2  instance   4  2  shard that holds the link    6  2  shards of the instance
//!            8  8  features   16 16  boot id: random at each start of the gateway's process
//!           32 32  hash of the settings document that the gateway has for the site; zeros: none
//! REFUSE     0  2  code       2  …  text, at most 512
//! GOAWAY     0  4  deadline in ms: streams that run may finish until then
//!            4  4  delay in ms: a peer that dials again waits a random part of it first
//! PING, PONG 0  8  a number that grows with each PING of its sender; PONG repeats it
//! ```
//!
//! Versions: this page is version 1. Features: bit 0, the channel frames (kinds 0x20 to 0x25); without it in READY neither
//! side sends any of them, and one that comes ends the session. A READY with features that were not offered ends it too.
//!
//! REFUSE ends the session at any time, from either side; its sender sends nothing after it, and closes the link when it
//! was sent. Codes: 1 version · 2 forbidden (connector id, site or certificate do not go together) · 3 unknown_site ·
//! 4 duplicate_connector_id · 5 replaced (by a newer link or incarnation) · 6 draining · 7 protocol (the sender of REFUSE
//! found the peer's mistake that the text tells) · 8 no_such_shard · 9 overloaded.
//!
//! GOAWAY is sent when draining, also on an idle link. After GOAWAY, sent or received, the gateway opens no more streams
//! on the link; an OPEN that crossed it is served or reset with `refused`. A later GOAWAY replaces an earlier one. A
//! gateway that received GOAWAY closes the link when no stream is left on it, and a connector that sent it waits for
//! that: the gateway alone knows that no OPEN is on the way.
//!
//! **Links of one connector.** The link index tells apart the links that one incarnation has to one gateway instance.
//! The same incarnation and index replaces that one link at once, half-open or not. A new incarnation retires all links
//! of older ones, on every shard: they end at once, but those that said GOAWAY finish their streams. A retired incarnation that comes back while the newer has links is refused as
//! `duplicate_connector_id`: two processes live under one id. [`Incarnations`] decides it.
//!
//! # Liveness
//!
//! After READY each side sends PING at once and then every 5 s, and answers each PING with PONG; a PONG answers all
//! earlier PINGs too, so a receiver short of room may answer the last one only. A peer is dead when 2 PINGs in a row had
//! no PONG within 5 s each and nothing else came either, or when 3 PINGs had none (15 s) whatever came.
//!
//! # Streams
//!
//! Only the gateway opens streams, one for each request. An id holds a slot (low 20 bits) and a generation (high 12 bits,
//! 1–4,095). The slot is below the number that HELLO gave; a slot's generation differs from its last one. Each direction
//! is open until its sender has sent END or RESET; **the id is free for its next generation when both sides have sent END
//! or RESET**. Who receives RESET and has sent neither answers with RESET.
//!
//! ```text
//!                       OPEN
//!                         │
//!                         ▼
//!            send END ┌──────┐ receive END          per side: `ours` and `theirs`,
//!          ┌──────────│ open │──────────┐           each open, ended or reset
//!          ▼          └──────┘          ▼
//!   ┌────────────┐     │    │    ┌──────────────┐
//!   │ ours ended │     │    │    │ theirs ended │   send RESET (from any of the three): what still comes
//!   └────────────┘     │    │    └──────────────┘   is dropped, until END or RESET of the peer
//!          │           │    │           │
//!          │   send    │    │ receive   │           receive RESET (from any): answered with RESET
//!          │   RESET   ▼    │ RESET     │           where ours is open
//!          │      ┌────────┐│           │
//!          │      │ reset  ││           │
//!          │      └────────┘│           │
//!          ▼           ▼    ▼           ▼
//!         ┌──────────────────────────────┐
//!         │   free: the next generation  │
//!         └──────────────────────────────┘
//! ```
//!
//! | receive ↓ | theirs open, ours open or ended | theirs open, ours reset | theirs ended, ours open | free |
//! |---|---|---|---|---|
//! | HEAD | deliver¹ | drop | session error | session error |
//! | DATA | deliver² | drop | session error | session error |
//! | END | deliver², theirs ended | theirs ended | session error | session error |
//! | RESET | deliver; answer if ours is open | theirs reset | deliver, answer | ignore³ |
//! | CREDIT | take | take | take | ignore³ |
//!
//! ¹ To the gateway only, at most 16 interim heads and then one final. ² To the gateway after the final HEAD only. Both
//! else a session error, but too many interim heads RESET(protocol). ³ For the slot's last generation: it crossed our END
//! or RESET. For any other id a session error.
//!
//! RESET after END says that the other direction is not wanted any more; what its sender sent up to END stays valid.
//!
//! ```text
//! OPEN       0  1  flags: bit 0, the client waits for 100 (Continue); others zero
//!            1  1  body: 0 none, 1 of known length, 2 of unknown length
//!            2  1  length of the method           3  1  length of the request id
//!            4  2  length of the target           6  2  length of the host
//!            8  8  body length; zero unless body is 1
//!           16  …  method, target, host, request id, fields
//! HEAD       0  2  status     2  1  flags: bit 0, interim; others zero      3  1  body, as in OPEN
//!            4  8  body length  12  2  length of the reason   14  …  reason, fields
//! DATA       0  …  body bytes, at least 1
//! END        0  …  trailers, as fields
//! RESET      0  2  code       2  …  text, at most 512
//! CREDIT     0  4  body bytes that the peer may send beyond what it might before, at least 1
//! fields: to the end of the payload, each   0 2 length of the name   2 2 length of the value   4 … name, value
//! ```
//!
//! Heads are parsed ones: a receiver forwards parts and never raw bytes, so nothing can be smuggled between two parsers.
//! Checked by both ends: method, names: visible ASCII (names without colon), not empty; target: not empty; target and
//! host without space, DEL and control bytes; request id: visible ASCII; values, reason: without CR, LF and NUL. Interim
//! is set for 1xx except 101, which is final: what follows it as DATA is the upgraded protocol. A breach in a received
//! frame ends the session.
//!
//! RESET codes: 1 refused (the upstream saw nothing: safe to repeat elsewhere) · 2 cancelled · 3 upstream_refused ·
//! 4 upstream_timeout · 5 upstream_broken · 6 not_published · 7 body_too_large · 8 overloaded · 9 protocol · 10 internal ·
//! 11 ports_exhausted (the upstream saw nothing); unknown ones read as internal.
//!
//! # Credit
//!
//! DATA payload bytes need credit of their stream and of the session, in each direction on its own; nothing else does.
//! A stream starts with 65,536, a session with 1,048,576. CREDIT adds; no credit exceeds 2^31-1, else the session ends.
//! - *Stream credit* comes back when the receiver's owner has consumed the bytes; it alone bounds a reader that does not
//!   read. It returns in halves of the window; the window doubles, up to the receiver's limit, while half of it is
//!   consumed within two round trips (10 ms at least). Near its memory cap a receiver grants none. DATA over it:
//!   RESET(protocol).
//! - *Session credit* covers bytes not yet dispatched. It returns, in halves of the window, as soon as a frame is charged
//!   to its stream, also when the stream is reset and the bytes dropped; so any number of stalled streams leaves it
//!   whole. DATA over it ends the session.
//!
//! # Scheduling
//!
//! Control frames of the session go before everything else. Streams take turns by deficit round-robin with a quantum of
//! 65,536 bytes; one that has just become able to send, with at most 4,096 bytes waiting, goes before those that had
//! their turn. Order within a stream is kept; RESET drops what waits before it.
//!
//! Channel frames go in their order when no stream can send, and a burst of at most 16,384 bytes of them for each 262,144
//! bytes that streams sent in their place. PUBLISH goes when neither streams nor channel frames can, and one chunk for
//! each 1,048,576 bytes that these sent in its place.
//!
//! # Settings
//!
//! ```text
//! PUBLISH    0 32  hash of the whole document      32  4  its length, at most 16,777,216
//!           36  4  offset of this chunk            40  …  the chunk, at least 1 byte unless the document is empty
//! PUBLISHED  0 32  hash      32  1  1 accepted, 0 refused      33  …  text, at most 512: why not
//! ```
//!
//! A document goes over one link, in order; a chunk at offset 0 starts one and abandons the one before. A chunk out of
//! order ends the session. The receiver checks the hash and answers with PUBLISHED. A refusal whose text begins with
//! [`BUSY`] is no verdict: the document was not looked at, and is to be published again a little later.
//!
//! # Channels
//!
//! A channel is a client's connection that the gateway shard holds open for pushes. Slot and generation name it on this
//! link; with instance, boot id and shard of READY they name it everywhere, and for ever: a slot's generations never
//! come again.
//!
//! ```text
//! CHANNEL_UP     0  1  flags: bit 0, a full list begins here; bit 1, a full list ends here; others zero
//!                1  …  channels, at least 1 unless a flag is set; each:
//!                        0  4  slot    4  4  generation
//!                        8  1  kind: 1 event stream (SSE), 2 WebSocket, 3 long poll
//!                        9  1  client known by: 1 certificate, 2 token
//!                       10  4  since when, in seconds since 1970
//!                       14  1  length of the client id (1–128)    15  …  client id, visible ASCII
//! CHANNEL_DOWN   0  …  channels, at least 1; each:   0  4  slot   4  4  generation   8  1  reason
//! CHANNEL_CLOSE  0  …  channels, at least 1; each:   0  4  slot   4  4  generation   8  1  reason
//! NOTIFY         0 16  push id       16  1  flags: bit 0, a repeat; bit 1, to all channels; others zero
//!               17  2  length of the payload, at most 4,096       19  …  payload
//!                …  …  channels, at least 1, none with flag bit 1; each:   0  4  slot   4  4  generation
//! OUTCOME        0 16  push id       16  1  form: 0 entries, 1 totals
//!               17  …  form 0: channels, at least 1; each:   0  4  slot   4  4  generation
//!                                                            8  1  1 sent, 2 gone, 3 dropped
//!                      form 1, and nothing after it:         0  4  sent   4  4  gone   8  4  dropped
//! RECEIPT        0  …  receipts, at least 1; each:   0 16  push id
//!                       16  1  length of the client id (1–128)    17  …  client id, visible ASCII
//! ```
//!
//! Entries fill the payload to its end. A breach ends the session.
//!
//! **Lists.** After READY the gateway sends a full list, and may send one again at any time. It is as many CHANNEL_UP as
//! it takes, from the one with bit 0 to the one with bit 1 (both, for a list of one frame or of no channel); an end without
//! a beginning ends the session, a beginning within a list starts it anew. News go between: a CHANNEL_UP within a list
//! counts for it, a CHANNEL_DOWN takes its channels off. At the end, channels of this shard that the connector knew before
//! and that did not come since the beginning are gone. A second CHANNEL_UP of a channel replaces the first, a CHANNEL_DOWN
//! for one that is not known says nothing.
//!
//! **Reasons** of CHANNEL_DOWN: 1 left (the client ended it) · 2 lost (broken, or without answer) · 3 answered (a long
//! poll: the client is expected back) · 4 closed (CHANNEL_CLOSE asked for it) · 5 draining · 6 revoked · 7 misbehaved; of
//! CHANNEL_CLOSE: 1 replaced (by a newer channel of its client) · 2 denied · 3 requested. 0 and unknown ones read as other.
//! CHANNEL_CLOSE for a channel that is gone says nothing, as its CHANNEL_DOWN is on the way; any other is answered with
//! CHANNEL_DOWN.
//!
//! **Pushes.** The gateway answers NOTIFY with one fate for each of its channels, in any number of OUTCOME frames, or, when
//! it was for all, with totals. To all: all channels of the link's site that the shard holds at that moment. RECEIPT says
//! that the client has the push, on whatever channel it came; it goes to the connector that the push id names: its first
//! 6 bytes are those of the SHA-256 of site, a zero byte and connector id.
//!
//! # What never happens here
//!
//! No I/O, no clock, no randomness. No allocation in steady state: heads are encoded in one scratch buffer (OPEN and
//! channel frames in their owner's), queued bytes lie in recycled ones, of channel frames at most 262,144. What a peer can make this side hold is bounded: one partial frame (64 KiB), the credit of its
//! streams, and one mark for each answer owed.

mod channel;
mod control;
mod credit;
mod frame;
mod head;
mod incarnation;
mod liveness;
mod open;
mod publication;
mod queue;
mod receive;
mod schedule;
mod send;
mod session;
mod slots;
pub mod staging;
mod stream;

#[cfg(test)]
mod tests;

pub use crate::wire::Field;
pub use channel::{
    Audience, Batch, CHANNEL_QUEUE, ChannelAuth, ChannelClose, ChannelDown, ChannelFate,
    ChannelKey, ChannelKind, ChannelUp, CloseReason, Closes, DownReason, Downs, Entries, Entry,
    Fate, MAX_CLIENT_ID, MAX_PUSH, Notification, Outcome, Outcomes, PUSH_ID_TEXT, PushId, Receipt,
    Receipts, Summary, Totals, Ups,
};
pub use control::{BUSY, MAX_DOCUMENT, MAX_ID};
pub use credit::{SESSION_CREDIT, STREAM_CREDIT};
pub use frame::{HEADER, Kind, MAX_DATA, MAX_PAYLOAD, MAX_TEXT};
pub use incarnation::{Decision, Incarnations};
pub use liveness::{HANDSHAKE_TIMEOUT, PING_INTERVAL};
pub use open::OpenFrame;
pub use session::Session;
pub use stream::MAX_INTERIM;

use std::fmt;
use std::time::Duration;

/// The version on this page.
pub const VERSION: u8 = 1;
/// Features that this code knows.
pub const FEATURES: u64 = CHANNELS;
/// The feature of the channel frames.
pub const CHANNELS: u64 = 1;
/// [`Hello::wanted_shard`] of a connector that takes any.
pub const ANY_SHARD: u16 = 0xffff;

/// Codes of REFUSE, part of the protocol.
pub mod refusal {
    pub const VERSION: u16 = 1;
    pub const FORBIDDEN: u16 = 2;
    pub const UNKNOWN_SITE: u16 = 3;
    pub const DUPLICATE_CONNECTOR_ID: u16 = 4;
    pub const REPLACED: u16 = 5;
    pub const DRAINING: u16 = 6;
    pub const PROTOCOL: u16 = 7;
    pub const NO_SUCH_SHARD: u16 = 8;
    pub const OVERLOADED: u16 = 9;

    /// Its name for logs and counters.
    pub fn name(code: u16) -> &'static str {
        match code {
            VERSION => "version",
            FORBIDDEN => "forbidden",
            UNKNOWN_SITE => "unknown_site",
            DUPLICATE_CONNECTOR_ID => "duplicate_connector_id",
            REPLACED => "replaced",
            DRAINING => "draining",
            PROTOCOL => "protocol",
            NO_SUCH_SHARD => "no_such_shard",
            OVERLOADED => "overloaded",
            _ => "unknown",
        }
    }
}

/// Stream id: slot (low 20 bits) and generation (high 12 bits); never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamId(pub u32);

impl StreamId {
    pub(crate) const SLOT_BITS: u32 = 20;
    /// Slots that an id can name.
    pub const MAX_SLOTS: u32 = 1 << Self::SLOT_BITS;

    pub(crate) fn new(slot: u32, generation: u16) -> StreamId {
        StreamId(u32::from(generation) << Self::SLOT_BITS | slot)
    }

    /// Small and dense: an index for the owner's own table.
    pub fn slot(self) -> usize {
        (self.0 & (Self::MAX_SLOTS - 1)) as usize
    }

    pub fn generation(self) -> u16 {
        (self.0 >> Self::SLOT_BITS) as u16
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Gateway,
    Connector,
}

/// How the body of a message is framed at its source; what a proxy must preserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    None,
    Length(u64),
    /// Chunked, or until close.
    Unknown,
}

/// OPEN: the parsed request head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenHead<'a> {
    pub method: &'a [u8],
    /// Normalised path and query.
    pub target: &'a [u8],
    pub host: &'a [u8],
    pub request_id: &'a [u8],
    pub body: Body,
    /// The client sent `Expect: 100-continue` and waits.
    pub expect_continue: bool,
    /// Of a received head; [`OpenFrame::encode`] takes the fields to send apart ([`Fields::empty`] stands here then).
    pub fields: Fields<'a>,
}

/// HEAD: the parsed response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHead<'a> {
    pub status: u16,
    pub interim: bool,
    pub reason: &'a [u8],
    pub body: Body,
    pub fields: Fields<'a>,
}

/// Fields still in wire form; iterate, each item checked when the frame was accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields<'a> {
    bytes: &'a [u8],
}

impl Fields<'_> {
    pub const fn empty() -> Fields<'static> {
        Fields { bytes: &[] }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let (field, rest) = head::split_field(self.bytes)?;
        self.bytes = rest;
        Some(field)
    }
}

/// RESET codes, part of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum ResetCode {
    /// The upstream saw nothing of it: safe to repeat elsewhere.
    Refused = 1,
    Cancelled = 2,
    UpstreamRefused = 3,
    UpstreamTimeout = 4,
    /// The upstream broke off after its head, or its answer could not be read.
    UpstreamBroken = 5,
    NotPublished = 6,
    BodyTooLarge = 7,
    Overloaded = 8,
    /// The other side broke the protocol on this stream.
    Protocol = 9,
    Internal = 10,
    /// No local port is left towards the upstream, which saw nothing: safe to repeat elsewhere.
    PortsExhausted = 11,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub connector: String,
    pub site: String,
    pub incarnation: u128,
    /// Tells apart the links of one incarnation to one gateway instance.
    pub link_index: u16,
    /// [`ANY_SHARD`]: any.
    pub wanted_shard: u16,
    /// Lowest and highest.
    pub versions: (u8, u8),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    pub version: u8,
    pub features: u64,
    pub instance: u16,
    pub boot_id: u128,
    pub shard: u16,
    pub shards: u16,
    /// Hash of the settings snapshot that the gateway has for this connector; zeros when none.
    pub settings_hash: [u8; 32],
}

/// What `Session::next` gives. `T` is the owner's own key for a stream, given at `open` or `attach`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a, T> {
    Hello(Hello),
    Ready(Ready),
    /// The session is refused (before READY) or ended by the peer with a reason; codes in [`refusal`]. Close the link.
    Refused {
        code: u16,
        text: &'a str,
    },
    /// Attach a token, or reset the stream, before the next call of `next`.
    Open {
        stream: StreamId,
        head: OpenHead<'a>,
    },
    Head {
        stream: StreamId,
        token: T,
        head: ResponseHead<'a>,
    },
    /// Body bytes, at least one; already charged to the stream's receive window: give them back with `consumed`.
    Data {
        stream: StreamId,
        token: T,
        bytes: &'a [u8],
    },
    End {
        stream: StreamId,
        token: T,
        trailers: Fields<'a>,
    },
    /// The peer gave the stream up, or broke the protocol on it (`Protocol`). After `End`: the peer's message is complete,
    /// and it does not want the rest of ours. The stream is gone, no verb of it does anything.
    Reset {
        stream: StreamId,
        token: T,
        code: ResetCode,
        text: &'a str,
    },
    /// One chunk of the settings document (connector → gateway), in order, from offset 0.
    Publish {
        hash: [u8; 32],
        total: u32,
        offset: u32,
        bytes: &'a [u8],
    },
    /// Gateway's verdict on settings.
    Published {
        hash: [u8; 32],
        accepted: bool,
        text: &'a str,
    },
    GoAway {
        deadline: Duration,
        delay: Duration,
    },
    /// A PONG came: round-trip time.
    RoundTrip(Duration),
    /// Channels that are there (gateway → connector).
    ChannelUp {
        /// Channels known so far are gone unless they come until `list_ends`, this frame included.
        list_starts: bool,
        list_ends: bool,
        channels: Entries<'a, ChannelUp<'a>>,
    },
    /// Channels that are gone (gateway → connector).
    ChannelDown(Entries<'a, ChannelDown>),
    /// Channels to close (connector → gateway).
    ChannelClose(Entries<'a, ChannelClose>),
    /// A push (connector → gateway): each channel of it gets a fate.
    Notify {
        push: PushId,
        /// It was sent before.
        repeat: bool,
        audience: Audience<'a>,
        payload: &'a [u8],
    },
    /// What became of a push (gateway → connector).
    Outcome {
        push: PushId,
        outcome: Outcome<'a>,
    },
    /// Clients that have their pushes (gateway → connector).
    Receipt(Entries<'a, Receipt<'a>>),
}

/// Whose fault it is that a session broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The peer broke the protocol.
    Protocol,
    /// There is no version that both speak.
    Version,
    /// The peer does not answer.
    Dead,
}

/// The session is broken: close the link. Whose fault, and one line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionError {
    pub fault: Fault,
    pub text: String,
}

impl SessionError {
    fn protocol(text: String) -> SessionError {
        SessionError {
            fault: Fault::Protocol,
            text,
        }
    }

    fn dead(text: &str) -> SessionError {
        SessionError {
            fault: Fault::Dead,
            text: text.to_owned(),
        }
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = match self.fault {
            Fault::Protocol => "peer broke the relay protocol",
            Fault::Version => "no common version of the relay protocol",
            Fault::Dead => "relay peer is dead",
        };
        write!(f, "{whose}: {}", self.text)
    }
}

impl std::error::Error for SessionError {}

#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// Most streams open at once; a connector announces it.
    pub streams: u32,
    /// Window of a new stream; at least 65,536.
    pub initial_stream_credit: u32,
    /// A stream's window grows up to this.
    pub max_stream_credit: u32,
    /// Window of the session, at least 1,048,576; a link's throughput is at most this per round trip.
    pub session_credit: u32,
    /// `out.staged()` above which body bytes wait in their streams (deficit round-robin) instead of being staged.
    pub stage_bytes: usize,
}
