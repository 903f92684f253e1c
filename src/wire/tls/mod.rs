//! TLS without I/O: rustls's unbuffered API does the handshake, then its keys are taken over and `wire::record`
//! carries the data (DESIGN §4).

use crate::wire::record::{Layout, Outgoing};
use rustls::pki_types::ServerName;
use std::sync::Arc;

/// What the handshake established. Copied out of rustls; the client's chain is given once and then dropped.
#[derive(Debug, Default)]
pub struct Established {
    pub tls12: bool,
    pub suite: &'static str,
    pub resumed: bool,
    pub sni: Option<Box<str>>,
    pub alpn: Option<Box<[u8]>>,
    /// DER, end entity first; empty when the peer gave none.
    pub peer_chain: Vec<Vec<u8>>,
}

/// One step of `Connection::next`.
#[derive(Debug)]
pub enum Step<'a> {
    /// All input is used; a partial record, if any, is kept inside.
    NeedMore,
    /// The handshake is complete. Given once.
    Established(Box<Established>),
    /// Plaintext of one record, never empty, opened in place in the input (or in the assembly buffer).
    Data(&'a mut [u8]),
    /// close_notify: the peer will send no more. Further input is ignored.
    Closed,
}

/// Why a connection cannot go on. When the peer can be told, an alert is already in `poll_transmit`.
#[derive(Debug)]
pub struct TlsError {
    /// True when the peer's bytes are at fault (counted), false when it is ours.
    pub peer: bool,
    /// One line for a log, e.g. `bad record mac`, `peer sent fatal alert: unknown ca`.
    pub text: String,
    /// The alert that the peer sent us, if that is what ended it.
    pub received_alert: Option<u8>,
}

/// A TLS connection, server or client side, handshake and traffic.
pub struct Connection {}

impl Connection {
    pub fn server(config: &Arc<rustls::ServerConfig>) -> Result<Self, TlsError> {
        todo!()
    }
    pub fn client(config: &Arc<rustls::ClientConfig>, name: ServerName<'static>) -> Result<Self, TlsError> {
        todo!()
    }
    /// Takes ciphertext from `input[*used..]`, advances `*used`, returns one step. Call until `NeedMore`, `Closed` or an
    /// error. Records are opened in place.
    pub fn next<'a>(&'a mut self, input: &'a mut [u8], used: &mut usize) -> Result<Step<'a>, TlsError> {
        todo!()
    }
    pub fn is_established(&self) -> bool {
        todo!()
    }
    /// How this connection's records are laid out; meaningful once established.
    pub fn layout(&self) -> Layout {
        todo!()
    }
    /// True when `transmit` would give bytes even with an empty `Outgoing` (handshake flight, alert, key update answer,
    /// close_notify).
    pub fn wants_transmit(&self) -> bool {
        todo!()
    }
    /// Ends `out`: control bytes first (handshake flight, alerts, KeyUpdate), then the application data of `out`, sealed in
    /// place. Returns the bytes to send as one buffer (possibly empty), and the send must complete in full before the
    /// next call (DESIGN §3). `out` is left consumed. Before the handshake is complete only control bytes are given and a
    /// non-empty `out` is a bug (debug_assert).
    pub fn transmit(&mut self, out: Outgoing) -> Result<Vec<u8>, TlsError> {
        todo!()
    }
    /// Queues close_notify behind what was transmitted so far.
    pub fn close(&mut self) {
        todo!()
    }
    /// Asks for new sending keys before the next record (TLS 1.3; no effect on 1.2), and for the peer's if `both`.
    pub fn update_keys(&mut self, both: bool) {
        todo!()
    }
}
