//! Finds the end of a head or trailer section, line by line, within its limits.
//!
//! Whatever is refused here is refused at a byte that does not depend on how the bytes were split on their way: the
//! scan goes in order, never looks past the limit, and remembers how far it came.

use super::fields::is_tchar;
use super::head;
use super::line;
use super::{Limits, Refusal};
use memchr::memchr;

/// Empty lines allowed before a request (RFC 9112 §2.2 asks for at least one).
const EMPTY_LINES_MAX: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Request,
    Response,
    Trailers,
}

impl Section {
    pub(super) fn limit(self, limits: &Limits) -> usize {
        match self {
            Section::Request | Section::Response => limits.head_bytes,
            // at least the empty line that ends every chunked body
            Section::Trailers => limits.trailer_bytes.max(2),
        }
    }
    /// What is said when a section is over its limits; the client's core turns it into an upstream fault.
    fn too_large(self, lines: usize) -> Refusal {
        match (self, lines) {
            (Section::Request, 0) => Refusal {
                status: 414,
                why: "request line over the limit",
            },
            (Section::Trailers, _) => Refusal {
                status: 431,
                why: "trailers over the limit",
            },
            _ => Refusal {
                status: 431,
                why: "head over the limit",
            },
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The section is `bytes[start..end]`, final empty line included.
    Whole { start: usize, end: usize },
    /// `bytes[..start]` were empty lines: pass what follows `start` again, with more behind it.
    Partial { start: usize },
}

/// How far a section was looked through. Offsets are relative to its first byte.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scan {
    scanned: usize,
    line_start: usize,
    lines: usize,
    empty_lines: u8,
}

impl Scan {
    /// Goes on over `bytes`, which begin with all that was passed before and not reported as empty lines.
    pub(super) fn run(
        &mut self,
        section: Section,
        mut bytes: &[u8],
        limits: &Limits,
    ) -> Result<Found, Refusal> {
        let limit = section.limit(limits);
        let mut start = 0;
        loop {
            if self.lines == 0
                && let Some(first) = bytes.first()
                && !begins(section, *first)
            {
                return Err(bad(
                    "message begins with something else than a method or version",
                ));
            }
            let window = &bytes[..bytes.len().min(limit)];
            let Some(found) = window
                .get(self.scanned..)
                .and_then(|rest| memchr(b'\n', rest))
            else {
                if bytes.len() > limit {
                    return Err(section.too_large(self.lines));
                }
                self.scanned = window.len();
                return Ok(Found::Partial { start });
            };
            let after = self.scanned + found + 1;
            let Some(line) = window[self.line_start..after].strip_suffix(b"\r\n") else {
                return Err(bad("line ends with a bare LF"));
            };
            let complete = line.is_empty();
            match section {
                Section::Request if complete && self.lines == 0 => {
                    self.empty_lines += 1;
                    if self.empty_lines > EMPTY_LINES_MAX {
                        return Err(bad("too many empty lines before the request"));
                    }
                    start += after;
                    bytes = &bytes[after..];
                    *self = Self {
                        empty_lines: self.empty_lines,
                        ..Self::default()
                    };
                    continue;
                }
                Section::Response if complete && self.lines == 0 => {
                    return Err(bad("empty line before the status line"));
                }
                Section::Request if self.lines == 0 => line::check_request_line(line)?,
                Section::Response if self.lines == 0 => line::check_status_line(line)?,
                _ => {}
            }
            if complete {
                *self = Self::default();
                return Ok(Found::Whole {
                    start,
                    end: start + after,
                });
            }
            self.lines += 1;
            let fields = self.lines - usize::from(section != Section::Trailers);
            if fields > limits.header_count.min(head::FIELDS_MAX) {
                return Err(Refusal {
                    status: 431,
                    why: "too many fields",
                });
            }
            self.scanned = after;
            self.line_start = after;
        }
    }
}

/// Whether a section may begin with this byte; what cannot be HTTP (a TLS hello on a clear port) is refused at once.
fn begins(section: Section, first: u8) -> bool {
    is_tchar(first) || (first == b'\r' && section != Section::Response)
}

fn bad(why: &'static str) -> Refusal {
    Refusal { status: 400, why }
}
