//! Entries in wire form. A frame is checked whole when it comes, so that what an owner iterates holds.

use super::{
    Audience, ChannelAuth, ChannelClose, ChannelDown, ChannelFate, ChannelKey, ChannelKind,
    ChannelUp, CloseReason, DownReason, Fate, MAX_CLIENT_ID, MAX_PUSH, Outcome, PushId, Receipt,
    Totals,
};
use crate::wire::relay::frame::Kind;
use std::marker::PhantomData;

/// CHANNEL_UP: a full list begins with this frame.
pub const LIST_STARTS: u8 = 1;
/// CHANNEL_UP: a full list ends with this frame.
pub const LIST_ENDS: u8 = 2;
/// NOTIFY: sent before.
pub const REPEAT: u8 = 1;
/// NOTIFY: to all channels of the site.
pub const TO_ALL: u8 = 2;
/// OUTCOME: totals instead of entries.
pub const TOTALS: u8 = 1;

/// Something that is repeated to a payload's end.
pub trait Entry<'a>: Sized {
    /// Its bytes, where all of them have as many.
    const SIZE: Option<usize>;
    /// One off the front. `None`: it is not whole, or a value in it is wrong.
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])>;
}

/// Entries still in wire form; iterate, each was checked when its frame was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entries<'a, E> {
    bytes: &'a [u8],
    of: PhantomData<E>,
}

impl<'a, E: Entry<'a>> Entries<'a, E> {
    fn new(bytes: &'a [u8]) -> Entries<'a, E> {
        Entries {
            bytes,
            of: PhantomData,
        }
    }

    /// No entry is left.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Every entry is whole and right, up to the last byte.
    fn hold(mut self) -> bool {
        while self.next().is_some() {}
        self.bytes.is_empty()
    }
}

impl<'a, E: Entry<'a>> Iterator for Entries<'a, E> {
    type Item = E;

    #[inline]
    fn next(&mut self) -> Option<E> {
        let (entry, rest) = E::split(self.bytes)?;
        self.bytes = rest;
        Some(entry)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match E::SIZE {
            Some(size) => {
                let left = self.bytes.len() / size.max(1);
                (left, Some(left))
            }
            None => (0, Some(self.bytes.len())),
        }
    }
}

#[inline]
fn key(bytes: [u8; 8]) -> ChannelKey {
    let [a, b, c, d, e, f, g, h] = bytes;
    ChannelKey {
        slot: u32::from_be_bytes([a, b, c, d]),
        generation: u32::from_be_bytes([e, f, g, h]),
    }
}

/// A key and a byte: entries of CHANNEL_DOWN, CHANNEL_CLOSE and OUTCOME.
#[inline]
fn key_and_byte(bytes: &[u8]) -> Option<(ChannelKey, u8, &[u8])> {
    let (first, rest) = bytes.split_first_chunk::<8>()?;
    let (byte, rest) = rest.split_first()?;
    Some((key(*first), *byte, rest))
}

impl<'a> Entry<'a> for ChannelUp<'a> {
    const SIZE: Option<usize> = None;

    #[inline]
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (first, rest) = bytes.split_first_chunk::<8>()?;
        let ([kind, auth, a, b, c, d, length], rest) = rest.split_first_chunk::<7>()?;
        let (client, rest) = rest.split_at_checked(usize::from(*length))?;
        let up = ChannelUp {
            key: key(*first),
            kind: ChannelKind::from_wire(*kind)?,
            auth: ChannelAuth::from_wire(*auth)?,
            since: u32::from_be_bytes([*a, *b, *c, *d]),
            client: str::from_utf8(client).ok()?,
        };
        is_client_id(client).then_some((up, rest))
    }
}

impl<'a> Entry<'a> for ChannelDown {
    const SIZE: Option<usize> = Some(9);

    #[inline]
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (key, byte, rest) = key_and_byte(bytes)?;
        let reason = DownReason::from_wire(byte);
        Some((ChannelDown { key, reason }, rest))
    }
}

impl<'a> Entry<'a> for ChannelClose {
    const SIZE: Option<usize> = Some(9);

    #[inline]
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (key, byte, rest) = key_and_byte(bytes)?;
        let reason = CloseReason::from_wire(byte);
        Some((ChannelClose { key, reason }, rest))
    }
}

impl<'a> Entry<'a> for ChannelKey {
    const SIZE: Option<usize> = Some(8);

    #[inline]
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (first, rest) = bytes.split_first_chunk::<8>()?;
        Some((key(*first), rest))
    }
}

impl<'a> Entry<'a> for ChannelFate {
    const SIZE: Option<usize> = Some(9);

    #[inline]
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (key, byte, rest) = key_and_byte(bytes)?;
        let fate = Fate::from_wire(byte)?;
        Some((ChannelFate { key, fate }, rest))
    }
}

