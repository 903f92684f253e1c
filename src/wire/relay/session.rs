//! A session: its state and its owner's verbs. How frames leave is in `send`, how they arrive in `receive`.

use super::channel;
use super::control::{self, MAX_DOCUMENT, Offer};
use super::credit::{SendCredit, SessionWindow, StreamWindow};
use super::frame::{Decoder, Kind, MAX_DATA};
use super::head;
use super::liveness::Liveness;
use super::open::OpenFrame;
use super::publication;
use super::queue::{Pool, Whole};
use super::schedule::{Lists, Schedule};
use super::send::{CONTROL, WITHHELD, put_credit, put_data};
use super::slots::Slots;
use super::stream::Half;
use super::{
    Body, CHANNELS, FEATURES, Field, Hello, Ready, ResetCode, Role, SessionError, SessionLimits,
    StreamId,
};
use crate::wire::Put;
use std::time::{Duration, Instant};

/// Where the session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Gateway: until HELLO. Connector: until it has sent HELLO.
    Fresh,
    /// HELLO has passed, READY has not.
    Greeted,
    Ready,
    /// Refused by either side, or broken.
    Over,
}

/// One relay session over one link, either role. It belongs to the link: when a link moves to another shard, its session
/// moves with it by value. See the module's front page for the protocol.
pub struct Session<T> {
    pub(super) role: Role,
    pub(super) limits: SessionLimits,
    pub(super) phase: Phase,
    pub(super) decoder: Decoder,
    pub(super) slots: Slots<T>,
    /// Lowest and highest version that we offered (connector).
    pub(super) offered_versions: (u8, u8),
    /// What the connector's HELLO said (gateway).
    pub(super) offer: Offer,
    pub(super) liveness: Liveness,
    pub(super) session_credit: SendCredit,
    pub(super) session_window: SessionWindow,
    pub(super) pong_due: Option<u64>,
    /// A PUBLISHED that waits for room.
    pub(super) verdict_due: Option<Box<[u8]>>,
    pub(super) incoming: publication::Incoming,
    /// GOAWAY was sent or received.
    pub(super) going_away: bool,
    /// GOAWAY was received.
    pub(super) peer_leaves: bool,
    pub(super) schedule: Schedule,
    /// Streams that owe a RESET or CREDIT; streams whose CREDIT is withheld under pressure.
    pub(super) control: Lists<2>,
    pub(super) drained: Lists<1>,
    pub(super) pool: Pool,
    pub(super) queued: usize,
    pub(super) scratch: Vec<u8>,
    pub(super) publication: Option<publication::Outgoing>,
    pub(super) channels: channel::Outgoing,
    /// Features that our owner knows how to use.
    pub(super) features: u64,
    /// READY names the feature of the channel frames.
    pub(super) channels_on: bool,
    /// A full list of channels has begun and not ended (connector).
    pub(super) listing: bool,
    pub(super) pressure: bool,
    started: Instant,
    /// As of the last call that brought it.
    pub(super) now: Instant,
}

impl<T: Copy> Session<T> {
    /// Limits below what every session starts with (64 KiB a stream, 1 MiB a session) count as that.
    pub fn new(role: Role, limits: SessionLimits, now: Instant) -> Self {
        let limits = SessionLimits {
            streams: limits.streams.clamp(1, StreamId::MAX_SLOTS),
            stage_bytes: limits.stage_bytes.max(1),
            ..limits
        };
        Session {
            role,
            limits,
            phase: Phase::Fresh,
            decoder: Decoder::new(),
            slots: Slots::new(role),
            offered_versions: (0, 0),
            offer: Offer {
                streams: StreamId::MAX_SLOTS,
                features: 0,
            },
            liveness: Liveness::new(now),
            session_credit: SendCredit::new(super::credit::SESSION_CREDIT),
            session_window: SessionWindow::new(limits.session_credit),
            pong_due: None,
            verdict_due: None,
            incoming: publication::Incoming::default(),
            going_away: false,
            peer_leaves: false,
            schedule: Schedule::new(),
            control: Lists::new(),
            drained: Lists::new(),
            pool: Pool::default(),
            queued: 0,
            scratch: Vec::new(),
            publication: None,
            channels: channel::Outgoing::default(),
            features: 0,
            channels_on: false,
            listing: false,
            pressure: false,
            started: now,
            now,
        }
    }

