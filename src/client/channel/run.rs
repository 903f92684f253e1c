//! `load channels` as a whole: shards, phases, progress.

use super::Kind;
use super::clients::Clients;
use super::job::{Board, Counts, Job, Times};
use super::report::{Phase, Report};
use crate::client::load::{Target, Trust, client_tls, server_name};
use crate::client::process::{Process, Usage, kernel_kib};
use crate::control::pki::Identities;
use crate::ring::Verbs;
use crate::ring::uring::{Ring, RingConfig};
use crate::shard::executor::{Shard, ShardSpec};
use crate::wire::tls;
use std::io::IsTerminal;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// How often the runner looks at its shards.
pub const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Progress in plain lines, when there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Certificates made to learn what one costs.
const SAMPLE: u32 = 200;
/// Sockets of a shard that are closing while others open.
const SPARE_SOCKETS: usize = 64;
/// Sizes of a shard's ring: a shard holds 20,000 idle sockets and costs less than a megabyte beside them.
const RING: RingSizes = RingSizes {
    submissions: 512,
    completions: 4_096,
    small_buffers: (256, 2_048),
    large_buffers: (1, 4_096),
};

struct RingSizes {
    submissions: u32,
    completions: u32,
    small_buffers: (u16, u32),
    large_buffers: (u16, u32),
}

/// One run.
pub struct Options {
    pub target: Target,
    pub ca: Option<PathBuf>,
    pub insecure: bool,
    pub tls12: bool,
    /// One certificate for all, …
    pub identity: Option<(PathBuf, PathBuf)>,
    /// … or one for each, from the CA in that folder.
    pub pki: Option<PathBuf>,
    pub token: Option<PathBuf>,
    pub count: u32,
    pub hold: Duration,
    /// Openings a second; 0: as fast as it goes.
    pub rate: u32,
    /// Openings under way.
    pub at_once: usize,
    pub kinds: Vec<Kind>,
    pub sources: Vec<IpAddr>,
    /// 0: as many as the descriptors need, at least one a core.
    pub shards: usize,
    pub timeout: Duration,
    /// The gateway's mean, of which 20 % more is no fault.
    pub keep_alive: Duration,
    pub poll_wait_s: u32,
    pub receipts: bool,
    pub reconnect: bool,
    pub pids: Vec<(String, u32)>,
    pub json: Option<PathBuf>,
}

/// Opens, holds, prints the report. True when every channel was opened and none was lost.
pub fn channels(options: &Options) -> Result<bool, String> {
    let mut run = Run::start(options)?;
    run.open()?;
    run.hold("holding", options.hold)?;
    run.finish()?.publish("channels", options.json.as_deref())
}

/// A run under way.
pub struct Run {
    pub job: Arc<Job>,
    count: u32,
    boards: Vec<Arc<Board>>,
    threads: Vec<Shard>,
    /// Ours first.
    processes: Vec<(String, u32)>,
    /// What had been used at the beginning and at the end of each phase.
    marks: Vec<Mark>,
    report: Report,
    shown: Instant,
}

/// A moment of a run.
pub struct Mark {
    pub at: Instant,
    pub usage: Vec<Usage>,
    pub kernel_kib: u64,
}

