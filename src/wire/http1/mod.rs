//! HTTP/1.1 without I/O (RFC 9112, RFC 9110), both directions.

pub use crate::wire::Field;
use crate::wire::Put;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Request or status line and all headers, in bytes.
    pub head_bytes: usize,
    pub header_count: usize,
    /// Trailer section, in bytes.
    pub trailer_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body at all (also: HEAD, 204, 304).
    None,
    Length(u64),
    Chunked,
    /// Responses only: the body ends with the connection.
    UntilClose,
}

pub struct RequestHead<'a> {
    pub method: &'a [u8],
    /// As sent; origin-form, or absolute-form (then `host` is the target's authority), or `*` with OPTIONS.
    pub target: &'a [u8],
    /// Host header (or the authority of an absolute-form target); empty when HTTP/1.0 had none.
    pub host: &'a [u8],
    pub http10: bool,
    pub fields: Fields<'a>,
    pub framing: Framing,
    pub expect_continue: bool,
    /// `Connection: upgrade` and the Upgrade header's value.
    pub upgrade: Option<&'a [u8]>,
}

pub struct ResponseHead<'a> {
    pub status: u16,
    pub reason: &'a [u8],
    pub http10: bool,
    pub fields: Fields<'a>,
    pub framing: Framing,
    /// 1xx, 101 excepted.
    pub interim: bool,
}

impl<'a> RequestHead<'a> {
    /// Path and query of the target, whatever its form; `*` for OPTIONS of the server itself.
    pub fn origin_form(&self) -> &'a [u8] {
        todo!()
    }
}

/// Header or trailer fields, checked, still in the form they came in: two words, `Copy`, walked line by line without
/// allocation. Passed as it is to the `send_*` functions, which take anything that iterates over [`Field`]s.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fields<'a> {
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    /// First field of that name, case ignored.
    pub fn get(&self, name: &[u8]) -> Option<&'a [u8]> {
        todo!()
    }
    pub fn iter(&self) -> FieldsIter<'a> {
        todo!()
    }
    /// Those that a proxy forwards: all but the hop-by-hop ones.
    pub fn end_to_end(self) -> impl Iterator<Item = Field<'a>> {
        self.iter()
            .filter(move |field| !is_hop_by_hop(field.name, self))
    }
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl<'a> IntoIterator for Fields<'a> {
    type Item = Field<'a>;
    type IntoIter = FieldsIter<'a>;
    fn into_iter(self) -> FieldsIter<'a> {
        self.iter()
    }
}

#[derive(Clone, Copy, Debug)]
pub struct FieldsIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for FieldsIter<'a> {
    type Item = Field<'a>;
    fn next(&mut self) -> Option<Field<'a>> {
        todo!()
    }
}

/// Why a message is refused: the status to answer with (then close), and what was wrong, for the error's detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// 400, 413, 414, 417, 431, 501 or 505.
    pub status: u16,
    pub why: &'static str,
}

