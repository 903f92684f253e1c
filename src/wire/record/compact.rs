//! Both directions of an idle connection, without anything that can be computed again for less than it costs to
//! keep.

use super::keys::{Expanded, MAX_BYTES, MAX_KEY_IV};
use super::sealer::{remaining, seal_record};
use super::{ContentType, Keys, Layout, Opener, Outgoing, SealError, Sealer, Suite};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroize;

/// Two directions of one connection in 157 bytes, on any byte boundary, with no heap. Zeroised on drop, no `Debug`.
///
/// Of both directions the secret (TLS 1.3) or key and iv (TLS 1.2) is here. Of the sending one key and iv are here too:
/// 44 bytes for the SHA-384 suite, for which every keep-alive and every payload costs 0.25 µs instead of 1.7 (AES-128:
/// instead of 0.7). Records of the peer are rare, and their key is derived when one comes. Secrets are stored inline
/// whatever the hash: the clients' first choice is mostly AES-256 with SHA-384, and a box for it would cost more than
/// the 32 bytes that SHA-256 leaves unused.
pub struct Compact {
    suite: Suite,
    /// TLS 1.3 only; zero in TLS 1.2.
    sealing_secret: [u8; MAX_BYTES],
    sealing_key_iv: [u8; MAX_KEY_IV],
    opening: [u8; MAX_BYTES],
    /// Sequence numbers of the next records, as bytes so that nothing is aligned.
    sealed: [u8; 8],
    opened: [u8; 8],
}

impl Compact {
    /// `None` unless both directions are of one suite and of the form that servers have: secrets in TLS 1.3, key and iv in
    /// TLS 1.2.
    pub fn new(sealer: &Sealer, opener: &Opener) -> Option<Self> {
        let suite = sealer.suite();
        let is_secret = suite.is_tls13();
        if opener.suite() != suite
            || sealer.keys().is_secret() != is_secret
            || opener.keys().is_secret() != is_secret
        {
            return None;
        }
        let mut new = Self {
            suite,
            sealing_secret: [0; MAX_BYTES],
            sealing_key_iv: [0; MAX_KEY_IV],
            opening: [0; MAX_BYTES],
            sealed: [0; 8],
            opened: [0; 8],
        };
        new.set_opener(opener);
        new.set_sealer(sealer).then_some(new)
    }

    pub fn suite(&self) -> Suite {
        self.suite
    }

    pub fn layout(&self) -> Layout {
        self.suite.layout()
    }

    /// As [`Sealer::remaining`].
    pub fn remaining(&self) -> u64 {
        remaining(self.suite, u64::from_le_bytes(self.sealed))
    }

    /// The sending direction as it stands, without an expanded key.
    pub fn sealer(&self) -> Sealer {
        let keys = if self.suite.is_tls13() {
            Keys::from_stored(self.suite, &self.sealing_secret)
        } else {
            let mut stored = [0; MAX_BYTES];
            let known = self.sealing_key_iv.iter();
            stored
                .iter_mut()
                .zip(known)
                .for_each(|(to, from)| *to = *from);
            let keys = Keys::from_stored(self.suite, &stored);
            stored.zeroize();
            keys
        };
        Sealer::new(keys, u64::from_le_bytes(self.sealed))
    }

    /// The receiving direction as it stands, without an expanded key.
    pub fn opener(&self) -> Opener {
        let keys = Keys::from_stored(self.suite, &self.opening);
        Opener::new(keys, u64::from_le_bytes(self.opened))
    }

    /// Takes back what [`sealer`](Self::sealer) gave. False, and nothing is changed, if the library refuses the secret.
    #[must_use]
    pub fn set_sealer(&mut self, sealer: &Sealer) -> bool {
        let keys = sealer.keys();
        let is_known = self.suite.is_tls13()
            && verify_slices_are_equal(&self.sealing_secret, keys.stored()).is_ok();
        if !is_known {
            if !keys.write_key_iv(&mut self.sealing_key_iv) {
                return false;
            }
            if self.suite.is_tls13() {
                self.sealing_secret = *keys.stored();
            }
        }
        self.sealed = sealer.sequence().to_le_bytes();
        true
    }

    /// Takes back what [`opener`](Self::opener) gave.
    pub fn set_opener(&mut self, opener: &Opener) {
        self.opening = *opener.keys().stored();
        self.opened = opener.sequence().to_le_bytes();
    }

    /// Seals data where it stands, as [`Outgoing::seal`] does. The key is expanded on the stack for this call: no heap.
    pub fn seal(&mut self, out: Outgoing) -> Result<Vec<u8>, SealError> {
        let suite = self.suite;
        let expanded =
            Expanded::from_key_iv(suite, &self.sealing_key_iv).ok_or(SealError::Crypto)?;
        let sealed = &mut self.sealed;
        out.seal_by(suite.layout(), |record| {
            let sequence = u64::from_le_bytes(*sealed);
            let content_type = ContentType::ApplicationData;
            seal_record(&expanded, suite, sequence, content_type, record)?;
            *sealed = (sequence + 1).to_le_bytes();
            Ok(())
        })
    }
}

impl Drop for Compact {
    fn drop(&mut self) {
        self.sealing_secret.zeroize();
        self.sealing_key_iv.zeroize();
        self.opening.zeroize();
    }
}
