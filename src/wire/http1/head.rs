//! Reads a complete head: httparse tokenises it in place, and what it lets pass although it can be read in two ways is
//! refused here or was refused by the scan.
//!
//! What httparse 1.10 lets pass, and who stops it:
//! - lines that end with a bare LF, any number of empty lines before the message (also before a response): `scan`;
//! - request targets with bytes over 0x7f, `#`, and any form for any method: [`check_request_line`];
//! - status codes from 000: [`check_status_line`];
//! - a reason phrase with bytes over 0x7f becomes empty: harmless, it has no meaning;
//! - bytes over 0x7f in values: allowed by RFC 9110 §5.5, passed on as they are;
//! - it knows nothing of what fields mean: [`Meaning`].
//!
//! What it refuses by itself and we rely on (pinned by the table in `tests`): bare CR, control characters, space before
//! the colon or at the start of a line (line folding), empty names, more than one space in the request line.

use super::fields::{Fields, elements, is_tchar, is_token, starts_with};
use super::{Framing, Refusal, RequestHead, ResponseHead};
use memchr::memchr;
use std::mem::MaybeUninit;

/// Fields that a head may have at most, whatever the configured limit.
pub const FIELDS_MAX: usize = 128;
/// No registered method has more than 17 characters.
const METHOD_MAX: usize = 32;
/// `HTTP/1.1` and CRLF, and the two spaces before.
const AFTER_TARGET: usize = 12;

/// What the server's core keeps of a request head beside what it gives away.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestNotes {
    pub(super) keep_alive: bool,
    pub(super) is_head: bool,
}

/// What the client's core must know of its request to read the answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    pub(super) head: bool,
    pub(super) connect: bool,
    pub(super) upgrade: bool,
}

/// A request line without its CRLF, as soon as it is there: exactly two single spaces, a version that we speak, and a
/// target whose form fits the method (RFC 9112 §3).
pub(super) fn check_request_line(line: &[u8]) -> Result<(), Refusal> {
    let parts = memchr(b' ', line)
        .and_then(|at| line.split_at_checked(at))
        .and_then(|(method, rest)| {
            let rest = rest.get(1..)?;
            let (target, version) = rest.split_at_checked(memchr(b' ', rest)?)?;
            Some((method, target, version.get(1..)?))
        });
    let Some((method, target, version)) = parts else {
        return Err(bad("request line is not method, target and version"));
    };
    if !is_token(method) {
        return Err(bad("method is not a token"));
    }
    check_version(version)?;
    if method.len() > METHOD_MAX {
        return Err(Refusal {
            status: 501,
            why: "method too long",
        });
    }
    if method == b"CONNECT" {
        return Err(Refusal {
            status: 501,
            why: "CONNECT is not offered",
        });
    }
    if target.is_empty()
        || !target
            .iter()
            .all(|b| matches!(b, b'!'..=b'~') && *b != b'#')
    {
        return Err(bad("target has a character that must be escaped"));
    }
    if target.first() == Some(&b'/')
        || (target == b"*" && method == b"OPTIONS")
        || split_absolute(target).is_some()
    {
        return Ok(());
    }
    Err(bad(
        "target is neither a path nor an absolute http or https URI",
    ))
}

/// A status line without its CRLF (RFC 9112 §4); the reason phrase, and the space before it, may be missing.
pub(super) fn check_status_line(line: &[u8]) -> Result<(), Refusal> {
    let Some((version, rest)) = line.split_at_checked(8) else {
        return Err(bad("status line too short"));
    };
    check_version(version)?;
    match rest {
        [b' ', b'1'..=b'9', b'0'..=b'9', b'0'..=b'9']
        | [b' ', b'1'..=b'9', b'0'..=b'9', b'0'..=b'9', b' ', ..] => Ok(()),
        _ => Err(bad("status is not three digits from 100 on")),
    }
}

fn check_version(version: &[u8]) -> Result<(), Refusal> {
    match version {
        b"HTTP/1.1" | b"HTTP/1.0" => Ok(()),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(Refusal {
            status: 505,
            why: "only HTTP/1.1 and HTTP/1.0 are spoken here",
        }),
        _ => Err(bad("malformed HTTP version")),
    }
}

