//! The connections of a shard: how they open, carry requests and end.

use std::time::Duration;

use crate::ring::{ConnectOptions, Receive, Verbs};
use crate::wire::tls::{self, Established};

use super::super::figures::Class;
use super::super::line::{Broken, Came, Exchange, Line, Stage};
use super::super::scenario::words::span;
use super::{Later, NOBODY, PLAIN_MAX, RETRY, Shard, TICKET_PATIENCE};

impl Shard {
    /// Stages the request of a line's exchange.
    pub(super) fn ask(&mut self, index: usize) {
        let number = self.users[self.user_of(index)].number;
        let Some(line) = self.lines[index].as_mut() else {
            return;
        };
        let Some(exchange) = &line.exchange else {
            return;
        };
        let asked = &self.plan.members[exchange.pick.member];
        let path = &asked.paths[exchange.pick.path];
        let target = match path.fixed() {
            Some(target) => target,
            None => {
                self.target.clear();
                path.write(exchange.pick.number, &mut self.target);
                &self.target
            }
        };
        line.send_head(asked, target, number, &mut self.buffers);
        self.stage_body(index);
        self.touch(index);
    }

    pub(super) fn stage_body(&mut self, index: usize) {
        let measured = self.is_measured();
        let Some(line) = self.lines[index].as_mut() else {
            return;
        };
        let staged = line.stage_body(&self.body, &mut self.buffers);
        if staged > 0 {
            self.current.counts.body_sent += staged;
            if measured {
                self.figures.body_sent += staged;
            }
            self.touch(index);
        }
    }

    pub(super) fn connect<R: Verbs>(
        &mut self,
        ring: &mut R,
        index: usize,
        exchange: Option<Exchange>,
    ) {
        let at = index % self.ways.len();
        let address = self.plan.groups[at].address;
        let tls = match &self.ways[at].tls {
            Some((config, name)) => match tls::Connection::client(config, name.clone()) {
                Ok(tls) => Some(tls),
                Err(error) => return self.connect_failed(index, exchange, Class::Own, &error.text),
            },
            None => None,
        };
        let sources = &self.plan.sources;
        let source = sources
            .get(self.next_source % sources.len().max(1))
            .copied();
        self.next_source += self.plan.scenario.shards;
        let options = ConnectOptions {
            timeout: Some(self.plan.scenario.timeout),
            source,
            direct: self.plan.scenario.connections * self.ways.len() > PLAIN_MAX,
            ..ConnectOptions::default()
        };
        let socket = match ring.connect(address, &options) {
            Ok(socket) => socket,
            Err(error) => {
                let text = match source {
                    Some(source) => format!("from {source}: {error}"),
                    None => error.to_string(),
                };
                return self.connect_failed(index, exchange, Class::Connect, &text);
            }
        };
        self.figures.connects += 1;
        let by_socket = socket.index as usize;
        if by_socket >= self.owners.len() {
            self.owners.resize(by_socket + 1, NOBODY);
        }
        self.owners[by_socket] = index as u32;
        let mut line = Line::new(socket, tls, self.now);
        line.exchange = exchange;
        self.lines[index] = Some(line);
        self.arm(index);
    }

    /// A connection could not even be begun.
    fn connect_failed(
        &mut self,
        index: usize,
        exchange: Option<Exchange>,
        class: Class,
        text: &str,
    ) {
        self.failed(index, exchange, class, text);
        self.again(index);
    }

    /// Something went wrong with a request, or with a connection before one.
    fn failed(&mut self, index: usize, exchange: Option<Exchange>, class: Class, text: &str) {
        match exchange {
            Some(exchange) => {
                self.figures.members[exchange.pick.member].failed += 1;
                self.under_way -= 1;
                let user = self.user_of(index);
                self.users[user].busy = false;
            }
            // In a closed loop a connection is made for a request: of those that are counted it is one.
            None if self.now >= self.measured_from => match &mut self.left {
                Some(0) => return,
                Some(left) => *left -= 1,
                None => {}
            },
            None => {}
        }
        self.figures.count_errors(class, 1, text);
        self.current.counts.failed += 1;
    }

    /// After a failure: the connection is made again, or the user tries again, in a while.
    fn again(&mut self, index: usize) {
        let (later, index) = match self.is_handshakes() {
            false => (Later::Retry, index),
            true => {
                let user = self.user_of(index);
                self.users[user].thinks = true;
                (Later::Think, user)
            }
        };
        // A fixed rate waits for nobody; what is refused at once is only kept from going round within a turn.
        let patience = match (self.is_handshakes(), &self.queue) {
            (true, Some(_)) => Duration::ZERO,
            _ => RETRY,
        };
        self.later.insert(self.now + patience, later.token(index));
    }

