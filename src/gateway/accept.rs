//! Stage `accept`: sockets become clients and links, within the process's limits.

use crate::ring::{Receive, SocketId, Verbs};
use crate::wire::http1;
use crate::wire::relay::{Role, Session};
use crate::wire::tls::{self};
use std::net::SocketAddr;

use super::client::{self, Client, Phase};
use super::links::{self};
use super::relay::{self, Link};
use super::shard::{Gateway, Owner};

impl Gateway {
    pub(super) fn accept_client<R: Verbs>(
        &mut self,
        ring: &mut R,
        socket: SocketId,
        peer: SocketAddr,
    ) {
        self.cx.stats.accepted += 1;
        let plan = self.cx.plan.clone();
        let address = peer.ip().to_canonical();
        let limit = plan.connections_per_address;
        let same = self.cx.per_address.get(&address).copied().unwrap_or(0);
        if same as usize >= limit {
            self.cx.stats.refused_address += 1;
            return ring.abort(socket);
        }
        if self.clients.len() >= plan.connections || self.draining.is_some() {
            self.cx.stats.refused_limit += 1;
            return ring.abort(socket);
        }
        let Ok(tls) = tls::Connection::server(&plan.server_tls) else {
            self.cx.stats.handshakes_failed += 1;
            return ring.abort(socket);
        };
        if limit != usize::MAX {
            *self.cx.per_address.entry(address).or_insert(0) += 1;
        }
        let (stamp, now) = (self.cx.stamp(), self.cx.now);
        let layout = tls.layout();
        let key = self.clients.vacant_key();
        let state = client::State {
            key,
            socket,
            layout,
            stamp,
            peer,
            address: address.to_string().into(),
            sni: None,
            chain: None,
            last_token: None,
            bad_tokens: 0,
            phase: Phase::Handshake,
            out: None,
            exchange: None,
            reading: Receive::Small,
            dirty: false,
            finished: false,
            progress: now,
            head_since: Some(now),
            armed: None,
            drained: 0,
        };
        self.clients.insert(Client {
            tls,
            http: http1::Server::new(plan.http),
            state,
        });
        self.own(socket, Owner::Client(key));
        ring.receive(socket, Receive::Small);
        if let Some(client) = self.clients.get_mut(key) {
            self.cx.mark_client(&mut client.state);
        }
        self.cx.stats.connections = self.clients.len() as u64;
    }

    pub(super) fn accept_link<R: Verbs>(
        &mut self,
        ring: &mut R,
        socket: SocketId,
        peer: SocketAddr,
    ) {
        let Ok(tls) = tls::Connection::server(&self.cx.plan.relay_tls) else {
            return ring.abort(socket);
        };
        if self.links.len() >= links::LINKS_MAX || self.draining.is_some() {
            return ring.abort(socket);
        }
        let session = Session::new(Role::Gateway, links::limits(), self.cx.now);
        let key = self.insert_link(tls, session, socket, peer, relay::Phase::Handshake);
        ring.receive(socket, Receive::Large);
        relay::mark(&mut self.links, key, &mut self.cx);
    }

    pub(super) fn insert_link(
        &mut self,
        tls: tls::Connection,
        session: Session<u32>,
        socket: SocketId,
        peer: SocketAddr,
        phase: relay::Phase,
    ) -> usize {
        let stamp = self.cx.stamp();
        let key = self.links.vacant_key();
        self.links.insert(Link {
            tls,
            session,
            state: relay::State {
                key,
                stamp,
                socket,
                peer,
                phase,
                out: None,
                certificate_name: String::new(),
                chain: Vec::new(),
                hello: None,
                site: 0,
                connector: u32::MAX,
                document: Vec::new(),
                dirty: false,
                opened: self.cx.now,
                armed: None,
                unread: Vec::new(),
            },
        });
        self.own(socket, Owner::Link(key));
        key
    }
}
