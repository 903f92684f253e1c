//! A relay link's life on its shard: input, flush, deadlines, loss, and its move from one shard to another.

use crate::ring::{Receive, RecvBuf, Verbs};

use super::fault::Loss;
use super::links::{self, Moving};
use super::relay::{self};
use super::shard::{Gateway, Owner, STAMP_BITS, TIMER_LINK};
use super::{hold, request, response, retry};

impl Gateway {
    pub(super) fn link_received<R: Verbs>(&mut self, ring: &mut R, key: usize, mut buf: RecvBuf) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        if link.state.phase == relay::Phase::Moving {
            link.state.unread.extend_from_slice(&buf);
            return;
        }
        self.cx.stats.relay_bytes_in += buf.len() as u64;
        self.link_input(ring, key, &mut buf);
    }

    pub(super) fn link_input<R: Verbs>(&mut self, ring: &mut R, key: usize, input: &mut [u8]) {
        let Gateway {
            clients,
            links,
            channels,
            cx,
            shared,
            ..
        } = self;
        let Some(link) = links.get_mut(key) else {
            return;
        };
        cx.mark_link(&mut link.state);
        let outcome = links::input(link, input, clients, channels, cx, shared);
        match outcome {
            Ok(links::Next::Continue) => {}
            Ok(links::Next::Ready) => {
                hold::retry_held(clients, links, cx, ring);
                self.begin_list(key);
            }
            Ok(links::Next::Move) => {
                if let Some(link) = links.get_mut(key) {
                    ring.detach(link.state.socket);
                }
            }
            Ok(links::Next::Ended) => self.drop_link(ring, key, "the connector ended the link"),
            Err(why) => self.drop_link(ring, key, &why),
        }
        retry::again(&mut self.clients, &mut self.links, &mut self.cx);
        self.resume_drained(ring, key);
        self.waits_more(ring, key);
    }

    /// Streams whose queue ran empty: their clients are read again.
    pub(super) fn resume_drained<R: Verbs>(&mut self, ring: &mut R, key: usize) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        while let Some((_, token)) = link.session.poll_drained() {
            if let Some(client) = self.clients.get_mut(token as usize) {
                request::resume(client, ring);
                self.cx.mark_client(&mut client.state);
            }
        }
    }

    pub(super) fn drop_link<R: Verbs>(&mut self, ring: &mut R, key: usize, why: &str) {
        if !self.links.contains(key) {
            return;
        }
        let mut link = self.links.remove(key);
        let state = &link.state;
        let ready = state.phase == relay::Phase::Ready;
        tracing::info!(
            connector = link.name(), peer = %state.peer, shard = self.cx.shard, ready, why, "link closed"
        );
        self.own(link.state.socket, Owner::Nobody);
        if ready {
            self.cx.sites[link.state.site as usize].remove(key);
            self.cx.stats.links_lost += u64::from(!link.is_done());
            self.shared.link_closed(&link, self.cx.shard, self.cx.now);
        }
        // The alert or refusal that says why, if the socket takes it at once.
        if !ring.send_in_flight(link.state.socket)
            && link.tls.wants_transmit()
            && let Ok(bytes) = link.tls.transmit(self.cx.outgoing(link.tls.layout()))
            && !bytes.is_empty()
        {
            ring.send(link.state.socket, bytes);
        }
        ring.close(link.state.socket);
        let why = "the link to the connector was lost";
        for (stream, token) in link.session.tokens() {
            if let Some(client) = self.clients.get_mut(token as usize) {
                response::reset(client, key, stream, Loss::LINK, why, &mut self.cx);
            }
        }
        self.cx.stats.links -= u64::from(ready);
        retry::again(&mut self.clients, &mut self.links, &mut self.cx);
    }

    pub(super) fn flush_link<R: Verbs>(&mut self, ring: &mut R, key: usize) {
        let Gateway { links, cx, .. } = self;
        let Some(link) = links.get_mut(key) else {
            return;
        };
        link.state.dirty = false;
        if let Err(error) = relay::flush(link, cx, ring) {
            return self.drop_link(ring, key, &error.text);
        }
        if link.state.phase == relay::Phase::Closing && !ring.send_in_flight(link.state.socket) {
            return self.drop_link(ring, key, "refused");
        }
        if link.is_done() && !ring.send_in_flight(link.state.socket) {
            link.tls.close();
            return self.drop_link(ring, key, "the connector drained");
        }
        let at = link.deadline();
        if link.state.armed.is_none_or(|armed| at < armed) {
            link.state.armed = Some(at);
            cx.wheel.insert(
                at,
                TIMER_LINK | u64::from(link.state.stamp & STAMP_BITS) << 31 | key as u64,
            );
        }
        self.catch_up(key);
        self.resume_drained(ring, key);
    }

    pub(super) fn link_due<R: Verbs>(&mut self, ring: &mut R, key: usize, stamp: u32) {
        let Gateway { links, cx, .. } = self;
        let Some(link) = links
            .get_mut(key)
            .filter(|link| link.state.stamp & STAMP_BITS == stamp)
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
        if link.state.phase != relay::Phase::Ready {
            return self.drop_link(ring, key, "no READY in time");
        }
        let Some((session, out)) = link.session() else {
            return;
        };
        if let Err(error) = session.handle_timeout(cx.now, out) {
            self.drop_link(ring, key, &error.text);
        }
    }

    pub(super) fn adopt<R: Verbs>(&mut self, ring: &mut R, moving: Moving) {
        let Ok(socket) = ring.adopt(moving.fd) else {
            return;
        };
        let key = self.insert_link(
            moving.tls,
            moving.session,
            socket,
            moving.peer,
            relay::Phase::Hello,
        );
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        link.state.out = Some(self.cx.outgoing(link.tls.layout()));
        link.state.certificate_name = moving.certificate_name;
        link.state.chain = moving.chain;
        link.state.judged_by = moving.judged_by;
        ring.receive(socket, Receive::Large);
        match links::hello(link, moving.hello, &mut self.cx, &self.shared) {
            links::Next::Ready => {
                hold::retry_held(&mut self.clients, &mut self.links, &mut self.cx, ring);
                self.begin_list(key);
            }
            _ => relay::mark(&mut self.links, key, &mut self.cx),
        }
        let mut unread = moving.unread;
        if !unread.is_empty() {
            self.link_input(ring, key, &mut unread);
        }
        relay::mark(&mut self.links, key, &mut self.cx);
    }
}
