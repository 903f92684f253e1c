//! Which cipher, which hash, which layout: everything that follows from the negotiated cipher suite.

use super::outgoing::Layout;
use super::{HEADER_LEN, TAG_LEN};
use aws_lc_rs::hkdf;
use ring::aead;

/// A cipher suite as far as records are concerned: protocol version, AEAD, and the hash of TLS 1.3's key schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Suite {
    Tls13Aes128Gcm,
    Tls13Aes256Gcm,
    Tls13ChaCha20Poly1305,
    Tls12Aes128Gcm,
    Tls12Aes256Gcm,
    Tls12ChaCha20Poly1305,
}

impl Suite {
    /// From the number in the IANA registry; `None` for suites that we do not carry (CBC, CCM, static RSA).
    pub fn from_iana(id: u16) -> Option<Self> {
        match id {
            0x1301 => Some(Self::Tls13Aes128Gcm),
            0x1302 => Some(Self::Tls13Aes256Gcm),
            0x1303 => Some(Self::Tls13ChaCha20Poly1305),
            0xc02b | 0xc02f => Some(Self::Tls12Aes128Gcm),
            0xc02c | 0xc030 => Some(Self::Tls12Aes256Gcm),
            0xcca8 | 0xcca9 => Some(Self::Tls12ChaCha20Poly1305),
            _ => None,
        }
    }

    pub fn is_tls13(self) -> bool {
        matches!(
            self,
            Self::Tls13Aes128Gcm | Self::Tls13Aes256Gcm | Self::Tls13ChaCha20Poly1305
        )
    }

    /// True where a record carries eight bytes of its nonce (RFC 5288 §3).
    pub(super) fn has_explicit_nonce(self) -> bool {
        matches!(self, Self::Tls12Aes128Gcm | Self::Tls12Aes256Gcm)
    }

    /// Room around the plaintext of a record.
    pub fn layout(self) -> Layout {
        let explicit = if self.has_explicit_nonce() { 8 } else { 0 };
        let inner_type = usize::from(self.is_tls13());
        Layout {
            prefix: (HEADER_LEN + explicit) as u8,
            suffix: (TAG_LEN + inner_type) as u8,
        }
    }

    pub(super) fn aead(self) -> &'static aead::Algorithm {
        match self {
            Self::Tls13Aes128Gcm | Self::Tls12Aes128Gcm => &aead::AES_128_GCM,
            Self::Tls13Aes256Gcm | Self::Tls12Aes256Gcm => &aead::AES_256_GCM,
            Self::Tls13ChaCha20Poly1305 | Self::Tls12ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }

    /// Bytes of the AEAD key: 16 or 32.
    pub fn key_len(self) -> usize {
        self.aead().key_len()
    }

    /// The hash of the key schedule and its output length; `None` for TLS 1.2, whose keys never change.
    pub(super) fn hash(self) -> Option<(hkdf::Algorithm, usize)> {
        match self {
            Self::Tls13Aes256Gcm => Some((hkdf::HKDF_SHA384, 48)),
            Self::Tls13Aes128Gcm | Self::Tls13ChaCha20Poly1305 => Some((hkdf::HKDF_SHA256, 32)),
            _ => None,
        }
    }

    /// Records that may be sealed under one key.
    ///
    /// AES-GCM: 2^24 full records keep an attacker's advantage under 2^-60, a little stricter than the 2^24.5 of RFC
    /// 8446 §5.5. ChaCha20-Poly1305 has no limit below the sequence number's, of which the last value stays unused.
    pub fn record_limit(self) -> u64 {
        match self {
            Self::Tls13ChaCha20Poly1305 | Self::Tls12ChaCha20Poly1305 => u64::MAX - 1,
            _ => 1 << 24,
        }
    }
}
