//! Session tickets that survive restarts and are shared by instances (`[tls] ticket_keys = FILE`).
//!
//! The file: one key a line, 32 bytes as 64 hex digits or as base64; empty lines and lines that begin with `#` are
//! passed over. The first key makes tickets, all of them open tickets. To rotate, put a new key on top of the file of
//! every instance, reload, and take old ones off the end a ticket lifetime later:
//! `{ openssl rand -hex 32; cat tickets.keys; } | head -3`.
//!
//! A ticket is `key name (16) | salt (32) | sealed | tag (16)`. Its AES-256-GCM key comes from the file's key and the
//! random salt through HKDF-SHA256 (RFC 5869), so each AEAD key seals one ticket and the nonce can be zero: no number
//! of tickets on any number of instances wears a key out. The first 8 sealed bytes are the time of making; an old
//! ticket is refused even while its key is still in the file.

use super::expiry::unix_now;
use super::pem::{Wrong, read_bounded};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::server::ProducesTickets;
use std::path::Path;
use zeroize::Zeroizing;

/// How long a ticket is good for, in seconds.
pub const LIFETIME_SECONDS: u32 = 12 * 3600;
/// Keys in a file: each unknown ticket is compared with every key's name.
pub const MAX_KEYS: usize = 16;
/// A ticket holds the client's chain; TLS bounds it by 65,535.
const MAX_TICKET: usize = 65_535;
/// A clock of another instance may be ahead by this much.
const CLOCK_SLACK_SECONDS: i64 = 300;

const NAME: usize = 16;
const SALT: usize = 32;

/// Seals with the first key, opens with any.
pub struct SharedTicketer {
    keys: Vec<TicketKey>,
}

struct TicketKey {
    name: [u8; NAME],
    prk: Prk,
}

impl std::fmt::Debug for SharedTicketer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SharedTicketer({} keys)", self.keys.len())
    }
}

impl SharedTicketer {
    pub fn load(file: &Path) -> Result<Self, Wrong> {
        const HINT: &str = "one key a line, newest first: `openssl rand -hex 32`";
        let bytes =
            Zeroizing::new(read_bounded(file, 64 << 10).map_err(|text| Wrong::new(text, HINT))?);
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| Wrong::new(format!("{} is not text", file.display()), HINT))?;
        Self::parse(text).map_err(|why| Wrong::new(format!("{}: {why}", file.display()), HINT))
    }

    /// `text` as in the file.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keys: Vec<TicketKey> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key =
                Zeroizing::new(key_bytes(line).ok_or_else(|| {
                    format!("line {} is not 32 bytes in hex or base64", number + 1)
                })?);
            let key = TicketKey::new(&key)?;
            if keys.iter().any(|known| known.name == key.name) {
                return Err(format!("line {} repeats a key", number + 1));
            }
            keys.push(key);
            if keys.len() > MAX_KEYS {
                return Err(format!("more than {MAX_KEYS} keys"));
            }
        }
        if keys.is_empty() {
            return Err("holds no key".into());
        }
        Ok(Self { keys })
    }

    fn seal(&self, plain: &[u8], now: i64) -> Option<Vec<u8>> {
        let key = self.keys.first()?;
        let mut salt = [0; SALT];
        aws_lc_rs::rand::fill(&mut salt).ok()?;
        let mut body = Vec::with_capacity(8 + plain.len() + 16);
        body.extend_from_slice(&now.to_be_bytes());
        body.extend_from_slice(plain);
        key.aead(&salt)?
            .seal_in_place_append_tag(zero_nonce(), Aad::from(key.name), &mut body)
            .ok()?;
        let ticket = [key.name.as_slice(), &salt, &body].concat();
        (ticket.len() <= MAX_TICKET).then_some(ticket)
    }

    fn open(&self, ticket: &[u8], now: i64) -> Option<Vec<u8>> {
        if ticket.len() > MAX_TICKET {
            return None;
        }
        let (name, rest) = ticket.split_at_checked(NAME)?;
        let (salt, sealed) = rest.split_at_checked(SALT)?;
        let key = self.keys.iter().find(|key| key.name == name)?;
        let mut body = Zeroizing::new(sealed.to_vec());
        let plain = key
            .aead(salt)?
            .open_in_place(zero_nonce(), Aad::from(key.name), &mut body)
            .ok()?;
        let (made, session) = plain.split_first_chunk::<8>()?;
        let age = now.checked_sub(i64::from_be_bytes(*made))?;
        (-CLOCK_SLACK_SECONDS..=i64::from(LIFETIME_SECONDS))
            .contains(&age)
            .then(|| session.to_vec())
    }
}

