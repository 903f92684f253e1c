//! Listeners: single-shot accepts, each with a buffer for its peer's address (multishot ones give none).
//!
//! An accept into the direct table reserves its entry when it is armed, so that the kernel never takes a connection
//! that it has no entry for. Without entry, descriptor or memory the accept is put off until a socket is given back,
//! or for [`AGAIN_AFTER`]; connections wait in the backlog meanwhile.

use super::slot::{File, Life, Op, Tag};
use super::{KEEP_ALIVE_IDLE_S, KEEP_ALIVE_INTERVAL_S, Ring};
use crate::ring::{Event, ListenOptions, ListenerId, sys};
use io_uring::{opcode, types};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use std::cell::UnsafeCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// An accept that failed for want of something is made again after this, even when nothing was given back here.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

pub(super) struct Listener {
    /// Given up when the last accept has ended.
    fd: Option<OwnedFd>,
    direct: bool,
    stopped: bool,
    under_way: u32,
    peers: Box<[UnsafeCell<Peer>]>,
}

impl Listener {
    pub(super) fn is_direct(&self) -> bool {
        self.direct
    }
}

/// Where the kernel writes an accepted connection's address.
struct Peer {
    address: SockAddrStorage,
    len: libc::socklen_t,
}

impl Peer {
    const LEN: libc::socklen_t = size_of::<SockAddrStorage>() as libc::socklen_t;
}

fn peer_buffer() -> UnsafeCell<Peer> {
    UnsafeCell::new(Peer {
        address: SockAddrStorage::zeroed(),
        len: Peer::LEN,
    })
}

/// A listening socket with the options that its connections inherit. IPv6 sockets take no IPv4 connections, so that
/// `0.0.0.0:443` and `[::]:443` go together.
pub(super) fn bind(addr: SocketAddr, options: &ListenOptions) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        sys::set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    }
    set_connection_options(&socket, Some(options.user_timeout))?;
    socket.bind(&addr.into())?;
    socket.listen(options.backlog.min(i32::MAX as u32) as i32)?;
    Ok(socket.into())
}

/// TCP_NODELAY, keep-alive and, if given, TCP_USER_TIMEOUT.
pub(super) fn set_connection_options(
    socket: &Socket,
    user_timeout: Option<Duration>,
) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)?;
    sys::set_option(
        socket,
        libc::IPPROTO_TCP,
        libc::TCP_KEEPIDLE,
        KEEP_ALIVE_IDLE_S,
    )?;
    sys::set_option(
        socket,
        libc::IPPROTO_TCP,
        libc::TCP_KEEPINTVL,
        KEEP_ALIVE_INTERVAL_S,
    )?;
    if let Some(timeout) = user_timeout {
        let millis = timeout.as_millis().min(i32::MAX as u128) as i32;
        sys::set_option(socket, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, millis)?;
    }
    Ok(())
}

