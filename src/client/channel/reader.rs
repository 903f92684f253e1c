//! What the records of an open channel say, by its kind.

use super::Kind;
use super::envelope::{Envelope, envelopes};
use super::events::{self, Seen};
use super::job::{Counts, Job, Times};
use crate::wire::http1::{self, ClientEvent};
use crate::wire::websocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Body of an answer to a poll: eight pushes and what is around them, with room.
const ANSWER_MAX: usize = 256 * 1024;
/// Pushes are longer than what clients may send.
pub const MESSAGES: websocket::Limits = websocket::Limits {
    message_bytes: 64 * 1024,
    message_wait: Duration::from_secs(10),
    close_wait: Duration::from_secs(5),
};

/// What the clients of a shard have in common.
pub struct Desk {
    pub job: Arc<Job>,
    pub counts: Counts,
    pub times: Times,
    pub random: fastrand::Rng,
    pub now: Instant,
}

/// How a channel ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ending {
    pub reason: String,
    /// When its server wants to see the client again.
    pub retry: Option<Duration>,
}

impl Ending {
    pub fn new(reason: impl Into<String>) -> Ending {
        Ending {
            reason: reason.into(),
            retry: None,
        }
    }
}

/// An open channel's side of the application; between records it is next to nothing.
pub enum Reader {
    Events,
    WebSocket(websocket::Parked),
    /// The answer, while a part of it is there.
    Poll(Option<Box<Answer>>),
}

/// An answer to a poll.
pub struct Answer {
    http: http1::Client,
    status: u16,
    code: String,
    body: Vec<u8>,
}

impl Reader {
    /// Reads the plaintext of a record; what the client answers goes to `out`.
    pub fn read(
        &mut self,
        plain: &mut [u8],
        desk: &mut Desk,
        out: &mut Vec<u8>,
    ) -> Result<(), Ending> {
        match self {
            Reader::Events => read_events(plain, desk),
            Reader::WebSocket(parked) => read_messages(parked, plain, desk, out),
            Reader::Poll(answer) => read_answer(answer, plain, desk, out),
        }
    }
}

impl Desk {
    fn pushed(&mut self, envelope: Envelope<'_>) {
        self.counts.pushes += 1;
        self.counts.repeats += u64::from(envelope.repeat);
        if let Some(sent_ns) = envelope.sent_ns {
            // The turn's clock would be early by up to a turn.
            let now = self.job.epoch.elapsed().as_nanos() as u64;
            let took = now.saturating_sub(sent_ns) / 1_000;
            let _ = self.times.delivery.record(took);
        }
    }
}

fn read_events(plain: &[u8], desk: &mut Desk) -> Result<(), Ending> {
    for seen in events::seen(plain) {
        match seen {
            Ok(Seen::KeepAlive) => desk.counts.keep_alives += 1,
            Ok(Seen::Push(data)) => envelopes(data).for_each(|envelope| desk.pushed(envelope)),
            Ok(Seen::Retry(_) | Seen::Other) => {}
            Ok(Seen::Close(data)) => {
                let (reason, retry) = events::close_reason(data);
                return Err(Ending {
                    reason: format!("closed by the gateway: {reason}"),
                    retry: retry.map(Duration::from_millis),
                });
            }
            Ok(Seen::End) => return Err(Ending::new("the stream ended without a close event")),
            Err(events::Cut) => return Err(Ending::new("a record holds a part of an event")),
        }
    }
    Ok(())
}

fn read_messages(
    parked: &mut websocket::Parked,
    plain: &mut [u8],
    desk: &mut Desk,
    out: &mut Vec<u8>,
) -> Result<(), Ending> {
    let role = websocket::Role::Client(desk.random.fork());
    let mut socket = std::mem::take(parked).unpark(role, MESSAGES);
    let (mut used, answered) = (0, out.len());
    let mut receipts: Vec<String> = Vec::new();
    loop {
        match socket.next(plain, &mut used, desk.now, out) {
            Ok(websocket::Event::NeedMore) => break,
            Ok(websocket::Event::Text(text)) => {
                for envelope in envelopes(text.as_bytes()) {
                    desk.pushed(envelope);
                    if desk.job.receipts {
                        receipts.push(format!("{{\"receipt\":\"{}\"}}", envelope.id));
                    }
                }
            }
            Ok(websocket::Event::Binary(_) | websocket::Event::Pong(_)) => {}
            Ok(websocket::Event::Close { code, reason }) => {
                let code = code.map_or("no code".to_owned(), |code| code.to_string());
                return Err(Ending::new(format!(
                    "closed by the gateway: {code} {reason}"
                )));
            }
            Ok(websocket::Event::Ended) => return Err(Ending::new("closed")),
            Err(fault) => return Err(Ending::new(format!("WebSocket: {}", fault.why))),
        }
    }
    // Only pings are answered here.
    desk.counts.keep_alives += u64::from(out.len() > answered);
    for receipt in receipts {
        socket.send_text(out, &receipt);
        desk.counts.receipts += 1;
    }
    *parked = socket.park();
    Ok(())
}

fn read_answer(
    answer: &mut Option<Box<Answer>>,
    plain: &[u8],
    desk: &mut Desk,
    out: &mut Vec<u8>,
) -> Result<(), Ending> {
    let reading = answer.get_or_insert_with(|| Box::new(Answer::due(&desk.job)));
    if !reading.take(plain).map_err(Ending::new)? {
        return Ok(());
    }
    let Some(done) = answer.take() else {
        return Ok(());
    };
    match done.status {
        200 => envelopes(&done.body).for_each(|envelope| desk.pushed(envelope)),
        204 => desk.counts.keep_alives += 1,
        status => return Err(Ending::new(format!("answered {status} {}", done.code))),
    }
    if !done.http.is_reusable() {
        return Err(Ending::new("the connection ended with its answer"));
    }
    desk.job.ask(Kind::Poll).write(None, out);
    Ok(())
}

impl Answer {
    /// That of the poll that was sent last.
    fn due(job: &Job) -> Answer {
        Answer {
            // Written once more, to nowhere: so that nothing is kept while the poll waits.
            http: job.ask(Kind::Poll).write(None, &mut Vec::new()),
            status: 0,
            code: String::new(),
            body: Vec::new(),
        }
    }

    /// True when it is complete.
    fn take(&mut self, plain: &[u8]) -> Result<bool, String> {
        let (mut used, mut complete) = (0, false);
        loop {
            match self.http.next(plain, &mut used) {
                Ok(ClientEvent::NeedMore) => return Ok(complete),
                Ok(ClientEvent::Interim(_)) => {}
                Ok(ClientEvent::Head(head)) => {
                    self.status = head.status;
                    self.code = error_code(&head);
                }
                Ok(ClientEvent::Data(data)) => {
                    if self.body.len() + data.len() > ANSWER_MAX {
                        return Err("an answer is too long".to_owned());
                    }
                    self.body.extend_from_slice(data);
                }
                Ok(ClientEvent::End { .. }) => complete = true,
                Err(refusal) => return Err(format!("answer cannot be read: {}", refusal.why)),
            }
        }
    }
}

/// The gateway's code of an error, or nothing.
pub fn error_code(head: &http1::ResponseHead<'_>) -> String {
    let code = head.fields.get(b"tidegate-error").unwrap_or_default();
    String::from_utf8_lossy(code).into_owned()
}
