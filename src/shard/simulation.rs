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
