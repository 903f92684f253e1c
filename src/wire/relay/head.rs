//! OPEN, HEAD and END payloads: parsed heads and fields, checked in both directions.
//!
//! Encoding refuses what decoding would refuse, so that a head that slipped through a parser costs its request and never
//! the link. Decoding checks once, when the frame is accepted; what is built from it afterwards only walks lengths.

use super::frame::{HEADER, MAX_PAYLOAD};
use super::{Body, Fields, OpenHead, ResponseHead};
use crate::wire::Field;

/// Why a head cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It does not fit in 64 KiB, or a part of it in its length field.
    TooLong,
    /// A part of it has bytes that must not stand there; says which.
    Syntax(&'static str),
}

impl Unfit {
    pub fn text(self) -> &'static str {
        match self {
            Unfit::TooLong => "head longer than 64 KiB",
            Unfit::Syntax(what) => what,
        }
    }
}

const EXPECT_CONTINUE: u8 = 0x01;
const INTERIM: u8 = 0x01;

/// Bytes of an OPEN payload before its strings.
const OPEN_PREFIX: usize = 16;
/// Bytes of a HEAD payload before its strings.
const HEAD_PREFIX: usize = 14;

/// Appends the OPEN payload of `head` with `fields` (`head.fields` is not used).
pub fn encode_open(
    buf: &mut Vec<u8>,
    head: &OpenHead<'_>,
    fields: &mut dyn Iterator<Item = Field<'_>>,
) -> Result<(), Unfit> {
    check_request_line(head.method, head.target, head.host, head.request_id)
        .map_err(Unfit::Syntax)?;
    let (body, length) = body_to_wire(head.body);
    let [method] = length_u8(head.method)?;
    let [id] = length_u8(head.request_id)?;
    let [t0, t1] = length_u16(head.target)?;
    let [h0, h1] = length_u16(head.host)?;
    let flags = if head.expect_continue {
        EXPECT_CONTINUE
    } else {
        0
    };
    buf.extend_from_slice(&[flags, body, method, id, t0, t1, h0, h1]);
    buf.extend_from_slice(&length.to_be_bytes());
    for part in [head.method, head.target, head.host, head.request_id] {
        buf.extend_from_slice(part);
    }
    encode_fields(buf, fields)
}

/// Appends a HEAD payload.
pub fn encode_head(
    buf: &mut Vec<u8>,
    status: u16,
    interim: bool,
    reason: &[u8],
    body: Body,
    fields: &mut dyn Iterator<Item = Field<'_>>,
) -> Result<(), Unfit> {
    check_status(status, interim).map_err(Unfit::Syntax)?;
    check_value(reason, "control byte in a reason phrase").map_err(Unfit::Syntax)?;
    let (body, length) = body_to_wire(body);
    buf.extend_from_slice(&status.to_be_bytes());
    buf.extend_from_slice(&[if interim { INTERIM } else { 0 }, body]);
    buf.extend_from_slice(&length.to_be_bytes());
    buf.extend_from_slice(&length_u16(reason)?);
    buf.extend_from_slice(reason);
    encode_fields(buf, fields)
}

/// Appends fields in wire form (name length u16, value length u16, name, value) to a frame's header and what precedes
/// them in its payload.
pub fn encode_fields(
    buf: &mut Vec<u8>,
    fields: &mut dyn Iterator<Item = Field<'_>>,
) -> Result<(), Unfit> {
    for Field { name, value } in fields {
        check_name(name).map_err(Unfit::Syntax)?;
        check_value(value, "CR, LF or NUL in a field value").map_err(Unfit::Syntax)?;
        let [n0, n1] = length_u16(name)?;
        let [v0, v1] = length_u16(value)?;
        let more = 4 + name.len() + value.len();
        // Before it grows: neither a large head nor an iterator without end leaves a large buffer.
        if buf.len() + more > HEADER + MAX_PAYLOAD {
            return Err(Unfit::TooLong);
        }
        buf.reserve(more);
        buf.extend_from_slice(&[n0, n1, v0, v1]);
        buf.extend_from_slice(name);
        buf.extend_from_slice(value);
    }
    Ok(())
}

