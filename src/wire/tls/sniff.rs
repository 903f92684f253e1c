//! What the first bytes of a connection are when they are not TLS, so that the log says more than "invalid message".

use crate::wire::record::ContentType;

/// Judges the first five bytes. `Some(why)` if no TLS stack would begin so.
pub fn not_tls(first: &[u8]) -> Option<&'static str> {
    match *first {
        [kind, 3, ..] if ContentType::from_wire(kind).is_some() => None,
        _ => Some(guess(first)),
    }
}

fn guess(first: &[u8]) -> &'static str {
    const METHODS: [&[u8]; 11] = [
        b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELET", b"OPTIO", b"PATCH", b"TRACE", b"CONNE",
        b"PROPF", b"PRI *",
    ];
    if METHODS.iter().any(|method| first.starts_with(method)) {
        "not TLS: looks like an HTTP request"
    } else if first.starts_with(b"CCM_P") || first.starts_with(b"BITS_") {
        "not TLS: looks like an HTTP request of Configuration Manager"
    } else if first.starts_with(b"HTTP/") {
        "not TLS: looks like an HTTP response"
    } else if first.starts_with(b"PROXY") || first.starts_with(b"\r\n\r\n\0") {
        "not TLS: looks like a PROXY protocol header from an address that is not listed"
    } else if first.starts_with(b"SSH-") {
        "not TLS: looks like SSH"
    } else if matches!(*first, [high, _, 1, 0 | 2 | 3, _] if high & 0x80 != 0) {
        "not TLS: looks like an SSL 2.0 hello"
    } else {
        "not TLS"
    }
}
