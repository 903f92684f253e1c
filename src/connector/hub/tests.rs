//! The core against gateways, clients and a store that lose links, reconnect, restart and forget, by seed.

use super::call::{Answer, CallId, NewPush, Refusal, Request, To};
use super::core::{Core, Settings};
use super::limits::GRACE;
use super::message::{FromShard, GatewayShard, LinkId, Targets, ToShard};
use super::store::{Command, Loaded, News, Record};
use crate::wire::relay::{
    ChannelAuth, ChannelKey, ChannelKind, ChannelUp, DownReason, Fate, PushId, Totals,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

const CLIENTS: usize = 6;
const GATEWAYS: usize = 3;

struct Gateway {
    shard: GatewayShard,
    link: Option<LinkId>,
    /// Slot → generation, client, kind.
    channels: BTreeMap<u32, (u32, usize, ChannelKind)>,
    generation: u32,
    /// On their way over the link.
    out: VecDeque<FromShard>,
    inbox: VecDeque<ToShard>,
}

#[derive(Default)]
struct Disk {
    pushes: BTreeMap<PushId, Record>,
    receipts: BTreeSet<(PushId, Box<str>)>,
    cancelled: BTreeSet<PushId>,
    broken: bool,
}

/// A push that was accepted.
struct Accepted {
    id: PushId,
    /// None: to all.
    clients: Option<Vec<usize>>,
    queue: bool,
    expires_ms: u64,
}

struct World {
    random: fastrand::Rng,
    core: Core,
    now: Instant,
    unix_ms: u64,
    gateways: Vec<Gateway>,
    disk: Disk,
    waiting: VecDeque<Command>,
    accepted: Vec<Accepted>,
    asked: BTreeMap<CallId, (Option<Vec<usize>>, bool, u64)>,
    /// What each client got, and whether as a repeat.
    got: BTreeMap<(usize, PushId), Vec<bool>>,
    /// The channel that a client reads: it has left the ones before, whatever their gateways think.
    newest: BTreeMap<usize, (usize, u32)>,
    next: u64,
    calm: bool,
}

fn name(client: usize) -> String {
    format!("cert:lab/client-{client}")
}

fn settings(seed: u64) -> Settings {
    Settings {
        prefix: [7; 6],
        channels_per_client: 1,
        seed,
    }
}

impl World {
    fn new(seed: u64) -> World {
        let (now, unix_ms) = (Instant::now(), 1_700_000_000_000);
        let gateway = |n: usize| Gateway {
            shard: GatewayShard {
                instance: n as u16,
                boot: n as u128 + 100,
                shard: 0,
            },
            link: None,
            channels: BTreeMap::new(),
            generation: 0,
            out: VecDeque::new(),
            inbox: VecDeque::new(),
        };
        let mut world = World {
            random: fastrand::Rng::with_seed(seed),
            core: Core::new(settings(seed), 1, now, unix_ms),
            now,
            unix_ms,
            gateways: (0..GATEWAYS).map(gateway).collect(),
            disk: Disk::default(),
            waiting: VecDeque::new(),
            accepted: Vec::new(),
            asked: BTreeMap::new(),
            got: BTreeMap::new(),
            newest: BTreeMap::new(),
            next: 0,
            calm: false,
        };
        world.core.handle_store(News::Opened);
        world
    }

    fn turn(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.unix_ms += ms;
        self.core.begin_turn(self.now, self.unix_ms);
        self.collect();
    }

    /// Takes what the core has for others.
    fn collect(&mut self) {
        while let Some(message) = self.core.poll_to_shard(0) {
            let link = message.link();
            if let Some(gateway) = self.gateways.iter_mut().find(|g| g.link == Some(link)) {
                gateway.inbox.push_back(message);
            }
        }
        while let Some(command) = self.core.poll_command() {
            self.waiting.push_back(command);
        }
        while let Some((call, answer)) = self.core.poll_answer() {
            let (clients, queue, expires_ms) = self.asked.remove(&call).expect("one answer a call");
            match answer {
                Answer::Accepted { push, known: false } => self.accepted.push(Accepted {
                    id: push,
                    clients,
                    queue,
                    expires_ms,
                }),
                Answer::Refused(Refusal::Store { .. }) => assert!(queue),
                other => panic!("{other:?}"),
            }
        }
    }

    fn tell(&mut self, message: FromShard) {
        self.core.handle_shard(0, message);
        self.collect();
    }

    fn link(&mut self, at: usize) {
        self.next += 1;
        let link = LinkId(self.next);
        let gateway = &mut self.gateways[at];
        assert!(gateway.link.replace(link).is_none());
        let shard = gateway.shard;
        self.tell(FromShard::LinkUp {
            link,
            gateway: shard,
        });
        self.list(at);
    }

    /// A full list, in one to three parts.
    fn list(&mut self, at: usize) {
        let gateway = &mut self.gateways[at];
        let link = gateway.link.expect("linked");
        let all: Vec<(u32, (u32, usize, ChannelKind))> = gateway
            .channels
            .iter()
            .map(|(slot, c)| (*slot, *c))
            .collect();
        let parts: Vec<_> = all.chunks(2).map(<[_]>::to_vec).collect();
        let last = parts.len().saturating_sub(1);
        let parts = if parts.is_empty() {
            vec![vec![]]
        } else {
            parts
        };
        for (number, part) in parts.into_iter().enumerate() {
            let names: Vec<String> = part
                .iter()
                .map(|(_, (_, client, _))| name(*client))
                .collect();
            let ups = part
                .iter()
                .zip(&names)
                .map(|((slot, (generation, _, kind)), client)| {
                    up(*slot, *generation, *kind, client)
                });
            gateway.out.push_back(FromShard::Up {
                link,
                list_starts: number == 0,
                list_ends: number == last,
                ups: ups.collect(),
            });
        }
    }

    fn unlink(&mut self, at: usize) {
        let gateway = &mut self.gateways[at];
        let Some(link) = gateway.link.take() else {
            return;
        };
        gateway.inbox.clear();
        // Some of what was on its way still comes.
        let arrived = self.random.usize(0..=gateway.out.len());
        let out: Vec<FromShard> = gateway.out.drain(..).take(arrived).collect();
        out.into_iter().for_each(|message| self.tell(message));
        self.tell(FromShard::LinkLost { link });
    }

    fn say(&mut self, at: usize, message: impl FnOnce(LinkId) -> FromShard) {
        let gateway = &mut self.gateways[at];
        if let Some(link) = gateway.link {
            gateway.out.push_back(message(link));
        }
    }

    fn open(&mut self, at: usize, client: usize) {
        let kind = match self.random.u32(0..3) {
            0 => ChannelKind::LongPoll,
            1 => ChannelKind::WebSocket,
            _ => ChannelKind::EventStream,
        };
        let gateway = &mut self.gateways[at];
        let slot = (0..)
            .find(|slot| !gateway.channels.contains_key(slot))
            .expect("endless");
        gateway.generation += 1;
        let generation = gateway.generation;
        self.newest.insert(client, (at, generation));
        let gateway = &mut self.gateways[at];
        gateway.channels.insert(slot, (generation, client, kind));
        let client = name(client);
        self.say(at, |link| FromShard::Up {
            link,
            list_starts: false,
            list_ends: false,
            ups: [up(slot, generation, kind, &client)].into_iter().collect(),
        });
    }

    fn end(&mut self, at: usize, slot: u32, reason: DownReason) {
        if let Some((generation, _, _)) = self.gateways[at].channels.remove(&slot) {
            let key = ChannelKey { slot, generation };
            self.say(at, |link| FromShard::Down {
                link,
                channels: vec![(key, reason)],
            });
        }
    }

    fn deliver(&mut self, at: usize) {
        let Some(message) = self.gateways[at].inbox.pop_front() else {
            return;
        };
        match message {
            ToShard::Close { channels, .. } => {
                for key in channels {
                    let known = self.gateways[at].channels.get(&key.slot);
                    if known.is_some_and(|c| c.0 == key.generation) {
                        self.end(at, key.slot, DownReason::Closed);
                    }
                }
            }
            ToShard::Notify {
                push,
                repeat,
                targets: Targets::Channels(keys),
                ..
            } => {
                let mut fates = Vec::new();
                let mut answered = Vec::new();
                for key in keys {
                    let known = self.gateways[at].channels.get(&key.slot).copied();
                    let known = known.filter(|c| c.0 == key.generation);
                    let fate = match known {
                        None => Fate::Gone,
                        Some(_) if !self.calm && self.random.u32(0..8) == 0 => Fate::Dropped,
                        Some((_, client, kind)) => {
                            self.receive((at, key.generation), client, push, repeat);
                            if kind == ChannelKind::LongPoll {
                                answered.push(key.slot);
                            }
                            Fate::Sent
                        }
                    };
                    fates.push((key, fate));
                }
                self.say(at, |link| FromShard::Outcomes {
                    link,
                    push,
                    channels: fates,
                });
                for slot in answered {
                    self.end(at, slot, DownReason::Answered);
                }
            }
            ToShard::Notify {
                push,
                repeat,
                targets: Targets::All,
                ..
            } => {
                let all: Vec<(u32, (u32, usize, ChannelKind))> = self.gateways[at]
                    .channels
                    .iter()
                    .map(|(slot, c)| (*slot, *c))
                    .collect();
                let totals = Totals {
                    sent: all.len() as u32,
                    ..Totals::default()
                };
                for (slot, (generation, client, kind)) in all {
                    self.receive((at, generation), client, push, repeat);
                    if kind == ChannelKind::LongPoll {
                        self.end(at, slot, DownReason::Answered);
                    }
                }
                self.say(at, |link| FromShard::OutcomeOfAll { link, push, totals });
            }
        }
    }

    /// A client reads a push; it sends its receipt, or does not, or it is lost.
    fn receive(&mut self, on: (usize, u32), client: usize, push: PushId, repeat: bool) {
        if self.newest.get(&client) != Some(&on) {
            return;
        }
        let accepted = self.accepted.iter().find(|a| a.id == push);
        let of_all = match accepted.map(|a| &a.clients) {
            Some(Some(clients)) => {
                assert!(clients.contains(&client), "a push for another client");
                false
            }
            _ => true,
        };
        let got = self.got.entry((client, push)).or_default();
        if !repeat && !of_all {
            assert!(got.is_empty(), "again, and not marked");
        }
        got.push(repeat);
        if self.calm || self.random.bool() {
            let client: Box<str> = name(client).into();
            self.say(on.0, |_| FromShard::Receipts {
                receipts: vec![(push, client)],
            });
        }
    }

    fn hear(&mut self, at: usize) {
        if let Some(message) = self.gateways[at].out.pop_front() {
            self.tell(message);
        }
    }

    fn push(&mut self) {
        let queue = self.random.bool();
        let all = self.random.u32(0..8) == 0;
        let mut clients: Vec<usize> = (0..CLIENTS)
            .filter(|_| self.random.u32(0..3) == 0)
            .collect();
        clients.push(self.random.usize(0..CLIENTS));
        let ttl_ms = self.random.u64(1..120) * 1000;
        let to = match all {
            true => To::All,
            false => To::Clients(clients.iter().map(|client| name(*client)).collect()),
        };
        self.next += 1;
        let call = CallId(self.next);
        let known = (!all).then_some(clients);
        self.asked
            .insert(call, (known, queue, self.unix_ms + ttl_ms));
        let new = NewPush {
            to,
            payload: b"{}".to_vec(),
            ttl_ms,
            queue,
            key: None,
        };
        self.core.handle_call(call, Request::Push(new));
        self.collect();
    }

    /// The store writes all that waits, or fails.
    fn commit(&mut self) {
        let batch: Vec<Command> = self.waiting.drain(..).collect();
        let mut puts = Vec::new();
        let commands = batch.len();
        for command in batch {
            match command {
                Command::Put { id, record, .. } => {
                    puts.push(id);
                    if let Some(record) = record.filter(|_| !self.disk.broken) {
                        self.disk.pushes.insert(id, record);
                    }
                }
                Command::Acknowledge(id, client) => {
                    self.disk.receipts.insert((id, client));
                }
                Command::Cancel(id) => {
                    self.disk.cancelled.insert(id);
                }
                Command::Forget(id) => {
                    self.disk.pushes.remove(&id);
                }
                Command::ForgetKey(_) => {}
            }
        }
        let news = match self.disk.broken {
            true => News::Failed {
                puts,
                why: "broken".into(),
                full: false,
            },
            false => News::Committed { puts, commands },
        };
        self.core.handle_store(news);
        self.collect();
    }

    /// The connector's process ends, and another begins.
    fn restart(&mut self) {
        for gateway in &mut self.gateways {
            gateway.link = None;
            gateway.out.clear();
            gateway.inbox.clear();
        }
        self.waiting.clear();
        self.asked.clear();
        let seed = self.random.u64(..);
        self.core = Core::new(settings(seed), 1, self.now, self.unix_ms);
        // Results of what was not stored went with it.
        self.accepted.retain(|accepted| accepted.queue);
        self.disk.broken = false;
        let load = |disk: &Disk| {
            let pushes = disk.pushes.iter().map(|(id, record)| Loaded {
                id: *id,
                record: record.clone(),
                acknowledged: disk
                    .receipts
                    .iter()
                    .filter(|r| r.0 == *id)
                    .map(|r| r.1.clone())
                    .collect(),
                cancelled: disk.cancelled.contains(id),
            });
            News::Loaded {
                pushes: pushes.collect(),
                keys: Vec::new(),
            }
        };
        let loaded = load(&self.disk);
        let first = self.random.bool();
        if first {
            self.core.handle_store(loaded);
            self.core.handle_store(News::Opened);
            (0..GATEWAYS).for_each(|at| self.link(at));
        } else {
            (0..GATEWAYS).for_each(|at| self.link(at));
            self.core.handle_store(loaded);
            self.core.handle_store(News::Opened);
        }
        self.collect();
    }

    fn step(&mut self) {
        let at = self.random.usize(0..GATEWAYS);
        let client = self.random.usize(0..CLIENTS);
        match self.random.u32(0..100) {
            0..25 => self.hear(at),
            25..50 => self.deliver(at),
            50..58 => self.push(),
            58..68 => self.open(at, client),
            68..76 => {
                let slots: Vec<u32> = self.gateways[at].channels.keys().copied().collect();
                if !slots.is_empty() {
                    let slot = slots[self.random.usize(0..slots.len())];
                    self.end(at, slot, DownReason::Lost);
                }
            }
            76..84 => self.commit(),
            84..88 => self.unlink(at),
            88..92 if self.gateways[at].link.is_none() => self.link(at),
            92 if self.gateways[at].link.is_some() => self.list(at),
            93 => self.disk.broken = self.random.bool(),
            94 if self.disk.broken => {
                self.disk.broken = false;
                self.core.handle_store(News::Opened);
            }
            95 if self.random.u32(0..4) == 0 => self.restart(),
            _ => {
                let ms = self.random.u64(0..3000);
                self.turn(ms);
            }
        }
    }

    /// Everything works again, and all that is on its way arrives. Clients that poll do so again.
    fn settle(&mut self) {
        self.calm = true;
        self.disk.broken = false;
        self.core.handle_store(News::Opened);
        for at in 0..GATEWAYS {
            if self.gateways[at].link.is_none() {
                self.link(at);
            }
        }
        for round in 0..400 {
            for at in 0..GATEWAYS {
                while !self.gateways[at].out.is_empty() || !self.gateways[at].inbox.is_empty() {
                    self.hear(at);
                    self.deliver(at);
                }
            }
            self.commit();
            // Past graces and retries, but not past the ttl of what is queued meanwhile.
            self.turn(if round < 40 { 20 } else { 300 });
        }
    }

    fn present(&self) -> BTreeSet<(usize, u32, u32)> {
        let all = self.gateways.iter().enumerate();
        all.flat_map(|(at, gateway)| {
            gateway
                .channels
                .iter()
                .map(move |(slot, c)| (at, *slot, c.0))
        })
        .collect()
    }
}

fn up(slot: u32, generation: u32, kind: ChannelKind, client: &str) -> ChannelUp<'_> {
    ChannelUp {
        key: ChannelKey { slot, generation },
        kind,
        auth: ChannelAuth::Certificate,
        since: 1_700_000_000 + generation,
        client,
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    (0..GATEWAYS).for_each(|at| world.link(at));
    for _ in 0..world.random.usize(50..600) {
        world.step();
    }
    world.settle();
    check_presence(&world);
    check_pushes(&mut world);
}

/// The hub knows the channels that are there, one a client, and no other.
fn check_presence(world: &World) {
    let mut known = BTreeSet::new();
    let mut from = 0;
    while let Some((at, channel)) = world.core.presence.next_channel(from) {
        let key = channel.key();
        let gateway = world
            .core
            .gateways
            .get(channel.gateway())
            .expect("known")
            .shard;
        known.insert((usize::from(gateway.instance), key.slot, key.generation));
        from = at + 1;
    }
    assert_eq!(known, world.present());
    for client in 0..CLIENTS {
        let open = world
            .gateways
            .iter()
            .flat_map(|g| g.channels.values())
            .filter(|c| c.1 == client);
        assert!(open.count() <= 1, "more than one channel is open");
    }
    assert!(world.core.grace_ends.is_empty(), "longer than {GRACE:?}");
    assert_eq!((world.core.held_count, world.core.held.len()), (0, 0));
}

fn check_pushes(world: &mut World) {
    let holds: BTreeSet<usize> = world
        .gateways
        .iter()
        .flat_map(|g| g.channels.values())
        .map(|c| c.1)
        .collect();
    for accepted in &world.accepted {
        if accepted.queue && accepted.expires_ms > world.unix_ms {
            // Whoever is there has it.
            let clients = accepted
                .clients
                .clone()
                .unwrap_or_else(|| (0..CLIENTS).collect());
            for client in clients.iter().filter(|client| holds.contains(client)) {
                let got = world.got.contains_key(&(*client, accepted.id));
                assert!(got, "{} has no {}", name(*client), accepted.id);
            }
        }
    }
    let ids: Vec<PushId> = world.accepted.iter().map(|accepted| accepted.id).collect();
    world.turn(200_000);
    world.turn(0);
    for id in ids {
        let at = world.core.pushes.find(id).expect("results are kept");
        let push = world.core.pushes.get(at).expect("found");
        assert!(push.is_done(), "{push:?}");
    }
    assert_eq!(world.core.pushes.queued, 0);
    assert_eq!(world.core.pushes.queued_bytes, 0);
    world.turn(4_000_000);
    world.turn(0);
    assert_eq!((world.core.pushes.len(), world.core.pushes.targets), (0, 0));
    world.commit();
    assert!(world.disk.pushes.is_empty(), "nothing stays in the store");
}

#[test]
fn whatever_breaks_no_push_is_lost_misled_or_doubled() {
    for seed in 0..400 {
        let ran = std::panic::catch_unwind(|| run(seed));
        assert!(ran.is_ok(), "seed {seed}");
    }
}
