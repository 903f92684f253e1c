//! Cores without I/O: bytes and `now` in; bytes, events and the next deadline out.
//!
//! A core knows one format and nothing of us: no socket, no clock, no randomness that was not passed in,
//! no map iteration order. Contract (after quinn-proto): `handle`/`next` takes input, `poll`/`pump` gives output,
//! one change and then drain. Nothing here imports `ring`, `shard`, `gateway`, `connector`, `control` or `observe`.

pub mod event_stream;
pub mod http1;
pub mod http2;
pub mod path;
pub mod proxy_protocol;
pub mod record;
pub mod relay;
pub mod timer;
pub mod tls;
pub mod websocket;

/// Where a core writes the bytes that it wants sent, in order. Implemented by [`record::Outgoing`] (plaintext laid
/// out in TLS records, to be sealed in place) and by `Vec<u8>` (clear TCP, tests).
pub trait Put {
    /// Appends bytes.
    fn put(&mut self, bytes: &[u8]);
    /// Plaintext bytes that wait here, for staging limits.
    fn staged(&self) -> usize;
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
    fn staged(&self) -> usize {
        self.len()
    }
}

/// A header or trailer field, borrowed; names keep their case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    pub name: &'a [u8],
    pub value: &'a [u8],
}
