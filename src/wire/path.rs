//! One spelling for every path: what routes are matched against is what is forwarded.
//!
//! A path is brought to the form of RFC 3986 §6.2.2, so that no two spellings of one resource meet different routes, and
//! is refused where servers are known to differ about what it names. Nothing is decided about letter case or about what
//! exists. The query is not touched.
//!
//! Normalised:
//! - escapes of unreserved characters, and of `! $ ' ( ) * : @` (which mean nothing within a segment), are decoded;
//!   all others stay, in upper case. `& + , ; =` stay as they came, raw or escaped: some servers see parameters in them,
//!   and an escaped one is then another character. A route should not hold them (see [`is_route_path`]);
//! - visible ASCII that RFC 3986 does not allow raw (`" < > [ ] ^ { | }` and the grave accent) is escaped;
//! - `//` becomes `/`, since most servers and all file systems see it so;
//! - `.` and `..` are resolved; a last one leaves a `/` at the end.
//!
//! Refused:
//! - what is no path: not beginning with `/`, control characters, space, bytes over 0x7f, `\`, `#`, bad escapes;
//! - `/` and `\` as escapes, control characters as escapes;
//! - an escape that decodes to an escape (`%252e`, `%2525`, also `%25%32%65`): a server that decodes twice would see
//!   another path;
//! - overlong UTF-8 (`%C0%AF`), and the full-width forms of `.`, `/`, `\` and `%`, which some servers fold to ASCII;
//! - `..` above the root; `..` beside an empty segment (does it remove the empty one?);
//! - dot segments with blanks (`..%20`), which Windows trims off a name;
//! - `;` in a path with dot segments, and segments that are nothing, `.` or `..` before their `;`: servers that cut
//!   parameters off see dot segments there.

/// A path that can be read in one way only, and its query as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Normalised<'a> {
    /// Begins with `/`.
    pub path: &'a [u8],
    /// Without the `?`; `Some(b"")` when the target ends in `?`. Visible ASCII, no `#`.
    pub query: Option<&'a [u8]>,
}

/// Why a path is refused (400), for the error's detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathRefusal {
    pub why: &'static str,
}

/// Normalises an origin-form target (`/path?query`). A path that is normal already is borrowed from `target`, and
/// without a `%`, `//` or `/.` in it not even copied; else it is built in `scratch`, which is cleared first and grows to
/// three times the target at most.
pub fn normalise<'a>(
    target: &'a [u8],
    scratch: &'a mut Vec<u8>,
) -> Result<Normalised<'a>, PathRefusal> {
    let cut = memchr::memchr(b'?', target).unwrap_or(target.len());
    let (path, rest) = target.split_at_checked(cut).unwrap_or((target, b""));
    let query = rest.split_first().map(|(_, query)| query);
    if path.first() != Some(&b'/') {
        return refuse("path does not begin with /");
    }
    if !query
        .unwrap_or_default()
        .iter()
        .all(|b| matches!(b, b'!'..=b'~') && *b != b'#')
    {
        return refuse("query has a character that must be escaped");
    }
    if is_plain(path) {
        return Ok(Normalised { path, query });
    }
    scratch.clear();
    rebuild(path, scratch)?;
    let path = if scratch == path { path } else { scratch };
    Ok(Normalised { path, query })
}

/// True for a path that may stand in a route: normal, and without the characters that have two spellings
/// (`& + , ; = %`), so that no request for what it covers can miss it. For configuration; it allocates.
pub fn is_route_path(path: &[u8]) -> bool {
    let two_spellings = |b: &u8| matches!(b, b'&' | b'+' | b',' | b';' | b'=' | b'%');
    normalise(path, &mut Vec::new()).is_ok_and(|normal| normal.path == path)
        && !path.iter().any(two_spellings)
}

