//! The three configs against each other, through rustls's own connections.

use super::*;
use crate::control::pki;
use crate::control::testing::Folder;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerified;
use rustls::{
    ClientConnection, DigitallySignedStruct, DistinguishedName, HandshakeKind, ServerConnection,
    SignatureScheme,
};
use std::path::PathBuf;

/// Asks for a certificate and takes any: what the gateway's handshake proves is tested where it is written.
#[derive(Debug)]
struct TakesAny;

impl ClientCertVerifier for TakesAny {
    fn client_auth_mandatory(&self) -> bool {
        false
    }
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }
    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, &algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

struct Lab {
    folder: Folder,
}

impl Lab {
    fn new() -> Self {
        let lab = Self {
            folder: Folder::new(),
        };
        let validity = pki::Validity::default();
        pki::init(&pki::Init {
            place: lab.place(),
            validity,
        })
        .unwrap();
        lab.server("server", &["gw.example.com", "*.lab.example.com"]);
        lab.connector("cp-1");
        lab.client("pc-1");
        lab
    }
    fn place(&self) -> pki::Place {
        pki::Place {
            dir: self.folder.path().to_path_buf(),
            force: true,
        }
    }
    /// Issues a server certificate and keeps it under a stem of its own.
    fn server(&self, stem: &str, names: &[&str]) -> TlsFiles {
        let names = names.iter().map(|name| name.to_string()).collect();
        let args = pki::Server {
            place: self.place(),
            validity: pki::Validity::default(),
            names,
        };
        let issued = pki::server(&args).unwrap();
        let files = self.files(stem);
        if stem != pki::SERVER {
            std::fs::rename(issued.certificate, &files.certificate).unwrap();
            std::fs::rename(issued.key, &files.key).unwrap();
        }
        files
    }
    fn connector(&self, id: &str) -> TlsFiles {
        let args = pki::Connector {
            id: id.into(),
            place: self.place(),
            validity: pki::Validity::default(),
        };
        pki::connector(&args).unwrap();
        self.files(id)
    }
    fn client(&self, name: &str) -> TlsFiles {
        let args = pki::Client {
            name: name.into(),
            place: self.place(),
            validity: pki::Validity::default(),
        };
        pki::client(&args).unwrap();
        self.files(name)
    }
    fn files(&self, stem: &str) -> TlsFiles {
        TlsFiles {
            certificate: pki::certificate_file(self.folder.path(), stem),
            key: pki::key_file(self.folder.path(), stem),
        }
    }
    fn ca(&self) -> PathBuf {
        self.folder.file("ca.pem")
    }
    fn clients(&self, ticket_keys: Option<&Path>) -> Arc<ServerConfig> {
        let ticketer = match ticket_keys {
            Some(file) => shared_ticketer(file).unwrap(),
            None => random_ticketer().unwrap(),
        };
        Arc::new(clients_config(&self.files("server"), &[], ticketer, Arc::new(TakesAny)).unwrap())
    }
    /// A client of the Internet, with a certificate or without.
    fn browser(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        own: Option<&TlsFiles>,
    ) -> ClientConfig {
        self.browser_of(provider(), versions, own)
    }

    fn browser_of(
        &self,
        provider: Arc<CryptoProvider>,
        versions: &[&'static rustls::SupportedProtocolVersion],
        own: Option<&TlsFiles>,
    ) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(load_roots(&self.ca()).unwrap());
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let identity = load_identity(files).unwrap();
                builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(
                    identity,
                )))
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config
    }
}

/// Runs a handshake in memory.
fn shake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    name: &str,
) -> Result<(ClientConnection, ServerConnection), String> {
    let name = ServerName::try_from(name.to_string()).unwrap();
    let mut client = ClientConnection::new(client.clone(), name).unwrap();
    let mut server = ServerConnection::new(server.clone()).unwrap();
    for _ in 0..10 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut bytes = wire.as_slice();
        while !bytes.is_empty() {
            server.read_tls(&mut bytes).unwrap();
            server
                .process_new_packets()
                .map_err(|e| format!("server: {e}"))?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut bytes = wire.as_slice();
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).unwrap();
            client
                .process_new_packets()
                .map_err(|e| format!("client: {e}"))?;
        }
    }
    Ok((client, server))
}

const BOTH: &[&rustls::SupportedProtocolVersion] =
    &[&rustls::version::TLS13, &rustls::version::TLS12];

#[test]
fn clients_come_with_tls_1_2_and_1_3_with_a_certificate_or_without() {
    let lab = Lab::new();
    let server = lab.clients(None);
    let own = lab.files("pc-1");
    for version in BOTH {
        for own in [None, Some(&own)] {
            let client = Arc::new(lab.browser(&[version], own));
            let (client, server) = shake(&client, &server, "gw.example.com").unwrap();
            assert_eq!(client.protocol_version(), Some(version.version));
            assert_eq!(server.alpn_protocol(), Some(&b"http/1.1"[..]));
            assert_eq!(server.peer_certificates().is_some(), own.is_some());
            assert!(
                server.dangerous_extract_secrets().is_ok(),
                "keys can be taken over"
            );
        }
    }
}

