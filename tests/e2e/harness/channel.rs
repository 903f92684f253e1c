//! Clients of notification channels, by hand: every chunk and frame is looked at.

use super::Tls;
use super::http::Answer;
use std::io;

pub const PATH: &str = "/.tidegate/channel";

/// What an event stream said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Event {
        event: String,
        id: String,
        data: String,
    },
    Retry(u64),
    KeepAlive,
    /// The last chunk.
    End,
}

impl Said {
    /// Why the gateway ends the channel.
    #[track_caller]
    pub fn reason(&self) -> String {
        let Said::Event { event, data, .. } = self else {
            panic!("no end: {self:?}");
        };
        assert_eq!(event, "close", "{data}");
        let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
        assert!(data["retry_ms"].is_u64(), "{data}");
        data["reason"].as_str().expect("a reason").to_owned()
    }
}

/// An open event stream.
pub struct Stream {
    pub tls: Tls,
}

/// Asks for a channel with more fields (each with its line end).
fn ask(tls: &mut Tls, query: &str, fields: &str) -> io::Result<()> {
    let line = format!("GET {PATH}{query} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    tls.try_send(line)
}

impl Stream {
    /// Opens one, up to its retry.
    #[track_caller]
    pub fn open(mut tls: Tls, fields: &str) -> Stream {
        ask(&mut tls, "", fields).expect("a request");
        let head = tls.head();
        assert_eq!(head.status, 200, "{}", head.head);
        assert_eq!(head.header("Content-Type"), Some("text/event-stream"));
        assert_eq!(head.header("Cache-Control"), Some("no-store"));
        assert_eq!(head.header("Transfer-Encoding"), Some("chunked"));
        let mut stream = Stream { tls };
        let Said::Retry(ms) = stream.next() else {
            panic!("an event stream begins with its retry");
        };
        assert!((1..=60_000).contains(&ms));
        stream
    }

    #[track_caller]
    pub fn next(&mut self) -> Said {
        self.try_next().expect("an event")
    }

    /// The next chunk: one event.
    pub fn try_next(&mut self) -> io::Result<Said> {
        let Some(chunk) = self.tls.chunk()? else {
            return Ok(Said::End);
        };
        let text = String::from_utf8(chunk).expect("UTF-8");
        let lines: Vec<&str> = text
            .strip_suffix("\n\n")
            .expect("a whole event")
            .split('\n')
            .collect();
        let value = |name: &str| {
            let all: Vec<&str> = lines.iter().filter_map(|l| l.strip_prefix(name)).collect();
            all.join("\n")
        };
        Ok(match lines[0] {
            comment if comment.starts_with(':') => Said::KeepAlive,
            retry if retry.starts_with("retry: ") && lines.len() == 1 => {
                Said::Retry(value("retry: ").parse().expect("milliseconds"))
            }
            _ => Said::Event {
                event: value("event: "),
                id: value("id: "),
                data: value("data: "),
            },
        })
    }

    /// The next event that is none of the keep-alives.
    #[track_caller]
    pub fn event(&mut self) -> Said {
        loop {
            match self.next() {
                Said::KeepAlive => {}
                said => return said,
            }
        }
    }

    /// The gateway ends the channel for this reason, in order.
    #[track_caller]
    pub fn ends(mut self, reason: &str) {
        assert_eq!(self.event().reason(), reason);
        assert_eq!(self.next(), Said::End);
        assert_eq!(self.tls.rest().expect("close_notify"), b"");
    }
}

/// A long poll.
pub fn poll(tls: &mut Tls, seconds: u32, fields: &str) -> io::Result<Answer> {
    ask(tls, &format!("?wait={seconds}"), fields)?;
    tls.try_answer()
}

/// Asks for a long poll, without waiting for what comes.
#[track_caller]
pub fn begin_poll(tls: &mut Tls, seconds: u32) {
    ask(tls, &format!("?wait={seconds}"), "").expect("a request");
}

/// An open WebSocket.
pub struct Socket {
    pub tls: Tls,
}

/// A frame of the server's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    Text(String),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
}

pub const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n";

impl Socket {
    #[track_caller]
    pub fn open(mut tls: Tls, fields: &str) -> Socket {
        ask(&mut tls, "", &format!("{UPGRADE}{fields}")).expect("a request");
        let head = tls.head();
        assert_eq!(head.status, 101, "{}", head.head);
        assert_eq!(
            head.header("Sec-WebSocket-Accept"),
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        );
        assert_eq!(head.header("Sec-WebSocket-Extensions"), None, "declined");
        Socket { tls }
    }

    /// Sends a masked frame with these first two bits and opcode.
    #[track_caller]
    pub fn send(&mut self, first: u8, payload: &[u8]) {
        let frame = frame(first, payload);
        self.tls.send(frame);
    }

    #[track_caller]
    pub fn next(&mut self) -> Frame {
        self.try_next().expect("a frame")
    }

    pub fn try_next(&mut self) -> io::Result<Frame> {
        let head = self.tls.bytes(2)?;
        assert_eq!(head[1] & 0x80, 0, "a server masks nothing");
        let length = match head[1] {
            126 => u64::from(u16::from_be_bytes(
                self.tls.bytes(2)?.try_into().expect("2 bytes"),
            )),
            127 => panic!("no frame of ours is that long"),
            short => u64::from(short),
        };
        let payload = self.tls.bytes(length)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        Ok(match head[0] {
            0x81 => Frame::Text(text(&payload)),
            0x88 => Frame::Close(
                u16::from_be_bytes(payload[..2].try_into().expect("a code")),
                text(&payload[2..]),
            ),
            0x89 => Frame::Ping(payload),
            0x8a => Frame::Pong(payload),
            other => panic!("frame {other:#x}"),
        })
    }

    /// The gateway ends the channel with this code and reason.
    #[track_caller]
    pub fn ends(mut self, code: u16, reason: &str) {
        assert_eq!(self.next(), Frame::Close(code, reason.into()));
        assert_eq!(self.tls.rest().expect("close_notify"), b"");
    }
}

/// A masked frame.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [7, 11, 13, 17];
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0x80 | 126);
            frame.extend((long as u16).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(b, m)| b ^ m));
    frame
}
