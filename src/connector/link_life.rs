//! A relay link's life on its shard: input and its frames, READY, flush, deadlines, loss.

use crate::ring::{Receive, RecvBuf, Verbs};
use crate::wire::relay::{self, Event, ResetCode, Session, StreamId};
use crate::wire::tls::Step;
use slab::Slab;
use std::time::Duration;

use super::context::{Context, Owner};
use super::exchange::{self, Exchange};
use super::link::{self, Link};
use super::notify;
use super::shard::{Connector, Message, TIMER_KIND};
use super::upstream::Upstream;

/// Settings that the gateway had no time for are published again after so many milliseconds, at random.
const PUBLISH_AGAIN_MS: std::ops::Range<u64> = 1000..3000;

impl Connector {
    pub(super) fn drop_link<R: Verbs>(&mut self, ring: &mut R, key: usize, why: &str) {
        if !self.links.contains(key) {
            return;
        }
        let mut link = self.links.remove(key);
        notify::lost(&mut link.state, &mut self.cx);
        let target = link.state.target;
        let lasted = link
            .state
            .ready_since
            .map(|since| self.cx.now.saturating_duration_since(since));
        // Either side said GOAWAY, and what ran is finished: that is no fault.
        let tokens: Vec<u32> = link.session.tokens().map(|(_, token)| token).collect();
        let leaving = self.draining.is_some() || self.cx.targets[target].off;
        let orderly = (link.state.away.is_some() || leaving) && tokens.is_empty();
        {
            let target = &self.cx.targets[target];
            let gateway = &self.cx.plan.gateways[target.gateway].address;
            let again = target.attempts > 0 && lasted.is_none();
            // A gateway that stays away is one line, then silence at this level: back-off would fill the log.
            if orderly {
                tracing::info!(gateway = %gateway.host, instance = target.instance, shard = target.shard, why, "link ended");
            } else if again && !link.state.refused {
                tracing::debug!(gateway = %gateway.host, instance = target.instance, shard = target.shard, why, "link lost");
            } else {
                tracing::warn!(gateway = %gateway.host, instance = target.instance, shard = target.shard, why, "link lost");
            }
        }
        self.cx.own(link.state.socket, Owner::Nobody);
        if !ring.send_in_flight(link.state.socket)
            && link.state.phase != link::Phase::Connecting
            && link.tls.wants_transmit()
            && let Ok(bytes) = link.tls.transmit(self.cx.outgoing(link.tls.layout()))
            && !bytes.is_empty()
        {
            ring.send(link.state.socket, bytes);
        }
        ring.close(link.state.socket);
        for token in tokens {
            self.drop_exchange(ring, token as usize);
        }
        let more = !self.cx.targets[target].addresses.is_empty()
            && lasted.is_none()
            && !link.state.refused;
        if more && self.draining.is_none() && !self.cx.targets[target].off {
            self.connect_target(ring, target);
        } else if let Some(delay) = link.state.away {
            self.cx.targets[target].left(self.cx.now, delay, &mut self.cx.random);
            self.arm_targets();
        } else {
            self.target_lost(target, lasted, link.state.refused);
        }
        self.cx.stats.links_lost += u64::from(lasted.is_some() && !orderly);
    }

    pub(super) fn link_received<R: Verbs>(&mut self, ring: &mut R, key: usize, mut buf: RecvBuf) {
        self.cx.stats.relay_bytes_in += buf.len() as u64;
        let mut used = 0;
        loop {
            let Connector {
                links,
                upstreams,
                exchanges,
                cx,
                ..
            } = self;
            let Some(link) = links.get_mut(key) else {
                return;
            };
            let Link {
                tls,
                session,
                state,
            } = link;
            cx.mark_link(state);
            let (outcome, ready) = match tls.next(&mut buf, &mut used) {
                Ok(Step::NeedMore) => break,
                Ok(Step::Closed) => (Err("the gateway closed the link".to_owned()), None),
                Ok(Step::Established(_)) => {
                    link::say_hello(tls, session, state, cx);
                    (Ok(()), None)
                }
                Ok(Step::Data(plain)) => {
                    frames(session, state, plain, upstreams, exchanges, cx, ring)
                }
                Err(error) => (Err(error.text), None),
            };
            if let Some(ready) = ready {
                self.link_ready(key, &ready);
            }
            if let Err(why) = outcome {
                return self.drop_link(ring, key, &why);
            }
        }
        self.notify_more(key);
        self.resume_drained(ring, key);
    }

