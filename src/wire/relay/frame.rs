//! Frames: kinds, the 8-byte header, and the decoder that cuts a byte stream into frames.
//!
//! The decoder copies nothing of a frame that lies whole in its input. A DATA payload is handed out in pieces as it
//! comes; any other frame that is split over inputs is put together in one buffer of at most [`MAX_PAYLOAD`] bytes.

use super::SessionError;
use std::ops::Range;

/// Bytes of a frame header.
pub const HEADER: usize = 8;
/// Most body bytes in one DATA frame: with its header it fills one TLS record of 16,384 bytes.
pub const MAX_DATA: usize = 16_376;
/// Longest payload of any frame, also of one whose kind we do not know.
pub const MAX_PAYLOAD: usize = 65_536;
/// Longest HELLO payload: 38 fixed bytes, two ids of at most 128 with a length byte each.
pub const MAX_HELLO: usize = 296;
/// Bytes of a READY payload.
pub const READY_BYTES: usize = 64;
/// Longest text in REFUSE, PUBLISHED and RESET, in bytes of UTF-8.
pub const MAX_TEXT: usize = 512;
/// Bytes of a PUBLISH payload before its chunk: hash, total, offset.
pub const PUBLISH_PREFIX: usize = 40;
/// Most bytes of the settings document in one PUBLISH.
pub const MAX_CHUNK: usize = MAX_DATA - PUBLISH_PREFIX;
/// First kind that a receiver skips when it does not know it; unknown kinds below it end the session.
pub const FIRST_SKIPPED_KIND: u8 = 0x80;

/// The frame kinds of version 1. From 0x20 on stand the channel frames, which need their feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Hello = 0x01,
    Ready = 0x02,
    Refuse = 0x03,
    Ping = 0x04,
    Pong = 0x05,
    GoAway = 0x06,
    Publish = 0x08,
    Published = 0x09,
    Open = 0x10,
    Head = 0x11,
    Data = 0x12,
    End = 0x13,
    Reset = 0x14,
    Credit = 0x15,
    ChannelUp = 0x20,
    ChannelDown = 0x21,
    ChannelClose = 0x22,
    Notify = 0x23,
    Outcome = 0x24,
    Receipt = 0x25,
}

impl Kind {
    /// All kinds, in order of their numbers.
    pub const ALL: [Kind; 20] = [
        Kind::Hello,
        Kind::Ready,
        Kind::Refuse,
        Kind::Ping,
        Kind::Pong,
        Kind::GoAway,
        Kind::Publish,
        Kind::Published,
        Kind::Open,
        Kind::Head,
        Kind::Data,
        Kind::End,
        Kind::Reset,
        Kind::Credit,
        Kind::ChannelUp,
        Kind::ChannelDown,
        Kind::ChannelClose,
        Kind::Notify,
        Kind::Outcome,
        Kind::Receipt,
    ];

    /// Its name in the specification and in logs.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Hello => "HELLO",
            Kind::Ready => "READY",
            Kind::Refuse => "REFUSE",
            Kind::Ping => "PING",
            Kind::Pong => "PONG",
            Kind::GoAway => "GOAWAY",
            Kind::Publish => "PUBLISH",
            Kind::Published => "PUBLISHED",
            Kind::Open => "OPEN",
            Kind::Head => "HEAD",
            Kind::Data => "DATA",
            Kind::End => "END",
            Kind::Reset => "RESET",
            Kind::Credit => "CREDIT",
            Kind::ChannelUp => "CHANNEL_UP",
            Kind::ChannelDown => "CHANNEL_DOWN",
            Kind::ChannelClose => "CHANNEL_CLOSE",
            Kind::Notify => "NOTIFY",
            Kind::Outcome => "OUTCOME",
            Kind::Receipt => "RECEIPT",
        }
    }

    /// Shortest and longest payload.
    pub const fn bounds(self) -> (usize, usize) {
        match self {
            Kind::Hello => (42, MAX_HELLO),
            Kind::Ready => (READY_BYTES, READY_BYTES),
            Kind::Refuse | Kind::Reset => (2, 2 + MAX_TEXT),
            Kind::Ping | Kind::Pong | Kind::GoAway => (8, 8),
            Kind::Publish => (PUBLISH_PREFIX, MAX_DATA),
            Kind::Published => (33, 33 + MAX_TEXT),
            Kind::Open => (16, MAX_PAYLOAD),
            Kind::Head => (14, MAX_PAYLOAD),
            Kind::Data => (1, MAX_DATA),
            Kind::End => (0, MAX_PAYLOAD),
            Kind::Credit => (4, 4),
            Kind::ChannelUp => (1, MAX_DATA),
            Kind::ChannelDown | Kind::ChannelClose => (9, MAX_DATA),
            Kind::Notify => (19, MAX_DATA),
            Kind::Outcome => (26, MAX_DATA),
            Kind::Receipt => (18, MAX_DATA),
        }
    }

    /// One of the frames that need [`super::CHANNELS`].
    pub const fn is_of_channels(self) -> bool {
        self as u8 >= Kind::ChannelUp as u8
    }

    /// Whether the header's stream must be 0 (`Some(false)`), must not be 0 (`Some(true)`), or may be either.
    const fn on_stream(self) -> Option<bool> {
        match self {
            Kind::Open | Kind::Head | Kind::Data | Kind::End | Kind::Reset => Some(true),
            Kind::Credit => None,
            _ => Some(false),
        }
    }
}

