//! A ring of the simulation and its sockets: the verbs, and the events they lead to.

use super::SimWaker;
use super::world::{EndId, Happening, Owner, World, is_any};
use crate::ring::{CLOSE_PATIENCE, Event, ListenOptions, ListenerId, Receive, RecvBuf, SocketId};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// What a turn receives at most for one socket, as of the kernel: 32 small buffers, or one large.
const SMALL: (usize, usize) = (2 * 1024, 32);
const LARGE: (usize, usize) = (262_016, 1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Connecting,
    Open,
    Detaching,
    Closing,
}

pub(super) struct Socket {
    pub(super) life: Life,
    pub(super) end: Option<EndId>,
    direct: bool,
    want: Option<Receive>,
    read_ended: bool,
    gone_given: bool,
    pub(super) failed: bool,
    shutdown_wanted: bool,
    write_shut: bool,
    stalled: bool,
    write_error: i32,
    taken: usize,
    outgoing: Vec<u8>,
    /// In `Host::looked_at`.
    queued: bool,
}

impl Socket {
    pub(super) fn new(life: Life, end: Option<EndId>, direct: bool) -> Socket {
        Socket {
            life,
            end,
            direct,
            want: None,
            read_ended: false,
            gone_given: false,
            failed: false,
            shutdown_wanted: false,
            write_shut: false,
            stalled: false,
            write_error: 0,
            taken: 0,
            outgoing: Vec::new(),
            queued: false,
        }
    }

    fn listens(&self) -> bool {
        self.life != Life::Closing && !self.failed
    }

    fn reads(&self) -> bool {
        let wants = matches!(self.want, Some(Receive::Small | Receive::Large));
        self.life == Life::Open && !self.read_ended && wants
    }
}

pub(super) struct Listener {
    pub(super) addr: SocketAddr,
    pub(super) reuse_port: bool,
    pub(super) direct: bool,
    pub(super) user_timeout: Duration,
}

impl Listener {
    pub(super) fn takes(&self, to: SocketAddr) -> bool {
        let family = self.addr.is_ipv4() == to.is_ipv4();
        let address = is_any(self.addr.ip()) || self.addr.ip() == to.ip();
        family && address && self.addr.port() == to.port()
    }
}

/// One ring: its sockets, and what it is about to be told.
pub(super) struct Host {
    pub(super) address: IpAddr,
    pub(super) dead: bool,
    pub(super) listeners: Vec<Option<Listener>>,
    slots: Vec<(u32, Option<Socket>)>,
    free: Vec<u32>,
    /// Events for the next turn.
    inbox: VecDeque<Event>,
    /// Events of this turn.
    batch: VecDeque<Event>,
    /// Sockets to which something has happened.
    looked_at: VecDeque<SocketId>,
    waker: SimWaker,
    turn_began: Instant,
}

impl Host {
    pub(super) fn new(address: IpAddr, waker: SimWaker, now: Instant) -> Host {
        Host {
            address,
            dead: false,
            listeners: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            inbox: VecDeque::new(),
            batch: VecDeque::new(),
            looked_at: VecDeque::new(),
            waker,
            turn_began: now,
        }
    }

    pub(super) fn has_work(&self) -> bool {
        let told = !self.inbox.is_empty() || !self.batch.is_empty();
        !self.dead && (told || !self.looked_at.is_empty() || self.waker.is_pending())
    }

    pub(super) fn add_listener(&mut self, addr: SocketAddr, options: &ListenOptions) -> ListenerId {
        self.listeners.push(Some(Listener {
            addr,
            reuse_port: options.reuse_port,
            direct: options.direct,
            user_timeout: options.user_timeout,
        }));
        ListenerId(self.listeners.len() as u32 - 1)
    }

