//! One timer wheel per shard: entries are tokens, cancelled lazily by their owner.
//!
//! Hierarchical hashed wheel (Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", scheme 7): seven levels of
//! 64 slots, each level 64 times coarser than the one below. An entry lies in the level of the highest 6-bit digit in
//! which its tick differs from the wheel's, and moves down when the wheel reaches its slot. Entries live in one slab,
//! linked per slot, so that inserting allocates only when more entries are held than ever before.

use std::time::{Duration, Instant};

/// Slots of a level, as a power of two; one `u64` says which of them hold entries.
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// 42 bits of ticks: 139 years of milliseconds. Later deadlines are held as `TICK_MAX`, which never comes.
const LEVELS: usize = 7;
const TICK_MAX: u64 = (1 << (SLOT_BITS * LEVELS as u32)) - 1;
/// End of a list of entries.
const NIL: u32 = u32::MAX;

/// A hashed wheel of `u64` tokens; see `insert`.
pub struct Wheel {
    start: Instant,
    tick: Duration,
    /// Ticks up to which everything has fired or lies in `due`.
    elapsed: u64,
    entries: Vec<Entry>,
    /// Unused elements of `entries`, linked.
    free: u32,
    /// Entries whose tick has come, linked.
    due: u32,
    heads: [[u32; SLOTS]; LEVELS],
    /// Bit n of a level: its slot n holds entries.
    occupied: [u64; LEVELS],
    len: usize,
}

struct Entry {
    tick: u64,
    token: u64,
    next: u32,
}

impl Wheel {
    /// `tick` is the wheel's resolution (e.g. 16 ms).
    ///
    /// # Panics
    /// When `tick` is zero.
    pub fn new(start: Instant, tick: Duration) -> Self {
        assert!(!tick.is_zero(), "a wheel needs a tick longer than zero");
        Wheel {
            start,
            tick,
            elapsed: 0,
            entries: Vec::new(),
            free: NIL,
            due: NIL,
            heads: [[NIL; SLOTS]; LEVELS],
            occupied: [0; LEVELS],
            len: 0,
        }
    }

    /// Fires `token` at or after `at`, never before, at most one tick late (plus the owner's own lateness). O(1).
    /// There is no removal: the owner compares its own deadline when a token fires, and inserts again if it moved.
    ///
    /// A deadline that has passed fires with the next tick, not with the `pop` in progress, so that an owner that
    /// inserts while it pops cannot go round for ever.
    pub fn insert(&mut self, at: Instant, token: u64) {
        let tick = self.tick_at_or_after(at).clamp(self.elapsed + 1, TICK_MAX);
        let index = self.allocate(Entry {
            tick,
            token,
            next: NIL,
        });
        self.link(index);
        self.len += 1;
    }

    /// The next due token, or `None` when nothing is due at `now`. Call until `None`.
    pub fn pop(&mut self, now: Instant) -> Option<u64> {
        let now_tick = self.tick_at_or_before(now);
        loop {
            if self.due != NIL {
                return Some(self.take_due());
            }
            match self.next_slot() {
                Some((level, slot, tick)) if tick <= now_tick => self.open(level, slot, tick),
                _ => {
                    self.elapsed = self.elapsed.max(now_tick);
                    return None;
                }
            }
        }
    }

