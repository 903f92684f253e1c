//! An https server whose every step is a test's: what nginx would never do.

use super::ports;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub type Session = StreamOwned<ServerConnection, TcpStream>;

/// A thread a connection; they end with it, or with their peer.
pub struct TlsServer {
    pub port: u16,
    ended: Arc<AtomicBool>,
}

impl TlsServer {
    /// With the folder's `server.pem`. `serve` is given each connection and its number, from 0.
    pub fn start(
        certificates: &Path,
        serve: impl Fn(usize, &mut Session) -> io::Result<()> + Send + Sync + 'static,
    ) -> TlsServer {
        let config = Arc::new(config(certificates));
        let port = ports::free();
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
        let ended = Arc::new(AtomicBool::new(false));
        let (over, serve) = (ended.clone(), Arc::new(serve));
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(stream), config, serve) = (stream, config.clone(), serve.clone()) else {
                    continue;
                };
                std::thread::spawn(move || {
                    let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
                    let connection = ServerConnection::new(config).expect("a TLS server");
                    let mut session = StreamOwned::new(connection, stream);
                    let _ = serve(number, &mut session);
                });
            }
        });
        TlsServer { port, ended }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// The next request's head; requests have no body here. An end between requests is an error.
pub fn head(session: &mut Session) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        session.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn config(certificates: &Path) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = CertificateDer::pem_file_iter(certificates.join("server.pem"))
        .expect("server.pem")
        .collect::<Result<_, _>>()
        .expect("PEM");
    let key = PrivateKeyDer::from_pem_file(certificates.join("server.key")).expect("server.key");
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider speaks TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a key that fits")
}
