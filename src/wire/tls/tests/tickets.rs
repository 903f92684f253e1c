//! Tickets that survive restarts.

use super::*;
use crate::wire::tls::tickets::{MAX_KEYS, MAX_LIFETIME_S, TicketKeys, TicketKeysError};
use rustls::pki_types::UnixTime;
use rustls::server::ProducesTickets;
use rustls::time_provider::TimeProvider;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[derive(Debug)]
struct Clock(AtomicU64);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(
            self.0.load(Ordering::Relaxed),
        )))
    }
}

#[test]
fn the_first_key_encrypts_and_all_decrypt() {
    let old = TicketKeys::new(&[[1; 32]], 60).unwrap();
    let new = TicketKeys::new(&[[2; 32], [1; 32]], 60).unwrap();
    let stranger = TicketKeys::random(60).unwrap();
    let ticket = old.encrypt(b"state").unwrap();
    assert_eq!(new.decrypt(&ticket).unwrap(), b"state");
    assert_eq!(stranger.decrypt(&ticket), None);
    let ticket = new.encrypt(b"state").unwrap();
    assert_eq!(old.decrypt(&ticket), None);
    assert!(new.enabled() && new.lifetime() == 60);
    assert_ne!(new.encrypt(b"state"), new.encrypt(b"state"));
}

#[test]
fn a_ticket_outlives_nothing() {
    let clock = Arc::new(Clock(AtomicU64::new(1_000_000)));
    let keys = TicketKeys::with_time(&[[1; 32]], 60, clock.clone()).unwrap();
    let ticket = keys.encrypt(b"state").unwrap();
    clock.0.store(1_000_060, Ordering::Relaxed);
    assert!(keys.decrypt(&ticket).is_some());
    clock.0.store(1_000_061, Ordering::Relaxed);
    assert!(keys.decrypt(&ticket).is_none());
    // An instance whose clock is behind.
    clock.0.store(999_990, Ordering::Relaxed);
    assert!(keys.decrypt(&ticket).is_some());
}

#[test]
fn an_altered_ticket_is_none() {
    let keys = TicketKeys::random(60).unwrap();
    let ticket = keys.encrypt(b"state").unwrap();
    for at in 0..ticket.len() {
        let mut bad = ticket.clone();
        bad[at] ^= 1;
        assert_eq!(keys.decrypt(&bad), None, "{at}");
        assert_eq!(keys.decrypt(&ticket[..at]), None, "{at}");
    }
    assert!(keys.decrypt(&[ticket, vec![0]].concat()).is_none());
    assert!(keys.encrypt(&vec![0; 65_535]).is_none());
    let longest = keys.encrypt(&vec![0; 65_535 - 64]).unwrap();
    assert_eq!(longest.len(), 65_535);
}

#[test]
fn rotation_keeps_some_keys() {
    let one = TicketKeys::random(60).unwrap();
    let ticket = one.encrypt(b"state").unwrap();
    let two = one.rotated(2).unwrap();
    let three = two.rotated(2).unwrap();
    assert!(two.decrypt(&ticket).is_some());
    assert!(three.decrypt(&ticket).is_none());
    assert!(three.decrypt(&two.encrypt(b"state").unwrap()).is_some());
    assert!(one.rotated(0).is_ok() && one.rotated(usize::MAX).is_ok());
}

#[test]
fn bad_lists_are_refused() {
    assert_eq!(
        TicketKeys::new(&[], 60).unwrap_err(),
        TicketKeysError::Count
    );
    let many = vec![[0; 32]; MAX_KEYS + 1];
    assert_eq!(
        TicketKeys::new(&many, 60).unwrap_err(),
        TicketKeysError::Count
    );
    assert_eq!(
        TicketKeys::random(0).unwrap_err(),
        TicketKeysError::Lifetime
    );
    assert_eq!(
        TicketKeys::random(MAX_LIFETIME_S + 1).unwrap_err(),
        TicketKeysError::Lifetime
    );
}

#[test]
fn keys_are_not_printed() {
    let keys = TicketKeys::new(&[[0xab; 32]], 60).unwrap();
    assert_eq!(
        format!("{keys:?}"),
        "TicketKeys { keys: 1, lifetime_s: 60, .. }"
    );
}

/// Another process with the same keys resumes what this one began, client certificate included.
#[test]
fn sessions_survive_a_restart() {
    for suite in all_suites() {
        let server = || {
            let mut config = server_config(&[*suite]);
            config.ticketer = Arc::new(TicketKeys::new(&[[7; 32]], 3600).unwrap());
            Arc::new(config)
        };
        let client = Arc::new(client_config(&[*suite], true));
        for resumed in [false, true] {
            let mut ours = Ours::new(Connection::server(&server()).unwrap());
            let peer = rustls::ClientConnection::new(client.clone(), name()).unwrap();
            let mut peer = Peer::new(peer.into());
            pump(&mut ours, &mut peer, &mut fastrand::Rng::with_seed(1));
            let established = ours.established.unwrap();
            assert_eq!(established.resumed, resumed, "{suite:?}");
            assert_eq!(established.peer_chain, [pki().client.chain[0].to_vec()]);
        }
    }
}
