//! The run second by second. A shard counts the current moment alone and hands it over when it is past; whoever collects
//! them keeps a moment open until every shard is beyond it. So nothing is shared on the path, and memory does not grow
//! with the run.

use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::client::result::Moment;

/// Most moments of a run; a longer one has longer moments.
const MOMENTS_MAX: u32 = 7_200;
/// Most moments that are kept open for a shard that does not come forward.
const OPEN_MAX: usize = 3_600;
const LONGEST_US: u64 = 600_000_000;

/// Divides the run into moments, so that one begins with what is measured.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    pub begin: Instant,
    lead: Duration,
    step: Duration,
}

impl Clock {
    /// `lead` is not measured, `whole` is lead and measured time together.
    pub fn new(begin: Instant, lead: Duration, whole: Duration) -> Clock {
        let seconds = whole.as_secs() as u32 / MOMENTS_MAX + 1;
        Clock {
            begin,
            lead,
            step: Duration::from_secs(seconds.into()),
        }
    }

    pub fn measured_from(&self) -> Instant {
        self.begin + self.lead
    }

    /// How much of the first moment there is: unless the lead is of whole steps, it begins in that moment's course.
    fn skipped(&self) -> Duration {
        self.step * self.lead_steps() - self.lead
    }

    /// Moments before what is measured.
    pub fn lead_steps(&self) -> u32 {
        self.lead.as_nanos().div_ceil(self.step.as_nanos()) as u32
    }

    #[cfg(test)]
    fn step(&self) -> Duration {
        self.step
    }

    pub fn number(&self, at: Instant) -> u32 {
        let since = at.saturating_duration_since(self.begin) + self.skipped();
        (since.as_nanos() / self.step.as_nanos()) as u32
    }

    /// When a moment is over.
    pub fn end_of(&self, number: u32) -> Instant {
        self.begin + (self.step * (number + 1) - self.skipped())
    }

    /// Seconds since what is measured began, at its begin; and how long it is.
    fn span(&self, number: u32) -> (f64, f64) {
        let step = self.step.as_secs_f64();
        let at = (f64::from(number) - f64::from(self.lead_steps())) * step;
        match number {
            0 => {
                let skipped = self.skipped().as_secs_f64();
                (at + skipped, step - skipped)
            }
            _ => (at, step),
        }
    }
}

/// What happened in a moment, on one shard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    pub requests: u64,
    pub failed: u64,
    pub bytes_received: u64,
    pub body_received: u64,
    pub body_sent: u64,
    /// At its end.
    pub backlog: u64,
}

/// A moment of one shard that is past.
pub struct Past {
    pub number: u32,
    pub counts: Counts,
    /// `(µs, count)`
    pub times: Vec<(u64, u64)>,
}

/// The moment that is, on one shard.
pub struct Current {
    clock: Clock,
    number: u32,
    pub counts: Counts,
    times: Histogram<u64>,
}

fn times() -> Histogram<u64> {
    // Two digits are enough for one second; the bounds are constants that the histogram takes.
    Histogram::new_with_bounds(1, LONGEST_US, 2).expect("bounds of a histogram")
}

impl Current {
    pub fn new(clock: Clock) -> Current {
        Current {
            clock,
            number: 0,
            counts: Counts::default(),
            times: times(),
        }
    }

    pub fn record(&mut self, time: Duration) {
        self.counts.requests += 1;
        self.times
            .saturating_record((time.as_micros() as u64).max(1));
    }

    /// When the moment is over.
    pub fn ends(&self) -> Instant {
        self.clock.end_of(self.number)
    }

    /// Ends the moment and begins that of `now`.
    pub fn turn(&mut self, now: Instant, backlog: u64) -> Past {
        let mut counts = std::mem::take(&mut self.counts);
        counts.backlog = backlog;
        let steps = self.times.iter_recorded();
        let past = Past {
            number: self.number,
            counts,
            times: steps
                .map(|step| (step.value_iterated_to(), step.count_at_value()))
                .collect(),
        };
        self.times.reset();
        self.number = self.clock.number(now).max(self.number + 1);
        past
    }
}

/// Moments of all shards, put together.
pub struct Timeline {
    clock: Clock,
    /// The moment that each shard is in.
    reached: Vec<u32>,
    first_open: u32,
    open: VecDeque<(Counts, Histogram<u64>)>,
    done: Vec<Moment>,
    sums: (u64, u64),
}

impl Timeline {
    pub fn new(clock: Clock, shards: usize) -> Timeline {
        Timeline {
            clock,
            reached: vec![0; shards],
            first_open: 0,
            open: VecDeque::new(),
            done: Vec::new(),
            sums: (0, 0),
        }
    }

    /// Takes a shard's moment; how many moments are complete now.
    pub fn take(&mut self, shard: usize, past: &Past) -> usize {
        self.reached[shard] = past.number + 1;
        if let Some(at) = past.number.checked_sub(self.first_open) {
            while self.open.len() <= at as usize {
                self.open.push_back((Counts::default(), times()));
            }
            let (counts, times) = &mut self.open[at as usize];
            counts.requests += past.counts.requests;
            counts.failed += past.counts.failed;
            counts.bytes_received += past.counts.bytes_received;
            counts.body_received += past.counts.body_received;
            counts.body_sent += past.counts.body_sent;
            counts.backlog += past.counts.backlog;
            for (us, count) in &past.times {
                let _ = times.record_n((*us).min(LONGEST_US), *count);
            }
        }
        self.close();
        self.done.len()
    }