impl Run {
    /// Starts the shards; they begin to open at once.
    pub fn start(options: &Options) -> Result<Run, String> {
        let capacity = shard_capacity()?;
        let job = Arc::new(job(options, shards(options, capacity)?)?);
        let shards = shards(options, capacity)?;
        let identity_us = job.identities.as_ref().map_or(Ok(0.0), cost)?;
        let own = ("load".to_owned(), std::process::id());
        let processes: Vec<_> = std::iter::once(own).chain(options.pids.clone()).collect();
        for (name, pid) in &processes {
            Process::new(name, *pid)?;
        }
        let mut run = Run {
            count: options.count,
            boards: (0..shards).map(|_| Arc::default()).collect(),
            threads: Vec::new(),
            report: Report::new(options, shards, &processes, identity_us),
            processes,
            marks: Vec::new(),
            shown: Instant::now(),
            job,
        };
        run.mark();
        let count = options.count as usize;
        for (index, board) in run.boards.clone().into_iter().enumerate() {
            let [from, to] = [index, index + 1].map(|edge| (count * edge / shards) as u32);
            let job = run.job.clone();
            let config = RingConfig {
                submissions: RING.submissions,
                completions: RING.completions,
                direct_descriptors: (to - from) + SPARE_SOCKETS as u32,
                small_buffers: RING.small_buffers,
                large_buffers: RING.large_buffers,
                ..RingConfig::default()
            };
            let make = move |ring: &mut Ring| Ok(Clients::new(job, from..to, board, ring.now()));
            let spec = ShardSpec {
                ring: config,
                ..ShardSpec::new(&format!("load-{index}"))
            };
            run.threads
                .push(spec.run(make).map_err(|error| error.to_string())?);
        }
        Ok(run)
    }

    /// A phase ends here, and the next one begins.
    pub fn mark(&mut self) {
        self.marks.push(Mark {
            at: Instant::now(),
            usage: self
                .processes
                .iter()
                .map(|(_, pid)| Usage::of(*pid))
                .collect(),
            kernel_kib: kernel_kib(),
        });
    }

