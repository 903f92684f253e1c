//! `tidegate load channels` and `load push`: arguments to a run.

use super::load::processes;
use crate::client::api::Access;
use crate::client::channel::Kind;
use crate::client::channel::push::{self, Pushing};
use crate::client::channel::run::{self, Options};
use crate::client::load::Target;
use clap::value_parser;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

/// Connections that one source address gets. The kernel looks for ports of one parity first, of which there are 14,000, and
/// through all of them before it takes one of the other: the 14,001st connection costs a millisecond, and each one after it.
const PORTS: u32 = 10_000;

#[derive(clap::Args)]
pub struct Channels {
    #[command(flatten)]
    clients: Clients,
    /// How long to hold them, e.g. 30m
    #[arg(long, default_value = "60s", value_parser = crate::control::config::units::duration)]
    hold: Duration,
    /// How many channels
    #[arg(short = 'n', long, value_parser = value_parser!(u32).range(1..=4_000_000))]
    count: u32,
}

#[derive(clap::Args)]
pub struct Push {
    #[command(flatten)]
    clients: Clients,
    /// How many channels
    #[arg(short = 'n', long, value_parser = value_parser!(u32).range(1..=4_000_000))]
    count: u32,
    /// The notification API of a connector of that site
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9500")]
    api: String,
    /// File with the API's token
    #[arg(long, value_name = "FILE")]
    api_token: Option<PathBuf>,
    /// CA of the API's certificate (PEM)
    #[arg(long, value_name = "FILE")]
    api_ca: Option<PathBuf>,
    /// Certificate and key to show to the API (PEM, in one file)
    #[arg(long, value_name = "FILE")]
    api_identity: Option<PathBuf>,
    /// How many pushes: each to a client that is present, at random
    #[arg(long, default_value_t = 1000, value_parser = value_parser!(u32).range(1..=100_000))]
    pushes: u32,
    /// Pushes a second, whatever becomes of those before
    #[arg(long, default_value_t = 100, value_parser = value_parser!(u32).range(1..=100_000))]
    push_rate: u32,
    /// Each push to all
    #[arg(long)]
    all: bool,
    /// Each push over the connector's disk
    #[arg(long)]
    queue: bool,
    /// Bytes of a payload
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u16).range(1..=4096))]
    payload_bytes: u16,
}

