//! A request that its connector could not finish goes to another connector, once, where that cannot do harm: what is
//! kept for it, the rule, and the budget.
//!
//! | the stream's end | sent again when |
//! |---|---|
//! | the upstream saw nothing | whole, nothing of an answer sent, not sent again before |
//! | the upstream may have seen it | the same, and the method is idempotent (RFC 9110 §9.2.2) |
//! | anything else | never |
//!
//! Which end is which says [`Loss`]. *Whole*: the request's head and all of its body that came are still here. A body is
//! kept up to [`KEPT_BODY`], and only where another connector could take it. Retries are at most a tenth of the requests,
//! so that an upstream in trouble is not asked twice as much.

use crate::control::snapshot::{Route, Snapshot, Verdict};

use super::client::{Client, Exchange, State};
use super::context::Context;
use super::fault::{Loss, Repeat};
use super::plan::KEPT_BODY;
use super::relay::{self, Link, Opened, Wanted};
use super::response;
use crate::wire::http1::is_idempotent;
use slab::Slab;

/// Buffers for kept bodies that wait for reuse, and the largest among them.
const POOL_BODIES: usize = 64;
const POOL_BODY_BYTES: usize = 2 * KEPT_BODY;
/// An exchange's buffer for OPENs stays with it, unless one request made it larger.
const KEPT_OPEN_BUFFER: usize = 4096;

/// A shard's retries.
#[derive(Default)]
pub struct Retries {
    budget: Budget,
    /// Requests whose stream was lost and that may go elsewhere.
    lost: Vec<Lost>,
    /// Bytes of OPENs and bodies kept in exchanges, for the memory cap.
    pub kept: usize,
    bodies: Vec<Vec<u8>>,
}

/// A request without a stream.
struct Lost {
    client: usize,
    stamp: u32,
    loss: Loss,
    detail: String,
}

/// Retries that may be made: each request earns a tenth of one.
#[derive(Debug)]
pub struct Budget {
    tenths: u32,
}

impl Budget {
    /// So many retries at the most at once.
    const MOST: u32 = 64;
    /// So many are there at the start, when no request has earned one yet.
    const FIRST: u32 = 8;
    const PRICE: u32 = 10;

    fn earn(&mut self) {
        self.tenths = (self.tenths + 1).min(Self::MOST * Self::PRICE);
    }

    fn has_one(&self) -> bool {
        self.tenths >= Self::PRICE
    }

    fn spend(&mut self) {
        self.tenths = self.tenths.saturating_sub(Self::PRICE);
    }
}

impl Default for Budget {
    fn default() -> Budget {
        Budget {
            tenths: Self::FIRST * Self::PRICE,
        }
    }
}

/// What the rule asks of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    idempotent: bool,
    whole: bool,
    /// Something of an answer went to the client, an interim head included.
    begun: bool,
    /// It was sent again before.
    retried: bool,
}

/// The rule.
fn may_repeat(repeat: Repeat, asked: Asked) -> bool {
    let harmless = match repeat {
        Repeat::Never => false,
        Repeat::Idempotent => asked.idempotent,
        Repeat::Always => true,
    };
    harmless && asked.whole && !asked.begun && !asked.retried
}

/// A request came.
pub fn earn(cx: &mut Context) {
    cx.retries.budget.earn();
}

/// The request went to its first connector. Its OPEN is kept if `whole`: all that came of it is here, or will be kept.
pub fn begin(exchange: &mut Exchange, whole: bool, cx: &mut Context) {
    exchange.whole = whole;
    if whole {
        cx.retries.kept += exchange.open.len();
    } else {
        exchange.open.clear(KEPT_OPEN_BUFFER);
    }
}

/// Body bytes went to the stream: kept while the request is whole and they are few.
pub fn keep(exchange: &mut Exchange, bytes: &[u8], cx: &mut Context) {
    if !exchange.whole {
        return;
    }
    if exchange.kept.len() + bytes.len() > KEPT_BODY || cx.pressure {
        return let_go(exchange, cx);
    }
    if exchange.kept.capacity() == 0 {
        exchange.kept = cx.retries.bodies.pop().unwrap_or_default();
    }
    exchange.kept.extend_from_slice(bytes);
    cx.retries.kept += bytes.len();
}

