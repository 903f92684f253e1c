//! Requests that wait for a link of their site, or for its first settings: bounded in number and time, then 503.

use crate::wire::Field;
use crate::wire::http1::{Fields, Framing, RequestHead};

/// A request head as the stages read it: fresh from the wire, or held.
#[derive(Clone, Copy)]
pub struct Incoming<'a> {
    pub method: &'a [u8],
    /// Origin form.
    pub target: &'a [u8],
    pub host: &'a [u8],
    pub framing: Framing,
    pub expect_continue: bool,
    wire: Option<Fields<'a>>,
    held: &'a [(Vec<u8>, Vec<u8>)],
}

impl<'a> Incoming<'a> {
    pub fn of(head: &RequestHead<'a>) -> Incoming<'a> {
        Incoming {
            method: head.method,
            target: head.origin_form(),
            host: head.host,
            framing: head.framing,
            expect_continue: head.expect_continue,
            wire: Some(head.fields),
            held: &[],
        }
    }

    /// End-to-end fields, as they came.
    pub fn fields(&self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        let wire = self.wire.into_iter().flat_map(Fields::end_to_end);
        wire.chain(self.held.iter().map(|(name, value)| Field { name, value }))
    }
}

/// An owned copy of a request head, and the first of its body.
pub struct HeldRequest {
    method: Vec<u8>,
    target: Vec<u8>,
    host: Vec<u8>,
    framing: Framing,
    expect_continue: bool,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// Body bytes that came while it waited.
    pub early: Vec<u8>,
}

impl HeldRequest {
    pub fn new(head: &Incoming<'_>) -> HeldRequest {
        HeldRequest {
            method: head.method.to_vec(),
            target: head.target.to_vec(),
            host: head.host.to_vec(),
            framing: head.framing,
            expect_continue: head.expect_continue,
            fields: head
                .fields()
                .map(|f| (f.name.to_vec(), f.value.to_vec()))
                .collect(),
            early: Vec::new(),
        }
    }

    pub fn head(&self) -> Incoming<'_> {
        Incoming {
            method: &self.method,
            target: &self.target,
            host: &self.host,
            framing: self.framing,
            expect_continue: self.expect_continue,
            wire: None,
            held: &self.fields,
        }
    }
}
