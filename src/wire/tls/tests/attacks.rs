//! Peers that misbehave: each gets the right alert, and a line that says what it did.

use super::*;
use crate::wire::tls::{MAX_BARREN_RECORDS, MAX_HANDSHAKE_BYTES};
use rustls::AlertDescription;
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Resumption};
use std::sync::atomic::{AtomicUsize, Ordering};

const TLS13: u16 = 0x1301;
const TLS12: u16 = 0xc02b;

/// A server of ours under attack by a client of ours, whose keys forge what follows.
fn attacked(id: u16) -> (Ours, Ours) {
    ours_only(suite(id), client_config(&[suite(id)], false))
}

/// No site at all.
fn nobody() -> Arc<dyn crate::wire::tls::ChooseConfig> {
    struct Nobody;
    impl crate::wire::tls::ChooseConfig for Nobody {
        fn choose(&self, _sni: Option<&str>) -> Option<Arc<ServerConfig>> {
            None
        }
    }
    Arc::new(Nobody)
}

/// The victim fails with `text`, and its alert reaches the attacker.
fn expect(victim: &mut Ours, attacker: &mut Ours, text: &str, alert: AlertDescription) {
    let error = victim.error.as_ref().expect("no error");
    assert_eq!((error.text.as_str(), error.peer), (text, true));
    assert!(victim.tls.wants_transmit());
    let bytes = victim.send(b"data that was waiting is dropped");
    attacker.receive(&bytes);
    let received = attacker.error.as_ref().unwrap();
    assert_eq!(
        received.received_alert,
        Some(u8::from(alert)),
        "{received:?}"
    );
    assert!(attacker.received.is_empty());
    // Once.
    assert!(!victim.tls.wants_transmit() && victim.control().is_empty());
    let (mut input, mut used) = (bytes, 0);
    assert!(victim.tls.next(&mut input, &mut used).is_err());
    // A received alert is not answered.
    assert!(!attacker.tls.wants_transmit());
}

#[test]
fn not_tls_at_all() {
    let cases: [(&[u8], &str); 8] = [
        (
            b"GET / HTTP/1.1\r\n\r\n",
            "not TLS: looks like an HTTP request",
        ),
        (
            b"CCM_POST /ccm HTTP/1.1\r\n",
            "not TLS: looks like an HTTP request of Configuration Manager",
        ),
        (b"PRI * HTTP/2.0\r\n", "not TLS: looks like an HTTP request"),
        (
            b"HTTP/1.1 400 Bad Request",
            "not TLS: looks like an HTTP response",
        ),
        (b"SSH-2.0-x\r\n", "not TLS: looks like SSH"),
        (
            b"\r\n\r\n\0\r\nQUIT\n",
            "not TLS: looks like a PROXY protocol header from an address that is not listed",
        ),
        (
            &[0x80, 0x2e, 1, 0, 2, 0],
            "not TLS: looks like an SSL 2.0 hello",
        ),
        (&[0; 9], "not TLS"),
    ];
    for (bytes, text) in cases {
        let sides = [
            Ours::server(server_config(all_suites())),
            Ours::new(Connection::server_by_name(&nobody())),
            Ours::client(client_config(all_suites(), false)),
        ];
        for mut ours in sides {
            ours.control();
            for &byte in bytes {
                ours.receive(&[byte]);
            }
            let error = ours.error.unwrap();
            assert_eq!((error.text.as_str(), error.peer), (text, true));
            assert!(!ours.tls.wants_transmit());
        }
    }
}

#[test]
fn a_header_that_lies_is_refused_at_once() {
    // Too long, of a type that TLS over TCP does not have, of another major version.
    for header in [[22, 3, 1, 255, 255], [24, 3, 1, 0, 10], [22, 4, 1, 0, 10]] {
        let mut ours = Ours::server(server_config(all_suites()));
        ours.receive(&header);
        assert!(ours.error.unwrap().peer, "{header:?}");
        let mut ours = Ours::new(Connection::server_by_name(&nobody()));
        ours.receive(&header);
        assert!(ours.error.is_none_or(|error| error.peer), "{header:?}");
    }
}

/// One byte of handshake a record: rustls joins them, we stop counting at the limit.
#[test]
fn an_endless_handshake_ends() {
    let mut ours = Ours::server(server_config(all_suites()));
    let mut bytes = Vec::new();
    for byte in [1, 0, 0xff, 0xff].into_iter().chain(std::iter::repeat(7)) {
        bytes.extend([22, 3, 1, 0, 1, byte]);
        if bytes.len() > MAX_HANDSHAKE_BYTES + 6 {
            break;
        }
    }
    ours.receive(&bytes);
    let error = ours.error.unwrap();
    assert_eq!(
        (error.text.as_str(), error.peer),
        ("handshake longer than 128 KiB", true)
    );
}

