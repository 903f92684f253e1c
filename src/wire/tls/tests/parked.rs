//! A parked connection against rustls, against clients of ours that misbehave, and against its twin that never parked:
//! with the same keys and the same events the two must give the same bytes.

use super::*;
use crate::wire::tls::{MAX_BARREN_RECORDS, MAX_PARKED_RECORD, Parked, ParkedStep};
use proptest::prelude::*;
use rustls::AlertDescription as A;

/// A parked connection with what came of it, and the owner's box for a partial record.
pub struct Idle {
    pub tls: Parked,
    held: Vec<u8>,
    /// Bytes that came, of whatever kind.
    pub fed: usize,
    pub received: Vec<u8>,
    pub closed: bool,
    pub error: Option<TlsError>,
}

impl Idle {
    pub fn of(tls: Connection) -> Self {
        Self {
            tls: tls.park().expect("nothing waits in it"),
            held: Vec::new(),
            fed: 0,
            received: Vec::new(),
            closed: false,
            error: None,
        }
    }

    pub fn receive(&mut self, bytes: &[u8]) {
        if self.error.is_some() {
            return;
        }
        self.fed += bytes.len();
        self.held.extend_from_slice(bytes);
        let mut used = 0;
        loop {
            match self.tls.open(&mut self.held, &mut used) {
                Ok(ParkedStep::Idle) => {
                    assert_eq!(used, self.held.len(), "input left over");
                    break;
                }
                Ok(ParkedStep::Partial(length)) => {
                    assert!(self.held.len() - used < length && length <= MAX_PARKED_RECORD);
                    break;
                }
                Ok(ParkedStep::Data(data)) => {
                    assert!(!data.is_empty());
                    self.received.extend_from_slice(data);
                }
                Ok(ParkedStep::Closed) => {
                    self.closed = true;
                    break;
                }
                Err(error) => {
                    self.error = Some(error);
                    break;
                }
            }
        }
        self.held.drain(..used);
    }

    pub fn send(&mut self, plain: &[u8]) -> Vec<u8> {
        self.try_send(plain).unwrap()
    }

    fn try_send(&mut self, plain: &[u8]) -> Result<Vec<u8>, TlsError> {
        let mut out = Outgoing::new(self.tls.layout(), Vec::new());
        out.put(plain);
        self.tls.seal(out)
    }

    pub fn control(&mut self) -> Vec<u8> {
        self.send(&[])
    }

    /// Through a whole connection and back, if it may park.
    pub fn cycle(self) -> Self {
        if self.tls.wants_transmit() || self.error.is_some() {
            return self;
        }
        let tls = self.tls.wake();
        assert!(tls.is_established());
        let tls = tls.park().expect("nothing waits in it");
        Self { tls, ..self }
    }
}

/// A parked server, and the client of ours that talks to it.
fn idle_server(id: u16) -> (Idle, Ours) {
    let (server, client) = ours_only(suite(id), client_config(&[suite(id)], false));
    (Idle::of(server.tls), client)
}

/// A parked connection that nobody is at the other end of, for tests elsewhere.
pub fn one() -> Parked {
    thread_local! {
        static ONE: Parked = {
            let (server, _) = ours_only(suite(0x1301), client_config(&[suite(0x1301)], false));
            server.tls.park().expect("nothing waits in it")
        };
    }
    ONE.with(Parked::twin)
}

#[test]
fn rustls_sees_no_difference() {
    each(|we_serve, suite, random| {
        let client = parking_client_config(&[suite]);
        let (ours, mut peer) = connected_by(we_serve, &[suite], client, random);
        let mut idle = Idle::of(ours.tls);
        let (mut there, mut back) = (Vec::new(), Vec::new());
        for _ in 0..200 {
            match random.u8(..7) {
                0 => idle.tls.update_keys(random.bool()),
                1 if suite.tls13().is_some() => peer.tls.refresh_traffic_keys().unwrap(),
                2 | 3 => {
                    let part = vec![random.u8(..); random.usize(1..40_000)];
                    let bytes = idle.send(&part);
                    peer.receive(&bytes);
                    there.extend(part);
                }
                4 | 5 => {
                    let part = vec![random.u8(..); random.usize(1..2000)];
                    for piece in peer.send(&part).chunks(random.usize(1..900)) {
                        idle.receive(piece);
                    }
                    back.extend(part);
                }
                _ => idle = idle.cycle(),
            }
            if random.bool() {
                let bytes = idle.control();
                peer.receive(&bytes);
                let bytes = peer.control();
                idle.receive(&bytes);
            }
            assert_eq!((&idle.error, &peer.error), (&None, &None));
        }
        let bytes = idle.control();
        peer.receive(&bytes);
        assert!(peer.received == there && idle.received == back);

        // The orderly end, half by half.
        peer.tls.send_close_notify();
        let bytes = peer.control();
        idle.receive(&bytes);
        assert!(idle.closed);
        idle = idle.cycle();
        idle.receive(b"whatever comes behind it");
        assert_eq!((idle.closed, &idle.error), (true, &None));
        idle.tls.close();
        assert!(idle.tls.wants_transmit());
        let bytes = idle.send(b"thanks");
        peer.receive(&bytes);
        assert!(peer.closed && peer.received.ends_with(b"thanks"));
        assert!(!idle.tls.wants_transmit() && idle.control().is_empty());
    });
}

