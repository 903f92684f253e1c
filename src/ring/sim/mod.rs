//! The simulated twin: several rings on one thread, virtual time, a seed, a network that can be made to fail.
//!
//! [`SimNet`] is the network and the clock, [`SimRing`] a shard's ring on it. Nothing here reads a clock or the world's
//! randomness: the same seed and the same calls give the same events in the same order. A connection is two pipes of
//! bounded capacity; what is sent arrives after a latency, in order, cut at random places; a pipe that is full stalls
//! its sender. The rules of [`Verbs`] are asserted, so that an owner that breaks one fails here first.
//!
//! ```text
//! loop { for each ring: turn(), poll_event() …   then   net.advance(next deadline of the owners) }
//! ```
//! `shard::simulation` runs [`Service`](crate::shard::executor::Service)s that way.

mod faults;
mod socket;
mod world;

use super::{ConnectOptions, Event, ListenOptions, ListenerId, Receive, SocketId, Verbs, Wake};
use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use world::World;

/// What the network is like; may be changed at any time, for what is sent from then on.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// One-way delay, drawn from this range for each segment; segments of one direction stay in order.
    pub latency: (Duration, Duration),
    /// Bytes that one direction of a connection holds, under way and unread together.
    pub capacity: usize,
    /// Longest piece of a send that travels as one.
    pub segment_max: usize,
    /// Deliver in pieces of random length rather than as much as there is.
    pub split: bool,
}

impl Default for SimConfig {
    fn default() -> Self {
        SimConfig {
            latency: (Duration::from_micros(50), Duration::from_micros(500)),
            capacity: 256 * 1024,
            segment_max: 16 * 1024,
            split: true,
        }
    }
}

/// A ring of a [`SimNet`], for faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RingId(usize);

/// How a ring's host dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// The process is killed: its kernel resets every connection.
    Process,
    /// The power fails: peers hear nothing any more.
    Host,
}

/// The simulated network. Cloning gives another handle of the same one.
#[derive(Clone)]
pub struct SimNet(Rc<RefCell<World>>);

impl SimNet {
    pub fn new(seed: u64, config: SimConfig) -> SimNet {
        SimNet(Rc::new(RefCell::new(World::new(seed, config))))
    }

    /// A ring on the host with this address. Rings with the same address are shards of one host: they share its ports
    /// and its loopback.
    pub fn ring(&self, host: IpAddr) -> SimRing {
        let waker = SimWaker(Arc::new(AtomicBool::new(false)));
        let id = self.0.borrow_mut().add_ring(host, waker.clone());
        SimRing {
            world: self.0.clone(),
            id,
            waker,
        }
    }

    pub fn now(&self) -> Instant {
        self.0.borrow().now
    }

    /// When something happens next: now, if a ring has something to give; `None` if never.
    pub fn next_at(&self) -> Option<Instant> {
        self.0.borrow().next_at()
    }

    /// Moves the clock to the next happening, but not beyond `limit`. False when there was none up to `limit`; the clock
    /// is at `limit` then.
    pub fn advance(&self, limit: Instant) -> bool {
        self.0.borrow_mut().advance(limit)
    }

    /// Changes the network.
    pub fn configure(&self, change: impl FnOnce(&mut SimConfig)) {
        change(&mut self.0.borrow_mut().config);
    }

    /// Resets a connection at both ends, as a middle box would.
    pub fn cut(&self, ring: RingId, socket: SocketId) {
        self.0.borrow_mut().cut(ring.0, socket);
    }

    /// From here on nothing of this connection arrives anywhere. Its ends notice by their own deadlines only, or by
    /// TCP_USER_TIMEOUT once they have sent something.
    pub fn blackhole(&self, ring: RingId, socket: SocketId) {
        self.0.borrow_mut().blackhole(ring.0, socket);
    }

    /// Nothing passes between these two hosts until `heal`; then it arrives late, as after TCP's retransmission.
    pub fn partition(&self, a: IpAddr, b: IpAddr) {
        self.0.borrow_mut().partition(a, b);
    }

    pub fn heal(&self, a: IpAddr, b: IpAddr) {
        self.0.borrow_mut().heal(a, b);
    }

    /// Kills a ring: it gives no event any more, and its calls do nothing.
    pub fn kill(&self, ring: RingId, death: Death) {
        self.0.borrow_mut().kill(ring.0, death);
    }

    /// Open connections, for leak checks: those with at least one end that an owner holds.
    pub fn connections(&self) -> usize {
        self.0.borrow().connections()
    }
}

/// Wakes a [`SimRing`]. Looked at between two turns, so it may also be used from another thread.
#[derive(Clone, Debug)]
pub struct SimWaker(Arc<AtomicBool>);

impl SimWaker {
    fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
    fn is_pending(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Wake for SimWaker {
    fn wake(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A ring on a [`SimNet`]. Dropping it is the death of its process.
pub struct SimRing {
    world: Rc<RefCell<World>>,
    id: usize,
    waker: SimWaker,
}

impl SimRing {
    pub fn id(&self) -> RingId {
        RingId(self.id)
    }

    /// Begins a turn. True when `poll_event` has something to give.
    pub fn turn(&mut self) -> bool {
        self.world.borrow_mut().turn(self.id)
    }

    /// Sockets held, those that are closing included.
    pub fn sockets(&self) -> usize {
        self.world.borrow().sockets(self.id)
    }
}

impl Verbs for SimRing {
    type Waker = SimWaker;

    fn listen(
        &mut self,
        addr: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<(ListenerId, SocketAddr)> {
        self.world.borrow_mut().listen(self.id, addr, options)
    }
    fn stop_listening(&mut self, listener: ListenerId) {
        self.world.borrow_mut().stop_listening(self.id, listener);
    }
    fn connect(&mut self, addr: SocketAddr, options: &ConnectOptions) -> io::Result<SocketId> {
        Ok(self.world.borrow_mut().connect(self.id, addr, options))
    }
    fn adopt(&mut self, fd: OwnedFd) -> io::Result<SocketId> {
        self.world.borrow_mut().adopt(self.id, fd)
    }
    fn receive(&mut self, socket: SocketId, mode: Receive) {
        self.world.borrow_mut().receive(self.id, socket, mode);
    }
    fn send(&mut self, socket: SocketId, buf: Vec<u8>) {
        assert!(!buf.is_empty(), "an empty send");
        self.world.borrow_mut().send(self.id, socket, buf);
    }
    fn send_in_flight(&self, socket: SocketId) -> bool {
        self.world.borrow().send_in_flight(self.id, socket)
    }
    fn shutdown_write(&mut self, socket: SocketId) {
        self.world.borrow_mut().shutdown_write(self.id, socket);
    }
    fn close(&mut self, socket: SocketId) {
        self.world.borrow_mut().close(self.id, socket, false);
    }
    fn abort(&mut self, socket: SocketId) {
        self.world.borrow_mut().close(self.id, socket, true);
    }
    fn detach(&mut self, socket: SocketId) {
        self.world.borrow_mut().detach(self.id, socket);
    }
    fn waker(&self) -> SimWaker {
        self.waker.clone()
    }
    fn now(&self) -> Instant {
        self.world.borrow().turn_began(self.id)
    }
    fn poll_event(&mut self) -> Option<Event> {
        self.world.borrow_mut().poll_event(self.id)
    }
    fn stalled_bytes(&self) -> usize {
        self.world.borrow().stalled_bytes(self.id)
    }
}

impl Drop for SimRing {
    fn drop(&mut self) {
        if let Ok(mut world) = self.world.try_borrow_mut() {
            world.kill(self.id, Death::Process);
        }
    }
}
