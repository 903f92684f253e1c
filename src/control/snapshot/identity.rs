//! Who a client was found to be.

use crate::control::tokens::TokenIdentity;

/// `cert:<ca name>/<field>`, `oidc:<issuer name>/<claim>` or `site:<site>/<client>`.
pub const MAX_CLIENT_ID_BYTES: usize = 128;

/// An accepted client. The texts are printable ASCII: they go into header fields as they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// At most [`MAX_CLIENT_ID_BYTES`]. What begins it tells certificates, issuers and the site's own tokens apart.
    pub client_id: String,
    /// For `Tidegate-Device`; of a certificate the naming field itself.
    pub device: Option<String>,
    pub user: Option<String>,
    pub tenant: Option<String>,
    /// Unix seconds: the verdict holds no longer than this. Of a chain the earliest end, CA and revocation lists
    /// included; of a token its `exp`.
    pub not_after: i64,
    pub proof: Proof,
}

/// What the client showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    Certificate {
        /// Hex, lower case.
        serial: String,
        /// Hex SHA-256 of the leaf.
        hash: String,
        /// Issuer and serial of each certificate of the path, the leaf's first: as revocation lists name them.
        path: Vec<IssuerAndSerial>,
        /// SHA-256 of the name and key of the CA at its end.
        anchor: [u8; 32],
    },
    Token {
        /// `jti`, or what the issuer puts in its place.
        id: Option<String>,
        /// What begins the client id: kind and name of the issuer.
        issuer: String,
    },
}

/// DER of an issuer's name, and the bytes of a serial number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerAndSerial {
    pub issuer: Vec<u8>,
    pub serial: Vec<u8>,
}

impl ClientIdentity {
    pub fn of_token(token: TokenIdentity) -> Self {
        let issuer = token
            .client_id
            .split('/')
            .next()
            .unwrap_or_default()
            .to_owned();
        Self {
            client_id: token.client_id,
            device: token.device,
            user: token.user,
            tenant: token.tenant,
            not_after: token.not_after,
            proof: Proof::Token {
                id: token.token_id,
                issuer,
            },
        }
    }

    /// For `Tidegate-Auth`.
    pub fn means(&self) -> &'static str {
        match self.proof {
            Proof::Certificate { .. } => "certificate",
            Proof::Token { .. } => "token",
        }
    }

    pub fn serial(&self) -> Option<&str> {
        match &self.proof {
            Proof::Certificate { serial, .. } => Some(serial),
            Proof::Token { .. } => None,
        }
    }

    pub fn cert_hash(&self) -> Option<&str> {
        match &self.proof {
            Proof::Certificate { hash, .. } => Some(hash),
            Proof::Token { .. } => None,
        }
    }

    pub fn token_id(&self) -> Option<&str> {
        match &self.proof {
            Proof::Token { id, .. } => id.as_deref(),
            Proof::Certificate { .. } => None,
        }
    }
}
