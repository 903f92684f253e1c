//! What a newer snapshot or plan means to what is open already: clients that may stay no longer, links that may not.

use crate::control::snapshot::Verdict;
use crate::ring::Verbs;
use crate::wire::relay::refusal;
use rustls::pki_types::{CertificateDer, UnixTime};
use std::sync::Arc;
use std::time::Duration;

use super::client::Client;
use super::fault::Fault;
use super::plan::Plan;
use super::relay::{self, Link, Phase};
use super::shard::Gateway;
use super::{request, response};

impl Gateway {
    /// Takes a newer snapshot, if there is one. True when there was.
    pub(super) fn refresh_snapshot(&mut self) -> bool {
        let before = self.cx.snapshot.clone();
        if !self.cx.refresh_snapshot() {
            return false;
        }
        let keys = self.clients.capacity();
        self.sweep.begin(&before, &self.cx.snapshot, keys);
        let slots = self.channels.table.end();
        let channels = &mut self.channels.sweep;
        channels.begin(&before, &self.cx.snapshot, slots);
        true
    }

    /// Looks at the next few open requests: one whose client is on a deny-list or revocation list by now ends at once,
    /// without the bytes that still wait. Requests to come are judged when they come.
    pub(super) fn recheck<R: Verbs>(&mut self, ring: &mut R) {
        if !self.sweep.is_under_way() {
            return;
        }
        for key in self.sweep.next(self.clients.capacity()) {
            if let Some(why) = self.denied(key) {
                self.cut(ring, key, &why);
            }
        }
        self.sweep.looked();
    }

    fn denied(&self, key: usize) -> Option<String> {
        let exchange = self.clients.get(key)?.state.exchange.as_ref()?;
        let Verdict::Accepted(identity) = exchange.client.as_deref()? else {
            return None;
        };
        if !self.sweep.concerns(exchange.site) {
            return None;
        }
        let site = self.cx.snapshot.sites.get(exchange.site as usize)?;
        site.trust.denies(identity)
    }

    fn cut<R: Verbs>(&mut self, ring: &mut R, key: usize, why: &str) {
        let Gateway {
            clients, links, cx, ..
        } = self;
        let Some(Client { http, state, .. }) = clients.get_mut(key) else {
            return;
        };
        cx.stats.requests_revoked += 1;
        let begun = http.response_started();
        let orphan = response::fail(http, state, Fault::Revoked, why, cx);
        request::cancel(orphan, links, cx);
        if begun {
            // A reset, so that what lies in the socket does not reach the client either.
            self.drop_client(ring, key, false);
        }
    }

    /// A reload: links whose connector may serve its site no longer, or whose certificate nobody vouches for any more,
    /// end with the reason.
    pub(super) fn replan<R: Verbs>(&mut self, ring: &mut R, plan: Arc<Plan>) {
        self.cx.set_plan(plan);
        let plan = self.cx.plan.clone();
        let now = self.cx.unix_now();
        let leaving: Vec<_> = self
            .links
            .iter_mut()
            .filter_map(|(key, link)| Some((key, no_longer_welcome(link, &plan, now)?)))
            .collect();
        for (key, why) in leaving {
            let Some(link) = self.links.get_mut(key) else {
                continue;
            };
            tracing::warn!(connector = link.name(), peer = %link.state.peer, why, "link ended by a reload");
            self.cx.stats.links_refused += 1;
            if let Some(out) = link.state.out.as_mut() {
                link.session.send_refused(refusal::FORBIDDEN, &why, out);
            }
            // What is staged goes out, the reason with it, unless the socket is full; then the connector learns it when
            // it dials again.
            let _ = relay::flush(link, &mut self.cx, ring);
            self.drop_link(ring, key, &why);
        }
    }
}

fn no_longer_welcome(link: &mut Link, plan: &Plan, unix_now: i64) -> Option<String> {
    if link.state.phase != Phase::Ready {
        return None;
    }
    let hello = link.state.hello.as_ref()?;
    if plan.site_of(&hello.site, &hello.connector).is_err() {
        let why = format!(
            "connector `{}` serves site `{}` no longer",
            hello.connector, hello.site
        );
        return Some(why);
    }
    vouched_for(&mut link.state, plan, unix_now).err()
}

/// Judges a link's chain anew where the plan's CA is another than the one that it was judged by. The error is a line for
/// the connector.
pub fn vouched_for(state: &mut relay::State, plan: &Plan, unix_now: i64) -> Result<(), String> {
    if state.judged_by == plan.connector_ca {
        return Ok(());
    }
    let mut chain = state
        .chain
        .iter()
        .map(|der| CertificateDer::from(der.as_slice()));
    let leaf = chain.next().ok_or("the connector showed no certificate")?;
    let rest: Vec<_> = chain.collect();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(unix_now.unsigned_abs()));
    plan.relay_verifier
        .verify_client_cert(&leaf, &rest, now)
        .map_err(|error| format!("the connector's certificate does not do any more: {error}"))?;
    state.judged_by = plan.connector_ca;
    Ok(())
}
