//! TLS as a load client speaks it: whom it trusts, who it is, which version.

use crate::control::certificates::{load_roots, provider};
use crate::control::config::TlsFiles;
use crate::wire::tls;
use rustls::pki_types::ServerName;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a server must show, and how it is spoken to.
pub(in crate::client) struct Trust<'a> {
    pub ca: Option<&'a Path>,
    pub insecure: bool,
    pub tls12: bool,
}

/// A config that is prepared for our connections.
pub(in crate::client) fn client_tls(
    trust: &Trust<'_>,
    identity: Option<&(PathBuf, PathBuf)>,
) -> Result<rustls::ClientConfig, String> {
    let versions: &[&rustls::SupportedProtocolVersion] = if trust.tls12 {
        &[&rustls::version::TLS12]
    } else {
        &[&rustls::version::TLS13]
    };
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(|e| e.to_string())?;
    let builder = if trust.insecure {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer))
    } else {
        let file = trust
            .ca
            .ok_or("--ca FILE (or --insecure) is needed for https")?;
        builder.with_root_certificates(load_roots(file).map_err(|wrong| wrong.text)?)
    };
    let mut config = match identity {
        Some((certificate, key)) => {
            let files = TlsFiles {
                certificate: certificate.clone(),
                key: key.clone(),
            };
            let identity = crate::control::certificates::load_identity(&files)
                .map_err(|(_, wrong)| wrong.text)?;
            builder
                .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(identity)))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    tls::prepare_client_config(&mut config);
    Ok(config)
}

/// `--insecure`: any certificate, whose key the server must still hold.
#[derive(Debug)]
struct AnyServer;

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &rustls::pki_types::CertificateDer<'_>,
        _intermediates: &[rustls::pki_types::CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            dss,
            &provider().signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &provider().signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
