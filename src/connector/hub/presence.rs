//! Who is there: clients by id, channels by gateway shard and slot. Some 100 bytes a client with one channel.
//!
//! ```text
//! by_id ▸ Client ─ first ▸ Channel ─ next ▸ Channel ◂ by_key
//!            └ name ▸ Names          (all by u32 places in paged slabs: nothing moves, memory falls with who leaves)
//! ```
//!
//! A client without a channel stays only while its owner keeps it ([`Presence::keep`]): in the grace after a long poll.

use super::index::{Index, PLACES};
use super::limits::{CHANNELS, CLIENT_ID_BYTES, GATEWAY_SHARDS};
use super::names::{Name, Names};
use crate::shard::paged::Paged;
use crate::wire::relay::{ChannelAuth, ChannelKey, ChannelKind, ChannelUp};
use std::hash::{DefaultHasher, Hasher};

/// No channel.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Client {
    name: Name,
    first: u32,
    /// Unix seconds.
    last_seen: u32,
    /// It stays without a channel.
    kept: bool,
}

impl Default for Client {
    fn default() -> Client {
        Client {
            name: Name::default(),
            first: NONE,
            last_seen: 0,
            kept: false,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Channel {
    pub client: u32,
    next: u32,
    slot: u32,
    generation: u32,
    /// Unix seconds, by the gateway's clock.
    pub since: u32,
    /// Gateway in the upper 12 bits, kind and auth in the lower 4.
    packed: u16,
    /// The full list that named it last.
    pub mark: u16,
}

const _: () = assert!(GATEWAY_SHARDS <= 1 << 12 && size_of::<Channel>() == 24);
const _: () = assert!(CHANNELS <= PLACES);

impl Channel {
    pub fn key(&self) -> ChannelKey {
        ChannelKey {
            slot: self.slot,
            generation: self.generation,
        }
    }

    pub fn gateway(&self) -> u16 {
        self.packed >> 4
    }

    pub fn kind(&self) -> ChannelKind {
        match self.packed & 3 {
            0 => ChannelKind::EventStream,
            1 => ChannelKind::WebSocket,
            _ => ChannelKind::LongPoll,
        }
    }

    pub fn auth(&self) -> ChannelAuth {
        match self.packed & 4 {
            0 => ChannelAuth::Certificate,
            _ => ChannelAuth::Token,
        }
    }
}

fn pack(gateway: u16, up: &ChannelUp<'_>) -> u16 {
    let kind = match up.kind {
        ChannelKind::EventStream => 0,
        ChannelKind::WebSocket => 1,
        ChannelKind::LongPoll => 2,
    };
    let auth = match up.auth {
        ChannelAuth::Certificate => 0,
        ChannelAuth::Token => 4,
    };
    gateway << 4 | auth | kind
}

/// See the module's page.
pub struct Presence {
    names: Names,
    clients: Paged<Client>,
    channels: Paged<Channel>,
    by_id: Index,
    by_key: Index,
    /// Secret, so that nobody can choose ids that collide.
    seed: u64,
}

impl Presence {
    #[cfg(test)]
    fn channels(&self) -> usize {
        self.channels.len()
    }

    pub fn new(seed: u64) -> Presence {
        Presence {
            names: Names::new(),
            clients: Paged::new(),
            channels: Paged::new(),
            by_id: Index::default(),
            by_key: Index::default(),
            seed,
        }
    }

    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Bytes of memory, the allocator's own excepted.
    pub fn bytes(&self) -> usize {
        let slabs = self.names.bytes() + self.clients.bytes() + self.channels.bytes();
        slabs + self.by_id.bytes() + self.by_key.bytes()
    }

    /// The client of this id.
    pub fn find(&self, id: &str) -> Option<u32> {
        let hash = hash_id(self.seed, id.as_bytes());
        self.by_id.find(hash, |at| {
            let client = self.clients.get(at);
            client.is_some_and(|client| self.names.equals(client.name, id.as_bytes()))
        })
    }

    /// A client's id, copied out; empty when there is no such client.
    pub fn id(&self, client: u32) -> String {
        let mut buffer = [0; CLIENT_ID_BYTES];
        let id = match self.clients.get(client) {
            Some(client) => self.names.get(client.name, &mut buffer),
            None => &[],
        };
        String::from_utf8_lossy(id).into_owned()
    }

    pub fn is(&self, client: u32, id: &str) -> bool {
        let client = self.clients.get(client);
        client.is_some_and(|client| self.names.equals(client.name, id.as_bytes()))
    }

    /// The channel in a gateway shard's slot, of whichever generation.
    pub fn at(&self, gateway: u16, slot: u32) -> Option<u32> {
        self.by_key.find(hash_key(self.seed, gateway, slot), |at| {
            let channel = self.channels.get(at);
            channel.is_some_and(|c| c.slot == slot && c.gateway() == gateway)
        })
    }

    pub fn channel(&self, channel: u32) -> Option<&Channel> {
        self.channels.get(channel)
    }

    pub fn channel_mut(&mut self, channel: u32) -> Option<&mut Channel> {
        self.channels.get_mut(channel)
    }

    /// The first channel at this place or behind it.
    pub fn next_channel(&self, from: u32) -> Option<(u32, &Channel)> {
        self.channels.next_from(from)
    }

    /// The first client at this place or behind it.
    pub fn next_client(&self, from: u32) -> Option<u32> {
        self.clients.next_from(from).map(|(at, _)| at)
    }

    /// A client's channels, the one that came last first.
    pub fn channels_of(&self, client: u32) -> impl Iterator<Item = (u32, &Channel)> {
        let mut next = self.clients.get(client).map_or(NONE, |client| client.first);
        std::iter::from_fn(move || {
            let at = next;
            let channel = self.channels.get(at)?;
            next = channel.next;
            Some((at, channel))
        })
    }

    /// Adds a channel in a slot that is free. `None`: the table is full, or the id is none.
    pub fn add(
        &mut self,
        gateway: u16,
        mark: u16,
        up: &ChannelUp<'_>,
        seconds: u32,
    ) -> Option<u32> {
        if self.channels.len() >= CHANNELS || usize::from(gateway) >= GATEWAY_SHARDS {
            return None;
        }
        let client = self
            .find(up.client)
            .or_else(|| self.add_client(up.client))?;
        let entry = self.clients.get_mut(client)?;
        entry.last_seen = seconds;
        let channel = Channel {
            client,
            next: entry.first,
            slot: up.key.slot,
            generation: up.key.generation,
            since: up.since,
            packed: pack(gateway, up),
            mark,
        };
        let at = self.channels.insert(channel);
        entry.first = at;
        let (channels, seed) = (&self.channels, self.seed);
        let hash = hash_key(seed, gateway, up.key.slot);
        self.by_key
            .insert(hash, at, |at| hash_of_channel(channels, seed, at));
        Some(at)
    }

    fn add_client(&mut self, id: &str) -> Option<u32> {
        // Those in their grace count too.
        if self.clients.len() >= CHANNELS {
            return None;
        }
        let name = self.names.insert(id.as_bytes())?;
        let at = self.clients.insert(Client {
            name,
            ..Client::default()
        });
        let (names, clients, seed) = (&self.names, &self.clients, self.seed);
        let hash = hash_id(seed, id.as_bytes());
        self.by_id
            .insert(hash, at, |at| hash_of_client(names, clients, seed, at));
        Some(at)
    }

    /// Takes a channel out; its client stays until [`Presence::tidy`].
    pub fn remove(&mut self, channel: u32) -> Option<Channel> {
        let gone = *self.channels.get(channel)?;
        let (channels, seed) = (&self.channels, self.seed);
        let hash = hash_key(seed, gone.gateway(), gone.slot);
        self.by_key
            .remove(hash, channel, |at| hash_of_channel(channels, seed, at));
        self.channels.remove(channel);
        let client = self.clients.get_mut(gone.client)?;
        if client.first == channel {
            client.first = gone.next;
            return Some(gone);
        }
        let mut at = client.first;
        while let Some(other) = self.channels.get_mut(at) {
            if other.next == channel {
                other.next = gone.next;
                break;
            }
            at = other.next;
        }
        Some(gone)
    }

    /// Whether the client stays without a channel.
    pub fn keep(&mut self, client: u32, kept: bool) {
        if let Some(client) = self.clients.get_mut(client) {
            client.kept = kept;
        }
    }

    /// Removes a client that has no channel and is not kept: true, and its place may be another's next.
    pub fn tidy(&mut self, client: u32) -> bool {
        let Some(entry) = self.clients.get(client).copied() else {
            return false;
        };
        if entry.first != NONE || entry.kept {
            return false;
        }
        let (names, clients, seed) = (&self.names, &self.clients, self.seed);
        let hash = hash_of_client(names, clients, seed, client);
        self.by_id
            .remove(hash, client, |at| hash_of_client(names, clients, seed, at));
        self.names.remove(entry.name);
        self.clients.remove(client);
        true
    }

    /// Something was heard of it.
    pub fn saw(&mut self, client: u32, seconds: u32) {
        if let Some(client) = self.clients.get_mut(client) {
            client.last_seen = seconds;
        }
    }

    pub fn last_seen(&self, client: u32) -> u32 {
        self.clients
            .get(client)
            .map_or(0, |client| client.last_seen)
    }
}

fn hash_id(seed: u64, id: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(seed);
    hasher.write(id);
    hasher.finish()
}

fn hash_of_client(names: &Names, clients: &Paged<Client>, seed: u64, at: u32) -> u64 {
    let mut buffer = [0; CLIENT_ID_BYTES];
    let id = match clients.get(at) {
        Some(client) => names.get(client.name, &mut buffer),
        None => &[],
    };
    hash_id(seed, id)
}

/// Slots are the gateway's choice, which is trusted with worse: a mixer will do.
fn hash_key(seed: u64, gateway: u16, slot: u32) -> u64 {
    let mut bits = seed ^ (u64::from(gateway) << 32 | u64::from(slot));
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

fn hash_of_channel(channels: &Paged<Channel>, seed: u64, at: u32) -> u64 {
    let channel = channels.get(at);
    channel.map_or(0, |channel| hash_key(seed, channel.gateway(), channel.slot))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn up(slot: u32, generation: u32, client: &str) -> ChannelUp<'_> {
        ChannelUp {
            key: ChannelKey { slot, generation },
            kind: ChannelKind::LongPoll,
            auth: ChannelAuth::Token,
            since: generation,
            client,
        }
    }

    proptest! {
        /// Against maps: channels by gateway and slot, clients by id.
        #[test]
        fn is_what_came_and_did_not_leave(
            ops in prop::collection::vec((any::<bool>(), 0u16..3, 0u32..40, 0usize..12), 0..1500)
        ) {
            let ids: Vec<String> = (0..12).map(|n| format!("cert:lab/{}", "x".repeat(n * 9))).collect();
            let mut presence = Presence::new(7);
            let mut model: BTreeMap<(u16, u32), (u32, usize)> = BTreeMap::new();
            for (number, (add, gateway, slot, id)) in ops.into_iter().enumerate() {
                let known = presence.at(gateway, slot);
                prop_assert_eq!(known.is_some(), model.contains_key(&(gateway, slot)));
                match known {
                    Some(at) => {
                        let gone = presence.remove(at).unwrap();
                        let (generation, id) = model.remove(&(gateway, slot)).unwrap();
                        prop_assert_eq!(gone.key(), ChannelKey { slot, generation });
                        prop_assert_eq!(presence.id(gone.client), &ids[id][..]);
                        prop_assert_eq!(presence.tidy(gone.client), !model.values().any(|c| c.1 == id));
                    }
                    None if add => {
                        presence.add(gateway, 1, &up(slot, number as u32, &ids[id]), 5).unwrap();
                        model.insert((gateway, slot), (number as u32, id));
                    }
                    None => {}
                }
                prop_assert_eq!(presence.channels(), model.len());
                let found = presence.find(&ids[id]);
                let mut channels: Vec<u32> = found.iter()
                    .flat_map(|at| presence.channels_of(*at)).map(|(_, c)| c.generation).collect();
                channels.sort_unstable();
                let wanted: Vec<u32> = {
                    let mut all: Vec<u32> = model.values().filter(|c| c.1 == id).map(|c| c.0).collect();
                    all.sort_unstable();
                    all
                };
                prop_assert_eq!(channels, wanted);
            }
        }
    }

    #[test]
    fn a_client_costs_little() {
        let mut presence = Presence::new(7);
        for slot in 0..100_000 {
            let id = format!("cert:corp/device-{slot:07}.corp.example");
            presence.add(0, 0, &up(slot, 1, &id), 5).unwrap();
        }
        let each = presence.bytes() / 100_000;
        assert!(each < 120, "{each} bytes");
        for slot in 0..100_000 {
            let gone = presence.remove(presence.at(0, slot).unwrap()).unwrap();
            assert!(presence.tidy(gone.client));
        }
        assert!(presence.bytes() < 200_000, "{}", presence.bytes());
    }

    #[test]
    fn what_a_channel_is_comes_back() {
        let mut presence = Presence::new(1);
        let at = presence.add(4095, 3, &up(8, 9, "a"), 5).unwrap();
        let channel = presence.channel(at).unwrap();
        assert_eq!((channel.gateway(), channel.mark), (4095, 3));
        assert_eq!(
            (channel.kind(), channel.auth()),
            (ChannelKind::LongPoll, ChannelAuth::Token)
        );
        let client = channel.client;
        presence.keep(client, true);
        presence.remove(at);
        assert!(!presence.tidy(client), "kept");
        presence.keep(client, false);
        assert!(presence.tidy(client) && presence.find("a").is_none());
    }
}
