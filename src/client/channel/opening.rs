//! From the TCP connection to an open channel.

use super::Kind;
use super::reader::{Desk, Ending, Reader, error_code};
use crate::wire::http1::{self, ClientEvent};
use crate::wire::record::Outgoing;
use crate::wire::tls::{self, Step};
use crate::wire::{Put, websocket};
use std::time::Instant;

/// A channel on its way; boxed by its owner, since there are few.
pub struct Opening {
    pub number: u32,
    began: Instant,
    kind: Kind,
    tls: tls::Connection,
    offer: Option<websocket::Offer<'static>>,
    http: Option<http1::Client>,
    /// There once the channel is open.
    reader: Option<Reader>,
    /// Plaintext to send.
    staged: Vec<u8>,
}

impl Opening {
    pub fn new(number: u32, desk: &mut Desk) -> Result<Opening, String> {
        let config = desk.job.tls(number)?;
        let tls = tls::Connection::client(&config, desk.job.server.clone());
        let kind = desk.job.kind(number);
        let offer = (kind == Kind::WebSocket).then(|| {
            let mut nonce = [0; 16];
            desk.random.fill(&mut nonce);
            websocket::Offer::new(nonce, None)
        });
        Ok(Opening {
            number,
            began: desk.now,
            kind,
            tls: tls.map_err(|error| error.text)?,
            offer,
            http: None,
            reader: None,
            staged: Vec::new(),
        })
    }

    pub fn is_open(&self) -> bool {
        self.reader.is_some()
    }

    /// Takes bytes of the gateway. Call `send` afterwards.
    pub fn receive(&mut self, input: &mut [u8], desk: &mut Desk) -> Result<(), Ending> {
        let mut used = 0;
        loop {
            let plain = match self.tls.next(input, &mut used) {
                Ok(Step::NeedMore) => return Ok(()),
                Ok(Step::Established(_)) => {
                    let offer = self.offer.as_ref();
                    let http = desk.job.ask(self.kind).write(offer, &mut self.staged);
                    self.http = Some(http);
                    if self.kind == Kind::Poll {
                        // It waits, and thus is a channel: the answer ends it.
                        self.reader = Some(Reader::Poll(None));
                        self.opened(desk);
                    }
                    continue;
                }
                Ok(Step::Data(plain)) => plain,
                Ok(Step::Closed) => return Err(Ending::new("closed by the gateway")),
                Err(error) => return Err(Ending::new(error.text)),
            };
            let rest = match &mut self.reader {
                Some(_) => plain,
                None => match head(self.http.as_mut(), self.offer.as_ref(), plain)? {
                    None => continue,
                    Some(at) => {
                        self.reader = Some(match self.kind {
                            Kind::WebSocket => Reader::WebSocket(websocket::Parked::default()),
                            _ => Reader::Events,
                        });
                        desk.opened(self.began);
                        plain.get_mut(at..).unwrap_or_default()
                    }
                },
            };
            if let Some(reader) = self.reader.as_mut().filter(|_| !rest.is_empty()) {
                reader.read(rest, desk, &mut self.staged)?;
            }
        }
    }

    fn opened(&self, desk: &mut Desk) {
        desk.opened(self.began);
    }

    /// Bytes to send; the last ones must have gone out in full.
    pub fn send(&mut self, buffer: Vec<u8>) -> Result<Vec<u8>, String> {
        if self.staged.is_empty() && !self.tls.wants_transmit() {
            return Ok(Vec::new());
        }
        let mut out = Outgoing::new(self.tls.layout(), buffer);
        if self.tls.is_established() {
            out.put(&self.staged);
            self.staged = Vec::new();
        }
        self.tls.transmit(out).map_err(|error| error.text)
    }

    /// The channel as it is held; the opening itself, while it is not open or something waits in it.
    pub fn park(self: Box<Self>) -> Result<(u32, tls::Parked, Reader), Box<Self>> {
        if !self.staged.is_empty() || self.reader.is_none() {
            return Err(self);
        }
        let Opening { number, tls, .. } = *self;
        match (tls.park(), self.reader) {
            (Ok(parked), Some(reader)) => Ok((number, parked, reader)),
            (Ok(_), None) => unreachable!("looked at before"),
            (Err(tls), reader) => Err(Box::new(Opening {
                tls,
                reader,
                number,
                began: self.began,
                kind: self.kind,
                offer: self.offer,
                http: self.http,
                staged: self.staged,
            })),
        }
    }
}

impl Desk {
    fn opened(&mut self, began: Instant) {
        let took = self.now.saturating_duration_since(began);
        self.counts.opened += 1;
        self.counts.held += 1;
        let times = &mut self.times.opening;
        let _ = times.record(took.as_micros() as u64);
    }
}

/// Reads up to the end of the answer's head; gives where that is.
fn head(
    http: Option<&mut http1::Client>,
    offer: Option<&websocket::Offer<'_>>,
    plain: &[u8],
) -> Result<Option<usize>, Ending> {
    let Some(http) = http else {
        return Err(Ending::new("an answer before the request"));
    };
    let mut used = 0;
    loop {
        let head = match http.next(plain, &mut used) {
            Ok(ClientEvent::NeedMore) => return Ok(None),
            Ok(ClientEvent::Head(head)) => head,
            Ok(_) => continue,
            Err(refusal) => return Err(Ending::new(refusal.why)),
        };
        match (offer, head.status) {
            (None, 200) => {}
            (Some(offer), 101) => offer.check(&head).map_err(Ending::new)?,
            (_, status) => {
                let text = format!("answered {status} {}", error_code(&head));
                return Err(Ending::new(text.trim_end()));
            }
        }
        return Ok(Some(used));
    }
}
