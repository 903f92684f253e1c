//! Reads HTTP/1.1 answers, strictly, from any stream.

use std::io::{self, Read};

/// A response as it arrived.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Answer {
    /// The first header of this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub fn trailer(&self, name: &str) -> Option<&str> {
        find(&self.trailers, name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Asserts a refusal for want of a good token (RFC 6750 §3.1).
    #[track_caller]
    pub fn assert_invalid_token(&self) {
        self.assert_problem(401, "unauthenticated");
        let challenge = self.header("WWW-Authenticate");
        assert_eq!(
            challenge,
            Some("Bearer error=\"invalid_token\""),
            "{}",
            self.head
        );
    }

    /// Asserts a problem document of the gateway's: status, code in header and body, one request id in both.
    #[track_caller]
    pub fn assert_problem(&self, status: u16, code: &str) {
        let shown = || format!("{}\n{}", self.head, self.text());
        assert_eq!(self.status, status, "{}", shown());
        assert_eq!(self.header("Tidegate-Error"), Some(code), "{}", shown());
        assert_eq!(
            self.header("Content-Type"),
            Some("application/problem+json"),
            "{}",
            shown()
        );
        let document: serde_json::Value = serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", shown()));
        assert_eq!(document["code"], code, "{}", shown());
        assert_eq!(document["status"], status, "{}", shown());
        let who = document["who"].as_str().unwrap_or_default();
        assert!(
            ["gateway", "connector", "upstream"].contains(&who),
            "{}",
            shown()
        );
        let id = self.header("Tidegate-Request-Id").unwrap_or_default();
        assert!(
            !id.is_empty() && document["request_id"] == id,
            "{}",
            shown()
        );
    }
}

fn find<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields
        .iter()
        .find(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

fn wrong(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

/// Answers one after the other from one stream.
pub struct Reader {
    buffer: Vec<u8>,
}

impl Reader {
    pub fn new() -> Reader {
        Reader { buffer: Vec::new() }
    }

    /// Reads more; an end of the stream is an error, orderly or not.
    fn more(&mut self, from: &mut impl Read) -> io::Result<()> {
        let mut part = [0; 64 * 1024];
        match from.read(&mut part)? {
            0 => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the peer closed the connection",
            )),
            n => {
                self.buffer.extend_from_slice(&part[..n]);
                Ok(())
            }
        }
    }

    fn line(&mut self, from: &mut impl Read) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 2);
                return Ok(line);
            }
            self.more(from)?;
        }
    }

    fn fields(&mut self, from: &mut impl Read) -> io::Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line(from)?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| wrong(format!("no field: {line}")))?;
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// The next head, interim or final.
    pub fn head(&mut self, from: &mut impl Read) -> io::Result<Answer> {
        let line = self.line(from)?;
        let status = line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or_else(|| wrong(format!("no status line: {line}")))?;
        let headers = self.fields(from)?;
        let mut head = line;
        headers
            .iter()
            .for_each(|(name, value)| head.push_str(&format!("\n{name}: {value}")));
        Ok(Answer {
            status,
            head,
            headers,
            ..Answer::default()
        })
    }

    /// Body bytes to `sink`, by the framing of `answer`; fills in its trailers.
    pub fn body(
        &mut self,
        from: &mut impl Read,
        answer: &mut Answer,
        to_head_request: bool,
        sink: &mut dyn FnMut(&[u8]),
    ) -> io::Result<()> {
        if to_head_request || matches!(answer.status, 100..=199 | 204 | 304) {
            return Ok(());
        }
        if answer
            .header("Transfer-Encoding")
            .is_some_and(|te| te.eq_ignore_ascii_case("chunked"))
        {
            loop {
                let line = self.line(from)?;
                let size = line.split(';').next().unwrap_or_default().trim();
                let size = u64::from_str_radix(size, 16)
                    .map_err(|_| wrong(format!("no chunk size: {line}")))?;
                if size == 0 {
                    answer.trailers = self.fields(from)?;
                    return Ok(());
                }
                self.exactly(from, size, sink)?;
                let end = self.line(from)?;
                if !end.is_empty() {
                    return Err(wrong("a chunk is longer than its size"));
                }
            }
        }
        if let Some(length) = answer.header("Content-Length") {
            let length = length
                .parse()
                .map_err(|_| wrong(format!("Content-Length: {length}")))?;
            return self.exactly(from, length, sink);
        }
        loop {
            sink(&std::mem::take(&mut self.buffer));
            match self.more(from) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => return Ok(()),
                other => other?,
            }
        }
    }

    /// The next chunk of a chunked body; `None`: the last one, without trailers.
    pub fn chunk(&mut self, from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
        let line = self.line(from)?;
        let size =
            u64::from_str_radix(&line, 16).map_err(|_| wrong(format!("no chunk size: {line}")))?;
        let bytes = self.bytes(from, size)?;
        let end = self.line(from)?;
        if !end.is_empty() {
            return Err(wrong("a chunk is longer than its size"));
        }
        Ok((size > 0).then_some(bytes))
    }

    /// The next so many bytes.
    pub fn bytes(&mut self, from: &mut impl Read, count: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.exactly(from, count, &mut |part| bytes.extend_from_slice(part))?;
        Ok(bytes)
    }

    fn exactly(
        &mut self,
        from: &mut impl Read,
        mut left: u64,
        sink: &mut dyn FnMut(&[u8]),
    ) -> io::Result<()> {
        while left > 0 {
            if self.buffer.is_empty() {
                self.more(from)?;
            }
            let n = self
                .buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            sink(&self.buffer[..n]);
            self.buffer.drain(..n);
            left -= n as u64;
        }
        Ok(())
    }

    /// A whole final answer; interim ones before it are passed over.
    pub fn answer(&mut self, from: &mut impl Read, to_head_request: bool) -> io::Result<Answer> {
        loop {
            let mut answer = self.head(from)?;
            if answer.status >= 200 {
                let mut body = Vec::new();
                self.body(from, &mut answer, to_head_request, &mut |bytes| {
                    body.extend_from_slice(bytes)
                })?;
                answer.body = body;
                return Ok(answer);
            }
        }
    }

    /// Bytes that came behind what was asked for.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// A GET over clear TCP (admin ports), on whichever loopback address listens.
pub fn get(port: u16, path: &str) -> io::Result<Answer> {
    use std::io::Write;
    let loopback = [
        (std::net::Ipv4Addr::LOCALHOST, port).into(),
        (std::net::Ipv6Addr::LOCALHOST, port).into(),
    ];
    let mut stream = std::net::TcpStream::connect::<&[std::net::SocketAddr]>(&loopback)?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    Reader::new().answer(&mut stream, false)
}
