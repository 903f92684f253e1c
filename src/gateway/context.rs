//! What all stages of one gateway shard share, the connections and links excepted.

use crate::control::fetch::Fetches;
use crate::control::publication::Published;
use crate::control::snapshot::{Snapshot, Source};
use crate::observe::access::AccessSender;
use crate::observe::metrics::ShardStats;
use crate::shard::buffers::SendBuffers;
use crate::shard::local::Local;
use crate::wire::record::{Layout, Outgoing};
use crate::wire::relay::Receipts;
use crate::wire::timer::Wheel;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::auth::Judge;
use super::client::{self, Exchange};
use super::hold::{self, Held};
use super::plan::Plan;
use super::relay::{self, SiteLinks};
use super::retry::{self, Retries};

const POOL_EXCHANGES: usize = 1024;
/// A buffer that one request made larger is not kept with its exchange.
const POOL_EXCHANGE_BUFFER: usize = 4096;
/// Connector names remembered for log lines.
const CONNECTORS_MAX: usize = 65_536;

/// The shard's world; see the fields.
pub struct Context {
    pub plan: Local<Plan>,
    pub shard: u16,
    /// The clock, read once a turn.
    pub now: Instant,
    /// The wall clock when it was last read.
    unix_at: (Instant, Duration),
    connector_names: Vec<Arc<str>>,
    site_names: Vec<Arc<str>>,
    pub published: Arc<Published<Snapshot>>,
    pub snapshot: Local<Snapshot>,
    pub snapshot_version: u64,
    pub judge: Judge,
    /// Where keys that a request misses are asked for.
    pub fetches: Option<Arc<Fetches>>,
    /// The last that was too soon to be asked for again, and until when.
    refused_ask: Option<(Source, Instant)>,
    pub sites: Vec<SiteLinks>,
    pub held: Held,
    pub wheel: Wheel,
    pub dirty_clients: Vec<usize>,
    pub dirty_links: Vec<usize>,
    /// Clients with a pipelined request to begin.
    pub resume: Vec<usize>,
    /// Counted clients by `accept::counted_as`; empty without a limit.
    pub per_address: HashMap<IpAddr, u32>,
    /// When a request last began, or its answer did.
    pub last_request: Option<Instant>,
    pub stats: ShardStats,
    /// None: the access log is off.
    pub access: Option<AccessSender>,
    /// Response bytes that wait in exchanges, for the memory cap.
    pub buffered: usize,
    pub retries: Retries,
    /// A receipt on its way to a link.
    pub receipts: Receipts,
    pub pressure: bool,
    pub random: fastrand::Rng,
    next_stamp: u32,
    buffers: SendBuffers,
    /// Boxed, so that one moves between a connection and here as a pointer.
    #[allow(clippy::vec_box)]
    exchanges: Vec<Box<Exchange>>,
}

impl Context {
    pub fn new(
        plan: Arc<Plan>,
        shard: u16,
        now: Instant,
        published: Arc<Published<Snapshot>>,
        access: Option<AccessSender>,
        seed: u64,
    ) -> Context {
        let (snapshot_version, snapshot) = (published.version(), published.get());
        let sites = plan.sites.iter().map(|_| SiteLinks::new(shard)).collect();
        Context {
            shard,
            now,
            unix_at: (now, Duration::ZERO),
            connector_names: Vec::new(),
            site_names: names(&plan),
            published,
            snapshot: snapshot.into(),
            snapshot_version,
            judge: Judge::of_one(usize::from(plan.shards)),
            fetches: None,
            refused_ask: None,
            sites,
            held: Held::default(),
            wheel: Wheel::new(now, Duration::from_millis(16)),
            dirty_clients: Vec::new(),
            dirty_links: Vec::new(),
            resume: Vec::new(),
            per_address: HashMap::new(),
            last_request: None,
            stats: ShardStats::new(u32::from(shard)),
            access,
            buffered: 0,
            retries: Retries::default(),
            receipts: Receipts::default(),
            pressure: false,
            random: fastrand::Rng::with_seed(seed),
            next_stamp: 1,
            buffers: SendBuffers::default(),
            exchanges: Vec::new(),
            plan: plan.into(),
        }
    }

