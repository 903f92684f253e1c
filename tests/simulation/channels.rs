//! Channels while links break, connectors die and clients vanish: what a connector's hub is told is compared with what
//! the gateway holds and what clients got. The hub is a model here: a table of what it was told.

use super::requests::seeds;
use super::world::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tidegate::client::channel::job::Counts;
use tidegate::connector::hub::message::{FromShard, LinkId, Targets, ToShard};
use tidegate::connector::shard::Message;
use tidegate::ring::sim::{Death, SimConfig};
use tidegate::wire::relay::{ChannelKey, CloseReason, Fate, PushId};

/// What the hub of a connector knows by what it was told.
#[derive(Default)]
struct Hub {
    link: Option<LinkId>,
    present: BTreeMap<ChannelKey, String>,
    /// Named since the list that is under way began.
    named: Option<BTreeSet<ChannelKey>>,
    /// Fates that are due over the link.
    owed: BTreeSet<(PushId, ChannelKey)>,
    owed_for_all: BTreeSet<PushId>,
    fates: BTreeMap<u8, u64>,
    receipts: BTreeMap<PushId, BTreeSet<String>>,
    lists: u32,
    pushes: u64,
}

impl Hub {
    fn hear(&mut self, message: FromShard) {
        match message {
            FromShard::LinkUp { link, .. } => {
                assert!(self.link.is_none(), "one link at a time");
                self.link = Some(link);
            }
            FromShard::LinkLost { link } => {
                assert_eq!(self.link.take(), Some(link));
                (self.owed, self.owed_for_all, self.named) = Default::default();
            }
            FromShard::Up {
                list_starts,
                list_ends,
                ups,
                ..
            } => {
                if list_starts {
                    self.named = Some(BTreeSet::new());
                }
                for up in ups.iter() {
                    self.present.insert(up.key, up.client.to_owned());
                    if let Some(named) = &mut self.named {
                        named.insert(up.key);
                    }
                }
                if list_ends {
                    let named = self.named.take().expect("a list that began");
                    self.present.retain(|key, _| named.contains(key));
                    self.lists += 1;
                }
            }
            FromShard::Down { channels, .. } => {
                for (key, _) in channels {
                    self.present.remove(&key);
                    if let Some(named) = &mut self.named {
                        named.remove(&key);
                    }
                }
            }
            FromShard::Outcomes { push, channels, .. } => {
                for (key, fate) in channels {
                    assert!(self.owed.remove(&(push, key)), "a second fate of {key:?}");
                    *self.fates.entry(fate as u8).or_default() += 1;
                }
            }
            FromShard::OutcomeOfAll { push, totals, .. } => {
                assert!(self.owed_for_all.remove(&push), "totals twice");
                *self.fates.entry(Fate::Sent as u8).or_default() += u64::from(totals.sent);
            }
            FromShard::Receipts { receipts } => {
                for (push, client) in receipts {
                    self.receipts.entry(push).or_default().insert(client.into());
                }
            }
            FromShard::Refused { .. } => panic!("so little is never refused"),
        }
    }

    fn next_push(&mut self) -> PushId {
        self.pushes += 1;
        PushId::new(PushId::prefix("main", "cp-0"), self.pushes, 7)
    }

    fn push(&mut self, world: &World, targets: Targets) -> Option<PushId> {
        let (link, push) = (self.link?, self.next_push());
        match &targets {
            Targets::Channels(keys) => self.owed.extend(keys.iter().map(|key| (push, *key))),
            Targets::All => drop(self.owed_for_all.insert(push)),
        }
        let notify = ToShard::Notify {
            link,
            push,
            repeat: false,
            payload: Arc::from(&b"{\"sim\":1}"[..]),
            targets,
        };
        let sent = world.connectors[0].mailbox.send(Message::Hub(notify));
        assert!(sent.is_ok());
        Some(push)
    }
}

/// Lets time pass and the hub hear of it.
fn pass(world: &mut World, hub: &mut Hub, time: Duration) {
    let until = world.net.now() + time;
    while world.net.now() < until {
        world.run_for(STEP);
        while let Some(message) = world.connectors[0].hub.receive() {
            hub.hear(message);
        }
    }
}

/// A hub of the process that is there now.
fn restart(world: &mut World, hub: &mut Hub) {
    world.restart_connector(0);
    *hub = Hub {
        pushes: hub.pushes,
        receipts: std::mem::take(&mut hub.receipts),
        ..Hub::default()
    };
}

fn counts(world: &World) -> Counts {
    let mut all = Counts::default();
    for (_, _, board) in &world.holders {
        all.add(&board.counts.lock().unwrap());
    }
    all
}

