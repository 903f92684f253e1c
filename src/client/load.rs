//! `load requests` as a whole: target and TLS, shards, progress while it runs, the report.

use crate::control::certificates::{load_roots, provider};
use crate::control::config::TlsFiles;
use crate::ring::Verbs;
use crate::shard::fleet::{self, FleetSpec};
use crate::wire::tls;
use rustls::pki_types::ServerName;
use std::io::IsTerminal;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::process::Process;
use super::report::Report;
use super::requests::{Job, Measured, Progress, Requests};

/// How long each of several addresses is tried before the run.
const LOOK: Duration = Duration::from_secs(2);

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub https: bool,
    pub host: String,
    pub port: u16,
    /// Path and query.
    pub path: String,
}

impl Target {
    /// Reads `http(s)://host[:port][/path]`.
    pub fn new(url: &str) -> Result<Target, String> {
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| format!("`{url}` is not an http(s):// URL"))?;
        let https = match scheme {
            "https" => true,
            "http" => false,
            other => return Err(format!("`{other}` is neither http nor https")),
        };
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        let default = if https { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (
                host,
                port.parse()
                    .map_err(|_| format!("`{port}` is not a port"))?,
            ),
            _ => (authority, default),
        };
        if host.is_empty() {
            return Err(format!("`{url}` names no host"));
        }
        Ok(Target {
            https,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }

    /// The first address of its name that takes a connection; of one address, that.
    pub(super) fn address(&self) -> Result<SocketAddr, String> {
        let found = (self.bare_host(), self.port).to_socket_addrs();
        let all: Vec<_> = found.map_err(|e| format!("{}: {e}", self.host))?.collect();
        let first = all.first().copied();
        let open = |address: &SocketAddr| TcpStream::connect_timeout(address, LOOK).is_ok();
        let found = match all.len() {
            0 | 1 => first,
            _ => all.into_iter().find(open).or(first),
        };
        found.ok_or_else(|| format!("{} has no address", self.host))
    }

    fn bare_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }
}

/// One run.
pub struct Options {
    pub target: Target,
    pub ca: Option<PathBuf>,
    pub identity: Option<(PathBuf, PathBuf)>,
    pub insecure: bool,
    pub tls12: bool,
    pub connections: usize,
    pub duration: Duration,
    pub warm_up: Duration,
    pub requests: u64,
    pub method: String,
    pub body: u64,
    pub headers: Vec<(String, String)>,
    pub shards: usize,
    pub timeout: Duration,
    pub pids: Vec<(String, u32)>,
    pub json: Option<PathBuf>,
}

