//! What the upstream does, by the last segment of the path:
//!
//! | segment | behaviour |
//! |---|---|
//! | `echo` | the body back in the framing it came in, trailers too; streamed |
//! | `head` | the request's head as it arrived, as text |
//! | `pattern?seed=&size=[&chunked=1]` | a body by [`pattern`] |
//! | `verify?seed=` | reads the body, says whether it is that pattern |
//! | `exchange?seed=&size=` | both: verifies what came (`X-Verdict`), then answers with a pattern |
//! | `status/N` | an answer with that status and no body of its own (HEAD: with a Content-Length) |
//! | `early` | 413 at once, the body unread, then closes |
//! | `refuse-continue` | 403 at once instead of 100 |
//! | `interim` | 103 with a Link, then 200 |
//! | `trailers` | a chunked answer with trailers |
//! | `cut?size=&after=[&chunked=1]` | promises `size` bytes, sends `after`, then resets |
//! | `cut-head` | closes instead of answering |
//! | `quiet-close` | 200, and a close that no header announced |
//! | `garbage` | an answer that is no HTTP |
//! | `hang` | never answers; notes when the connection ends |
//! | `gated?gate=` | one chunk at once, the next when the test opens the gate |
//! | anything else | 200 with the path as text |

use super::super::pattern;
use super::{PATIENCE, Request, State};
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

pub struct Exchange<'a> {
    pub request: &'a mut Request,
    pub reading: &'a mut BufReader<TcpStream>,
    pub writing: &'a mut TcpStream,
    pub(super) state: &'a State,
}

/// Answers. `Ok(false)`: the connection must not be used again.
pub fn answer(exchange: &mut Exchange<'_>) -> io::Result<bool> {
    let path = exchange.request.path().to_owned();
    if let Some((_, status)) = path.split_once("/status/") {
        let status = status.parse().unwrap_or(200);
        return exchange.status(status);
    }
    match path.rsplit('/').next().unwrap_or_default() {
        "echo" => exchange.echo(),
        "head" => {
            let text = exchange.request.head.clone();
            exchange.whole(200, &[], text.as_bytes())
        }
        "pattern" => exchange.pattern(&[]),
        "verify" => {
            let verdict = exchange.verify()?;
            exchange.whole(200, &[], verdict.as_bytes())
        }
        "exchange" => {
            let verdict = exchange.verify()?;
            exchange.pattern(&[("X-Verdict", &verdict)])
        }
        "early" => {
            let text = b"too large for me";
            exchange.write_head(
                413,
                &[
                    ("Connection", "close"),
                    ("Content-Length", &text.len().to_string()),
                ],
            )?;
            exchange.writing.write_all(text)?;
            exchange.linger()
        }
        "refuse-continue" => {
            exchange.write_head(403, &[("Connection", "close"), ("Content-Length", "0")])?;
            exchange.linger()
        }
        "interim" => {
            exchange
                .writing
                .write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")?;
            exchange.whole(200, &[], b"after hints")
        }
        "trailers" => {
            exchange.write_head(
                200,
                &[("Transfer-Encoding", "chunked"), ("Trailer", "X-Sum")],
            )?;
            exchange
                .writing
                .write_all(b"5\r\nfirst\r\n6\r\nsecond\r\n0\r\nX-Sum: 11\r\n\r\n")?;
            Ok(true)
        }
        "cut" => exchange.cut(),
        "cut-head" => Ok(false),
        "quiet-close" => exchange.whole(200, &[], b"bye").map(|_| false),
        "garbage" => {
            exchange.writing.write_all(b"SMTP ready\r\n\r\n")?;
            Ok(false)
        }
        "hang" => exchange.hang(),
        "gated" => exchange.gated(),
        _ => exchange.whole(200, &[], path.as_bytes()),
    }
}

