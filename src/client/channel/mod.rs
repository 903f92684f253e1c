//! Channels by the hundred thousand: clients that open one each and hold it, for `load channels` and `load push`.
//!
//! ```text
//! run ── shards, progress, phases, report         push ── drives the notification API meanwhile
//!  └▶ clients   one shard of them: pace, sockets, timeouts (a `Service` over any ring)
//!      ├─ opening   TCP, TLS with an identity of its own, the request (ask), the answer's head
//!      └─ held      parked: 300 bytes; records opened where they lie
//!          └─ reader   what a record says: events · WebSocket messages · an answer to a poll
//!              └─ events, envelope   read without state between records
//! job       what all shards share; what one of them counts
//! ```
//!
//! What holds: an open channel costs its slot and its socket, no buffer, no timer, no parsed state. A client believes the
//! gateway's promise that an event is a record, and a channel on which it is broken counts as lost.

pub mod ask;
pub mod clients;
mod envelope;
pub mod events;
mod held;
pub mod job;
mod opening;
pub mod push;
pub mod reader;
pub mod report;
pub mod run;

/// How a client holds its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sse,
    WebSocket,
    Poll,
}
