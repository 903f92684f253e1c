//! One receiving direction.

use super::keys::{Expanded, tls12_aad};
use super::{ContentType, HEADER_LEN, Header, Keys, MAX_PLAINTEXT, Suite, TAG_LEN};
use ring::aead::{Aad, Nonce};
use std::ops::Range;

/// Why a record was not opened. All but `Exhausted` and `Crypto` are the peer's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// It does not authenticate: altered, out of order, or under another key.
    BadMac,
    /// More than 16,384 bytes of plaintext, or a length field over what the protocol allows.
    Overflow,
    /// A content type that may not come here, or no content type at all.
    Unexpected,
    /// 2^64 − 1 records under one key.
    Exhausted,
    /// The cryptographic library refused the key.
    Crypto,
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::BadMac => "bad record mac",
            Self::Overflow => "record too long",
            Self::Unexpected => "unexpected type of record",
            Self::Exhausted => "sequence numbers used up",
            Self::Crypto => "decryption key refused",
        })
    }
}

impl std::error::Error for OpenError {}

/// Opens records in place, in order.
pub struct Opener {
    keys: Keys,
    sequence: u64,
    expanded: Option<Box<Expanded>>,
}

impl Opener {
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

    /// As [`Sealer::update`](super::Sealer::update).
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

    /// Judges a header before its record is complete, so that nobody waits for, or stores, what will be refused.
    pub fn check(&self, header: Header) -> Result<(), OpenError> {
        let suite = self.suite();
        let allowed = if suite.is_tls13() {
            header.content_type == ContentType::ApplicationData as u8
        } else {
            ContentType::from_wire(header.content_type).is_some()
        };
        if !allowed {
            return Err(OpenError::Unexpected);
        }
        if header.length > max_length(suite) {
            return Err(OpenError::Overflow);
        }
        Ok(())
    }

    /// Opens one whole record, header included, and says what it carries and where in `record` that now stands.
    ///
    /// The bytes of a record that fails are worth nothing: they may be overwritten.
    pub fn open(&mut self, record: &mut [u8]) -> Result<(ContentType, Range<usize>), OpenError> {
        let header = Header::read(record).ok_or(OpenError::BadMac)?;
        self.check(header)?;
        if record.len() != header.record_len() {
            return Err(OpenError::BadMac);
        }
        if self.sequence == u64::MAX {
            return Err(OpenError::Exhausted);
        }
        if self.expanded.is_none() {
            self.expanded = Some(Box::new(self.keys.expand().ok_or(OpenError::Crypto)?));
        }
        let Some(expanded) = &self.expanded else {
            return Err(OpenError::Crypto);
        };
        let opened = if self.keys.suite().is_tls13() {
            open_tls13(expanded, self.sequence, record)
        } else {
            open_tls12(expanded, self.keys.suite(), self.sequence, header, record)
        }?;
        self.sequence += 1;
        Ok(opened)
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

/// Largest length field of a record that can be right.
fn max_length(suite: Suite) -> usize {
    if suite.is_tls13() {
        MAX_PLAINTEXT + 256 // RFC 8446 §5.2
    } else {
        let layout = suite.layout();
        usize::from(layout.prefix) - HEADER_LEN + MAX_PLAINTEXT + usize::from(layout.suffix)
    }
}

/// RFC 8446 §5.2: the additional data is the header as it came; the type is the last byte that is not zero.
fn open_tls13(
    expanded: &Expanded,
    sequence: u64,
    record: &mut [u8],
) -> Result<(ContentType, Range<usize>), OpenError> {
    let (head, body) = record
        .split_at_mut_checked(HEADER_LEN)
        .ok_or(OpenError::BadMac)?;
    let aad: [u8; HEADER_LEN] = (&*head).try_into().map_err(|_| OpenError::BadMac)?;
    let nonce = Nonce::assume_unique_for_key(expanded.nonce(sequence));
    let inner = expanded
        .key
        .open_in_place(nonce, Aad::from(aad), body)
        .map_err(|_| OpenError::BadMac)?;
    // Padding beyond a full record of plaintext is as much too long as plaintext is (§5.4).
    if inner.len() > MAX_PLAINTEXT + 1 {
        return Err(OpenError::Overflow);
    }
    let end = inner
        .iter()
        .rposition(|&byte| byte != 0)
        .ok_or(OpenError::Unexpected)?;
    let content_type = ContentType::from_wire(inner[end]).ok_or(OpenError::Unexpected)?;
    if content_type == ContentType::ChangeCipherSpec {
        return Err(OpenError::Unexpected);
    }
    Ok((content_type, HEADER_LEN..HEADER_LEN + end))
}

fn open_tls12(
    expanded: &Expanded,
    suite: Suite,
    sequence: u64,
    header: Header,
    record: &mut [u8],
) -> Result<(ContentType, Range<usize>), OpenError> {
    let layout = suite.layout();
    let (prefix, suffix) = (usize::from(layout.prefix), usize::from(layout.suffix));
    let plain = record
        .len()
        .checked_sub(prefix + suffix)
        .ok_or(OpenError::BadMac)?;
    let content_type = ContentType::from_wire(header.content_type).ok_or(OpenError::Unexpected)?;
    let (head, body) = record.split_at_mut(prefix);
    let mut nonce = expanded.nonce(sequence);
    if suite.has_explicit_nonce() {
        // The peer chooses these eight bytes (RFC 5288 §3); that they repeat would hurt only the peer.
        nonce[4..].copy_from_slice(&head[HEADER_LEN..]);
    }
    let aad = tls12_aad(sequence, header.content_type, [head[1], head[2]], plain);
    debug_assert_eq!(body.len(), plain + TAG_LEN);
    expanded
        .key
        .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), body)
        .map_err(|_| OpenError::BadMac)?;
    Ok((content_type, prefix..prefix + plain))
}