    /// A connection that counted against an address is gone.
    pub fn uncount(&mut self, address: IpAddr) {
        if let Some(count) = self.per_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&address);
            }
        }
    }

    /// The client has something to send, or a new deadline.
    pub fn mark_client(&mut self, state: &mut client::State) {
        if !state.dirty {
            state.dirty = true;
            self.dirty_clients.push(state.key);
        }
    }

    /// The link has something to send, or a new deadline.
    pub fn mark_link(&mut self, state: &mut relay::State) {
        if !state.dirty {
            state.dirty = true;
            self.dirty_links.push(state.key);
        }
    }

    /// A reload's plan. What is open goes on; what is new goes by the new one.
    pub fn set_plan(&mut self, plan: Arc<Plan>) {
        self.site_names = names(&plan);
        let sites = plan.sites.len().max(self.sites.len());
        self.sites.resize_with(sites, || SiteLinks::new(self.shard));
        self.plan = plan.into();
    }

    /// Reads the wall clock: once a second, since it may be set; in between it goes on with `now`.
    pub fn read_wall_clock(&mut self) {
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        self.unix_at = (self.now, since);
    }

    fn unix(&self) -> Duration {
        let (at, since) = self.unix_at;
        since + self.now.saturating_duration_since(at)
    }

    /// Seconds since 1970, for the validity of certificates and tokens: to the second, for tokens end at theirs.
    pub fn unix_now(&self) -> i64 {
        self.unix().as_secs() as i64
    }

    /// Microseconds since 1970.
    pub fn unix_us(&self) -> i64 {
        self.unix().as_micros() as i64
    }

    pub fn site_name(&self, site: u32) -> Arc<str> {
        self.site_names
            .get(site as usize)
            .cloned()
            .unwrap_or_default()
    }

    /// Remembers a connector's name by its index, for log lines.
    pub fn note_connector(&mut self, index: u32, name: &str) {
        let index = index as usize;
        if index >= CONNECTORS_MAX {
            return;
        }
        if index >= self.connector_names.len() {
            self.connector_names.resize(index + 1, Arc::default());
        }
        self.connector_names[index] = name.into();
    }

    pub fn connector_name(&self, index: u32) -> Option<Arc<str>> {
        self.connector_names.get(index as usize).cloned()
    }

    /// A number that tells one connection or link from another under the same key.
    pub fn stamp(&mut self) -> u32 {
        self.next_stamp = self.next_stamp.wrapping_add(1);
        self.next_stamp
    }

    /// A buffer to send from, empty.
    pub fn outgoing(&mut self, layout: Layout) -> Outgoing {
        Outgoing::new(layout, self.buffers.take())
    }

    /// Takes a sent buffer back.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        self.buffers.give(buffer);
    }

    /// An exchange with a fresh request id.
    pub fn exchange(&mut self) -> Box<Exchange> {
        let now = self.now;
        let mut exchange = match self.exchanges.pop() {
            Some(mut used) => {
                used.reset(now);
                used
            }
            None => Box::new(Exchange::new(now)),
        };
        write_hex(self.random.u128(..), &mut exchange.id);
        exchange
    }

    pub fn recycle_exchange(&mut self, mut exchange: Box<Exchange>) {
        self.buffered -= exchange.backlog();
        retry::let_go(&mut exchange, self);
        hold::let_go(&mut exchange, self);
        // What a slow reader or a long head made large is given back to the system.
        for buffer in [&mut exchange.waiting, &mut exchange.line] {
            if buffer.capacity() > POOL_EXCHANGE_BUFFER {
                *buffer = Vec::new();
            }
        }
        exchange.open.clear(POOL_EXCHANGE_BUFFER);
        exchange.end = None;
        exchange.client = None;
        exchange.own = None;
        exchange.upgrade = None;
        exchange.waiting.clear();
        exchange.waiting_at = 0;
        if self.exchanges.len() < POOL_EXCHANGES {
            self.exchanges.push(exchange);
        }
    }

    /// Copies the judge's counters to where they are read.
    pub fn count_judgements(&mut self) {
        let counts = self.judge.counts;
        let stats = &mut self.stats;
        (stats.auth_accepted, stats.auth_rejected) = (counts.accepted, counts.rejected);
        (stats.auth_revoked, stats.auth_cached) = (counts.revoked, counts.cached);
        (stats.tokens_accepted, stats.tokens_rejected) =
            (counts.tokens_accepted, counts.tokens_rejected);
        (stats.tokens_revoked, stats.tokens_cached) = (counts.tokens_revoked, counts.tokens_cached);
    }

    /// Asks for something to be fetched. True while that is under way, or in a newer snapshot. A no is remembered for a second, so that a flood of
    /// tokens with unknown keys does not come to the table that all shards share.
    pub fn ask(&mut self, source: &Source) -> bool {
        let Some(fetches) = self.fetches.as_ref() else {
            return false;
        };
        if self
            .refused_ask
            .as_ref()
            .is_some_and(|(refused, until)| refused == source && self.now < *until)
        {
            return false;
        }
        let coming = fetches.ask(source, self.snapshot.number);
        if !coming {
            self.refused_ask = Some((source.clone(), self.now + Duration::from_secs(1)));
        }
        coming
    }

    /// Looks for a newer snapshot: one atomic load when there is none. True when there was.
    pub fn refresh_snapshot(&mut self) -> bool {
        let Some(snapshot) = self.published.newer(&mut self.snapshot_version) else {
            return false;
        };
        // A snapshot may know a site before the plan that brings it has come.
        let sites = snapshot.sites.len().max(self.sites.len());
        self.sites.resize_with(sites, || SiteLinks::new(self.shard));
        self.snapshot = snapshot.into();
        true
    }
}

fn names(plan: &Plan) -> Vec<Arc<str>> {
    plan.sites
        .iter()
        .map(|site| site.name.as_str().into())
        .collect()
}

/// 32 lower-case hex digits.
fn write_hex(value: u128, out: &mut [u8; 32]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (i, byte) in value.to_be_bytes().into_iter().enumerate() {
        out[2 * i] = DIGITS[usize::from(byte >> 4)];
        out[2 * i + 1] = DIGITS[usize::from(byte & 15)];
    }
}
