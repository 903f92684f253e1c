//! The name of a push, which names the connector that holds it too.

use aws_lc_rs::digest;
use std::fmt;
use std::str::FromStr;

/// 16 bytes: 6 that name the connector, 6 of time (ms), 4 random. Ids of one connector sort by time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PushId(pub [u8; 16]);

/// Crockford's base 32, lower case.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 128 bits in fives.
pub const PUSH_ID_TEXT: usize = 26;

impl PushId {
    /// The first 6 bytes, by which a gateway finds the connector that a receipt belongs to.
    pub fn connector(&self) -> [u8; 6] {
        let [a, b, c, d, e, f, ..] = self.0;
        [a, b, c, d, e, f]
    }

    /// [`connector`](Self::connector) of every push of this connector.
    pub fn prefix(site: &str, connector: &str) -> [u8; 6] {
        // A zero byte cannot stand in a name, so no two pairs read the same.
        let text = [site.as_bytes(), &[0], connector.as_bytes()].concat();
        let hash = digest::digest(&digest::SHA256, &text);
        let mut prefix = [0; 6];
        prefix.copy_from_slice(&hash.as_ref()[..6]);
        prefix
    }

    pub fn new(prefix: [u8; 6], unix_ms: u64, random: u32) -> PushId {
        let mut id = [0; 16];
        id[..6].copy_from_slice(&prefix);
        id[6..12].copy_from_slice(&unix_ms.to_be_bytes()[2..]);
        id[12..].copy_from_slice(&random.to_be_bytes());
        PushId(id)
    }
}

impl fmt::Display for PushId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from_be_bytes(self.0);
        let mut text = [0; PUSH_ID_TEXT];
        for (at, character) in text.iter_mut().enumerate() {
            // 26 × 5 = 130: the first character carries 3 bits.
            let shift = 5 * (PUSH_ID_TEXT - 1 - at);
            *character = ALPHABET[(bits >> shift) as usize & 31];
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for PushId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PushId {
    type Err = ();

    /// Only the one text that [`fmt::Display`] gives: no upper case, none of Crockford's aliases.
    fn from_str(text: &str) -> Result<PushId, ()> {
        if text.len() != PUSH_ID_TEXT || text.as_bytes()[0] > b'7' {
            return Err(());
        }
        let mut bits = 0u128;
        for byte in text.bytes() {
            let digit = ALPHABET.iter().position(|c| *c == byte).ok_or(())?;
            bits = bits << 5 | digit as u128;
        }
        Ok(PushId(bits.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_of_one_connector_begin_alike_and_sort_by_time() {
        let prefix = PushId::prefix("main", "cp-1");
        assert_ne!(prefix, PushId::prefix("mainc", "p-1"));
        let (early, late) = (PushId::new(prefix, 1_000, 9), PushId::new(prefix, 1_001, 0));
        assert!(early < late && early.to_string() < late.to_string());
        assert_eq!(early.0[..6], late.0[..6]);
    }

    proptest! {
        #[test]
        fn text_and_bytes_are_the_same(bytes: [u8; 16]) {
            let text = PushId(bytes).to_string();
            prop_assert_eq!(text.len(), PUSH_ID_TEXT);
            prop_assert_eq!(text.parse(), Ok(PushId(bytes)));
        }

        #[test]
        fn no_other_text_is_an_id(text in "[0-9a-zA-Z]{0,28}") {
            if let Ok(id) = text.parse::<PushId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn a_129th_bit_is_refused() {
        assert!("8zzzzzzzzzzzzzzzzzzzzzzzzz".parse::<PushId>().is_err());
        assert!("7zzzzzzzzzzzzzzzzzzzzzzzzz".parse::<PushId>().is_ok());
    }
}
