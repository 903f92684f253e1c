//! One suite for both twins: what an owner may rely on. Ring 0 connects, ring 1 listens.

mod chaos;
mod sim_only;
mod uring_only;

use super::sim::{SimConfig, SimNet, SimRing};
use super::uring::{Ring, RingConfig};
use super::*;
use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;

/// How long, by the ring's clock, anything may take.
const PATIENCE: Duration = Duration::from_secs(30);
const SIM_SEED: u64 = 0x7164_6567;

/// Two rings on one thread.
trait World {
    type R: Verbs;
    fn new(config: &RingConfig) -> Self;
    fn ring(&mut self, which: usize) -> &mut Self::R;
    /// Sockets held by both rings.
    fn sockets(&self) -> usize;
    /// A turn of each ring; waits for something to happen if nothing did.
    fn turn(&mut self);
}

struct Real([Ring; 2]);

impl World for Real {
    type R = Ring;
    fn new(config: &RingConfig) -> Self {
        Real([Ring::new(config).unwrap(), Ring::new(config).unwrap()])
    }
    fn ring(&mut self, which: usize) -> &mut Ring {
        &mut self.0[which]
    }
    fn sockets(&self) -> usize {
        self.0.iter().map(Ring::sockets).sum()
    }
    fn turn(&mut self) {
        if !self.0[0].turn().unwrap() && !self.0[1].turn().unwrap() {
            // neither has anything: wait a little for both, in turn
            self.0[0]
                .turn_or_sleep(Some(Instant::now() + Duration::from_micros(200)))
                .unwrap();
            self.0[1]
                .turn_or_sleep(Some(Instant::now() + Duration::from_micros(200)))
                .unwrap();
        } else {
            self.0[1].turn().unwrap();
        }
    }
}

struct Simulated(SimNet, [SimRing; 2]);

impl World for Simulated {
    type R = SimRing;
    fn new(config: &RingConfig) -> Self {
        let net = SimNet::new(SIM_SEED, SimConfig::default());
        let _ = config; // the twin has no groups of buffers
        let rings = [
            net.ring([127, 0, 0, 1].into()),
            net.ring([127, 0, 0, 1].into()),
        ];
        Simulated(net, rings)
    }
    fn ring(&mut self, which: usize) -> &mut SimRing {
        &mut self.1[which]
    }
    fn sockets(&self) -> usize {
        self.1.iter().map(SimRing::sockets).sum()
    }
    fn turn(&mut self) {
        let [a, b] = &mut self.1;
        let busy = [a.turn(), b.turn()] != [false, false];
        let step = Duration::from_micros(if busy { 20 } else { 10_000 }); // turns take time
        self.0.advance(self.0.now() + step);
    }
}

struct Bench<W: World> {
    world: W,
    seen: [VecDeque<Event>; 2],
}

impl<W: World> Bench<W> {
    fn new() -> Self {
        Self::with(&RingConfig::default())
    }

    fn with(config: &RingConfig) -> Self {
        Bench {
            world: W::new(config),
            seen: Default::default(),
        }
    }

    fn ring(&mut self, which: usize) -> &mut W::R {
        self.world.ring(which)
    }

    fn turn(&mut self) {
        self.world.turn();
        for which in 0..2 {
            while let Some(event) = self.world.ring(which).poll_event() {
                self.seen[which].push_back(event);
            }
        }
    }

    fn turns(&mut self, count: usize) {
        (0..count).for_each(|_| self.turn());
    }