/// Only characters that stand for themselves, no empty segment, no segment that begins with a dot or has parameters.
/// Conservative: what is not plain may still be normal.
fn is_plain(path: &[u8]) -> bool {
    let mut after_slash = false;
    path.iter().all(|b| {
        let plain = match CLASS[usize::from(*b)] {
            Class::Plain => *b != b'.' || !after_slash,
            Class::Slash => !after_slash,
            _ => false,
        };
        after_slash = *b == b'/';
        plain
    })
}

fn rebuild(path: &[u8], out: &mut Vec<u8>) -> Result<(), PathRefusal> {
    let (mut parents, mut dots, mut empties, mut parameters) = (false, false, false, false);
    let mut segments = path
        .get(1..)
        .unwrap_or_default()
        .split(|b| *b == b'/')
        .peekable();
    while let Some(raw) = segments.next() {
        let last = segments.peek().is_none();
        let mark = out.len();
        out.push(b'/');
        decode_segment(raw, out)?;
        let segment = out.get(mark + 1..).unwrap_or_default();
        check_segment(segment)?;
        let name = without_parameters(segment);
        if is_dots_and_blanks(name) {
            return refuse("a dot segment with blanks");
        }
        if name.len() < segment.len() {
            parameters = true;
            if matches!(name, b"" | b"." | b"..") {
                return refuse("parameters on an empty or dot segment");
            }
        }
        match segment {
            b"" if last => {}
            b"" => {
                empties = true;
                out.truncate(mark);
            }
            b"." => {
                dots = true;
                out.truncate(mark);
            }
            b".." => {
                (dots, parents) = (true, true);
                out.truncate(mark);
                let Some(parent) = memchr::memrchr(b'/', out) else {
                    return refuse("path leaves the root");
                };
                out.truncate(parent);
            }
            _ => continue,
        }
        if last && out.last() != Some(&b'/') {
            out.push(b'/');
        }
    }
    if parents && empties {
        return refuse("both .. and an empty segment");
    }
    if dots && parameters {
        return refuse("both dot segments and parameters");
    }
    Ok(())
}

/// Appends the segment with its escapes in normal form.
fn decode_segment(raw: &[u8], out: &mut Vec<u8>) -> Result<(), PathRefusal> {
    let mut bytes = raw.iter();
    while let Some(&b) = bytes.next() {
        match CLASS[usize::from(b)] {
            Class::Plain | Class::Parameter => out.push(b),
            Class::Escaped => push_escape(b, out),
            Class::Percent => {
                let (Some(high), Some(low)) = (hex(bytes.next()), hex(bytes.next())) else {
                    return refuse("malformed percent-escape");
                };
                let decoded = high << 4 | low;
                match (CLASS[usize::from(decoded)], decoded) {
                    (Class::Plain, b'&' | b'+' | b',' | b'=') => push_escape(decoded, out),
                    (Class::Plain, _) => out.push(decoded),
                    (Class::Slash, _) | (_, b'\\') => return refuse("escaped slash or backslash"),
                    (Class::Never, 0..=0x1f | 0x7f) => return refuse("escaped control character"),
                    _ => push_escape(decoded, out),
                }
            }
            Class::Slash | Class::Never => {
                return refuse("path has a character that must be escaped");
            }
        }
    }
    Ok(())
}

/// What a second or lenient decoder would read in another way. Works on the normal form, so that it cannot be hidden
/// behind escapes of its own letters.
fn check_segment(segment: &[u8]) -> Result<(), PathRefusal> {
    let mut rest = segment;
    while let Some(at) = memchr::memchr(b'%', rest) {
        rest = rest.get(at..).unwrap_or_default();
        if let [b'%', b'2', b'5', a, b, ..] = rest
            && a.is_ascii_hexdigit()
            && b.is_ascii_hexdigit()
        {
            return refuse("escape of an escape");
        }
        if is_disguised(rest) {
            return refuse("overlong or full-width spelling of a path character");
        }
        rest = rest.get(3..).unwrap_or_default();
    }
    Ok(())
}

