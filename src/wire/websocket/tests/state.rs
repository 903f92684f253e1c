//! What is kept, until when, and the closing handshake.

use super::*;

#[test]
fn rest_is_a_null_pointer() {
    assert_eq!(size_of::<Parked>(), 8);
    let (now, limits, mut out) = (Instant::now(), Limits::default(), Vec::new());
    let frame = raw(0x81, b"hello");
    let mut parked = Parked::default();
    for at in 1..frame.len() {
        let (mut head, mut tail) = (frame[..at].to_vec(), frame[at..].to_vec());
        let mut socket = parked.unpark(Role::Server, limits);
        let mut used = 0;
        assert_eq!(
            socket.next(&mut head, &mut used, now, &mut out),
            Ok(Event::NeedMore)
        );
        parked = socket.park();
        assert!((1..512).contains(&parked.kept_bytes()));
        assert_eq!(
            parked.next_deadline(&limits),
            Some(now + limits.message_wait)
        );
        let mut socket = parked.unpark(Role::Server, limits);
        let mut used = 0;
        assert_eq!(
            socket.next(&mut tail, &mut used, now, &mut out),
            Ok(Event::Text("hello"))
        );
        assert_eq!(
            socket.next(&mut tail, &mut used, now, &mut out),
            Ok(Event::NeedMore)
        );
        parked = socket.park();
        assert_eq!(parked.kept_bytes(), 0);
        assert_eq!(parked.next_deadline(&limits), None);
    }
    assert!(out.is_empty());
}

#[test]
fn unfinished_message_expires() {
    let (now, limits, mut out) = (Instant::now(), Limits::default(), Vec::new());
    let mut socket = Socket::new(Role::Server, limits);
    let (mut begin, mut more) = (raw(0x01, b"a"), raw(0x00, b"b"));
    socket.next(&mut begin, &mut 0, now, &mut out).unwrap();
    let later = now + limits.message_wait / 2;
    socket.next(&mut more, &mut 0, later, &mut out).unwrap();
    let due = socket.next_deadline().unwrap();
    assert_eq!(due, now + limits.message_wait, "dribbling does not move it");
    assert_eq!(socket.expire(&mut out, later), None);
    assert_eq!(socket.expire(&mut out, due).map(|f| f.code), Some(1008));
    assert_eq!(out[2..4], 1008u16.to_be_bytes());
    assert!(socket.is_done() && socket.next_deadline().is_none());
}

#[test]
fn closing_from_our_side() {
    let (now, limits, mut out) = (Instant::now(), Limits::default(), Vec::new());
    let mut socket = Socket::new(Role::Server, limits);
    assert!(socket.close(&mut out, 1006, "bye", now));
    assert_eq!(out, b"\x88\x05\x03\xf3bye", "1006 is never on the wire");
    assert!(!socket.close(&mut out, 1000, "", now));
    assert!(!socket.send_text(&mut out, "late") && !socket.send_ping(&mut out, b""));
    let parked = socket.park();
    assert_eq!(parked.next_deadline(&limits), Some(now + limits.close_wait));
    let mut socket = parked.unpark(Role::Server, limits);
    let mut input = [raw(0x89, b"p"), raw(0x81, b"still"), raw(0x88, b"\x03\xe8")].concat();
    let mut used = 0;
    let written = out.len();
    assert_eq!(
        socket.next(&mut input, &mut used, now, &mut out),
        Ok(Event::Text("still"))
    );
    let close = Event::Close {
        code: Some(1000),
        reason: "",
    };
    assert_eq!(socket.next(&mut input, &mut used, now, &mut out), Ok(close));
    assert_eq!(
        socket.next(&mut input, &mut used, now, &mut out),
        Ok(Event::Ended)
    );
    assert!(
        socket.is_done() && out.len() == written,
        "no second Close frame"
    );
}

#[test]
fn unanswered_close_expires() {
    let (now, limits, mut out) = (Instant::now(), Limits::default(), Vec::new());
    let mut socket = Socket::new(Role::Server, limits);
    socket.close(&mut out, 1001, &"ä".repeat(100), now);
    assert_eq!(out.len(), 2 + 2 + 122, "cut between characters");
    let written = out.len();
    assert!(socket.expire(&mut out, now + limits.close_wait).is_some());
    assert!(socket.is_done() && out.len() == written);
}
