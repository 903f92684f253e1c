//! Services over simulated rings: the executor's loop in virtual time.

use super::executor::Service;
use crate::ring::Verbs;
use crate::ring::sim::{SimNet, SimRing};
use std::time::Instant;

/// Turns at one moment after which a service is taken to be going round in circles.
const TURNS_AT_ONE_MOMENT_MAX: u32 = 100_000;

/// A shard of the simulation.
pub struct Node<'a> {
    pub ring: &'a mut SimRing,
    pub service: &'a mut dyn Service<SimRing>,
}

/// Runs the nodes until the clock shows `until` or all are finished. Deterministic, given the network's seed.
///
/// # Panics
/// When a service is never content: it keeps asking to be run at once and does nothing.
pub fn run(net: &SimNet, nodes: &mut [Node<'_>], until: Instant) {
    let mut turns = 0;
    while nodes.iter().any(|node| !node.service.is_finished()) {
        let busy = nodes
            .iter_mut()
            .filter_map(|node| node.run_turn(net.now()))
            .count()
            > 0;
        if busy {
            turns += 1;
            assert!(
                turns < TURNS_AT_ONE_MOMENT_MAX,
                "a service keeps asking for another turn"
            );
            continue;
        }
        let deadlines = nodes.iter().filter_map(Node::next_deadline);
        let next = deadlines.chain(net.next_at()).min().unwrap_or(until);
        if next >= until && net.now() >= until {
            return;
        }
        net.advance(next.min(until));
        turns = 0;
    }
}

impl Node<'_> {
    /// `None` when there was nothing to do.
    fn run_turn(&mut self, now: Instant) -> Option<()> {
        if self.service.is_finished() {
            // Its ring is dropped in life; here what still comes goes nowhere, and keeps nobody awake.
            self.ring.turn();
            while self.ring.poll_event().is_some() {}
            return None;
        }
        let due = self.next_deadline().is_some_and(|at| at <= now);
        if !self.ring.turn() && !due {
            return None;
        }
        while let Some(event) = self.ring.poll_event() {
            self.service.handle(self.ring, event);
        }
        self.service.end_turn(self.ring);
        Some(())
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.service
            .next_deadline()
            .filter(|_| !self.service.is_finished())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::sim::SimConfig;
    use crate::ring::{ConnectOptions, Event, ListenOptions, Receive, SocketId};
    use crate::shard::mesh;
    use std::net::SocketAddr;
    use std::time::Duration;

    const SEED: u64 = 11;

    /// Answers every byte with the next one; ends when its caller does.
    #[derive(Default)]
    struct Server {
        served: usize,
        finished: bool,
    }

    impl Service<SimRing> for Server {
        fn handle(&mut self, ring: &mut SimRing, event: Event) {
            match event {
                Event::Accepted { socket, .. } => ring.receive(socket, Receive::Small),
                Event::Received { socket, buf } => {
                    self.served += buf.len();
                    ring.send(socket, buf.iter().map(|byte| byte + 1).collect());
                }
                Event::PeerFinished { socket } => {
                    ring.close(socket);
                    self.finished = true;
                }
                _ => {}
            }
        }
        fn end_turn(&mut self, _: &mut SimRing) {}
        fn next_deadline(&self) -> Option<Instant> {
            None
        }
        fn is_finished(&self) -> bool {
            self.finished
        }
    }

    /// Asks once a second, `count` times, when told to begin.
    struct Caller {
        to: SocketAddr,
        socket: Option<SocketId>,
        count: u8,
        answers: Vec<u8>,
        next: Option<Instant>,
        begin: mesh::Receiver<()>,
        finished: bool,
    }

    impl Service<SimRing> for Caller {
        fn handle(&mut self, ring: &mut SimRing, event: Event) {
            match event {
                Event::Connected { socket } => {
                    ring.receive(socket, Receive::Small);
                    self.next = Some(ring.now());
                }
                Event::Received { buf, .. } => self.answers.extend_from_slice(&buf),
                _ => {}
            }
        }
        fn end_turn(&mut self, ring: &mut SimRing) {
            if self.begin.receive().is_some() {
                self.socket = ring.connect(self.to, &ConnectOptions::default()).ok();
            }
            let (Some(socket), true) = (self.socket, self.next.is_some_and(|at| at <= ring.now()))
            else {
                return;
            };
            if self.count == 0 {
                ring.close(socket);
                self.finished = true;
                return;
            }
            self.count -= 1;
            ring.send(socket, vec![self.count]);
            self.next = Some(ring.now() + Duration::from_secs(1));
        }
        fn next_deadline(&self) -> Option<Instant> {
            self.next
        }
        fn is_finished(&self) -> bool {
            self.finished
        }
    }

    fn run_both(limit: Duration) -> (Server, Vec<u8>, Duration) {
        let net = SimNet::new(SEED, SimConfig::default());
        let began = net.now();
        let mut rings = [
            net.ring([10, 0, 0, 1].into()),
            net.ring([10, 0, 0, 2].into()),
        ];
        let options = ListenOptions {
            reuse_port: true,
            backlog: 8,
            direct: true,
            user_timeout: Duration::from_secs(30),
        };
        let [here, there] = &mut rings;
        let (_, to) = there
            .listen("10.0.0.2:0".parse().unwrap(), &options)
            .unwrap();
        let (starter, begin) = mesh::channel(1, here.waker());
        let mut server = Server::default();
        let mut caller = Caller {
            to,
            socket: None,
            count: 60,
            answers: Vec::new(),
            next: None,
            begin,
            finished: false,
        };
        assert_eq!(starter.send(()), Ok(()));
        assert_eq!(starter.send(()), Err(()), "the queue holds one");
        let mut nodes = [
            Node {
                ring: here,
                service: &mut caller,
            },
            Node {
                ring: there,
                service: &mut server,
            },
        ];
        run(&net, &mut nodes, began + limit);
        (server, caller.answers, net.now() - began)
    }

    #[test]
    fn a_minute_of_two_services_passes_in_no_time() {
        let (server, answers, took) = run_both(Duration::from_secs(3_600));
        assert_eq!(server.served, 60);
        assert_eq!(answers, (1..=60).rev().collect::<Vec<u8>>());
        assert!(
            took >= Duration::from_secs(60) && took < Duration::from_secs(61),
            "{took:?}"
        );
    }

    #[test]
    fn the_clock_stops_where_it_was_told_to() {
        let (server, _, took) = run_both(Duration::from_secs(10));
        assert_eq!(took, Duration::from_secs(10));
        assert!((9..=11).contains(&server.served), "{}", server.served);
    }

    struct Restless;
    impl Service<SimRing> for Restless {
        fn handle(&mut self, _: &mut SimRing, _: Event) {}
        fn end_turn(&mut self, _: &mut SimRing) {}
        fn next_deadline(&self) -> Option<Instant> {
            Some(Instant::now() - Duration::from_secs(1))
        }
        fn is_finished(&self) -> bool {
            false
        }
    }

    #[test]
    #[should_panic(expected = "keeps asking for another turn")]
    fn a_service_that_goes_round_in_circles_is_caught() {
        let net = SimNet::new(SEED, SimConfig::default());
        let mut ring = net.ring([10, 0, 0, 1].into());
        let mut nodes = [Node {
            ring: &mut ring,
            service: &mut Restless,
        }];
        run(&net, &mut nodes, net.now() + Duration::from_secs(1));
    }
}
