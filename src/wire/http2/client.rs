//! The client's side of one connection: many requests at a time.

use super::pipe::Pipe;
use super::wakes::{Bell, Wakes};
use super::{
    CONNECTION_WINDOW, Content, Event, Failed, Fields, HEAD_BYTES, INPUT_BYTES, PING_AFTER,
    PONG_WITHIN, RESETS_KEPT, Request, SEND_BUFFER, STREAM_WINDOW, STREAMS_MAX, request,
};
use crate::wire::{Field, Put};
use bytes::Bytes;
use h2::client::{Connection, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, Reason, RecvStream, SendStream};
use http::header::CONTENT_LENGTH;
use slab::Slab;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Polls of h2 in a row that may wake it again: more than that and the rest waits for the next call.
const DRIVES: usize = 8;

/// What a connection is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It takes requests, up to its limit.
    Open,
    /// The peer said GOAWAY: what runs is finished, nothing new is taken.
    Leaving,
    /// Nothing comes and nothing goes.
    Over,
}

/// The client's side of one connection. `T` is the owner's name for a stream.
pub struct Client<T> {
    pipe: Pipe,
    requests: SendRequest<Bytes>,
    connection: Connection<Pipe, Bytes>,
    pings: Option<PingPong>,
    streams: Slab<Stream<T>>,
    /// By stream key.
    bells: Vec<Arc<Bell>>,
    wakes: Arc<Wakes>,
    waker: Waker,
    /// Streams to look at, the one whose events are given now at the front.
    ready: VecDeque<u32>,
    state: State,
    /// Why the connection is over.
    why: String,
    heard: Instant,
    /// A PING that was sent and not answered.
    asked: Option<Instant>,
}

struct Stream<T> {
    token: T,
    answer: Answer,
    send: SendStream<Bytes>,
    /// Bytes of the body still to come, if their number was promised.
    left: Option<u64>,
    /// Our side is complete.
    sent: bool,
    /// The owner wants no more for now.
    paused: bool,
    /// The owner waits for [`Event::Room`].
    wants_room: bool,
    /// HEAD: the answer has no body.
    bodiless: bool,
}

enum Answer {
    Due(ResponseFuture),
    Body(RecvStream),
}

/// What a look at a stream gave.
enum Look {
    Nothing,
    Event(Event),
    /// An event that ends it.
    Last(Event),
}

impl<T: Copy> Client<T> {
    /// Its preface and SETTINGS wait to be transmitted.
    pub fn new(now: Instant) -> Result<Client<T>, Failed> {
        let pipe = Pipe::default();
        let mut builder = h2::client::Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEAD_BYTES)
            .max_send_buffer_size(SEND_BUFFER)
            // Until its SETTINGS say how many: what is over its limit would be refused.
            .initial_max_send_streams(0)
            .max_concurrent_reset_streams(RESETS_KEPT)
            .reset_stream_duration(Duration::from_secs(5));
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        let handshake = pin!(builder.handshake::<_, Bytes>(pipe.clone()));
        // The preface fits in the pipe, so that nothing is waited for.
        let Poll::Ready(Ok((requests, mut connection))) =
            handshake.poll(&mut Context::from_waker(&waker))
        else {
            return Err(failed("the preface cannot be written"));
        };
        wakes.wake_connection();
        Ok(Client {
            pipe,
            requests,
            pings: connection.ping_pong(),
            connection,
            streams: Slab::new(),
            bells: Vec::new(),
            wakes,
            waker,
            ready: VecDeque::new(),
            state: State::Open,
            why: String::new(),
            heard: now,
            asked: None,
        })
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// Why it is over; empty before.
    pub fn why(&self) -> &str {
        &self.why
    }

    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    pub fn tokens(&self) -> impl Iterator<Item = T> {
        self.streams.iter().map(|(_, stream)| stream.token)
    }

    /// Streams that may be opened now: the lower of our limit and the peer's, which is 0 until its SETTINGS come.
    pub fn room(&self) -> usize {
        if self.state != State::Open {
            return 0;
        }
        let most = self.requests.current_max_send_streams().min(STREAMS_MAX);
        most.saturating_sub(self.streams.len())
    }

