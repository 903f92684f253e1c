//! How connections end: given up, cut, lost with their host; and detached ones, which wait for a new owner.

use super::Death;
use super::socket::{Life, Socket};
use super::world::{EndId, Happening, Owner, World, ordered};
use crate::ring::SocketId;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

impl World {
    // Detached sockets.

    pub(super) fn park(&mut self, end: EndId) -> OwnedFd {
        let (kept, given) = UnixStream::pair().expect("a simulation has descriptors");
        kept.set_nonblocking(true).expect("a fresh socket");
        let given = OwnedFd::from(given);
        self.parked.insert(given.as_raw_fd(), (end, kept));
        if let Some(end) = self.ends.get_mut(&end) {
            end.owner = Owner::Parked(given.as_raw_fd());
        }
        given
    }

    pub(super) fn adopt(&mut self, ring: usize, fd: OwnedFd) -> io::Result<SocketId> {
        self.notice_dropped_descriptors();
        let Some((end, _)) = self.parked.remove(&fd.as_raw_fd()) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a simulated socket",
            ));
        };
        let socket = self.rings[ring].add(Socket::new(Life::Open, Some(end), false));
        if let Some(end) = self.ends.get_mut(&end) {
            end.owner = Owner::Ring(ring, socket);
        }
        Ok(socket)
    }

    pub(super) fn notice_dropped_descriptors(&mut self) {
        let mut byte = [0];
        let mut dropped: Vec<(EndId, RawFd)> = Vec::new();
        for (fd, (end, kept)) in &mut self.parked {
            if matches!(io::Read::read(kept, &mut byte), Ok(0)) {
                dropped.push((*end, *fd));
            }
        }
        dropped.sort_unstable(); // by end: which number a descriptor has is not ours to decide
        for (end, fd) in dropped {
            self.parked.remove(&fd);
            self.let_go(end, true);
        }
    }

    // Ends and faults.

    /// Its owner gives an end up: with a FIN, or with a reset if that is wanted or bytes lie unread.
    pub(super) fn let_go(&mut self, id: EndId, reset: bool) {
        let Some(end) = self.ends.get_mut(&id) else {
            return;
        };
        let reset = reset || !end.unread.is_empty();
        end.owner = Owner::Nobody;
        end.unread.clear();
        let peer = end.peer;
        let gone = end.reset;
        if !gone {
            let what = if reset {
                Happening::Reset { to: peer }
            } else {
                Happening::Fin { to: peer }
            };
            self.travel(peer, what);
        }
        if self
            .ends
            .get(&peer)
            .is_none_or(|peer| peer.owner == Owner::Nobody)
        {
            // Both ends are given up: what still travels finds nobody.
            self.ends.remove(&id);
            self.ends.remove(&peer);
        }
    }

    /// The peer is gone for good: room that it would have made never comes.
    pub(super) fn lose_peer(&mut self, id: EndId) {
        if let Some(Owner::Ring(ring, socket)) = self.ends.get(&id).map(|end| end.owner) {
            self.rings[ring].write_failed(socket, libc::ECONNRESET);
        }
    }

    pub(super) fn end_failed(&mut self, id: EndId, errno: i32) {
        let Some(end) = self.ends.get_mut(&id) else {
            return;
        };
        end.reset = true;
        if let Owner::Ring(ring, socket) = end.owner {
            self.rings[ring].write_failed(socket, errno);
            self.rings[ring].fail(socket, errno);
        }
    }

    pub(super) fn cut(&mut self, ring: usize, socket: SocketId) {
        let Some(id) = self.rings[ring]
            .get_mut(socket)
            .and_then(|socket| socket.end)
        else {
            return;
        };
        let Some(peer) = self.ends.get(&id).map(|end| end.peer) else {
            return;
        };
        self.happen(Happening::Reset { to: id });
        self.happen(Happening::Reset { to: peer });
    }

    pub(super) fn blackhole(&mut self, ring: usize, socket: SocketId) {
        let end = self.rings[ring]
            .get_mut(socket)
            .and_then(|socket| socket.end);
        let Some(peer) = end.and_then(|id| self.ends.get(&id)).map(|end| end.peer) else {
            return;
        };
        for id in end.into_iter().chain([peer]) {
            if let Some(end) = self.ends.get_mut(&id) {
                end.silent = true;
            }
        }
    }

    pub(super) fn partition(&mut self, a: IpAddr, b: IpAddr) {
        self.partitions.insert(ordered(a, b));
    }

    pub(super) fn heal(&mut self, a: IpAddr, b: IpAddr) {
        self.partitions.remove(&ordered(a, b));
        self.ends.values_mut().for_each(|end| end.held_since = None);
        // In the order in which they were held up; what other partitions are in the way of is held up again.
        for what in std::mem::take(&mut self.held) {
            self.at(self.now, what);
        }
    }

    pub(super) fn kill(&mut self, ring: usize, death: Death) {
        if std::mem::replace(&mut self.rings[ring].dead, true) {
            return;
        }
        let held: Vec<EndId> = self
            .ends
            .iter()
            .filter(|(_, end)| matches!(end.owner, Owner::Ring(owner, _) if owner == ring))
            .map(|(id, _)| *id)
            .collect();
        for id in held {
            if death == Death::Host {
                for id in [Some(id), self.ends.get(&id).map(|end| end.peer)]
                    .into_iter()
                    .flatten()
                {
                    if let Some(end) = self.ends.get_mut(&id) {
                        end.silent = true;
                    }
                }
            }
            self.let_go(id, true);
        }
        self.rings[ring].clear();
    }

    pub(super) fn connections(&self) -> usize {
        let held = self.ends.iter().filter(|(id, end)| {
            let peer_held = self
                .ends
                .get(&end.peer)
                .is_some_and(|peer| peer.owner != Owner::Nobody);
            // Each connection once: by its lower end, or by the only one that is held.
            end.owner != Owner::Nobody && (**id < end.peer || !peer_held)
        });
        held.count()
    }
}
