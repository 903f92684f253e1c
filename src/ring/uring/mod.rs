//! The io_uring driver: [`Ring`].
//!
//! A turn is: publish returned buffers, arm what waited for them, enter the kernel once (submit, run deferred work, sleep
//! if nothing is there), then give at most `events_per_turn` completions, in their order, as events. What the owner asks
//! for meanwhile is submitted by the next turn.
//!
//! ```text
//! queue     submission, completion, arguments' lifetimes     accept    listeners: single-shot accepts, back-off
//! slot      one socket's state; how an operation names it    transfer  receive and send
//! verbs     the trait, on top of all                         ending    close, abort, detach, joining, give-back
//! connect   connections made by us, into either table
//! ```
//! Work per connection per turn is bounded by what is armed: one one-shot receive (256 KiB), or one multishot
//! receive, which the kernel interrupts after 32 buffers (64 KiB); one send.

mod accept;
mod connect;
mod ending;
pub(in crate::ring) mod queue;
mod slot;
mod transfer;
mod verbs;
mod waker;

use super::buffers::Group;
use super::probe::{self, Features};
use super::sys;
use super::{CLOSE_PATIENCE, Event, SocketId, Verbs};
use io_uring::{cqueue, opcode, types};
use queue::Queue;
use slot::{File, Life, Op, Ops, Slot, Tag};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};
pub use waker::Waker;

/// Descriptors left to everything that is not a direct descriptor.
const PLAIN_DESCRIPTORS_MIN: u64 = 256;
/// The kernel's limit on a table of direct descriptors.
const DIRECT_DESCRIPTORS_MAX: u64 = 1 << 20;
/// Looks at shared memory for each look at the clock while spinning: about a microsecond.
const LOOKS_A_CLOCK: u32 = 32;
/// How long dropping a ring waits for the kernel to let go of its memory.
const DROP_PATIENCE: Duration = Duration::from_secs(1);
/// Keep-alive probes of accepted and connected sockets: first after this silence, then in this rhythm. They find dead
/// peers of connections that nothing else watches; TCP_USER_TIMEOUT decides when to give up.
const KEEP_ALIVE_IDLE_S: i32 = 60;
const KEEP_ALIVE_INTERVAL_S: i32 = 15;

const SMALL: usize = 0;
const LARGE: usize = 1;

/// 256 KiB less so much that it is a whole number of a relay link's DATA payloads (16 of 16,376 bytes): a full receive
/// leaves no small rest that would be a frame, a record and in the end a send of its own.
const LARGE_BUFFER: u32 = 262_016;

/// Sizes of a ring. Memory is used as it is touched.
#[derive(Clone, Debug)]
pub struct RingConfig {
    /// Entries of the submission queue; more than that in a turn cost one more system call.
    pub submissions: u32,
    /// Entries of the completion queue. More completions than that are kept by the kernel, at a cost.
    pub completions: u32,
    /// Completions handled in a turn, so that the end of a turn comes soon under any load.
    pub events_per_turn: usize,
    /// Direct descriptors, that is, client sockets; lowered to what RLIMIT_NOFILE allows.
    pub direct_descriptors: u32,
    /// Accepts under way at each listener (1–64).
    pub accepts: u16,
    /// Buffers of `Receive::Small`: count (a power of two, at most 32,768) and bytes.
    pub small_buffers: (u16, u32),
    /// Buffers of `Receive::Large`, likewise.
    pub large_buffers: (u16, u32),
    /// How long a close waits for the send in flight before it resets the connection.
    pub close_patience: Duration,
    /// A waker made before the ring, so that others can already hold it.
    pub waker: Option<Waker>,
}

impl Default for RingConfig {
    fn default() -> Self {
        RingConfig {
            submissions: 2_048,
            completions: 16_384,
            events_per_turn: 1_024,
            direct_descriptors: 1 << 18,
            accepts: 32,
            small_buffers: (4_096, 2 * 1_024),
            large_buffers: (32, LARGE_BUFFER),
            close_patience: CLOSE_PATIENCE,
            waker: None,
        }
    }
}

impl RingConfig {
    /// Sizes for one of `shards` rings of a process. Buffers go round, so that in time all are touched: of more shards than
    /// a machine has cores each gets fewer, and the process as much as a few shards would have.
    pub fn of_many(shards: usize) -> RingConfig {
        let all = RingConfig::default();
        let part = |most: u16, least: u16| {
            let share = usize::from(most) * FEW_SHARDS / shards.max(1);
            let share = u16::try_from(share).unwrap_or(most).max(least);
            // The largest power of two within it.
            (1 << share.ilog2()).min(most)
        };
        RingConfig {
            submissions: u32::from(part(2_048, 256)),
            completions: u32::from(part(16_384, 2_048)),
            small_buffers: (part(all.small_buffers.0, 128), all.small_buffers.1),
            large_buffers: (part(all.large_buffers.0, 4), all.large_buffers.1),
            ..all
        }
    }
}

