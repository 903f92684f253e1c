//! What WebSocket costs beside what `channel` measures for parked ones: the opening handshake's request checked and
//! answered, and a masked message of 16 KiB, binary and text, unmasked where it lies.
//!
//! Promises (`websocket_*` in tuning/budgets.toml): bytes are unmasked at a GB a second and more; a text's check at most
//! doubles that.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Instant;
use tidegate::wire::http1::{self, Server, ServerEvent};
use tidegate::wire::websocket::{Accept, Event, Limits, Role, Socket};

const MESSAGE: usize = 16 << 10;
const REQUEST: &[u8] = b"GET /.tidegate/channel HTTP/1.1\r\n\
    Host: gateway.example.com\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

fn opening(criterion: &mut Criterion) {
    let limits = http1::Limits {
        head_bytes: 16 * 1024,
        header_count: 100,
        trailer_bytes: 8 * 1024,
    };
    let mut server = Server::new(limits);
    let Ok(ServerEvent::Head(head)) = server.next(REQUEST, &mut 0) else {
        unreachable!("a whole head")
    };
    criterion.bench_function("websocket/opening handshake", |b| {
        b.iter(|| {
            let accept = Accept::of(black_box(&head), None).expect("a good request");
            accept
                .fields()
                .map(|field| field.value.len())
                .sum::<usize>()
        });
    });
}

fn messages(criterion: &mut Criterion) {
    let limits = Limits {
        message_bytes: MESSAGE,
        ..Limits::default()
    };
    let now = Instant::now();
    let mut group = criterion.benchmark_group("websocket/read");
    group.throughput(Throughput::Bytes(MESSAGE as u64));
    for (name, is_text) in [("16 KiB binary", false), ("16 KiB text", true)] {
        let mut client = Socket::new(Role::Client(fastrand::Rng::with_seed(1)), limits);
        let mut frame = Vec::new();
        let payload = "x".repeat(MESSAGE);
        assert!(if is_text {
            client.send_text(&mut frame, &payload)
        } else {
            client.send_binary(&mut frame, payload.as_bytes())
        });
        let mut server = Socket::new(Role::Server, limits);
        let mut out = Vec::new();
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || frame.clone(),
                |input| match server.next(black_box(input), &mut 0, now, &mut out) {
                    Ok(Event::Text(text)) => text.len(),
                    Ok(Event::Binary(bytes)) => bytes.len(),
                    _ => unreachable!("a whole message"),
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(websocket, opening, messages);
criterion_main!(websocket);
