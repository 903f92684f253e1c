//! The network itself: the agenda of what will happen, the ends of connections, faults.

use super::socket::{Host, Life, Socket};
use super::{SimConfig, SimWaker};
use crate::ring::{ConnectOptions, Event, ListenOptions, ListenerId, SocketId};
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::RawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The first port given to those who ask for any; connecting sockets count up from there too.
const EPHEMERAL_PORT: u16 = 32_768;
/// When a connection attempt that nobody answers fails, as Linux's default of six retries does.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(127);

/// One end of a connection; `World::ends` numbers them, and never the same number twice.
pub(super) type EndId = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Ring(usize, SocketId),
    /// Detached; the descriptor that stands for it.
    Parked(RawFd),
    Nobody,
}

/// One end of a connection with the pipe that leads to it.
pub(super) struct End {
    pub(super) peer: EndId,
    pub(super) owner: Owner,
    pub(super) host: IpAddr,
    /// Bytes on their way here.
    pub(super) flying: usize,
    /// Bytes that have arrived and were not received.
    pub(super) unread: VecDeque<u8>,
    pub(super) fin: bool,
    pub(super) reset: bool,
    /// Nothing may arrive before what was sent earlier.
    last_arrival: Instant,
    pub(super) user_timeout: Option<Duration>,
    /// What this end sent is held up since then.
    pub(super) held_since: Option<Instant>,
    /// The connection lies in a black hole.
    pub(super) silent: bool,
}

#[derive(Debug)]
pub(super) enum Happening {
    Syn {
        client: (usize, SocketId),
        from: SocketAddr,
        to: SocketAddr,
        user_timeout: Option<Duration>,
    },
    SynAck {
        client: (usize, SocketId),
        end: EndId,
    },
    Refused {
        client: (usize, SocketId),
    },
    ConnectTimeout {
        client: (usize, SocketId),
    },
    Bytes {
        to: EndId,
        bytes: Vec<u8>,
    },
    Fin {
        to: EndId,
    },
    Reset {
        to: EndId,
    },
    /// The peer has made room for more.
    Room {
        of: EndId,
    },
    UserTimeout {
        of: EndId,
        since: Instant,
    },
    CloseOverdue {
        ring: usize,
        socket: SocketId,
    },
}

struct Entry {
    at: Instant,
    sequence: u64,
    what: Happening,
}

// The earliest first, and among those of one moment the first that was entered.
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Entry {}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) config: SimConfig,
    pub(super) rng: Rng,
    pub(super) rings: Vec<Host>,
    pub(super) ends: BTreeMap<EndId, End>,
    agenda: BinaryHeap<Entry>,
    sequence: u64,
    next_end: EndId,
    next_port: u16,
    /// Detached ends by the descriptor that stands for them, with the other end of that descriptor: it hangs up when
    /// the descriptor is dropped unadopted.
    pub(super) parked: BTreeMap<RawFd, (EndId, UnixStream)>,
    pub(super) partitions: BTreeSet<(IpAddr, IpAddr)>,
    /// What partitions keep from arriving, in order.
    pub(super) held: Vec<Happening>,
}

impl World {
    pub(super) fn new(seed: u64, config: SimConfig) -> World {
        World {
            now: Instant::now(), // an arbitrary origin; only differences are ever looked at
            config,
            rng: Rng::with_seed(seed),
            rings: Vec::new(),
            ends: BTreeMap::new(),
            agenda: BinaryHeap::new(),
            sequence: 0,
            next_end: 0,
            next_port: EPHEMERAL_PORT,
            parked: BTreeMap::new(),
            partitions: BTreeSet::new(),
            held: Vec::new(),
        }
    }

    pub(super) fn add_ring(&mut self, host: IpAddr, waker: SimWaker) -> usize {
        self.rings.push(Host::new(host, waker, self.now));
        self.rings.len() - 1
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        if self.rings.iter().any(Host::has_work) {
            return Some(self.now);
        }
        self.agenda.peek().map(|entry| entry.at.max(self.now))
    }

    pub(super) fn advance(&mut self, limit: Instant) -> bool {
        self.notice_dropped_descriptors();
        match self.agenda.peek() {
            Some(entry) if entry.at <= limit => self.now = self.now.max(entry.at),
            _ => {
                self.now = self.now.max(limit);
                return false;
            }
        }
        while self.agenda.peek().is_some_and(|entry| entry.at <= self.now) {
            if let Some(entry) = self.agenda.pop() {
                self.happen(entry.what);
            }
        }
        true
    }

    pub(super) fn at(&mut self, at: Instant, what: Happening) {
        self.sequence += 1;
        self.agenda.push(Entry {
            at,
            sequence: self.sequence,
            what,
        });
    }

    fn latency(&mut self) -> Duration {
        let (least, most) = self.config.latency;
        let spread = most.saturating_sub(least).as_nanos() as u64;
        least + Duration::from_nanos(self.rng.u64(0..=spread))
    }

