//! One core's world: the pinned executor, the budgeted loop, the mesh between shards.
pub mod executor; // runs a `Service` on a pinned glommio executor with its ring and the sleep protocol
pub mod mesh;     // bounded crossbeam queues plus the ring's wake-up
