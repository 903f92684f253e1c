//! What a peer may send us, and what it gains by it.

use super::super::frame::{self, MAX_DATA};
use super::super::*;
use super::pair::*;
use std::time::Instant;

pub fn frame_bytes(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.push(kind);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

pub fn error_of(end: &mut End, bytes: &[u8], now: Instant) -> SessionError {
    let error = end.feed(bytes, now).expect_err("the session must end");
    assert_eq!(error.fault, Fault::Protocol, "{error}");
    error
}

/// Bytes of both directions of a varied exchange, after the handshake.
fn recorded() -> (Vec<u8>, Vec<u8>, Pair) {
    let mut pair = Pair::ready();
    let (mut to_connector, mut to_gateway) = (Vec::new(), Vec::new());
    let streams: Vec<StreamId> = (0..6).map(|n| pair.open(n)).collect();
    let mut record = |pair: &mut Pair| {
        to_connector.extend_from_slice(&pair.gateway.out);
        to_gateway.extend_from_slice(&pair.connector.out);
        pair.turn()
    };
    record(&mut pair);
    for (n, stream) in streams.iter().enumerate() {
        pair.gateway.data(*stream, &vec![n as u8; 3_000 * n + 1]);
        pair.gateway.end(*stream);
        pair.connector.interim(*stream);
        pair.connector.head(*stream);
        pair.connector.data(*stream, &vec![n as u8; 17_000 + n]);
    }
    pair.connector
        .session
        .publish([1; 32], vec![5; 40_000], &mut pair.connector.out);
    pair.gateway.timeout(pair.now).unwrap();
    pair.connector.timeout(pair.now).unwrap();
    while record(&mut pair) > 0 {}
    pair.connector.reset(streams[0], ResetCode::Overloaded);
    pair.connector.end(streams[1]);
    pair.gateway.reset(streams[2], ResetCode::Cancelled);
    while record(&mut pair) > 0 {}
    (to_connector, to_gateway, pair)
}

/// A gateway that has opened what `recorded` opened, and has heard nothing since READY.
fn gateway_again() -> Pair {
    let mut pair = Pair::ready();
    for n in 0..6 {
        pair.open(n);
    }
    pair.gateway.timeout(pair.now).unwrap();
    pair
}

#[test]
fn any_split_of_the_input_gives_the_same_events() {
    let (to_connector, to_gateway, _) = recorded();
    let whole = |pair: &mut Pair| {
        pair.connector.feed(&to_connector, pair.now).unwrap();
        pair.gateway.feed(&to_gateway, pair.now).unwrap();
        (
            joined(pair.connector.take_seen()),
            joined(pair.gateway.take_seen()),
        )
    };
    let expected = whole(&mut prepared());
    assert!(expected.0.len() > 15 && expected.1.len() > 20);
    for seed in 0..40u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let most = [1, 2, 9, 100, 5_000, 70_000][seed as usize % 6];
        let mut pair = prepared();
        let now = pair.now;
        for (end, bytes) in [
            (&mut pair.connector, &to_connector),
            (&mut pair.gateway, &to_gateway),
        ] {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (piece, later) = rest.split_at(random.usize(1..=most).min(rest.len()));
                end.feed(piece, now).unwrap();
                rest = later;
            }
        }
        let got = (
            joined(pair.connector.take_seen()),
            joined(pair.gateway.take_seen()),
        );
        assert_eq!(got, expected, "seed {seed}");
    }
}

fn prepared() -> Pair {
    let mut pair = gateway_again();
    pair.connector.timeout(pair.now).unwrap();
    pair
}

#[test]
fn mutated_input_never_panics() {
    let (to_connector, to_gateway, _) = recorded();
    let mut broke = 0;
    for seed in 0..3_000u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut pair = prepared();
        let now = pair.now;
        let (end, bytes) = match seed % 2 {
            0 => (&mut pair.connector, &to_connector),
            _ => (&mut pair.gateway, &to_gateway),
        };
        let mut bytes = bytes.clone();
        for _ in 0..random.usize(1..8) {
            // Near the front more often: that is where headers and heads are.
            let at = random.usize(0..bytes.len()) >> random.u32(0..12);
            match random.u8(0..4) {
                0 => bytes[at] ^= 1 << random.u8(0..8),
                1 => bytes[at] = random.u8(..),
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, random.u8(..)),
            }
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(random.usize(1..20_000).min(rest.len()));
            if end.feed(piece, now).is_err() {
                broke += 1;
                break;
            }
            end.session.pump(now, &mut end.out);
            rest = later;
        }
        if let Err(error) = end.feed(b"more", now) {
            panic!("seed {seed}: a session that is over takes no more input: {error}");
        }
    }
    assert!(broke > 1_000, "{broke} of 3000 were found out");
}

