//! What all parts of one connector shard share, its links, upstream connections and exchanges excepted.

use crate::observe::metrics::ShardStats;
use crate::ring::SocketId;
use crate::wire::record::{Layout, Outgoing};
use crate::wire::timer::Wheel;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use super::dial::Target;
use super::health::Health;
use super::plan::Plan;
use super::reload::Verdict;
use super::resolve::Resolver;
use super::upstream::Pool;

const POOL_BUFFERS: usize = 256;
const POOL_BUFFER_BYTES: usize = 160 * 1024;

/// Whose a socket is, by its index in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Nobody,
    Link(usize),
    Upstream(usize),
}

/// The shard's world; see the fields.
pub struct Context {
    pub plan: Arc<Plan>,
    pub shard: u16,
    /// The clock, read once a turn.
    pub now: Instant,
    pub targets: Vec<Target>,
    /// By endpoint.
    pub pools: Vec<Pool>,
    /// By endpoint.
    pub health: Vec<Health>,
    /// Per route: the endpoint to try next.
    pub next_endpoint: Vec<usize>,
    pub wheel: Wheel,
    pub dirty_links: Vec<usize>,
    pub dirty_upstreams: Vec<usize>,
    pub resolver: Resolver,
    pub stats: ShardStats,
    pub random: fastrand::Rng,
    /// The last verdict on our settings: gateway, accepted.
    pub settings_accepted: Vec<bool>,
    /// Who waits for verdicts on the settings that a reload published, and how many are to come.
    pub verdicts: Option<(SyncSender<Verdict>, u32)>,
    owners: Vec<Owner>,
    next_stamp: u32,
    buffers: Vec<Vec<u8>>,
}

impl Context {
    pub fn new(
        plan: Arc<Plan>,
        shard: u16,
        now: Instant,
        resolver: Resolver,
        seed: u64,
    ) -> Context {
        Context {
            shard,
            now,
            targets: Vec::new(),
            pools: plan.endpoints.iter().map(|_| Pool::default()).collect(),
            health: plan.endpoints.iter().map(|_| Health::default()).collect(),
            next_endpoint: vec![0; plan.routes.len()],
            wheel: Wheel::new(now, Duration::from_millis(16)),
            dirty_links: Vec::new(),
            dirty_upstreams: Vec::new(),
            resolver,
            stats: ShardStats::new(u32::from(shard)),
            random: fastrand::Rng::with_seed(seed),
            settings_accepted: vec![false; plan.gateways.len()],
            verdicts: None,
            owners: Vec::new(),
            next_stamp: 1,
            buffers: Vec::new(),
            plan,
        }
    }

    /// A reload's plan: numbers of routes, endpoints and gateways stay what they were.
    pub fn set_plan(&mut self, plan: Arc<Plan>) {
        self.pools.resize_with(plan.endpoints.len(), Pool::default);
        self.health
            .resize_with(plan.endpoints.len(), Health::default);
        self.next_endpoint.resize(plan.routes.len(), 0);
        self.settings_accepted.resize(plan.gateways.len(), false);
        self.plan = plan;
    }

    /// Passes a gateway's verdict on, if a reload waits for it.
    pub fn heard_verdict(
        &mut self,
        gateway: usize,
        instance: u16,
        hash: [u8; 32],
        accepted: bool,
        why: &str,
    ) {
        let Some((waiting, left)) = self
            .verdicts
            .as_mut()
            .filter(|_| hash == self.plan.document_hash)
        else {
            return;
        };
        let _ = waiting.try_send(Verdict {
            gateway: self.plan.gateways[gateway].address.host.clone(),
            instance,
            accepted: if accepted {
                Ok(())
            } else {
                Err(why.to_owned())
            },
        });
        *left -= 1;
        if *left == 0 {
            self.verdicts = None;
        }
    }

    pub fn owner(&self, socket: SocketId) -> Owner {
        self.owners
            .get(socket.index as usize)
            .copied()
            .unwrap_or(Owner::Nobody)
    }

    pub fn own(&mut self, socket: SocketId, owner: Owner) {
        let index = socket.index as usize;
        if index >= self.owners.len() {
            self.owners.resize(index + 1, Owner::Nobody);
        }
        self.owners[index] = owner;
    }

    pub fn stamp(&mut self) -> u32 {
        self.next_stamp = self.next_stamp.wrapping_add(1);
        self.next_stamp
    }

    pub fn outgoing(&mut self, layout: Layout) -> Outgoing {
        Outgoing::new(layout, self.buffers.pop().unwrap_or_default())
    }

    pub fn clear_text(&mut self) -> Outgoing {
        Outgoing::clear_text(self.buffers.pop().unwrap_or_default())
    }

    pub fn recycle(&mut self, buffer: Vec<u8>) {
        if self.buffers.len() < POOL_BUFFERS && buffer.capacity() <= POOL_BUFFER_BYTES {
            self.buffers.push(buffer);
        }
    }
}
