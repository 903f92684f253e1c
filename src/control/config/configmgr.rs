//! What the preset `configmgr` publishes: the endpoints of a management point and of a software update point that
//! clients of Configuration Manager need from the Internet, under the names by which they ask for them. Data, no code
//! to speak of.
//!
//! ```text
//! https://<gateway>/CCM_Proxy_MutualAuth/<id>/<endpoint>/…   a client certificate is wanted
//! https://<gateway>/CCM_Proxy_ServerAuth/<id>/<endpoint>/…   a token is wanted
//!                   └── stripped ───────────┘└ kept, with suffix and query ┘
//! ```
//!
//! IIS tells no letter cases apart, and the clients' spellings differ: neither do these routes. All that is not listed
//! is refused as everything unpublished is; [`CLOSED`] names what must not even be published by hand.

use crate::control::settings::Auth;
use std::time::Duration;

/// The two ways in, and what each asks for.
pub const SIDES: [(&str, Auth); 2] = [
    ("/CCM_Proxy_MutualAuth", Auth::Certificate),
    ("/CCM_Proxy_ServerAuth", Auth::Token),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    ManagementPoint,
    UpdatePoint,
}

/// On which side an endpoint is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Both,
    /// The endpoint itself expects a token of the site's.
    Token,
}

#[derive(Debug)]
pub struct Endpoint {
    pub role: Role,
    /// Below the prefix, and at the server. With a slash at the end: all below it too; without: it and what it serves.
    pub path: &'static str,
    pub side: Side,
    pub methods: &'static [&'static str],
    pub max_body: u64,
    /// To the first byte of the answer.
    pub timeout: Duration,
    /// Between bytes of an answer's body.
    pub idle_timeout: Duration,
}

/// Policies have 32 MB at most, and so have messages that carry them.
const MESSAGE: u64 = 32 << 20;
/// Inventories, status, and the logs that a client is asked for: 100 MB compressed.
const UPLOAD: u64 = 100 << 20;
/// SOAP of a scan; the update service itself takes 4 MB.
const SOAP: u64 = 4 << 20;
/// Tokens, logins, queries.
const SMALL: u64 = 1 << 20;
/// The body of a PROPFIND.
const LISTING: u64 = 64 << 10;

const USUAL: Duration = Duration::from_secs(60);
/// Messages say how long the management point may take, 60 s as a rule: it must be the first to give up.
const MESSAGE_TIME: Duration = Duration::from_secs(90);
/// A scan's first answers are computed.
const SCAN_TIME: Duration = Duration::from_secs(180);
/// The notification server holds a request until there is something to say, and speaks every 5 to 15 minutes otherwise.
const HELD: Duration = Duration::from_secs(16 * 60);

const READ: &[&str] = &["GET", "HEAD"];
const FILES: &[&str] = &["GET", "HEAD", "PROPFIND"];
const CALL: &[&str] = &["GET", "HEAD", "POST"];
const ASK: &[&str] = &["GET", "HEAD", "POST", "CCM_POST"];
const SEND: &[&str] = &["CCM_POST", "POST"];
const LOAD: &[&str] = &["BITS_POST", "CCM_POST", "HEAD", "POST"];

use Role::{ManagementPoint as Mp, UpdatePoint as Sup};
use Side::{Both, Token};

