//! Bodies of all sizes, both ways, many at a time: byte for byte, and in bounded memory.

use crate::harness::pattern::{self, Random};
use crate::harness::{Curl, Lab, Tls, tls};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::sync::atomic::{AtomicU64, Ordering};

const CONNECTIONS: u64 = 64;
const MIB: u64 = 1 << 20;

/// A number from the environment, so that the soak can ask for more.
fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default,
    }
}

/// Sizes spread evenly over their magnitudes, the edges of records and frames among them.
fn size(random: &mut Random, largest: u64) -> u64 {
    const EDGES: [u64; 9] = [0, 1, 2048, 16_376, 16_377, 16_384, 16_385, 65_535, 65_536];
    if random.below(8) == 0 {
        return EDGES[random.below(EDGES.len() as u64) as usize].min(largest);
    }
    let magnitude = random.below(u64::from(64 - largest.leading_zeros()));
    random.below(2 << magnitude).min(largest)
}

/// Upload and answer of one request to the test upstream behind `route`, each checked by the other end.
pub fn exchange(
    client: &mut Tls,
    route: &str,
    random: &mut Random,
    largest: u64,
) -> Result<u64, String> {
    let (up, down) = (size(random, largest), size(random, largest));
    let (seed, chunked) = (random.next(), random.below(4) == 0);
    // The answer's seed is the request's: the bytes differ from any other request's.
    let target = format!(
        "{route}exchange?seed={seed}&size={down}&chunked={}",
        u8::from(random.below(4) == 0)
    );
    let framing = if chunked {
        "Transfer-Encoding: chunked".into()
    } else {
        format!("Content-Length: {up}")
    };
    let wrong =
        |what: &str, error: std::io::Error| format!("{target}, {up} bytes up: {what}: {error}");
    let mut text =
        format!("POST {target} HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n").into_bytes();
    let mut part = vec![0; 64 * 1024];
    let mut offset = 0;
    while offset < up {
        let n = part.len().min((up - offset) as usize);
        pattern::fill(seed, offset, &mut part[..n]);
        if chunked {
            text.extend_from_slice(format!("{n:x}\r\n").as_bytes());
        }
        text.extend_from_slice(&part[..n]);
        if chunked {
            text.extend_from_slice(b"\r\n");
        }
        offset += n as u64;
        client.try_send(&text).map_err(|e| wrong("sending", e))?;
        text.clear();
    }
    if chunked {
        text.extend_from_slice(b"0\r\n\r\n");
    }
    client.try_send(&text).map_err(|e| wrong("sending", e))?;

    let mut answer = client
        .try_head()
        .map_err(|e| wrong("the answer's head", e))?;
    let mut check = pattern::Check::new(seed);
    client
        .body(&mut answer, &mut |bytes| check.feed(bytes))
        .map_err(|e| wrong("the answer's body", e))?;
    let verdicts = (
        answer.header("X-Verdict").unwrap_or_default().to_owned(),
        check.verdict(),
    );
    let right = (format!("{up} bytes right"), format!("{down} bytes right"));
    if answer.status == 200 && verdicts == right {
        Ok(up + down)
    } else {
        Err(format!(
            "{target}: status {}, {verdicts:?} instead of {right:?}",
            answer.status
        ))
    }
}

#[test]
fn mixed_sizes_arrive_byte_for_byte() {
    let requests = setting("TIDEGATE_E2E_REQUESTS", 2000);
    let largest = setting("TIDEGATE_E2E_LARGEST", 4 * MIB);
    let seed = setting("TIDEGATE_E2E_SEED", 20_260);
    let lab = Lab::plan().alone().start();
    let config = tls::config(&lab, None);
    let next = AtomicU64::new(0);
    let (lab, config, next) = (&lab, &config, &next);
    let outcomes: Vec<Result<u64, String>> = std::thread::scope(|scope| {
        let clients = (0..CONNECTIONS).map(|_| {
            scope.spawn(move || {
                let mut client = Tls::connect_with(lab, config);
                let mut bytes = 0;
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= requests {
                        return Ok(bytes);
                    }
                    let mut random =
                        Random::new(seed.wrapping_mul(1 << 32).wrapping_add(number << 8));
                    bytes += exchange(&mut client, "/t/", &mut random, largest)?;
                }
            })
        });
        let clients: Vec<_> = clients.collect();
        clients
            .into_iter()
            .map(|client| client.join().expect("no panic"))
            .collect()
    });
    let bytes: Result<Vec<u64>, String> = outcomes.into_iter().collect();
    let bytes: u64 = bytes
        .unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"))
        .iter()
        .sum();
    println!("{requests} requests, {} MiB, seed {seed}", bytes / MIB);
    assert_memory(lab, CONNECTIONS);
}

