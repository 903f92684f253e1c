//! The whole tunnel in one thread on virtual time: gateway, connectors, upstream and clients over simulated rings, with
//! a seeded network that cuts bytes anywhere, delays, resets and partitions. What clients got is counted against what
//! they asked for. `TIDEGATE_SIM_SEEDS=N` runs more seeds; a failure prints its seed.

mod channels;
mod requests;
mod world;