impl Ring {
    /// Takes a listening socket from elsewhere: from the process that this one replaces.
    pub fn adopt_listener(
        &mut self,
        fd: OwnedFd,
        direct: bool,
    ) -> io::Result<(ListenerId, SocketAddr)> {
        let socket = socket2::SockRef::from(&fd);
        socket.set_nonblocking(false)?;
        let Some(addr) = socket.local_addr()?.as_socket() else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not an IP listener",
            ));
        };
        let id = self.listeners.len() as u32;
        self.listeners.push(Listener {
            fd: Some(fd),
            direct,
            stopped: false,
            under_way: 0,
            peers: (0..self.accepts).map(|_| peer_buffer()).collect(),
        });
        (0..self.accepts as u32).for_each(|place| self.arm_accept(id, place));
        Ok((ListenerId(id), addr))
    }

    /// The socket of a listener that has not been stopped, to hand it to the process that replaces this one.
    pub fn listener(&self, listener: ListenerId) -> Option<BorrowedFd<'_>> {
        let listener = self.listeners.get(listener.0 as usize)?;
        listener
            .fd
            .as_ref()
            .filter(|_| !listener.stopped)
            .map(|fd| fd.as_fd())
    }

    pub(super) fn end_accepts(&mut self, listener: ListenerId) {
        let id = listener.0;
        let Some(listener) = self.listeners.get_mut(id as usize) else {
            return;
        };
        if std::mem::replace(&mut listener.stopped, true) {
            return;
        }
        for place in 0..listener.peers.len() as u32 {
            let [target, answer] = [Op::Accept, Op::CancelAccept].map(|op| {
                Tag {
                    op,
                    generation: place,
                    index: id,
                }
                .encode()
            });
            self.queue.cancel(target, answer);
        }
        self.put_off.retain(|(listener, _)| *listener != id);
        self.close_if_idle(id);
    }

    pub(super) fn arm_accept(&mut self, id: u32, place: u32) {
        let Some(listener) = self.listeners.get_mut(id as usize).filter(|l| !l.stopped) else {
            return;
        };
        let Some(fd) = &listener.fd else { return };
        if listener.direct {
            if self.direct_free == 0 {
                self.put_off.push_back((id, place));
                return;
            }
            self.direct_free -= 1;
        }
        let fd = types::Fd(fd.as_raw_fd());
        let peer = listener.peers[place as usize].get();
        // SAFETY: this place's accept is not under way, so nobody else reads or writes it.
        let (address, len) = unsafe {
            (*peer).len = Peer::LEN;
            (&raw mut (*peer).address, &raw mut (*peer).len)
        };
        let accept = opcode::Accept::new(fd, address.cast(), len);
        let accept = if listener.direct {
            accept.file_index(Some(types::DestinationSlot::auto_target()))
        } else {
            accept.flags(libc::SOCK_CLOEXEC)
        };
        let tag = Tag {
            op: Op::Accept,
            generation: place,
            index: id,
        };
        listener.under_way += 1;
        // SAFETY: the address and its length lie in a boxed slice that is dropped only with the ring, whose drop joins
        // the accept or leaks them.
        unsafe { self.queue.push(accept.build().user_data(tag.encode())) };
    }

    pub(super) fn accept_done(&mut self, id: u32, place: u32, result: i32) {
        let Some(listener) = self.listeners.get_mut(id as usize) else {
            return;
        };
        listener.under_way -= 1;
        let direct = listener.direct;
        if result < 0 {
            if direct {
                self.direct_free += 1;
            }
            match -result {
                libc::ECANCELED | libc::ECONNABORTED | libc::EINTR => self.arm_accept(id, place),
                _ => self.put_off_accept(id, place),
            }
        } else {
            let file = if direct {
                File::Direct(result as u32)
            } else {
                File::Plain(sys::own(result))
            };
            self.accepted(id, place, file);
            self.arm_accept(id, place);
        }
        self.close_if_idle(id);
    }

    /// Makes the accepts again that were put off, once their time has come.
    pub(super) fn accept_again(&mut self) {
        if self.accept_again_at.is_some_and(|at| at <= self.now) {
            self.accept_again_at = None;
            for _ in 0..self.put_off.len() {
                self.accept_one_more();
            }
        }
    }

    /// A descriptor was given back: makes one accept that was put off.
    pub(super) fn accept_one_more(&mut self) {
        if let Some((id, place)) = self.put_off.pop_front() {
            self.arm_accept(id, place);
        }
    }

    fn accepted(&mut self, id: u32, place: u32, file: File) {
        let peer = self.listeners[id as usize].peers[place as usize].get();
        // SAFETY: the accept of this place has completed, so the kernel is done with it, and has written an address of
        // the length that it gave.
        let peer =
            unsafe { SockAddr::new(std::ptr::read(&raw const (*peer).address), (*peer).len) };
        let index = self
            .allocate(file, Life::Open)
            .expect("fewer sockets than descriptors");
        let Some(peer) = peer.as_socket() else {
            // Gone so early that the kernel knows no address any more.
            return self.let_go(self.id(index), true);
        };
        self.counters.accepted += 1;
        let (listener, socket) = (ListenerId(id), self.id(index));
        self.ready.push_back(Event::Accepted {
            listener,
            socket,
            peer,
        });
    }

    fn put_off_accept(&mut self, id: u32, place: u32) {
        if !self.listeners[id as usize].stopped {
            self.counters.accepts_put_off += 1;
            self.put_off.push_back((id, place));
            self.accept_again_at.get_or_insert(self.now + AGAIN_AFTER);
        }
    }

    fn close_if_idle(&mut self, id: u32) {
        let listener = &mut self.listeners[id as usize];
        if listener.stopped && listener.under_way == 0 {
            listener.fd = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Verbs;
    use crate::ring::uring::RingConfig;
    use std::time::Instant;

    #[test]
    fn an_accept_that_failed_is_made_again_later_and_does_not_spin() {
        let mut ring = Ring::new(&RingConfig {
            accepts: 1,
            ..RingConfig::default()
        })
        .unwrap();
        let options = ListenOptions {
            reuse_port: false,
            backlog: 8,
            direct: false,
            user_timeout: Duration::from_secs(30),
        };
        let (_, addr) = ring
            .listen("127.0.0.1:0".parse().unwrap(), &options)
            .unwrap();
        // Its only accept ends with an error, as if the process had no descriptor left.
        let [target, answer] = [Op::Accept, Op::CancelAccept].map(|op| {
            Tag {
                op,
                generation: 0,
                index: 0,
            }
            .encode()
        });
        ring.queue.cancel(target, answer);
        ring.listeners[0].stopped = true; // so that the cancellation itself makes none
        while ring.listeners[0].under_way > 0 {
            ring.turn_or_sleep(Some(Instant::now() + Duration::from_secs(1)))
                .unwrap();
            assert!(ring.poll_event().is_none());
            if ring.listeners[0].fd.is_none() {
                break;
            }
        }
        ring.listeners[0].stopped = false;
        ring.listeners[0].fd = Some(bind(addr, &options).unwrap());
        ring.listeners[0].under_way = 1;
        let (began, turns) = (ring.now(), ring.counters().turns);
        ring.accept_done(0, 0, -libc::EMFILE);
        assert_eq!(ring.listeners[0].under_way, 0);
        assert_eq!(ring.counters().accepts_put_off, 1);
        let client = std::net::TcpStream::connect(addr).unwrap();
        let peer = loop {
            ring.turn_or_sleep(Some(Instant::now() + Duration::from_secs(10)))
                .unwrap();
            match ring.poll_event() {
                Some(Event::Accepted { peer, .. }) => break peer,
                Some(other) => panic!("{other:?}"),
                None => {}
            }
        };
        assert_eq!(peer, client.local_addr().unwrap());
        assert!(ring.now() - began >= AGAIN_AFTER);
        assert!(ring.counters().turns - turns < 10, "{:?}", ring.counters());
    }
}
