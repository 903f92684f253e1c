use super::*;
use proptest::prelude::*;

/// Items in a form that outlives the parser, and how it ended.
fn read(pieces: &[&[u8]], limit: usize) -> (Vec<String>, bool, String) {
    let (mut parser, mut items) = (Parser::new(limit), Vec::new());
    for piece in pieces {
        let mut used = 0;
        loop {
            match parser.next(piece, &mut used) {
                Ok(Item::NeedMore) => break,
                Ok(item) => items.push(format!("{item:?}")),
                Err(TooLong) => return (items, false, String::new()),
            }
        }
        assert_eq!(used, piece.len());
    }
    let id = parser.last_event_id().to_owned();
    (items, true, id)
}

fn event(event: &str, data: &str, last_event_id: &str) -> String {
    let item = Item::Event {
        event,
        data,
        last_event_id,
    };
    format!("{item:?}")
}

fn written(event: &Event<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    write_event(&mut out, event).expect("writable");
    out
}

/// The content of the one chunk that `bytes` must be.
fn content(bytes: &[u8]) -> &[u8] {
    let size = usize::from_str_radix(std::str::from_utf8(&bytes[..4]).unwrap(), 16).unwrap();
    assert_eq!(&bytes[4..6], b"\r\n");
    assert_eq!(&bytes[6 + size..], b"\r\n");
    &bytes[6..6 + size]
}

/// The examples of WHATWG HTML §9.2.6, and the corners of its rules.
#[test]
fn streams() {
    #[rustfmt::skip]
    let table: &[(&[u8], &[String], &str)] = &[
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", &[event("message", "YHOO\n+2\n10", "")], ""),
        (b"data: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n",
            &[event("message", "first event", "1"), event("message", "second event", "")], ""),
        (b"data\n\ndata\ndata\n\ndata:", &[event("message", "", ""), event("message", "\n", "")], ""),
        (b"data:test\n\ndata: test\n\n", &[event("message", "test", ""), event("message", "test", "")], ""),
        (b"data:a\r\ndata:b\r\nid:1\rdata:c\r\n\r\n", &[event("message", "a\nb\nc", "1")], "1"),
        (b"\xef\xbb\xbfdata:a\r\rdata:b\r\n\r\ndata:c\n\n",
            &[event("message", "a", ""), event("message", "b", ""), event("message", "c", "")], ""),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata:a\n\n", &[], ""),
        (b"event: add\ndata: 1\nid: x\n\ndata: 2\n\n", &[event("add", "1", "x"), event("message", "2", "x")], "x"),
        (b"id: a\0b\ndata: 1\n\n", &[event("message", "1", "")], ""),
        (b"id: 7\n\nid: 8\n", &[], "7"),
        (b"event: gone\n\ndata: 1\n\n", &[event("message", "1", "")], ""),
        (b"retry: 100\nretry: 1x\nretry:\nretry: -1\n", &["Retry(100)".into()], ""),
        (b": hi\n:\nunknown: x\nData: x\n data: x\n\n", &["Comment(\" hi\")".into(), "Comment(\"\")".into()], ""),
        (b"data: a\xffb\n\n", &[event("message", "a\u{fffd}b", "")], ""),
        (b"data: a:b: c\n\n", &[event("message", "a:b: c", "")], ""),
    ];
    for (input, items, id) in table {
        let expected = (items.to_vec(), true, (*id).to_owned());
        assert_eq!(read(&[input], 100), expected, "{input:?}");
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(read(&bytes, 100), expected, "byte by byte: {input:?}");
    }
}

#[test]
fn limits() {
    assert!(read(&[b"data: 789\n"], 9).1);
    assert!(!read(&[b"data: 7890\n"], 9).1);
    assert!(!read(&[b"data: 1234\ndata:56789\n"], 10).1, "an event");
    assert!(!read(&[&[b'x'; 20]], 10).1, "a line without end");
}

#[test]
fn written_form() {
    let full = Event {
        id: Some("7"),
        event: Some("push"),
        data: Some("a\r\nb\rc\n"),
        retry: Some(1500),
    };
    assert_eq!(
        written(&full),
        b"003e\r\nid: 7\nevent: push\nretry: 1500\ndata: a\ndata: b\ndata: c\ndata: \n\n\r\n"
    );
    let mut out = Vec::new();
    write_comment(&mut out, "").unwrap();
    write_end(&mut out);
    assert_eq!(out, b"0003\r\n:\n\n\r\n0\r\n\r\n");
}

#[test]
fn unwritable() {
    let none = Event::default();
    let long = "x".repeat(EVENT_MAX - 8);
    let over = format!("{long}x");
    #[rustfmt::skip]
    let table = [
        (Event { id: Some("a\0"), ..none }, Unwritable::Id),
        (Event { id: Some("a\nb"), ..none }, Unwritable::Id),
        (Event { id: Some("a\r"), ..none }, Unwritable::Id),
        (Event { event: Some(""), ..none }, Unwritable::Type),
        (Event { event: Some("a\n\ndata: x"), ..none }, Unwritable::Type),
        (none, Unwritable::Empty),
        (Event { data: Some(&over), ..none }, Unwritable::TooLong),
    ];
    for (event, why) in table {
        let mut out = Vec::new();
        assert_eq!(write_event(&mut out, &event), Err(why));
        assert!(out.is_empty());
    }
    let most = Event {
        data: Some(&long),
        ..none
    };
    assert_eq!(written(&most).len(), 16_384, "one record");
    let mut out = Vec::new();
    assert_eq!(write_comment(&mut out, "a\nb"), Err(Unwritable::Comment));
}

proptest! {
    #[test]
    fn any_split_gives_the_same(
        bytes in proptest::collection::vec(prop_oneof![
            Just(b'\r'), Just(b'\n'), Just(b':'), Just(b' '), Just(b'd'), any::<u8>()
        ], 0..80),
        fields in proptest::collection::vec(prop_oneof![
            Just(&b"data: x\r\n"[..]), Just(&b"id:1\r"[..]), Just(&b"retry:9\n"[..]), Just(&b"\r\n"[..]), Just(&b"\xef\xbb\xbf"[..])
        ], 0..8),
        limit in 0usize..60,
        cuts in proptest::collection::vec(1usize..9, 0..60),
    ) {
        let input = [fields.concat(), bytes, fields.concat()].concat();
        let (mut rest, mut pieces) = (input.as_slice(), Vec::new());
        for cut in cuts {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces.push(rest);
        prop_assert_eq!(read(&pieces, limit), read(&[&input], limit));
    }

    #[test]
    fn what_is_written_is_read(
        id in "[^\0\r\n]{0,9}", name in "[^\r\n]{1,9}", data in any::<String>(), retry in any::<u32>(),
    ) {
        let event_written = Event { id: Some(&id), event: Some(&name), data: Some(&data), retry: Some(retry) };
        let bytes = written(&event_written);
        let (items, whole, last) = read(&[content(&bytes)], 1 << 16);
        let lines = data.replace("\r\n", "\n").replace('\r', "\n");
        prop_assert_eq!(items, vec![format!("Retry({retry})"), event(&name, &lines, &id)]);
        prop_assert!(whole);
        prop_assert_eq!(last, id);
    }
}
