//! A run from its plan to its result: threads that are ready and wait, then go together.

use std::collections::BTreeMap;

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::client::process::Process;
use crate::client::result::{Member, Moment, Run, SCHEMA};
use crate::ring::Verbs;
use crate::ring::uring::RingConfig;
use crate::shard::bare;

use super::figures::{Figures, MemberFigures, Times};
use super::plan::Plan;
use super::scenario::Kind;
use super::shard::{Report, Shard};
use super::timeline::{Clock, Timeline};
use super::watch::Watched;

/// Quantiles of a result, with their names.
pub const QUANTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("max", 1.0),
];
/// From the order to go to the begin: every shard has heard of it by then.
const HEAD_START: Duration = Duration::from_millis(20);
/// Large buffers of a transfer. Few of them, since the kernel fills them in turn and each should still be in a cache.
const TRANSFER_BUFFER: u32 = 256 * 1024;

/// How far a run has come, told once a moment.
pub struct Progress<'a> {
    pub moment: &'a Moment,
    /// Since the begin, and until the end if nothing ends it before.
    pub elapsed: Duration,
    pub left: Duration,
    /// So far, warm-up included.
    pub requests: u64,
    pub failed: u64,
}

/// Shards that wait for the order to go.
pub struct Ready {
    plan: Arc<Plan>,
    go: Vec<SyncSender<Instant>>,
    threads: Vec<JoinHandle<Result<(), String>>>,
    reports: Receiver<Report>,
}

/// Starts the shards' threads and rings.
///
/// # Errors
/// The host cannot run them.
pub fn prepare(plan: Plan) -> Result<Ready, String> {
    crate::ring::probe::probe().map_err(|unsupported| unsupported.to_string())?;
    let plan = Arc::new(plan);
    let (reports_in, reports) = mpsc::channel();
    let (ready_in, ready) = mpsc::channel();
    let (mut go, mut threads) = (Vec::new(), Vec::new());
    for index in 0..plan.scenario.shards {
        let (go_in, order) = mpsc::sync_channel(1);
        let make = maker(
            plan.clone(),
            index,
            ready_in.clone(),
            order,
            reports_in.clone(),
        );
        threads.push(bare::run(
            &format!("load-{index}"),
            ring_config(&plan),
            make,
        )?);
        go.push(go_in);
    }
    drop(ready_in);
    let all = ready.iter().count();
    if all < threads.len() {
        // Those that wait are told by the end of their channel.
        drop(go);
        let outcomes = threads.into_iter().map(join);
        let mut wrong = outcomes
            .filter_map(Result::err)
            .filter(|text| text != GIVEN_UP);
        return Err(wrong.next().unwrap_or_else(|| GIVEN_UP.to_owned()));
    }
    Ok(Ready {
        plan,
        go,
        threads,
        reports,
    })
}

const GIVEN_UP: &str = "the run was given up";

/// Makes a shard on its thread, when the order comes.
fn maker<R: Verbs>(
    plan: Arc<Plan>,
    index: usize,
    ready: Sender<()>,
    order: Receiver<Instant>,
    reports: Sender<Report>,
) -> impl FnOnce(&mut R) -> Result<Shard, String> + Send + 'static {
    move |_| {
        let _ = ready.send(());
        drop(ready);
        let begin = order.recv().map_err(|_| GIVEN_UP.to_owned())?;
        let clock = clock(&plan, begin);
        Ok(Shard::new(plan, index, clock, reports))
    }
}

fn clock(plan: &Plan, begin: Instant) -> Clock {
    Clock::new(begin, plan.lead(), plan.lead() + plan.scenario.duration)
}

fn ring_config(plan: &Plan) -> RingConfig {
    let shards = plan.scenario.shards;
    let mut config = RingConfig::of_many(shards);
    let sockets = plan.scenario.connections.div_ceil(shards) * plan.groups.len();
    config.direct_descriptors = sockets as u32 + 64;
    if plan.kind() == Kind::Transfer {
        let buffers = (2 * sockets).next_power_of_two().clamp(4, 64) as u16;
        config.large_buffers = (buffers, TRANSFER_BUFFER);
    }
    config
}

fn join(thread: JoinHandle<Result<(), String>>) -> Result<(), String> {
    let ended = thread.join();
    ended.unwrap_or_else(|_| Err("a shard of the load generator panicked".to_owned()))
}