/// Who opens channels, and how.
#[derive(clap::Args)]
pub struct Clients {
    /// The gateway: https://HOST[:PORT]
    #[arg(long, value_name = "URL")]
    target: String,
    /// CA certificates (PEM) that the gateway's certificate must be under
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Take any server certificate (never outside a lab)
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
    /// Folder of `tidegate pki init`: each client gets a certificate of its own (pc-0000001, …) from the clients' CA
    #[arg(long, value_name = "DIR", conflicts_with_all = ["cert", "token"])]
    pki: Option<PathBuf>,
    /// One client certificate (PEM) for all. They are one client then: its site must allow it as many channels
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// A bearer token for all, likewise
    #[arg(long, value_name = "FILE")]
    token: Option<PathBuf>,
    /// How a channel is held; mix: all three in turn. Of pushes, WebSocket clients send receipts
    #[arg(long, default_value = "sse", value_parser = ["sse", "websocket", "poll", "mix"])]
    kind: String,
    /// Openings a second; default: as fast as it goes
    #[arg(long, default_value_t = 0)]
    rate: u32,
    /// Openings under way at a time
    #[arg(long, default_value_t = 256, value_parser = value_parser!(u32).range(1..=65_536))]
    at_once: u32,
    /// Source addresses, by comma; `auto`: 127.0.0.1, 127.0.0.2, … as the ports need, when the gateway is on loopback
    #[arg(long, default_value = "auto", value_name = "LIST")]
    sources: String,
    /// Threads, each with a ring; default: as many as descriptors and cores ask for
    #[arg(long, default_value_t = 0, value_parser = value_parser!(u16).range(0..=512))]
    shards: u16,
    /// TLS 1.2 instead of 1.3
    #[arg(long)]
    tls12: bool,
    /// Longest wait for an open channel
    #[arg(long, default_value = "30s", value_parser = crate::control::config::units::duration)]
    timeout: Duration,
    /// The gateway's keep_alive_seconds; a channel that is silent for 20 % and 5 s more counts as late
    #[arg(long, default_value = "45s", value_parser = crate::control::config::units::duration)]
    keep_alive: Duration,
    /// Seconds that a long poll waits
    #[arg(long, default_value_t = 30, value_parser = value_parser!(u32).range(1..=300))]
    poll_wait: u32,
    /// Open lost channels again, when the gateway says so
    #[arg(long)]
    reconnect: bool,
    /// CPU and memory of a server process: `gateway=1234`, more than once
    #[arg(long = "pid", value_name = "NAME=PID")]
    pids: Vec<String>,
    /// Writes the result
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// True when all channels were opened and none was lost.
pub fn channels(arguments: Channels) -> Result<bool, String> {
    let options = arguments.clients.options(arguments.count, arguments.hold)?;
    run::channels(&options)
}

/// True when every push came to whom it was for, and no channel was lost. WebSocket clients acknowledge.
pub fn push(arguments: Push) -> Result<bool, String> {
    let mut options = arguments.clients.options(arguments.count, Duration::ZERO)?;
    options.receipts = true;
    let pushing = Pushing {
        access: Access {
            api: arguments.api,
            token_file: arguments.api_token,
            ca: arguments.api_ca,
            identity: arguments.api_identity,
        },
        count: arguments.pushes,
        rate: arguments.push_rate,
        to_all: arguments.all,
        queue: arguments.queue,
        bytes: usize::from(arguments.payload_bytes),
    };
    push::push(&options, &pushing)
}

impl Clients {
    pub fn options(self, count: u32, hold: Duration) -> Result<Options, String> {
        let target = Target::new(&self.target)?;
        Ok(Options {
            sources: sources(&self.sources, &target, count)?,
            pids: processes(&self.pids)?,
            kinds: kinds(&self.kind),
            ca: self.ca,
            insecure: self.insecure,
            tls12: self.tls12,
            identity: self.cert.zip(self.key),
            pki: self.pki,
            token: self.token,
            count,
            hold,
            rate: self.rate,
            at_once: self.at_once as usize,
            shards: usize::from(self.shards),
            timeout: self.timeout,
            keep_alive: self.keep_alive,
            poll_wait_s: self.poll_wait,
            receipts: false,
            reconnect: self.reconnect,
            json: self.json,
            target,
        })
    }
}

fn kinds(word: &str) -> Vec<Kind> {
    match word {
        "websocket" => vec![Kind::WebSocket],
        "poll" => vec![Kind::Poll],
        "mix" => vec![Kind::Sse, Kind::WebSocket, Kind::Poll],
        _ => vec![Kind::Sse],
    }
}

/// A port names a connection only together with its source address: of those a host has few, loopback has 16 million.
fn sources(list: &str, target: &Target, count: u32) -> Result<Vec<IpAddr>, String> {
    if list == "auto" {
        let on_loopback = target.host == "localhost" || target.host.starts_with("127.");
        let needed = if on_loopback {
            count.div_ceil(PORTS)
        } else {
            0
        };
        let first = u32::from(Ipv4Addr::LOCALHOST);
        let addresses = (0..needed).map(|at| IpAddr::from(Ipv4Addr::from(first + at)));
        return Ok(if needed > 1 {
            addresses.collect()
        } else {
            Vec::new()
        });
    }
    let read = |text: &str| {
        let text = text.trim();
        text.parse()
            .map_err(|_| format!("--sources: `{text}` is not an address"))
    };
    list.split(',').map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_as_many_as_the_ports_need() {
        let local = Target::new("https://127.0.0.1:8443").unwrap();
        let away = Target::new("https://gw.example").unwrap();
        let auto = |target, count| sources("auto", target, count).unwrap().len();
        assert_eq!([auto(&local, 100), auto(&away, 100_000)], [0, 0]);
        assert_eq!([auto(&local, 10_001), auto(&local, 1_000_000)], [2, 100]);
        assert_eq!(sources("127.0.0.1, ::1", &local, 1).unwrap().len(), 2);
        assert!(sources("here", &local, 1).is_err());
    }
}
