//! Ports for processes that must be told theirs beforehand.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below 32,768 the kernel takes no port for outgoing connections, so that a port found free stays so.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port of 127.0.0.1 and ::1 that nobody else in this run gets. Two runs at once begin at different places.
pub fn free() -> u16 {
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (std::process::id().wrapping_mul(331).wrapping_add(step)) % COUNT;
        let port = u16::try_from(port).expect("the range is below 65,536");
        if ["127.0.0.1", "::1"].iter().all(|ip| is_free(ip, port)) {
            return port;
        }
    }
    panic!(
        "no port of 127.0.0.1 is free between {FIRST} and {}",
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
