//! The closed loop of `tidegate load requests`, one shard of it: every connection sends its next request when the last
//! answer is complete.

use crate::ring::{ConnectOptions, Event, Receive, SocketId, Verbs};
use crate::shard::executor::Service;
use crate::wire::Field;
use crate::wire::http1::{self, ClientEvent, Framing};
use crate::wire::record::{Layout, Outgoing};
use crate::wire::timer::Wheel;
use crate::wire::tls::{self, Step};
use hdrhistogram::Histogram;
use rustls::pki_types::ServerName;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes of a request body staged at a time.
const BODY_STEP: usize = 64 * 1024;
/// A connection that failed waits this long before it is made again.
const RETRY: Duration = Duration::from_millis(100);

/// What is asked, the same for all shards.
pub struct Job {
    pub address: SocketAddr,
    pub tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>,
    pub host: String,
    pub target: String,
    pub method: String,
    pub headers: Vec<(String, String)>,
    pub body: u64,
    /// Count of requests after which no more are sent, all shards together; 0: until the time is over.
    pub requests: u64,
    pub warm_up: Duration,
    pub duration: Duration,
    /// A request without an answer for this long failed.
    pub timeout: Duration,
    /// Progress of all shards, for the display.
    pub progress: Progress,
}

/// Counters that all shards add to.
#[derive(Default)]
pub struct Progress {
    pub begun: AtomicU64,
    pub done: AtomicU64,
    pub failed: AtomicU64,
}

/// What one shard measured.
pub struct Measured {
    /// Microseconds from the request's first byte to the answer's last.
    pub latency: Histogram<u64>,
    pub statuses: BTreeMap<u16, u64>,
    pub errors: BTreeMap<String, u64>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub connects: u64,
    /// First to last measured answer.
    pub started: Option<Instant>,
    pub ended: Option<Instant>,
}

impl Measured {
    pub fn new() -> Measured {
        // Three digits up to ten minutes: the bounds are constants that the histogram takes.
        let latency = Histogram::new_with_bounds(1, 600_000_000, 3)
            .unwrap_or_else(|_| Histogram::new(3).expect("3 digits"));
        Measured {
            latency,
            statuses: BTreeMap::new(),
            errors: BTreeMap::new(),
            bytes_in: 0,
            bytes_out: 0,
            connects: 0,
            started: None,
            ended: None,
        }
    }

    pub fn merge(&mut self, other: &Measured) {
        let _ = self.latency.add(&other.latency);
        for (status, n) in &other.statuses {
            *self.statuses.entry(*status).or_insert(0) += n;
        }
        for (error, n) in &other.errors {
            *self.errors.entry(error.clone()).or_insert(0) += n;
        }
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.connects += other.connects;
        self.started = [self.started, other.started].into_iter().flatten().min();
        self.ended = [self.ended, other.ended].into_iter().flatten().max();
    }
}

impl Default for Measured {
    fn default() -> Self {
        Measured::new()
    }
}

struct Connection {
    socket: SocketId,
    tls: Option<tls::Connection>,
    http: http1::Client,
    out: Option<Outgoing>,
    /// When the request that is open began; none between requests.
    began: Option<Instant>,
    status: u16,
    body_left: u64,
    open: bool,
    dirty: bool,
}

/// One shard of the load.
pub struct Requests {
    job: Arc<Job>,
    connections: Vec<Option<Connection>>,
    owners: Vec<usize>,
    wheel: Wheel,
    now: Instant,
    begin: Instant,
    body: Vec<u8>,
    buffers: Vec<Vec<u8>>,
    dirty: Vec<usize>,
    measured: Measured,
    result: std::sync::mpsc::SyncSender<Measured>,
    finished: bool,
}

const NOBODY: usize = usize::MAX;
const TOKEN_END: u64 = u64::MAX;
const LIMITS: http1::Limits = http1::Limits {
    head_bytes: 64 * 1024,
    header_count: 100,
    trailer_bytes: 16 * 1024,
};

