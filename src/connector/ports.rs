//! Local ports towards upstreams, as one shard counts them. TCP tells connections apart by both ends, so that each pair of
//! source and upstream address has the host's whole range, less what other processes use of it.
//!
//! Near its end comes one warning that says what to do, long before a request is answered 503 `ports_exhausted`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// A local address, if one was asked for, and the upstream's.
pub type Pair = (Option<IpAddr>, SocketAddr);

/// What helps, for the log and for who asks why.
pub const REMEDY: &str = "add addresses to the route's `source_addresses`, let the upstream speak HTTP/2 (`h2`), or widen \
                          net.ipv4.ip_local_port_range";

/// Per cent of the range in use at which the warning comes, and under which it may come again.
const WARN_AT: u64 = 80;
const CALM_AT: u64 = 60;

/// The range where it cannot be read: Linux's default.
const USUAL: u32 = 28_232;

pub struct Ports {
    /// One entry for each pair that has connections: no more than there are of those.
    used: HashMap<Pair, u32>,
    range: u32,
    /// Shards of this process: each has about the same share of the connections.
    shards: u32,
    turn: usize,
    warned: bool,
}

impl Ports {
    pub fn new(shards: u16) -> Ports {
        let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
        Ports::with_range(
            text.ok().and_then(|text| span(&text)).unwrap_or(USUAL),
            shards,
        )
    }

    fn with_range(range: u32, shards: u16) -> Ports {
        Ports {
            used: HashMap::new(),
            range,
            shards: u32::from(shards).max(1),
            turn: 0,
            warned: false,
        }
    }

    /// The next of these sources, in turn.
    pub fn turn(&mut self, sources: impl Iterator<Item = IpAddr> + Clone) -> Option<IpAddr> {
        let count = sources.clone().count();
        self.turn = self.turn.wrapping_add(1);
        sources.clone().nth(self.turn.checked_rem(count)?)
    }

    /// A connection is made between these.
    pub fn take(&mut self, source: Option<IpAddr>, address: SocketAddr) -> Pair {
        let pair = (source, address);
        let used = self.used.entry(pair).or_default();
        *used += 1;
        let used = u64::from(*used) * u64::from(self.shards);
        if used * 100 >= u64::from(self.range) * WARN_AT && !self.warned {
            self.warned = true;
            let from = source.map_or("any address".to_owned(), |source| source.to_string());
            tracing::warn!(
                upstream = %address, source = from, used, available = self.range,
                "local ports towards the upstream run out: {REMEDY}"
            );
        }
        pair
    }

    /// Its connection is gone, or none came about. (The kernel may keep the port for a minute: TIME_WAIT.)
    pub fn give_back(&mut self, pair: Option<Pair>) {
        let Some(pair) = pair else { return };
        if let Some(used) = self.used.get_mut(&pair) {
            *used = used.saturating_sub(1);
            if *used == 0 {
                self.used.remove(&pair);
            }
        }
        if self.warned {
            let most = u64::from(self.most()) * u64::from(self.shards);
            self.warned = most * 100 >= u64::from(self.range) * CALM_AT;
        }
    }

    /// The kernel has none left: other processes use them too.
    pub fn exhausted(&mut self, address: SocketAddr) {
        if !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(
                upstream = %address, used = self.most(), available = self.range,
                "no local port is left towards the upstream: {REMEDY}"
            );
        }
    }

    /// In use by the pair that uses most.
    pub fn most(&self) -> u32 {
        self.used.values().copied().max().unwrap_or(0)
    }

    /// Ports that one pair has.
    pub fn range(&self) -> u32 {
        self.range
    }
}

/// How many ports `lowest highest` are.
fn span(text: &str) -> Option<u32> {
    let mut ends = text.split_ascii_whitespace().map(str::parse::<u32>);
    let (low, high) = (ends.next()?.ok()?, ends.next()?.ok()?);
    Some(high.checked_sub(low)? + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn the_range_is_read_with_both_ends() {
        assert_eq!(span("32768\t60999\n"), Some(28_232));
        assert_eq!(span("9 8"), None);
        assert_eq!(span("x"), None);
    }

    #[test]
    fn sources_take_turns() {
        let mut ports = Ports::with_range(10, 1);
        let sources: [IpAddr; 3] = [[127, 0, 0, 1], [127, 0, 0, 2], [127, 0, 0, 3]].map(Into::into);
        let mut seen: Vec<_> = (0..6).map(|_| ports.turn(sources.into_iter())).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 3);
        assert_eq!(ports.turn([].into_iter()), None);
    }

    #[test]
    fn the_warning_comes_at_its_share_and_again_only_after_calm() {
        // Two shards, so that four of this one's mean eight of ten.
        let mut ports = Ports::with_range(10, 2);
        let pairs: Vec<_> = (0..3).map(|_| ports.take(None, address(1))).collect();
        ports.take(None, address(2));
        assert!(!ports.warned);
        let last = ports.take(None, address(1));
        assert!(ports.warned);
        ports.give_back(Some(last));
        assert!(ports.warned, "six of ten is not calm");
        ports.give_back(pairs.first().copied());
        assert!(!ports.warned);
        assert_eq!((ports.most(), ports.used.len()), (2, 2));
    }
}
