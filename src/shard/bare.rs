//! A shard without an executor: a plain thread over a ring, for those who need sockets and timers and nothing else.
//!
//! It waits in the ring itself, so it costs one thread, one ring and no more: a process can have many of them, each with a
//! table of direct descriptors of its own.

use crate::ring::Verbs;
use crate::ring::uring::{Ring, RingConfig};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::executor::Service;

/// Longest wait in the ring, when nothing is due.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Of the thread's stack, which is mapped as it is used.
const STACK: usize = 1 << 20;

/// Starts a thread that makes its ring, then its service, and runs until that is finished.
///
/// # Errors
/// No thread could be had. What goes wrong on the thread is what joining it gives.
pub fn run<S>(
    name: &str,
    config: RingConfig,
    make: impl FnOnce(&mut Ring) -> Result<S, String> + Send + 'static,
) -> Result<JoinHandle<Result<(), String>>, String>
where
    S: Service<Ring>,
{
    let thread = thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK);
    thread
        .spawn(move || {
            let mut ring = Ring::new(&config).map_err(|error| error.to_string())?;
            let mut service = make(&mut ring)?;
            serve(&mut ring, &mut service).map_err(|error| format!("the ring failed: {error}"))
        })
        .map_err(|error| format!("no thread: {error}"))
}

fn serve(ring: &mut Ring, service: &mut impl Service<Ring>) -> std::io::Result<()> {
    while !service.is_finished() {
        // By the clock of now: the turn's own is from before its work was done, and what is due would be late by that.
        let wait = service
            .next_deadline()
            .map(|at| at.saturating_duration_since(Instant::now()));
        ring.turn_and_wait(wait.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT))?;
        while let Some(event) = ring.poll_event() {
            service.handle(ring, event);
        }
        service.end_turn(ring);
    }
    Ok(())
}