impl Requests {
    /// `connections` are this shard's own.
    pub fn new(
        job: Arc<Job>,
        connections: usize,
        now: Instant,
        result: std::sync::mpsc::SyncSender<Measured>,
    ) -> Requests {
        let mut wheel = Wheel::new(now, Duration::from_millis(4));
        for index in 0..connections {
            wheel.insert(now, index as u64);
        }
        wheel.insert(now + job.warm_up + job.duration, TOKEN_END);
        Requests {
            connections: (0..connections).map(|_| None).collect(),
            owners: Vec::new(),
            wheel,
            now,
            begin: now,
            body: vec![b'x'; job.body.min(BODY_STEP as u64) as usize],
            buffers: Vec::new(),
            dirty: Vec::new(),
            measured: Measured::new(),
            result,
            finished: false,
            job,
        }
    }

    fn measuring(&self) -> bool {
        self.now >= self.begin + self.job.warm_up
    }

    fn connect<R: Verbs>(&mut self, ring: &mut R, index: usize) {
        let options = ConnectOptions {
            timeout: Some(self.job.timeout),
            ..Default::default()
        };
        let tls = match &self.job.tls {
            Some((config, name)) => match tls::Connection::client(config, name.clone()) {
                Ok(tls) => Some(tls),
                Err(error) => return self.fail(index, &error.text),
            },
            None => None,
        };
        let socket = match ring.connect(self.job.address, &options) {
            Ok(socket) => socket,
            Err(error) => return self.fail(index, &error.to_string()),
        };
        self.measured.connects += 1;
        let at = socket.index as usize;
        if at >= self.owners.len() {
            self.owners.resize(at + 1, NOBODY);
        }
        self.owners[at] = index;
        self.connections[index] = Some(Connection {
            socket,
            tls,
            http: http1::Client::new(LIMITS),
            out: None,
            began: None,
            status: 0,
            body_left: 0,
            open: false,
            dirty: false,
        });
        self.wheel.insert(self.now + self.job.timeout, index as u64);
    }

    fn fail(&mut self, index: usize, why: &str) {
        self.job.progress.failed.fetch_add(1, Ordering::Relaxed);
        *self.measured.errors.entry(why.to_owned()).or_insert(0) += 1;
        self.wheel.insert(self.now + RETRY, index as u64);
    }

    fn drop_connection<R: Verbs>(&mut self, ring: &mut R, index: usize, why: Option<&str>) {
        if let Some(connection) = self.connections[index].take() {
            self.owners[connection.socket.index as usize] = NOBODY;
            ring.close(connection.socket);
            match why {
                Some(why) => self.fail(index, why),
                None => self.wheel.insert(self.now, index as u64),
            }
        }
    }

    /// Stages the next request, if one is due.
    fn next_request(&mut self, index: usize) {
        let job = self.job.clone();
        let Some(connection) = self.connections[index].as_mut() else {
            return;
        };
        if job.requests > 0 && job.progress.begun.fetch_add(1, Ordering::Relaxed) >= job.requests {
            return;
        }
        let layout = layout(connection);
        let out = connection
            .out
            .get_or_insert_with(|| new_out(layout, &mut self.buffers));
        let framing = if job.body > 0 {
            Framing::Length(job.body)
        } else {
            Framing::None
        };
        let host = Field {
            name: b"Host",
            value: job.host.as_bytes(),
        };
        let headers = job.headers.iter().map(|(name, value)| Field {
            name: name.as_bytes(),
            value: value.as_bytes(),
        });
        let fields = std::iter::once(host).chain(headers);
        connection.http.send_head(
            out,
            job.method.as_bytes(),
            job.target.as_bytes(),
            fields,
            framing,
        );
        if job.body == 0 {
            connection.http.send_end(out, []);
        }
        connection.began = Some(self.now);
        connection.body_left = job.body;
        self.stage_body(index);
    }