    pub(super) fn link_ready(&mut self, key: usize, ready: &relay::Ready) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        link.state.phase = link::Phase::Ready;
        link.state.ready_since = Some(self.cx.now);
        let target = &self.cx.targets[link.state.target];
        let (gateway, instance, shard) = (target.gateway, target.instance, target.shard);
        tracing::info!(
            gateway = %self.cx.plan.gateways[gateway].address.host, instance, shard, of = ready.shards, "link ready"
        );
        self.cx.stats.links_opened += 1;
        // One link per instance carries the settings, and only when the gateway has others.
        if shard == 0 {
            let plan = self.cx.plan.clone();
            if ready.settings_hash == plan.document_hash {
                self.cx.settings_accepted[gateway] = true;
                self.cx.stats.settings_accepted += 1;
            } else if let Some((session, out)) = link.session() {
                session.publish(plan.document_hash, plan.document.clone(), out);
            }
        }
        self.cx.mark_link(&mut link.state);
        for sibling in &self.siblings {
            let _ = sibling.send(Message::Shards {
                gateway,
                instance,
                shards: ready.shards,
            });
        }
        if self.siblings.is_empty() {
            self.learn_shards(gateway, instance, ready.shards);
        }
    }

    /// Streams whose queue ran empty: their upstreams are read again.
    pub(super) fn resume_drained<R: Verbs>(&mut self, ring: &mut R, key: usize) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        while let Some((_, token)) = link.session.poll_drained() {
            let exchange = self.exchanges.get(token as usize);
            if let Some(upstream) = exchange
                .and_then(|e| e.upstream)
                .and_then(|key| self.upstreams.get_mut(key))
                && upstream.state.paused
            {
                upstream.state.paused = false;
                upstream.state.progress = self.cx.now;
                upstream.state.read(Receive::Large, ring);
                self.cx.mark_upstream(&mut upstream.state);
            }
        }
    }

    pub(super) fn flush_link<R: Verbs>(&mut self, ring: &mut R, key: usize) {
        let Connector { links, cx, .. } = self;
        let Some(link) = links.get_mut(key) else {
            return;
        };
        link.state.dirty = false;
        notify::fill(link, cx);
        if let Err(error) = link::flush(link, cx, ring) {
            return self.drop_link(ring, key, &error.text);
        }
        let at = link.deadline();
        if link.state.armed.is_none_or(|armed| at < armed) {
            link.state.armed = Some(at);
            cx.wheel.insert(
                at,
                TIMER_KIND | u64::from(link.state.stamp & 0x7fff_ffff) << 31 | key as u64,
            );
        }
        self.resume_drained(ring, key);
    }

    pub(super) fn link_due<R: Verbs>(&mut self, ring: &mut R, key: usize, stamp: u32) {
        let Connector { links, cx, .. } = self;
        let Some(link) = links
            .get_mut(key)
            .filter(|link| link.state.stamp & 0x7fff_ffff == stamp)
        else {
            return;
        };
        if link.state.armed.is_some_and(|armed| armed > cx.now) {
            return;
        }
        link.state.armed = None;
        cx.mark_link(&mut link.state);
        if link.deadline() > cx.now {
            return;
        }
        if link.state.phase != link::Phase::Ready {
            return self.drop_link(ring, key, "no READY in time");
        }
        let (plan, now) = (cx.plan.clone(), cx.now);
        let again = link.state.publish_at.take_if(|at| *at <= now).is_some();
        let Some((session, out)) = link.session() else {
            return;
        };
        if again {
            session.publish(plan.document_hash, plan.document.clone(), out);
        }
        if session.next_deadline() > now {
            return;
        }
        if let Err(error) = session.handle_timeout(cx.now, out) {
            self.drop_link(ring, key, &error.text);
        }
    }
}

/// What a record's frames led to: an error ends the link; READY is handled by the shard.
type FramesOutcome = (Result<(), String>, Option<relay::Ready>);

/// What the session is told once an event's borrow has ended.
enum Then {
    Nothing,
    Attach(StreamId, u32),
    Consumed(StreamId, usize),
    Reset(StreamId, exchange::Refusal),
}