    /// Closes the moments that every shard is beyond; those that have ended wait for nobody.
    fn close(&mut self) {
        let running = self
            .reached
            .iter()
            .copied()
            .filter(|reached| *reached < u32::MAX);
        let all_beyond = running
            .min()
            .unwrap_or(self.first_open + self.open.len() as u32);
        while self.first_open < all_beyond || self.open.len() > OPEN_MAX {
            self.close_first();
        }
    }

    fn close_first(&mut self) {
        // A moment that no shard handed over is one in which none of them got to run.
        let (counts, times) = self
            .open
            .pop_front()
            .unwrap_or_else(|| (Counts::default(), times()));
        let (at, seconds) = self.clock.span(self.first_open);
        self.first_open += 1;
        self.sums.0 += counts.requests;
        self.sums.1 += counts.failed;
        self.done.push(Moment {
            at,
            seconds,
            requests: counts.requests,
            failed: counts.failed,
            bytes_received: counts.bytes_received,
            body_bytes_received: counts.body_received,
            body_bytes_sent: counts.body_sent,
            backlog: counts.backlog,
            p50_us: times.value_at_quantile(0.5),
            p99_us: times.value_at_quantile(0.99),
            max_us: times.max(),
        });
    }

    /// A shard has ended and hands over no more; how many moments are complete now.
    pub fn leave(&mut self, shard: usize) -> usize {
        self.reached[shard] = u32::MAX;
        self.close();
        self.done.len()
    }

    /// Requests and failures of all complete moments.
    pub fn sums(&self) -> (u64, u64) {
        self.sums
    }

    pub fn last(&self) -> Option<&Moment> {
        self.done.last()
    }

    /// All moments; the last one is as long as the run took of it.
    pub fn finish(mut self, ended: Instant) -> Vec<Moment> {
        while !self.open.is_empty() {
            self.close_first();
        }
        let whole = ended
            .saturating_duration_since(self.clock.measured_from())
            .as_secs_f64();
        if let Some(last) = self.done.last_mut()
            && (last.at..last.at + last.seconds).contains(&whole)
        {
            last.seconds = whole - last.at;
        }
        // The turn in which a run ends may reach a hair into the next moment: no rate comes of that.
        let hair = self.clock.step.as_secs_f64() / 20.0;
        if self.done.len() > 1
            && let Some(tail) = self.done.pop_if(|last| last.at >= whole - hair)
            && let Some(last) = self.done.last_mut()
        {
            last.requests += tail.requests;
            last.failed += tail.failed;
            last.bytes_received += tail.bytes_received;
            last.body_bytes_received += tail.body_bytes_received;
            last.body_bytes_sent += tail.body_bytes_sent;
            last.max_us = last.max_us.max(tail.max_us);
        }
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_moment_begins_with_what_is_measured() {
        let begin = Instant::now();
        let clock = Clock::new(begin, ms(1500), ms(11_500));
        assert_eq!(clock.number(begin), 0);
        assert_eq!(clock.number(begin + ms(499)), 0);
        assert_eq!(clock.number(begin + ms(500)), 1);
        assert_eq!(clock.number(begin + ms(1500)), 2);
        assert_eq!(clock.end_of(1), begin + ms(1500));
        assert_eq!(
            [clock.span(0), clock.span(1), clock.span(2)],
            [(-1.5, 0.5), (-1.0, 1.0), (0.0, 1.0)]
        );
        let long = Clock::new(begin, Duration::ZERO, Duration::from_secs(24 * 3600));
        assert_eq!(long.step(), Duration::from_secs(13));
    }

    #[test]
    fn shards_moments_are_put_together() {
        let begin = Instant::now();
        let clock = Clock::new(begin, Duration::ZERO, ms(3000));
        let mut timeline = Timeline::new(clock, 2);
        let mut shards = [Current::new(clock), Current::new(clock)];
        for (at, shard) in shards.iter_mut().enumerate() {
            (0..100).for_each(|_| shard.record(ms(10 * (at as u64 + 1))));
            shard.counts.failed = 1;
        }
        // The first shard goes on; the second one hands over its first second when the third is past.
        assert_eq!(timeline.take(0, &shards[0].turn(begin + ms(1000), 3)), 0);
        assert_eq!(timeline.take(0, &shards[0].turn(begin + ms(2000), 0)), 0);
        assert_eq!(timeline.take(1, &shards[1].turn(begin + ms(2500), 4)), 1);
        shards[1].record(ms(70));
        assert_eq!(timeline.take(0, &shards[0].turn(begin + ms(2500), 0)), 1);
        assert_eq!(timeline.take(1, &shards[1].turn(begin + ms(2500), 0)), 3);
        let moments = timeline.finish(begin + ms(2500));
        assert_eq!(moments.len(), 3);
        let first = &moments[0];
        assert_eq!((first.requests, first.failed, first.backlog), (200, 2, 7));
        assert!((9_900..10_200).contains(&first.p50_us), "{}", first.p50_us);
        assert!((19_800..20_200).contains(&first.max_us), "{}", first.max_us);
        assert_eq!((moments[1].requests, moments[2].requests), (0, 1));
        assert_eq!((moments[2].at, moments[2].seconds), (2.0, 0.5));
    }

    #[test]
    fn a_run_that_ends_on_the_second_has_no_moment_more() {
        let begin = Instant::now();
        let clock = Clock::new(begin, Duration::ZERO, ms(1000));
        let mut timeline = Timeline::new(clock, 1);
        let mut shard = Current::new(clock);
        shard.record(ms(1));
        timeline.take(0, &shard.turn(begin + ms(1000), 0));
        timeline.take(0, &shard.turn(begin + ms(1000), 0));
        assert_eq!(timeline.finish(begin + ms(1000)).len(), 1);
    }
}
