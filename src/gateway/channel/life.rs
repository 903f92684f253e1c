//! A parked channel's life: what comes on it, what goes out, its times, its end.

use crate::control::settings::Auth;
use crate::ring::{RecvBuf, Verbs};
use crate::wire::Put;
use crate::wire::event_stream::{self, Event};
use crate::wire::record::Outgoing;
use crate::wire::relay::{ChannelAuth, ChannelKind, DownReason, PushId};
use crate::wire::tls::ParkedStep;
use crate::wire::websocket::{self, Role};
use std::fmt::Write;
use std::time::{Duration, Instant};

use super::super::context::Context;
use super::super::shard::{Gateway, Owner};
use super::rhythm::SPAN;
use super::table::{Channel, Stage};
use super::{
    Channels, DRAIN_SECONDS, DUE_A_TURN, FAREWELL_SECONDS, PARTIAL_SECONDS, Reason, WEBSOCKET,
    gauge, receipt,
};

/// The begin of a record, and until when its rest must come.
pub struct Partial {
    bytes: Vec<u8>,
    until: Instant,
}

/// Used again and again while frames are read.
#[derive(Default)]
pub struct Scratch {
    receipts: Vec<PushId>,
    answer: Vec<u8>,
}

/// What a channel's plaintext asks for.
enum Heard {
    Nothing,
    /// The client ended the channel in order.
    Left,
    /// It broke a rule; what it is told has been staged.
    Broke,
}

impl Gateway {
    /// Bytes came on a parked channel.
    pub(in crate::gateway) fn channel_received<R: Verbs>(
        &mut self,
        ring: &mut R,
        slot: u32,
        mut buf: RecvBuf,
    ) {
        self.cx.stats.client_bytes_in += buf.len() as u64;
        let Some(channel) = self.channels.table.get_mut(slot) else {
            return;
        };
        if channel.stage != Stage::Open {
            return;
        }
        if !channel.partial {
            return self.channel_input(ring, slot, &mut buf);
        }
        channel.partial = false;
        let Some(mut partial) = self.channels.partials.remove(&slot) else {
            return;
        };
        self.cx.buffered -= partial.bytes.len();
        partial.bytes.extend_from_slice(&buf);
        drop(buf);
        let until = partial.until;
        self.channel_input(ring, slot, &mut partial.bytes);
        // The rest of a record does not put its deadline off.
        if let Some(still) = self.channels.partials.get_mut(&slot) {
            still.until = until;
        }
    }

    fn channel_input<R: Verbs>(&mut self, ring: &mut R, slot: u32, input: &mut [u8]) {
        let mut used = 0;
        loop {
            let Gateway { channels, cx, .. } = self;
            let Some(channel) = channels.table.get_mut(slot) else {
                return;
            };
            if channel.stage != Stage::Open {
                return;
            }
            match channel.tls.open(input, &mut used) {
                Ok(ParkedStep::Idle) => break,
                Ok(ParkedStep::Partial(_)) => {
                    let bytes = input.get(used..).unwrap_or_default().to_vec();
                    channel.partial = true;
                    cx.buffered += bytes.len();
                    let until = cx.now + Duration::from_secs(u64::from(PARTIAL_SECONDS));
                    channels.partials.insert(slot, Partial { bytes, until });
                    self.schedule(slot);
                    break;
                }
                Ok(ParkedStep::Closed) => return self.end_channel(ring, slot, DownReason::Left),
                Ok(ParkedStep::Data(plain)) => {
                    if channel.kind != ChannelKind::WebSocket {
                        // Nothing may follow the request: there is no answer to another one on this connection.
                        return self.leave(ring, slot, Reason::Misbehaved);
                    }
                    let mut scratch = std::mem::take(&mut channels.scratch);
                    let heard = frames(channel, plain, &mut scratch, cx);
                    if channel.websocket.next_deadline(&WEBSOCKET).is_some() {
                        self.schedule(slot);
                    }
                    for push in scratch.receipts.drain(..) {
                        self.acknowledge(slot, push);
                    }
                    self.heard(ring, slot, heard, &scratch.answer);
                    scratch.answer.clear();
                    self.channels.scratch = scratch;
                }
                Err(error) => {
                    tracing::debug!(error = %error.text, "a channel's records are wrong");
                    return self.end_channel(ring, slot, DownReason::Misbehaved);
                }
            }
        }
        let Some(channel) = self.channels.table.get_mut(slot) else {
            return;
        };
        if channel.tls.wants_transmit() && !ring.send_in_flight(channel.socket) {
            let out = self.cx.outgoing(channel.tls.layout());
            self.send_on(ring, slot, out);
        }
    }