    /// Features that the session's owner knows how to use, before HELLO; others than [`FEATURES`] are left out. Without
    /// this call there are none.
    #[must_use]
    pub fn with_features(mut self, features: u64) -> Self {
        self.features = features & FEATURES;
        self
    }

    // ---- session verbs

    /// Connector: the first frame of the session.
    pub fn send_hello(&mut self, hello: &Hello, out: &mut impl Put) {
        debug_assert!(self.role == Role::Connector && self.phase == Phase::Fresh);
        self.phase = Phase::Greeted;
        self.offered_versions = hello.versions;
        let offer = Offer {
            streams: self.limits.streams,
            features: self.features,
        };
        self.frame(Kind::Hello, out, |buf| {
            control::encode_hello(buf, hello, offer)
        });
    }

    /// Gateway: the session is accepted. Features that one of the two does not know are left out.
    pub fn send_ready(&mut self, ready: &Ready, out: &mut impl Put) {
        debug_assert!(self.role == Role::Gateway);
        if !matches!(self.phase, Phase::Fresh | Phase::Greeted) {
            return;
        }
        let ready = Ready {
            features: ready.features & self.offer.features & self.features,
            ..*ready
        };
        self.frame(Kind::Ready, out, |buf| control::encode_ready(buf, &ready));
        self.become_ready(ready.features, out);
    }

    /// Ends the session with a reason that the peer can log; codes are in [`super::refusal`]. Nothing is sent after it.
    pub fn send_refused(&mut self, code: u16, text: &str, out: &mut impl Put) {
        if self.phase != Phase::Over {
            self.frame(Kind::Refuse, out, |buf| {
                control::encode_coded_text(buf, code, text)
            });
            self.phase = Phase::Over;
        }
    }

    /// Connector: the settings document, at most 16 MiB; kept inside and sent in chunks below requests. A document that
    /// is still on its way is abandoned. False: too large, or the session is not ready.
    pub fn publish(&mut self, hash: [u8; 32], document: Vec<u8>, out: &mut impl Put) -> bool {
        debug_assert!(self.role == Role::Connector);
        if self.phase != Phase::Ready || document.len() > MAX_DOCUMENT {
            return false;
        }
        self.publication = Some(publication::Outgoing::new(hash, document));
        self.pump_frames(out);
        true
    }

    /// Gateway: the verdict on a settings document.
    pub fn send_published(
        &mut self,
        hash: [u8; 32],
        accepted: bool,
        text: &str,
        out: &mut impl Put,
    ) {
        if self.phase != Phase::Ready {
            return;
        }
        self.frame_in_scratch(Kind::Published, |buf| {
            control::encode_published(buf, hash, accepted, text);
        });
        if self.has_control_room(out) {
            self.verdict_due = None;
            out.put(&self.scratch);
        } else {
            // A connector that publishes and does not read gets the last verdict only.
            self.verdict_due = Some(self.scratch.as_slice().into());
        }
    }

    /// No new streams on this link; those that run may finish until `deadline`. `delay`: how long the peer waits at
    /// random before it dials again.
    pub fn send_go_away(&mut self, deadline: Duration, delay: Duration, out: &mut impl Put) {
        if self.phase == Phase::Ready {
            self.going_away = true;
            self.frame(Kind::GoAway, out, |buf| {
                buf.extend_from_slice(&control::encode_go_away(deadline, delay));
            });
        }
    }

    // ---- stream verbs. Order within a stream is kept whatever waits. On a stream that is gone they do nothing.

    /// Gateway: opens a stream with an encoded OPEN, which can be sent again. `None`: the streams limit is reached, the
    /// session is not ready or going away, or the frame is empty.
    pub fn open(
        &mut self,
        token: T,
        frame: &mut OpenFrame,
        out: &mut impl Put,
    ) -> Option<StreamId> {
        if !self.can_open() || frame.is_empty() {
            return None;
        }
        let limit = self.limits.streams.min(self.offer.streams);
        let window = StreamWindow::new(self.limits.initial_stream_credit, self.now_ms());
        let slot = self.slots.take(token, limit, window)?;
        self.reserve_lists();
        let id = self.slots.id(slot);
        self.send_frame(slot, Whole::Open, frame.on(id), out);
        Some(id)
    }

    /// Connector: names the owner's key for a stream just opened by the peer. A stream that has none when the peer's
    /// next frame for it comes is reset.
    pub fn attach(&mut self, stream: StreamId, token: T) {
        if let Some(slot) = self.slots.held(stream) {
            let stream = self.slots.get(slot);
            if stream.is_live() {
                stream.token = Some(token);
            }
        }
    }

