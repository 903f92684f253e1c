//! What the relay protocol costs: both ends of an exchange, and body bytes in bulk, encoded and decoded, no I/O.
//!
//! Promises (`relay_*` in tuning/budgets.toml): a thousand stalled streams cost the others next to nothing.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Instant;
use tidegate::wire::relay::{
    ANY_SHARD, Audience, Batch, Body, CHANNELS, ChannelAuth, ChannelFate, ChannelKey, ChannelKind,
    ChannelUp, Event, Fate, Field, Fields, Hello, Notification, OpenFrame, OpenHead, Outcome,
    Outcomes, PushId, Ready, Role, Session, SessionLimits, StreamId, Ups, VERSION,
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
            gateway: Session::new(Role::Gateway, limits, now).with_features(CHANNELS),
            connector: Session::new(Role::Connector, limits, now).with_features(CHANNELS),
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
            features: CHANNELS,
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

/// Client ids as a certificate's DNS name gives them: 39 bytes.
fn client_ids() -> Vec<String> {
    (0..10_000)
        .map(|n| format!("cert:corp/pc-{n:08}.clients.example.com"))
        .collect()
}

/// A full list of 10,000 channels, encoded, staged, decoded and each entry read: time for one channel is a 10,000th.
fn channels(c: &mut Criterion) {
    let clients = client_ids();
    let mut group = c.benchmark_group("channels");
    group.throughput(Throughput::Elements(clients.len() as u64));
    let mut link = Link::ready();
    let mut ups = Ups::default();
    group.bench_function("announce_10k", |b| {
        b.iter(|| announce(&mut link, &mut ups, &clients));
    });

    // One push to 1,000 channels, and what became of it.
    group.throughput(Throughput::Elements(1_000));
    let push = PushId([7; 16]);
    let mut notification = Notification::new(push, false, &[b'x'; 200]).expect("it fits");
    let mut outcomes = Outcomes::new(push);
    group.bench_function("push_to_1k", |b| {
        b.iter(|| {
            notification.clear();
            for slot in 0..1_000 {
                assert!(notification.push(key(slot)));
            }
            let out = &mut link.to_gateway;
            assert!(link.connector.send_batch(&mut notification, out));
            outcomes.clear();
            take_push(&mut link, &mut outcomes);
            let out = &mut link.to_connector;
            assert!(link.gateway.send_batch(&mut outcomes, out));
            assert_eq!(fates(&mut link), 1_000);
        });
    });
    group.finish();
}

fn key(slot: u32) -> ChannelKey {
    ChannelKey {
        slot,
        generation: 1,
    }
}

/// Whether a frame is full is found by pushing, as an owner does.
fn announce(link: &mut Link, ups: &mut Ups, clients: &[String]) {
    let (mut said, mut heard) = (0, 0);
    ups.clear();
    ups.start_list();
    while said < clients.len() {
        while let Some(client) = clients.get(said)
            && ups.push(&ChannelUp {
                key: key(said as u32),
                kind: ChannelKind::EventStream,
                auth: ChannelAuth::Certificate,
                since: 1_750_000_000,
                client,
            })
        {
            said += 1;
        }
        if said == clients.len() {
            ups.end_list();
        }
        assert!(link.gateway.send_batch(ups, &mut link.to_connector));
        ups.clear();
        heard += channels_heard(link);
    }
    assert_eq!(heard, clients.len());
}

fn channels_heard(link: &mut Link) -> usize {
    let (mut used, mut heard) = (0, 0);
    let (input, out) = (&link.to_connector, &mut link.to_gateway);
    while let Some(event) = link
        .connector
        .next(input, &mut used, link.now, out)
        .expect("it holds")
    {
        if let Event::ChannelUp { channels, .. } = event {
            heard += channels.map(black_box).count();
        }
    }
    link.to_connector.clear();
    heard
}

fn take_push(link: &mut Link, outcomes: &mut Outcomes) {
    let mut used = 0;
    let (input, out) = (&link.to_gateway, &mut link.to_connector);
    while let Some(event) = link
        .gateway
        .next(input, &mut used, link.now, out)
        .expect("it holds")
    {
        if let Event::Notify {
            audience: Audience::Channels(keys),
            ..
        } = event
        {
            for key in keys {
                assert!(outcomes.push(ChannelFate {
                    key,
                    fate: Fate::Sent,
                }));
            }
        }
    }
    link.to_gateway.clear();
}

fn fates(link: &mut Link) -> usize {
    let (mut used, mut heard) = (0, 0);
    let (input, out) = (&link.to_connector, &mut link.to_gateway);
    while let Some(event) = link
        .connector
        .next(input, &mut used, link.now, out)
        .expect("it holds")
    {
        if let Event::Outcome {
            outcome: Outcome::Each(fates),
            ..
        } = event
        {
            heard += fates.map(black_box).count();
        }
    }
    link.to_connector.clear();
    heard
}

criterion_group!(benches, exchange, bulk, channels);
criterion_main!(benches);