    /// Turns until `look` finds something.
    fn until<T>(&mut self, what: &str, mut look: impl FnMut(&mut Self) -> Option<T>) -> T {
        let began = self.ring(0).now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            let waited = self.ring(0).now() - began;
            assert!(
                waited < PATIENCE,
                "waited {waited:?} for {what}; seen: {:?}",
                self.seen
            );
            self.turn();
        }
    }

    /// Takes the first event of a ring that `pick` wants.
    fn event<T>(&mut self, which: usize, what: &str, pick: impl Fn(&Event) -> Option<T>) -> T {
        self.until(what, |bench| {
            let seen = &mut bench.seen[which];
            let index = seen.iter().position(|event| pick(event).is_some())?;
            pick(&seen.remove(index)?)
        })
    }

    fn sent(&mut self, which: usize, socket: SocketId) {
        self.event(which, "Sent", |event| match event {
            Event::Sent { socket: of, buf } if *of == socket => {
                assert!(!buf.is_empty(), "the buffer comes back");
                Some(())
            }
            _ => None,
        });
    }

    fn finished(&mut self, which: usize, socket: SocketId) {
        let expected =
            |event: &Event| matches!(event, Event::PeerFinished { socket: of } if *of == socket);
        self.event(which, "PeerFinished", |event| expected(event).then_some(()));
    }

    fn failed(&mut self, which: usize, socket: SocketId) -> ErrorKind {
        self.event(which, "Failed", |event| match event {
            Event::Failed { socket: of, error } if *of == socket => Some(error.kind()),
            _ => None,
        })
    }

    /// All bytes that have been received on a socket and not been taken, in order.
    fn taken(&mut self, which: usize, socket: SocketId) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.seen[which].retain(|event| match event {
            Event::Received { socket: of, buf } if *of == socket => {
                bytes.extend_from_slice(buf);
                false
            }
            _ => true,
        });
        bytes
    }

    /// Receives exactly `count` bytes.
    fn read(&mut self, which: usize, socket: SocketId, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.until("bytes", |bench| {
            bytes.extend(bench.taken(which, socket));
            (bytes.len() >= count).then_some(())
        });
        assert_eq!(bytes.len(), count);
        bytes
    }

    /// Sends and waits until it is gone.
    fn send(&mut self, which: usize, socket: SocketId, bytes: &[u8]) {
        self.ring(which).send(socket, bytes.to_vec());
        self.sent(which, socket);
    }

    fn listen(&mut self, direct: bool) -> (ListenerId, SocketAddr) {
        self.ring(1)
            .listen("127.0.0.1:0".parse().unwrap(), &listen_options(direct))
            .unwrap()
    }

    /// A connection: ring 0's socket, ring 1's.
    fn connect_to(&mut self, addr: SocketAddr) -> (SocketId, SocketId) {
        self.connect_by(addr, false)
    }

    fn connect_by(&mut self, addr: SocketAddr, direct: bool) -> (SocketId, SocketId) {
        let options = ConnectOptions {
            direct,
            ..Default::default()
        };
        let client = self.ring(0).connect(addr, &options).unwrap();
        self.event(0, "Connected", |event| {
            matches!(event, Event::Connected { socket } if *socket == client).then_some(())
        });
        let server = self.event(1, "Accepted", |event| match event {
            Event::Accepted { socket, .. } => Some(*socket),
            _ => None,
        });
        (client, server)
    }

    fn connected(&mut self, direct: bool) -> (SocketId, SocketId) {
        let (_, addr) = self.listen(direct);
        self.connect_to(addr)
    }

    /// Closes both and checks that nothing follows.
    fn done(&mut self, client: SocketId, server: SocketId) {
        self.ring(0).close(client);
        self.ring(1).close(server);
        self.seen = Default::default();
        self.turns(20);
        for seen in &self.seen {
            assert!(seen.is_empty(), "after close: {seen:?}");
        }
    }
}

fn listen_options(direct: bool) -> ListenOptions {
    ListenOptions {
        reuse_port: false,
        backlog: 1_024,
        direct,
        user_timeout: Duration::from_secs(30),
    }
}

/// Bytes of which every 8 differ from all others.
fn pattern(len: usize) -> Vec<u8> {
    (0..len.div_ceil(8) as u64)
        .flat_map(u64::to_le_bytes)
        .take(len)
        .collect()
}

