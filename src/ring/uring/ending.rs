//! How sockets end: shut down, close, abort, detach; always by joining what is under way first.

use super::Ring;
use super::queue::LINGER_RESET;
use super::slot::{File, Life, Op, Tag, entry};
use crate::ring::{Event, SocketId, sys};
use io_uring::{cqueue, opcode};
use std::os::fd::IntoRawFd;
use std::time::Duration;

impl Ring {
    /// Sends FIN, if that is wanted and no send is in flight.
    pub(super) fn shut_down_when_sent(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let wanted = slot.shutdown_wanted && !slot.write_shut && slot.life != Life::Closing;
        if wanted && !slot.send_in_flight() && slot.write_error == 0 && !slot.failed {
            slot.write_shut = true;
            self.shut_down(index, libc::SHUT_WR);
        }
    }

    fn shut_down(&mut self, index: usize, how: i32) {
        let entry = entry!(self.slots[index].file.target(), |fd| {
            opcode::Shutdown::new(fd, how).build()
        });
        // SAFETY: no pointers.
        unsafe { self.start(index, Op::Shutdown, entry) };
    }

    /// The owner gives the socket up: no event of it is given from here on.
    pub(super) fn let_go(&mut self, socket: SocketId, forced: bool) {
        if !self.ready.is_empty() {
            self.ready.retain(|event| event.socket() != Some(socket));
        }
        let known = self.slots.get(socket.index as usize);
        if known.is_some_and(|slot| slot.generation == socket.generation.wrapping_add(1)) {
            return; // its `Detached` was not yet given; the descriptor went with the event
        }
        let Some(index) = self.find_for_owner(socket) else {
            return;
        };
        self.slots[index].life = Life::Closing;
        self.end_receiving(index);
        let slot = &self.slots[index];
        if slot.ops.has(Op::Connect) {
            self.cancel(index, Op::Connect, Op::CancelOther);
        }
        if forced {
            self.force(index);
        } else if self.slots[index].send_in_flight() {
            self.closing
                .push_back((self.now + self.close_patience, socket));
        }
        self.settle(index);
    }

    /// Ends what `receive` has armed.
    fn end_receiving(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.waits_for_buffers = false;
        let receive = slot.ops.has(Op::Receive) && !slot.receive_cancelled;
        let hang_up = slot.ops.has(Op::HangUpPoll) && !slot.hang_up_cancelled;
        slot.receive_cancelled |= receive;
        slot.hang_up_cancelled |= hang_up;
        if receive {
            self.cancel(index, Op::Receive, Op::CancelReceive);
        }
        if hang_up {
            self.cancel(index, Op::HangUpPoll, Op::CancelHangUpPoll);
        }
    }

    /// Gives up on the send in flight, and lets the close be a reset.
    fn force(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.forced = true;
        if slot.ops.has(Op::RoomPoll) {
            self.cancel(index, Op::RoomPoll, Op::CancelOther);
        }
        match &self.slots[index].file {
            File::Plain(fd) => {
                // If it fails the socket is dead already, and closing it is all there is to do.
                let _ = socket2::SockRef::from(fd).set_linger(Some(Duration::ZERO));
            }
            File::Direct(_) if self.features.socket_options => {
                let entry = entry!(self.slots[index].file.target(), |fd| {
                    opcode::SetSockOpt::new(
                        fd,
                        libc::SOL_SOCKET as u32,
                        libc::SO_LINGER as u32,
                        LINGER_RESET.as_ptr(),
                        LINGER_RESET.len(),
                    )
                    .build()
                });
                // SAFETY: the option's value is static.
                unsafe { self.start(index, Op::Linger, entry) };
            }
            File::Direct(_) => {
                if !self.slots[index].ops.has(Op::Shutdown) {
                    self.shut_down(index, libc::SHUT_RDWR);
                }
            }
            File::None => {}
        }
    }

    /// Resets the connections whose close has waited long enough.
    pub(super) fn force_overdue_closes(&mut self) {
        while self.closing.front().is_some_and(|(at, _)| *at <= self.now) {
            let Some((_, socket)) = self.closing.pop_front() else {
                return;
            };
            let Some(index) = self.find(socket) else {
                continue;
            };
            let slot = &self.slots[index];
            if slot.life == Life::Closing && !slot.forced && slot.send_in_flight() {
                self.counters.closes_forced += 1;
                self.force(index);
                self.settle(index);
            }
        }
    }

    pub(super) fn start_detaching(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        assert!(
            slot.life == Life::Open,
            "detach of a socket that is {:?}",
            slot.life
        );
        assert!(
            matches!(slot.file, File::Plain(_)),
            "a direct descriptor cannot be detached"
        );
        slot.life = Life::Detaching;
        self.end_receiving(index);
        let slot = &self.slots[index];
        if slot.write_error != 0 {
            let errno = slot.write_error;
            self.fail(index, errno);
        }
        self.settle(index);
    }

    /// Goes on with an ending once nothing is under way any more.
    pub(super) fn settle(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        if !slot.ops.is_empty() {
            return;
        }
        match slot.life {
            Life::Closing => {
                self.take_outgoing(index);
                self.start_closing_file(index);
            }
            Life::Detaching if !slot.failed && !slot.send_in_flight() => {
                let socket = self.id(index);
                let file = std::mem::replace(&mut self.slots[index].file, File::None);
                self.release(index);
                if let File::Plain(fd) = file {
                    self.ready.push_back(Event::Detached { socket, fd });
                }
            }
            _ => {}
        }
    }

    fn start_closing_file(&mut self, index: usize) {
        let entry = match &mut self.slots[index].file {
            File::Direct(direct) => opcode::Close::new(io_uring::types::Fixed(*direct)).build(),
            plain => match std::mem::replace(plain, File::None) {
                File::Plain(fd) => {
                    opcode::Close::new(io_uring::types::Fd(fd.into_raw_fd())).build()
                }
                _ => return self.release(index),
            },
        };
        // SAFETY: no pointers. The descriptor was ours, and is the operation's now.
        unsafe { self.start(index, Op::Close, entry) };
    }

    /// Gives the slot to the next owner, and what it held to the accept that waits for it.
    pub(super) fn release(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        if matches!(slot.file, File::Direct(_)) {
            self.direct_free += 1;
        }
        slot.reset();
        self.free.push(index as u32);
        self.accept_one_more();
    }

    /// Takes a completion after the ring was given up: what it brings is given back.
    pub(super) fn discard(&mut self, completion: &cqueue::Entry) {
        let Some(tag) = Tag::decode(completion.user_data()) else {
            return;
        };
        let accepted = tag.op == Op::Accept && completion.result() >= 0;
        let direct = self
            .listeners
            .get(tag.index as usize)
            .is_some_and(|l| l.is_direct());
        if accepted && !direct {
            drop(sys::own(completion.result()));
        }
    }
}
