//! Frames in, events and answers out: RFC 6455 §5.7, and cases in the order of the Autobahn test suite.

use super::*;

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

fn client() -> Role {
    Role::Client(fastrand::Rng::with_seed(1))
}

fn text(text: &str) -> Seen {
    Seen::Text(text.to_owned())
}

fn limits(message_bytes: usize) -> Limits {
    Limits {
        message_bytes,
        ..Limits::default()
    }
}

#[test]
fn rfc_examples() {
    let hello = || vec![text("Hello")];
    let is = |role, input: &[u8], seen: Vec<Seen>, out: &[u8]| {
        assert_eq!(
            read(role, limits(1 << 17), &[input]),
            (seen, None, out.to_vec())
        );
    };
    is(client(), b"\x81\x05Hello", hello(), b"");
    let masked = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    is(Role::Server, masked, hello(), b"");
    is(client(), b"\x01\x03Hel\x80\x02lo", hello(), b"");
    let ping = b"\x89\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    is(Role::Server, ping, vec![], b"\x8a\x05Hello");
    let pong = b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    is(Role::Server, pong, vec![Seen::Pong(b"Hello".to_vec())], b"");
    for (head, length) in [
        (&b"\x82\x7e\x01\x00"[..], 256),
        (b"\x82\x7f\0\0\0\0\0\x01\0\0", 65_536),
    ] {
        let payload = vec![7; length];
        is(
            client(),
            &[head, &payload].concat(),
            vec![Seen::Binary(payload.clone())],
            b"",
        );
        let mut out = Vec::new();
        assert!(Socket::new(Role::Server, limits(0)).send_binary(&mut out, &payload));
        assert_eq!(out[..head.len()], *head);
    }
}

/// What a server sees and with which code it fails (0: it does not), input whole and byte by byte.
fn check(case: &str, frames: &[(u8, &[u8])], seen: &[Seen], code: u16) {
    let input: Vec<u8> = frames.iter().flat_map(|(b, p)| raw(*b, p)).collect();
    check_bytes(case, &input, seen, code);
}

fn check_bytes(case: &str, input: &[u8], seen: &[Seen], code: u16) {
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    for pieces in [&[input][..], &bytes] {
        let (events, fault, out) = read(Role::Server, limits(1 << 17), pieces);
        assert_eq!(events, seen, "case {case}");
        assert_eq!(fault.map_or(0, |f| f.code), code, "case {case}: {fault:?}");
        if code != 0 {
            let close = out
                .windows(4)
                .any(|w| w[0] == CLOSE && w[2..] == code.to_be_bytes());
            assert!(close, "case {case}: a Close frame tells why");
        }
    }
}

#[test]
fn cases_1_sizes() {
    for (case, length) in [0, 125, 126, 127, 128, 65_535, 65_536].iter().enumerate() {
        let payload = "*".repeat(*length);
        check(
            &format!("1.1.{}", case + 1),
            &[(TEXT, payload.as_bytes())],
            &[text(&payload)],
            0,
        );
        let payload = vec![0xfe; *length];
        check(
            &format!("1.2.{}", case + 1),
            &[(BINARY, &payload)],
            &[Seen::Binary(payload.clone())],
            0,
        );
    }
}

#[test]
fn cases_2_pings() {
    let out = |frames: &[(u8, &[u8])]| {
        let input: Vec<u8> = frames.iter().flat_map(|(b, p)| raw(*b, p)).collect();
        read(Role::Server, limits(1024), &[&input]).2
    };
    assert_eq!(out(&[(PING, b"")]), b"\x8a\0", "2.1");
    assert_eq!(out(&[(PING, b"Hello")]), b"\x8a\x05Hello", "2.2");
    assert_eq!(out(&[(PING, &[0, 255])]), b"\x8a\x02\0\xff", "2.3");
    assert_eq!(out(&[(PING, &[0xfe; 125])]).len(), 127, "2.4");
    check("2.5", &[(PING, &[0xfe; 126])], &[], 1002);
    check("2.7", &[(PONG, b"")], &[Seen::Pong(vec![])], 0);
    check("2.8", &[(PONG, b"x")], &[Seen::Pong(b"x".to_vec())], 0);
    assert_eq!(out(&[(PONG, b"x"), (PING, b"y")]), b"\x8a\x01y", "2.9");
    let ten: Vec<[u8; 1]> = (b'0'..=b'9').map(|b| [b]).collect();
    let ten: Vec<(u8, &[u8])> = ten.iter().map(|b| (PING, &b[..])).collect();
    assert_eq!(out(&ten), b"\x8a\x019", "2.10: the last alone is answered");
}