#[test]
fn unknown_kinds_from_0x80_are_skipped_and_others_end_the_session() {
    for kind in [0x80, 0xa7, 0xff] {
        let mut pair = Pair::ready();
        let bytes = [
            frame_bytes(kind, 77, &[1; 60_000]),
            frame_bytes(kind, 0, &[]),
        ]
        .concat();
        for piece in bytes.chunks(7) {
            pair.gateway.feed(piece, pair.now).unwrap();
        }
        assert_eq!(pair.gateway.take_seen(), []);
        error_of(
            &mut pair.gateway,
            &frame_bytes(kind, 0, &[0; 65_537]),
            pair.now,
        );
    }
    for kind in [0x00, 0x07, 0x16, 0x1f, 0x26, 0x7f] {
        let mut pair = Pair::ready();
        error_of(&mut pair.gateway, &frame_bytes(kind, 0, &[]), pair.now);
    }
}

#[test]
fn broken_session_tells_the_peer_why() {
    let mut pair = Pair::ready();
    let error = error_of(&mut pair.gateway, &frame_bytes(0x7f, 0, &[]), pair.now);
    let answer = std::mem::take(&mut pair.gateway.out);
    pair.connector.feed(&answer, pair.now).unwrap();
    let told = Seen::Refused(refusal::PROTOCOL, error.text);
    assert_eq!(pair.connector.seen.last(), Some(&told));
}

#[test]
fn kinds_from_the_wrong_side_or_out_of_phase_end_the_session() {
    for kind in [Kind::Hello, Kind::Ready, Kind::Open, Kind::Published] {
        let mut pair = Pair::ready();
        let stream = if kind == Kind::Open { 0x10_0000 } else { 0 };
        let payload = vec![0; kind.bounds().0];
        error_of(
            &mut pair.gateway,
            &frame_bytes(kind as u8, stream, &payload),
            pair.now,
        );
    }
    for kind in [Kind::Hello, Kind::Ready, Kind::Publish] {
        let mut pair = Pair::ready();
        let payload = vec![0; kind.bounds().0];
        error_of(
            &mut pair.connector,
            &frame_bytes(kind as u8, 0, &payload),
            pair.now,
        );
    }
    for kind in Kind::ALL {
        if !matches!(kind, Kind::Hello | Kind::Refuse) {
            let mut pair = Pair::fresh(limits(), limits());
            let on_stream = (0x10..0x20).contains(&(kind as u8)) && kind != Kind::Credit;
            let stream = u32::from(on_stream) << 20;
            let payload = vec![0; kind.bounds().0];
            error_of(
                &mut pair.gateway,
                &frame_bytes(kind as u8, stream, &payload),
                pair.now,
            );
        }
    }
}

#[test]
fn lengths_out_of_bounds_end_the_session() {
    for kind in Kind::ALL {
        let (shortest, longest) = kind.bounds();
        let wrong = [shortest.checked_sub(1), Some(longest + 1)];
        for length in wrong.into_iter().flatten() {
            let mut pair = Pair::ready();
            let stream = u32::from((0x10..0x20).contains(&(kind as u8))) << 20;
            let mut header = frame::header(kind, stream, 0);
            header[..3].copy_from_slice(&(length as u32).to_be_bytes()[1..]);
            error_of(&mut pair.gateway, &header, pair.now);
        }
    }
}