    pub(super) fn add(&mut self, socket: Socket) -> SocketId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        slot.1 = Some(socket);
        SocketId {
            index,
            generation: slot.0,
        }
    }

    pub(super) fn get(&self, id: SocketId) -> Option<&Socket> {
        let (generation, socket) = self.slots.get(id.index as usize)?;
        socket.as_ref().filter(|_| *generation == id.generation)
    }

    pub(super) fn get_mut(&mut self, id: SocketId) -> Option<&mut Socket> {
        let (generation, socket) = self.slots.get_mut(id.index as usize)?;
        socket.as_mut().filter(|_| *generation == id.generation)
    }

    /// The socket that an owner calls about.
    fn owned(&mut self, id: SocketId) -> &mut Socket {
        match self.get_mut(id) {
            Some(socket) if socket.life != Life::Closing => socket,
            _ => panic!("{id:?} was given up by its owner before"),
        }
    }

    fn remove(&mut self, id: SocketId) {
        let slot = &mut self.slots[id.index as usize];
        slot.0 = slot.0.wrapping_add(1);
        slot.1 = None;
        self.free.push(id.index);
    }

    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.free.clear();
        self.inbox.clear();
        self.batch.clear();
        self.looked_at.clear();
        self.listeners.clear();
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.inbox.push_back(event);
    }

    pub(super) fn look_at(&mut self, id: SocketId) {
        if let Some(socket) = self.get_mut(id)
            && !std::mem::replace(&mut socket.queued, true)
        {
            self.looked_at.push_back(id);
        }
    }

    pub(super) fn fail(&mut self, id: SocketId, errno: i32) {
        if let Some(socket) = self.get_mut(id)
            && socket.listens()
        {
            socket.failed = true;
            let error = io::Error::from_raw_os_error(errno);
            self.tell(Event::Failed { socket: id, error });
        }
    }

    /// The send in flight, if any, is lost. `Failed` follows when nothing more can be received.
    pub(super) fn write_failed(&mut self, id: SocketId, errno: i32) {
        let Some(socket) = self.get_mut(id) else {
            return;
        };
        if socket.outgoing.is_empty() {
            return;
        }
        socket.outgoing = Vec::new();
        socket.stalled = false;
        socket.write_error = errno;
        if !socket.reads() {
            self.fail(id, errno);
        }
        self.look_at(id);
    }
}

impl World {
    pub(super) fn turn(&mut self, ring: usize) -> bool {
        if self.rings[ring].dead {
            return false;
        }
        self.rings[ring].turn_began = self.now;
        if self.rings[ring].waker.take() {
            self.rings[ring].tell(Event::Woken);
        }
        for _ in 0..self.rings[ring].looked_at.len() {
            if let Some(socket) = self.rings[ring].looked_at.pop_front()
                && let Some(state) = self.rings[ring].get_mut(socket)
            {
                state.queued = false;
                self.go_on(ring, socket);
            }
        }
        let host = &mut self.rings[ring];
        host.batch.append(&mut host.inbox);
        !host.batch.is_empty()
    }

    pub(super) fn poll_event(&mut self, ring: usize) -> Option<Event> {
        self.rings[ring].batch.pop_front()
    }

    pub(super) fn turn_began(&self, ring: usize) -> Instant {
        self.rings[ring].turn_began
    }

    pub(super) fn sockets(&self, ring: usize) -> usize {
        self.rings[ring]
            .slots
            .iter()
            .filter(|(_, socket)| socket.is_some())
            .count()
    }

    pub(super) fn stalled_bytes(&self, ring: usize) -> usize {
        let sockets = self.rings[ring]
            .slots
            .iter()
            .filter_map(|(_, socket)| socket.as_ref());
        sockets
            .filter(|socket| socket.stalled)
            .map(|socket| socket.outgoing.len())
            .sum()
    }

    /// Something has happened at an end: its owner's next turn looks at it.
    pub(super) fn look(&mut self, end: EndId) {
        if let Some(Owner::Ring(ring, socket)) = self.ends.get(&end).map(|end| end.owner) {
            self.rings[ring].look_at(socket);
        }
    }

    // Verbs.

    pub(super) fn receive(&mut self, ring: usize, id: SocketId, mode: Receive) {
        if self.rings[ring].dead {
            return;
        }
        let socket = self.rings[ring].owned(id);
        assert!(socket.life != Life::Detaching, "receive after detach");
        if socket.want != Some(mode) {
            socket.want = Some(mode);
            socket.gone_given = false;
        }
        if socket.write_error != 0 && !socket.reads() {
            let errno = socket.write_error;
            self.rings[ring].fail(id, errno);
        }
        self.rings[ring].look_at(id);
    }

