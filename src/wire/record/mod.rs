//! The record plane: seals and opens TLS records in place in our own buffers, for TLS 1.3 (RFC 8446 §5) and the AEAD
//! suites of TLS 1.2 (RFC 5246 §6.2.3.3, RFC 5288, RFC 7905).
//!
//! ```text
//! TLS 1.3             | header 5 | plaintext | type 1 | tag 16 |                 nonce = iv xor seq
//! TLS 1.2, AES-GCM    | header 5 | nonce 8 | plaintext | tag 16 |                nonce = iv[..4], those 8
//! TLS 1.2, ChaCha20   | header 5 | plaintext | tag 16 |                          nonce = iv xor seq
//! ```
//!
//! [`Sealer`] and [`Opener`] each hold one direction: the compact [`Keys`], a sequence number, and the expanded key only
//! while records flow ([`Sealer::park`]). [`Outgoing`] lays plaintext out with the gaps above, so that sealing copies
//! nothing. [`Compact`] holds both directions of a connection that is idle in 157 bytes.
//!
//! What holds here: a nonce is never used twice with one key (sequence numbers only grow, overflow is refused, the
//! number of records under one key is bounded); a record that does not authenticate gives no plaintext; secrets are
//! zeroised on drop and have no `Debug`. Nothing here knows of handshakes, alerts or sockets: see [`crate::wire::tls`].

mod compact;
mod keys;
mod opener;
mod outgoing;
mod schedule;
mod sealer;
mod suite;

pub use compact::Compact;
pub use keys::Keys;
pub use opener::{OpenError, Opener};
pub use outgoing::{Layout, Outgoing};
pub use sealer::{SealError, Sealer};
pub use suite::Suite;

#[cfg(test)]
mod tests;

/// Bytes of a record's header: type, version, length (RFC 8446 §5.1).
pub const HEADER_LEN: usize = 5;
/// Most plaintext bytes in one record (RFC 8446 §5.1, RFC 5246 §6.2.1).
pub const MAX_PLAINTEXT: usize = 16_384;
/// Longest record that any peer may send us after the handshake, header included: TLS 1.3 allows 256 bytes around the
/// plaintext (RFC 8446 §5.2), the AEAD suites of TLS 1.2 use 24 at most.
pub const MAX_RECORD: usize = HEADER_LEN + MAX_PLAINTEXT + 256;

const TAG_LEN: usize = 16;
const NONCE_LEN: usize = 12;

/// What a record carries (RFC 8446 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ContentType {
    ChangeCipherSpec = 20,
    Alert = 21,
    Handshake = 22,
    ApplicationData = 23,
}

impl ContentType {
    /// The type with that number, if it is one of the four that TCP uses.
    pub fn from_wire(byte: u8) -> Option<Self> {
        match byte {
            20 => Some(Self::ChangeCipherSpec),
            21 => Some(Self::Alert),
            22 => Some(Self::Handshake),
            23 => Some(Self::ApplicationData),
            _ => None,
        }
    }
}

/// The header of a record, as it came; nothing in it is authenticated yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Type byte on the wire; always 23 for a protected record of TLS 1.3.
    pub content_type: u8,
    /// Length of what follows the header.
    pub length: usize,
}

impl Header {
    /// Reads a header from the front of `bytes`; `None` while fewer than five are there.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        match *bytes {
            [content_type, _, _, high, low, ..] => Some(Self {
                content_type,
                length: usize::from(u16::from_be_bytes([high, low])),
            }),
            _ => None,
        }
    }

    /// Length of the whole record.
    pub fn record_len(&self) -> usize {
        HEADER_LEN + self.length
    }
}
