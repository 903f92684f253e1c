//! One shard of clients: opens their channels at the pace asked for, then holds them.

use super::held::Held;
use super::job::{Board, Counts, Job, Times, count};
use super::opening::Opening;
use super::reader::{Desk, Ending};
use crate::ring::{ConnectOptions, Event, Receive, SocketId, Verbs};
use crate::shard::executor::Service;
use crate::wire::timer::Wheel;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often counts are shown, and the wish to stop is looked for.
const SHOW_EVERY: Duration = Duration::from_millis(250);
/// How often silent channels are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Openings are paced in steps of this.
const PACE: Duration = Duration::from_millis(5);
/// A channel that is opened again waits at most this, if its server does not say how long.
const AGAIN_MAX: Duration = Duration::from_secs(10);
/// Send buffers kept for the next send.
const BUFFERS_MAX: usize = 64;

/// The service of one shard.
pub struct Clients {
    desk: Desk,
    /// By the socket's index.
    clients: Vec<Client>,
    /// Clients that have not tried yet.
    fresh: Range<u32>,
    /// Those that try again, each at its time.
    again: Wheel,
    ready_again: VecDeque<u32>,
    /// Since when each has been opening, oldest first; those that are done are still here.
    opening: VecDeque<(Instant, SocketId)>,
    opening_now: usize,
    begin: Instant,
    started: u64,
    /// Sockets with something to send.
    dirty: Vec<SocketId>,
    buffers: Vec<Vec<u8>>,
    board: Arc<Board>,
    shown: Instant,
    looked: Instant,
    finished: bool,
}

enum Client {
    Nobody,
    Opening(u32, Box<Opening>),
    Held(u32, Held),
}

impl Clients {
    /// `numbers` are this shard's own clients; `board` is where it shows its counts.
    pub fn new(job: Arc<Job>, numbers: Range<u32>, board: Arc<Board>, now: Instant) -> Clients {
        // A little more than are held: sockets that close keep their index for a while.
        let room = numbers.len() + numbers.len() / 16 + 64;
        Clients {
            desk: Desk {
                job,
                counts: Counts::default(),
                times: Times::new(),
                random: fastrand::Rng::new(),
                now,
            },
            clients: Vec::with_capacity(room),
            fresh: numbers,
            again: Wheel::new(now, Duration::from_millis(16)),
            ready_again: VecDeque::new(),
            opening: VecDeque::new(),
            opening_now: 0,
            begin: now,
            started: 0,
            dirty: Vec::new(),
            buffers: Vec::new(),
            board,
            shown: now,
            looked: now,
            finished: false,
        }
    }

    fn wants_to_open(&self) -> bool {
        !self.fresh.is_empty() || !self.ready_again.is_empty()
    }

    fn pace_allows(&self) -> bool {
        let rate = self.desk.job.rate;
        let since = self.desk.now.saturating_duration_since(self.begin);
        rate <= 0.0 || (self.started as f64) < since.as_secs_f64() * rate + 1.0
    }

    fn open_more<R: Verbs>(&mut self, ring: &mut R) {
        while self.opening_now < self.desk.job.at_once && self.pace_allows() {
            let next = self.ready_again.pop_front().or_else(|| self.fresh.next());
            let Some(number) = next else { return };
            self.started += 1;
            if let Err(reason) = self.connect(ring, number) {
                self.failed(number, &Ending::new(reason));
                return; // what is missing now will be missing for the next one
            }
        }
    }

    fn connect<R: Verbs>(&mut self, ring: &mut R, number: u32) -> Result<(), String> {
        let job = self.desk.job.clone();
        let opening = Box::new(Opening::new(number, &mut self.desk)?);
        let options = ConnectOptions {
            timeout: Some(job.timeout),
            source: job.source(number),
            direct: true,
            ..Default::default()
        };
        let socket = ring
            .connect(job.address, &options)
            .map_err(|error| error.to_string())?;
        let at = socket.index as usize;
        if at >= self.clients.len() {
            self.clients.resize_with(at + 1, || Client::Nobody);
        }
        self.clients[at] = Client::Opening(socket.generation, opening);
        self.opening.push_back((self.desk.now, socket));
        self.opening_now += 1;
        Ok(())
    }

    fn received<R: Verbs>(&mut self, ring: &mut R, socket: SocketId, input: &mut [u8]) {
        let outcome = match &mut self.clients[socket.index as usize] {
            Client::Nobody => return,
            Client::Opening(_, opening) => opening.receive(input, &mut self.desk),
            Client::Held(_, held) => held.receive(input, &mut self.desk),
        };
        match outcome {
            Ok(()) => self.dirty.push(socket),
            Err(ending) => self.end(ring, socket, &ending),
        }
    }

    /// Sends what waits, and parks a channel that has become open.
    fn flush<R: Verbs>(&mut self, ring: &mut R, socket: SocketId) {
        let Some(client) = self.clients.get_mut(socket.index as usize) else {
            return;
        };
        if !client.is_of(socket) || ring.send_in_flight(socket) {
            return;
        }
        let buffer = self.buffers.pop().unwrap_or_default();
        let sealed = match client {
            Client::Nobody => return,
            Client::Opening(_, opening) => opening.send(buffer),
            Client::Held(_, held) => held.send(buffer),
        };
        match sealed {
            Ok(bytes) if bytes.is_empty() => {}
            Ok(bytes) => ring.send(socket, bytes),
            Err(reason) => return self.end(ring, socket, &Ending::new(reason)),
        }
        self.park_if_open(socket);
    }

