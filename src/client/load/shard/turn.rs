//! A turn of a shard: events of its sockets, then what is due by the clock, then everything is sent at once.

use std::time::Instant;

use crate::ring::{Event, Receive, Verbs};
use crate::shard::executor::Service;

use super::super::figures::Class;
use super::super::line::{Broken, Stage};
use super::super::scenario::Kind;
use super::{BUFFERS_MAX, Later, NOBODY, Report, Shard};

impl<R: Verbs> Service<R> for Shard {
    fn handle(&mut self, ring: &mut R, event: Event) {
        self.now = ring.now();
        let Some(socket) = event.socket() else {
            return;
        };
        let owner = self
            .owners
            .get(socket.index as usize)
            .copied()
            .unwrap_or(NOBODY);
        let index = owner as usize;
        match event {
            Event::Sent { buf, .. } => {
                if self.buffers.len() < self.lines.len().clamp(16, BUFFERS_MAX) {
                    self.buffers.push(buf);
                }
                if owner != NOBODY {
                    self.stage_body(index);
                    self.touch(index);
                }
            }
            _ if owner == NOBODY => {}
            Event::Connected { .. } => self.connected(ring, index),
            Event::Received { mut buf, .. } => self.received(ring, index, &mut buf),
            Event::PeerFinished { .. } | Event::PeerGone { .. } => self.peer_ended(ring, index),
            Event::Failed { error, .. } => {
                let class = match self.lines[index].as_ref().map(|line| line.stage) {
                    Some(Stage::Connecting) => Class::Connect,
                    Some(Stage::Handshaking) => Class::Handshake,
                    _ => Class::BrokenOff,
                };
                let text = error.to_string();
                self.break_off(ring, index, &Broken { class, text });
            }
            Event::Accepted { .. } | Event::Detached { .. } | Event::Woken => {}
        }
    }

    fn end_turn(&mut self, ring: &mut R) {
        self.now = ring.now();
        while let Some(token) = self.later.pop(self.now) {
            self.due(ring, token);
        }
        while let Some(index) = self.timeouts.pop(self.now) {
            self.timed_out(ring, index as usize);
        }
        while let Some(index) = self.reconnect.pop() {
            self.connect_again(ring, index as usize);
        }
        if let Some(queue) = &mut self.queue {
            queue.advance(self.now);
        }
        // What is flushed may free a user (a handshake's), to whom the next request goes.
        loop {
            self.deal(ring);
            if self.dirty.is_empty() {
                break;
            }
            while let Some(index) = self.dirty.pop() {
                self.flush(ring, index as usize);
            }
        }
        if self.now >= self.current.ends() {
            self.hand_over();
        }
        self.finish_if_done();
    }

    fn next_deadline(&self) -> Option<Instant> {
        if !self.reconnect.is_empty() {
            return Some(self.now);
        }
        // While no user is free, nobody looks when the next request is due: it is seen when one is.
        let arrival = self
            .queue
            .as_ref()
            .and_then(|queue| queue.next().filter(|_| !self.free.is_empty()));
        let end = (self.now < self.end).then_some(self.end);
        let due = [
            self.later.next_deadline(),
            self.timeouts.next_deadline(),
            Some(self.current.ends()),
            arrival,
            end,
        ];
        due.into_iter().flatten().min()
    }

    fn is_finished(&self) -> bool {
        self.finished
    }
}

impl Shard {
    fn connected<R: Verbs>(&mut self, ring: &mut R, index: usize) {
        let Some(line) = self.lines[index].as_mut() else {
            return;
        };
        line.since = self.now;
        line.large = self.plan.kind() == Kind::Transfer;
        let mode = if line.large {
            Receive::Large
        } else {
            Receive::Small
        };
        ring.receive(line.socket, mode);
        if line.is_clear() {
            self.opened(ring, index);
        } else {
            line.stage = Stage::Handshaking;
            self.touch(index);
        }
    }

    fn due<R: Verbs>(&mut self, ring: &mut R, token: u64) {
        let (later, index) = Later::of(token);
        match later {
            Later::Begin => {
                self.users[index].begun = true;
                if self.is_handshakes() {
                    return self.free(ring, index);
                }
                for line in self.lines_of(index) {
                    self.connect_again(ring, line);
                }
            }
            Later::Think => {
                self.users[index].thinks = false;
                self.free(ring, index);
            }
            Later::Retry => self.connect_again(ring, index),
            Later::Ticket => self.ticket_overdue(index),
        }
    }

    /// A connection that stays, unless nobody needs it any more.
    fn connect_again<R: Verbs>(&mut self, ring: &mut R, index: usize) {
        let counted_out = self.left == Some(0) && self.now >= self.measured_from;
        if self.lines[index].is_none() && self.now < self.end && !counted_out {
            self.connect(ring, index, None);
        }
    }

    fn hand_over(&mut self) {
        let backlog = self
            .queue
            .as_ref()
            .map_or(0, |queue| queue.waiting() as u64);
        let past = self.current.turn(self.now, backlog);
        // Whoever started the run may be gone: then the process ends.
        let _ = self.reports.send(Report::Moment(self.index, past));
    }

    fn finish_if_done(&mut self) {
        let time_over = self.now >= self.end;
        let done = match &mut self.queue {
            Some(queue) => {
                let not_sent = if time_over { queue.give_up() } else { 0 };
                let over = queue.next().is_none() && queue.waiting() == 0;
                if not_sent > 0 {
                    let why = "due while every connection was busy or not open";
                    self.figures.count_errors(Class::NotSent, not_sent, why);
                    self.current.counts.failed += not_sent;
                }
                over && self.under_way == 0
            }
            None => time_over || (self.is_over() && self.under_way == 0),
        };
        if done && !self.finished {
            self.finished = true;
            self.count_unfinished();
            self.hand_over();
            let none = super::super::figures::Figures::new(0, false);
            let figures = Box::new(std::mem::replace(&mut self.figures, none));
            let _ = self.reports.send(Report::Done(self.index, figures));
        }
    }

    fn count_unfinished(&mut self) {
        for exchange in self
            .lines
            .iter()
            .flatten()
            .filter_map(|line| line.exchange.as_ref())
        {
            let waited = self.now.saturating_duration_since(exchange.sent);
            self.figures.unfinished += 1;
            self.figures.unfinished_longest = self.figures.unfinished_longest.max(waited);
        }
    }
}
