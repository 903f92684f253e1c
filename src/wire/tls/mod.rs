//! TLS without I/O: rustls's unbuffered API does the handshake, then its keys are taken over and [`wire::record`]
//! carries the data (DESIGN §4).
//!
//! ```text
//!            handshake.rs                takeover                 traffic.rs
//! records ─▶ rustls, one record at a time ─▶ keys, sequence numbers ─▶ open in place ─▶ Step::Data
//!            flights of rustls ◀── transmit ──▶ KeyUpdate · data sealed in place · close_notify
//! ```
//!
//! Invariants worth naming:
//! - rustls sees the handshake up to the end of one record at a time and nothing behind Finished; whatever follows
//!   Finished in `input` is opened here, with the sequence numbers that rustls handed out.
//! - A TLS 1.3 server connection keeps its two traffic secrets and nothing of rustls. They come through the key log of
//!   the config (`sink.rs`), and are used only if they give the very keys that rustls extracted.
//! - A TLS 1.3 client connection keeps its `KernelConnection`: only that can store session tickets. Those of a config that
//!   went through [`prepare_parking_client_config`] store none, and keep their secrets as a server does.
//! - After the handshake come data, alerts, KeyUpdate, and from a server NewSessionTicket. Anything else is a fatal alert:
//!   no renegotiation, no early data, no client certificate after the handshake.
//! - A connection that waits holds no buffer: a partial record is stored only as far as it came, and the store is freed
//!   with its record. [`Connection::drop_keys`] drops the expanded keys too, and [`Connection::park`] all but 160 bytes.
//! - Where the name asked for picks the config ([`Connection::server_by_name`]), the hello is read twice, by `hello.rs` and
//!   by the connection of the config chosen.
//!
//! What never happens here: sockets, clocks (rustls's own ticket and certificate dates apart), decisions about who may
//! come in. The handshake proves possession of a key only ([`verifier::PossessionOnly`]).
//!
//! Every `ServerConfig` must have gone through [`prepare_server_config`] and every `ClientConfig` through
//! [`prepare_client_config`]; `Connection::server` and `Connection::client` refuse others.
//!
//! [`wire::record`]: crate::wire::record

mod alert;
mod assembly;
mod config;
mod connection;
mod error;
mod handshake;
mod hello;
mod parked;
mod post_handshake;
mod sink;
mod sniff;
pub mod tickets;
mod traffic;
pub mod verifier;

pub use config::{prepare_client_config, prepare_parking_client_config, prepare_server_config};
pub use connection::Connection;
pub use error::TlsError;
pub use hello::ChooseConfig;
pub use parked::{Parked, ParkedStep};

#[cfg(test)]
mod tests;
#[cfg(test)]
pub use tests::parked::one as parked_one;

/// What the handshake established. Copied out of rustls; the peer's chain is given once and then dropped.
#[derive(Debug, Default)]
pub struct Established {
    pub tls12: bool,
    /// The cipher suite's name in the IANA registry.
    pub suite: &'static str,
    pub resumed: bool,
    /// Server side: the name that the client asked for, in lower case.
    pub sni: Option<Box<str>>,
    pub alpn: Option<Box<[u8]>>,
    /// DER, end entity first; empty when the peer gave none. A resumed session has that of its first handshake.
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

/// Most bytes that a peer may send until the handshake is complete. A chain of certificates is 3–10 KB; rustls takes
/// single messages of up to 64 KiB.
pub const MAX_HANDSHAKE_BYTES: usize = 128 * 1024;

/// Longest record, header included, that a peer may send to a parked connection (DESIGN §7).
pub const MAX_PARKED_RECORD: usize = 2048;

/// KeyUpdates, tickets, warnings and empty records in a row, without data between, that end a connection.
pub const MAX_BARREN_RECORDS: u8 = 32;
