//! The gateway's own paths under `/.tidegate/`: which one a request is for, and what it carries.

use crate::wire::http1::{Framing, RequestHead};
use crate::wire::relay::PushId;
use crate::wire::websocket::Accept;

use super::super::fault::Fault;
use super::super::hold::Incoming;
use super::super::request::Failure;

/// What begins all of them; no route has it.
pub const PREFIX: &[u8] = b"/.tidegate/";
const CHANNEL: &[u8] = b"/.tidegate/channel";
const RECEIPT: &[u8] = b"/.tidegate/receipt";

/// Bytes of a receipt's body.
pub const RECEIPT_BYTES: u64 = 4096;
/// Seconds that a long poll may wait.
const WAIT: std::ops::RangeInclusive<u32> = 1..=300;

/// A request that the gateway answers itself.
pub enum Own {
    Channel(Wish),
    /// Ids of pushes in the body.
    Receipt(Vec<u8>),
}

/// A channel that a client wants.
#[derive(Debug)]
pub struct Wish {
    pub form: Form,
    /// The push that the client had last.
    pub last: Option<PushId>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Form {
    EventStream,
    /// Fields of the answer.
    WebSocket(Accept<'static>),
    /// Seconds.
    LongPoll(u32),
}

/// Reads what only a fresh head has: the opening handshake of a WebSocket. To be kept while the request waits.
pub fn upgrade(head: &RequestHead<'_>) -> Option<Result<Accept<'static>, &'static str>> {
    head.upgrade?;
    head.origin_form()
        .starts_with(PREFIX)
        .then(|| Accept::of(head, None).map_err(|refused| refused.why))
}

/// Which of our own requests this is, with `path` and `query` as they were normalised.
pub fn read(
    head: &Incoming<'_>,
    path: &[u8],
    query: Option<&[u8]>,
    upgrade: Option<Result<Accept<'static>, &'static str>>,
) -> Result<Own, Failure> {
    let wrong = |fault: Fault, text: &str| Err((fault, text.to_owned()));
    if path == RECEIPT {
        if head.method != b"POST" {
            return wrong(Fault::MethodNotAllowed, "receipts are given by POST");
        }
        if matches!(head.framing, Framing::Length(n) if n > RECEIPT_BYTES) {
            return wrong(Fault::BodyTooLarge, "receipts take 4096 bytes at most");
        }
        return Ok(Own::Receipt(Vec::new()));
    }
    if path != CHANNEL {
        return wrong(
            Fault::NotPublished,
            "the gateway has no such path of its own",
        );
    }
    if head.method != b"GET" {
        return wrong(Fault::MethodNotAllowed, "a channel is opened by GET");
    }
    if !matches!(head.framing, Framing::None | Framing::Length(0)) {
        return wrong(Fault::BadRequest, "a channel is opened without a body");
    }
    if head.http10 {
        return wrong(Fault::VersionNotSupported, "a channel needs HTTP/1.1");
    }
    let form = match (upgrade, wait(query)) {
        (Some(Ok(accept)), _) => Form::WebSocket(accept),
        (Some(Err(why)), _) => return wrong(Fault::BadRequest, why),
        (None, None) => Form::EventStream,
        (None, Some(Some(seconds))) if WAIT.contains(&seconds) => Form::LongPoll(seconds),
        (None, Some(_)) => {
            return wrong(
                Fault::BadRequest,
                "`wait` is a number of seconds from 1 to 300",
            );
        }
    };
    Ok(Own::Channel(Wish {
        form,
        last: last_event_id(head),
    }))
}

/// `wait=` of the query: not there, no number, or seconds.
fn wait(query: Option<&[u8]>) -> Option<Option<u32>> {
    let value = query?
        .split(|b| *b == b'&')
        .find_map(|pair| pair.strip_prefix(b"wait="))?;
    let text = std::str::from_utf8(value).ok();
    Some(text.and_then(|text| text.parse().ok()))
}

/// What an event stream's client sends when it comes back. Anything but an id of ours acknowledges nothing.
fn last_event_id(head: &Incoming<'_>) -> Option<PushId> {
    let mut fields = head.fields();
    let field = fields.find(|field| field.name.eq_ignore_ascii_case(b"last-event-id"))?;
    std::str::from_utf8(field.value).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_a_whole_number_of_seconds() {
        assert_eq!(wait(None), None);
        assert_eq!(wait(Some(b"a=1&b=2")), None);
        assert_eq!(wait(Some(b"a=1&wait=30")), Some(Some(30)));
        assert_eq!(wait(Some(b"wait=")), Some(None));
        assert_eq!(wait(Some(b"wait=-1")), Some(None));
        assert_eq!(wait(Some(b"wait=99999999999")), Some(None));
    }
}