/// The request will not be sent again: what was kept for it goes.
pub fn let_go(exchange: &mut Exchange, cx: &mut Context) {
    if !exchange.whole {
        return;
    }
    exchange.whole = false;
    let mut body = std::mem::take(&mut exchange.kept);
    cx.retries.kept -= body.len() + exchange.open.len();
    exchange.open.clear(KEPT_OPEN_BUFFER);
    let worth_keeping = (1..=POOL_BODY_BYTES).contains(&body.capacity());
    if worth_keeping && cx.retries.bodies.len() < POOL_BODIES {
        body.clear();
        cx.retries.bodies.push(body);
    }
}

/// The stream of this request is lost. True: [`again`] will see to it; false: it is to be answered.
pub fn take(
    state: &State,
    exchange: &Exchange,
    loss: Loss,
    detail: &str,
    cx: &mut Context,
) -> bool {
    let asked = Asked {
        idempotent: is_idempotent(exchange.method()),
        whole: exchange.whole,
        begun: exchange.begun,
        retried: exchange.retried,
    };
    let may = may_repeat(loss.repeat, asked);
    if may {
        cx.retries.lost.push(Lost {
            client: state.key,
            stamp: state.stamp,
            loss,
            detail: detail.to_owned(),
        });
    }
    may
}

/// Sends lost requests to other connectors, or answers them where there is none: called when the link that lost them is
/// out of hand.
pub fn again(clients: &mut Slab<Client>, links: &mut Slab<Link>, cx: &mut Context) {
    let mut lost = std::mem::take(&mut cx.retries.lost);
    for Lost {
        client,
        stamp,
        loss,
        detail,
    } in lost.drain(..)
    {
        let known = |client: &&mut Client| client.state.stamp == stamp;
        let Some(Client { http, state, .. }) = clients.get_mut(client).filter(known) else {
            continue;
        };
        let Some(exchange) = state.exchange.as_mut() else {
            continue;
        };
        if !elsewhere(client, exchange, links, cx) {
            // Its stream is gone, so nothing is left to reset.
            let _none = response::fail(http, state, loss.fault, &detail, cx);
        }
        cx.mark_client(state);
    }
    cx.retries.lost = lost;
}

/// Opens the request on another connector that publishes its route now. False: there is none, or no budget.
fn elsewhere(
    client: usize,
    exchange: &mut Exchange,
    links: &mut Slab<Link>,
    cx: &mut Context,
) -> bool {
    let snapshot = cx.snapshot.clone();
    let Some((index, route)) = admitted_still(exchange, &snapshot) else {
        return false;
    };
    let wanted = Wanted {
        site: exchange.site,
        route: index,
        connectors: &route.connectors,
        except: Some(exchange.connector),
    };
    if !relay::is_linked(&wanted, cx) {
        return false;
    }
    if !cx.retries.budget.has_one() {
        cx.stats.retries_withheld += 1;
        return false;
    }
    let Opened::On {
        link,
        stream,
        connector,
    } = relay::open(&wanted, client, &mut exchange.open, links, cx)
    else {
        return false;
    };
    tracing::debug!(
        request = exchange.id(),
        from = exchange.connector,
        to = connector,
        "sent again"
    );
    cx.retries.budget.spend();
    cx.stats.requests_retried += 1;
    exchange.stream = Some((link, stream));
    exchange.connector = connector;
    exchange.retried = true;
    exchange.goes_by(route);
    if let Some((session, out)) = links.get_mut(link).and_then(Link::session) {
        if !exchange.kept.is_empty() {
            session.send_data(stream, &exchange.kept, out);
        }
        if exchange.request_done {
            session.send_end(stream, &mut std::iter::empty(), out);
        }
    }
    relay::mark(links, link, cx);
    let_go(exchange, cx);
    true
}

