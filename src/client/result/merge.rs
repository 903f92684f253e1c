//! Several runs of one load, at the same time on several hosts, as one. Counts and histograms are sums, and so exact; the
//! percentiles of a moment cannot be merged exactly, because files hold no histogram a second: of the lower one (p50) it is
//! the mean by requests, of the higher (p99, max) the highest. Another host's figures are peer input: sums do not overflow.

use super::{Agent, Member, Moment, ProcessUse, Run, UseMoment, histogram};
use std::collections::BTreeMap;

impl Run {
    /// Adds another host's part. Both began at the same moment, and both describe the same scenario.
    pub fn merge(&mut self, other: &Run) {
        let (own, others) = (self.requests as f64, other.requests as f64);
        self.latency_mean_us =
            (self.latency_mean_us * own + other.latency_mean_us * others) / (own + others).max(1.0);
        self.connections = self.connections.saturating_add(other.connections);
        self.shards = self.shards.saturating_add(other.shards);
        self.requests = self.requests.saturating_add(other.requests);
        // Hosts that work side by side add up their rates; the time is that of the longest.
        self.seconds = self.seconds.max(other.seconds);
        self.requests_per_second = if self.seconds > 0.0 {
            self.requests as f64 / self.seconds
        } else {
            0.0
        };
        self.histogram_us = histogram::merged(&self.histogram_us, &other.histogram_us);
        self.latency_us = histogram::quantiles(&self.histogram_us);
        self.service_histogram_us =
            histogram::merged(&self.service_histogram_us, &other.service_histogram_us);
        self.service_us = histogram::quantiles(&self.service_histogram_us);
        add(&mut self.statuses, &other.statuses);
        add(&mut self.errors, &other.errors);
        for (class, example) in &other.error_examples {
            self.error_examples
                .entry(class.clone())
                .or_insert_with(|| example.clone());
        }
        self.intended_rate += other.intended_rate;
        self.unfinished = self.unfinished.saturating_add(other.unfinished);
        self.unfinished_longest_us = self.unfinished_longest_us.max(other.unfinished_longest_us);
        self.bytes_received = self.bytes_received.saturating_add(other.bytes_received);
        self.body_bytes_received = self
            .body_bytes_received
            .saturating_add(other.body_bytes_received);
        self.body_bytes_sent = self.body_bytes_sent.saturating_add(other.body_bytes_sent);
        self.body_bytes_per_second += other.body_bytes_per_second;
        self.connects = self.connects.saturating_add(other.connects);
        self.handshakes_full = self.handshakes_full.saturating_add(other.handshakes_full);
        self.handshakes_resumed = self
            .handshakes_resumed
            .saturating_add(other.handshakes_resumed);
        members(&mut self.members, &other.members);
        moments(&mut self.timeline, &other.timeline);
        self.load.merge(&other.load);
        self.load.relate(
            self.requests,
            self.body_bytes_received
                .saturating_add(self.body_bytes_sent),
        );
        self.agents.extend(other.agents.iter().cloned());
    }

    /// This run as one host's part of a larger one.
    pub fn as_agent(&self, name: &str) -> Agent {
        Agent {
            name: name.to_owned(),
            environment: self.environment.clone(),
            connections: self.connections,
            shards: self.shards,
            requests: self.requests,
            seconds: self.seconds,
            requests_per_second: self.requests_per_second,
            latency_us: self.latency_us.clone(),
            errors: self.errors.clone(),
            load: self.load.clone(),
            lost: String::new(),
        }
    }
}

impl ProcessUse {
    /// Sets what it cost for so many requests and bytes of bodies.
    pub fn relate(&mut self, requests: u64, body_bytes: u64) {
        self.cpu_us_per_request = self.cpu_seconds * 1e6 / requests.max(1) as f64;
        self.cpu_seconds_per_gb = match body_bytes {
            0 => 0.0,
            bytes => self.cpu_seconds / (bytes as f64 / 1e9),
        };
    }

    /// The same program on another host beside it.
    fn merge(&mut self, other: &ProcessUse) {
        self.cpu_seconds += other.cpu_seconds;
        self.rss_kib = self.rss_kib.saturating_add(other.rss_kib);
        self.peak_rss_kib = self.peak_rss_kib.saturating_add(other.peak_rss_kib);
        let mut steps = by(&self.timeline, |sample| step(sample.at));
        for sample in &other.timeline {
            let step = steps.entry(step(sample.at)).or_insert(UseMoment {
                at: sample.at,
                ..UseMoment::default()
            });
            step.cpu_percent += sample.cpu_percent;
            step.rss_kib = step.rss_kib.saturating_add(sample.rss_kib);
        }
        self.timeline = steps.into_values().collect();
    }
}

fn add(own: &mut BTreeMap<String, u64>, others: &BTreeMap<String, u64>) {
    for (name, n) in others {
        let count = own.entry(name.clone()).or_default();
        *count = count.saturating_add(*n);
    }
}

