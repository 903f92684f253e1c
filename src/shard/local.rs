//! A shard's own handle of what all shards share.

use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

/// Derefs to the shared value. Cloning it counts on this shard alone: an `Arc` cloned for each request would make all
/// shards write to one cache line.
#[expect(
    clippy::redundant_allocation,
    reason = "the second count is what this is for: nobody else writes to it"
)]
pub struct Local<T>(Rc<Arc<T>>);

impl<T> Local<T> {
    /// What the shards share.
    pub fn shared(&self) -> &Arc<T> {
        &self.0
    }
}

impl<T> From<Arc<T>> for Local<T> {
    fn from(shared: Arc<T>) -> Self {
        Local(Rc::new(shared))
    }
}

impl<T> Clone for Local<T> {
    fn clone(&self) -> Self {
        Local(self.0.clone())
    }
}

impl<T> Deref for Local<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_are_not_seen_by_other_shards() {
        let shared = Arc::new(7);
        let local = Local::from(shared.clone());
        let copies: Vec<_> = (0..10).map(|_| local.clone()).collect();
        assert_eq!(Arc::strong_count(&shared), 2);
        assert!(Arc::ptr_eq(local.shared(), &shared));
        drop((local, copies));
        assert_eq!(Arc::strong_count(&shared), 1);
    }
}