#[test]
fn parking_is_refused_while_something_waits() {
    let aes = suite(0x1301);
    let pair = || ours_only(aes, client_config(&[aes], false));
    // A partial record.
    let (mut server, mut client) = pair();
    let bytes = client.send(b"data");
    server.receive(&bytes[..7]);
    let tls = server.tls.park().unwrap_err();
    let mut server = Ours { tls, ..server };
    server.receive(&bytes[7..]);
    assert_eq!(server.received, b"data");
    // A key update that was not answered; a close_notify that was not sent.
    client.tls.update_keys(true);
    let bytes = client.control();
    server.receive(&bytes);
    let tls = server.tls.park().unwrap_err();
    let mut server = Ours { tls, ..server };
    server.control();
    server.tls.close();
    assert!(server.tls.park().is_err());
    // One that failed.
    let (mut server, _) = pair();
    server.receive(&[23, 3, 3, 0, 1, 0]);
    server.control();
    assert!(server.error.is_some() && server.tls.park().is_err());
    // One that is not established, and a client's side that stores tickets.
    let (_, client) = pair();
    assert!(client.tls.park().is_err());
    let hello = Connection::server(&Arc::new(server_config(all_suites()))).unwrap();
    assert!(hello.park().is_err());
}

#[test]
fn a_parked_client_drops_tickets_and_takes_long_records() {
    let aes = suite(0x1301);
    let (mut server, client) = ours_only(aes, parking_client_config(&[aes]));
    let mut idle = Idle::of(client.tls);
    let ticket = [
        4, 0, 0, 20, 0, 0, 1, 0, 1, 2, 3, 4, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7, 0, 0,
    ];
    let mut bytes = forge(&mut server, ContentType::Handshake, &ticket);
    // Cut in parts it is taken too, when both arrive together.
    bytes.extend(forge(&mut server, ContentType::Handshake, &ticket[..9]));
    bytes.extend(forge(&mut server, ContentType::Handshake, &ticket[9..]));
    bytes.extend(server.send(&[7; 16_000]));
    idle.receive(&bytes);
    assert_eq!((&idle.error, idle.received.len()), (&None, 16_000));
    let answer = idle.send(b"thanks");
    server.receive(&answer);
    assert_eq!(server.received, b"thanks");

    let bytes = forge(&mut server, ContentType::Handshake, &ticket[..9]);
    idle.receive(&bytes);
    let error = idle.error.as_ref().expect("a part cannot be kept");
    assert!(!error.peer && error.text.contains("ticket"), "{error:?}");
    let alert = idle.control();
    server.receive(&alert);
    assert!(server.error.is_some());
}

/// The victim fails with `text`, and its alert reaches the attacker; once.
fn expect(victim: &mut Idle, attacker: &mut Ours, text: &str, alert: A) {
    let error = victim.error.as_ref().expect("no error");
    assert_eq!((error.text.as_str(), error.peer), (text, true));
    assert!(victim.tls.wants_transmit());
    let bytes = victim.send(b"data that was waiting is dropped");
    attacker.receive(&bytes);
    let received = attacker.error.as_ref().unwrap();
    assert_eq!(received.received_alert, Some(u8::from(alert)));
    assert!(attacker.received.is_empty());
    assert!(!victim.tls.wants_transmit() && victim.control().is_empty());
    assert!(victim.tls.open(&mut [0; 9], &mut 0).is_err());
}