/// What a header must keep to, by kind.
#[derive(Clone, Copy)]
struct Rule {
    kind: Kind,
    shortest: usize,
    longest: usize,
    on_stream: Option<bool>,
}

/// The rules by kind number: one look-up for each header.
static RULES: [Option<Rule>; 0x26] = {
    let mut rules = [None; 0x26];
    let mut n = 0;
    while n < Kind::ALL.len() {
        let kind = Kind::ALL[n];
        let (shortest, longest) = kind.bounds();
        let on_stream = kind.on_stream();
        rules[kind as usize] = Some(Rule {
            kind,
            shortest,
            longest,
            on_stream,
        });
        n += 1;
    }
    rules
};

/// Writes a header into an array, so that it goes out with one `put`.
pub fn header(kind: Kind, stream: u32, length: usize) -> [u8; HEADER] {
    debug_assert!(length <= MAX_PAYLOAD);
    let [_, a, b, c] = (length as u32).to_be_bytes();
    let [d, e, f, g] = stream.to_be_bytes();
    [a, b, c, kind as u8, d, e, f, g]
}

/// Starts a frame in `scratch`; [`finish`] writes the length once the payload stands behind it.
pub fn start(scratch: &mut Vec<u8>, kind: Kind, stream: u32) {
    scratch.clear();
    scratch.extend_from_slice(&header(kind, stream, 0));
}

/// Writes the length of a frame begun with [`start`]. False when the payload is longer than its kind allows.
pub fn finish(scratch: &mut [u8], kind: Kind) -> bool {
    let length = scratch.len().saturating_sub(HEADER);
    if length > kind.bounds().1 {
        return false;
    }
    let [_, bytes @ ..] = (length as u32).to_be_bytes();
    if let Some(place) = scratch.first_chunk_mut::<3>() {
        *place = bytes;
    }
    true
}

/// A checked header of a known kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    pub stream: u32,
    pub length: usize,
}

/// What the decoder is in the middle of.
#[derive(Clone, Copy, Debug)]
enum Within {
    Header,
    /// A payload with this much still to come. `begun`: a piece of it has been given out (DATA).
    Payload {
        header: Header,
        left: usize,
        begun: bool,
    },
    Skipped {
        left: usize,
    },
}

/// Where a payload lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the input that was passed to [`Decoder::step`].
    Input(Range<usize>),
    /// In the decoder: [`Decoder::assembled`].
    Assembled,
}

/// One step of the decoder: a whole frame, or a piece of a DATA frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub header: Header,
    pub place: Place,
    /// False for the second and later pieces of a DATA frame.
    pub first: bool,
}

#[derive(Debug)]
pub struct Decoder {
    within: Within,
    partial: [u8; HEADER],
    partial_len: usize,
    assembly: Vec<u8>,
}

impl Decoder {
    pub fn new() -> Decoder {
        Decoder {
            within: Within::Header,
            partial: [0; HEADER],
            partial_len: 0,
            assembly: Vec::new(),
        }
    }

    /// Takes bytes from `input[*used..]` up to the end of one frame (DATA: one piece) and advances `*used`. `None`: the
    /// input is used up.
    #[inline]
    pub fn step(&mut self, input: &[u8], used: &mut usize) -> Result<Option<Step>, SessionError> {
        // Most frames lie whole in the input: nothing is kept of them.
        let rest = input.get(*used..).unwrap_or_default();
        if let (Within::Header, 0) = (self.within, self.partial_len)
            && let Some((bytes, behind)) = rest.split_first_chunk::<HEADER>()
            && let Some(header) = known(*bytes)
            && header.length <= behind.len()
        {
            let from = *used + HEADER;
            *used = from + header.length;
            let place = Place::Input(from..*used);
            return Ok(Some(Step {
                header,
                place,
                first: true,
            }));
        }
        self.step_split(input, used)
    }

