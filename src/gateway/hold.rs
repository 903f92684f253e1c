//! Requests that wait for a link of their site, or for its first settings: bounded in number and time, then 503.

use crate::ring::Verbs;
use crate::wire::Field;
use crate::wire::http1::{Fields, Framing, RequestHead};
use slab::Slab;

use super::client::{Client, Exchange, State};
use super::context::Context;
use super::fault::Fault;
use super::plan::{HELD_BODY, HELD_MAX};
use super::relay::{self, Link};
use super::{request, response, retry};

/// A request head as the stages read it: fresh from the wire, or held.
#[derive(Clone, Copy)]
pub struct Incoming<'a> {
    pub method: &'a [u8],
    /// Origin form.
    pub target: &'a [u8],
    pub host: &'a [u8],
    pub framing: Framing,
    pub expect_continue: bool,
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
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// Body bytes that came while it waited.
    early: Vec<u8>,
}

impl HeldRequest {
    pub fn new(head: &Incoming<'_>) -> HeldRequest {
        HeldRequest {
            method: head.method.to_vec(),
            target: head.target.to_vec(),
            host: head.host.to_vec(),
            framing: head.framing,
            expect_continue: head.expect_continue,
            fields: head
                .fields()
                .map(|f| (f.name.to_vec(), f.value.to_vec()))
                .collect(),
            early: Vec::new(),
        }
    }

    pub fn head(&self) -> Incoming<'_> {
        Incoming {
            method: &self.method,
            target: &self.target,
            host: &self.host,
            framing: self.framing,
            expect_continue: self.expect_continue,
            wire: None,
            held: &self.fields,
        }
    }
    /// Body bytes that came. False: no more of them are wanted.
    pub fn keep(&mut self, bytes: &[u8]) -> bool {
        self.early.extend_from_slice(bytes);
        self.early.len() <= HELD_BODY
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
    let may_come = matches!(fault, Fault::NoConnector | Fault::TrustUnavailable);
    if !may_come || cx.held.len() >= HELD_MAX {
        return false;
    }
    exchange.wants = fault;
    exchange.held = Some(Box::new(HeldRequest::new(head)));
    cx.held.push_back((state.key, state.stamp));
    true
}

/// A link or a snapshot came: tries held requests again, in the order of their arrival.
pub fn retry_held<R: Verbs>(
    clients: &mut Slab<Client>,
    links: &mut Slab<Link>,
    cx: &mut Context,
    ring: &mut R,
) {
    for _ in 0..cx.held.len() {
        let Some((key, stamp)) = cx.held.pop_front() else {
            break;
        };
        let Some(client) = clients
            .get_mut(key)
            .filter(|client| client.state.stamp == stamp)
        else {
            continue;
        };
        let Client { http, state, .. } = client;
        let Some(mut exchange) = state.exchange.take() else {
            continue;
        };
        let Some(held) = exchange.held.take() else {
            state.exchange = Some(exchange);
            continue;
        };
        let outcome = request::begin(&held.head(), state, &mut exchange, links, cx);
        match outcome {
            Ok(()) => {
                send_early(&held, &mut exchange, links, cx);
                state.exchange = Some(exchange);
                cx.mark_client(state);
                request::resume(client, ring);
            }
            Err((fault @ (Fault::NoConnector | Fault::TrustUnavailable), _)) => {
                exchange.wants = fault;
                exchange.held = Some(held);
                state.exchange = Some(exchange);
                cx.held.push_back((key, stamp));
            }
            Err((fault, detail)) => {
                state.exchange = Some(exchange);
                let orphan = response::fail(http, state, fault, &detail, cx);
                request::cancel(orphan, links, cx);
            }
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
    let Some((link, stream)) = exchange.stream else {
        return;
    };
    if let Some((session, out)) = links.get_mut(link).and_then(Link::session) {
        if !held.early.is_empty() {
            session.send_data(stream, &held.early, out);
            retry::keep(exchange, &held.early, cx);
        }
        if exchange.request_done {
            session.send_end(stream, &mut std::iter::empty(), out);
        }
    }
    relay::mark(links, link, cx);
}
