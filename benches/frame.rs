//! What the relay protocol costs: both ends of an exchange, and body bytes in bulk, encoded and decoded, no I/O.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Instant;
use tidegate::wire::relay::{
    ANY_SHARD, Body, Event, Field, Fields, Hello, OpenFrame, OpenHead, Ready, Role, Session,
    SessionLimits, StreamId, VERSION,
};

const REQUEST_FIELDS: [Field<'static>; 10] = [
    field("Accept", "*/*"),
    field("Accept-Encoding", "gzip, deflate, br"),
    field("User-Agent", "ConfigMgr Messaging HTTP Sender"),
    field(
        "Content-Type",
        "multipart/mixed; boundary=\"aAbBcCdDv1234567890VxXyYzZ\"",
    ),
    field("Tidegate-Client-Id", "cert:corp/pc-004711.corp.example.com"),
    field("Tidegate-Auth", "certificate"),
    field("Tidegate-Device", "pc-004711.corp.example.com"),
    field("Tidegate-Address", "203.0.113.77"),
    field(
        "Tidegate-Cert-Hash",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ),
    field("Tidegate-Request-Id", "0197f2a4c0de7000"),
];
const RESPONSE_FIELDS: [Field<'static>; 6] = [
    field("Server", "Microsoft-IIS/10.0"),
    field("Date", "Tue, 29 Jul 2025 12:00:00 GMT"),
    field("Content-Type", "application/octet-stream"),
    field("Cache-Control", "no-cache"),
    field("ETag", "\"80ab3f-5f2\""),
    field("X-Powered-By", "ASP.NET"),
];

const fn field(name: &'static str, value: &'static str) -> Field<'static> {
    Field {
        name: name.as_bytes(),
        value: value.as_bytes(),
    }
}

struct Link {
    gateway: Session<u32>,
    connector: Session<u32>,
    to_connector: Vec<u8>,
    to_gateway: Vec<u8>,
    frame: OpenFrame,
    now: Instant,
}

impl Link {
    fn ready() -> Link {
        let now = Instant::now();
        let limits = SessionLimits {
            streams: 4096,
            initial_stream_credit: 1 << 20,
            max_stream_credit: 1 << 20,
            session_credit: 8 << 20,
            stage_bytes: 256 << 10,
        };
        let mut link = Link {
            gateway: Session::new(Role::Gateway, limits, now),
            connector: Session::new(Role::Connector, limits, now),
            to_connector: Vec::with_capacity(1 << 20),
            to_gateway: Vec::with_capacity(1 << 20),
            frame: OpenFrame::default(),
            now,
        };
        let hello = Hello {
            connector: "cp-1".to_owned(),
            site: "main".to_owned(),
            incarnation: 1,
            link_index: 0,
            wanted_shard: ANY_SHARD,
            versions: (VERSION, VERSION),
        };
        link.connector.send_hello(&hello, &mut link.to_gateway);
        link.gateway_reads();
        let ready = Ready {
            version: VERSION,
            features: 0,
            instance: 0,
            boot_id: 1,
            shard: 0,
            shards: 1,
            settings_hash: [0; 32],
        };
        link.gateway.send_ready(&ready, &mut link.to_connector);
        link.connector_reads();
        link.gateway_reads();
        link
    }

    /// Reads all, walks heads, gives body bytes back; the last stream opened.
    fn connector_reads(&mut self) -> Option<StreamId> {
        let (mut used, mut opened, mut consumed) = (0, None, 0);
        loop {
            let (input, out) = (&self.to_connector, &mut self.to_gateway);
            match self
                .connector
                .next(input, &mut used, self.now, out)
                .expect("it holds")
            {
                None => break,
                Some(Event::Open { stream, head }) => {
                    black_box(
                        head.fields
                            .map(|f| f.name.len() + f.value.len())
                            .sum::<usize>(),
                    );
                    opened = Some(stream);
                    self.connector.attach(stream, 1);
                }
                Some(Event::Data { bytes, .. }) => consumed += black_box(bytes).len(),
                Some(event) => drop(black_box(event)),
            }
            if let Some(stream) = opened
                && consumed > 0
            {
                self.connector
                    .consumed(stream, consumed, &mut self.to_gateway);
                consumed = 0;
            }
        }
        self.to_connector.clear();
        opened
    }

