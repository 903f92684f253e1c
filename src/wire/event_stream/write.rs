//! Writes events as chunks (RFC 9112 §7.1).

use crate::wire::Put;
use memchr::memchr2;

/// Bytes of one event or comment, before chunking: with the chunk's size line and end it fills one TLS record of 2¹⁴
/// bytes. A payload of 4 KiB fits unless it has a line end every three bytes.
pub const EVENT_MAX: usize = 16_384 - 8;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event<'a> {
    /// What the client sends as `Last-Event-ID` from then on; empty makes it forget. `None` changes nothing.
    pub id: Option<&'a str>,
    /// Type; `None` is `message`.
    pub event: Option<&'a str>,
    /// Lines end with LF, CR or CRLF; all arrive as LF. Without data the client hands out nothing, though it takes `id`
    /// and `retry`.
    pub data: Option<&'a str>,
    /// Milliseconds until the client connects again after the stream ended.
    pub retry: Option<u32>,
}

/// What an event stream cannot carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwritable {
    /// Clients ignore an id with NUL; a line end would begin another field.
    Id,
    /// Empty, which means `message`, or with a line end.
    Type,
    /// No field at all.
    Empty,
    /// Comment with a line end.
    Comment,
    /// Over [`EVENT_MAX`].
    TooLong,
}

/// One event, one chunk. On an error nothing is written.
pub fn write_event(out: &mut impl Put, event: &Event<'_>) -> Result<(), Unwritable> {
    if event
        .id
        .is_some_and(|id| has_line_end(id) || id.contains('\0'))
    {
        return Err(Unwritable::Id);
    }
    if event.event.is_some_and(|t| t.is_empty() || has_line_end(t)) {
        return Err(Unwritable::Type);
    }
    if *event == Event::default() {
        return Err(Unwritable::Empty);
    }
    let mut size = 0;
    lines(event, |bytes| size += bytes.len());
    chunk(out, size, |pen| lines(event, |bytes| pen.write(bytes)))
}

/// A comment, which clients ignore: keeps the connection alive.
pub fn write_comment(out: &mut impl Put, text: &str) -> Result<(), Unwritable> {
    if has_line_end(text) {
        return Err(Unwritable::Comment);
    }
    chunk(out, text.len().saturating_add(3), |pen| {
        pen.write(b":");
        pen.write(text.as_bytes());
        pen.write(b"\n\n");
    })
}

/// The last chunk: the stream ends in order.
pub fn write_end(out: &mut impl Put) {
    out.put(b"0\r\n\r\n");
}

/// All bytes of an event, in order.
fn lines(event: &Event<'_>, mut put: impl FnMut(&[u8])) {
    let mut field = |name: &[u8], value: &[u8]| {
        put(name);
        put(b": ");
        put(value);
        put(b"\n");
    };
    if let Some(id) = event.id {
        field(b"id", id.as_bytes());
    }
    if let Some(name) = event.event {
        field(b"event", name.as_bytes());
    }
    if let Some(retry) = event.retry {
        let mut digits = [0; 10];
        field(b"retry", decimal(retry, &mut digits));
    }
    if let Some(data) = event.data {
        let mut rest = data.as_bytes();
        loop {
            let (line, after) = split_line(rest);
            field(b"data", line);
            match after {
                Some(after) => rest = after,
                None => break,
            }
        }
    }
    put(b"\n");
}

/// The first line, and what follows its end if it has one.
fn split_line(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let end = memchr2(b'\r', b'\n', text).unwrap_or(text.len());
    let (line, rest) = text.split_at_checked(end).unwrap_or((text, &[]));
    match rest {
        [b'\r', b'\n', after @ ..] | [b'\r' | b'\n', after @ ..] => (line, Some(after)),
        _ => (line, None),
    }
}

fn has_line_end(text: &str) -> bool {
    memchr2(b'\r', b'\n', text.as_bytes()).is_some()
}

fn decimal(number: u32, digits: &mut [u8; 10]) -> &[u8] {
    let (mut at, mut rest) = (digits.len(), number);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return &digits[at..];
        }
    }
}

fn chunk<P: Put>(
    out: &mut P,
    size: usize,
    content: impl FnOnce(&mut Pen<'_, P>),
) -> Result<(), Unwritable> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    if size > EVENT_MAX {
        return Err(Unwritable::TooLong);
    }
    let mut pen = Pen {
        out,
        buffer: [0; 256],
        filled: 0,
    };
    // EVENT_MAX has four digits; a size may have zeros in front
    let digit = |shift: usize| DIGITS[size >> shift & 15];
    pen.write(&[digit(12), digit(8), digit(4), digit(0), b'\r', b'\n']);
    content(&mut pen);
    pen.write(b"\r\n");
    pen.flush();
    Ok(())
}

/// Collects short pieces, so that the output is asked for room once in a while and not for each of them.
struct Pen<'o, P: Put> {
    out: &'o mut P,
    buffer: [u8; 256],
    filled: usize,
}

impl<P: Put> Pen<'_, P> {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(room) = self.buffer.get_mut(self.filled..self.filled + bytes.len()) {
            room.copy_from_slice(bytes);
            self.filled += bytes.len();
            return;
        }
        self.flush();
        match self.buffer.get_mut(..bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.filled = bytes.len();
            }
            None => self.out.put(bytes),
        }
    }

    fn flush(&mut self) {
        self.out.put(&self.buffer[..self.filled]);
        self.filled = 0;
    }
}

// a chunk is at most a record: size line 6, content, CRLF 2
const _: () = assert!(6 + EVENT_MAX + 2 == 16_384);
