//! Random operations on both ends against two references: a referee that reads the wire on its own and knows what each
//! side was granted, and for each stream what was said and what must arrive.

use super::super::*;
use super::pair::*;
use fastrand::Rng;
use std::collections::BTreeMap;
use std::time::Duration;

/// Frames of one direction, cut without the code under test.
#[derive(Default)]
struct Cutter(Vec<u8>);

impl Cutter {
    fn cut(&mut self, bytes: &[u8], mut each: impl FnMut(u8, u32, &[u8])) {
        self.0.extend_from_slice(bytes);
        let mut rest = &self.0[..];
        while let Some((&[a, b, c, kind, s0, s1, s2, s3], behind)) = rest.split_first_chunk::<8>() {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            let Some((payload, behind)) = behind.split_at_checked(length) else {
                break;
            };
            each(kind, u32::from_be_bytes([s0, s1, s2, s3]), payload);
            rest = behind;
        }
        self.0 = rest.to_vec();
    }
}

/// One direction of the wire, with what its sender may send.
#[derive(Default)]
struct Way {
    bytes: Vec<u8>,
    staged: Cutter,
    arrived: Cutter,
    /// Credit left by stream, 0 for the session; absent: its start.
    credit: BTreeMap<u32, i64>,
}

impl Way {
    fn spend(&mut self, stream: u32, n: i64, start: i64) {
        let left = self.credit.entry(stream).or_insert(start);
        *left -= n;
        assert!(
            *left >= 0,
            "stream {stream:#x} sent {} bytes over its credit",
            -*left
        );
    }

    fn sent(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let mut staged = std::mem::take(&mut self.staged);
        staged.cut(bytes, |kind, stream, payload| {
            if kind == 0x12 {
                self.spend(stream, payload.len() as i64, 65_536);
                self.spend(0, payload.len() as i64, 1 << 20);
            }
        });
        assert!(staged.0.is_empty(), "a frame was staged in part");
        self.staged = staged;
    }
}

/// What one side said on a stream, and what the other heard of it.
#[derive(Default)]
struct Talk {
    said: usize,
    ended: bool,
    heard: usize,
    heard_end: bool,
    consumed: usize,
}

#[derive(Default)]
struct Life {
    /// From the gateway, from the connector.
    talk: [Talk; 2],
    headed: bool,
    /// By either side, or told to it.
    over: [bool; 2],
    opened: bool,
}

struct World {
    pair: Pair,
    ways: [Way; 2],
    lives: BTreeMap<u32, Life>,
    most_window: usize,
    random: Rng,
    pressure: bool,
}

const GATEWAY: usize = 0;
const CONNECTOR: usize = 1;

