//! A real nginx with a folder of files, as upstream, in clear or with TLS.

use super::process::Process;
use super::{ports, until};
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// One nginx, in one process, with all that it writes under its folder.
pub struct Nginx {
    /// Of its first server.
    pub port: u16,
    dir: PathBuf,
    root: PathBuf,
    process: Process,
}

/// One `server` of an nginx with TLS: on `port`, with `CERTIFICATES/STEM.pem` and `.key`; `lines` may ask for more.
pub fn https(port: u16, certificates: &Path, stem: &str, lines: &str) -> String {
    let file = |kind: &str| certificates.join(format!("{stem}.{kind}"));
    format!(
        "  server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {}; ssl_certificate_key {};\n    {lines}\n  }}\n",
        file("pem").display(),
        file("key").display(),
    )
}

/// Lines of a server that takes certificates of the PKI's clients only.
pub fn wants_certificate(certificates: &Path) -> String {
    let ca = certificates.join("clients-ca.pem");
    format!(
        "ssl_verify_client on; ssl_client_certificate {};",
        ca.display()
    )
}

/// Lines of a server that hands everything to a clear upstream, both directions streamed.
pub fn proxies_to(port: u16) -> String {
    format!(
        "location / {{ proxy_pass http://127.0.0.1:{port}; proxy_http_version 1.1; proxy_request_buffering off; \
         proxy_buffering off; client_max_body_size 0; }}"
    )
}

impl Nginx {
    /// Clear HTTP.
    pub fn start(dir: &Path) -> Nginx {
        let port = ports::free();
        let server = format!("  server {{ listen 127.0.0.1:{port}; }}\n");
        Nginx::serving(dir, "nginx", port, &server)
    }

    /// The given servers, of which that on `port` is asked whether it is there. `name`: its folder and log in `dir`.
    pub fn serving(dir: &Path, name: &str, port: u16, servers: &str) -> Nginx {
        let logs = dir;
        let dir = dir.join(name);
        let root = dir.join("www");
        fs::create_dir_all(root.join("files")).expect("a folder");
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("  {kind}_temp_path {};\n", dir.join(kind).display()))
            .concat();
        // As root it would read files as another user, who may not enter the folder.
        let config = format!(
            "user root;\ndaemon off;\nmaster_process off;\npid {pid};\nerror_log {log};\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n{temporary}  default_type application/octet-stream;\n  keepalive_requests 1000000;\n  \
             log_format tls '$ssl_protocol $ssl_session_reused $ssl_client_verify $connection_requests $request_uri $status';\n  \
             access_log {access} tls;\n  root {root};\n{servers}}}\n",
            pid = dir.join("nginx.pid").display(),
            log = dir.join("error.log").display(),
            access = dir.join("access.log").display(),
            root = root.display(),
        );
        fs::write(dir.join("nginx.conf"), config).expect("nginx.conf");
        let process = launch(logs, name, &dir);
        let mut nginx = Nginx {
            port,
            dir,
            root,
            process,
        };
        nginx.wait();
        nginx
    }

    /// Ends it (SIGTERM: what it was at is cut) and starts it anew.
    pub fn restart(&mut self, while_away: impl FnOnce()) {
        self.process.terminate();
        self.process.wait_exit(PATIENCE);
        while_away();
        let name = self.dir.file_name().expect("a name").to_string_lossy();
        let logs = self.dir.parent().expect("a folder");
        self.process = launch(logs, &name, &self.dir);
        self.wait();
    }

    fn wait(&mut self) {
        let (port, process) = (self.port, &mut self.process);
        until("nginx listens", PATIENCE, || {
            assert!(process.ended().is_none(), "nginx ended:\n{}", process.log());
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
    }

    /// Puts a file at `/files/NAME`.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let file = self.root.join("files").join(name);
        fs::create_dir_all(file.parent().expect("it lies in a folder")).expect("a folder");
        fs::write(file, bytes).expect("a file");
    }

    /// Lines of its log: protocol, `r` if the session was resumed, verdict on the client's certificate, number of the
    /// request on its connection, path, status.
    pub fn requests(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.join("access.log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The log's line about a path; it is written behind the answer.
    #[track_caller]
    pub fn request(&self, path: &str) -> String {
        until(&format!("nginx logs {path}"), PATIENCE, || {
            let with = format!(" {path} ");
            self.requests()
                .into_iter()
                .find(|line| line.contains(&with))
        })
    }
}

fn launch(logs: &Path, name: &str, dir: &Path) -> Process {
    let mut command = Command::new("nginx");
    command
        .arg("-p")
        .arg(dir)
        .arg("-c")
        .arg(dir.join("nginx.conf"))
        .arg("-e")
        .arg(dir.join("error.log"));
    // Debian keeps it where only root's path looks.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    Process::start(name, logs, &mut command)
}