    /// The same for a frame that is split over inputs, skipped or wrong.
    fn step_split(&mut self, input: &[u8], used: &mut usize) -> Result<Option<Step>, SessionError> {
        loop {
            let rest = input.get(*used..).unwrap_or_default();
            match self.within {
                Within::Header => {
                    let Some(bytes) = self.take_header(rest, used) else {
                        return Ok(None);
                    };
                    self.assembly.clear();
                    self.within = check(bytes)?;
                }
                Within::Skipped { left } => {
                    let n = left.min(rest.len());
                    *used += n;
                    if n < left {
                        self.within = Within::Skipped { left: left - n };
                        return Ok(None);
                    }
                    self.within = Within::Header;
                }
                Within::Payload {
                    header,
                    left,
                    begun,
                } => {
                    return Ok(self.payload(header, left, begun, rest.len(), input, used));
                }
            }
        }
    }

    /// The payload of the frame that the last step gave with [`Place::Assembled`].
    pub fn assembled(&self) -> &[u8] {
        &self.assembly
    }

    /// Lends the assembly buffer out while the frame in it is being handled; give it back with [`Decoder::restore`].
    pub fn lend(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.assembly)
    }

    pub fn restore(&mut self, assembly: Vec<u8>) {
        self.assembly = assembly;
    }

    fn take_header(&mut self, rest: &[u8], used: &mut usize) -> Option<[u8; HEADER]> {
        if self.partial_len == 0
            && let Some(bytes) = rest.first_chunk::<HEADER>()
        {
            *used += HEADER;
            return Some(*bytes);
        }
        let room = self.partial.get_mut(self.partial_len..)?;
        let n = room.len().min(rest.len());
        let (taken, _) = rest.split_at_checked(n)?;
        room.get_mut(..n)?.copy_from_slice(taken);
        *used += n;
        self.partial_len += n;
        if self.partial_len < HEADER {
            return None;
        }
        self.partial_len = 0;
        Some(self.partial)
    }

    fn payload(
        &mut self,
        header: Header,
        left: usize,
        begun: bool,
        available: usize,
        input: &[u8],
        used: &mut usize,
    ) -> Option<Step> {
        let n = left.min(available);
        let range = *used..*used + n;
        let whole = n == left;
        if header.kind == Kind::Data {
            if n == 0 {
                return None;
            }
            *used += n;
            self.within = match whole {
                true => Within::Header,
                false => Within::Payload {
                    header,
                    left: left - n,
                    begun: true,
                },
            };
            return Some(Step {
                header,
                place: Place::Input(range),
                first: !begun,
            });
        }
        *used += n;
        if whole && !begun {
            self.within = Within::Header;
            return Some(Step {
                header,
                place: Place::Input(range),
                first: true,
            });
        }
        self.assembly
            .extend_from_slice(input.get(range).unwrap_or_default());
        if whole {
            self.within = Within::Header;
            return Some(Step {
                header,
                place: Place::Assembled,
                first: true,
            });
        }
        self.within = Within::Payload {
            header,
            left: left - n,
            begun: true,
        };
        None
    }
}

fn split(bytes: [u8; HEADER]) -> (usize, u8, u32) {
    let [a, b, c, kind, d, e, f, g] = bytes;
    (
        u32::from_be_bytes([0, a, b, c]) as usize,
        kind,
        u32::from_be_bytes([d, e, f, g]),
    )
}

/// A header that keeps to its kind's rule.
#[inline]
fn known(bytes: [u8; HEADER]) -> Option<Header> {
    let (length, kind, stream) = split(bytes);
    let rule = RULES.get(usize::from(kind))?.as_ref()?;
    let fits = (rule.shortest..=rule.longest).contains(&length)
        && rule
            .on_stream
            .is_none_or(|on_stream| on_stream == (stream != 0));
    fits.then_some(Header {
        kind: rule.kind,
        stream,
        length,
    })
}

/// What comes after this header, or what is wrong with it.
fn check(bytes: [u8; HEADER]) -> Result<Within, SessionError> {
    if let Some(header) = known(bytes) {
        return Ok(Within::Payload {
            header,
            left: header.length,
            begun: false,
        });
    }
    let (length, kind, stream) = split(bytes);
    let wrong = match RULES.get(usize::from(kind)).copied().flatten() {
        None if kind < FIRST_SKIPPED_KIND => format!("unknown frame kind 0x{kind:02x}"),
        None if length <= MAX_PAYLOAD => return Ok(Within::Skipped { left: length }),
        None => format!("frame of kind 0x{kind:02x} with {length} bytes, more than {MAX_PAYLOAD}"),
        Some(Rule {
            kind,
            shortest,
            longest,
            ..
        }) if length < shortest || length > longest => {
            format!(
                "{} of {length} bytes, not {shortest} to {longest}",
                kind.name()
            )
        }
        Some(Rule { kind, .. }) => format!("{} on stream {stream:#x}", kind.name()),
    };
    Err(SessionError::protocol(wrong))
}
