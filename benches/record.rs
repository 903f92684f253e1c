//! What a record costs: sealing and opening 1 KiB and 16 KiB in place, rebuilding a parked key, and a whole answer laid
//! out, sealed and opened; and a payload for an idle connection.
//!
//! Promises (`record_*` in tuning/budgets.toml): some 0.15 µs to seal 1 KiB with AES-128-GCM, on a CPU with AES and
//! carry-less multiplication; opening costs what sealing does, and TLS 1.2 what TLS 1.3 does.

use criterion::{Bencher, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::{Duration, Instant};
use tidegate::wire::Put;
use tidegate::wire::record::{
    Compact, ContentType, HEADER_LEN, Keys, Opener, Outgoing, Sealer, Suite,
};

const SUITES: [(&str, Suite); 6] = [
    ("tls13-aes128", Suite::Tls13Aes128Gcm),
    ("tls13-aes256", Suite::Tls13Aes256Gcm),
    ("tls13-chacha20", Suite::Tls13ChaCha20Poly1305),
    ("tls12-aes128", Suite::Tls12Aes128Gcm),
    ("tls12-aes256", Suite::Tls12Aes256Gcm),
    ("tls12-chacha20", Suite::Tls12ChaCha20Poly1305),
];
/// Records between two looks at the clock and at the key's limit.
const BATCH: u64 = 256;

fn keys(suite: Suite) -> Keys {
    let secret_len = if suite == Suite::Tls13Aes256Gcm {
        48
    } else {
        32
    };
    Keys::from_secret(suite, &vec![1; secret_len])
        .or_else(|| Keys::from_key_iv(suite, &vec![1; suite.key_len()], &[2; 12]))
        .expect("lengths fit the suite")
}

fn record_len(suite: Suite, plain: usize) -> usize {
    plain + usize::from(suite.layout().prefix) + usize::from(suite.layout().suffix)
}

fn seal(bencher: &mut Bencher, suite: Suite, plain: usize) {
    let mut record = vec![7; record_len(suite, plain)];
    let mut sealer = Sealer::new(keys(suite), 0);
    bencher.iter_custom(|iterations| {
        let mut spent = Duration::ZERO;
        let mut left = iterations;
        while left > 0 {
            let batch = left.min(BATCH);
            if sealer.remaining() < 2 * BATCH {
                sealer = Sealer::new(keys(suite), 0);
                sealer
                    .seal(ContentType::ApplicationData, &mut record)
                    .expect("fresh key");
            }
            let start = Instant::now();
            for _ in 0..batch {
                let sealed = sealer.seal(ContentType::ApplicationData, black_box(&mut record));
                assert!(sealed.is_ok());
            }
            spent += start.elapsed();
            left -= batch;
        }
        spent
    });
}

fn open(bencher: &mut Bencher, suite: Suite, plain: usize) {
    let length = record_len(suite, plain);
    let mut records = vec![7; length * BATCH as usize];
    bencher.iter_custom(|iterations| {
        let mut spent = Duration::ZERO;
        let mut left = iterations;
        while left > 0 {
            let batch = left.min(BATCH) as usize;
            let (mut sealer, mut opener) =
                (Sealer::new(keys(suite), 0), Opener::new(keys(suite), 0));
            for record in records.chunks_mut(length).take(batch) {
                sealer
                    .seal(ContentType::ApplicationData, record)
                    .expect("fresh key");
            }
            // The first one pays for the key.
            let mut rest = records.chunks_mut(length).take(batch);
            let first = rest.next().expect("a batch is not empty");
            opener.open(first).expect("good record");
            let start = Instant::now();
            for record in rest {
                assert!(opener.open(black_box(record)).is_ok());
            }
            // Scaled to the whole batch, for the first was not timed.
            let timed = (batch as u32 - 1).max(1);
            spent += start.elapsed() * batch as u32 / timed;
            left -= batch as u64;
        }
        spent
    });
}

fn records(criterion: &mut Criterion) {
    for (what, run) in [
        ("seal", seal as fn(&mut Bencher, Suite, usize)),
        ("open", open as fn(&mut Bencher, Suite, usize)),
    ] {
        let mut group = criterion.benchmark_group(what);
        for (name, suite) in SUITES {
            for plain in [1024, 16_384] {
                group.throughput(Throughput::Bytes(plain as u64));
                group.bench_function(BenchmarkId::new(name, plain), |b| run(b, suite, plain));
            }
        }
    }
}

/// A parked connection's record: key derived, expanded, used, dropped.
fn parked(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parked");
    for (name, suite) in SUITES {
        let mut record = vec![7; record_len(suite, 100)];
        let mut sealer = Sealer::new(keys(suite), 0);
        group.bench_function(name, |b| {
            b.iter(|| {
                if sealer.remaining() == 0 {
                    sealer.replace(keys(suite));
                }
                let sealed = sealer.seal(ContentType::ApplicationData, black_box(&mut record));
                assert!(sealed.is_ok());
                sealer.park();
            });
        });
    }
}

/// A payload of that many bytes laid out and sealed for an idle connection, as a fan-out does for each of its channels:
/// from [`Compact`], by a sealer whose key is derived each time, and by one that has it at hand.
fn idle_seal(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("idle-seal");
    for (name, suite) in SUITES {
        for plain in [100, 1024] {
            let payload = vec![7; plain];
            let mut buffer = Vec::new();
            let mut lay_out = move |seal: &mut dyn FnMut(Outgoing) -> Vec<u8>| {
                let mut out = Outgoing::new(suite.layout(), std::mem::take(&mut buffer));
                out.put(black_box(&payload));
                buffer = seal(out);
            };
            let mut sealer = Sealer::new(keys(suite), 0);
            let fresh = || Compact::new(&Sealer::new(keys(suite), 0), &Opener::new(keys(suite), 0));
            let mut compact = fresh().expect("a server's keys");
            group.bench_function(BenchmarkId::new(format!("{name}/compact"), plain), |b| {
                b.iter(|| {
                    if compact.remaining() == 0 {
                        compact = fresh().expect("a server's keys");
                    }
                    lay_out(&mut |out| compact.seal(out).expect("key is good"));
                });
            });
            for (what, derive) in [("derived", true), ("at-hand", false)] {
                group.bench_function(BenchmarkId::new(format!("{name}/{what}"), plain), |b| {
                    b.iter(|| {
                        if sealer.remaining() == 0 {
                            sealer.replace(keys(suite));
                        }
                        lay_out(&mut |out| out.seal(&mut sealer).expect("key is good"));
                        if derive {
                            sealer.park();
                        }
                    });
                });
            }
        }
    }
}

/// A payload of 100 bytes opened on an idle connection: the opener rebuilt from [`Compact`] and taken back, its key
/// derived. The time includes a copy of the record.
fn idle_open(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("idle-open");
    for (name, suite) in SUITES {
        let mut sealer = Sealer::new(keys(suite), 0);
        let mut record = vec![7; record_len(suite, 100)];
        sealer
            .seal(ContentType::ApplicationData, &mut record)
            .expect("key is good");
        let start = Opener::new(keys(suite), 0);
        let mut compact = Compact::new(&sealer, &start).expect("a server's keys");
        let mut copy = record.clone();
        group.bench_function(name, |b| {
            b.iter(|| {
                copy.copy_from_slice(&record);
                let mut opener = compact.opener();
                assert!(opener.open(black_box(&mut copy)).is_ok());
                // The same record is opened each time.
                compact.set_opener(black_box(&start));
            });
        });
    }
}

/// 64 KiB as a stage puts them: laid out, sealed, opened record by record, the buffer recycled.
fn answer(criterion: &mut Criterion) {
    let suite = Suite::Tls13Aes128Gcm;
    let body = vec![7; 64 * 1024];
    let mut group = criterion.benchmark_group("answer");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("64KiB", |b| {
        let (mut sealer, mut opener) = (Sealer::new(keys(suite), 0), Opener::new(keys(suite), 0));
        let mut buffer = Vec::new();
        b.iter(|| {
            if sealer.remaining() < 8 {
                assert!(sealer.update() && opener.update());
            }
            let mut out = Outgoing::new(suite.layout(), std::mem::take(&mut buffer));
            for part in body.chunks(4096) {
                out.put(part);
            }
            buffer = out.seal(&mut sealer).expect("key is good");
            let mut rest = buffer.as_mut_slice();
            while let [_, _, _, high, low, ..] = *rest {
                let length = HEADER_LEN + usize::from(u16::from_be_bytes([high, low]));
                let (record, next) = rest.split_at_mut(length);
                assert!(opener.open(record).is_ok());
                rest = next;
            }
        });
    });
}

criterion_group! {
    name = all;
    config = Criterion::default().sample_size(30).measurement_time(Duration::from_secs(2));
    targets = records, parked, idle_seal, idle_open, answer
}
criterion_main!(all);