#[test]
fn aes_128_is_agreed_on_whatever_the_client_names_first() {
    let lab = Lab::new();
    // As OpenSSL and Windows do.
    let mut habit = CryptoProvider::clone(&provider());
    habit
        .cipher_suites
        .sort_by_key(|suite| !format!("{:?}", suite.suite()).contains("AES_256"));
    let habit = Arc::new(habit);
    for version in BOTH {
        let client = lab.browser_of(habit.clone(), &[version], None);
        let (client, _) = shake(&Arc::new(client), &lab.clients(None), "gw.example.com").unwrap();
        let agreed = format!("{:?}", client.negotiated_cipher_suite().unwrap().suite());
        assert!(agreed.contains("AES_128_GCM_SHA256"), "{agreed}");
    }
}

#[test]
fn a_ticket_is_good_on_another_instance_and_after_a_restart() {
    let lab = Lab::new();
    let keys = lab.folder.write("tickets.keys", &"0".repeat(64));
    let own = lab.files("pc-1");
    for version in BOTH {
        let client = Arc::new(lab.browser(&[version], Some(&own)));
        shake(&client, &lab.clients(Some(&keys)), "gw.example.com").unwrap();
        let (_, server) = shake(&client, &lab.clients(Some(&keys)), "gw.example.com").unwrap();
        assert_eq!(
            server.handshake_kind(),
            Some(HandshakeKind::Resumed),
            "{version:?}"
        );
        assert_eq!(
            server.peer_certificates().map(<[_]>::len),
            Some(1),
            "the chain comes along"
        );
        // A file without the key, or none at all: a full handshake and no error.
        for other in [Some(lab.folder.write("other.keys", &"1".repeat(64))), None] {
            let (_, server) =
                shake(&client, &lab.clients(other.as_deref()), "gw.example.com").unwrap();
            assert_eq!(server.handshake_kind(), Some(HandshakeKind::Full));
        }
    }
}

