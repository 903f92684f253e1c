//! Channel frames that wait in a session, and the part of the link that is theirs: below streams, above the settings
//! document, and never starved.

use super::batch::{Batch, sealed::Framed};
use crate::wire::Put;
use crate::wire::relay::frame::{HEADER, MAX_DATA};
use crate::wire::relay::publication;
use crate::wire::relay::queue::Pool;
use crate::wire::relay::session::{Phase, Session};
use std::collections::VecDeque;

/// Most bytes of channel frames that wait in one session.
pub const CHANNEL_QUEUE: usize = 256 * 1024;
/// Channel frames go in bursts of at most so many bytes: one full frame, or several small ones.
pub const BURST: usize = HEADER + MAX_DATA;
/// While streams have bytes to send, one burst goes for so many of theirs.
pub const STREAM_BYTES_PER_BURST: usize = 256 * 1024;
/// After a batch was refused, its owner is told of room when so much is free.
const ROOM_TO_TELL: usize = CHANNEL_QUEUE / 2;

/// The channel frames of one session on their way out.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// Whole frames, as many in a buffer as a burst takes.
    bursts: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Stream bytes that went before them.
    waited: usize,
    /// A batch was refused, and its owner was not told of room since.
    refused: bool,
}

impl Outgoing {
    pub fn is_empty(&self) -> bool {
        self.bursts.is_empty()
    }

    fn room(&self) -> usize {
        CHANNEL_QUEUE - self.bytes.min(CHANNEL_QUEUE)
    }

    /// Streams have had their part, and channel frames wait.
    pub fn is_overdue(&self) -> bool {
        self.waited >= STREAM_BYTES_PER_BURST && !self.is_empty()
    }

    /// So many stream bytes went before what waits here.
    pub fn waits(&mut self, n: usize) {
        if !self.is_empty() {
            self.waited += n;
        }
    }

    /// A frame within [`Outgoing::room`].
    fn push(&mut self, frame: &[u8], pool: &mut Pool) {
        self.bytes += frame.len();
        if let Some(last) = self.bursts.back_mut()
            && last.len() + frame.len() <= BURST
        {
            if last.capacity() - last.len() < frame.len() {
                // Doubling, but never past what the pool keeps.
                let wanted = (last.len() + frame.len()).max(2 * last.capacity());
                last.reserve_exact(wanted.min(BURST) - last.len());
            }
            last.extend_from_slice(frame);
            return;
        }
        let mut burst = pool.take();
        if burst.capacity() < frame.len() {
            burst.reserve_exact(frame.len());
        }
        burst.extend_from_slice(frame);
        self.bursts.push_back(burst);
    }
}

impl<T: Copy> Session<T> {
    /// Both ends speak of channels on this link; never before READY.
    pub fn has_channels(&self) -> bool {
        self.channels_on && self.phase == Phase::Ready
    }

    /// Bytes of channel frames, with their headers, that the session takes now.
    pub fn channel_room(&self) -> usize {
        match self.has_channels() {
            true => self.channels.room(),
            false => 0,
        }
    }

    /// Sends a frame of entries whole, at once or in turn. False: there is no room, and nothing was taken; send it again
    /// after [`Session::poll_channel_room`]. Also false on a link without channels. The batch stays as it is: it may go to
    /// other sessions too, and its owner clears it.
    pub fn send_batch<B: Batch>(&mut self, batch: &mut B, out: &mut impl Put) -> bool {
        debug_assert!(self.role == B::SENDER, "a batch of the other side");
        if !self.has_channels() || self.role != B::SENDER {
            return false;
        }
        if batch.is_empty() {
            return true;
        }
        let frame = Framed::frame(batch);
        let nothing_before =
            self.channels.is_empty() && !self.schedule.waits() && !self.document_is_due();
        if nothing_before && self.has_low_room(out) {
            out.put(frame);
            self.publication_waits(frame.len());
            return true;
        }
        if frame.len() > self.channels.room() {
            self.channels.refused = true;
            return false;
        }
        self.channels.push(frame, &mut self.pool);
        true
    }

    /// True once after a batch was refused, when half of the queue is free again.
    pub fn poll_channel_room(&mut self) -> bool {
        let told = self.channels.refused && self.channel_room() >= ROOM_TO_TELL;
        if told {
            self.channels.refused = false;
        }
        told
    }

    /// Room for what goes below streams, so that a request does not find a full buffer of it before itself.
    pub(in crate::wire::relay) fn has_low_room(&self, out: &impl Put) -> bool {
        out.staged() < publication::STAGE_BYTES.min(self.limits.stage_bytes)
    }

    /// One burst of what waits.
    pub(in crate::wire::relay) fn put_burst(&mut self, out: &mut impl Put) {
        if let Some(burst) = self.channels.bursts.pop_front() {
            out.put(&burst);
            self.channels.bytes -= burst.len();
            self.channels.waited = 0;
            self.publication_waits(burst.len());
            self.pool.give(burst);
        }
    }
}