#[test]
fn frames_for_streams_that_are_not_open_end_the_session() {
    let id = StreamId::new(0, 1);
    for kind in [Kind::Head, Kind::Data, Kind::End, Kind::Reset, Kind::Credit] {
        let payload = match kind {
            Kind::Head => b"\0\xc8\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(),
            Kind::Credit => vec![0, 0, 0, 1],
            _ => vec![0; kind.bounds().0],
        };
        let bytes = frame_bytes(kind as u8, id.0, &payload);
        let mut pair = Pair::ready();
        let error = error_of(&mut pair.gateway, &bytes, pair.now);
        assert!(error.text.contains("not opened"), "{error}");
        // After its end: RESET and CREDIT may have crossed it, the others not.
        let mut pair = Pair::ready();
        assert_eq!(pair.open(1), id);
        pair.gateway.end(id);
        pair.settle();
        pair.connector.head(id);
        pair.connector.end(id);
        pair.settle();
        assert_eq!(pair.gateway.session.streams(), 0);
        if matches!(kind, Kind::Reset | Kind::Credit) {
            pair.gateway.take_seen();
            pair.gateway.feed(&bytes, pair.now).unwrap();
            assert_eq!(pair.gateway.take_seen(), []);
        } else {
            let error = error_of(&mut pair.gateway, &bytes, pair.now);
            assert!(error.text.contains("after its end"), "{error}");
        }
    }
}

#[test]
fn gateway_that_reuses_ids_or_slots_wrongly_ends_the_session() {
    let mut pair = Pair::with_limits(
        limits(),
        SessionLimits {
            streams: 4,
            ..limits()
        },
    );
    let stream = pair.open(1);
    let open = pair.gateway.out.clone();
    let with_id = |id: StreamId| {
        let mut bytes = open.clone();
        bytes[4..8].copy_from_slice(&id.0.to_be_bytes());
        bytes
    };
    let cases = [
        ("in use", with_id(StreamId::new(0, 2))),
        ("twice", open.clone()),
        ("generation 0", with_id(StreamId::new(1, 0))),
        ("over the limit", with_id(StreamId::new(4, 1))),
        ("far over the limit", with_id(StreamId::new(0xf_ffff, 1))),
    ];
    for (what, bytes) in cases {
        let mut connector = Pair::with_limits(
            limits(),
            SessionLimits {
                streams: 4,
                ..limits()
            },
        );
        connector.connector.feed(&open, pair.now).unwrap();
        let error = error_of(&mut connector.connector, &bytes, pair.now);
        assert!(error.text.contains("OPEN"), "{what}: {error}");
    }
    // A freed generation at once again.
    pair.settle();
    pair.connector.reset(stream, ResetCode::Refused);
    pair.settle();
    assert_eq!(pair.connector.session.streams(), 0);
    error_of(&mut pair.connector, &open, pair.now);
}

#[test]
fn data_over_stream_credit_resets_that_stream_only() {
    let mut pair = Pair::ready();
    let (greedy, honest) = (pair.open(1), pair.open(2));
    pair.settle();
    pair.connector.head(greedy);
    pair.connector.head(honest);
    pair.settle();
    pair.gateway.take_seen();
    let full = frame_bytes(Kind::Data as u8, greedy.0, &[1; MAX_DATA]);
    for _ in 0..4 {
        pair.gateway.feed(&full, pair.now).unwrap();
    }
    assert_eq!(pair.gateway.take_seen().len(), 4);
    // In pieces too: nothing of the frame that overruns is given out.
    for piece in full.chunks(1000) {
        pair.gateway.feed(piece, pair.now).unwrap();
    }
    let seen = pair.gateway.take_seen();
    assert!(
        matches!(
            &seen[..],
            [Seen::Reset {
                token: 1,
                code: ResetCode::Protocol,
                ..
            }]
        ),
        "{seen:?}"
    );
    pair.connector.data(honest, b"fine");
    pair.settle();
    assert_eq!(pair.gateway.bytes_seen(honest), 4);
    assert_eq!(pair.gateway.session.streams(), 1);
}

#[test]
fn credit_beyond_its_bound_or_zero_ends_the_session() {
    for (stream, n) in [
        (0, 0u32),
        (0, u32::MAX),
        (0, i32::MAX as u32),
        (1 << 20, 0),
        (1 << 20, u32::MAX),
    ] {
        let mut pair = Pair::ready();
        pair.open(1);
        let bytes = frame_bytes(Kind::Credit as u8, stream, &n.to_be_bytes());
        error_of(&mut pair.gateway, &bytes, pair.now);
    }
}

