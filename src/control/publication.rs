//! How the control plane hands a new value to the shards: whole, immutable, and found with one atomic load.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A value that control threads replace and shards look at once a turn.
///
/// A shard keeps the version it has seen; while [`version`](Self::version) stays the same there is nothing to do.
/// Only on a change does it take the lock, for as long as it takes to clone an `Arc`.
#[derive(Debug)]
pub struct Published<T> {
    version: AtomicU64,
    value: Mutex<Arc<T>>,
    /// What was replaced and may still be held by shards: freed here, by a later `set`, since freeing a large value takes
    /// a shard as long as many requests.
    retired: Mutex<Vec<Arc<T>>>,
}

impl<T> Published<T> {
    /// The first value has version 1, so that 0 means "nothing seen yet".
    pub fn new(value: T) -> Self {
        Self::from_arc(Arc::new(value))
    }

    pub fn from_arc(value: Arc<T>) -> Self {
        Self {
            version: AtomicU64::new(1),
            value: Mutex::new(value),
            retired: Mutex::default(),
        }
    }

    /// Counts up with every `set`. One load.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The newest value. It is never older than a version read before.
    pub fn get(&self) -> Arc<T> {
        self.lock().clone()
    }

    /// The newest value and its version when there is a newer one than `seen`; `seen` is updated.
    pub fn newer(&self, seen: &mut u64) -> Option<Arc<T>> {
        if self.version() == *seen {
            return None;
        }
        let value = self.lock();
        // Read under the lock: writers change both under it, so value and version belong together.
        *seen = self.version.load(Ordering::Relaxed);
        Some(value.clone())
    }

    pub fn set(&self, value: Arc<T>) {
        let mut held = self.lock();
        let old = std::mem::replace(&mut *held, value);
        self.version.fetch_add(1, Ordering::Release);
        drop(held);
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.push(old);
        // Nobody can get hold of a retired value any more, so one that has no other owner stays so.
        retired.retain(|old| Arc::strong_count(old) > 1);
    }

    fn lock(&self) -> MutexGuard<'_, Arc<T>> {
        // Nothing that can panic runs under the lock, so a poisoned one still holds a whole value.
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_each_change_once() {
        let cell = Published::new(1);
        let mut seen = 0;
        assert_eq!(cell.newer(&mut seen).as_deref(), Some(&1));
        assert_eq!(cell.newer(&mut seen), None);
        cell.set(Arc::new(2));
        cell.set(Arc::new(3));
        assert_eq!(cell.newer(&mut seen).as_deref(), Some(&3));
        assert_eq!(cell.newer(&mut seen), None);
    }

    #[test]
    fn a_value_is_never_older_than_the_version_read_before_it() {
        let cell = Arc::new(Published::new(1u64));
        let writer = {
            let cell = cell.clone();
            std::thread::spawn(move || (2..=20_000).for_each(|n| cell.set(Arc::new(n))))
        };
        let mut last = 0;
        while last < 20_000 {
            let version = cell.version();
            let value = *cell.get();
            assert!(
                value >= version && value >= last,
                "version {version}, value {value}, last {last}"
            );
            last = value;
        }
        writer.join().unwrap();
    }
}