pub enum ServerEvent<'a> {
    /// Input used up (or the next request must wait for the answer to this one: its bytes are kept inside).
    NeedMore,
    Head(RequestHead<'a>),
    /// Body bytes, never empty.
    Data(&'a [u8]),
    /// The request is complete.
    End {
        trailers: Fields<'a>,
    },
}

/// The server's side of one connection: requests in, responses out; keep-alive and pipelining.
pub struct Server {}

impl Server {
    pub fn new(limits: Limits) -> Self {
        todo!()
    }
    /// Takes plaintext from `input[*used..]`, advances `*used`, gives one event. Call until `NeedMore`. After a response
    /// ended, call once more with empty input: a pipelined request may wait inside.
    pub fn next<'a>(
        &'a mut self,
        input: &'a [u8],
        used: &mut usize,
    ) -> Result<ServerEvent<'a>, Refusal> {
        todo!()
    }
    /// Bytes of later requests kept inside; the owner pauses receiving while it is over a few KiB.
    pub fn held(&self) -> usize {
        todo!()
    }
    /// No request is open and nothing is buffered: the connection is idle between requests.
    pub fn is_idle(&self) -> bool {
        todo!()
    }
    /// A head has begun and is not complete (for the slow-head deadline).
    pub fn in_head(&self) -> bool {
        todo!()
    }
    /// The request's body has not ended.
    pub fn in_body(&self) -> bool {
        todo!()
    }
    /// A request head was given and its response has not ended.
    pub fn awaits_response(&self) -> bool {
        todo!()
    }
    /// 1xx other than 101, any number of times before the head. Not sent to HTTP/1.0 clients.
    pub fn send_interim<'f>(
        &mut self,
        out: &mut impl Put,
        status: u16,
        fields: impl IntoIterator<Item = Field<'f>>,
    ) {
        todo!()
    }
    /// The final head. Hop-by-hop fields (Connection, Keep-Alive, Transfer-Encoding, TE, Trailer is kept, Upgrade,
    /// Proxy-Connection, and those that Connection names) must not be in `fields`; `Content-Length` of a
    /// HEAD/304 answer is kept. Framing is written by this function (`Length` → Content-Length, `Chunked` →
    /// chunked, or until close for HTTP/1.0). Adds `Connection: close` when the connection will close.
    pub fn send_head<'f>(
        &mut self,
        out: &mut impl Put,
        status: u16,
        reason: &[u8],
        fields: impl IntoIterator<Item = Field<'f>>,
        framing: Framing,
    ) {
        todo!()
    }
    /// Body bytes of the response. More than Content-Length promised, or after the end, is the caller's bug (assert).
    pub fn send_data(&mut self, out: &mut impl Put, bytes: &[u8]) {
        todo!()
    }
    /// Body bytes that `send_data` still takes (`u64::MAX` when no length was promised): what a peer sends beyond it is
    /// that peer's fault and must not reach `send_data`.
    pub fn room(&self) -> u64 {
        todo!()
    }
    /// Ends the response (last chunk, trailers). False when a Content-Length body is short: the caller must abort.
    pub fn send_end<'f>(
        &mut self,
        out: &mut impl Put,
        trailers: impl IntoIterator<Item = Field<'f>>,
    ) -> bool {
        todo!()
    }
    /// The next response carries `Connection: close` and the connection ends after it.
    pub fn close_after_response(&mut self) {
        todo!()
    }
    /// The response is complete and no further request may follow: flush, shutdown(WR), drain, close.
    pub fn should_close(&self) -> bool {
        todo!()
    }
    /// The final response head of the current request has been sent.
    pub fn response_started(&self) -> bool {
        todo!()
    }
    /// Method of the open request was HEAD.
    pub fn is_head_request(&self) -> bool {
        todo!()
    }
}

pub enum ClientEvent<'a> {
    NeedMore,
    /// An interim (1xx) head: more heads follow.
    Interim(ResponseHead<'a>),
    Head(ResponseHead<'a>),
    Data(&'a [u8]),
    End {
        trailers: Fields<'a>,
    },
}

/// The client's side of one connection: one request at a time.
pub struct Client {}

impl Client {
    pub fn new(limits: Limits) -> Self {
        todo!()
    }
    /// Starts a request. `fields` without hop-by-hop fields and framing (as above), with Host.
    pub fn send_head<'f>(
        &mut self,
        out: &mut impl Put,
        method: &[u8],
        target: &[u8],
        fields: impl IntoIterator<Item = Field<'f>>,
        framing: Framing,
    ) {
        todo!()
    }
    pub fn send_data(&mut self, out: &mut impl Put, bytes: &[u8]) {
        todo!()
    }
    /// Body bytes that `send_data` still takes (`u64::MAX` when no length was promised).
    pub fn room(&self) -> u64 {
        todo!()
    }
    /// False when a Content-Length body is short: the caller must abort the connection.
    pub fn send_end<'f>(
        &mut self,
        out: &mut impl Put,
        trailers: impl IntoIterator<Item = Field<'f>>,
    ) -> bool {
        todo!()
    }
    pub fn next<'a>(
        &'a mut self,
        input: &'a [u8],
        used: &mut usize,
    ) -> Result<ClientEvent<'a>, Refusal> {
        todo!()
    }
    /// The peer finished. `Ok(true)`: that ends an until-close body (the response is complete); `Ok(false)`: nothing was
    /// open; `Err`: the response was cut short.
    pub fn finish(&mut self) -> Result<bool, Refusal> {
        todo!()
    }
    /// The response ended, the request ended, and the connection may carry another.
    pub fn is_reusable(&self) -> bool {
        todo!()
    }
}

/// True for the fields that a proxy does not forward (RFC 9110 §7.6.1), `fields` being those of the same message (Connection names more).
pub fn is_hop_by_hop(name: &[u8], fields: Fields<'_>) -> bool {
    todo!()
}
