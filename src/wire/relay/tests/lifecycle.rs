//! Handshake, streams' lives, GOAWAY, liveness.

use super::super::*;
use super::pair::*;
use std::time::Duration;

fn resets(seen: &[Seen]) -> usize {
    seen.iter()
        .filter(|s| matches!(s, Seen::Reset { .. }))
        .count()
}

#[test]
fn whole_exchange() {
    let mut pair = Pair::ready();
    let stream = pair.open(42);
    pair.gateway.data(stream, b"question");
    pair.gateway.end(stream);
    pair.settle();
    pair.connector.interim(stream);
    pair.connector.head(stream);
    pair.connector.data(stream, b"answer");
    pair.connector.end(stream);
    pair.settle();
    let token = stream.slot() as u32;
    assert_eq!(
        pair.connector.seen[1],
        Seen::Data {
            stream,
            token,
            bytes: b"question".to_vec()
        }
    );
    assert_eq!(
        pair.connector.seen[2],
        Seen::End {
            stream,
            token,
            trailers: Vec::new()
        }
    );
    assert_eq!(
        pair.gateway.seen,
        [
            Seen::Head {
                stream,
                token: 42,
                status: 103,
                interim: true
            },
            Seen::Head {
                stream,
                token: 42,
                status: 200,
                interim: false
            },
            Seen::Data {
                stream,
                token: 42,
                bytes: b"answer".to_vec()
            },
            Seen::End {
                stream,
                token: 42,
                trailers: Vec::new()
            },
        ]
    );
    assert_eq!(
        (
            pair.gateway.session.streams(),
            pair.connector.session.streams()
        ),
        (0, 0)
    );
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verb {
    End,
    Reset,
}

/// END and RESET of both sides in every order, each either seen by the other side before it acts, or crossing.
#[test]
fn end_and_reset_cross_in_all_orders() {
    use Verb::{End, Reset};
    let scripts: [&[Verb]; 4] = [&[End], &[Reset], &[End, Reset], &[]];
    for ours in scripts {
        for theirs in scripts {
            for turns in 0..64u32 {
                cross(ours, theirs, turns);
            }
        }
    }
}

/// Interleaves the two scripts by the bits of `turns`: bit set, the wire moves before the next verb.
fn cross(ours: &[Verb], theirs: &[Verb], turns: u32) {
    let mut pair = Pair::ready();
    let stream = pair.open(1);
    pair.settle();
    pair.connector.head(stream);
    pair.settle();
    let verbs = ours
        .iter()
        .map(|v| (true, *v))
        .zip(theirs.iter().map(|v| (false, *v)));
    let mut order: Vec<(bool, Verb)> = verbs.flat_map(|(a, b)| [a, b]).collect();
    order.extend(ours.iter().skip(theirs.len()).map(|v| (true, *v)));
    order.extend(theirs.iter().skip(ours.len()).map(|v| (false, *v)));
    if turns & 32 != 0 {
        order.reverse();
        order.sort_by_key(|(gateway, v)| (*v == Verb::Reset, *gateway));
    }
    for (at, (gateway, verb)) in order.iter().enumerate() {
        let end = if *gateway {
            &mut pair.gateway
        } else {
            &mut pair.connector
        };
        let gone = end.seen.iter().any(|s| matches!(s, Seen::Reset { .. }));
        match verb {
            Verb::End if !gone => end.end(stream),
            Verb::End => {}
            Verb::Reset => end.reset(stream, ResetCode::Cancelled),
        }
        if turns >> at & 1 == 1 {
            pair.turn();
        }
    }
    pair.settle();
    let (a, b) = (
        pair.gateway.session.streams(),
        pair.connector.session.streams(),
    );
    assert_eq!(a, b, "{ours:?} {theirs:?} {turns:b}");
    let both_ended = !ours.is_empty() && !theirs.is_empty();
    let reset = ours.contains(&Verb::Reset) || theirs.contains(&Verb::Reset);
    assert_eq!(a == 0, both_ended || reset, "{ours:?} {theirs:?} {turns:b}");
    assert!(resets(&pair.gateway.seen) <= 1 && resets(&pair.connector.seen) <= 1);
    assert_eq!(
        pair.gateway.session.queued_bytes() + pair.connector.session.queued_bytes(),
        0
    );
    // The slot serves again.
    if a == 0 {
        let next = pair.open(2);
        assert_ne!(next, stream);
        assert_eq!(next.slot(), stream.slot());
        pair.settle();
        pair.connector.head(next);
        pair.connector.end(next);
        pair.gateway.end(next);
        pair.settle();
        assert_eq!(pair.gateway.session.streams(), 0);
    }
}

#[test]
fn reset_answers_and_drops_what_was_on_the_way() {
    let mut pair = Pair::ready();
    let stream = pair.open(1);
    pair.settle();
    pair.connector.head(stream);
    pair.connector.data(stream, &[1; 50_000]);
    pair.gateway.reset(stream, ResetCode::Cancelled);
    assert_eq!(
        pair.gateway.session.streams(),
        1,
        "kept until the peer has ended too"
    );
    assert_eq!(pair.gateway.session.tokens().count(), 0);
    pair.settle();
    assert_eq!(pair.gateway.take_seen(), []);
    assert_eq!(resets(&pair.connector.take_seen()), 1);
    assert_eq!(
        (
            pair.gateway.session.streams(),
            pair.connector.session.streams()
        ),
        (0, 0)
    );
    pair.connector.data(stream, b"late verb");
    pair.connector.end(stream);
    pair.settle();
    assert_eq!(pair.gateway.take_seen(), []);
}

#[test]
fn id_is_not_reused_before_both_have_ended() {
    let mut pair = Pair::with_limits(
        limits(),
        SessionLimits {
            streams: 1,
            ..limits()
        },
    );
    let first = pair.open(1);
    assert!(
        !pair.gateway.session.can_open(),
        "the connector announced one stream"
    );
    pair.settle();
    pair.gateway.end(first);
    pair.settle();
    assert!(!pair.gateway.session.can_open());
    pair.connector.head(first);
    pair.connector.end(first);
    assert!(!pair.gateway.session.can_open());
    pair.settle();
    assert!(pair.gateway.session.can_open());
    let mut ids = vec![first];
    for _ in 0..5000 {
        let id = pair.open(1);
        let recent = &ids[ids.len().saturating_sub(4094)..];
        assert!(id.0 != 0 && !recent.contains(&id), "{id:?} came back early");
        ids.push(id);
        pair.turn();
        pair.connector.reset(id, ResetCode::Refused);
        pair.turn();
        pair.turn();
    }
}

#[test]
fn stream_that_is_not_attached_is_reset() {
    let mut pair = Pair::ready();
    let stream = pair.open(1);
    pair.gateway.data(stream, b"x");
    pair.gateway.end(stream);
    let bytes = std::mem::take(&mut pair.gateway.out);
    let (mut used, now) = (0, pair.now);
    let End { session, out, .. } = &mut pair.connector;
    assert!(matches!(
        session.next(&bytes, &mut used, now, out),
        Ok(Some(Event::Open { .. }))
    ));
    assert!(matches!(
        session.next(&bytes, &mut used, now, out),
        Ok(None)
    ));
    pair.settle();
    assert_eq!(resets(&pair.gateway.take_seen()), 1);
    assert_eq!(
        (
            pair.gateway.session.streams(),
            pair.connector.session.streams()
        ),
        (0, 0)
    );
}

#[test]
fn head_comes_before_body_on_the_connectors_side() {
    let mut pair = Pair::ready();
    let stream = pair.open(1);
    pair.settle();
    pair.connector.data(stream, b"no head yet");
    pair.settle();
    let seen = pair.gateway.take_seen();
    assert!(matches!(
        seen[..],
        [Seen::Reset {
            code: ResetCode::Internal,
            ..
        }]
    ));
}

#[test]
fn interim_heads_are_bounded() {
    let mut pair = Pair::ready();
    let stream = pair.open(1);
    pair.settle();
    for _ in 0..100 {
        pair.connector.interim(stream);
    }
    pair.connector.head(stream);
    pair.settle();
    assert_eq!(pair.gateway.seen.len(), usize::from(MAX_INTERIM) + 1);
}

#[test]
fn trailers_arrive() {
    let mut pair = Pair::ready();
    let stream = pair.open(1);
    let End { session, out, .. } = &mut pair.gateway;
    session.send_end(
        stream,
        &mut [Field {
            name: b"sum",
            value: b"1",
        }]
        .into_iter(),
        out,
    );
    pair.settle();
    let trailers = vec![(b"sum".to_vec(), b"1".to_vec())];
    assert_eq!(
        pair.connector.seen[1],
        Seen::End {
            stream,
            token: 0,
            trailers
        }
    );
}

#[test]
fn go_away_stops_new_streams_and_lets_old_ones_finish() {
    for by_gateway in [true, false] {
        let mut pair = Pair::ready();
        let stream = pair.open(1);
        pair.settle();
        let (deadline, delay) = (Duration::from_secs(30), Duration::from_millis(1500));
        let end = if by_gateway {
            &mut pair.gateway
        } else {
            &mut pair.connector
        };
        end.session.send_go_away(deadline, delay, &mut end.out);
        pair.settle();
        let other = if by_gateway {
            &mut pair.connector
        } else {
            &mut pair.gateway
        };
        assert_eq!(
            other.take_seen().last(),
            Some(&Seen::GoAway(deadline, delay))
        );
        assert!(!pair.gateway.session.can_open());
        let End { session, out, .. } = &mut pair.gateway;
        assert_eq!(session.open(2, &mut opening(), out), None);
        pair.connector.head(stream);
        pair.connector.end(stream);
        pair.gateway.end(stream);
        pair.settle();
        assert_eq!(pair.gateway.session.streams(), 0);
    }
}

/// A frame that was sent goes out again as it was, under the id that it has there.
#[test]
fn one_frame_opens_a_stream_on_each_of_two_sessions() {
    let mut pairs = [Pair::ready(), Pair::ready()];
    // The second session has used a slot's first generation already.
    let used = pairs[1].open(1);
    pairs[1].gateway.reset(used, ResetCode::Cancelled);
    pairs[1].settle();
    pairs[1].connector.take_seen();
    let mut frame = opening();
    let ids = pairs.each_mut().map(|pair| {
        let End { session, out, .. } = &mut pair.gateway;
        let id = session.open(9, &mut frame, out).expect("a stream is free");
        pair.settle();
        id
    });
    assert_ne!(ids[0], ids[1]);
    let seen = pairs.each_mut().map(|pair| pair.connector.take_seen());
    for (id, seen) in ids.iter().zip(&seen) {
        let Seen::Open { stream, head, .. } = &seen[0] else {
            panic!("{seen:?}");
        };
        assert_eq!(stream, id);
        assert!(head.starts_with(b"GET /mp/x?y=1 mp.example r-1"));
    }
}

#[test]
fn only_the_receiver_of_go_away_knows_that_its_peer_leaves() {
    let mut pair = Pair::ready();
    let End { session, out, .. } = &mut pair.connector;
    session.send_go_away(Duration::ZERO, Duration::ZERO, out);
    pair.settle();
    assert!(pair.gateway.session.peer_leaves());
    assert!(!pair.connector.session.peer_leaves());
}

#[test]
fn open_that_crosses_go_away_is_served() {
    let mut pair = Pair::ready();
    let End { session, out, .. } = &mut pair.connector;
    session.send_go_away(Duration::ZERO, Duration::ZERO, out);
    let stream = pair.open(1);
    pair.settle();
    pair.connector.head(stream);
    pair.settle();
    assert!(matches!(pair.gateway.seen[1], Seen::Head { .. }));
}

#[test]
fn version_that_we_do_not_speak_is_refused_with_a_reason() {
    let mut pair = Pair::fresh(limits(), limits());
    let End { session, out, .. } = &mut pair.connector;
    session.send_hello(
        &Hello {
            versions: (2, 9),
            ..hello()
        },
        out,
    );
    let bytes = std::mem::take(&mut pair.connector.out);
    let error = pair.gateway.feed(&bytes, pair.now).unwrap_err();
    assert_eq!(error.fault, Fault::Version);
    let answer = std::mem::take(&mut pair.gateway.out);
    pair.connector.feed(&answer, pair.now).unwrap();
    assert!(matches!(
        pair.connector.seen[..],
        [Seen::Refused(refusal::VERSION, _)]
    ));
}

#[test]
fn refusal_ends_the_session_for_both() {
    let mut pair = Pair::ready();
    let stream = pair.open(1);
    pair.settle();
    let End { session, out, .. } = &mut pair.gateway;
    session.send_refused(refusal::REPLACED, "newer link", out);
    let end = out.len();
    session.send_data(stream, b"x", out);
    session.send_end(stream, &mut no_fields(), out);
    assert_eq!(session.open(2, &mut opening(), out), None);
    session.pump(pair.now, out);
    assert_eq!(out.len(), end, "nothing after REFUSE");
    assert_eq!(
        session.tokens().count(),
        1,
        "its owner still finds what the link carried"
    );
    pair.turn();
    let refused = Seen::Refused(refusal::REPLACED, "newer link".to_owned());
    assert_eq!(pair.connector.seen.last(), Some(&refused));
    pair.connector.feed(b"whatever", pair.now).unwrap();
    assert!(
        pair.connector
            .timeout(pair.now + Duration::from_secs(100))
            .is_ok()
    );
}

#[test]
fn handshake_has_a_deadline() {
    let mut pair = Pair::fresh(limits(), limits());
    assert_eq!(
        pair.gateway.session.next_deadline(),
        pair.now + HANDSHAKE_TIMEOUT
    );
    assert!(
        pair.gateway
            .timeout(pair.now + HANDSHAKE_TIMEOUT - Duration::from_millis(1))
            .is_ok()
    );
    let error = pair
        .gateway
        .timeout(pair.now + HANDSHAKE_TIMEOUT)
        .unwrap_err();
    assert_eq!(error.fault, Fault::Dead);
}

/// Moves time to the gateway's deadlines; `answer` decides what reaches it. Gives when it gave up.
fn run_timers(pair: &mut Pair, answer: impl Fn(&mut Pair)) -> Option<Duration> {
    let start = pair.now;
    while pair.now < start + Duration::from_secs(120) {
        pair.now = pair.gateway.session.next_deadline();
        if let Err(error) = pair.gateway.timeout(pair.now) {
            assert_eq!(error.fault, Fault::Dead);
            return Some(pair.now - start);
        }
        answer(pair);
    }
    None
}

#[test]
fn silent_peer_is_dead_after_two_misses() {
    let mut pair = Pair::ready();
    let died = run_timers(&mut pair, |pair| pair.gateway.out.clear());
    assert_eq!(died, Some(Duration::from_secs(10)));
}

#[test]
fn peer_that_talks_but_does_not_answer_is_dead_after_15_s() {
    let mut pair = Pair::ready();
    let died = run_timers(&mut pair, |pair| {
        pair.gateway.out.clear();
        pair.now += Duration::from_millis(1);
        let End { session, out, .. } = &mut pair.connector;
        session.send_go_away(Duration::ZERO, Duration::ZERO, out);
        let bytes = std::mem::take(out);
        pair.gateway.feed(&bytes, pair.now).unwrap();
    });
    assert_eq!(died, Some(Duration::from_secs(15)));
}

#[test]
fn peer_that_answers_lives_and_round_trips_are_told() {
    let mut pair = Pair::ready();
    let died = run_timers(&mut pair, |pair| {
        pair.connector.inbox.append(&mut pair.gateway.out);
        pair.advance(Duration::from_millis(3));
        pair.connector.read(pair.now);
        pair.advance(Duration::from_millis(4));
        pair.turn();
    });
    assert_eq!(died, None);
    assert!(pair.gateway.seen.len() > 20);
    let expected = Seen::RoundTrip(Duration::from_millis(7));
    assert!(pair.gateway.seen.iter().all(|seen| *seen == expected));
}

#[test]
fn pause_of_the_process_does_not_kill_a_living_peer() {
    let mut pair = Pair::ready();
    pair.gateway.timeout(pair.now).unwrap();
    pair.advance(Duration::from_secs(300));
    assert!(
        pair.gateway.timeout(pair.now).is_ok(),
        "one miss, whatever the clock says"
    );
    pair.settle();
    pair.advance(PING_INTERVAL);
    assert!(pair.gateway.timeout(pair.now).is_ok());
}
