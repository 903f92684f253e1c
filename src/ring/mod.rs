//! The kernel: the only file descriptors and the only unsafe code.
//!
//! ```text
//!            Verbs ── what an owner of sockets may ask for; Event ── what it is told
//!           ╱     ╲
//!   uring::Ring   sim::SimRing       io_uring · the simulated twin: virtual time, a seed, faults
//!   │  │  │
//!   │  │  probe    can this host run it, which newer features are there
//!   │  buffers     provided-buffer groups; RecvBuf
//!   sys            the few system calls that the standard library and socket2 lack
//! ```
//!
//! What holds, in both twins:
//! - A ring belongs to one thread. Only its `Waker` leaves it.
//! - At most one receive and one send are in flight per socket, so bytes keep their order; bytes are sealed for TLS
//!   only when the last send completed in full.
//! - A socket index is given away again only after every operation of its last owner has completed, and every operation
//!   carries the generation of its owner: a late completion finds nobody.
//! - An idle socket holds no buffer. A group that has run dry delays receives and fails none.
//! - No event of a socket follows `close`, `abort`, `Failed` or `Detached`.
//!
//! What never happens here: bytes are not looked at, no protocol is known, nothing is logged on the path (counters are
//! kept instead), and nothing blocks.

mod buffers;
pub mod probe;
pub mod sim;
mod sys;
#[cfg(test)]
mod tests;
pub mod uring;

pub use buffers::RecvBuf;
pub use sys::bind_to_core;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long a close waits for the send in flight before it resets the connection.
pub const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// A socket of one ring. `index` is dense and small, so that owners can keep their state in a `Vec` by it; it is given
/// to a new socket only after every operation of the old one has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketId {
    pub index: u32,
    pub generation: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub u32);

/// How a socket receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receive {
    /// Nothing is received; a FIN or reset is still noticed (POLLRDHUP) and given as `Event::PeerGone`.
    Paused,
    /// Multishot into the 2 KiB group: an idle connection holds no buffer.
    Small,
    /// One shot at a time into the large group (256 KiB); armed again after each `Received` while the mode stays.
    Large,
}

/// What happened. Events of a socket come in order; none comes after `close`, `abort` or `Detached`.
#[derive(Debug)]
pub enum Event {
    Accepted {
        listener: ListenerId,
        socket: SocketId,
        peer: SocketAddr,
    },
    Connected {
        socket: SocketId,
    },
    Received {
        socket: SocketId,
        buf: RecvBuf,
    },
    /// FIN, after the last `Received`. That the peer has gone altogether is noticed by the next send only.
    PeerFinished {
        socket: SocketId,
    },
    /// While `Paused`: the peer sent FIN or reset; unread bytes may be pending before it. Given once per pause.
    PeerGone {
        socket: SocketId,
    },
    /// The whole buffer went to the kernel; here it is back, for reuse.
    Sent {
        socket: SocketId,
        buf: Vec<u8>,
    },
    /// Connect, receive or send failed: the socket is dead, and its owner calls `close` or `abort`. Comes once, after
    /// all that could still be received: a peer that answers early and resets is heard out.
    Failed {
        socket: SocketId,
        error: io::Error,
    },
    /// Answer to `detach`: every operation ended; the descriptor is the caller's.
    Detached {
        socket: SocketId,
        fd: OwnedFd,
    },
    /// A `Waker` was used since the last one of these.
    Woken,
}

/// Options of accepted sockets (inherited from the listener) and of the listener itself.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// SO_REUSEPORT: one listener per shard on the same address.
    pub reuse_port: bool,
    pub backlog: u32,
    /// Accept into direct descriptors (client sockets) or plain ones (relay links, which may move).
    pub direct: bool,
    pub user_timeout: Duration,
}

#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    pub timeout: Option<Duration>,
    pub user_timeout: Option<Duration>,
    pub source: Option<std::net::IpAddr>,
    /// Into the ring's own table, for those who hold more sockets than a process may have descriptors. Such a socket
    /// cannot be detached.
    pub direct: bool,
}

impl Event {
    /// The socket it is about.
    pub fn socket(&self) -> Option<SocketId> {
        match self {
            Event::Accepted { socket, .. }
            | Event::Connected { socket }
            | Event::Received { socket, .. }
            | Event::PeerFinished { socket }
            | Event::PeerGone { socket }
            | Event::Sent { socket, .. }
            | Event::Failed { socket, .. }
            | Event::Detached { socket, .. } => Some(*socket),
            Event::Woken => None,
        }
    }
}

/// Something that a message can be announced to, from any thread.
pub trait Wake: Send + Sync {
    /// The ring's next turn gives `Event::Woken`. Cheap when a wake-up is pending already.
    fn wake(&self);
}

/// The ring's verbs. Implemented by the io_uring driver and by the simulated twin.
pub trait Verbs {
    /// Wakes this ring from another thread.
    type Waker: Wake + Clone + 'static;

    fn listen(
        &mut self,
        addr: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<(ListenerId, SocketAddr)>;
    /// No accepts are made any more; a connection that the kernel had accepted already still comes as `Accepted`.
    fn stop_listening(&mut self, listener: ListenerId);
    /// Starts a connection (TCP_NODELAY set); `Connected` or `Failed` follows. Plain descriptor, unless `direct`.
    ///
    /// # Errors
    /// No descriptor is left, of the process or (`direct`) of the ring's table.
    fn connect(&mut self, addr: SocketAddr, options: &ConnectOptions) -> io::Result<SocketId>;
    /// Takes a connected socket from elsewhere (link hand-over).
    fn adopt(&mut self, fd: OwnedFd) -> io::Result<SocketId>;
    /// New sockets start `Paused` without the RDHUP poll until the first call. What was under way when the mode
    /// changes still comes as `Received`, `Paused` or not: at most what one turn gives.
    fn receive(&mut self, socket: SocketId, mode: Receive);
    /// Sends the whole buffer (never empty); at most one send in flight per socket (asserted). `Sent` gives it back.
    fn send(&mut self, socket: SocketId, buf: Vec<u8>);
    /// True from `send` until its `Sent`.
    fn send_in_flight(&self, socket: SocketId) -> bool;
    /// shutdown(SHUT_WR) once the send in flight, if any, is complete. No `send` may follow.
    fn shutdown_write(&mut self, socket: SocketId);
    /// Closes after the send in flight, if any, has completed or failed (at most 5 s later). No event follows.
    fn close(&mut self, socket: SocketId);
    /// Closes at once with a reset. No event follows.
    fn abort(&mut self, socket: SocketId);
    /// Ends every operation of a plain-descriptor socket, then gives `Detached`. Bytes received meanwhile still come as
    /// `Received` before it.
    fn detach(&mut self, socket: SocketId);
    fn waker(&self) -> Self::Waker;
    /// The clock, read once a turn.
    fn now(&self) -> Instant;
    /// The next event of this turn, or `None`.
    fn poll_event(&mut self) -> Option<Event>;
    /// Bytes of sends that did not go out in one piece and wait for POLLOUT, for the memory cap.
    fn stalled_bytes(&self) -> usize;
}
