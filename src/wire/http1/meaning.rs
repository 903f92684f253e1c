//! What the fields of a head say about framing, connection and host, read strictly.

use super::Refusal;
use super::fields::{elements, starts_with};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    None,
    Chunked,
    Unknown,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    None,
    Continue,
    Unknown,
}

/// What the fields say about framing, connection and host.
pub(super) struct Meaning<'a> {
    pub(super) length: Option<u64>,
    pub(super) coding: Coding,
    pub(super) host: Option<&'a [u8]>,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade_option: bool,
    pub(super) named_options: bool,
    pub(super) upgrade: Option<&'a [u8]>,
    pub(super) expect: Expect,
}

impl<'a> Meaning<'a> {
    pub(super) fn of(headers: &[httparse::Header<'a>]) -> Result<Self, Refusal> {
        let mut meaning = Meaning {
            length: None,
            coding: Coding::None,
            host: None,
            close: false,
            keep_alive: false,
            upgrade_option: false,
            named_options: false,
            upgrade: None,
            expect: Expect::None,
        };
        for header in headers {
            meaning.field(header.name.as_bytes(), header.value)?;
        }
        Ok(meaning)
    }

    fn field(&mut self, name: &[u8], value: &'a [u8]) -> Result<(), Refusal> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                let earlier = self.host.replace(value);
                if earlier.is_some() {
                    return Err(bad("more than one Host"));
                }
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                let known =
                    self.expect != Expect::Unknown && value.eq_ignore_ascii_case(b"100-continue");
                self.expect = if known {
                    Expect::Continue
                } else {
                    Expect::Unknown
                };
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = Some(value),
            10 if name.eq_ignore_ascii_case(b"connection") => self.connection(value),
            14 if starts_with(name, b"content-length") => {
                refuse_underscore(name)?;
                if self.length.replace(content_length(value)?).is_some() {
                    return Err(bad("more than one Content-Length"));
                }
            }
            17 if starts_with(name, b"transfer-encoding") => {
                refuse_underscore(name)?;
                if self.coding != Coding::None {
                    return Err(bad("more than one Transfer-Encoding"));
                }
                self.coding = transfer_coding(value)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) {
        for option in elements(value) {
            match option.len() {
                5 if option.eq_ignore_ascii_case(b"close") => self.close = true,
                7 if option.eq_ignore_ascii_case(b"upgrade") => self.upgrade_option = true,
                10 if option.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                _ => self.named_options = true,
            }
        }
    }
}

/// Digits only, one value only, and a number that every signed parser behind us can hold (RFC 9110 §8.6).
fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(bad("Content-Length is not one plain decimal number"));
    }
    let number = value.iter().try_fold(0u64, |sum, b| {
        sum.checked_mul(10)?.checked_add(u64::from(b - b'0'))
    });
    number
        .filter(|n| *n <= i64::MAX as u64)
        .ok_or(bad("Content-Length out of range"))
}

/// Exactly `chunked` is understood; a list that names it twice or has holes can be read in two ways.
fn transfer_coding(value: &[u8]) -> Result<Coding, Refusal> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(Coding::Chunked);
    }
    if elements(value).any(<[u8]>::is_empty) {
        return Err(bad("empty element in Transfer-Encoding"));
    }
    if elements(value)
        .filter(|coding| coding.eq_ignore_ascii_case(b"chunked"))
        .count()
        > 1
    {
        return Err(bad("chunked more than once"));
    }
    Ok(Coding::Unknown)
}

/// `Content_Length` is `Content-Length` to servers that turn fields into variables.
fn refuse_underscore(name: &[u8]) -> Result<(), Refusal> {
    if name.contains(&b'_') {
        return Err(bad("framing field spelled with an underscore"));
    }
    Ok(())
}

fn bad(why: &'static str) -> Refusal {
    Refusal { status: 400, why }
}
