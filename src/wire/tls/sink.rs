//! The two things that rustls tells a config and not its connection: traffic secrets (through `KeyLog`) and the name
//! that a client asked for (through the certificate resolver).
//!
//! Both hooks belong to the config, which all connections of a thread share. So they write to a slot of the thread that
//! is open only while one connection's records are processed.

use rustls::KeyLog;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::cell::RefCell;
use std::sync::Arc;
use zeroize::Zeroize;

/// A traffic secret: 32 or 48 bytes. Zeroised on drop, never printed; boxed, so that moving it leaves no copy behind.
pub struct Secret {
    bytes: [u8; 48],
    len: usize,
}

impl Secret {
    fn new(secret: &[u8]) -> Option<Box<Self>> {
        let mut own = Box::new(Self {
            bytes: [0; 48],
            len: secret.len(),
        });
        own.bytes.get_mut(..secret.len())?.copy_from_slice(secret);
        Some(own)
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// What was caught for one connection.
#[derive(Default)]
pub struct Caught {
    pub client: Option<Box<Secret>>,
    pub server: Option<Box<Secret>>,
    pub sni: Option<Box<str>>,
}

thread_local! {
    static OPEN: RefCell<Option<Caught>> = const { RefCell::new(None) };
}

/// Closes the slot even when rustls unwinds: the next connection must not find another one's secrets.
struct Closing<'a>(&'a mut Caught);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        if let Some(caught) = OPEN.take() {
            *self.0 = caught;
        }
    }
}

/// Runs `process` with the slot open; what it catches is added to `caught`.
pub fn catch<R>(caught: &mut Caught, process: impl FnOnce() -> R) -> R {
    OPEN.set(Some(std::mem::take(caught)));
    let _closing = Closing(caught);
    process()
}

/// The key log of a prepared server config: keeps the first secrets of application data and sees no others.
#[derive(Debug)]
pub struct TrafficSecrets;

const CLIENT: &str = "CLIENT_TRAFFIC_SECRET_0";
const SERVER: &str = "SERVER_TRAFFIC_SECRET_0";

impl KeyLog for TrafficSecrets {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        OPEN.with_borrow_mut(|open| {
            let Some(caught) = open else { return };
            match label {
                CLIENT => caught.client = Secret::new(secret),
                SERVER => caught.server = Secret::new(secret),
                _ => {}
            }
        });
    }

    fn will_log(&self, label: &str) -> bool {
        matches!(label, CLIENT | SERVER) && OPEN.with_borrow(Option::is_some)
    }
}

/// The certificate resolver of a prepared server config: notes the name, then asks the real one.
#[derive(Debug)]
pub struct NotingResolver(pub Arc<dyn ResolvesServerCert>);

impl ResolvesServerCert for NotingResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        OPEN.with_borrow_mut(|open| {
            if let Some(caught) = open {
                caught.sni = hello.server_name().map(Box::from);
            }
        });
        self.0.resolve(hello)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.0.only_raw_public_keys()
    }
}
