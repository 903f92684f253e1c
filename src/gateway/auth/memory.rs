//! A bounded memory in two generations: what is asked for stays, the rest goes a half at a time, and never all at once.

use std::collections::HashMap;
use std::hash::Hash;

/// At most `most` entries.
pub struct Memory<K, V> {
    most: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Hash + Eq, V> Memory<K, V> {
    pub fn new(most: usize) -> Memory<K, V> {
        Memory {
            most,
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    /// What is remembered; one of the old generation is young again.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        if !self.old.is_empty()
            && let Some((key, value)) = self.old.remove_entry(key)
        {
            self.insert(key, value);
        }
        self.young.get(key)
    }

    pub fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.most / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    pub fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_outlives_what_is_not() {
        let mut memory = Memory::new(100);
        memory.insert(0, "mine");
        for n in 1..10_000 {
            memory.insert(n, "another");
            assert!(memory.len() <= 100);
            if n % 10 == 0 {
                assert_eq!(memory.get(&0), Some(&"mine"), "after {n}");
            }
        }
        assert_eq!(memory.get(&1), None);
        assert_eq!(memory.get(&9_999), Some(&"another"));
    }
}