    pub(super) fn take_line(&mut self, index: usize) -> Option<Line> {
        let line = self.lines[index].take()?;
        self.owners[line.socket.index as usize] = NOBODY;
        Some(line)
    }

    /// A connection ended by a fault.
    pub(super) fn break_off<R: Verbs>(&mut self, ring: &mut R, index: usize, broken: &Broken) {
        let Some(mut line) = self.take_line(index) else {
            return;
        };
        ring.close(line.socket);
        let exchange = line.exchange.take();
        let was_open = matches!(
            line.stage,
            Stage::Open | Stage::AwaitsTicket | Stage::Ending
        );
        if exchange.is_some() || !was_open {
            self.failed(index, exchange, broken.class, &broken.text);
            return self.again(index);
        }
        // Nobody waited for anything: a server may end a connection between two requests.
        self.renew(ring, index);
    }

    /// A connection ended in order.
    fn renew<R: Verbs>(&mut self, ring: &mut R, index: usize) {
        if self.is_handshakes() {
            let user = self.user_of(index);
            self.free(ring, user);
        } else {
            self.reconnect.push(index as u32);
        }
    }

    /// The server ends the connection.
    pub(super) fn peer_ended<R: Verbs>(&mut self, ring: &mut R, index: usize) {
        let Some(line) = self.lines[index].as_mut() else {
            return;
        };
        match line.finish() {
            Ok(true) => self.complete(ring, index),
            Ok(false) if line.exchange.is_some() => {
                let text = "closed before the answer".to_owned();
                let class = Class::BrokenOff;
                self.break_off(ring, index, &Broken { class, text });
            }
            Ok(false) => {
                if let Some(line) = self.take_line(index) {
                    ring.close(line.socket);
                    self.renew(ring, index);
                }
            }
            Err(broken) => self.break_off(ring, index, &broken),
        }
    }

    pub(super) fn touch(&mut self, index: usize) {
        if let Some(line) = self.lines[index].as_mut()
            && !line.dirty
        {
            line.dirty = true;
            self.dirty.push(index as u32);
        }
    }

    pub(super) fn arm(&mut self, index: usize) {
        if !std::mem::replace(&mut self.armed[index], true) {
            self.timeouts
                .insert(self.now + self.plan.scenario.timeout, index as u64);
        }
    }

    pub(super) fn flush<R: Verbs>(&mut self, ring: &mut R, index: usize) {
        let Some(line) = self.lines[index].as_mut() else {
            return;
        };
        line.dirty = false;
        if line.stage == Stage::Connecting || ring.send_in_flight(line.socket) {
            return;
        }
        match line.transmit(&mut self.buffers) {
            Ok(bytes) if bytes.is_empty() && line.stage == Stage::Ending => {
                self.let_go(ring, index);
            }
            Ok(bytes) if bytes.is_empty() => {}
            Ok(bytes) => ring.send(line.socket, bytes),
            Err(broken) => self.break_off(ring, index, &broken),
        }
    }

    /// The end of a connection of a handshake run: a reset, so that neither side keeps its port for a minute.
    pub(super) fn let_go<R: Verbs>(&mut self, ring: &mut R, index: usize) {
        if let Some(line) = self.take_line(index) {
            ring.abort(line.socket);
            self.renew(ring, index);
        }
    }

    pub(super) fn received<R: Verbs>(&mut self, ring: &mut R, index: usize, input: &mut [u8]) {
        let measured = self.is_measured();
        let count = input.len() as u64;
        self.current.counts.bytes_received += count;
        if measured {
            self.figures.bytes_received += count;
        }
        let tickets = self.tickets_of(index);
        let mut used = 0;
        loop {
            let Some(line) = self.lines[index].as_mut() else {
                return;
            };
            match line.take(input, &mut used) {
                Ok(Came::NeedMore) => break,
                Ok(Came::Established(established)) => {
                    self.established(ring, index, &established);
                }
                Ok(Came::Part { body, large }) => {
                    if large && !line.large {
                        line.large = true;
                        ring.receive(line.socket, Receive::Large);
                    }
                    self.count_body(body, measured);
                }
                Ok(Came::Answer { body }) => {
                    self.count_body(body, measured);
                    self.complete(ring, index);
                }
                Ok(Came::Closed) => return self.peer_ended(ring, index),
                Err(broken) => {
                    self.say_goodbye(ring, index);
                    return self.break_off(ring, index, &broken);
                }
            }
        }
        if self.tickets_of(index) > tickets
            && let Some(line) = self.lines[index].as_mut()
        {
            line.awaits_ticket = false;
            if line.stage == Stage::AwaitsTicket {
                self.close(index);
            }
        }
        self.touch(index);
    }

