//! Shared by the test files: limits, and what a core said, owned, so that runs can be compared.

mod exchange;
mod random;
mod requests;
mod responses;

use super::*;

pub(super) const LIMITS: Limits = Limits {
    head_bytes: 1024,
    header_count: 16,
    trailer_bytes: 256,
};

pub(super) type Pairs = Vec<(String, String)>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) host: String,
    pub(super) http10: bool,
    pub(super) fields: Pairs,
    /// What a proxy would pass on of them.
    pub(super) forwarded: Pairs,
    pub(super) framing: Framing,
    pub(super) expect_continue: bool,
    pub(super) upgrade: Option<String>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Pairs,
    pub(super) ended: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) reason: String,
    pub(super) http10: bool,
    pub(super) fields: Pairs,
    /// What a proxy would pass on of them.
    pub(super) forwarded: Pairs,
    pub(super) framing: Framing,
    pub(super) interim: bool,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Pairs,
    pub(super) ended: bool,
}

pub(super) fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|b| char::from(*b)).collect()
}

pub(super) fn pairs(fields: Fields<'_>) -> Pairs {
    fields
        .iter()
        .map(|field| (text(field.name), text(field.value)))
        .collect()
}

fn forwarded(fields: Fields<'_>) -> Pairs {
    let kept = fields
        .end_to_end()
        .filter(|field| !field.name.eq_ignore_ascii_case(b"content-length"));
    kept.map(|field| (text(field.name), text(field.value)))
        .collect()
}

/// The inverse of `text`.
pub(super) fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(c).unwrap()).collect()
}

pub(super) fn as_fields(pairs: &[(String, String)]) -> impl Iterator<Item = Field<'_>> {
    pairs.iter().map(|(name, value)| Field {
        name: name.as_bytes(),
        value: value.as_bytes(),
    })
}

/// Feeds `pieces` to a server that answers each complete request with an empty 200; what it saw, and how it ended.
pub(super) fn serve<'a>(
    limits: Limits,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Request>, Option<Refusal>) {
    let mut server = Server::new(limits);
    let mut seen: Vec<Request> = Vec::new();
    for piece in pieces {
        let mut used = 0;
        loop {
            match server.next(piece, &mut used) {
                Err(refusal) => return (seen, Some(refusal)),
                Ok(ServerEvent::NeedMore) => break,
                Ok(ServerEvent::Head(head)) => seen.push(Request {
                    method: text(head.method),
                    target: text(head.target),
                    host: text(head.host),
                    http10: head.http10,
                    fields: pairs(head.fields),
                    forwarded: forwarded(head.fields),
                    framing: head.framing,
                    expect_continue: head.expect_continue,
                    upgrade: head.upgrade.map(text),
                    body: Vec::new(),
                    trailers: Vec::new(),
                    ended: false,
                }),
                Ok(ServerEvent::Data(bytes)) => {
                    assert!(!bytes.is_empty());
                    seen.last_mut().unwrap().body.extend_from_slice(bytes);
                }
                Ok(ServerEvent::End { trailers }) => {
                    let request = seen.last_mut().unwrap();
                    request.trailers = pairs(trailers);
                    request.ended = true;
                    let mut out = Vec::new();
                    server.send_head(&mut out, 200, b"OK", [], Framing::None);
                    assert!(server.send_end(&mut out, []));
                }
            }
        }
        assert_eq!(used, piece.len(), "NeedMore leaves nothing unused");
    }
    (seen, None)
}

/// Feeds `pieces` to a client that has sent one request; what it saw, and how it ended. `closed`: the peer finishes.
pub(super) fn ask<'a>(
    method: &str,
    upgrade: bool,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    closed: bool,
) -> (Vec<Response>, Result<bool, Refusal>) {
    let mut client = Client::new(LIMITS);
    let mut out = Vec::new();
    let upgrade = upgrade.then_some(Field {
        name: b"Upgrade",
        value: b"x",
    });
    client.send_head(&mut out, method.as_bytes(), b"/", upgrade, Framing::None);
    assert!(client.send_end(&mut out, []));
    let mut seen: Vec<Response> = Vec::new();
    for piece in pieces {
        let mut used = 0;
        loop {
            match client.next(piece, &mut used) {
                Err(refusal) => return (seen, Err(refusal)),
                Ok(ClientEvent::NeedMore) => break,
                Ok(ClientEvent::Interim(head) | ClientEvent::Head(head)) => seen.push(Response {
                    status: head.status,
                    reason: text(head.reason),
                    http10: head.http10,
                    fields: pairs(head.fields),
                    forwarded: forwarded(head.fields),
                    framing: head.framing,
                    interim: head.interim,
                    body: Vec::new(),
                    trailers: Vec::new(),
                    ended: false,
                }),
                Ok(ClientEvent::Data(bytes)) => {
                    assert!(!bytes.is_empty());
                    seen.last_mut().unwrap().body.extend_from_slice(bytes);
                }
                Ok(ClientEvent::End { trailers }) => {
                    let response = seen.last_mut().unwrap();
                    response.trailers = pairs(trailers);
                    response.ended = true;
                }
            }
        }
        assert_eq!(used, piece.len(), "NeedMore leaves nothing unused");
    }
    if closed && let Err(refusal) = client.finish() {
        return (seen, Err(refusal));
    }
    (seen, Ok(client.is_reusable()))
}
