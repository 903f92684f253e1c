//! What one direction of a connection must remember to seal or open its records: 48 bytes at most.

use super::schedule::expand_label;
use super::{NONCE_LEN, Suite};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use ring::aead::{LessSafeKey, UnboundKey};
use zeroize::Zeroize;

/// Longest of a SHA-384 traffic secret (48) and key + iv (32 + 12).
pub(super) const MAX_BYTES: usize = 48;
/// Longest key and iv.
pub(super) const MAX_KEY_IV: usize = 32 + NONCE_LEN;

/// The keys of one direction, compact. Zeroised on drop; has no `Debug` and is never printed.
///
/// Two forms. A *traffic secret* (TLS 1.3) gives key, iv and the next generation by HKDF. *Key and iv* is all that
/// TLS 1.2 has, and what rustls hands out for a TLS 1.3 connection whose secret it keeps to itself.
#[derive(Clone)]
pub struct Keys {
    suite: Suite,
    is_secret: bool,
    bytes: [u8; MAX_BYTES],
}

impl Keys {
    /// From a traffic secret of TLS 1.3. `None` if its length is not that of the suite's hash or the suite is of 1.2.
    pub fn from_secret(suite: Suite, secret: &[u8]) -> Option<Self> {
        let (_, hash_len) = suite.hash()?;
        if secret.len() != hash_len {
            return None;
        }
        let mut bytes = [0; MAX_BYTES];
        bytes.get_mut(..hash_len)?.copy_from_slice(secret);
        Some(Self {
            suite,
            is_secret: true,
            bytes,
        })
    }

    /// From an AEAD key and the twelve bytes that sequence numbers are xored into. `None` if a length is wrong.
    pub fn from_key_iv(suite: Suite, key: &[u8], iv: &[u8]) -> Option<Self> {
        let key_len = suite.key_len();
        if key.len() != key_len || iv.len() != NONCE_LEN {
            return None;
        }
        let mut bytes = [0; MAX_BYTES];
        bytes.get_mut(..key_len)?.copy_from_slice(key);
        bytes
            .get_mut(key_len..key_len + NONCE_LEN)?
            .copy_from_slice(iv);
        Some(Self {
            suite,
            is_secret: false,
            bytes,
        })
    }

    pub fn suite(&self) -> Suite {
        self.suite
    }

    pub(super) fn is_secret(&self) -> bool {
        self.is_secret
    }

    /// The secret, or key and iv, as they are stored; what is behind them is zero.
    pub(super) fn stored(&self) -> &[u8; MAX_BYTES] {
        &self.bytes
    }

    /// What `stored` gave, in the form that every suite of a server has: secrets in TLS 1.3, key and iv in TLS 1.2.
    pub(super) fn from_stored(suite: Suite, stored: &[u8; MAX_BYTES]) -> Self {
        Self {
            suite,
            is_secret: suite.is_tls13(),
            bytes: *stored,
        }
    }

    /// Writes key and iv, one behind the other, to `to`. False if there is no room or the library refuses.
    #[must_use]
    pub(super) fn write_key_iv(&self, to: &mut [u8; MAX_KEY_IV]) -> bool {
        self.derive().is_some_and(|derived| {
            to.iter_mut()
                .zip(derived.key().iter().chain(&derived.iv))
                .for_each(|(to, from)| *to = *from);
            true
        })
    }

    /// The next generation after a KeyUpdate (RFC 8446 §7.2); `None` for the key and iv form.
    pub fn next(&self) -> Option<Self> {
        let (hash, hash_len) = self.suite.hash().filter(|_| self.is_secret)?;
        let mut next = Self {
            suite: self.suite,
            is_secret: true,
            bytes: [0; MAX_BYTES],
        };
        let (secret, out) = (self.bytes.get(..hash_len)?, next.bytes.get_mut(..hash_len)?);
        expand_label(hash, secret, "traffic upd", out).then_some(next)
    }

    /// True if these keys are that key and iv. Takes the same time wherever they differ.
    pub fn matches(&self, key: &[u8], iv: &[u8]) -> bool {
        self.derive().is_some_and(|own| {
            let key_same = verify_slices_are_equal(own.key(), key).is_ok();
            let iv_same = verify_slices_are_equal(&own.iv, iv).is_ok();
            key_same & iv_same
        })
    }

