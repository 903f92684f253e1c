//! Notification channels: clients that hold a connection open for pushes, a million of them on a few links.
//!
//! ```text
//!  GET /.tidegate/channel ▸ open ▸ park ▸ [ table: a slot each ] ◀ life: what comes on a parked connection
//!                                   │          │      ▲
//!            CHANNEL_UP, DOWN ◀ announce       │      └ fan_out ◀ NOTIFY, CHANNEL_CLOSE of connectors
//!                     RECEIPT ◀ receipt ◀──────┘ rhythm: keep-alives, ends of tokens, waits
//! ```
//! - `own` knows the gateway's own paths: which of them a request is for, and what it carries there.
//! - `open` turns a client's connection into a channel; `poll` turns a long poll back into a client.
//! - `table` holds channels, `who` their clients, `rhythm` when each is due, `backlog` what waits for a slow reader.
//! - `payload` writes a push once for each kind of channel; `reason` says why a channel ends.
//!
//! Invariants: a parked channel is a slot of the table and a socket of the ring: no task, no buffer, no expanded key, no
//! parsed request, no timer object. What it needs for a moment (half a record, a backlog) stands in a side table, has a
//! bound, and is charged to the memory cap. A channel is announced to every connector of its site and belongs to none:
//! links come and go, channels stay. One that was announced as gone gets nothing more. Whatever takes long (a push to
//! all, a full list, keep-alives of many) goes in slices of a turn, so that requests wait for a slice and not for all.

pub mod announce;
pub mod backlog;
pub mod fan_out;
pub mod life;
pub mod open;
pub mod own;
pub mod payload;
pub mod poll;
pub mod reason;
pub mod receipt;
pub mod rhythm;
pub mod table;
pub mod who;

pub use reason::Reason;

use crate::wire::relay::{ChannelAuth, ChannelKind, Ups};
use crate::wire::websocket;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::context::Context;
use super::sweep::Sweep;
use announce::News;
use backlog::Backlog;
use fan_out::FanOut;
use life::{Partial, Scratch};
use poll::Poll;
use rhythm::Rhythm;
use table::{Channel, Table};
use who::Lineages;

/// Channels looked at in one turn because their time has come: some 100 µs when each is sent something.
const DUE_A_TURN: usize = 32;
/// The rest of a record, or of a message, must follow within this time.
const PARTIAL_SECONDS: u32 = 10;
/// A channel's last bytes must be taken within this time.
const FAREWELL_SECONDS: u32 = 10;
/// How often channels leave while the gateway drains.
const DEPARTURE_STEP: Duration = Duration::from_millis(10);
/// The client's FIN is awaited so long after ours.
const DRAIN_SECONDS: u32 = 2;

/// Of WebSocket channels.
pub const WEBSOCKET: websocket::Limits = websocket::Limits {
    message_bytes: 1024,
    message_wait: Duration::from_secs(PARTIAL_SECONDS as u64),
    close_wait: Duration::from_secs(5),
};

/// The channels of one shard.
pub struct Channels {
    pub(super) table: Table,
    rhythm: Rhythm,
    lineages: Lineages,
    /// Of the few that read slowly.
    backlogs: HashMap<u32, Backlog>,
    /// Of those within a record.
    partials: HashMap<u32, Partial>,
    /// What a long poll's connection needs to be a client again.
    polls: HashMap<u32, Box<Poll>>,
    pub(super) fan_out: FanOut,
    /// By site: what connectors are to be told.
    news: Vec<News>,
    /// There are some.
    news_wait: bool,
    /// Links that are in the middle of a full list.
    listing: Vec<usize>,
    /// None of them got on in the last turn: their links take no more at the moment.
    lists_wait: bool,
    /// A part of a list on its way to a link.
    list: Ups,
    /// The gateway drains: until when all are to be gone, and from when on.
    departure: Option<(Instant, Instant)>,
    /// Someone may have been denied.
    pub(super) sweep: Sweep,
    /// Bytes of the clients' ids.
    who_bytes: usize,
    scratch: Scratch,
}

impl Channels {
    pub fn new(now: Instant) -> Channels {
        Channels {
            table: Table::default(),
            rhythm: Rhythm::new(now),
            lineages: Lineages::default(),
            backlogs: HashMap::new(),
            partials: HashMap::new(),
            polls: HashMap::new(),
            fan_out: FanOut::default(),
            news: Vec::new(),
            news_wait: false,
            listing: Vec::new(),
            lists_wait: false,
            list: Ups::default(),
            departure: None,
            sweep: Sweep::default(),
            who_bytes: 0,
            scratch: Scratch::default(),
        }
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Bytes that the channels hold in this process, those of the ring excepted.
    fn bytes(&self) -> usize {
        let sides = self.backlogs.len() * size_of::<Backlog>()
            + self.partials.len() * size_of::<Partial>()
            + self.polls.len() * size_of::<Poll>();
        self.table.bytes() + self.who_bytes + sides
    }

    /// Copies what is counted here to where it is read.
    pub fn count(&self, cx: &mut Context) {
        cx.stats.channel_bytes = self.bytes() as u64;
        cx.stats.channel_backlog = self
            .backlogs
            .values()
            .map(|backlog| backlog.len() as u64)
            .sum();
        cx.stats.channel_slow = self.backlogs.len() as u64;
    }

    /// The earliest time at which something is to be done without anything happening.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let lists = !self.listing.is_empty() && !self.lists_wait;
        if self.fan_out.is_busy() || self.sweep.is_under_way() || lists {
            return Some(now);
        }
        let departing = self.departure.is_some() && !self.is_empty();
        let rhythm = self.rhythm.next_deadline();
        rhythm
            .into_iter()
            .chain(departing.then_some(now + DEPARTURE_STEP))
            .min()
    }
}

/// The gauge of a channel's kind and of what its client showed.
fn gauge<'c>(channel: &Channel, cx: &'c mut Context) -> &'c mut u64 {
    let stats = &mut cx.stats;
    match (channel.kind, channel.auth) {
        (ChannelKind::EventStream, ChannelAuth::Certificate) => &mut stats.channels_sse_certificate,
        (ChannelKind::EventStream, ChannelAuth::Token) => &mut stats.channels_sse_token,
        (ChannelKind::WebSocket, ChannelAuth::Certificate) => {
            &mut stats.channels_websocket_certificate
        }
        (ChannelKind::WebSocket, ChannelAuth::Token) => &mut stats.channels_websocket_token,
        (ChannelKind::LongPoll, ChannelAuth::Certificate) => &mut stats.channels_poll_certificate,
        (ChannelKind::LongPoll, ChannelAuth::Token) => &mut stats.channels_poll_token,
    }
}
