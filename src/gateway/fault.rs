//! Every way a request can fail at the gateway, in one table: status, code, who, retry, log level and counter.

use crate::wire::Put;
use crate::wire::relay::ResetCode;

/// Who could not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Gateway,
    Connector,
    Upstream,
}

impl Who {
    pub fn name(self) -> &'static str {
        match self {
            Who::Gateway => "gateway",
            Who::Connector => "connector",
            Who::Upstream => "upstream",
        }
    }
}

/// One failure. The discriminant is the index of its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    BadRequest,
    HeadTooLarge,
    TargetTooLong,
    ExpectationFailed,
    NotImplemented,
    VersionNotSupported,
    RequestTimeout,
    Misdirected,
    Unauthenticated,
    Forbidden,
    Revoked,
    NotPublished,
    MethodNotAllowed,
    BodyTooLarge,
    ConnectorLost,
    UpstreamRefused,
    UpstreamBroken,
    NoConnector,
    TrustUnavailable,
    Overloaded,
    UpstreamTimeout,
    PortsExhausted,
    Internal,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub fault: Fault,
    pub status: u16,
    /// Reason phrase, also the title of the problem document.
    pub reason: &'static str,
    pub code: &'static str,
    pub who: Who,
    /// Seconds for `Retry-After`; 0: none.
    pub retry_after: u8,
    /// The connection ends after the answer: what follows on it could be read two ways or is unwanted.
    pub close: bool,
    /// Ours or an operator's to mend (logged at `warn`), not the client's own doing (`debug`).
    pub warn: bool,
}

use Fault::*;
use Who::*;

#[allow(clippy::too_many_arguments)] // a row of the table below, where names would hide the columns
const fn row(
    fault: Fault,
    status: u16,
    reason: &'static str,
    code: &'static str,
    who: Who,
    retry_after: u8,
    close: bool,
    warn: bool,
) -> Row {
    Row {
        fault,
        status,
        reason,
        code,
        who,
        retry_after,
        close,
        warn,
    }
}

/// The table, in the order of the enum.
#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    row(BadRequest,          400, "Bad Request",                     "bad_request",           Gateway,   0, true,  false),
    row(HeadTooLarge,        431, "Request Header Fields Too Large", "head_too_large",        Gateway,   0, true,  false),
    row(TargetTooLong,       414, "URI Too Long",                    "target_too_long",       Gateway,   0, true,  false),
    row(ExpectationFailed,   417, "Expectation Failed",              "expectation_failed",    Gateway,   0, true,  false),
    row(NotImplemented,      501, "Not Implemented",                 "not_implemented",       Gateway,   0, true,  false),
    row(VersionNotSupported, 505, "HTTP Version Not Supported",      "version_not_supported", Gateway,   0, true,  false),
    row(RequestTimeout,      408, "Request Timeout",                 "request_timeout",       Gateway,   0, true,  false),
    row(Misdirected,         421, "Misdirected Request",             "misdirected",           Gateway,   0, false, false),
    row(Unauthenticated,     401, "Unauthorized",                    "unauthenticated",       Gateway,   0, false, false),
    row(Forbidden,           403, "Forbidden",                       "forbidden",             Gateway,   0, false, false),
    row(Revoked,             403, "Forbidden",                       "revoked",               Gateway,   0, false, false),
    row(NotPublished,        404, "Not Found",                       "not_published",         Gateway,   0, false, false),
    row(MethodNotAllowed,    405, "Method Not Allowed",              "method_not_allowed",    Gateway,   0, false, false),
    row(BodyTooLarge,        413, "Content Too Large",               "body_too_large",        Gateway,   0, true,  false),
    row(ConnectorLost,       502, "Bad Gateway",                     "connector_lost",        Connector, 0, false, true),
    row(UpstreamRefused,     502, "Bad Gateway",                     "upstream_refused",      Upstream,  0, false, true),
    row(UpstreamBroken,      502, "Bad Gateway",                     "upstream_broken",       Upstream,  0, false, true),
    row(NoConnector,         503, "Service Unavailable",             "no_connector",          Gateway,   2, false, true),
    row(TrustUnavailable,    503, "Service Unavailable",             "trust_unavailable",     Gateway,   2, false, true),
    row(Overloaded,          503, "Service Unavailable",             "overloaded",            Gateway,   5, false, true),
    row(UpstreamTimeout,     504, "Gateway Timeout",                 "upstream_timeout",      Upstream,  0, false, true),
    row(PortsExhausted,      503, "Service Unavailable",             "ports_exhausted",       Connector, 5, false, true),
    row(Internal,            500, "Internal Server Error",           "internal",              Gateway,   0, true,  true),
];

