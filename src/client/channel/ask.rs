//! The request that opens a channel.

use super::Kind;
use super::job::Job;
use crate::wire::http1::{self, Framing};
use crate::wire::{Field, websocket};

/// Where channels are opened.
const PATH: &str = "/.tidegate/channel";
/// Heads of answers.
pub const LIMITS: http1::Limits = http1::Limits {
    head_bytes: 16 * 1024,
    header_count: 100,
    trailer_bytes: 1024,
};

/// What is asked for.
pub struct Ask<'a> {
    /// For `Host`.
    pub host: &'a str,
    pub token: Option<&'a str>,
    pub kind: Kind,
    pub poll_wait_s: u32,
    /// The push that this request acknowledges; empty: none.
    pub last_id: &'a str,
}

impl Job {
    pub fn ask(&self, kind: Kind) -> Ask<'_> {
        Ask {
            host: &self.host,
            token: self.token.as_deref(),
            kind,
            poll_wait_s: self.poll_wait_s,
            last_id: "",
        }
    }
}

impl Ask<'_> {
    /// Writes the request; gives what reads the answer. WebSocket needs its offer.
    pub fn write(&self, offer: Option<&websocket::Offer<'_>>, out: &mut Vec<u8>) -> http1::Client {
        let mut http = http1::Client::new(LIMITS);
        let target = match self.kind {
            Kind::Poll => format!("{PATH}?wait={}", self.poll_wait_s),
            Kind::Sse | Kind::WebSocket => PATH.to_owned(),
        };
        let bearer = self.token.map(|token| format!("Bearer {token}"));
        let bearer = bearer.as_deref().map(|value| field("Authorization", value));
        let accept = (self.kind == Kind::Sse).then(|| field("Accept", "text/event-stream"));
        let last = (!self.last_id.is_empty()).then(|| field("Last-Event-ID", self.last_id));
        let fields = [Some(field("Host", self.host)), bearer, accept, last];
        let upgrade = offer.into_iter().flat_map(websocket::Offer::fields);
        http.send_head(
            out,
            b"GET",
            target.as_bytes(),
            fields.into_iter().flatten().chain(upgrade),
            Framing::None,
        );
        http.send_end(out, []);
        http
    }
}

pub fn field<'a>(name: &'a str, value: &'a str) -> Field<'a> {
    Field {
        name: name.as_bytes(),
        value: value.as_bytes(),
    }
}