    fn stage_body(&mut self, index: usize) {
        let Some(connection) = self.connections[index].as_mut() else {
            return;
        };
        if connection.began.is_none() {
            return;
        }
        let layout = layout(connection);
        let out = connection
            .out
            .get_or_insert_with(|| new_out(layout, &mut self.buffers));
        if connection.body_left > 0 {
            let n = connection.body_left.min(self.body.len() as u64) as usize;
            connection.http.send_data(out, &self.body[..n]);
            connection.body_left -= n as u64;
            self.measured.bytes_out += n as u64;
            if connection.body_left == 0 {
                connection.http.send_end(out, []);
            }
        }
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(index);
        }
    }

    fn flush<R: Verbs>(&mut self, ring: &mut R, index: usize) {
        let Some(connection) = self.connections[index].as_mut() else {
            return;
        };
        connection.dirty = false;
        if ring.send_in_flight(connection.socket) {
            return;
        }
        let bytes = match connection.tls.as_mut() {
            Some(tls) => {
                if connection.out.is_none() && !tls.wants_transmit() {
                    return;
                }
                let layout = tls.layout();
                let out = match connection.out.take() {
                    Some(out) => out,
                    None => new_out(Some(layout), &mut self.buffers),
                };
                match tls.transmit(out) {
                    Ok(bytes) => bytes,
                    Err(error) => return self.drop_connection(ring, index, Some(&error.text)),
                }
            }
            None => match connection.out.take() {
                Some(out) => out.into_clear_text(),
                None => return,
            },
        };
        if !bytes.is_empty() {
            ring.send(connection.socket, bytes);
        }
    }

    fn received<R: Verbs>(&mut self, ring: &mut R, index: usize, input: &mut [u8]) {
        self.measured.bytes_in += input.len() as u64;
        let mut used = 0;
        let outcome = loop {
            let Some(connection) = self.connections[index].as_mut() else {
                return;
            };
            let step = match connection.tls.as_mut() {
                Some(tls) => match tls.next(input, &mut used) {
                    Ok(Step::NeedMore) => break Ok(false),
                    Ok(Step::Established(_)) => {
                        connection.open = true;
                        None
                    }
                    Ok(Step::Data(plain)) => {
                        Some(answer(&mut connection.http, &mut connection.status, plain))
                    }
                    Ok(Step::Closed) => break Err("closed by the server".to_owned()),
                    Err(error) => break Err(error.text),
                },
                None if used == input.len() => break Ok(false),
                None => {
                    used = input.len();
                    Some(answer(&mut connection.http, &mut connection.status, input))
                }
            };
            match step {
                None => self.next_request(index),
                Some(Ok(true)) => self.complete(ring, index),
                Some(Ok(false)) => {}
                Some(Err(why)) => break Err(why),
            }
            self.touch(index);
        };
        self.touch(index);
        match outcome {
            Ok(_) => {}
            Err(why) => {
                let open = self.connections[index]
                    .as_ref()
                    .is_some_and(|connection| connection.began.is_some());
                self.drop_connection(ring, index, open.then_some(why.as_str()));
            }
        }
    }

    fn touch(&mut self, index: usize) {
        if let Some(connection) = self.connections[index].as_mut()
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(index);
        }
    }

    /// An answer is complete.
    fn complete<R: Verbs>(&mut self, ring: &mut R, index: usize) {
        let measuring = self.measuring();
        let Some(connection) = self.connections[index].as_mut() else {
            return;
        };
        let Some(began) = connection.began.take() else {
            return;
        };
        if measuring {
            let took = self.now.saturating_duration_since(began);
            self.measured
                .latency
                .saturating_record(took.as_micros() as u64);
            *self.measured.statuses.entry(connection.status).or_insert(0) += 1;
            self.measured.started.get_or_insert(began);
            self.measured.ended = Some(self.now);
        }
        let reusable = connection.http.is_reusable();
        let done = self.job.progress.done.fetch_add(1, Ordering::Relaxed) + 1;
        if self.job.requests > 0
            && done + self.job.progress.failed.load(Ordering::Relaxed) >= self.job.requests
        {
            self.finished = true;
        } else if reusable {
            self.next_request(index);
        } else {
            self.drop_connection(ring, index, None);
        }
    }
}

fn layout(connection: &Connection) -> Option<Layout> {
    connection.tls.as_ref().map(tls::Connection::layout)
}

fn new_out(layout: Option<Layout>, buffers: &mut Vec<Vec<u8>>) -> Outgoing {
    let buffer = buffers.pop().unwrap_or_default();
    match layout {
        Some(layout) => Outgoing::new(layout, buffer),
        None => Outgoing::clear_text(buffer),
    }
}

