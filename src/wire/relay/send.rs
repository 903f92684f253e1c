//! How frames leave a session.
//!
//! Two ways out. *At once*: nothing waits before the frame, credit suffices, and `out` has room; the bytes go straight to
//! `out`. *In turn*: they wait in their stream and `pump` takes them by deficit round-robin. Control frames that the
//! session owes by itself (PONG, CREDIT, RESET) have [`CONTROL_ROOM`] above the staging limit; beyond it they are kept as
//! one mark per stream or session, so a peer that makes us answer and does not read gains nothing.

use super::control;
use super::frame::{self, HEADER, Kind, MAX_DATA};
use super::head::Unfit;
use super::publication;
use super::queue::{Front, Whole};
use super::session::{Phase, Session};
use super::stream::Half;
use super::{ResetCode, StreamId};
use crate::wire::Put;

/// Room for control frames above the staging limit.
pub const CONTROL_ROOM: usize = 16 * 1024;
/// A round trip to reckon with before one was measured.
const ASSUMED_ROUND_TRIP_MS: u32 = 100;

/// In `Session::control`: owes a RESET or CREDIT that had no room.
pub(super) const CONTROL: usize = 0;
/// In `Session::control`: its CREDIT is withheld under pressure.
pub(super) const WITHHELD: usize = 1;

impl<T: Copy> Session<T> {
    /// The slot of a live stream on which body bytes or END may follow; else the owner's mistake is contained.
    pub(super) fn body_allowed(&mut self, stream: StreamId, out: &mut impl Put) -> Option<usize> {
        let slot = self.live(stream)?;
        let state = self.slots.get(slot);
        if state.end_asked {
            debug_assert!(false, "body after END");
            return None;
        }
        if !state.state.may_send_body() {
            self.send_reset(slot, ResetCode::Internal, "body before its head", out);
            return None;
        }
        Some(slot)
    }

    /// Encodes a frame without a stream into `scratch`.
    pub(super) fn frame_in_scratch(&mut self, kind: Kind, payload: impl FnOnce(&mut Vec<u8>)) {
        frame::start(&mut self.scratch, kind, 0);
        payload(&mut self.scratch);
        let fits = frame::finish(&mut self.scratch, kind);
        debug_assert!(fits);
    }

    /// Writes one frame without a stream to `out`.
    pub(super) fn frame(
        &mut self,
        kind: Kind,
        out: &mut impl Put,
        payload: impl FnOnce(&mut Vec<u8>),
    ) {
        self.frame_in_scratch(kind, payload);
        out.put(&self.scratch);
    }

    /// Encodes a frame of a stream into `scratch`.
    pub(super) fn encode(
        &mut self,
        kind: Kind,
        id: StreamId,
        payload: impl FnOnce(&mut Vec<u8>) -> Result<(), Unfit>,
    ) -> Result<(), Unfit> {
        frame::start(&mut self.scratch, kind, id.0);
        payload(&mut self.scratch)?;
        if frame::finish(&mut self.scratch, kind) {
            Ok(())
        } else {
            Err(Unfit::TooLong)
        }
    }

    /// Sends the frame in `scratch` at once, or queues it in its stream.
    pub(super) fn send_whole(&mut self, slot: usize, whole: Whole, out: &mut impl Put) {
        let scratch = std::mem::take(&mut self.scratch);
        self.send_frame(slot, whole, &scratch, out);
        self.scratch = scratch;
    }

    /// The same for a frame that lies elsewhere.
    pub(super) fn send_frame(
        &mut self,
        slot: usize,
        whole: Whole,
        frame: &[u8],
        out: &mut impl Put,
    ) {
        let stream = self.slots.get(slot);
        if stream.queue.is_empty()
            && !self.schedule.waits()
            && !self.channels.is_overdue()
            && out.staged() < self.limits.stage_bytes
        {
            out.put(frame);
            self.streams_sent(frame.len());
            self.whole_left(slot, whole, out);
        } else {
            stream.queue.push_frame(whole, frame, &mut self.pool);
            self.queued += frame.len();
            self.wake(slot);
        }
    }

    /// A whole frame has gone to `out`.
    pub(super) fn whole_left(&mut self, slot: usize, whole: Whole, out: &mut impl Put) {
        let stream = self.slots.get(slot);
        match whole {
            Whole::Head => {}
            Whole::Open => {
                stream.on_wire = true;
                self.grant_start(slot, out);
            }
            Whole::End => {
                stream.state.sent_end();
                self.release_if_done(slot);
            }
        }
    }