    /// Starts a request: the stream's key, for the calls below. `Err`: nothing was sent, and the connection is as it was.
    pub fn open<'f>(
        &mut self,
        token: T,
        head: &Request<'_>,
        fields: impl IntoIterator<Item = Field<'f>>,
    ) -> Result<u32, Failed> {
        let cannot = |what: &str| failed(&format!("HTTP/2 cannot say {what}"));
        let encoded = request::encode(head, fields).map_err(cannot)?;
        let ready = self
            .requests
            .poll_ready(&mut Context::from_waker(&self.waker));
        if self.room() == 0 || !matches!(ready, Poll::Ready(Ok(()))) {
            return Err(Failed {
                refused: true,
                wants_http1: false,
                why: "the connection takes no more requests".into(),
            });
        }
        let sent = head.content == Content::None;
        let (answer, send) = self
            .requests
            .send_request(encoded, sent)
            .map_err(|error| Failed {
                refused: true,
                wants_http1: false,
                why: error.to_string(),
            })?;
        let key = self.streams.insert(Stream {
            token,
            answer: Answer::Due(answer),
            send,
            left: match head.content {
                Content::Length(length) => Some(length),
                Content::None => Some(0),
                Content::Unknown => None,
            },
            sent,
            paused: false,
            wants_room: false,
            bodiless: head.method == b"HEAD",
        });
        if key == self.bells.len() {
            self.bells.push(Bell::new(key as u32, &self.wakes));
        }
        // The first look leaves a waker with h2.
        self.ring(key as u32);
        self.wakes.wake_connection();
        Ok(key as u32)
    }

    fn ring(&self, key: u32) {
        if let Some(bell) = self.bells.get(key as usize) {
            bell.ring();
        }
    }

    /// Body bytes of a request; gives how many were taken. [`Event::Room`] follows when it was not all. What is over the
    /// promised length is dropped, and `send_end` says false.
    pub fn send_data(&mut self, key: u32, bytes: &[u8]) -> usize {
        let Some(stream) = self.streams.get_mut(key as usize).filter(|s| !s.sent) else {
            return bytes.len();
        };
        let due = stream.left.map_or(bytes.len(), |left| {
            bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX))
        });
        if due < bytes.len() {
            stream.sent = true;
            stream.left = Some(1);
            return bytes.len();
        }
        stream.send.reserve_capacity(due);
        let taken = stream.send.capacity().min(due);
        if taken > 0 {
            let data = Bytes::copy_from_slice(bytes.get(..taken).unwrap_or_default());
            // An error is told by the answer's side too, which has the reason.
            let _ = stream.send.send_data(data, false);
            stream.left = stream.left.map(|left| left - taken as u64);
        }
        if taken < bytes.len() {
            stream.wants_room = true;
            self.ring(key);
        }
        self.wakes.wake_connection();
        taken
    }

    /// Ends a request. False: its body was shorter or longer than promised, and the stream has been reset.
    pub fn send_end<'f>(
        &mut self,
        key: u32,
        trailers: impl IntoIterator<Item = Field<'f>>,
    ) -> bool {
        let Some(stream) = self.streams.get_mut(key as usize) else {
            return true;
        };
        if stream.left.is_some_and(|left| left > 0) {
            self.reset(key);
            return false;
        }
        if !std::mem::replace(&mut stream.sent, true) {
            // Trailers that cannot be said are left out: the request is whole without them.
            let trailers = request::fields(trailers).unwrap_or_default();
            let _ = if trailers.is_empty() {
                stream.send.send_data(Bytes::new(), true)
            } else {
                stream.send.send_trailers(trailers)
            };
        }
        self.wakes.wake_connection();
        true
    }

    /// The stream is not wanted any more: RST_STREAM(CANCEL), and no event of it follows.
    pub fn reset(&mut self, key: u32) {
        if let Some(mut stream) = self.streams.try_remove(key as usize) {
            stream.send.send_reset(Reason::CANCEL);
            self.wakes.wake_connection();
        }
    }

    /// No more of this stream's answer until `resume`; what was given before stands.
    pub fn pause(&mut self, key: u32) {
        if let Some(stream) = self.streams.get_mut(key as usize) {
            stream.paused = true;
        }
    }

    pub fn resume(&mut self, key: u32) {
        if let Some(stream) = self.streams.get_mut(key as usize)
            && std::mem::take(&mut stream.paused)
        {
            self.ring(key);
        }
    }

    /// Bytes from the peer. Call `next_event` until it gives nothing.
    pub fn handle_input(&mut self, input: &[u8], now: Instant) {
        self.heard = now;
        self.pipe.push(input);
        self.wakes.wake_connection();
        self.drive();
        if self.pipe.unread() > INPUT_BYTES {
            self.give_up("it sends and does not read");
        }
    }

    /// The peer sends no more. Call `next_event` until it gives nothing: what streams wait for fails.
    pub fn handle_end(&mut self, why: &str) {
        self.pipe.end();
        self.wakes.wake_connection();
        self.drive();
        self.give_up(why);
    }

    fn give_up(&mut self, why: &str) {
        if self.state != State::Over {
            self.state = State::Over;
            self.why = why.to_owned();
        }
        // Whoever h2 told nothing hears it from us.
        self.streams
            .iter()
            .for_each(|(key, _)| self.ring(key as u32));
    }

    /// When `handle_timeout` is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        match (self.asked, self.streams.is_empty()) {
            _ if self.state == State::Over => None,
            (Some(asked), _) => Some(asked + PONG_WITHIN),
            (None, true) => None,
            (None, false) => Some(self.heard + PING_AFTER),
        }
    }

    /// Asks a silent peer whether it is there, or finds it gone. Call `next_event` until it gives nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.next_deadline().is_none_or(|due| due > now) {
            return;
        }
        if self.asked.is_some() {
            return self.give_up("it answers no PING");
        }
        let sent = self
            .pings
            .as_mut()
            .is_some_and(|pings| pings.send_ping(Ping::opaque()).is_ok());
        if sent {
            self.asked = Some(now);
            self.wakes.wake_connection();
            self.drive();
        } else {
            self.heard = now;
        }
    }

    /// The next event, with the owner's name for the stream and its key.
    pub fn next_event(&mut self) -> Option<(T, u32, Event)> {
        loop {
            self.drive();
            self.wakes.take_streams(&mut self.ready);
            let key = *self.ready.front()?;
            if let Some(bell) = self.bells.get(key as usize) {
                bell.answer();
            }
            match self.look(key) {
                Look::Nothing => {
                    self.ready.pop_front();
                }
                Look::Event(event) => {
                    let token = self.streams.get(key as usize)?.token;
                    return Some((token, key, event));
                }
                Look::Last(event) => {
                    self.ready.pop_front();
                    let stream = self.streams.try_remove(key as usize)?;
                    let token = stream.token;
                    if matches!(event, Event::End { .. }) && !stream.sent {
                        let mut send = stream.send;
                        send.send_reset(Reason::CANCEL);
                    }
                    self.wakes.wake_connection();
                    return Some((token, key, event));
                }
            }
        }
    }

    fn look(&mut self, key: u32) -> Look {
        let (Some(stream), Some(bell)) = (
            self.streams.get_mut(key as usize),
            self.bells.get(key as usize),
        ) else {
            return Look::Nothing;
        };
        let waker = bell.waker();
        let cx = &mut Context::from_waker(&waker);
        if stream.wants_room && matches!(stream.send.poll_capacity(cx), Poll::Ready(Some(Ok(1..))))
        {
            stream.wants_room = false;
            return Look::Event(Event::Room);
        }
        if stream.paused {
            return Look::Nothing;
        }
        let look = match &mut stream.answer {
            Answer::Due(answer) => look_at_head(answer, cx, stream.bodiless),
            Answer::Body(body) => (look_at_body(body, cx, stream.sent), None),
        };
        match look {
            (Look::Nothing, _) if self.state == State::Over => Look::Last(Event::Failed(Failed {
                refused: false,
                wants_http1: false,
                why: self.why.clone(),
            })),
            (look, None) => look,
            (look, Some(body)) => {
                stream.answer = Answer::Body(body);
                look
            }
        }
    }

    /// Lets h2 read, write and settle, as long as it has something to do.
    fn drive(&mut self) {
        let waker = self.waker.clone();
        let cx = &mut Context::from_waker(&waker);
        for _ in 0..DRIVES {
            if self.state == State::Over || !self.wakes.take_connection() {
                return;
            }
            match Pin::new(&mut self.connection).poll(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => return self.give_up("it closed the connection"),
                Poll::Ready(Err(error)) => return self.give_up(&error.to_string()),
            }
            if self.state == State::Open
                && matches!(self.requests.poll_ready(cx), Poll::Ready(Err(_)))
            {
                self.state = State::Leaving;
            }
            if self.asked.is_some()
                && let Some(pings) = &mut self.pings
                && pings.poll_pong(cx).is_ready()
            {
                self.asked = None;
            }
        }
    }

    pub fn wants_transmit(&self) -> bool {
        self.pipe.unsent() > 0 || self.wakes.connection_is_woken()
    }

    /// `next_event` may have something to give.
    pub fn has_events(&self) -> bool {
        !self.ready.is_empty() || self.wakes.any_stream()
    }

    /// Puts what is to be sent, until `out` holds `most` bytes.
    pub fn transmit(&mut self, out: &mut impl Put, most: usize) {
        loop {
            self.drive();
            let room = most.saturating_sub(out.staged());
            if room == 0 || self.pipe.unsent() == 0 {
                break;
            }
            self.pipe.drain(|bytes| {
                let taken = bytes.len().min(room);
                out.put(bytes.get(..taken).unwrap_or_default());
                taken
            });
        }
        if self.streams.is_empty() {
            self.pipe.shrink();
        }
    }
}

