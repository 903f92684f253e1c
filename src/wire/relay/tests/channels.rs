//! Channel frames: what passes, what does not, and their part of the link.

use super::super::frame::{HEADER, MAX_DATA};
use super::super::*;
use super::pair::*;
use super::robust::{error_of, frame_bytes};

fn key(n: u32) -> ChannelKey {
    ChannelKey {
        slot: n,
        generation: !n,
    }
}

fn up(n: u32, client: &str) -> ChannelUp<'_> {
    ChannelUp {
        key: key(n),
        kind: ChannelKind::EventStream,
        auth: ChannelAuth::Certificate,
        since: n,
        client,
    }
}

const PUSH: PushId = PushId([7; 16]);

#[test]
fn all_frames_come_back_as_they_were() {
    let mut pair = Pair::with_channels();
    let longest = "~".repeat(MAX_CLIENT_ID);
    let ups: Vec<Up> = [
        (ChannelKind::EventStream, ChannelAuth::Certificate, "!"),
        (ChannelKind::WebSocket, ChannelAuth::Token, &longest),
        (
            ChannelKind::LongPoll,
            ChannelAuth::Certificate,
            "cert:corp/x",
        ),
    ]
    .into_iter()
    .zip([0, 1, u32::MAX])
    .map(|((kind, auth, client), n)| {
        Up::of(ChannelUp {
            kind,
            auth,
            ..up(n, client)
        })
    })
    .collect();
    use DownReason::*;
    let downs = [
        Other, Left, Lost, Answered, Closed, Draining, Revoked, Misbehaved,
    ]
    .map(|reason| ChannelDown {
        key: key(3),
        reason,
    });
    let fates =
        [Fate::Sent, Fate::Gone, Fate::Dropped].map(|fate| ChannelFate { key: key(4), fate });
    let totals = Totals {
        sent: u32::MAX,
        gone: 0,
        dropped: 7,
    };
    let clients = ["cert:corp/pc-1".to_owned(), "c".repeat(MAX_CLIENT_ID)];
    let receipts = clients.map(|client| (PUSH, client));

    let End { session, out, .. } = &mut pair.gateway;
    let mut batch = Ups::default();
    assert!(ups.iter().all(|up| batch.push(&up.borrow())));
    assert!(session.send_batch(&mut batch, out));
    let mut batch = Downs::default();
    assert!(downs.iter().all(|down| batch.push(*down)));
    assert!(session.send_batch(&mut batch, out));
    let mut batch = Outcomes::new(PUSH);
    assert!(fates.iter().all(|fate| batch.push(*fate)));
    assert!(session.send_batch(&mut batch, out));
    let mut batch = Summary::default();
    assert!(batch.is_empty());
    batch.set(PUSH, totals);
    assert!(session.send_batch(&mut batch, out));
    let mut batch = Receipts::default();
    for (push, client) in &receipts {
        let (push, client) = (*push, client.as_str());
        assert!(batch.push(Receipt { push, client }));
    }
    assert!(session.send_batch(&mut batch, out));

    let closes = [
        CloseReason::Other,
        CloseReason::Replaced,
        CloseReason::Denied,
        CloseReason::Requested,
    ]
    .map(|reason| ChannelClose {
        key: key(5),
        reason,
    });
    let End { session, out, .. } = &mut pair.connector;
    let mut batch = Closes::default();
    assert!(closes.iter().all(|close| batch.push(*close)));
    assert!(session.send_batch(&mut batch, out));
    let mut batch = Notification::new(PUSH, false, b"").unwrap();
    assert!(batch.is_empty() && batch.push(key(1)) && batch.push(key(2)));
    assert!(session.send_batch(&mut batch, out));
    batch.clear();
    assert!(batch.is_empty(), "the push stays, its channels go");
    batch.to_all();
    assert!(session.send_batch(&mut batch, out));
    let longest = vec![0xff; MAX_PUSH];
    assert!(batch.restart(PUSH, true, &longest) && batch.push(key(9)));
    assert!(session.send_batch(&mut batch, out));
    assert!(!batch.restart(PUSH, true, &vec![0; MAX_PUSH + 1]));

    pair.settle();
    assert_eq!(
        pair.connector.take_seen(),
        [
            Seen::Ups {
                starts: false,
                ends: false,
                channels: ups
            },
            Seen::Downs(downs.to_vec()),
            Seen::Fates(PUSH, fates.to_vec()),
            Seen::Totals(PUSH, totals),
            Seen::Receipts(receipts.to_vec()),
        ]
    );
    assert_eq!(
        pair.gateway.take_seen(),
        [
            Seen::Closes(closes.to_vec()),
            Seen::Notify(PUSH, false, Some(vec![key(1), key(2)]), vec![]),
            Seen::Notify(PUSH, false, None, vec![]),
            Seen::Notify(PUSH, true, Some(vec![key(9)]), longest),
        ]
    );
}

