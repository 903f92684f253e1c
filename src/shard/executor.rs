//! The loop of one shard; the only file that names glommio.

use crate::ring::{Event, Verbs};
use std::time::Instant;

/// What a shard runs: gateway's or connector's data path, over any ring.
pub trait Service<R: Verbs> {
    /// One event of this turn.
    fn handle(&mut self, ring: &mut R, event: Event);
    /// After all events of a turn: messages of the mesh, due timers, then flush everything that became dirty.
    fn end_turn(&mut self, ring: &mut R);
    /// When `end_turn` must run again at the latest; `None` when nothing is due ever.
    fn next_deadline(&self) -> Option<Instant>;
    /// The service is done: the loop ends.
    fn is_finished(&self) -> bool;
}
