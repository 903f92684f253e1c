//! The front page and the code say the same; frames byte for byte.

use super::super::control::{self, Offer};
use super::super::*;
use super::pair::*;

const PAGE: &str = include_str!("../mod.rs");

fn number(text: &str) -> usize {
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("no number: {text}"))
}

#[test]
fn kind_table_matches_the_code() {
    let rows: Vec<Vec<&str>> = PAGE
        .lines()
        .filter_map(|l| l.strip_prefix("//! | 0x")?.strip_suffix(" |"))
        .map(|l| l.split(" | ").collect())
        .filter(|row: &Vec<&str>| row.len() == 5)
        .collect();
    assert_eq!(rows.len(), Kind::ALL.len());
    for (row, kind) in rows.iter().zip(Kind::ALL) {
        assert_eq!(u8::from_str_radix(row[0], 16).unwrap(), kind as u8);
        assert_eq!(row[1], kind.name());
        let (shortest, longest) = row[4].split_once('–').unwrap();
        assert_eq!(
            (number(shortest), number(longest)),
            kind.bounds(),
            "{}",
            kind.name()
        );
    }
}

#[test]
fn numbers_on_the_page_match_the_code() {
    for (phrase, value) in [
        ("with at most 4,096 bytes waiting", schedule::SMALL == 4_096),
        (
            "payload is at most 65,536 bytes",
            frame::MAX_PAYLOAD == 65_536,
        ),
        (
            "DATA payload of 16,376 bytes fills one",
            frame::HEADER + frame::MAX_DATA == 16_384,
        ),
        (
            "unknown kind from 0x80 on",
            frame::FIRST_SKIPPED_KIND == 0x80,
        ),
        (
            "A stream starts with 65,536, a session with 1,048,576",
            (STREAM_CREDIT, SESSION_CREDIT) == (65_536, 1_048_576),
        ),
        (
            "no credit exceeds 2^31-1",
            credit::MAX_CREDIT == (1 << 31) - 1,
        ),
        ("at most 16 interim heads", MAX_INTERIM == 16),
        ("then every 5 s", PING_INTERVAL.as_secs() == 5),
        ("within 15 s", HANDSHAKE_TIMEOUT.as_secs() == 15),
        ("65,536 bytes; one", schedule::QUANTUM == 65_536),
        (
            "one chunk for each 1,048,576 bytes",
            publication::STREAM_BYTES_PER_CHUNK == 1_048_576,
        ),
        (
            "at most 16,384 bytes of them for each 262,144 bytes that streams sent",
            (channel::BURST, channel::STREAM_BYTES_PER_BURST) == (16_384, 262_144),
        ),
        (
            "of channel frames at most 262,144",
            CHANNEL_QUEUE == 262_144,
        ),
        ("length of the payload, at most 4,096", MAX_PUSH == 4_096),
        ("length of the client id (1–128)", MAX_CLIENT_ID == 128),
        ("Features: bit 0, the channel frames", CHANNELS == 1),
        ("at most 16,777,216", MAX_DOCUMENT == 16_777_216),
        ("text, at most 512", MAX_TEXT == 512),
        ("connector id (1–128)", MAX_ID == 128),
        (
            "slot (low 20 bits) and a generation (high 12 bits",
            StreamId::SLOT_BITS == 20,
        ),
    ] {
        let page = PAGE.replace("\n//! ", " ");
        assert!(page.contains(phrase), "the page does not say: {phrase}");
        assert!(value, "the code does not do: {phrase}");
    }
}

#[test]
fn hello_byte_for_byte() {
    let mut buf = Vec::new();
    let hello = Hello {
        incarnation: 0x0102,
        wanted_shard: 0xffff,
        ..hello()
    };
    control::encode_hello(
        &mut buf,
        &hello,
        Offer {
            streams: 0x1000,
            features: 0x81,
        },
    );
    let mut expected = b"TGR/".to_vec();
    expected.extend([1, 1, 0, 3, 0xff, 0xff, 0, 0, 0x10, 0]);
    expected.extend([0, 0, 0, 0, 0, 0, 0, 0x81]);
    expected.extend([0; 14]);
    expected.extend([1, 2]);
    expected.extend(b"\x04cp-1\x04main");
    assert_eq!(buf, expected);
}

#[test]
fn ready_byte_for_byte() {
    let mut buf = Vec::new();
    control::encode_ready(
        &mut buf,
        &Ready {
            instance: 0x0203,
            features: 4,
            ..ready()
        },
    );
    let mut expected = vec![1, 0, 2, 3, 0, 1, 0, 2];
    expected.extend([0, 0, 0, 0, 0, 0, 0, 4]);
    expected.extend([0; 15]);
    expected.push(9);
    expected.extend([5; 32]);
    assert_eq!(buf, expected);
}

