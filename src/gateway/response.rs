//! An answer's way out: relay ▸ http ▸ client; and the answers that the gateway gives itself.

use crate::observe::access::Record;
use crate::wire::Field;
use crate::wire::Put;
use crate::wire::http1::{self, Framing};
use crate::wire::relay::{Body, ResponseHead, StreamId};
use slab::Slab;
use std::time::Duration;

use super::client::{Client, Exchange, Phase, State};
use super::context::Context;
use super::fault::{self, Fault, Loss, Who};
use super::relay::Link;
use super::{request, retry};

/// A stream whose request is over on the client's side and not on the relay's: the caller resets it.
pub type Orphan = Option<(usize, StreamId)>;

/// Status of an exchange whose client left before an answer; never sent.
pub const CLIENT_GONE: u16 = 499;

/// Response fields that do not travel on: framing is written anew, and our names are ours.
fn is_dropped(name: &[u8], body: Body) -> bool {
    let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
    (body != Body::None && is(b"content-length"))
        || is(b"connection")
        || is(b"transfer-encoding")
        || is(b"tidegate-error")
        || is(b"tidegate-request-id")
}

/// A response head, interim or final.
pub fn head(
    client: &mut Client,
    link: usize,
    stream: StreamId,
    head: &ResponseHead<'_>,
    cx: &mut Context,
) {
    let Client { http, state, .. } = client;
    let Some(exchange) = state
        .exchange
        .as_mut()
        .filter(|exchange| exchange.is_on(link, stream))
    else {
        return;
    };
    exchange.begun = true;
    cx.last_request = Some(cx.now);
    retry::let_go(exchange, cx);
    let out = state.out.get_or_insert_with(|| cx.outgoing(state.layout));
    let id = exchange.id;
    let ours = Field {
        name: b"Tidegate-Request-Id",
        value: &id,
    };
    let body = head.body;
    let mut fields = head.fields.filter(|field| !is_dropped(field.name, body));
    if head.interim {
        http.send_interim(out, head.status, &mut fields);
    } else {
        exchange.status = head.status;
        let framing = match body {
            Body::None => Framing::None,
            Body::Length(n) => Framing::Length(n),
            Body::Unknown => Framing::Chunked,
        };
        http.send_head(out, head.status, head.reason, fields.chain([ours]), framing);
    }
    cx.mark_client(state);
}

/// Body bytes of a response. Gives back how many are done with: credit for the stream.
pub fn data(
    client: &mut Client,
    link: usize,
    stream: StreamId,
    bytes: &[u8],
    cx: &mut Context,
) -> usize {
    let Client { http, state, .. } = client;
    let Some(exchange) = state
        .exchange
        .as_mut()
        .filter(|exchange| exchange.is_on(link, stream))
    else {
        return bytes.len();
    };
    exchange.body_out += bytes.len() as u64;
    let out = state.out.get_or_insert_with(|| cx.outgoing(state.layout));
    let taken = if exchange.backlog() == 0 && out.staged() + bytes.len() <= exchange.stage() {
        http.send_data(out, bytes);
        bytes.len()
    } else {
        exchange.waiting.extend_from_slice(bytes);
        cx.buffered += bytes.len();
        0
    };
    cx.mark_client(state);
    taken
}

/// Moves waiting bytes into staging: called when the client's last send is complete. Gives back the stream's credit.
pub fn refill(client: &mut Client, links: &mut Slab<Link>, cx: &mut Context) {
    let Client { http, state, .. } = client;
    let Some(exchange) = state.exchange.as_mut() else {
        return;
    };
    let backlog = exchange.backlog();
    if backlog > 0 {
        let out = state.out.get_or_insert_with(|| cx.outgoing(state.layout));
        let moved = backlog.min(exchange.stage().saturating_sub(out.staged()));
        if moved == 0 {
            return;
        }
        http.send_data(
            out,
            &exchange.waiting[exchange.waiting_at..exchange.waiting_at + moved],
        );
        exchange.waiting_at += moved;
        cx.buffered -= moved;
        // The front is dropped only when it is the larger half: each byte is moved at most once more.
        if exchange.waiting_at * 2 >= exchange.waiting.len() {
            exchange.waiting.drain(..exchange.waiting_at);
            exchange.waiting_at = 0;
        }
        if let Some((link, stream)) = exchange.stream
            && let Some((session, out)) = links.get_mut(link).and_then(Link::session)
        {
            session.consumed(stream, moved, out);
            super::relay::mark(links, link, cx);
        }
    }
    if exchange.backlog() == 0
        && let Some(trailers) = exchange.end.take()
    {
        let mut trailers = trailers.iter().map(|(name, value)| Field { name, value });
        let orphan = finish(client, &mut trailers, cx);
        request::cancel(orphan, links, cx);
    }
}