#[test]
fn the_certificate_is_chosen_by_name() {
    let lab = Lab::new();
    let other = lab.server("other", &["other.example.com"]);
    let wild = lab.server("wild", &["*.wild.example.com"]);
    lab.server("server", &["gw.example.com"]);
    let sni = [
        (vec!["Other.example.com".into()], other),
        (vec!["*.wild.example.com".into()], wild),
    ];
    let server = clients_config(
        &lab.files("server"),
        &sni,
        random_ticketer().unwrap(),
        Arc::new(TakesAny),
    )
    .unwrap();
    let server = Arc::new(server);
    let client = Arc::new(lab.browser(BOTH, None));
    for name in [
        "gw.example.com",
        "other.example.com",
        "OTHER.example.com",
        "a.wild.example.com",
    ] {
        shake(&client, &server, name).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert!(
        shake(&client, &server, "nobody.example.com")
            .unwrap_err()
            .contains("not valid for name")
    );
    assert!(shake(&client, &server, "a.b.wild.example.com").is_err());
}

#[test]
fn a_link_needs_both_certificates_and_tls_1_3() {
    let lab = Lab::new();
    let relay =
        Arc::new(relay_config(&lab.files("server"), relay_verifier(&lab.ca()).unwrap()).unwrap());
    let connector = Arc::new(connector_config(&lab.files("cp-1"), &lab.ca()).unwrap());
    for _ in 0..2 {
        let (client, server) = shake(&connector, &relay, "gw.example.com").unwrap();
        assert_eq!(server.alpn_protocol(), Some(RELAY_ALPN));
        assert_eq!(
            client.protocol_version(),
            Some(rustls::ProtocolVersion::TLSv1_3)
        );
        assert_eq!(
            server.handshake_kind(),
            Some(HandshakeKind::Full),
            "links do not resume"
        );
        let leaf = server.peer_certificates().unwrap()[0].clone();
        assert_eq!(connector_id(&leaf).as_deref(), Ok("cp-1"));
        assert!(client.dangerous_extract_secrets().is_ok());
    }
    assert!(
        shake(&connector, &relay, "elsewhere.example.com").is_err(),
        "the gateway's name is checked"
    );
    let nobody = Arc::new(lab.browser(&[&rustls::version::TLS13], None));
    assert!(shake(&nobody, &relay, "gw.example.com").is_err());
    let old = Arc::new(lab.browser(&[&rustls::version::TLS12], Some(&lab.files("cp-1"))));
    assert!(shake(&old, &relay, "gw.example.com").is_err());
}

#[test]
fn neither_clients_nor_strangers_pass_for_connectors() {
    let (lab, stranger) = (Lab::new(), Lab::new());
    let relay =
        Arc::new(relay_config(&lab.files("server"), relay_verifier(&lab.ca()).unwrap()).unwrap());
    let client = Arc::new(connector_config(&lab.files("pc-1"), &lab.ca()).unwrap());
    assert!(
        shake(&client, &relay, "gw.example.com").is_err(),
        "a client's certificate"
    );
    let foreign = Arc::new(connector_config(&stranger.files("cp-1"), &lab.ca()).unwrap());
    assert!(
        shake(&foreign, &relay, "gw.example.com").is_err(),
        "another CA's connector"
    );
    let server = Arc::new(connector_config(&lab.files("server"), &lab.ca()).unwrap());
    assert!(
        shake(&server, &relay, "gw.example.com").is_err(),
        "a server's certificate"
    );
    let misled = Arc::new(connector_config(&lab.files("cp-1"), &stranger.ca()).unwrap());
    assert!(
        shake(&misled, &relay, "gw.example.com").is_err(),
        "a gateway of another CA"
    );
}

#[test]
fn a_client_and_a_connector_never_mistake_each_others_port() {
    let lab = Lab::new();
    let relay =
        Arc::new(relay_config(&lab.files("server"), relay_verifier(&lab.ca()).unwrap()).unwrap());
    let clients = lab.clients(None);
    let connector = Arc::new(connector_config(&lab.files("cp-1"), &lab.ca()).unwrap());
    assert!(
        shake(&connector, &clients, "gw.example.com")
            .unwrap_err()
            .contains("known protocol")
    );
    let browser = Arc::new(lab.browser(BOTH, Some(&lab.files("cp-1"))));
    assert!(
        shake(&browser, &relay, "gw.example.com")
            .unwrap_err()
            .contains("known protocol")
    );
}

#[test]
fn wrong_files_are_told_apart() {
    let lab = Lab::new();
    let text = |certificate: &str, key: &str| {
        let files = TlsFiles {
            certificate: lab.folder.file(certificate),
            key: lab.folder.file(key),
        };
        let (part, wrong) = load_identity(&files).unwrap_err();
        (part, wrong.text)
    };
    let is = |(part, text): (Part, String), expected: Part, what: &str| {
        assert!(part == expected && text.contains(what), "{part:?} {text}");
    };
    is(
        text("none.pem", "server.key"),
        Part::Certificate,
        "does not exist",
    );
    is(text("server.pem", "none.key"), Part::Key, "does not exist");
    is(text("server.pem", "cp-1.key"), Part::Key, "does not belong");
    is(
        text("server.key", "server.key"),
        Part::Certificate,
        "no certificate",
    );
    is(
        text("server.pem", "server.pem"),
        Part::Key,
        "no private key",
    );
    lab.folder.write("empty", "");
    is(
        text("empty", "server.key"),
        Part::Certificate,
        "no certificate",
    );
    lab.folder
        .write("half", "-----BEGIN CERTIFICATE-----\nMIIB\n");
    is(text("half", "server.key"), Part::Certificate, "not PEM");
    lab.folder.write(
        "junk",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    );
    is(text("junk", "server.key"), Part::Certificate, "junk");
    let two = std::fs::read_to_string(lab.folder.file("server.key")).unwrap();
    lab.folder.write("two.key", &two.repeat(2));
    is(text("server.pem", "two.key"), Part::Key, "2 private keys");
    std::fs::write(lab.folder.file("big"), vec![b'x'; 2 << 20]).unwrap();
    is(text("big", "server.key"), Part::Certificate, "larger than");
    std::fs::create_dir(lab.folder.file("folder")).unwrap();
    is(
        text("folder", "server.key"),
        Part::Certificate,
        "is a folder",
    );
}

#[test]
fn roots_must_be_cas() {
    let lab = Lab::new();
    assert!(
        load_roots(&lab.folder.file("cp-1.pem"))
            .unwrap_err()
            .text
            .contains("not a CA")
    );
    assert!(relay_verifier(&lab.folder.file("server.pem")).is_err());
}

#[test]
fn a_pem_text_is_canonical_whatever_it_was_written_like() {
    let lab = Lab::new();
    let text = std::fs::read_to_string(lab.ca()).unwrap();
    let odd = lab.folder.write(
        "odd.pem",
        &format!("a remark\r\n{}", text.replace('\n', "\r\n")),
    );
    let (plain, odd) = (
        pem::certificates(&lab.ca()).unwrap(),
        pem::certificates(&odd).unwrap(),
    );
    assert_eq!(pem::canonical(&plain), pem::canonical(&odd));
    assert_eq!(pem::certificates_in(&pem::canonical(&plain)), Ok(plain));
}
