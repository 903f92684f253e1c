//! First lines, and whom a request is for: checked as soon as the line is there, before the fields come.

use super::Refusal;
use super::fields::is_token;
use memchr::memchr;
use std::net::Ipv6Addr;

/// No registered method has more than 17 characters.
const METHOD_MAX: usize = 32;

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
    if !is_target(target) {
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

/// Methods whose repetition does no harm (RFC 9110 §9.2.2), without those that we do not know.
pub fn is_idempotent(method: &[u8]) -> bool {
    matches!(
        method,
        b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE"
    )
}

/// Whether a request line can be written with these: a token, and visible ASCII without a fragment.
pub fn is_request_line(method: &[u8], target: &[u8]) -> bool {
    is_token(method) && is_target(target)
}

fn is_target(target: &[u8]) -> bool {
    // no early return: this form is vectorised
    let bad = target.iter().fold(false, |bad, b| {
        bad | !matches!(b, b'!'..=b'~') | (*b == b'#')
    });
    !target.is_empty() && !bad
}

/// Whom the request is for (RFC 9112 §3.2): the one Host field; an absolute target must say the same.
pub(super) fn authority<'a>(
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
/// no empty port, no punctuation that a server behind us might take for a separator.
fn is_host(host: &[u8]) -> bool {
    let (name_ok, port) = match host {
        [b'[', rest @ ..] => {
            let end = memchr(b']', rest).unwrap_or(rest.len());
            let (address, port) = rest.split_at_checked(end).unwrap_or_default();
            let address = std::str::from_utf8(address).unwrap_or_default();
            let closed = port.first() == Some(&b']');
            (
                closed && address.parse::<Ipv6Addr>().is_ok(),
                port.get(1..).unwrap_or_default(),
            )
        }
        _ => {
            let end = memchr(b':', host).unwrap_or(host.len());
            let (name, port) = host.split_at_checked(end).unwrap_or_default();
            let known = |b: &u8| b.is_ascii_alphanumeric() | matches!(b, b'-' | b'.' | b'_');
            (!name.is_empty() && name.iter().all(known), port)
        }
    };
    name_ok && is_port(port)
}

/// Nothing, or a colon and a number of 16 bits.
fn is_port(port: &[u8]) -> bool {
    match port {
        [] => true,
        // from_str alone would take a sign
        [b':', digits @ ..] if digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) => {
            std::str::from_utf8(digits).is_ok_and(|digits| digits.parse::<u16>().is_ok())
        }
        _ => false,
    }
}

fn bad(why: &'static str) -> Refusal {
    Refusal { status: 400, why }
}