    /// Acts on what frames said, and sends what answers them.
    fn heard<R: Verbs>(&mut self, ring: &mut R, slot: u32, heard: Heard, answer: &[u8]) {
        let Gateway { channels, cx, .. } = self;
        let Some(channel) = channels.table.get_mut(slot) else {
            return;
        };
        match heard {
            Heard::Nothing if answer.is_empty() => {}
            Heard::Nothing if !ring.send_in_flight(channel.socket) => {
                let mut out = cx.outgoing(channel.tls.layout());
                out.put(answer);
                self.send_on(ring, slot, out);
            }
            // The answer to a ping: only the last one counts (RFC 6455 §5.5.3).
            Heard::Nothing => {
                let backlog = channels.backlogs.entry(slot).or_default();
                backlog.answer.clear();
                backlog.answer.extend_from_slice(answer);
                channel.waits = true;
            }
            Heard::Left => self.farewell_with(ring, slot, DownReason::Left, answer),
            Heard::Broke => self.farewell_with(ring, slot, DownReason::Misbehaved, answer),
        }
    }

    /// Seals and sends; nothing may be in flight.
    pub(super) fn send_on<R: Verbs>(&mut self, ring: &mut R, slot: u32, out: Outgoing) {
        let Some(channel) = self.channels.table.get_mut(slot) else {
            return;
        };
        let socket = channel.socket;
        match channel.tls.seal(out) {
            Ok(bytes) if bytes.is_empty() => self.cx.recycle(bytes),
            Ok(bytes) => {
                self.cx.stats.client_bytes_out += bytes.len() as u64;
                ring.send(socket, bytes);
            }
            Err(error) => {
                tracing::warn!(error = %error.text, "cannot seal for a channel");
                self.lose(ring, slot, DownReason::Lost);
            }
        }
    }

    /// The send in flight is over.
    pub(in crate::gateway) fn channel_sent<R: Verbs>(
        &mut self,
        ring: &mut R,
        slot: u32,
        buf: Vec<u8>,
    ) {
        self.cx.recycle(buf);
        let Some(channel) = self.channels.table.get_mut(slot) else {
            return;
        };
        match channel.stage {
            Stage::Open if channel.waits => self.drain_backlog(ring, slot),
            Stage::Open if channel.tls.wants_transmit() => {
                let out = self.cx.outgoing(channel.tls.layout());
                self.send_on(ring, slot, out);
            }
            Stage::Open | Stage::Draining => {}
            Stage::Leaving(reason) => self.farewell(ring, slot, reason),
            Stage::Ending => {
                channel.stage = Stage::Draining;
                ring.shutdown_write(channel.socket);
                self.schedule(slot);
            }
        }
    }

    /// FIN of the client.
    pub(in crate::gateway) fn channel_finished<R: Verbs>(&mut self, ring: &mut R, slot: u32) {
        let Some(channel) = self.channels.table.get(slot) else {
            return;
        };
        match channel.stage {
            Stage::Open => self.lose(ring, slot, DownReason::Left),
            Stage::Draining => self.drop_channel(ring, slot, true),
            // What is on its way may still arrive.
            Stage::Leaving(_) | Stage::Ending => {}
        }
    }

    /// The connection broke.
    pub(in crate::gateway) fn channel_failed<R: Verbs>(&mut self, ring: &mut R, slot: u32) {
        self.lose(ring, slot, DownReason::Lost);
    }

    /// The gateway ends a channel: connectors learn it now, its client as soon as the socket takes it.
    pub(super) fn leave<R: Verbs>(&mut self, ring: &mut R, slot: u32, reason: Reason) {
        if !self.go_down(slot, reason.down()) {
            return;
        }
        self.cx.stats.count_channel_end(reason.word());
        let Some(channel) = self.channels.table.get_mut(slot) else {
            return;
        };
        channel.stage = Stage::Leaving(reason);
        if ring.send_in_flight(channel.socket) {
            return self.schedule(slot);
        }
        self.farewell(ring, slot, reason);
    }

