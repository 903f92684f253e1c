//! A real nginx with a folder of files, as upstream.

use super::process::Process;
use super::{ports, until};
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// One nginx, in one process, with all that it writes under its folder.
pub struct Nginx {
    pub port: u16,
    root: PathBuf,
    _process: Process,
}

impl Nginx {
    pub fn start(dir: &Path) -> Nginx {
        let dir = dir.join("nginx");
        let root = dir.join("www");
        fs::create_dir_all(root.join("files")).expect("a folder");
        let port = ports::free();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("  {kind}_temp_path {};\n", dir.join(kind).display()))
            .concat();
        // As root it would read files as another user, who may not enter the folder.
        let config = format!(
            "user root;\ndaemon off;\nmaster_process off;\npid {pid};\nerror_log {log};\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n{temporary}  access_log off;\n  default_type application/octet-stream;\n  keepalive_requests 1000000;\n  \
             server {{ listen 127.0.0.1:{port}; root {root}; }}\n}}\n",
            pid = dir.join("nginx.pid").display(),
            log = dir.join("error.log").display(),
            root = root.display(),
        );
        fs::write(dir.join("nginx.conf"), config).expect("nginx.conf");
        let mut command = Command::new("nginx");
        command
            .arg("-p")
            .arg(&dir)
            .arg("-c")
            .arg(dir.join("nginx.conf"))
            .arg("-e")
            .arg(dir.join("error.log"));
        // Debian keeps it where only root's path looks.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
        let mut process = Process::start("nginx", &dir, &mut command);
        until("nginx listens", Duration::from_secs(10), || {
            assert!(process.ended().is_none(), "nginx ended:\n{}", process.log());
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Nginx {
            port,
            root,
            _process: process,
        }
    }

    /// Puts a file at `/files/NAME`.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let file = self.root.join("files").join(name);
        fs::create_dir_all(file.parent().expect("it lies in a folder")).expect("a folder");
        fs::write(file, bytes).expect("a file");
    }
}