fn members(own: &mut Vec<Member>, others: &[Member]) {
    for other in others {
        let Some(member) = own.iter_mut().find(|member| member.name == other.name) else {
            own.push(other.clone());
            continue;
        };
        member.requests = member.requests.saturating_add(other.requests);
        member.failed = member.failed.saturating_add(other.failed);
        member.histogram_us = histogram::merged(&member.histogram_us, &other.histogram_us);
        member.latency_us = histogram::quantiles(&member.histogram_us);
        add(&mut member.statuses, &other.statuses);
    }
}

/// Samples of a process are taken a little after each second began.
fn step(at: f64) -> i64 {
    (at + 0.02).floor() as i64
}

/// Moments of one scenario begin at the same times everywhere.
fn instant(moment: &Moment) -> i64 {
    (moment.at * 1e3).round() as i64
}

fn by<T: Clone>(timeline: &[T], key: impl Fn(&T) -> i64) -> BTreeMap<i64, T> {
    timeline.iter().map(|one| (key(one), one.clone())).collect()
}

fn moments(own: &mut Vec<Moment>, others: &[Moment]) {
    let mut steps = by(own, instant);
    for other in others {
        match steps.get_mut(&instant(other)) {
            Some(moment) => moment.add(other),
            None => _ = steps.insert(instant(other), other.clone()),
        }
    }
    *own = steps.into_values().collect();
}

impl Moment {
    /// The same moment on another host beside it.
    pub fn add(&mut self, other: &Moment) {
        let (a, b) = (self.requests as f64, other.requests as f64);
        let middle = (self.p50_us as f64 * a + other.p50_us as f64 * b) / (a + b).max(1.0);
        self.p50_us = middle.round() as u64;
        self.p99_us = self.p99_us.max(other.p99_us);
        self.max_us = self.max_us.max(other.max_us);
        self.at = self.at.min(other.at);
        self.seconds = self.seconds.max(other.seconds);
        self.requests = self.requests.saturating_add(other.requests);
        self.failed = self.failed.saturating_add(other.failed);
        self.bytes_received = self.bytes_received.saturating_add(other.bytes_received);
        self.body_bytes_sent = self.body_bytes_sent.saturating_add(other.body_bytes_sent);
        self.body_bytes_received = self
            .body_bytes_received
            .saturating_add(other.body_bytes_received);
        self.backlog = self.backlog.saturating_add(other.backlog);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn counts_are_sums() {
        let (mut both, one) = (testing::run(), testing::run());
        both.merge(&one);
        assert_eq!(both.requests, 2 * one.requests);
        assert_eq!(
            histogram::total(&both.histogram_us),
            2 * histogram::total(&one.histogram_us)
        );
        assert_eq!(
            (both.seconds, both.requests_per_second),
            (one.seconds, 2.0 * one.requests_per_second)
        );
        assert_eq!(both.errors["timeout"], 2 * one.errors["timeout"]);
        assert_eq!(both.members[0].requests, 2 * one.members[0].requests);
        assert_eq!((both.connections, both.connects), (128, 128));
        // Twice the same changes no percentile and no mean.
        assert_eq!(
            (both.latency_us, both.latency_mean_us),
            (one.latency_us, one.latency_mean_us)
        );
        assert_eq!(
            both.load.cpu_us_per_request.round(),
            one.load.cpu_us_per_request.round()
        );
    }

    #[test]
    fn moments_meet_by_their_second() {
        let (mut both, mut late) = (testing::run(), testing::run());
        // Half a second of ramp-up that only one of them knows is a moment of its own.
        both.timeline.insert(
            0,
            Moment {
                at: -1.5,
                seconds: 0.5,
                requests: 3,
                ..Moment::default()
            },
        );
        late.load
            .timeline
            .iter_mut()
            .for_each(|sample| sample.at += 0.004);
        for moment in &mut late.timeline {
            moment.p99_us += 5000;
        }
        late.timeline.push(Moment {
            at: 10.0,
            requests: 7,
            ..Moment::default()
        });
        let (own, others) = (both.clone(), late.clone());
        both.merge(&late);
        assert_eq!(both.timeline.len(), 13);
        let sum = |run: &Run| run.timeline.iter().map(|m| m.requests).sum::<u64>();
        assert_eq!(sum(&both), sum(&own) + sum(&others));
        assert_eq!(both.timeline[4].p99_us, own.timeline[4].p99_us + 5000);
        assert!(both.timeline.windows(2).all(|pair| pair[0].at < pair[1].at));
        assert_eq!(both.load.timeline.len(), own.load.timeline.len());
        assert_eq!(
            both.load.timeline[2].cpu_percent,
            2.0 * own.load.timeline[2].cpu_percent
        );
    }

    #[test]
    fn an_empty_part_changes_nothing_but_the_hosts() {
        let (mut both, one) = (testing::run(), testing::run());
        both.merge(&Run {
            agents: vec![one.as_agent("b")],
            ..Run::default()
        });
        assert_eq!(both.agents[0].requests, one.requests);
        both.agents.clear();
        assert_eq!(both.latency_us, one.latency_us);
        assert_eq!(both.timeline, one.timeline);
    }
}
