//! Credit, scheduling, pressure, publication.

use super::super::frame::{self, MAX_DATA};
use super::super::schedule;
use super::super::*;
use super::pair::*;
use std::collections::BTreeMap;
use std::time::Duration;

/// A stream with its head sent, ready to carry body bytes from connector to gateway.
fn answering(pair: &mut Pair, token: u32) -> StreamId {
    let stream = pair.open(token);
    pair.settle();
    pair.connector.head(stream);
    pair.settle();
    stream
}

#[test]
fn thousand_stalled_streams_do_not_stop_a_link() {
    const STALLED: u32 = 1000;
    let mut pair = Pair::ready();
    let stalled: Vec<StreamId> = (0..STALLED).map(|n| answering(&mut pair, n)).collect();
    for stream in &stalled {
        pair.connector.data(*stream, &[7; 200_000]);
    }
    pair.settle();
    // Their bytes stay within their credit, and the rest waits at the sender.
    for stream in &stalled {
        assert_eq!(pair.gateway.bytes_seen(*stream), STREAM_CREDIT as usize);
        assert_eq!(
            pair.connector.session.queued(*stream),
            200_000 - STREAM_CREDIT as usize
        );
    }
    pair.gateway.take_seen();
    // A pinger on the same link: each answer passes in one turn, with no byte of the stalled ones before it.
    for round in 0..1000 {
        let stream = pair.open(round);
        pair.turn();
        pair.connector.head(stream);
        pair.connector.data(stream, &[8; 1000]);
        pair.connector.end(stream);
        assert!(
            pair.connector.out.len() < 1200,
            "only the pinger's bytes are staged"
        );
        pair.turn();
        assert_eq!(pair.gateway.bytes_seen(stream), 1000);
        pair.gateway.consumed(stream, 1000);
        pair.gateway.end(stream);
        pair.turn();
        pair.gateway.take_seen();
    }
    // And bulk flows at full speed: 64 MiB in as many turns as its window needs.
    let bulk = answering(&mut pair, 5000);
    let mut turns = 0;
    let mut left = 64 << 20;
    while left > 0 {
        turns += 1;
        if pair.connector.session.queued(bulk) == 0 {
            pair.connector.data(bulk, &vec![9; 1 << 20]);
        }
        pair.turn();
        let got = pair.gateway.bytes_seen(bulk);
        pair.gateway.take_seen();
        pair.gateway.consumed(bulk, got);
        left -= got.min(left);
    }
    assert!(
        turns < 2000,
        "{turns} turns for 64 MiB with {STALLED} stalled streams"
    );
}

#[test]
fn credit_grows_with_use_and_not_for_slow_readers() {
    let mut pair = Pair::ready();
    let fast = answering(&mut pair, 1);
    let mut peak = 0;
    for _ in 0..200 {
        pair.advance(Duration::from_millis(1));
        pair.connector.data(fast, &vec![1; 2 << 20]);
        pair.settle();
        let got = pair.gateway.bytes_seen(fast);
        peak = peak.max(got);
        pair.gateway.take_seen();
        pair.gateway.consumed(fast, got);
        if peak == 1 << 20 {
            break;
        }
    }
    assert_eq!(peak, 1 << 20, "grown to max_stream_credit");

    let mut pair = Pair::ready();
    let slow = answering(&mut pair, 1);
    pair.connector.data(slow, &vec![1; 8 << 20]);
    for _ in 0..50 {
        pair.advance(Duration::from_secs(1));
        pair.settle();
        let got = pair.gateway.bytes_seen(slow);
        assert!(got <= STREAM_CREDIT as usize);
        pair.gateway.take_seen();
        pair.gateway.consumed(slow, got);
    }
}

#[test]
fn configured_windows_are_granted_from_the_start() {
    let large = SessionLimits {
        initial_stream_credit: 256 << 10,
        session_credit: 4 << 20,
        stage_bytes: 8 << 20,
        ..limits()
    };
    let mut pair = Pair::with_limits(large, large);
    let stream = answering(&mut pair, 1);
    pair.connector.data(stream, &vec![1; 1 << 20]);
    pair.settle();
    assert_eq!(pair.gateway.bytes_seen(stream), 256 << 10);
    pair.gateway.data(stream, &vec![1; 1 << 20]);
    pair.settle();
    assert_eq!(pair.connector.bytes_seen(stream), 256 << 10);
}

