//! One client connection: TLS, HTTP/1.1, at most one exchange, one deadline.
//!
//! | phase | input | output | ends by |
//! |---|---|---|---|
//! | Handshake | TLS records | handshake flights | Established → Open; error or deadline → closed |
//! | Open | requests | responses | last response → Closing; abort by the client → closed |
//! | Closing | discarded | what is staged, then close_notify, then FIN | all sent → Draining |
//! | Draining | discarded, bounded | nothing | FIN of the client, a deadline, or too many bytes → closed |
//! | Broken | discarded | what is staged, and no close_notify: the client must see a cut | all sent → closed |

use crate::control::settings::Auth;
use crate::control::snapshot::{Route, Verdict};
use crate::ring::{Receive, SocketId};
use crate::wire::http1;
use crate::wire::record::{Layout, Outgoing};
use crate::wire::relay::{OpenFrame, StreamId};
use crate::wire::tls;
use crate::wire::websocket::Accept;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::auth::{Chain, Challenge, JudgedToken};
use super::channel::own::Own;
use super::fault::Fault;
use super::hold::HeldRequest;
use super::plan::{CLIENT_STAGE, KEYS_IDLE, SLOW_CLIENT_STAGE, Timeouts};

/// Where a connection stands; see the table on this file's front page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Handshake,
    Open,
    Closing,
    Draining,
    Broken,
}

/// A client connection. Three parts, so that events borrowed from one leave the others free.
pub struct Client {
    pub tls: tls::Connection,
    pub http: http1::Server,
    pub state: State,
}

/// All of a client connection but its two cores.
pub struct State {
    /// Key in the shard's slab.
    pub key: usize,
    pub socket: SocketId,
    /// How records are laid out; final once established.
    pub layout: Layout,
    /// Tells this connection from an earlier one under the same key.
    pub stamp: u32,
    /// The client's own address, not its balancer's.
    pub peer: SocketAddr,
    /// It counts against its address's limit.
    pub counted: bool,
    /// `peer`'s address as text, for the `Tidegate-Address` field.
    pub address: Box<str>,
    pub sni: Option<Box<str>>,
    pub chain: Option<Rc<Chain>>,
    /// The token of the last request, with its verdict.
    pub last_token: Option<Rc<JudgedToken>>,
    /// Tokens of this connection that were no good.
    pub bad_tokens: u8,
    pub phase: Phase,
    /// Plaintext staged for the client; none while there is nothing to say.
    pub out: Option<Outgoing>,
    pub exchange: Option<Box<Exchange>>,
    /// What the ring was last told.
    pub reading: Receive,
    pub dirty: bool,
    /// FIN or close_notify came from the client.
    pub finished: bool,
    /// Last time that bytes moved, either way.
    pub progress: Instant,
    /// When the head that is being received began.
    pub head_since: Option<Instant>,
    /// Earliest entry of this connection in the wheel.
    pub armed: Option<Instant>,
    /// Bytes discarded while draining.
    pub drained: usize,
}

/// One request and its response.
pub struct Exchange {
    /// Request id: 32 hex digits.
    pub id: [u8; 32],
    pub started: Instant,
    /// Key of the link in the shard's slab, and the stream on it; none while held or after the stream ended.
    pub stream: Option<(usize, StreamId)>,
    /// What was sent of the request, while it may have to be sent again: its OPEN, and its body.
    pub open: OpenFrame,
    pub kept: Vec<u8>,
    /// `open` and `kept` are all that was received of it.
    pub whole: bool,
    /// It went to a second connector.
    pub retried: bool,
    /// Something of an answer went to the client.
    pub begun: bool,
    /// Waits for what `wants` says is missing: a link, or keys.
    pub held: Option<Box<HeldRequest>>,
    pub wants: Fault,
    /// It showed a token that is no good, or whose key nobody knows so far.
    pub bad_token: bool,
    /// For the answer 401.
    pub challenge: Option<Challenge>,
    pub site: u32,
    /// Index of the connector that serves it.
    pub connector: u32,
    pub client: Option<Rc<Verdict>>,
    /// What the route that it was admitted on asks for.
    pub auth: Auth,
    pub timeout: Option<Duration>,
    pub max_body: u64,
    pub body_in: u64,
    /// The whole request was received.
    pub request_done: bool,
    /// Receiving is paused because the stream's queue is long.
    pub paused: bool,
    /// The client did not take at once what it was last sent.
    pub slow: bool,
    /// Response bytes that found no room in staging, from `waiting_at` on.
    pub waiting: Vec<u8>,
    pub waiting_at: usize,
    /// END came: what remains is `waiting`, then these trailers.
    pub end: Option<Vec<(Vec<u8>, Vec<u8>)>>,
    pub status: u16,
    pub body_out: u64,
    /// `METHOD target`, for the log; the method's length.
    pub line: Vec<u8>,
    pub method_len: usize,
    /// The gateway answers it itself.
    pub own: Option<Box<Own>>,
    /// The opening handshake of a WebSocket, of a request on one of the gateway's own paths.
    pub upgrade: Option<Box<Upgrade>>,
}