#[test]
fn batches_fill_a_frame_and_no_more() {
    let mut pair = Pair::with_channels();
    let mut sizes = Vec::new();
    let mut batch = Notification::new(PUSH, false, &[1; MAX_PUSH]).unwrap();
    let mut count = 0;
    while batch.push(key(count)) {
        count += 1;
    }
    assert_eq!(count as usize, (MAX_DATA - 19 - MAX_PUSH) / 8);
    let End { session, out, .. } = &mut pair.connector;
    assert!(session.send_batch(&mut batch, out));
    sizes.push(out.len());

    let End { session, out, .. } = &mut pair.gateway;
    let mut ups = Ups::default();
    let client = "c".repeat(50);
    let mut count = 0;
    while ups.push(&up(count, &client)) {
        count += 1;
    }
    assert_eq!(count as usize, (MAX_DATA - 1) / 65);
    assert!(session.send_batch(&mut ups, out));
    let (mut receipts, mut count) = (Receipts::default(), 0);
    let receipt = Receipt {
        push: PUSH,
        client: "pc-1234",
    };
    while receipts.push(receipt) {
        count += 1;
    }
    assert_eq!(count, MAX_DATA / 24);
    assert!(session.send_batch(&mut receipts, out));
    sizes.push(out.len());
    assert!(sizes.iter().all(|size| *size <= 2 * (HEADER + MAX_DATA)));
    pair.settle();
    assert_eq!((pair.gateway.seen.len(), pair.connector.seen.len()), (1, 2));
}

#[test]
fn empty_batches_are_not_sent_but_an_empty_list_is() {
    let mut pair = Pair::with_channels();
    let End { session, out, .. } = &mut pair.gateway;
    let mut ups = Ups::default();
    assert!(session.send_batch(&mut ups, out) && session.send_batch(&mut Downs::default(), out));
    assert!(out.is_empty());
    ups.start_list();
    ups.end_list();
    assert!(session.send_batch(&mut ups, out));
    ups.clear();
    assert!(ups.is_empty());
    pair.settle();
    let list = Seen::Ups {
        starts: true,
        ends: true,
        channels: vec![],
    };
    assert_eq!(pair.connector.take_seen(), [list]);
}

