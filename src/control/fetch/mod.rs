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
//! Invariants: an address has one fetch under way at most, from its begin until the control thread has applied it; it is
//! fetched every few minutes, after a failure with back-off, and on demand once in [`ASK_INTERVAL`] at most, whatever
//! clients send. What could not be fetched again is used on for [`BELIEVED`], and its age is a metric. Nothing of an
//! answer but its parsed content is kept or told.

mod http;
mod places;

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
/// Fetches at once, and of one site's addresses: one site's slow servers hold up nobody else's.
const MAX_RUNNING: usize = 8;
const MAX_RUNNING_OF_A_SITE: usize = 2;
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
    /// The first site that wants it.
    site: usize,
    due: Instant,
    /// Until what it brought is in a snapshot.
    running: bool,
    /// Number of the snapshot that holds what came last.
    applied: u64,
    asked: Option<Instant>,
    failures: u32,
    failures_total: u64,
    /// When it last came, by both clocks.
    came: Option<(Instant, i64)>,
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

    /// What is wanted from now on, each with a site that wants it; new addresses are fetched at once.
    pub fn want(&self, sources: &[(Source, usize)]) {
        let now = Instant::now();
        let mut table = self.lock();
        table
            .jobs
            .retain(|known, _| sources.iter().any(|(source, _)| source == known));
        for (source, site) in sources {
            let job = table
                .jobs
                .entry(source.clone())
                .or_insert_with(|| Job::new(now));
            job.site = *site;
        }
        drop(table);
        self.changed.notify_one();
    }

    /// Whether what was fetched is good: known once it was read. One that is not counts as a failure, however the server
    /// answered. True when what is there has become too old to be believed.
    pub fn judged(&self, source: &Source, good: bool) -> bool {
        let too_old = self.ended(source, good, Instant::now());
        self.changed.notify_one();
        too_old
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

    /// Asks for a fetch out of turn, for somebody who looks at snapshot number `seen`. True while one is under way or
    /// about to be, or when a newer snapshot has what came; false when it is too soon for another, or nobody wants the
    /// address.
    pub fn ask(&self, source: &Source, seen: u64) -> bool {
        let now = Instant::now();
        let mut table = self.lock();
        let Some(job) = table.jobs.get_mut(source) else {
            return false;
        };
        if job.running || job.due <= now || job.applied > seen {
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

    /// What was delivered of an address is in this snapshot, or changed nothing and it is the current one. To be called
    /// before the snapshot is published: who asks in between waits for it.
    pub fn applied(&self, source: &Source, snapshot: u64) {
        let mut table = self.lock();
        if let Some(job) = table.jobs.get_mut(source) {
            (job.running, job.applied) = (false, snapshot);
        }
        drop(table);
        self.changed.notify_one();
    }

    /// Age and failures of each address.
    pub fn gauges(&self) -> Vec<Gauge> {
        let now = unix_now();
        let table = self.lock();
        let jobs = table.jobs.iter();
        let mut seen: Vec<_> = jobs
            .map(|(source, job)| (source.clone(), job.came, job.failures_total))
            .collect();
        drop(table);
        seen.sort_by(|a, b| a.0.cmp(&b.0));
        let labels = |source: &Source| {
            vec![
                ("kind", source.kind().to_owned()),
                ("source", source.shown().to_owned()),
            ]
        };
        let age = |(source, came, _): &(Source, Option<(Instant, i64)>, u64)| Gauge {
            name: "tidegate_fetch_age_seconds",
            help: "Since keys or a revocation list were last fetched; +Inf: never.",
            labels: labels(source),
            value: came.map_or(f64::INFINITY, |(_, came)| (now - came) as f64),
        };
        let failures = |(source, _, failures): &(Source, Option<(Instant, i64)>, u64)| Gauge {
            name: "tidegate_fetch_failures",
            help: "Fetches that failed, or brought nothing good, since the address was first wanted.",
            labels: labels(source),
            value: *failures as f64,
        };
        // Two addresses that differ in their query alone are one series: the first stands for both.
        seen.dedup_by(|a, b| (a.0.kind(), a.0.shown()) == (b.0.kind(), b.0.shown()));
        seen.iter()
            .map(age)
            .chain(seen.iter().map(failures))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out what is due, the longest due first, up to `room`.
    fn take_due(&self, room: usize, now: Instant) -> (Vec<Source>, Options, Option<Instant>) {
        let mut table = self.lock();
        let mut running: HashMap<usize, usize> = HashMap::new();
        for job in table.jobs.values().filter(|job| job.running) {
            *running.entry(job.site).or_default() += 1;
        }
        let mut waiting: Vec<_> = table
            .jobs
            .iter_mut()
            .filter(|(_, job)| !job.running)
            .collect();
        waiting.sort_by_key(|(_, job)| job.due);
        let (mut due, mut next) = (Vec::new(), None);
        for (source, job) in waiting {
            if job.due > now {
                next = Some(job.due);
                break;
            }
            let of_site = running.entry(job.site).or_default();
            // What finds no room is taken when one that runs has ended.
            if due.len() < room && *of_site < MAX_RUNNING_OF_A_SITE {
                *of_site += 1;
                job.running = true;
                due.push(source.clone());
            }
        }
        (due, table.plan.http.clone(), next)
    }

    /// An answer came, to be judged, and then [`applied`](Self::applied).
    fn answered(&self, source: &Source, now: Instant) {
        let mut table = self.lock();
        let every = table.every(source);
        if let Some(job) = table.jobs.get_mut(source) {
            // Spread, so that many gateways do not come to an issuer at once.
            job.due = now + every.mul_f64(0.9 + 0.2 * fastrand::f64());
        }
    }

    /// Notes how a fetch ended. True when what is there has become too old.
    fn ended(&self, source: &Source, good: bool, now: Instant) -> bool {
        let mut table = self.lock();
        let Some(job) = table.jobs.get_mut(source) else {
            return false;
        };
        if good {
            (job.failures, job.came) = (0, Some((now, unix_now())));
            return false;
        }
        let wait = (RETRY_BASE * (1 << job.failures.min(8))).min(RETRY_CAP);
        (job.failures, job.failures_total) =
            (job.failures.saturating_add(1), job.failures_total + 1);
        job.due = now + wait.mul_f64(0.5 + 0.5 * fastrand::f64());
        let since = job.came.map_or(job.first_wanted, |(came, _)| came);
        now.duration_since(since) > BELIEVED
    }
}

impl Table {
    fn every(&self, source: &Source) -> Duration {
        match source {
            Source::RevocationList(_) => self.plan.lists_every,
            Source::Discovery(_) | Source::KeySet(_) => self.plan.keys_every,
        }
    }
}

impl Job {
    fn new(now: Instant) -> Self {
        Self {
            site: 0,
            due: now,
            running: false,
            applied: 0,
            asked: None,
            failures: 0,
            failures_total: 0,
            came: None,
            first_wanted: now,
        }
    }
}

async fn run(fetches: Arc<Fetches>, deliver: impl Fn(Fetched)) {
    let mut running: JoinSet<Result<Vec<u8>, String>> = JoinSet::new();
    let mut sources: HashMap<tokio::task::Id, Source> = HashMap::new();
    let mut client = http::Clients::default();
    loop {
        let room = MAX_RUNNING.saturating_sub(running.len());
        let (due, options, next) = fetches.take_due(room, Instant::now());
        for source in due {
            let (client, wanted) = (client.with(&options), source.clone());
            let task = running.spawn(async move { http::fetch(&client?, &wanted).await });
            sources.insert(task.id(), source);
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
            Some(joined) = running.join_next_with_id() => {
                let (id, fetched) = match joined {
                    Ok((id, fetched)) => (id, fetched),
                    Err(error) => (error.id(), Err("the fetch broke off".to_owned())),
                };
                let Some(source) = sources.remove(&id) else { continue };
                let outcome = match fetched {
                    Ok(bytes) => {
                        fetches.answered(&source, Instant::now());
                        Outcome::Bytes(bytes)
                    }
                    Err(why) => {
                        tracing::warn!(kind = source.kind(), source = source.shown(), why, "cannot fetch");
                        if fetches.ended(&source, false, Instant::now()) {
                            Outcome::TooOld
                        } else {
                            Outcome::Failed(why)
                        }
                    }
                };
                deliver(Fetched { source, outcome });
            }
        }
    }
}

#[cfg(test)]
mod tests;