fn echo<W: World>() {
    for direct in [false, true] {
        let mut bench = Bench::<W>::new();
        let (listener, addr) = bench.listen(direct);
        let options = ConnectOptions {
            direct,
            ..Default::default()
        };
        let client = bench.ring(0).connect(addr, &options).unwrap();
        let (of, server, peer) = bench.event(1, "Accepted", |event| match event {
            Event::Accepted {
                listener,
                socket,
                peer,
            } => Some((*listener, *socket, *peer)),
            _ => None,
        });
        assert_eq!(of, listener);
        assert!(peer.ip().is_loopback() && peer.port() != 0, "{peer}");
        bench.ring(0).receive(client, Receive::Small);
        bench.ring(1).receive(server, Receive::Large);
        bench.event(0, "Connected", |event| {
            matches!(event, Event::Connected { .. }).then_some(())
        });
        for size in [1, 100, 2_048, 2_049, 100_000] {
            let bytes = pattern(size);
            bench.send(0, client, &bytes);
            assert_eq!(bench.read(1, server, size), bytes);
            bench.send(1, server, &bytes);
            assert_eq!(bench.read(0, client, size), bytes);
        }
        bench.done(client, server);
    }
}

fn a_slow_reader_gets_everything_in_order<W: World>() {
    let mut bench = Bench::<W>::new();
    let (client, server) = bench.connected(true);
    let total = 16 * 1024 * 1024;
    let bytes = pattern(total);
    let mut rest = bytes.chunks(300_000);
    let mut got = Vec::new();
    let modes = [
        Receive::Small,
        Receive::Paused,
        Receive::Large,
        Receive::Small,
        Receive::Large,
    ];
    let mut stalled = 0;
    let mut round = 0;
    bench.until("16 MiB", |bench| {
        if !bench.ring(0).send_in_flight(client)
            && let Some(chunk) = rest.next()
        {
            bench.ring(0).send(client, chunk.to_vec());
        }
        if round % 7 == 0 {
            bench
                .ring(1)
                .receive(server, modes[round / 7 % modes.len()]);
        }
        round += 1;
        got.extend(bench.taken(1, server));
        stalled = stalled.max(bench.ring(0).stalled_bytes());
        (got.len() == total).then_some(())
    });
    assert!(got == bytes, "bytes lost or out of order");
    assert!(stalled > 0, "the reader was not slow");
    bench.until("the last Sent", |bench| {
        (!bench.ring(0).send_in_flight(client)).then_some(())
    });
    assert_eq!(bench.ring(0).stalled_bytes(), 0);
    bench.done(client, server);
}

fn paused_holds_bytes_back<W: World>() {
    let mut bench = Bench::<W>::new();
    let (client, server) = bench.connected(true);
    bench.ring(1).receive(server, Receive::Small);
    bench.send(0, client, b"one");
    assert_eq!(bench.read(1, server, 3), b"one");
    bench.ring(1).receive(server, Receive::Paused);
    bench.turns(10);
    bench.send(0, client, b"two");
    bench.turns(50);
    assert_eq!(bench.taken(1, server), b"", "received while paused");
    bench.ring(1).receive(server, Receive::Small);
    assert_eq!(bench.read(1, server, 3), b"two");
    bench.done(client, server);
}

fn a_fin_is_noticed_while_paused<W: World>() {
    let mut bench = Bench::<W>::new();
    let (client, server) = bench.connected(true);
    bench.ring(1).receive(server, Receive::Paused);
    bench.send(0, client, b"unread");
    bench.turns(20);
    assert!(
        bench.seen[1].is_empty(),
        "bytes alone are no hang-up: {:?}",
        bench.seen[1]
    );
    bench.ring(0).shutdown_write(client);
    let gone = |event: &Event| matches!(event, Event::PeerGone { socket } if *socket == server);
    bench.event(1, "PeerGone", |event| gone(event).then_some(()));
    bench.turns(50);
    assert!(
        bench.seen[1].is_empty(),
        "once per pause: {:?}",
        bench.seen[1]
    );
    bench.ring(1).receive(server, Receive::Small);
    bench.finished(1, server);
    assert_eq!(bench.taken(1, server), b"unread");
    bench.done(client, server);
}

