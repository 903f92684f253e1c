//! Reads a complete head: httparse tokenises it in place, and what it lets pass although it can be read in two ways is
//! refused here or was refused by the scan.
//!
//! What httparse 1.10 lets pass, and who stops it:
//! - lines that end with a bare LF, any number of empty lines before the message (also before a response): `scan`;
//! - request targets with bytes over 0x7f, `#`, and any form for any method: `line`;
//! - status codes from 000: `line`;
//! - a reason phrase with bytes over 0x7f becomes empty: harmless, it has no meaning;
//! - bytes over 0x7f in values: allowed by RFC 9110 §5.5, passed on as they are;
//! - it knows nothing of what fields mean: `meaning`.
//!
//! What it refuses by itself and we rely on (pinned by the table in `tests`): bare CR, control characters, space before
//! the colon or at the start of a line (line folding), empty names, more than one space in the request line.

use super::fields::Fields;
use super::line::authority;
use super::meaning::{Coding, Expect, Meaning};
use super::{Framing, Refusal, RequestHead, ResponseHead};
use memchr::memchr;
use std::mem::MaybeUninit;

/// Fields that a head may have at most, whatever the configured limit.
pub const FIELDS_MAX: usize = 128;
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

fn bad(why: &'static str) -> Refusal {
    Refusal { status: 400, why }
}
