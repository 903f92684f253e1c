//! One open connection.

use super::close::{self, code, is_sendable};
use super::frame::{self, CONTROL_MAX, Head, Opcode};
use super::kept::{Closing, Frame, Kept};
use super::{Fault, Limits, Role, protocol};
use crate::wire::Put;
use std::ops::Range;
use std::time::Instant;

/// What [`Socket::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Input used up; the answer to the last ping of it has been written.
    NeedMore,
    Text(&'a str),
    Binary(&'a [u8]),
    /// An answer to a ping, or one unasked.
    Pong(&'a [u8]),
    /// The peer's Close frame; ours has been written, now or before. A server ends the connection when it is sent, a
    /// client waits for that (§7.1.1).
    Close {
        code: Option<u16>,
        reason: &'a str,
    },
    /// The connection was closed or failed before: input is passed over.
    Ended,
}

/// What must live while no input is there: a null pointer for a connection at rest, open, with no message begun.
#[derive(Debug, Default)]
pub struct Parked(Option<Box<Kept>>);

const _: () = assert!(size_of::<Parked>() == 8);

impl Parked {
    /// Ready to read. Limits and role are the owner's, the same for all its connections.
    pub fn unpark(self, role: Role, limits: Limits) -> Socket {
        Socket {
            role,
            limits,
            kept: self.0,
            delivered: Vec::new(),
            ping: None,
        }
    }
    /// Heap bytes behind this, to be charged to the owner's cap.
    pub fn kept_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |kept| kept.bytes())
    }
    /// When [`Socket::expire`] has something to say, if nothing comes before.
    pub fn next_deadline(&self, limits: &Limits) -> Option<Instant> {
        deadline(self.0.as_deref()?, limits)
    }
}

/// A connection after its opening handshake. Every input is drained: `next` until it gives `NeedMore` or `Ended`, or
/// refuses. Then it may be parked.
///
/// | | peer open | peer's Close came |
/// |---|---|---|
/// | open | messages both ways | answered at once: done |
/// | we closed | messages are still handed out; the peer's Close is due by a deadline | done |
/// | done, or refused | input is passed over, nothing is written | the same |
#[derive(Debug)]
pub struct Socket {
    role: Role,
    limits: Limits,
    kept: Option<Box<Kept>>,
    /// What was put together and is handed out, until the next call.
    delivered: Vec<u8>,
    /// The last ping that was not answered yet.
    ping: Option<([u8; CONTROL_MAX], u8)>,
}

/// Where the payload of an event lies.
enum Place {
    Input(Range<usize>),
    Delivered,
}

enum Found {
    NeedMore,
    Ended,
    Whole(Opcode, Place),
}

impl Socket {
    /// A connection whose opening handshake is done.
    pub fn new(role: Role, limits: Limits) -> Self {
        Parked::default().unpark(role, limits)
    }

    /// Only what must live is left; to be called when an input was drained, since a ping not yet answered is forgotten.
    pub fn park(self) -> Parked {
        Parked(self.kept)
    }