    pub(super) fn send(&mut self, ring: usize, id: SocketId, buf: Vec<u8>) {
        if self.rings[ring].dead {
            return;
        }
        let socket = self.rings[ring].owned(id);
        assert!(
            socket.outgoing.is_empty(),
            "a second send in flight could overtake the first"
        );
        assert!(!socket.shutdown_wanted, "send after shutdown_write");
        assert!(
            socket.life == Life::Open,
            "send on a socket that is {:?}",
            socket.life
        );
        if socket.failed || socket.write_error != 0 {
            return;
        }
        socket.outgoing = buf;
        socket.taken = 0;
        let Some(end) = socket.end else { return };
        if self.ends.get(&end).is_none_or(|end| end.reset) {
            return self.rings[ring].write_failed(id, libc::EPIPE);
        }
        self.pump(end);
        if let Some(socket) = self.rings[ring].get_mut(id) {
            socket.stalled = !socket.outgoing.is_empty();
        }
    }

    pub(super) fn send_in_flight(&self, ring: usize, id: SocketId) -> bool {
        let socket = self.rings[ring].get(id);
        socket.is_some_and(|socket| !socket.outgoing.is_empty() || socket.write_error != 0)
    }

    pub(super) fn shutdown_write(&mut self, ring: usize, id: SocketId) {
        if self.rings[ring].dead {
            return;
        }
        self.rings[ring].owned(id).shutdown_wanted = true;
        self.shut_down_when_sent(ring, id);
    }

    pub(super) fn close(&mut self, ring: usize, id: SocketId, forced: bool) {
        let host = &mut self.rings[ring];
        if host.dead {
            return;
        }
        let detached = host
            .inbox
            .iter()
            .chain(&host.batch)
            .any(|event| matches!(event, Event::Detached { socket, .. } if *socket == id));
        host.inbox.retain(|event| event.socket() != Some(id));
        host.batch.retain(|event| event.socket() != Some(id));
        if detached {
            return; // the descriptor went with the event
        }
        let socket = host.owned(id);
        socket.life = Life::Closing;
        if forced || socket.outgoing.is_empty() {
            return self.finish_closing(ring, id, forced);
        }
        let overdue = Happening::CloseOverdue { ring, socket: id };
        self.at(self.now + CLOSE_PATIENCE, overdue);
    }

    pub(super) fn close_overdue(&mut self, ring: usize, id: SocketId) {
        if self.rings[ring]
            .get(id)
            .is_some_and(|socket| socket.life == Life::Closing)
        {
            self.finish_closing(ring, id, true);
        }
    }

    fn finish_closing(&mut self, ring: usize, id: SocketId, reset: bool) {
        let end = self.rings[ring].get(id).and_then(|socket| socket.end);
        self.rings[ring].remove(id);
        if let Some(end) = end {
            self.let_go(end, reset);
        }
    }

    pub(super) fn detach(&mut self, ring: usize, id: SocketId) {
        if self.rings[ring].dead {
            return;
        }
        let socket = self.rings[ring].owned(id);
        assert!(!socket.direct, "a direct descriptor cannot be detached");
        assert!(
            socket.life == Life::Open,
            "detach of a socket that is {:?}",
            socket.life
        );
        // The receive that is being cancelled may still give something.
        if socket.reads() && self.rng.bool() {
            self.receive_some(ring, id);
        }
        self.rings[ring].owned(id).life = Life::Detaching;
        let errno = self.rings[ring].owned(id).write_error;
        if errno != 0 {
            self.rings[ring].fail(id, errno);
        }
        self.rings[ring].look_at(id);
    }

    // What they lead to.

    /// Looks at a socket in its ring's turn.
    fn go_on(&mut self, ring: usize, id: SocketId) {
        let Some(socket) = self.rings[ring].get_mut(id) else {
            return;
        };
        let Some(end) = socket.end.and_then(|end| self.ends.get_mut(&end)) else {
            return;
        };
        match socket.life {
            Life::Connecting => {}
            Life::Closing => {
                if socket.outgoing.is_empty() {
                    self.finish_closing(ring, id, false);
                }
            }
            Life::Detaching => {
                if socket.outgoing.is_empty()
                    && !socket.failed
                    && let Some(end) = socket.end
                {
                    self.rings[ring].remove(id);
                    let fd = self.park(end);
                    self.rings[ring].tell(Event::Detached { socket: id, fd });
                }
            }
            Life::Open if socket.reads() => self.receive_some(ring, id),
            Life::Open => {
                let paused = socket.want == Some(Receive::Paused) && !socket.read_ended;
                if paused && (end.fin || end.reset) && !socket.gone_given && socket.listens() {
                    socket.gone_given = true;
                    self.rings[ring].tell(Event::PeerGone { socket: id });
                }
            }
        }
    }

