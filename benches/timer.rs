//! What a timer costs a shard: one that fires and is set again, while a thousand and while a million are held.
//!
//! Promise (`timer_*` in tuning/budgets.toml): it does not depend on how many are held, beyond what their memory costs the
//! caches.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::{Duration, Instant};
use tidegate::wire::timer::Wheel;

/// A shard's.
const TICK: Duration = Duration::from_millis(16);
/// Deadlines lie within so many seconds: keep-alives of 45 s.
const SPREAD_S: u64 = 45;

fn fire_and_set(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("timer");
    for held in [1_000_u64, 1_000_000] {
        let mut now = Instant::now();
        let mut random = fastrand::Rng::with_seed(held);
        let mut wheel = Wheel::new(now, TICK);
        let later =
            |random: &mut fastrand::Rng| Duration::from_micros(random.u64(0..SPREAD_S * 1_000_000));
        for token in 0..held {
            wheel.insert(now + later(&mut random), token);
        }
        let turn = |wheel: &mut Wheel, now: &mut Instant, random: &mut fastrand::Rng| {
            loop {
                if let Some(token) = wheel.pop(*now) {
                    wheel.insert(*now + TICK + later(random), token);
                    return token;
                }
                *now = wheel.next_deadline().expect("the wheel is never empty");
            }
        };
        // Once round, so that entries lie where those of a shard that has run for long do.
        for _ in 0..held {
            turn(&mut wheel, &mut now, &mut random);
        }
        group.bench_function(BenchmarkId::new("fire and set", held), |b| {
            b.iter(|| black_box(turn(&mut wheel, &mut now, &mut random)));
        });
        assert_eq!(wheel.len() as u64, held);
    }
    group.finish();
}

criterion_group!(timer, fire_and_set);
criterion_main!(timer);
