//! Connections made by us, with a plain descriptor or in the direct table.
//!
//! ```text
//!   plain    socket, options, bind ──────────────────────────────────▶ Op::Connect ─▶ Connected
//!   direct   socket, options, bind ─▶ Op::Install: into the table,       ▲
//!                                     then the descriptor is closed ─────┘
//! ```
//! A direct socket is made as a plain one, so that options and source address are set as everywhere, on every kernel that
//! runs the ring at all, and costs a descriptor for one turn only. Making it in the table at once (IORING_OP_SOCKET) would
//! need IORING_OP_BIND of Linux 6.11, and an operation for each option.

use super::Ring;
use super::accept::set_connection_options;
use super::slot::{File, Life, Op, entry};
use crate::ring::{ConnectOptions, Event, SocketId, sys};
use io_uring::types::Timespec;
use io_uring::{opcode, squeue};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Offset of IORING_OP_FILES_UPDATE with which the kernel picks a free entry (IORING_FILE_INDEX_ALLOC).
const ANY_ENTRY: i32 = -1;

/// Sockets under way to the direct table, by slot.
pub(super) type Installs = HashMap<u32, Install>;

pub(super) struct Install {
    /// The descriptor; when the operation succeeded, its entry in the table.
    place: Box<i32>,
    address: SocketAddr,
    timeout: Option<Duration>,
}

/// A socket with the options of one that connects.
fn connecting_socket(addr: SocketAddr, options: &ConnectOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    set_connection_options(&socket, options.user_timeout)?;
    if let Some(source) = options.source {
        // The port is chosen when the peer is known, so that ports are unique per peer and not per source.
        sys::set_option(&socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(socket)
}

impl Ring {
    pub(super) fn start_connection(
        &mut self,
        addr: SocketAddr,
        options: &ConnectOptions,
    ) -> io::Result<SocketId> {
        if options.direct && self.direct_free == 0 {
            return Err(io::Error::from_raw_os_error(libc::ENFILE));
        }
        let socket = connecting_socket(addr, options)?;
        let Some(index) = self.allocate(File::Plain(socket.into()), Life::Connecting) else {
            return Err(io::Error::other(
                "the ring holds as many sockets as it can number",
            ));
        };
        if options.direct {
            self.direct_free -= 1;
            self.start_install(index, addr, options.timeout);
        } else {
            self.start_connect(index, addr, options.timeout);
        }
        Ok(self.id(index))
    }

    fn start_install(&mut self, index: usize, address: SocketAddr, timeout: Option<Duration>) {
        let File::Plain(fd) = &self.slots[index].file else {
            unreachable!("a socket is plain before it is installed");
        };
        let mut place = Box::new(fd.as_raw_fd());
        let install = opcode::FilesUpdate::new(&raw mut *place, 1)
            .offset(ANY_ENTRY)
            .build();
        let waiting = Install {
            place,
            address,
            timeout,
        };
        self.installs.insert(index as u32, waiting);
        // SAFETY: the box stays in `installs` until the completion was seen; dropping the ring joins that or leaks the
        // map.
        unsafe { self.start(index, Op::Install, install) };
    }

    /// From here on the socket's only descriptor is that of the table.
    pub(super) fn install_done(&mut self, index: usize, result: i32) {
        let waiting = self.installs.remove(&(index as u32));
        let slot = &mut self.slots[index];
        slot.ops.remove(Op::Install);
        let Some(waiting) = waiting.filter(|_| result == 1) else {
            self.direct_free += 1;
            return self.fail(index, if result < 0 { -result } else { libc::ENFILE });
        };
        slot.file = File::Direct(*waiting.place as u32);
        if slot.life == Life::Connecting {
            self.start_connect(index, waiting.address, waiting.timeout);
        }
    }

    fn start_connect(&mut self, index: usize, addr: SocketAddr, timeout: Option<Duration>) {
        let address = Box::new(SockAddr::from(addr));
        let connect = entry!(self.slots[index].file.target(), |fd| {
            opcode::Connect::new(fd, address.as_ptr().cast(), address.len()).build()
        });
        match timeout {
            // SAFETY: the kernel copies the address when the entry is submitted, and `keep` has it until then.
            None => unsafe { self.start(index, Op::Connect, connect) },
            Some(timeout) => self.start_connect_within(index, connect, timeout),
        }
        self.queue.keep(address);
    }

    fn start_connect_within(&mut self, index: usize, connect: squeue::Entry, timeout: Duration) {
        let time = Box::new(Timespec::from(timeout));
        let timeout = opcode::LinkTimeout::new(&*time).build();
        let connect = connect.user_data(self.tag(index, Op::Connect));
        let timeout = timeout.user_data(self.tag(index, Op::ConnectTimeout));
        self.slots[index].ops.insert(Op::Connect);
        self.slots[index].ops.insert(Op::ConnectTimeout);
        // SAFETY: the kernel copies address and time when the entries are submitted, and `keep` has both until then.
        unsafe { self.queue.push_linked(connect, timeout) };
        self.queue.keep(time);
    }

    pub(super) fn connect_done(&mut self, index: usize, result: i32) {
        let socket = self.id(index);
        let slot = &mut self.slots[index];
        slot.ops.remove(Op::Connect);
        if slot.life != Life::Connecting {
            return;
        }
        if result >= 0 {
            slot.life = Life::Open;
            self.ready.push_back(Event::Connected { socket });
            self.arm_receive(index);
        } else {
            // Nothing but its timeout cancels a connect whose owner still waits.
            let errno = if result == -libc::ECANCELED {
                libc::ETIMEDOUT
            } else {
                -result
            };
            self.fail(index, errno);
        }
    }
}