/// Payloads of each kind that are wrong, and why.
fn malformed() -> Vec<(Kind, Vec<u8>, &'static str)> {
    let up = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = vec![0, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1, 0, 0, 0, 9, 2, b'a', b'b'];
        change(&mut bytes);
        bytes
    };
    let notify = |flags: u8, length: u16, rest: usize| {
        let mut bytes = vec![7; 16];
        bytes.push(flags);
        bytes.extend(length.to_be_bytes());
        bytes.resize(19 + rest, 0);
        bytes
    };
    let outcome = |form: u8, entries: &[u8]| {
        let mut bytes = vec![7; 16];
        bytes.push(form);
        bytes.extend(entries);
        bytes
    };
    use Kind::{ChannelClose, ChannelDown, ChannelUp, Notify, Outcome, Receipt};
    type Change<'c> = (&'c dyn Fn(&mut Vec<u8>), &'c str);
    let ups: [Change<'_>; 13] = [
        (&|b| b[0] = 4, "unknown flag"),
        (&|b| b.truncate(1), "neither flag nor channel"),
        (&|b| b[0] = 2, "a list ends that did not begin"),
        (&|b| b[9] = 0, "kind 0"),
        (&|b| b[9] = 4, "kind 4"),
        (&|b| b[10] = 0, "auth 0"),
        (&|b| b[10] = 3, "auth 3"),
        (&|b| b[15] = 0, "empty id, bytes after it"),
        (&|b| b[15] = 3, "id past the end"),
        (&|b| b[15] = 1, "a trailing byte"),
        (&|b| b[16] = b' ', "space in an id"),
        (&|b| b[17] = 0x7f, "DEL in an id"),
        (&|b| b[17] = 0x80, "no ASCII in an id"),
    ];
    let mut all: Vec<_> = ups
        .iter()
        .map(|(change, why)| (ChannelUp, up(change), *why))
        .collect();
    let empty_id = up(&|b| {
        b[15] = 0;
        b.truncate(16);
    });
    let long_id = up(&|b| {
        b[15] = 129;
        b.resize(16 + 129, b'x');
    });
    all.extend([
        (ChannelUp, empty_id, "empty id"),
        (ChannelUp, long_id, "id of 129 bytes"),
        (ChannelDown, vec![0; 10], "a trailing byte"),
        (ChannelDown, vec![0; 17], "an entry in part"),
        (ChannelClose, vec![0; 10], "a trailing byte"),
        (ChannelClose, vec![0; 26], "an entry in part"),
        (Notify, notify(0, 0, 0), "no channel"),
        (Notify, notify(1, 3, 3), "no channel behind a payload"),
        (Notify, notify(2, 0, 8), "to all, and to a channel"),
        (Notify, notify(4, 0, 8), "unknown flag"),
        (Notify, notify(0, 9, 8), "payload past the end"),
        (Notify, notify(0, 4097, 4097 + 8), "payload of 4,097 bytes"),
        (
            Notify,
            notify(2, 4097, 4097),
            "payload of 4,097 bytes to all",
        ),
        (Notify, notify(0, 0, 9), "a trailing byte"),
        (Notify, notify(2, 0, 1), "a trailing byte to all"),
        (
            Outcome,
            outcome(2, &[0, 0, 0, 0, 0, 0, 0, 0, 1]),
            "unknown form",
        ),
        (Outcome, outcome(0, &[0, 0, 0, 0, 0, 0, 0, 0, 0]), "fate 0"),
        (Outcome, outcome(0, &[0, 0, 0, 0, 0, 0, 0, 0, 4]), "fate 4"),
        (
            Outcome,
            outcome(0, &[0, 0, 0, 0, 0, 0, 0, 0, 1, 0]),
            "a trailing byte",
        ),
        (Outcome, outcome(1, &[0; 11]), "totals in part"),
        (Outcome, outcome(1, &[0; 13]), "a byte after totals"),
        (Receipt, receipt(b"pc", &[0]), "a trailing byte"),
        (
            Receipt,
            receipt(b"pc", &receipt(b"pc", b"")[..18]),
            "an entry in part",
        ),
        (Receipt, receipt(b"", b"x"), "no client id"),
        (Receipt, receipt(b"p c", b""), "a space in a client id"),
        (Receipt, receipt(&[b'c'; 129], b""), "too long a client id"),
    ]);
    all
}

/// An entry of RECEIPT, and what stands behind it.
fn receipt(client: &[u8], rest: &[u8]) -> Vec<u8> {
    [&[7; 16], &[client.len() as u8][..], client, rest].concat()
}

#[test]
fn malformed_frames_end_the_session() {
    for (kind, payload, why) in malformed() {
        let mut pair = Pair::with_channels();
        let now = pair.now;
        let from_connector = matches!(kind, Kind::ChannelClose | Kind::Notify);
        let end = match from_connector {
            true => &mut pair.gateway,
            false => &mut pair.connector,
        };
        println!("{} {why}", kind.name());
        let error = error_of(end, &frame_bytes(kind as u8, 0, &payload), now);
        assert!(error.text.starts_with(kind.name()), "{error}");
        assert!(end.seen.is_empty(), "nothing of it is told");
    }
    // The same, whole: each is taken.
    let two = receipt(b"pc-1", &receipt(&[b'c'; 128], b""));
    for (kind, payload) in [(Kind::ChannelDown, vec![0xee; 18]), (Kind::Receipt, two)] {
        let mut pair = Pair::with_channels();
        let bytes = frame_bytes(kind as u8, 0, &payload);
        pair.connector.feed(&bytes, pair.now).unwrap();
        assert_eq!(pair.connector.seen.len(), 1);
    }
}

