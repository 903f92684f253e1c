//! CPU and memory of the processes of a run, its own included, once a moment.

use std::time::{Duration, Instant};

use crate::client::process::{Process, Usage};
use crate::client::result::{ProcessUse, UseMoment};

use super::timeline::Clock;

/// A GB as a transfer counts it.
const GB: f64 = 1e9;

/// The processes under observation.
pub struct Watched {
    all: Vec<One>,
    clock: Clock,
    next: Instant,
    measuring: bool,
    stopped: bool,
}

struct One {
    process: Process,
    last: (Instant, Usage),
    timeline: Vec<UseMoment>,
}

impl Watched {
    /// The load generator's own process is added.
    pub fn new(processes: Vec<Process>, clock: Clock) -> Watched {
        let own = Process::new("load", std::process::id()).ok();
        let now = Instant::now();
        let all = processes.into_iter().chain(own).map(|process| One {
            last: (now, Usage::of(process.pid)),
            process,
            timeline: Vec::new(),
        });
        Watched {
            all: all.collect(),
            clock,
            next: clock.end_of(0),
            measuring: false,
            stopped: false,
        }
    }

    /// When to look next.
    pub fn next_look(&self, end: Instant) -> Instant {
        let begin = self.clock.measured_from();
        let mut next = self.next;
        if !self.measuring {
            next = next.min(begin);
        }
        if !self.stopped {
            next = next.min(end);
        }
        next
    }

    pub fn look(&mut self, now: Instant, end: Instant) {
        if !self.measuring && now >= self.clock.measured_from() {
            self.measuring = true;
            self.all.iter_mut().for_each(|one| one.process.start());
        }
        if now >= self.next {
            self.sample(now);
            self.next = self.clock.end_of(self.clock.number(now));
        }
        if now >= end {
            self.stop(now);
        }
    }

    fn sample(&mut self, now: Instant) {
        let begin = self.clock.measured_from();
        for one in &mut self.all {
            let (before, used) = one.last;
            let usage = Usage::of(one.process.pid);
            let spent = Duration::from_nanos(usage.cpu_ns.saturating_sub(used.cpu_ns));
            let took = now.saturating_duration_since(before).as_secs_f64();
            let since = |at: Instant| at.saturating_duration_since(begin).as_secs_f64();
            one.timeline.push(UseMoment {
                // Of the moment that it is about: its begin.
                at: since(before) - begin.saturating_duration_since(before).as_secs_f64(),
                cpu_percent: if took > 0.0 {
                    100.0 * spent.as_secs_f64() / took
                } else {
                    0.0
                },
                rss_kib: usage.rss_kib,
            });
            one.last = (now, usage);
        }
    }

    /// What is measured is over. The first call counts.
    pub fn stop(&mut self, now: Instant) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        // A run that ended within its first moment has one sample at least.
        if now > self.clock.begin && self.all.iter().any(|one| one.timeline.is_empty()) {
            self.sample(now);
        }
        self.all.iter_mut().for_each(|one| one.process.stop());
    }

    /// What the processes used, and what this one did.
    pub fn uses(self, requests: u64, body_bytes: u64) -> (Vec<ProcessUse>, ProcessUse) {
        let of = |one: One| {
            let cpu_ns = one.process.cpu_ns() as f64;
            ProcessUse {
                name: one.process.name.clone(),
                pid: one.process.pid,
                cpu_seconds: cpu_ns / 1e9,
                cpu_us_per_request: cpu_ns / 1e3 / requests.max(1) as f64,
                cpu_seconds_per_gb: match body_bytes {
                    0 => 0.0,
                    bytes => cpu_ns / 1e9 / (bytes as f64 / GB),
                },
                rss_kib: one.process.rss_kib,
                peak_rss_kib: one.process.peak_kib,
                timeline: one.timeline,
            }
        };
        let mut uses: Vec<_> = self.all.into_iter().map(of).collect();
        let own = uses.pop().unwrap_or_default();
        (uses, own)
    }
}