    /// The AEAD's own form of the key, about 600 bytes, and the iv. Costs 0.1 µs from key and iv, 0.6 µs
    /// from a SHA-256 secret, 1.6 µs from a SHA-384 one.
    pub(super) fn expand(&self) -> Option<Expanded> {
        let derived = self.derive()?;
        let key = UnboundKey::new(self.suite.aead(), derived.key()).ok()?;
        Some(Expanded {
            key: LessSafeKey::new(key),
            iv: derived.iv,
        })
    }

    /// RFC 8446 §7.3.
    fn derive(&self) -> Option<Derived> {
        let key_len = self.suite.key_len();
        let mut out = Derived {
            key: [0; 32],
            key_len,
            iv: [0; NONCE_LEN],
        };
        let key = out.key.get_mut(..key_len)?;
        if self.is_secret {
            let (hash, hash_len) = self.suite.hash()?;
            let secret = self.bytes.get(..hash_len)?;
            (expand_label(hash, secret, "key", key)
                && expand_label(hash, secret, "iv", &mut out.iv))
            .then_some(out)
        } else {
            key.copy_from_slice(self.bytes.get(..key_len)?);
            out.iv
                .copy_from_slice(self.bytes.get(key_len..key_len + NONCE_LEN)?);
            Some(out)
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

struct Derived {
    key: [u8; 32],
    key_len: usize,
    iv: [u8; NONCE_LEN],
}

impl Derived {
    fn key(&self) -> &[u8] {
        self.key.get(..self.key_len).unwrap_or_default()
    }
}

impl Drop for Derived {
    fn drop(&mut self) {
        self.key.zeroize();
        self.iv.zeroize();
    }
}

/// A key ready for use.
///
/// The AEAD is ring's: on processors with VAES it seals 16 KiB in a fifth of aws-lc's time (2.4 against 11.8 µs), and short
/// records in half. ring does not wipe its keys, so that another one is written over this when it is dropped.
pub(super) struct Expanded {
    pub key: LessSafeKey,
    pub iv: [u8; NONCE_LEN],
}

impl Expanded {
    /// From key and iv, one behind the other.
    pub fn from_key_iv(suite: Suite, key_iv: &[u8; MAX_KEY_IV]) -> Option<Self> {
        let (key, rest) = key_iv.split_at_checked(suite.key_len())?;
        Some(Self {
            key: LessSafeKey::new(UnboundKey::new(suite.aead(), key).ok()?),
            iv: *rest.first_chunk()?,
        })
    }

    /// The iv xored with the sequence number (RFC 8446 §5.3, RFC 7905 §2).
    ///
    /// We use it for AES-GCM of TLS 1.2 as well, as rustls did for the first records of the same key: a nonce is then
    /// unique over the handshake's records and ours.
    pub fn nonce(&self, sequence: u64) -> [u8; NONCE_LEN] {
        let mut nonce = self.iv;
        for (byte, s) in nonce.iter_mut().skip(4).zip(sequence.to_be_bytes()) {
            *byte ^= s;
        }
        nonce
    }
}

impl Drop for Expanded {
    fn drop(&mut self) {
        self.iv.zeroize();
        let algorithm = self.key.algorithm();
        let zeros = [0; MAX_KEY_IV];
        if let Some(Ok(nothing)) = zeros
            .get(..algorithm.key_len())
            .map(|zeros| UnboundKey::new(algorithm, zeros))
        {
            self.key = LessSafeKey::new(nothing);
            // Or the compiler would see that nobody reads it again.
            std::hint::black_box(&self.key);
        }
    }
}

/// The additional data of TLS 1.2 (RFC 5246 §6.2.3.3). `version` as it stands in the header.
pub(super) fn tls12_aad(
    sequence: u64,
    content_type: u8,
    version: [u8; 2],
    length: usize,
) -> [u8; 13] {
    let [a, b, c, d, e, f, g, h] = sequence.to_be_bytes();
    let [high, low] = (length as u16).to_be_bytes();
    [
        a,
        b,
        c,
        d,
        e,
        f,
        g,
        h,
        content_type,
        version[0],
        version[1],
        high,
        low,
    ]
}
