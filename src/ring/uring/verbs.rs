//! The verbs, as the driver carries them out.

use super::slot::{File, Life};
use super::{Ring, Waker, accept};
use crate::ring::{ConnectOptions, Event, ListenOptions, ListenerId, Receive, SocketId, Verbs};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

impl Verbs for Ring {
    type Waker = Waker;

    fn listen(
        &mut self,
        addr: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<(ListenerId, SocketAddr)> {
        let fd = accept::bind(addr, options)?;
        self.adopt_listener(fd, options.direct)
    }

    fn stop_listening(&mut self, listener: ListenerId) {
        self.end_accepts(listener);
    }

    fn connect(&mut self, addr: SocketAddr, options: &ConnectOptions) -> io::Result<SocketId> {
        self.start_connection(addr, options)
    }

    fn adopt(&mut self, fd: OwnedFd) -> io::Result<SocketId> {
        // A receive on a non-blocking socket would fail where it should wait.
        socket2::SockRef::from(&fd).set_nonblocking(false)?;
        match self.allocate(File::Plain(fd), Life::Open) {
            Some(index) => Ok(self.id(index)),
            None => Err(io::Error::other(
                "the ring holds as many sockets as it can number",
            )),
        }
    }

    fn receive(&mut self, socket: SocketId, mode: Receive) {
        if let Some(index) = self.find_for_owner(socket) {
            self.set_mode(index, mode);
        }
    }

    fn send(&mut self, socket: SocketId, buf: Vec<u8>) {
        assert!(!buf.is_empty(), "an empty send");
        if let Some(index) = self.find_for_owner(socket) {
            self.start_send(index, buf);
        }
    }

    fn send_in_flight(&self, socket: SocketId) -> bool {
        self.find(socket).is_some_and(|index| {
            let slot = &self.slots[index];
            slot.send_in_flight() || slot.write_error != 0
        })
    }

    fn shutdown_write(&mut self, socket: SocketId) {
        if let Some(index) = self.find_for_owner(socket) {
            self.slots[index].shutdown_wanted = true;
            self.shut_down_when_sent(index);
        }
    }

    fn close(&mut self, socket: SocketId) {
        self.let_go(socket, false);
    }

    fn abort(&mut self, socket: SocketId) {
        self.let_go(socket, true);
    }

    fn detach(&mut self, socket: SocketId) {
        if let Some(index) = self.find_for_owner(socket) {
            self.start_detaching(index);
        }
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn now(&self) -> Instant {
        self.now
    }

    fn poll_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.budget == 0 {
                return None;
            }
            self.budget -= 1;
            let completion = self.queue.pop()?;
            self.complete(&completion);
        }
    }

    fn stalled_bytes(&self) -> usize {
        self.stalled_bytes
    }
}