impl Exchange<'_> {
    fn write_head(&mut self, status: u16, fields: &[(&str, &str)]) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {status} Status\r\n");
        fields
            .iter()
            .for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        head.push_str("\r\n");
        self.writing.write_all(head.as_bytes())
    }

    /// Reads what is left of the request, then answers whole.
    fn whole(&mut self, status: u16, fields: &[(&str, &str)], body: &[u8]) -> io::Result<bool> {
        self.agree()?;
        self.request.drain(self.reading, &mut |_| {})?;
        let length = body.len().to_string();
        self.write_head(status, &[fields, &[("Content-Length", &length)]].concat())?;
        if self.request.method != "HEAD" {
            self.writing.write_all(body)?;
        }
        Ok(true)
    }

    /// 100 Continue to who waits for it.
    fn agree(&mut self) -> io::Result<()> {
        if self.request.header("Expect").is_some() && !self.request.is_complete() {
            self.writing.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        Ok(())
    }

    fn status(&mut self, status: u16) -> io::Result<bool> {
        self.request.drain(self.reading, &mut |_| {})?;
        let fields: &[(&str, &str)] = match status {
            204 => &[("X-Kind", "empty")],
            304 => &[("ETag", "\"a\""), ("Content-Length", "5000")],
            _ => return self.whole(status, &[], b"as you wish"),
        };
        self.write_head(status, fields)?;
        Ok(true)
    }

    fn verify(&mut self) -> io::Result<String> {
        self.agree()?;
        let mut check = pattern::Check::new(self.request.number("seed"));
        self.request
            .drain(self.reading, &mut |bytes| check.feed(bytes))?;
        Ok(check.verdict())
    }

    fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
        framed.extend_from_slice(bytes);
        framed.extend_from_slice(b"\r\n");
        self.writing.write_all(&framed)
    }

    /// The head of a patterned body, and its first bytes, as many as `bytes`.
    fn patterned(
        &mut self,
        fields: &[(&str, &str)],
        promised: u64,
        bytes: u64,
    ) -> io::Result<bool> {
        let (seed, chunked) = (
            self.request.number("seed"),
            self.request.number("chunked") == 1,
        );
        let length = promised.to_string();
        let framing = if chunked {
            ("Transfer-Encoding", "chunked")
        } else {
            ("Content-Length", length.as_str())
        };
        self.write_head(200, &[fields, &[framing]].concat())?;
        if self.request.method == "HEAD" {
            return Ok(false);
        }
        let mut part = vec![0; 64 * 1024];
        let mut offset = 0;
        while offset < bytes {
            let n = part
                .len()
                .min(usize::try_from(bytes - offset).unwrap_or(usize::MAX));
            pattern::fill(seed, offset, &mut part[..n]);
            if chunked {
                self.chunk(&part[..n])?;
            } else {
                self.writing.write_all(&part[..n])?;
            }
            offset += n as u64;
        }
        Ok(chunked)
    }

    fn pattern(&mut self, fields: &[(&str, &str)]) -> io::Result<bool> {
        self.request.drain(self.reading, &mut |_| {})?;
        let size = self.request.number("size");
        if self.patterned(fields, size, size)? {
            self.writing.write_all(b"0\r\n\r\n")?;
        }
        Ok(true)
    }

    fn cut(&mut self) -> io::Result<bool> {
        let (size, after) = (self.request.number("size"), self.request.number("after"));
        self.patterned(&[], size, after)?;
        if self.state.wait_gate("cut") {
            let linger = socket2::SockRef::from(&*self.writing).set_linger(Some(Duration::ZERO));
            linger?;
        }
        Ok(false)
    }

    fn echo(&mut self) -> io::Result<bool> {
        self.agree()?;
        let chunked = self.request.is_chunked();
        let length = self
            .request
            .header("Content-Length")
            .unwrap_or("0")
            .to_owned();
        let framing = if chunked {
            ("Transfer-Encoding", "chunked")
        } else {
            ("Content-Length", length.as_str())
        };
        self.write_head(200, &[framing])?;
        let mut part = [0; 64 * 1024];
        loop {
            match self.request.read_body(self.reading, &mut part)? {
                0 => break,
                n if chunked => self.chunk(&part[..n])?,
                n => self.writing.write_all(&part[..n])?,
            }
        }
        if chunked {
            let mut end = String::from("0\r\n");
            self.request
                .trailers
                .iter()
                .for_each(|(name, value)| end.push_str(&format!("{name}: {value}\r\n")));
            end.push_str("\r\n");
            self.writing.write_all(end.as_bytes())?;
        }
        Ok(true)
    }

    /// Closes so that the answer arrives: FIN, then reads on until the peer is done.
    fn linger(&mut self) -> io::Result<bool> {
        self.writing.shutdown(Shutdown::Write)?;
        let mut part = [0; 64 * 1024];
        while let Ok(1..) = self.reading.read(&mut part) {}
        Ok(false)
    }

    /// Reads until the peer closes, which is an error here: it waited for an answer.
    fn hang(&mut self) -> io::Result<bool> {
        self.request.drain(self.reading, &mut |_| {})?;
        self.reading.get_ref().set_read_timeout(Some(PATIENCE))?;
        let mut part = [0; 1024];
        while self.reading.read(&mut part)? > 0 {}
        Err(io::ErrorKind::ConnectionAborted.into())
    }

    fn gated(&mut self) -> io::Result<bool> {
        let gate = self
            .request
            .parameter("gate")
            .unwrap_or_default()
            .to_owned();
        self.write_head(
            200,
            &[
                ("Transfer-Encoding", "chunked"),
                ("Content-Type", "text/event-stream"),
            ],
        )?;
        self.chunk(b"data: first\n\n")?;
        if !self.state.wait_gate(&gate) {
            return Ok(false);
        }
        self.chunk(b"data: second\n\n")?;
        self.writing.write_all(b"0\r\n\r\n")?;
        Ok(true)
    }
}