/// END of the response: at once, or behind the bytes that wait.
pub fn end(
    client: &mut Client,
    link: usize,
    stream: StreamId,
    trailers: &mut dyn Iterator<Item = Field<'_>>,
    cx: &mut Context,
) -> Orphan {
    let exchange = client
        .state
        .exchange
        .as_mut()
        .filter(|exchange| exchange.is_on(link, stream))?;
    if exchange.backlog() > 0 {
        exchange.end = Some(
            trailers
                .map(|f| (f.name.to_vec(), f.value.to_vec()))
                .collect(),
        );
        return None;
    }
    finish(client, trailers, cx)
}

fn finish(
    client: &mut Client,
    trailers: &mut dyn Iterator<Item = Field<'_>>,
    cx: &mut Context,
) -> Orphan {
    let Client { http, state, .. } = client;
    let out = state.out.get_or_insert_with(|| cx.outgoing(state.layout));
    if !http.response_started() || !http.send_end(out, trailers) {
        // The upstream promised more than it sent, or ended before any head.
        return fail(
            http,
            state,
            Fault::UpstreamBroken,
            "the answer was cut short",
            cx,
        );
    }
    let exchange = state.exchange.as_mut()?;
    let stream = exchange.stream.take();
    // When both sides have ended, the session has freed the stream by itself.
    let orphan = if exchange.request_done { None } else { stream };
    close_exchange(state, None, cx);
    after_response(http, state, cx);
    orphan
}

/// What follows a complete response: the next request, or the connection's end.
fn after_response(http: &http1::Server, state: &mut State, cx: &mut Context) {
    if http.should_close() || state.finished {
        state.phase = Phase::Closing;
    } else {
        cx.resume.push(state.key);
    }
    cx.mark_client(state);
}

/// The stream was reset by the connector, or its link was lost: nothing may be sent on it any more. The request is
/// answered with the loss, or waits for [`retry::again`].
pub fn reset(
    client: &mut Client,
    link: usize,
    stream: StreamId,
    loss: Loss,
    detail: &str,
    cx: &mut Context,
) {
    let Client { http, state, .. } = client;
    let Some(mut exchange) = state
        .exchange
        .take_if(|exchange| exchange.is_on(link, stream))
    else {
        return;
    };
    exchange.stream = None;
    let lost = retry::take(state, &exchange, loss, detail, cx);
    state.exchange = Some(exchange);
    if !lost {
        let _none = fail(http, state, loss.fault, detail, cx);
        cx.mark_client(state);
    }
}

