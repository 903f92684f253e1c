//! Ports for processes that must be told theirs beforehand.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below 32,768 the kernel takes no port for outgoing connections, so that a port found free stays so.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port of 127.0.0.1 and ::1 that nobody else in this run gets. Two runs at once begin at different places.
pub fn free() -> u16 {
    free_row(1)
}

/// The first of `count` such ports in a row.
pub fn free_row(count: u16) -> u16 {
    let width = u32::from(count);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(width, Ordering::Relaxed);
        let at = std::process::id().wrapping_mul(331).wrapping_add(step) % COUNT;
        let first = u16::try_from(FIRST + at).expect("the range is below 65,536");
        let free = |port: u16| ["127.0.0.1", "::1"].iter().all(|ip| is_free(ip, port));
        if at + width <= COUNT && (first..first + count).all(free) {
            return first;
        }
    }
    panic!(
        "no {count} ports of 127.0.0.1 are free in a row between {FIRST} and {}",
        FIRST + COUNT
    );
}

/// A host without IPv6 has every port of ::1 free.
fn is_free(ip: &str, port: u16) -> bool {
    match TcpListener::bind((ip, port)) {
        Ok(_) => true,
        Err(error) => error.kind() != std::io::ErrorKind::AddrInUse,
    }
}
