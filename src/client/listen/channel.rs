//! One channel of each kind, from its request to its end.

use super::Listener;
use super::line::{Line, Trouble};
use crate::client::channel::ask::{Ask, field};
use crate::client::channel::reader::MESSAGES;
use crate::client::channel::{Kind, events};
use crate::wire::event_stream::{Item, Parser};
use crate::wire::http1::{self, ClientEvent, Framing};
use crate::wire::websocket;
use std::time::{Duration, Instant};

/// A line or an event: a push of 4 KiB and what is around it.
const EVENT_MAX: usize = 64 * 1024;

impl Listener {
    /// Opens a channel and follows it. `Ok`: as many pushes as were wanted.
    pub(super) fn channel(&mut self) -> Result<(), Trouble> {
        let mut line = self.connect()?;
        match self.options.kind {
            Kind::Sse => self.events(&mut line),
            Kind::WebSocket => self.messages(&mut line),
            Kind::Poll => self.polls(&mut line),
        }
    }

    fn connect(&self) -> Result<Line, Trouble> {
        Line::connect(&self.options.gateway, &self.tls, self.name.clone())
    }

    fn ask(&self) -> Ask<'_> {
        Ask {
            host: &self.host,
            token: self.token.as_deref(),
            kind: self.options.kind,
            poll_wait_s: self.options.poll_wait_s,
            last_id: if self.options.ack { &self.last_id } else { "" },
        }
    }

    fn open(
        &mut self,
        line: &mut Line,
        offer: Option<&websocket::Offer<'_>>,
    ) -> Result<(), Trouble> {
        let wanted = if offer.is_some() { 101 } else { 200 };
        let mut out = Vec::new();
        line.http = self.ask().write(offer, &mut out);
        line.send(&out).map_err(Trouble::passing)?;
        let answer = line.answer(|status| status != wanted)?;
        if answer.status != wanted {
            return Err(answer.trouble());
        }
        self.last_id.clear(); // the gateway has it
        line.set_patience(self.options.silence)
            .map_err(Trouble::passing)
    }

    fn events(&mut self, line: &mut Line) -> Result<(), Trouble> {
        self.open(line, None)?;
        let mut parser = Parser::new(EVENT_MAX);
        let mut retry = None;
        loop {
            let mut body = Vec::new();
            let ended = read_body(line, &mut body)?;
            let (mut used, mut ids, mut end) = (0, Vec::new(), None);
            loop {
                match parser.next(&body, &mut used) {
                    Ok(Item::NeedMore) => break,
                    Ok(Item::Comment(_)) => {}
                    Ok(Item::Retry(millis)) => retry = Some(Duration::from_millis(millis)),
                    Ok(Item::Event { event, data, .. }) => match event {
                        "push" => ids.extend(self.print(data)),
                        "close" => end = Some(closed(data)),
                        _ => {}
                    },
                    Err(_) => return Err(Trouble::passing("an event is too long")),
                }
            }
            self.acknowledge(&ids)?;
            if self.is_done() {
                return Ok(());
            }
            if let Some(end) = end {
                return Err(end);
            }
            if ended {
                let told = retry.map(|span| span.mul_f64(fastrand::f64()));
                return Err(Trouble::Passing("the channel ended".to_owned(), told));
            }
        }
    }

    /// Receipts of events take a request of their own; one that does not get through is left to `Last-Event-ID`.
    fn acknowledge(&mut self, ids: &[String]) -> Result<(), Trouble> {
        let Some(last) = ids.last().filter(|_| self.options.ack) else {
            return Ok(());
        };
        self.last_id.clone_from(last);
        let mut line = self.connect()?;
        self.post(&mut line, ids)?;
        self.last_id.clear();
        Ok(())
    }

    fn post(&self, line: &mut Line, ids: &[String]) -> Result<(), Trouble> {
        for ids in ids.chunks(RECEIPTS_MAX) {
            let body = receipt(ids);
            let mut out = Vec::new();
            line.http = http1::Client::new(crate::client::channel::ask::LIMITS);
            let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
            let bearer = bearer.as_deref().map(|value| field("Authorization", value));
            let fields = [
                Some(field("Host", &self.host)),
                Some(field("Content-Type", "application/json")),
                bearer,
            ];
            let framing = Framing::Length(body.len() as u64);
            let fields = fields.into_iter().flatten();
            line.http
                .send_head(&mut out, b"POST", RECEIPT_PATH, fields, framing);
            line.http.send_data(&mut out, body.as_bytes());
            line.http.send_end(&mut out, []);
            line.send(&out).map_err(Trouble::passing)?;
            let answer = line.answer(|_| true)?;
            if answer.status != 204 {
                return Err(answer.trouble());
            }
        }
        Ok(())
    }

    fn messages(&mut self, line: &mut Line) -> Result<(), Trouble> {
        let mut nonce = [0; 16];
        fastrand::fill(&mut nonce);
        let offer = websocket::Offer::new(nonce, None);
        self.open(line, Some(&offer))?;
        let role = websocket::Role::Client(fastrand::Rng::new());
        let mut socket = websocket::Socket::new(role, MESSAGES);
        loop {
            let input = line.bytes().map_err(quiet)?;
            if input.is_empty() {
                return Err(Trouble::passing("the gateway closed the connection"));
            }
            let (mut used, mut out, mut ids) = (0, Vec::new(), Vec::new());
            let outcome = loop {
                match socket.next(input, &mut used, Instant::now(), &mut out) {
                    Ok(websocket::Event::NeedMore) => break Ok(()),
                    Ok(websocket::Event::Text(text)) => ids.extend(self.print(text)),
                    Ok(websocket::Event::Binary(_) | websocket::Event::Pong(_)) => {}
                    Ok(websocket::Event::Close { reason, .. }) => {
                        let why = format!("the gateway closed the channel: {reason}");
                        break Err(ended(why, reason, None));
                    }
                    Ok(websocket::Event::Ended) => break Err(Trouble::passing("closed")),
                    Err(fault) => break Err(Trouble::passing(fault.why)),
                }
            };
            let taken = input.len();
            line.read(taken);
            if self.options.ack {
                for ids in ids.chunks(MESSAGE_RECEIPTS_MAX) {
                    socket.send_text(&mut out, &receipt(ids));
                }
            }
            line.send(&out).map_err(Trouble::passing)?;
            outcome?;
            if self.is_done() {
                return Ok(());
            }
        }
    }

    fn polls(&mut self, line: &mut Line) -> Result<(), Trouble> {
        line.set_patience(Duration::from_secs(
            u64::from(self.options.poll_wait_s) + 15,
        ))
        .map_err(Trouble::passing)?;
        loop {
            let mut out = Vec::new();
            line.http = self.ask().write(None, &mut out);
            line.send(&out).map_err(Trouble::passing)?;
            let answer = line.answer(|_| true)?;
            match answer.status {
                204 => continue,
                200 => {}
                _ => return Err(answer.trouble()),
            }
            let body: serde_json::Value = serde_json::from_slice(&answer.body)
                .map_err(|error| Trouble::passing(format!("an answer is no JSON: {error}")))?;
            let pushes = body.get("pushes").and_then(|pushes| pushes.as_array());
            let mut ids = Vec::new();
            for push in pushes.into_iter().flatten() {
                ids.extend(self.print(&push.to_string()));
            }
            if self.options.ack {
                self.post(line, &ids)?;
            }
            if self.is_done() {
                return Ok(());
            }
        }
    }
}