    fn park_if_open(&mut self, socket: SocketId) {
        let client = &mut self.clients[socket.index as usize];
        if !matches!(client, Client::Opening(_, opening) if opening.is_open()) {
            return;
        }
        let Client::Opening(generation, opening) = std::mem::replace(client, Client::Nobody) else {
            return;
        };
        *client = match opening.park() {
            Err(opening) => Client::Opening(generation, opening),
            Ok((number, parked, reader)) => {
                self.opening_now -= 1;
                Client::Held(generation, Held::new(number, parked, reader, &self.desk))
            }
        };
    }

    fn end<R: Verbs>(&mut self, ring: &mut R, socket: SocketId, ending: &Ending) {
        let client = &mut self.clients[socket.index as usize];
        match std::mem::replace(client, Client::Nobody) {
            Client::Nobody => return,
            Client::Opening(_, opening) => {
                self.opening_now -= 1;
                if opening.is_open() {
                    self.lost(opening.number, ending);
                } else {
                    self.failed(opening.number, ending);
                }
            }
            Client::Held(_, held) => self.lost(held.number, ending),
        }
        ring.close(socket);
    }

    fn failed(&mut self, number: u32, ending: &Ending) {
        count(&mut self.desk.counts.failed, &ending.reason, 1);
        self.try_again(number, ending);
    }

    fn lost(&mut self, number: u32, ending: &Ending) {
        self.desk.counts.held -= 1;
        count(&mut self.desk.counts.lost, &ending.reason, 1);
        self.try_again(number, ending);
    }

    fn try_again(&mut self, number: u32, ending: &Ending) {
        if self.desk.job.reconnect {
            let jittered = || AGAIN_MAX.mul_f64(fastrand::f64());
            let wait = ending.retry.unwrap_or_else(jittered);
            self.again.insert(self.desk.now + wait, u64::from(number));
        }
    }

    /// Gives up on openings that take too long. A connect has a timeout of its own, equally long.
    fn expire<R: Verbs>(&mut self, ring: &mut R) {
        while let Some((began, socket)) = self.opening.front().copied() {
            let client = self.clients.get(socket.index as usize);
            let waits = client.is_some_and(|client| {
                client.is_of(socket) && matches!(client, Client::Opening(..))
            });
            if waits && self.desk.now < began + self.desk.job.timeout {
                return;
            }
            self.opening.pop_front();
            if waits {
                self.end(ring, socket, &Ending::new("not open in time"));
            }
        }
    }

    fn look_for_silent(&mut self) {
        self.looked = self.desk.now;
        let held = self.clients.iter().filter(|client| match client {
            Client::Held(_, held) => held.is_silent(&self.desk),
            _ => false,
        });
        self.desk.counts.silent = held.count() as u64;
    }

    fn show(&mut self) {
        self.shown = self.desk.now;
        let counts = self.board.counts.lock();
        counts
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone_from(&self.desk.counts);
    }

    fn finish(&mut self) {
        self.finished = true;
        self.look_for_silent();
        self.show();
        let times = self.board.times.lock();
        *times.unwrap_or_else(std::sync::PoisonError::into_inner) =
            Some(std::mem::take(&mut self.desk.times));
    }
}

impl Client {
    fn is_of(&self, socket: SocketId) -> bool {
        match self {
            Client::Nobody => false,
            Client::Opening(generation, _) | Client::Held(generation, _) => {
                *generation == socket.generation
            }
        }
    }
}

impl<R: Verbs> Service<R> for Clients {
    fn handle(&mut self, ring: &mut R, event: Event) {
        self.desk.now = ring.now();
        let Some(socket) = event.socket() else { return };
        let client = self.clients.get(socket.index as usize);
        let known = client.is_some_and(|client| client.is_of(socket));
        match event {
            Event::Sent { buf, .. } => {
                if self.buffers.len() < BUFFERS_MAX {
                    self.buffers.push(buf);
                }
                if known {
                    self.dirty.push(socket);
                }
            }
            _ if !known => {}
            Event::Connected { .. } => {
                ring.receive(socket, Receive::Small);
                self.dirty.push(socket);
            }
            Event::Received { mut buf, .. } => self.received(ring, socket, &mut buf),
            Event::PeerFinished { .. } | Event::PeerGone { .. } => {
                self.end(
                    ring,
                    socket,
                    &Ending::new("ended by the gateway without a word"),
                );
            }
            Event::Failed { error, .. } => self.end(ring, socket, &Ending::new(error.to_string())),
            Event::Accepted { .. } | Event::Detached { .. } | Event::Woken => {}
        }
    }

    fn end_turn(&mut self, ring: &mut R) {
        self.desk.now = ring.now();
        if self.finished {
            return;
        }
        while let Some(number) = self.again.pop(self.desk.now) {
            self.ready_again.push_back(number as u32);
        }
        self.expire(ring);
        self.open_more(ring);
        while let Some(socket) = self.dirty.pop() {
            self.flush(ring, socket);
        }
        if self.desk.now >= self.looked + LOOK_EVERY {
            self.look_for_silent();
        }
        if self.desk.now >= self.shown + SHOW_EVERY {
            self.show();
        }
        if self.desk.job.stop.load(Ordering::Relaxed) {
            self.finish();
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        if self.finished {
            return Some(self.desk.now + PACE);
        }
        let paced = self.wants_to_open() && self.opening_now < self.desk.job.at_once;
        let pace = paced.then(|| self.desk.now + PACE);
        let show = Some(self.shown + SHOW_EVERY);
        [pace, show, self.again.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn is_finished(&self) -> bool {
        self.finished && self.desk.job.leave.load(Ordering::Relaxed)
    }
}
