//! The look at clients that are connected already, a few a turn, after settings changed who may stay.

use crate::control::snapshot::{Site, Snapshot};
use std::ops::Range;
use std::sync::Arc;

/// Clients looked at in one turn: some tens of microseconds.
const LOOKED_AT_A_TURN: usize = 1024;

/// Where the look stands. It goes round the keys; a further change makes it go round once more from where it is, so that
/// settings that change all the time keep no key from its turn.
#[derive(Debug, Default)]
pub struct Sweep {
    at: usize,
    /// Keys still to come; 0: it rests.
    left: usize,
    /// By site: its trust changed since the last whole round.
    sites: Vec<bool>,
}

impl Sweep {
    /// Compares what the sites trust before and after, and begins to look where that changed. `keys`: as many there are.
    pub fn begin(&mut self, before: &Snapshot, after: &Snapshot, keys: usize) {
        for (index, site) in after.sites.iter().enumerate() {
            let known = before.sites.get(index);
            let changed = |known: &Arc<Site>| {
                !Arc::ptr_eq(&known.trust, &site.trust) || known.channels != site.channels
            };
            if known.is_some_and(changed) {
                self.mark(index, keys);
            }
        }
    }

    fn mark(&mut self, site: usize, keys: usize) {
        if site >= self.sites.len() {
            self.sites.resize(site + 1, false);
        }
        self.sites[site] = true;
        self.left = keys;
    }

    pub fn is_under_way(&self) -> bool {
        self.left > 0
    }

    /// A client of this site is to be looked at.
    pub fn concerns(&self, site: u32) -> bool {
        self.sites.get(site as usize).copied().unwrap_or(false)
    }

    /// The next keys, fewer than [`LOOKED_AT_A_TURN`]; empty: it rests. `keys`: as many there are now.
    pub fn next(&mut self, keys: usize) -> Range<usize> {
        if self.left == 0 || keys == 0 {
            self.rest();
            return 0..0;
        }
        let from = if self.at < keys { self.at } else { 0 };
        let count = LOOKED_AT_A_TURN.min(self.left).min(keys - from);
        self.at = from + count;
        self.left -= count;
        from..from + count
    }

    /// The turn's keys were looked at.
    pub fn looked(&mut self) {
        if self.left == 0 {
            self.rest();
        }
    }

    fn rest(&mut self) {
        self.left = 0;
        self.sites.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(sweep: &mut Sweep, keys: usize, seen: &mut [u32]) {
        for key in sweep.next(keys) {
            seen[key] += 1;
        }
        sweep.looked();
    }

    #[test]
    fn a_change_in_every_turn_keeps_no_key_from_its_look() {
        const KEYS: usize = 10_000;
        let (mut sweep, mut seen) = (Sweep::default(), vec![0; KEYS]);
        for _ in 0..2 * KEYS.div_ceil(LOOKED_AT_A_TURN) {
            sweep.mark(3, KEYS);
            turn(&mut sweep, KEYS, &mut seen);
        }
        assert!(seen.iter().all(|times| *times > 0));
        assert!(sweep.is_under_way() && sweep.concerns(3) && !sweep.concerns(2));
    }

    #[test]
    fn after_the_last_change_every_key_has_its_look_and_then_it_rests() {
        const KEYS: usize = 3000;
        let mut sweep = Sweep::default();
        sweep.mark(0, KEYS);
        turn(&mut sweep, KEYS, &mut [0; KEYS]);
        sweep.mark(1, KEYS);
        assert!(sweep.concerns(0), "its round is not over");
        let mut seen = [0; KEYS];
        while sweep.is_under_way() {
            turn(&mut sweep, KEYS, &mut seen);
        }
        assert!(seen.iter().all(|times| *times == 1));
        assert!(!sweep.concerns(0) && !sweep.concerns(1));
    }

    #[test]
    fn fewer_keys_than_before_are_no_trouble() {
        let mut sweep = Sweep::default();
        sweep.mark(0, 5000);
        assert_eq!(sweep.next(5000), 0..LOOKED_AT_A_TURN);
        assert_eq!(sweep.next(10), 0..10);
        assert_eq!(sweep.next(0), 0..0);
        assert!(!sweep.is_under_way());
    }
}