#[test]
fn what_may_not_come_ends_it_with_the_right_alert() {
    use ContentType as C;
    type Case = (u16, C, &'static [u8], &'static str, A);
    #[rustfmt::skip]
    let cases: [Case; 8] = [
        (0x1301, C::Handshake, &[1, 0, 0, 0], "handshake message 1 after the handshake", A::UnexpectedMessage),
        (0x1302, C::Handshake, &[24, 0, 0, 1, 2], "key update of unknown kind", A::IllegalParameter),
        (0x1303, C::Handshake, &[24, 0, 1], "key update of a wrong length", A::DecodeError),
        (0x1301, C::ChangeCipherSpec, &[1], "record of a type that may not come here", A::UnexpectedMessage),
        (0xc02b, C::ChangeCipherSpec, &[1], "change cipher spec after the handshake", A::UnexpectedMessage),
        (0xc02c, C::Handshake, &[1, 0, 0, 0], "peer asks for renegotiation, which is refused", A::UnexpectedMessage),
        (0xcca9, C::Alert, &[7, 80], "alert of an unknown level", A::IllegalParameter),
        (0x1301, C::Alert, &[2], "alert of a wrong length", A::DecodeError),
    ];
    for (id, content_type, plain, text, alert) in cases {
        let (mut server, mut client) = idle_server(id);
        let bytes = forge(&mut client, content_type, plain);
        server.receive(&bytes);
        expect(&mut server, &mut client, text, alert);
    }
}

#[test]
fn an_altered_or_repeated_record() {
    for id in [0x1301, 0x1302, 0x1303, 0xc02b, 0xc02c, 0xcca9] {
        let (mut server, mut client) = idle_server(id);
        let bytes = client.send(b"once");
        server.receive(&bytes);
        server.receive(&bytes);
        expect(&mut server, &mut client, "bad record mac", A::BadRecordMac);
        assert_eq!(server.received, b"once");

        let (mut server, mut client) = idle_server(id);
        let mut bytes = client.send(b"pay 100 to bob");
        let at = bytes.len() - 20;
        bytes[at] ^= 1;
        server.receive(&bytes);
        expect(&mut server, &mut client, "bad record mac", A::BadRecordMac);
        assert!(server.received.is_empty());
    }
}

/// Both sides of the limit; the header alone is enough to refuse.
#[test]
fn a_parked_connection_takes_records_up_to_its_limit() {
    for id in [0x1301, 0xc02b, 0xcca9] {
        let (mut server, mut client) = idle_server(id);
        let layout = server.tls.layout();
        let most = MAX_PARKED_RECORD - usize::from(layout.prefix) - usize::from(layout.suffix);
        let bytes = client.send(&vec![1; most]);
        assert_eq!(bytes.len(), MAX_PARKED_RECORD);
        server.receive(&bytes[..MAX_PARKED_RECORD - 1]);
        assert!(server.received.is_empty());
        server.receive(&bytes[MAX_PARKED_RECORD - 1..]);
        assert_eq!(server.received, vec![1; most]);
        let bytes = client.send(&vec![2; most + 1]);
        server.receive(&bytes[..5]);
        let text = "record longer than an idle connection takes";
        expect(&mut server, &mut client, text, A::RecordOverflow);
    }
    let (mut server, mut client) = idle_server(0x1301);
    server.receive(&[20, 3, 3, 0, 1]);
    let text = "change cipher spec after the handshake";
    expect(&mut server, &mut client, text, A::UnexpectedMessage);
}

/// Counted over park and wake: neither is a way around the limit.
#[test]
fn records_without_data_are_counted() {
    for id in [0x1301, 0xc02b] {
        let (mut server, mut client) = idle_server(id);
        for _ in 1..MAX_BARREN_RECORDS {
            let bytes = forge(&mut client, ContentType::ApplicationData, b"");
            server.receive(&bytes);
            server = server.cycle();
            assert_eq!(server.error, None);
        }
        let bytes = forge(&mut client, ContentType::ApplicationData, b"");
        server.receive(&bytes);
        let text = "too many records in a row without data";
        expect(&mut server, &mut client, text, A::UnexpectedMessage);
    }
}

#[test]
fn the_peers_alert_is_not_answered() {
    let (mut server, mut client) = idle_server(0x1301);
    let bytes = forge(&mut client, ContentType::Alert, &[2, 80]);
    server.receive(&bytes);
    assert_eq!(server.error.unwrap().received_alert, Some(80));
    assert!(!server.tls.wants_transmit());
}

