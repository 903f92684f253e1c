//! The loop of one shard: a thread, bound to a core, over a ring of its own.
//!
//! ```text
//! ┌▶ turn: submit what was asked for, collect; sleep in the same system call when there is nothing
//! │     ▼
//! │  handle each event
//! │     ▼
//! └── end_turn
//! ```
//! The shard sleeps in its ring and nowhere else: a wake-up is one system call, and what completes while it is awake needs
//! none. Other threads wake it through the ring's waker, which writes to a descriptor only when the shard sleeps.
//!
//! With `busy_poll`, a shard that had something to do looks on for a while before it sleeps: a wake-up less for what
//! comes soon, paid with CPU.

use crate::ring::uring::{Ring, RingConfig};
use crate::ring::{self, CLOSE_PATIENCE, Event, Verbs};
use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Of a shard's thread; mapped as it is used.
const STACK: usize = 2 << 20;

/// What a shard runs: gateway's or connector's data path, over any ring.
pub trait Service<R: Verbs> {
    /// One event of this turn.
    fn handle(&mut self, ring: &mut R, event: Event);
    /// After all events of a turn: messages of the mesh, due timers, then flush everything that became dirty.
    fn end_turn(&mut self, ring: &mut R);
    /// When `end_turn` must run again at the latest; `None` when nothing is due ever.
    fn next_deadline(&self) -> Option<Instant>;
    /// The service is done: the loop ends.
    fn is_finished(&self) -> bool;
}

/// Starts a shard; see [`ShardSpec`] for more choices.
pub fn run_shard<S, F>(
    core: Option<usize>,
    name: &str,
    ring: RingConfig,
    make: F,
) -> Result<Shard, StartError>
where
    S: Service<Ring> + 'static,
    F: FnOnce(&mut Ring) -> io::Result<S> + Send + 'static,
{
    ShardSpec {
        core,
        ring,
        ..ShardSpec::new(name)
    }
    .run(make)
}

/// The cores that this process may run on, from /proc/self/status; empty if it cannot be read. What systemd or a
/// container takes away is not among them.
pub fn usable_cores() -> Vec<usize> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.map(|list| parse_cores(list.trim()))
        .unwrap_or_default()
}

/// Reads the kernel's list format, e.g. "0-3,8".
fn parse_cores(list: &str) -> Vec<usize> {
    let ranges = list.split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

/// How a shard is to be run.
pub struct ShardSpec {
    /// Also the thread's name, of which the kernel keeps 15 bytes.
    pub name: String,
    /// The core to pin it to. Where that core is not ours to use, the shard runs unbound.
    pub core: Option<usize>,
    pub ring: RingConfig,
    /// How long the shard looks for more to do before it sleeps; zero: not at all.
    pub busy_poll: Duration,
    /// Told on the shard's thread how it ended, when its service is gone: for a process that watches over many.
    pub on_exit: Option<OnExit>,
}

/// Is given the shard's name and how it ended. Not called for a shard that did not start: `run` says that.
pub type OnExit = Box<dyn FnOnce(&str, &Result<(), ShardError>) + Send>;

impl ShardSpec {
    pub fn new(name: &str) -> ShardSpec {
        ShardSpec {
            name: name.to_owned(),
            core: None,
            ring: RingConfig::default(),
            busy_poll: Duration::ZERO,
            on_exit: None,
        }
    }

    /// Starts the shard's thread, makes its ring there and with it the service, and returns when both exist: when the
    /// listeners that `make` asks for are bound, that is. What `make` wants to tell the caller it sends through a
    /// channel of its own.
    ///
    /// # Errors
    /// What kept the shard from starting. Its thread has ended then.
    pub fn run<S, F>(self, make: F) -> Result<Shard, StartError>
    where
        S: Service<Ring> + 'static,
        F: FnOnce(&mut Ring) -> io::Result<S> + Send + 'static,
    {
        self.spawn(make)?.started()
    }

    /// As `run`, without waiting: for shards whose making waits for each other, or for the caller.
    ///
    /// # Errors
    /// No thread could be had.
    pub fn spawn<S, F>(self, make: F) -> Result<Starting, StartError>
    where
        S: Service<Ring> + 'static,
        F: FnOnce(&mut Ring) -> io::Result<S> + Send + 'static,
    {
        let (started, starting) = mpsc::sync_channel(1);
        let name = self.name.clone();
        let thread = thread::Builder::new()
            .name(self.name.clone())
            .stack_size(STACK)
            .spawn(move || run_thread(self, make, started))
            .map_err(|error| StartError {
                shard: name.clone(),
                cause: StartFailure::Thread(error),
            })?;
        Ok(Starting {
            name,
            starting,
            thread,
        })
    }
}

/// A shard whose service may not exist yet. Dropping it lets the shard go on.
pub struct Starting {
    name: String,
    starting: mpsc::Receiver<Result<bool, StartFailure>>,
    thread: thread::JoinHandle<Result<(), ShardError>>,
}

impl Starting {
    /// Waits until the service exists.
    ///
    /// # Errors
    /// What kept the shard from starting. Its thread has ended then.
    pub fn started(self) -> Result<Shard, StartError> {
        let Starting {
            name,
            starting,
            thread,
        } = self;
        let cause = match starting.recv() {
            Ok(Ok(pinned)) => {
                return Ok(Shard {
                    name,
                    pinned,
                    thread,
                });
            }
            Ok(Err(cause)) => {
                let _ = thread.join();
                cause
            }
            // It ended without a word: it panicked.
            Err(mpsc::RecvError) => StartFailure::Panicked(match thread.join() {
                Ok(Err(error)) => error.to_string(),
                Ok(Ok(())) => "ended before it started".to_owned(),
                Err(panic) => panic_text(&*panic),
            }),
        };
        Err(StartError { shard: name, cause })
    }
}

/// A running shard. Dropping it lets the shard run on.
pub struct Shard {
    name: String,
    pinned: bool,
    thread: thread::JoinHandle<Result<(), ShardError>>,
}

impl Shard {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// False: it was given no core, or one that could not be had.
    pub fn is_pinned(&self) -> bool {
        self.pinned
    }

    /// The shard has ended, well or not; `join` does not block.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the shard's end.
    ///
    /// # Errors
    /// Its service panicked, or the kernel made its ring unusable.
    pub fn join(self) -> Result<(), ShardError> {
        match self.thread.join() {
            Ok(result) => result,
            Err(panic) => Err(ShardError::Panicked(panic_text(&*panic))),
        }
    }
}

/// A shard that ended before its service did.
#[derive(Debug)]
pub enum ShardError {
    /// The service's fault (a bug): the panic's message.
    Panicked(String),
    /// The kernel refused to go on.
    Ring(io::Error),
}

impl fmt::Display for ShardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ShardError::Panicked(text) => write!(f, "the shard panicked: {text}"),
            ShardError::Ring(error) => write!(f, "the shard's ring failed: {error}"),
        }
    }
}