impl<'a> Entry<'a> for Receipt<'a> {
    const SIZE: Option<usize> = None;

    #[inline]
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (push, rest) = bytes.split_first_chunk::<16>()?;
        let (length, rest) = rest.split_first()?;
        let (client, rest) = rest.split_at_checked(usize::from(*length))?;
        let receipt = Receipt {
            push: PushId(*push),
            client: str::from_utf8(client).ok()?,
        };
        is_client_id(client).then_some((receipt, rest))
    }
}

/// 1 to 128 bytes of visible ASCII.
#[inline]
pub fn is_client_id(bytes: &[u8]) -> bool {
    (1..=MAX_CLIENT_ID).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
}

/// A channel frame's payload, read; the parts that are entries are not walked.
pub struct UpFrame<'a> {
    pub flags: u8,
    pub channels: Entries<'a, ChannelUp<'a>>,
}

pub fn decode_up(payload: &[u8]) -> Option<UpFrame<'_>> {
    let (flags, entries) = payload.split_first()?;
    Some(UpFrame {
        flags: *flags,
        channels: Entries::new(entries),
    })
}

pub fn decode_down(payload: &[u8]) -> Entries<'_, ChannelDown> {
    Entries::new(payload)
}

pub fn decode_close(payload: &[u8]) -> Entries<'_, ChannelClose> {
    Entries::new(payload)
}

pub fn decode_receipt(payload: &[u8]) -> Entries<'_, Receipt<'_>> {
    Entries::new(payload)
}

/// NOTIFY as it came.
pub struct NotifyFrame<'a> {
    pub push: PushId,
    pub repeat: bool,
    pub audience: Audience<'a>,
    pub payload: &'a [u8],
}

pub fn decode_notify(payload: &[u8]) -> Option<NotifyFrame<'_>> {
    let (push, rest) = payload.split_first_chunk::<16>()?;
    let ([flags, a, b], rest) = rest.split_first_chunk::<3>()?;
    let length = usize::from(u16::from_be_bytes([*a, *b]));
    let (payload, entries) = rest.split_at_checked(length)?;
    if length > MAX_PUSH || flags & !(REPEAT | TO_ALL) != 0 {
        return None;
    }
    let to_all = flags & TO_ALL != 0;
    if to_all != entries.is_empty() {
        return None;
    }
    Some(NotifyFrame {
        push: PushId(*push),
        repeat: flags & REPEAT != 0,
        audience: match to_all {
            true => Audience::All,
            false => Audience::Channels(Entries::new(entries)),
        },
        payload,
    })
}

pub fn decode_outcome(payload: &[u8]) -> Option<(PushId, Outcome<'_>)> {
    let (push, rest) = payload.split_first_chunk::<16>()?;
    let (form, rest) = rest.split_first()?;
    let outcome = match *form {
        0 if !rest.is_empty() => Outcome::Each(Entries::new(rest)),
        TOTALS => {
            let numbers: &[u8; 12] = rest.try_into().ok()?;
            let [a, b, c, d, e, f, g, h, i, j, k, l] = *numbers;
            Outcome::Totals(Totals {
                sent: u32::from_be_bytes([a, b, c, d]),
                gone: u32::from_be_bytes([e, f, g, h]),
                dropped: u32::from_be_bytes([i, j, k, l]),
            })
        }
        _ => return None,
    };
    Some((PushId(*push), outcome))
}

/// The whole payload of a channel frame is right.
pub fn check(kind: Kind, payload: &[u8]) -> bool {
    match kind {
        Kind::ChannelUp => decode_up(payload).is_some_and(|up| {
            let known = up.flags & !(LIST_STARTS | LIST_ENDS) == 0;
            known && (up.flags != 0 || !up.channels.is_empty()) && up.channels.hold()
        }),
        // Any reason can be read: the length says it all.
        Kind::ChannelDown | Kind::ChannelClose => payload.len().is_multiple_of(9),
        Kind::Receipt => decode_receipt(payload).hold(),
        Kind::Notify => decode_notify(payload).is_some_and(|notify| match notify.audience {
            Audience::All => true,
            Audience::Channels(keys) => keys.bytes.len().is_multiple_of(8),
        }),
        Kind::Outcome => decode_outcome(payload).is_some_and(|(_, outcome)| match outcome {
            Outcome::Each(fates) => fates.hold(),
            Outcome::Totals(_) => true,
        }),
        _ => false,
    }
}

/// CHANNEL_UP begins a full list.
pub fn starts_list(flags: u8) -> bool {
    flags & LIST_STARTS != 0
}

/// CHANNEL_UP ends a full list.
pub fn ends_list(flags: u8) -> bool {
    flags & LIST_ENDS != 0
}
