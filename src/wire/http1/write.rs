//! Writes heads and bodies.

use super::fields::{Fields, is_field_value, is_forbidden_trailer, is_hop_by_hop, is_token};
use super::{Field, Framing};
use crate::wire::Put;

/// Collects the pieces of a head, so that the output is asked for room once in a while and not for each of them.
pub(super) struct Pen<'o, P: Put> {
    out: &'o mut P,
    buffer: [u8; 512],
    filled: usize,
}

impl<'o, P: Put> Pen<'o, P> {
    pub(super) fn new(out: &'o mut P) -> Self {
        Self {
            out,
            buffer: [0; 512],
            filled: 0,
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        if let Some(room) = self.buffer.get_mut(self.filled..self.filled + bytes.len()) {
            room.copy_from_slice(bytes);
            self.filled += bytes.len();
            return;
        }
        self.out.put(&self.buffer[..self.filled]);
        self.filled = 0;
        if bytes.len() < self.buffer.len() {
            self.buffer[..bytes.len()].copy_from_slice(bytes);
            self.filled = bytes.len();
        } else {
            self.out.put(bytes);
        }
    }

    /// A field that cannot be written in one line is not written at all: it would begin another message.
    pub(super) fn field(&mut self, name: &[u8], value: &[u8]) {
        if is_token(name) && is_field_value(value) {
            self.write(name);
            self.write(b": ");
            self.write(value);
            self.write(b"\r\n");
        }
    }

    pub(super) fn number(&mut self, number: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut rest = number;
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.write(&digits[at..]);
    }

    pub(super) fn content_length(&mut self, length: u64) {
        self.write(b"Content-Length: ");
        self.number(length);
        self.write(b"\r\n");
    }

    /// Ends the head.
    pub(super) fn finish(mut self) {
        self.write(b"\r\n");
        self.out.put(&self.buffer[..self.filled]);
    }
}

/// How the body that is being sent is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoder {
    /// Bytes still promised.
    Length(u64),
    Chunked,
    /// More bytes came than were promised: those over were dropped, and the message is broken.
    Over,
    /// Ends with the connection.
    Raw,
    /// The answer to HEAD, 204, 304: there is no body, whatever is put in.
    Nothing,
}

impl Encoder {
    pub(super) fn room(&self) -> u64 {
        match self {
            Encoder::Length(left) => *left,
            Encoder::Over => 0,
            Encoder::Chunked | Encoder::Raw | Encoder::Nothing => u64::MAX,
        }
    }

    pub(super) fn data(&mut self, out: &mut impl Put, bytes: &[u8]) {
        if bytes.is_empty() {
            // an empty chunk would end the body
            return;
        }
        match self {
            Encoder::Length(left) => match left.checked_sub(bytes.len() as u64) {
                Some(rest) => {
                    *left = rest;
                    out.put(bytes);
                }
                None => {
                    let fit = usize::try_from(*left).unwrap_or(usize::MAX);
                    out.put(bytes.get(..fit).unwrap_or_default());
                    *self = Encoder::Over;
                }
            },
            Encoder::Chunked => {
                let mut line = [0; 18];
                out.put(size_line(bytes.len(), &mut line));
                out.put(bytes);
                out.put(b"\r\n");
            }
            Encoder::Raw => out.put(bytes),
            Encoder::Over | Encoder::Nothing => {}
        }
    }

    /// False when bytes are missing, or too many came.
    pub(super) fn end<'f>(
        self,
        out: &mut impl Put,
        trailers: impl IntoIterator<Item = Field<'f>>,
    ) -> bool {
        match self {
            Encoder::Length(left) => left == 0,
            Encoder::Over => false,
            Encoder::Chunked => {
                let mut pen = Pen::new(out);
                pen.write(b"0\r\n");
                for field in trailers {
                    if !is_forbidden_trailer(field.name) {
                        pen.field(field.name, field.value);
                    }
                }
                pen.finish();
                true
            }
            Encoder::Raw | Encoder::Nothing => true,
        }
    }
}

/// Hexadecimal size and CRLF.
fn size_line(size: usize, line: &mut [u8; 18]) -> &[u8] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    line[16..].copy_from_slice(b"\r\n");
    let mut at = 16;
    let mut rest = size;
    loop {
        at -= 1;
        line[at] = DIGITS[rest & 15];
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    &line[at..]
}

/// Fields of a message, without those that its framing or its connection decide.
pub(super) fn write_fields<'f, P: Put>(
    pen: &mut Pen<'_, P>,
    fields: impl IntoIterator<Item = Field<'f>>,
    keep: Keep,
) {
    let mut length_written = false;
    let mut upgrade_written = false;
    for field in fields {
        if field.name.eq_ignore_ascii_case(b"content-length") {
            let digits = !field.value.is_empty() && field.value.iter().all(u8::is_ascii_digit);
            if !keep.content_length || length_written || !digits {
                continue;
            }
            length_written = true;
        } else if field.name.eq_ignore_ascii_case(b"upgrade") {
            if !keep.upgrade {
                continue;
            }
            upgrade_written = true;
        } else if is_hop_by_hop(field.name, Fields::default()) {
            continue;
        }
        pen.field(field.name, field.value);
    }
    if upgrade_written {
        pen.write(b"Connection: Upgrade\r\n");
    }
}

/// Fields that are written although framing or connection decide them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Keep {
    /// The length that a body would have, where there is none (HEAD, 304).
    pub(super) content_length: bool,
    /// A change of protocol asked for or granted: Upgrade, and the Connection option that goes with it.
    pub(super) upgrade: bool,
}

/// Framing fields of a message with a body, and how the body is then written.
pub(super) fn write_framing<P: Put>(pen: &mut Pen<'_, P>, framing: Framing) -> Encoder {
    match framing {
        Framing::None => Encoder::Length(0),
        Framing::Length(length) => {
            pen.content_length(length);
            Encoder::Length(length)
        }
        Framing::Chunked => {
            pen.write(b"Transfer-Encoding: chunked\r\n");
            Encoder::Chunked
        }
        Framing::UntilClose => Encoder::Raw,
    }
}
