//! What the API asks the hub, and what it is answered. The API knows HTTP, the hub knows none.

use super::push::{STATUSES, Tally};
use super::stats::Stats;
use crate::wire::relay::{ChannelAuth, ChannelKind, PushId};

/// A call that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u64);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// Ids, checked one by one, at most `limits::CLIENTS_PER_PUSH`.
    Clients(Vec<String>),
    All,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPush {
    pub to: To,
    /// Compact JSON text, at most `limits::PAYLOAD_BYTES`.
    pub payload: Vec<u8>,
    pub ttl_ms: u64,
    pub queue: bool,
    /// Idempotency key, and a hash of what came with it.
    pub key: Option<(Box<str>, [u8; 32])>,
}

#[derive(Debug)]
pub enum Request {
    Push(NewPush),
    /// Counts and, when asked, clients: those behind the given place.
    Results {
        push: PushId,
        clients: Option<u32>,
    },
    Cancel(PushId),
    /// Clients from the given place on, at most so many.
    Clients {
        from: u32,
        limit: usize,
    },
    Client(String),
    /// Closes the client's channels.
    Close(String),
    Stats,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Accepted {
        push: PushId,
        /// The idempotency key was known: this is the push of then.
        known: bool,
    },
    Results(Box<Results>),
    Clients {
        clients: Vec<ClientView>,
        next: Option<u32>,
    },
    Client(ClientView),
    /// So many channels were asked to close.
    Closing(usize),
    Stats(Box<Stats>),
    Refused(Refusal),
}

/// Why not; the API makes problem+json of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    UnknownPush,
    UnknownClient,
    /// A push that is over, or was never queued, cannot be cancelled.
    NotQueued,
    /// The key came before with something else.
    KeyUsed,
    /// The push of this key is being stored.
    KeyBusy,
    /// Too much is waiting or remembered; what.
    Full(&'static str),
    /// The store cannot be used; why.
    Store {
        why: String,
        full: bool,
    },
    Overloaded,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    pub push: PushId,
    pub queue: bool,
    pub created_ms: u64,
    pub expires_ms: u64,
    pub state: &'static str,
    pub to_all: bool,
    /// By status; of pushes to clients.
    pub counts: [u64; STATUSES],
    /// Of pushes to all.
    pub tally: Tally,
    /// Id and status.
    pub clients: Vec<(String, &'static str)>,
    pub next: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientView {
    pub client: String,
    pub channels: Vec<ChannelView>,
    /// Unix seconds.
    pub last_seen: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelView {
    pub kind: ChannelKind,
    pub auth: ChannelAuth,
    /// Unix seconds.
    pub since: u32,
    pub instance: u16,
    pub shard: u16,
}

/// What listeners of the event stream are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubEvent {
    Up {
        client: String,
        kind: ChannelKind,
        auth: ChannelAuth,
    },
    Down {
        client: String,
        reason: &'static str,
    },
    Receipt {
        push: PushId,
        client: String,
    },
    /// Nothing more of a push is sent.
    Result {
        push: PushId,
        state: &'static str,
    },
}