/// The byte at `at` of what side `side` says on a stream.
fn byte(stream: u32, side: usize, at: usize) -> u8 {
    ((stream as usize).wrapping_mul(31) ^ side.wrapping_mul(77) ^ at.wrapping_mul(131) ^ (at >> 8))
        as u8
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Rng::with_seed(seed);
        let limits = SessionLimits {
            streams: random.u32(1..40),
            initial_stream_credit: STREAM_CREDIT << random.u32(0..3),
            max_stream_credit: STREAM_CREDIT << random.u32(0..5),
            session_credit: SESSION_CREDIT << random.u32(0..3),
            stage_bytes: [1, 3_000, 20_000, 300_000][random.usize(0..4)],
        };
        let mut world = World {
            pair: Pair::fresh(limits, limits),
            ways: [Way::default(), Way::default()],
            lives: BTreeMap::new(),
            most_window: limits.initial_stream_credit.max(limits.max_stream_credit) as usize,
            random,
            pressure: false,
        };
        let End { session, out, .. } = &mut world.pair.connector;
        session.send_hello(&hello(), out);
        world.collect();
        world.deliver_all();
        let End { session, out, .. } = &mut world.pair.gateway;
        session.send_ready(&ready(), out);
        world.collect();
        world.deliver_all();
        world
    }

    fn end(&mut self, side: usize) -> &mut End {
        if side == GATEWAY {
            &mut self.pair.gateway
        } else {
            &mut self.pair.connector
        }
    }

    /// Staged bytes go onto the wire, under the referee's eyes.
    fn collect(&mut self) {
        for side in [GATEWAY, CONNECTOR] {
            let out = std::mem::take(&mut self.end(side).out);
            self.ways[side].sent(&out);
        }
    }

    /// `n` bytes of one direction arrive.
    fn deliver(&mut self, from: usize, n: usize) {
        let bytes: Vec<u8> = self.ways[from].bytes.drain(..n).collect();
        let mut arrived = std::mem::take(&mut self.ways[from].arrived);
        let back = &mut self.ways[1 - from];
        arrived.cut(&bytes, |kind, stream, payload| {
            if kind == 0x15 {
                let granted = u32::from_be_bytes(payload.try_into().unwrap());
                let start = if stream == 0 { 1 << 20 } else { 65_536 };
                *back.credit.entry(stream).or_insert(start) += i64::from(granted);
            }
        });
        self.ways[from].arrived = arrived;
        let now = self.pair.now;
        let to = 1 - from;
        self.end(to).feed(&bytes, now).expect("the session holds");
        for seen in self.end(to).take_seen() {
            self.heard(to, seen);
        }
        self.collect();
    }

    fn heard(&mut self, at: usize, seen: Seen) {
        let from = 1 - at;
        let most = self.most_window;
        match seen {
            Seen::Open { stream, .. } => {
                let life = self
                    .lives
                    .get_mut(&stream.0)
                    .expect("opened by the gateway");
                assert!(!std::mem::replace(&mut life.opened, true), "opened twice");
            }
            Seen::Data { stream, bytes, .. } => {
                let life = self.lives.get_mut(&stream.0).unwrap();
                assert!(!life.over[at], "event after the end");
                let talk = &mut life.talk[from];
                for (n, got) in bytes.iter().enumerate() {
                    assert_eq!(*got, byte(stream.0, from, talk.heard + n));
                }
                talk.heard += bytes.len();
                assert!(talk.heard <= talk.said && !talk.heard_end);
                assert!(
                    talk.heard - talk.consumed <= most,
                    "more held than the window"
                );
            }
            Seen::End { stream, .. } => {
                let talk = &mut self.lives.get_mut(&stream.0).unwrap().talk[from];
                assert!(
                    talk.ended && talk.heard == talk.said,
                    "END before the last byte"
                );
                assert!(!std::mem::replace(&mut talk.heard_end, true));
            }
            Seen::Reset { stream, code, .. } => {
                assert_eq!(code, ResetCode::Cancelled, "no side broke the protocol");
                let life = self.lives.get_mut(&stream.0).unwrap();
                assert!(!std::mem::replace(&mut life.over[at], true), "reset twice");
            }
            Seen::Head { stream, .. } => assert!(self.lives[&stream.0].headed),
            Seen::Hello(_) | Seen::Ready(_) | Seen::RoundTrip(_) => {}
            other => panic!("{other:?}"),
        }
    }

    fn deliver_all(&mut self) {
        while self.ways.iter().any(|way| !way.bytes.is_empty()) {
            for from in [GATEWAY, CONNECTOR] {
                self.deliver(from, self.ways[from].bytes.len());
            }
        }
    }

    /// Some stream that side `side` has not given up and knows of.
    fn some_stream(&mut self, side: usize) -> Option<StreamId> {
        let known: Vec<u32> = self
            .lives
            .iter()
            .filter(|(_, life)| !life.over[side] && (side == GATEWAY || life.opened))
            .map(|(id, _)| *id)
            .collect();
        (!known.is_empty()).then(|| StreamId(known[self.random.usize(0..known.len())]))
    }

    fn step(&mut self) {
        let side = self.random.usize(0..2);
        match self.random.u8(0..100) {
            0..12 => self.open(),
            12..40 => self.say(side),
            40..48 => self.say_end(side),
            48..52 => self.give_up(side),
            52..65 => self.consume(side),
            65..90 => {
                let n = self.ways[side].bytes.len();
                let n = if self.random.bool() {
                    n
                } else {
                    self.random.usize(0..=n)
                };
                self.deliver(side, n);
            }
            90..96 => self.pump(),
            96..98 => {
                self.pair
                    .advance(Duration::from_millis(self.random.u64(0..300)));
                let now = self.pair.now;
                self.end(side).timeout(now).expect("nobody is dead");
            }
            _ => {
                self.pressure = !self.pressure;
                let on = self.pressure;
                self.end(side).session.set_pressure(on);
            }
        }
        self.collect();
    }

    fn open(&mut self) {
        let End { session, out, .. } = &mut self.pair.gateway;
        if let Some(id) = session.open(1, &mut opening(), out) {
            let earlier = self.lives.insert(id.0, Life::default());
            assert!(
                earlier.is_none_or(|l| l.over[GATEWAY]),
                "the id comes back too early"
            );
        }
    }

    fn say(&mut self, side: usize) {
        let Some(stream) = self.some_stream(side) else {
            return;
        };
        let most = 1 << self.random.u32(1..18);
        let n = self.random.usize(1..most);
        let life = self.lives.get_mut(&stream.0).unwrap();
        if life.talk[side].ended {
            return;
        }
        let from = life.talk[side].said;
        life.talk[side].said += n;
        let bytes: Vec<u8> = (from..from + n)
            .map(|at| byte(stream.0, side, at))
            .collect();
        self.head_first(side, stream);
        self.end(side).data(stream, &bytes);
    }

    /// The connector's head goes before its body.
    fn head_first(&mut self, side: usize, stream: StreamId) {
        let life = self.lives.get_mut(&stream.0).unwrap();
        if side == CONNECTOR && !std::mem::replace(&mut life.headed, true) {
            self.end(side).head(stream);
        }
    }

    fn say_end(&mut self, side: usize) {
        let Some(stream) = self.some_stream(side) else {
            return;
        };
        let life = self.lives.get_mut(&stream.0).unwrap();
        if std::mem::replace(&mut life.talk[side].ended, true) {
            return;
        }
        self.head_first(side, stream);
        self.end(side).end(stream);
    }

    fn give_up(&mut self, side: usize) {
        let Some(stream) = self.some_stream(side) else {
            return;
        };
        self.lives.get_mut(&stream.0).unwrap().over[side] = true;
        self.end(side).reset(stream, ResetCode::Cancelled);
    }

    fn consume(&mut self, side: usize) {
        let Some(stream) = self.some_stream(side) else {
            return;
        };
        let talk = &self.lives[&stream.0].talk[1 - side];
        let n = self.random.usize(0..=talk.heard - talk.consumed);
        self.consume_of(side, stream, n);
    }

    fn consume_of(&mut self, side: usize, stream: StreamId, n: usize) {
        self.lives.get_mut(&stream.0).unwrap().talk[1 - side].consumed += n;
        self.end(side).consumed(stream, n);
    }

    fn pump(&mut self) {
        let now = self.pair.now;
        for side in [GATEWAY, CONNECTOR] {
            let End { session, out, .. } = self.end(side);
            session.pump(now, out);
        }
        self.collect();
    }

    /// Everyone reads all and ends what it has not ended; then nothing may be left anywhere.
    fn finish(&mut self) {
        for side in [GATEWAY, CONNECTOR] {
            self.end(side).session.set_pressure(false);
        }
        self.pump();
        self.deliver_all();
        let ids: Vec<u32> = self.lives.keys().copied().collect();
        for _ in 0..20_000 {
            let mut moved = false;
            for id in &ids {
                for side in [GATEWAY, CONNECTOR] {
                    let life = &self.lives[id];
                    let talk = &life.talk[1 - side];
                    let held = talk.heard - talk.consumed;
                    if !life.over[side] && held > 0 {
                        self.consume_of(side, StreamId(*id), held);
                        moved = true;
                    }
                    let life = &self.lives[id];
                    if !life.over[side]
                        && !life.talk[side].ended
                        && (side == GATEWAY || life.opened)
                    {
                        self.finish_one(side, StreamId(*id));
                        moved = true;
                    }
                }
            }
            self.collect();
            self.pump();
            moved |= self.ways.iter().any(|way| !way.bytes.is_empty());
            self.deliver_all();
            if !moved {
                break;
            }
        }
        for side in [GATEWAY, CONNECTOR] {
            let session = &self.end(side).session;
            assert_eq!(
                (session.streams(), session.queued_bytes()),
                (0, 0),
                "side {side}"
            );
        }
        for life in self.lives.values() {
            let lost = life.over[GATEWAY] || life.over[CONNECTOR];
            for talk in &life.talk {
                assert!(
                    lost || talk.heard_end && talk.heard == talk.said,
                    "not all arrived"
                );
            }
        }
    }

    fn finish_one(&mut self, side: usize, stream: StreamId) {
        let life = self.lives.get_mut(&stream.0).unwrap();
        life.talk[side].ended = true;
        self.head_first(side, stream);
        self.end(side).end(stream);
        self.collect();
    }
}

#[test]
fn random_use_keeps_to_credit_order_and_ends() {
    let only = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let mut bytes = 0;
    for seed in only.map_or(0..300, |seed: u64| seed..seed + 1) {
        println!("seed {seed}");
        let mut world = World::new(seed);
        for _ in 0..600 {
            world.step();
        }
        world.finish();
        bytes += world
            .lives
            .values()
            .map(|l| l.talk[0].heard + l.talk[1].heard)
            .sum::<usize>();
    }
    assert!(
        only.is_some() || bytes > 100 << 20,
        "too little was said: {bytes}"
    );
}

#[test]
#[should_panic(expected = "over its credit")]
fn referee_sees_an_overrun() {
    let mut way = Way::default();
    for _ in 0..5 {
        let mut frame = frame::header(Kind::Data, 1 << 20, 16_376).to_vec();
        frame.resize(8 + 16_376, 0);
        way.sent(&frame);
    }
}