#[test]
fn channel_frames_on_a_stream_or_from_the_wrong_side_end_the_session() {
    use Kind::{ChannelClose, ChannelDown, ChannelUp, Notify, Outcome, Receipt};
    for kind in [
        ChannelUp,
        ChannelDown,
        ChannelClose,
        Notify,
        Outcome,
        Receipt,
    ] {
        let payload = vec![0; kind.bounds().0];
        let from_connector = matches!(kind, ChannelClose | Notify);
        for (stream, wrong_side) in [(0, true), (1 << 20, false)] {
            let mut pair = Pair::with_channels();
            let now = pair.now;
            let end = match from_connector != wrong_side {
                true => &mut pair.gateway,
                false => &mut pair.connector,
            };
            error_of(end, &frame_bytes(kind as u8, stream, &payload), now);
        }
    }
}

#[test]
fn lists_begin_before_they_end() {
    let send = |pair: &mut Pair, flags: u8| {
        let bytes = frame_bytes(0x20, 0, &[flags]);
        pair.connector.feed(&bytes, pair.now)
    };
    let mut pair = Pair::with_channels();
    for flags in [1, 1, 2, 3, 1, 3, 3] {
        assert_eq!(send(&mut pair, flags), Ok(()), "begun, again, ended");
    }
    assert!(send(&mut pair, 2).is_err(), "ended twice");
}

#[test]
fn channels_need_both_sides() {
    for (gateway, connector) in [(0, 0), (CHANNELS, 0), (0, CHANNELS), (!CHANNELS, CHANNELS)] {
        let mut pair = Pair::with_features(gateway, connector, limits());
        let ready = Seen::Ready(ready());
        assert_eq!(pair.connector.take_seen(), [ready], "without features");
        let mut ups = Ups::default();
        ups.push(&up(1, "x"));
        let mut notification = Notification::new(PUSH, false, b"x").unwrap();
        notification.to_all();
        let End { session, out, .. } = &mut pair.gateway;
        assert!(!session.has_channels() && session.channel_room() == 0);
        assert!(!session.send_batch(&mut ups, out));
        assert!(!session.poll_channel_room());
        let End { session, out, .. } = &mut pair.connector;
        assert!(!session.has_channels() && !session.send_batch(&mut notification, out));
        assert_eq!(pair.turn(), 0, "nothing is sent");
        // A peer that sends them all the same ends the session; streams work until then.
        let stream = pair.open(1);
        pair.settle();
        pair.connector.head(stream);
        pair.settle();
        let now = pair.now;
        let frame = frame_bytes(0x23, 0, &[&[0; 16][..], &[2, 0, 0]].concat());
        let error = error_of(&mut pair.gateway, &frame, now);
        assert_eq!(error.text, "NOTIFY without its feature");
        let error = error_of(&mut pair.connector, &frame_bytes(0x21, 0, &[0; 9]), now);
        assert_eq!(error.text, "CHANNEL_DOWN without its feature");
    }
    let pair = Pair::with_features(CHANNELS, CHANNELS, limits());
    assert!(pair.gateway.session.has_channels() && pair.connector.session.has_channels());
    assert_eq!(pair.gateway.session.channel_room(), CHANNEL_QUEUE);
    // A gateway that names features that were not offered is wrong.
    let mut pair = Pair::fresh(limits(), limits());
    let End { session, out, .. } = &mut pair.connector;
    session.send_hello(&hello(), out);
    let mut bytes = Vec::new();
    let ready = Ready {
        features: CHANNELS,
        ..ready()
    };
    control::encode_ready(&mut bytes, &ready);
    let now = pair.now;
    error_of(&mut pair.connector, &frame_bytes(0x02, 0, &bytes), now);
}

#[test]
fn no_channel_frame_before_ready() {
    let pair = Pair::fresh(limits(), limits());
    let mut session: Session<u32> =
        Session::new(Role::Gateway, limits(), pair.now).with_features(CHANNELS);
    let mut ups = Ups::default();
    ups.start_list();
    let mut out = Vec::new();
    assert!(!session.send_batch(&mut ups, &mut out) && out.is_empty());
}

/// A gateway that announces `total` channels as room comes.
struct Announcer {
    ups: Ups,
    said: u32,
    total: u32,
    pending: bool,
    refused: usize,
    frames: usize,
}

impl Announcer {
    fn new(total: u32) -> Announcer {
        let mut ups = Ups::default();
        ups.start_list();
        Announcer {
            ups,
            said: 0,
            total,
            pending: false,
            refused: 0,
            frames: 0,
        }
    }

    fn done(&self) -> bool {
        self.said == self.total && !self.pending
    }

