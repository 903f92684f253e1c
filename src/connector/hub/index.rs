//! A hash table that holds u32 places and no keys: entries lie elsewhere, and their owner compares and hashes them.

/// No entry.
const EMPTY: u32 = u32::MAX;
const SMALLEST: usize = 64;

/// Open addressing with linear probing, at most seven eighths full, at least an eighth when it was larger once.
pub struct Index {
    /// A power of two of them.
    cells: Box<[u32]>,
    len: usize,
}

impl Default for Index {
    fn default() -> Index {
        Index {
            cells: Box::new([]),
            len: 0,
        }
    }
}

impl Index {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.cells.len() * size_of::<u32>()
    }

    /// The place under `hash` that `is` it.
    pub fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let mask = self.cells.len().checked_sub(1)?;
        let mut at = hash as usize & mask;
        loop {
            match self.cells[at] {
                EMPTY => return None,
                place if is(place) => return Some(place),
                _ => at = (at + 1) & mask,
            }
        }
    }

    /// Adds a place that is not there. `hash_of` tells the hash of any place, for growth.
    pub fn insert(&mut self, hash: u64, place: u32, hash_of: impl FnMut(u32) -> u64) {
        if (self.len + 1) * 8 > self.cells.len() * 7 {
            self.resize((self.cells.len() * 2).max(SMALLEST), hash_of);
        }
        self.put(hash, place);
        self.len += 1;
    }

    /// Takes a place out; false when it is not there.
    pub fn remove(&mut self, hash: u64, place: u32, mut hash_of: impl FnMut(u32) -> u64) -> bool {
        let Some(mask) = self.cells.len().checked_sub(1) else {
            return false;
        };
        let mut hole = hash as usize & mask;
        while self.cells[hole] != place {
            if self.cells[hole] == EMPTY {
                return false;
            }
            hole = (hole + 1) & mask;
        }
        // Whoever stands behind the hole and may stand in it moves up, so that no search ends too soon.
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let other = self.cells[at];
            if other == EMPTY {
                break;
            }
            let home = hash_of(other) as usize & mask;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.cells[hole] = other;
                hole = at;
            }
        }
        self.cells[hole] = EMPTY;
        self.len -= 1;
        if self.cells.len() > SMALLEST && self.len * 8 < self.cells.len() {
            self.resize(self.cells.len() / 2, hash_of);
        }
        true
    }

    fn put(&mut self, hash: u64, place: u32) {
        let mask = self.cells.len() - 1;
        let mut at = hash as usize & mask;
        while self.cells[at] != EMPTY {
            at = (at + 1) & mask;
        }
        self.cells[at] = place;
    }

    fn resize(&mut self, cells: usize, mut hash_of: impl FnMut(u32) -> u64) {
        let old = std::mem::replace(&mut self.cells, vec![EMPTY; cells].into_boxed_slice());
        for place in old.into_iter().filter(|place| *place != EMPTY) {
            self.put(hash_of(place), place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Few hashes, so that many places collide and runs wrap.
    fn hash(place: u32) -> u64 {
        u64::from(place % 7).wrapping_mul(0xffff_ffff_ffff_fff3)
    }

    proptest! {
        #[test]
        fn is_a_set_of_places(ops in prop::collection::vec((any::<bool>(), 0u32..400), 0..2000)) {
            let (mut index, mut model) = (Index::default(), BTreeSet::new());
            for (insert, place) in ops {
                if !insert {
                    prop_assert_eq!(index.remove(hash(place), place, hash), model.remove(&place));
                } else if model.insert(place) {
                    index.insert(hash(place), place, hash);
                }
                let found = index.find(hash(place), |other| other == place);
                prop_assert_eq!(found.is_some(), model.contains(&place));
                prop_assert_eq!(index.len(), model.len());
            }
            for place in &model {
                prop_assert_eq!(index.find(hash(*place), |other| other == *place), Some(*place));
            }
        }
    }

    #[test]
    fn memory_falls_when_places_leave() {
        let spread = |place: u32| u64::from(place).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let mut index = Index::default();
        (0..100_000).for_each(|place| index.insert(spread(place), place, spread));
        let most = index.bytes();
        (0..100_000).for_each(|place| assert!(index.remove(spread(place), place, spread)));
        assert!(index.is_empty() && index.bytes() < most / 100);
    }
}
