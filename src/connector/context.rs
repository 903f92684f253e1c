//! What all parts of one connector shard share, its links, upstream connections and exchanges excepted.

use crate::observe::metrics::ShardStats;
use crate::ring::SocketId;
use crate::shard::buffers::SendBuffers;
use crate::shard::local::Local;
use crate::wire::record::{Layout, Outgoing};
use crate::wire::relay::{CHANNELS, Notification};
use crate::wire::timer::Wheel;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use super::dial::Target;
use super::health::Health;
use super::notify::ToHub;
use super::plan::Plan;
use super::ports::Ports;
use super::reload::Verdict;
use super::resolve::Resolver;
use super::upstream::Pool;

/// Whose a socket is, by its index in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Nobody,
    Link(usize),
    Upstream(usize),
}

/// Reloads whose verdicts are awaited at once. One that is over and was not answered by all leaves its place to a later
/// one.
const WAITERS: usize = 8;

/// Instances whose shards are told before the plan that names them.
pub const EARLY: usize = 1024;

/// Who waits for verdicts on settings that were published.
struct Waiter {
    hash: [u8; 32],
    /// Gateway and instance.
    pending: Vec<(usize, u16)>,
    sender: SyncSender<Verdict>,
}

/// The shard's world; see the fields.
pub struct Context {
    pub plan: Local<Plan>,
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
    pub ports: Ports,
    pub wheel: Wheel,
    pub dirty_links: Vec<usize>,
    pub dirty_upstreams: Vec<usize>,
    pub resolver: Resolver,
    pub stats: ShardStats,
    pub random: fastrand::Rng,
    /// None: this connector has no notifications.
    pub hub: Option<ToHub>,
    /// A push on its way to a link.
    pub notification: Notification,
    /// The last verdict on our settings: gateway, accepted.
    pub settings_accepted: Vec<bool>,
    /// Who wait for the gateways' verdicts, oldest first; at most [`WAITERS`].
    waiters: Vec<Waiter>,
    /// Shards of instances that the plan does not know yet: a sibling had it first. At most [`EARLY`].
    pub early: Vec<(usize, u16, u16)>,
    owners: Vec<Owner>,
    next_stamp: u32,
    buffers: SendBuffers,
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
            ports: Ports::new(plan.shards),
            wheel: Wheel::new(now, Duration::from_millis(16)),
            dirty_links: Vec::new(),
            dirty_upstreams: Vec::new(),
            resolver,
            stats: ShardStats::new(u32::from(shard)),
            random: fastrand::Rng::with_seed(seed),
            hub: None,
            notification: Notification::default(),
            settings_accepted: vec![false; plan.gateways.len()],
            waiters: Vec::new(),
            early: Vec::new(),
            owners: Vec::new(),
            next_stamp: 1,
            buffers: SendBuffers::default(),
            plan: plan.into(),
        }
    }

    /// What HELLO offers.
    pub fn features(&self) -> u64 {
        match &self.hub {
            Some(_) => CHANNELS,
            None => 0,
        }
    }

    /// A reload's plan: numbers of routes, endpoints and gateways stay what they were.
    pub fn set_plan(&mut self, plan: Arc<Plan>) {
        self.pools.resize_with(plan.endpoints.len(), Pool::default);
        self.health
            .resize_with(plan.endpoints.len(), Health::default);
        self.next_endpoint.resize(plan.routes.len(), 0);
        self.settings_accepted.resize(plan.gateways.len(), false);
        self.plan = plan.into();
    }

    /// Somebody waits for the verdicts of these instances on the settings in force now.
    pub fn await_verdicts(&mut self, sender: SyncSender<Verdict>, pending: Vec<(usize, u16)>) {
        if pending.is_empty() {
            return;
        }
        if self.waiters.len() >= WAITERS {
            self.waiters.remove(0);
        }
        self.waiters.push(Waiter {
            hash: self.plan.document_hash,
            pending,
            sender,
        });
    }

    /// Passes a gateway's verdict on to who waits for it.
    pub fn heard_verdict(
        &mut self,
        gateway: usize,
        instance: u16,
        hash: [u8; 32],
        accepted: bool,
        why: &str,
    ) {
        let newest = hash == self.plan.document_hash;
        let Some(name) = self.plan.gateways.get(gateway).map(|g| &g.address.host) else {
            return;
        };
        self.waiters.retain_mut(|waiter| {
            let at = waiter
                .pending
                .iter()
                .position(|at| *at == (gateway, instance));
            // What was published since takes the place of what they wait for, which may never be judged.
            let Some(at) = at.filter(|_| newest || hash == waiter.hash) else {
                return true;
            };
            waiter.pending.swap_remove(at);
            let _ = waiter.sender.try_send(Verdict {
                gateway: name.clone(),
                instance,
                accepted: if accepted {
                    Ok(())
                } else {
                    Err(why.to_owned())
                },
            });
            !waiter.pending.is_empty()
        });
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
        Outgoing::new(layout, self.buffers.take())
    }

    pub fn clear_text(&mut self) -> Outgoing {
        Outgoing::clear_text(self.buffers.take())
    }

    pub fn recycle(&mut self, buffer: Vec<u8>) {
        self.buffers.give(buffer);
    }
}

#[cfg(test)]
mod tests {
    use crate::connector::reload::Verdict;
    use crate::connector::testing::Place;
    use std::sync::Arc;
    use std::sync::mpsc::{self, TryRecvError};

    #[test]
    fn a_list_that_is_published_meanwhile_takes_no_verdict_away() {
        let place = Place::new();
        let (_, plan) = place.load();
        let mut cx = place.shard(plan.clone(), 0, 1).cx;
        let (sender, verdicts) = mpsc::sync_channel(8);
        cx.await_verdicts(sender, vec![(0, 0), (0, 1)]);
        cx.heard_verdict(0, 0, [9; 32], false, "of other settings");
        assert_eq!(verdicts.try_recv().err(), Some(TryRecvError::Empty));

        // One instance judges what the reload published, the other what took its place.
        let first = plan.document_hash;
        let newer = Arc::new(plan.publishing(Vec::new(), [7; 32]));
        cx.set_plan(newer);
        let heard = |verdicts: &mpsc::Receiver<Verdict>| {
            let verdict = verdicts.try_recv().ok()?;
            Some((verdict.instance, verdict.accepted))
        };
        cx.heard_verdict(0, 0, first, true, "");
        cx.heard_verdict(0, 0, [7; 32], true, "");
        cx.heard_verdict(0, 1, [7; 32], false, "no");
        assert_eq!(heard(&verdicts), Some((0, Ok(()))));
        assert_eq!(heard(&verdicts), Some((1, Err("no".into()))));
        assert_eq!(verdicts.try_recv().err(), Some(TryRecvError::Disconnected));
    }

    #[test]
    fn who_waits_for_ever_is_forgotten_for_a_later_one() {
        let place = Place::new();
        let mut cx = place.shard(place.load().1, 0, 1).cx;
        let (sender, verdicts) = mpsc::sync_channel(8);
        cx.await_verdicts(sender, vec![(0, 0)]);
        let later: Vec<_> = (0..super::WAITERS).map(|_| mpsc::sync_channel(8)).collect();
        for (sender, _) in &later {
            assert_eq!(verdicts.try_recv().err(), Some(TryRecvError::Empty));
            cx.await_verdicts(sender.clone(), vec![(0, 0)]);
        }
        assert_eq!(verdicts.try_recv().err(), Some(TryRecvError::Disconnected));
    }
}