#[test]
fn an_altered_record() {
    for id in [TLS13, TLS12] {
        let (mut server, mut client) = attacked(id);
        let mut bytes = client.send(b"pay 100 to bob");
        let at = bytes.len() - 20;
        bytes[at] ^= 1;
        server.receive(&bytes);
        expect(
            &mut server,
            &mut client,
            "bad record mac",
            AlertDescription::BadRecordMac,
        );
        assert!(server.received.is_empty());
    }
}

#[test]
fn a_record_sent_twice() {
    for id in [TLS13, TLS12] {
        let (mut server, mut client) = attacked(id);
        let bytes = client.send(b"once");
        server.receive(&bytes);
        server.receive(&bytes);
        assert_eq!(server.received, b"once");
        expect(
            &mut server,
            &mut client,
            "bad record mac",
            AlertDescription::BadRecordMac,
        );
    }
}

#[test]
fn a_record_shorter_than_its_tag() {
    for id in [TLS13, TLS12] {
        for length in 0..17 {
            let (mut server, mut client) = attacked(id);
            let mut bytes = vec![23, 3, 3, 0, length];
            bytes.extend(vec![0; usize::from(length)]);
            server.receive(&bytes);
            expect(
                &mut server,
                &mut client,
                "bad record mac",
                AlertDescription::BadRecordMac,
            );
        }
    }
}

#[test]
fn headers_after_the_handshake() {
    use AlertDescription as A;
    let cases: [(u16, [u8; 5], &str, A); 6] = [
        (
            TLS13,
            [20, 3, 3, 0, 1],
            "change cipher spec after the handshake",
            A::UnexpectedMessage,
        ),
        (
            TLS13,
            [21, 3, 3, 0, 2],
            "unencrypted record after the handshake",
            A::UnexpectedMessage,
        ),
        (
            TLS13,
            [99, 3, 3, 0, 2],
            "record of an unknown type",
            A::UnexpectedMessage,
        ),
        (
            TLS12,
            [99, 3, 3, 0, 2],
            "record of an unknown type",
            A::UnexpectedMessage,
        ),
        (
            TLS13,
            [23, 3, 3, 0x41, 1],
            "record too long",
            A::RecordOverflow,
        ),
        (
            TLS12,
            [23, 3, 3, 0x40, 25],
            "record too long",
            A::RecordOverflow,
        ),
    ];
    for (id, header, text, alert) in cases {
        // Judged by the header: the record need not come.
        for split in [false, true] {
            let (mut server, mut client) = attacked(id);
            if split {
                server.receive(&header[..3]);
                server.receive(&header[3..]);
            } else {
                server.receive(&header);
            }
            expect(&mut server, &mut client, text, alert);
        }
    }
}

#[test]
fn change_cipher_spec_under_keys() {
    for (id, text) in [
        (TLS13, "record of a type that may not come here"),
        (TLS12, "change cipher spec after the handshake"),
    ] {
        let (mut server, mut client) = attacked(id);
        let bytes = forge(&mut client, ContentType::ChangeCipherSpec, &[1]);
        server.receive(&bytes);
        expect(
            &mut server,
            &mut client,
            text,
            AlertDescription::UnexpectedMessage,
        );
    }
}

#[test]
fn handshake_messages_that_may_not_come() {
    use AlertDescription as A;
    let cases: [(u16, &[u8], &str, A); 11] = [
        (
            TLS12,
            &[1, 0, 0, 0],
            "peer asks for renegotiation, which is refused",
            A::UnexpectedMessage,
        ),
        (
            TLS13,
            &[1, 0, 0, 0],
            "handshake message 1 after the handshake",
            A::UnexpectedMessage,
        ),
        (
            TLS13,
            &[1],
            "handshake message 1 after the handshake",
            A::UnexpectedMessage,
        ),
        (
            TLS13,
            &[4, 0, 0, 1, 0],
            "handshake message 4 after the handshake",
            A::UnexpectedMessage,
        ),
        (
            TLS13,
            &[20, 0, 0, 0],
            "handshake message 20 after the handshake",
            A::UnexpectedMessage,
        ),
        (
            TLS13,
            &[24, 0, 0, 2, 0, 0],
            "key update of a wrong length",
            A::DecodeError,
        ),
        (
            TLS13,
            &[24, 255, 255, 255],
            "key update of a wrong length",
            A::DecodeError,
        ),
        (
            TLS13,
            &[24, 0, 0, 1, 2],
            "key update of unknown kind",
            A::IllegalParameter,
        ),
        (
            TLS13,
            &[24, 0, 0, 1, 0, 24, 0, 0, 1, 0],
            "handshake message behind a key update in one record",
            A::UnexpectedMessage,
        ),
        (
            TLS13,
            &[24, 0, 0, 1, 0, 24],
            "handshake message behind a key update in one record",
            A::UnexpectedMessage,
        ),
        (TLS13, &[], "empty handshake record", A::UnexpectedMessage),
    ];
    for (id, message, text, alert) in cases {
        let (mut server, mut client) = attacked(id);
        let bytes = forge(&mut client, ContentType::Handshake, message);
        server.receive(&bytes);
        expect(&mut server, &mut client, text, alert);
    }
}

