//! What a full TLS 1.3 handshake with client certificate costs a server, by rustls alone: what an opening at the gateway
//! is compared with (`scripts/hold-channels` prints the gateway's).
//!
//! ```text
//! memory   handshake only, both ends in this thread, the server's part timed
//! socket   accept, handshake, a request read, an answer written; a thread that does nothing else, its CPU time
//! ```
//! Medians of rounds. ECDSA P-256 certificates of one CA, X25519, AES-128-GCM; the client's chain is verified.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const ROUNDS: usize = 9;
const OPENINGS: u32 = 500;
const REQUEST: &[u8] =
    b"GET /.tidegate/channel HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n:\n\n\r\n";

fn identity(
    name: &str,
    ca: &CertifiedIssuer<'_, KeyPair>,
) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    let name = name.try_into().expect("a DNS name");
    params.subject_alt_names.push(SanType::DnsName(name));
    let certificate = params.signed_by(&key, ca).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    (vec![certificate.der().clone()], key)
}

fn configs() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"))
        .expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).expect("a certificate");
    let roots = Arc::new(roots);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
    let (chain, key) = identity("localhost", &ca);
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(chain, key)
        .expect("key and certificate go together");
    server.ticketer = aws_lc_rs::Ticketer::new().expect("a ticketer");
    let (chain, key) = identity("device-1.lab", &ca);
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .expect("key and certificate go together");
    // Each handshake is a full one.
    client.resumption = rustls::client::Resumption::disabled();
    (Arc::new(server), Arc::new(client))
}

fn client(config: &Arc<ClientConfig>) -> ClientConnection {
    let name = ServerName::try_from("localhost").expect("a name");
    ClientConnection::new(config.clone(), name).expect("a client")
}

/// The server's part of a handshake in memory.
fn in_memory(server: &Arc<ServerConfig>, client_config: &Arc<ClientConfig>) -> Duration {
    let mut spent = Duration::ZERO;
    for _ in 0..OPENINGS {
        let mut client = client(client_config);
        let start = Instant::now();
        let mut server = ServerConnection::new(server.clone()).expect("a server");
        spent += start.elapsed();
        while client.is_handshaking() || server.is_handshaking() || server.wants_write() {
            let mut to_server = Vec::new();
            client.write_tls(&mut to_server).expect("memory");
            let start = Instant::now();
            if !to_server.is_empty() {
                server.read_tls(&mut &to_server[..]).expect("memory");
                server.process_new_packets().expect("a good client");
            }
            let mut to_client = Vec::new();
            server.write_tls(&mut to_client).expect("memory");
            spent += start.elapsed();
            if !to_client.is_empty() {
                client.read_tls(&mut &to_client[..]).expect("memory");
                client.process_new_packets().expect("a good server");
            }
        }
    }
    spent / OPENINGS
}

/// CPU time of the thread that asks, in user space and kernel.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("schedstat");
    let first = text.split(' ').next().and_then(|ns| ns.parse().ok());
    Duration::from_nanos(first.expect("nanoseconds"))
}

/// A whole opening over a socket: the CPU of the server's thread.
fn over_sockets(server: &Arc<ServerConfig>, client_config: &Arc<ClientConfig>) -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = server.clone();
    let serving = thread::spawn(move || {
        let start = cpu();
        for _ in 0..OPENINGS {
            let (mut socket, _) = listener.accept().expect("a client");
            socket.set_nodelay(true).expect("an option");
            let mut tls = ServerConnection::new(server.clone()).expect("a server");
            let mut request = [0; REQUEST.len()];
            let mut stream = rustls::Stream::new(&mut tls, &mut socket);
            stream.read_exact(&mut request).expect("a request");
            stream.write_all(ANSWER).expect("a client that listens");
            stream.flush().expect("a client that listens");
        }
        (cpu() - start) / OPENINGS
    });
    for _ in 0..OPENINGS {
        let mut socket = TcpStream::connect(address).expect("a server");
        socket.set_nodelay(true).expect("an option");
        let mut tls = client(client_config);
        let mut stream = rustls::Stream::new(&mut tls, &mut socket);
        stream.write_all(REQUEST).expect("a server that listens");
        let mut answer = [0; ANSWER.len()];
        stream.read_exact(&mut answer).expect("an answer");
    }
    serving.join().expect("a server")
}

fn main() {
    let (server, client) = configs();
    for (name, measure) in [
        ("memory", in_memory as fn(&_, &_) -> Duration),
        ("socket", over_sockets),
    ] {
        let mut rounds: Vec<_> = (0..ROUNDS).map(|_| measure(&server, &client)).collect();
        rounds.sort();
        println!(
            "handshake/{name}: {:.1} µs an opening ({:.1} to {:.1})",
            rounds[ROUNDS / 2].as_secs_f64() * 1e6,
            rounds[0].as_secs_f64() * 1e6,
            rounds[ROUNDS - 1].as_secs_f64() * 1e6
        );
    }
}