/// Checks everything in an OPEN payload.
pub fn check_open(payload: &[u8]) -> Result<(), &'static str> {
    let flags = payload.first().copied().unwrap_or_default();
    if flags & !EXPECT_CONTINUE != 0 {
        return Err("OPEN with unknown flags");
    }
    let head = decode_open(payload).ok_or("OPEN shorter than its parts")?;
    check_request_line(head.method, head.target, head.host, head.request_id)?;
    check_fields(head.fields.bytes)
}

/// Checks everything in a HEAD payload; gives whether it is interim.
pub fn check_head(payload: &[u8]) -> Result<bool, &'static str> {
    let flags = payload.get(2).copied().unwrap_or_default();
    if flags & !INTERIM != 0 {
        return Err("HEAD with unknown flags");
    }
    let head = decode_head(payload).ok_or("HEAD shorter than its parts")?;
    check_status(head.status, head.interim)?;
    check_value(head.reason, "control byte in a reason phrase")?;
    check_fields(head.fields.bytes)?;
    Ok(head.interim)
}

/// Checks fields in wire form.
pub fn check_fields(mut bytes: &[u8]) -> Result<(), &'static str> {
    while !bytes.is_empty() {
        let (field, rest) = split_field(bytes).ok_or("field longer than its frame")?;
        check_name(field.name)?;
        check_value(field.value, "CR, LF or NUL in a field value")?;
        bytes = rest;
    }
    Ok(())
}

/// An OPEN payload taken apart, unchecked. `None`: lengths do not add up.
pub fn decode_open(payload: &[u8]) -> Option<OpenHead<'_>> {
    let (prefix, rest) = payload.split_first_chunk::<OPEN_PREFIX>()?;
    let [flags, body, method, id, t0, t1, h0, h1, length @ ..] = *prefix;
    let (method, rest) = rest.split_at_checked(usize::from(method))?;
    let (target, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([t0, t1])))?;
    let (host, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([h0, h1])))?;
    let (request_id, bytes) = rest.split_at_checked(usize::from(id))?;
    Some(OpenHead {
        method,
        target,
        host,
        request_id,
        body: body_from_wire(body, u64::from_be_bytes(length))?,
        expect_continue: flags & EXPECT_CONTINUE != 0,
        fields: Fields { bytes },
    })
}

/// A HEAD payload taken apart, unchecked. `None`: lengths do not add up.
pub fn decode_head(payload: &[u8]) -> Option<ResponseHead<'_>> {
    let (prefix, rest) = payload.split_first_chunk::<HEAD_PREFIX>()?;
    let [s0, s1, flags, body, l0, l1, l2, l3, l4, l5, l6, l7, r0, r1] = *prefix;
    let length = u64::from_be_bytes([l0, l1, l2, l3, l4, l5, l6, l7]);
    let (reason, bytes) = rest.split_at_checked(usize::from(u16::from_be_bytes([r0, r1])))?;
    Some(ResponseHead {
        status: u16::from_be_bytes([s0, s1]),
        interim: flags & INTERIM != 0,
        reason,
        body: body_from_wire(body, length)?,
        fields: Fields { bytes },
    })
}

/// The first field of a section and what follows it.
#[inline]
pub fn split_field(bytes: &[u8]) -> Option<(Field<'_>, &[u8])> {
    let ([n0, n1, v0, v1], rest) = bytes.split_first_chunk::<4>()?;
    let (name, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*n0, *n1])))?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*v0, *v1])))?;
    Some((Field { name, value }, rest))
}

fn body_to_wire(body: Body) -> (u8, u64) {
    match body {
        Body::None => (0, 0),
        Body::Length(n) => (1, n),
        Body::Unknown => (2, 0),
    }
}

fn body_from_wire(kind: u8, length: u64) -> Option<Body> {
    match (kind, length) {
        (0, 0) => Some(Body::None),
        (1, n) => Some(Body::Length(n)),
        (2, 0) => Some(Body::Unknown),
        _ => None,
    }
}

