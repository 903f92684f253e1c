//! An OPEN frame that is encoded once and may be sent more than once: a request that is repeated elsewhere costs no
//! second encoding, and the first sending no copy more.

use super::frame::{self, HEADER, Kind};
use super::{OpenHead, StreamId, head};
use crate::wire::Field;

/// An encoded OPEN frame, checked; the session that sends it writes the stream's id into it. Its buffer is the owner's
/// to reuse.
#[derive(Debug, Default)]
pub struct OpenFrame(Vec<u8>);

impl OpenFrame {
    /// Encodes `head` with `fields` (`head.fields` is not read) in place of what was there. False: it does not fit
    /// (64 KiB, syntax of its parts), and the frame is empty.
    pub fn encode(
        &mut self,
        head: &OpenHead<'_>,
        fields: &mut dyn Iterator<Item = Field<'_>>,
    ) -> bool {
        frame::start(&mut self.0, Kind::Open, 0);
        let fits = head::encode_open(&mut self.0, head, fields).is_ok()
            && frame::finish(&mut self.0, Kind::Open);
        if !fits {
            self.0.clear();
        }
        fits
    }

    /// Path and query of the request; empty when the frame is.
    pub fn target(&self) -> &[u8] {
        self.head().map_or(&[], |head| head.target)
    }

    /// The request's head as it was encoded; none when the frame is empty.
    pub fn head(&self) -> Option<OpenHead<'_>> {
        head::decode_open(self.0.get(HEADER..)?)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Empties it. Its buffer stays, unless it is larger than `most`.
    pub fn clear(&mut self, most: usize) {
        self.0.clear();
        if self.0.capacity() > most {
            self.0 = Vec::new();
        }
    }

    /// The whole frame, on this stream.
    pub(super) fn on(&mut self, stream: StreamId) -> &[u8] {
        if let Some(place) = self.0.get_mut(HEADER - 4..HEADER) {
            place.copy_from_slice(&stream.0.to_be_bytes());
        }
        &self.0
    }
}
