//! What a client reads of a push: its id, whether it is a repeat, and the time that a load run put in.
//!
//! The envelope is `{"push":"<id>","payload":…}` or `{"push":"<id>","repeat":true,"payload":…}`. A load run looks at
//! hundreds of thousands of them a second, so they are found by their fixed beginnings and not parsed.

use crate::wire::relay::PushId;
use memchr::memmem;

const BEGIN: &[u8] = b"{\"push\":\"";
const ID_LEN: usize = 26;
const REPEAT: &[u8] = b"\",\"repeat\":true,";
/// Where `load push` writes nanoseconds since its start, as the payload's first member.
const TIME: &[u8] = b"\"payload\":{\"t\":";

/// One push, as it was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub id: &'a str,
    pub repeat: bool,
    /// Nanoseconds since the run's start; `None` when the payload is not a load run's.
    pub sent_ns: Option<u64>,
}

/// The envelopes in a piece of text, in order.
pub fn envelopes(text: &[u8]) -> impl Iterator<Item = Envelope<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let at = memmem::find(rest, BEGIN)?;
            let (envelope, behind) = read(rest.get(at + BEGIN.len()..)?);
            rest = behind;
            if envelope.is_some() {
                return envelope;
            }
        }
    })
}

/// Reads what follows `BEGIN`; gives also what is behind it.
fn read(text: &[u8]) -> (Option<Envelope<'_>>, &[u8]) {
    let Some((id, rest)) = text.split_at_checked(ID_LEN) else {
        return (None, &[]);
    };
    let id = std::str::from_utf8(id).ok();
    let Some(id) = id.filter(|id| id.parse::<PushId>().is_ok()) else {
        return (None, rest);
    };
    // No payload has an envelope's beginning in it: its quotes would be escaped.
    let own = memmem::find(rest, BEGIN).map_or(rest, |next| rest.get(..next).unwrap_or(rest));
    let time = memmem::find(own, TIME).and_then(|at| number(own.get(at + TIME.len()..)?));
    let envelope = Envelope {
        id,
        repeat: rest.starts_with(REPEAT),
        sent_ns: time,
    };
    (Some(envelope), rest)
}

fn number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(text.get(..digits)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes_are_found_in_order() {
        let [a, b] = [1, 2].map(|n| PushId::new([7; 6], 1_000, n).to_string());
        let text = format!(
            "{{\"pushes\":[{{\"push\":\"{a}\",\"payload\":{{\"t\":123,\"x\":\"y\"}}}},\
             {{\"push\":\"{b}\",\"repeat\":true,\"payload\":7}}]}}"
        );
        let found: Vec<_> = envelopes(text.as_bytes()).collect();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].id, found[0].repeat), (a.as_str(), false));
        assert_eq!(found[0].sent_ns, Some(123));
        assert_eq!((found[1].id, found[1].repeat), (b.as_str(), true));
        assert_eq!(found[1].sent_ns, None);
    }

    #[test]
    fn what_is_no_envelope_is_passed_over() {
        for text in [
            "",
            "{\"push\":\"",
            "{\"push\":\"short\"}",
            "{\"push\":\"not-an-id-of-twenty-six-ch\"}",
        ] {
            assert_eq!(envelopes(text.as_bytes()).count(), 0, "{text}");
        }
    }
}
