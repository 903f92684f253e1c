//! The loop of one shard; the only file that names glommio.
//!
//! A shard is a thread with a pinned glommio executor, whose queue with the most shares runs one task: the loop below
//! over our own ring. Other queues (content reads, fan-out) run when it sleeps or takes breath; their tasks are short
//! and give way by themselves.
//!
//! ```text
//! ┌▶ turn ─── found something ──────────────────┐
//! │   └─ nothing ─▶ fall asleep: eventfd on, timeout armed, one more turn
//! │                  ├─ found something ────────┤
//! │                  └─ nothing ─▶ await 8 bytes of the eventfd ─▶ turn
//! │                                             ▼
//! └── take breath, each ms ◀── end_turn ◀── handle each event
//! ```
//! While busy the eventfd is silent. What completes before it is switched on is found by the turn after that; what
//! completes later writes to it. So no wake-up is lost, and an idle shard costs nothing.

use crate::ring::uring::{Ring, RingConfig};
use crate::ring::{self, CLOSE_PATIENCE, Event, Verbs};
use glommio::io::BufferedFile;
use glommio::{Latency, LocalExecutor, LocalExecutorBuilder, Placement, Shares};
use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Shares of the sockets' queue; others get fewer.
const SOCKET_SHARES: usize = 1_000;
/// How long the sockets may keep other queues, and the executor's own I/O, waiting.
const BREATH_EVERY: Duration = Duration::from_millis(1);
/// No preemption, that is. glommio 0.9 sleeps although a task is ready when its preemption timer fires before it has run
/// any (`run_task_queues` then says that there was nothing to run). On a loaded host a timer of 1 ms lost a wake-up for
/// good in a thousand; `a_message_wakes_a_sleeping_shard` shows it. The loop gives way by itself instead.
const PREEMPTION: Duration = Duration::from_secs(3_600);
/// Memory of the executor's own three rings, for file reads. The kernel counts it for each of them, and for each shard,
/// against RLIMIT_MEMLOCK; when it is used up, or could not be had, reads use ordinary memory.
const FILE_MEMORY: usize = 512 << 10;

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
        let (started, starting) = mpsc::sync_channel(1);
        let name = self.name.clone();
        let failed = |cause| StartError {
            shard: name.clone(),
            cause,
        };
        let thread = thread::Builder::new()
            .name(self.name.clone())
            .spawn(move || run_thread(self, make, started))
            .map_err(|error| failed(StartFailure::Thread(error)))?;
        match starting.recv() {
            Ok(Ok(pinned)) => Ok(Shard {
                name: name.clone(),
                pinned,
                thread,
            }),
            Ok(Err(cause)) => {
                let _ = thread.join();
                Err(failed(cause))
            }
            // It ended without a word: it panicked.
            Err(mpsc::RecvError) => {
                let text = match thread.join() {
                    Ok(Err(error)) => error.to_string(),
                    Ok(Ok(())) => "ended before it started".to_owned(),
                    Err(panic) => panic_text(&*panic),
                };
                Err(failed(StartFailure::Panicked(text)))
            }
        }
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
    /// The executor's own ring or its memory.
    Executor(String),
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
            StartFailure::Executor(text) => write!(f, "no executor: {text}"),
            StartFailure::Ring(error) => write!(f, "{error}"),
            StartFailure::Service(error) => write!(f, "{error}"),
            StartFailure::Panicked(text) => write!(f, "it panicked: {text}"),
        }
    }
}

impl std::error::Error for StartError {}

type Started = mpsc::SyncSender<Result<bool, StartFailure>>;

/// The shard's thread. Whatever happens to the service, or to glommio, ends here and is told; other shards go on.
fn run_thread<S, F>(mut spec: ShardSpec, make: F, started: Started) -> Result<(), ShardError>
where
    S: Service<Ring> + 'static,
    F: FnOnce(&mut Ring) -> io::Result<S> + Send + 'static,
{
    let serving = Rc::new(Cell::new(false));
    let on_exit = spec.on_exit.take();
    let name = spec.name.clone();
    // Unwind-safe: after a panic nothing is left but `serving`.
    let result = catch_unwind(AssertUnwindSafe(|| {
        run_executor(spec, make, started, &serving)
    }))
    .unwrap_or_else(|panic| Err(ShardError::Panicked(panic_text(&*panic))));
    if let (Some(on_exit), true) = (on_exit, serving.get()) {
        on_exit(&name, &result);
    }
    result
}

