use super::super::incarnation::{MAX_CONNECTORS, MAX_LINKS, REMEMBERED};
use super::super::*;
use std::time::{Duration, Instant};

const REFUSED: Decision<u32> = Decision::Refuse(refusal::DUPLICATE_CONNECTOR_ID);

fn accepted() -> Decision<u32> {
    Decision::Accept {
        replace: None,
        retire: Vec::new(),
    }
}

fn retiring(retire: &[(u16, u32)]) -> Decision<u32> {
    Decision::Accept {
        replace: None,
        retire: retire.to_vec(),
    }
}

#[test]
fn same_incarnation_and_index_replaces_that_link_only() {
    let (mut known, now) = (Incarnations::new(), Instant::now());
    assert_eq!(known.arrive("a", 1, 0, 0, 10, now), accepted());
    assert_eq!(known.arrive("a", 1, 1, 1, 11, now), accepted());
    let replaced = Decision::Accept {
        replace: Some((0, 10)),
        retire: Vec::new(),
    };
    assert_eq!(
        known.arrive("a", 1, 0, 1, 12, now),
        replaced,
        "though it moved to another shard"
    );
    assert_eq!(known.links(), 2);
    known.leave("a", 10, now);
    assert_eq!(known.links(), 2, "the replaced link's end changes nothing");
}

#[test]
fn new_incarnation_retires_every_older_link_on_every_shard() {
    let (mut known, now) = (Incarnations::new(), Instant::now());
    known.arrive("a", 1, 0, 0, 10, now);
    known.arrive("a", 1, 1, 1, 11, now);
    known.arrive("b", 5, 0, 0, 50, now);
    assert_eq!(
        known.arrive("a", 2, 0, 0, 20, now),
        retiring(&[(0, 10), (1, 11)])
    );
    assert_eq!(known.arrive("a", 2, 1, 1, 21, now), accepted());
    assert_eq!(known.links(), 3);
}

#[test]
fn two_living_incarnations_are_refused_as_long_as_both_live() {
    let (mut known, mut now) = (Incarnations::new(), Instant::now());
    known.arrive("a", 1, 0, 0, 10, now);
    known.arrive("a", 2, 0, 0, 20, now);
    for _ in 0..10 {
        now += Duration::from_secs(50);
        assert_eq!(known.arrive("a", 1, 0, 0, 11, now), REFUSED);
    }
    assert_eq!(
        known.arrive("a", 2, 1, 0, 21, now),
        accepted(),
        "the newer one goes on"
    );
    assert_eq!(
        known.arrive("a", 3, 0, 0, 30, now),
        retiring(&[(0, 20), (0, 21)]),
        "a third is new"
    );
    assert_eq!(known.arrive("a", 1, 0, 0, 12, now), REFUSED);
    assert_eq!(known.arrive("a", 2, 0, 0, 22, now), REFUSED);
}

#[test]
fn an_older_incarnation_serves_again_when_the_newer_is_gone() {
    let (mut known, now) = (Incarnations::new(), Instant::now());
    known.arrive("a", 1, 0, 0, 10, now);
    known.arrive("a", 2, 0, 0, 20, now);
    known.leave("a", 20, now);
    assert_eq!(known.arrive("a", 1, 0, 0, 11, now), accepted());
    assert_eq!(
        known.arrive("a", 2, 0, 0, 21, now),
        REFUSED,
        "now it is the retired one"
    );
}

#[test]
fn registry_is_bounded_and_forgets() {
    let (mut known, now) = (Incarnations::new(), Instant::now());
    for n in 0..MAX_CONNECTORS {
        assert_eq!(
            known.arrive(&format!("c{n}"), 1, 0, 0, n as u32, now),
            accepted()
        );
    }
    let overloaded = Decision::Refuse(refusal::OVERLOADED);
    assert_eq!(known.arrive("one more", 1, 0, 0, 1, now), overloaded);
    known.leave("c7", 7, now);
    assert_eq!(
        known.arrive("one more", 1, 0, 0, 1, now),
        overloaded,
        "still remembered"
    );
    assert_eq!(
        known.arrive("one more", 1, 0, 0, 1, now + REMEMBERED),
        accepted()
    );

    let mut known = Incarnations::new();
    for n in 0..MAX_LINKS {
        assert_eq!(known.arrive("a", 1, n as u16, 0, n as u32, now), accepted());
    }
    assert_eq!(known.arrive("a", 1, 5000, 0, 9999, now), overloaded);
}