    /// Tickets that came for this line's way so far.
    fn tickets_of(&self, index: usize) -> u64 {
        let way = &self.ways[index % self.ways.len()];
        way.tickets.as_ref().map_or(0, |tickets| tickets.came())
    }

    /// The connection of a handshake has served its purpose.
    fn end_handshake(&mut self, index: usize) {
        let Some(line) = self.lines[index].as_mut() else {
            return;
        };
        if line.awaits_ticket {
            line.stage = Stage::AwaitsTicket;
            line.since = self.now;
            let patience = self.now + TICKET_PATIENCE;
            self.later.insert(patience, Later::Ticket.token(index));
        } else {
            self.close(index);
        }
    }

    /// close_notify, and when that is sent the end.
    fn close(&mut self, index: usize) {
        if let Some(line) = self.lines[index].as_mut() {
            line.stage = Stage::Ending;
            line.since = self.now;
            line.close();
        }
        self.touch(index);
        self.arm(index);
    }

    /// A ticket was waited for long enough: the server gives none, or none any more.
    pub(super) fn ticket_overdue(&mut self, index: usize) {
        let now = self.now;
        let overdue = self.lines[index].as_ref().is_some_and(|line| {
            line.stage == Stage::AwaitsTicket && now >= line.since + TICKET_PATIENCE
        });
        if overdue {
            self.close(index);
        }
    }

    /// A timeout that was armed: over, or later because something moved.
    pub(super) fn timed_out<R: Verbs>(&mut self, ring: &mut R, index: usize) {
        let timeout = self.plan.scenario.timeout;
        self.armed[index] = false;
        let Some(line) = &self.lines[index] else {
            return;
        };
        let Some(deadline) = line.deadline(timeout) else {
            return;
        };
        if deadline > self.now {
            self.armed[index] = true;
            return self.timeouts.insert(deadline, index as u64);
        }
        let (class, what) = match line.stage {
            Stage::Connecting => (Class::Connect, "no connection"),
            Stage::Handshaking => (Class::Handshake, "no handshake"),
            Stage::Ending | Stage::AwaitsTicket => return self.let_go(ring, index),
            Stage::Open => (Class::Timeout, "no answer"),
        };
        let text = format!("{what} in {}", span::text(timeout));
        self.break_off(ring, index, &Broken { class, text });
    }

    fn count_body(&mut self, body: u64, measured: bool) {
        self.current.counts.body_received += body;
        if measured {
            self.figures.body_received += body;
        }
    }

    /// An alert, if TLS has one to send.
    fn say_goodbye<R: Verbs>(&mut self, ring: &mut R, index: usize) {
        if let Some(line) = self.lines[index].as_mut()
            && !ring.send_in_flight(line.socket)
            && let Ok(alert) = line.transmit(&mut self.buffers)
            && !alert.is_empty()
        {
            ring.send(line.socket, alert);
        }
    }

    fn established<R: Verbs>(&mut self, ring: &mut R, index: usize, session: &Established) {
        if session.resumed {
            self.figures.handshakes_resumed += 1;
        } else {
            self.figures.handshakes_full += 1;
        }
        if let Some(line) = self.lines[index].as_mut() {
            // A TLS 1.2 session is there with the handshake.
            line.awaits_ticket = self.plan.scenario.resumed && !session.tls12;
        }
        self.opened(ring, index);
    }

    /// A connection can carry requests.
    pub(super) fn opened<R: Verbs>(&mut self, ring: &mut R, index: usize) {
        let Some(line) = self.lines[index].as_mut() else {
            return;
        };
        line.stage = Stage::Open;
        line.since = self.now;
        match (self.is_handshakes(), self.plan.scenario.ask) {
            (true, true) => self.ask(index),
            (true, false) => self.complete(ring, index),
            (false, _) => {
                let user = self.user_of(index);
                self.free(ring, user);
            }
        }
    }

    /// The answer is complete, or the handshake that was asked for.
    pub(super) fn complete<R: Verbs>(&mut self, ring: &mut R, index: usize) {
        let Some(exchange) = self.lines[index]
            .as_mut()
            .and_then(|line| line.exchange.take())
        else {
            return;
        };
        self.record(&exchange);
        self.under_way -= 1;
        let user = self.user_of(index);
        self.users[user].busy = false;
        if !exchange.pick.think.is_zero() {
            self.users[user].thinks = true;
            self.later
                .insert(self.now + exchange.pick.think, Later::Think.token(user));
        }
        if self.is_handshakes() {
            return self.end_handshake(index);
        }
        let reusable = self.lines[index].as_ref().is_some_and(Line::is_reusable);
        if reusable {
            self.free(ring, user);
        } else if let Some(line) = self.take_line(index) {
            ring.close(line.socket);
            self.renew(ring, index);
        }
    }
}