impl TicketKey {
    fn new(bytes: &[u8; 32]) -> Result<Self, String> {
        let prk = Salt::new(HKDF_SHA256, b"tidegate tickets").extract(bytes);
        let mut name = [0; NAME];
        let filled = prk
            .expand(&[b"name"], Length(NAME))
            .and_then(|okm| okm.fill(&mut name));
        filled.map_err(|_| "the key cannot be expanded".to_string())?;
        Ok(Self { name, prk })
    }

    fn aead(&self, salt: &[u8]) -> Option<LessSafeKey> {
        let info = [b"seal".as_slice(), salt];
        let key = UnboundKey::from(self.prk.expand(&info, &AES_256_GCM).ok()?);
        Some(LessSafeKey::new(key))
    }
}

struct Length(usize);
impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn key_bytes(line: &str) -> Option<[u8; 32]> {
    let bytes = if line.len() == 64 {
        from_hex(line)?
    } else {
        BASE64_STANDARD.decode(line).ok()?
    };
    bytes.try_into().ok()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text
        .chars()
        .map(|c| c.to_digit(16))
        .collect::<Option<Vec<_>>>()?;
    Some(
        digits
            .chunks_exact(2)
            .map(|pair| (pair[0] << 4 | pair[1]) as u8)
            .collect(),
    )
}

impl ProducesTickets for SharedTicketer {
    fn enabled(&self) -> bool {
        true
    }
    fn lifetime(&self) -> u32 {
        LIFETIME_SECONDS
    }
    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, unix_now())
    }
    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, unix_now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const B: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

    fn ticketer(lines: &[&str]) -> SharedTicketer {
        SharedTicketer::parse(&lines.join("\n")).unwrap()
    }

    #[test]
    fn tickets_pass_between_instances_and_over_rotation() {
        let old = ticketer(&[A]);
        let rotated = ticketer(&["# newest first", B, "", A]);
        let ticket = old.seal(b"session", 1000).unwrap();
        assert_eq!(
            rotated.open(&ticket, 1010).as_deref(),
            Some(&b"session"[..])
        );
        let newer = rotated.seal(b"session", 1000).unwrap();
        assert_eq!(
            old.open(&newer, 1010),
            None,
            "the new key is not in the old file"
        );
        assert_eq!(
            ticketer(&[B]).open(&ticket, 1010),
            None,
            "a removed key opens nothing"
        );
    }

    #[test]
    fn hex_and_base64_of_one_key_are_the_same_key() {
        let zero = ticketer(&["0".repeat(64).as_str()]);
        let ticket = zero.seal(b"x", 0).unwrap();
        assert!(ticketer(&[B]).open(&ticket, 0).is_some());
    }

    #[test]
    fn old_tickets_are_refused_while_their_key_lives() {
        let t = ticketer(&[A]);
        let ticket = t.seal(b"x", 1_000_000).unwrap();
        let life = i64::from(LIFETIME_SECONDS);
        assert!(t.open(&ticket, 1_000_000 + life).is_some());
        assert!(t.open(&ticket, 1_000_000 + life + 1).is_none());
        assert!(
            t.open(&ticket, 1_000_000 - CLOCK_SLACK_SECONDS - 1)
                .is_none(),
            "from the future"
        );
    }

    #[test]
    fn two_tickets_of_one_session_differ() {
        let t = ticketer(&[A]);
        assert_ne!(t.seal(b"x", 0), t.seal(b"x", 0));
    }

    #[test]
    fn wrong_files_are_named_by_line() {
        let wrong = |text: &str| SharedTicketer::parse(text).unwrap_err();
        assert!(wrong("").contains("no key"));
        assert!(wrong("# a\nzz").contains("line 2"));
        assert!(wrong(&A[..62]).contains("line 1"));
        assert!(wrong(&format!("{A}\n{A}")).contains("line 2 repeats"));
        let many: Vec<_> = (0..20).map(|i| format!("{i:064x}")).collect();
        assert!(wrong(&many.join("\n")).contains("more than"));
    }

    proptest! {
        #[test]
        fn a_changed_ticket_never_opens(plain in proptest::collection::vec(any::<u8>(), 0..200), at in any::<usize>(), bit in 0..8u8) {
            let t = ticketer(&[A]);
            let mut ticket = t.seal(&plain, 5).unwrap();
            prop_assert_eq!(t.open(&ticket, 5), Some(plain));
            let at = at % ticket.len();
            ticket[at] ^= 1 << bit;
            prop_assert_eq!(t.open(&ticket, 5), None);
        }

        #[test]
        fn junk_never_opens_nor_panics(junk in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(ticketer(&[A]).open(&junk, 5), None);
        }
    }
}
