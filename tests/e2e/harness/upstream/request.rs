//! Reads requests as a plain server does.

use std::io::{self, BufRead};

/// A request, its body still on the connection.
pub struct Request {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub head: String,
    pub headers: Vec<(String, String)>,
    pub trailers: Vec<(String, String)>,
    body: Body,
}

#[derive(Clone, Copy)]
enum Body {
    Length(u64),
    /// Bytes left of the chunk that is being read.
    Chunk(u64),
    Complete,
}

fn wrong(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// One line without its end; none at the end of the stream.
fn line(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    if from.read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.strip_suffix("\r\n")
        .map(|line| Some(line.to_owned()))
        .ok_or_else(|| wrong("a line without CRLF"))
}

fn fields(from: &mut impl BufRead, head: &mut String) -> io::Result<Vec<(String, String)>> {
    let mut fields = Vec::new();
    loop {
        let line = line(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok(fields);
        }
        head.push_str(&line);
        head.push('\n');
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| wrong("a field without colon"))?;
        fields.push((name.to_owned(), value.trim().to_owned()));
    }
}

impl Request {
    /// The next request; none when the peer closed between two.
    pub fn read(from: &mut impl BufRead) -> io::Result<Option<Request>> {
        let Some(first) = line(from)? else {
            return Ok(None);
        };
        let mut words = first.split(' ');
        let (Some(method), Some(target), Some("HTTP/1.1")) =
            (words.next(), words.next(), words.next())
        else {
            return Err(wrong("a request line"));
        };
        let (method, target) = (method.to_owned(), target.to_owned());
        let mut head = format!("{first}\n");
        let headers = fields(from, &mut head)?;
        let mut request = Request {
            method,
            target,
            head,
            headers,
            trailers: Vec::new(),
            body: Body::Complete,
        };
        if request.header("Transfer-Encoding").is_some() {
            request.body = Body::Chunk(0);
        } else if let Some(length) = request.header("Content-Length") {
            let length = length.parse().map_err(|_| wrong("Content-Length"))?;
            request.body = if length == 0 {
                Body::Complete
            } else {
                Body::Length(length)
            };
        }
        Ok(Some(request))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub fn is_complete(&self) -> bool {
        matches!(self.body, Body::Complete)
    }

    pub fn is_chunked(&self) -> bool {
        self.header("Transfer-Encoding").is_some()
    }

    /// The path without query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// A parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// A parameter as a number; 0 when it is not there.
    pub fn number(&self, name: &str) -> u64 {
        self.parameter(name)
            .and_then(|value| value.parse().ok())
            .unwrap_or(0)
    }

    /// The next body bytes; 0 at its end.
    pub fn read_body(&mut self, from: &mut impl BufRead, into: &mut [u8]) -> io::Result<usize> {
        if let Body::Chunk(0) = self.body {
            let line = line(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let size = u64::from_str_radix(line.trim(), 16).map_err(|_| wrong("a chunk's size"))?;
            if size == 0 {
                self.trailers = fields(from, &mut self.head)?;
                self.body = Body::Complete;
            } else {
                self.body = Body::Chunk(size);
            }
        }
        let left = match self.body {
            Body::Complete => return Ok(0),
            Body::Length(left) | Body::Chunk(left) => left,
        };
        let most = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let n = from.read(&mut into[..most])?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let left = left - n as u64;
        self.body = match self.body {
            Body::Length(_) if left > 0 => Body::Length(left),
            Body::Chunk(_) => {
                if left == 0 && line(from)?.as_deref() != Some("") {
                    return Err(wrong("a chunk longer than its size"));
                }
                Body::Chunk(left)
            }
            _ => Body::Complete,
        };
        Ok(n)
    }

    /// Reads the whole body into `sink`.
    pub fn drain(
        &mut self,
        from: &mut impl BufRead,
        sink: &mut dyn FnMut(&[u8]),
    ) -> io::Result<u64> {
        let mut part = [0; 64 * 1024];
        let mut total = 0;
        loop {
            match self.read_body(from, &mut part)? {
                0 => return Ok(total),
                n => {
                    sink(&part[..n]);
                    total += n as u64;
                }
            }
        }
    }
}
