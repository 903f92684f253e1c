//! Proof of possession, and nothing else, of a client's certificate.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

/// Asks for a client certificate, requires none, takes any chain, and checks the signature of CertificateVerify: whoever
/// presents a certificate holds its key.
///
/// Chain, purpose, validity, revocation and deny-list are the business of stage `auth`, against the current snapshot, on
/// full and resumed sessions alike (rustls asks no verifier on resumption). **A peer chain is worth nothing until that
/// was done.** In return a revoked client gets an answer in HTTP instead of a bare alert, and authorities can arrive after
/// the handshake. The list of acceptable authorities is empty, so that clients offer what they have (RFC 8446 §4.2.4).
#[derive(Debug)]
pub struct PossessionOnly {
    algorithms: WebPkiSupportedAlgorithms,
}

impl PossessionOnly {
    /// With the signature algorithms of the aws-lc-rs provider.
    pub fn new() -> Self {
        Self {
            algorithms: aws_lc_rs::default_provider().signature_verification_algorithms,
        }
    }
}

impl Default for PossessionOnly {
    fn default() -> Self {
        Self::new()
    }
}

impl ClientCertVerifier for PossessionOnly {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
