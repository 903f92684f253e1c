//! Frames being built, entry by entry, each in one buffer that its owner keeps: no allocation in steady state. A batch
//! names no stream, so the same one goes to any number of sessions (a channel is announced to every connector).

use super::entry::{LIST_ENDS, LIST_STARTS, REPEAT, TO_ALL, TOTALS, is_client_id};
use super::{
    ChannelClose, ChannelDown, ChannelFate, ChannelKey, ChannelUp, MAX_PUSH, PushId, Receipt,
    Totals,
};
use crate::wire::relay::Role;
use crate::wire::relay::frame::{self, HEADER, Kind, MAX_DATA};

/// A frame of channel entries, ready to send when it is not empty.
pub trait Batch: sealed::Framed {
    /// The role that sends such frames.
    const SENDER: Role;
    /// Nothing stands in it that could be sent.
    fn is_empty(&self) -> bool;
    /// Begins anew; the buffer stays.
    fn clear(&mut self);
}

pub(in crate::wire::relay) mod sealed {
    pub trait Framed {
        /// The frame, header included, its length written.
        fn frame(&mut self) -> &[u8];
    }
}

/// A frame of one kind with a prefix of its own before the entries.
#[derive(Clone, Debug, Default)]
struct Building {
    bytes: Vec<u8>,
    prefix: usize,
}

impl Building {
    fn start(&mut self, kind: Kind, prefix: &[u8]) {
        frame::start(&mut self.bytes, kind, 0);
        self.bytes.extend_from_slice(prefix);
        self.prefix = HEADER + prefix.len();
    }

    fn has_room(&self, n: usize) -> bool {
        self.bytes.len() + n <= HEADER + MAX_DATA
    }

    fn has_entries(&self) -> bool {
        self.bytes.len() > self.prefix
    }

    fn finish(&mut self, kind: Kind) -> &[u8] {
        let fits = frame::finish(&mut self.bytes, kind);
        debug_assert!(fits);
        &self.bytes
    }

    /// A key and a byte. False: the frame is full.
    fn push(&mut self, key: ChannelKey, byte: u8) -> bool {
        let fits = self.has_room(9);
        if fits {
            let [a, b, c, d, e, f, g, h] = bytes_of(key);
            self.bytes
                .extend_from_slice(&[a, b, c, d, e, f, g, h, byte]);
        }
        fits
    }
}

#[inline]
fn bytes_of(key: ChannelKey) -> [u8; 8] {
    (u64::from(key.slot) << 32 | u64::from(key.generation)).to_be_bytes()
}

macro_rules! batch {
    ($name:ident, $kind:ident, $sender:ident, $empty:expr, $clear:expr) => {
        impl sealed::Framed for $name {
            fn frame(&mut self) -> &[u8] {
                self.frame.finish(Kind::$kind)
            }
        }

        impl Batch for $name {
            const SENDER: Role = Role::$sender;

            fn is_empty(&self) -> bool {
                let empty: fn(&$name) -> bool = $empty;
                empty(self)
            }

            fn clear(&mut self) {
                let clear: fn(&mut $name) = $clear;
                clear(self);
            }
        }
    };
}

/// Batches of entries alone.
macro_rules! entries_batch {
    ($(#[$doc:meta])* $name:ident, $kind:ident, $sender:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name {
            frame: Building,
        }

        impl Default for $name {
            fn default() -> $name {
                let mut batch = $name { frame: Building::default() };
                batch.clear();
                batch
            }
        }

        batch!(
            $name,
            $kind,
            $sender,
            |batch| !batch.frame.has_entries(),
            |batch| batch.frame.start(Kind::$kind, &[])
        );
    };
}

entries_batch!(
    /// CHANNEL_DOWN being built.
    Downs,
    ChannelDown,
    Gateway
);
entries_batch!(
    /// CHANNEL_CLOSE being built.
    Closes,
    ChannelClose,
    Connector
);
entries_batch!(
    /// RECEIPT being built.
    Receipts,
    Receipt,
    Gateway
);

impl Downs {
    /// False: the frame is full; send it, clear it, push again.
    pub fn push(&mut self, down: ChannelDown) -> bool {
        self.frame.push(down.key, down.reason as u8)
    }
}

impl Closes {
    /// False: the frame is full; send it, clear it, push again.
    pub fn push(&mut self, close: ChannelClose) -> bool {
        self.frame.push(close.key, close.reason as u8)
    }
}

impl Receipts {
    /// False: the frame is full; send it, clear it, push again. A client id that is not 1 to 128 bytes of visible ASCII
    /// is the caller's mistake, and its entry is left out.
    pub fn push(&mut self, receipt: Receipt<'_>) -> bool {
        let client = receipt.client.as_bytes();
        if !is_client_id(client) {
            debug_assert!(false, "no client id: {:?}", receipt.client);
            return true;
        }
        let fits = self.frame.has_room(17 + client.len());
        if fits {
            self.frame.bytes.extend_from_slice(&receipt.push.0);
            self.frame.bytes.push(client.len() as u8);
            self.frame.bytes.extend_from_slice(client);
        }
        fits
    }
}

/// CHANNEL_UP being built.
#[derive(Clone, Debug)]
pub struct Ups {
    frame: Building,
}

impl Default for Ups {
    fn default() -> Ups {
        let mut ups = Ups {
            frame: Building::default(),
        };
        ups.clear();
        ups
    }
}

impl Ups {
    /// A full list begins with this frame.
    pub fn start_list(&mut self) {
        self.mark(LIST_STARTS);
    }

    /// A full list ends with this frame; it may be the one that began it, and may hold no channel.
    pub fn end_list(&mut self) {
        self.mark(LIST_ENDS);
    }

