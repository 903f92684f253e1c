//! What the channel formats cost a message: reading a masked frame of 64 bytes in place, parked before and after, and
//! writing a push of 200 bytes as a frame and as an event.
//!
//! Promises: `websocket_message` and `event_write` in tuning/budgets.toml.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Instant;
use tidegate::wire::Put;
use tidegate::wire::event_stream::{Event as Push, write_event};
use tidegate::wire::websocket::{Event, Limits, Parked, Role, Socket};

/// A sealed record's place in memory: written over and over.
struct Buffer(Vec<u8>);

impl Put for Buffer {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    fn staged(&self) -> usize {
        self.0.len()
    }
}

fn benches(c: &mut Criterion) {
    let (limits, now) = (Limits::default(), Instant::now());
    let mut frame = Vec::new();
    let mut client = Socket::new(Role::Client(fastrand::Rng::with_seed(1)), limits);
    client.send_text(&mut frame, &"x".repeat(64));
    let mut out = Buffer(Vec::with_capacity(4096));
    c.bench_function("websocket/read 64 B masked, parked", |b| {
        b.iter_batched_ref(
            || frame.clone(),
            |input| {
                let mut socket = Parked::default().unpark(Role::Server, limits);
                let mut used = 0;
                let text = matches!(
                    socket.next(black_box(input), &mut used, now, &mut out),
                    Ok(Event::Text(_))
                );
                let more = socket.next(input, &mut used, now, &mut out);
                assert!(text && more == Ok(Event::NeedMore));
                socket.park()
            },
            BatchSize::SmallInput,
        );
    });
    let data = "y".repeat(200);
    c.bench_function("websocket/write 200 B", |b| {
        let mut server = Socket::new(Role::Server, limits);
        b.iter(|| {
            out.0.clear();
            server.send_text(&mut out, black_box(&data))
        });
    });
    c.bench_function("event_stream/write 200 B", |b| {
        let push = Push {
            id: Some("01h8xgj3k5m7n9p1q3r5t7v9wx"),
            data: Some(&data),
            ..Push::default()
        };
        b.iter(|| {
            out.0.clear();
            write_event(&mut out, black_box(&push))
        });
    });
}

criterion_group!(channel, benches);
criterion_main!(channel);
