//! Random batches of both sides among streams, the wire cut anywhere: what was taken arrives, once and in order.

use super::super::*;
use super::pair::*;
use super::robust::frame_bytes;
use fastrand::Rng;
use std::collections::VecDeque;

const GATEWAY: usize = 0;

fn key(random: &mut Rng) -> ChannelKey {
    ChannelKey {
        slot: random.u32(..),
        generation: random.u32(..),
    }
}

fn push_id(random: &mut Rng) -> PushId {
    PushId(random.u128(..).to_be_bytes())
}

fn some_up(random: &mut Rng) -> Up {
    let length = random.usize(1..=MAX_CLIENT_ID);
    Up {
        key: key(random),
        kind: *random
            .choice(&[
                ChannelKind::EventStream,
                ChannelKind::WebSocket,
                ChannelKind::LongPoll,
            ])
            .unwrap(),
        auth: *random
            .choice(&[ChannelAuth::Certificate, ChannelAuth::Token])
            .unwrap(),
        since: random.u32(..),
        client: (0..length).map(|_| random.char('!'..='~')).collect(),
    }
}

/// `count` entries as long as they fit.
fn fill<E: Clone>(
    count: usize,
    mut make: impl FnMut() -> E,
    mut push: impl FnMut(&E) -> bool,
) -> Vec<E> {
    let mut taken = Vec::new();
    for _ in 0..count {
        let entry = make();
        if !push(&entry) {
            break;
        }
        taken.push(entry);
    }
    taken
}

struct World {
    pair: Pair,
    wires: [VecDeque<u8>; 2],
    /// Taken by a side and not yet seen by the other.
    said: [VecDeque<Seen>; 2],
    refused: [bool; 2],
    listing: bool,
    streams: Vec<StreamId>,
    taken: usize,
    refusals: usize,
    random: Rng,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Rng::with_seed(seed);
        let limits = SessionLimits {
            stage_bytes: [1, 3_000, 20_000, 300_000][random.usize(0..4)],
            ..limits()
        };
        let mut pair = Pair::with_features(CHANNELS, CHANNELS, limits);
        pair.connector.take_seen();
        World {
            pair,
            wires: Default::default(),
            said: Default::default(),
            refused: [false; 2],
            listing: false,
            streams: Vec::new(),
            taken: 0,
            refusals: 0,
            random,
        }
    }

    fn end(&mut self, side: usize) -> &mut End {
        match side {
            GATEWAY => &mut self.pair.gateway,
            _ => &mut self.pair.connector,
        }
    }

    fn send(&mut self, side: usize, batch: &mut impl Batch, seen: Seen) -> bool {
        let End { session, out, .. } = self.end(side);
        let room = session.channel_room();
        let taken = session.send_batch(batch, out);
        assert!(room <= CHANNEL_QUEUE);
        assert!(taken || room < 16_384, "refused with {room} bytes free");
        if taken {
            self.said[side].push_back(seen);
            self.taken += 1;
        } else {
            self.refused[side] = true;
            self.refusals += 1;
        }
        taken
    }

    fn say_gateway(&mut self) {
        let mut random = Rng::with_seed(self.random.u64(..));
        let count = 1 << random.u32(0..12);
        let push = push_id(&mut random);
        match random.u8(0..5) {
            0 => self.say_ups(count, &mut random),
            1 => {
                let mut batch = Downs::default();
                let make = || ChannelDown {
                    key: key(&mut random),
                    reason: DownReason::Lost,
                };
                let entries = fill(count, make, |e| batch.push(*e));
                self.send(GATEWAY, &mut batch, Seen::Downs(entries));
            }
            2 => {
                let mut batch = Outcomes::new(push);
                let make = || ChannelFate {
                    key: key(&mut random),
                    fate: Fate::Gone,
                };
                let entries = fill(count, make, |e| batch.push(*e));
                self.send(GATEWAY, &mut batch, Seen::Fates(push, entries));
            }
            3 => {
                let totals = Totals {
                    sent: random.u32(..),
                    ..Totals::default()
                };
                let mut batch = Summary::default();
                batch.set(push, totals);
                self.send(GATEWAY, &mut batch, Seen::Totals(push, totals));
            }
            _ => {
                let mut batch = Receipts::default();
                let make = || {
                    let length = random.usize(1..=MAX_CLIENT_ID);
                    (push, "r".repeat(length))
                };
                let entries = fill(count, make, |(push, client)| {
                    let (push, client) = (*push, client.as_str());
                    batch.push(Receipt { push, client })
                });
                self.send(GATEWAY, &mut batch, Seen::Receipts(entries));
            }
        }
    }

    fn say_ups(&mut self, count: usize, random: &mut Rng) {
        let mut batch = Ups::default();
        let starts = random.bool();
        let ends = (starts || self.listing) && random.bool();
        if starts {
            batch.start_list();
        }
        if ends {
            batch.end_list();
        }
        let channels = fill(count, || some_up(random), |e| batch.push(&e.borrow()));
        let seen = Seen::Ups {
            starts,
            ends,
            channels,
        };
        if self.send(GATEWAY, &mut batch, seen) {
            self.listing = (self.listing || starts) && !ends;
        }
    }

    fn say_connector(&mut self) {
        let mut random = Rng::with_seed(self.random.u64(..));
        let count = 1 << random.u32(0..12);
        if random.bool() {
            let mut batch = Closes::default();
            let make = || ChannelClose {
                key: key(&mut random),
                reason: CloseReason::Replaced,
            };
            let entries = fill(count, make, |e| batch.push(*e));
            self.send(1, &mut batch, Seen::Closes(entries));
            return;
        }
        let (push, repeat) = (push_id(&mut random), random.bool());
        let payload = vec![random.u8(..); random.usize(0..=MAX_PUSH)];
        let mut batch = Notification::new(push, repeat, &payload).unwrap();
        let keys = match random.bool() {
            true => Some(fill(count, || key(&mut random), |e| batch.push(*e))),
            false => {
                batch.to_all();
                None
            }
        };
        self.send(1, &mut batch, Seen::Notify(push, repeat, keys, payload));
    }

    fn collect(&mut self) {
        for side in 0..2 {
            let out = std::mem::take(&mut self.end(side).out);
            self.wires[side].extend(out);
        }
    }

    fn deliver(&mut self, from: usize, n: usize) {
        let bytes: Vec<u8> = self.wires[from].drain(..n).collect();
        let now = self.pair.now;
        let end = self.end(1 - from);
        end.feed(&bytes, now).expect("the session holds");
        for seen in end.take_seen() {
            match seen {
                Seen::Data { stream, bytes, .. } => {
                    self.end(1 - from).consumed(stream, bytes.len())
                }
                Seen::Open { .. } | Seen::Head { .. } | Seen::RoundTrip(_) => {}
                seen => assert_eq!(Some(seen), self.said[from].pop_front()),
            }
        }
    }

    fn step(&mut self) {
        let side = self.random.usize(0..2);
        match self.random.u8(0..10) {
            0 | 1 => self.say_gateway(),
            2 | 3 => self.say_connector(),
            4 if self.streams.len() < 5 => {
                let stream = self.pair.open(1);
                self.streams.push(stream);
            }
            4 | 5 => {
                if let Some(&stream) = self.random.choice(&self.streams) {
                    let n = self.random.usize(1..100_000);
                    let session = &self.pair.gateway.session;
                    if session.queued(stream) < 500_000 {
                        self.pair.gateway.data(stream, &vec![1; n]);
                    }
                }
            }
            6 => {
                let now = self.pair.now;
                let End { session, out, .. } = self.end(side);
                session.pump(now, out);
                if session.poll_channel_room() {
                    assert!(
                        std::mem::take(&mut self.refused[side]),
                        "told without cause"
                    );
                }
            }
            _ => {
                let n = self.wires[side].len();
                let n = if self.random.bool() {
                    n
                } else {
                    self.random.usize(0..=n)
                };
                self.deliver(side, n);
            }
        }
        self.collect();
    }

    fn finish(&mut self) {
        let now = self.pair.now;
        for _ in 0..20_000 {
            let mut moved = false;
            for side in 0..2 {
                let n = self.wires[side].len();
                moved |= n > 0;
                self.deliver(side, n);
            }
            for side in 0..2 {
                let End { session, out, .. } = self.end(side);
                session.pump(now, out);
                moved |= !out.is_empty();
            }
            self.collect();
            if !moved {
                break;
            }
        }
        for side in 0..2 {
            assert!(self.said[side].is_empty(), "not all arrived");
            let session = &mut self.end(side).session;
            assert_eq!(session.channel_room(), CHANNEL_QUEUE);
            let told = session.poll_channel_room();
            assert_eq!(told, self.refused[side], "who was refused is told of room");
        }
    }
}

