//! Key sets and revocation lists by address: fetched on a thread of its own, refreshed, asked for in between.
//!
//! ```text
//! registry ── wanted ─▶ Fetches ◀── ask (a token names an unknown key) ── shards
//!                          │ due
//!                          ▼
//!                     thread `fetch` ── http.rs ─▶ issuer
//!                          │ Fetched: bytes, or why not; TooOld
//!                          ▼
//!                     control thread ─▶ registry ─▶ snapshot
//! ```
//!
//! Invariants: an address has one fetch under way at most; it is fetched every few minutes, after a failure with
//! back-off, and on demand once in [`ASK_INTERVAL`] at most, whatever clients send. What could not be fetched again is
//! used on for [`BELIEVED`], and its age is a metric. Nothing of an answer but its parsed content is kept or told.

mod http;

pub use http::{Options, explain};

use crate::control::certificates::expiry::unix_now;
use crate::control::snapshot::Source;
use crate::observe::metrics::Gauge;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Between two fetches of one address that clients' tokens caused.
pub const ASK_INTERVAL: Duration = Duration::from_secs(10);
/// How long keys and lists are used that could not be fetched again.
pub const BELIEVED: Duration = Duration::from_secs(24 * 3600);
/// Fetches at once.
const MAX_RUNNING: usize = 8;
const RETRY_BASE: Duration = Duration::from_secs(1);
const RETRY_CAP: Duration = Duration::from_secs(60);

/// What a fetch came to.
pub struct Fetched {
    pub source: Source,
    pub outcome: Outcome,
}

pub enum Outcome {
    Bytes(Vec<u8>),
    Failed(String),
    /// Nothing came for [`BELIEVED`]: what is there is to be dropped.
    TooOld,
}

/// How often, and through what.
#[derive(Debug, Clone)]
pub struct Plan {
    pub keys_every: Duration,
    pub lists_every: Duration,
    pub http: Options,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            keys_every: Duration::from_secs(300),
            lists_every: Duration::from_secs(600),
            http: Options::default(),
        }
    }
}

/// The table of addresses: shared by the control thread, the shards (which ask) and the thread that fetches.
pub struct Fetches {
    table: Mutex<Table>,
    changed: Notify,
}

struct Table {
    plan: Plan,
    jobs: HashMap<Source, Job>,
}

#[derive(Debug)]
struct Job {
    due: Instant,
    running: bool,
    asked: Option<Instant>,
    failures: u32,
    failures_total: u64,
    /// When it last came, by both clocks.
    came: Option<(Instant, i64)>,
    /// The same of the time before: a fetch whose bytes turn out to be no good is taken back.
    came_before: Option<(Instant, i64)>,
    first_wanted: Instant,
}

