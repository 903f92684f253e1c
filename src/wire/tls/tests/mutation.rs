//! Mutated bytes, by the thousand: nothing panics, and nothing that was not sent is ever taken for data.

use super::*;
use crate::wire::tls::ChooseConfig;

const SEED: u64 = 0x7ee5_1de6;

/// One change somewhere: a bit, a byte, a length field, a cut, a repeat, an insertion.
fn mutate(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) {
    if bytes.is_empty() {
        return;
    }
    let at = random.usize(..bytes.len());
    match random.u8(..8) {
        0 | 1 => bytes[at] ^= 1 << random.u8(..8),
        2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.usize(..5)],
        3 => bytes.truncate(at),
        4 => {
            let end = (at + random.usize(1..40)).min(bytes.len());
            bytes.drain(at..end);
        }
        5 => {
            let end = (at + random.usize(1..200)).min(bytes.len());
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        6 => {
            let noise: Vec<u8> = (0..random.usize(1..40)).map(|_| random.u8(..)).collect();
            bytes.splice(at..at, noise);
        }
        _ => {
            // A record header, by preference: they are at the front.
            let at = random.usize(..bytes.len().min(11));
            bytes[at] = random.u8(..);
        }
    }
}

struct Only(Arc<ServerConfig>);

impl ChooseConfig for Only {
    fn choose(&self, _sni: Option<&str>) -> Option<Arc<ServerConfig>> {
        Some(self.0.clone())
    }
}

/// Flights of handshakes, either side, some of them altered.
#[test]
fn handshakes_survive_mutation() {
    println!("seed {SEED}");
    let suites = [&[suite(0x1301)][..], &[suite(0xc02b)], all_suites()];
    let servers: Vec<_> = suites.iter().map(|s| Arc::new(server_config(s))).collect();
    let clients: Vec<_> = suites
        .iter()
        .map(|s| Arc::new(client_config(s, true)))
        .collect();
    let mut established = 0;
    for case in 0..3000 {
        let mut random = fastrand::Rng::with_seed(SEED ^ case);
        let which = random.usize(..suites.len());
        let (mut ours, mut peer) = if random.bool() {
            let peer = rustls::ClientConnection::new(clients[which].clone(), name()).unwrap();
            let ours = if random.bool() {
                Connection::server(&servers[which]).unwrap()
            } else {
                let choices: Arc<dyn ChooseConfig> = Arc::new(Only(servers[which].clone()));
                Connection::server_by_name(&choices)
            };
            (Ours::new(ours), Peer::new(peer.into()))
        } else {
            let peer = rustls::ServerConnection::new(servers[which].clone()).unwrap();
            (
                Ours::new(Connection::client(&clients[which], name()).unwrap()),
                Peer::new(peer.into()),
            )
        };
        let victim_flight = random.usize(..4);
        for flight in 0..6 {
            let bytes = ours.control();
            peer.receive(&bytes);
            let mut bytes = peer.control();
            if flight == victim_flight {
                for _ in 0..random.usize(1..4) {
                    mutate(&mut bytes, &mut random);
                }
            }
            if random.bool() {
                ours.receive(&bytes);
            } else {
                ours.receive_split(&bytes, &mut random);
            }
        }
        established += usize::from(ours.established.is_some());
    }
    // Some cases change nothing that matters; a run in which none or all got through would test nothing.
    println!("{established} established");
    assert!((1..3000).contains(&established));
}

/// Streams of an established connection: what is given out is a prefix of what was sent, whatever was changed.
#[test]
fn streams_survive_mutation() {
    println!("seed {SEED}");
    for id in [0x1301, 0x1303, 0xc02b, 0xcca9] {
        let suite = suite(id);
        for case in 0..400 {
            let mut random = fastrand::Rng::with_seed(SEED ^ case << 16 ^ u64::from(id));
            let (mut ours, mut peer) = connected(random.bool(), &[suite], &mut random);
            let plain: Vec<u8> = (0..random.usize(1..3000)).map(|_| random.u8(..)).collect();
            let mut bytes = Vec::new();
            for part in plain.chunks(random.usize(1..800)) {
                bytes.extend(peer.send(part));
                if suite.tls13().is_some() && random.u8(..4) == 0 {
                    peer.tls.refresh_traffic_keys().unwrap();
                }
            }
            peer.tls.send_close_notify();
            bytes.extend(peer.control());
            let good = bytes.clone();
            mutate(&mut bytes, &mut random);
            ours.receive_split(&bytes, &mut random);
            assert!(plain.starts_with(&ours.received), "case {case}");
            if bytes == good {
                assert!(ours.closed && ours.received == plain);
            } else if ours.closed {
                // Only what comes behind close_notify may have changed.
                assert!(
                    bytes.starts_with(&good) && ours.received == plain,
                    "case {case}"
                );
            }
        }
    }
}

/// Authentic nonsense: a peer that holds the keys and sends what it likes.
#[test]
fn authentic_nonsense_survives() {
    println!("seed {SEED}");
    let types = [
        ContentType::Alert,
        ContentType::Handshake,
        ContentType::ApplicationData,
    ];
    for id in [0x1301, 0xc02b] {
        let suite = suite(id);
        for case in 0..600 {
            let mut random = fastrand::Rng::with_seed(SEED ^ case << 20 ^ u64::from(id));
            let (server, client) = ours_only(suite, client_config(&[suite], false));
            let (mut victim, mut attacker) = if random.bool() {
                (server, client)
            } else {
                (client, server)
            };
            for _ in 0..random.usize(1..60) {
                let plain: Vec<u8> = match random.u8(..4) {
                    0 => vec![24, 0, 0, 1, random.u8(..3)],
                    1 => vec![4, 0, 0, random.u8(..30), random.u8(..), random.u8(..)],
                    2 => vec![random.u8(1..3), [0, 10, 90, 100][random.usize(..4)]],
                    _ => (0..random.usize(..40)).map(|_| random.u8(..)).collect(),
                };
                let bytes = forge(&mut attacker, types[random.usize(..3)], &plain);
                victim.receive_split(&bytes, &mut random);
                let _ = victim.control();
                if random.u8(..5) == 0 {
                    let _ = attacker.tls.traffic_mut().sealer_mut().update();
                }
            }
        }
    }
}
