//! Fields as they came, which of them a proxy forwards, and the characters that they may hold.

use crate::wire::Field;
use memchr::memchr;

/// Header or trailer fields of one message: checked, and still in the form they came in. Three words, `Copy`, walked
/// line by line without allocation, so that neither a connection nor a request carries an array of them. The `send_*`
/// functions take it as it is, or anything else that iterates over [`Field`]s.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fields<'a> {
    /// Lines, each with its CRLF, that a head parser accepted.
    bytes: &'a [u8],
    /// A Connection field names options other than the usual ones.
    named_options: bool,
    /// What does not belong into trailers is passed over.
    trailers: bool,
}

impl<'a> Fields<'a> {
    pub(super) fn headers(bytes: &'a [u8], named_options: bool) -> Self {
        Self {
            bytes,
            named_options,
            trailers: false,
        }
    }
    pub(super) fn trailers(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            named_options: false,
            trailers: true,
        }
    }

    /// Value of the first field of that name, case ignored.
    pub fn get(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.get_all(name).next()
    }
    /// Values of all fields of that name, in order.
    pub fn get_all(&self, name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
        self.iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value)
    }
    pub fn iter(&self) -> FieldsIter<'a> {
        FieldsIter {
            rest: self.bytes,
            trailers: self.trailers,
        }
    }
    /// Those that a proxy forwards: all but the hop-by-hop ones.
    pub fn end_to_end(self) -> impl Iterator<Item = Field<'a>> {
        self.iter()
            .filter(move |field| !is_hop_by_hop(field.name, self))
    }
    /// No field at all was sent.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl<'a> IntoIterator for Fields<'a> {
    type Item = Field<'a>;
    type IntoIter = FieldsIter<'a>;
    fn into_iter(self) -> FieldsIter<'a> {
        self.iter()
    }
}

/// Fields in the order sent.
#[derive(Clone, Debug)]
pub struct FieldsIter<'a> {
    rest: &'a [u8],
    trailers: bool,
}

impl<'a> Iterator for FieldsIter<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        loop {
            let (name, after) = self.rest.split_at_checked(memchr(b':', self.rest)?)?;
            let (line, rest) = after.split_at_checked(memchr(b'\n', after)?)?;
            self.rest = rest.get(1..)?;
            let value = trim(line.get(1..)?);
            if self.trailers && is_forbidden_trailer(name) {
                continue;
            }
            return Some(Field { name, value });
        }
    }
}

/// True for the fields that a proxy does not forward (RFC 9110 §7.6.1): Connection, Keep-Alive, Proxy-Connection, TE,
/// Transfer-Encoding, Upgrade, and what the Connection fields of the same message (`fields`) name. `Trailer` is
/// forwarded. Connection cannot name away what is meant for every recipient (Host, Authorization, Content-*, …).
pub fn is_hop_by_hop(name: &[u8], fields: Fields<'_>) -> bool {
    let always = match name.len() {
        2 => name.eq_ignore_ascii_case(b"te"),
        7 => name.eq_ignore_ascii_case(b"upgrade"),
        10 => name.eq_ignore_ascii_case(b"connection") || name.eq_ignore_ascii_case(b"keep-alive"),
        16 => name.eq_ignore_ascii_case(b"proxy-connection"),
        17 => name.eq_ignore_ascii_case(b"transfer-encoding"),
        _ => false,
    };
    always
        || (fields.named_options
            && fields
                .get_all(b"connection")
                .any(|value| has_element(value, name))
            && !is_for_every_recipient(name))
}

/// Elements of a comma-separated list (RFC 9110 §5.6.1), trimmed; empty ones are given too.
pub(super) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(trim)
}

pub(super) fn has_element(value: &[u8], wanted: &[u8]) -> bool {
    elements(value).any(|element| element.eq_ignore_ascii_case(wanted))
}

/// Without the spaces and tabs around it.
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\r', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t' | b'\r'] = bytes {
        bytes = rest;
    }
    bytes
}

/// RFC 9110 §5.6.2.
pub(super) const fn is_tchar(b: u8) -> bool {
    TCHAR[b as usize]
}

static TCHAR: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 256 {
        table[b] = (b as u8).is_ascii_alphanumeric()
            || matches!(
                b as u8,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        b += 1;
    }
    table
};

pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| is_tchar(*b))
}

/// Visible characters, spaces, tabs, and bytes over 0x7f (RFC 9110 §5.5); no other control character.
pub(super) fn is_field_value(bytes: &[u8]) -> bool {
    // no early return: this form is vectorised
    !bytes.iter().fold(false, |bad, b| {
        bad | ((*b < b' ') & (*b != b'\t')) | (*b == 0x7f)
    })
}

/// Fields whose removal would change the message for its final recipient or hide who sent it.
fn is_for_every_recipient(name: &[u8]) -> bool {
    const EXACT: [&[u8]; 8] = [
        b"host",
        b"authorization",
        b"cookie",
        b"set-cookie",
        b"cache-control",
        b"range",
        b"expect",
        b"trailer",
    ];
    EXACT.iter().any(|one| name.eq_ignore_ascii_case(one))
        || starts_with(name, b"content-")
        || starts_with(name, b"tidegate-")
}

/// Trailer fields that would change framing, routing, authentication or the meaning of a message already acted upon
/// (RFC 9110 §6.5.1). `_` counts as `-`, since some servers fold the two.
pub(super) fn is_forbidden_trailer(name: &[u8]) -> bool {
    const EXACT: [&[u8]; 31] = [
        b"transfer-encoding",
        b"host",
        b"te",
        b"trailer",
        b"connection",
        b"keep-alive",
        b"upgrade",
        b"expect",
        b"max-forwards",
        b"pragma",
        b"range",
        b"authorization",
        b"www-authenticate",
        b"cookie",
        b"set-cookie",
        b"age",
        b"cache-control",
        b"expires",
        b"date",
        b"location",
        b"retry-after",
        b"vary",
        b"warning",
        b"forwarded",
        b"via",
        b"allow",
        b"origin",
        b"referer",
        b"accept-ranges",
        b"authentication-info",
        b"last-event-id",
    ];
    const PREFIXES: [&[u8]; 7] = [
        b"content-",
        b"tidegate-",
        b"proxy-",
        b"if-",
        b"x-forwarded-",
        b"access-control-",
        b"sec-",
    ];
    EXACT
        .iter()
        .any(|one| one.len() == name.len() && starts_with(name, one))
        || PREFIXES.iter().any(|prefix| starts_with(name, prefix))
}

/// Case ignored, `_` equal to `-`; `prefix` is in lower case with `-`.
pub(super) fn starts_with(name: &[u8], prefix: &[u8]) -> bool {
    name.len() >= prefix.len()
        && name
            .iter()
            .zip(prefix)
            .all(|(b, p)| b.to_ascii_lowercase() == *p || (*b == b'_' && *p == b'-'))
}
