//! Which certificate a client gets: by the name it asks for.

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::Arc;

/// Certificates by host name; the default one answers names that are not listed, and clients that send none.
#[derive(Debug)]
pub struct BySni {
    default: Arc<CertifiedKey>,
    /// Lower-case name, or `*.example.com`. Several certificates of one name (ECDSA beside RSA) stand in file order.
    named: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
}

impl BySni {
    pub fn new(default: CertifiedKey) -> Self {
        Self {
            default: Arc::new(default),
            named: HashMap::new(),
        }
    }

    pub fn add(&mut self, hosts: &[String], certificate: CertifiedKey) {
        let certificate = Arc::new(certificate);
        for host in hosts {
            let host = host.to_ascii_lowercase().into_boxed_str();
            self.named
                .entry(host)
                .or_default()
                .push(certificate.clone());
        }
    }

    /// The certificates of a name, exact before wildcard (one label, as in certificates, RFC 6125 §6.4.3).
    fn candidates(&self, name: &str) -> Option<&[Arc<CertifiedKey>]> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if let Some(exact) = self.named.get(name.as_str()) {
            return Some(exact);
        }
        let (_, parent) = name.split_once('.')?;
        self.named
            .get(format!("*.{parent}").as_str())
            .map(Vec::as_slice)
    }
}

impl ResolvesServerCert for BySni {
    /// Of a name's certificates the first whose key the client can verify, else the first.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let Some(candidates) = hello.server_name().and_then(|name| self.candidates(name)) else {
            return Some(self.default.clone());
        };
        let schemes = hello.signature_schemes();
        candidates
            .iter()
            .find(|c| c.key.choose_scheme(schemes).is_some())
            .or(candidates.first())
            .cloned()
    }
}
