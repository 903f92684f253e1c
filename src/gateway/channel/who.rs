//! Who a channel's client is, in as few bytes as do: what it shares with others of its CA or issuer stands once.

use crate::control::snapshot::{ClientIdentity, IssuerAndSerial, Proof};
use std::fmt::Write;
use std::net::IpAddr;
use std::rc::Rc;

/// What many clients have in common.
#[derive(Debug, PartialEq, Eq)]
pub enum Lineage {
    /// Of certificates of one issuer: the CA at the end of the path, and what lies between.
    Certificate {
        anchor: [u8; 32],
        issuer: Vec<u8>,
        rest: Vec<IssuerAndSerial>,
    },
    /// Of tokens: kind and name of their issuer.
    Token { issuer: String },
}

impl Lineage {
    fn is_of(&self, identity: &ClientIdentity) -> bool {
        match (self, &identity.proof) {
            (
                Lineage::Certificate {
                    anchor,
                    issuer,
                    rest,
                },
                Proof::Certificate {
                    anchor: its, path, ..
                },
            ) => {
                let Some((leaf, others)) = path.split_first() else {
                    return false;
                };
                anchor == its && *issuer == leaf.issuer && rest == others
            }
            (Lineage::Token { issuer }, Proof::Token { issuer: its, .. }) => issuer == its,
            _ => false,
        }
    }

    fn of(identity: &ClientIdentity) -> Lineage {
        match &identity.proof {
            Proof::Certificate { anchor, path, .. } => {
                let (issuer, rest) = match path.split_first() {
                    Some((leaf, rest)) => (leaf.issuer.clone(), rest.to_vec()),
                    None => (Vec::new(), Vec::new()),
                };
                Lineage::Certificate {
                    anchor: *anchor,
                    issuer,
                    rest,
                }
            }
            Proof::Token { issuer, .. } => Lineage::Token {
                issuer: issuer.clone(),
            },
        }
    }
}

/// The lineages of a shard's channels. Those of nobody go when there are many.
#[derive(Default)]
pub struct Lineages {
    known: Vec<Rc<Lineage>>,
}

/// Lineages above which those of nobody are looked for.
const MANY: usize = 64;

impl Lineages {
    fn get(&mut self, identity: &ClientIdentity) -> Rc<Lineage> {
        if let Some(known) = self.known.iter().find(|known| known.is_of(identity)) {
            return known.clone();
        }
        if self.known.len() >= MANY && self.known.len().is_power_of_two() {
            self.known.retain(|known| Rc::strong_count(known) > 1);
        }
        let lineage = Rc::new(Lineage::of(identity));
        self.known.push(lineage.clone());
        lineage
    }
}

/// A client: its id, what names its certificate or token among those of its lineage, and the address that it counts
/// against.
pub struct Who {
    lineage: Rc<Lineage>,
    /// Client id, serial number or token id, address (0, 4 or 16 bytes).
    bytes: Box<[u8]>,
    client: u8,
    proof: u16,
}

impl Who {
    /// `None`: an id that no channel can have.
    pub fn new(
        identity: &ClientIdentity,
        address: Option<IpAddr>,
        lineages: &mut Lineages,
    ) -> Option<Who> {
        let client = identity.client_id.as_bytes();
        let proof: &[u8] = match &identity.proof {
            Proof::Certificate { path, .. } => path.first().map_or(&[], |leaf| &leaf.serial),
            Proof::Token { id, .. } => id.as_deref().unwrap_or_default().as_bytes(),
        };
        let mut octets = [0; 16];
        let address = match address {
            None => &[][..],
            Some(IpAddr::V4(v4)) => {
                octets[..4].copy_from_slice(&v4.octets());
                &octets[..4]
            }
            Some(IpAddr::V6(v6)) => {
                octets = v6.octets();
                &octets[..]
            }
        };
        Some(Who {
            lineage: lineages.get(identity),
            client: u8::try_from(client.len()).ok()?,
            proof: u16::try_from(proof.len()).ok()?,
            bytes: [client, proof, address].concat().into_boxed_slice(),
        })
    }

