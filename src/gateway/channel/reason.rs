//! Why the gateway ends a channel: what its client is told, by kind of channel, and what connectors are.

use crate::wire::relay::{CloseReason, DownReason};
use crate::wire::websocket::code;

/// One reason. Clients act on its word: some are worth another try at once, some are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The client has a newer channel.
    Replaced,
    /// Its id is on a deny-list, as a connector found.
    Denied,
    /// Somebody asked for it through the API.
    Requested,
    Draining,
    /// Certificate, token or client id was revoked, or its CA is trusted no longer.
    Revoked,
    /// The certificate's or token's time is over: come again with a new one.
    Expired,
    Misbehaved,
    /// More pushes waited than may.
    Slow,
    /// The site asks for other proof by now.
    Forbidden,
}

impl Reason {
    pub const ALL: [Reason; 9] = [
        Reason::Replaced,
        Reason::Denied,
        Reason::Requested,
        Reason::Draining,
        Reason::Revoked,
        Reason::Expired,
        Reason::Misbehaved,
        Reason::Slow,
        Reason::Forbidden,
    ];

    /// What event streams and WebSocket close frames say.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Replaced => "replaced",
            Reason::Denied => "denied",
            Reason::Requested => "requested",
            Reason::Draining => "draining",
            Reason::Revoked => "revoked",
            Reason::Expired => "expired",
            Reason::Misbehaved => "misbehaved",
            Reason::Slow => "slow",
            Reason::Forbidden => "forbidden",
        }
    }

    /// WebSocket close code (RFC 6455 §7.4); those from 4000 on are ours.
    pub fn close_code(self) -> u16 {
        match self {
            Reason::Draining => code::GOING_AWAY,
            Reason::Misbehaved => code::POLICY,
            Reason::Slow => code::TRY_AGAIN,
            Reason::Expired => 4401,
            Reason::Revoked | Reason::Denied | Reason::Forbidden => 4403,
            Reason::Replaced => 4409,
            Reason::Requested => 4410,
        }
    }

    /// Status of the answer to a long poll that is ended.
    pub fn status(self) -> (u16, &'static str) {
        match self {
            Reason::Expired => (401, "Unauthorized"),
            Reason::Revoked | Reason::Denied | Reason::Forbidden => (403, "Forbidden"),
            Reason::Replaced => (409, "Conflict"),
            Reason::Requested => (410, "Gone"),
            Reason::Misbehaved => (400, "Bad Request"),
            Reason::Draining | Reason::Slow => (503, "Service Unavailable"),
        }
    }

    /// What connectors are told.
    pub fn down(self) -> DownReason {
        match self {
            Reason::Replaced | Reason::Denied | Reason::Requested => DownReason::Closed,
            Reason::Draining => DownReason::Draining,
            Reason::Revoked | Reason::Expired | Reason::Forbidden => DownReason::Revoked,
            Reason::Misbehaved => DownReason::Misbehaved,
            Reason::Slow => DownReason::Lost,
        }
    }

    pub fn of_close(reason: CloseReason) -> Reason {
        match reason {
            CloseReason::Replaced => Reason::Replaced,
            CloseReason::Denied => Reason::Denied,
            CloseReason::Requested | CloseReason::Other => Reason::Requested,
        }
    }

    /// Milliseconds until the client should come again, at random in this range, so that those who leave together do not
    /// come back together.
    pub fn retry_ms(self) -> std::ops::Range<u32> {
        match self {
            Reason::Draining => 500..10_000,
            Reason::Expired | Reason::Slow => 100..2_000,
            Reason::Replaced | Reason::Requested | Reason::Misbehaved => 1_000..10_000,
            Reason::Revoked | Reason::Denied | Reason::Forbidden => 30_000..60_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::websocket::is_sendable;

    #[test]
    fn every_reason_can_be_said() {
        for reason in Reason::ALL {
            assert!(is_sendable(reason.close_code()), "{reason:?}");
            assert!((400..600).contains(&reason.status().0));
            assert!(!reason.retry_ms().is_empty());
        }
    }
}