    /// Feeds frames until the session takes no more.
    fn feed(&mut self, end: &mut End) {
        while !self.done() {
            if !self.pending {
                let mut client = *b"cert:corp/pc-0000000000.corp.example.com";
                while self.said < self.total {
                    let digits = format!("{:010}", self.said);
                    client[13..23].copy_from_slice(digits.as_bytes());
                    let client = str::from_utf8(&client).unwrap();
                    if !self.ups.push(&up(self.said, client)) {
                        break;
                    }
                    self.said += 1;
                }
                if self.said == self.total {
                    self.ups.end_list();
                }
                self.pending = true;
            }
            if !end.session.send_batch(&mut self.ups, &mut end.out) {
                self.refused += 1;
                return;
            }
            self.frames += 1;
            self.ups.clear();
            self.pending = false;
        }
    }
}

/// Channels told by what was seen, in their order from `next` on, and whether the list has ended.
fn listed(seen: Vec<Seen>, next: &mut u32) -> bool {
    let mut ended = false;
    for event in seen {
        if let Seen::Ups {
            starts,
            ends,
            channels,
        } = event
        {
            assert!(!ended && starts == (*next == 0));
            for up in channels {
                assert_eq!(up.key, key(*next));
                *next += 1;
            }
            ended = ends;
        }
    }
    ended
}

#[test]
fn list_of_300000_channels_goes_as_room_comes() {
    let mut pair = Pair::with_channels();
    let (mut announcer, mut next, mut ended) = (Announcer::new(300_000), 0, false);
    announcer.feed(&mut pair.gateway);
    assert_eq!(announcer.refused, 1, "the queue is bounded");
    assert!(pair.gateway.session.channel_room() < HEADER + MAX_DATA);
    while !ended {
        assert!(pair.gateway.out.len() <= 64 << 10, "staged by bursts");
        pair.turn();
        if pair.gateway.session.poll_channel_room() {
            assert!(pair.gateway.session.channel_room() >= CHANNEL_QUEUE / 2);
            assert!(!pair.gateway.session.poll_channel_room(), "told once");
            announcer.feed(&mut pair.gateway);
        }
        ended = listed(pair.connector.take_seen(), &mut next);
    }
    assert_eq!(next, 300_000);
    assert!(announcer.done() && announcer.frames < 1_500);
    assert_eq!(pair.gateway.session.channel_room(), CHANNEL_QUEUE);
}

fn narrow() -> Pair {
    let narrow = SessionLimits {
        stage_bytes: 64_000,
        ..limits()
    };
    let mut pair = Pair::with_features(CHANNELS, CHANNELS, narrow);
    pair.connector.take_seen();
    pair
}

#[test]
fn streams_and_pings_go_on_while_a_million_channels_are_announced() {
    let mut pair = narrow();
    let (mut announcer, mut next, mut ended) = (Announcer::new(1_000_000), 0, false);
    announcer.feed(&mut pair.gateway);
    let mut exchanges = 0;
    while !ended {
        // A request that comes now finds the bursts before it that are staged already, and no more.
        let before = pair.gateway.out.len();
        assert!(before <= 64_000 + CONTROL_ROOM);
        let stream = pair.open(exchanges);
        pair.gateway.data(stream, &[1; 1000]);
        pair.gateway.end(stream);
        pair.gateway.timeout(pair.now).unwrap();
        if pair.gateway.session.poll_channel_room() {
            announcer.feed(&mut pair.gateway);
        }
        pair.turn();
        assert_eq!(pair.connector.bytes_seen(stream), 1000, "in the same turn");
        pair.connector.consumed(stream, 1000);
        pair.connector.head(stream);
        pair.connector.end(stream);
        ended = listed(pair.connector.take_seen(), &mut next);
        pair.turn();
        let answered = |seen: &Seen| matches!(seen, Seen::End { stream: s, .. } if *s == stream);
        assert!(pair.gateway.take_seen().iter().any(answered));
        ended |= listed(pair.connector.take_seen(), &mut next);
        pair.advance(Duration::from_millis(20));
        exchanges += 1;
    }
    assert_eq!(next, 1_000_000);
    assert!(pair.gateway.session.round_trip().is_some(), "pings passed");
    assert!(exchanges > 500, "{exchanges} exchanges meanwhile");
}

const CONTROL_ROOM: usize = send::CONTROL_ROOM;

