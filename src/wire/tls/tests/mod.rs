//! Our side against rustls's own buffered connections, OpenSSL, and mutated bytes.

mod attacks;
mod handshakes;
mod mutation;
mod openssl;
pub mod parked;
mod pinning;
mod tickets;
mod traffic;

use super::{
    Connection, Established, Step, TlsError, prepare_client_config, prepare_parking_client_config,
    prepare_server_config,
};
use crate::wire::Put;
use crate::wire::record::{ContentType, Outgoing};
use crate::wire::tls::verifier::PossessionOnly;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedCipherSuite};
use std::io::{Read, Write};
use std::sync::{Arc, OnceLock};

/// A certificate and its key.
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
    pub pem: (String, String),
}

impl Identity {
    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone().into())
    }
}

pub struct Pki {
    roots: Arc<RootCertStore>,
    pub ca_pem: String,
    pub server: Identity,
    server_rsa: Identity,
    pub client: Identity,
}

fn named(common_name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, common_name);
    params
}

/// One for all tests: keys are costly.
pub fn pki() -> &'static Pki {
    static PKI: OnceLock<Pki> = OnceLock::new();
    PKI.get_or_init(|| {
        let mut params = named("Test CA", &[]);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let issue = |name: &str, key: KeyPair| {
            let params = named(name, &[name]);
            let certificate = params.signed_by(&key, &ca).unwrap();
            Identity {
                chain: vec![certificate.der().clone()],
                key: key.serialize_der(),
                pem: (certificate.pem(), key.serialize_pem()),
            }
        };
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        Pki {
            roots: Arc::new(roots),
            ca_pem: ca.pem(),
            server: issue("localhost", KeyPair::generate().unwrap()),
            server_rsa: issue(
                "localhost",
                KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap(),
            ),
            client: issue("device-1", KeyPair::generate().unwrap()),
        }
    })
}

/// The suites that both sides may use; one for a pinned test, all by default.
pub fn provider(suites: &[SupportedCipherSuite]) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: suites.to_vec(),
        ..aws_lc_rs::default_provider()
    })
}

pub fn all_suites() -> &'static [SupportedCipherSuite] {
    aws_lc_rs::ALL_CIPHER_SUITES
}

/// The versions that these suites belong to.
pub fn versions(suites: &[SupportedCipherSuite]) -> Vec<&'static rustls::SupportedProtocolVersion> {
    let has = |tls13: bool| suites.iter().any(|suite| suite.tls13().is_some() == tls13);
    [(true, &TLS13), (false, &TLS12)]
        .into_iter()
        .filter_map(|(tls13, version)| has(tls13).then_some(version))
        .collect()
}

/// Prepared, and good for a plain rustls connection as well.
pub fn server_config(suites: &[SupportedCipherSuite]) -> ServerConfig {
    let rsa = suites
        .iter()
        .all(|suite| format!("{:?}", suite.suite()).contains("_RSA_"));
    let identity = if rsa {
        &pki().server_rsa
    } else {
        &pki().server
    };
    let mut config = ServerConfig::builder_with_provider(provider(suites))
        .with_protocol_versions(&versions(suites))
        .unwrap()
        .with_client_cert_verifier(Arc::new(PossessionOnly::new()))
        .with_single_cert(identity.chain.clone(), identity.key())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    prepare_server_config(&mut config);
    config
}

pub fn client_config(suites: &[SupportedCipherSuite], with_certificate: bool) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(provider(suites));
    let builder = builder
        .with_protocol_versions(&versions(suites))
        .unwrap()
        .with_root_certificates(pki().roots.clone());
    let mut config = if with_certificate {
        let client = &pki().client;
        builder
            .with_client_auth_cert(client.chain.clone(), client.key())
            .unwrap()
    } else {
        builder.with_no_client_auth()
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    prepare_client_config(&mut config);
    config
}

/// One whose connections may be parked.
pub fn parking_client_config(suites: &[SupportedCipherSuite]) -> ClientConfig {
    let mut config = client_config(suites, true);
    prepare_parking_client_config(&mut config);
    config
}

pub fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

/// Our side, with what came of it.
pub struct Ours {
    pub tls: Connection,
    pub established: Option<Established>,
    is_established: bool,
    pub received: Vec<u8>,
    pub closed: bool,
    pub error: Option<TlsError>,
}

impl Ours {
    pub fn server(config: ServerConfig) -> Self {
        Self::new(Connection::server(&Arc::new(config)).unwrap())
    }

    pub fn client(config: ClientConfig) -> Self {
        Self::new(Connection::client(&Arc::new(config), name()).unwrap())
    }

    pub fn new(tls: Connection) -> Self {
        Self {
            tls,
            established: None,
            is_established: false,
            received: Vec::new(),
            closed: false,
            error: None,
        }
    }

    /// Takes bytes in one piece, up to the first error.
    pub fn receive(&mut self, bytes: &[u8]) {
        if self.error.is_some() {
            return;
        }
        let (mut input, mut used) = (bytes.to_vec(), 0);
        loop {
            match self.tls.next(&mut input, &mut used) {
                Ok(Step::NeedMore) => break,
                Ok(Step::Established(established)) => {
                    assert!(!self.is_established, "established twice");
                    self.is_established = true;
                    assert!(self.received.is_empty());
                    self.established = Some(*established);
                }
                Ok(Step::Data(data)) => {
                    assert!(!data.is_empty() && self.is_established);
                    self.received.extend_from_slice(data);
                }
                Ok(Step::Closed) => {
                    self.closed = true;
                    break;
                }
                Err(error) => {
                    self.error = Some(error);
                    return;
                }
            }
            assert!(used <= input.len());
        }
        assert_eq!(used, input.len(), "input left over");
    }

