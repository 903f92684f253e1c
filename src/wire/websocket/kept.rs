//! What a connection keeps between two inputs when it is not at rest.

use super::frame::{HEAD_MAX, Head, Opcode};
use super::utf8::Utf8;
use std::time::Instant;

/// A frame whose head was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) head: Head,
    /// Payload bytes taken so far.
    pub(super) taken: u64,
}

impl Frame {
    pub(super) fn left(&self) -> u64 {
        self.head.length - self.taken
    }
}

/// The closing handshake (RFC 6455 §7.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Closing {
    #[default]
    Open,
    /// Our Close frame went out; the peer's is due by then.
    Sent(Instant),
    /// Both went out, or the connection failed: nothing more is read or written.
    Done,
}

/// In a box, so that a connection at rest pays for a pointer only.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Bytes of a head that is cut off.
    head: [u8; HEAD_MAX],
    head_filled: u8,
    pub(super) frame: Option<Frame>,
    /// Payload of a control frame that is cut off.
    pub(super) control: Vec<u8>,
    /// Text or Binary while a message is incomplete, its payload, and where its last character stands.
    pub(super) kind: Option<Opcode>,
    pub(super) message: Vec<u8>,
    pub(super) utf8: Utf8,
    pub(super) closing: Closing,
    /// When the first byte of what is incomplete came.
    pub(super) since: Option<Instant>,
}

impl Kept {
    /// One more byte of a head; false when there is no room, which a head that parses never asks for.
    pub(super) fn push_head(&mut self, byte: u8) -> bool {
        let Some(slot) = self.head.get_mut(usize::from(self.head_filled)) else {
            return false;
        };
        *slot = byte;
        self.head_filled += 1;
        true
    }
    pub(super) fn head(&self) -> &[u8] {
        self.head
            .get(..usize::from(self.head_filled))
            .unwrap_or_default()
    }
    pub(super) fn clear_head(&mut self) {
        self.head_filled = 0;
    }
    /// A head, frame or message is incomplete.
    pub(super) fn is_partial(&self) -> bool {
        self.head_filled > 0 || self.frame.is_some() || self.kind.is_some()
    }
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.control.capacity() + self.message.capacity()
    }
}
