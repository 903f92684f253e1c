//! Where a message body ends: counted, chunked (RFC 9112 §7.1) or with the connection.

/// Bytes of one chunk-size line, extensions included.
const CHUNK_LINE_MAX: u16 = 256;
/// Digits of a chunk size, leading zeros included.
const CHUNK_DIGITS_MAX: u8 = 16;
/// Bytes of chunk-size lines over what sane chunking needs, a whole body: without it a peer buys work of ours with
/// tiny chunks under long extensions.
const CHUNK_EXCESS_MAX: u32 = 16 * 1024;

/// Position in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decoder {
    /// Bytes left.
    Length(u64),
    UntilClose,
    Chunked(Chunked),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunked {
    at: At,
    /// Of the chunk: its size while read, then what is left of its data.
    size: u64,
    digits: u8,
    line: u16,
    excess: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
}

/// What to do with the bytes shown: pass over `skip` of them, and then …
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) skip: usize,
    pub(super) then: Then,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// … ask for more.
    More,
    /// … hand out that many (never 0).
    Data(usize),
    /// … read the trailer section.
    Trailers,
    /// … the body is complete.
    End,
}

impl Decoder {
    pub(super) const CHUNKED: Self = Self::Chunked(Chunked {
        at: At::Size,
        size: 0,
        digits: 0,
        line: 0,
        excess: 0,
    });

    /// Nothing of the body is to come.
    pub(super) fn is_complete(&self) -> bool {
        *self == Self::Length(0)
    }

    pub(super) fn step(&mut self, bytes: &[u8]) -> Result<Step, &'static str> {
        let then = match self {
            Decoder::Length(0) => Then::End,
            _ if bytes.is_empty() => Then::More,
            Decoder::Length(left) => Then::Data(take(left, bytes.len())),
            Decoder::UntilClose => Then::Data(bytes.len()),
            Decoder::Chunked(chunked) => return chunked.step(bytes),
        };
        Ok(Step { skip: 0, then })
    }
}

impl Chunked {
    fn step(&mut self, bytes: &[u8]) -> Result<Step, &'static str> {
        let mut skip = 0;
        while let Some(&b) = bytes.get(skip) {
            if self.at == At::Data {
                let data = take(&mut self.size, bytes.len() - skip);
                if self.size == 0 {
                    self.at = At::DataCr;
                }
                return Ok(Step {
                    skip,
                    then: Then::Data(data),
                });
            }
            skip += 1;
            if self.framing_byte(b)? {
                return Ok(Step {
                    skip,
                    then: Then::Trailers,
                });
            }
        }
        Ok(Step {
            skip,
            then: Then::More,
        })
    }

    /// One byte that is not data; true after the line of the last chunk.
    fn framing_byte(&mut self, b: u8) -> Result<bool, &'static str> {
        if matches!(self.at, At::Size | At::Extension) {
            self.line += 1;
            if self.line > CHUNK_LINE_MAX {
                return Err("chunk-size line over the limit");
            }
        }
        match (self.at, b) {
            (At::Size, b'\r') | (At::Size, b';') if self.digits == 0 => {
                return Err("chunk without a size");
            }
            (At::Size, b';') => self.at = At::Extension,
            (At::Size | At::Extension, b'\r') => self.at = At::SizeLf,
            (At::Size, _) => {
                let digit = char::from(b)
                    .to_digit(16)
                    .ok_or("chunk size is not a plain hexadecimal number")?;
                self.digits += 1;
                if self.digits > CHUNK_DIGITS_MAX {
                    return Err("chunk size with too many digits");
                }
                self.size = self.size << 4 | u64::from(digit);
            }
            (At::Extension, b'\t' | b' '..=0x7e | 0x80..) => {}
            (At::Extension, _) => return Err("control character in a chunk extension"),
            (At::SizeLf, b'\n') => return self.begin_data(),
            (At::SizeLf, _) => return Err("bare CR in a chunk-size line"),
            (At::DataCr, b'\r') => self.at = At::DataLf,
            (At::DataLf, b'\n') => self.at = At::Size,
            (At::DataCr | At::DataLf, _) => return Err("chunk data not followed by CRLF"),
            (At::Data, _) => {}
        }
        Ok(false)
    }

    fn begin_data(&mut self) -> Result<bool, &'static str> {
        if self.size > i64::MAX as u64 {
            return Err("chunk size out of range");
        }
        // 16 bytes a line, and twice the data that it announces, are free
        let free = self.size.saturating_mul(2).saturating_add(16);
        let excess = (u64::from(self.excess) + u64::from(self.line)).saturating_sub(free);
        self.excess = u32::try_from(excess).unwrap_or(u32::MAX);
        if self.excess > CHUNK_EXCESS_MAX {
            return Err("chunk extensions over the limit");
        }
        self.line = 0;
        self.digits = 0;
        self.at = At::Data;
        Ok(self.size == 0)
    }
}

/// Takes up to `available` off `left`.
fn take(left: &mut u64, available: usize) -> usize {
    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(available);
    *left -= n as u64;
    n
}