#[test]
fn a_used_up_key_is_renewed_while_parked() {
    for id in [0x1301, 0x1302, 0x1303] {
        let (server, mut client) = ours_only(suite(id), client_config(&[suite(id)], false));
        let mut tls = server.tls;
        let limit = tls.traffic_mut().suite().record_limit();
        tls.traffic_mut().sealer_mut().set_sequence(limit - 17);
        client
            .tls
            .traffic_mut()
            .opener_mut()
            .set_sequence(limit - 17);
        let mut server = Idle::of(tls);
        // One record is left: the next one makes a KeyUpdate.
        for (data, records) in [(b"a", 1), (b"b", 2), (b"c", 1)] {
            let bytes = server.send(data);
            let update = if records == 2 { 5 + 5 + 17 } else { 0 };
            assert_eq!(bytes.len(), update + 5 + 1 + 17);
            client.receive(&bytes);
        }
        assert_eq!((&client.received[..], &client.error), (&b"abc"[..], &None));
    }
}

#[test]
fn a_used_up_key_of_tls12_ends_a_parked_connection() {
    for id in [0xc02b, 0xc02c] {
        let (server, mut client) = ours_only(suite(id), client_config(&[suite(id)], false));
        let mut tls = server.tls;
        let limit = tls.traffic_mut().suite().record_limit();
        tls.traffic_mut().sealer_mut().set_sequence(limit - 17);
        client
            .tls
            .traffic_mut()
            .opener_mut()
            .set_sequence(limit - 17);
        let mut server = Idle::of(tls);
        let bytes = server.send(b"last");
        client.receive(&bytes);
        let error = server.try_send(b"one too many").unwrap_err();
        assert!(!error.peer && server.tls.wants_transmit());
        let bytes = server.control();
        client.receive(&bytes);
        assert_eq!((client.closed, &client.error), (true, &None));
        assert_eq!(client.received, b"last");
        assert!(!server.tls.wants_transmit());
    }
}

/// The promise that a million channels rest on.
#[test]
fn a_parked_connection_is_160_bytes_and_nothing_else() {
    assert_eq!(size_of::<Parked>(), 160);
    // Arrays and bytes only: no pointer has room in what they leave.
    assert_eq!(align_of::<Parked>(), 1);
    assert!(size_of::<Option<Parked>>() == 160);
}

#[test]
fn parked_ones_move_between_threads_and_print_no_secret() {
    fn is_send<T: Send>() {}
    is_send::<Parked>();
    let (server, _) = idle_server(0x1302);
    assert_eq!(
        format!("{:?}", server.tls),
        "Parked { suite: Tls13Aes256Gcm, .. }"
    );
}

/// The same connection twice: parked, and as it would be had it not been parked.
struct Twins {
    idle: Idle,
    awake: Ours,
    client: Ours,
    /// Sent by the client, on its way.
    on_the_way: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Event {
    ClientSends(usize),
    ClientForges(ContentType, Vec<u8>),
    ClientUpdates(bool),
    ClientCloses,
    /// Flips a bit of what is on the way.
    Alter(prop::sample::Index),
    Noise(Vec<u8>),
    /// So much of what is on the way arrives.
    Arrive(prop::sample::Index),
    ArriveAll,
    ServerSends(Vec<usize>),
    ServerUpdates(bool),
    ServerCloses,
    Cycle,
}

fn event() -> impl Strategy<Value = Event> {
    use prop::collection::vec;
    let forged = prop::sample::select(vec![
        (ContentType::ApplicationData, vec![]),
        (ContentType::Alert, vec![1, 90]),
        (ContentType::Alert, vec![1, 100]),
        (ContentType::Alert, vec![2, 40]),
        (ContentType::Handshake, vec![24]),
        (ContentType::Handshake, vec![0, 0, 1]),
        (ContentType::Handshake, vec![24, 0, 0, 1]),
        (ContentType::Handshake, vec![24, 1]),
        (ContentType::Handshake, vec![1, 0, 0, 0]),
        (ContentType::ChangeCipherSpec, vec![1]),
    ]);
    prop_oneof![
        12 => (1usize..1900).prop_map(Event::ClientSends),
        2 => forged.prop_map(|(content_type, plain)| Event::ClientForges(content_type, plain)),
        4 => any::<bool>().prop_map(Event::ClientUpdates),
        1 => Just(Event::ClientCloses),
        1 => any::<prop::sample::Index>().prop_map(Event::Alter),
        1 => vec(any::<u8>(), 1..30).prop_map(Event::Noise),
        8 => any::<prop::sample::Index>().prop_map(Event::Arrive),
        8 => Just(Event::ArriveAll),
        12 => vec(1usize..20_000, 0..3).prop_map(Event::ServerSends),
        4 => any::<bool>().prop_map(Event::ServerUpdates),
        1 => Just(Event::ServerCloses),
        8 => Just(Event::Cycle),
    ]
}

impl Twins {
    fn new(suite: SupportedCipherSuite) -> Self {
        let (server, client) = ours_only(suite, client_config(&[suite], false));
        let idle = Idle::of(server.tls);
        let mut awake = Ours::new(idle.tls.twin().wake());
        awake.is_established = true;
        Self {
            idle,
            awake,
            client,
            on_the_way: Vec::new(),
        }
    }

