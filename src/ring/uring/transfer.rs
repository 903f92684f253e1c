//! Receiving and sending.
//!
//! | a receive ends with     | then                                                                   |
//! |-------------------------|------------------------------------------------------------------------|
//! | bytes                   | `Received`; armed again if it was the last of its operation             |
//! | nothing (FIN)           | `PeerFinished`; if a send has failed before: `Failed` with its error     |
//! | ENOBUFS                 | armed again when buffers come back                                       |
//! | ECANCELED, EINTR        | armed again in the mode that is wanted now                               |
//! | anything else           | `Failed`                                                                 |
//!
//! | a send ends with        | then                                                                     |
//! |-------------------------|--------------------------------------------------------------------------|
//! | all of it               | `Sent`                                                                   |
//! | less, or EAGAIN         | counted as stalled; POLLOUT; the rest again                              |
//! | anything else           | `Failed`, once the receive under way has given what had come             |

use super::slot::{Life, Op, entry};
use super::{LARGE, Ring, SMALL};
use crate::ring::{Event, Receive};
use io_uring::{cqueue, opcode, squeue};
use std::time::Duration;

/// A pause that is over sooner is not polled for the peer's end.
const SHORT_PAUSE: Duration = Duration::from_millis(20);

fn group_of(mode: Receive) -> usize {
    if mode == Receive::Large { LARGE } else { SMALL }
}

impl Ring {
    pub(super) fn set_mode(&mut self, index: usize, mode: Receive) {
        let slot = &mut self.slots[index];
        assert!(slot.life != Life::Detaching, "receive after detach");
        if slot.want != Some(mode) {
            slot.want = Some(mode);
            slot.gone_given = false;
            slot.waits_for_buffers = false;
        }
        if slot.write_error != 0 && !slot.hears_the_end() {
            let errno = slot.write_error;
            return self.fail(index, errno);
        }
        self.arm_receive(index);
    }

    /// Brings what is armed closer to what is wanted: arms, or cancels first.
    pub(super) fn arm_receive(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let Some(want) = slot.want else { return };
        if slot.life != Life::Open || slot.read_ended || slot.failed {
            return;
        }
        if slot.ops.has(Op::Receive) {
            if slot.armed != want && !slot.receive_cancelled {
                slot.receive_cancelled = true;
                self.cancel(index, Op::Receive, Op::CancelReceive);
            }
            return;
        }
        if want == Receive::Paused {
            if !slot.ops.has(Op::HangUpPoll) && !slot.gone_given && !slot.pause_noted {
                slot.pause_noted = true;
                let socket = self.id(index);
                self.pauses.push_back((self.now + SHORT_PAUSE, socket));
            }
            return;
        }
        if slot.ops.has(Op::HangUpPoll) && !slot.hang_up_cancelled {
            slot.hang_up_cancelled = true;
            self.cancel(index, Op::HangUpPoll, Op::CancelHangUpPoll);
        }
        if self.slots[index].waits_for_buffers {
            return;
        }
        let slot = &mut self.slots[index];
        slot.armed = want;
        let target = slot.file.target();
        let entry = match want {
            Receive::Large => {
                let (id, size) = (self.groups[LARGE].id, self.groups[LARGE].size);
                entry!(target, |fd| {
                    opcode::Recv::new(fd, std::ptr::null_mut(), size)
                        .buf_group(id)
                        .build()
                })
                .flags(squeue::Flags::BUFFER_SELECT)
            }
            _ => {
                let id = self.groups[SMALL].id;
                entry!(target, |fd| opcode::RecvMulti::new(fd, id).build())
            }
        };
        // SAFETY: the kernel writes to buffers of the group alone, whose memory outlives the operation (see `Group`).
        unsafe { self.start(index, Op::Receive, entry) };
    }

    /// Polls sockets that have been paused for a while: most pauses are over sooner, when the bytes that came last have
    /// been passed on, and a poll is three operations (itself, its cancellation, the answer to that).
    pub(super) fn poll_long_pauses(&mut self) {
        while let Some(&(at, socket)) = self.pauses.front()
            && at <= self.now
        {
            self.pauses.pop_front();
            let Some(index) = self.find(socket) else {
                continue;
            };
            let slot = &mut self.slots[index];
            slot.pause_noted = false;
            let idle = !slot.ops.has(Op::Receive) && !slot.ops.has(Op::HangUpPoll);
            let over = slot.life != Life::Open || slot.read_ended || slot.failed;
            if slot.want == Some(Receive::Paused) && idle && !over && !slot.gone_given {
                self.poll_for(index, Op::HangUpPoll, libc::POLLRDHUP);
            }
        }
    }

