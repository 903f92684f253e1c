//! Requests that wait for a link of their site, or for its first settings: bounded in number and time, then 503.

use crate::ring::Verbs;
use crate::wire::Field;
use crate::wire::http1::{Fields, Framing, RequestHead};
use slab::Slab;
use std::collections::{BTreeMap, HashMap};

use super::channel::own::Own;
use super::client::{Client, Exchange, State};
use super::context::Context;
use super::fault::Fault;
use super::plan::{HELD_BODY, HELD_FOR_KEY, HELD_MAX, HELD_OF_SITE};
use super::relay::{self, Link};
use super::{request, retry};

/// A request head as the stages read it: fresh from the wire, or held.
#[derive(Clone, Copy)]
pub struct Incoming<'a> {
    pub method: &'a [u8],
    /// Origin form.
    pub target: &'a [u8],
    pub host: &'a [u8],
    pub framing: Framing,
    pub expect_continue: bool,
    pub http10: bool,
    wire: Option<Fields<'a>>,
    held: &'a [(Vec<u8>, Vec<u8>)],
}

impl<'a> Incoming<'a> {
    pub fn of(head: &RequestHead<'a>) -> Incoming<'a> {
        Incoming {
            method: head.method,
            target: head.origin_form(),
            host: head.host,
            framing: head.framing,
            expect_continue: head.expect_continue,
            http10: head.http10,
            wire: Some(head.fields),
            held: &[],
        }
    }

    /// End-to-end fields, as they came.
    pub fn fields(&self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        let wire = self.wire.into_iter().flat_map(Fields::end_to_end);
        wire.chain(self.held.iter().map(|(name, value)| Field { name, value }))
    }
}

/// An owned copy of a request head, and the first of its body.
pub struct HeldRequest {
    method: Vec<u8>,
    target: Vec<u8>,
    host: Vec<u8>,
    framing: Framing,
    expect_continue: bool,
    http10: bool,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// Body bytes that came while it waited.
    early: Vec<u8>,
    trailers: Vec<(Vec<u8>, Vec<u8>)>,
    ticket: Ticket,
}

impl HeldRequest {
    fn new(head: &Incoming<'_>, ticket: Ticket) -> HeldRequest {
        HeldRequest {
            method: head.method.to_vec(),
            target: head.target.to_vec(),
            host: head.host.to_vec(),
            framing: head.framing,
            expect_continue: head.expect_continue,
            http10: head.http10,
            fields: head
                .fields()
                .map(|f| (f.name.to_vec(), f.value.to_vec()))
                .collect(),
            early: Vec::new(),
            trailers: Vec::new(),
            ticket,
        }
    }

    pub fn head(&self) -> Incoming<'_> {
        Incoming {
            method: &self.method,
            target: &self.target,
            host: &self.host,
            framing: self.framing,
            expect_continue: self.expect_continue,
            http10: self.http10,
            wire: None,
            held: &self.fields,
        }
    }
    /// Body bytes that came. False: no more of them are wanted.
    pub fn keep(&mut self, bytes: &[u8]) -> bool {
        self.early.extend_from_slice(bytes);
        self.early.len() <= HELD_BODY
    }

    /// The body's end.
    pub fn end<'f>(&mut self, trailers: impl Iterator<Item = Field<'f>>) {
        self.trailers = trailers
            .map(|f| (f.name.to_vec(), f.value.to_vec()))
            .collect();
    }
}

/// The requests of a shard that wait, in the order of their arrival.
#[derive(Default)]
pub struct Held {
    /// Clients (key, stamp) by ticket.
    clients: BTreeMap<u64, (usize, u32)>,
    next: u64,
    of_site: HashMap<u32, usize>,
    for_key: usize,
}

/// A request's place among those that wait; given back with [`Held::leave`].
#[derive(Debug)]
struct Ticket {
    number: u64,
    site: u32,
    /// It waits for a key that nobody knows so far.
    for_key: bool,
}

impl Held {
    pub fn waiting(&self) -> usize {
        self.clients.len()
    }

    /// None: no room, for this site or at all.
    fn enter(&mut self, client: (usize, u32), site: u32, for_key: bool) -> Option<Ticket> {
        let same_site = self.of_site.get(&site).copied().unwrap_or(0);
        let full = self.clients.len() >= HELD_MAX
            || same_site >= HELD_OF_SITE
            || for_key && self.for_key >= HELD_FOR_KEY;
        if full {
            return None;
        }
        let number = self.next;
        self.next += 1;
        self.clients.insert(number, client);
        self.of_site.insert(site, same_site + 1);
        self.for_key += usize::from(for_key);
        Some(Ticket {
            number,
            site,
            for_key,
        })
    }

    fn leave(&mut self, ticket: &Ticket) {
        self.clients.remove(&ticket.number);
        self.for_key -= usize::from(ticket.for_key);
        if let Some(count) = self.of_site.get_mut(&ticket.site) {
            *count -= 1;
            if *count == 0 {
                self.of_site.remove(&ticket.site);
            }
        }
    }

    /// It goes on waiting, maybe for something else.
    fn stay(&mut self, ticket: &mut Ticket, for_key: bool) {
        self.for_key -= usize::from(ticket.for_key);
        self.for_key += usize::from(for_key);
        ticket.for_key = for_key;
    }

    /// The first from this ticket on.
    fn from(&self, ticket: u64) -> Option<(u64, (usize, u32))> {
        let (ticket, client) = self.clients.range(ticket..).next()?;
        Some((*ticket, *client))
    }
}