/// The promise: 64 MiB and one more for each busy connection, whatever the bodies.
#[track_caller]
fn assert_memory(lab: &Lab, busy: u64) {
    let connector = lab.connector.as_ref().expect("a connector");
    for (role, process) in [("gateway", &lab.gateway), ("connector", connector)] {
        let (peak, bound) = (process.peak_rss_kib(), (64 + busy) * 1024);
        println!("{role}: {} MiB at most", peak.div_ceil(1024));
        assert!(peak < bound, "{role}: {peak} KiB, over {bound}");
    }
}

/// A patterned file, written piece by piece.
fn write_pattern(lab: &Lab, name: &str, seed: u64, size: u64) -> String {
    let mut file = BufWriter::new(File::create(lab.file(name)).expect("a file"));
    let mut part = vec![0; 1 << 16];
    let mut offset = 0;
    while offset < size {
        let n = part.len().min((size - offset) as usize);
        pattern::fill(seed, offset, &mut part[..n]);
        file.write_all(&part[..n]).expect("room for it");
        offset += n as u64;
    }
    file.flush().expect("room for it");
    lab.file(name).display().to_string()
}

#[test]
fn a_large_upload_needs_no_memory() {
    let size = setting("TIDEGATE_E2E_BODY", 200 * MIB);
    let lab = Lab::plan()
        .alone()
        .route("/big/", "auth = \"none\"\nmax_body = \"16 GiB\"")
        .start();
    let body = write_pattern(&lab, "body", 3, size);
    for (n, framing) in [(1, "X-Framing: length"), (2, "Transfer-Encoding: chunked")] {
        let path = format!("/big/verify?seed=3&n={n}");
        let answer = Curl::new(&lab, &path)
            .args(&["-T", &body, "-H", framing])
            .answer();
        assert_eq!(answer.text(), format!("{size} bytes right"));
    }
    assert_memory(&lab, 1);
}

#[test]
fn a_large_download_needs_no_memory() {
    let size = setting("TIDEGATE_E2E_BODY", 200 * MIB);
    let lab = Lab::plan().alone().start();
    for chunked in [0, 1] {
        let mut client = Tls::connect(&lab);
        let path = format!("/t/pattern?seed=4&size={size}&chunked={chunked}");
        client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        let mut answer = client.head();
        let mut check = pattern::Check::new(4);
        client
            .body(&mut answer, &mut |bytes| check.feed(bytes))
            .expect("the whole body");
        assert_eq!(check.verdict(), format!("{size} bytes right"));
    }
    assert_memory(&lab, 1);
}

/// What is not read is not fetched: the client's slowness reaches the upstream.
#[test]
fn a_client_that_does_not_read_costs_bounded_memory() {
    const STALLED: u64 = 32;
    let lab = Lab::plan().alone().start();
    let config = tls::config(&lab, None);
    let mut stalled: Vec<_> = (0..STALLED)
        .map(|n| {
            let mut client = Tls::connect_with(&lab, &config);
            client.send(format!(
                "GET /t/pattern?seed={n}&size={} HTTP/1.1\r\nHost: localhost\r\n\r\n",
                64 * MIB
            ));
            client
        })
        .collect();
    for client in &mut stalled {
        assert_eq!(client.head().status, 200);
    }
    // The others are served meanwhile.
    let mut lively = Tls::connect_with(&lab, &config);
    for n in 0..200 {
        let answer = lively.get(&format!("/t/pattern?seed={n}&size=20000"));
        assert!(answer.body == pattern::body(n, 20_000));
    }
    assert_memory(&lab, STALLED);
}

#[test]
fn a_body_streams_through_while_it_is_sent() {
    let lab = Lab::start();
    fs::write(lab.file("body"), pattern::body(5, 30 * MIB)).expect("a file");
    let upload = lab.file("body").display().to_string();
    // The echo begins long before the upload ends: neither end holds the whole.
    for framing in ["X-Framing: length", "Transfer-Encoding: chunked"] {
        let answer = Curl::new(&lab, "/t/echo")
            .args(&["-T", &upload, "-H", framing, "-H", "Expect:"])
            .answer();
        assert!(
            answer.body == pattern::body(5, 30 * MIB),
            "{framing}: {} bytes came back",
            answer.body.len()
        );
    }
}