    /// Receives what one turn may; ends the socket's reading when there is nothing more to come.
    fn receive_some(&mut self, ring: usize, id: SocketId) {
        let (split, host) = (self.config.split, &mut self.rings[ring]);
        let Some(socket) = host.get_mut(id).filter(|socket| socket.listens()) else {
            return;
        };
        let (want, write_error) = (socket.want, socket.write_error);
        let Some(end_id) = socket.end else { return };
        let Some(end) = self.ends.get_mut(&end_id) else {
            return;
        };
        let (size, most) = if want == Some(Receive::Large) {
            LARGE
        } else {
            SMALL
        };
        let full = end.unread.len();
        for _ in 0..most {
            if end.unread.is_empty() {
                break;
            }
            let mut len = end.unread.len().min(size);
            if split && self.rng.bool() {
                len = self.rng.usize(1..=len);
            }
            let bytes: Vec<u8> = end.unread.drain(..len).collect();
            host.tell(Event::Received {
                socket: id,
                buf: RecvBuf::from(bytes),
            });
        }
        let (drained, peer) = (end.unread.is_empty(), end.peer);
        let (fin, reset) = (end.fin, end.reset);
        let took = full - end.unread.len();
        if !drained {
            host.look_at(id);
        } else if reset {
            host.fail(
                id,
                if write_error != 0 {
                    write_error
                } else {
                    libc::ECONNRESET
                },
            );
        } else if fin {
            if let Some(socket) = host.get_mut(id) {
                socket.read_ended = true;
            }
            host.tell(Event::PeerFinished { socket: id });
        }
        if took > 0 {
            self.travel(peer, Happening::Room { of: peer });
        }
    }

    /// Moves what there is room for from a socket's send into the pipe to its peer.
    pub(super) fn pump(&mut self, from: EndId) {
        let Some(end) = self.ends.get(&from) else {
            return;
        };
        let (peer, Owner::Ring(ring, id)) = (end.peer, end.owner) else {
            return;
        };
        loop {
            let Some(socket) = self.rings[ring].get_mut(id) else {
                return;
            };
            if socket.outgoing.is_empty() {
                return;
            }
            let Some(to) = self.ends.get_mut(&peer) else {
                return self.rings[ring].write_failed(id, libc::EPIPE);
            };
            let room = self
                .config
                .capacity
                .saturating_sub(to.flying + to.unread.len());
            let rest = &socket.outgoing[socket.taken..];
            let mut len = rest.len().min(room).min(self.config.segment_max);
            if len == 0 {
                return;
            }
            if self.config.split && self.rng.bool() {
                len = self.rng.usize(1..=len);
            }
            let bytes = rest[..len].to_vec();
            to.flying += len;
            socket.taken += len;
            let sent = socket.taken == socket.outgoing.len();
            self.travel(peer, Happening::Bytes { to: peer, bytes });
            if sent {
                return self.sent(ring, id);
            }
        }
    }

    fn sent(&mut self, ring: usize, id: SocketId) {
        let Some(socket) = self.rings[ring].get_mut(id) else {
            return;
        };
        let buf = std::mem::take(&mut socket.outgoing);
        socket.stalled = false;
        if socket.listens() {
            self.rings[ring].tell(Event::Sent { socket: id, buf });
        }
        self.shut_down_when_sent(ring, id);
        self.rings[ring].look_at(id); // a close or a detach may have waited for this
    }

    fn shut_down_when_sent(&mut self, ring: usize, id: SocketId) {
        let Some(socket) = self.rings[ring].get_mut(id) else {
            return;
        };
        let wanted = socket.shutdown_wanted && !socket.write_shut && socket.life != Life::Closing;
        if wanted && socket.outgoing.is_empty() && socket.write_error == 0 {
            socket.write_shut = true;
            let peer = socket
                .end
                .and_then(|end| self.ends.get(&end))
                .map(|end| end.peer);
            if let Some(peer) = peer {
                self.travel(peer, Happening::Fin { to: peer });
            }
        }
    }
}