/// Answers with a fault: a problem document, or a cut when an answer is already on its way.
pub fn fail(
    http: &mut http1::Server,
    state: &mut State,
    fault: Fault,
    detail: &str,
    cx: &mut Context,
) -> Orphan {
    let row = fault.row();
    cx.stats.errors.add(row.code);
    if state.exchange.is_none() {
        state.exchange = Some(cx.exchange());
    }
    let exchange = state.exchange.as_mut()?;
    let orphan = exchange.stream.take();
    if http.response_started() {
        close_exchange(state, Some(fault), cx);
        state.phase = Phase::Broken;
        cx.mark_client(state);
        return orphan;
    }
    let id = exchange.id;
    let mut body = Vec::with_capacity(256);
    fault::write_body(row, detail, exchange.id(), &mut body);
    exchange.status = row.status;
    exchange.body_out = body.len() as u64;
    let field = |name: &'static str, value: &'static str| Field {
        name: name.as_bytes(),
        value: value.as_bytes(),
    };
    let retry = [b'0' + row.retry_after];
    let fields = [
        field("Content-Type", "application/problem+json"),
        field("Cache-Control", "no-store"),
        field("Tidegate-Error", row.code),
        Field {
            name: b"Tidegate-Request-Id",
            value: &id,
        },
    ];
    let retry_after = (row.retry_after > 0).then_some(Field {
        name: b"Retry-After",
        value: &retry,
    });
    let challenge = exchange
        .challenge
        .filter(|_| row.status == 401)
        .map(|challenge| Field {
            name: b"WWW-Authenticate",
            value: challenge.value().as_bytes(),
        });
    if row.close {
        http.close_after_response();
    }
    if !http.awaits_response() {
        http.give_up();
    }
    let out = state.out.get_or_insert_with(|| cx.outgoing(state.layout));
    http.send_head(
        out,
        row.status,
        row.reason.as_bytes(),
        fields.into_iter().chain(retry_after).chain(challenge),
        Framing::Length(body.len() as u64),
    );
    if !http.is_head_request() {
        http.send_data(out, &body);
    }
    http.send_end(out, std::iter::empty());
    close_exchange(state, Some(fault), cx);
    after_response(http, state, cx);
    orphan
}

/// Answers with 204: what was asked for is done.
pub fn done(http: &mut http1::Server, state: &mut State, cx: &mut Context) {
    let Some(exchange) = state.exchange.as_mut() else {
        return;
    };
    let id = exchange.id;
    exchange.status = 204;
    let out = state.out.get_or_insert_with(|| cx.outgoing(state.layout));
    let fields = [Field {
        name: b"Tidegate-Request-Id",
        value: &id,
    }];
    http.send_head(out, 204, b"No Content", fields, Framing::None);
    http.send_end(out, std::iter::empty());
    close_exchange(state, None, cx);
    after_response(http, state, cx);
}

/// Counts and logs the exchange, and puts it away.
pub fn close_exchange(state: &mut State, fault: Option<Fault>, cx: &mut Context) {
    let Some(exchange) = state.exchange.take() else {
        return;
    };
    let took = cx.now.saturating_duration_since(exchange.started);
    if exchange.status == CLIENT_GONE {
        cx.stats.requests_aborted += 1;
    } else {
        cx.stats.count_response(exchange.status);
    }
    cx.stats.request_time.add(took.as_micros() as u64);
    if cx
        .plan
        .access
        .wants(exchange.status, exchange.id[31].into())
    {
        write_line(state, &exchange, fault, took, cx);
    }
    cx.recycle_exchange(exchange);
}

/// Hands a record to the access log's thread.
fn write_line(
    state: &State,
    exchange: &Exchange,
    fault: Option<Fault>,
    took: Duration,
    cx: &mut Context,
) {
    let (method, target) = exchange
        .line
        .split_at(exchange.method_len.min(exchange.line.len()));
    let target = target.strip_prefix(b" ").unwrap_or(target);
    let site = cx.site_name(exchange.site);
    let began_us = cx.unix_us().saturating_sub(took.as_micros() as i64);
    let mut record = Record::new(
        began_us,
        exchange.id(),
        state.peer.ip().to_canonical(),
        site,
        method,
        target,
    );
    let upstream_error = if exchange.status >= 500 {
        Who::Upstream.name()
    } else {
        ""
    };
    record.status = exchange.status;
    record.code = fault.map_or("", |fault| fault.row().code);
    record.who = fault.map_or(upstream_error, |fault| fault.row().who.name());
    record.bytes_in = exchange.body_in;
    record.bytes_out = exchange.body_out;
    record.duration_us = took.as_micros() as u64;
    record.client_id = Some(exchange.client_id())
        .filter(|id| !id.is_empty())
        .map(Into::into);
    record.connector = cx.connector_name(exchange.connector);
    if let Some(log) = &cx.access
        && !log.send(record)
    {
        cx.stats.access_log_dropped += 1;
    }
}