#[test]
fn directions_are_independent() {
    let mut pair = Pair::ready();
    let stream = answering(&mut pair, 1);
    pair.connector.data(stream, &[1; 100_000]);
    pair.settle();
    // The gateway's client reads nothing; the request body flows all the same.
    let mut sent = 0;
    while sent < 4 << 20 {
        pair.gateway.data(stream, &[2; 10_000]);
        sent += 10_000;
        pair.settle();
        let got = pair.connector.bytes_seen(stream);
        pair.connector.take_seen();
        pair.connector.consumed(stream, got);
    }
    pair.settle();
    assert_eq!(pair.gateway.session.queued(stream), 0);
}

#[test]
fn pressure_withholds_stream_credit_and_gives_it_back() {
    let mut pair = Pair::ready();
    let stream = answering(&mut pair, 1);
    pair.gateway.session.set_pressure(true);
    pair.connector.data(stream, &[1; 300_000]);
    pair.settle();
    pair.gateway.consumed(stream, STREAM_CREDIT as usize);
    pair.settle();
    assert_eq!(
        pair.gateway.bytes_seen(stream),
        STREAM_CREDIT as usize,
        "no credit under pressure"
    );
    pair.gateway.session.set_pressure(false);
    pair.turn();
    pair.settle();
    assert!(pair.gateway.bytes_seen(stream) >= 2 * STREAM_CREDIT as usize);
}

#[test]
fn pressure_does_not_touch_session_credit() {
    let mut pair = Pair::ready();
    pair.gateway.session.set_pressure(true);
    for n in 0..64 {
        let stream = answering(&mut pair, n);
        pair.connector.data(stream, &[1; 65_536]);
        pair.settle();
        assert_eq!(pair.gateway.bytes_seen(stream), 65_536, "stream {n}");
    }
}

/// Little is staged at once, so that streams wait for their turn.
fn narrow() -> Pair {
    let narrow = SessionLimits {
        stage_bytes: 20_000,
        ..limits()
    };
    Pair::with_limits(narrow, narrow)
}

#[test]
fn small_exchange_overtakes_bulk() {
    let mut pair = narrow();
    let bulk: Vec<StreamId> = (0..50).map(|n| answering(&mut pair, n)).collect();
    let ping = answering(&mut pair, 99);
    for stream in &bulk {
        pair.connector.data(*stream, &[1; 60_000]);
    }
    assert!(
        pair.connector.session.queued_bytes() > 0,
        "the link is backlogged"
    );
    pair.connector.data(ping, b"small");
    pair.turn();
    assert_eq!(pair.gateway.bytes_seen(ping), 0);
    pair.turn();
    assert_eq!(
        pair.gateway.bytes_seen(ping),
        5,
        "first in the next staging"
    );
}

#[test]
fn round_robin_is_fair_within_a_quantum_and_a_frame() {
    let wide = SessionLimits {
        initial_stream_credit: 16 << 20,
        session_credit: 64 << 20,
        ..limits()
    };
    let mut pair = Pair::with_limits(wide, wide);
    let sizes = [100usize, 1_000, 5_000, 16_376, 40_000, 300_000];
    let streams: Vec<StreamId> = (0..sizes.len() as u32)
        .map(|n| answering(&mut pair, n))
        .collect();
    let mut got: BTreeMap<u32, usize> = BTreeMap::new();
    for _ in 0..400 {
        // Each keeps a backlog, written in pieces of its own size.
        for (stream, size) in streams.iter().zip(sizes) {
            while pair.connector.session.queued(*stream) < 400_000 {
                pair.connector.data(*stream, &vec![1; size]);
            }
        }
        pair.turn();
        for stream in &streams {
            let n = pair.gateway.bytes_seen(*stream);
            *got.entry(stream.0).or_default() += n;
            pair.gateway.consumed(*stream, n);
        }
        pair.gateway.take_seen();
        let (least, most) = (got.values().min().unwrap(), got.values().max().unwrap());
        // What was sent at once, before anything waited, went outside of the turns.
        let at_once = limits().stage_bytes + MAX_DATA;
        assert!(
            most - least <= schedule::QUANTUM as usize + MAX_DATA + frame::HEADER + at_once,
            "{got:?}"
        );
    }
    assert!(got.values().all(|n| *n > 4 << 20), "{got:?}");
}