const RECEIPT_PATH: &[u8] = b"/.tidegate/receipt";
/// Ids of one POST, and of one WebSocket message of 1 KiB.
const RECEIPTS_MAX: usize = 64;
const MESSAGE_RECEIPTS_MAX: usize = 32;

fn receipt(ids: &[String]) -> String {
    serde_json::json!({ "receipt": ids }).to_string()
}

/// Some of the stream; true at its end.
fn read_body(line: &mut Line, body: &mut Vec<u8>) -> Result<bool, Trouble> {
    let bytes = line.bytes().map_err(quiet)?.to_vec();
    line.read(bytes.len());
    if bytes.is_empty() {
        return Ok(true);
    }
    let mut used = 0;
    loop {
        match line.http.next(&bytes, &mut used) {
            Ok(ClientEvent::NeedMore) => return Ok(false),
            Ok(ClientEvent::Data(data)) => body.extend_from_slice(data),
            Ok(ClientEvent::End { .. }) => return Ok(true),
            Ok(ClientEvent::Interim(_) | ClientEvent::Head(_)) => {}
            Err(refusal) => return Err(Trouble::passing(refusal.why)),
        }
    }
}

fn quiet(error: std::io::Error) -> Trouble {
    match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
            Trouble::passing("no sign of life from the gateway")
        }
        _ => Trouble::passing(error),
    }
}

fn closed(data: &str) -> Trouble {
    let (reason, told) = events::close_reason(data.as_bytes());
    let told = told.map(Duration::from_millis);
    ended(
        format!("the gateway closed the channel: {reason}"),
        &reason,
        told,
    )
}

/// Whoever was thrown out, or has another channel by now, does not come back.
fn ended(why: String, reason: &str, told: Option<Duration>) -> Trouble {
    match reason {
        "replaced" | "denied" | "revoked" | "forbidden" | "misbehaved" => Trouble::Hopeless(why),
        _ => Trouble::Passing(why, told),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_come_back_does() {
        let told = r#"{"reason":"draining","retry_ms":1500}"#;
        let Trouble::Passing(_, Some(wait)) = closed(told) else {
            panic!("draining passes");
        };
        assert_eq!(wait.as_millis(), 1500);
        for reason in ["replaced", "revoked"] {
            let data = format!(r#"{{"reason":"{reason}","retry_ms":1}}"#);
            assert!(matches!(closed(&data), Trouble::Hopeless(_)), "{reason}");
        }
    }

    #[test]
    fn receipts_of_a_message_fit_its_limit() {
        let ids = vec!["0".repeat(26); MESSAGE_RECEIPTS_MAX];
        assert!(receipt(&ids).len() <= 1024);
    }
}
