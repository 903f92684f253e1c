//! One shard of a run: users, their connections, and what is due.
//!
//! ```text
//!   closed loop   a user that is free begins its next request at once (after its think time)
//!   open loop     a request that is due takes the user that has been free for longest, or waits in the queue
//!   handshakes    the same, where beginning is to connect, and a user is free when its connection is gone
//! ```
//! Shards share nothing: each has its part of users, rate and count, and hands over its moments and its figures.
//!
//! - Every request that was begun ends in exactly one of: an answer, an error of its class, `unfinished`.
//! - A user has at most one request under way. It is free when it has none, does not think, and all its connections are
//!   ready; so the time to connect is no part of a request's (of a handshake it is).

mod connections; // how they open, carry requests and end
mod turn; // the service: events, and what a turn ends with

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::ServerName;

use crate::ring::Verbs;
use crate::wire::timer::Wheel;

use super::arrivals::Arrivals;
use super::figures::Figures;
use super::line::{Exchange, Line};
use super::mix::Mix;
use super::plan::{Group, Plan};
use super::queue::Queue;
use super::scenario::Kind;
use super::tickets::Tickets;
use super::timeline::{Clock, Current, Past};

/// A connection that failed waits this long before it is made again.
const RETRY: Duration = Duration::from_millis(100);
/// How long a session ticket is waited for.
const TICKET_PATIENCE: Duration = Duration::from_millis(500);
/// Resolution of timeouts, and of think times and retries.
const TIMEOUT_TICK: Duration = Duration::from_millis(4);
const LATER_TICK: Duration = Duration::from_micros(500);
/// Bytes of a request body staged at a time: of large bodies as much as one send takes.
const BODY_STEP: usize = 64 * 1024;
const TRANSFER_STEP: usize = 256 * 1024;
/// Buffers kept for the next sends.
const BUFFERS_MAX: usize = 1024;
/// A process may have few descriptors; where there are more connections, they go to the rings' own tables.
const PLAIN_MAX: usize = 8_000;
const NOBODY: u32 = u32::MAX;

/// What a shard tells whoever started it.
pub enum Report {
    Moment(usize, Past),
    Done(usize, Box<Figures>),
}

/// What is to happen later, to a user or a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Later {
    Begin,
    Think,
    Retry,
    Ticket,
}

impl Later {
    const ALL: [Later; 4] = [Later::Begin, Later::Think, Later::Retry, Later::Ticket];

    fn token(self, index: usize) -> u64 {
        (self as u64) << 32 | index as u64
    }

    fn of(token: u64) -> (Later, usize) {
        let which = (token >> 32) as usize;
        (Later::ALL[which], (token & u64::from(u32::MAX)) as usize)
    }
}

/// To one origin as one client, on this shard.
struct Way {
    tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>,
    /// Handshakes that resume.
    tickets: Option<Arc<Tickets>>,
}

struct User {
    /// Among the users of all shards.
    number: usize,
    begun: bool,
    busy: bool,
    thinks: bool,
    /// Stands in the list of free ones.
    queued: bool,
}

pub struct Shard {
    plan: Arc<Plan>,
    index: usize,
    measured_from: Instant,
    end: Instant,
    ways: Vec<Way>,
    mix: Mix,
    queue: Option<Queue>,
    /// Closed loop: requests still to begin, when they are counted.
    left: Option<u64>,
    /// Begun, and neither answered nor failed.
    under_way: usize,
    users: Vec<User>,
    /// Of user u to way w: number u · ways + w.
    lines: Vec<Option<Line>>,
    /// A timeout is in the wheel.
    armed: Vec<bool>,
    /// Lines by their socket's index.
    owners: Vec<u32>,
    timeouts: Wheel,
    later: Wheel,
    free: VecDeque<u32>,
    reconnect: Vec<u32>,
    dirty: Vec<u32>,
    body: Vec<u8>,
    buffers: Vec<Vec<u8>>,
    target: Vec<u8>,
    next_source: usize,
    now: Instant,
    figures: Figures,
    current: Current,
    reports: Sender<Report>,
    finished: bool,
}

impl Shard {
    /// `clock` begins when the run does, which may be a little ago.
    pub fn new(plan: Arc<Plan>, index: usize, clock: Clock, reports: Sender<Report>) -> Shard {
        let scenario = &plan.scenario;
        let (begin, shards) = (clock.begin, scenario.shards);
        let measured_from = clock.measured_from();
        let end = measured_from + scenario.duration;
        let users = plan.part(scenario.connections as u64, index) as usize;
        let counted = scenario.requests.map(|requests| plan.part(requests, index));
        let queue = scenario.rate.map(|rate| {
            let part = (index, shards);
            let arrivals =
                Arrivals::new(rate, scenario.arrivals, scenario.ramp_up, part, plan.seed);
            Queue::new(arrivals, (begin, measured_from, end), counted)
        });
        let mut later = Wheel::new(begin, LATER_TICK);
        for user in 0..users {
            let number = index + user * shards;
            let after = match queue {
                Some(_) => Duration::ZERO,
                None => scenario
                    .ramp_up
                    .mul_f64(number as f64 / scenario.connections as f64),
            };
            later.insert(begin + after, Later::Begin.token(user));
        }
        let largest = plan
            .members
            .iter()
            .map(|member| member.body)
            .max()
            .unwrap_or(0);
        let step = match plan.kind() {
            Kind::Transfer => TRANSFER_STEP,
            _ => BODY_STEP,
        };
        Shard {
            index,
            measured_from,
            end,
            ways: plan.groups.iter().map(|group| way(&plan, group)).collect(),
            mix: Mix::new(plan.choices(), plan.seed, index),
            left: counted.filter(|_| queue.is_none()),
            under_way: 0,
            users: (0..users)
                .map(|user| User {
                    number: index + user * shards,
                    begun: false,
                    busy: false,
                    thinks: false,
                    queued: false,
                })
                .collect(),
            lines: (0..users * plan.groups.len()).map(|_| None).collect(),
            armed: vec![false; users * plan.groups.len()],
            owners: Vec::new(),
            timeouts: Wheel::new(begin, TIMEOUT_TICK),
            later,
            free: VecDeque::new(),
            reconnect: Vec::new(),
            dirty: Vec::new(),
            body: vec![b'x'; largest.min(step as u64) as usize],
            buffers: Vec::new(),
            target: Vec::new(),
            next_source: index,
            now: begin,
            figures: Figures::new(plan.members.len(), queue.is_some()),
            current: Current::new(clock),
            reports,
            finished: false,
            queue,
            plan,
        }
    }

