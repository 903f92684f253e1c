//! One socket's state, and how an operation names it.
//!
//! ```text
//!   Free ─connect─▶ Connecting ─▶ Open ─detach─▶ Detaching ─(ops join)─▶ Free, Detached
//!     └──accept, adopt────────────▶│                  │
//!                       close, abort└─▶ Closing ◀─────┘
//!                                         └─(ops join, CLOSE op, it joins)─▶ Free
//! ```
//! `ops` says what is under way; nothing is given up before it is empty.

use crate::ring::Receive;
use io_uring::types;
use std::os::fd::{AsRawFd, OwnedFd};

/// What an operation is, in the top byte of its user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Op {
    // of a socket; the numbers are bits of `Ops`
    Receive = 0,
    HangUpPoll = 1,
    Send = 2,
    RoomPoll = 3,
    Connect = 4,
    ConnectTimeout = 5,
    Shutdown = 6,
    Linger = 7,
    Close = 8,
    Install = 9,
    // answers to cancellations of a socket's operations; not joined
    CancelReceive = 10,
    CancelHangUpPoll = 11,
    CancelOther = 12,
    // of a listener
    Accept = 13,
    CancelAccept = 14,
    // of the ring
    Wake = 15,
    CancelAll = 16,
}

impl Op {
    fn from_code(code: u8) -> Option<Op> {
        use Op::*;
        const ALL: [Op; 17] = [
            Receive,
            HangUpPoll,
            Send,
            RoomPoll,
            Connect,
            ConnectTimeout,
            Shutdown,
            Linger,
            Close,
            Install,
            CancelReceive,
            CancelHangUpPoll,
            CancelOther,
            Accept,
            CancelAccept,
            Wake,
            CancelAll,
        ];
        ALL.get(code as usize).copied()
    }
}

/// `user_data`: operation (8 bits), generation (32), index (24).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) op: Op,
    pub(super) generation: u32,
    pub(super) index: u32,
}

impl Tag {
    /// Sockets that a ring can hold.
    pub(super) const INDEX_MAX: u32 = (1 << 24) - 1;

    pub(super) fn ring(op: Op) -> u64 {
        Tag {
            op,
            generation: 0,
            index: 0,
        }
        .encode()
    }

    pub(super) fn encode(self) -> u64 {
        debug_assert!(self.index <= Tag::INDEX_MAX);
        (self.op as u64) << 56 | (self.generation as u64) << 24 | self.index as u64
    }

    pub(super) fn decode(data: u64) -> Option<Tag> {
        Some(Tag {
            op: Op::from_code((data >> 56) as u8)?,
            generation: (data >> 24) as u32,
            index: data as u32 & Tag::INDEX_MAX,
        })
    }
}

/// The set of a socket's operations under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ops(u16);