    /// Sums of all shards, at most a quarter of a second old.
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for board in &self.boards {
            let counts = board.counts.lock();
            sum.add(&counts.unwrap_or_else(PoisonError::into_inner));
        }
        sum
    }

    /// Waits until every client has tried, and with `reconnect` until all are there.
    pub fn open(&mut self) -> Result<(), String> {
        let begin = Instant::now();
        loop {
            self.check()?;
            let counts = self.counts();
            let done = if self.job.reconnect {
                counts.held >= u64::from(self.count)
            } else {
                counts.opened + counts.failures() >= u64::from(self.count)
            };
            let part = counts.opened as f64 / f64::from(self.count.max(1));
            self.show("opening", part, begin, &counts, done);
            if done {
                self.mark();
                self.report.opened(&counts);
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Lets time pass.
    pub fn hold(&mut self, what: &str, span: Duration) -> Result<(), String> {
        let begin = Instant::now();
        loop {
            self.check()?;
            let done = begin.elapsed() >= span;
            let part = begin.elapsed().as_secs_f64() / span.as_secs_f64().max(1e-3);
            let counts = self.counts();
            self.show(what, part, begin, &counts, done);
            if done {
                self.mark();
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY.min(span.saturating_sub(begin.elapsed())));
        }
    }

    /// Ends the shards and takes what they measured.
    pub fn finish(mut self) -> Result<Report, String> {
        self.job.stop.store(true, Ordering::Relaxed);
        // A thread that has ended shows nothing more: why it ended is said below.
        while !self.have_shown() && !self.threads.iter().any(Shard::is_finished) {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.job.leave.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().map_err(|error| error.to_string())?;
        }
        let mut times = Times::new();
        for board in &self.boards {
            let own = board.times.lock().unwrap_or_else(PoisonError::into_inner);
            own.iter().for_each(|own| times.add(own));
        }
        let phases = self.marks.windows(2).map(Phase::between).collect();
        let counts = self.counts();
        self.report.finished(counts, times, phases);
        Ok(self.report)
    }

    /// Every shard has left its times.
    fn have_shown(&self) -> bool {
        let mut boards = self.boards.iter();
        boards.all(|board| {
            let times = board.times.lock();
            times.unwrap_or_else(PoisonError::into_inner).is_some()
        })
    }

    /// A shard that ended before its time ends the run.
    pub fn check(&mut self) -> Result<(), String> {
        let Some(at) = self.threads.iter().position(Shard::is_finished) else {
            return Ok(());
        };
        match self.threads.swap_remove(at).join() {
            Err(error) => Err(format!("a shard ended: {error}")),
            Ok(()) => Err("a shard ended early".to_owned()),
        }
    }

    /// Progress: a bar on a terminal, a line now and then elsewhere.
    pub fn show(&mut self, what: &str, part: f64, begin: Instant, counts: &Counts, last: bool) {
        let terminal = std::io::stderr().is_terminal();
        if !terminal && !last && self.shown.elapsed() < LINE_EVERY {
            return;
        }
        self.shown = Instant::now();
        let seconds = begin.elapsed().as_secs_f64();
        let memory = self
            .processes
            .iter()
            .map(|(name, pid)| format!(", {name} {} MiB", Usage::of(*pid).rss_kib / 1024));
        let line = format!(
            "{what} {seconds:.0} s: {} open, {:.0}/s, {} failed, {} lost, {} keep-alives, {} pushes{}",
            counts.held,
            counts.opened as f64 / self.report.since(self.marks.first()).max(1e-3),
            counts.failures(),
            counts.losses(),
            counts.keep_alives,
            counts.pushes,
            memory.collect::<String>(),
        );
        if terminal {
            let filled = (part.clamp(0.0, 1.0) * 20.0) as usize;
            let end = if last { "\n" } else { "" };
            eprint!("\r\x1b[K[{:<20}] {line}{end}", "#".repeat(filled));
        } else {
            eprintln!("{line}");
        }
    }
}

/// Channels that one shard's ring can hold.
fn shard_capacity() -> Result<usize, String> {
    let config = RingConfig {
        submissions: 8,
        completions: 16,
        direct_descriptors: u32::MAX,
        small_buffers: (1, 64),
        large_buffers: (1, 64),
        ..RingConfig::default()
    };
    let ring = Ring::new(&config).map_err(|error| error.to_string())?;
    Ok((ring.direct_descriptors() as usize).saturating_sub(SPARE_SOCKETS))
}

fn shards(options: &Options, capacity: usize) -> Result<usize, String> {
    let needed = (options.count as usize).div_ceil(capacity.max(1));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    match options.shards {
        0 => Ok(needed.max(cores).min(options.count.max(1) as usize)),
        given if given < needed => Err(format!(
            "{given} shards hold {} channels, since a ring's table of descriptors holds {capacity} here: \
             --shards {needed}",
            given * capacity
        )),
        given => Ok(given),
    }
}

fn job(options: &Options, shards: usize) -> Result<Job, String> {
    let target = &options.target;
    if !target.https {
        return Err("channels are opened over https only".to_owned());
    }
    let trust = Trust {
        ca: options.ca.as_deref(),
        insecure: options.insecure,
        tls12: options.tls12,
    };
    let mut config = client_tls(&trust, options.identity.as_ref())?;
    tls::prepare_parking_client_config(&mut config);
    let identities = options.pki.as_deref().map(Identities::open).transpose()?;
    let token = options.token.as_ref().map(|file| {
        let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        Ok::<_, String>(text.trim().to_owned())
    });
    Ok(Job {
        address: target.address()?,
        server: server_name(target)?,
        host: format!("{}:{}", target.host, target.port),
        tls: Arc::new(config),
        identities,
        token: token.transpose()?,
        kinds: options.kinds.clone(),
        sources: options.sources.clone(),
        rate: f64::from(options.rate) / shards as f64,
        at_once: (options.at_once / shards).max(1),
        timeout: options.timeout,
        silence: options.keep_alive.mul_f64(1.2) + Duration::from_secs(5),
        poll_wait_s: options.poll_wait_s,
        receipts: options.receipts,
        reconnect: options.reconnect,
        epoch: Instant::now(),
        stop: AtomicBool::new(false),
        leave: AtomicBool::new(false),
    })
}

/// CPU microseconds that a client's certificate costs this process.
fn cost(identities: &Identities) -> Result<f64, String> {
    let own = std::process::id();
    let before = Usage::of(own).cpu_ns;
    for number in 0..SAMPLE {
        identities.client(&Job::name(number))?;
    }
    Ok((Usage::of(own).cpu_ns - before) as f64 / 1e3 / f64::from(SAMPLE))
}