/// A head whose end and first line the scan has checked.
pub(super) fn request(bytes: &[u8]) -> Result<(RequestHead<'_>, RequestNotes), Refusal> {
    let mut slots = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    let length = parsed.parse_with_uninit_headers(bytes, &mut slots);
    require_whole(length, bytes)?;
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(bad("malformed request line"));
    };
    let (method, target, http10) = (method.as_bytes(), target.as_bytes(), minor == 0);
    let meaning = Meaning::of(parsed.headers)?;
    let framing = match (meaning.coding, meaning.length) {
        (Coding::None, None) => Framing::None,
        (Coding::None, Some(length)) => Framing::Length(length),
        (_, Some(_)) => return Err(bad("both Transfer-Encoding and Content-Length")),
        (_, None) if http10 => return Err(bad("Transfer-Encoding in HTTP/1.0")),
        (Coding::Chunked, None) => Framing::Chunked,
        (Coding::Unknown, None) => {
            return Err(Refusal {
                status: 501,
                why: "transfer coding other than chunked",
            });
        }
    };
    if meaning.expect == Expect::Unknown {
        return Err(Refusal {
            status: 417,
            why: "expectation other than 100-continue",
        });
    }
    let head = RequestHead {
        method,
        target,
        host: authority(target, meaning.host, http10)?,
        http10,
        fields: Fields::headers(
            section(bytes, method.len() + target.len() + AFTER_TARGET)?,
            meaning.named_options,
        ),
        framing,
        expect_continue: meaning.expect == Expect::Continue
            && !http10
            && !matches!(framing, Framing::None | Framing::Length(0)),
        upgrade: meaning
            .upgrade
            .filter(|_| meaning.upgrade_option && !http10),
    };
    let keep_alive = !meaning.close && (!http10 || meaning.keep_alive);
    Ok((
        head,
        RequestNotes {
            keep_alive,
            is_head: method == b"HEAD",
        },
    ))
}

/// A head whose end and first line the scan has checked, and whether the connection may be used again after it.
pub(super) fn response(bytes: &[u8], asked: Asked) -> Result<(ResponseHead<'_>, bool), Refusal> {
    let mut slots = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let length = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut parsed,
        bytes,
        &mut slots,
    );
    require_whole(length, bytes)?;
    let (Some(status), Some(reason), Some(minor)) = (parsed.code, parsed.reason, parsed.version)
    else {
        return Err(bad("malformed status line"));
    };
    let http10 = minor == 0;
    let meaning = Meaning::of(parsed.headers)?;
    if meaning.length.is_some() && meaning.coding != Coding::None {
        return Err(bad("both Transfer-Encoding and Content-Length"));
    }
    if http10 && meaning.coding != Coding::None {
        return Err(bad("Transfer-Encoding in HTTP/1.0"));
    }
    if status == 101 && !asked.upgrade {
        return Err(bad("protocol switched without being asked"));
    }
    let mut keep_alive = !meaning.close && (!http10 || meaning.keep_alive);
    let framing = match status {
        101 => Framing::UntilClose,
        200..=299 if asked.connect => Framing::UntilClose,
        100..=199 | 204 => {
            // no body by definition; a sender that announces one may yet send it, as the next response
            keep_alive &=
                meaning.coding == Coding::None && matches!(meaning.length, None | Some(0));
            Framing::None
        }
        304 => Framing::None,
        _ if asked.head => Framing::None,
        _ => match (meaning.coding, meaning.length) {
            (Coding::Chunked, _) => Framing::Chunked,
            (Coding::Unknown, _) => return Err(bad("transfer coding other than chunked")),
            (Coding::None, Some(length)) => Framing::Length(length),
            (Coding::None, None) => Framing::UntilClose,
        },
    };
    keep_alive &= framing != Framing::UntilClose;
    let first_line = memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
    let head = ResponseHead {
        status,
        reason: reason.as_bytes(),
        http10,
        fields: Fields::headers(section(bytes, first_line)?, meaning.named_options),
        framing,
        interim: (100..=199).contains(&status) && status != 101,
    };
    Ok((head, keep_alive))
}