#[test]
fn pong_for_nothing_ends_the_session() {
    let mut pair = Pair::ready();
    error_of(
        &mut pair.gateway,
        &frame_bytes(Kind::Pong as u8, 0, &[0, 0, 0, 0, 0, 0, 0, 9]),
        pair.now,
    );
}

#[test]
fn chunks_out_of_order_end_the_session() {
    let chunk = |hash: u8, total: u32, offset: u32, n: usize| {
        let mut payload = [hash; 32].to_vec();
        payload.extend(total.to_be_bytes());
        payload.extend(offset.to_be_bytes());
        payload.extend(vec![0; n]);
        frame_bytes(Kind::Publish as u8, 0, &payload)
    };
    let cases = [
        vec![chunk(1, 100, 10, 10)],
        vec![chunk(1, 100, 0, 10), chunk(1, 100, 20, 10)],
        vec![chunk(1, 100, 0, 10), chunk(2, 100, 10, 10)],
        vec![chunk(1, 100, 0, 10), chunk(1, 101, 10, 10)],
        vec![chunk(1, 100, 0, 101)],
        vec![chunk(1, 100, 0, 0)],
        vec![chunk(1, u32::MAX, 0, 1)],
        vec![chunk(1, 10, 0, 10), chunk(1, 10, 10, 0)],
    ];
    for case in cases {
        let mut pair = Pair::ready();
        error_of(&mut pair.gateway, &case.concat(), pair.now);
    }
}

/// A peer that makes us answer and does not read: what we stage stays bounded, and the answers come once it reads.
#[test]
fn answers_to_a_peer_that_does_not_read_are_bounded() {
    let mut pair = Pair::ready();
    let bound = limits().stage_bytes + send::CONTROL_ROOM + 1024;
    for n in 1..=100_000u64 {
        pair.connector
            .feed(
                &frame_bytes(Kind::Ping as u8, 0, &n.to_be_bytes()),
                pair.now,
            )
            .unwrap();
    }
    assert!(
        pair.connector.out.len() <= bound,
        "{}",
        pair.connector.out.len()
    );
    for n in 0..4000 {
        let stream = pair.open(n);
        pair.gateway.reset(stream, ResetCode::Cancelled);
        let bytes = std::mem::take(&mut pair.gateway.out);
        pair.connector.feed(&bytes, pair.now).unwrap();
        pair.connector
            .session
            .pump(pair.now, &mut pair.connector.out);
        assert!(
            pair.connector.out.len() <= bound,
            "{}",
            pair.connector.out.len()
        );
    }
    let unanswered = pair.connector.session.streams();
    assert!(unanswered > 0, "some answers had to wait");
    // The PONGs name PINGs that this gateway did not send; drop them, then let the rest through.
    let pong_frames = 100_000.min(bound / 16);
    let cut = pair.connector.out.iter().take(pong_frames * 16).count();
    assert!(cut > 0);
    let mut to_gateway = std::mem::take(&mut pair.connector.out);
    while !to_gateway.is_empty() {
        let kind = to_gateway[3];
        let length = usize::from(to_gateway[1]) << 8 | usize::from(to_gateway[2]);
        let rest = to_gateway.split_off(8 + length);
        if kind != Kind::Pong as u8 {
            pair.gateway.feed(&to_gateway, pair.now).unwrap();
        }
        to_gateway = rest;
        if to_gateway.is_empty() {
            pair.connector
                .session
                .pump(pair.now, &mut pair.connector.out);
            to_gateway = std::mem::take(&mut pair.connector.out);
        }
    }
    assert_eq!(
        (
            pair.gateway.session.streams(),
            pair.connector.session.streams()
        ),
        (0, 0)
    );
}

#[test]
fn session_moves_between_threads() {
    fn is_send<T: Send>(_: &T) {}
    is_send(&Pair::ready().gateway.session);
}