    /// When to `pop` at the latest so that nothing is more than a tick late: the moment at which the earliest entry
    /// fires, or an earlier one at which far entries are sorted closer. Once `pop(now)` gave `None`, it is after `now`.
    /// `None` when the wheel is empty.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.due != NIL {
            return Some(self.instant_of(self.elapsed));
        }
        self.next_slot().map(|(_, _, tick)| self.instant_of(tick))
    }

    /// Entries held.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first slot to come that holds entries: its level, index and first tick. Lower levels come first, since their
    /// entries share more digits with `elapsed`.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        for (level, &occupied) in self.occupied.iter().enumerate() {
            if occupied != 0 {
                let slot = occupied.trailing_zeros() as usize;
                let shift = level as u32 * SLOT_BITS;
                let above = self.elapsed >> (shift + SLOT_BITS) << (shift + SLOT_BITS);
                return Some((level, slot, above | (slot as u64) << shift));
            }
        }
        None
    }

    /// Moves the wheel to `tick`, the beginning of that slot, and deals its entries out: to `due` or further down.
    fn open(&mut self, level: usize, slot: usize, tick: u64) {
        debug_assert!(tick > self.elapsed);
        self.elapsed = tick;
        let mut next = std::mem::replace(&mut self.heads[level][slot], NIL);
        self.occupied[level] &= !(1 << slot);
        while next != NIL {
            let index = next;
            next = self.entries[index as usize].next;
            self.link(index);
        }
    }

    /// Puts an entry where its tick belongs as seen from `elapsed`.
    fn link(&mut self, index: u32) {
        let tick = self.entries[index as usize].tick;
        let head = if tick <= self.elapsed {
            &mut self.due
        } else {
            let level = (63 - (tick ^ self.elapsed).leading_zeros()) / SLOT_BITS;
            let slot = (tick >> (level * SLOT_BITS)) as usize % SLOTS;
            self.occupied[level as usize] |= 1 << slot;
            &mut self.heads[level as usize][slot]
        };
        self.entries[index as usize].next = std::mem::replace(head, index);
    }

    fn take_due(&mut self) -> u64 {
        let index = self.due;
        let entry = &mut self.entries[index as usize];
        self.due = std::mem::replace(&mut entry.next, self.free);
        self.free = index;
        self.len -= 1;
        entry.token
    }

    fn allocate(&mut self, entry: Entry) -> u32 {
        if self.free == NIL {
            assert!(
                self.entries.len() < NIL as usize,
                "a wheel holds fewer than 2^32 entries"
            );
            self.entries.push(entry);
            return (self.entries.len() - 1) as u32;
        }
        let index = self.free;
        let place = &mut self.entries[index as usize];
        self.free = place.next;
        *place = entry;
        index
    }

    fn tick_at_or_before(&self, at: Instant) -> u64 {
        let ticks = at.saturating_duration_since(self.start).as_nanos() / self.tick.as_nanos();
        ticks.min(TICK_MAX as u128 - 1) as u64
    }

    fn tick_at_or_after(&self, at: Instant) -> u64 {
        let nanos = at.saturating_duration_since(self.start).as_nanos();
        nanos.div_ceil(self.tick.as_nanos()).min(TICK_MAX as u128) as u64
    }

    fn instant_of(&self, tick: u64) -> Instant {
        let nanos = self.tick.as_nanos() * tick as u128;
        self.start
            + Duration::new(
                (nanos / 1_000_000_000) as u64,
                (nanos % 1_000_000_000) as u32,
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TICK: Duration = Duration::from_millis(16);

    fn drain(wheel: &mut Wheel, now: Instant) -> Vec<u64> {
        std::iter::from_fn(|| wheel.pop(now)).collect()
    }

    #[test]
    fn fires_neither_early_nor_more_than_a_tick_late() {
        let start = Instant::now();
        for offset_ms in [
            0,
            1,
            15,
            16,
            17,
            1_023,
            1_024,
            1_025,
            65_536,
            4_000_000,
            400_000_000,
        ] {
            let mut wheel = Wheel::new(start, TICK);
            let at = start + Duration::from_millis(offset_ms);
            wheel.insert(at, 7);
            assert_eq!(
                wheel.pop(at - Duration::from_nanos(1)),
                None,
                "{offset_ms} ms: early"
            );
            assert_eq!(wheel.pop(at + TICK), Some(7), "{offset_ms} ms: late");
            assert!(wheel.is_empty());
        }
    }

    #[test]
    fn waking_at_next_deadline_alone_finds_everything_in_few_steps() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start, TICK);
        wheel.insert(start + Duration::from_secs(7_200), 1);
        let mut wakes = 0;
        while let Some(at) = wheel.next_deadline() {
            wakes += 1;
            for token in drain(&mut wheel, at) {
                assert_eq!(token, 1);
                assert!(at >= start + Duration::from_secs(7_200));
            }
        }
        assert!(wakes <= LEVELS, "{wakes} wake-ups for one timer");
    }

    #[test]
    fn inserting_the_past_while_popping_ends() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start, TICK);
        let now = start + Duration::from_secs(10);
        wheel.insert(start, 1);
        let mut fired = 0;
        while let Some(token) = wheel.pop(now) {
            fired += 1;
            wheel.insert(start, token);
            assert!(fired < 1_000_000);
        }
        assert_eq!(wheel.len(), 1);
        assert!(wheel.next_deadline().unwrap() <= now + TICK);
    }

    #[test]
    fn a_deadline_beyond_the_wheel_is_held() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start, Duration::from_nanos(1));
        wheel.insert(start + Duration::from_secs(1 << 20), 9);
        assert_eq!(wheel.pop(start + Duration::from_secs(60)), None);
        assert_eq!(wheel.len(), 1);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert { after_us: u64 },
        Advance { by_us: u64 },
        WakeAtDeadline,
    }

    fn step() -> impl Strategy<Value = Step> {
        // exponents, so that all levels are met
        let span = (0u32..36).prop_flat_map(|bits| 0..(1u64 << bits));
        prop_oneof![
            3 => span.clone().prop_map(|after_us| Step::Insert { after_us }),
            1 => span.prop_map(|by_us| Step::Advance { by_us: by_us >> 3 }),
            1 => Just(Step::WakeAtDeadline),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        /// Against a sorted list: every token fires once, in its window, and the wheel never oversleeps.
        #[test]
        fn agrees_with_a_sorted_reference(steps in prop::collection::vec(step(), 1..200)) {
            let start = Instant::now();
            let mut wheel = Wheel::new(start, TICK);
            let mut held: Vec<(Instant, u64)> = Vec::new();
            let (mut now, mut token) = (start, 0);
            for step in steps {
                match step {
                    Step::Insert { after_us } => {
                        let at = now + Duration::from_micros(after_us);
                        wheel.insert(at, token);
                        held.push((at, token));
                        token += 1;
                        continue;
                    }
                    Step::Advance { by_us } => now += Duration::from_micros(by_us),
                    Step::WakeAtDeadline => match wheel.next_deadline() {
                        Some(at) => now = now.max(at),
                        None => continue,
                    },
                }
                let fired = drain(&mut wheel, now);
                for token in fired {
                    let index = held.iter().position(|held| held.1 == token);
                    prop_assert!(index.is_some(), "token {} fired twice", token);
                    let (at, _) = held.swap_remove(index.unwrap());
                    prop_assert!(at <= now, "token {} fired early", token);
                }
                for (at, token) in &held {
                    prop_assert!(*at + TICK > now, "token {} is late", token);
                }
                prop_assert_eq!(wheel.len(), held.len());
                match wheel.next_deadline() {
                    None => prop_assert!(held.is_empty()),
                    Some(next) => {
                        prop_assert!(next > now, "waking now would find nothing");
                        let earliest = held.iter().map(|held| held.0).min().unwrap();
                        prop_assert!(next <= earliest + TICK, "oversleeps");
                    }
                }
            }
        }

        #[test]
        fn memory_does_not_grow_with_use(rounds in 1usize..50) {
            let start = Instant::now();
            let mut wheel = Wheel::new(start, TICK);
            for round in 0..rounds {
                let now = start + Duration::from_secs(round as u64);
                drain(&mut wheel, now);
                for token in 0..100 {
                    wheel.insert(now + Duration::from_millis(token * 9), token);
                }
            }
            prop_assert!(wheel.entries.len() <= 100);
        }
    }
}