#[test]
fn what_was_taken_arrives_once_and_in_order() {
    let only = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let (mut taken, mut refusals) = (0, 0);
    for seed in only.map_or(0..200, |seed: u64| seed..seed + 1) {
        println!("seed {seed}");
        let mut world = World::new(seed);
        for _ in 0..500 {
            world.step();
        }
        world.finish();
        taken += world.taken;
        refusals += world.refusals;
    }
    assert!(
        only.is_some() || (taken > 10_000 && refusals > 100),
        "{taken} {refusals}"
    );
}

/// Frames that are right but for a few bytes, any of the six kinds, either way.
#[test]
fn mutated_channel_frames_never_panic() {
    let (mut taken, mut refused) = (0, 0);
    for seed in 0..3_000u64 {
        let mut random = Rng::with_seed(seed);
        let mut pair = Pair::with_channels();
        let mut world_bytes = Vec::new();
        let up = some_up(&mut random);
        let mut ups = Ups::default();
        ups.start_list();
        ups.push(&up.borrow());
        let mut outcomes = Outcomes::new(push_id(&mut random));
        outcomes.push(ChannelFate {
            key: key(&mut random),
            fate: Fate::Sent,
        });
        let mut notification = Notification::new(push_id(&mut random), false, b"hello").unwrap();
        notification.push(key(&mut random));
        let to_connector = seed % 2 == 0;
        match to_connector {
            true => {
                let session = &mut pair.gateway.session;
                assert!(session.send_batch(&mut ups, &mut world_bytes));
                assert!(session.send_batch(&mut outcomes, &mut world_bytes));
                world_bytes.extend(frame_bytes(0x21, 0, &[5; 18]));
                world_bytes.extend(frame_bytes(0x25, 0, &[5; 48]));
            }
            false => {
                let session = &mut pair.connector.session;
                assert!(session.send_batch(&mut notification, &mut world_bytes));
                world_bytes.extend(frame_bytes(0x22, 0, &[5; 18]));
            }
        }
        for _ in 0..random.usize(0..4) {
            let at = random.usize(0..world_bytes.len());
            world_bytes[at] = random.u8(..);
        }
        let now = pair.now;
        let end = if to_connector {
            &mut pair.connector
        } else {
            &mut pair.gateway
        };
        let mut rest = &world_bytes[..];
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(random.usize(1..=rest.len()));
            rest = behind;
            if end.feed(piece, now).is_err() {
                refused += 1;
                break;
            }
        }
        taken += end.seen.len();
    }
    assert!(taken > 3_000 && refused > 500, "{taken} {refused}");
}
