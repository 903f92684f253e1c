//! Opening handshake (RFC 6455 §4). Heads are read and written by HTTP/1.1; here are the fields that make one of them an
//! upgrade to WebSocket.

use crate::wire::http1::{RequestHead, ResponseHead};
use crate::wire::{Field, http1::Fields};
use aws_lc_rs::digest;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// §1.3: what the server appends to the key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Base64 of a nonce of 16 bytes.
const KEY_LENGTH: usize = 24;
/// Base64 of a SHA-1.
const ACCEPT_LENGTH: usize = 28;

/// Why an upgrade is refused: the status to answer with, and what was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// 400, 405 or 426.
    pub status: u16,
    pub why: &'static str,
}

impl Refused {
    /// Fields that the answer must carry: which protocol and version we would take (§4.4, RFC 9110 §15.5.22).
    pub fn fields(&self) -> impl Iterator<Item = Field<'static>> + use<> {
        const WANTED: [Field<'static>; 2] = [
            field(b"Upgrade", b"websocket"),
            field(b"Sec-WebSocket-Version", b"13"),
        ];
        WANTED.into_iter().filter({
            let asked = self.status == 426;
            move |_| asked
        })
    }
}

/// The server's answer to a good request: 101 with these fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept<'p> {
    accept: [u8; ACCEPT_LENGTH],
    protocol: Option<&'p str>,
}

impl<'p> Accept<'p> {
    /// Checks a request. `protocol` is the subprotocol that this server speaks, if it has one: it is named in the answer
    /// when the client offered it. Extensions are declined by naming none.
    pub fn of(head: &RequestHead<'_>, protocol: Option<&'p str>) -> Result<Self, Refused> {
        if head.method != b"GET" {
            return Err(refused(405, "WebSocket begins with GET"));
        }
        // `upgrade` is the last field of that name; a list may be spread over several
        let asked = head.upgrade.is_some() && has(head.fields, b"upgrade", b"websocket", true);
        if !asked {
            return Err(refused(426, "no upgrade to WebSocket asked for"));
        }
        if head.framing != crate::wire::http1::Framing::None
            && head.framing != crate::wire::http1::Framing::Length(0)
        {
            return Err(refused(400, "WebSocket request with a body"));
        }
        match only(head.fields, b"sec-websocket-version") {
            Ok(Some(b"13")) => {}
            _ => return Err(refused(426, "WebSocket version other than 13")),
        }
        let Ok(Some(key)) = only(head.fields, b"sec-websocket-key") else {
            return Err(refused(400, "not one Sec-WebSocket-Key"));
        };
        let nonce = BASE64_STANDARD.decode(key).unwrap_or_default();
        if key.len() != KEY_LENGTH || nonce.len() != 16 {
            return Err(refused(400, "Sec-WebSocket-Key is not 16 bytes in base64"));
        }
        let offered = |name: &&str| {
            has(
                head.fields,
                b"sec-websocket-protocol",
                name.as_bytes(),
                false,
            )
        };
        Ok(Self {
            accept: accept(key),
            protocol: protocol.filter(offered),
        })
    }

    /// The subprotocol agreed on.
    pub fn protocol(&self) -> Option<&'p str> {
        self.protocol
    }

    /// For `Server::send_head` with status 101, which adds Connection.
    pub fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        [
            field(b"Upgrade", b"websocket"),
            field(b"Sec-WebSocket-Accept", &self.accept),
        ]
        .into_iter()
        .chain(protocol_field(self.protocol))
    }
}

/// The client's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer<'p> {
    key: [u8; KEY_LENGTH],
    protocol: Option<&'p str>,
}

impl<'p> Offer<'p> {
    /// `nonce` is random, new for each connection.
    pub fn new(nonce: [u8; 16], protocol: Option<&'p str>) -> Self {
        let mut key = [0; KEY_LENGTH];
        let written = BASE64_STANDARD.encode_slice(nonce, &mut key);
        debug_assert_eq!(written, Ok(KEY_LENGTH));
        Self { key, protocol }
    }

    /// For `Client::send_head` with GET, beside Host; it adds Connection.
    pub fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        [
            field(b"Upgrade", b"websocket"),
            field(b"Sec-WebSocket-Version", b"13"),
            field(b"Sec-WebSocket-Key", &self.key),
        ]
        .into_iter()
        .chain(protocol_field(self.protocol))
    }

    /// Checks the answer (§4.1, the client's list).
    pub fn check(&self, head: &ResponseHead<'_>) -> Result<(), &'static str> {
        if head.status != 101 {
            return Err("upgrade not granted");
        }
        if !matches!(only(head.fields, b"upgrade"), Ok(Some(v)) if v.eq_ignore_ascii_case(b"websocket"))
            || !has(head.fields, b"connection", b"upgrade", true)
        {
            return Err("upgraded to something else");
        }
        if only(head.fields, b"sec-websocket-accept") != Ok(Some(&accept(&self.key))) {
            return Err("Sec-WebSocket-Accept does not fit the key");
        }
        if head.fields.get(b"sec-websocket-extensions").is_some() {
            return Err("extension not asked for");
        }
        match only(head.fields, b"sec-websocket-protocol") {
            Ok(None) => Ok(()),
            Ok(Some(name)) if self.protocol.map(str::as_bytes) == Some(name) => Ok(()),
            _ => Err("subprotocol not asked for"),
        }
    }
}

fn accept(key: &[u8]) -> [u8; ACCEPT_LENGTH] {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(GUID);
    let mut text = [0; ACCEPT_LENGTH];
    let written = BASE64_STANDARD.encode_slice(hash.finish(), &mut text);
    debug_assert_eq!(written, Ok(ACCEPT_LENGTH));
    text
}

/// The value of a field that may stand once.
fn only<'a>(fields: Fields<'a>, name: &[u8]) -> Result<Option<&'a [u8]>, ()> {
    let mut values = fields.get_all(name);
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => Err(()),
    }
}

/// A list names the element. Options and protocols of HTTP ignore case, subprotocols do not.
fn has(fields: Fields<'_>, name: &[u8], element: &[u8], any_case: bool) -> bool {
    fields.get_all(name).any(|value| {
        value.split(|b| *b == b',').any(|one| {
            let one = one.trim_ascii();
            one == element || (any_case && one.eq_ignore_ascii_case(element))
        })
    })
}

const fn field<'a>(name: &'a [u8], value: &'a [u8]) -> Field<'a> {
    Field { name, value }
}

fn protocol_field(protocol: Option<&str>) -> Option<Field<'_>> {
    protocol.map(|name| field(b"Sec-WebSocket-Protocol", name.as_bytes()))
}

fn refused(status: u16, why: &'static str) -> Refused {
    Refused { status, why }
}
