//! One connection of the load: TLS and HTTP over a socket of the ring.

use std::time::{Duration, Instant};

use crate::ring::SocketId;
use crate::wire::Field;
use crate::wire::http1::{self, ClientEvent, Framing};
use crate::wire::record::Outgoing;
use crate::wire::tls::{self, Established, Step};

use super::figures::Class;
use super::mix::Pick;
use super::plan::Asked;

const LIMITS: http1::Limits = http1::Limits {
    head_bytes: 64 * 1024,
    header_count: 100,
    trailer_bytes: 16 * 1024,
};

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Connecting,
    Handshaking,
    /// Between requests, or in one.
    Open,
    /// Handshakes: established and measured; a session ticket is still to come.
    AwaitsTicket,
    /// close_notify is on its way; the socket goes when it is sent.
    Ending,
}

/// A request under way; of a handshake run, the whole life of the connection.
pub struct Exchange {
    pub pick: Pick,
    /// When it was due; in a closed loop when it was sent.
    pub intended: Instant,
    pub sent: Instant,
    pub status: u16,
    pub body_left: u64,
}

pub struct Line {
    pub socket: SocketId,
    pub stage: Stage,
    /// When this stage began.
    pub since: Instant,
    pub exchange: Option<Exchange>,
    /// In the list of those that have something to send.
    pub dirty: bool,
    /// Receives into large buffers.
    pub large: bool,
    /// Of a handshake that is to give a session ticket for a later one.
    pub awaits_ticket: bool,
    tls: Option<tls::Connection>,
    http: http1::Client,
    out: Option<Outgoing>,
}

/// A step of what came in.
pub enum Came {
    /// All of it is used.
    NeedMore,
    Established(Box<Established>),
    /// Something of an answer: so many bytes of body.
    Part {
        body: u64,
        large: bool,
    },
    /// The answer is complete.
    Answer {
        body: u64,
    },
    /// The server ends the connection, in order.
    Closed,
}

/// Why a connection is of no use any more.
pub struct Broken {
    pub class: Class,
    pub text: String,
}

impl Line {
    pub fn new(socket: SocketId, tls: Option<tls::Connection>, now: Instant) -> Line {
        Line {
            socket,
            stage: Stage::Connecting,
            since: now,
            exchange: None,
            dirty: false,
            large: false,
            awaits_ticket: false,
            tls,
            http: http1::Client::new(LIMITS),
            out: None,
        }
    }

    pub fn is_clear(&self) -> bool {
        self.tls.is_none()
    }

    /// Ready for a request.
    pub fn is_ready(&self) -> bool {
        self.stage == Stage::Open && self.exchange.is_none() && self.http.is_reusable()
    }

    /// When it has waited for too long, if it waits.
    pub fn deadline(&self, timeout: Duration) -> Option<Instant> {
        match (self.stage, &self.exchange) {
            (Stage::Connecting | Stage::Handshaking | Stage::Ending, _) => {
                Some(self.since + timeout)
            }
            (Stage::Open, Some(exchange)) => Some(exchange.sent.max(self.since) + timeout),
            (Stage::Open | Stage::AwaitsTicket, _) => None,
        }
    }

    /// Writes the exchange's head, and its end if it has no body.
    pub fn send_head(
        &mut self,
        asked: &Asked,
        target: &[u8],
        user: usize,
        buffers: &mut Vec<Vec<u8>>,
    ) {
        let out = out(&mut self.out, self.tls.as_ref(), buffers);
        let framing = match asked.body {
            0 => Framing::None,
            length => Framing::Length(length),
        };
        let host = Field {
            name: b"Host",
            value: asked.host.as_bytes(),
        };
        let token = (!asked.tokens.is_empty()).then(|| Field {
            name: b"Authorization",
            value: asked.tokens[user % asked.tokens.len()].as_bytes(),
        });
        let fields = asked.fields.iter().map(|(name, value)| Field {
            name: name.as_bytes(),
            value: value.as_bytes(),
        });
        let fields = std::iter::once(host).chain(token).chain(fields);
        self.http
            .send_head(out, &asked.method, target, fields, framing);
        if asked.body == 0 {
            self.http.send_end(out, []);
        }
    }

    /// Stages the next bytes of the body, as many as `body` holds; how many.
    pub fn stage_body(&mut self, body: &[u8], buffers: &mut Vec<Vec<u8>>) -> u64 {
        let Some(exchange) = self
            .exchange
            .as_mut()
            .filter(|exchange| exchange.body_left > 0)
        else {
            return 0;
        };
        let count = exchange.body_left.min(body.len() as u64);
        exchange.body_left -= count;
        let is_last = exchange.body_left == 0;
        let out = out(&mut self.out, self.tls.as_ref(), buffers);
        self.http.send_data(out, &body[..count as usize]);
        if is_last {
            self.http.send_end(out, []);
        }
        count
    }