    fn arrive(&mut self, length: usize) {
        let bytes: Vec<u8> = self.on_the_way.drain(..length).collect();
        self.idle.receive(&bytes);
        self.awake.receive(&bytes);
    }

    fn server_sends(&mut self, parts: &[usize]) {
        let is_open = !self.idle.tls.twin().wake().is_closing();
        let seal = |out: &mut Outgoing| {
            for &length in parts.iter().filter(|_| is_open) {
                out.put(&vec![length as u8; length]);
                out.end_record();
            }
        };
        let mut out = Outgoing::new(self.idle.tls.layout(), Vec::new());
        seal(&mut out);
        let idle = self.idle.tls.seal(out);
        let mut out = Outgoing::new(self.awake.tls.layout(), Vec::new());
        seal(&mut out);
        let awake = self.awake.tls.transmit(out);
        assert_eq!(idle, awake);
        if let Ok(bytes) = idle {
            self.client.receive(&bytes);
        }
    }

    fn happens(mut self, event: &Event) -> Self {
        match event {
            Event::ClientSends(length) if !self.client.tls.is_closing() => {
                let bytes = self.client.send(&vec![*length as u8; *length]);
                self.on_the_way.extend(bytes);
            }
            Event::ClientForges(content_type, plain) => {
                let bytes = forge(&mut self.client, *content_type, plain);
                self.on_the_way.extend(bytes);
            }
            Event::ClientUpdates(both) => {
                self.client.tls.update_keys(*both);
                let bytes = self.client.control();
                self.on_the_way.extend(bytes);
            }
            Event::ClientCloses => {
                self.client.tls.close();
                let bytes = self.client.control();
                self.on_the_way.extend(bytes);
            }
            Event::Alter(at) if !self.on_the_way.is_empty() => {
                let at = at.index(self.on_the_way.len());
                self.on_the_way[at] ^= 4;
            }
            Event::Noise(noise) => self.on_the_way.extend(noise),
            Event::Arrive(part) => self.arrive(part.index(self.on_the_way.len() + 1)),
            Event::ArriveAll => self.arrive(self.on_the_way.len()),
            Event::ServerSends(parts) => self.server_sends(parts),
            Event::ServerUpdates(both) => {
                self.idle.tls.update_keys(*both);
                self.awake.tls.update_keys(*both);
            }
            Event::ServerCloses => {
                self.idle.tls.close();
                self.awake.tls.close();
            }
            Event::Cycle => self.idle = self.idle.cycle(),
            Event::ClientSends(_) | Event::Alter(_) => {}
        }
        self
    }

    fn compare(&self) {
        let (idle, awake) = (&self.idle, &self.awake);
        assert_eq!(idle.closed, awake.closed);
        assert!(idle.received == awake.received);
        assert_eq!(idle.tls.wants_transmit(), awake.tls.wants_transmit());
        assert_eq!(idle.error, awake.error);
    }

    /// The one thing that only a parked connection refuses.
    fn is_over_the_limit(&self) -> bool {
        let error = self.idle.error.as_ref();
        error.is_some_and(|error| error.text.contains("longer than an idle"))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_twin_that_never_parked_does_the_same(
        which in any::<prop::sample::Index>(),
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut twins = Twins::new(all_suites()[which.index(all_suites().len())]);
        for event in &events {
            twins = twins.happens(event);
            if twins.is_over_the_limit() {
                break;
            }
            twins.compare();
        }
    }
}