#[test]
fn producers_that_refill_in_small_steps_cannot_starve_bulk() {
    const BUSY: usize = 10;
    let mut pair = narrow();
    let bulk = answering(&mut pair, 1);
    let busy: Vec<StreamId> = (0..BUSY as u32)
        .map(|n| answering(&mut pair, 2 + n))
        .collect();
    let (mut of_bulk, mut of_busy) = (0, 0);
    for _ in 0..2000 {
        if pair.connector.session.queued(bulk) < 100_000 {
            pair.connector.data(bulk, &vec![1; 200_000]);
        }
        // Together they could fill each staging, and each time as streams that just woke.
        for stream in &busy {
            if pair.connector.session.queued(*stream) == 0 {
                pair.connector.data(*stream, &[2; 4_000]);
            }
        }
        pair.turn();
        for stream in busy.iter().chain([&bulk]) {
            let bytes = pair.gateway.bytes_seen(*stream);
            *(if *stream == bulk {
                &mut of_bulk
            } else {
                &mut of_busy
            }) += bytes;
            pair.gateway.consumed(*stream, bytes);
        }
        pair.gateway.take_seen();
    }
    assert!(
        of_bulk > of_busy / BUSY,
        "bulk {of_bulk} against {BUSY} with {of_busy}"
    );
}

#[test]
fn streams_wait_for_session_credit_and_go_on_when_it_comes() {
    let wide = SessionLimits {
        initial_stream_credit: 4 << 20,
        stage_bytes: 8 << 20,
        ..limits()
    };
    let mut pair = Pair::with_limits(wide, wide);
    let (first, second) = (answering(&mut pair, 1), answering(&mut pair, 2));
    pair.connector.data(first, &vec![1; 2 << 20]);
    pair.connector.data(second, &vec![2; 2 << 20]);
    let now = pair.now;
    let End { session, out, .. } = &mut pair.connector;
    session.pump(now, out);
    let staged = out.len();
    assert!(
        (1 << 20..(1 << 20) + 2000).contains(&staged),
        "{staged}: the session's credit"
    );
    // A head needs none.
    let third = pair.open(3);
    pair.connector.inbox.append(&mut pair.gateway.out);
    pair.connector.read(now);
    pair.connector.head(third);
    assert!(pair.connector.out.len() > staged);
    pair.settle();
    assert_eq!(pair.gateway.bytes_seen(first), 2 << 20);
    assert_eq!(pair.gateway.bytes_seen(second), 2 << 20);
}

#[test]
fn no_credit_goes_to_a_peer_that_has_ended() {
    let mut pair = Pair::ready();
    let stream = answering(&mut pair, 1);
    pair.connector.data(stream, &[1; 60_000]);
    pair.connector.end(stream);
    pair.settle();
    pair.gateway.consumed(stream, 60_000);
    assert_eq!(pair.gateway.out.len(), 0);
}

#[test]
fn order_within_a_stream_is_kept_behind_a_backlog() {
    let mut pair = narrow();
    let first = answering(&mut pair, 1);
    pair.connector.data(first, &vec![1; 400_000]);
    let second = pair.open(2);
    pair.connector.inbox.append(&mut pair.gateway.out);
    pair.connector.read(pair.now);
    pair.connector.head(second);
    pair.connector.data(second, b"abc");
    pair.connector.data(second, b"def");
    pair.connector.end(second);
    assert!(pair.connector.session.queued(second) > 0);
    pair.settle();
    let of_second: Vec<Seen> = joined(pair.gateway.take_seen())
        .into_iter()
        .filter(|seen| match seen {
            Seen::Head { stream, .. } | Seen::Data { stream, .. } | Seen::End { stream, .. } => {
                *stream == second
            }
            _ => false,
        })
        .collect();
    assert_eq!(
        of_second,
        [
            Seen::Head {
                stream: second,
                token: 2,
                status: 200,
                interim: false
            },
            Seen::Data {
                stream: second,
                token: 2,
                bytes: b"abcdef".to_vec()
            },
            Seen::End {
                stream: second,
                token: 2,
                trailers: Vec::new()
            },
        ]
    );
}

#[test]
fn reset_before_open_left_tells_the_peer_nothing() {
    let mut pair = narrow();
    let bulk = answering(&mut pair, 1);
    pair.gateway.data(bulk, &vec![1; 400_000]);
    let stream = pair.open(2);
    pair.gateway.data(stream, b"body");
    assert!(pair.gateway.session.queued(stream) > 0);
    pair.gateway.reset(stream, ResetCode::Cancelled);
    let next = pair.open(3);
    assert_ne!(next, stream);
    pair.settle();
    let opened = |seen: &&Seen| matches!(seen, Seen::Open { stream, .. } if *stream == next);
    assert_eq!(pair.connector.seen.iter().filter(opened).count(), 1);
    assert!(
        !pair
            .connector
            .seen
            .iter()
            .any(|s| matches!(s, Seen::Reset { .. }))
    );
}