fn an_abort_reaches_the_peer_as_a_reset<W: World>() {
    for direct in [false, true] {
        let mut bench = Bench::<W>::new();
        let (_, addr) = bench.listen(direct);
        let (client, server) = bench.connect_to(addr);
        bench.ring(0).receive(client, Receive::Small);
        bench.ring(1).receive(server, Receive::Small);
        bench.turns(5);
        bench.ring(1).abort(server);
        assert_eq!(bench.failed(0, client), ErrorKind::ConnectionReset);
        bench.ring(0).close(client);

        let (client, server) = bench.connect_to(addr);
        bench.ring(1).receive(server, Receive::Paused);
        bench.turns(5);
        bench.ring(0).abort(client);
        let gone = |event: &Event| matches!(event, Event::PeerGone { socket } if *socket == server);
        bench.event(1, "PeerGone", |event| gone(event).then_some(()));
        bench.ring(1).abort(server);
        bench.turns(20);
        assert!(
            bench.seen.iter().all(VecDeque::is_empty),
            "{:?}",
            bench.seen
        );
    }
}

fn half_close_keeps_the_other_direction<W: World>() {
    let mut bench = Bench::<W>::new();
    let (client, server) = bench.connected(true);
    bench.ring(0).receive(client, Receive::Small);
    bench.ring(1).receive(server, Receive::Small);
    let request = pattern(3_000_000);
    bench.ring(0).send(client, request.clone());
    bench.ring(0).shutdown_write(client); // waits for the send
    let mut got = Vec::new();
    bench.until("FIN", |bench| {
        got.extend(bench.taken(1, server));
        let finished = |event: &Event| matches!(event, Event::PeerFinished { .. });
        bench.seen[1].iter().any(finished).then_some(())
    });
    assert!(
        got == request,
        "FIN came after {} of {} bytes",
        got.len(),
        request.len()
    );
    bench.finished(1, server);
    bench.sent(0, client);
    bench.send(1, server, b"answer");
    assert_eq!(bench.read(0, client, 6), b"answer");
    bench.ring(1).close(server);
    bench.finished(0, client);
    bench.ring(0).close(client);
    bench.turns(20);
}

fn a_close_lets_the_send_in_flight_out<W: World>() {
    let mut bench = Bench::<W>::new();
    let (client, server) = bench.connected(true);
    let bytes = pattern(8_000_000);
    bench.ring(1).send(server, bytes.clone());
    bench.turns(10);
    assert!(
        bench.ring(1).stalled_bytes() > 0,
        "the pipe holds less than that"
    );
    bench.ring(1).close(server);
    bench.ring(0).receive(client, Receive::Large);
    let mut got = Vec::new();
    bench.until("FIN", |bench| {
        got.extend(bench.taken(0, client));
        let finished = |event: &Event| matches!(event, Event::PeerFinished { .. });
        bench.seen[0].iter().any(finished).then_some(())
    });
    assert!(got == bytes, "{} of {} bytes", got.len(), bytes.len());
    bench.turns(20);
    assert!(bench.seen[1].is_empty(), "after close: {:?}", bench.seen[1]);
    assert_eq!(bench.ring(1).stalled_bytes(), 0);
    bench.ring(0).close(client);
}

