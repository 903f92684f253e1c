//! Clients by the million, for load runs: each has a certificate of its own from the lab's CA, made when it connects and
//! stored nowhere.

use super::authority::{Authority, Life, Subject, new_key};
use super::{CLIENTS_CA, LEAF_DAYS, Validity};
use rcgen::KeyPair;
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::{CertifiedKey, SigningKey};
use std::path::Path;
use std::sync::Arc;

/// Makes identities. All of them share one key pair: making a key costs more than signing a certificate, and a server
/// sees no difference.
pub struct Identities {
    authority: Authority,
    life: Life,
    key: KeyPair,
    signs: Arc<dyn SigningKey>,
}

impl Identities {
    /// With the clients' CA in that folder.
    pub fn open(dir: &Path) -> Result<Self, String> {
        let key = new_key()?;
        let der = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Ok(Self {
            authority: Authority::open(dir, CLIENTS_CA)?,
            life: Life::of(&Validity::default(), LEAF_DAYS)?,
            signs: any_ecdsa_type(&der)
                .map_err(|error| format!("cannot use a new key: {error}"))?,
            key,
        })
    }

    /// That client's certificate: CN and DNS name are `name`.
    pub fn client(&self, name: &str) -> Result<CertifiedKey, String> {
        let subject = Subject::client(name);
        let certificate = self.authority.certify(&subject, &self.life, &self.key)?;
        Ok(CertifiedKey::new(
            vec![certificate.der().clone()],
            self.signs.clone(),
        ))
    }
}
