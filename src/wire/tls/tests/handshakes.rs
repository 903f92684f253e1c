//! Handshakes with rustls as the peer.

use super::*;
use rustls::HandshakeKind;

#[test]
fn every_suite_both_ways_however_the_bytes_are_cut() {
    each(|we_serve, suite, random| {
        let (mut ours, mut peer) = connected(we_serve, &[suite], random);
        let established = ours.established.take().unwrap();
        assert_eq!(established.tls12, suite.tls13().is_none());
        let name = format!("{:?}", suite.suite()).replace("TLS13", "TLS");
        assert_eq!(established.suite, name);
        assert!(!established.resumed);
        assert_eq!(established.alpn.as_deref(), Some(&b"http/1.1"[..]));
        assert_eq!(established.sni.as_deref(), we_serve.then_some("localhost"));
        assert_eq!(established.peer_chain.len(), usize::from(!we_serve));
        let layout = ours.tls.layout();
        assert_eq!(layout.suffix, if established.tls12 { 16 } else { 17 });

        let there: Vec<u8> = (0..50_000).map(|_| random.u8(..)).collect();
        let back: Vec<u8> = (0..70_000).map(|_| random.u8(..)).collect();
        let bytes = ours.send(&there);
        peer.receive(&bytes);
        let bytes = peer.send(&back);
        ours.receive_split(&bytes, random);
        assert!(peer.received == there && ours.received == back);
        assert_eq!((&ours.error, &peer.error), (&None, &None));
        assert_eq!(ours.tls.partial(), 0);
    });
}

/// Data that comes in one piece with the last flight of the handshake is opened, not lost.
#[test]
fn data_right_behind_finished() {
    each(|we_serve, suite, random| {
        let (mut ours, mut peer) = if we_serve {
            (
                Ours::server(server_config(&[suite])),
                Peer::client(client_config(&[suite], false)),
            )
        } else {
            (
                Ours::client(client_config(&[suite], false)),
                Peer::server(server_config(&[suite])),
            )
        };
        // Whatever the peer can say is said as early as it may be, in one piece with what it has to say.
        let mut said = false;
        for _ in 0..8 {
            let bytes = ours.control();
            peer.receive(&bytes);
            let mut bytes = peer.control();
            if !peer.tls.is_handshaking() && !said {
                said = true;
                bytes.extend(peer.send(b"first"));
                if suite.tls13().is_some() {
                    peer.tls.refresh_traffic_keys().unwrap();
                }
                bytes.extend(peer.send(b" second"));
            }
            ours.receive(&bytes);
        }
        assert_eq!((&ours.error, &peer.error), (&None, &None));
        assert_eq!(ours.received, b"first second");
        let bytes = ours.send(b"answer");
        peer.receive(&bytes);
        assert_eq!(peer.received, b"answer");
        let _ = random;
    });
}

#[test]
fn client_certificate_is_given_out_in_full_and_resumed_sessions() {
    for suite in all_suites() {
        for stateless in [false, true] {
            let mut server = server_config(&[*suite]);
            if stateless {
                let keys = crate::wire::tls::tickets::TicketKeys::random(3600).unwrap();
                server.ticketer = Arc::new(keys);
            }
            let server = Arc::new(server);
            let client = client_config(&[*suite], true);
            let client = Arc::new(client);
            for (round, resumed) in [(0, false), (1, true), (2, true)] {
                let mut ours = Ours::new(Connection::server(&server).unwrap());
                let connection = rustls::ClientConnection::new(client.clone(), name()).unwrap();
                let mut peer = Peer::new(connection.into());
                pump(&mut ours, &mut peer, &mut fastrand::Rng::with_seed(round));
                let established = ours.established.unwrap();
                assert_eq!(
                    established.resumed, resumed,
                    "{suite:?} {stateless} {round}"
                );
                assert_eq!(established.peer_chain, [pki().client.chain[0].to_vec()]);
                assert_eq!(established.sni.as_deref(), Some("localhost"));
            }
        }
    }
}

/// Tickets that come after the handshake are stored through the kernel connection; those of TLS 1.2 by the handshake.
#[test]
fn our_client_resumes() {
    for suite in all_suites() {
        let server = Arc::new(server_config(&[*suite]));
        let client = Arc::new(client_config(&[*suite], true));
        for (round, kind) in [(0, HandshakeKind::Full), (1, HandshakeKind::Resumed)] {
            let mut ours = Ours::new(Connection::client(&client, name()).unwrap());
            let connection = rustls::ServerConnection::new(server.clone()).unwrap();
            let mut peer = Peer::new(connection.into());
            pump(&mut ours, &mut peer, &mut fastrand::Rng::with_seed(round));
            assert_eq!(peer.tls.handshake_kind(), Some(kind), "{suite:?}");
            let established = ours.established.take().unwrap();
            assert_eq!(established.resumed, kind == HandshakeKind::Resumed);
            assert_eq!(established.peer_chain.len(), 1);
            let bytes = peer.send(b"x");
            ours.receive(&bytes);
            assert_eq!(ours.received, b"x");
        }
    }
}

