//! What the shards of a run share, and what one of them counts.

use super::Kind;
use crate::control::pki::Identities;
use hdrhistogram::Histogram;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Different reasons counted apart; what comes beyond is counted as "other reasons".
const REASONS_MAX: usize = 32;

/// What all clients do.
pub struct Job {
    pub address: SocketAddr,
    pub server: ServerName<'static>,
    /// For `Host`.
    pub host: String,
    /// Prepared for parking.
    pub tls: Arc<rustls::ClientConfig>,
    /// A certificate for each client; `None`: what `tls` has.
    pub identities: Option<Identities>,
    /// Sent as `Authorization: Bearer`.
    pub token: Option<String>,
    /// Clients take them in turn.
    pub kinds: Vec<Kind>,
    /// Clients take them in turn; empty: the kernel's choice.
    pub sources: Vec<IpAddr>,
    /// Openings a second, of one shard; 0: as fast as it goes.
    pub rate: f64,
    /// Openings under way, of one shard.
    pub at_once: usize,
    /// From connect to the answer's head.
    pub timeout: Duration,
    /// Longest silence of an open channel that is no fault.
    pub silence: Duration,
    pub poll_wait_s: u32,
    /// WebSocket clients acknowledge each push.
    pub receipts: bool,
    /// A lost channel is opened again, when its server says so or with jitter.
    pub reconnect: bool,
    /// Time zero of what `load push` writes into payloads.
    pub epoch: Instant,
    /// The run is over: each shard shows what it has counted, …
    pub stop: AtomicBool,
    /// … and when all have, leaves. The first to leave keeps the machine busy with its sockets, so that channels of the
    /// others would seem silent.
    pub leave: AtomicBool,
}

impl Job {
    pub fn kind(&self, number: u32) -> Kind {
        let kinds = &self.kinds;
        let at = number as usize % kinds.len().max(1);
        kinds.get(at).copied().unwrap_or(Kind::Sse)
    }

    pub fn source(&self, number: u32) -> Option<IpAddr> {
        let at = number as usize % self.sources.len().max(1);
        self.sources.get(at).copied()
    }

    /// That client's name, which is its certificate's.
    pub fn name(number: u32) -> String {
        format!("pc-{number:07}")
    }

    /// The config of that client.
    pub fn tls(&self, number: u32) -> Result<Arc<rustls::ClientConfig>, String> {
        let Some(identities) = &self.identities else {
            return Ok(self.tls.clone());
        };
        let identity = identities.client(&Self::name(number))?;
        let mut config = (*self.tls).clone();
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(identity));
        Ok(Arc::new(config))
    }
}

/// What one shard has counted, or all of them together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    pub opened: u64,
    /// Open now.
    pub held: u64,
    pub keep_alives: u64,
    /// Signs of life that came after a longer silence than is allowed.
    pub late: u64,
    /// Channels that are silent for longer than is allowed, as of the last look.
    pub silent: u64,
    pub pushes: u64,
    pub repeats: u64,
    pub receipts: u64,
    /// Openings that failed, by reason.
    pub failed: BTreeMap<String, u64>,
    /// Open channels that ended, by reason.
    pub lost: BTreeMap<String, u64>,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        let sums = [
            (&mut self.opened, other.opened),
            (&mut self.held, other.held),
            (&mut self.keep_alives, other.keep_alives),
            (&mut self.late, other.late),
            (&mut self.silent, other.silent),
            (&mut self.pushes, other.pushes),
            (&mut self.repeats, other.repeats),
            (&mut self.receipts, other.receipts),
        ];
        sums.into_iter().for_each(|(sum, part)| *sum += part);
        for (reason, n) in &other.failed {
            count(&mut self.failed, reason, *n);
        }
        for (reason, n) in &other.lost {
            count(&mut self.lost, reason, *n);
        }
    }

    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    pub fn losses(&self) -> u64 {
        self.lost.values().sum()
    }
}

/// Adds to a reason's count.
pub fn count(reasons: &mut BTreeMap<String, u64>, reason: &str, n: u64) {
    if let Some(counted) = reasons.get_mut(reason) {
        *counted += n;
    } else {
        let reason = if reasons.len() < REASONS_MAX {
            reason
        } else {
            "other reasons"
        };
        *reasons.entry(reason.to_owned()).or_insert(0) += n;
    }
}

/// Where a shard shows its counts, a few times a second, and leaves its times at the end.
#[derive(Default)]
pub struct Board {
    pub counts: Mutex<Counts>,
    pub times: Mutex<Option<Times>>,
}

/// In microseconds.
pub struct Times {
    /// From connect to the answer's head.
    pub opening: Histogram<u64>,
    /// From the call of the notification API to the client.
    pub delivery: Histogram<u64>,
}

impl Times {
    pub fn new() -> Times {
        // Three digits, and room as it is needed: `record` makes it, `saturating_record` would not.
        let new = || Histogram::new(3).expect("three digits are allowed");
        Times {
            opening: new(),
            delivery: new(),
        }
    }

    pub fn add(&mut self, other: &Times) {
        let _ = self.opening.add(&other.opening);
        let _ = self.delivery.add(&other.delivery);
    }
}

impl Default for Times {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_bounded() {
        let mut reasons = BTreeMap::new();
        for n in 0..100 {
            count(&mut reasons, &format!("reason {n}"), 1);
        }
        assert_eq!(reasons.len(), REASONS_MAX + 1);
        assert_eq!(reasons.values().sum::<u64>(), 100);
    }
}