fn held(world: &mut World) -> u64 {
    let stats = world.counted();
    stats.channels_sse_certificate + stats.channels_websocket_certificate
}

/// The three agree: hub, gateway, clients.
#[track_caller]
fn agree(world: &mut World, hub: &Hub, clients: u64) {
    assert_eq!(held(world), clients, "the gateway's");
    assert_eq!(counts(world).held, clients, "the clients'");
    let names: BTreeSet<_> = hub.present.values().collect();
    assert_eq!(hub.present.len() as u64, clients, "the hub's");
    assert_eq!(names.len() as u64, clients, "each client once");
}

const CLIENTS: u32 = 40;

#[test]
fn the_hub_knows_what_the_gateway_holds_whatever_breaks() {
    for seed in 400..400 + seeds() {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::new(seed, SimConfig::default());
        let mut hub = Hub::default();
        pass(&mut world, &mut hub, Duration::from_secs(3));
        world.add_channels(0..CLIENTS);
        pass(&mut world, &mut hub, Duration::from_secs(10));
        agree(&mut world, &hub, u64::from(CLIENTS));
        for _ in 0..12 {
            match random.u8(..5) {
                0 => restart(&mut world, &mut hub),
                1 => {
                    world.net.partition(GATEWAY, connector_address(0));
                    let time = random.u64(1..25);
                    pass(&mut world, &mut hub, Duration::from_secs(time));
                    world.net.heal(GATEWAY, connector_address(0));
                }
                2 => {
                    let (ring, _, _) = world.holders.swap_remove(0);
                    world.net.kill(ring.id(), Death::Process);
                    drop(ring);
                    world.add_channels(0..CLIENTS);
                }
                3 => {
                    let keys: Vec<_> = hub.present.keys().copied().collect();
                    let close = hub.link.zip(keys.first().copied());
                    if let Some((link, key)) = close {
                        let close = ToShard::Close {
                            link,
                            channels: vec![key],
                            reason: CloseReason::Requested,
                        };
                        let sent = world.connectors[0].mailbox.send(Message::Hub(close));
                        assert!(sent.is_ok());
                    }
                }
                _ => {
                    let keys = hub.present.keys().copied();
                    let some: Vec<_> = keys.filter(|_| random.bool()).collect();
                    if !some.is_empty() {
                        hub.push(&world, Targets::Channels(some));
                    }
                    hub.push(&world, Targets::All);
                }
            }
            let time = random.u64(10..3000);
            pass(&mut world, &mut hub, Duration::from_millis(time));
        }
        // Whoever was cut off is back by then, and whoever is dead was noticed.
        pass(&mut world, &mut hub, Duration::from_secs(90));
        agree(&mut world, &hub, u64::from(CLIENTS));
        assert!(
            hub.owed.is_empty() && hub.owed_for_all.is_empty(),
            "every fate was told"
        );

        let before = counts(&world);
        let push = hub.push(&world, Targets::All).expect("a link");
        pass(&mut world, &mut hub, Duration::from_secs(3));
        let after = counts(&world);
        assert_eq!(
            after.pushes - before.pushes,
            u64::from(CLIENTS),
            "each once"
        );
        let acknowledged = hub.receipts.get(&push).map_or(0, BTreeSet::len);
        assert_eq!(
            acknowledged as u32,
            CLIENTS / 2,
            "every second is a WebSocket"
        );
    }
}

#[test]
fn a_client_gets_a_push_once_and_in_order() {
    for seed in 500..500 + seeds() {
        let mut world = World::new(seed, SimConfig::default());
        let mut hub = Hub::default();
        pass(&mut world, &mut hub, Duration::from_secs(3));
        world.add_channels(0..8);
        pass(&mut world, &mut hub, Duration::from_secs(5));
        let keys: Vec<_> = hub.present.keys().copied().collect();
        assert_eq!(keys.len(), 8);
        let before = counts(&world).pushes;
        for _ in 0..50 {
            hub.push(&world, Targets::Channels(keys.clone()));
            pass(&mut world, &mut hub, STEP);
        }
        pass(&mut world, &mut hub, Duration::from_secs(5));
        let sent = hub.fates.get(&(Fate::Sent as u8)).copied().unwrap_or(0);
        let dropped = hub.fates.get(&(Fate::Dropped as u8)).copied().unwrap_or(0);
        assert_eq!(sent + dropped, 400, "{:?}", hub.fates);
        assert_eq!(counts(&world).pushes - before, sent);
        assert!(hub.owed.is_empty());
    }
}
