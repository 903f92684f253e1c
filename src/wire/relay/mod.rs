//! The relay protocol TGR/1 (specification to stand here, byte by byte).

pub use crate::wire::Field;
use crate::wire::Put;
use std::time::{Duration, Instant};

/// Stream id: slot (low 20 bits) and generation (high 12 bits); never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamId(pub u32);

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
pub struct OpenHead<'a> {
    pub method: &'a [u8],
    /// Normalised path and query.
    pub target: &'a [u8],
    pub host: &'a [u8],
    pub request_id: &'a [u8],
    pub body: Body,
    /// The client sent `Expect: 100-continue` and waits.
    pub expect_continue: bool,
    pub fields: Fields<'a>,
}

/// HEAD: the parsed response head.
pub struct ResponseHead<'a> {
    pub status: u16,
    pub interim: bool,
    pub reason: &'a [u8],
    pub body: Body,
    pub fields: Fields<'a>,
}

/// Fields still in wire form; iterate, each item checked when the frame was accepted.
#[derive(Clone)]
pub struct Fields<'a> {
    bytes: &'a [u8],
}
impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;
    fn next(&mut self) -> Option<Field<'a>> {
        todo!()
    }
}

/// RESET codes, part of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub connector: String,
    pub site: String,
    pub incarnation: u128,
    pub link_index: u16,
    /// 0xffff: any.
    pub wanted_shard: u16,
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
pub enum Event<'a, T> {
    Hello(Hello),
    Ready(Ready),
    /// The session is refused (before READY) or ended by the peer with a reason.
    Refused { code: u16, text: &'a str },
    Open { stream: StreamId, head: OpenHead<'a> },
    Head { stream: StreamId, token: T, head: ResponseHead<'a> },
    /// Body bytes; already charged to the stream's receive window: give them back with `consumed`.
    Data { stream: StreamId, token: T, bytes: &'a [u8] },
    End { stream: StreamId, token: T, trailers: Fields<'a> },
    Reset { stream: StreamId, token: T, code: ResetCode, text: &'a str },
    /// One chunk of the settings document (connector → gateway).
    Publish { hash: [u8; 32], total: u32, offset: u32, bytes: &'a [u8] },
    /// Gateway's verdict on settings.
    Published { hash: [u8; 32], accepted: bool, text: &'a str },
    GoAway { deadline: Duration, delay: Duration },
    /// A PONG came: round-trip time.
    RoundTrip(Duration),
}

/// The session is broken: close the link. Whose fault, and one line for the log.
#[derive(Debug)]
pub struct SessionError {
    pub text: String,
}

#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    pub streams: u32,
    pub initial_stream_credit: u32,
    pub max_stream_credit: u32,
    pub session_credit: u32,
    /// `out.staged()` above which body bytes wait in their streams (deficit round-robin) instead of being staged.
    pub stage_bytes: usize,
}

/// One relay session over one link, either role.
pub struct Session<T> {
    _t: std::marker::PhantomData<T>,
}

impl<T: Copy> Session<T> {
    pub fn new(role: Role, limits: SessionLimits, now: Instant) -> Self {
        todo!()
    }
    /// Takes link plaintext from `input[*used..]`, advances `*used`, gives one event; `None` when input is used up (a
    /// partial frame is kept inside). `out` takes what the session answers by itself (PONG, session credit).
    pub fn next<'a>(&'a mut self, input: &'a [u8], used: &mut usize, now: Instant, out: &mut impl Put) -> Result<Option<Event<'a, T>>, SessionError> {
        todo!()
    }

    // session verbs
    pub fn send_hello(&mut self, hello: &Hello, out: &mut impl Put) {
        todo!()
    }
    pub fn send_ready(&mut self, ready: &Ready, out: &mut impl Put) {
        todo!()
    }
    /// Ends the session with a reason that the peer can log.
    pub fn send_refused(&mut self, code: u16, text: &str, out: &mut impl Put) {
        todo!()
    }
    /// The settings document: kept inside and sent in chunks below requests.
    pub fn publish(&mut self, hash: [u8; 32], document: Vec<u8>, out: &mut impl Put) {
        todo!()
    }
    pub fn send_published(&mut self, hash: [u8; 32], accepted: bool, text: &str, out: &mut impl Put) {
        todo!()
    }
    pub fn send_go_away(&mut self, deadline: Duration, delay: Duration, out: &mut impl Put) {
        todo!()
    }

    // stream verbs. Order within a stream is kept whatever waits.
    /// Gateway: opens a stream. `None`: the streams limit is reached, or the session is not ready or going away.
    pub fn open(&mut self, token: T, head: &OpenHead<'_>, fields: &mut dyn Iterator<Item = Field<'_>>, out: &mut impl Put) -> Option<StreamId> {
        todo!()
    }
    /// Connector: names the owner's key for a stream just opened by the peer.
    pub fn attach(&mut self, stream: StreamId, token: T) {
        todo!()
    }
    /// Connector: a response head, interim or final.
    pub fn send_head(&mut self, stream: StreamId, status: u16, interim: bool, reason: &[u8], body: Body, fields: &mut dyn Iterator<Item = Field<'_>>, out: &mut impl Put) {
        todo!()
    }
    /// Body bytes: staged at once when credit and staging room allow, else queued in the stream (whole). The caller stops
    /// producing while `queued(stream)` is over its own threshold.
    pub fn send_data(&mut self, stream: StreamId, bytes: &[u8], out: &mut impl Put) {
        todo!()
    }
    pub fn send_end(&mut self, stream: StreamId, trailers: &mut dyn Iterator<Item = Field<'_>>, out: &mut impl Put) {
        todo!()
    }
    /// Ends both directions at once; queued bytes are dropped. No further event comes for the stream.
    pub fn reset(&mut self, stream: StreamId, code: ResetCode, text: &str, out: &mut impl Put) {
        todo!()
    }
    /// The owner is done with `n` received body bytes: credit goes back (batched, window grown with use).
    pub fn consumed(&mut self, stream: StreamId, n: usize, out: &mut impl Put) {
        todo!()
    }
    /// Bytes that wait in the stream for credit or their turn.
    pub fn queued(&self, stream: StreamId) -> usize {
        todo!()
    }
    /// Moves queued bytes and control into `out` up to the staging limit, deficit round-robin over streams. Call when
    /// `out` was sent and after credit came. `drained` is called with the token of each stream whose queue fell under
    /// half of what it was asked to watch (see `watch`).
    pub fn pump(&mut self, now: Instant, out: &mut impl Put) {
        todo!()
    }
    /// Streams whose queue ran empty since the last call, so that their owners resume producing.
    pub fn poll_drained(&mut self) -> Option<(StreamId, T)> {
        todo!()
    }
    /// PING when due, liveness. `Err` when the peer is dead (two misses or 15 s).
    pub fn handle_timeout(&mut self, now: Instant, out: &mut impl Put) -> Result<(), SessionError> {
        todo!()
    }
    pub fn next_deadline(&self) -> Instant {
        todo!()
    }
    /// Near the memory cap: no stream credit is granted while set.
    pub fn set_pressure(&mut self, on: bool) {
        todo!()
    }
    /// Streams open now.
    pub fn streams(&self) -> u32 {
        todo!()
    }
    /// Tokens of all open streams (the link is lost: each gets its fault).
    pub fn tokens(&self) -> impl Iterator<Item = (StreamId, T)> + '_ {
        std::iter::empty()
    }
    /// Bytes queued in all streams.
    pub fn queued_bytes(&self) -> usize {
        todo!()
    }
}