/// Escaped UTF-8 that some decoders turn into ASCII: leads that only overlong forms have (C0, C1), overlong forms of
/// three and more bytes, and U+FF05, U+FF0E, U+FF0F, U+FF3C.
fn is_disguised(escapes: &[u8]) -> bool {
    let mut bytes = [0; 3];
    let mut count = 0;
    for (slot, escape) in bytes.iter_mut().zip(escapes.chunks(3)) {
        let [b'%', high, low] = escape else { break };
        let (Some(high), Some(low)) = (hex(Some(high)), hex(Some(low))) else {
            break;
        };
        *slot = high << 4 | low;
        count += 1;
    }
    match bytes.get(..count).unwrap_or_default() {
        [0xc0 | 0xc1, ..]
        | [0xe0, 0x80..=0x9f, ..]
        | [0xf0, 0x80..=0x8f, ..]
        | [0xf8, 0x80..=0x87, ..]
        | [0xfc, 0x80..=0x83, ..] => true,
        [0xef, 0xbc, third] => matches!(third, 0x85 | 0x8e | 0x8f | 0xbc),
        _ => false,
    }
}

/// The part before the first `;`, raw or escaped.
fn without_parameters(segment: &[u8]) -> &[u8] {
    let raw = memchr::memchr(b';', segment).unwrap_or(segment.len());
    let escaped = memchr::memmem::find(segment, b"%3B").unwrap_or(segment.len());
    segment.get(..raw.min(escaped)).unwrap_or(segment)
}

/// Dots and at least one escaped blank, nothing else.
fn is_dots_and_blanks(mut name: &[u8]) -> bool {
    let (mut dots, mut blanks) = (false, false);
    loop {
        name = match name {
            [] => return dots && blanks,
            [b'.', rest @ ..] => {
                dots = true;
                rest
            }
            [b'%', b'2', b'0', rest @ ..] => {
                blanks = true;
                rest
            }
            _ => return false,
        };
    }
}

fn push_escape(b: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[
        b'%',
        DIGITS[usize::from(b >> 4)],
        DIGITS[usize::from(b & 15)],
    ]);
}

