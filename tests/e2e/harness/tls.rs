//! A raw HTTPS client: whatever bytes a test wants to send, at whatever pace, and an end of its choice.

use super::http::{Answer, Reader};
use super::lab::Lab;
use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The longest wait for a byte.
const PATIENCE: Duration = Duration::from_secs(20);

/// One TLS connection to the gateway.
pub struct Tls {
    stream: StreamOwned<ClientConnection, TcpStream>,
    reader: Reader,
}

/// Settings that trust the CAs of a file.
fn trusting(ca: &Path) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).expect("a CA file") {
        roots
            .add(certificate.expect("PEM"))
            .expect("a CA certificate");
    }
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots)
}

/// For a server that is no lab's, by its CA.
pub fn config_of(ca: &Path) -> Arc<ClientConfig> {
    Arc::new(trusting(ca).with_no_client_auth())
}

/// A client's settings, with the certificate of that name if there is one.
pub fn config(lab: &Lab, identity: Option<&str>) -> Arc<ClientConfig> {
    let builder = trusting(&lab.file("ca.pem"));
    Arc::new(match identity {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let file = lab.file(&format!("{name}.pem"));
            let chain = CertificateDer::pem_file_iter(file)
                .expect("a certificate")
                .collect::<Result<_, _>>();
            let key =
                PrivateKeyDer::from_pem_file(lab.file(&format!("{name}.key"))).expect("a key");
            builder
                .with_client_auth_cert(chain.expect("PEM"), key)
                .expect("a key that fits")
        }
    })
}

/// The chain of that name.
pub fn chain(lab: &Lab, name: &str) -> Vec<CertificateDer<'static>> {
    let file = lab.file(&format!("{name}.pem"));
    let chain = CertificateDer::pem_file_iter(file).expect("a certificate");
    chain.collect::<Result<_, _>>().expect("PEM")
}

/// A client that presents these certificates, leaf first, whatever they are, and signs with this key.
pub fn presenting(
    lab: &Lab,
    chain: Vec<CertificateDer<'static>>,
    key: &Path,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let key = provider.key_provider.load_private_key(key).expect("a key");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(lab.file("ca.pem")).expect("ca.pem") {
        roots
            .add(certificate.expect("PEM"))
            .expect("a CA certificate");
    }
    let resolver = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("the provider speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(resolver));
    Arc::new(config)
}

impl Tls {
    /// Whether the handshake resumed an earlier session.
    pub fn is_resumed(&self) -> bool {
        self.stream.conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// A client without certificate.
    pub fn connect(lab: &Lab) -> Tls {
        Tls::connect_with(lab, &config(lab, None))
    }

    pub fn connect_as(lab: &Lab, identity: &str) -> Tls {
        Tls::connect_with(lab, &config(lab, Some(identity)))
    }

    pub fn connect_with(lab: &Lab, config: &Arc<ClientConfig>) -> Tls {
        Tls::try_connect(lab, config).expect("a TLS connection to the gateway")
    }

    pub fn try_connect(lab: &Lab, config: &Arc<ClientConfig>) -> io::Result<Tls> {
        Tls::begin(TcpStream::connect((lab.ip(), lab.ports.clients))?, config)
    }

    /// To a gateway of one's choice, by its port.
    pub fn try_connect_to(port: u16, config: &Arc<ClientConfig>) -> io::Result<Tls> {
        Tls::begin(TcpStream::connect(("127.0.0.1", port))?, config)
    }

    /// The same over a connection that said something already.
    pub fn begin(tcp: TcpStream, config: &Arc<ClientConfig>) -> io::Result<Tls> {
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        let name = "localhost".try_into().expect("a host name");
        let mut session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        let mut tcp = tcp;
        while session.is_handshaking() {
            session.complete_io(&mut tcp)?;
        }
        Ok(Tls {
            stream: StreamOwned::new(session, tcp),
            reader: Reader::new(),
        })
    }

    /// Sends exactly these bytes.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes)
            .expect("the gateway takes what is sent");
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// The next whole answer.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        self.try_answer().expect("an answer")
    }

    pub fn try_answer(&mut self) -> io::Result<Answer> {
        self.reader.answer(&mut self.stream, false)
    }

    /// The next answer, to a HEAD request.
    #[track_caller]
    pub fn answer_to_head(&mut self) -> Answer {
        self.reader
            .answer(&mut self.stream, true)
            .expect("an answer")
    }

    /// The next head, interim or final, without its body.
    #[track_caller]
    pub fn head(&mut self) -> Answer {
        self.try_head().expect("a head")
    }

    pub fn try_head(&mut self) -> io::Result<Answer> {
        self.reader.head(&mut self.stream)
    }

    /// The body that belongs to `answer`, piece by piece.
    pub fn body(&mut self, answer: &mut Answer, sink: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        self.reader.body(&mut self.stream, answer, false, sink)
    }

    /// `GET path` on this connection.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        self.answer()
    }

    /// `GET path` with a token; no answer where the gateway ends the connection.
    pub fn try_get_with(&mut self, path: &str, token: impl AsRef<[u8]>) -> io::Result<Answer> {
        let line = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ");
        self.try_send([line.as_bytes(), token.as_ref(), b"\r\n\r\n"].concat())?;
        self.try_answer()
    }

    /// `GET path` with a token.
    #[track_caller]
    pub fn get_with(&mut self, path: &str, token: impl AsRef<[u8]>) -> Answer {
        self.try_get_with(path, token).expect("an answer")
    }

    /// The next chunk of a chunked body; `None`: the last one.
    pub fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.reader.chunk(&mut self.stream)
    }

    /// The next so many bytes.
    pub fn bytes(&mut self, count: u64) -> io::Result<Vec<u8>> {
        self.reader.bytes(&mut self.stream, count)
    }

    /// The longest wait for a byte from now on.
    pub fn patience(&self, patience: Duration) {
        let set = self.stream.sock.set_read_timeout(Some(patience));
        set.expect("a time-out");
    }

    /// How the connection ended: `Ok` with what still came before close_notify, or the error of a cut.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).map(|_| rest)
    }

    /// True when nothing came behind the last answer.
    pub fn is_drained(&self) -> bool {
        self.reader.is_empty()
    }

    /// A reset instead of an orderly end.
    pub fn reset(self) {
        let linger = socket2::SockRef::from(&self.stream.sock).set_linger(Some(Duration::ZERO));
        linger.expect("SO_LINGER");
    }

    /// FIN without close_notify, and the receiving side stays open: until the gateway ends it too, or `patience` is over.
    pub fn finish_and_keep(mut self, patience: Duration) {
        self.stream.sock.shutdown(Shutdown::Write).expect("FIN");
        self.stream
            .sock
            .set_read_timeout(Some(patience))
            .expect("a time-out");
        let _ = self.rest();
    }
}
