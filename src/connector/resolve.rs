//! Names to addresses, off the shards: a thread that asks the system's resolver at each dial.

use crate::shard::mesh;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc;

use super::shard::Message;

/// Lookups that wait for the thread; more fail at once.
const LOOKUPS_MAX: usize = 1024;

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

/// A shard's way to the resolver thread.
#[derive(Clone)]
pub struct Resolver {
    lookups: mpsc::SyncSender<Lookup>,
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
    /// Starts the thread.
    pub fn start() -> std::io::Result<Resolver> {
        let (lookups, queue) = mpsc::sync_channel::<Lookup>(LOOKUPS_MAX);
        std::thread::Builder::new()
            .name("resolver".into())
            .spawn(move || {
                for lookup in queue {
                    let found = (lookup.host.as_str(), lookup.port).to_socket_addrs();
                    let result = found
                        .map(Iterator::collect)
                        .map_err(|error| error.to_string());
                    let message = Message::Resolved {
                        asker: lookup.asker,
                        result,
                    };
                    if lookup.reply.send(message).is_err() {
                        tracing::warn!(
                            host = lookup.host,
                            "a lookup's answer was dropped: the shard's queue is full"
                        );
                    }
                }
            })?;
        Ok(Resolver {
            lookups,
            reply: None,
        })
    }

    /// The same thread, with answers to this shard.
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