impl Ready {
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Runs to the end. `progress` is called once a moment, from this thread; the processes are watched meanwhile.
    ///
    /// # Errors
    /// A shard broke.
    pub fn go(
        self,
        processes: Vec<Process>,
        mut progress: impl FnMut(&Progress<'_>),
    ) -> Result<Run, String> {
        let started = OffsetDateTime::now_utc();
        let plan = self.plan;
        let clock = clock(&plan, Instant::now() + HEAD_START);
        let mut watched = Watched::new(processes, clock);
        for go in &self.go {
            go.send(clock.begin).map_err(|_| GIVEN_UP.to_owned())?;
        }
        let end = clock.measured_from() + plan.scenario.duration;
        let mut timeline = Timeline::new(clock, self.go.len());
        let mut figures = Figures::new(plan.members.len(), plan.scenario.rate.is_some());
        let (mut left, mut told, mut requests, mut failed) = (self.go.len(), 0, 0, 0);
        while left > 0 {
            watched.look(Instant::now(), end);
            let until = watched.next_look(end);
            let wait = until.saturating_duration_since(Instant::now());
            let complete = match self.reports.recv_timeout(wait) {
                Ok(Report::Moment(shard, past)) => timeline.take(shard, &past),
                Ok(Report::Done(shard, one)) => {
                    // What a server spends is measured over the time that its answers are.
                    watched.stop(Instant::now());
                    figures.merge(&one);
                    left -= 1;
                    timeline.leave(shard)
                }
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if let Some(moment) = timeline.last().filter(|_| complete > told) {
                told = complete;
                (requests, failed) = timeline.sums();
                let now = Instant::now();
                progress(&Progress {
                    moment,
                    elapsed: now.saturating_duration_since(clock.begin),
                    left: end.saturating_duration_since(now),
                    requests,
                    failed,
                });
            }
        }
        let _ = (requests, failed);
        for thread in self.threads {
            join(thread)?;
        }
        let timed = plan.scenario.requests.is_none();
        let ended = match figures.ended {
            // A run of a given time lasts that long at least, whenever the last answer came.
            Some(last) if timed => last.max(end),
            Some(last) => last,
            None => Instant::now().min(end),
        };
        let seconds = ended
            .saturating_duration_since(clock.measured_from())
            .as_secs_f64();
        let mut run = of(&plan, &figures, seconds);
        run.started = started.format(&Rfc3339).unwrap_or_default();
        run.timeline = timeline.finish(ended);
        let bodies = run.body_bytes_received + run.body_bytes_sent;
        (run.processes, run.load) = watched.uses(run.requests, bodies);
        Ok(run)
    }
}

/// A run's figures, without its timeline and processes.
fn of(plan: &Plan, figures: &Figures, seconds: f64) -> Run {
    let scenario = &plan.scenario;
    let open_loop = scenario.rate.is_some();
    let mut all = MemberFigures::new(open_loop);
    figures.members.iter().for_each(|member| all.merge(member));
    let requests = all.latency.len();
    let a_second = |count: u64| {
        if seconds > 0.0 {
            count as f64 / seconds
        } else {
            0.0
        }
    };
    let members = scenario.members.iter().zip(&figures.members);
    let errors = figures.errors.iter();
    Run {
        schema: SCHEMA,
        kind: match plan.kind() {
            Kind::Requests => "requests",
            Kind::Handshakes => "handshakes",
            Kind::Transfer => "transfer",
        }
        .to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        scenario: scenario.to_kept(),
        seed: plan.seed,
        url: plan.url.clone(),
        connections: scenario.connections,
        shards: scenario.shards,
        intended_rate: scenario.rate.unwrap_or_default(),
        requests,
        seconds,
        requests_per_second: a_second(requests),
        latency_us: quantiles(&all.latency),
        latency_mean_us: all.latency.mean(),
        histogram_us: all.latency.raw(),
        service_us: all.service.as_ref().map(quantiles).unwrap_or_default(),
        service_histogram_us: all.service.as_ref().map(Times::raw).unwrap_or_default(),
        statuses: statuses(&all),
        errors: errors
            .clone()
            .map(|(class, (n, _))| (class.name().to_owned(), *n))
            .collect(),
        error_examples: errors
            .map(|(class, (_, text))| (class.name().to_owned(), text.clone()))
            .collect(),
        unfinished: figures.unfinished,
        unfinished_longest_us: figures.unfinished_longest.as_micros() as u64,
        bytes_received: figures.bytes_received,
        body_bytes_received: figures.body_received,
        body_bytes_sent: figures.body_sent,
        body_bytes_per_second: a_second(figures.body_received + figures.body_sent),
        connects: figures.connects,
        handshakes_full: figures.handshakes_full,
        handshakes_resumed: figures.handshakes_resumed,
        members: members
            .map(|(member, figures)| Member {
                name: member.name.clone(),
                requests: figures.latency.len(),
                failed: figures.failed,
                latency_us: quantiles(&figures.latency),
                histogram_us: figures.latency.raw(),
                statuses: statuses(figures),
            })
            .collect(),
        ..Run::default()
    }
}

fn quantiles(times: &Times) -> BTreeMap<String, u64> {
    let named = QUANTILES.iter();
    named
        .map(|(name, q)| ((*name).to_owned(), times.quantile(*q)))
        .collect()
}

fn statuses(figures: &MemberFigures) -> BTreeMap<String, u64> {
    let counts = figures.statuses.iter();
    counts.map(|(status, n)| (status.to_string(), *n)).collect()
}