/// A key share that the server does not take costs a round more, and changes nothing else.
#[test]
fn hello_retry_request() {
    let mut client_provider = aws_lc_rs::default_provider();
    client_provider.kx_groups = vec![aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP384R1];
    let mut server_provider = aws_lc_rs::default_provider();
    server_provider.kx_groups = vec![aws_lc_rs::kx_group::SECP384R1];
    let mut server = ServerConfig::builder_with_provider(Arc::new(server_provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(pki().server.chain.clone(), pki().server.key())
        .unwrap();
    prepare_server_config(&mut server);
    let client = ClientConfig::builder_with_provider(Arc::new(client_provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(pki().roots.clone())
        .with_no_client_auth();
    let mut random = fastrand::Rng::with_seed(1);
    let (mut ours, mut peer) = (Ours::server(server), Peer::client(client));
    pump(&mut ours, &mut peer, &mut random);
    assert_eq!(
        peer.tls.handshake_kind(),
        Some(HandshakeKind::FullWithHelloRetryRequest)
    );
    assert_eq!(ours.established.unwrap().sni.as_deref(), Some("localhost"));
}

/// A certificate whose key the client does not hold gets nobody in, whoever signed it.
#[test]
fn possession_is_proved() {
    #[derive(Debug)]
    struct Forger(Arc<rustls::sign::CertifiedKey>);
    impl rustls::client::ResolvesClientCert for Forger {
        fn resolve(
            &self,
            _hints: &[&[u8]],
            _schemes: &[rustls::SignatureScheme],
        ) -> Option<Arc<rustls::sign::CertifiedKey>> {
            Some(self.0.clone())
        }
        fn has_certs(&self) -> bool {
            true
        }
    }
    for suite in all_suites() {
        // The client's certificate with the server's key.
        let key = aws_lc_rs::sign::any_supported_type(&pki().server.key()).unwrap();
        let forged = rustls::sign::CertifiedKey::new(pki().client.chain.clone(), key);
        let mut client = client_config(&[*suite], false);
        client.client_auth_cert_resolver = Arc::new(Forger(Arc::new(forged)));
        let (mut ours, mut peer) = (Ours::server(server_config(&[*suite])), Peer::client(client));
        pump(&mut ours, &mut peer, &mut fastrand::Rng::with_seed(3));
        assert!(ours.established.is_none());
        let error = ours.error.unwrap();
        assert!(
            error.peer && error.text.contains("bad signature"),
            "{error:?}"
        );
        assert!(
            matches!(peer.error, Some(rustls::Error::AlertReceived(_))),
            "{:?}",
            peer.error
        );
    }
}

/// Any chain is taken: judging it is stage `auth`'s business.
#[test]
fn a_chain_of_an_unknown_authority_is_handed_over() {
    let key = KeyPair::generate().unwrap();
    let stranger = CertificateParams::new(vec!["stranger".into()]).unwrap();
    let stranger = stranger.self_signed(&key).unwrap();
    for suite in all_suites() {
        let client = ClientConfig::builder_with_provider(provider(&[*suite]))
            .with_protocol_versions(&versions(&[*suite]))
            .unwrap()
            .with_root_certificates(pki().roots.clone())
            .with_client_auth_cert(
                vec![stranger.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        let (mut ours, mut peer) = (Ours::server(server_config(&[*suite])), Peer::client(client));
        pump(&mut ours, &mut peer, &mut fastrand::Rng::with_seed(4));
        assert_eq!(
            ours.established.unwrap().peer_chain,
            [stranger.der().to_vec()]
        );
    }
}

#[test]
fn the_peers_alert_is_named() {
    // The client trusts nobody.
    let config = ClientConfig::builder_with_provider(provider(all_suites()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let (mut ours, mut peer) = (
        Ours::server(server_config(all_suites())),
        Peer::client(config),
    );
    pump(&mut ours, &mut peer, &mut fastrand::Rng::with_seed(5));
    let error = ours.error.unwrap();
    assert_eq!(error.text, "peer sent fatal alert: unknown ca");
    assert_eq!((error.received_alert, error.peer), (Some(48), true));
}

/// Our client does not trust the server: the server is told why.
#[test]
fn our_alert_reaches_the_peer() {
    let mut config = ClientConfig::builder_with_provider(provider(all_suites()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    prepare_client_config(&mut config);
    let (mut ours, mut peer) = (
        Ours::client(config),
        Peer::server(server_config(all_suites())),
    );
    pump(&mut ours, &mut peer, &mut fastrand::Rng::with_seed(6));
    assert!(
        ours.error
            .unwrap()
            .text
            .contains("not issued by a trusted CA")
    );
    let unknown_ca = rustls::AlertDescription::UnknownCA;
    assert_eq!(peer.error, Some(rustls::Error::AlertReceived(unknown_ca)));
}

#[test]
fn no_common_version_is_told() {
    let tls13: Vec<_> = all_suites()
        .iter()
        .copied()
        .filter(|s| s.tls13().is_some())
        .collect();
    let tls12: Vec<_> = all_suites()
        .iter()
        .copied()
        .filter(|s| s.tls13().is_none())
        .collect();
    let (mut ours, mut peer) = (
        Ours::server(server_config(&tls13)),
        Peer::client(client_config(&tls12[..1], false)),
    );
    pump(&mut ours, &mut peer, &mut fastrand::Rng::with_seed(7));
    assert!(ours.error.unwrap().peer);
    let alert = rustls::AlertDescription::ProtocolVersion;
    assert_eq!(peer.error, Some(rustls::Error::AlertReceived(alert)));
}

#[test]
fn unprepared_configs_are_refused() {
    let mut server = server_config(all_suites());
    server.enable_secret_extraction = false;
    assert!(!Connection::server(&Arc::new(server)).unwrap_err().peer);
    let mut client = client_config(all_suites(), false);
    client.enable_early_data = true;
    assert!(
        !Connection::client(&Arc::new(client), name())
            .unwrap_err()
            .peer
    );
}

/// Without our key log the takeover of a TLS 1.3 server connection stops, instead of going on with less.
#[test]
fn without_secrets_there_is_no_takeover() {
    let mut server = server_config(all_suites());
    server.key_log = Arc::new(rustls::NoKeyLog);
    let (mut ours, mut peer) = (
        Ours::server(server),
        Peer::client(client_config(all_suites(), false)),
    );
    pump(&mut ours, &mut peer, &mut fastrand::Rng::with_seed(8));
    let error = ours.error.unwrap();
    assert!(
        !error.peer && error.text.contains("no traffic secret"),
        "{error:?}"
    );
}

struct Sites(Vec<(&'static str, Arc<ServerConfig>)>);

impl crate::wire::tls::ChooseConfig for Sites {
    fn choose(&self, sni: Option<&str>) -> Option<Arc<ServerConfig>> {
        let site = self.0.iter().find(|(name, _)| Some(*name) == sni);
        site.map(|(_, config)| config.clone())
    }
}

/// The name picks the config; here one that asks for a certificate and one that does not.
#[test]
fn the_name_picks_the_config() {
    each(|we_serve, suite, random| {
        if !we_serve {
            return;
        }
        let asking = server_config(&[suite]);
        let mut silent = ServerConfig::builder_with_provider(provider(&[suite]))
            .with_protocol_versions(&versions(&[suite]))
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(asking.cert_resolver.clone());
        prepare_server_config(&mut silent);
        let sites = [("localhost", Arc::new(asking)), ("other", Arc::new(silent))];
        let sites: Arc<dyn crate::wire::tls::ChooseConfig> = Arc::new(Sites(sites.to_vec()));
        for (name, presented) in [("localhost", 1), ("Other", 0)] {
            let mut config = client_config(&[suite], true);
            config
                .dangerous()
                .set_certificate_verifier(Arc::new(Trusting));
            let name = ServerName::try_from(name).unwrap();
            let peer = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
            let (mut ours, mut peer) = (
                Ours::new(Connection::server_by_name(&sites)),
                Peer::new(peer.into()),
            );
            pump(&mut ours, &mut peer, random);
            assert_eq!(ours.error, None);
            let established = ours.established.take().unwrap();
            assert_eq!(established.peer_chain.len(), presented);
            let bytes = peer.send(b"x");
            ours.receive_split(&bytes, random);
            assert_eq!(ours.received, b"x");
        }
        let config = Arc::new(client_config(&[suite], false));
        let name = ServerName::try_from("nobody").unwrap();
        let peer = rustls::ClientConnection::new(config, name).unwrap();
        let (mut ours, mut peer) = (
            Ours::new(Connection::server_by_name(&sites)),
            Peer::new(peer.into()),
        );
        pump(&mut ours, &mut peer, random);
        assert_eq!(ours.error.unwrap().text, "no site for the name \"nobody\"");
        let alert = rustls::AlertDescription::UnrecognisedName;
        assert_eq!(peer.error, Some(rustls::Error::AlertReceived(alert)));
    });
}

/// Takes any server: these tests are not about its certificate.
#[derive(Debug)]
struct Trusting;

impl rustls::client::danger::ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
