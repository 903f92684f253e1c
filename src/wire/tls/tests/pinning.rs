//! What we lean on in rustls and rustls does not promise in so many words. **These tests must never be deleted or
//! loosened to make an upgrade pass**: where one fails, the takeover of connections is wrong, and with it every byte that
//! the gateway carries. Read the new rustls, then change `handshake.rs`, then the test.

use super::*;
use crate::wire::record::{Keys, Suite};
use crate::wire::tls::handshake::extracted_keys;
use crate::wire::tls::sink::{Caught, catch};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{ClientConnection, ConnectionTrafficSecrets};

/// Drives an unbuffered server against a buffered client. `feed` says how many bytes of `waiting` rustls may see.
struct Rig {
    server: UnbufferedServerConnection,
    client: Peer,
    caught: Caught,
    waiting: Vec<u8>,
    fed: usize,
    sent: Vec<u8>,
    data: usize,
}

impl Rig {
    fn new(server: ServerConfig) -> Self {
        let client = client_config(all_suites(), false);
        let client = ClientConnection::new(Arc::new(client), name()).unwrap();
        Self {
            server: UnbufferedServerConnection::new(Arc::new(server)).unwrap(),
            client: Peer::new(client.into()),
            caught: Caught::default(),
            waiting: Vec::new(),
            fed: 0,
            sent: Vec::new(),
            data: 0,
        }
    }

    /// Length of the record that follows what was fed.
    fn next_record(&self) -> Option<usize> {
        let rest = self.waiting.get(self.fed..)?;
        let header = crate::wire::record::Header::read(rest)?;
        (rest.len() >= header.record_len()).then(|| header.record_len())
    }

    /// Until the handshake is complete; `one_by_one` is our way, else rustls sees all that is there.
    fn shake_hands(
        &mut self,
        one_by_one: bool,
        mut behind_finished: impl FnMut(&mut Peer) -> Vec<u8>,
    ) {
        let mut said = false;
        for _ in 0..100 {
            self.waiting.extend(self.client.control());
            if !self.client.tls.is_handshaking() && !said {
                said = true;
                self.waiting.extend(behind_finished(&mut self.client));
            }
            if !one_by_one {
                self.fed = self.waiting.len();
            } else if self.fed == 0 {
                self.fed = self.next_record().unwrap_or(0);
            }
            let Self {
                server,
                caught,
                waiting,
                fed,
                sent,
                data,
                ..
            } = self;
            let (discard, done, blocked) = catch(caught, || {
                let UnbufferedStatus { discard, state } =
                    server.process_tls_records(&mut waiting[..*fed]);
                let (mut done, mut blocked) = (false, false);
                match state.unwrap() {
                    ConnectionState::EncodeTlsData(mut encode) => {
                        let mut bytes = [0; 16_384];
                        let n = encode.encode(&mut bytes).unwrap();
                        sent.extend_from_slice(&bytes[..n]);
                    }
                    ConnectionState::TransmitTlsData(transmit) => transmit.done(),
                    ConnectionState::WriteTraffic(_) => done = true,
                    ConnectionState::ReadTraffic(mut traffic) => {
                        while traffic.next_record().is_some() {
                            *data += 1;
                        }
                    }
                    ConnectionState::BlockedHandshake => blocked = true,
                    other => panic!("{other:?}"),
                }
                (discard, done, blocked)
            });
            self.waiting.drain(..discard);
            self.fed -= discard;
            if done {
                return;
            }
            if blocked {
                if let Some(length) = self.next_record().filter(|_| one_by_one) {
                    self.fed += length;
                    continue;
                }
                let sent = std::mem::take(&mut self.sent);
                self.client.receive(&sent);
            }
        }
        panic!("no end to it");
    }
}

fn same(keys: &Keys, secrets: &ConnectionTrafficSecrets) -> bool {
    use ConnectionTrafficSecrets as S;
    match secrets {
        S::Aes128Gcm { key, iv } | S::Aes256Gcm { key, iv } | S::Chacha20Poly1305 { key, iv } => {
            keys.matches(key.as_ref(), iv.as_ref())
        }
        _ => false,
    }
}

