//! The shards of one process: each makes its ring and its mailbox on its own thread, then all learn each other's
//! addresses, then all begin. A shard that cannot start ends the others, and says why.

use crate::ring::Verbs;
use crate::ring::uring::Ring;
use std::sync::{Arc, mpsc};

use super::executor::{self, Service};
use super::mesh::{self, Receiver, Sender};

/// What a shard is given to begin with.
pub struct Start<M> {
    pub index: usize,
    pub receiver: Receiver<M>,
    /// All shards of the process, this one included, by index.
    pub siblings: Vec<Sender<M>>,
}

/// The running shards.
pub struct Fleet<M> {
    pub senders: Vec<Sender<M>>,
    handles: Vec<executor::Handle>,
}

/// Starts `shards` threads; `make` builds each one's service on its own thread, listeners included.
pub fn start<M, S>(
    name: &str,
    shards: usize,
    queue: usize,
    make: impl Fn(&mut Ring, Start<M>) -> Result<S, String> + Send + Sync + 'static,
) -> Result<Fleet<M>, String>
where
    M: Send + 'static,
    S: Service<Ring> + 'static,
{
    let make = Arc::new(make);
    let mut addresses = Vec::new();
    let mut everybody = Vec::new();
    let mut began = Vec::new();
    let mut handles = Vec::new();
    for index in 0..shards {
        let (address_out, address) = mpsc::sync_channel(1);
        let (siblings_out, siblings) = mpsc::sync_channel::<Vec<Sender<M>>>(1);
        let (began_out, begun) = mpsc::sync_channel::<Result<(), String>>(1);
        let make = make.clone();
        let build = move |ring: &mut Ring| -> Result<S, String> {
            let (sender, receiver) = mesh::channel(queue, ring.waker());
            let given_up = || "another shard could not start".to_owned();
            address_out.send(sender).map_err(|_| given_up())?;
            let siblings = siblings.recv().map_err(|_| given_up())?;
            let made = make(ring, Start { index, receiver, siblings });
            let _ = began_out.send(made.as_ref().map(|_| ()).map_err(Clone::clone));
            made
        };
        handles.push(executor::spawn(&format!("{name}-{index}"), index, build)?);
        addresses.push(address);
        everybody.push(siblings_out);
        began.push(begun);
    }
    let mut senders = Vec::new();
    for (index, address) in addresses.iter().enumerate() {
        match address.recv() {
            Ok(sender) => senders.push(sender),
            Err(_) => {
                // Its thread ended before it had a mailbox: the handle knows why.
                drop(everybody);
                let why = handles.swap_remove(index).join().err();
                return Err(why.unwrap_or_else(|| format!("shard {index} ended at its start")));
            }
        }
    }
    for siblings in &everybody {
        let _ = siblings.send(senders.clone());
    }
    for (index, begun) in began.iter().enumerate() {
        begun.recv().map_err(|_| format!("shard {index} ended at its start"))??;
    }
    Ok(Fleet { senders, handles })
}

impl<M> Fleet<M> {
    /// Waits until every shard has ended; the first failure.
    pub fn join(self) -> Result<(), String> {
        let mut outcome = Ok(());
        for handle in self.handles {
            outcome = outcome.and(handle.join());
        }
        outcome
    }
}