/// Holds a request that could not begin, if what it lacks may come. False: it is to be answered.
pub fn hold(
    head: &Incoming<'_>,
    fault: Fault,
    state: &State,
    exchange: &mut Exchange,
    cx: &mut Context,
) -> bool {
    if !may_come(fault) {
        return false;
    }
    let client = (state.key, state.stamp);
    let Some(ticket) = cx.held.enter(client, exchange.site, exchange.bad_token) else {
        return false;
    };
    exchange.wants = fault;
    // Its OPEN is written anew when it begins.
    exchange.open.clear(0);
    exchange.held = Some(Box::new(HeldRequest::new(head, ticket)));
    true
}

/// What the request lacks may come while it waits.
fn may_come(fault: Fault) -> bool {
    matches!(fault, Fault::NoConnector | Fault::TrustUnavailable)
}

/// The request is over.
pub fn let_go(exchange: &mut Exchange, cx: &mut Context) {
    if let Some(held) = exchange.held.take() {
        cx.held.leave(&held.ticket);
    }
}

/// A link or a snapshot came: tries held requests again, in the order of their arrival.
pub fn retry_held<R: Verbs>(
    clients: &mut Slab<Client>,
    links: &mut Slab<Link>,
    cx: &mut Context,
    ring: &mut R,
) {
    let mut next = 0;
    while let Some((ticket, (key, stamp))) = cx.held.from(next) {
        next = ticket + 1;
        if let Some(client) = clients.get_mut(key)
            && client.state.stamp == stamp
        {
            try_again(client, links, cx, ring);
        }
    }
}

fn try_again<R: Verbs>(
    client: &mut Client,
    links: &mut Slab<Link>,
    cx: &mut Context,
    ring: &mut R,
) {
    let Client { http, state, .. } = client;
    let Some(mut exchange) = state.exchange.take() else {
        return;
    };
    let Some(mut held) = exchange.held.take() else {
        state.exchange = Some(exchange);
        return;
    };
    match request::begin(&held.head(), state, &mut exchange, links, cx) {
        Ok(()) => {
            cx.held.leave(&held.ticket);
            send_early(&held, &mut exchange, links, cx);
            if exchange.own.is_some() {
                // What is left to do with it is done where its bytes come.
                cx.resume.push(state.key);
            }
            state.exchange = Some(exchange);
            cx.mark_client(state);
            request::resume(client, ring);
        }
        Err((fault, _)) if may_come(fault) => {
            cx.held.stay(&mut held.ticket, exchange.bad_token);
            exchange.wants = fault;
            exchange.held = Some(held);
            state.exchange = Some(exchange);
        }
        Err((fault, detail)) => {
            cx.held.leave(&held.ticket);
            state.exchange = Some(exchange);
            request::refuse(http, state, fault, &detail, links, cx);
        }
    }
}

/// What came while the request was held follows its head.
fn send_early(
    held: &HeldRequest,
    exchange: &mut Exchange,
    links: &mut Slab<Link>,
    cx: &mut Context,
) {
    if let Some(Own::Receipt(body)) = exchange.own.as_deref_mut() {
        body.extend_from_slice(&held.early);
    }
    let Some((link, stream)) = exchange.stream else {
        return;
    };
    if let Some((session, out)) = links.get_mut(link).and_then(Link::session) {
        if !held.early.is_empty() {
            session.send_data(stream, &held.early, out);
            retry::keep(exchange, &held.early, cx);
        }
        if exchange.request_done {
            let trailers = held.trailers.iter();
            let mut trailers = trailers.map(|(name, value)| Field { name, value });
            session.send_end(stream, &mut trailers, out);
        }
    }
    if !held.trailers.is_empty() {
        // They are not kept.
        retry::let_go(exchange, cx);
    }
    relay::mark(links, link, cx);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(held: &mut Held, site: u32, for_key: bool) -> Vec<Ticket> {
        (0..)
            .map_while(|n| held.enter((n, 0), site, for_key))
            .collect()
    }

    #[test]
    fn one_site_takes_half_the_room_and_unknown_keys_little() {
        let mut held = Held::default();
        let keys = fill(&mut held, 7, true);
        assert_eq!(keys.len(), HELD_FOR_KEY);
        let same = fill(&mut held, 7, false);
        assert_eq!(keys.len() + same.len(), HELD_OF_SITE);
        assert_eq!(fill(&mut held, 8, false).len(), HELD_OF_SITE);
        assert_eq!(held.waiting(), HELD_MAX);
        assert!(held.enter((0, 0), 9, false).is_none());
    }

    #[test]
    fn who_leaves_makes_room_wherever_it_stood() {
        let mut held = Held::default();
        let tickets = fill(&mut held, 0, false);
        let keys = fill(&mut held, 1, true);
        for ticket in tickets.iter().skip(1).step_by(2).chain(&keys) {
            held.leave(ticket);
        }
        assert_eq!(held.waiting(), HELD_OF_SITE / 2);
        assert_eq!(fill(&mut held, 0, false).len(), HELD_OF_SITE / 2);
        assert_eq!(fill(&mut held, 1, true).len(), HELD_FOR_KEY);
    }

    #[test]
    fn those_that_stay_keep_their_order() {
        let mut held = Held::default();
        let mut first = held.enter((1, 1), 0, false).unwrap();
        held.enter((2, 2), 0, false).unwrap();
        held.stay(&mut first, true);
        assert_eq!((held.for_key, held.waiting()), (1, 2));
        let (ticket, client) = held.from(0).unwrap();
        assert_eq!(client, (1, 1));
        assert_eq!(held.from(ticket + 1).unwrap().1, (2, 2));
    }
}
