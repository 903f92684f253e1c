//! Certificates and keys: read from PEM files, made into rustls's configs, watched for their end.
//!
//! Four configs come from here: [`clients_config`] (the gateway towards clients, TLS 1.2 and 1.3),
//! [`relay_config`] (the gateway towards connectors) and [`connector_config`] (their other side), the relay pair being
//! TLS 1.3 with a certificate on both sides; and [`upstream_config`] (the connector towards https upstreams). All allow the keys to be taken over (DESIGN §4).
//!
//! What never happens here: no trust in clients is decided (that is `snapshot::Trust`, against the site's newest
//! settings), no key is logged or published, no file is read on a shard.

pub mod expiry;
pub mod facts;
pub mod pem;
pub mod sni;
pub mod tickets;

use super::config::{TlsFiles, UpstreamTls};
use pem::Wrong;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::path::Path;
use std::sync::Arc;

/// Protocol name of a relay link (ALPN), so that a link is never taken for a client's connection nor the reverse.
pub const RELAY_ALPN: &[u8] = b"tidegate-relay/1";

/// The cryptography of every handshake.
///
/// AES-128 comes before AES-256: the suites of AES-256 hash by SHA-384, which processors do not help with, and with which a
/// quarter of a handshake's time went into the key schedule.
pub fn provider() -> Arc<CryptoProvider> {
    use rustls::crypto::aws_lc_rs::cipher_suite::*;
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            TLS13_AES_128_GCM_SHA256,
            TLS13_AES_256_GCM_SHA384,
            TLS13_CHACHA20_POLY1305_SHA256,
            TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ],
        ..aws_lc_rs::default_provider()
    })
}

/// Which of an identity's two files is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Certificate,
    Key,
}

/// A certificate chain and its key, checked to belong together.
pub fn load_identity(files: &TlsFiles) -> Result<CertifiedKey, (Part, Wrong)> {
    let chain = pem::certificates(&files.certificate).map_err(|w| (Part::Certificate, w))?;
    let key = pem::private_key(&files.key).map_err(|w| (Part::Key, w))?;
    let key = provider()
        .key_provider
        .load_private_key(key)
        .map_err(|error| {
            let text = format!("{}: the key cannot be used: {error}", files.key.display());
            (
                Part::Key,
                Wrong::new(
                    text,
                    "use an ECDSA P-256 or P-384, Ed25519, or RSA 2048+ key",
                ),
            )
        })?;
    let identity = CertifiedKey::new(chain, key);
    identity.keys_match().map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            let text = format!(
                "{} does not belong to {}",
                files.key.display(),
                files.certificate.display()
            );
            (
                Part::Key,
                Wrong::new(
                    text,
                    "the file's first certificate must be the key's own; its CAs follow it",
                ),
            )
        }
        other => {
            let text = format!("{}: {other}", files.certificate.display());
            (
                Part::Certificate,
                Wrong::new(text, "the first certificate of the file cannot be read"),
            )
        }
    })?;
    Ok(identity)
}

/// CA certificates as rustls's roots.
pub fn load_roots(file: &Path) -> Result<RootCertStore, Wrong> {
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates(file)? {
        facts::check_ca(&certificate).map_err(|why| {
            Wrong::new(
                format!("{}: {why}", file.display()),
                "give the CA's own certificate",
            )
        })?;
        roots.add(certificate).map_err(|error| {
            Wrong::new(
                format!("{}: {error}", file.display()),
                "the CA certificate cannot be used",
            )
        })?;
    }
    Ok(roots)
}

/// The CAs that this host trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR`, else where the distribution keeps them).
///
/// `rustls-native-certs` rather than `rustls-platform-verifier`: on Linux the latter reads the same files through the
/// former, and a host without a store is to be told of when the config is read, not at the first handshake.
pub fn system_roots() -> Result<RootCertStore, Wrong> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Stores hold a few old certificates that no verifier takes; they are passed over, as others do.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found
            .errors
            .first()
            .map_or_else(String::new, |error| format!(": {error}"));
        let text = format!("this host has no store of trusted CAs for https upstreams{why}");
        return Err(Wrong::new(
            text,
            "install the package ca-certificates, or name the upstream's CA: tls = { ca = \"corp-ca.pem\" }",
        ));
    }
    Ok(roots)
}

fn text_of((_, wrong): (Part, Wrong)) -> String {
    wrong.text
}

/// Tickets by keys that are made now, and good for this process's life.
pub fn random_ticketer() -> Result<Arc<dyn ProducesTickets>, String> {
    aws_lc_rs::Ticketer::new().map_err(|e| format!("no random for ticket keys: {e}"))
}

