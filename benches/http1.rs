//! What the HTTP/1.1 cores cost a request: reading a usual head in place, walking its fields as a proxy does, writing a
//! response head.
//!
//! Promises: `request_head` and `head_exchange` in tuning/budgets.toml.

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use tidegate::wire::http1::{Field, Framing, Limits, Server, ServerEvent};

const LIMITS: Limits = Limits {
    head_bytes: 16 * 1024,
    header_count: 100,
    trailer_bytes: 8 * 1024,
};

/// Ten fields, 470 bytes.
const REQUEST: &[u8] = b"GET /ccm_system/request/policy?id=1234567890 HTTP/1.1\r\n\
    Host: gateway.example.com\r\n\
    User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br\r\n\
    Connection: keep-alive\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef\r\n\
    Cache-Control: max-age=0\r\n\
    If-None-Match: \"0123456789\"\r\n\
    X-Request-Id: 7f3a9c12\r\n\r\n";

const RESPONSE: [Field<'static>; 8] = [
    Field {
        name: b"Date",
        value: b"Mon, 01 Jan 2029 00:00:00 GMT",
    },
    Field {
        name: b"Server",
        value: b"Microsoft-IIS/10.0",
    },
    Field {
        name: b"Content-Type",
        value: b"application/octet-stream",
    },
    Field {
        name: b"Last-Modified",
        value: b"Mon, 01 Jan 2029 00:00:00 GMT",
    },
    Field {
        name: b"ETag",
        value: b"\"0123456789abcdef\"",
    },
    Field {
        name: b"Cache-Control",
        value: b"no-cache, no-store",
    },
    Field {
        name: b"X-Powered-By",
        value: b"ASP.NET",
    },
    Field {
        name: b"Tidegate-Request-Id",
        value: b"7f3a9c12",
    },
];

fn read_head(server: &mut Server) {
    let mut used = 0;
    match server.next(black_box(REQUEST), &mut used) {
        Ok(ServerEvent::Head(head)) => drop(black_box(head)),
        _ => unreachable!("a whole head"),
    }
}

fn benches(c: &mut Criterion) {
    c.bench_function("http1/read request head", |b| {
        b.iter(|| read_head(&mut Server::new(LIMITS)));
    });
    c.bench_function("http1/walk end-to-end fields", |b| {
        let mut server = Server::new(LIMITS);
        let Ok(ServerEvent::Head(head)) = server.next(REQUEST, &mut 0) else {
            unreachable!("a whole head")
        };
        b.iter(|| {
            black_box(head.fields)
                .end_to_end()
                .map(|field| field.value.len())
                .sum::<usize>()
        });
    });
    c.bench_function(
        "http1/exchange: request head, response head and 128 bytes",
        |b| {
            let mut server = Server::new(LIMITS);
            let mut out = Vec::with_capacity(4096);
            b.iter(|| {
                out.clear();
                read_head(&mut server);
                server.send_head(
                    &mut out,
                    200,
                    b"OK",
                    black_box(RESPONSE),
                    Framing::Length(128),
                );
                server.send_data(&mut out, &[b'x'; 128]);
                assert!(server.send_end(&mut out, []));
            });
        },
    );
}

criterion_group!(http1, benches);
criterion_main!(http1);
