//! Anything at any time: many connections whose owners do random things, checked against what was sent.

use super::*;
use fastrand::Rng;

const CONNECTIONS_MAX: usize = 24;
const STEPS: usize = 1_500;

/// One end of a connection, as its owner sees it.
struct End {
    ring: usize,
    socket: SocketId,
    /// Which connection, and which of its ends: decides the bytes that it sends.
    stream: u64,
    peer: u64,
    direct: bool,
    sent: usize,
    received: usize,
    in_flight: bool,
    shut: bool,
    finished: bool,
    failed: bool,
    detaching: bool,
    paused_since_gone: bool,
}

/// The byte at a place of a stream.
fn byte(stream: u64, at: usize) -> u8 {
    let mixed = (stream << 40 | at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8
}

struct Chaos<W: World> {
    bench: Bench<W>,
    rng: Rng,
    ends: Vec<End>,
    streams: u64,
    addrs: [SocketAddr; 2],
    moved: usize,
    bytes: usize,
}

impl<W: World> Chaos<W> {
    fn new(seed: u64) -> Self {
        let config = RingConfig {
            small_buffers: (8, 512),
            large_buffers: (4, 4_096),
            close_patience: Duration::from_millis(50),
            ..RingConfig::default()
        };
        let mut bench = Bench::<W>::with(&config);
        let addrs = [bench.listen(false).1, bench.listen(true).1];
        let rng = Rng::with_seed(seed);
        Chaos {
            bench,
            rng,
            ends: Vec::new(),
            streams: 0,
            addrs,
            moved: 0,
            bytes: 0,
        }
    }

    fn connect(&mut self) {
        let direct = self.rng.bool();
        let ours_direct = self.rng.bool();
        let addr = self.addrs[direct as usize];
        let (client, server) = self.bench.connect_by(addr, ours_direct);
        for (ring, socket, direct) in [(0, client, ours_direct), (1, server, direct)] {
            let stream = self.streams + ring as u64;
            let peer = self.streams + 1 - ring as u64;
            self.ends.push(End {
                ring,
                socket,
                stream,
                peer,
                direct,
                sent: 0,
                received: 0,
                in_flight: false,
                shut: false,
                finished: false,
                failed: false,
                detaching: false,
                paused_since_gone: false,
            });
        }
        self.streams += 2;
        self.look_at_all(); // what came for others meanwhile
    }

    fn act(&mut self) {
        if self.ends.is_empty() || (self.ends.len() < CONNECTIONS_MAX && self.rng.u8(..) < 20) {
            return self.connect();
        }
        let index = self.rng.usize(0..self.ends.len());
        let end = &mut self.ends[index];
        if end.detaching {
            return;
        }
        let ring = self.bench.world.ring(end.ring);
        match self.rng.u8(0..100) {
            0..40 => {
                let mode = [Receive::Paused, Receive::Small, Receive::Large][self.rng.usize(0..3)];
                ring.receive(end.socket, mode);
                end.paused_since_gone = false;
            }
            40..90 if !end.in_flight && !end.shut && !end.failed => {
                let bits = self.rng.u32(1..19);
                let len = self.rng.usize(1..1 << bits);
                let bytes = (end.sent..end.sent + len)
                    .map(|at| byte(end.stream, at))
                    .collect();
                end.sent += len;
                end.in_flight = true;
                ring.send(end.socket, bytes);
            }
            90..92 if !end.shut => {
                end.shut = true;
                ring.shutdown_write(end.socket);
            }
            92..94 => {
                ring.close(end.socket);
                self.ends.swap_remove(index);
            }
            94..95 => {
                ring.abort(end.socket);
                self.ends.swap_remove(index);
            }
            95..97 if !end.direct && !end.failed && !end.shut => {
                end.detaching = true;
                ring.detach(end.socket);
            }
            _ => {}
        }
    }

    fn look(&mut self, ring: usize, event: Event) {
        let socket = event.socket().expect("no wakers here");
        let found = self
            .ends
            .iter()
            .position(|end| end.ring == ring && end.socket == socket);
        let index = found.unwrap_or_else(|| panic!("for a socket that was given up: {event:?}"));
        let end = &mut self.ends[index];
        assert!(!end.failed, "after Failed: {event:?}");
        match event {
            Event::Received { buf, .. } => {
                assert!(!end.finished && !buf.is_empty());
                for (at, got) in buf.iter().enumerate() {
                    let expected = byte(end.peer, end.received + at);
                    assert_eq!(
                        *got,
                        expected,
                        "byte {} of stream {}",
                        end.received + at,
                        end.peer
                    );
                }
                end.received += buf.len();
                self.bytes += buf.len();
            }
            Event::Sent { buf, .. } => {
                assert!(std::mem::replace(&mut end.in_flight, false));
                assert!(!buf.is_empty());
            }
            Event::PeerFinished { .. } => {
                assert!(!std::mem::replace(&mut end.finished, true), "a second FIN");
                let (received, peer) = (end.received, end.peer);
                if let Some(peer) = self.ends.iter().find(|end| end.stream == peer) {
                    assert!(peer.shut, "a FIN from nowhere");
                    assert_eq!(received, peer.sent, "a FIN before the last byte");
                }
            }
            Event::PeerGone { .. } => {
                assert!(
                    !std::mem::replace(&mut end.paused_since_gone, true),
                    "twice in a pause"
                );
            }
            Event::Failed { .. } => {
                end.failed = true;
                end.detaching = false;
            }
            Event::Detached { fd, .. } => {
                assert!(end.detaching && !end.in_flight);
                end.detaching = false;
                end.paused_since_gone = false;
                end.finished = false; // the new ring finds the FIN again
                end.ring = 1 - end.ring;
                end.socket = self.bench.world.ring(end.ring).adopt(fd).unwrap();
                self.moved += 1;
            }
            other => panic!("{other:?}"),
        }
    }

    fn turn(&mut self) {
        self.bench.turn();
        self.look_at_all();
    }

    fn look_at_all(&mut self) {
        for ring in 0..2 {
            while let Some(event) = self.bench.seen[ring].pop_front() {
                self.look(ring, event);
            }
        }
    }

    fn run(mut self) {
        for _ in 0..STEPS {
            (0..self.rng.usize(0..6)).for_each(|_| self.act());
            self.turn();
            let failed: Vec<_> = self.ends.extract_if(.., |end| end.failed).collect();
            failed
                .iter()
                .for_each(|end| self.bench.ring(end.ring).close(end.socket));
        }
        assert!(
            self.moved > 0 && self.bytes > 100_000,
            "{} {}",
            self.moved,
            self.bytes
        );
        // A detach under way ends by itself only if its send does: give the socket up like the others.
        for end in std::mem::take(&mut self.ends) {
            self.bench.ring(end.ring).close(end.socket);
        }
        self.bench.until("every socket gone", |bench| {
            for seen in &mut bench.seen {
                assert!(seen.is_empty(), "after close: {seen:?}");
            }
            (bench.world.sockets() == 0).then_some(())
        });
        assert_eq!(
            self.bench.ring(0).stalled_bytes() + self.bench.ring(1).stalled_bytes(),
            0
        );
    }
}

#[test]
fn on_sim() {
    for seed in 0..20 {
        println!("seed {seed}");
        Chaos::<Simulated>::new(seed).run();
    }
}

#[test]
fn on_uring() {
    for seed in 0..4 {
        println!("seed {seed}");
        Chaos::<Real>::new(seed).run();
    }
}