impl Ops {
    pub(super) fn has(self, op: Op) -> bool {
        self.0 & 1 << op as u16 != 0
    }
    pub(super) fn insert(&mut self, op: Op) {
        assert!(
            op as u8 <= Op::Install as u8 && !self.has(op),
            "{op:?} is under way already"
        );
        self.0 |= 1 << op as u16;
    }
    pub(super) fn remove(&mut self, op: Op) {
        debug_assert!(self.has(op), "{op:?} was not under way");
        self.0 &= !(1 << op as u16);
    }
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

#[derive(Debug)]
pub(super) enum File {
    None,
    /// An index of the ring's table of direct descriptors.
    Direct(u32),
    Plain(OwnedFd),
}

/// The file of an operation, plain or direct, for `match` on entry builders.
#[derive(Clone, Copy)]
pub(super) enum Target {
    Direct(types::Fixed),
    Plain(types::Fd),
}

impl File {
    pub(super) fn target(&self) -> Target {
        match self {
            File::Direct(index) => Target::Direct(types::Fixed(*index)),
            File::Plain(fd) => Target::Plain(types::Fd(fd.as_raw_fd())),
            File::None => unreachable!("an operation of a socket without a file"),
        }
    }
}

/// Builds an entry for a target of either kind: `entry!(target, |fd| opcode::…::new(fd, …).build())`.
macro_rules! entry {
    ($target:expr, |$fd:ident| $build:expr) => {
        match $target {
            $crate::ring::uring::slot::Target::Direct($fd) => $build,
            $crate::ring::uring::slot::Target::Plain($fd) => $build,
        }
    };
}
pub(super) use entry;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Free,
    Connecting,
    Open,
    Detaching,
    /// The owner has let go; no event follows.
    Closing,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) file: File,
    pub(super) ops: Ops,
    pub(super) life: Life,
    /// The mode last asked for; `None` before the first call.
    pub(super) want: Option<Receive>,
    /// The mode of the receive under way, or last under way.
    pub(super) armed: Receive,
    pub(super) receive_cancelled: bool,
    pub(super) hang_up_cancelled: bool,
    /// In the list of those that wait for buffers of the group of `want`.
    pub(super) waits_for_buffers: bool,
    /// FIN was received.
    pub(super) read_ended: bool,
    /// In the list of pauses that have no poll yet.
    pub(super) pause_noted: bool,
    /// `PeerGone` was given in this pause.
    pub(super) gone_given: bool,
    /// `Failed` was given.
    pub(super) failed: bool,
    pub(super) shutdown_wanted: bool,
    pub(super) write_shut: bool,
    /// `abort`, or a close that has waited long enough.
    pub(super) forced: bool,
    /// The send did not go out in one piece and is counted as stalled.
    pub(super) stalled: bool,
    /// errno with which sending failed; 0: it did not. `Failed` follows when nothing more can be received.
    pub(super) write_error: i32,
    /// Bytes of `outgoing` that the kernel has taken.
    pub(super) taken: usize,
    /// The buffer of the send in flight; empty when there is none.
    pub(super) outgoing: Vec<u8>,
}

impl Slot {
    pub(super) fn new() -> Slot {
        Slot {
            generation: 0,
            file: File::None,
            ops: Ops::default(),
            life: Life::Free,
            want: None,
            armed: Receive::Paused,
            receive_cancelled: false,
            hang_up_cancelled: false,
            waits_for_buffers: false,
            read_ended: false,
            pause_noted: false,
            gone_given: false,
            failed: false,
            shutdown_wanted: false,
            write_shut: false,
            forced: false,
            stalled: false,
            write_error: 0,
            taken: 0,
            outgoing: Vec::new(),
        }
    }

    /// Ready for the next owner, under the next generation.
    pub(super) fn reset(&mut self) {
        debug_assert!(self.ops.is_empty());
        *self = Slot {
            generation: self.generation.wrapping_add(1),
            ..Slot::new()
        };
    }

    /// Its owner still wants to hear of it.
    pub(super) fn listens(&self) -> bool {
        matches!(self.life, Life::Connecting | Life::Open | Life::Detaching) && !self.failed
    }

    pub(super) fn send_in_flight(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// A receive is under way or will be, and thus tells how the connection ends.
    pub(super) fn hears_the_end(&self) -> bool {
        self.life == Life::Open
            && !self.read_ended
            && matches!(self.want, Some(Receive::Small | Receive::Large))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_keep_all_three_parts() {
        for code in 0..17 {
            let op = Op::from_code(code).unwrap();
            assert_eq!(op as u8, code);
            for (generation, index) in [(0, 0), (u32::MAX, Tag::INDEX_MAX), (1, 2), (1 << 31, 1)] {
                let tag = Tag {
                    op,
                    generation,
                    index,
                };
                assert_eq!(Tag::decode(tag.encode()), Some(tag));
            }
        }
        assert_eq!(Tag::decode(u64::MAX), None);
    }

    #[test]
    fn an_idle_socket_is_small() {
        assert!(size_of::<Slot>() <= 80, "{} bytes", size_of::<Slot>());
    }
}
