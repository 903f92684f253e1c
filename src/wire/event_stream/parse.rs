//! Reads event streams (WHATWG HTML §9.2.5, §9.2.6).

use memchr::memchr2;

const BOM: &[u8] = "\u{feff}".as_bytes();

/// What [`Parser::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// Input used up.
    NeedMore,
    Event {
        /// `message` unless the stream says otherwise.
        event: &'a str,
        data: &'a str,
        /// The last id seen, this event's or an earlier one; may be empty.
        last_event_id: &'a str,
    },
    /// Milliseconds to wait before connecting again.
    Retry(u64),
    /// Shows that the server is alive.
    Comment(&'a str),
}

/// A line or an event over the parser's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// One stream. What is no UTF-8 is read as U+FFFD, as the format wants it.
#[derive(Debug)]
pub struct Parser {
    /// Bytes of a line, and of the data of one event with a line end for each of its lines.
    limit: usize,
    line: Vec<u8>,
    /// The line that `line` holds was handed out or acted upon.
    line_done: bool,
    /// The last line ended with CR: an LF that follows belongs to it.
    after_cr: bool,
    first_line: bool,
    event: String,
    data: String,
    /// The event that `event` and `data` hold was handed out.
    dispatched: bool,
    id: String,
    /// The id as of the last event's end: what `Last-Event-ID` carries.
    last_event_id: String,
    comment: String,
}

enum Line {
    Nothing,
    Event,
    Retry(u64),
    Comment,
}

impl Parser {
    /// `limit` in bytes.
    pub fn new(limit: usize) -> Self {
        Self::resume(limit, "")
    }

    /// The stream of a connection that follows another, which ended with this `last_event_id`.
    pub fn resume(limit: usize, last_event_id: &str) -> Self {
        Self {
            limit,
            line: Vec::new(),
            line_done: false,
            after_cr: false,
            first_line: true,
            event: String::new(),
            data: String::new(),
            dispatched: false,
            id: last_event_id.to_owned(),
            last_event_id: last_event_id.to_owned(),
            comment: String::new(),
        }
    }

    /// What the next request sends as `Last-Event-ID`, if it is not empty.
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// Reads `input` from `used` on, which moves; to be called until `NeedMore`. An event that the stream's end cuts off
    /// is not an event.
    pub fn next(&mut self, input: &[u8], used: &mut usize) -> Result<Item<'_>, TooLong> {
        loop {
            let rest = input.get(*used..).unwrap_or_default();
            if self.after_cr && rest.first() == Some(&b'\n') {
                self.after_cr = false;
                *used += 1;
                continue;
            }
            self.after_cr &= rest.is_empty();
            if std::mem::take(&mut self.line_done) {
                self.line.clear();
            }
            let end = memchr2(b'\r', b'\n', rest);
            let piece = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            // a BOM may stand before the first line
            if self.line.len() + piece.len() > self.limit.saturating_add(BOM.len()) {
                return Err(TooLong);
            }
            self.line.extend_from_slice(piece);
            let Some(end) = end else {
                *used = input.len();
                return Ok(Item::NeedMore);
            };
            self.after_cr = rest.get(end) == Some(&b'\r');
            *used += end + 1;
            self.line_done = true;
            match self.take_line()? {
                Line::Nothing => {}
                Line::Retry(milliseconds) => return Ok(Item::Retry(milliseconds)),
                Line::Comment => return Ok(Item::Comment(&self.comment)),
                Line::Event => {
                    let event = match self.event.as_str() {
                        "" => "message",
                        event => event,
                    };
                    return Ok(Item::Event {
                        event,
                        data: self.data.strip_suffix('\n').unwrap_or(&self.data),
                        last_event_id: &self.last_event_id,
                    });
                }
            }
        }
    }

    fn take_line(&mut self) -> Result<Line, TooLong> {
        if std::mem::take(&mut self.dispatched) {
            self.event.clear();
            self.data.clear();
        }
        let mut line = self.line.as_slice();
        if std::mem::take(&mut self.first_line) {
            line = line.strip_prefix(BOM).unwrap_or(line);
        }
        if line.len() > self.limit {
            return Err(TooLong);
        }
        if line.is_empty() {
            self.dispatched = true;
            self.last_event_id.clone_from(&self.id);
            return Ok(match self.data.is_empty() {
                true => Line::Nothing,
                false => Line::Event,
            });
        }
        let text = String::from_utf8_lossy(line);
        let (name, value) = text.split_once(':').unwrap_or((&text, ""));
        let value = match name {
            "" => value,
            _ => value.strip_prefix(' ').unwrap_or(value),
        };
        match name {
            "" if text.starts_with(':') => {
                value.clone_into(&mut self.comment);
                return Ok(Line::Comment);
            }
            "event" => value.clone_into(&mut self.event),
            "data" => {
                if self.data.len() + value.len() >= self.limit {
                    return Err(TooLong);
                }
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            "retry" if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) => {
                // more digits than a number has is a time that never comes
                return Ok(Line::Retry(value.parse().unwrap_or(u64::MAX)));
            }
            _ => {}
        }
        Ok(Line::Nothing)
    }
}
