//! Session tickets that survive a restart and are good on every instance that has the same keys.
//!
//! ```text
//! ticket = | key id 8 | salt 32 | AES-256-GCM( issued 8 | rustls's session state ) | tag 16 |
//! ```
//!
//! Each ticket has a key of its own, HKDF-SHA256(ticket key, salt): with one key for all, random nonces of 96 bits would
//! have to stop at 2^32 tickets, which a busy service with keys from a file reaches in days. Key id, salt and layout are
//! authenticated. The time of issue is inside because a key from a file lives longer than a ticket should.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::{digest, hkdf};
use rustls::server::ProducesTickets;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

/// Keys that one `TicketKeys` may hold; each ticket is matched by key id, so more would only cost memory.
pub const MAX_KEYS: usize = 16;
/// Longest lifetime that TLS 1.3 allows (RFC 8446 §4.6.1): seven days.
pub const MAX_LIFETIME_S: u32 = 7 * 24 * 3600;

const KEY_LEN: usize = 32;
const ID_LEN: usize = 8;
const SALT_LEN: usize = 32;
const HEAD_LEN: usize = ID_LEN + SALT_LEN;
const ISSUED_LEN: usize = 8;
const TAG_LEN: usize = 16;
/// Longest ticket that a client can send back (its length field has 16 bits).
const MAX_TICKET: usize = 65_535;

/// Why a list of keys was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TicketKeysError {
    /// No key, or more than [`MAX_KEYS`].
    Count,
    /// Zero, or more than [`MAX_LIFETIME_S`].
    Lifetime,
    /// The system gave no random bytes.
    Random,
}

impl std::fmt::Display for TicketKeysError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count => write!(f, "ticket keys: 1 to {MAX_KEYS} are allowed"),
            Self::Lifetime => write!(f, "ticket lifetime: 1 to {MAX_LIFETIME_S} s are allowed"),
            Self::Random => f.write_str("ticket keys: the system gave no random bytes"),
        }
    }
}

impl std::error::Error for TicketKeysError {}

/// Encrypts tickets with the first key and decrypts them with any. Keys are zeroised on drop and never printed.
pub struct TicketKeys {
    keys: Vec<TicketKey>,
    lifetime_s: u32,
    time: Arc<dyn TimeProvider>,
    random: SystemRandom,
}

struct TicketKey {
    id: [u8; ID_LEN],
    key: [u8; KEY_LEN],
}

impl TicketKeys {
    /// From keys of 32 bytes each, e.g. of a file that all instances share: the first encrypts, all decrypt.
    pub fn new(keys: &[[u8; 32]], lifetime_s: u32) -> Result<Self, TicketKeysError> {
        Self::with_time(keys, lifetime_s, Arc::new(DefaultTimeProvider))
    }

    /// One random key: tickets are good until this process ends.
    pub fn random(lifetime_s: u32) -> Result<Self, TicketKeysError> {
        Self::new(&[*fresh_key()?], lifetime_s)
    }

    /// As [`new`](Self::new), with another clock.
    pub fn with_time(
        keys: &[[u8; 32]],
        lifetime_s: u32,
        time: Arc<dyn TimeProvider>,
    ) -> Result<Self, TicketKeysError> {
        if keys.is_empty() || keys.len() > MAX_KEYS {
            return Err(TicketKeysError::Count);
        }
        if lifetime_s == 0 || lifetime_s > MAX_LIFETIME_S {
            return Err(TicketKeysError::Lifetime);
        }
        let keys = keys.iter().map(TicketKey::new).collect();
        Ok(Self {
            keys,
            lifetime_s,
            time,
            random: SystemRandom::new(),
        })
    }

    /// A successor with a fresh random key in front; the oldest goes when there would be more than `keep`. Erasing keys
    /// is what gives resumed sessions forward secrecy, so a control plane with random keys calls this now and then.
    pub fn rotated(&self, keep: usize) -> Result<Self, TicketKeysError> {
        let fresh = fresh_key()?;
        let mut keys = Zeroizing::new(vec![*fresh]);
        keys.extend(self.keys.iter().map(|key| key.key));
        keys.truncate(keep.clamp(1, MAX_KEYS));
        Self::with_time(&keys, self.lifetime_s, self.time.clone())
    }

    fn now_s(&self) -> Option<u64> {
        self.time.current_time().map(|now| now.as_secs())
    }
}

fn fresh_key() -> Result<Zeroizing<[u8; KEY_LEN]>, TicketKeysError> {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    SystemRandom::new()
        .fill(key.as_mut())
        .map_err(|_| TicketKeysError::Random)?;
    Ok(key)
}

impl TicketKey {
    fn new(key: &[u8; KEY_LEN]) -> Self {
        // The id says which key without saying anything about it.
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"tidegate ticket key id");
        context.update(key);
        let mut id = [0; ID_LEN];
        for (to, from) in id.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        Self { id, key: *key }
    }

    /// The key of the one ticket with that salt. Its nonce may be constant, for it seals once.
    fn ticket_key(&self, salt: &[u8]) -> Option<LessSafeKey> {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&self.key);
        let info: [&[u8]; 1] = [b"tidegate ticket"];
        let okm = prk.expand(&info, &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(okm)))
    }
}

impl Drop for TicketKey {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl ProducesTickets for TicketKeys {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.lifetime_s
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let key = self.keys.first()?;
        if plain.len() > MAX_TICKET - HEAD_LEN - ISSUED_LEN - TAG_LEN {
            return None;
        }
        let mut head = [0; HEAD_LEN];
        head[..ID_LEN].copy_from_slice(&key.id);
        self.random.fill(&mut head[ID_LEN..]).ok()?;
        let sealing = key.ticket_key(&head[ID_LEN..])?;

        let mut ticket = Vec::with_capacity(HEAD_LEN + ISSUED_LEN + plain.len() + TAG_LEN);
        ticket.extend_from_slice(&head);
        ticket.extend_from_slice(&self.now_s()?.to_be_bytes());
        ticket.extend_from_slice(plain);
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let tag = sealing
            .seal_in_place_separate_tag(nonce, Aad::from(head), ticket.get_mut(HEAD_LEN..)?)
            .ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    /// `None` for anything but a ticket of one of these keys that has not outlived itself; the client then does a full
    /// handshake. A ticket from an instance whose clock is ahead counts as new.
    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (head, sealed) = ticket.split_first_chunk::<HEAD_LEN>()?;
        let key = self.keys.iter().find(|key| head.starts_with(&key.id))?;
        let opening = key.ticket_key(head.get(ID_LEN..)?)?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let plain = opening
            .open_in_place(nonce, Aad::from(*head), &mut sealed)
            .ok()?;
        let (issued, state) = plain.split_first_chunk::<ISSUED_LEN>()?;
        let age_s = self.now_s()?.saturating_sub(u64::from_be_bytes(*issued));
        (age_s <= u64::from(self.lifetime_s)).then(|| state.to_vec())
    }
}

impl std::fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TicketKeys")
            .field("keys", &self.keys.len())
            .field("lifetime_s", &self.lifetime_s)
            .finish_non_exhaustive()
    }
}
