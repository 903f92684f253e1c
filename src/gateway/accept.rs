//! Stage `accept`: sockets become clients and links, within the process's limits.

use crate::ring::{Receive, SocketId, Verbs};
use crate::wire::http1;
use crate::wire::relay::staging::Staging;
use crate::wire::relay::{FEATURES, Role, Session};
use crate::wire::tls::{self};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use super::balancer;
use super::channel::announce::Listing;
use super::client::{self, Client, Phase};
use super::links::{self};
use super::publishing::Inbox;
use super::relay::{self, Link};
use super::shard::{Gateway, Owner};

/// A connection that may become a client.
pub(super) struct Arrival {
    pub socket: SocketId,
    /// The client's address, whoever carried the connection here.
    pub peer: SocketAddr,
    /// When it was accepted: the handshake's deadline counts from here.
    pub since: Instant,
    /// False for a balancer's own connections: they count against no address.
    pub counted: bool,
}

/// What `connections_per_address` counts by: the address, or an IPv6 client's /64, of which it has all addresses.
pub fn counted_as(peer: SocketAddr) -> IpAddr {
    match peer.ip().to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        v4 => v4,
    }
}

impl Gateway {
    pub(super) fn accept_client<R: Verbs>(
        &mut self,
        ring: &mut R,
        socket: SocketId,
        peer: SocketAddr,
    ) {
        self.cx.stats.accepted += 1;
        let open = self.clients.len() + self.balancers.waiting();
        let full = open >= self.cx.plan.connections || self.draining.is_some();
        if balancer::is_listed(&self.cx.plan.balancers, peer.ip().to_canonical()) {
            if full {
                self.cx.stats.refused_limit += 1;
                return ring.abort(socket);
            }
            self.await_header(socket, peer);
            ring.receive(socket, Receive::Small);
            return self.count_connections();
        }
        let arrival = Arrival {
            socket,
            peer,
            since: self.cx.now,
            counted: true,
        };
        if self.is_crowded(&arrival) {
            self.cx.stats.refused_address += 1;
            return ring.abort(socket);
        }
        if full {
            self.cx.stats.refused_limit += 1;
            return ring.abort(socket);
        }
        if self.admit(ring, arrival).is_some() {
            ring.receive(socket, Receive::Small);
        }
    }

    /// The client's address has all the connections that it may have.
    fn is_crowded(&self, arrival: &Arrival) -> bool {
        let limit = self.cx.plan.connections_per_address;
        if !arrival.counted || limit == usize::MAX {
            return false;
        }
        let same = self.cx.per_address.get(&counted_as(arrival.peer));
        same.is_some_and(|same| *same as usize >= limit)
    }

    /// Makes a client of it, or closes it and counts why.
    pub(super) fn admit<R: Verbs>(&mut self, ring: &mut R, arrival: Arrival) -> Option<usize> {
        let Arrival { socket, peer, .. } = arrival;
        let plan = self.cx.plan.clone();
        if self.is_crowded(&arrival) {
            self.cx.stats.refused_address += 1;
            ring.abort(socket);
            return None;
        }
        let Ok(tls) = tls::Connection::server(&plan.server_tls) else {
            self.cx.stats.handshakes_failed += 1;
            ring.abort(socket);
            return None;
        };
        let counted = arrival.counted && plan.connections_per_address != usize::MAX;
        if counted {
            *self.cx.per_address.entry(counted_as(peer)).or_insert(0) += 1;
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
            counted,
            address: peer.ip().to_canonical().to_string().into(),
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
            head_since: Some(arrival.since),
            armed: None,
            drained: 0,
        };
        self.clients.insert(Client {
            tls,
            http: http1::Server::new(plan.http),
            state,
        });
        self.own(socket, Owner::Client(key));
        if let Some(client) = self.clients.get_mut(key) {
            self.cx.mark_client(&mut client.state);
        }
        self.count_connections();
        Some(key)
    }

    pub(super) fn count_connections(&mut self) {
        self.cx.stats.connections = (self.clients.len() + self.balancers.waiting()) as u64;
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
        let session =
            Session::new(Role::Gateway, links::limits(), self.cx.now).with_features(FEATURES);
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
                staging: Staging::default(),
                certificate_name: String::new(),
                chain: Vec::new(),
                judged_by: self.cx.plan.connector_ca,
                hello: None,
                site: 0,
                connector: u32::MAX,
                settings: Inbox::default(),
                dirty: false,
                opened: self.cx.now,
                armed: None,
                unread: Vec::new(),
                push_prefix: [0; 6],
                listing: Listing::Off,
                pushes_waiting: 0,
                paused: false,
            },
        });
        self.own(socket, Owner::Link(key));
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_client_is_counted_by_its_network() {
        let counted = |peer: &str| counted_as(peer.parse().unwrap()).to_string();
        assert_eq!(counted("203.0.113.7:1"), "203.0.113.7");
        assert_eq!(counted("[::ffff:203.0.113.7]:1"), "203.0.113.7");
        assert_eq!(counted("[2001:db8:1:2:3:4:5:6]:1"), "2001:db8:1:2::");
        assert_eq!(counted("[2001:db8:1:2:ffff::]:9"), "2001:db8:1:2::");
        assert_ne!(counted("[2001:db8:1:3::1]:1"), "2001:db8:1:2::");
    }

    /// A hundred thousand idle clients: what a balancer's header needs is kept elsewhere.
    #[test]
    fn a_client_stays_small() {
        assert!(size_of::<Client>() <= 608, "{}", size_of::<Client>());
    }
}