    /// Reads `input` from `used` on, which moves. Bytes are unmasked where they lie, so the same input is shown until it
    /// is used up. On a refusal a Close frame with its code has been written.
    pub fn next<'a>(
        &'a mut self,
        input: &'a mut [u8],
        used: &mut usize,
        now: Instant,
        out: &mut impl Put,
    ) -> Result<Event<'a>, Fault> {
        self.delivered.clear();
        let found = match self.find(input, used, now) {
            Ok(found) => found,
            Err(fault) => return Err(self.fail(fault, out)),
        };
        let (opcode, place) = match found {
            Found::Whole(opcode, place) => (opcode, place),
            Found::Ended => return Ok(Event::Ended),
            Found::NeedMore => {
                self.answer_ping(out);
                return Ok(Event::NeedMore);
            }
        };
        if opcode == Opcode::Close {
            // parsed twice, so that the answer is written before the event borrows
            let answer = close::parse(self.payload(input, &place)).map(|(code, _)| code);
            match answer {
                Ok(code) => self.answer_close(code, out),
                Err(fault) => return Err(self.fail(fault, out)),
            }
        }
        match opcode {
            Opcode::Text => match std::str::from_utf8(self.payload(input, &place)) {
                Ok(_) => {}
                Err(_) => return Err(self.fail(NOT_UTF8, out)),
            },
            Opcode::Continuation | Opcode::Ping => return Ok(Event::NeedMore),
            Opcode::Binary | Opcode::Pong | Opcode::Close => {}
        }
        let payload = self.payload(input, &place);
        Ok(match opcode {
            Opcode::Text => Event::Text(std::str::from_utf8(payload).unwrap_or_default()),
            Opcode::Pong => Event::Pong(payload),
            Opcode::Close => {
                let (code, reason) = close::parse(payload).unwrap_or_default();
                Event::Close { code, reason }
            }
            _ => Event::Binary(payload),
        })
    }

    /// Writes a message in one frame; false, and nothing written, once a Close frame went out.
    pub fn send_text(&mut self, out: &mut impl Put, text: &str) -> bool {
        self.send(out, Opcode::Text, text.as_bytes())
    }
    /// As `send_text`.
    pub fn send_binary(&mut self, out: &mut impl Put, bytes: &[u8]) -> bool {
        self.send(out, Opcode::Binary, bytes)
    }
    /// As `send_text`; false also for more than 125 bytes.
    pub fn send_ping(&mut self, out: &mut impl Put, bytes: &[u8]) -> bool {
        bytes.len() <= CONTROL_MAX && self.send(out, Opcode::Ping, bytes)
    }

    /// Begins the closing handshake. A code that must not be sent goes out as 1011, a reason over 123 bytes is cut.
    /// False when a Close frame went out before.
    pub fn close(&mut self, out: &mut impl Put, code: u16, reason: &str, now: Instant) -> bool {
        if self.closing() != Closing::Open {
            return false;
        }
        self.write_close(out, code, reason);
        self.kept().closing = Closing::Sent(now + self.limits.close_wait);
        true
    }

    /// When `expire` has something to say, if nothing comes before.
    pub fn next_deadline(&self) -> Option<Instant> {
        deadline(self.kept.as_deref()?, &self.limits)
    }

    /// A deadline that has passed; the connection has failed then.
    pub fn expire(&mut self, out: &mut impl Put, now: Instant) -> Option<Fault> {
        if self.next_deadline().is_none_or(|due| now < due) {
            return None;
        }
        let why = match self.closing() {
            Closing::Sent(due) if due <= now => "closing handshake not finished in time",
            _ => "message not finished in time",
        };
        Some(self.fail(
            Fault {
                code: code::POLICY,
                why,
            },
            out,
        ))
    }

    /// Both Close frames went out, or the connection failed.
    pub fn is_done(&self) -> bool {
        self.closing() == Closing::Done
    }

    fn closing(&self) -> Closing {
        self.kept.as_ref().map_or(Closing::Open, |k| k.closing)
    }

    fn kept(&mut self) -> &mut Kept {
        self.kept.get_or_insert_default()
    }

    fn payload<'a>(&'a self, input: &'a [u8], place: &Place) -> &'a [u8] {
        match place {
            Place::Input(range) => input.get(range.clone()).unwrap_or_default(),
            Place::Delivered => &self.delivered,
        }
    }

    /// Up to the next thing to hand out. One turn of the loop takes at least a byte or returns.
    fn find(&mut self, input: &mut [u8], used: &mut usize, now: Instant) -> Result<Found, Fault> {
        loop {
            if self.is_done() {
                *used = input.len();
                return Ok(Found::Ended);
            }
            let rest = input.get_mut(*used..).unwrap_or_default();
            if rest.is_empty() && !self.is_frame_whole() {
                return Ok(Found::NeedMore);
            }
            let found = match self.whole_frame(rest)? {
                Some((head, range)) => {
                    let range = *used + range.start..*used + range.end;
                    *used = range.end;
                    Some((head.opcode, Place::Input(range)))
                }
                None => {
                    let (taken, found) = self.piece(rest, now)?;
                    *used += taken;
                    found.map(|opcode| (opcode, Place::Delivered))
                }
            };
            match found {
                Some((Opcode::Ping, place)) => self.note_ping(input, &place),
                Some((opcode, place)) => return Ok(Found::Whole(opcode, place)),
                None => {}
            }
        }
    }

    /// A frame whose head was the end of an input and that has no payload.
    fn is_frame_whole(&self) -> bool {
        let frame = self.kept.as_ref().and_then(|kept| kept.frame);
        frame.is_some_and(|frame| frame.left() == 0)
    }

    /// The usual case: nothing is kept of a frame, and the whole of one, which is a message of its own, lies here.
    fn whole_frame(&mut self, rest: &mut [u8]) -> Result<Option<(Head, Range<usize>)>, Fault> {
        let kept = self.kept.as_deref();
        if kept.is_some_and(|kept| kept.frame.is_some() || !kept.head().is_empty()) {
            return Ok(None);
        }
        let from_client = matches!(self.role, Role::Server);
        let Some((head, begin)) = frame::parse(rest, from_client)? else {
            return Ok(None);
        };
        admit(&head, kept, &self.limits)?;
        let alone = head.fin && head.opcode != Opcode::Continuation;
        let end = usize::try_from(head.length).map_or(usize::MAX, |n| n.saturating_add(begin));
        match rest.get_mut(begin..end) {
            Some(payload) if alone => {
                frame::apply_mask(payload, head.mask, 0);
                Ok(Some((head, begin..end)))
            }
            _ => Ok(None),
        }
    }

    /// Takes bytes of a head or of a payload into the box; gives the opcode of what is complete then, in `delivered`.
    fn piece(&mut self, rest: &mut [u8], now: Instant) -> Result<(usize, Option<Opcode>), Fault> {
        let (from_client, limits) = (matches!(self.role, Role::Server), self.limits);
        let kept = self.kept();
        kept.since.get_or_insert(now);
        let Some(mut frame) = kept.frame else {
            let taken = take_head(kept, rest, from_client, &limits)?;
            return Ok((taken, None));
        };
        let length = usize::try_from(frame.left()).map_or(rest.len(), |n| n.min(rest.len()));
        let bytes = rest.get_mut(..length).unwrap_or_default();
        frame::apply_mask(bytes, frame.head.mask, frame.taken);
        frame.taken += bytes.len() as u64;
        kept.frame = (frame.left() > 0).then_some(frame);
        let head = frame.head;
        if head.opcode.is_control() {
            kept.control.extend_from_slice(bytes);
        } else {
            if kept.kind == Some(Opcode::Text) && !kept.utf8.feed(bytes) {
                return Err(NOT_UTF8);
            }
            kept.message.extend_from_slice(bytes);
        }
        let found = match kept.frame {
            None => self.finish(&head)?,
            Some(_) => None,
        };
        Ok((length, found))
    }

    /// A frame in the box is complete, and perhaps its message.
    fn finish(&mut self, head: &Head) -> Result<Option<Opcode>, Fault> {
        let kept = self.kept.get_or_insert_default();
        let found = if head.opcode.is_control() {
            self.delivered = std::mem::take(&mut kept.control);
            Some(head.opcode)
        } else if head.fin {
            if !kept.utf8.is_complete() {
                return Err(NOT_UTF8);
            }
            self.delivered = std::mem::take(&mut kept.message);
            kept.kind.take()
        } else {
            None
        };
        if !kept.is_partial() {
            kept.since = None;
            if kept.closing == Closing::Open {
                self.kept = None;
            }
        }
        Ok(found)
    }

    fn note_ping(&mut self, input: &[u8], place: &Place) {
        let mut ping = [0; CONTROL_MAX];
        let payload = self.payload(input, place);
        let length = payload.len().min(CONTROL_MAX);
        ping[..length].copy_from_slice(&payload[..length]);
        self.ping = Some((ping, length as u8));
    }

    fn answer_ping(&mut self, out: &mut impl Put) {
        if let Some((ping, length)) = self.ping.take() {
            let payload = ping.get(..usize::from(length)).unwrap_or_default();
            self.send(out, Opcode::Pong, payload);
        }
    }

    /// The peer's Close frame came: answered with its code, unless ours went out before.
    fn answer_close(&mut self, code: Option<u16>, out: &mut impl Put) {
        if self.closing() == Closing::Open {
            match code {
                Some(code) => self.write_close(out, code, ""),
                None => frame::write(out, &mut self.role, true, Opcode::Close, b""),
            }
        }
        self.done();
    }

    fn fail(&mut self, fault: Fault, out: &mut impl Put) -> Fault {
        if self.closing() == Closing::Open {
            self.write_close(out, fault.code, fault.why);
        }
        self.done();
        fault
    }

    /// Nothing but the state is kept from here on.
    fn done(&mut self) {
        self.ping = None;
        let mut kept = Kept::default();
        kept.closing = Closing::Done;
        *self.kept() = kept;
    }

    fn write_close(&mut self, out: &mut impl Put, code: u16, reason: &str) {
        let code = if is_sendable(code) {
            code
        } else {
            code::INTERNAL
        };
        let mut buffer = [0; CONTROL_MAX];
        let payload = close::payload(code, reason, &mut buffer);
        frame::write(out, &mut self.role, true, Opcode::Close, payload);
    }

    fn send(&mut self, out: &mut impl Put, opcode: Opcode, payload: &[u8]) -> bool {
        let open = self.closing() == Closing::Open;
        if open {
            frame::write(out, &mut self.role, true, opcode, payload);
        }
        open
    }
}

