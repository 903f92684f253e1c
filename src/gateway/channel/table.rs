//! Where parked channels lie, and what a channel is.

use crate::ring::SocketId;
use crate::shard::paged::Paged;
use crate::wire::relay::{ChannelAuth, ChannelKey, ChannelKind, ChannelUp};
use crate::wire::tls::Parked;
use crate::wire::websocket;

use super::Reason;
use super::rhythm::Place;
use super::who::Who;

/// How far a channel is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Open,
    /// It was announced as gone; the reason is told as soon as the send in flight is over.
    Leaving(Reason),
    /// The last bytes are on their way.
    Ending,
    /// The client's FIN is awaited a moment, so that a reset does not eat the last bytes.
    Draining,
}

/// One parked channel: what a client's connection needs while nothing happens on it, and nothing else.
pub struct Channel {
    pub tls: Parked,
    pub who: Who,
    pub websocket: websocket::Parked,
    pub socket: SocketId,
    pub generation: u32,
    /// Seconds since 1970.
    pub since: u32,
    /// When what the client showed ends, seconds since 1970; `u32::MAX`: beyond what counts.
    pub expires: u32,
    pub place: Place,
    pub site: u16,
    pub kind: ChannelKind,
    pub auth: ChannelAuth,
    pub stage: Stage,
    /// Pushes wait for it in `Channels::backlogs`.
    pub waits: bool,
    /// The begin of a record lies in `Channels::partials`.
    pub partial: bool,
}

impl Channel {
    pub fn key(&self, slot: u32) -> ChannelKey {
        ChannelKey {
            slot,
            generation: self.generation,
        }
    }

    /// What connectors are told of it.
    pub fn up(&self, slot: u32) -> ChannelUp<'_> {
        ChannelUp {
            key: self.key(slot),
            kind: self.kind,
            auth: self.auth,
            since: self.since,
            client: self.who.client(),
        }
    }
}

/// All channels of a shard, by slot.
#[derive(Default)]
pub struct Table {
    slots: Paged<Option<Channel>>,
    generation: u32,
}

impl Table {
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Slots that there may be: those in use lie below.
    pub fn end(&self) -> usize {
        self.slots.end()
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.slots.bytes()
    }

    /// The generation of the next channel: one number for each channel of the shard, so that a slot's never come again
    /// within four thousand million channels, and a later channel has a later one.
    pub fn next_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.generation
    }

    /// The generation given last.
    pub fn last_generation(&self) -> u32 {
        self.generation
    }

    pub fn insert(&mut self, channel: Channel) -> u32 {
        self.slots.insert(Some(channel))
    }

    pub fn remove(&mut self, slot: u32) -> Option<Channel> {
        self.slots.remove(slot)?
    }

    pub fn get(&self, slot: u32) -> Option<&Channel> {
        self.slots.get(slot)?.as_ref()
    }

    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Channel> {
        self.slots.get_mut(slot)?.as_mut()
    }

    /// The open channel that a connector named.
    pub fn find(&self, key: ChannelKey) -> Option<&Channel> {
        self.get(key.slot)
            .filter(|channel| channel.generation == key.generation && channel.stage == Stage::Open)
    }

    /// The first channel in this slot or behind it.
    pub fn next_from(&self, from: u32) -> Option<(u32, &Channel)> {
        let (slot, channel) = self.slots.next_from(from)?;
        Some((slot, channel.as_ref()?))
    }
}

#[cfg(test)]
pub mod testing {
    //! Channels for tests of this folder.

    use super::super::who::{Lineages, Who};
    use super::*;
    use crate::control::snapshot::{ClientIdentity, Proof};
    use crate::wire::tls::parked_one;

    pub fn channel(generation: u32) -> Channel {
        let identity = ClientIdentity {
            client_id: "oidc:lab/pc".into(),
            device: None,
            user: None,
            tenant: None,
            not_after: i64::MAX,
            proof: Proof::Token {
                id: None,
                issuer: "oidc:lab".into(),
            },
        };
        Channel {
            tls: parked_one(),
            who: Who::new(&identity, None, &mut Lineages::default()).unwrap(),
            websocket: websocket::Parked::default(),
            socket: SocketId {
                index: 0,
                generation: 0,
            },
            generation,
            since: 0,
            expires: u32::MAX,
            place: Place::default(),
            site: 0,
            kind: ChannelKind::EventStream,
            auth: ChannelAuth::Token,
            stage: Stage::Open,
            waits: false,
            partial: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_small() {
        assert!(size_of::<Channel>() <= 240, "{}", size_of::<Channel>());
        assert_eq!(size_of::<Option<Channel>>(), size_of::<Channel>());
    }
}
