//! A server process around its shards: complaints at start, log, admin, signals.

use crate::control::config::Complaint;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::admin::{self, AdminSource};
use super::log;
use super::metrics::{Gauge, ShardStats};

/// How long a shard may take to copy its counters out.
const STATS_TIMEOUT: Duration = Duration::from_secs(1);
/// More shards than any host has.
const SHARDS_MAX: usize = 1024;

/// Prints complaints; gives the configuration where there is one.
pub fn resolve<T>(loaded: Result<(T, Vec<Complaint>), Vec<Complaint>>) -> Result<T, String> {
    let print = |complaints: &[Complaint]| {
        let mut err = std::io::stderr().lock();
        for complaint in complaints {
            let _ = writeln!(err, "{complaint}");
        }
    };
    match loaded {
        Ok((config, warnings)) => {
            print(&warnings);
            Ok(config)
        }
        Err(complaints) => {
            print(&complaints);
            Err("the config file is wrong".into())
        }
    }
}

/// Runs a server with its log; the exit code of `main`.
pub fn run(role: &str, serve: impl FnOnce() -> Result<(), String>) -> ExitCode {
    let _log = match log::init() {
        Ok(guard) => guard,
        Err(error) => {
            eprintln!("tidegate {role}: {error}");
            return ExitCode::FAILURE;
        }
    };
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(role, error, "cannot run");
            ExitCode::FAILURE
        }
    }
}

/// What a server tells its admin listener.
pub trait Source: Send + Sync + 'static {
    /// Asks every shard for its counters; how many were asked.
    fn ask(&self, reply: &mpsc::SyncSender<ShardStats>) -> usize;
    /// Whether requests can be served; else why not.
    fn ready(&self, stats: &[ShardStats]) -> Result<(), Vec<String>>;
    fn gauges(&self) -> Vec<Gauge>;
    /// Reads the config file again; blocks until that is done.
    fn reload(&self) -> Reloaded;
}

/// What a reload came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reloaded {
    /// The new file is in force; warnings, and what the caller should know.
    Done(Vec<String>),
    /// Nothing changed; why.
    Refused(Vec<String>),
    /// No answer yet. It may still come into force, or be refused: the log will tell.
    Unknown,
}

impl Reloaded {
    pub fn log(&self) {
        match self {
            Reloaded::Done(notes) => tracing::info!(?notes, "reloaded"),
            Reloaded::Refused(why) => tracing::error!(?why, "not reloaded: nothing changed"),
            Reloaded::Unknown => {
                tracing::warn!("the reload takes long: what comes of it is told when it ends");
            }
        }
    }
}

/// Complaints as lines.
pub fn lines(complaints: &[Complaint]) -> Vec<String> {
    complaints.iter().map(Complaint::to_string).collect()
}

struct Admin<S>(Arc<S>);

impl<S: Source> AdminSource for Admin<S> {
    fn collect(&self) -> Vec<ShardStats> {
        let (reply, answers) = mpsc::sync_channel(SHARDS_MAX);
        let asked = self.0.ask(&reply);
        let until = Instant::now() + STATS_TIMEOUT;
        let mut stats: Vec<ShardStats> = Vec::with_capacity(asked);
        while stats.len() < asked {
            match answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(one) => stats.push(one),
                Err(_) => break,
            }
        }
        stats.sort_by_key(|stats| stats.shard);
        stats
    }

    fn ready(&self) -> Result<(), Vec<String>> {
        self.0.ready(&self.collect())
    }

    fn gauges(&self) -> Vec<Gauge> {
        self.0.gauges()
    }

    fn reload(&self) -> Reloaded {
        reload(&*self.0)
    }
}

/// Reloads, and logs what came of it.
fn reload(source: &impl Source) -> Reloaded {
    let reloaded = source.reload();
    reloaded.log();
    reloaded
}

/// Binds the admin listener, before anything is started that would have to be taken back.
pub fn bind_admin(address: Option<SocketAddr>) -> Result<Option<TcpListener>, String> {
    address.map(admin::bind).transpose()
}

/// The signals of a server, caught from its first moment on: one that comes while it starts is heeded when it has.
pub struct Signals {
    runtime: tokio::runtime::Runtime,
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    pub fn catch() -> Result<Signals, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("signal runtime: {error}"))?;
        let guard = runtime.enter();
        let catch = |kind, name| signal(kind).map_err(|error| format!("{name}: {error}"));
        let terminate = catch(SignalKind::terminate(), "SIGTERM")?;
        let interrupt = catch(SignalKind::interrupt(), "SIGINT")?;
        let hang_up = catch(SignalKind::hangup(), "SIGHUP")?;
        drop(guard);
        Ok(Signals {
            runtime,
            terminate,
            interrupt,
            hang_up,
        })
    }
}

/// Serves admin until SIGTERM or SIGINT; SIGHUP reloads.
pub fn admin_until_signal(
    signals: Signals,
    listener: Option<TcpListener>,
    source: Arc<impl Source>,
) -> Result<(), String> {
    let reloads = source.clone();
    let _admin = listener
        .map(|listener| admin::start(listener, Arc::new(Admin(source))))
        .transpose()?;
    let Signals {
        runtime,
        mut terminate,
        mut interrupt,
        mut hang_up,
    } = signals;
    runtime.block_on(async {
        let mut running: Option<tokio::task::JoinHandle<Reloaded>> = None;
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                // A second signal waits for the first one's reload.
                Some(()) = hang_up.recv(), if running.is_none() => {
                    let source = reloads.clone();
                    running = Some(tokio::task::spawn_blocking(move || reload(&*source)));
                }
                () = ended(&mut running) => running = None,
            }
        }
    });
    // A reload that still runs holds nobody back.
    runtime.shutdown_background();
    Ok(())
}

/// The end of the reload that runs, if one does.
async fn ended(running: &mut Option<tokio::task::JoinHandle<Reloaded>>) {
    match running {
        Some(reload) => {
            let _ = reload.await;
        }
        None => std::future::pending().await,
    }
}
