//! WebSocket without I/O (RFC 6455), both sides, no extensions.
//!
//! - `handshake` reads and writes the fields of the opening handshake; the heads themselves are HTTP/1.1's.
//! - `frame` reads and writes frame heads and masks; `close` knows status codes; `utf8` checks text as it arrives.
//! - [`Socket`] is one open connection: bytes in, messages out; it answers pings and the closing handshake by itself.
//! - [`Parked`] is all that must live while nothing arrives: one pointer, null for a connection at rest.
//!
//! **What holds.** The same bytes give the same events and the same refusal however they are split, and text is refused
//! at its first wrong byte. A message that arrives whole, in one frame, is unmasked where it lies: neither copied nor
//! allocated for. What is kept of an incomplete one lives in a box, under [`Limits::message_bytes`], with a deadline,
//! and goes when the message is complete. After a refusal a Close frame has been written and nothing more is read.
//!
//! **What never happens here.** No input of a peer panics. No frame is masked by a server or unmasked by a client. 1005,
//! 1006 and 1015 are not written, nor a Close frame twice. Pings are not queued: of those that arrive in one input the
//! last is answered (§5.5.3), so that a flood of them buys one answer a record.

mod close;
mod frame;
mod handshake;
mod kept;
mod socket;
mod utf8;

#[cfg(test)]
mod tests;

pub use close::{code, is_sendable};
pub use frame::{CONTROL_MAX, HEAD_MAX};
pub use handshake::{Accept, Offer, Refused};
pub use socket::{Event, Parked, Socket};

use std::time::Duration;

/// Whose end of the connection this is.
#[derive(Clone, Debug)]
pub enum Role {
    /// Requires masks of the peer, sends none.
    Server,
    /// Masks what it sends, with keys of this generator; refuses masks. The keys keep scripts from choosing what
    /// middlemen see (§10.3); whoever carries bytes of strangers seeds it from the system's randomness.
    Client(fastrand::Rng),
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Payload of one inbound message, all its fragments together; 1009 over it.
    pub message_bytes: usize,
    /// From the first byte of a message or frame to its last.
    pub message_wait: Duration,
    /// From our Close frame to the peer's.
    pub close_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 1024,
            message_wait: Duration::from_secs(10),
            close_wait: Duration::from_secs(5),
        }
    }
}

/// Why a connection fails: the status code that was sent, and what was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// 1002, 1007, 1008 or 1009.
    pub code: u16,
    pub why: &'static str,
}

fn protocol(why: &'static str) -> Fault {
    Fault {
        code: code::PROTOCOL,
        why,
    }
}
