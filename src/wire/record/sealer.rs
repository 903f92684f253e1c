//! One sending direction.

use super::keys::{Expanded, tls12_aad};
use super::{ContentType, HEADER_LEN, Keys, Layout, MAX_PLAINTEXT, Suite, TAG_LEN};
use ring::aead::{Aad, Nonce};

/// Records under one key that data never takes: a KeyUpdate, an alert or a close_notify must still go out after the
/// last one.
const RESERVED: u64 = 16;

/// Why a record was not sealed. None of these is the peer's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError {
    /// The key has sealed as many records as it may.
    Exhausted,
    /// More than 16,384 bytes of plaintext, or a slice without room for header and tag.
    Length,
    /// The cryptographic library refused.
    Crypto,
}

impl std::fmt::Display for SealError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Exhausted => "sending key used up",
            Self::Length => "record of a wrong length",
            Self::Crypto => "encryption failed",
        })
    }
}

impl std::error::Error for SealError {}

/// Seals records in place, in order.
pub struct Sealer {
    keys: Keys,
    sequence: u64,
    expanded: Option<Box<Expanded>>,
}

impl Sealer {
    /// `sequence` is that of the next record.
    pub fn new(keys: Keys, sequence: u64) -> Self {
        Self {
            keys,
            sequence,
            expanded: None,
        }
    }

    pub fn suite(&self) -> Suite {
        self.keys.suite()
    }

    pub fn layout(&self) -> Layout {
        self.suite().layout()
    }

    /// Data records that this key may still seal.
    pub fn remaining(&self) -> u64 {
        remaining(self.suite(), self.sequence)
    }

    /// Moves to the next generation of keys (RFC 8446 §7.2). False if only key and iv are known; then [`replace`] is
    /// the way.
    ///
    /// [`replace`]: Sealer::replace
    #[must_use]
    pub fn update(&mut self) -> bool {
        let next = self.keys.next();
        next.is_some_and(|keys| {
            self.replace(keys);
            true
        })
    }

    /// Takes new keys; sequence numbers start at 0 again.
    pub fn replace(&mut self, keys: Keys) {
        *self = Self::new(keys, 0);
    }

    /// Drops the expanded key (about 600 bytes); it is rebuilt when a record is due.
    pub fn park(&mut self) {
        self.expanded = None;
    }

    pub(crate) fn is_parked(&self) -> bool {
        self.expanded.is_none()
    }

    /// Seals one record where it stands: `record` is the gap of `layout().prefix` bytes, the plaintext, and the gap of
    /// `layout().suffix` bytes; the gaps' content is overwritten.
    pub fn seal(&mut self, content_type: ContentType, record: &mut [u8]) -> Result<(), SealError> {
        if self.expanded.is_none() {
            self.expanded = Some(Box::new(self.keys.expand().ok_or(SealError::Crypto)?));
        }
        let Some(expanded) = &self.expanded else {
            return Err(SealError::Crypto);
        };
        seal_record(
            expanded,
            self.keys.suite(),
            self.sequence,
            content_type,
            record,
        )?;
        self.sequence += 1;
        Ok(())
    }

    /// Appends one sealed record with `plaintext` to `out`: for alerts and handshake messages, which are short.
    pub fn append(
        &mut self,
        content_type: ContentType,
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let layout = self.layout();
        let start = out.len();
        out.resize(start + usize::from(layout.prefix), 0);
        out.extend_from_slice(plaintext);
        out.resize(out.len() + usize::from(layout.suffix), 0);
        let sealed = self.seal(content_type, &mut out[start..]);
        if sealed.is_err() {
            out.truncate(start);
        }
        sealed
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    #[cfg(test)]
    pub(crate) fn set_sequence(&mut self, sequence: u64) {
        self.sequence = sequence;
    }
}

/// Data records that a key at that sequence number may still seal.
pub(super) fn remaining(suite: Suite, sequence: u64) -> u64 {
    (suite.record_limit() - RESERVED).saturating_sub(sequence)
}

/// Seals one record laid out as for [`Sealer::seal`] under the sequence number; the caller counts on.
pub(super) fn seal_record(
    expanded: &Expanded,
    suite: Suite,
    sequence: u64,
    content_type: ContentType,
    record: &mut [u8],
) -> Result<(), SealError> {
    if sequence >= suite.record_limit() {
        return Err(SealError::Exhausted);
    }
    let layout = suite.layout();
    let (prefix, suffix) = (usize::from(layout.prefix), usize::from(layout.suffix));
    let plain = record
        .len()
        .checked_sub(prefix + suffix)
        .ok_or(SealError::Length)?;
    if plain > MAX_PLAINTEXT {
        return Err(SealError::Length);
    }
    let nonce = expanded.nonce(sequence);

    let (head, body) = record.split_at_mut(prefix);
    let length = ((prefix - HEADER_LEN) + plain + suffix) as u16;
    let outer = if suite.is_tls13() {
        ContentType::ApplicationData
    } else {
        content_type
    };
    let header = [outer as u8, 3, 3, (length >> 8) as u8, length as u8];
    head[..HEADER_LEN].copy_from_slice(&header);
    if suite.has_explicit_nonce() {
        head[HEADER_LEN..].copy_from_slice(&nonce[4..]);
    }

    let (text, tag_gap) = body.split_at_mut(body.len() - TAG_LEN);
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = if suite.is_tls13() {
        text[plain] = content_type as u8;
        expanded
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(header), text)
    } else {
        let aad = tls12_aad(sequence, content_type as u8, [3, 3], plain);
        expanded
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(aad), text)
    };
    tag_gap.copy_from_slice(tag.map_err(|_| SealError::Crypto)?.as_ref());
    Ok(())
}