    /// Arms receives that wait for buffers, one for each buffer that is there.
    pub(super) fn arm_dry(&mut self, group: usize) {
        let mut buffers = self.groups[group].at_home();
        while buffers > 0 {
            let Some(socket) = self.dry[group].pop_front() else {
                return;
            };
            let Some(index) = self.find(socket) else {
                continue;
            };
            let slot = &mut self.slots[index];
            if slot.waits_for_buffers && slot.want.map(group_of) == Some(group) {
                slot.waits_for_buffers = false;
                self.arm_receive(index);
                buffers -= 1;
            }
        }
    }

    /// Keeps the list of those that wait for buffers no longer than twice the sockets there are, however many come and
    /// go while there are none.
    fn forget_closed(&mut self, group: usize) {
        if self.dry[group].len() > 2 * self.slots.len() {
            let slots = &self.slots;
            self.dry[group].retain(|socket| {
                let slot = &slots[socket.index as usize];
                slot.generation == socket.generation && slot.waits_for_buffers
            });
        }
    }

    pub(super) fn receive_done(&mut self, index: usize, result: i32, flags: u32) {
        let socket = self.id(index);
        let slot = &mut self.slots[index];
        let group = group_of(slot.armed);
        let last = !cqueue::more(flags);
        if last {
            slot.ops.remove(Op::Receive);
            slot.receive_cancelled = false;
        }
        let len = result.max(0) as u32;
        let buf = cqueue::buffer_select(flags).map(|id| self.groups[group].take(id, len));
        match (result, buf) {
            (1.., Some(buf)) => {
                if slot.listens() {
                    self.ready.push_back(Event::Received { socket, buf });
                }
            }
            (0, _) => {
                slot.read_ended = true;
                match slot.write_error {
                    0 if slot.listens() => self.ready.push_back(Event::PeerFinished { socket }),
                    0 => {}
                    errno => self.fail(index, errno),
                }
            }
            (errno, _) if errno == -libc::ENOBUFS => {
                self.counters.receives_put_off += 1;
                self.groups[group].grow();
                if last && slot.want == Some(slot.armed) {
                    slot.waits_for_buffers = true;
                    self.dry[group].push_back(socket);
                    self.forget_closed(group);
                }
            }
            (errno, _) if [-libc::ECANCELED, -libc::EINTR].contains(&errno) => {}
            (errno, _) => {
                let errno = if slot.write_error != 0 {
                    slot.write_error
                } else {
                    -errno
                };
                self.fail(index, errno);
            }
        }
        if last {
            // The owner may want otherwise when it has seen this: what it does not want any more need not be cancelled.
            self.to_arm.push(index as u32);
        }
    }

    /// Arms receives that ended in the last turn, of sockets that are still to be received from.
    pub(super) fn arm_ended(&mut self) {
        while let Some(index) = self.to_arm.pop() {
            self.arm_receive(index as usize);
        }
    }

    /// The kernel has answered a cancellation. If it did not find the target and that is still under way, it was
    /// somewhere between the kernel's queues: again. What it found says itself that it is over.
    pub(super) fn receive_cancel_answered(&mut self, index: usize, result: i32) {
        let slot = &self.slots[index];
        if result != 0 && slot.receive_cancelled && slot.ops.has(Op::Receive) {
            self.cancel(index, Op::Receive, Op::CancelReceive);
        }
    }

    pub(super) fn hang_up_cancel_answered(&mut self, index: usize, result: i32) {
        let slot = &self.slots[index];
        if result != 0 && slot.hang_up_cancelled && slot.ops.has(Op::HangUpPoll) {
            self.cancel(index, Op::HangUpPoll, Op::CancelHangUpPoll);
        }
    }

    pub(super) fn hang_up_poll_done(&mut self, index: usize, result: i32) {
        let socket = self.id(index);
        let slot = &mut self.slots[index];
        slot.ops.remove(Op::HangUpPoll);
        slot.hang_up_cancelled = false;
        let paused = slot.want == Some(Receive::Paused) && slot.life == Life::Open;
        if result >= 0 && paused && slot.listens() {
            slot.gone_given = true;
            self.ready.push_back(Event::PeerGone { socket });
        } else if result < 0 && result != -libc::ECANCELED {
            self.fail(index, -result);
        }
        // A pause that ended and began again while the poll was being cancelled.
        self.arm_receive(index);
    }