/// A trailer section whose end the scan has found.
pub(super) fn trailers(bytes: &[u8]) -> Result<Fields<'_>, Refusal> {
    if bytes == b"\r\n" {
        return Ok(Fields::default());
    }
    let mut slots = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let length = match httparse::parse_headers(bytes, &mut slots) {
        Ok(httparse::Status::Complete((length, _))) => Ok(httparse::Status::Complete(length)),
        Ok(httparse::Status::Partial) => Ok(httparse::Status::Partial),
        Err(error) => Err(error),
    };
    require_whole(length, bytes)?;
    Ok(Fields::trailers(section(bytes, 0)?))
}

fn require_whole(parsed: httparse::Result<usize>, bytes: &[u8]) -> Result<(), Refusal> {
    use httparse::Error;
    match parsed {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => Ok(()),
        // the scan saw the end; a parser that sees another one reads the bytes in a second way
        Ok(_) => Err(bad("head ends in an unclear place")),
        Err(Error::TooManyHeaders) => Err(Refusal {
            status: 431,
            why: "too many fields",
        }),
        Err(Error::HeaderName) => Err(bad("malformed field name, or a folded line")),
        Err(Error::HeaderValue) => Err(bad("control character in a field value")),
        Err(Error::NewLine) => Err(bad("bare CR")),
        Err(Error::Status | Error::Token | Error::Version) => Err(bad("malformed first line")),
    }
}

/// The field lines between the first line and the final empty one.
fn section(bytes: &[u8], from: usize) -> Result<&[u8], Refusal> {
    bytes
        .len()
        .checked_sub(2)
        .and_then(|to| bytes.get(from..to))
        .ok_or(bad("malformed head"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Coding {
    None,
    Chunked,
    Unknown,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    None,
    Continue,
    Unknown,
}

/// What the fields say about framing, connection and host.
struct Meaning<'a> {
    length: Option<u64>,
    coding: Coding,
    host: Option<&'a [u8]>,
    close: bool,
    keep_alive: bool,
    upgrade_option: bool,
    named_options: bool,
    upgrade: Option<&'a [u8]>,
    expect: Expect,
}

impl<'a> Meaning<'a> {
    fn of(headers: &[httparse::Header<'a>]) -> Result<Self, Refusal> {
        let mut meaning = Meaning {
            length: None,
            coding: Coding::None,
            host: None,
            close: false,
            keep_alive: false,
            upgrade_option: false,
            named_options: false,
            upgrade: None,
            expect: Expect::None,
        };
        for header in headers {
            meaning.field(header.name.as_bytes(), header.value)?;
        }
        Ok(meaning)
    }

    fn field(&mut self, name: &[u8], value: &'a [u8]) -> Result<(), Refusal> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                if self.host.replace(value).is_some() {
                    return Err(bad("more than one Host"));
                }
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                let known =
                    self.expect != Expect::Unknown && value.eq_ignore_ascii_case(b"100-continue");
                self.expect = if known {
                    Expect::Continue
                } else {
                    Expect::Unknown
                };
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = Some(value),
            10 if name.eq_ignore_ascii_case(b"connection") => self.connection(value),
            14 if starts_with(name, b"content-length") => {
                refuse_underscore(name)?;
                if self.length.replace(content_length(value)?).is_some() {
                    return Err(bad("more than one Content-Length"));
                }
            }
            17 if starts_with(name, b"transfer-encoding") => {
                refuse_underscore(name)?;
                if self.coding != Coding::None {
                    return Err(bad("more than one Transfer-Encoding"));
                }
                self.coding = transfer_coding(value)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) {
        for option in elements(value) {
            match option.len() {
                5 if option.eq_ignore_ascii_case(b"close") => self.close = true,
                7 if option.eq_ignore_ascii_case(b"upgrade") => self.upgrade_option = true,
                10 if option.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                _ => self.named_options = true,
            }
        }
    }
}

/// Digits only, one value only, and a number that every signed parser behind us can hold (RFC 9110 §8.6).
fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(bad("Content-Length is not one plain decimal number"));
    }
    let number = value.iter().try_fold(0u64, |sum, b| {
        sum.checked_mul(10)?.checked_add(u64::from(b - b'0'))
    });
    number
        .filter(|n| *n <= i64::MAX as u64)
        .ok_or(bad("Content-Length out of range"))
}

/// Exactly `chunked` is understood; a list that names it twice or has holes can be read in two ways.
fn transfer_coding(value: &[u8]) -> Result<Coding, Refusal> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(Coding::Chunked);
    }
    if elements(value).any(<[u8]>::is_empty) {
        return Err(bad("empty element in Transfer-Encoding"));
    }
    if elements(value)
        .filter(|coding| coding.eq_ignore_ascii_case(b"chunked"))
        .count()
        > 1
    {
        return Err(bad("chunked more than once"));
    }
    Ok(Coding::Unknown)
}