    /// Takes bytes in random pieces.
    pub fn receive_split(&mut self, mut bytes: &[u8], random: &mut fastrand::Rng) {
        while !bytes.is_empty() {
            let most = [1, 7, 300, 20_000][random.usize(..4)];
            let (now, later) = bytes.split_at(random.usize(1..=most).min(bytes.len()));
            self.receive(now);
            bytes = later;
        }
    }

    pub fn send(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut out = Outgoing::new(self.tls.layout(), Vec::new());
        out.put(plain);
        self.tls.transmit(out).unwrap()
    }

    pub fn control(&mut self) -> Vec<u8> {
        self.send(&[])
    }
}

/// rustls's buffered connection as the peer.
pub struct Peer {
    pub tls: rustls::Connection,
    pub received: Vec<u8>,
    pub closed: bool,
    pub error: Option<rustls::Error>,
}

impl Peer {
    pub fn server(config: ServerConfig) -> Self {
        Self::new(
            rustls::ServerConnection::new(Arc::new(config))
                .unwrap()
                .into(),
        )
    }

    pub fn client(config: ClientConfig) -> Self {
        Self::new(
            rustls::ClientConnection::new(Arc::new(config), name())
                .unwrap()
                .into(),
        )
    }

    pub fn new(tls: rustls::Connection) -> Self {
        Self {
            tls,
            received: Vec::new(),
            closed: false,
            error: None,
        }
    }

    pub fn receive(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.error.is_none() && !self.closed {
            self.tls.read_tls(&mut bytes).unwrap();
            match self.tls.process_new_packets() {
                Ok(state) => self.closed = state.peer_has_closed(),
                Err(error) => self.error = Some(error),
            }
            let mut chunk = [0; 16_384];
            while let Ok(n @ 1..) = self.tls.reader().read(&mut chunk) {
                self.received.extend_from_slice(&chunk[..n]);
            }
        }
    }

    pub fn control(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut out).unwrap();
        }
        out
    }

    pub fn send(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for part in plain.chunks(16_384) {
            self.tls.writer().write_all(part).unwrap();
            out.append(&mut self.control());
        }
        out.append(&mut self.control());
        out
    }
}

/// Carries bytes to and fro until both are silent.
pub fn pump(ours: &mut Ours, peer: &mut Peer, random: &mut fastrand::Rng) {
    for _ in 0..64 {
        let (a, b) = (ours.control(), peer.control());
        if a.is_empty() && b.is_empty() {
            return;
        }
        peer.receive(&a);
        ours.receive_split(&b, random);
    }
    panic!("no end to it");
}

/// An established pair: ours as a server (true) or client, with the given suites.
pub fn connected(
    we_serve: bool,
    suites: &[SupportedCipherSuite],
    random: &mut fastrand::Rng,
) -> (Ours, Peer) {
    connected_by(we_serve, suites, client_config(suites, false), random)
}

/// As `connected`, with that client.
pub fn connected_by(
    we_serve: bool,
    suites: &[SupportedCipherSuite],
    client: ClientConfig,
    random: &mut fastrand::Rng,
) -> (Ours, Peer) {
    let (mut ours, mut peer) = if we_serve {
        (Ours::server(server_config(suites)), Peer::client(client))
    } else {
        (Ours::client(client), Peer::server(server_config(suites)))
    };
    pump(&mut ours, &mut peer, random);
    assert_eq!((&ours.error, &peer.error), (&None, &None));
    assert!(ours.established.is_some() && !peer.tls.is_handshaking());
    (ours, peer)
}

/// Two of ours, server and client: the one to attack, the other with keys at hand to do it.
pub fn ours_only(suite: SupportedCipherSuite, client: ClientConfig) -> (Ours, Ours) {
    let (mut a, mut b) = (Ours::server(server_config(&[suite])), Ours::client(client));
    for _ in 0..8 {
        let bytes = a.control();
        b.receive(&bytes);
        let bytes = b.control();
        a.receive(&bytes);
    }
    assert!(
        a.is_established && b.is_established,
        "{:?} {:?}",
        a.error,
        b.error
    );
    (a, b)
}

/// A record that `from` would never send, under its keys.
pub fn forge(from: &mut Ours, content_type: ContentType, plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    from.tls
        .traffic_mut()
        .sealer_mut()
        .append(content_type, plain, &mut out)
        .unwrap();
    out
}

pub fn suite(id: u16) -> SupportedCipherSuite {
    *all_suites()
        .iter()
        .find(|suite| u16::from(suite.suite()) == id)
        .unwrap()
}

/// Runs `test` for us as server and as client, with each suite.
pub fn each(mut test: impl FnMut(bool, SupportedCipherSuite, &mut fastrand::Rng)) {
    for we_serve in [true, false] {
        for &suite in all_suites() {
            let seed = u64::from(u16::from(suite.suite())) << 1 | u64::from(we_serve);
            println!(
                "we_serve {we_serve}, suite {:?}, seed {seed}",
                suite.suite()
            );
            test(we_serve, suite, &mut fastrand::Rng::with_seed(seed));
        }
    }
}