/// Takes plaintext of an answer; true when it is complete.
fn answer(http: &mut http1::Client, status: &mut u16, plain: &[u8]) -> Result<bool, String> {
    let mut used = 0;
    let mut complete = false;
    loop {
        match http.next(plain, &mut used) {
            Ok(ClientEvent::NeedMore) => return Ok(complete),
            Ok(ClientEvent::Head(head)) => *status = head.status,
            Ok(ClientEvent::Interim(_) | ClientEvent::Data(_)) => {}
            Ok(ClientEvent::End { .. }) => complete = true,
            Err(refusal) => return Err(format!("answer cannot be read: {}", refusal.why)),
        }
    }
}

impl<R: Verbs> Service<R> for Requests {
    fn handle(&mut self, ring: &mut R, event: Event) {
        self.now = ring.now();
        let socket = match &event {
            Event::Connected { socket }
            | Event::Received { socket, .. }
            | Event::PeerFinished { socket }
            | Event::PeerGone { socket }
            | Event::Sent { socket, .. }
            | Event::Failed { socket, .. } => *socket,
            Event::Accepted { .. } | Event::Detached { .. } | Event::Woken => return,
        };
        let index = self
            .owners
            .get(socket.index as usize)
            .copied()
            .unwrap_or(NOBODY);
        match event {
            Event::Sent { buf, .. } => {
                if self.buffers.len() < 1024 {
                    self.buffers.push(buf);
                }
                if index != NOBODY {
                    self.stage_body(index);
                }
            }
            _ if index == NOBODY => {}
            Event::Connected { .. } => {
                ring.receive(
                    socket,
                    if self.job.tls.is_some() {
                        Receive::Small
                    } else {
                        Receive::Large
                    },
                );
                let clear = self.connections[index]
                    .as_ref()
                    .is_some_and(|connection| connection.tls.is_none());
                if clear {
                    self.next_request(index);
                }
                self.touch(index);
            }
            Event::Received { mut buf, .. } => self.received(ring, index, &mut buf),
            Event::PeerFinished { .. } | Event::PeerGone { .. } => {
                let open = self.connections[index]
                    .as_ref()
                    .is_some_and(|connection| connection.began.is_some());
                self.drop_connection(
                    ring,
                    index,
                    open.then_some("connection ended before the answer"),
                );
            }
            Event::Failed { error, .. } => {
                self.drop_connection(ring, index, Some(&error.to_string()))
            }
            Event::Accepted { .. } | Event::Detached { .. } | Event::Woken => {}
        }
    }

    fn end_turn(&mut self, ring: &mut R) {
        self.now = ring.now();
        while let Some(token) = self.wheel.pop(self.now) {
            let index = token as usize;
            if token == TOKEN_END {
                self.finished = true;
            } else if self.connections[index].is_none() {
                self.connect(ring, index);
            } else if let Some(connection) = &self.connections[index] {
                match connection.began {
                    Some(began) if self.now >= began + self.job.timeout => {
                        self.drop_connection(ring, index, Some("no answer in time"));
                    }
                    None if !connection.open && connection.tls.is_some() => {
                        self.drop_connection(ring, index, Some("no handshake in time"));
                    }
                    began => {
                        let at = began.unwrap_or(self.now) + self.job.timeout;
                        self.wheel.insert(at, token);
                    }
                }
            }
        }
        while let Some(index) = self.dirty.pop() {
            self.flush(ring, index);
        }
        let wanted = self.job.requests;
        let answered = self.job.progress.done.load(Ordering::Relaxed)
            + self.job.progress.failed.load(Ordering::Relaxed);
        if wanted > 0 && answered >= wanted {
            self.finished = true;
        }
        if self.finished {
            let _ = self.result.try_send(std::mem::take(&mut self.measured));
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        // With a count, another shard may answer the last request: look again soon.
        let look = (self.job.requests > 0).then(|| self.now + Duration::from_millis(100));
        [self.wheel.next_deadline(), look]
            .into_iter()
            .flatten()
            .min()
    }

    fn is_finished(&self) -> bool {
        self.finished
    }
}