    fn gateway_reads(&mut self) {
        self.gateway_takes(true);
    }

    /// Reads all; gives body bytes back when `consume` is set.
    fn gateway_takes(&mut self, consume: bool) {
        let mut used = 0;
        loop {
            let (input, out) = (&self.to_gateway, &mut self.to_connector);
            let consumed = match self
                .gateway
                .next(input, &mut used, self.now, out)
                .expect("it holds")
            {
                None => break,
                Some(Event::Head { head, .. }) => {
                    black_box(
                        head.fields
                            .map(|f| f.name.len() + f.value.len())
                            .sum::<usize>(),
                    );
                    None
                }
                Some(Event::Data { stream, bytes, .. }) => Some((stream, black_box(bytes).len())),
                Some(event) => {
                    black_box(event);
                    None
                }
            };
            if let Some((stream, n)) = consumed.filter(|_| consume) {
                self.gateway.consumed(stream, n, &mut self.to_connector);
            }
        }
        self.to_gateway.clear();
    }

    fn open(&mut self) -> StreamId {
        let head = OpenHead {
            method: b"GET",
            target: b"/SMS_MP/.sms_aut?MPLIST",
            host: b"mp.corp.example.com",
            request_id: b"0197f2a4c0de7000",
            body: Body::None,
            expect_continue: false,
            fields: Fields::empty(),
        };
        let fields = &mut REQUEST_FIELDS.iter().copied();
        assert!(self.frame.encode(&head, fields));
        self.gateway
            .open(7, &mut self.frame, &mut self.to_connector)
            .expect("a stream is free")
    }

    fn answer(&mut self, stream: StreamId) {
        let fields = &mut RESPONSE_FIELDS.iter().copied();
        let (body, out) = (Body::Length(1024), &mut self.to_gateway);
        self.connector
            .send_head(stream, 200, false, b"OK", body, fields, out);
    }

    /// OPEN with ten fields and END; HEAD with six, 1 KiB of DATA and END.
    fn exchange(&mut self, body: &[u8]) {
        let stream = self.open();
        self.gateway
            .send_end(stream, &mut std::iter::empty(), &mut self.to_connector);
        self.connector_reads();
        self.answer(stream);
        self.connector.send_data(stream, body, &mut self.to_gateway);
        self.connector
            .send_end(stream, &mut std::iter::empty(), &mut self.to_gateway);
        self.gateway_reads();
    }
}

fn exchange(c: &mut Criterion) {
    let body = [7u8; 1024];
    let mut link = Link::ready();
    c.bench_function("exchange_1k", |b| b.iter(|| link.exchange(&body)));

    // Behind 1,000 streams whose reader does not read.
    let mut link = Link::ready();
    for _ in 0..1000 {
        let stream = link.open();
        link.connector_reads();
        link.answer(stream);
        link.gateway_reads();
        link.connector
            .send_data(stream, &[7; 65_536], &mut link.to_gateway);
        link.gateway_takes(false);
    }
    c.bench_function("exchange_1k_behind_1000_stalled", |b| {
        b.iter(|| link.exchange(&body))
    });
}

fn bulk(c: &mut Criterion) {
    let mut group = c.benchmark_group("bulk");
    let body = vec![7u8; 64 << 10];
    group.throughput(Throughput::Bytes(body.len() as u64));
    let mut link = Link::ready();
    let stream = link.open();
    link.connector_reads();
    link.answer(stream);
    link.gateway_reads();
    group.bench_function("at_once_64k", |b| {
        b.iter(|| {
            link.connector
                .send_data(stream, &body, &mut link.to_gateway);
            link.gateway_reads();
            link.connector_reads();
        });
    });
    // Through the queue: staging is full when the bytes are written.
    group.bench_function("queued_64k", |b| {
        b.iter(|| {
            link.connector.send_data(stream, &body, &mut Full);
            link.connector.pump(link.now, &mut link.to_gateway);
            link.gateway_reads();
            link.connector_reads();
        });
    });
    group.finish();
}

/// An output that is always full and takes nothing.
struct Full;

impl tidegate::wire::Put for Full {
    fn put(&mut self, _: &[u8]) {}
    fn staged(&self) -> usize {
        usize::MAX
    }
}

criterion_group!(benches, exchange, bulk);
criterion_main!(benches);