fn run_executor<S, F>(
    spec: ShardSpec,
    make: F,
    started: Started,
    serving: &Rc<Cell<bool>>,
) -> Result<(), ShardError>
where
    S: Service<Ring> + 'static,
    F: FnOnce(&mut Ring) -> io::Result<S> + Send + 'static,
{
    let (executor, pinned) = match executor(spec.core) {
        Ok(made) => made,
        Err(text) => return give_up(started, StartFailure::Executor(text)),
    };
    let serving = serving.clone();
    executor.run(async move {
        let shares = Shares::Static(SOCKET_SHARES);
        let queue = glommio::executor().create_task_queue(shares, Latency::NotImportant, "sockets");
        let shard = caught(async move {
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
            let result = serve(&mut ring, &mut service).await;
            result.map_err(ShardError::Ring)
        });
        match glommio::spawn_local_into(shard, queue) {
            Ok(task) => task.await,
            Err(error) => Err(ShardError::Ring(io::Error::other(error.to_string()))),
        }
    })
}

fn give_up(started: Started, cause: StartFailure) -> Result<(), ShardError> {
    let _ = started.send(Err(cause)); // the starter waits for it
    Ok(())
}

/// An executor of this thread, and whether it is pinned.
fn executor(core: Option<usize>) -> Result<(LocalExecutor, bool), String> {
    let make = |placement| {
        LocalExecutorBuilder::new(placement)
            .io_memory(FILE_MEMORY)
            .preempt_timer(PREEMPTION)
            .make()
            .map_err(|error| error.to_string())
    };
    if let Some(core) = core
        && let Ok(executor) = make(Placement::Fixed(core))
    {
        return Ok((executor, true));
    }
    Ok((make(Placement::Unbound)?, false))
}

/// The loop of the picture above.
async fn serve(ring: &mut Ring, service: &mut impl Service<Ring>) -> io::Result<()> {
    let eventfd: BufferedFile = ring::hand_over(ring.eventfd()?);
    let mut rested = ring.now();
    while !service.is_finished() {
        if !ring.turn()? && ring.fall_asleep(service.next_deadline())? {
            wait_for(&eventfd).await?;
            ring.awake();
            ring.turn()?;
            rested = ring.now();
        }
        while let Some(event) = ring.poll_event() {
            service.handle(ring, event);
        }
        service.end_turn(ring);
        if ring.now() - rested >= BREATH_EVERY {
            // A wait that is over at once: other queues run, and the executor looks at its own I/O, which it does only
            // when no task is ready.
            ring.knock();
            wait_for(&eventfd).await?;
            rested = ring.now();
        }
    }
    ring.finish_closing(CLOSE_PATIENCE + Duration::from_secs(1))?;
    eventfd
        .close()
        .await
        .map_err(|error| io::Error::other(error.to_string()))
}

async fn wait_for(eventfd: &BufferedFile) -> io::Result<()> {
    let read = eventfd.read_at(0, 8).await;
    read.map(drop)
        .map_err(|error| io::Error::other(error.to_string()))
}

/// Runs a shard's future and makes an error of its panic.
async fn caught(shard: impl Future<Output = Result<(), ShardError>>) -> Result<(), ShardError> {
    let mut shard = Box::pin(shard);
    poll_fn(|context| {
        // Unwind-safe: after a panic the future is dropped and never polled again.
        catch_unwind(AssertUnwindSafe(|| shard.as_mut().poll(context)))
            .unwrap_or_else(|panic| Err(ShardError::Panicked(panic_text(&*panic))).into())
    })
    .await
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into())
}

#[cfg(test)]
mod tests;
