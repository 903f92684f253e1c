//! What an idle server connection costs when something happens on it: sealing and opening 100 bytes parked and not, and
//! the way in and out of its slot.
//!
//! Promises (`parked_*` in tuning/budgets.toml): a payload for a parked connection costs some 0.25 µs and no heap. The
//! connection is 160 bytes.

use criterion::{Bencher, BenchmarkId, Criterion, criterion_group, criterion_main};
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate::wire::Put;
use tidegate::wire::record::Outgoing;
use tidegate::wire::tls::{
    Connection, Parked, ParkedStep, Step, prepare_client_config, prepare_server_config,
};

const SUITES: [(&str, u16); 4] = [
    ("tls13-aes128", 0x1301),
    ("tls13-aes256", 0x1302),
    ("tls13-chacha20", 0x1303),
    // Its key has no limit that a bench would reach.
    ("tls12-chacha20", 0xcca9),
];
const PAYLOAD: [u8; 100] = [7; 100];
/// Records that the client seals ahead.
const BATCH: u64 = 256;

/// A server and a client, established, with that suite.
fn pair(suite: u16) -> (Connection, Connection) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".into()]).expect("a good name");
    let certificate = params.self_signed(&key).expect("a certificate");
    let all = aws_lc_rs::ALL_CIPHER_SUITES.iter();
    let provider = Arc::new(CryptoProvider {
        cipher_suites: all
            .filter(|known| u16::from(known.suite()) == suite)
            .copied()
            .collect(),
        ..aws_lc_rs::default_provider()
    });
    let versions: &[_] = if suite >> 8 == 0x13 {
        &[&rustls::version::TLS13]
    } else {
        &[&rustls::version::TLS12]
    };
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .expect("a suite of that version")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .expect("key and certificate go together");
    prepare_server_config(&mut server);
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).expect("a certificate");
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("a suite of that version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    prepare_client_config(&mut client);
    let name = ServerName::try_from("localhost").expect("a name");
    let mut server = Connection::server(&Arc::new(server)).expect("prepared");
    let mut client = Connection::client(&Arc::new(client), name).expect("prepared");
    for _ in 0..4 {
        carry(&mut client, &mut server);
        carry(&mut server, &mut client);
    }
    assert!(server.is_established() && client.is_established());
    (server, client)
}

fn carry(from: &mut Connection, to: &mut Connection) {
    let nothing = Outgoing::new(from.layout(), Vec::new());
    let mut bytes = from.transmit(nothing).expect("a good connection");
    let mut used = 0;
    while let Step::Established(_) | Step::Data(_) =
        to.next(&mut bytes, &mut used).expect("a good peer")
    {}
}

fn payload(layout: tidegate::wire::record::Layout, buffer: &mut Vec<u8>) -> Outgoing {
    let mut out = Outgoing::new(layout, std::mem::take(buffer));
    out.put(black_box(&PAYLOAD));
    out
}

/// Times `take` for each record; the records are sealed ahead.
fn opening(bencher: &mut Bencher, client: &mut Connection, mut take: impl FnMut(&mut [u8])) {
    bencher.iter_custom(|iterations| {
        let (mut spent, mut left) = (Duration::ZERO, iterations);
        while left > 0 {
            let batch = left.min(BATCH);
            let mut records: Vec<Vec<u8>> = (0..batch)
                .map(|_| {
                    let out = payload(client.layout(), &mut Vec::new());
                    client.transmit(out).expect("a good connection")
                })
                .collect();
            let start = Instant::now();
            for record in &mut records {
                take(record);
            }
            spent += start.elapsed();
            left -= batch;
        }
        spent
    });
}

fn sealing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("seal-100");
    for (name, suite) in SUITES {
        let mut buffer = Vec::new();
        let (mut server, _) = pair(suite);
        group.bench_function(BenchmarkId::new("connection", name), |b| {
            b.iter(|| {
                let out = payload(server.layout(), &mut buffer);
                buffer = server.transmit(out).expect("a good connection");
            });
        });
        let (server, _) = pair(suite);
        let mut parked = server.park().expect("idle");
        group.bench_function(BenchmarkId::new("parked", name), |b| {
            b.iter(|| {
                let out = payload(parked.layout(), &mut buffer);
                buffer = parked.seal(out).expect("a good connection");
            });
        });
    }
}

fn receiving(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("open-100");
    for (name, suite) in SUITES {
        let (mut server, mut client) = pair(suite);
        group.bench_function(BenchmarkId::new("connection", name), |b| {
            opening(b, &mut client, |record| {
                let step = server.next(record, &mut 0);
                assert!(matches!(step, Ok(Step::Data(data)) if data == PAYLOAD));
            });
        });
        let (server, mut client) = pair(suite);
        let mut parked = server.park().expect("idle");
        group.bench_function(BenchmarkId::new("parked", name), |b| {
            opening(b, &mut client, |record| {
                let step = parked.open(record, &mut 0);
                assert!(matches!(step, Ok(ParkedStep::Data(data)) if data == PAYLOAD));
            });
        });
    }
}

fn in_and_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wake-and-park");
    for (name, suite) in SUITES {
        let (server, _) = pair(suite);
        let mut parked = Some(server.park().expect("idle"));
        group.bench_function(name, |b| {
            b.iter(|| {
                let woken = parked.take().map(Parked::wake).expect("was parked");
                parked = Some(black_box(woken).park().expect("idle"));
            });
        });
    }
}

criterion_group! {
    name = all;
    config = Criterion::default().sample_size(30).measurement_time(Duration::from_secs(2));
    targets = sealing, receiving, in_and_out
}
criterion_main!(all);
