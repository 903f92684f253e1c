//! Messages to a shard: a bounded queue and a wake-up.

/// The sending half, one per destination; cloneable, any thread.
pub struct Sender<M> {
    _m: std::marker::PhantomData<M>,
}
impl<M> Sender<M> {
    /// Queues and wakes; gives the message back when the queue is full.
    pub fn send(&self, message: M) -> Result<(), M> {
        todo!()
    }
}
pub struct Receiver<M> {
    _m: std::marker::PhantomData<M>,
}
impl<M> Receiver<M> {
    pub fn receive(&self) -> Option<M> {
        todo!()
    }
}