/// Shards up to which each ring has its full size.
const FEW_SHARDS: usize = 8;

/// What has been counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub turns: u64,
    pub accepted: u64,
    /// Accepts that failed for want of descriptors or memory, and were made again later.
    pub accepts_put_off: u64,
    /// Receives that found their group of buffers dry, and were made again later.
    pub receives_put_off: u64,
    /// Sends that did not go out in one piece.
    pub sends_stalled: u64,
    /// Polls: for room to send in, and for the end of a peer that is not read from.
    pub polls: u64,
    /// Closes that reset the connection because its send did not end.
    pub closes_forced: u64,
    /// Completions of a socket index that has another owner by now. Ours is the fault if this is not 0.
    pub stale_completions: u64,
    /// Calls for a socket that was given up. Its owner's is the fault if this is not 0.
    pub stale_calls: u64,
}

/// An io_uring with everything that a shard's sockets need; see [`Verbs`]. Made, used and dropped on one thread.
pub struct Ring {
    queue: Queue,
    groups: [Rc<Group>; 2],
    /// Sockets whose receive found no buffer, by group.
    dry: [VecDeque<SocketId>; 2],
    /// Slots whose receive has ended in this turn.
    to_arm: Vec<u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    listeners: Vec<accept::Listener>,
    /// Accepts that wait for a descriptor: listener and place.
    put_off: VecDeque<(u32, u32)>,
    /// When to make them again even if no descriptor was given back here.
    accept_again_at: Option<Instant>,
    accepts: u16,
    /// Entries of the direct table that neither a socket nor an accept under way has.
    direct_free: u32,
    direct_total: u32,
    /// Sockets on their way into the direct table; at most as many as it has entries.
    installs: connect::Installs,
    /// Events found but not yet given: at most a few at a time.
    ready: VecDeque<Event>,
    /// Sockets that were paused, and when a poll begins to tell whether the peer goes; in that order, likewise.
    pauses: VecDeque<(Instant, SocketId)>,
    /// Sockets that are closing, and until when they may; in that order, since all wait equally long.
    closing: VecDeque<(Instant, SocketId)>,
    stalled_bytes: usize,
    now: Instant,
    /// Completions that this turn may still give.
    budget: usize,
    events_per_turn: usize,
    close_patience: Duration,
    waker: Waker,
    wake_count: Box<[u8; 8]>,
    /// A read of the waker's eventfd is under way.
    wake_armed: bool,
    features: Features,
    counters: Counters,
}

impl Ring {
    /// Probes the host, raises the soft RLIMIT_NOFILE to the hard one, and makes a ring for the calling thread.
    ///
    /// # Errors
    /// [`probe::Unsupported`] inside, when the host cannot run it; else what the kernel said.
    pub fn new(config: &RingConfig) -> io::Result<Ring> {
        let features = probe::probe()?;
        let open_files = sys::raise_open_files()?;
        let io = queue::build(config.submissions, config.completions, features.no_sqarray)
            .map_err(|error| failed("its queues", error))?;
        let direct = open_files
            .saturating_sub(PLAIN_DESCRIPTORS_MIN)
            .clamp(1, DIRECT_DESCRIPTORS_MAX)
            .min(config.direct_descriptors as u64) as u32;
        io.submitter()
            .register_files_sparse(direct)
            .map_err(|error| failed("its table of direct descriptors", error))?;
        let group = |id, (count, size)| {
            Group::register(&io, id, count, size).map_err(|error| failed("its buffers", error))
        };
        let groups = [
            group(0, config.small_buffers)?,
            group(1, config.large_buffers)?,
        ];
        let waker = match &config.waker {
            Some(waker) => waker.clone(),
            None => Waker::new()?,
        };
        Ok(Ring {
            queue: Queue::new(io),
            groups,
            dry: Default::default(),
            to_arm: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            listeners: Vec::new(),
            put_off: VecDeque::new(),
            accept_again_at: None,
            accepts: config.accepts.clamp(1, 64),
            direct_free: direct,
            direct_total: direct,
            installs: connect::Installs::default(),
            ready: VecDeque::new(),
            pauses: VecDeque::new(),
            closing: VecDeque::new(),
            stalled_bytes: 0,
            now: Instant::now(),
            budget: 0,
            events_per_turn: config.events_per_turn.max(1),
            close_patience: config.close_patience,
            waker,
            wake_count: Box::new([0; 8]),
            wake_armed: false,
            features,
            counters: Counters::default(),
        })
    }

