//! Close frames: which status codes may be on the wire, and their payload (RFC 6455 §7.4, §5.5.1).

use super::frame::CONTROL_MAX;
use super::{Fault, protocol};

/// Status codes that we send.
pub mod code {
    pub const NORMAL: u16 = 1000;
    pub const GOING_AWAY: u16 = 1001;
    pub const PROTOCOL: u16 = 1002;
    pub const NOT_UTF8: u16 = 1007;
    pub const POLICY: u16 = 1008;
    pub const TOO_BIG: u16 = 1009;
    pub const INTERNAL: u16 = 1011;
    pub const TRY_AGAIN: u16 = 1013;
}

/// Codes that may stand in a Close frame: those registered (1004 is reserved; 1005, 1006 and 1015 are for APIs only), and
/// the ranges of libraries and applications.
pub fn is_sendable(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Status code, if there is one, and reason.
pub(super) fn parse(payload: &[u8]) -> Result<(Option<u16>, &str), Fault> {
    let (code, reason) = match payload {
        [] => return Ok((None, "")),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        [_] => return Err(protocol("Close frame of one byte")),
    };
    if !is_sendable(code) {
        return Err(protocol("close code that must not be sent"));
    }
    let reason = std::str::from_utf8(reason).map_err(|_| Fault {
        code: code::NOT_UTF8,
        why: "close reason is not UTF-8",
    })?;
    Ok((Some(code), reason))
}

/// A Close frame's payload: code and as much of the reason as fits, cut between characters.
pub(super) fn payload<'b>(code: u16, reason: &str, buffer: &'b mut [u8; CONTROL_MAX]) -> &'b [u8] {
    let mut length = reason.len().min(CONTROL_MAX - 2);
    while !reason.is_char_boundary(length) {
        length -= 1;
    }
    buffer[..2].copy_from_slice(&code.to_be_bytes());
    buffer[2..2 + length].copy_from_slice(&reason.as_bytes()[..length]);
    &buffer[..2 + length]
}