#[test]
fn nothing_comes_between_the_parts_of_a_message() {
    for (content_type, plain) in [
        (ContentType::ApplicationData, &b"x"[..]),
        (ContentType::ApplicationData, b""),
        (ContentType::Alert, &[1, 0]),
    ] {
        let (mut server, mut client) = attacked(TLS13);
        let mut bytes = forge(&mut client, ContentType::Handshake, &[24, 0]);
        bytes.extend(forge(&mut client, content_type, plain));
        server.receive(&bytes);
        let text = "record between the parts of a handshake message";
        expect(
            &mut server,
            &mut client,
            text,
            AlertDescription::UnexpectedMessage,
        );
    }
}

#[test]
fn a_key_update_may_come_in_parts() {
    let (mut server, mut client) = attacked(TLS13);
    let mut bytes = Vec::new();
    for part in [&[24][..], &[0, 0], &[1], &[1]] {
        bytes.extend(forge(&mut client, ContentType::Handshake, part));
    }
    assert!(server.error.is_none());
    server.receive(&bytes);
    // The forged one told only the server: the client's keys follow by a way of the test.
    assert_eq!(server.error, None);
    assert!(server.tls.wants_transmit());
}

#[test]
fn records_without_data_are_counted() {
    let empty = (ContentType::ApplicationData, &[][..]);
    let canceled = (ContentType::Alert, &[1, 90][..]);
    for (id, (content_type, plain)) in [
        (TLS13, empty),
        (TLS12, empty),
        (TLS13, canceled),
        (TLS12, canceled),
    ] {
        let (mut server, mut client) = attacked(id);
        for _ in 0..3 {
            for _ in 1..MAX_BARREN_RECORDS {
                let bytes = forge(&mut client, content_type, plain);
                server.receive(&bytes);
            }
            let bytes = client.send(b"x");
            server.receive(&bytes);
        }
        assert_eq!((&server.received[..], &server.error), (&b"xxx"[..], &None));
        for _ in 0..MAX_BARREN_RECORDS {
            let bytes = forge(&mut client, content_type, plain);
            server.receive(&bytes);
        }
        let text = "too many records in a row without data";
        expect(
            &mut server,
            &mut client,
            text,
            AlertDescription::UnexpectedMessage,
        );
    }
}

#[test]
fn key_updates_are_counted() {
    let (mut server, mut client) = attacked(TLS13);
    for _ in 0..MAX_BARREN_RECORDS {
        client.tls.update_keys(true);
        let bytes = client.control();
        server.receive(&bytes);
    }
    let text = "too many records in a row without data";
    expect(
        &mut server,
        &mut client,
        text,
        AlertDescription::UnexpectedMessage,
    );
}

#[test]
fn alerts_of_the_peer() {
    // TLS 1.3 ignores the level, TLS 1.2 has warnings that do not end it.
    for (id, alert, ends) in [
        (TLS13, [2, 80], true),
        (TLS13, [1, 80], true),
        (TLS13, [1, 90], false),
        (TLS12, [2, 80], true),
        (TLS12, [1, 80], false),
        (TLS12, [1, 100], false),
    ] {
        let (mut server, mut client) = attacked(id);
        let bytes = forge(&mut client, ContentType::Alert, &alert);
        server.receive(&bytes);
        assert_eq!(server.error.is_some(), ends, "{id} {alert:?}");
        if let Some(error) = &server.error {
            assert_eq!(error.received_alert, Some(alert[1]));
            assert_eq!(error.text, "peer sent fatal alert: internal error");
            assert!(!server.tls.wants_transmit());
        }
    }
    for (id, alert, text, answer) in [
        (
            TLS13,
            &[2][..],
            "alert of a wrong length",
            AlertDescription::DecodeError,
        ),
        (
            TLS13,
            &[2, 80, 0],
            "alert of a wrong length",
            AlertDescription::DecodeError,
        ),
        (
            TLS12,
            &[],
            "alert of a wrong length",
            AlertDescription::DecodeError,
        ),
        (
            TLS12,
            &[7, 80],
            "alert of an unknown level",
            AlertDescription::IllegalParameter,
        ),
    ] {
        let (mut server, mut client) = attacked(id);
        let bytes = forge(&mut client, ContentType::Alert, alert);
        server.receive(&bytes);
        expect(&mut server, &mut client, text, answer);
    }
}