    pub(super) fn start_send(&mut self, index: usize, buf: Vec<u8>) {
        let slot = &mut self.slots[index];
        assert!(
            !slot.send_in_flight(),
            "a second send in flight could overtake the first"
        );
        assert!(!slot.shutdown_wanted, "send after shutdown_write");
        assert!(
            slot.life == Life::Open,
            "send on a socket that is {:?}",
            slot.life
        );
        if slot.failed || slot.write_error != 0 {
            return; // `Failed` has been given or is about to be
        }
        slot.outgoing = buf;
        slot.taken = 0;
        self.send_rest(index);
    }

    fn send_rest(&mut self, index: usize) {
        let slot = &self.slots[index];
        let rest = &slot.outgoing[slot.taken..];
        let (start, len) = (rest.as_ptr(), rest.len().min(i32::MAX as usize) as u32);
        // A send that waits would pin its buffer for as long as the peer likes.
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let entry = entry!(slot.file.target(), |fd| {
            opcode::Send::new(fd, start, len).flags(flags).build()
        });
        // SAFETY: `outgoing` is neither changed nor dropped before the send has completed; the ring's drop joins it or
        // leaks it.
        unsafe { self.start(index, Op::Send, entry) };
    }

    pub(super) fn send_done(&mut self, index: usize, result: i32) {
        let slot = &mut self.slots[index];
        slot.ops.remove(Op::Send);
        match result {
            0.. => {
                slot.taken += result as usize;
                if slot.taken < slot.outgoing.len() {
                    self.wait_for_room(index);
                } else {
                    self.sent(index);
                }
            }
            _ if [-libc::EAGAIN, -libc::ENOBUFS, -libc::ENOMEM].contains(&result) => {
                self.wait_for_room(index);
            }
            _ if result == -libc::EINTR => self.send_rest(index),
            _ => self.send_failed(index, -result),
        }
    }

    fn sent(&mut self, index: usize) {
        let socket = self.id(index);
        let buf = self.take_outgoing(index);
        let slot = &self.slots[index];
        if slot.listens() {
            self.ready.push_back(Event::Sent { socket, buf });
        }
        self.shut_down_when_sent(index);
    }

    fn wait_for_room(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        if slot.forced {
            return;
        }
        if !slot.stalled {
            slot.stalled = true;
            self.stalled_bytes += slot.outgoing.len();
            self.counters.sends_stalled += 1;
        }
        self.poll_for(index, Op::RoomPoll, libc::POLLOUT);
    }

    pub(super) fn room_poll_done(&mut self, index: usize, result: i32) {
        let slot = &mut self.slots[index];
        slot.ops.remove(Op::RoomPoll);
        match result {
            _ if slot.forced => {}
            0.. => self.send_rest(index),
            _ if result == -libc::ECANCELED => self.wait_for_room(index),
            _ => self.send_failed(index, -result),
        }
    }

    /// The write side is dead. What the peer had said before is still heard: `Failed` waits for the receive to end, which
    /// it does soon, since only a reset or a timeout gets here.
    fn send_failed(&mut self, index: usize, errno: i32) {
        self.take_outgoing(index);
        let slot = &mut self.slots[index];
        slot.write_error = errno;
        if !slot.hears_the_end() {
            self.fail(index, errno);
        }
    }

    /// The buffer of the send in flight, which is over.
    pub(super) fn take_outgoing(&mut self, index: usize) -> Vec<u8> {
        let slot = &mut self.slots[index];
        debug_assert!(!slot.ops.has(Op::Send));
        if std::mem::replace(&mut slot.stalled, false) {
            self.stalled_bytes -= slot.outgoing.len();
        }
        slot.taken = 0;
        std::mem::take(&mut slot.outgoing)
    }

    /// Polls once for one condition; errors and hang-ups are always part of it.
    fn poll_for(&mut self, index: usize, op: Op, condition: i16) {
        self.counters.polls += 1;
        let condition = condition as u16 as u32;
        let entry = entry!(self.slots[index].file.target(), |fd| {
            opcode::PollAdd::new(fd, condition).build()
        });
        // SAFETY: no pointers.
        unsafe { self.start(index, op, entry) };
    }
}