fn hex(b: Option<&u8>) -> Option<u8> {
    char::from(*b?)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

fn refuse<T>(why: &'static str) -> Result<T, PathRefusal> {
    Err(PathRefusal { why })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// pchar without `;` and `%`.
    Plain,
    Slash,
    Parameter,
    Percent,
    /// Visible, but not allowed raw.
    Escaped,
    Never,
}

static CLASS: [Class; 256] = {
    let mut table = [Class::Never; 256];
    let mut b = 0x21;
    while b < 0x7f {
        table[b] = match b as u8 {
            b'/' => Class::Slash,
            b';' => Class::Parameter,
            b'%' => Class::Percent,
            b'\\' | b'#' | b'?' => Class::Never,
            b'"' | b'<' | b'>' | b'[' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' => Class::Escaped,
            _ => Class::Plain,
        };
        b += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(target: &str) -> Result<(String, Option<String>), &'static str> {
        let mut scratch = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        normalise(target.as_bytes(), &mut scratch)
            .map(|n| (text(n.path), n.query.map(text)))
            .map_err(|refusal| refusal.why)
    }

    fn path(target: &str) -> String {
        let (path, query) = run(target).unwrap_or_else(|why| panic!("{target}: {why}"));
        assert_eq!(query, None);
        path
    }

    #[test]
    fn normal_forms() {
        for (target, expected) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("//", "/"),
            ("///", "/"),
            ("//a", "/a"),
            ("/a//b///c", "/a/b/c"),
            ("/a//", "/a/"),
            ("/%61%7A%41%5A%30%39%2D%5f%7e", "/azAZ09-_~"),
            ("/%24%21%27%28%29%2a%3a%40", "/$!'()*:@"),
            ("/%2b%2c%3d%26", "/%2B%2C%3D%26"),
            ("/+,=&", "/+,=&"),
            ("/%c3%a9%20x", "/%C3%A9%20x"),
            ("/%3f%23%5b", "/%3F%23%5B"),
            ("/{a}|\"<>[]^`", "/%7Ba%7D%7C%22%3C%3E%5B%5D%5E%60"),
            ("/.", "/"),
            ("/./", "/"),
            ("/./a", "/a"),
            ("/a/.", "/a/"),
            ("/a/./b", "/a/b"),
            ("/a/..", "/"),
            ("/a/../", "/"),
            ("/a/b/..", "/a/"),
            ("/a/b/../c", "/a/c"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a/%2e/b", "/a/b"),
            ("/a//./b", "/a/b"),
            ("/a/...", "/a/..."),
            ("/.a/..b/c../d.", "/.a/..b/c../d."),
            ("/%2ea", "/.a"),
            ("/SMS_MP/.sms_aut", "/SMS_MP/.sms_aut"),
            ("/SMS_DP_SMSPKG%24/x", "/SMS_DP_SMSPKG$/x"),
            ("/a;v=1/b;jsessionid=2", "/a;v=1/b;jsessionid=2"),
            ("/a%3b/b", "/a%3B/b"),
            ("/50%25", "/50%25"),
            ("/50%25off", "/50%25off"),
            ("/%E0%A4%85", "/%E0%A4%85"),
            ("/%EF%BC%A1", "/%EF%BC%A1"),
            ("/%E9", "/%E9"),
        ] {
            assert_eq!(path(target), expected, "{target}");
        }
    }

    #[test]
    fn refused() {
        for target in [
            "",
            "a",
            "*",
            "http://a/",
            "?a",
            "\\a",
            "/..",
            "/../",
            "/a/../..",
            "/a/../../b",
            "/%2e%2e/a",
            "/./..",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a%5Cb",
            "/..%2fb",
            "/a\\b",
            "/..\\b",
            "/a%00",
            "/%0d%0a",
            "/%1f",
            "/%7F",
            "/a\0",
            "/a b",
            "/a\tb",
            "/a\x7f",
            "/é",
            "/%",
            "/%2",
            "/%zz",
            "/%u002e",
            "/%%32%65",
            "/% 2",
            "/%+2",
            "/a%2/b",
            "/%252e%252e/a",
            "/%252f",
            "/%255c",
            "/%2500",
            "/%252561",
            "/%2541",
            "/%25%32%65",
            "/%25%32e",
            "/%2525",
            "/a/..%20/b",
            "/a/.%20",
            "/a/%2e.%20%20/b",
            "/a/%20../b",
            "/a/..%20;x/b",
            "/%c0%ae%c0%ae/",
            "/%c0%af",
            "/%C1%9c",
            "/%c0",
            "/%e0%80%af",
            "/%f0%80%80%af",
            "/%f8%80%80%80%af",
            "/%fc%80%80%80%80%af",
            "/%ef%bc%8f",
            "/%ef%bc%8e",
            "/%ef%bc%bc",
            "/%EF%BC%85",
            "/a/..;/b",
            "/a/..;x=1/b",
            "/a/.;/b",
            "/..%3b/b",
            "/;/a",
            "/a/;x/b",
            "/a;/../b",
            "/a;x/./b",
            "/%2e%2e;/b",
            "/a//../b",
            "/a/..//b",
            "/a#b",
            "/a?b#c",
            "/a?b c",
            "/a?é",
        ] {
            assert!(run(target).is_err(), "{target:?} gave {:?}", run(target));
        }
    }

    #[test]
    fn query_is_not_touched() {
        let query = |target| run(target).unwrap();
        assert_eq!(query("/a?"), ("/a".to_owned(), Some(String::new())));
        assert_eq!(
            query("/a?/../%2e?x"),
            ("/a".to_owned(), Some("/../%2e?x".to_owned()))
        );
        assert_eq!(
            query("/a//b?{B}\\%zz"),
            ("/a/b".to_owned(), Some("{B}\\%zz".to_owned()))
        );
    }

    #[test]
    fn normal_paths_are_not_copied() {
        for target in [
            &b"/"[..],
            b"/a/b?c=%2e",
            b"/ccm_system/request",
            b"/a.b/c..d",
            b"/a$/@b+c",
        ] {
            let mut scratch = Vec::new();
            let normal = normalise(target, &mut scratch).unwrap();
            assert_eq!(normal.path.as_ptr(), target.as_ptr());
            assert_eq!(scratch.capacity(), 0, "{target:?}");
        }
        // normal, though only a look at each segment shows it
        for target in [&b"/.well-known/a%20b"[..], b"/a;b"] {
            let mut scratch = b"left over".to_vec();
            assert_eq!(
                normalise(target, &mut scratch).unwrap().path.as_ptr(),
                target.as_ptr()
            );
        }
    }

    #[test]
    fn route_paths() {
        assert!(
            ["/", "/mp/", "/SMS_DP_SMSPKG$/", "/.well-known/a.b"]
                .iter()
                .all(|p| is_route_path(p.as_bytes()))
        );
        assert!(
            ["", "a", "/a/../b", "/a//", "/a;b", "/a,b", "/%41", "/{a}"]
                .iter()
                .all(|p| !is_route_path(p.as_bytes()))
        );
    }

    /// Decodes as a lenient server does: every escape, twice if need be.
    fn decode_all(path: &str) -> Vec<u8> {
        let bytes = path.as_bytes();
        let (mut out, mut at) = (Vec::new(), 0);
        while let Some(&b) = bytes.get(at) {
            let escape = bytes
                .get(at + 1..at + 3)
                .filter(|_| b == b'%')
                .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
            out.push(escape.unwrap_or(b));
            at += if escape.is_some() { 3 } else { 1 };
        }
        out
    }

    /// Pieces that meet in attacks.
    fn hostile() -> impl Strategy<Value = String> {
        let pieces = prop::sample::select(vec![
            "/",
            "/",
            ".",
            "..",
            "%2e",
            "%2E",
            "%2f",
            "%5c",
            "\\",
            ";",
            "%3b",
            "%25",
            "%",
            "2e",
            "25",
            "32",
            "65",
            "a",
            "B",
            "%61",
            "%c0",
            "%ae",
            "%ef%bc%8f",
            "%e0%80%af",
            "%00",
            "$",
            "%24",
            "+",
            "%2B",
            "?",
            "{",
            "%7b",
        ]);
        prop::collection::vec(pieces, 0..14).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn normal_form_is_stable_and_harmless(target in hostile()) {
            if let Ok((path, _)) = run(&target) {
                prop_assert_eq!(&run(&path).unwrap().0, &path, "normalising twice");
                prop_assert!(path.starts_with('/'));
                prop_assert!(!path.contains("//") && !path.contains('\\'));
                // whatever a server decodes, it finds the same segments and no dot segment
                let decoded = decode_all(&path);
                let slashes = |bytes: &[u8]| bytes.iter().filter(|b| **b == b'/').count();
                prop_assert_eq!(slashes(&decoded), slashes(path.as_bytes()));
                prop_assert!(!decoded.split(|b| *b == b'/' || *b == b'\\').any(|s| s == b"." || s == b".."));
                prop_assert!(!decoded.iter().any(|b| *b < b' ' || *b == b'\\'));
            }
        }

        #[test]
        fn any_bytes_do_not_panic(target in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut scratch = Vec::new();
            if let Ok(normal) = normalise(&target, &mut scratch) {
                prop_assert!(normal.path.iter().all(|b| matches!(b, b'!'..=b'~')));
            }
        }
    }
}
