//! The hub without its thread: messages of shards, calls of the API and news of the store in; messages, answers, events
//! and store commands out. `begin_turn` brings the time; what the parts do stands in `listing` (who is there), `deliver`
//! (what is sent, and its outcome), `queue` (what waits for a client), `calls` (the API), `keeping` (the store).

use super::call::{Answer, CallId, HubEvent};
use super::gateways::Gateways;
use super::limits::TO_SHARD;
use super::message::{FromShard, ToShard};
use super::presence::Presence;
use super::push::Pushes;
use super::queue::Queues;
use super::stats::Stats;
use super::store::{Command, Condition};
use crate::wire::relay::PushId;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// What does not change while the process runs.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Of the ids of our pushes.
    pub prefix: [u8; 6],
    pub channels_per_client: usize,
    /// Random.
    pub seed: u64,
}

/// Channels of a gateway shard that may have to go: all that its newest list did not name.
pub(super) struct Sweep {
    pub gateway: u16,
    pub cursor: u32,
}

/// A push that waits for its client to come back, by id since its place may be another's by then; and the target.
pub(super) type Held = (PushId, u32);

pub struct Core {
    pub(super) settings: Settings,
    pub(super) now: Instant,
    pub(super) unix_ms: u64,
    pub(super) presence: Presence,
    pub(super) gateways: Gateways,
    pub(super) pushes: Pushes,
    pub(super) queues: Queues,
    pub(super) sweeps: VecDeque<Sweep>,
    /// Ends of graces, in their order. A client that came back meanwhile has its entry still.
    pub(super) graces: VecDeque<(Instant, u32)>,
    /// When the grace of a client ends that has no channel.
    pub(super) grace_ends: HashMap<u32, Instant>,
    pub(super) held: HashMap<u32, Vec<Held>>,
    pub(super) held_count: usize,
    /// Unix milliseconds at which a push expires that is not done.
    pub(super) ends: BTreeSet<(u64, u32)>,
    /// And at which the results of one are forgotten that is.
    pub(super) results_ends: BTreeSet<(u64, u32)>,
    /// Channels that came and may be due a queued push to all.
    pub(super) arrived: VecDeque<u32>,
    pub(super) keys: HashMap<Box<str>, super::calls::Key>,
    pub(super) key_ends: BTreeSet<(u64, Box<str>)>,
    /// Calls whose push is on its way to the disk.
    pub(super) storing: HashMap<u32, CallId>,
    pub(super) condition: Condition,
    pub(super) last_id: (u64, u32),
    pub(super) stats: Stats,
    pub(super) watched: bool,
    /// By connector shard.
    to_shards: Vec<VecDeque<ToShard>>,
    pub(super) refused: VecDeque<FromShard>,
    pub(super) answers: VecDeque<(CallId, Answer)>,
    pub(super) events: VecDeque<HubEvent>,
    pub(super) commands: VecDeque<Command>,
}

impl Core {
    pub fn new(settings: Settings, shards: usize, now: Instant, unix_ms: u64) -> Core {
        Core {
            settings,
            now,
            unix_ms,
            presence: Presence::new(settings.seed),
            gateways: Gateways::default(),
            pushes: Pushes::default(),
            queues: Queues::default(),
            sweeps: VecDeque::new(),
            graces: VecDeque::new(),
            grace_ends: HashMap::new(),
            held: HashMap::new(),
            held_count: 0,
            ends: BTreeSet::new(),
            results_ends: BTreeSet::new(),
            arrived: VecDeque::new(),
            keys: HashMap::new(),
            key_ends: BTreeSet::new(),
            storing: HashMap::new(),
            condition: Condition::opening(),
            last_id: (0, settings.seed as u32),
            stats: Stats::default(),
            watched: false,
            to_shards: (0..shards).map(|_| VecDeque::new()).collect(),
            refused: VecDeque::new(),
            answers: VecDeque::new(),
            events: VecDeque::new(),
            commands: VecDeque::new(),
        }
    }

    /// The time of all that follows, and what is due at it.
    pub fn begin_turn(&mut self, now: Instant, unix_ms: u64) {
        self.now = now;
        // A clock that is set back makes nothing younger.
        self.unix_ms = unix_ms.max(self.unix_ms);
        self.take_refused();
        self.end_graces();
        self.end_pushes();
        self.retry_dropped();
        self.sweep();
        self.greet_arrived();
    }

    /// When `begin_turn` has something to do at the latest; now, while there is work left.
    pub fn next_deadline(&self) -> Option<Instant> {
        let arrived = !self.arrived.is_empty() && self.has_room();
        if !self.sweeps.is_empty() || arrived || !self.refused.is_empty() {
            return Some(self.now);
        }
        let until =
            |unix_ms: u64| self.now + Duration::from_millis(unix_ms.saturating_sub(self.unix_ms));
        let key = self.key_ends.first().map(|(at, _)| until(*at));
        let deadlines = [
            self.gateways.next_deadline(),
            self.graces.front().map(|(at, _)| *at),
            self.ends.first().map(|(at, _)| until(*at)),
            self.results_ends.first().map(|(at, _)| until(*at)),
            self.queues.next_retry(),
            key,
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Whether somebody listens to events; none are made otherwise.
    pub fn watch(&mut self, watched: bool) {
        self.watched = watched;
        if !watched {
            self.events.clear();
        }
    }

    pub(super) fn seconds(&self) -> u32 {
        u32::try_from(self.unix_ms / 1000).unwrap_or(u32::MAX)
    }

    pub(super) fn event(&mut self, event: impl FnOnce(&Core) -> HubEvent) {
        if self.watched {
            let event = event(self);
            self.events.push_back(event);
        }
    }

    /// Queues a message for its link's shard; gives it back when too much waits there.
    pub(super) fn tell(&mut self, message: ToShard) -> Result<(), ToShard> {
        let shard = self.gateways.shard_of(message.link());
        match shard.and_then(|shard| self.to_shards.get_mut(shard)) {
            Some(queue) if queue.len() < TO_SHARD => {
                queue.push_back(message);
                Ok(())
            }
            _ => Err(message),
        }
    }

    /// Little waits for the shards: more may be made for them.
    pub(super) fn has_room(&self) -> bool {
        self.to_shards
            .iter()
            .all(|queue| queue.len() < TO_SHARD / 2)
    }

    pub fn poll_to_shard(&mut self, shard: usize) -> Option<ToShard> {
        self.to_shards.get_mut(shard)?.pop_front()
    }

    /// A message that the shard's queue had no room for: it is the next again.
    pub fn put_back(&mut self, shard: usize, message: ToShard) {
        if let Some(queue) = self.to_shards.get_mut(shard) {
            queue.push_front(message);
        }
    }

    pub fn poll_answer(&mut self) -> Option<(CallId, Answer)> {
        self.answers.pop_front()
    }

    pub fn poll_event(&mut self) -> Option<HubEvent> {
        self.events.pop_front()
    }

    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// A command that the store's queue had no room for: it is the next again.
    pub fn put_back_command(&mut self, command: Command) {
        self.commands.push_front(command);
    }

    pub fn stats(&self) -> Stats {
        let (links, gateway_shards) = self.gateways.counts();
        Stats {
            clients: self.presence.clients() as u64,
            presence_bytes: self.presence.bytes() as u64,
            links: links as u64,
            gateway_shards: gateway_shards as u64,
            queued: self.pushes.queued as u64,
            queued_bytes: self.pushes.queued_bytes as u64,
            remembered: self.pushes.len() as u64,
            held: self.held_count as u64,
            store_usable: u64::from(self.condition.is_open()),
            ..self.stats.clone()
        }
    }
}