/// The secrets of the key log are those of the extracted keys, and our HKDF step gives rustls's next generations; the
/// sequence numbers count the tickets that were sent.
#[test]
fn key_log_secrets_are_the_traffic_secrets() {
    for id in [0x1301, 0x1302, 0x1303] {
        for tickets in [0, 2, 5] {
            let mut config = server_config(&[suite(id)]);
            config.send_tls13_tickets = tickets;
            let mut rig = Rig::new(config);
            rig.shake_hands(true, |_| Vec::new());
            let (extracted, mut kernel) = rig.server.dangerous_into_kernel_connection().unwrap();
            // rustls puts all tickets of a flight in one record.
            assert_eq!(
                (extracted.tx.0, extracted.rx.0),
                (u64::from(tickets > 0), 0)
            );
            let suite = Suite::from_iana(id).unwrap();
            let secret = |caught: Option<Box<crate::wire::tls::sink::Secret>>| {
                Keys::from_secret(suite, caught.unwrap().as_bytes()).unwrap()
            };
            let (mut tx, mut rx) = (secret(rig.caught.server), secret(rig.caught.client));
            assert!(same(&tx, &extracted.tx.1) && same(&rx, &extracted.rx.1));
            assert!(!same(&tx, &extracted.rx.1));
            for _ in 0..3 {
                (tx, rx) = (tx.next().unwrap(), rx.next().unwrap());
                let (sequence, secrets) = kernel.update_tx_secret().unwrap();
                assert!(sequence == 0 && same(&tx, &secrets));
                let (sequence, secrets) = kernel.update_rx_secret().unwrap();
                assert!(sequence == 0 && same(&rx, &secrets));
            }
            assert!(extracted_keys(suite, &extracted.tx.1).is_ok());
        }
    }
}

/// Why rustls is fed one record at a time: given all that is there, it goes on behind Finished, takes a KeyUpdate and the
/// data behind it, and hands out keys of a later generation than the key log's, its answer unsent.
#[test]
fn rustls_goes_on_behind_finished_if_it_can() {
    let behind = |client: &mut Peer| {
        let mut bytes = client.send(b"first");
        client.tls.refresh_traffic_keys().unwrap();
        bytes.extend(client.send(b"second"));
        bytes
    };
    for one_by_one in [true, false] {
        let mut config = server_config(&[suite(0x1301)]);
        config.send_tls13_tickets = 0;
        let mut rig = Rig::new(config);
        rig.shake_hands(one_by_one, behind);
        let left = rig.waiting.len();
        let (extracted, _) = rig.server.dangerous_into_kernel_connection().unwrap();
        let secret = rig.caught.client.unwrap();
        let rx = Keys::from_secret(Suite::Tls13Aes128Gcm, secret.as_bytes()).unwrap();
        if one_by_one {
            assert_eq!((rig.data, extracted.rx.0), (0, 0));
            assert!(left > 0 && same(&rx, &extracted.rx.1));
        } else {
            assert_eq!((rig.data, left), (2, 0));
            assert!(!same(&rx, &extracted.rx.1));
            assert!(same(&rx.next().unwrap(), &extracted.rx.1));
        }
    }
}

/// The certificate resolver sees the name of every hello, of resumed sessions as well, in lower case.
#[test]
fn the_resolver_sees_every_name() {
    for suite in all_suites() {
        let server = Arc::new(server_config(&[*suite]));
        let mut config = client_config(&[*suite], false);
        config.enable_sni = true;
        let client = Arc::new(config);
        for resumed in [false, true] {
            let mut ours = Ours::new(Connection::server(&server).unwrap());
            let name = ServerName::try_from("LocalHost").unwrap();
            let peer = ClientConnection::new(client.clone(), name).unwrap();
            let mut peer = Peer::new(peer.into());
            pump(&mut ours, &mut peer, &mut fastrand::Rng::with_seed(1));
            let established = ours.established.unwrap();
            assert_eq!(established.resumed, resumed);
            assert_eq!(established.sni.as_deref(), Some("localhost"));
        }
    }
}

/// Hooks of the config reach only the connection whose records are processed.
#[test]
fn the_sink_is_closed_outside() {
    use rustls::KeyLog;
    let sink = crate::wire::tls::sink::TrafficSecrets;
    assert!(!sink.will_log("CLIENT_TRAFFIC_SECRET_0"));
    sink.log("CLIENT_TRAFFIC_SECRET_0", &[], &[1; 32]);
    let mut caught = Caught::default();
    catch(&mut caught, || {
        for label in [
            "CLIENT_RANDOM",
            "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
            "SERVER_HANDSHAKE_TRAFFIC_SECRET",
            "CLIENT_EARLY_TRAFFIC_SECRET",
            "EXPORTER_SECRET",
        ] {
            assert!(!sink.will_log(label));
            sink.log(label, &[], &[2; 32]);
        }
        assert!(sink.will_log("SERVER_TRAFFIC_SECRET_0"));
        sink.log("SERVER_TRAFFIC_SECRET_0", &[], &[3; 48]);
    });
    assert!(caught.client.is_none());
    assert_eq!(caught.server.as_ref().unwrap().as_bytes(), [3; 48]);
    // A panic inside leaves nothing open for the next connection.
    let panicked =
        std::panic::catch_unwind(|| catch(&mut Caught::default(), || panic!("on purpose")));
    assert!(panicked.is_err());
    assert!(!sink.will_log("SERVER_TRAFFIC_SECRET_0"));
}

/// Our limit on records under a key is not looser than rustls's.
#[test]
fn record_limits_agree() {
    for suite in all_suites() {
        let ours = Suite::from_iana(u16::from(suite.suite()))
            .unwrap()
            .record_limit();
        let theirs = match suite {
            SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
            SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
        };
        assert!(ours <= theirs, "{suite:?}");
    }
}
