//! Channel frames: parked notification channels of a gateway shard, as its connectors see them, and what is pushed to
//! them. Layouts stand in the specification (the front page of `relay`).
//!
//! - this file: what an entry says.
//! - `entry`: entries in wire form, checked whole when a frame comes, read by iterators that borrow from it.
//! - `push_id`: the name of a push, and of the connector that holds it.
//! - `batch`: frames being built, entry by entry, in one recycled buffer.
//! - `queue`: what waits in a session, bounded, and its part of the link.
//!
//! A session keeps no table of channels: that is the hub's. It knows only whether a full list is under way.

mod batch;
mod entry;
mod push_id;
mod queue;

pub use batch::{Batch, Closes, Downs, Notification, Outcomes, Receipts, Summary, Ups};
pub use entry::{Entries, Entry};
pub(super) use entry::{
    check, decode_close, decode_down, decode_notify, decode_outcome, decode_receipt, decode_up,
    ends_list, starts_list,
};
pub use push_id::{PUSH_ID_TEXT, PushId};
pub use queue::CHANNEL_QUEUE;
pub(super) use queue::Outgoing;
#[cfg(test)]
pub(super) use queue::{BURST, STREAM_BYTES_PER_BURST};

/// Longest client id, in bytes of visible ASCII.
pub const MAX_CLIENT_ID: usize = 128;
/// Longest payload of one push.
pub const MAX_PUSH: usize = 4096;

/// One channel of the gateway shard at the other end of the link. Instance, boot id and shard are those of READY; the
/// five together are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelKey {
    pub slot: u32,
    pub generation: u32,
}

/// How the client holds its channel open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ChannelKind {
    EventStream = 1,
    WebSocket = 2,
    LongPoll = 3,
}

impl ChannelKind {
    fn from_wire(byte: u8) -> Option<ChannelKind> {
        match byte {
            1 => Some(ChannelKind::EventStream),
            2 => Some(ChannelKind::WebSocket),
            3 => Some(ChannelKind::LongPoll),
            _ => None,
        }
    }
}

/// What proved the client's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ChannelAuth {
    Certificate = 1,
    Token = 2,
}

impl ChannelAuth {
    fn from_wire(byte: u8) -> Option<ChannelAuth> {
        match byte {
            1 => Some(ChannelAuth::Certificate),
            2 => Some(ChannelAuth::Token),
            _ => None,
        }
    }
}

/// An entry of CHANNEL_UP: a channel that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelUp<'a> {
    pub key: ChannelKey,
    pub kind: ChannelKind,
    pub auth: ChannelAuth,
    /// Seconds since 1970.
    pub since: u32,
    /// 1 to 128 bytes of visible ASCII.
    pub client: &'a str,
}

/// Why a channel is gone; codes of later versions read as `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DownReason {
    Other = 0,
    /// The client ended it.
    Left = 1,
    /// The client no longer answers, or its connection broke.
    Lost = 2,
    /// A long poll was answered: its client is expected back at once.
    Answered = 3,
    /// CHANNEL_CLOSE asked for it.
    Closed = 4,
    /// The gateway drains.
    Draining = 5,
    /// The client's certificate, token or id is no longer good.
    Revoked = 6,
    /// The client broke the protocol or a limit.
    Misbehaved = 7,
}

impl DownReason {
    fn from_wire(byte: u8) -> DownReason {
        match byte {
            1 => DownReason::Left,
            2 => DownReason::Lost,
            3 => DownReason::Answered,
            4 => DownReason::Closed,
            5 => DownReason::Draining,
            6 => DownReason::Revoked,
            7 => DownReason::Misbehaved,
            _ => DownReason::Other,
        }
    }
}

/// An entry of CHANNEL_DOWN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelDown {
    pub key: ChannelKey,
    pub reason: DownReason,
}

/// Why a connector wants a channel closed; codes of later versions read as `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CloseReason {
    Other = 0,
    /// The client has a newer channel, and may not hold both.
    Replaced = 1,
    /// The client is on the site's deny-list.
    Denied = 2,
    /// Somebody asked for it through the API.
    Requested = 3,
}

impl CloseReason {
    fn from_wire(byte: u8) -> CloseReason {
        match byte {
            1 => CloseReason::Replaced,
            2 => CloseReason::Denied,
            3 => CloseReason::Requested,
            _ => CloseReason::Other,
        }
    }
}

/// An entry of CHANNEL_CLOSE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelClose {
    pub key: ChannelKey,
    pub reason: CloseReason,
}

/// Whom a NOTIFY is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience<'a> {
    /// Every channel of the site that the gateway shard holds now.
    All,
    /// At least one.
    Channels(Entries<'a, ChannelKey>),
}

/// What became of one push on one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Fate {
    /// Handed to the client's connection.
    Sent = 1,
    /// There is no such channel any more.
    Gone = 2,
    /// The channel is there, and what waits for it is over its bound.
    Dropped = 3,
}

impl Fate {
    fn from_wire(byte: u8) -> Option<Fate> {
        match byte {
            1 => Some(Fate::Sent),
            2 => Some(Fate::Gone),
            3 => Some(Fate::Dropped),
            _ => None,
        }
    }
}

/// An entry of OUTCOME.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelFate {
    pub key: ChannelKey,
    pub fate: Fate,
}

/// How many channels met which fate: answer to a NOTIFY to all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub sent: u32,
    pub gone: u32,
    pub dropped: u32,
}

/// What OUTCOME says of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// At least one.
    Each(Entries<'a, ChannelFate>),
    Totals(Totals),
}

/// An entry of RECEIPT: the client has the push. It names the client and no channel: a receipt may come when the channel
/// that brought the push is gone, or held by another shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt<'a> {
    pub push: PushId,
    /// 1 to 128 bytes of visible ASCII.
    pub client: &'a str,
}
