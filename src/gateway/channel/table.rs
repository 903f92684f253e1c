//! Where parked channels lie: pages of slots, so that growth copies nothing, a slot never moves, and a page that runs
//! empty goes back to the system.

use crate::ring::SocketId;
use crate::wire::relay::{ChannelAuth, ChannelKey, ChannelKind, ChannelUp};
use crate::wire::tls::Parked;
use crate::wire::websocket;

use super::Reason;
use super::rhythm::Place;
use super::who::Who;

/// Slots of a page.
const PAGE: usize = 512;
const WORDS: usize = PAGE / 64;

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

struct Page {
    slots: Box<[Option<Channel>]>,
    /// A set bit is a slot in use.
    used: [u64; WORDS],
    live: usize,
}

impl Page {
    fn new() -> Page {
        Page {
            slots: (0..PAGE).map(|_| None).collect(),
            used: [0; WORDS],
            live: 0,
        }
    }
}

/// All channels of a shard, by slot.
#[derive(Default)]
pub struct Table {
    pages: Vec<Option<Page>>,
    /// No page before this one has a free slot.
    first_free: usize,
    len: usize,
    generation: u32,
}

fn split(slot: u32) -> (usize, usize) {
    (slot as usize / PAGE, slot as usize % PAGE)
}

impl Table {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Slots that there may be: those in use lie below.
    pub fn end(&self) -> usize {
        self.pages.len() * PAGE
    }

    /// Bytes of the pages.
    pub fn bytes(&self) -> usize {
        let pages = self.pages.iter().flatten().count();
        pages * PAGE * size_of::<Option<Channel>>()
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

    /// Takes the lowest free slot, so that pages at the end run empty.
    pub fn insert(&mut self, channel: Channel) -> u32 {
        let full = |page: &Option<Page>| page.as_ref().is_some_and(|page| page.live == PAGE);
        while self.pages.get(self.first_free).is_some_and(full) {
            self.first_free += 1;
        }
        if self.first_free == self.pages.len() {
            self.pages.push(None);
        }
        let number = self.first_free;
        let page = self.pages[number].get_or_insert_with(Page::new);
        let word = page.used.iter().position(|w| *w != u64::MAX).unwrap_or(0);
        let bit = page.used[word].trailing_ones() as usize;
        page.used[word] |= 1 << bit;
        page.live += 1;
        page.slots[word * 64 + bit] = Some(channel);
        self.len += 1;
        (number * PAGE + word * 64 + bit) as u32
    }

    pub fn remove(&mut self, slot: u32) -> Option<Channel> {
        let (number, at) = split(slot);
        let place = self.pages.get_mut(number)?;
        let page = place.as_mut()?;
        let channel = page.slots.get_mut(at)?.take()?;
        page.used[at / 64] &= !(1 << (at % 64));
        page.live -= 1;
        self.len -= 1;
        self.first_free = self.first_free.min(number);
        if page.live == 0 {
            *place = None;
            while self.pages.last().is_some_and(Option::is_none) {
                self.pages.pop();
            }
            self.first_free = self.first_free.min(self.pages.len());
        }
        Some(channel)
    }

    pub fn get(&self, slot: u32) -> Option<&Channel> {
        let (number, at) = split(slot);
        self.pages.get(number)?.as_ref()?.slots.get(at)?.as_ref()
    }

    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Channel> {
        let (number, at) = split(slot);
        let page = self.pages.get_mut(number)?.as_mut()?;
        page.slots.get_mut(at)?.as_mut()
    }

    /// The open channel that a connector named.
    pub fn find(&self, key: ChannelKey) -> Option<&Channel> {
        self.get(key.slot)
            .filter(|channel| channel.generation == key.generation && channel.stage == Stage::Open)
    }

    /// The first channel in this slot or behind it.
    pub fn next_from(&self, from: u32) -> Option<(u32, &Channel)> {
        let (first, offset) = split(from);
        for number in first..self.pages.len() {
            let Some(page) = &self.pages[number] else {
                continue;
            };
            let begin = if number == first { offset } else { 0 };
            for word in begin / 64..WORDS {
                let mask = match word == begin / 64 {
                    true => u64::MAX << (begin % 64),
                    false => u64::MAX,
                };
                let bits = page.used[word] & mask;
                if bits != 0 {
                    let at = word * 64 + bits.trailing_zeros() as usize;
                    let channel = page.slots[at].as_ref()?;
                    return Some(((number * PAGE + at) as u32, channel));
                }
            }
        }
        None
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
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_channel_is_small() {
        assert!(size_of::<Channel>() <= 240, "{}", size_of::<Channel>());
        assert_eq!(size_of::<Option<Channel>>(), size_of::<Channel>());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn is_a_map_of_slots(ops in prop::collection::vec((any::<bool>(), 0u32..1500), 0..2000)) {
            let (mut table, mut model) = (Table::default(), BTreeMap::new());
            for (insert, slot) in ops {
                if insert {
                    let generation = table.next_generation();
                    let at = table.insert(testing::channel(generation));
                    prop_assert_eq!(model.insert(at, generation), None);
                } else {
                    let gone = table.remove(slot).map(|channel| channel.generation);
                    prop_assert_eq!(gone, model.remove(&slot));
                }
                prop_assert_eq!(table.len(), model.len());
                prop_assert!(model.keys().all(|at| (*at as usize) < table.end()));
                let next = table.next_from(slot).map(|(at, channel)| (at, channel.generation));
                prop_assert_eq!(next, model.range(slot..).next().map(|(at, g)| (*at, *g)));
            }
        }
    }

    #[test]
    fn empty_pages_go() {
        let mut table = Table::default();
        let all: Vec<_> = (0..PAGE * 3)
            .map(|n| table.insert(testing::channel(n as u32)))
            .collect();
        assert_eq!(table.bytes(), 3 * PAGE * size_of::<Channel>());
        for slot in all {
            assert!(table.remove(slot).is_some());
        }
        assert_eq!((table.bytes(), table.end()), (0, 0));
    }
}