/// Tickets by the keys of a file: good on every instance that has it, and after restarts.
pub fn shared_ticketer(file: &Path) -> Result<Arc<dyn ProducesTickets>, String> {
    Ok(Arc::new(
        tickets::SharedTicketer::load(file).map_err(|w| w.text)?,
    ))
}

/// The gateway towards clients: HTTP/1.1, TLS 1.2 and 1.3, certificate by SNI. `verifier` decides whether a client certificate is asked for and what the handshake proves of it.
///
/// The result is by value, so that the caller can set `key_log` before it shares it.
pub fn clients_config(
    tls: &TlsFiles,
    sni: &[(Vec<String>, TlsFiles)],
    ticketer: Arc<dyn ProducesTickets>,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, String> {
    let mut resolver = sni::BySni::new(load_identity(tls).map_err(text_of)?);
    for (hosts, files) in sni {
        resolver.add(hosts, load_identity(files).map_err(text_of)?);
    }
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| e.to_string())?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = ticketer;
    // OpenSSL and Windows name AES-256 first, out of habit; who knows AES-128 gets it.
    config.ignore_client_order = true;
    // Tickets carry the session to the client: no store here to fill, none to share between instances.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    config.enable_secret_extraction = true;
    Ok(config)
}

/// Who judges connectors' certificates: a chain to `connector_ca`, for client authentication.
pub fn relay_verifier(connector_ca: &Path) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let roots = Arc::new(load_roots(connector_ca).map_err(|w| w.text)?);
    WebPkiClientVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|e| format!("{}: {e}", connector_ca.display()))
}

/// The gateway towards connectors: TLS 1.3 only, a certificate that `verifier` accepts required. No tickets: a resumed
/// session would pass without its certificate being verified against a reloaded CA.
pub fn relay_config(
    tls: &TlsFiles,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, String> {
    let identity = load_identity(tls).map_err(text_of)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| e.to_string())?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(identity)));
    config.alpn_protocols = vec![RELAY_ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.enable_secret_extraction = true;
    Ok(config)
}

/// The notification API towards its callers; with `client_ca` they must show a certificate.
pub fn api_config(tls: &TlsFiles, client_ca: Option<&Path>) -> Result<ServerConfig, String> {
    let identity = load_identity(tls).map_err(text_of)?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| e.to_string())?;
    let builder = match client_ca {
        Some(ca) => builder.with_client_cert_verifier(relay_verifier(ca)?),
        None => builder.with_no_client_auth(),
    };
    let resolver = rustls::sign::SingleCertAndKey::from(identity);
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The connector towards gateways: TLS 1.3 only, the gateway's name checked against certificates under `gateway_ca`.
pub fn connector_config(tls: &TlsFiles, gateway_ca: &Path) -> Result<ClientConfig, String> {
    let identity = load_identity(tls).map_err(text_of)?;
    let roots = load_roots(gateway_ca).map_err(|w| w.text)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(identity)));
    config.alpn_protocols = vec![RELAY_ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_secret_extraction = true;
    Ok(config)
}

/// Servers whose sessions a connector remembers for each TLS setting.
const RESUMED_SERVERS: usize = 128;
/// Tickets that rustls keeps of one server.
const TICKETS_PER_SERVER: usize = 8;

/// The connector towards https upstreams: HTTP/1.1, TLS 1.2 and 1.3, the upstream's name checked against certificates
/// under `ca` or the host's, sessions resumed.
pub fn upstream_config(tls: &UpstreamTls) -> Result<ClientConfig, String> {
    let roots = match &tls.ca {
        Some(file) => load_roots(file),
        None => system_roots(),
    };
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots.map_err(|wrong| wrong.text)?);
    let mut config = match &tls.identity {
        Some(files) => {
            let identity = load_identity(files).map_err(text_of)?;
            config
                .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(identity)))
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption =
        rustls::client::Resumption::in_memory_sessions(RESUMED_SERVERS * TICKETS_PER_SERVER);
    config.enable_secret_extraction = true;
    Ok(config)
}

/// The connector's id as a gateway reads it: the certificate's first CN, checked to be fit for an id.
pub fn connector_id(leaf: &[u8]) -> Result<String, String> {
    let facts = facts::Facts::of(leaf)?;
    let name = facts.common_name.ok_or("the certificate has no CN")?;
    super::settings::check_name(&name)
        .map_err(|why| format!("the certificate's CN {name:?} {why}"))?;
    Ok(name)
}

#[cfg(test)]
mod tests;