/// Counts what is stored.
#[derive(Debug)]
struct Counting(AtomicUsize, ClientSessionMemoryCache);

impl ClientSessionStore for Counting {
    fn set_kx_hint(&self, name: ServerName<'static>, group: rustls::NamedGroup) {
        self.1.set_kx_hint(name, group);
    }
    fn kx_hint(&self, name: &ServerName<'_>) -> Option<rustls::NamedGroup> {
        self.1.kx_hint(name)
    }
    fn set_tls12_session(
        &self,
        name: ServerName<'static>,
        value: rustls::client::Tls12ClientSessionValue,
    ) {
        self.1.set_tls12_session(name, value);
    }
    fn tls12_session(
        &self,
        name: &ServerName<'_>,
    ) -> Option<rustls::client::Tls12ClientSessionValue> {
        self.1.tls12_session(name)
    }
    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.1.remove_tls12_session(name);
    }
    fn insert_tls13_ticket(
        &self,
        name: ServerName<'static>,
        value: rustls::client::Tls13ClientSessionValue,
    ) {
        self.0.fetch_add(1, Ordering::Relaxed);
        self.1.insert_tls13_ticket(name, value);
    }
    fn take_tls13_ticket(
        &self,
        name: &ServerName<'static>,
    ) -> Option<rustls::client::Tls13ClientSessionValue> {
        self.1.take_tls13_ticket(name)
    }
}

/// A NewSessionTicket (RFC 8446 §4.6.1) with a ticket of that many bytes.
fn ticket(length: usize) -> Vec<u8> {
    let mut body = [0, 0, 14, 16, 1, 2, 3, 4, 1, 9].to_vec();
    body.extend((length as u16).to_be_bytes());
    body.extend(vec![5; length]);
    body.extend([0, 0]);
    let mut message = (body.len() as u32).to_be_bytes().to_vec();
    message[0] = 4;
    message.extend(body);
    message
}

#[test]
fn tickets_come_in_any_cut() {
    let store = Arc::new(Counting(
        AtomicUsize::new(0),
        ClientSessionMemoryCache::new(8),
    ));
    let mut config = client_config(&[suite(TLS13)], false);
    config.resumption = Resumption::store(store.clone());
    let (mut server, mut client) = ours_only(suite(TLS13), config);
    let stored = || store.0.swap(0, Ordering::Relaxed);
    assert!(stored() > 0); // those of the handshake's end

    // Three in one record, a key update at its end.
    let mut all = [ticket(10), ticket(200), ticket(1)].concat();
    all.extend([24, 0, 0, 1, 1]);
    let bytes = forge(&mut server, ContentType::Handshake, &all);
    assert!(server.tls.traffic_mut().sealer_mut().update());
    client.receive(&bytes);
    assert_eq!((client.error.as_ref(), stored()), (None, 3));

    // One over several records, the next begun in the last of them.
    let both = [ticket(20_000), ticket(30)].concat();
    for part in both.chunks(9001) {
        let bytes = forge(&mut server, ContentType::Handshake, part);
        client.receive(&bytes);
    }
    assert_eq!((client.error.as_ref(), stored()), (None, 2));
    let bytes = server.send(b"data");
    client.receive(&bytes);
    assert_eq!(client.received, b"data");
}

#[test]
fn tickets_that_are_none() {
    use AlertDescription as A;
    let mut broken = ticket(10);
    broken[14] = 99; // the ticket's length
    for (message, text, alert) in [
        (
            vec![4, 1, 0, 0, 0],
            "session ticket too long",
            A::DecodeError,
        ),
        (
            broken,
            "session ticket: received corrupt message",
            A::DecodeError,
        ),
        (
            vec![13, 0, 0, 0],
            "handshake message 13 after the handshake",
            A::UnexpectedMessage,
        ),
    ] {
        let (mut server, mut client) = attacked(TLS13);
        let bytes = forge(&mut server, ContentType::Handshake, &message);
        client.receive(&bytes);
        let error = client.error.clone().unwrap();
        assert!(error.peer && error.text.starts_with(text), "{error:?}");
        let bytes = client.control();
        server.receive(&bytes);
        assert_eq!(server.error.unwrap().received_alert, Some(u8::from(alert)));
    }
}

/// rustls understands our alert.
#[test]
fn alerts_reach_rustls() {
    each(|we_serve, suite, random| {
        let (mut ours, mut peer) = connected(we_serve, &[suite], random);
        let mut bytes = peer.send(b"x");
        *bytes.last_mut().unwrap() ^= 1;
        ours.receive(&bytes);
        assert_eq!(ours.error.as_ref().unwrap().text, "bad record mac");
        let bytes = ours.control();
        peer.receive(&bytes);
        let alert = rustls::Error::AlertReceived(AlertDescription::BadRecordMac);
        assert_eq!(peer.error, Some(alert));
    });
}
