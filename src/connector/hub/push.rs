//! One push and what became of it.
//!
//! For each client of a push to clients:
//!
//! ```text
//!                    ┌─ gone, dropped, unknown ─┐  (queued: not the end, it is sent again)
//! pending ── sent ───┴──────────────────────────┴── acknowledged | expired | cancelled
//! ```
//!
//! A push to all has totals instead: outcomes by channel, as gateways count them, and receipts.

use crate::wire::relay::{ChannelKey, PushId};
use slab::Slab;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::limits::PUSHES;
use super::message::LinkId;

/// What became of a push at one client, the better the later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Nothing is known yet.
    #[default]
    Pending,
    /// The client has no channel.
    Gone,
    /// The channel, or the way to it, was over its bound.
    Dropped,
    /// A link was lost before the gateway told: it may have been sent.
    Unknown,
    /// Handed to the client's connection.
    Sent,
    Cancelled,
    /// Its ttl ended before the receipt, or before it could be sent.
    Expired,
    /// The client's receipt came.
    Acknowledged,
}

pub const STATUSES: usize = 8;

impl Status {
    pub const ALL: [Status; STATUSES] = [
        Status::Pending,
        Status::Gone,
        Status::Dropped,
        Status::Unknown,
        Status::Sent,
        Status::Cancelled,
        Status::Expired,
        Status::Acknowledged,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Gone => "gone",
            Status::Dropped => "dropped",
            Status::Unknown => "unknown",
            Status::Sent => "sent",
            Status::Cancelled => "cancelled",
            Status::Expired => "expired",
            Status::Acknowledged => "acknowledged",
        }
    }
}

/// A client of a push.
#[derive(Clone, Copy, Debug, Default)]
pub struct Target {
    pub status: Status,
    /// NOTIFYs without outcome.
    pub in_flight: u8,
    /// It waits for the client to come back from a grace.
    pub held: bool,
    /// The client may have it: an attempt was sent, or its outcome is unknown.
    pub maybe: bool,
}

/// The clients of a push, sorted by id: few allocations, however many there are.
#[derive(Debug, Default)]
pub struct Recipients {
    ids: String,
    ends: Vec<u32>,
    pub targets: Vec<Target>,
}

impl Recipients {
    /// Of ids in any order; one that comes twice counts once.
    pub fn new(mut clients: Vec<String>) -> Recipients {
        clients.sort_unstable();
        clients.dedup();
        let ids = clients.concat();
        let mut end = 0;
        let ends = clients.iter().map(|id| {
            end += id.len() as u32;
            end
        });
        Recipients {
            ends: ends.collect(),
            targets: vec![Target::default(); clients.len()],
            ids,
        }
    }

    pub fn len(&self) -> usize {
        self.targets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Empty when there are not so many.
    pub fn id(&self, target: usize) -> &str {
        let begin = match target.checked_sub(1) {
            Some(before) => self.ends.get(before).copied().unwrap_or(0),
            None => 0,
        };
        let end = self.ends.get(target).copied().unwrap_or(begin);
        self.ids.get(begin as usize..end as usize).unwrap_or("")
    }

    pub fn find(&self, id: &str) -> Option<usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.id(middle).cmp(id) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(middle),
            }
        }
        None
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Target)> {
        self.targets
            .iter()
            .enumerate()
            .map(|(at, target)| (self.id(at), target))
    }
}

/// What became of a push to all, by channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub sent: u64,
    pub gone: u64,
    pub dropped: u64,
    /// Channels of gateway shards whose link was lost before they told.
    pub unknown: u64,
    /// Receipts; of a queued push, clients that sent one.
    pub acknowledged: u64,
}

#[derive(Debug)]
pub enum Audience {
    Clients(Recipients),
    All {
        tally: Tally,
        /// Clients that have a queued push.
        acknowledged: HashSet<Box<str>>,
    },
}

/// The target of an attempt for a push to all.
pub const OF_ALL: u32 = u32::MAX;

/// A NOTIFY to one channel without outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub link: LinkId,
    pub key: ChannelKey,
    /// Among the recipients, or [`OF_ALL`].
    pub target: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not on disk yet: nothing of it is sent.
    Storing,
    Open,
    /// Nothing more is sent; results stay readable from then, in unix milliseconds.
    Done(u64),
}