fn length_u8(part: &[u8]) -> Result<[u8; 1], Unfit> {
    u8::try_from(part.len())
        .map(|n| [n])
        .map_err(|_| Unfit::TooLong)
}

fn length_u16(part: &[u8]) -> Result<[u8; 2], Unfit> {
    u16::try_from(part.len())
        .map(u16::to_be_bytes)
        .map_err(|_| Unfit::TooLong)
}

fn check_status(status: u16, interim: bool) -> Result<(), &'static str> {
    match (status, interim) {
        (101, true) => Err("101 is a final head"),
        (100..=199, true) | (101, false) | (200..=999, false) => Ok(()),
        _ => Err("status and interim flag do not go together"),
    }
}

fn check_request_line(
    method: &[u8],
    target: &[u8],
    host: &[u8],
    request_id: &[u8],
) -> Result<(), &'static str> {
    if method.is_empty() || !visible_ascii(method) {
        return Err("method that is no token");
    }
    if target.is_empty() || !no_space_or_control(target) {
        return Err("space or control byte in a target");
    }
    if !no_space_or_control(host) {
        return Err("space or control byte in a host");
    }
    if !visible_ascii(request_id) {
        return Err("request id that is not visible ASCII");
    }
    Ok(())
}

/// A field name: not empty, visible ASCII, no colon (RFC 9110 §5.1; the other separators cannot split a field line).
#[inline]
fn check_name(name: &[u8]) -> Result<(), &'static str> {
    let good = !name.is_empty()
        && every(
            name,
            |word| invisible(word) | (word ^ (ONES * u64::from(b':'))).wrapping_sub(ONES),
            |b| (0x21..0x7f).contains(&b) && b != b':',
        );
    if good {
        Ok(())
    } else {
        Err("field name that is no token")
    }
}

/// A field value or reason phrase: anything but CR, LF and NUL (RFC 9110 §5.5).
#[inline]
fn check_value(value: &[u8], wrong: &'static str) -> Result<(), &'static str> {
    let good = every(
        value,
        |word| word.wrapping_sub(ONES * 0x20) & !word,
        |b| !matches!(b, b'\r' | b'\n' | 0),
    );
    if good { Ok(()) } else { Err(wrong) }
}

fn visible_ascii(bytes: &[u8]) -> bool {
    every(bytes, invisible, |b| (0x21..0x7f).contains(&b))
}

fn no_space_or_control(bytes: &[u8]) -> bool {
    every(bytes, invisible, |b| b > 0x20 && b != 0x7f)
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Has a high bit set when some byte of the word is a control byte, a space, DEL or not ASCII. (Of bytes below 0x80, the
/// lowest that is too small borrows from nobody but itself, and none carries into the next.)
#[inline]
fn invisible(word: u64) -> u64 {
    word | word.wrapping_add(ONES) | word.wrapping_sub(ONES * 0x21)
}

/// True when all bytes are good. `suspect` looks at eight at a time: it must set the high bit of some byte when one of
/// them is bad, and may when all are good; then each is looked at.
#[inline]
fn every(bytes: &[u8], suspect: impl Fn(u64) -> u64, good: impl Fn(u8) -> bool) -> bool {
    let seen = match (
        bytes.last_chunk::<8>(),
        bytes.first_chunk::<4>(),
        bytes.last_chunk::<4>(),
    ) {
        (Some(last), ..) => {
            // The last word overlaps the one before it.
            let (words, _) = bytes.as_chunks::<8>();
            words
                .iter()
                .fold(suspect(u64::from_ne_bytes(*last)), |seen, word| {
                    seen | suspect(u64::from_ne_bytes(*word))
                })
        }
        (None, Some([a, b, c, d]), Some([e, f, g, h])) => {
            suspect(u64::from_ne_bytes([*a, *b, *c, *d, *e, *f, *g, *h]))
        }
        _ => HIGH,
    };
    seen & HIGH == 0 || bytes.iter().all(|byte| good(*byte))
}