/// Takes the frames in one record's plaintext.
fn frames<R: Verbs>(
    session: &mut Session<u32>,
    state: &mut link::State,
    plain: &[u8],
    upstreams: &mut Slab<Upstream>,
    exchanges: &mut Slab<Exchange>,
    cx: &mut Context,
    ring: &mut R,
) -> FramesOutcome {
    let link = notify::id(state);
    let Some(out) = state.out.as_mut() else {
        return (Err("data before HELLO".into()), None);
    };
    let mut used = 0;
    let mut ready = None;
    loop {
        let event = match session.next(plain, &mut used, cx.now, out) {
            Ok(Some(event)) => event,
            Ok(None) => return (Ok(()), ready),
            Err(error) => return (Err(error.text), ready),
        };
        let then = match event {
            Event::Open { stream, head } => {
                match exchange::begin(state.key, stream, &head, exchanges, upstreams, cx, ring) {
                    Ok(key) => Then::Attach(stream, key as u32),
                    Err(refusal) => Then::Reset(stream, refusal),
                }
            }
            Event::Data {
                stream,
                token,
                bytes,
            } => match exchange::on(exchanges, token as usize, stream) {
                Some(exchange) => {
                    Then::Consumed(stream, exchange::data(exchange, bytes, upstreams, cx))
                }
                None => Then::Consumed(stream, bytes.len()),
            },
            Event::End {
                stream,
                token,
                mut trailers,
            } => end_of_request(
                stream,
                token as usize,
                &mut trailers,
                upstreams,
                exchanges,
                cx,
                ring,
            ),
            Event::Reset { stream, token, .. } => {
                if exchange::on(exchanges, token as usize, stream).is_some() {
                    exchange::drop(token as usize, exchanges, upstreams, cx, ring);
                }
                Then::Nothing
            }
            Event::Ready(said) => {
                notify::ready(link, &mut state.notify, &said, cx);
                ready = Some(said);
                Then::Nothing
            }
            Event::Refused { text, .. } => {
                state.refused = true;
                return (Err(format!("the gateway refused the link: {text}")), ready);
            }
            Event::Published {
                accepted,
                text,
                hash,
            } if !accepted && text.starts_with(relay::BUSY) => {
                // A newer document may have been published since: then its own answer comes.
                if hash == cx.plan.document_hash {
                    let wait = Duration::from_millis(cx.random.u64(PUBLISH_AGAIN_MS));
                    state.publish_at = Some(cx.now + wait);
                    tracing::info!(gateway = %cx.plan.gateways[cx.targets[state.target].gateway].address.host, "the gateway judges other settings: ours are published again");
                }
                Then::Nothing
            }
            Event::Published {
                accepted,
                text,
                hash,
            } => {
                let (gateway, instance) = {
                    let target = &cx.targets[state.target];
                    (target.gateway, target.instance)
                };
                cx.heard_verdict(gateway, instance, hash, accepted, text);
                cx.settings_accepted[gateway] = accepted;
                *(if accepted {
                    &mut cx.stats.settings_accepted
                } else {
                    &mut cx.stats.settings_refused
                }) += 1;
                if accepted {
                    tracing::info!(gateway = %cx.plan.gateways[gateway].address.host, "settings accepted");
                } else {
                    tracing::error!(gateway = %cx.plan.gateways[gateway].address.host, reason = text, "settings refused");
                }
                Then::Nothing
            }
            // A gateway that goes away opens no more streams; its port is dialled again when the link has ended.
            Event::GoAway { delay, .. } => {
                state.away = Some(delay);
                Then::Nothing
            }
            Event::RoundTrip(_) => Then::Nothing,
            channels @ (Event::ChannelUp { .. }
            | Event::ChannelDown(_)
            | Event::Outcome { .. }
            | Event::Receipt(_)) => {
                notify::heard(link, channels, &mut state.notify, cx);
                Then::Nothing
            }
            Event::Hello(_)
            | Event::Head { .. }
            | Event::Publish { .. }
            | Event::ChannelClose(_)
            | Event::Notify { .. } => {
                return (
                    Err("the gateway sent what only a connector sends".into()),
                    ready,
                );
            }
        };
        match then {
            Then::Attach(stream, key) => session.attach(stream, key),
            Then::Consumed(stream, n) if n > 0 => session.consumed(stream, n, out),
            Then::Reset(stream, (code, text)) => session.reset(stream, code, &text, out),
            Then::Nothing | Then::Consumed(..) => {}
        }
    }
}

fn end_of_request<R: Verbs>(
    stream: StreamId,
    key: usize,
    trailers: &mut dyn Iterator<Item = crate::wire::Field<'_>>,
    upstreams: &mut Slab<Upstream>,
    exchanges: &mut Slab<Exchange>,
    cx: &mut Context,
    ring: &mut R,
) -> Then {
    let Some(exchange) = exchange::on(exchanges, key, stream) else {
        return Then::Nothing;
    };
    if exchange.response_done {
        // Answered before the request ended: now both have.
        exchanges.remove(key);
        return Then::Nothing;
    }
    if exchange::end(exchange, trailers, upstreams, cx) {
        return Then::Nothing;
    }
    exchange::drop(key, exchanges, upstreams, cx, ring);
    Then::Reset(
        stream,
        (
            ResetCode::Protocol,
            "the request's body is shorter than its length".into(),
        ),
    )
}