    pub fn features(&self) -> &Features {
        &self.features
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Client sockets (direct descriptors) that the ring can hold.
    pub fn direct_descriptors(&self) -> u32 {
        self.direct_total
    }

    /// Sockets held, those that are closing included.
    pub fn sockets(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Begins a turn without waiting. True when `poll_event` has something to give.
    ///
    /// # Errors
    /// None that can be repaired: the ring is unusable.
    pub fn turn(&mut self) -> io::Result<bool> {
        self.prepare();
        if !self.queue.is_quiet() {
            self.queue.enter(0, None)?;
        }
        Ok(self.begin_turn())
    }

    /// As `turn`, but sleeps in the kernel until something happens, at most until `deadline`: one system call that
    /// submits, waits and collects. What is there already is given at once.
    pub fn turn_or_sleep(&mut self, deadline: Option<Instant>) -> io::Result<bool> {
        self.prepare();
        self.arm_wake();
        let deadline = [deadline, self.next_deadline()].into_iter().flatten().min();
        let timeout = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        self.waker.set_asleep(true);
        let found = self.waker.is_pending()
            || self.queue.completions() > 0
            || !self.ready.is_empty()
            || timeout == Some(Duration::ZERO);
        let entered = if found {
            self.queue.enter(0, None)
        } else {
            self.queue.enter(1, timeout)
        };
        self.waker.set_asleep(false);
        entered?;
        Ok(self.begin_turn())
    }

    /// Looks for something to happen, for `patience` at most, without sleeping and without a system call of its own:
    /// the kernel says in shared memory that it has something. What was asked for is submitted first.
    pub fn spin(&mut self, patience: Duration) -> io::Result<bool> {
        if self.turn()? {
            return Ok(true);
        }
        let began = self.now;
        loop {
            // The clock is dearer than a look.
            for _ in 0..LOOKS_A_CLOCK {
                if self.waker.is_pending() || !self.queue.is_quiet() {
                    return self.turn();
                }
                std::hint::spin_loop();
            }
            if began.elapsed() >= patience {
                return Ok(false);
            }
        }
    }

    /// Waits until every socket that was closed is gone, at most for `patience`. For the end of a shard: dropping the ring
    /// cuts short what is still being sent.
    pub fn finish_closing(&mut self, patience: Duration) -> io::Result<()> {
        let deadline = Instant::now() + patience;
        while self.slots.iter().any(|slot| slot.life == Life::Closing) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.turn_or_sleep(Some(deadline))?;
            while self.poll_event().is_some() {}
        }
        Ok(())
    }

    /// When the ring itself has something to do.
    fn next_deadline(&self) -> Option<Instant> {
        let closing = self.closing.front().map(|(at, _)| *at);
        let pause = self.pauses.front().map(|(at, _)| *at);
        [closing, pause, self.accept_again_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// What is done before the kernel is entered.
    fn prepare(&mut self) {
        self.arm_ended();
        for group in [SMALL, LARGE] {
            self.groups[group].publish();
            self.arm_dry(group);
        }
    }

    /// What is done after the kernel was entered. True when there is something to give.
    fn begin_turn(&mut self) -> bool {
        self.now = Instant::now();
        self.counters.turns += 1;
        self.force_overdue_closes();
        self.poll_long_pauses();
        self.accept_again();
        if self.waker.take() {
            self.ready.push_back(Event::Woken);
        }
        self.budget = self.queue.completions().min(self.events_per_turn);
        self.budget > 0 || !self.ready.is_empty()
    }

    fn arm_wake(&mut self) {
        if std::mem::replace(&mut self.wake_armed, true) {
            return;
        }
        let fd = types::Fd(self.waker.fd());
        let entry = opcode::Read::new(fd, self.wake_count.as_mut_ptr(), 8)
            .build()
            .user_data(Tag::ring(Op::Wake));
        // SAFETY: `wake_count` is 8 bytes that live as long as the ring, whose drop joins this read or leaks them. The
        // waker's descriptor is open as long as `self.waker`.
        unsafe { self.queue.push(entry) };
    }

    /// Hands one completion to whom it belongs; events go to `ready`.
    fn complete(&mut self, completion: &cqueue::Entry) {
        let (result, flags) = (completion.result(), completion.flags());
        let Some(tag) = Tag::decode(completion.user_data()) else {
            self.counters.stale_completions += 1;
            return;
        };
        match tag.op {
            Op::Wake => return self.wake_armed = false, // `begin_turn` has seen what for
            Op::CancelAll | Op::CancelOther | Op::CancelAccept => return,
            Op::Accept => return self.accept_done(tag.index, tag.generation, result),
            _ => {}
        }
        let id = SocketId {
            index: tag.index,
            generation: tag.generation,
        };
        let Some(index) = self.find(id) else {
            // An answer to a cancellation may come after its target, and nothing is lost with it.
            if !matches!(tag.op, Op::CancelReceive | Op::CancelHangUpPoll) {
                self.counters.stale_completions += 1;
                debug_assert!(false, "{tag:?} completed after its socket was given up");
            }
            return;
        };
        match tag.op {
            Op::Receive => self.receive_done(index, result, flags),
            Op::HangUpPoll => self.hang_up_poll_done(index, result),
            Op::CancelReceive => self.receive_cancel_answered(index, result),
            Op::CancelHangUpPoll => self.hang_up_cancel_answered(index, result),
            Op::Send => self.send_done(index, result),
            Op::RoomPoll => self.room_poll_done(index, result),
            Op::Connect => self.connect_done(index, result),
            Op::Install => self.install_done(index, result),
            other => self.slots[index].ops.remove(other),
        }
        if tag.op == Op::Close {
            self.release(index);
        } else {
            self.settle(index);
        }
    }

    /// The socket is dead: says so once.
    fn fail(&mut self, index: usize, errno: i32) {
        let socket = self.id(index);
        let slot = &mut self.slots[index];
        if slot.listens() {
            slot.failed = true;
            let error = io::Error::from_raw_os_error(errno);
            self.ready.push_back(Event::Failed { socket, error });
        }
    }

    fn id(&self, index: usize) -> SocketId {
        SocketId {
            index: index as u32,
            generation: self.slots[index].generation,
        }
    }

    /// The slot of a socket that has not been given up.
    fn find(&self, socket: SocketId) -> Option<usize> {
        let index = socket.index as usize;
        let slot = self.slots.get(index)?;
        (slot.generation == socket.generation && slot.life != Life::Free).then_some(index)
    }

    /// The slot of a socket that an owner calls us about.
    fn find_for_owner(&mut self, socket: SocketId) -> Option<usize> {
        let index = self
            .find(socket)
            .filter(|index| self.slots[*index].life != Life::Closing);
        if index.is_none() {
            self.counters.stale_calls += 1;
            debug_assert!(false, "{socket:?} was given up by its owner before");
        }
        index
    }

    /// A slot for a new socket; `None` when there are as many as a tag can name.
    fn allocate(&mut self, file: File, life: Life) -> Option<usize> {
        let index = match self.free.pop() {
            Some(index) => index as usize,
            None if self.slots.len() > Tag::INDEX_MAX as usize => return None,
            None => {
                self.slots.push(Slot::new());
                self.slots.len() - 1
            }
        };
        let slot = &mut self.slots[index];
        debug_assert!(slot.life == Life::Free && slot.ops == Ops::default());
        slot.file = file;
        slot.life = life;
        Some(index)
    }

    fn tag(&self, index: usize, op: Op) -> u64 {
        let generation = self.slots[index].generation;
        Tag {
            op,
            generation,
            index: index as u32,
        }
        .encode()
    }

    /// Pushes an operation of a socket and notes that it is under way.
    ///
    /// # Safety
    /// As for [`Queue::push`].
    unsafe fn start(&mut self, index: usize, op: Op, entry: io_uring::squeue::Entry) {
        let entry = entry.user_data(self.tag(index, op));
        self.slots[index].ops.insert(op);
        // SAFETY: passed on to the caller.
        unsafe { self.queue.push(entry) };
    }

    /// Asks for the end of an operation under way.
    fn cancel(&mut self, index: usize, op: Op, answer: Op) {
        let (target, answer) = (self.tag(index, op), self.tag(index, answer));
        self.queue.cancel(target, answer);
    }
}

/// What could not be had for the ring, in front of the kernel's word.
fn failed(what: &str, error: io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("the kernel refuses the ring {what}: {error}"),
    )
}

impl Drop for Ring {
    /// Ends every operation and sees it end, since the kernel may write to our memory until then. If it does not end in
    /// time, the memory is leaked.
    fn drop(&mut self) {
        let deadline = Instant::now() + DROP_PATIENCE;
        while self.queue.in_flight() > 0 && Instant::now() < deadline {
            self.queue.cancel_all(Tag::ring(Op::CancelAll));
            if self
                .queue
                .enter(1, Some(Duration::from_millis(10)))
                .is_err()
            {
                break;
            }
            while let Some(completion) = self.queue.pop() {
                self.discard(&completion);
            }
        }
        if self.queue.in_flight() > 0 {
            std::mem::forget(std::mem::take(&mut self.slots));
            std::mem::forget(std::mem::take(&mut self.listeners));
            std::mem::forget(std::mem::take(&mut self.wake_count));
            std::mem::forget(std::mem::take(&mut self.installs));
            self.groups
                .iter()
                .for_each(|group| std::mem::forget(group.clone()));
        }
    }
}