    /// What is to be sent now; empty when there is nothing. The last send must be complete.
    pub fn transmit(&mut self, buffers: &mut Vec<Vec<u8>>) -> Result<Vec<u8>, Broken> {
        let Some(tls) = self.tls.as_mut() else {
            return Ok(self
                .out
                .take()
                .map(Outgoing::into_clear_text)
                .unwrap_or_default());
        };
        if self.out.is_none() && !tls.wants_transmit() {
            return Ok(Vec::new());
        }
        let out = match self.out.take() {
            Some(out) => out,
            None => Outgoing::new(tls.layout(), buffers.pop().unwrap_or_default()),
        };
        tls.transmit(out).map_err(|error| Broken {
            class: Class::Own,
            text: error.text,
        })
    }

    /// Ends the TLS connection with the next `transmit`.
    pub fn close(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.close();
        }
    }

    /// Takes one step of `input[*used..]`. Call until `NeedMore`, `Closed` or an error.
    pub fn take(&mut self, input: &mut [u8], used: &mut usize) -> Result<Came, Broken> {
        let Some(tls) = &mut self.tls else {
            if *used == input.len() {
                return Ok(Came::NeedMore);
            }
            let plain = &input[std::mem::replace(used, input.len())..];
            return answer(&mut self.http, self.exchange.as_mut(), plain);
        };
        match tls.next(input, used) {
            Ok(Step::NeedMore) => Ok(Came::NeedMore),
            Ok(Step::Established(established)) => Ok(Came::Established(established)),
            Ok(Step::Data(plain)) => answer(&mut self.http, self.exchange.as_mut(), plain),
            Ok(Step::Closed) => Ok(Came::Closed),
            Err(error) => Err(Broken {
                class: match self.stage {
                    Stage::Connecting | Stage::Handshaking => Class::Handshake,
                    _ => Class::BrokenOff,
                },
                text: error.text,
            }),
        }
    }

    /// The server ends the connection: true when that ends the answer.
    pub fn finish(&mut self) -> Result<bool, Broken> {
        let broken = |class, text: &str| Broken {
            class,
            text: text.to_owned(),
        };
        match self.stage {
            Stage::Connecting => Err(broken(Class::Connect, "closed by the server")),
            Stage::Handshaking => Err(broken(
                Class::Handshake,
                "closed by the server in the handshake",
            )),
            _ => self
                .http
                .finish()
                .map_err(|refusal| broken(Class::BrokenOff, refusal.why)),
        }
    }

    pub fn is_reusable(&self) -> bool {
        self.http.is_reusable()
    }
}

fn out<'o>(
    out: &'o mut Option<Outgoing>,
    tls: Option<&tls::Connection>,
    buffers: &mut Vec<Vec<u8>>,
) -> &'o mut Outgoing {
    out.get_or_insert_with(|| {
        let buffer = buffers.pop().unwrap_or_default();
        match tls {
            Some(tls) => Outgoing::new(tls.layout(), buffer),
            None => Outgoing::clear_text(buffer),
        }
    })
}

/// An answer of this length is worth large buffers.
const LARGE_ANSWER: u64 = 16 * 1024;

/// Takes plaintext of an answer.
fn answer(
    http: &mut http1::Client,
    mut exchange: Option<&mut Exchange>,
    plain: &[u8],
) -> Result<Came, Broken> {
    let (mut used, mut body, mut large, mut complete) = (0, 0, false, false);
    loop {
        match http.next(plain, &mut used) {
            Ok(ClientEvent::NeedMore) if complete => return Ok(Came::Answer { body }),
            Ok(ClientEvent::NeedMore) => return Ok(Came::Part { body, large }),
            Ok(ClientEvent::Head(head)) => {
                large = match head.framing {
                    Framing::Length(length) => length > LARGE_ANSWER,
                    _ => false,
                };
                if let Some(exchange) = exchange.as_deref_mut() {
                    exchange.status = head.status;
                }
            }
            Ok(ClientEvent::Interim(_)) => {}
            Ok(ClientEvent::Data(bytes)) => body += bytes.len() as u64,
            Ok(ClientEvent::End { .. }) => complete = true,
            Err(refusal) => {
                return Err(Broken {
                    class: Class::Unreadable,
                    text: refusal.why.to_owned(),
                });
            }
        }
    }
}