#[test]
fn cases_3_and_4_reserved() {
    for bits in 1..8u8 {
        for opcode in [TEXT, BINARY, PING, CLOSE] {
            let first = opcode | bits << 4;
            check("3", &[(TEXT, b"a"), (first, b"b")], &[text("a")], 1002);
        }
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        check(
            "4",
            &[(TEXT, b"a"), (0x80 | opcode, b"")],
            &[text("a")],
            1002,
        );
    }
}

/// Name, frames, what is seen of them, and the code that they fail with.
type Case<'a> = (&'a str, &'a [(u8, &'a [u8])], &'a [Seen], u16);

#[test]
fn cases_5_fragments() {
    let ab = [text("ab")];
    let pong_ab = [Seen::Pong(b"p".to_vec()), text("ab")];
    #[rustfmt::skip]
    let table: &[Case] = &[
        ("5.1",  &[(0x09, b"a"), (0x80, b"b")], &[], 1002),
        ("5.2",  &[(0x0a, b"a"), (0x80, b"b")], &[], 1002),
        ("5.3",  &[(0x01, b"a"), (0x80, b"b")], &ab, 0),
        ("5.6",  &[(0x01, b"a"), (PING, b"p"), (0x80, b"b")], &ab, 0),
        ("5.7",  &[(0x01, b"a"), (PONG, b"p"), (0x80, b"b")], &pong_ab, 0),
        ("5.9",  &[(0x80, b"a"), (TEXT, b"b")], &[], 1002),
        ("5.12", &[(0x00, b"a"), (TEXT, b"b")], &[], 1002),
        ("5.15", &[(0x01, b"a"), (0x80, b"b"), (0x00, b"c")], &ab, 1002),
        ("5.18", &[(0x01, b"a"), (TEXT, b"b")], &[], 1002),
        ("5.18", &[(0x01, b"a"), (0x02, b"b")], &[], 1002),
        ("5.19", &[(0x01, b"a"), (0x00, b""), (PING, b""), (0x00, b"b"), (PING, b""), (0x80, b"")], &ab, 0),
        ("6.1",  &[(0x01, b""), (0x00, b""), (0x80, b"")], &[text("")], 0),
    ];
    for (case, frames, seen, code) in table {
        check(case, frames, seen, *code);
    }
}

#[test]
fn cases_6_text() {
    let good = [
        "κόσμε",
        "\u{0}",
        "\u{80}",
        "\u{7ff}",
        "\u{800}",
        "\u{d7ff}",
        "\u{e000}",
        "\u{fffd}",
        "\u{ffff}",
        "\u{10000}",
        "\u{10ffff}",
    ];
    for one in good {
        check("6.5–6.23", &[(TEXT, one.as_bytes())], &[text(one)], 0);
        let mut frames: Vec<(u8, &[u8])> = vec![(0x01, b"")];
        frames.extend(one.as_bytes().chunks(1).map(|b| (0x00, b)));
        frames.push((0x80, b""));
        check("6.2.3", &frames, &[text(one)], 0);
    }
    let bad: &[&[u8]] = &[
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
        b"\x80",
        b"\xbf",
        b"\xc0",
        b"\xc1\xbf",
        b"\xc2",
        b"\xe0\x80\x80",
        b"\xe0\x9f\xbf",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xef\xbf",
        b"\xf0\x80\x80\xaf",
        b"\xf0\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\xfe",
        b"\xff",
    ];
    for one in bad {
        check("6.3, 6.6–6.22", &[(TEXT, one)], &[], 1007);
        check("6.3.2", &[(0x01, one), (0x80, b"")], &[], 1007);
    }
    // 6.4: at the first wrong byte, not at the message's end
    let frame = raw(0x01, b"\xce\xba\xf4\x90");
    check_bytes("6.4.1", &frame, &[], 1007);
    let cut = [&raw(TEXT, b"ok\xf4\x90 and more")[..2 + 4 + 4]].concat();
    check_bytes("6.4.3", &cut, &[], 1007);
}