/// `Content_Length` is `Content-Length` to servers that turn fields into variables.
fn refuse_underscore(name: &[u8]) -> Result<(), Refusal> {
    if name.contains(&b'_') {
        return Err(bad("framing field spelled with an underscore"));
    }
    Ok(())
}

/// Whom the request is for (RFC 9112 §3.2): the one Host field; an absolute target must say the same.
fn authority<'a>(
    target: &'a [u8],
    host: Option<&'a [u8]>,
    http10: bool,
) -> Result<&'a [u8], Refusal> {
    if let Some(host) = host
        && !is_host(host)
    {
        return Err(bad("invalid Host"));
    }
    if host.is_none() && !http10 {
        return Err(bad("no Host"));
    }
    let Some((authority, _)) = split_absolute(target) else {
        return Ok(host.unwrap_or_default());
    };
    if !is_host(authority) {
        return Err(bad("invalid authority in the target"));
    }
    if host.is_some_and(|host| !host.eq_ignore_ascii_case(authority)) {
        return Err(bad("Host and the target's authority differ"));
    }
    Ok(authority)
}

/// Authority and path of `http://authority/path`; a query must follow a path, since a forwarded target begins with it.
pub(super) fn split_absolute(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let after = ["http://", "https://"].iter().find_map(|scheme| {
        let (start, after) = target.split_at_checked(scheme.len())?;
        start
            .eq_ignore_ascii_case(scheme.as_bytes())
            .then_some(after)
    })?;
    let (authority, path) = after.split_at_checked(memchr(b'/', after).unwrap_or(after.len()))?;
    (!authority.contains(&b'?')).then_some((authority, path))
}

/// A DNS name, IPv4 address or bracketed IPv6 address, and a port. Narrower than RFC 3986 §3.2.2: no user, no escapes,
/// no punctuation that a server behind us might take for a separator.
fn is_host(host: &[u8]) -> bool {
    let (name, port) = match host {
        [b'[', rest @ ..] => {
            let Some((address, port)) = memchr(b']', rest).and_then(|at| rest.split_at_checked(at))
            else {
                return false;
            };
            let text = std::str::from_utf8(address).unwrap_or_default();
            if text.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            (address, port.get(1..).unwrap_or_default())
        }
        _ => host
            .split_at_checked(memchr(b':', host).unwrap_or(host.len()))
            .unwrap_or((host, b"")),
    };
    let bracketed = host.first() == Some(&b'[');
    let name_ok = bracketed
        || (!name.is_empty()
            && name
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')));
    let port_ok = match port {
        [] => true,
        [b':', digits @ ..] => {
            (1..=5).contains(&digits.len())
                && digits.iter().all(u8::is_ascii_digit)
                && digits
                    .iter()
                    .fold(0u32, |sum, b| sum * 10 + u32::from(b - b'0'))
                    <= 65_535
        }
        _ => false,
    };
    name_ok && port_ok
}

/// Whether a request line can be written with these: a token, and visible ASCII without a fragment.
pub fn is_request_line(method: &[u8], target: &[u8]) -> bool {
    method.iter().all(|b| is_tchar(*b))
        && !method.is_empty()
        && !target.is_empty()
        && target
            .iter()
            .all(|b| matches!(b, b'!'..=b'~') && *b != b'#')
}

fn bad(why: &'static str) -> Refusal {
    Refusal { status: 400, why }
}
