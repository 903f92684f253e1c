//! What a request costs on an HTTP/2 connection that a connector shares towards an upstream: opened, its frames written,
//! the answer's head and 1 KiB of body read; alone, and beside a hundred that the upstream holds.
//!
//! Promise (`http2_*` in tuning/budgets.toml): held streams cost the others next to nothing.

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Instant;
use tidegate::wire::Field;
use tidegate::wire::http2::{Client, Content, Event, Request};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:status: 200`, from HPACK's static table.
const OK: &[u8] = &[0x88];
const FIELDS: [Field<'static>; 4] = [
    field(b"accept", b"*/*"),
    field(b"user-agent", b"ConfigMgr Messaging HTTP Sender"),
    field(b"tidegate-auth", b"certificate"),
    field(
        b"tidegate-client-id",
        b"cert:corp/pc-004711.corp.example.com",
    ),
];

const fn field(name: &'static [u8], value: &'static [u8]) -> Field<'static> {
    Field { name, value }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

struct Talk {
    client: Client<u32>,
    /// The next stream's id, as the client counts.
    stream: u32,
    sent: Vec<u8>,
    answer: Vec<u8>,
    now: Instant,
}

impl Talk {
    fn beside(held: u32) -> Talk {
        let now = Instant::now();
        let mut talk = Talk {
            client: Client::new(now).expect("a client"),
            stream: 1,
            sent: Vec::new(),
            answer: Vec::new(),
            now,
        };
        talk.client.transmit(&mut talk.sent, usize::MAX);
        let streams = [&[0, 3][..], &1000_u32.to_be_bytes()].concat();
        frame(SETTINGS, 0, 0, &streams, &mut talk.answer);
        frame(SETTINGS, ACK, 0, &[], &mut talk.answer);
        talk.client.handle_input(&talk.answer, now);
        for token in 0..held {
            talk.open(token);
        }
        talk
    }

    fn open(&mut self, token: u32) -> u32 {
        let request = Request {
            method: b"GET",
            https: true,
            authority: b"mp.corp.example.com",
            target: b"/SMS_MP/.sms_aut?MPLIST",
            content: Content::None,
        };
        let opened = self.client.open(token, &request, FIELDS);
        assert!(opened.is_ok());
        assert!(self.client.next_event().is_none());
        self.sent.clear();
        self.client.transmit(&mut self.sent, usize::MAX);
        let stream = self.stream;
        self.stream += 2;
        stream
    }

    fn exchange(&mut self, body: &[u8]) {
        // Ids end at 2³¹, as on a real connection: a new one takes over long before.
        if self.stream > 1 << 30 {
            *self = Talk::beside(self.client.streams() as u32);
        }
        let stream = self.open(u32::MAX);
        self.answer.clear();
        frame(HEADERS, END_HEADERS, stream, OK, &mut self.answer);
        frame(DATA, END_STREAM, stream, body, &mut self.answer);
        self.client.handle_input(black_box(&self.answer), self.now);
        let mut ended = false;
        while let Some((_, _, event)) = self.client.next_event() {
            ended |= matches!(black_box(event), Event::End { .. });
        }
        assert!(ended);
        self.sent.clear();
        self.client.transmit(&mut self.sent, usize::MAX);
    }
}

fn exchange(criterion: &mut Criterion) {
    let body = [7; 1024];
    for (name, held) in [
        ("http2/exchange 1 KiB", 0),
        ("http2/exchange 1 KiB beside 100 held", 100),
    ] {
        let mut talk = Talk::beside(held);
        criterion.bench_function(name, |b| b.iter(|| talk.exchange(&body)));
    }
}

criterion_group!(http2, exchange);
criterion_main!(http2);