/// Runs, prints the report, writes the JSON file. True when every request got an answer.
pub fn requests(options: Options) -> Result<bool, String> {
    crate::ring::probe::probe().map_err(|unsupported| unsupported.to_string())?;
    let target = &options.target;
    let address = target.address()?;
    let tls = if target.https {
        let trust = Trust {
            ca: options.ca.as_deref(),
            insecure: options.insecure,
            tls12: options.tls12,
        };
        Some((
            Arc::new(client_tls(&trust, options.identity.as_ref())?),
            server_name(target)?,
        ))
    } else {
        None
    };
    let job = Arc::new(Job {
        address,
        tls,
        host: format!("{}:{}", target.host, target.port),
        target: target.path.clone(),
        method: options.method.clone(),
        headers: options.headers.clone(),
        body: options.body,
        requests: options.requests,
        warm_up: if options.requests > 0 {
            Duration::ZERO
        } else {
            options.warm_up
        },
        duration: options.duration,
        timeout: options.timeout,
        progress: Progress::default(),
    });
    let shards = options.shards.min(options.connections).max(1);
    let (results_in, results) = mpsc::sync_channel::<Measured>(shards);
    let total = options.connections;
    let made = job.clone();
    let fleet = fleet::start::<(), _>(FleetSpec::new("load", shards, 16), move |ring, start| {
        let own = total / shards + usize::from(start.index < total % shards);
        Ok(Requests::new(
            made.clone(),
            own,
            ring.now(),
            results_in.clone(),
        ))
    })?;

    let mut processes: Vec<Process> = options
        .pids
        .iter()
        .map(|(name, pid)| Process::new(name, *pid))
        .collect::<Result<_, _>>()?;
    let begin = Instant::now();
    let mut measured = Measured::new();
    let mut left = shards;
    let mut measuring = false;
    while left > 0 {
        if !measuring && begin.elapsed() >= job.warm_up {
            measuring = true;
            processes.iter_mut().for_each(Process::start);
        }
        match results.recv_timeout(Duration::from_millis(100)) {
            Ok(one) => {
                // What a server spends is measured over the time that its answers are.
                processes.iter_mut().for_each(Process::stop);
                measured.merge(&one);
                left -= 1;
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                show_progress(&job, begin, options.duration + job.warm_up)
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    fleet.join()?;
    let report = Report::new(&options, &measured, &processes);
    print!("{report}");
    if let Some(file) = &options.json {
        std::fs::write(file, report.to_json()).map_err(|e| format!("{}: {e}", file.display()))?;
    }
    Ok(measured.errors.is_empty() && !measured.latency.is_empty())
}

fn show_progress(job: &Job, begin: Instant, whole: Duration) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let done = job.progress.done.load(Ordering::Relaxed);
    let failed = job.progress.failed.load(Ordering::Relaxed);
    let elapsed = begin.elapsed();
    let part = if job.requests > 0 {
        done as f64 / job.requests as f64
    } else {
        elapsed.as_secs_f64() / whole.as_secs_f64()
    };
    let filled = (part.clamp(0.0, 1.0) * 30.0) as usize;
    let rate = done as f64 / elapsed.as_secs_f64().max(1e-3);
    eprint!(
        "\r\x1b[K[{:<30}] {done} answers, {rate:.0}/s, {failed} failed",
        "#".repeat(filled)
    );
}

pub(super) fn server_name(target: &Target) -> Result<ServerName<'static>, String> {
    ServerName::try_from(target.bare_host().to_owned())
        .map_err(|_| format!("`{}` is not a host name", target.host))
}

/// What a server must show, and how it is spoken to.
pub(super) struct Trust<'a> {
    pub ca: Option<&'a Path>,
    pub insecure: bool,
    pub tls12: bool,
}

/// A config that is prepared for our connections.
pub(super) fn client_tls(
    trust: &Trust<'_>,
    identity: Option<&(PathBuf, PathBuf)>,
) -> Result<rustls::ClientConfig, String> {
    let versions: &[&rustls::SupportedProtocolVersion] = if trust.tls12 {
        &[&rustls::version::TLS12]
    } else {
        &[&rustls::version::TLS13]
    };
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(|e| e.to_string())?;
    let builder = if trust.insecure {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer))
    } else {
        let file = trust
            .ca
            .ok_or("--ca FILE (or --insecure) is needed for https")?;
        builder.with_root_certificates(load_roots(file).map_err(|wrong| wrong.text)?)
    };
    let mut config = match identity {
        Some((certificate, key)) => {
            let files = TlsFiles {
                certificate: certificate.clone(),
                key: key.clone(),
            };
            let identity = crate::control::certificates::load_identity(&files)
                .map_err(|(_, wrong)| wrong.text)?;
            builder
                .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(identity)))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    tls::prepare_client_config(&mut config);
    Ok(config)
}

/// `--insecure`: any certificate, whose key the server must still hold.
#[derive(Debug)]
struct AnyServer;

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &rustls::pki_types::CertificateDer<'_>,
        _intermediates: &[rustls::pki_types::CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            dss,
            &provider().signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &provider().signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let target = Target::new("https://localhost:8443/mp/a?b=c").unwrap();
        assert_eq!(
            (target.https, target.host.as_str(), target.port),
            (true, "localhost", 8443)
        );
        assert_eq!(target.path, "/mp/a?b=c");
        let target = Target::new("http://[::1]").unwrap();
        assert_eq!(
            (target.host.as_str(), target.port, target.path.as_str()),
            ("[::1]", 80, "/")
        );
        assert!(Target::new("ftp://a").is_err());
        assert!(Target::new("localhost:1").is_err());
        assert!(Target::new("https://a:b/").is_err());
    }
}