    /// Tells the client why, and ends the stream in order.
    fn farewell<R: Verbs>(&mut self, ring: &mut R, slot: u32, reason: Reason) {
        let Gateway { channels, cx, .. } = self;
        let Some(channel) = channels.table.get_mut(slot) else {
            return;
        };
        let mut out = cx.outgoing(channel.tls.layout());
        let retry_ms = cx.random.u32(reason.retry_ms());
        match channel.kind {
            ChannelKind::EventStream => {
                let data = format!(
                    "{{\"reason\":\"{}\",\"retry_ms\":{retry_ms}}}",
                    reason.word()
                );
                let event = Event {
                    event: Some("close"),
                    data: Some(&data),
                    retry: Some(retry_ms),
                    ..Event::default()
                };
                let written = event_stream::write_event(&mut out, &event);
                debug_assert!(written.is_ok());
                event_stream::write_end(&mut out);
            }
            ChannelKind::WebSocket => {
                let parked = std::mem::take(&mut channel.websocket);
                let mut socket = parked.unpark(Role::Server, WEBSOCKET);
                socket.close(&mut out, reason.close_code(), reason.word(), cx.now);
            }
            ChannelKind::LongPoll => write_refusal(&mut out, reason, retry_ms),
        }
        channel.stage = Stage::Ending;
        channel.tls.close();
        self.send_on(ring, slot, out);
        self.schedule(slot);
    }

    /// As `leave`, with what the WebSocket core, or nobody, has to say.
    fn farewell_with<R: Verbs>(&mut self, ring: &mut R, slot: u32, down: DownReason, words: &[u8]) {
        if !self.go_down(slot, down) {
            return;
        }
        self.count_down(down);
        let Some(channel) = self.channels.table.get_mut(slot) else {
            return;
        };
        // With a send in flight the last words are not worth a place to keep them in.
        if !ring.send_in_flight(channel.socket) {
            channel.tls.close();
            let mut out = self.cx.outgoing(channel.tls.layout());
            out.put(words);
            self.send_on(ring, slot, out);
        }
        self.schedule(slot);
    }

    /// The client ended TLS, or broke it: what TLS itself still has to say goes out, and the connection ends.
    fn end_channel<R: Verbs>(&mut self, ring: &mut R, slot: u32, down: DownReason) {
        self.farewell_with(ring, slot, down, &[]);
        let idle = self.channels.table.get(slot).is_some_and(|channel| {
            channel.stage == Stage::Ending && !ring.send_in_flight(channel.socket)
        });
        if idle {
            self.drop_channel(ring, slot, true);
        }
    }

    /// The connection is gone.
    pub(super) fn lose<R: Verbs>(&mut self, ring: &mut R, slot: u32, down: DownReason) {
        if self.go_down(slot, down) {
            self.count_down(down);
        }
        self.drop_channel(ring, slot, down == DownReason::Left);
    }

    fn count_down(&mut self, down: DownReason) {
        self.cx.stats.count_channel_end(match down {
            DownReason::Left => "left",
            DownReason::Misbehaved => "misbehaved",
            DownReason::Answered => "answered",
            _ => "lost",
        });
    }

    /// An open channel is announced as gone; pushes that wait for it are not delivered any more. False: it was gone
    /// before.
    pub(super) fn go_down(&mut self, slot: u32, reason: DownReason) -> bool {
        let Gateway { channels, cx, .. } = self;
        let Some(channel) = channels.table.get_mut(slot) else {
            return false;
        };
        if channel.stage != Stage::Open {
            return false;
        }
        // Whatever it becomes, it is not open.
        channel.stage = Stage::Ending;
        *gauge(channel, cx) -= 1;
        let (key, site, generation) = (channel.key(slot), channel.site, channel.generation);
        if std::mem::take(&mut channel.partial)
            && let Some(partial) = channels.partials.remove(&slot)
        {
            cx.buffered -= partial.bytes.len();
        }
        if std::mem::take(&mut channel.waits)
            && let Some(mut backlog) = channels.backlogs.remove(&slot)
        {
            while let Some(waiting) = backlog.pop() {
                cx.buffered -= waiting.payload.size();
                channels.fan_out.gone(slot, generation, waiting);
            }
        }
        self.announce_down(site, key, reason);
        true
    }

    /// Takes a channel out of the world; it was announced as gone.
    pub(super) fn drop_channel<R: Verbs>(&mut self, ring: &mut R, slot: u32, orderly: bool) {
        let Gateway { channels, cx, .. } = self;
        channels.rhythm.take(&mut channels.table, slot);
        let Some(channel) = channels.table.remove(slot) else {
            return;
        };
        channels.polls.remove(&slot);
        channels.who_bytes -= channel.who.bytes();
        cx.buffered -= channel.websocket.kept_bytes();
        if let Some(address) = channel.who.address() {
            cx.uncount(address);
        }
        self.own(channel.socket, Owner::Nobody);
        if orderly {
            ring.close(channel.socket);
        } else {
            ring.abort(channel.socket);
        }
    }