#[test]
fn drained_tells_once_when_a_queue_ran_empty() {
    let mut pair = Pair::ready();
    let stream = answering(&mut pair, 1);
    assert_eq!(pair.connector.session.poll_drained(), None);
    pair.connector.data(stream, &vec![1; 100_000]);
    pair.settle();
    assert_eq!(
        pair.connector.session.poll_drained(),
        None,
        "it still waits for credit"
    );
    pair.gateway.consumed(stream, STREAM_CREDIT as usize);
    pair.settle();
    assert_eq!(
        pair.connector.session.poll_drained(),
        Some((stream, stream.slot() as u32))
    );
    assert_eq!(pair.connector.session.poll_drained(), None);
}

fn document(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| (n % 251) as u8).collect()
}

#[test]
fn settings_arrive_whole_and_in_order() {
    for size in [0, 1, 16_336, 16_337, 1_000_000] {
        let mut pair = Pair::ready();
        let End { session, out, .. } = &mut pair.connector;
        assert!(session.publish([3; 32], document(size), out));
        pair.settle();
        let mut whole = Vec::new();
        for seen in pair.gateway.take_seen() {
            let Seen::Publish {
                hash,
                total,
                offset,
                bytes,
            } = seen
            else {
                panic!("{seen:?}")
            };
            assert_eq!(
                (hash, total as usize, offset as usize),
                ([3; 32], size, whole.len())
            );
            whole.extend(bytes);
        }
        assert_eq!(whole, document(size));
        let End { session, out, .. } = &mut pair.gateway;
        session.send_published([3; 32], false, "unknown route", out);
        pair.settle();
        let verdict = Seen::Published([3; 32], false, "unknown route".to_owned());
        assert_eq!(pair.connector.take_seen(), [verdict]);
    }
}

#[test]
fn settings_neither_delay_streams_nor_starve() {
    let mut pair = Pair::ready();
    let stream = answering(&mut pair, 1);
    let End { session, out, .. } = &mut pair.connector;
    session.publish([3; 32], document(16 << 20), out);
    // An answer that comes meanwhile finds two chunks before it at most.
    pair.turn();
    pair.connector.data(stream, b"now");
    pair.turn();
    assert_eq!(pair.gateway.bytes_seen(stream), 3);
    let before: usize = pair
        .gateway
        .seen
        .iter()
        .filter(|s| matches!(s, Seen::Publish { .. }))
        .count();
    assert!(before <= 6, "{before}");
}

#[test]
fn settings_get_their_share_of_a_saturated_link_and_no_more() {
    let wide = SessionLimits {
        initial_stream_credit: 8 << 20,
        session_credit: 16 << 20,
        ..limits()
    };
    let mut pair = Pair::with_limits(wide, wide);
    let stream = answering(&mut pair, 1);
    pair.connector.data(stream, &vec![1; 1 << 20]);
    let End { session, out, .. } = &mut pair.connector;
    session.publish([3; 32], document(16 << 20), out);
    let (mut bulk, mut published) = (0usize, 0usize);
    for _ in 0..600 {
        if pair.connector.session.queued(stream) < 500_000 {
            pair.connector.data(stream, &vec![1; 1 << 20]);
        }
        pair.turn();
        let got = pair.gateway.bytes_seen(stream);
        bulk += got;
        pair.gateway.consumed(stream, got);
        for seen in pair.gateway.take_seen() {
            published += usize::from(matches!(seen, Seen::Publish { .. }));
        }
    }
    let share = bulk >> 20;
    assert!(
        (share - 2..=share + 2).contains(&published),
        "{published} chunks, {bulk} of body"
    );
}

#[test]
fn new_document_abandons_the_one_before() {
    let mut pair = Pair::ready();
    let End { session, out, .. } = &mut pair.connector;
    session.publish([1; 32], document(1 << 20), out);
    session.publish([2; 32], document(10), out);
    pair.settle();
    let last = Seen::Publish {
        hash: [2; 32],
        total: 10,
        offset: 0,
        bytes: document(10),
    };
    assert_eq!(pair.gateway.seen.last(), Some(&last));
    let End { session, out, .. } = &mut pair.connector;
    assert!(
        !session.publish([3; 32], vec![0; MAX_DOCUMENT + 1], out),
        "too large"
    );
}