impl std::error::Error for ShardError {}

/// A shard that could not be started.
#[derive(Debug)]
pub struct StartError {
    pub shard: String,
    pub cause: StartFailure,
}

#[derive(Debug)]
pub enum StartFailure {
    Thread(io::Error),
    /// The host cannot run the ring; the text says what to change.
    Ring(io::Error),
    /// What `make` returned: an address that is taken, for example.
    Service(io::Error),
    Panicked(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {} did not start: ", self.shard)?;
        match &self.cause {
            StartFailure::Thread(error) => write!(f, "no thread: {error}"),
            StartFailure::Ring(error) => write!(f, "{error}"),
            StartFailure::Service(error) => write!(f, "{error}"),
            StartFailure::Panicked(text) => write!(f, "it panicked: {text}"),
        }
    }
}

impl std::error::Error for StartError {}

type Started = mpsc::SyncSender<Result<bool, StartFailure>>;

/// The shard's thread. Whatever happens to the service ends here and is told; other shards go on.
fn run_thread<S, F>(mut spec: ShardSpec, make: F, started: Started) -> Result<(), ShardError>
where
    S: Service<Ring> + 'static,
    F: FnOnce(&mut Ring) -> io::Result<S> + Send + 'static,
{
    let serving = Cell::new(false);
    let on_exit = spec.on_exit.take();
    let name = spec.name.clone();
    // Unwind-safe: after a panic nothing is left but `serving`.
    let result = catch_unwind(AssertUnwindSafe(|| {
        make_and_serve(spec, make, started, &serving)
    }))
    .unwrap_or_else(|panic| Err(ShardError::Panicked(panic_text(&*panic))));
    if let (Some(on_exit), true) = (on_exit, serving.get()) {
        on_exit(&name, &result);
    }
    result
}

fn make_and_serve<S, F>(
    spec: ShardSpec,
    make: F,
    started: Started,
    serving: &Cell<bool>,
) -> Result<(), ShardError>
where
    S: Service<Ring> + 'static,
    F: FnOnce(&mut Ring) -> io::Result<S> + Send + 'static,
{
    // Before the ring is made: its memory is then near the core.
    let pinned = spec
        .core
        .is_some_and(|core| ring::bind_to_core(core).is_ok());
    let mut ring = match Ring::new(&spec.ring) {
        Ok(ring) => ring,
        Err(error) => return give_up(started, StartFailure::Ring(error)),
    };
    let mut service = match make(&mut ring) {
        Ok(service) => service,
        Err(error) => return give_up(started, StartFailure::Service(error)),
    };
    serving.set(true);
    let _ = started.send(Ok(pinned)); // the starter waits for it
    serve(&mut ring, &mut service, spec.busy_poll).map_err(ShardError::Ring)
}

fn give_up(started: Started, cause: StartFailure) -> Result<(), ShardError> {
    let _ = started.send(Err(cause)); // the starter waits for it
    Ok(())
}

/// The loop of the picture above.
fn serve(ring: &mut Ring, service: &mut impl Service<Ring>, busy_poll: Duration) -> io::Result<()> {
    let mut busy = false;
    while !service.is_finished() {
        if busy_poll.is_zero() || !busy || !ring.spin(busy_poll)? {
            busy = ring.turn_or_sleep(service.next_deadline())?;
        }
        while let Some(event) = ring.poll_event() {
            service.handle(ring, event);
        }
        service.end_turn(ring);
    }
    ring.finish_closing(CLOSE_PATIENCE + Duration::from_secs(1))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into())
}

#[cfg(test)]
mod tests;