#[test]
fn cases_7_closing() {
    let closed = |code, reason: &str| [Seen::Close(code, reason.to_owned())];
    let close = |code: u16, reason: &[u8]| [&code.to_be_bytes()[..], reason].concat();
    let normal = close(1000, b"");
    check(
        "7.1.2",
        &[(CLOSE, &normal), (CLOSE, &normal)],
        &closed(Some(1000), ""),
        0,
    );
    check(
        "7.1.3",
        &[(CLOSE, &normal), (PING, b"")],
        &closed(Some(1000), ""),
        0,
    );
    check(
        "7.1.4",
        &[(CLOSE, &normal), (TEXT, b"x")],
        &closed(Some(1000), ""),
        0,
    );
    check(
        "7.1.5",
        &[(0x01, b"a"), (CLOSE, &normal), (0x80, b"b")],
        &closed(Some(1000), ""),
        0,
    );
    check("7.3.1", &[(CLOSE, b"")], &closed(None, ""), 0);
    check("7.3.2", &[(CLOSE, b"a")], &[], 1002);
    check(
        "7.3.4",
        &[(CLOSE, &close(1000, b"Hello"))],
        &closed(Some(1000), "Hello"),
        0,
    );
    let long = "*".repeat(123);
    check(
        "7.3.5",
        &[(CLOSE, &close(1000, long.as_bytes()))],
        &closed(Some(1000), &long),
        0,
    );
    check("7.3.6", &[(CLOSE, &close(1000, &[b'*'; 124]))], &[], 1002);
    check(
        "7.5.1",
        &[(
            CLOSE,
            &close(1000, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xed\xa0\x80"),
        )],
        &[],
        1007,
    );
    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000,
        4999,
    ] {
        check(
            "7.7",
            &[(CLOSE, &close(code, b""))],
            &closed(Some(code), ""),
            0,
        );
        let out = read(
            Role::Server,
            limits(0),
            &[&raw(CLOSE, &close(code, b"why"))],
        )
        .2;
        assert_eq!(
            out,
            [&b"\x88\x02"[..], &code.to_be_bytes()].concat(),
            "the code is echoed"
        );
    }
    for code in [
        0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535,
    ] {
        check("7.9, 7.13", &[(CLOSE, &close(code, b""))], &[], 1002);
    }
    let out = read(Role::Server, limits(0), &[&raw(CLOSE, b"")]).2;
    assert_eq!(out, b"\x88\0", "no code, none echoed");
}

/// 9 in small: a message in pieces and in fragments of every size.
#[test]
fn cases_9_pieces() {
    let payload: String = (0..4096u32)
        .map(|n| char::from(b'a' + (n % 26) as u8))
        .collect();
    for size in [1, 4, 64, 256, 1024] {
        let mut frames: Vec<(u8, &[u8])> =
            payload.as_bytes().chunks(size).map(|p| (0x00, p)).collect();
        frames[0].0 = 0x01;
        frames.last_mut().unwrap().0 |= 0x80;
        check("9.3", &frames, &[text(&payload)], 0);
        let frame = raw(TEXT, payload.as_bytes());
        let pieces: Vec<&[u8]> = frame.chunks(size).collect();
        assert_eq!(
            read(Role::Server, limits(4096), &pieces).0,
            [text(&payload)]
        );
    }
}

#[test]
fn lengths_in_their_shortest_form() {
    for head in [
        &b"\x82\xfe\x00\x7d\0\0\0\0"[..],
        b"\x82\xfe\x00\x00\0\0\0\0",
        b"\x82\xff\0\0\0\0\0\0\xff\xff\0\0\0\0",
        b"\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0",
    ] {
        check_bytes("length", head, &[], 1002);
    }
}

#[test]
fn masks_are_required_and_refused() {
    check_bytes("unmasked", b"\x81\x01a", &[], 1002);
    let (seen, fault, out) = read(client(), limits(10), &[&raw(TEXT, b"a")]);
    assert_eq!((seen.len(), fault.map(|f| f.code)), (0, Some(1002)));
    assert_eq!(out[1] & 0x80, 0x80, "a client masks its Close frame too");
}

#[test]
fn message_limit() {
    let code = |frames: &[(u8, &[u8])]| {
        let input: Vec<u8> = frames.iter().flat_map(|(b, p)| raw(*b, p)).collect();
        read(Role::Server, Limits::default(), &[&input])
            .1
            .map(|f| f.code)
    };
    let (most, over) = ([b'x'; 1024], [b'x'; 1025]);
    assert_eq!(code(&[(TEXT, &most)]), None);
    assert_eq!(code(&[(TEXT, &over)]), Some(1009));
    assert_eq!(code(&[(0x01, &most), (0x80, b"")]), None);
    assert_eq!(code(&[(0x01, &most), (0x80, b"x")]), Some(1009));
    // refused by its head alone, whatever it announces
    check_bytes(
        "huge",
        b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",
        &[],
        1009,
    );
}