impl Fault {
    /// This fault's row.
    pub fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// What to say of it when nothing more is known.
    pub fn explanation(self) -> &'static str {
        match self {
            NotPublished => "no connector of this site publishes the path",
            MethodNotAllowed => "the route does not take this method",
            BodyTooLarge => "the body is larger than the route takes",
            NoConnector => "no connector of this site is linked",
            TrustUnavailable => {
                "the keys or revocation lists that the client is judged by are not there yet"
            }
            PortsExhausted => "the connector has no local port left towards the upstream",
            _ => "",
        }
    }

    /// What a refused HTTP message means, by the status that the HTTP core chose.
    pub fn of_status(status: u16) -> Fault {
        match status {
            413 => Fault::BodyTooLarge,
            414 => Fault::TargetTooLong,
            417 => Fault::ExpectationFailed,
            431 => Fault::HeadTooLarge,
            501 => Fault::NotImplemented,
            505 => Fault::VersionNotSupported,
            _ => Fault::BadRequest,
        }
    }
}

/// Whether another connector may be asked after a request's stream was lost; `retry.rs` has the rest of the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// The request's own fault, or it would take the same time again.
    Never,
    /// The upstream may have seen the request: only where that does no harm.
    Idempotent,
    /// The upstream saw nothing of it.
    Always,
}

/// How a stream was lost before its end: what the client is told, unless another connector can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    pub fault: Fault,
    pub repeat: Repeat,
}

impl Loss {
    const fn new(fault: Fault, repeat: Repeat) -> Loss {
        Loss { fault, repeat }
    }

    /// The link to the connector is gone.
    pub const LINK: Loss = Loss::new(ConnectorLost, Repeat::Idempotent);

    /// What a relay stream's RESET means.
    #[rustfmt::skip]
    pub const fn of_reset(code: ResetCode) -> Loss {
        match code {
            // The protocol's promise: the upstream saw nothing.
            ResetCode::Refused         => Loss::new(Overloaded,      Repeat::Always),
            // Sent by a connector when no connection came about, so nothing could be sent on it. (Or none came about to
            // repeat on what a dead pooled connection had carried, which it does with GET and the like only.)
            ResetCode::UpstreamRefused => Loss::new(UpstreamRefused, Repeat::Always),
            // Nor without a port to connect from.
            ResetCode::PortsExhausted  => Loss::new(PortsExhausted,  Repeat::Always),
            ResetCode::Cancelled       => Loss::new(ConnectorLost,   Repeat::Idempotent),
            ResetCode::UpstreamBroken  => Loss::new(UpstreamBroken,  Repeat::Idempotent),
            ResetCode::Internal        => Loss::new(Internal,        Repeat::Idempotent),
            // The client has waited long enough, and the upstream is slow already.
            ResetCode::UpstreamTimeout => Loss::new(UpstreamTimeout, Repeat::Never),
            // Another connector would say the same, or be pushed over its limit too.
            ResetCode::NotPublished    => Loss::new(NotPublished,    Repeat::Never),
            ResetCode::BodyTooLarge    => Loss::new(BodyTooLarge,    Repeat::Never),
            ResetCode::Overloaded      => Loss::new(Overloaded,      Repeat::Never),
            ResetCode::Protocol        => Loss::new(Internal,        Repeat::Never),
        }
    }
}

/// Writes the problem document (RFC 9457) of `fault`.
pub fn write_body(row: &Row, detail: &str, request_id: &str, out: &mut Vec<u8>) {
    out.put(b"{\"type\":\"about:blank\",\"title\":\"");
    out.put(row.reason.as_bytes());
    out.put(b"\",\"status\":");
    out.put(row.status.to_string().as_bytes());
    out.put(b",\"code\":\"");
    out.put(row.code.as_bytes());
    out.put(b"\",\"who\":\"");
    out.put(row.who.name().as_bytes());
    out.put(b"\",\"request_id\":\"");
    out.put(request_id.as_bytes());
    out.put(b"\"");
    if !detail.is_empty() {
        out.put(b",\"detail\":");
        // Details may quote what a peer sent: JSON's own escaping keeps them one string.
        let quoted = serde_json::Value::from(detail).to_string();
        out.put(quoted.as_bytes());
    }
    out.put(b"}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.fault as usize, i, "{:?}", row.fault);
            assert_eq!(row.fault.row().code, row.code);
        }
        assert_eq!(TABLE.len(), Fault::Internal as usize + 1);
    }

    #[test]
    fn codes_are_distinct() {
        let mut codes: Vec<_> = TABLE.iter().map(|r| r.code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), TABLE.len());
    }

    #[test]
    fn body_is_json_whatever_the_detail_quotes() {
        let mut out = Vec::new();
        write_body(
            Fault::NotPublished.row(),
            "path \"/a\\b\"\n\u{1}",
            "id-1",
            &mut out,
        );
        let v: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(v["code"], "not_published");
        assert_eq!(v["who"], "gateway");
        assert_eq!(v["status"], 404);
        assert_eq!(v["detail"], "path \"/a\\b\"\n\u{1}");
    }
}