fn failed(why: &str) -> Failed {
    Failed {
        refused: false,
        wants_http1: false,
        why: why.to_owned(),
    }
}

/// What is said of a stream's error. h2 fails the streams above a GOAWAY's last one with that GOAWAY, and those below it
/// only with the connection's end.
fn of_error(error: &h2::Error) -> Failed {
    let reset = error.reason().filter(|_| error.is_reset());
    let wants_http1 = error.is_remote() && reset == Some(Reason::HTTP_1_1_REQUIRED);
    let unseen = error.is_go_away() || reset == Some(Reason::REFUSED_STREAM);
    Failed {
        refused: error.is_remote() && unseen || wants_http1,
        wants_http1,
        why: error.to_string(),
    }
}

fn look_at_head(
    answer: &mut ResponseFuture,
    cx: &mut Context<'_>,
    bodiless: bool,
) -> (Look, Option<RecvStream>) {
    if let Poll::Ready(Some(Ok(interim))) = answer.poll_informational(cx) {
        let (parts, ()) = interim.into_parts();
        let event = Event::Interim {
            status: parts.status.as_u16(),
            fields: Fields(parts.headers),
        };
        return (Look::Event(event), None);
    }
    match Pin::new(answer).poll(cx) {
        Poll::Pending => (Look::Nothing, None),
        Poll::Ready(Err(error)) => (Look::Last(Event::Failed(of_error(&error))), None),
        Poll::Ready(Ok(response)) => {
            let (parts, body) = response.into_parts();
            let status = parts.status.as_u16();
            let length = parts
                .headers
                .get(CONTENT_LENGTH)
                .and_then(|value| value.to_str().ok()?.parse().ok());
            let content = match length {
                _ if bodiless || matches!(status, 204 | 304) => Content::None,
                Some(length) => Content::Length(length),
                None if body.is_end_stream() => Content::Length(0),
                None => Content::Unknown,
            };
            let event = Event::Head {
                status,
                fields: Fields(parts.headers),
                content,
            };
            (Look::Event(event), Some(body))
        }
    }
}

fn look_at_body(body: &mut RecvStream, cx: &mut Context<'_>, sent: bool) -> Look {
    loop {
        match body.poll_data(cx) {
            Poll::Pending => return Look::Nothing,
            Poll::Ready(Some(Ok(bytes))) => {
                let _ = body.flow_control().release_capacity(bytes.len());
                if !bytes.is_empty() {
                    return Look::Event(Event::Data(bytes));
                }
            }
            // Whole, and no more of the request is wanted (RFC 9113 §8.1). Of one that was complete it says nothing.
            Poll::Ready(Some(Err(error)))
                if !sent && error.is_remote() && error.reason() == Some(Reason::NO_ERROR) =>
            {
                return Look::Last(Event::End {
                    trailers: Fields::default(),
                });
            }
            Poll::Ready(Some(Err(error))) => return Look::Last(Event::Failed(of_error(&error))),
            Poll::Ready(None) => break,
        }
    }
    match body.poll_trailers(cx) {
        Poll::Pending => Look::Nothing,
        Poll::Ready(Err(error)) => Look::Last(Event::Failed(of_error(&error))),
        Poll::Ready(Ok(trailers)) => Look::Last(Event::End {
            trailers: Fields(trailers.unwrap_or_default()),
        }),
    }
}
