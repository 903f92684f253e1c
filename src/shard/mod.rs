//! One core's world: the pinned thread, its loop, the mesh between shards.
//!
//! What a shard runs is a [`Service`](executor::Service), written over any ring: [`executor`] drives it on io_uring,
//! [`simulation`] several of them on one thread, in virtual time. Shards share nothing; what must go from one to another
//! goes by value through [`mesh`].

pub mod buffers; // what sends leave behind, for the next ones
pub mod executor; // runs a `Service` on a thread of its own, which sleeps in its ring
pub mod fleet; // the shards of one process, each with its mailbox
pub mod local; // a handle of what all shards share, to clone without writing to it
pub mod mesh; // bounded crossbeam queues plus the ring's wake-up
pub mod paged;
pub mod simulation; // runs services over simulated rings, in virtual time