    /// Puts the channel where its next time comes.
    pub(super) fn schedule(&mut self, slot: u32) {
        let Gateway { channels, cx, .. } = self;
        let Some(channel) = channels.table.get(slot) else {
            return;
        };
        let seconds = match channel.stage {
            Stage::Leaving(_) | Stage::Ending => FAREWELL_SECONDS,
            Stage::Draining => DRAIN_SECONDS,
            Stage::Open => open_seconds(channels, channel, slot, cx),
        };
        channels
            .rhythm
            .put(&mut channels.table, slot, cx.now, seconds);
    }

    /// Looks at channels whose time has come, a few a turn.
    pub(in crate::gateway) fn channels_due<R: Verbs>(&mut self, ring: &mut R) {
        for _ in 0..DUE_A_TURN {
            let Gateway { channels, cx, .. } = self;
            let Some(slot) = channels.rhythm.pop(&mut channels.table, cx.now) else {
                return;
            };
            self.channel_due(ring, slot);
        }
    }

    fn channel_due<R: Verbs>(&mut self, ring: &mut R, slot: u32) {
        let Gateway { channels, cx, .. } = self;
        let Some(channel) = channels.table.get_mut(slot) else {
            return;
        };
        match channel.stage {
            Stage::Open => {}
            // Nobody takes what is left to say.
            Stage::Leaving(_) | Stage::Ending | Stage::Draining => {
                return self.drop_channel(ring, slot, false);
            }
        }
        let late = |partial: &Partial| partial.until <= cx.now;
        let message_late = channel
            .websocket
            .next_deadline(&WEBSOCKET)
            .is_some_and(|at| at <= cx.now);
        if channel.partial && channels.partials.get(&slot).is_some_and(late) || message_late {
            return self.leave(ring, slot, Reason::Misbehaved);
        }
        if cx.unix_now() >= i64::from(channel.expires) {
            return self.leave(ring, slot, Reason::Expired);
        }
        if let Some(poll) = channels.polls.get(&slot) {
            if poll.until <= cx.now {
                return self.answer_poll(ring, slot, None);
            }
        } else if !ring.send_in_flight(channel.socket) {
            let mut out = cx.outgoing(channel.tls.layout());
            keep_alive(channel.kind, &mut out);
            cx.stats.channel_keep_alives += 1;
            self.send_on(ring, slot, out);
        }
        self.schedule(slot);
    }

    /// The next few channels: those whose client may stay no longer are ended.
    pub(in crate::gateway) fn recheck_channels<R: Verbs>(&mut self, ring: &mut R) {
        if !self.channels.sweep.is_under_way() {
            return;
        }
        let end = self.channels.table.end();
        let range = self.channels.sweep.next(end);
        let (mut at, end) = (range.start as u32, range.end as u32);
        while let Some((slot, channel)) = self.channels.table.next_from(at).filter(|f| f.0 < end) {
            at = slot + 1;
            if channel.stage == Stage::Open
                && let Some(reason) = self.no_longer_welcome(channel)
            {
                self.leave(ring, slot, reason);
            }
        }
        self.channels.sweep.looked();
    }

    fn no_longer_welcome(&self, channel: &Channel) -> Option<Reason> {
        if !self.channels.sweep.concerns(u32::from(channel.site)) {
            return None;
        }
        let site = self.cx.snapshot.sites.get(usize::from(channel.site))?;
        if site.trust.denies(&channel.who.identity()).is_some() {
            return Some(Reason::Revoked);
        }
        let fits = match site.channels {
            Auth::Certificate => channel.auth == ChannelAuth::Certificate,
            Auth::Token => channel.auth == ChannelAuth::Token,
            Auth::Any | Auth::None => true,
        };
        (!fits).then_some(Reason::Forbidden)
    }

    /// All channels are to leave until `deadline`, spread over the time.
    pub(in crate::gateway) fn depart(&mut self, deadline: Instant) {
        // The last ones still get their farewell.
        let window = deadline.saturating_duration_since(self.cx.now) / 4 * 3;
        self.channels.departure = Some((self.cx.now, self.cx.now + window));
    }