impl Fetches {
    /// Starts the thread; `deliver` is called on it.
    pub fn start(
        plan: Plan,
        deliver: impl Fn(Fetched) + Send + 'static,
    ) -> Result<Arc<Self>, String> {
        let fetches = Arc::new(Self::new(plan));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("fetch runtime: {error}"))?;
        let table = fetches.clone();
        std::thread::Builder::new()
            .name("fetch".into())
            .spawn(move || runtime.block_on(run(table, deliver)))
            .map_err(|error| format!("fetch thread: {error}"))?;
        Ok(fetches)
    }

    fn new(plan: Plan) -> Self {
        Self {
            table: Mutex::new(Table {
                plan,
                jobs: HashMap::new(),
            }),
            changed: Notify::new(),
        }
    }

    /// What is wanted from now on; new addresses are fetched at once.
    pub fn want(&self, sources: &[Source]) {
        let now = Instant::now();
        let mut table = self.lock();
        table.jobs.retain(|source, _| sources.contains(source));
        for source in sources {
            table
                .jobs
                .entry(source.clone())
                .or_insert_with(|| Job::new(now));
        }
        drop(table);
        self.changed.notify_one();
    }

    /// New settings of the process; all addresses are fetched again by them.
    pub fn set_plan(&self, plan: Plan) {
        let now = Instant::now();
        let mut table = self.lock();
        table.plan = plan;
        table.jobs.values_mut().for_each(|job| job.due = now);
        drop(table);
        self.changed.notify_one();
    }

    /// Asks for a fetch out of turn. True while one is under way or about to be; false when it is too soon for another,
    /// or nobody wants the address.
    pub fn ask(&self, source: &Source) -> bool {
        let now = Instant::now();
        let mut table = self.lock();
        let Some(job) = table.jobs.get_mut(source) else {
            return false;
        };
        if job.running || job.due <= now {
            return true;
        }
        if job
            .asked
            .is_some_and(|asked| now.duration_since(asked) < ASK_INTERVAL)
        {
            return false;
        }
        job.asked = Some(now);
        job.due = now;
        drop(table);
        self.changed.notify_one();
        true
    }

    /// Age and failures of each address.
    pub fn gauges(&self) -> Vec<Gauge> {
        let now = unix_now();
        let table = self.lock();
        let mut gauges = Vec::new();
        for (source, job) in &table.jobs {
            let labels = || {
                vec![
                    ("kind", source.kind().to_owned()),
                    ("source", source.address().to_owned()),
                ]
            };
            let age = job
                .came
                .map_or(f64::INFINITY, |(_, came)| (now - came) as f64);
            gauges.push(Gauge {
                name: "tidegate_fetch_age_seconds",
                help: "Since keys or a revocation list were last fetched; +Inf: never.",
                labels: labels(),
                value: age,
            });
            gauges.push(Gauge {
                name: "tidegate_fetch_failures",
                help: "Fetches that failed since the address was first wanted.",
                labels: labels(),
                value: job.failures_total as f64,
            });
        }
        gauges.sort_by(|a, b| (a.name, &a.labels).cmp(&(b.name, &b.labels)));
        gauges
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out what is due, up to `room`.
    fn take_due(&self, room: usize, now: Instant) -> (Vec<Source>, Options, Option<Instant>) {
        let mut table = self.lock();
        let mut due: Vec<Source> = Vec::new();
        let mut next = None;
        for (source, job) in &mut table.jobs {
            if job.running {
                continue;
            }
            if job.due > now {
                next = Some(next.map_or(job.due, |next: Instant| next.min(job.due)));
            } else if due.len() < room {
                job.running = true;
                due.push(source.clone());
            }
        }
        (due, table.plan.http.clone(), next)
    }

    /// Notes how a fetch ended, and when the next one is due. True when what is there has become too old.
    fn finish(&self, source: &Source, good: bool, now: Instant) -> bool {
        let mut table = self.lock();
        let every = match source {
            Source::RevocationList(_) => table.plan.lists_every,
            Source::Discovery(_) | Source::KeySet(_) => table.plan.keys_every,
        };
        let Some(job) = table.jobs.get_mut(source) else {
            return false;
        };
        job.running = false;
        if good {
            job.came_before = job.came.replace((now, unix_now()));
            // Spread, so that many gateways do not come to an issuer at once.
            job.due = now + every.mul_f64(0.9 + 0.2 * fastrand::f64());
            return false;
        }
        job.fail(now)
    }

    /// What the last fetch brought is in use: the back-off is over.
    pub fn accepted(&self, source: &Source) {
        if let Some(job) = self.lock().jobs.get_mut(source) {
            job.failures = 0;
        }
    }

    /// What the last fetch brought is no good (a page of HTML, a list of another CA): it counts as one that failed. True
    /// when what is there has become too old.
    pub fn refused(&self, source: &Source) -> bool {
        let mut table = self.lock();
        let Some(job) = table.jobs.get_mut(source) else {
            return false;
        };
        job.came = job.came_before;
        let too_old = job.fail(Instant::now());
        drop(table);
        self.changed.notify_one();
        too_old
    }
}

impl Job {
    fn new(now: Instant) -> Self {
        Self {
            due: now,
            running: false,
            asked: None,
            failures: 0,
            failures_total: 0,
            came: None,
            came_before: None,
            first_wanted: now,
        }
    }

    /// Backs off. True when nothing came for [`BELIEVED`].
    fn fail(&mut self, now: Instant) -> bool {
        let wait = (RETRY_BASE * (1 << self.failures.min(8))).min(RETRY_CAP);
        self.failures = self.failures.saturating_add(1);
        self.failures_total += 1;
        self.due = now + wait.mul_f64(0.5 + 0.5 * fastrand::f64());
        let since = self.came.map_or(self.first_wanted, |(came, _)| came);
        now.duration_since(since) > BELIEVED
    }
}

async fn run(fetches: Arc<Fetches>, deliver: impl Fn(Fetched)) {
    let mut running: JoinSet<(Source, Result<Vec<u8>, String>)> = JoinSet::new();
    let mut client = http::Client::default();
    loop {
        let room = MAX_RUNNING.saturating_sub(running.len());
        let (due, options, next) = fetches.take_due(room, Instant::now());
        for source in due {
            let client = client.with(&options);
            running.spawn(async move {
                let fetched = match client {
                    Ok(client) => http::fetch(&client, &source).await,
                    Err(why) => Err(why),
                };
                (source, fetched)
            });
        }
        let sleep = async {
            match next {
                Some(next) => tokio::time::sleep_until(next.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = fetches.changed.notified() => {}
            () = sleep => {}
            Some(joined) = running.join_next() => {
                let Ok((source, fetched)) = joined else { continue };
                let too_old = fetches.finish(&source, fetched.is_ok(), Instant::now());
                let outcome = match fetched {
                    Ok(bytes) => Outcome::Bytes(bytes),
                    Err(why) => {
                        tracing::warn!(kind = source.kind(), source = source.address(), why, "cannot fetch");
                        if too_old { Outcome::TooOld } else { Outcome::Failed(why) }
                    }
                };
                deliver(Fetched { source, outcome });
            }
        }
    }
}

#[cfg(test)]
mod tests;