#[derive(Debug)]
pub struct Push {
    pub id: PushId,
    pub payload: Arc<[u8]>,
    /// Unix milliseconds.
    pub created_ms: u64,
    pub expires_ms: u64,
    pub queue: bool,
    pub phase: Phase,
    pub audience: Audience,
    pub attempts: VecDeque<Attempt>,
    /// Links with a NOTIFY to all without outcome.
    pub of_all: Vec<LinkId>,
    /// Targets whose result may still change without a receipt.
    pub open: u32,
    /// Pushes to all: clients and gateway shards in their grace that wait for it.
    pub held: u32,
    pub cancelled: bool,
    pub expired: bool,
    /// In the store.
    pub stored: bool,
}

impl Push {
    /// Whether a target's result may still change without a receipt.
    pub fn is_open(&self, target: &Target) -> bool {
        if self.queue {
            return target.status < Status::Cancelled;
        }
        target.in_flight > 0 || target.held || target.status == Status::Pending
    }

    pub fn recipients(&self) -> usize {
        match &self.audience {
            Audience::Clients(recipients) => recipients.len(),
            Audience::All { .. } => 0,
        }
    }

    pub fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done(_))
    }

    /// Takes an attempt that has its outcome.
    pub fn take_attempt(&mut self, link: LinkId, key: ChannelKey) -> Option<Attempt> {
        let is = |attempt: &Attempt| attempt.link == link && attempt.key == key;
        // Outcomes come in the order of their NOTIFYs, but for several links: the first is nearly always it.
        let at = self.attempts.iter().position(is)?;
        self.attempts.remove(at)
    }
}

/// All pushes that are remembered, by place and by id.
#[derive(Default)]
pub struct Pushes {
    entries: Slab<Push>,
    by_id: HashMap<PushId, u32>,
    /// (push, client) pairs, receipts of queued pushes to all among them.
    pub targets: usize,
    /// Payload bytes of queued pushes that are not done.
    pub queued_bytes: usize,
    pub queued: usize,
    pub queued_to_all: usize,
}

impl Pushes {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_full(&self) -> bool {
        self.len() >= PUSHES
    }

    pub fn find(&self, id: PushId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    pub fn get(&self, at: u32) -> Option<&Push> {
        self.entries.get(at as usize)
    }

    pub fn get_mut(&mut self, at: u32) -> Option<&mut Push> {
        self.entries.get_mut(at as usize)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Push)> {
        self.entries.iter().map(|(at, push)| (at as u32, push))
    }

    pub fn insert(&mut self, push: Push) -> u32 {
        self.targets += push.recipients();
        if push.queue && !push.is_done() {
            self.queued += 1;
            self.queued_bytes += push.payload.len();
            self.queued_to_all += usize::from(matches!(push.audience, Audience::All { .. }));
        }
        let id = push.id;
        let at = self.entries.insert(push) as u32;
        self.by_id.insert(id, at);
        at
    }

    /// Nothing more of it is sent.
    pub fn finish(&mut self, at: u32, unix_ms: u64) {
        let Some(push) = self
            .entries
            .get_mut(at as usize)
            .filter(|push| !push.is_done())
        else {
            return;
        };
        push.phase = Phase::Done(unix_ms);
        if push.queue {
            self.queued -= 1;
            self.queued_bytes -= push.payload.len();
            self.queued_to_all -= usize::from(matches!(push.audience, Audience::All { .. }));
        }
    }

    pub fn remove(&mut self, at: u32) -> Option<Push> {
        self.finish(at, 0);
        let push = self.entries.try_remove(at as usize)?;
        self.by_id.remove(&push.id);
        self.targets -= match &push.audience {
            Audience::Clients(recipients) => recipients.len(),
            Audience::All { acknowledged, .. } => acknowledged.len(),
        };
        Some(push)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_are_found_by_id_and_stand_once() {
        let ids = ["b", "a", "cert:lab/x", "b", "", "zz"].map(String::from);
        let recipients = Recipients::new(ids.to_vec());
        let all: Vec<&str> = recipients.iter().map(|(id, _)| id).collect();
        assert_eq!(all, ["", "a", "b", "cert:lab/x", "zz"]);
        for (at, id) in all.iter().enumerate() {
            assert_eq!(recipients.find(id), Some(at));
        }
        assert_eq!((recipients.find("c"), recipients.id(5)), (None, ""));
    }
}