    /// False: the frame is full; send it, clear it, push again. A client id that is not 1 to 128 bytes of visible ASCII
    /// is the caller's mistake, and its entry is left out.
    #[inline]
    pub fn push(&mut self, up: &ChannelUp<'_>) -> bool {
        let client = up.client.as_bytes();
        if !is_client_id(client) {
            debug_assert!(false, "no client id: {:?}", up.client);
            return true;
        }
        let fits = self.frame.has_room(15 + client.len());
        if fits {
            let [a, b, c, d, e, f, g, h] = bytes_of(up.key);
            let [i, j, k, l] = up.since.to_be_bytes();
            let (kind, auth) = (up.kind as u8, up.auth as u8);
            let length = client.len() as u8;
            let fixed = [a, b, c, d, e, f, g, h, kind, auth, i, j, k, l, length];
            self.frame.bytes.extend_from_slice(&fixed);
            self.frame.bytes.extend_from_slice(client);
        }
        fits
    }

    fn flags(&self) -> u8 {
        self.frame.bytes.get(HEADER).copied().unwrap_or(0)
    }

    fn mark(&mut self, flag: u8) {
        if let Some(flags) = self.frame.bytes.get_mut(HEADER) {
            *flags |= flag;
        }
    }
}

batch!(
    Ups,
    ChannelUp,
    Gateway,
    |ups| ups.flags() == 0 && !ups.frame.has_entries(),
    |ups| ups.frame.start(Kind::ChannelUp, &[0])
);

/// NOTIFY being built: one push to some channels, or to all. For more channels than fit, clear it and go on: the push
/// stays.
#[derive(Clone, Debug)]
pub struct Notification {
    frame: Building,
    to_all: bool,
}

impl Default for Notification {
    /// Of no push yet.
    fn default() -> Notification {
        let mut notification = Notification {
            frame: Building::default(),
            to_all: false,
        };
        notification.restart(PushId([0; 16]), false, &[]);
        notification
    }
}

impl Notification {
    /// `None`: `payload` is longer than 4,096 bytes.
    pub fn new(push: PushId, repeat: bool, payload: &[u8]) -> Option<Notification> {
        let mut notification = Notification {
            frame: Building::default(),
            to_all: false,
        };
        notification
            .restart(push, repeat, payload)
            .then_some(notification)
    }

    /// Another push in the same buffer. False, and nothing changed: `payload` is longer than 4,096 bytes.
    pub fn restart(&mut self, push: PushId, repeat: bool, payload: &[u8]) -> bool {
        if payload.len() > MAX_PUSH {
            return false;
        }
        let [a, b] = (payload.len() as u16).to_be_bytes();
        let flags = if repeat { REPEAT } else { 0 };
        self.frame.start(Kind::Notify, &push.0);
        self.frame.bytes.extend_from_slice(&[flags, a, b]);
        self.frame.bytes.extend_from_slice(payload);
        self.frame.prefix = self.frame.bytes.len();
        self.to_all = false;
        true
    }

    /// To every channel of the site; channels pushed so far are left out, those after it too.
    pub fn to_all(&mut self) {
        self.clear();
        self.to_all = true;
        self.set_flag(|flags| flags | TO_ALL);
    }

    /// False: the frame is full; send it, clear it, push again.
    pub fn push(&mut self, key: ChannelKey) -> bool {
        if self.to_all {
            return true;
        }
        let fits = self.frame.has_room(8);
        if fits {
            self.frame.bytes.extend_from_slice(&bytes_of(key));
        }
        fits
    }

    fn set_flag(&mut self, change: impl FnOnce(u8) -> u8) {
        if let Some(flags) = self.frame.bytes.get_mut(HEADER + 16) {
            *flags = change(*flags);
        }
    }
}

batch!(
    Notification,
    Notify,
    Connector,
    |n| !n.to_all && !n.frame.has_entries(),
    |n| {
        n.frame.bytes.truncate(n.frame.prefix);
        n.to_all = false;
        n.set_flag(|flags| flags & !TO_ALL);
    }
);

/// OUTCOME of one push being built, channel by channel. Clear it and go on when full: the push stays.
#[derive(Clone, Debug)]
pub struct Outcomes {
    frame: Building,
}

impl Outcomes {
    pub fn new(push: PushId) -> Outcomes {
        let mut outcomes = Outcomes {
            frame: Building::default(),
        };
        outcomes.restart(push);
        outcomes
    }

    /// Another push in the same buffer.
    pub fn restart(&mut self, push: PushId) {
        self.frame.start(Kind::Outcome, &push.0);
        self.frame.bytes.push(0);
        self.frame.prefix = self.frame.bytes.len();
    }

    /// False: the frame is full; send it, clear it, push again.
    pub fn push(&mut self, fate: ChannelFate) -> bool {
        self.frame.push(fate.key, fate.fate as u8)
    }
}

batch!(
    Outcomes,
    Outcome,
    Gateway,
    |outcomes| !outcomes.frame.has_entries(),
    |outcomes| outcomes.frame.bytes.truncate(outcomes.frame.prefix)
);

/// OUTCOME of a push to all: how many met which fate.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    frame: Building,
}

impl Summary {
    pub fn set(&mut self, push: PushId, totals: Totals) {
        self.frame.start(Kind::Outcome, &push.0);
        self.frame.bytes.push(TOTALS);
        for number in [totals.sent, totals.gone, totals.dropped] {
            self.frame.bytes.extend_from_slice(&number.to_be_bytes());
        }
    }
}

batch!(
    Summary,
    Outcome,
    Gateway,
    |summary| summary.frame.bytes.is_empty(),
    |summary| summary.frame.bytes.clear()
);