    /// Something travels to an end, behind all that travels there already.
    pub(super) fn travel(&mut self, to: EndId, what: Happening) {
        let arrival = self.now + self.latency();
        let Some(end) = self.ends.get_mut(&to) else {
            return;
        };
        end.last_arrival = end.last_arrival.max(arrival);
        let at = end.last_arrival;
        self.at(at, what);
    }

    pub(super) fn happen(&mut self, what: Happening) {
        let Some(what) = self.hold_up(what) else {
            return;
        };
        match what {
            Happening::Syn {
                client,
                from,
                to,
                user_timeout,
            } => self.syn(client, from, to, user_timeout),
            Happening::SynAck { client, end } => self.syn_ack(client, end),
            Happening::Refused { client } => self.connect_failed(client, libc::ECONNREFUSED),
            Happening::ConnectTimeout { client } => self.connect_failed(client, libc::ETIMEDOUT),
            Happening::Bytes { to, bytes } => self.arrive(to, bytes),
            Happening::Fin { to } => {
                if let Some(end) = self.ends.get_mut(&to) {
                    end.fin = true;
                    self.look(to);
                }
            }
            Happening::Reset { to } => {
                if let Some(end) = self.ends.get_mut(&to) {
                    end.reset = true;
                    self.lose_peer(to);
                    self.look(to);
                }
            }
            Happening::Room { of } => self.pump(of),
            Happening::UserTimeout { of, since } => {
                if self
                    .ends
                    .get(&of)
                    .is_some_and(|end| end.held_since == Some(since))
                {
                    self.end_failed(of, libc::ETIMEDOUT);
                }
            }
            Happening::CloseOverdue { ring, socket } => self.close_overdue(ring, socket),
        }
    }

    /// Gives back what may happen now; keeps what a partition or black hole is in the way of.
    fn hold_up(&mut self, what: Happening) -> Option<Happening> {
        let between = match &what {
            Happening::Syn { client, to, .. } => Some((
                self.rings[client.0].address,
                self.host_of(client.0, *to),
                None,
            )),
            Happening::SynAck { end, .. } => self.between(*end),
            Happening::Bytes { to, .. } | Happening::Fin { to } | Happening::Reset { to } => {
                self.between(*to)
            }
            Happening::Room { of } => self.between(*of),
            _ => None,
        };
        let Some((a, b, sender)) = between else {
            return Some(what);
        };
        let silent = sender
            .and_then(|id| self.ends.get(&id))
            .is_some_and(|end| end.silent);
        if !silent && !self.partitions.contains(&ordered(a, b)) {
            return Some(what);
        }
        if let (Happening::Bytes { .. }, Some(sender)) = (&what, sender) {
            self.start_user_timeout(sender);
        }
        if !silent {
            self.held.push(what);
        }
        None
    }

    /// The hosts at both sides of what arrives at an end, and the end that sent it.
    fn between(&self, to: EndId) -> Option<(IpAddr, IpAddr, Option<EndId>)> {
        let end = self.ends.get(&to)?;
        let host = self.ends.get(&end.peer).map_or(end.host, |peer| peer.host);
        Some((host, end.host, Some(end.peer)))
    }

    fn start_user_timeout(&mut self, sender: EndId) {
        let now = self.now;
        let Some(end) = self.ends.get_mut(&sender) else {
            return;
        };
        if let (Some(timeout), None) = (end.user_timeout, end.held_since) {
            end.held_since = Some(now);
            self.at(
                now + timeout,
                Happening::UserTimeout {
                    of: sender,
                    since: now,
                },
            );
        }
    }

    fn arrive(&mut self, to: EndId, bytes: Vec<u8>) {
        let Some(end) = self.ends.get_mut(&to) else {
            return;
        };
        end.flying -= bytes.len();
        let (peer, deaf) = (end.peer, end.owner == Owner::Nobody);
        if deaf {
            // Nobody reads this any more: the kernel answers with a reset.
            return self.travel(peer, Happening::Reset { to: peer });
        }
        if !end.reset {
            end.unread.extend(bytes);
        }
        self.look(to);
    }

    // Connecting.

