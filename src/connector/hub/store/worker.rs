//! The store's thread: takes what waits, commits it at once, tells the hub.

use crate::shard::mesh;
use crossbeam::sync::Parker;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};
use std::{io, thread};

use super::disk::{Disk, Trouble};
use super::{Command, News};
use crate::connector::hub::limits::{COMMIT_COMMANDS, STORE_QUEUE, STORE_RETRY};

/// Pushes in one `News::Loaded`.
const LOADED_AT_ONCE: usize = 1000;

/// The hub's end of the store. Dropping it ends the thread, once what waits is on disk.
pub struct Store {
    commands: mesh::Sender<Command>,
}

/// How the file is opened.
pub type Open = Box<dyn FnMut() -> Result<Disk, Trouble> + Send>;

impl Store {
    /// Opens or makes the file on the store's own thread. `tell` must not lose anything.
    pub fn start(file: PathBuf, tell: impl FnMut(News) + Send + 'static) -> io::Result<Store> {
        Store::start_with(Box::new(move || Disk::open(&file)), tell)
    }

    /// The same with another way to open.
    pub fn start_with(open: Open, tell: impl FnMut(News) + Send + 'static) -> io::Result<Store> {
        let parker = Parker::new();
        let (sender, receiver) = mesh::channel(STORE_QUEUE, parker.unparker().clone());
        let worker = Worker {
            open,
            tell: Box::new(tell),
            disk: None,
            loaded: false,
            put_off: VecDeque::new(),
            retry_at: Instant::now(),
            trouble: Trouble::default(),
        };
        thread::Builder::new()
            .name("store".into())
            .spawn(move || worker.run(&parker, &receiver))?;
        Ok(Store { commands: sender })
    }

    /// Gives the command back when too many wait.
    #[expect(
        clippy::result_large_err,
        reason = "the error is the command itself, which the caller had"
    )]
    pub fn send(&self, command: Command) -> Result<(), Command> {
        self.commands.send(command)
    }
}

struct Worker {
    open: Open,
    tell: Box<dyn FnMut(News) + Send>,
    disk: Option<Disk>,
    /// What an earlier process left was told.
    loaded: bool,
    /// Commands that nobody waits for, to be noted when the file can be used again. The oldest goes when they are too
    /// many: then a client gets a push once more, as a repeat.
    put_off: VecDeque<Command>,
    retry_at: Instant,
    /// Why it cannot be used.
    trouble: Trouble,
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
        // A file that was damaged may break what redb takes for granted.
        let opened = catch_unwind(AssertUnwindSafe(&mut self.open));
        let disk = match opened.unwrap_or_else(|_| Err(Trouble::damaged())) {
            Ok(disk) => disk,
            Err(trouble) => return self.down(trouble, Vec::new()),
        };
        if !self.loaded {
            let tell = &mut self.tell;
            let load = AssertUnwindSafe(|| disk.load(now_ms(), LOADED_AT_ONCE, tell));
            if let Err(trouble) = catch_unwind(load).unwrap_or_else(|_| Err(Trouble::damaged())) {
                return self.down(trouble, Vec::new());
            }
            self.loaded = true;
        }
        self.disk = Some(disk);
        self.trouble = Trouble::default();
        (self.tell)(News::Opened);
        let mut batch: Vec<_> = self.put_off.drain(..).collect();
        if !batch.is_empty() {
            self.work(&mut batch);
        }
    }

    fn down(&mut self, trouble: Trouble, puts: Vec<crate::wire::relay::PushId>) {
        self.disk = None;
        if self.trouble != trouble {
            tracing::error!(why = trouble.why, "queued pushes cannot be stored");
        } else if puts.is_empty() {
            return;
        }
        self.trouble = trouble;
        let Trouble { why, full } = self.trouble.clone();
        (self.tell)(News::Failed { puts, why, full });
    }

    /// One transaction for all of these.
    fn work(&mut self, batch: &mut Vec<Command>) {
        let outcome = match &mut self.disk {
            None => Err(self.trouble.clone()),
            Some(disk) => catch_unwind(AssertUnwindSafe(|| disk.commit(batch)))
                .unwrap_or_else(|_| Err(Trouble::damaged())),
        };
        let id = |command: &Command| match command {
            Command::Put { id, .. } => Some(*id),
            _ => None,
        };
        let puts: Vec<_> = batch.iter().filter_map(id).collect();
        match outcome {
            Ok(()) => {
                let commands = batch.len();
                batch.clear();
                (self.tell)(News::Committed { puts, commands });
            }
            Err(trouble) => {
                for command in batch.drain(..).filter(|command| id(command).is_none()) {
                    if self.put_off.len() >= STORE_QUEUE {
                        self.put_off.pop_front();
                    }
                    self.put_off.push_back(command);
                }
                // The file's state in memory is not to be trusted after an error: it is opened anew. What failed may be
                // there then: nobody was told so, and it goes.
                for id in &puts {
                    self.put_off.push_back(Command::Forget(*id));
                }
                self.down(trouble, puts);
            }
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
