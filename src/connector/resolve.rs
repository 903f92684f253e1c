//! Names to addresses, off the shards: threads that ask the system's resolver at each dial. Nothing is cached here, so
//! that a service that moves is followed by the next dial; a cache, if any, is the host's.

use crate::shard::mesh;
use crossbeam::channel;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use super::shard::Message;

/// Lookups that wait for a thread; more fail at once.
const LOOKUPS_MAX: usize = 1024;
/// Lookups at once: a name whose servers are silent takes its thread for many seconds, and must not hold up the others.
const THREADS: usize = 4;

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A link's target, and its dial round.
    Target(usize, u32),
    /// An upstream connection: key and stamp.
    Upstream(usize, u32),
}

struct Lookup {
    host: String,
    port: u16,
    asker: Asker,
    reply: mesh::Sender<Message>,
}

/// A shard's way to the resolver threads.
#[derive(Clone)]
pub struct Resolver {
    lookups: channel::Sender<Lookup>,
    reply: Option<mesh::Sender<Message>>,
}

/// An address needs no lookup.
pub fn literal(host: &str, port: u16) -> Option<SocketAddr> {
    let host = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    host.parse::<IpAddr>()
        .ok()
        .map(|ip| SocketAddr::new(ip, port))
}

impl Resolver {
    /// Starts the threads. They end with the last handle.
    pub fn start() -> std::io::Result<Resolver> {
        let (lookups, queue) = channel::bounded::<Lookup>(LOOKUPS_MAX);
        for _ in 0..THREADS {
            let queue = queue.clone();
            std::thread::Builder::new()
                .name("resolver".into())
                .spawn(move || queue.into_iter().for_each(answer))?;
        }
        Ok(Resolver {
            lookups,
            reply: None,
        })
    }

    /// The same threads, with answers to this shard.
    pub fn replying_to(&self, reply: mesh::Sender<Message>) -> Resolver {
        Resolver {
            lookups: self.lookups.clone(),
            reply: Some(reply),
        }
    }

    /// Asks; the answer comes as `Message::Resolved`. False when it cannot.
    pub fn ask(&self, host: &str, port: u16, asker: Asker) -> bool {
        let Some(reply) = self.reply.clone() else {
            return false;
        };
        self.lookups
            .try_send(Lookup {
                host: host.to_owned(),
                port,
                asker,
                reply,
            })
            .is_ok()
    }
}

fn answer(lookup: Lookup) {
    let found = (lookup.host.as_str(), lookup.port).to_socket_addrs();
    let message = Message::Resolved {
        asker: lookup.asker,
        result: found
            .map(Iterator::collect)
            .map_err(|error| error.to_string()),
    };
    if lookup.reply.send(message).is_err() {
        tracing::warn!(
            host = lookup.host,
            "a lookup's answer was dropped: the shard's queue is full"
        );
    }
}
