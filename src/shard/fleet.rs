//! The shards of one process: each makes its ring and its mailbox on its own thread, then all learn each other's
//! addresses, then all begin. A shard that cannot start ends the others, and says why.

use crate::ring::Verbs;
use crate::ring::uring::{Ring, RingConfig};
use std::io;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::executor::{Service, Shard, ShardError, ShardSpec};
use super::mesh::{self, Receiver, Sender};

/// What a shard is given to begin with.
pub struct Start<M> {
    pub index: usize,
    pub receiver: Receiver<M>,
    /// All shards of the process, this one included, by index.
    pub siblings: Vec<Sender<M>>,
}

/// How they are to be run.
pub struct FleetSpec {
    /// A shard's thread is called by it and the shard's number.
    pub name: &'static str,
    pub shards: usize,
    /// Messages that each mailbox holds.
    pub queue: usize,
    /// See [`ShardSpec::busy_poll`].
    pub busy_poll: Duration,
}

impl FleetSpec {
    pub fn new(name: &'static str, shards: usize, queue: usize) -> FleetSpec {
        FleetSpec {
            name,
            shards,
            queue,
            busy_poll: Duration::ZERO,
        }
    }
}

/// The running shards.
pub struct Fleet<M> {
    pub senders: Vec<Sender<M>>,
    shards: Vec<Shard>,
}

/// Starts the threads; `make` builds each one's service on its own thread, listeners included. A shard that breaks
/// later ends the process: what the others believe of it would not be true any more.
pub fn start<M, S>(
    spec: FleetSpec,
    make: impl Fn(&mut Ring, Start<M>) -> Result<S, String> + Send + Sync + 'static,
) -> Result<Fleet<M>, String>
where
    M: Send + 'static,
    S: Service<Ring> + 'static,
{
    let FleetSpec {
        name,
        shards,
        queue,
        busy_poll,
    } = spec;
    let make = Arc::new(make);
    let mut addresses = Vec::new();
    let mut everybody = Vec::new();
    let mut starting = Vec::new();
    for index in 0..shards {
        let (address_out, address) = mpsc::sync_channel(1);
        let (siblings_out, siblings) = mpsc::sync_channel::<Vec<Sender<M>>>(1);
        let make = make.clone();
        let build = move |ring: &mut Ring| -> io::Result<S> {
            let given_up = || io::Error::other("another shard could not start");
            let (sender, receiver) = mesh::channel(queue, ring.waker());
            address_out.send(sender).map_err(|_| given_up())?;
            let siblings = siblings.recv().map_err(|_| given_up())?;
            make(
                ring,
                Start {
                    index,
                    receiver,
                    siblings,
                },
            )
            .map_err(io::Error::other)
        };
        let spec = ShardSpec {
            core: Some(index),
            ring: RingConfig::of_many(shards),
            busy_poll,
            on_exit: Some(Box::new(watch)),
            ..ShardSpec::new(&format!("{name}-{index}"))
        };
        // The shards wait for each other.
        starting.push(spec.spawn(build).map_err(|error| error.to_string())?);
        addresses.push(address);
        everybody.push(siblings_out);
    }
    let senders: Vec<_> = addresses
        .iter()
        .map_while(|address| address.recv().ok())
        .collect();
    if senders.len() == shards {
        for siblings in &everybody {
            let _ = siblings.send(senders.clone());
        }
    }
    drop(everybody);
    let mut running = Vec::new();
    let mut wrong = Vec::new();
    for shard in starting {
        match shard.started() {
            Ok(shard) => running.push(shard),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    // Of several, the one that is not merely another's consequence.
    let first = wrong
        .iter()
        .find(|text| !text.contains("another shard could not start"))
        .or(wrong.first());
    match first {
        Some(error) => Err(error.clone()),
        None => Ok(Fleet {
            senders,
            shards: running,
        }),
    }
}

/// A shard ended: well, or the process ends with it.
fn watch(name: &str, result: &Result<(), ShardError>) {
    if let Err(error) = result {
        tracing::error!(shard = name, %error, "a shard broke");
        eprintln!("tidegate: {name}: {error}");
        std::process::exit(70);
    }
}

impl<M> Fleet<M> {
    /// Waits until every shard has ended; the first failure.
    pub fn join(self) -> Result<(), String> {
        let mut outcome = Ok(());
        for shard in self.shards {
            outcome = outcome.and(shard.join().map_err(|error| error.to_string()));
        }
        outcome
    }
}
