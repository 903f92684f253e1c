//! Tests of the session as a whole; those of a part stand with it.

mod channel_random;
mod channels;
mod codec;
mod flow;
mod incarnations;
mod lifecycle;
mod model;
mod pair;
mod robust;
mod spec;