/// Shares of a link that streams, channels and a settings document all want, as the connector's side sends them.
#[test]
fn saturated_link_gives_each_its_share() {
    let wide = SessionLimits {
        initial_stream_credit: 8 << 20,
        max_stream_credit: 8 << 20,
        session_credit: 16 << 20,
        ..limits()
    };
    let mut pair = Pair::with_features(CHANNELS, CHANNELS, wide);
    pair.connector.take_seen();
    let stream = pair.open(1);
    pair.settle();
    pair.connector.head(stream);
    pair.settle();
    let mut push = Notification::new(PUSH, false, &[1; MAX_PUSH]).unwrap();
    while push.push(key(1)) {}
    let End { session, out, .. } = &mut pair.connector;
    session.send_data(stream, &vec![1; 1 << 20], out);
    session.publish([3; 32], vec![5; 16 << 20], out);
    pair.turn();
    pair.gateway.take_seen();
    let (mut bulk, mut chunks, mut pushes) = (0usize, 0usize, 0usize);
    for _ in 0..1_000 {
        let End { session, out, .. } = &mut pair.connector;
        if session.queued(stream) < 500_000 {
            session.send_data(stream, &vec![1; 1 << 20], out);
        }
        while session.send_batch(&mut push, out) {}
        pair.turn();
        let got = pair.gateway.bytes_seen(stream);
        bulk += got;
        pair.gateway.consumed(stream, got);
        for seen in pair.gateway.take_seen() {
            chunks += usize::from(matches!(seen, Seen::Publish { .. }));
            pushes += usize::from(matches!(seen, Seen::Notify(..)));
        }
    }
    let share = bulk >> 18;
    assert!(
        bulk > 64 << 20 && pushes.abs_diff(share) <= share / 20 + 2,
        "{pushes} {share}"
    );
    let share = (bulk + pushes * (16 << 10)) >> 20;
    assert!(chunks.abs_diff(share) <= 2, "{chunks} {share}");
}

/// Streams that send at once fill the staging each time; channel frames get through all the same.
#[test]
fn streams_that_send_at_once_do_not_starve_channels() {
    /// Fills the staging to its limit with not a byte over, so that nothing is queued.
    const FILL: usize = 8 * MAX_DATA;
    let wide = SessionLimits {
        initial_stream_credit: 8 << 20,
        max_stream_credit: 8 << 20,
        session_credit: 16 << 20,
        ..limits()
    };
    let mut pair = Pair::with_features(CHANNELS, CHANNELS, wide);
    let stream = pair.open(1);
    pair.settle();
    pair.connector.head(stream);
    pair.settle();
    let mut closes = Closes::default();
    assert!(closes.push(ChannelClose {
        key: key(1),
        reason: CloseReason::Denied,
    }));
    // Staged up to its limit, then a frame that must wait.
    pair.connector.data(stream, &[1; FILL]);
    let End { session, out, .. } = &mut pair.connector;
    assert!(session.send_batch(&mut closes, out));
    for turn in 0.. {
        assert!(turn < 6, "starved");
        // What was staged goes out; the stream fills the room before the session is pumped.
        let sent = std::mem::take(&mut pair.connector.out);
        pair.gateway.feed(&sent, pair.now).unwrap();
        if pair
            .gateway
            .take_seen()
            .iter()
            .any(|s| matches!(s, Seen::Closes(_)))
        {
            return;
        }
        if turn < 2 {
            assert_eq!(pair.connector.session.queued(stream), 0, "it went at once");
        }
        if pair.connector.session.queued(stream) == 0 {
            pair.connector.data(stream, &[1; FILL]);
        }
        pair.connector
            .session
            .pump(pair.now, &mut pair.connector.out);
    }
}

#[test]
fn buffers_of_waiting_frames_are_reused() {
    let mut pair = Pair::with_channels();
    for _ in 0..20 {
        let mut announcer = Announcer::new(6_000);
        while !announcer.done() {
            announcer.feed(&mut pair.gateway);
            pair.turn();
            pair.gateway.session.poll_channel_room();
        }
        pair.settle();
        pair.connector.take_seen();
    }
    let (count, bytes) = pair.gateway.session.pool.kept();
    assert!(
        count > 0 && bytes <= CHANNEL_QUEUE + (64 << 10),
        "{count} {bytes}"
    );
}