    fn parts(&self) -> (&[u8], &[u8], &[u8]) {
        let (client, rest) = self
            .bytes
            .split_at_checked(usize::from(self.client))
            .unwrap_or_default();
        let (proof, address) = rest
            .split_at_checked(usize::from(self.proof))
            .unwrap_or_default();
        (client, proof, address)
    }

    pub fn client(&self) -> &str {
        std::str::from_utf8(self.parts().0).unwrap_or_default()
    }

    pub fn address(&self) -> Option<IpAddr> {
        let address = self.parts().2;
        if let Ok(v4) = <[u8; 4]>::try_from(address) {
            return Some(v4.into());
        }
        <[u8; 16]>::try_from(address).ok().map(IpAddr::from)
    }

    /// Heap bytes of its own.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// What deny-lists and revocation lists are asked with; device, user, tenant and hash are not among it.
    pub fn identity(&self) -> ClientIdentity {
        let (_, proof, _) = self.parts();
        let proof = match &*self.lineage {
            Lineage::Certificate {
                anchor,
                issuer,
                rest,
            } => {
                let leaf = IssuerAndSerial {
                    issuer: issuer.clone(),
                    serial: proof.to_vec(),
                };
                let mut serial = String::with_capacity(2 * proof.len());
                for byte in proof {
                    let _ = write!(serial, "{byte:02x}");
                }
                Proof::Certificate {
                    serial,
                    hash: String::new(),
                    path: std::iter::once(leaf).chain(rest.iter().cloned()).collect(),
                    anchor: *anchor,
                }
            }
            Lineage::Token { issuer } => Proof::Token {
                id: (!proof.is_empty()).then(|| String::from_utf8_lossy(proof).into_owned()),
                issuer: issuer.clone(),
            },
        };
        ClientIdentity {
            client_id: self.client().to_owned(),
            device: None,
            user: None,
            tenant: None,
            not_after: i64::MAX,
            proof,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(serial: &[u8], issuer: &str) -> ClientIdentity {
        ClientIdentity {
            client_id: "cert:corp/pc-1".into(),
            device: None,
            user: None,
            tenant: None,
            not_after: i64::MAX,
            proof: Proof::Certificate {
                serial: serial.iter().map(|b| format!("{b:02x}")).collect(),
                hash: String::new(),
                path: vec![
                    IssuerAndSerial {
                        issuer: issuer.into(),
                        serial: serial.to_vec(),
                    },
                    IssuerAndSerial {
                        issuer: b"root".to_vec(),
                        serial: vec![9],
                    },
                ],
                anchor: [3; 32],
            },
        }
    }

    #[test]
    fn an_identity_comes_back_as_lists_ask_for_it() {
        let mut lineages = Lineages::default();
        let token = ClientIdentity {
            client_id: "oidc:entra/abc".into(),
            proof: Proof::Token {
                id: Some("jti-1".into()),
                issuer: "oidc:entra".into(),
            },
            ..certificate(&[], "")
        };
        for identity in [
            certificate(&[0, 0xab, 1], "ca"),
            certificate(&[7; 20], "other"),
            token,
        ] {
            for address in [None, Some("10.0.0.7"), Some("2001:db8::")] {
                let address = address.map(|text| text.parse().unwrap());
                let who = Who::new(&identity, address, &mut lineages).unwrap();
                assert_eq!(who.identity(), identity);
                assert_eq!(who.client(), identity.client_id);
                assert_eq!(who.address(), address);
            }
        }
        assert_eq!(lineages.known.len(), 3, "one for each issuer");
    }

    #[test]
    fn lineages_of_nobody_go() {
        let mut lineages = Lineages::default();
        for n in 0..10 * MANY {
            let _ = Who::new(&certificate(&[1], &n.to_string()), None, &mut lineages);
        }
        assert!(lineages.known.len() <= 2 * MANY, "{}", lineages.known.len());
    }
}