/// What a request for a WebSocket gets, or what is wrong with it.
pub type Upgrade = Result<Accept<'static>, &'static str>;

impl Exchange {
    pub fn new(now: Instant) -> Exchange {
        Exchange {
            id: [b'0'; 32],
            started: now,
            stream: None,
            open: OpenFrame::default(),
            kept: Vec::new(),
            whole: false,
            retried: false,
            begun: false,
            held: None,
            wants: Fault::NoConnector,
            bad_token: false,
            challenge: None,
            site: 0,
            connector: u32::MAX,
            client: None,
            auth: Auth::Certificate,
            timeout: None,
            max_body: u64::MAX,
            body_in: 0,
            request_done: false,
            paused: false,
            slow: false,
            waiting: Vec::new(),
            waiting_at: 0,
            end: None,
            status: 0,
            body_out: 0,
            line: Vec::new(),
            method_len: 0,
            own: None,
            upgrade: None,
        }
    }

    /// Makes a used exchange new again; buffers keep their capacity.
    pub fn reset(&mut self, now: Instant) {
        let (mut waiting, mut line) = (
            std::mem::take(&mut self.waiting),
            std::mem::take(&mut self.line),
        );
        let open = std::mem::take(&mut self.open);
        waiting.clear();
        line.clear();
        *self = Exchange {
            waiting,
            line,
            open,
            ..Exchange::new(now)
        };
    }

    /// From now on this route's rules hold for it.
    pub fn goes_by(&mut self, route: &Route) {
        self.auth = route.auth;
        self.max_body = route.max_body;
        self.timeout = (route.timeout_ms > 0).then(|| Duration::from_millis(route.timeout_ms));
    }

    pub fn id(&self) -> &str {
        std::str::from_utf8(&self.id).unwrap_or("")
    }

    /// Who the client was found to be; empty when nobody asked.
    pub fn client_id(&self) -> &str {
        match self.client.as_deref() {
            Some(Verdict::Accepted(identity)) => &identity.client_id,
            _ => "",
        }
    }

    /// The method of the request; empty before it is known.
    pub fn method(&self) -> &[u8] {
        self.line.get(..self.method_len).unwrap_or_default()
    }

    /// The stream of that link is this exchange's: what comes on another is not for it.
    pub fn is_on(&self, link: usize, stream: StreamId) -> bool {
        self.stream == Some((link, stream))
    }

    /// How many response bytes may be staged.
    pub fn stage(&self) -> usize {
        if self.slow {
            SLOW_CLIENT_STAGE
        } else {
            CLIENT_STAGE
        }
    }

    /// Response bytes not yet staged.
    pub fn backlog(&self) -> usize {
        self.waiting.len() - self.waiting_at
    }
}

impl Client {
    /// When something must happen if nothing else does.
    pub fn deadline(&self, timeouts: &Timeouts, sending: bool) -> Option<Instant> {
        let state = &self.state;
        match state.phase {
            Phase::Handshake => Some(state.progress_of_accept() + timeouts.head),
            Phase::Closing | Phase::Broken => Some(state.progress + timeouts.close),
            Phase::Draining => Some(state.progress + timeouts.drain),
            Phase::Open if sending => Some(state.progress + timeouts.body_idle),
            Phase::Open => match &state.exchange {
                Some(exchange) if exchange.held.is_some() => Some(exchange.started + timeouts.hold),
                Some(exchange) if !exchange.request_done && !exchange.paused => {
                    Some(state.progress + timeouts.body_idle)
                }
                Some(exchange) if exchange.status == 0 => exchange
                    .timeout
                    .map(|timeout| state.progress.max(exchange.started) + timeout + timeouts.grace),
                Some(_) => None,
                None => match state.head_since {
                    Some(since) => Some(since + timeouts.head),
                    None if self.tls.has_keys() => {
                        Some(state.progress + timeouts.idle.min(KEYS_IDLE))
                    }
                    None => Some(state.progress + timeouts.idle),
                },
            },
        }
    }
}

impl State {
    /// The handshake's deadline counts from the accept: `head_since` holds it until the handshake is over.
    fn progress_of_accept(&self) -> Instant {
        self.head_since.unwrap_or(self.progress)
    }
}