fn a_close_that_nobody_reads_ends_in_a_reset<W: World>() {
    let config = RingConfig {
        close_patience: Duration::from_millis(50),
        ..RingConfig::default()
    };
    let mut bench = Bench::<W>::with(&config);
    let (client, server) = bench.connected(true);
    bench.ring(0).receive(client, Receive::Paused);
    bench.ring(1).send(server, pattern(16_000_000));
    bench.turns(10);
    bench.ring(1).close(server);
    let gone = |event: &Event| matches!(event, Event::PeerGone { socket } if *socket == client);
    bench.event(0, "PeerGone", |event| gone(event).then_some(()));
    bench.until("the memory back", |bench| {
        (bench.ring(1).stalled_bytes() == 0).then_some(())
    });
    bench.ring(0).close(client);
    bench.turns(10);
}

fn an_early_answer_is_heard_before_the_reset<W: World>() {
    let mut bench = Bench::<W>::new();
    let (client, server) = bench.connected(true);
    bench.ring(0).send(client, pattern(16_000_000));
    bench.turns(10);
    bench.send(1, server, b"413 too large");
    bench.ring(1).close(server); // with unread bytes: a reset
    bench.ring(0).receive(client, Receive::Small);
    bench.failed(0, client);
    assert_eq!(bench.taken(0, client), b"413 too large");
    assert!(
        bench.ring(0).send_in_flight(client),
        "nothing more may be sent"
    );
    bench.ring(0).close(client);
    bench.turns(10);
}

fn a_socket_moves_between_rings_with_its_bytes<W: World>() {
    let mut bench = Bench::<W>::new();
    let (client, server) = bench.connected(false);
    let bytes = pattern(400_000);
    bench.ring(1).receive(server, Receive::Small);
    bench.ring(0).send(client, bytes.clone());
    bench.until("first bytes", |bench| {
        bench.seen[1]
            .iter()
            .any(|e| matches!(e, Event::Received { .. }))
            .then_some(())
    });
    bench.ring(1).detach(server);
    let fd = bench.until("Detached", |bench| {
        let index = bench.seen[1]
            .iter()
            .position(|e| matches!(e, Event::Detached { .. }))?;
        assert_eq!(index, bench.seen[1].len() - 1, "nothing follows Detached");
        match bench.seen[1].remove(index)? {
            Event::Detached { socket, fd } if socket == server => Some(fd),
            other => panic!("{other:?}"),
        }
    });
    let mut got = bench.taken(1, server);
    let moved = bench.ring(0).adopt(fd).unwrap();
    bench.ring(0).receive(moved, Receive::Large);
    let rest = bench.read(0, moved, bytes.len() - got.len());
    got.extend(rest);
    assert!(got == bytes, "bytes lost or out of order in the hand-over");
    bench.sent(0, client);
    bench.ring(0).receive(client, Receive::Small);
    bench.send(0, moved, b"from the new ring");
    assert_eq!(bench.read(0, client, 17), b"from the new ring");
    bench.ring(0).close(moved);
    bench.finished(0, client);
    bench.ring(0).close(client);
    bench.turns(10);
}

fn a_detach_lets_the_send_in_flight_out<W: World>() {
    let mut bench = Bench::<W>::new();
    let (client, server) = bench.connected(false);
    let bytes = pattern(8_000_000);
    bench.ring(1).send(server, bytes.clone());
    bench.turns(10);
    bench.ring(1).detach(server);
    bench.turns(20);
    assert!(
        bench.seen[1].is_empty(),
        "the send is still in flight: {:?}",
        bench.seen[1]
    );
    bench.ring(0).receive(client, Receive::Large);
    let got = bench.read(0, client, bytes.len());
    assert!(got == bytes);
    bench.until("Sent, then Detached", |bench| {
        (bench.seen[1].len() == 2).then_some(())
    });
    assert!(matches!(bench.seen[1][0], Event::Sent { .. }));
    assert!(matches!(bench.seen[1][1], Event::Detached { .. }));
    bench.ring(0).close(client);
}