/// The route of the request as its site is published now, if it would be admitted there as it was: settings may have
/// changed since it came, and what it was let in by is not asked for twice.
fn admitted_still<'s>(exchange: &Exchange, snapshot: &'s Snapshot) -> Option<(u32, &'s Route)> {
    let site = snapshot.sites.get(exchange.site as usize)?;
    let target = exchange.open.target();
    let path = target.split(|byte| *byte == b'?').next().unwrap_or(target);
    let (index, route) = site.routes.find(path)?;
    let denied = match exchange.client.as_deref() {
        Some(Verdict::Accepted(identity)) => site.trust.denies(identity).is_some(),
        _ => false,
    };
    let admitted = route.auth == exchange.auth
        && route.allows_method(exchange.method())
        && exchange.body_in <= route.max_body
        && !denied;
    admitted.then_some((index, route))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::config::SiteConfig;
    use crate::control::settings::{
        Auth, KeySource, PublishedIssuer, PublishedKind, PublishedRoute, SiteDocument, SiteSettings,
    };
    use crate::control::snapshot::{ClientIdentity, Registry};
    use crate::control::tokens::TokenIdentity;
    use crate::gateway::fault::Fault;
    use crate::wire::relay::{Body, OpenHead, ResetCode};
    use std::rc::Rc;
    use std::sync::Arc;
    use std::time::Instant;

    const WHOLE: Asked = Asked {
        idempotent: true,
        whole: true,
        begun: false,
        retried: false,
    };

    /// Every end of a stream, by who may be asked again after it: nobody, idempotent requests, all.
    #[test]
    fn each_end_of_a_stream_has_its_rule() {
        #[rustfmt::skip]
        let table = [
            (Loss::LINK,                                     Fault::ConnectorLost,   true,  false),
            (Loss::of_reset(ResetCode::Refused),             Fault::Overloaded,      true,  true),
            (Loss::of_reset(ResetCode::Cancelled),           Fault::ConnectorLost,   true,  false),
            (Loss::of_reset(ResetCode::UpstreamRefused),     Fault::UpstreamRefused, true,  true),
            (Loss::of_reset(ResetCode::UpstreamTimeout),     Fault::UpstreamTimeout, false, false),
            (Loss::of_reset(ResetCode::UpstreamBroken),      Fault::UpstreamBroken,  true,  false),
            (Loss::of_reset(ResetCode::NotPublished),        Fault::NotPublished,    false, false),
            (Loss::of_reset(ResetCode::BodyTooLarge),        Fault::BodyTooLarge,    false, false),
            (Loss::of_reset(ResetCode::Overloaded),          Fault::Overloaded,      false, false),
            (Loss::of_reset(ResetCode::Protocol),            Fault::Internal,        false, false),
            (Loss::of_reset(ResetCode::Internal),            Fault::Internal,        true,  false),
        ];
        for (loss, fault, idempotent, other) in table {
            assert_eq!(loss.fault, fault, "{loss:?}");
            assert_eq!(may_repeat(loss.repeat, WHOLE), idempotent, "{loss:?}");
            let post = Asked {
                idempotent: false,
                ..WHOLE
            };
            assert_eq!(may_repeat(loss.repeat, post), other, "{loss:?}");
        }
    }

    #[test]
    fn what_was_begun_cut_or_repeated_is_not_repeated() {
        let spoilt = [
            Asked {
                whole: false,
                ..WHOLE
            },
            Asked {
                begun: true,
                ..WHOLE
            },
            Asked {
                retried: true,
                ..WHOLE
            },
        ];
        for repeat in [Repeat::Never, Repeat::Idempotent, Repeat::Always] {
            for asked in spoilt {
                assert!(!may_repeat(repeat, asked), "{repeat:?} {asked:?}");
            }
        }
    }

    /// `/a/` is open, and what comes under it by `published`.
    fn snapshot(published: Option<PublishedRoute>, deny: &[&str]) -> Arc<Snapshot> {
        let open = route("/a/", Auth::None);
        let site = SiteSettings {
            revision: 1,
            deny_clients: deny.iter().map(|id| (*id).to_owned()).collect(),
            issuers: vec![PublishedIssuer {
                name: "idp".into(),
                kind: PublishedKind::Oidc,
                issuer: "https://idp.example".into(),
                audience: vec!["api".into()],
                tenants: vec![],
                id: "sub".into(),
                keys: KeySource::Discovery,
            }],
            ..SiteSettings::default()
        };
        let document = SiteDocument {
            site,
            routes: [open].into_iter().chain(published).collect(),
        };
        let (bytes, hash) = document.encode();
        let mut registry = Registry::new(&[SiteConfig {
            name: "main".into(),
            hosts: vec!["*".into()],
            connectors: vec![],
        }]);
        let published = registry.publish("main", "cp-1", hash, &bytes);
        published.expect("good settings")
    }

    fn route(path: &str, auth: Auth) -> PublishedRoute {
        PublishedRoute {
            path: path.into(),
            auth,
            methods: vec![],
            max_body: 1000,
            timeout_ms: 0,
            case_insensitive: false,
        }
    }

    /// `POST /a/b/c` with 100 bytes, admitted without asking who it is.
    fn admitted() -> Exchange {
        let mut exchange = Exchange::new(Instant::now());
        exchange.line.extend_from_slice(b"POST /a/b/c?d");
        exchange.method_len = 4;
        exchange.auth = Auth::None;
        exchange.body_in = 100;
        let open = OpenHead {
            method: b"POST",
            target: b"/a/b/c?d",
            host: b"gw",
            request_id: &exchange.id.clone(),
            body: Body::None,
            expect_continue: false,
            fields: Default::default(),
        };
        assert!(exchange.open.encode(&open, &mut std::iter::empty()));
        exchange
    }

    /// A route that was published after the request came takes it only where it would have been let in as it was.
    #[test]
    fn a_newer_route_is_not_entered_by_what_an_older_one_asked_for() {
        let goes = |snapshot: &Snapshot, exchange: &Exchange| {
            admitted_still(exchange, snapshot).map(|(_, route)| route.path.clone())
        };
        let exchange = admitted();
        let path = |path: &str| Some(path.to_owned());
        assert_eq!(goes(&snapshot(None, &[]), &exchange), path("/a/"));
        let inner = |change: fn(&mut PublishedRoute)| {
            let mut inner = route("/a/b/", Auth::None);
            change(&mut inner);
            snapshot(Some(inner), &[])
        };
        assert_eq!(goes(&inner(|_| {}), &exchange), path("/a/b/"));
        for auth in [Auth::Certificate, Auth::Token, Auth::Any] {
            let snapshot = snapshot(Some(route("/a/b/", auth)), &[]);
            assert_eq!(goes(&snapshot, &exchange), None, "{auth:?}");
        }
        assert_eq!(
            goes(&inner(|r| r.methods = vec!["GET".into()]), &exchange),
            None
        );
        assert_eq!(goes(&inner(|r| r.max_body = 99), &exchange), None);
    }

    #[test]
    fn who_was_denied_meanwhile_is_not_sent_again() {
        let mut exchange = admitted();
        exchange.client = Some(Rc::new(Verdict::Accepted(ClientIdentity::of_token(
            TokenIdentity {
                client_id: "oidc:idp/u".into(),
                issuer: 0,
                token_id: None,
                user: None,
                device: None,
                tenant: None,
                not_after: i64::MAX,
            },
        ))));
        assert!(admitted_still(&exchange, &snapshot(None, &[])).is_some());
        assert!(admitted_still(&exchange, &snapshot(None, &["oidc:idp/u"])).is_none());
    }

    #[test]
    fn idempotent_methods_are_those_of_the_standard_as_they_are_written() {
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
            assert!(is_idempotent(method.as_bytes()), "{method}");
        }
        for method in [
            "POST", "PATCH", "CONNECT", "get", "PROPFIND", "CCM_POST", "",
        ] {
            assert!(!is_idempotent(method.as_bytes()), "{method}");
        }
    }

    #[test]
    fn retries_stay_under_a_tenth() {
        let mut budget = Budget::default();
        let mut made = 0;
        // Every request fails.
        for _ in 0..10_000 {
            budget.earn();
            if budget.has_one() {
                budget.spend();
                made += 1;
            }
        }
        assert_eq!(made, 10_000 / Budget::PRICE + Budget::FIRST);
        // A quiet time earns no more than the cap.
        for _ in 0..1_000_000 {
            budget.earn();
        }
        let burst = (0..).take_while(|_| {
            let has = budget.has_one();
            budget.spend();
            has
        });
        assert_eq!(burst.count(), Budget::MOST as usize);
    }
}
