//! TLS of an upstream connection: its records, what its handshake led to, and how it fails.

use crate::ring::{RecvBuf, Verbs};
use crate::wire::Put;
use crate::wire::record::Outgoing;
use crate::wire::relay::ResetCode;
use crate::wire::tls::{self, Step, TlsError};

use super::context::Context;
use super::exchange::{self, Outcome};
use super::shard::Connector;
use super::upstream::{Phase, State, Upstream};

/// Alerts by which a server refuses our certificate, or that we gave none (RFC 8446 §6.2).
const CERTIFICATE_ALERTS: [u8; 8] = [42, 43, 44, 45, 46, 48, 49, 116];

/// Whether the server refused the handshake, and so never looked at a request that went out behind it. Only in TLS 1.3
/// can that come to light after our Finished, behind which the request follows at once. In TLS 1.2 the server's own
/// Finished came before the request, and other alerts say nothing of what it saw.
fn refuses_handshake(tls13: bool, alert: Option<u8>) -> bool {
    tls13 && alert.is_some_and(|alert| CERTIFICATE_ALERTS.contains(&alert))
}

impl Connector {
    /// Opens the records in place. One that brings nothing (tickets, a KeyUpdate) is fine at any time, idle or not.
    pub(super) fn upstream_records<R: Verbs>(
        &mut self,
        ring: &mut R,
        key: usize,
        mut buf: RecvBuf,
    ) {
        let Some(stamp) = self.upstreams.get(key).map(|u| u.state.stamp) else {
            return;
        };
        let mut used = 0;
        loop {
            let Connector {
                links,
                upstreams,
                exchanges,
                cx,
                ..
            } = self;
            // What a record led to may have ended the connection and given its place to another.
            let Some(Upstream {
                http,
                shared,
                tls: Some(tls),
                state,
            }) = upstreams
                .get_mut(key)
                .filter(|upstream| upstream.state.stamp == stamp)
            else {
                return;
            };
            cx.mark_upstream(state);
            let heard = match tls.next(&mut buf, &mut used) {
                Ok(Step::NeedMore) => return,
                Ok(Step::Established(said)) => {
                    established(tls, state, said.resumed, cx);
                    if state.offers {
                        let h2 = said.alpn.as_deref() == Some(b"h2");
                        self.agreed(ring, key, h2);
                    }
                    continue;
                }
                Ok(Step::Data(plain)) => {
                    if let Some(shared) = shared {
                        shared.http.handle_input(plain, cx.now);
                        continue;
                    }
                    match state.exchange.and_then(|key| exchanges.get_mut(key)) {
                        Some(exchange) => {
                            exchange::received(http, state, plain, exchange, links, cx, ring)
                        }
                        None => Outcome::Unasked,
                    }
                }
                Ok(Step::Closed) => {
                    return self.upstream_over(ring, key, true, "it closed the connection");
                }
                Err(error) => return self.tls_failed(ring, key, &error),
            };
            self.upstream_heard(ring, key, heard);
        }
    }

    /// The alert that says so, if one is due, goes out with the connection's end.
    pub(super) fn tls_failed<R: Verbs>(&mut self, ring: &mut R, key: usize, error: &TlsError) {
        let Some(Upstream { state, tls, .. }) = self.upstreams.get(key) else {
            return;
        };
        let tls13 = tls.as_ref().is_some_and(|tls| tls.is_tls13());
        let refused = refuses_handshake(tls13, error.received_alert);
        let answered = match &self.upstreams.get(key).and_then(|u| u.shared.as_ref()) {
            Some(shared) => shared.answered,
            None => state.answered || state.reused,
        };
        if state.is_dialling() {
            let why = format!("TLS handshake: {}", error.text);
            self.attempt_failed(ring, key, ResetCode::UpstreamRefused, &why);
        } else if refused && !answered {
            self.cx.stats.upstream_handshakes_failed += 1;
            let endpoint = state.endpoint;
            let exchange = state.exchange;
            let why = format!("TLS handshake: {}", error.text);
            self.cx.endpoint_dial_failed(endpoint, &why);
            let upstream = &self.cx.plan.endpoints[endpoint as usize];
            let text = format!("upstream {upstream} cannot be reached: {why}");
            if self.is_shared(key) {
                self.shared_over(ring, key, &why);
            } else if let Some(exchange) = exchange {
                self.fail_exchange(ring, exchange, (ResetCode::UpstreamRefused, text.into()));
            }
        } else {
            self.upstream_over(ring, key, false, &format!("TLS: {},", error.text));
        }
    }
}

/// The request that waits as clear text is laid out for the records of this connection: the one copy that TLS costs, of
/// the first bytes on a new connection.
fn established(tls: &tls::Connection, state: &mut State, resumed: bool, cx: &mut Context) {
    *(if resumed {
        &mut cx.stats.upstream_handshakes_resumed
    } else {
        &mut cx.stats.upstream_handshakes_full
    }) += 1;
    state.phase = Phase::Busy;
    state.progress = cx.now;
    state.layout = Some(tls.layout());
    if let Some(waiting) = state.out.take().map(Outgoing::into_clear_text) {
        state.stage(cx).put(&waiting);
        cx.recycle(waiting);
    }
    cx.endpoint_connected(state.endpoint);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What counts as refused promises that the upstream saw nothing, and is repeated elsewhere whatever its method.
    #[test]
    fn only_a_certificate_refused_in_tls13_is_a_handshake_that_did_not_end() {
        for alert in 0..=u8::MAX {
            let certificate = matches!(alert, 42..=46 | 48 | 49 | 116);
            assert_eq!(refuses_handshake(true, Some(alert)), certificate, "{alert}");
            assert!(!refuses_handshake(false, Some(alert)), "TLS 1.2, {alert}");
        }
        assert!(!refuses_handshake(true, None));
    }
}