    pub(super) fn listen(
        &mut self,
        ring: usize,
        addr: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<(ListenerId, SocketAddr)> {
        let mut addr = addr;
        if addr.port() == 0 {
            addr.set_port(self.free_port());
        }
        let host = self.rings[ring].address;
        let taken = self
            .rings
            .iter()
            .filter(|r| r.address == host && !r.dead)
            .any(|r| {
                r.listeners
                    .iter()
                    .flatten()
                    .any(|l| l.addr == addr && !(l.reuse_port && options.reuse_port))
            });
        if taken {
            return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
        }
        Ok((self.rings[ring].add_listener(addr, options), addr))
    }

    pub(super) fn stop_listening(&mut self, ring: usize, listener: ListenerId) {
        if let Some(listener) = self.rings[ring].listeners.get_mut(listener.0 as usize) {
            *listener = None;
        }
    }

    pub(super) fn connect(
        &mut self,
        ring: usize,
        to: SocketAddr,
        options: &ConnectOptions,
    ) -> SocketId {
        let socket = self.rings[ring].add(Socket::new(Life::Connecting, None, false));
        let loopback = to.ip().is_loopback().then_some(to.ip());
        let from = options
            .source
            .or(loopback)
            .unwrap_or(self.rings[ring].address);
        let from = SocketAddr::new(from, self.free_port());
        let client = (ring, socket);
        let user_timeout = options.user_timeout;
        let at = self.now + self.latency();
        self.at(
            at,
            Happening::Syn {
                client,
                from,
                to,
                user_timeout,
            },
        );
        let timeout = options.timeout.unwrap_or(CONNECT_TIMEOUT);
        self.at(self.now + timeout, Happening::ConnectTimeout { client });
        socket
    }

    fn syn(
        &mut self,
        client: (usize, SocketId),
        from: SocketAddr,
        to: SocketAddr,
        user_timeout: Option<Duration>,
    ) {
        let host = self.host_of(client.0, to);
        let mut candidates = Vec::new();
        for (index, ring) in self.rings.iter().enumerate() {
            if ring.address != host || ring.dead {
                continue;
            }
            for (id, listener) in ring.listeners.iter().enumerate() {
                if listener.as_ref().is_some_and(|listener| listener.takes(to)) {
                    candidates.push((index, ListenerId(id as u32)));
                }
            }
        }
        if candidates.is_empty() {
            let at = self.now + self.latency();
            if self
                .rings
                .iter()
                .any(|ring| ring.address == host && !ring.dead)
            {
                self.at(at, Happening::Refused { client });
            }
            return; // a dead host answers nothing
        }
        let (ring, listener) = candidates[self.rng.usize(0..candidates.len())];
        let [near, far] = [self.next_end, self.next_end + 1];
        self.next_end += 2;
        let options = self.rings[ring].listeners[listener.0 as usize].as_ref();
        let (direct, listener_timeout) =
            options.map_or((false, None), |l| (l.direct, Some(l.user_timeout)));
        let socket = self.rings[ring].add(Socket::new(Life::Open, Some(far), direct));
        let end = |peer, owner, host, user_timeout| End {
            peer,
            owner,
            host,
            flying: 0,
            unread: VecDeque::new(),
            fin: false,
            reset: false,
            last_arrival: self.now,
            user_timeout,
            held_since: None,
            silent: false,
        };
        let client_host = self.rings[client.0].address;
        let client_end = end(
            far,
            Owner::Ring(client.0, client.1),
            client_host,
            user_timeout,
        );
        let server_end = end(near, Owner::Ring(ring, socket), host, listener_timeout);
        self.ends.insert(near, client_end);
        self.ends.insert(far, server_end);
        self.rings[ring].tell(Event::Accepted {
            listener,
            socket,
            peer: from,
        });
        self.travel(near, Happening::SynAck { client, end: near });
    }

    fn syn_ack(&mut self, client: (usize, SocketId), end: EndId) {
        match self.rings[client.0].get_mut(client.1) {
            Some(socket) if socket.life == Life::Connecting && !socket.failed => {
                socket.life = Life::Open;
                socket.end = Some(end);
                self.rings[client.0].tell(Event::Connected { socket: client.1 });
                self.rings[client.0].look_at(client.1);
            }
            _ => {
                // Given up meanwhile.
                if let Some(end) = self.ends.get_mut(&end) {
                    end.owner = Owner::Nobody;
                    let peer = end.peer;
                    self.travel(peer, Happening::Reset { to: peer });
                }
            }
        }
    }

    fn connect_failed(&mut self, client: (usize, SocketId), errno: i32) {
        if let Some(socket) = self.rings[client.0].get_mut(client.1)
            && socket.life == Life::Connecting
        {
            self.rings[client.0].fail(client.1, errno);
        }
    }

    /// The host that an address means, seen from a ring's host.
    pub(super) fn host_of(&self, ring: usize, to: SocketAddr) -> IpAddr {
        if to.ip().is_loopback() {
            self.rings[ring].address
        } else {
            to.ip()
        }
    }

    pub(super) fn free_port(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port = if port == u16::MAX {
            EPHEMERAL_PORT
        } else {
            port + 1
        };
        port
    }
}

pub(super) fn ordered(a: IpAddr, b: IpAddr) -> (IpAddr, IpAddr) {
    if a <= b { (a, b) } else { (b, a) }
}

/// Any address of the host.
pub(super) fn is_any(addr: IpAddr) -> bool {
    addr.is_unspecified() || addr == IpAddr::V4(Ipv4Addr::UNSPECIFIED)
}