    /// Ends as many channels as the time that has passed asks for.
    pub(in crate::gateway) fn depart_some<R: Verbs>(&mut self, ring: &mut R) {
        const AT_ONCE: usize = 256;
        let Some((from, until)) = self.channels.departure else {
            return;
        };
        let total = until.saturating_duration_since(from).as_secs_f64();
        let left = until.saturating_duration_since(self.cx.now).as_secs_f64();
        // Those before this share of the table are gone.
        let share = if total > 0.0 { 1.0 - left / total } else { 1.0 };
        let bound = (self.channels.table.end() as f64 * share).ceil() as u32;
        let (mut at, mut count) = (0, 0);
        while count < AT_ONCE
            && let Some((slot, channel)) = self.channels.table.next_from(at)
            && slot < bound
        {
            at = slot + 1;
            if channel.stage == Stage::Open {
                count += 1;
                self.leave(ring, slot, Reason::Draining);
            }
        }
    }
}

/// Seconds until an open channel is due.
fn open_seconds(channels: &Channels, channel: &Channel, slot: u32, cx: &mut Context) -> u32 {
    let until = |at: Instant| at.saturating_duration_since(cx.now).as_secs_f64().ceil() as u32;
    let mut seconds = match channels.polls.get(&slot) {
        Some(poll) => until(poll.until),
        None => {
            let mean = cx.plan.channels.keep_alive.as_secs() as u32;
            let fifth = mean / 5;
            cx.random.u32(mean - fifth..=mean + fifth)
        }
    };
    if channel.expires != u32::MAX {
        let left = i64::from(channel.expires) - cx.unix_now();
        seconds = seconds.min(u32::try_from(left).unwrap_or(0));
    }
    if channel.partial {
        seconds = seconds.min(PARTIAL_SECONDS);
    }
    if let Some(at) = channel.websocket.next_deadline(&WEBSOCKET) {
        seconds = seconds.min(at.saturating_duration_since(cx.now).as_secs() as u32 + 1);
    }
    seconds.clamp(1, SPAN - 2)
}

/// A sign of life.
fn keep_alive(kind: ChannelKind, out: &mut impl Put) {
    match kind {
        ChannelKind::EventStream => {
            let written = event_stream::write_comment(out, "");
            debug_assert!(written.is_ok());
        }
        ChannelKind::WebSocket => {
            let mut socket = websocket::Socket::new(Role::Server, WEBSOCKET);
            socket.send_ping(out, b"");
        }
        ChannelKind::LongPoll => {}
    }
}

/// Takes the frames in one record's plaintext.
fn frames(
    channel: &mut Channel,
    plain: &mut [u8],
    scratch: &mut Scratch,
    cx: &mut Context,
) -> Heard {
    let Scratch { receipts, answer } = scratch;
    let parked = std::mem::take(&mut channel.websocket);
    cx.buffered -= parked.kept_bytes();
    let mut socket = parked.unpark(Role::Server, WEBSOCKET);
    let mut used = 0;
    let heard = loop {
        let wrong = match socket.next(plain, &mut used, cx.now, answer) {
            Ok(websocket::Event::NeedMore) => break Heard::Nothing,
            Ok(websocket::Event::Ended | websocket::Event::Close { .. }) => break Heard::Left,
            Ok(websocket::Event::Pong(_)) => None,
            Ok(websocket::Event::Text(text)) => receipt::read(text.as_bytes(), receipts).err(),
            Ok(websocket::Event::Binary(_)) => Some("a client sends text"),
            Err(fault) => {
                tracing::debug!(why = fault.why, "a channel's frames are wrong");
                break Heard::Broke;
            }
        };
        if let Some(why) = wrong {
            socket.close(answer, websocket::code::POLICY, why, cx.now);
            break Heard::Broke;
        }
    };
    channel.websocket = socket.park();
    cx.buffered += channel.websocket.kept_bytes();
    heard
}

/// The answer to a long poll that is ended.
fn write_refusal(out: &mut Outgoing, reason: Reason, retry_ms: u32) {
    let (status, title) = reason.status();
    let word = reason.word();
    let body = format!(
        "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{status},\"code\":\"{word}\",\"who\":\"gateway\",\"retry_ms\":{retry_ms}}}\n"
    );
    let mut head = String::with_capacity(256);
    let _ = write!(
        head,
        "HTTP/1.1 {status} {title}\r\nContent-Type: application/problem+json\r\nCache-Control: no-store\r\n\
         Tidegate-Error: {word}\r\nRetry-After: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        retry_ms.div_ceil(1000),
        body.len()
    );
    out.put(head.as_bytes());
    out.put(body.as_bytes());
}
