//! What bringing a path to its one spelling costs a request: one that is normal already, a usual one with an escape,
//! one of 8 KiB, and one that is refused.
//!
//! Promises (`path_*` in tuning/budgets.toml): a path that is normal already costs no copy, and nothing in a path costs
//! more than its length.

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use tidegate::wire::path::normalise;

const LONGEST: usize = 8192;

fn benches(c: &mut Criterion) {
    let escapes = format!("/{}", "%20".repeat(LONGEST / 3));
    let dots = format!("/{}", "a/../".repeat(LONGEST / 5));
    for (name, target, is_good) in [
        (
            "path/normal already",
            "/ccm_system/request/policy?id=1234567890",
            true,
        ),
        (
            "path/rebuilt",
            "/ccm_system/./%72equest/policy%20x?id=1",
            true,
        ),
        ("path/8 KiB of escapes", escapes.as_str(), true),
        ("path/8 KiB of dot segments", dots.as_str(), true),
        (
            "path/refused",
            "/ccm_system//x/../%72equest/policy?id=1",
            false,
        ),
    ] {
        let mut scratch = Vec::new();
        assert_eq!(normalise(target.as_bytes(), &mut scratch).is_ok(), is_good);
        c.bench_function(name, |b| {
            b.iter(|| normalise(black_box(target.as_bytes()), &mut scratch).is_ok());
        });
    }
}

criterion_group!(path, benches);
criterion_main!(path);
