//! Heads and fields: what is refused, on the way out and on the way in.

use super::super::head::{self, Unfit};
use super::super::*;
use super::pair::*;

fn open_with(head: &OpenHead<'_>, fields: &[Field<'_>]) -> Result<Vec<u8>, Unfit> {
    let mut buf = Vec::new();
    head::encode_open(&mut buf, head, &mut fields.iter().copied()).map(|()| buf)
}

#[test]
fn open_comes_back_as_it_was() {
    let fields = [
        Field {
            name: b"Accept",
            value: b"*/*",
        },
        Field {
            name: b"X-Empty",
            value: b"",
        },
        Field {
            name: b"X-High",
            value: "grüße\t!".as_bytes(),
        },
    ];
    for body in [Body::None, Body::Length(u64::MAX), Body::Unknown] {
        let head = OpenHead {
            body,
            expect_continue: true,
            ..request()
        };
        let payload = open_with(&head, &fields).unwrap();
        head::check_open(&payload).unwrap();
        let read = head::decode_open(&payload).unwrap();
        assert_eq!(
            OpenHead {
                fields: Fields::empty(),
                ..read
            },
            head
        );
        assert!(read.fields.eq(fields));
        assert!(read.fields.eq(fields), "fields can be walked twice");
    }
}

#[test]
fn nothing_that_splits_a_line_passes_either_way() {
    let bad: [(&str, OpenHead<'_>); 8] = [
        (
            "empty method",
            OpenHead {
                method: b"",
                ..request()
            },
        ),
        (
            "space in method",
            OpenHead {
                method: b"GET /x",
                ..request()
            },
        ),
        (
            "empty target",
            OpenHead {
                target: b"",
                ..request()
            },
        ),
        (
            "space in target",
            OpenHead {
                target: b"/a HTTP/1.1",
                ..request()
            },
        ),
        (
            "CR LF in target",
            OpenHead {
                target: b"/a\r\nX: y",
                ..request()
            },
        ),
        (
            "NUL in host",
            OpenHead {
                host: b"a\0b",
                ..request()
            },
        ),
        (
            "LF in request id",
            OpenHead {
                request_id: b"a\nb",
                ..request()
            },
        ),
        (
            "high byte in request id",
            OpenHead {
                request_id: b"a\xffb",
                ..request()
            },
        ),
    ];
    for (what, head) in bad {
        assert!(
            matches!(open_with(&head, &[]), Err(Unfit::Syntax(_))),
            "{what}"
        );
    }
    let names: [&[u8]; 6] = [
        b"",
        b"a b",
        b"a:",
        b"a\r",
        b"long-enough-for-words\0",
        b"\xc3\xbc",
    ];
    for name in names {
        let field = Field { name, value: b"v" };
        assert!(
            matches!(open_with(&request(), &[field]), Err(Unfit::Syntax(_))),
            "{name:?}"
        );
    }
    for bad in [b'\r', b'\n', 0] {
        // In every position of a value that spans words and a rest.
        for at in 0..21 {
            let mut value = [b'v'; 21];
            value[at] = bad;
            let field = Field {
                name: b"n",
                value: &value,
            };
            assert!(matches!(
                open_with(&request(), &[field]),
                Err(Unfit::Syntax(_))
            ));
            // The same on the wire, past an encoder that does not look.
            let mut payload = open_with(&request(), &[]).unwrap();
            payload.extend([0, 1, 0, 21, b'n']);
            payload.extend(value);
            assert!(head::check_open(&payload).is_err());
        }
    }
}

/// The word-at-a-time checks agree with the plain rule on every byte in every position.
#[test]
fn word_checks_agree_with_byte_checks() {
    for len in [1usize, 7, 8, 9, 16, 19] {
        for at in 0..len {
            for byte in 0..=255u8 {
                let mut bytes = vec![b'a'; len];
                bytes[at] = byte;
                let as_value = open_with(
                    &request(),
                    &[Field {
                        name: b"n",
                        value: &bytes,
                    }],
                );
                assert_eq!(
                    as_value.is_ok(),
                    !matches!(byte, b'\r' | b'\n' | 0),
                    "value {byte}"
                );
                let as_name = open_with(
                    &request(),
                    &[Field {
                        name: &bytes,
                        value: b"",
                    }],
                );
                let good = (0x21..0x7f).contains(&byte) && byte != b':';
                assert_eq!(as_name.is_ok(), good, "name {byte}");
                let as_target = open_with(
                    &OpenHead {
                        target: &bytes,
                        ..request()
                    },
                    &[],
                );
                assert_eq!(
                    as_target.is_ok(),
                    byte > 0x20 && byte != 0x7f,
                    "target {byte}"
                );
            }
        }
    }
}

#[test]
fn status_and_interim_go_together() {
    let fits = |status, interim| {
        let mut buf = Vec::new();
        let fields = &mut no_fields();
        head::encode_head(&mut buf, status, interim, b"", Body::None, fields).is_ok()
    };
    assert!(fits(200, false) && fits(101, false) && fits(100, true) && fits(103, true));
    assert!(!fits(101, true) && !fits(100, false) && !fits(200, true) && !fits(99, false));
    assert!(!fits(1000, false) && !fits(0, true));
}

#[test]
fn head_of_64_kib_passes_and_one_byte_more_does_not() {
    let room = MAX_PAYLOAD - open_with(&request(), &[]).unwrap().len() - 2 * 5;
    let mut pair = Pair::ready();
    let value = vec![b'v'; room];
    let (first, second) = value.split_at(room / 2);
    let fields = [
        Field {
            name: b"a",
            value: first,
        },
        Field {
            name: b"b",
            value: second,
        },
    ];
    let End { session, out, .. } = &mut pair.gateway;
    assert!(
        session
            .open(1, &mut opening_with(&mut fields.iter().copied()), out)
            .is_some()
    );
    let longer = [first, b"!"].concat();
    let fields = [
        Field {
            name: b"a",
            value: &longer,
        },
        Field {
            name: b"b",
            value: second,
        },
    ];
    let mut unfit = opening_with(&mut fields.iter().copied());
    assert!(unfit.is_empty());
    assert_eq!(session.open(2, &mut unfit, out), None);
    assert_eq!(session.streams(), 1, "no slot is taken");
    pair.settle();
    assert_eq!(pair.connector.seen.len(), 1);
}

#[test]
fn endless_fields_are_cut_off() {
    let mut pair = Pair::ready();
    let mut endless = std::iter::repeat(Field {
        name: b"a",
        value: b"b",
    });
    let End { session, out, .. } = &mut pair.gateway;
    assert_eq!(session.open(1, &mut opening_with(&mut endless), out), None);
}

#[test]
fn upstream_head_that_does_not_fit_resets_its_stream_only() {
    let mut pair = Pair::ready();
    let (bad, good) = (pair.open(1), pair.open(2));
    pair.settle();
    let End { session, out, .. } = &mut pair.connector;
    let mut field = [Field {
        name: b"x",
        value: b"a\r\nb",
    }]
    .into_iter();
    assert!(!session.send_head(bad, 200, false, b"OK", Body::None, &mut field, out));
    pair.connector.head(good);
    pair.settle();
    let seen = pair.gateway.take_seen();
    assert!(
        matches!(&seen[0], Seen::Reset { stream, code: ResetCode::UpstreamBroken, .. } if *stream == bad)
    );
    assert!(matches!(&seen[1], Seen::Head { stream, .. } if *stream == good));
}

#[test]
fn long_texts_are_cut_at_a_character() {
    let mut pair = Pair::ready();
    let stream = pair.open(1);
    let text = "ü".repeat(400);
    let End { session, out, .. } = &mut pair.gateway;
    session.reset(stream, ResetCode::Cancelled, &text, out);
    pair.settle();
    let seen = pair.connector.take_seen();
    assert!(matches!(&seen[1], Seen::Reset { text, .. } if text.len() == MAX_TEXT));
}