fn a_detached_socket_nobody_adopts_is_closed<W: World>() {
    let mut bench = Bench::<W>::new();
    let (client, server) = bench.connected(false);
    bench.ring(0).receive(client, Receive::Small);
    bench.ring(1).detach(server);
    let detached = |event: &Event| matches!(event, Event::Detached { .. });
    bench.until("Detached", |bench| {
        bench.seen[1].iter().any(detached).then_some(())
    });
    bench.seen[1].clear(); // drops the descriptor
    let over = |event: &Event| {
        matches!(event, Event::PeerFinished { .. } | Event::Failed { .. }).then_some(())
    };
    bench.event(0, "the end", over);
    bench.ring(0).close(client);
}

fn a_thousand_sockets_echo<W: World>() {
    let mut bench = Bench::<W>::new();
    let (_, addr) = bench.listen(true);
    let mut servers = BTreeMap::new();
    let mut clients = Vec::new();
    for _ in 0..1_000 {
        let client = bench
            .ring(0)
            .connect(addr, &ConnectOptions::default())
            .unwrap();
        clients.push(client);
        if clients.len() % 100 == 0 {
            bench.turn();
        }
    }
    let mut open = 0;
    bench.until("all connections", |bench| {
        for event in bench.seen[1].drain(..) {
            match event {
                Event::Accepted { socket, .. } => {
                    assert!(servers.insert(socket.index, socket).is_none())
                }
                other => panic!("{other:?}"),
            }
        }
        for event in bench.seen[0].drain(..) {
            assert!(matches!(event, Event::Connected { .. }), "{event:?}");
            open += 1;
        }
        (servers.len() == 1_000 && open == 1_000).then_some(())
    });
    assert!(*servers.keys().max().unwrap() < 1_000, "indices are dense");
    for socket in servers.values() {
        bench.ring(1).receive(*socket, Receive::Small);
    }
    for client in &clients {
        bench.ring(0).receive(*client, Receive::Small);
        bench.ring(0).send(*client, vec![client.index as u8]);
    }
    let mut answers = 0;
    bench.until("all answers", |bench| {
        let arrived: Vec<Event> = bench.seen[1].drain(..).collect();
        for event in arrived {
            match event {
                Event::Received { socket, buf } => bench.ring(1).send(socket, buf.to_vec()),
                Event::Sent { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        for event in bench.seen[0].drain(..) {
            match event {
                Event::Received { socket, buf } => {
                    assert_eq!(*buf, [socket.index as u8]);
                    answers += 1;
                }
                Event::Sent { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        (answers == 1_000).then_some(())
    });
    for client in clients {
        bench.ring(0).close(client);
    }
    let mut finished = 0;
    bench.until("all FINs", |bench| {
        finished += bench.seen[1]
            .drain(..)
            .filter(|e| matches!(e, Event::PeerFinished { .. }))
            .count();
        (finished == 1_000).then_some(())
    });
    for socket in servers.into_values() {
        bench.ring(1).close(socket);
    }
    bench.turns(20);
}

/// Sockets are closed with everything under way, and their indices go to the next ones at once: whatever completes late
/// must not be theirs.
fn a_late_completion_never_reaches_the_next_owner<W: World>() {
    let mut bench = Bench::<W>::new();
    let (_, addr) = bench.listen(true);
    let mut generations = BTreeMap::new();
    for round in 0u32..200 {
        let (client, server) = bench.connect_to(addr);
        let before = generations.insert(server.index, server.generation);
        assert!(
            before.is_none_or(|before| before < server.generation),
            "{server:?} twice"
        );
        for (which, socket) in [(0, client), (1, server)] {
            bench.ring(which).receive(
                socket,
                if round % 2 == 0 {
                    Receive::Small
                } else {
                    Receive::Large
                },
            );
            let bytes: Vec<u8> = round.to_le_bytes().repeat(50_000);
            bench.ring(which).send(socket, bytes);
        }
        bench.turns(round as usize % 4);
        bench.seen.iter().flatten().for_each(|event| {
            assert!(
                [client, server].contains(&event.socket().unwrap()),
                "{event:?}"
            );
            if let Event::Received { buf, .. } = event {
                // pieces may begin anywhere, so look at the set of bytes
                assert!(
                    buf.iter().all(|byte| round.to_le_bytes().contains(byte)),
                    "round {round}"
                );
            }
        });
        bench.seen = Default::default();
        if round % 3 == 0 {
            bench.ring(0).abort(client);
            bench.ring(1).close(server);
        } else {
            bench.ring(1).abort(server);
            bench.ring(0).abort(client);
        }
    }
    bench.turns(50);
    assert!(
        bench.seen.iter().all(VecDeque::is_empty),
        "{:?}",
        bench.seen
    );
    assert!(generations.len() < 100, "indices are used again");
}

fn modes_may_change_at_every_turn<W: World>() {
    let mut bench = Bench::<W>::new();
    let (client, server) = bench.connected(true);
    let bytes = pattern(2_000_000);
    bench.ring(0).send(client, bytes.clone());
    bench.ring(0).shutdown_write(client);
    let mut rng = fastrand::Rng::with_seed(9);
    let mut got = Vec::new();
    let mut gone_in_this_pause = false;
    let mut mode = None;
    bench.until("FIN", |bench| {
        for _ in 0..rng.usize(0..4) {
            let next = [Receive::Paused, Receive::Small, Receive::Large][rng.usize(0..3)];
            if mode != Some(next) {
                (mode, gone_in_this_pause) = (Some(next), false);
            }
            bench.ring(1).receive(server, next);
        }
        got.extend(bench.taken(1, server));
        for event in bench.seen[1].drain(..) {
            match event {
                Event::PeerFinished { .. } => return Some(()),
                Event::PeerGone { .. } => {
                    let twice = std::mem::replace(&mut gone_in_this_pause, true);
                    assert!(!twice, "PeerGone twice in one pause");
                }
                other => panic!("{other:?}"),
            }
        }
        None
    });
    assert!(got == bytes, "{} of {} bytes", got.len(), bytes.len());
    bench.done(client, server);
}

fn a_connection_to_nobody_fails<W: World>() {
    let mut bench = Bench::<W>::new();
    let (listener, addr) = bench.listen(true);
    bench.ring(1).stop_listening(listener);
    bench.turns(10);
    for direct in [false, true] {
        let options = ConnectOptions {
            timeout: Some(Duration::from_secs(5)),
            direct,
            ..Default::default()
        };
        let client = bench.ring(0).connect(addr, &options).unwrap();
        assert_eq!(bench.failed(0, client), ErrorKind::ConnectionRefused);
        bench.ring(0).close(client);
        let given_up = bench.ring(0).connect(addr, &options).unwrap();
        bench.ring(0).close(given_up);
        bench.turns(20);
        assert!(bench.seen[0].is_empty(), "after close: {:?}", bench.seen[0]);
    }
}

/// Lets everything arrive at ring 1 without asking it for events.
fn let_arrive<W: World>(bench: &mut Bench<W>) {
    for _ in 0..50 {
        bench.world.turn();
        while bench.ring(0).poll_event().is_some() {}
    }
}

fn nothing_follows_a_close_within_the_turn<W: World>() {
    for abort in [false, true] {
        let mut bench = Bench::<W>::new();
        let (_, addr) = bench.listen(true);
        let pairs = [bench.connect_to(addr), bench.connect_to(addr)];
        for (client, server) in pairs {
            bench.ring(1).receive(server, Receive::Small);
            bench.ring(0).send(client, pattern(20_000));
            bench.ring(0).shutdown_write(client);
        }
        let_arrive(&mut bench);
        let first = bench.ring(1).poll_event().expect("bytes").socket().unwrap();
        let other = if first == pairs[0].1 {
            pairs[1].1
        } else {
            pairs[0].1
        };
        let give_up = |bench: &mut Bench<W>, socket| match abort {
            true => bench.ring(1).abort(socket),
            false => bench.ring(1).close(socket),
        };
        give_up(&mut bench, first);
        let second = bench.ring(1).poll_event().expect("the other's bytes");
        assert_eq!(second.socket(), Some(other), "{second:?}");
        give_up(&mut bench, other);
        assert!(bench.ring(1).poll_event().is_none());
        bench.turns(30);
        assert!(bench.seen[1].is_empty(), "{:?}", bench.seen[1]);
    }
}

/// The last bytes and `Detached` may be found together: an owner that closes at the former gets nothing of the latter.
fn a_close_overtakes_a_detach<W: World>() {
    let mut bench = Bench::<W>::new();
    let (client, server) = bench.connected(false);
    bench.ring(0).receive(client, Receive::Small);
    bench.ring(1).receive(server, Receive::Large);
    bench.ring(0).send(client, b"last words".to_vec());
    let_arrive(&mut bench);
    bench.ring(1).detach(server);
    let last = bench.ring(1).poll_event();
    assert!(matches!(last, Some(Event::Received { .. })), "{last:?}");
    bench.ring(1).close(server);
    bench.turns(30);
    assert!(bench.seen[1].is_empty(), "{:?}", bench.seen[1]);
    let over = |event: &Event| {
        matches!(event, Event::PeerFinished { .. } | Event::Failed { .. }).then_some(())
    };
    bench.event(0, "the end", over);
}

fn a_waker_gives_one_event<W: World>() {
    let mut bench = Bench::<W>::new();
    let waker = bench.ring(0).waker();
    for _ in 0..3 {
        let other = waker.clone();
        std::thread::spawn(move || (0..10).for_each(|_| other.wake()))
            .join()
            .unwrap();
        let woken = |event: &Event| matches!(event, Event::Woken).then_some(());
        bench.event(0, "Woken", woken);
        bench.turns(10);
        assert!(bench.seen[0].is_empty(), "{:?}", bench.seen[0]);
    }
}

fn a_second_send_is_refused<W: World>() {
    let mut bench = Bench::<W>::new();
    let (client, _) = bench.connected(true);
    bench.ring(0).send(client, vec![0; 16_000_000]);
    bench.turns(5);
    bench.ring(0).send(client, vec![1]);
}

macro_rules! suite {
    ($($property:ident)*) => {
        mod on_uring {
            $(#[test] fn $property() { super::$property::<super::Real>() })*
            #[test]
            #[should_panic(expected = "second send in flight")]
            fn a_second_send_is_refused() { super::a_second_send_is_refused::<super::Real>() }
        }
        mod on_sim {
            $(#[test] fn $property() { super::$property::<super::Simulated>() })*
            #[test]
            #[should_panic(expected = "second send in flight")]
            fn a_second_send_is_refused() { super::a_second_send_is_refused::<super::Simulated>() }
        }
    };
}

suite! {
    echo
    a_slow_reader_gets_everything_in_order
    paused_holds_bytes_back
    a_fin_is_noticed_while_paused
    an_abort_reaches_the_peer_as_a_reset
    half_close_keeps_the_other_direction
    a_close_lets_the_send_in_flight_out
    a_close_that_nobody_reads_ends_in_a_reset
    an_early_answer_is_heard_before_the_reset
    a_socket_moves_between_rings_with_its_bytes
    a_detach_lets_the_send_in_flight_out
    a_detached_socket_nobody_adopts_is_closed
    a_thousand_sockets_echo
    a_late_completion_never_reaches_the_next_owner
    modes_may_change_at_every_turn
    a_connection_to_nobody_fails
    a_waker_gives_one_event
    nothing_follows_a_close_within_the_turn
    a_close_overtakes_a_detach
}