    fn is_handshakes(&self) -> bool {
        self.plan.kind() == Kind::Handshakes
    }

    fn is_measured(&self) -> bool {
        self.now >= self.measured_from && self.now < self.end
    }

    /// No request is begun any more.
    fn is_over(&self) -> bool {
        match &self.queue {
            Some(queue) => queue.next().is_none() && queue.waiting() == 0,
            None => {
                self.now >= self.end || (self.left == Some(0) && self.now >= self.measured_from)
            }
        }
    }

    fn lines_of(&self, user: usize) -> std::ops::Range<usize> {
        let ways = self.ways.len();
        user * ways..(user + 1) * ways
    }

    fn user_of(&self, line: usize) -> usize {
        line / self.ways.len()
    }

    fn is_free(&self, index: usize) -> bool {
        let user = &self.users[index];
        let lines = &self.lines[self.lines_of(index)];
        let ready = match self.plan.kind() {
            Kind::Handshakes => lines.iter().all(Option::is_none),
            _ => lines
                .iter()
                .all(|line| line.as_ref().is_some_and(Line::is_ready)),
        };
        user.begun && !user.busy && !user.thinks && ready
    }

    /// Gives a user that may be free something to do, or lets it wait.
    fn free<R: Verbs>(&mut self, ring: &mut R, user: usize) {
        if !self.is_free(user) {
            return;
        }
        if self.queue.is_some() {
            if !std::mem::replace(&mut self.users[user].queued, true) {
                self.free.push_back(user as u32);
            }
        } else if !self.is_over() {
            self.begin(ring, user, self.now);
        }
    }

    /// Requests that wait go to users that are free.
    fn deal<R: Verbs>(&mut self, ring: &mut R) {
        while let Some(user) = self.free.front().map(|user| *user as usize) {
            if !self.is_free(user) {
                self.users[user].queued = false;
                self.free.pop_front();
                continue;
            }
            let Some(due) = self.queue.as_mut().and_then(Queue::pop) else {
                return;
            };
            self.users[user].queued = false;
            self.free.pop_front();
            self.begin(ring, user, due);
        }
    }

    /// A user's next request.
    fn begin<R: Verbs>(&mut self, ring: &mut R, user: usize, intended: Instant) {
        if intended >= self.measured_from {
            self.left = self.left.map(|left| left.saturating_sub(1));
        }
        let pick = self.mix.draw();
        let plan = self.plan.clone();
        let asked = &plan.members[pick.member];
        let line = user * self.ways.len() + asked.group;
        let exchange = Exchange {
            pick,
            intended,
            sent: self.now,
            status: 0,
            body_left: asked.body,
        };
        self.users[user].busy = true;
        self.under_way += 1;
        if self.is_handshakes() {
            return self.connect(ring, line, Some(exchange));
        }
        let Some(open) = self.lines[line].as_mut() else {
            return;
        };
        open.exchange = Some(exchange);
        self.ask(line);
        self.arm(line);
    }

    fn record(&mut self, exchange: &Exchange) {
        let figures = &mut self.figures.members[exchange.pick.member];
        let time = self.now.saturating_duration_since(exchange.intended);
        let measured = match &mut figures.service {
            Some(service) => {
                let measured = exchange.intended >= self.measured_from;
                if measured {
                    service.record(self.now.saturating_duration_since(exchange.sent));
                }
                measured
            }
            None => self.now >= self.measured_from,
        };
        if measured {
            figures.latency.record(time);
            if exchange.status > 0 {
                figures.count_status(exchange.status, 1);
            }
            self.figures.ended = Some(self.now);
        }
        self.current.record(time);
    }
}

/// Handshakes are full ones, or resume what this shard's earlier connections were given; other runs do as clients do.
fn way(plan: &Plan, group: &Group) -> Way {
    let mut tickets = None;
    let tls = group.tls.as_ref().map(|(config, name)| {
        if plan.kind() != Kind::Handshakes {
            return (config.clone(), name.clone());
        }
        let mut own = rustls::ClientConfig::clone(config);
        own.resumption = if plan.scenario.resumed {
            let store = tickets.insert(Arc::new(Tickets::default()));
            Resumption::store(store.clone())
        } else {
            Resumption::disabled()
        };
        (Arc::new(own), name.clone())
    });
    Way { tls, tickets }
}
