//! A request's head as h2 takes it.

use super::Content;
use crate::wire::Field;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Version};

/// A request's head, without its fields.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Any token but CONNECT, which has no place on a shared connection.
    pub method: &'a [u8],
    /// Scheme: https or http.
    pub https: bool,
    /// Host, with the port if it has one; not empty.
    pub authority: &'a [u8],
    /// Path and query, or `*`.
    pub target: &'a [u8],
    pub content: Content,
}

/// Whether HTTP/2 can carry this method: CONNECT asks for a tunnel, which we are not.
pub fn is_sendable(method: &[u8]) -> bool {
    method != b"CONNECT"
}

/// The head. Errors name the part that HTTP/2 cannot say.
pub(super) fn encode<'f>(
    request: &Request<'_>,
    fields: impl IntoIterator<Item = Field<'f>>,
) -> Result<http::Request<()>, &'static str> {
    if !is_sendable(request.method) {
        return Err("CONNECT");
    }
    let scheme = if request.https {
        Scheme::HTTPS
    } else {
        Scheme::HTTP
    };
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(Authority::try_from(request.authority).map_err(|_| "its host")?);
    parts.path_and_query = Some(target(request.target)?);
    let mut head = http::Request::new(());
    *head.method_mut() = Method::from_bytes(request.method).map_err(|_| "its method")?;
    *head.uri_mut() = Uri::from_parts(parts).map_err(|_| "its target")?;
    *head.version_mut() = Version::HTTP_2;
    *head.headers_mut() = self::fields(fields)?;
    let length = match request.content {
        Content::Length(length) => Some(length),
        // As over HTTP/1.1: some servers answer 411 otherwise.
        Content::None if matches!(request.method, b"POST" | b"PUT" | b"PATCH") => Some(0),
        Content::None | Content::Unknown => None,
    };
    if let Some(length) = length {
        head.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    Ok(head)
}

/// What the URI's grammar has no place for, though HTTP/1.1 servers take it, goes escaped: that is what it stands for.
fn target(bytes: &[u8]) -> Result<PathAndQuery, &'static str> {
    if let Ok(target) = PathAndQuery::try_from(bytes) {
        return Ok(target);
    }
    let mut escaped = Vec::with_capacity(bytes.len() + 16);
    for byte in bytes {
        match byte {
            b'"'
            | b'<'
            | b'>'
            | b'`'
            | b'{'
            | b'}'
            | b'|'
            | b'\\'
            | b'^'
            | b'['
            | b']'
            | 0x80.. => {
                escaped.extend_from_slice(&[b'%', hex(byte >> 4), hex(byte & 15)]);
            }
            _ => escaped.push(*byte),
        }
    }
    PathAndQuery::try_from(escaped).map_err(|_| "its target")
}

fn hex(digit: u8) -> u8 {
    match digit {
        0..=9 => b'0' + digit,
        _ => b'A' - 10 + digit,
    }
}

/// Fields with names in lower case, without those that speak of an HTTP/1.1 connection (RFC 9113 §8.2.2), Host, which is
/// `:authority`, and Content-Length, which is told apart.
pub(super) fn fields<'f>(
    fields: impl IntoIterator<Item = Field<'f>>,
) -> Result<HeaderMap, &'static str> {
    let mut map = HeaderMap::new();
    for Field { name, value } in fields {
        if is_forbidden(name) {
            continue;
        }
        let name = HeaderName::from_bytes(name).map_err(|_| "a field's name")?;
        let value = HeaderValue::from_bytes(value).map_err(|_| "a field's value")?;
        map.try_append(name, value).map_err(|_| "so many fields")?;
    }
    Ok(map)
}

fn is_forbidden(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 8] = [
        b"connection",
        b"content-length",
        b"host",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    ];
    NAMES
        .iter()
        .any(|forbidden| name.eq_ignore_ascii_case(forbidden))
}