    /// Schedules the stream if the front of its queue could go.
    pub(super) fn wake(&mut self, slot: usize) {
        let stream = self.slots.get(slot);
        let sendable = match stream.queue.front() {
            Front::Empty => false,
            Front::Frame(..) => true,
            Front::Data(_) => stream.credit.left() > 0,
        };
        if sendable {
            self.schedule.activate(slot, stream.queue.bytes());
        }
    }

    /// RESET for a live stream, or for one that the peer has just reset.
    pub(super) fn send_reset(
        &mut self,
        slot: usize,
        code: ResetCode,
        text: &str,
        out: &mut impl Put,
    ) {
        self.drop_queue(slot);
        let id = self.slots.id(slot);
        let stream = self.slots.get(slot);
        stream.token = None;
        if !stream.on_wire {
            // OPEN never left: the peer knows of no stream.
            self.release(slot);
            return;
        }
        stream.state.sent_reset();
        let encoded = self.encode(Kind::Reset, id, |buf| {
            control::encode_coded_text(buf, code as u16, text);
            Ok(())
        });
        debug_assert!(encoded.is_ok());
        if self.has_control_room(out) {
            out.put(&self.scratch);
            self.control.remove(slot);
            self.release_if_done(slot);
        } else {
            self.slots.get(slot).reset_owed = Some(self.scratch.as_slice().into());
            self.control.move_to_back(CONTROL, slot);
        }
    }

    /// A stream begins: what its window holds above the common start. It comes right behind OPEN, under pressure too:
    /// whoever set the pressure refuses new streams, or wants them whole.
    pub(super) fn grant_start(&mut self, slot: usize, out: &mut impl Put) {
        let id = self.slots.id(slot);
        let grant = self.slots.get(slot).window.grant_start();
        if grant > 0 {
            put_credit(id.0, grant, out);
        }
    }

    /// CREDIT for a stream whose peer still sends, now, or when there is room, or when the pressure is gone.
    pub(super) fn send_credit(&mut self, slot: usize, out: &mut impl Put) {
        if self.pressure {
            self.control.move_to_back(WITHHELD, slot);
        } else if self.has_control_room(out) {
            self.put_stream_credit(slot, out);
        } else {
            self.control.move_to_back(CONTROL, slot);
        }
    }

    /// CREDIT for the session, PONG and PUBLISHED: now, or at the next `pump` with room.
    pub(super) fn send_session_control(&mut self, out: &mut impl Put) {
        if !self.has_control_room(out) {
            return;
        }
        if let Some(id) = self.pong_due.take() {
            self.frame(Kind::Pong, out, |buf| {
                buf.extend_from_slice(&id.to_be_bytes())
            });
        }
        if self.session_window.is_due() {
            put_credit(0, self.session_window.grant(), out);
        }
        if let Some(verdict) = self.verdict_due.take() {
            out.put(&verdict);
        }
    }

    pub(super) fn has_control_room(&self, out: &impl Put) -> bool {
        out.staged() < self.limits.stage_bytes.saturating_add(CONTROL_ROOM)
    }

    pub(super) fn put_stream_credit(&mut self, slot: usize, out: &mut impl Put) {
        let round_trip = self
            .liveness
            .round_trip()
            .map_or(ASSUMED_ROUND_TRIP_MS, |d| {
                u32::try_from(d.as_millis()).unwrap_or(u32::MAX)
            });
        let (id, now_ms) = (self.slots.id(slot), self.now_ms());
        let window = &mut self.slots.get(slot).window;
        let grant = window.grant(now_ms, round_trip, self.limits.max_stream_credit);
        put_credit(id.0, grant, out);
    }

    /// Control that had no room so far.
    pub(super) fn flush_control(&mut self, out: &mut impl Put) {
        if self.phase != Phase::Ready {
            return;
        }
        self.send_session_control(out);
        while !self.control.is_empty(CONTROL) && self.has_control_room(out) {
            let Some(slot) = self.control.pop_front(CONTROL) else {
                return;
            };
            let stream = self.slots.get(slot);
            if let Some(reset) = stream.reset_owed.take() {
                out.put(&reset);
                self.release_if_done(slot);
            } else if stream.is_live()
                && stream.state.theirs == Half::Open
                && stream.window.is_due()
            {
                self.send_credit(slot, out);
            }
        }
    }