#[rustfmt::skip]
pub const ENDPOINTS: &[Endpoint] = &[
    // location and policy
    endpoint(Mp, "/SMS_MP/", Both, ASK, MESSAGE, USUAL),
    endpoint(Mp, "/SMS_MP_TokenAuth/", Token, ASK, MESSAGE, USUAL),
    // messages: registration, policy assignments, status
    endpoint(Mp, "/CCM_System/request", Both, SEND, MESSAGE, MESSAGE_TIME),
    endpoint(Mp, "/CCM_System_TokenAuth/request", Token, SEND, MESSAGE, MESSAGE_TIME),
    // uploads by BITS
    endpoint(Mp, "/CCM_Incoming/", Both, LOAD, UPLOAD, USUAL),
    // a token of the site's for one of Entra's, or for a registration token
    endpoint(Mp, "/CCM_STS/", Both, ASK, SMALL, USUAL),
    // the client's own installation
    endpoint(Mp, "/CCM_Client/", Both, FILES, LISTING, USUAL),
    // client notification
    endpoint(Mp, "/BGB/", Both, ASK, SMALL, HELD),
    // what users may install
    endpoint(Mp, "/CMUserService/", Both, CALL, SMALL, USUAL),
    // update scan
    endpoint(Sup, "/ClientWebService/", Both, CALL, SOAP, SCAN_TIME),
    endpoint(Sup, "/SimpleAuthWebService/", Both, CALL, SMALL, USUAL),
    // licence terms
    endpoint(Sup, "/Content/", Both, READ, 0, USUAL),
];

const fn endpoint(
    role: Role,
    path: &'static str,
    side: Side,
    methods: &'static [&'static str],
    max_body: u64,
    timeout: Duration,
) -> Endpoint {
    // A held answer may also pause behind its first byte.
    let idle_timeout = if timeout.as_secs() > USUAL.as_secs() {
        timeout
    } else {
        USUAL
    };
    Endpoint {
        role,
        path,
        side,
        methods,
        max_body,
        timeout,
        idle_timeout,
    }
}

/// Endpoints of the same servers that are for administrators, for other servers, or for the intranet's sign-in: a whole
/// first segment, or its end behind `_`. In small letters.
pub const CLOSED: &[&str] = &[
    "apiremoting30",
    "serversyncwebservice",
    "dssauthwebservice",
    "selfupdate",
    "_windowsauth",
    "_altauth",
];

/// The closed endpoint that a first segment names, in whatever case. Windows drops dots at a name's end, and servers
/// cut parameters off.
pub fn closed(segment: &str) -> Option<&'static str> {
    let name = segment.split(';').next().unwrap_or_default();
    let name = name.trim_end_matches(['.', ' ']).to_ascii_lowercase();
    let is = |closed: &&&str| match closed.starts_with('_') {
        true => name.ends_with(**closed),
        false => name == **closed,
    };
    CLOSED.iter().find(is).copied()
}

/// The rest of a path under one of the two prefixes, from its slash on; in whatever case.
pub fn below_a_side(path: &str) -> Option<&str> {
    SIDES.iter().find_map(|(side, _)| {
        let (head, rest) = path.split_at_checked(side.len())?;
        let borders = rest.is_empty() || rest.starts_with('/');
        (head.eq_ignore_ascii_case(side) && borders).then_some(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_published_is_closed() {
        for endpoint in ENDPOINTS {
            let first = endpoint.path.split('/').nth(1).unwrap();
            assert_eq!(closed(first), None, "{first}");
        }
    }

    #[test]
    fn closed_endpoints_are_known_in_every_spelling() {
        for name in [
            "ApiRemoting30",
            "APIREMOTING30",
            "selfupdate.",
            "SelfUpdate;x=1",
            "DSSAuthWebService...",
        ] {
            assert!(closed(name).is_some(), "{name}");
        }
        for name in [
            "SMS_MP_WindowsAuth",
            "CCM_System_WindowsAuth",
            "sms_mp_altauth",
            "CMUserService_WINDOWSAUTH",
        ] {
            assert!(closed(name).is_some(), "{name}");
        }
        for name in [
            "AdminService",
            "SMS_MP",
            "WindowsAuth",
            "ApiRemoting300",
            "",
        ] {
            assert!(closed(name).is_none(), "{name}");
        }
    }

    #[test]
    fn a_side_ends_with_its_segment() {
        assert_eq!(below_a_side("/CCM_Proxy_MutualAuth"), Some(""));
        assert_eq!(below_a_side("/ccm_proxy_serverauth/7/x"), Some("/7/x"));
        assert_eq!(below_a_side("/CCM_Proxy_MutualAuthX/7"), None);
        assert_eq!(below_a_side("/ccm"), None);
    }
}
