//! What finding a request's site and route costs: a host name among a thousand sites, a path among eight routes and
//! among as many as a site may have, and a path with thousands of segments that no route has.
//!
//! Promises (`route_*` in tuning/budgets.toml): a request pays little for the routes that others have, and a hostile path
//! no more than the deepest route.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use tidegate::control::config::SiteConfig;
use tidegate::control::settings::MAX_ROUTES;
use tidegate::control::snapshot::{PathTable, Registry};
use tidegate::gateway::route::site;

fn routes(criterion: &mut Criterion) {
    const { assert!(MAX_ROUTES == 1024, "the most that a site may have") };
    let mut group = criterion.benchmark_group("route");
    for count in [8, 1024] {
        // One in eight does not care for case, as those of the Configuration Manager do.
        let paths: Vec<_> = (0..count)
            .map(|n| (format!("/service-{n:04}/api/v1/"), n % 8 == 0))
            .collect();
        let table = PathTable::new(paths.iter().map(|(path, folded)| (path.as_str(), *folded)));
        let asked = format!("/service-{:04}/api/v1/devices/1234567890", count / 2 + 1);
        assert_eq!(table.find(asked.as_bytes()), Some(count as u32 / 2 + 1));
        group.bench_function(BenchmarkId::new("found", count), |b| {
            b.iter(|| table.find(black_box(asked.as_bytes())));
        });
        let strange = "/x".repeat(4096);
        assert_eq!(table.find(strange.as_bytes()), None);
        group.bench_function(BenchmarkId::new("4096 strange segments", count), |b| {
            b.iter(|| table.find(black_box(strange.as_bytes())));
        });
    }
    group.finish();
}

fn sites(criterion: &mut Criterion) {
    let sites: Vec<_> = (0..1000)
        .map(|n| SiteConfig {
            name: format!("site-{n}"),
            hosts: vec![format!("gw-{n}.example.com"), format!("*.s{n}.example.com")],
            connectors: vec![],
        })
        .collect();
    let snapshot = Registry::new(&sites).current();
    let mut group = criterion.benchmark_group("site");
    for (name, sni, host) in [
        ("exact", "gw-700.example.com", "GW-700.example.com:8443"),
        ("wildcard", "a.s700.example.com", "a.s700.example.com"),
    ] {
        assert_eq!(site(&snapshot, Some(sni), host.as_bytes()), Ok(700));
        group.bench_function(name, |b| {
            b.iter(|| site(&snapshot, black_box(Some(sni)), black_box(host.as_bytes())).is_ok());
        });
    }
    group.finish();
}

criterion_group!(all, routes, sites);
criterion_main!(all);