    /// Queued frames in turn; below them channel frames, and below those the settings document. What has let the others
    /// pass for long enough goes first.
    pub(super) fn pump_frames(&mut self, out: &mut impl Put) {
        if self.phase != Phase::Ready {
            return;
        }
        while out.staged() < self.limits.stage_bytes {
            if self.document_is_due() {
                self.put_chunk(out);
            } else if self.channels.is_overdue() {
                self.put_burst(out);
            } else if let Some(slot) = self.schedule.turn() {
                self.take_turn(slot, out);
            } else if !self.has_low_room(out) {
                return;
            } else if !self.channels.is_empty() {
                self.put_burst(out);
            } else if !self.put_chunk(out) {
                return;
            }
        }
    }

    /// One frame of the stream whose turn it is.
    pub(super) fn take_turn(&mut self, slot: usize, out: &mut impl Put) {
        let id = self.slots.id(slot);
        let stream = self.slots.get(slot);
        let staged = match stream.queue.front() {
            Front::Empty => return self.schedule.ran_empty(slot),
            Front::Frame(whole, bytes) => {
                out.put(bytes);
                let n = bytes.len();
                stream.queue.pop_frame(&mut self.pool);
                self.queued -= n;
                self.schedule.charge(slot, n);
                self.whole_left(slot, whole, out);
                n
            }
            Front::Data(bytes) => {
                let room = MAX_DATA.min(self.session_credit.left());
                let n = bytes.len().min(room).min(stream.credit.left());
                let Some((now, _)) = bytes.split_at_checked(n).filter(|_| n > 0) else {
                    return match stream.credit.left() {
                        0 => self.schedule.remove(slot),
                        _ => self.schedule.starve(slot),
                    };
                };
                put_data(id, now, out);
                stream.credit.spend(n);
                self.session_credit.spend(n);
                stream.queue.advance(n, &mut self.pool);
                self.queued -= n;
                self.schedule.charge(slot, HEADER + n);
                HEADER + n
            }
        };
        let stream = self.slots.get(slot);
        if stream.queue.is_empty() && stream.token.is_some() && !stream.end_asked {
            self.drained.move_to_back(0, slot);
        }
        self.streams_sent(staged);
    }

    /// So many stream bytes went before channel frames and the settings document.
    pub(super) fn streams_sent(&mut self, staged: usize) {
        self.channels.waits(staged);
        self.publication_waits(staged);
    }

    /// The others have had their part, and a settings document waits.
    pub(super) fn document_is_due(&self) -> bool {
        (self.publication.as_ref()).is_some_and(|p| p.waited >= publication::STREAM_BYTES_PER_CHUNK)
    }

    /// So many bytes of others went before the settings document.
    pub(super) fn publication_waits(&mut self, staged: usize) {
        if let Some(publication) = &mut self.publication {
            publication.waited += staged;
        }
    }

    /// One chunk of the settings document. False: there is none.
    pub(super) fn put_chunk(&mut self, out: &mut impl Put) -> bool {
        let Some(publication) = &mut self.publication else {
            return false;
        };
        let (total, offset, bytes) = publication.chunk();
        let prefix = control::encode_publish_prefix(publication.hash, total, offset);
        out.put(&frame::header(Kind::Publish, 0, prefix.len() + bytes.len()));
        out.put(&prefix);
        out.put(bytes);
        if publication.sent() {
            self.publication = None;
        }
        true
    }

    pub(super) fn drop_queue(&mut self, slot: usize) {
        let dropped = self.slots.get(slot).queue.clear(&mut self.pool);
        self.queued -= dropped;
        self.schedule.remove(slot);
    }

    pub(super) fn release_if_done(&mut self, slot: usize) {
        if self.slots.get(slot).is_done() {
            self.release(slot);
        }
    }

    pub(super) fn release(&mut self, slot: usize) {
        self.schedule.remove(slot);
        self.control.remove(slot);
        self.drained.remove(slot);
        self.slots.release(slot);
    }
}

pub(super) fn put_data(id: StreamId, bytes: &[u8], out: &mut impl Put) {
    out.put(&frame::header(Kind::Data, id.0, bytes.len()));
    out.put(bytes);
}

pub(super) fn put_credit(stream: u32, n: u32, out: &mut impl Put) {
    let [a, b, c, d, e, f, g, h] = frame::header(Kind::Credit, stream, 4);
    let [i, j, k, l] = n.to_be_bytes();
    out.put(&[a, b, c, d, e, f, g, h, i, j, k, l]);
}
