//! When each channel is due: a wheel of seconds whose lists run through the channels themselves, so that a channel's
//! timer costs its two neighbours and no object.

use super::table::Table;
use std::time::Instant;

/// Seconds that the wheel spans; who is due later is looked at then.
pub const SPAN: u32 = 512;
const NIL: u32 = u32::MAX;
const WORDS: usize = SPAN as usize / 64;

/// Where a channel stands in the wheel.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    next: u32,
    previous: u32,
    bucket: u16,
}

impl Place {
    const NOWHERE: u16 = u16::MAX;
}

impl Default for Place {
    fn default() -> Place {
        Place {
            next: NIL,
            previous: NIL,
            bucket: Place::NOWHERE,
        }
    }
}

/// The wheel of one shard.
pub struct Rhythm {
    start: Instant,
    /// The second whose bucket is open; those before it are empty.
    at: u64,
    heads: [u32; SPAN as usize],
    /// Bit n: bucket n holds channels.
    occupied: [u64; WORDS],
}

impl Rhythm {
    pub fn new(start: Instant) -> Rhythm {
        Rhythm {
            start,
            at: 0,
            heads: [NIL; SPAN as usize],
            occupied: [0; WORDS],
        }
    }

    fn seconds(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs()
    }

    /// The channel is due in so many seconds, at least one and at most `SPAN` - 2; wherever it stood before.
    pub fn put(&mut self, table: &mut Table, slot: u32, now: Instant, seconds: u32) {
        self.take(table, slot);
        if self.occupied == [0; WORDS] {
            self.at = self.at.max(self.seconds(now));
        }
        let due = self.seconds(now).max(self.at) + u64::from(seconds.clamp(1, SPAN - 2));
        // Buckets that wait to be opened lie between `at` and now.
        let due = due.min(self.at + u64::from(SPAN) - 1);
        let bucket = (due % u64::from(SPAN)) as usize;
        let next = self.heads[bucket];
        let Some(channel) = table.get_mut(slot) else {
            return;
        };
        channel.place = Place {
            next,
            previous: NIL,
            bucket: bucket as u16,
        };
        if let Some(behind) = table.get_mut(next) {
            behind.place.previous = slot;
        }
        self.heads[bucket] = slot;
        self.occupied[bucket / 64] |= 1 << (bucket % 64);
    }

    /// The channel is due no more.
    pub fn take(&mut self, table: &mut Table, slot: u32) {
        let Some(channel) = table.get_mut(slot) else {
            return;
        };
        let Place {
            next,
            previous,
            bucket,
        } = std::mem::take(&mut channel.place);
        if bucket == Place::NOWHERE {
            return;
        }
        if let Some(behind) = table.get_mut(next) {
            behind.place.previous = previous;
        }
        match table.get_mut(previous) {
            Some(before) => before.place.next = next,
            None => self.set_head(usize::from(bucket), next),
        }
    }

    fn set_head(&mut self, bucket: usize, slot: u32) {
        self.heads[bucket] = slot;
        if slot == NIL {
            self.occupied[bucket / 64] &= !(1 << (bucket % 64));
        }
    }

    /// One channel that is due; it is in the wheel no more.
    pub fn pop(&mut self, table: &mut Table, now: Instant) -> Option<u32> {
        let now = self.seconds(now);
        loop {
            let bucket = (self.at % u64::from(SPAN)) as usize;
            let slot = self.heads[bucket];
            if slot != NIL {
                self.take(table, slot);
                return Some(slot);
            }
            match self.next_occupied() {
                Some(at) if at <= now => self.at = at,
                _ => {
                    self.at = self.at.max(now);
                    return None;
                }
            }
        }
    }

    /// The second of the first bucket that holds channels.
    fn next_occupied(&self) -> Option<u64> {
        let from = (self.at % u64::from(SPAN)) as u32;
        // The word of `from` comes twice: first what lies behind, last what lies before.
        for step in 0..=WORDS as u32 {
            let word = (from / 64 + step) as usize % WORDS;
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= u64::MAX << (from % 64);
            } else if step == WORDS as u32 {
                bits &= !(u64::MAX << (from % 64));
            }
            if bits != 0 {
                let bucket = word as u32 * 64 + bits.trailing_zeros();
                return Some(self.at + u64::from((bucket + SPAN - from) % SPAN));
            }
        }
        None
    }

    /// When to `pop` next.
    pub fn next_deadline(&self) -> Option<Instant> {
        let at = self.next_occupied()?;
        Some(self.start + std::time::Duration::from_secs(at))
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::testing;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    proptest! {
        /// Whoever is put comes once, never early, and late by no more than a look.
        #[test]
        fn is_a_map_of_times(
            steps in prop::collection::vec((0u32..40, prop::option::of(1u32..600), 0u64..40), 1..400)
        ) {
            let start = Instant::now();
            let (mut now, mut wheel) = (start, Rhythm::new(start));
            let (mut table, mut due) = (Table::default(), BTreeMap::new());
            for _ in 0..40 {
                table.insert(testing::channel(1));
            }
            for (slot, seconds, pass) in steps {
                match seconds {
                    Some(seconds) => {
                        wheel.put(&mut table, slot, now, seconds);
                        let at = (now - start).as_secs() + u64::from(seconds.min(SPAN - 2));
                        due.insert(slot, at);
                    }
                    None => {
                        wheel.take(&mut table, slot);
                        due.remove(&slot);
                    }
                }
                let next = due.values().min().map(|at| start + Duration::from_secs(*at));
                prop_assert_eq!(wheel.next_deadline(), next);
                now += Duration::from_secs(pass);
                while let Some(slot) = wheel.pop(&mut table, now) {
                    let at = due.remove(&slot);
                    prop_assert!(at.is_some_and(|at| at <= (now - start).as_secs()), "{at:?}");
                }
                prop_assert!(due.values().all(|at| *at > (now - start).as_secs()));
            }
        }
    }

    #[test]
    fn after_a_long_silence_nothing_comes_early() {
        let start = Instant::now();
        let (mut wheel, mut table) = (Rhythm::new(start), Table::default());
        let slot = table.insert(testing::channel(1));
        let now = start + Duration::from_secs(100_000);
        wheel.put(&mut table, slot, now, 45);
        assert_eq!(wheel.pop(&mut table, now), None);
        assert_eq!(wheel.pop(&mut table, now + Duration::from_secs(44)), None);
        assert_eq!(
            wheel.pop(&mut table, now + Duration::from_secs(46)),
            Some(slot)
        );
    }
}