    /// Connector: a response head, interim (1xx but 101) or final. More than 16 interim heads are not sent. False: the
    /// head does not fit (64 KiB, syntax of its parts) and the stream was reset; no event comes for it.
    #[expect(
        clippy::too_many_arguments,
        reason = "a response head has that many parts"
    )]
    pub fn send_head(
        &mut self,
        stream: StreamId,
        status: u16,
        interim: bool,
        reason: &[u8],
        body: Body,
        fields: &mut dyn Iterator<Item = Field<'_>>,
        out: &mut impl Put,
    ) -> bool {
        let Some(slot) = self.live(stream) else {
            return true;
        };
        let encoded = self.encode(Kind::Head, stream, |buf| {
            head::encode_head(buf, status, interim, reason, body, fields)
        });
        if let Err(unfit) = encoded {
            self.reset(stream, ResetCode::UpstreamBroken, unfit.text(), out);
            return false;
        }
        let stream = self.slots.get(slot);
        if !stream.end_asked && stream.state.send_head(interim) {
            self.send_whole(slot, Whole::Head, out);
        } else {
            debug_assert!(interim, "a second final head, or a head after the end");
        }
        true
    }

    /// Body bytes: staged at once when credit and staging room allow, else queued in the stream (whole). The caller stops
    /// producing while `queued(stream)` is over its own threshold.
    pub fn send_data(&mut self, stream: StreamId, bytes: &[u8], out: &mut impl Put) {
        let Some(slot) = self.body_allowed(stream, out) else {
            return;
        };
        let mut rest = bytes;
        let state = self.slots.get(slot);
        if state.queue.is_empty() && !self.schedule.waits() && !self.channels.is_overdue() {
            while out.staged() < self.limits.stage_bytes {
                let n = rest
                    .len()
                    .min(MAX_DATA)
                    .min(state.credit.left())
                    .min(self.session_credit.left());
                if n == 0 {
                    break;
                }
                let (now, later) = rest.split_at(n);
                put_data(stream, now, out);
                state.credit.spend(n);
                self.session_credit.spend(n);
                rest = later;
            }
        }
        if !rest.is_empty() {
            state.queue.push_data(rest, &mut self.pool);
            self.queued += rest.len();
            self.wake(slot);
        }
        self.streams_sent(bytes.len() - rest.len());
    }

    /// Our direction is complete. False: the trailers do not fit and the stream was reset; no event comes for it.
    pub fn send_end(
        &mut self,
        stream: StreamId,
        trailers: &mut dyn Iterator<Item = Field<'_>>,
        out: &mut impl Put,
    ) -> bool {
        let Some(slot) = self.body_allowed(stream, out) else {
            return true;
        };
        let encoded = self.encode(Kind::End, stream, |buf| head::encode_fields(buf, trailers));
        if let Err(unfit) = encoded {
            let code = match self.role {
                Role::Gateway => ResetCode::Cancelled,
                Role::Connector => ResetCode::UpstreamBroken,
            };
            self.reset(stream, code, unfit.text(), out);
            return false;
        }
        self.slots.get(slot).end_asked = true;
        self.send_whole(slot, Whole::End, out);
        true
    }

    /// Ends both directions at once; queued bytes are dropped, a queued END too. No further event comes for the stream.
    pub fn reset(&mut self, stream: StreamId, code: ResetCode, text: &str, out: &mut impl Put) {
        if let Some(slot) = self.live(stream) {
            self.send_reset(slot, code, text, out);
        }
    }

    /// The owner is done with `n` received body bytes: credit goes back (batched, window grown with use).
    pub fn consumed(&mut self, stream: StreamId, n: usize, out: &mut impl Put) {
        let Some(slot) = self.live(stream) else {
            return;
        };
        let stream = self.slots.get(slot);
        if stream.window.consumed(n) && stream.state.theirs == Half::Open {
            self.send_credit(slot, out);
        }
    }

    // ---- what waits

    /// From now on body bytes wait in their streams when so many are staged; see [`SessionLimits::stage_bytes`].
    pub fn set_stage_bytes(&mut self, bytes: usize) {
        self.limits.stage_bytes = bytes.max(1);
    }

    /// Bytes that wait in the stream for credit or their turn.
    pub fn queued(&self, stream: StreamId) -> usize {
        self.slots
            .held(stream)
            .map_or(0, |slot| self.slots.peek(slot).queue.bytes())
    }

    /// Bytes queued in all streams.
    pub fn queued_bytes(&self) -> usize {
        self.queued
    }

    /// Moves control and queued bytes into `out` up to the staging limit, deficit round-robin over streams,
    /// channel frames and the settings document below them. Call when
    /// `out` was sent, and after input was handled: credit may have come.
    pub fn pump(&mut self, now: Instant, out: &mut impl Put) {
        self.tick(now);
        self.flush_control(out);
        self.pump_frames(out);
    }

    /// Streams whose queue ran empty since the last call, so that their owners resume producing.
    pub fn poll_drained(&mut self) -> Option<(StreamId, T)> {
        while let Some(slot) = self.drained.pop_front(0) {
            let id = self.slots.id(slot);
            let stream = self.slots.get(slot);
            if stream.queue.is_empty()
                && !stream.end_asked
                && stream.is_live()
                && let Some(token) = stream.token
            {
                return Some((id, token));
            }
        }
        None
    }

    /// PING when due, liveness. `Err` when the peer is dead: two PINGs in silence or 15 s without PONG, or no handshake
    /// in 15 s.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut impl Put) -> Result<(), SessionError> {
        self.tick(now);
        if self.phase == Phase::Over {
            return Ok(());
        }
        match self.liveness.timeout(now) {
            Ok(Some(id)) => {
                self.frame(Kind::Ping, out, |buf| {
                    buf.extend_from_slice(&id.to_be_bytes())
                });
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(dead) => {
                self.phase = Phase::Over;
                Err(dead)
            }
        }
    }

    /// When `handle_timeout` wants to be called; far off once the session is over.
    pub fn next_deadline(&self) -> Instant {
        match self.phase {
            Phase::Over => self.now + Duration::from_secs(3600),
            _ => self.liveness.next_deadline(),
        }
    }

    /// Near the memory cap: no stream credit is granted while set. What was withheld goes out at the next `pump`.
    pub fn set_pressure(&mut self, on: bool) {
        self.pressure = on;
        if !on {
            while let Some(slot) = self.control.pop_front(WITHHELD) {
                self.control.move_to_back(CONTROL, slot);
            }
        }
    }

    /// Streams open now, those included whose id waits for the peer's END or RESET.
    pub fn streams(&self) -> u32 {
        self.slots.open()
    }

    /// Tokens of all open streams (the link is lost: each gets its fault).
    pub fn tokens(&self) -> impl Iterator<Item = (StreamId, T)> + '_ {
        self.slots.tokens().map(|(id, token)| (id, *token))
    }

    /// A stream can be opened: the session is ready, not going away, and under its limit.
    pub fn can_open(&self) -> bool {
        self.role == Role::Gateway
            && self.phase == Phase::Ready
            && !self.going_away
            && self.slots.open() < self.limits.streams.min(self.offer.streams)
    }

    /// The peer said GOAWAY.
    pub fn peer_leaves(&self) -> bool {
        self.peer_leaves
    }

    /// Smoothed round trip; `None` before the first PONG.
    pub fn round_trip(&self) -> Option<Duration> {
        self.liveness.round_trip()
    }

    // ---- within

    pub(super) fn tick(&mut self, now: Instant) {
        self.now = now;
    }

    /// Milliseconds since the session began (49 days, then it stands still: windows stop growing).
    pub(super) fn now_ms(&self) -> u32 {
        let passed = self.now.saturating_duration_since(self.started).as_millis();
        u32::try_from(passed).unwrap_or(u32::MAX)
    }

    /// READY has passed: pings start, and a session window above the common start is granted.
    pub(super) fn become_ready(&mut self, features: u64, out: &mut impl Put) {
        self.phase = Phase::Ready;
        self.channels_on = features & CHANNELS != 0;
        self.liveness.ready(self.now);
        let grant = self.session_window.grant();
        if grant > 0 {
            put_credit(0, grant, out);
        }
    }

    /// The slot of a stream that neither side has reset.
    pub(super) fn live(&mut self, stream: StreamId) -> Option<usize> {
        if self.phase != Phase::Ready {
            return None;
        }
        let slot = self.slots.held(stream)?;
        self.slots.get(slot).is_live().then_some(slot)
    }

    /// Makes room in the lists for the slots there are.
    pub(super) fn reserve_lists(&mut self) {
        let slots = self.slots.len();
        self.schedule.reserve(slots);
        self.control.reserve(slots);
        self.drained.reserve(slots);
    }
}
