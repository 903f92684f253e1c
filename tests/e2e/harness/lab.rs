//! A gateway, a connector and what stands behind it, on loopback.

use super::http::{self, Answer};
use super::nginx::Nginx;
pub use super::plan::{Family, Plan};
use super::process::Process;
use super::upstream::Upstream;
use super::{ports, until};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

/// How long a process may take until it is ready.
pub const START: Duration = Duration::from_secs(20);

/// Labs share the machine; one that measures has it for itself.
static MACHINE: RwLock<()> = RwLock::new(());

/// Held for as long as the machine is used.
pub enum Turn {
    Shared(#[allow(dead_code, reason = "held, never read")] RwLockReadGuard<'static, ()>),
    Alone(#[allow(dead_code, reason = "held, never read")] RwLockWriteGuard<'static, ()>),
}

impl Turn {
    /// Beside other labs.
    pub fn shared() -> Turn {
        Turn::Shared(MACHINE.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The binary under test.
pub fn tidegate() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tidegate"))
}

/// A folder that goes with its owner, unless the test fails.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir =
            std::env::temp_dir().join(format!("tidegate-e2e-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).expect("a temporary folder");
        Folder(dir)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept: {}", self.0.display());
        } else {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// Runs `tidegate pki …` for a folder; it must succeed.
#[track_caller]
pub fn pki(dir: &Path, arguments: &[&str]) {
    let output = tidegate()
        .arg("pki")
        .args(arguments)
        .arg("--dir")
        .arg(dir)
        .output()
        .expect("tidegate pki");
    assert!(
        output.status.success(),
        "pki {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[derive(Clone, Copy)]
pub struct Ports {
    pub clients: u16,
    pub relay: u16,
    pub gateway_admin: u16,
    pub connector_admin: u16,
    /// The notification API's, where the plan has one.
    pub notify: u16,
}

/// A lab in operation. Ends with its owner.
pub struct Lab {
    ip: IpAddr,
    pub ports: Ports,
    pub upstream: Upstream,
    pub nginx: Option<Nginx>,
    pub gateway: Process,
    pub connector: Option<Process>,
    folder: Folder,
    _turn: Turn,
}

impl Plan {
    /// Builds it and waits until it is ready.
    #[track_caller]
    pub fn start(mut self) -> Lab {
        let turn = if self.alone {
            Turn::Alone(MACHINE.write().unwrap_or_else(PoisonError::into_inner))
        } else {
            Turn::shared()
        };
        let folder = Folder::new();
        let dir = &folder.0;
        let ip: IpAddr = match self.family {
            Family::Four | Family::Both => Ipv4Addr::LOCALHOST.into(),
            Family::Six => Ipv6Addr::LOCALHOST.into(),
        };
        let upstream = Upstream::on(ip);
        let nginx = self.with_nginx.then(|| Nginx::start(dir));
        if let Some(nginx) = &nginx {
            let lines = format!(
                "upstream = [\"http://127.0.0.1:{}\"]\nauth = \"none\"",
                nginx.port
            );
            self = self.route("/files/", &lines);
        }
        let ports = Ports {
            clients: ports::free(),
            relay: ports::free_row(self.instances),
            gateway_admin: ports::free(),
            connector_admin: ports::free(),
            notify: ports::free(),
        };
        pki(dir, &["init"]);
        match &self.gateway_host {
            None => pki(dir, &["server"]),
            Some(host) => {
                let names = ["localhost", "127.0.0.1", "::1", host].map(|n| ["--name", n]);
                pki(dir, &[&["server"], names.as_flattened()].concat());
            }
        }
        if let Some(hosts) = &self.hosts {
            fs::write(dir.join("hosts"), hosts).expect("hosts");
        }
        for number in 1..=self.connectors {
            pki(dir, &["connector", &format!("cp-{number}")]);
        }
        pki(dir, &["client", "device-1"]);
        for prepare in std::mem::take(&mut self.prepare) {
            prepare(dir);
        }
        fs::write(dir.join("gateway.toml"), self.gateway_toml(ports)).expect("gateway.toml");
        let text = self.connector_toml(ports, upstream.port);
        fs::write(dir.join("connector.toml"), text).expect("connector.toml");
        let gateway = spawn("gateway", dir);
        let connector = self.with_connector.then(|| spawn("connector", dir));
        let mut lab = Lab {
            ip,
            ports,
            upstream,
            nginx,
            gateway,
            connector,
            folder,
            _turn: turn,
        };
        lab.wait_ready();
        lab
    }
}

fn spawn(role: &str, dir: &Path) -> Process {
    let config = dir.join(format!("{role}.toml"));
    let mut command = with_hosts(tidegate(), dir);
    // What the gateway fetches stands on this host, whatever proxy leads out of it.
    command.env("NO_PROXY", "localhost,127.0.0.1");
    Process::start(role, dir, command.arg(role).arg("--config").arg(config))
}

/// The command, in a mount namespace of its own where the folder's `hosts` lies over /etc/hosts, if there is one.
pub fn with_hosts(command: Command, dir: &Path) -> Command {
    let hosts = dir.join("hosts");
    if !hosts.exists() {
        return command;
    }
    let mut wrapped = Command::new("unshare");
    wrapped.args(["--mount", "sh", "-c"]);
    wrapped.arg("mount --bind \"$0\" /etc/hosts && exec \"$@\"");
    wrapped
        .arg(hosts)
        .arg(command.get_program())
        .args(command.get_args());
    wrapped
}

impl Lab {
    /// One shard each, `/t/` open to everybody and `/cert/` for certificates, both to the test upstream.
    pub fn plan() -> Plan {
        Plan::new()
    }

    /// The plainest lab.
    #[track_caller]
    pub fn start() -> Lab {
        Lab::plan().start()
    }

    pub fn dir(&self) -> &Path {
        &self.folder.0
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.0.join(name)
    }

    pub fn url(&self, path: &str) -> String {
        let host = match self.ip {
            IpAddr::V4(_) => "localhost",
            IpAddr::V6(_) => "[::1]",
        };
        format!("https://{host}:{}{path}", self.ports.clients)
    }

    /// Where clients and tests reach it.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// `tidegate reload` of the connector: raises the site's revision from `from` and puts `lines` below it.
    #[track_caller]
    pub fn revise(&self, from: u32, lines: &str) -> String {
        let (old, new) = (
            format!("revision = {from}\n"),
            format!("revision = {}\n{lines}\n", from + 1),
        );
        self.rewrite("connector.toml", "connector.toml", &[(&old, &new)]);
        let (good, said) = reload(self.ports.connector_admin);
        assert!(good, "{said}");
        said
    }

    /// Runs `tidegate pki …` for this lab's folder.
    #[track_caller]
    pub fn pki(&self, arguments: &[&str]) {
        pki(self.dir(), arguments);
    }

    /// Reads a config file of this lab, changes it, and writes it as `name`.
    pub fn rewrite(&self, from: &str, name: &str, changes: &[(&str, &str)]) -> PathBuf {
        let mut text = fs::read_to_string(self.file(from)).expect("a config file");
        for (old, new) in changes {
            assert!(text.contains(old), "{from} does not hold {old:?}");
            text = text.replace(old, new);
        }
        let file = self.file(name);
        fs::write(&file, text).expect("a config file");
        file
    }

    #[track_caller]
    fn wait_ready(&mut self) {
        self.wait_gateway();
        if self.connector.is_some() {
            self.wait_connector();
        }
    }

    /// Until the gateway takes requests.
    #[track_caller]
    pub fn wait_gateway(&mut self) {
        let (port, gateway) = (self.ports.gateway_admin, &mut self.gateway);
        until("the gateway is ready", START, || {
            assert!(
                gateway.ended().is_none(),
                "the gateway ended:\n{}",
                gateway.log()
            );
            is_ready(port).then_some(())
        });
    }

    /// Until the connector has its links and its settings are in force.
    #[track_caller]
    pub fn wait_connector(&mut self) {
        let (port, connector) = (self.ports.connector_admin, &mut self.connector);
        let connector = connector.as_mut().expect("the lab has a connector");
        until("the connector is ready", START, || {
            assert!(
                connector.ended().is_none(),
                "the connector ended:\n{}",
                connector.log()
            );
            is_ready(port).then_some(())
        });
    }

    /// Starts (again) what was killed, without waiting.
    pub fn spawn_gateway(&mut self) {
        self.gateway = spawn("gateway", self.dir());
    }

    /// The connector by a command of the test's, which ends with `tidegate connector` or becomes it. Waits for it.
    #[track_caller]
    pub fn connector_by(&mut self, command: &mut Command) {
        let file = self.file("connector.toml");
        command.arg("connector").arg("--config").arg(file);
        self.connector = Some(Process::start("connector", self.dir(), command));
        self.wait_connector();
    }

    pub fn spawn_connector(&mut self) {
        self.connector = Some(spawn("connector", self.dir()));
    }

    /// One more process of this lab, with a config file of its own.
    pub fn spawn_with(&self, role: &str, name: &str, config: &Path) -> Process {
        Process::start(
            name,
            self.dir(),
            tidegate().arg(role).arg("--config").arg(config),
        )
    }

    /// SIGKILL, as a crash.
    pub fn kill_connector(&mut self) {
        self.connector
            .as_mut()
            .expect("the lab has a connector")
            .kill();
    }

    /// Sum of a metric over its series whose labels hold all of `labels`.
    pub fn metric(&self, port: u16, name: &str, labels: &[&str]) -> f64 {
        let text = http::get(port, "/metrics").expect("/metrics").text();
        let series = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| {
                rest.starts_with(['{', ' ']) && labels.iter().all(|l| rest.contains(l))
            })
        });
        series
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }

    /// One request line of the access log.
    #[track_caller]
    pub fn access_line(&self, request_id: &str) -> serde_json::Value {
        until(
            "the request's line is in the access log",
            Duration::from_secs(5),
            || {
                let log = self.gateway.log();
                let lines = log
                    .lines()
                    .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
                lines
                    .into_iter()
                    .find(|line| line["request_id"] == request_id && line["method"].is_string())
            },
        )
    }
}

pub fn is_ready(admin_port: u16) -> bool {
    http::get(admin_port, "/readyz").is_ok_and(|Answer { status, .. }| status == 200)
}

/// `tidegate reload` on an admin port: whether it worked, and what it said.
pub fn reload(admin_port: u16) -> (bool, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = tidegate()
        .args([
            "reload",
            "--admin",
            &format!("http://127.0.0.1:{admin_port}"),
        ])
        .output()
        .expect("tidegate reload");
    let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    (status.success(), text)
}

/// Runs `tidegate check` on a file.
pub fn check(config: &Path) -> (bool, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = tidegate()
        .arg("check")
        .arg("--config")
        .arg(config)
        .output()
        .expect("check");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );
    (status.success(), text)
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let tail = |log: String| {
                let lines: Vec<_> = log.lines().collect();
                lines[lines.len().saturating_sub(60)..].join("\n")
            };
            eprintln!("── gateway\n{}", tail(self.gateway.log()));
            if let Some(connector) = &self.connector {
                eprintln!("── connector\n{}", tail(connector.log()));
            }
        }
    }
}
