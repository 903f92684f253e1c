//! Where queued pushes lie until their clients have them: an embedded `redb`, on a thread of its own, that commits what
//! came while it committed.
//!
//! ```text
//! hub ── Command ─▶ queue ─▶ [ take all that is there ▸ one transaction ▸ fsync ] ── Event ─▶ hub
//! ```
//! - `disk`: the tables, what a row holds, what an error means.
//! - this file: the thread, its queue, and what it does while the file cannot be used.
//!
//! Invariants: `Stored` is said once the push is on disk, and `Failed` of every push that is not; a file that belongs to
//! another process, or holds something else, is never written to. While the file cannot be used the rest of the connector
//! goes on: pushes to be queued fail at once, what was to be noted of older ones is kept and noted later.

pub mod disk;

use crate::shard::mesh;
use crate::wire::relay::PushId;
use crossbeam::sync::Parker;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{io, thread};

use super::limits::{COMMIT_COMMANDS, STORE_QUEUE, STORE_RETRY};
use disk::Disk;

/// Pushes in one `Event::Loaded`.
const LOADED_AT_ONCE: usize = 1000;

/// A push with the targets that it had when it was stored, and what is known of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPush {
    pub push: PushId,
    /// JSON text.
    pub payload: Box<str>,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    pub expires_ms: u64,
    /// To all clients, also those that come while it lives.
    pub all: bool,
    pub targets: Vec<StoredTarget>,
    /// The caller's key, and the SHA-256 of what it asked for.
    pub key: Option<(Box<str>, [u8; 32])>,
}

/// One client of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTarget {
    pub client: Box<str>,
    /// The client may have it already: it is sent again as a repeat only.
    pub attempted: bool,
    pub acknowledged: bool,
}

/// From the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Answered by `Stored`, or `Failed`.
    Put(Box<StoredPush>),
    /// Before the push goes out to these clients for the first time; answered by `Attempted`, or `Failed`.
    Attempted {
        push: PushId,
        clients: Vec<Box<str>>,
    },
    /// The client has it. Not answered.
    Acknowledged { push: PushId, client: Box<str> },
    /// Nothing is left to do for it. Not answered.
    Forget(PushId),
}

/// To the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Of an earlier process: those that have not expired, in parts; first of all.
    Loaded(Vec<StoredPush>),
    LoadedAll,
    Stored(PushId),
    Attempted {
        push: PushId,
        clients: Vec<Box<str>>,
    },
    /// It is not on disk.
    Failed {
        push: PushId,
        why: String,
    },
    /// The file cannot be used, and why; it is tried again every few seconds.
    Down(String),
    /// It can be used (again).
    Up,
}

/// The hub's end of the store. Dropping it ends the thread, once what waits is on disk.
pub struct Store {
    commands: mesh::Sender<Command>,
}

/// How the file is opened; the error is one line for an operator.
pub type Open = Box<dyn FnMut() -> Result<Disk, String> + Send>;

impl Store {
    /// Opens or makes the file on the store's own thread. `tell` must not lose an event.
    pub fn start(file: PathBuf, tell: impl FnMut(Event) + Send + 'static) -> io::Result<Store> {
        Store::start_with(Box::new(move || Disk::open(&file)), tell)
    }

    /// The same with another way to open.
    pub fn start_with(open: Open, tell: impl FnMut(Event) + Send + 'static) -> io::Result<Store> {
        let parker = Parker::new();
        let (sender, receiver) = mesh::channel(STORE_QUEUE, parker.unparker().clone());
        let worker = Worker {
            open,
            tell: Box::new(tell),
            disk: None,
            loaded: false,
            put_off: VecDeque::new(),
            retry_at: Instant::now(),
            why: String::new(),
        };
        thread::Builder::new()
            .name("store".into())
            .spawn(move || worker.run(&parker, &receiver))?;
        Ok(Store { commands: sender })
    }

    /// Gives the command back when too many wait.
    pub fn send(&self, command: Command) -> Result<(), Command> {
        self.commands.send(command)
    }

    /// Commands that wait.
    pub fn waiting(&self) -> usize {
        self.commands.waiting()
    }
}

