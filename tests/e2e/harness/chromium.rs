//! Chromium without a window, with a client certificate that it shows without asking.

use super::Lab;
use super::process::Process;
use std::fs;
use std::process::Command;

/// A running browser with a folder of its own.
pub struct Chromium {
    _process: Process,
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error}; browser tests need chromium and certutil: scripts/need")
    });
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Chromium {
    /// Opens a page of the lab as `device-1`.
    pub fn open(lab: &Lab, name: &str, path: &str) -> Chromium {
        let home = lab.file(name);
        let store = home.join(".pki/nssdb");
        fs::create_dir_all(&store).expect("a folder");
        let database = format!("sql:{}", store.display());
        run(Command::new("certutil").args(["-d", &database, "-N", "--empty-password"]));
        run(Command::new("certutil")
            .args(["-d", &database, "-A", "-t", "C,,", "-n", "lab", "-i"])
            .arg(lab.file("ca.pem")));
        let bundle = home.join("device-1.p12");
        run(Command::new("openssl")
            .args(["pkcs12", "-export", "-passout", "pass:x", "-out"])
            .arg(&bundle)
            .arg("-in")
            .arg(lab.file("device-1.pem"))
            .arg("-inkey")
            .arg(lab.file("device-1.key")));
        run(Command::new("pk12util")
            .args(["-d", &database, "-W", "x", "-i"])
            .arg(&bundle));
        let policies = home.join("policies/managed");
        fs::create_dir_all(&policies).expect("a folder");
        let policy = r#"{"AutoSelectCertificateForUrls": ["{\"pattern\":\"https://localhost\",\"filter\":{}}"]}"#;
        fs::write(policies.join("lab.json"), policy).expect("a policy");
        // Policies are read from one place only: this process sees ours there.
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c"]).arg(
            "mkdir -p /etc/chromium/policies && mount --bind \"$0\" /etc/chromium/policies && exec chromium \"$@\"",
        );
        command
            .arg(home.join("policies"))
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--no-proxy-server",
                "--remote-debugging-port=0",
            ])
            .arg(format!(
                "--user-data-dir={}",
                home.join("profile").display()
            ))
            .arg(lab.url(path))
            .env("HOME", &home);
        Chromium {
            _process: Process::start(name, lab.dir(), &mut command),
        }
    }
}