const NOT_UTF8: Fault = Fault {
    code: code::NOT_UTF8,
    why: "text is not UTF-8",
};

/// Byte by byte, so that nothing behind the head is taken and what is wrong is refused at its first byte.
fn take_head(
    kept: &mut Kept,
    rest: &[u8],
    from_client: bool,
    limits: &Limits,
) -> Result<usize, Fault> {
    for (at, byte) in rest.iter().enumerate() {
        if !kept.push_head(*byte) {
            return Err(protocol("frame head too long"));
        }
        let Some((head, _)) = frame::parse(kept.head(), from_client)? else {
            continue;
        };
        admit(&head, Some(kept), limits)?;
        kept.clear_head();
        kept.frame = Some(Frame { head, taken: 0 });
        if matches!(head.opcode, Opcode::Text | Opcode::Binary) {
            kept.kind = Some(head.opcode);
        }
        return Ok(at + 1);
    }
    Ok(rest.len())
}

/// Whether a data frame may come now, and fits.
fn admit(head: &Head, kept: Option<&Kept>, limits: &Limits) -> Result<(), Fault> {
    if head.opcode.is_control() {
        return Ok(());
    }
    let begun = kept.is_some_and(|kept| kept.kind.is_some());
    match head.opcode {
        Opcode::Continuation if !begun => return Err(protocol("continuation of nothing")),
        Opcode::Text | Opcode::Binary if begun => {
            return Err(protocol("message begun inside another"));
        }
        _ => {}
    }
    let held = kept.map_or(0, |kept| kept.message.len()) as u64;
    if head.length.saturating_add(held) > limits.message_bytes as u64 {
        return Err(Fault {
            code: code::TOO_BIG,
            why: "message over the limit",
        });
    }
    Ok(())
}

fn deadline(kept: &Kept, limits: &Limits) -> Option<Instant> {
    let message = kept.since.map(|since| since + limits.message_wait);
    match kept.closing {
        Closing::Open => message,
        Closing::Sent(due) => Some(message.map_or(due, |message| message.min(due))),
        Closing::Done => None,
    }
}