struct Worker {
    open: Open,
    tell: Box<dyn FnMut(Event) + Send>,
    disk: Option<Disk>,
    /// What an earlier process left was told.
    loaded: bool,
    /// Commands without an answer, to be noted when the file can be used again; the oldest goes when they are too many:
    /// its client gets a push once more, as a repeat.
    put_off: VecDeque<Command>,
    retry_at: Instant,
    /// Why it is down.
    why: String,
}

impl Worker {
    fn run(mut self, parker: &Parker, commands: &mesh::Receiver<Command>) {
        let mut batch = Vec::new();
        loop {
            if self.disk.is_none() && Instant::now() >= self.retry_at {
                self.try_open();
            }
            while batch.len() < COMMIT_COMMANDS
                && let Some(command) = commands.receive()
            {
                batch.push(command);
            }
            if !batch.is_empty() {
                self.work(&mut batch);
                continue;
            }
            if commands.is_orphaned() {
                // The file is free before anybody learns of the end.
                self.disk = None;
                return;
            }
            match self.disk {
                Some(_) => parker.park(),
                None => {
                    let left = self.retry_at.saturating_duration_since(Instant::now());
                    parker.park_timeout(left.max(Duration::from_millis(1)));
                }
            }
        }
    }

    fn try_open(&mut self) {
        self.retry_at = Instant::now() + STORE_RETRY;
        let open = &mut self.open;
        // A file that was damaged may break what redb takes for granted.
        let opened = catch_unwind(AssertUnwindSafe(open))
            .unwrap_or_else(|_| Err("the file is damaged: it cannot be read".into()));
        let disk = match opened {
            Ok(disk) => disk,
            Err(why) => return self.down(why),
        };
        if !self.loaded {
            let tell = &mut self.tell;
            let load = AssertUnwindSafe(|| {
                disk.load(now_ms(), LOADED_AT_ONCE, &mut |part| {
                    tell(Event::Loaded(part));
                })
            });
            let loaded = catch_unwind(load)
                .unwrap_or_else(|_| Err("the file is damaged: its pushes cannot be read".into()));
            if let Err(why) = loaded {
                return self.down(why);
            }
            self.loaded = true;
            (self.tell)(Event::LoadedAll);
        }
        self.disk = Some(disk);
        self.why.clear();
        (self.tell)(Event::Up);
        let mut batch: Vec<_> = self.put_off.drain(..).collect();
        if !batch.is_empty() {
            self.work(&mut batch);
        }
    }

    fn down(&mut self, why: String) {
        self.disk = None;
        if self.why != why {
            self.why.clone_from(&why);
            (self.tell)(Event::Down(why));
        }
    }

    /// One transaction for all of these.
    fn work(&mut self, batch: &mut Vec<Command>) {
        let failed = match &mut self.disk {
            None => Some(self.why.clone()),
            Some(disk) => {
                let commit = AssertUnwindSafe(|| disk.commit(batch));
                let committed =
                    catch_unwind(commit).unwrap_or_else(|_| Err("the file is damaged".into()));
                committed.err()
            }
        };
        match failed {
            None => {
                for command in batch.drain(..) {
                    match command {
                        Command::Put(push) => (self.tell)(Event::Stored(push.push)),
                        Command::Attempted { push, clients } => {
                            (self.tell)(Event::Attempted { push, clients });
                        }
                        Command::Acknowledged { .. } | Command::Forget(_) => {}
                    }
                }
            }
            Some(why) => {
                for command in batch.drain(..) {
                    self.refuse(command, &why);
                }
                // The file's state in memory is not to be trusted after an error: it is opened anew.
                self.down(why);
            }
        }
    }

    fn refuse(&mut self, command: Command, why: &str) {
        let push = match command {
            Command::Put(push) => push.push,
            Command::Attempted { push, .. } => push,
            later => {
                if self.put_off.len() >= STORE_QUEUE {
                    self.put_off.pop_front();
                }
                return self.put_off.push_back(later);
            }
        };
        (self.tell)(Event::Failed {
            push,
            why: why.to_owned(),
        });
    }
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests;