#[test]
fn channel_frames_byte_for_byte() {
    let mut pair = Pair::with_channels();
    let key = ChannelKey {
        slot: 0x0102,
        generation: 0x0304,
    };
    let push = PushId([9; 16]);
    let up = ChannelUp {
        key,
        kind: ChannelKind::WebSocket,
        auth: ChannelAuth::Token,
        since: 0x0506,
        client: "ab",
    };
    let down = ChannelDown {
        key,
        reason: DownReason::Draining,
    };
    let fate = ChannelFate {
        key,
        fate: Fate::Dropped,
    };
    let totals = Totals {
        sent: 1,
        gone: 2,
        dropped: 3,
    };
    let (mut ups, mut downs, mut receipts) =
        (Ups::default(), Downs::default(), Receipts::default());
    let (mut outcomes, mut summary) = (Outcomes::new(push), Summary::default());
    ups.start_list();
    ups.end_list();
    assert!(ups.push(&up) && downs.push(down) && outcomes.push(fate));
    assert!(receipts.push(Receipt { push, client: "ab" }));
    summary.set(push, totals);
    let End { session, out, .. } = &mut pair.gateway;
    assert!(session.send_batch(&mut ups, out) && session.send_batch(&mut downs, out));
    assert!(session.send_batch(&mut outcomes, out) && session.send_batch(&mut summary, out));
    assert!(session.send_batch(&mut receipts, out));
    let named = [0, 0, 1, 2, 0, 0, 3, 4];
    let mut expected = vec![0, 0, 18, 0x20, 0, 0, 0, 0, 3];
    expected.extend(named);
    expected.extend([2, 2, 0, 0, 5, 6, 2, b'a', b'b']);
    expected.extend([0, 0, 9, 0x21, 0, 0, 0, 0]);
    expected.extend(named);
    expected.push(5);
    expected.extend([0, 0, 26, 0x24, 0, 0, 0, 0]);
    expected.extend([9; 16]);
    expected.push(0);
    expected.extend(named);
    expected.push(3);
    expected.extend([0, 0, 29, 0x24, 0, 0, 0, 0]);
    expected.extend([9; 16]);
    expected.extend([1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]);
    expected.extend([0, 0, 19, 0x25, 0, 0, 0, 0]);
    expected.extend([9; 16]);
    expected.extend(b"\x02ab");
    assert_eq!(*out, expected);

    let mut notification = Notification::new(push, true, b"xyz").unwrap();
    let mut closes = Closes::default();
    assert!(notification.push(key));
    assert!(closes.push(ChannelClose {
        key,
        reason: CloseReason::Replaced,
    }));
    let End { session, out, .. } = &mut pair.connector;
    assert!(session.send_batch(&mut notification, out));
    notification.to_all();
    assert!(session.send_batch(&mut notification, out) && session.send_batch(&mut closes, out));
    let mut expected = vec![0, 0, 30, 0x23, 0, 0, 0, 0];
    expected.extend([9; 16]);
    expected.extend(b"\x01\0\x03xyz");
    expected.extend(named);
    expected.extend([0, 0, 22, 0x23, 0, 0, 0, 0]);
    expected.extend([9; 16]);
    expected.extend(b"\x03\0\x03xyz");
    expected.extend([0, 0, 9, 0x22, 0, 0, 0, 0]);
    expected.extend(named);
    expected.push(1);
    assert_eq!(*out, expected);
}

#[test]
fn reasons_on_the_page_match_the_code() {
    let page = PAGE.replace("\n//! ", " ");
    for (code, name) in [
        (DownReason::Left as u8, "left ("),
        (DownReason::Lost as u8, "lost ("),
        (DownReason::Answered as u8, "answered ("),
        (DownReason::Closed as u8, "closed ("),
        (DownReason::Draining as u8, "draining ·"),
        (DownReason::Revoked as u8, "revoked ·"),
        (DownReason::Misbehaved as u8, "misbehaved; of"),
        (CloseReason::Replaced as u8, "replaced (by a newer channel"),
        (CloseReason::Denied as u8, "denied · 3"),
        (CloseReason::Requested as u8, "requested. 0"),
    ] {
        let (_, reasons) = page.split_once("**Reasons**").unwrap();
        assert!(reasons.contains(&format!("{code} {name}")), "{code} {name}");
    }
}

#[test]
fn exchange_byte_for_byte() {
    let mut pair = Pair::ready();
    let head = OpenHead {
        method: b"PUT",
        target: b"/t",
        host: b"h",
        request_id: b"id",
        body: Body::Length(0x0506),
        expect_continue: true,
        fields: Fields::empty(),
    };
    let mut fields = [Field {
        name: b"A",
        value: b"bc",
    }]
    .into_iter();
    let End { session, out, .. } = &mut pair.gateway;
    let mut frame = OpenFrame::default();
    assert!(frame.encode(&head, &mut fields));
    assert_eq!(frame.target(), b"/t");
    let stream = session.open(1, &mut frame, out).unwrap();
    session.send_data(stream, b"xyz", out);
    session.send_end(
        stream,
        &mut [Field {
            name: b"t",
            value: b"",
        }]
        .into_iter(),
        out,
    );
    let mut expected = vec![0, 0, 31, 0x10, 0, 0x10, 0, 0, 1, 1, 3, 2, 0, 2, 0, 1];
    expected.extend([0, 0, 0, 0, 0, 0, 5, 6]);
    expected.extend(b"PUT/thid");
    expected.extend(b"\0\x01\0\x02Abc");
    expected.extend(b"\0\0\x03\x12\0\x10\0\0xyz");
    expected.extend(b"\0\0\x05\x13\0\x10\0\0\0\x01\0\0t");
    assert_eq!(*out, expected);

    pair.turn();
    let End { session, out, .. } = &mut pair.connector;
    out.clear();
    session.send_head(stream, 404, false, b"No", Body::None, &mut no_fields(), out);
    session.reset(stream, ResetCode::UpstreamBroken, "x", out);
    let mut expected = vec![0, 0, 16, 0x11, 0, 0x10, 0, 0, 1, 0x94, 0, 0];
    expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 2, b'N', b'o']);
    expected.extend(b"\0\0\x03\x14\0\x10\0\0\0\x05x");
    assert_eq!(*out, expected);
}
