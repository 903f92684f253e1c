//! What came in and is not used yet: the caller's input in place wherever possible, kept bytes where a section is split
//! or must wait.

use super::body::{Decoder, Then};
use super::scan::{Found, Scan, Section};
use super::{Limits, Refusal};
use std::ops::Range;

/// Bytes kept for later requests at most. The owner stops receiving long before (see `Server::held`); this holds when
/// it does not.
const HELD_MAX: usize = 256 * 1024;

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Head,
    Body(Decoder),
    Trailers,
    /// The message is complete: bytes of the next one are kept until it may begin.
    Hold,
    /// Nothing more is read; bytes are dropped.
    Discard,
}

#[derive(Debug)]
pub(super) struct Intake {
    scan: Scan,
    /// Bytes kept, used up to `pos`. No capacity while there is nothing to keep.
    held: Vec<u8>,
    pos: usize,
}

/// What came next. Ranges, so that the caller may change its own state before it borrows the bytes with `view`.
#[derive(Debug)]
pub(super) enum Next {
    More,
    Head(Lent),
    Data(Lent),
    End,
    Trailers(Lent),
}

#[derive(Debug)]
pub(super) enum Lent {
    Held(Range<usize>),
    Input(Range<usize>),
}

impl Intake {
    pub(super) fn new() -> Self {
        Self {
            scan: Scan::default(),
            held: Vec::new(),
            pos: 0,
        }
    }

    /// Bytes kept inside and not used.
    pub(super) fn kept(&self) -> usize {
        self.held.len() - self.pos
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.held.capacity()
    }

    pub(super) fn view<'a>(&'a self, lent: Lent, input: &'a [u8]) -> &'a [u8] {
        match lent {
            Lent::Held(range) => &self.held[range],
            Lent::Input(range) => &input[range],
        }
    }

    /// Advances over `input[*used..]` up to the next thing to tell. `head` says which kind of head is expected. The
    /// stage is the owner's, so that it can change while bytes are lent.
    pub(super) fn next(
        &mut self,
        stage: &mut Stage,
        head: Section,
        limits: &Limits,
        input: &[u8],
        used: &mut usize,
    ) -> Result<Next, Refusal> {
        if self.pos == self.held.len() && self.held.capacity() > 0 {
            self.held = Vec::new();
            self.pos = 0;
        }
        loop {
            match *stage {
                Stage::Head => {
                    let found = self.section(head, limits, input, used)?;
                    return Ok(found.map_or(Next::More, Next::Head));
                }
                Stage::Trailers => {
                    let Some(lent) = self.section(Section::Trailers, limits, input, used)? else {
                        return Ok(Next::More);
                    };
                    *stage = Stage::Hold;
                    return Ok(Next::Trailers(lent));
                }
                Stage::Body(mut decoder) => {
                    let from_held = self.kept() > 0;
                    let bytes = if from_held {
                        &self.held[self.pos..]
                    } else {
                        &input[*used..]
                    };
                    let step = decoder
                        .step(bytes)
                        .map_err(|why| Refusal { status: 400, why })?;
                    *stage = Stage::Body(decoder);
                    let cursor = if from_held { &mut self.pos } else { &mut *used };
                    *cursor += step.skip;
                    match step.then {
                        Then::Data(n) => {
                            let range = *cursor..*cursor + n;
                            *cursor += n;
                            return Ok(Next::Data(if from_held {
                                Lent::Held(range)
                            } else {
                                Lent::Input(range)
                            }));
                        }
                        Then::More if from_held => {}
                        Then::More => return Ok(Next::More),
                        Then::Trailers => *stage = Stage::Trailers,
                        Then::End => {
                            *stage = Stage::Hold;
                            return Ok(Next::End);
                        }
                    }
                }
                Stage::Hold => {
                    let rest = &input[*used..];
                    if self.kept() + rest.len() > HELD_MAX {
                        return Err(Refusal {
                            status: 400,
                            why: "too many requests sent ahead",
                        });
                    }
                    self.keep(rest);
                    *used = input.len();
                    return Ok(Next::More);
                }
                Stage::Discard => {
                    self.held = Vec::new();
                    self.pos = 0;
                    *used = input.len();
                    return Ok(Next::More);
                }
            }
        }
    }

    /// The next section, in place when it is whole in the input.
    fn section(
        &mut self,
        section: Section,
        limits: &Limits,
        input: &[u8],
        used: &mut usize,
    ) -> Result<Option<Lent>, Refusal> {
        if self.kept() == 0 {
            let from = *used;
            return Ok(match self.scan.run(section, &input[from..], limits)? {
                Found::Whole { start, end } => {
                    *used = from + end;
                    Some(Lent::Input(from + start..from + end))
                }
                Found::Partial { start } => {
                    self.keep(&input[from + start..]);
                    *used = input.len();
                    None
                }
            });
        }
        let mut appended = false;
        loop {
            match self.scan.run(section, &self.held[self.pos..], limits)? {
                Found::Whole { start, end } => {
                    let range = self.pos + start..self.pos + end;
                    if appended {
                        // what was kept before did not hold the end: what lies behind it is the input's
                        *used -= self.held.len() - range.end;
                        self.held.truncate(range.end);
                    }
                    self.pos = range.end;
                    return Ok(Some(Lent::Held(range)));
                }
                Found::Partial { start } => self.pos += start,
            }
            let rest = &input[*used..];
            if rest.is_empty() {
                return Ok(None);
            }
            // one byte over the limit is enough for the scan to decide
            let room = (section.limit(limits) + 1)
                .saturating_sub(self.kept())
                .max(1);
            let taken = rest.len().min(room);
            self.keep(&rest[..taken]);
            *used += taken;
            appended = true;
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.pos > 0 {
            self.held.drain(..self.pos);
            self.pos = 0;
        }
        self.held.extend_from_slice(bytes);
    }
}
