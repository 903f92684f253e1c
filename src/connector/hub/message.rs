//! What goes between the connector's shards and the hub. The shards know the wire, the hub knows no frame.

use crate::wire::relay::{
    ChannelAuth, ChannelKey, ChannelKind, ChannelUp, CloseReason, DownReason, Fate, PushId, Totals,
};
use std::sync::Arc;

/// A shard of a running gateway process. The boot id is random at each start, so the same shard of the next process is
/// another one. All links to it, of whichever `[[gateway]]` entry, mean the same channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GatewayShard {
    pub instance: u16,
    pub boot: u128,
    pub shard: u16,
}

/// A link as its shard numbers it: any number that is not used twice while the hub may still hear of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// The entries of one CHANNEL_UP: two allocations, however many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ups {
    entries: Vec<UpEntry>,
    /// All client ids, one behind the other.
    clients: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct UpEntry {
    key: ChannelKey,
    since: u32,
    kind: ChannelKind,
    auth: ChannelAuth,
    client_bytes: u8,
}

impl Ups {
    /// Keeps one; an id of more than 255 bytes, which the wire cannot carry, is left out.
    pub fn push(&mut self, up: &ChannelUp<'_>) {
        if let Ok(client_bytes) = u8::try_from(up.client.len()) {
            self.clients.push_str(up.client);
            self.entries.push(UpEntry {
                key: up.key,
                since: up.since,
                kind: up.kind,
                auth: up.auth,
                client_bytes,
            });
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = ChannelUp<'_>> {
        let mut rest = self.clients.as_str();
        self.entries.iter().map(move |entry| {
            let at = usize::from(entry.client_bytes);
            let (client, behind) = rest.split_at_checked(at).unwrap_or((rest, ""));
            rest = behind;
            ChannelUp {
                key: entry.key,
                kind: entry.kind,
                auth: entry.auth,
                since: entry.since,
                client,
            }
        })
    }
}

impl<'a> FromIterator<ChannelUp<'a>> for Ups {
    fn from_iter<I: IntoIterator<Item = ChannelUp<'a>>>(iter: I) -> Ups {
        let mut ups = Ups::default();
        iter.into_iter().for_each(|up| ups.push(&up));
        ups
    }
}

/// From a shard, in the order of its link's frames. `LinkUp` comes first and `LinkLost` last.
#[derive(Debug)]
pub enum FromShard {
    /// READY was received and says that the gateway has channels; `link` reaches `gateway`.
    LinkUp {
        link: LinkId,
        gateway: GatewayShard,
    },
    /// Nothing more comes from the link. What it announced is unknown now, and gone after a grace.
    LinkLost {
        link: LinkId,
    },
    /// One CHANNEL_UP; between a start and an end, `ups` are all that there is.
    Up {
        link: LinkId,
        list_starts: bool,
        list_ends: bool,
        ups: Ups,
    },
    Down {
        link: LinkId,
        channels: Vec<(ChannelKey, DownReason)>,
    },
    Outcomes {
        link: LinkId,
        push: PushId,
        channels: Vec<(ChannelKey, Fate)>,
    },
    /// Of a NOTIFY to all.
    OutcomeOfAll {
        link: LinkId,
        push: PushId,
        totals: Totals,
    },
    /// A NOTIFY that the shard could not hand to its link: too much waits there already.
    Refused {
        link: LinkId,
        push: PushId,
        targets: Targets,
    },
    Receipts {
        receipts: Vec<(PushId, Box<str>)>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    Channels(Vec<ChannelKey>),
    /// All channels that the gateway shard has for the site.
    All,
}

/// To a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToShard {
    /// At most `limits::TARGETS_PER_MESSAGE` channels. The payload is shared by all shards that send it.
    Notify {
        link: LinkId,
        push: PushId,
        /// The client may have it already.
        repeat: bool,
        payload: Arc<[u8]>,
        targets: Targets,
    },
    Close {
        link: LinkId,
        channels: Vec<ChannelKey>,
        reason: CloseReason,
    },
}

impl ToShard {
    pub fn link(&self) -> LinkId {
        match self {
            ToShard::Notify { link, .. } | ToShard::Close { link, .. } => *link,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_as_they_were() {
        let up = |slot, client| ChannelUp {
            key: ChannelKey {
                slot,
                generation: 3,
            },
            kind: ChannelKind::WebSocket,
            auth: ChannelAuth::Token,
            since: 7,
            client,
        };
        let all = [up(1, "cert:lab/a"), up(2, "x"), up(9, "oidc:e/long-name")];
        let ups: Ups = all.into_iter().collect();
        assert!(ups.iter().eq(all));
        assert_eq!((ups.len(), Ups::default().iter().count()), (3, 0));
    }
}