/// Frames that are each well formed or nearly so, for ids around those in use.
#[test]
fn random_frames_never_panic() {
    let mut held = 0;
    for seed in 0..2_000u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut pair = prepared();
        let now = pair.now;
        use Kind::{
            Credit, Data, End as EndKind, GoAway, Head, Open, Ping, Pong, Publish, Published, Reset,
        };
        let to_connector = seed % 2 == 0;
        if to_connector {
            let open = std::mem::take(&mut pair.gateway.out);
            pair.connector.feed(&open, now).unwrap();
        }
        let end = if to_connector {
            &mut pair.connector
        } else {
            &mut pair.gateway
        };
        for n in 0..50 {
            let kinds = match to_connector {
                true => [
                    Ping, Pong, GoAway, Published, Open, Data, Data, Credit, Reset, EndKind,
                ],
                false => [
                    Ping, Pong, GoAway, Publish, Head, Data, Head, Credit, Reset, EndKind,
                ],
            };
            let kind = kinds[random.usize(0..kinds.len())];
            let id = StreamId::new(
                if kind == Open {
                    6 + n
                } else {
                    random.u32(0..6)
                },
                1,
            );
            let stream = match kind {
                Ping | Pong | GoAway | Publish | Published => 0,
                Credit if random.bool() => 0,
                _ => id.0,
            };
            let mut payload = match kind {
                Open => b"\0\0\x01\x01\0\x01\0\x01\0\0\0\0\0\0\0\0G/hi\0\x01\0\x01ab".to_vec(),
                Head => b"\0\x67\x01\x02\0\0\0\0\0\0\0\0\0\x02OK\0\x01\0\x01ab".to_vec(),
                Credit => vec![0, 0, random.u8(..), 1],
                Data => vec![1; random.usize(1..MAX_DATA)],
                _ => vec![0; kind.bounds().0],
            };
            if kind == Head && random.bool() {
                payload[..3].copy_from_slice(&[0, 200, 0]);
            }
            if random.u8(0..40) == 0 && !payload.is_empty() {
                let at = random.usize(0..payload.len());
                payload[at] = random.u8(..);
            }
            let bytes = frame_bytes(kind as u8, stream, &payload);
            if end.feed(&bytes, now).is_err() {
                break;
            }
            end.session.pump(now, &mut end.out);
            end.out.clear();
            held += 1;
        }
    }
    assert!(held > 2_000, "{held} frames were taken");
}

#[test]
fn verdicts_for_a_connector_that_does_not_read_are_bounded() {
    let mut pair = Pair::ready();
    let End { session, out, .. } = &mut pair.gateway;
    for n in 0..10_000u32 {
        session.send_published([n as u8; 32], false, &"long ".repeat(100), out);
    }
    assert!(
        out.len() <= limits().stage_bytes + send::CONTROL_ROOM + 1024,
        "{}",
        out.len()
    );
    pair.settle();
    let last = Seen::Published([9_999u32 as u8; 32], false, "long ".repeat(100));
    assert_eq!(pair.connector.seen.last(), Some(&last));
}

/// Bytes of streams that we gave up come back to the session all the same.
#[test]
fn dropped_bytes_do_not_use_up_the_session() {
    let mut pair = Pair::ready();
    for n in 0..100 {
        let stream = pair.open(n);
        pair.settle();
        pair.connector.head(stream);
        pair.connector.data(stream, &[1; 65_536]);
        pair.gateway.reset(stream, ResetCode::Cancelled);
        pair.settle();
        assert_eq!(pair.gateway.bytes_seen(stream), 0);
    }
    let stream = pair.open(1);
    pair.settle();
    pair.connector.head(stream);
    pair.connector.data(stream, &[1; 65_536]);
    pair.settle();
    assert_eq!(pair.gateway.bytes_seen(stream), 65_536);
}

/// What a session keeps for a slot, and for reuse, does not creep.
#[test]
fn a_stream_costs_little_and_buffers_are_reused() {
    let bytes = size_of::<slots::Stream<u32>>();
    assert!(bytes <= 192, "{bytes} bytes a slot");
    let mut pool = queue::Pool::default();
    let mut queue = queue::Queue::default();
    for size in [1usize, 700, 5_000, 16_376, 40_000].repeat(20) {
        queue.push_data(&vec![1; size], &mut pool);
        queue.push_data(&vec![1; 9_999], &mut pool);
        assert_eq!(queue.bytes(), size + 9_999);
        assert_eq!(queue.clear(&mut pool), size + 9_999);
        assert!(pool.kept().1 <= 4 * frame::MAX_DATA, "{:?}", pool.kept());
    }
    assert_eq!(pool.kept().0, 4, "as many as were in use at once");
}
