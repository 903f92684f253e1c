//! `tidegate demo`: everything on loopback, as separate processes, with curl lines that do what they say.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// How long the processes may take to be ready.
const START: Duration = Duration::from_secs(20);

#[derive(clap::Args)]
pub struct Options {
    /// Where the PKI, both config files and the logs are written
    #[arg(long, value_name = "DIR", default_value = "tidegate-demo")]
    dir: PathBuf,
    /// Free ports instead of 8443, 10140, 9441, 9442 and 9080
    #[arg(long)]
    free_ports: bool,
}

struct Ports {
    /// This host has ::1: clients and links are taken there too.
    ipv6: bool,
    clients: u16,
    relay: u16,
    gateway_admin: u16,
    connector_admin: u16,
    upstream: u16,
    notify: u16,
}

/// Processes that end with us.
struct Children(Vec<(&'static str, Child)>);

impl Drop for Children {
    fn drop(&mut self) {
        for (_, child) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn run(options: &Options) -> ExitCode {
    match demo(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidegate demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Free on 127.0.0.1, and on ::1 where there is one.
fn free_port(ipv6: bool) -> Result<u16, String> {
    const TRIES: usize = 100;
    for _ in 0..TRIES {
        let listener =
            TcpListener::bind("127.0.0.1:0").map_err(|e| format!("no free port: {e}"))?;
        let port = listener.local_addr().map_err(|e| e.to_string())?.port();
        if !ipv6 || TcpListener::bind(("::1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err("no free port".into())
}

fn ports(options: &Options) -> Result<Ports, String> {
    let ipv6 = TcpListener::bind("[::1]:0").is_ok();
    if options.free_ports {
        return Ok(Ports {
            ipv6,
            clients: free_port(ipv6)?,
            relay: free_port(ipv6)?,
            gateway_admin: free_port(false)?,
            connector_admin: free_port(false)?,
            upstream: free_port(false)?,
            notify: free_port(false)?,
        });
    }
    let ports = Ports {
        ipv6,
        clients: 8443,
        relay: 10140,
        gateway_admin: 9441,
        connector_admin: 9442,
        upstream: 9080,
        notify: 9500,
    };
    let fours = [
        ports.clients,
        ports.relay,
        ports.gateway_admin,
        ports.connector_admin,
        ports.upstream,
        ports.notify,
    ]
    .map(|port| ("127.0.0.1", port));
    let sixes = [ports.clients, ports.relay].map(|port| ("::1", port));
    let sixes = sixes.into_iter().filter(|_| ipv6);
    for (address, port) in fours.into_iter().chain(sixes) {
        if let Err(error) = TcpListener::bind((address, port)) {
            return Err(format!(
                "port {port} of {address} cannot be used: {error} (try --free-ports)"
            ));
        }
    }
    Ok(ports)
}

fn demo(options: &Options) -> Result<(), String> {
    let program =
        std::env::current_exe().map_err(|e| format!("cannot find my own program: {e}"))?;
    fs::create_dir_all(&options.dir).map_err(|e| format!("{}: {e}", options.dir.display()))?;
    let dir = options
        .dir
        .canonicalize()
        .map_err(|e| format!("{}: {e}", options.dir.display()))?;
    let ports = ports(options)?;
    make_pki(&program, &dir)?;
    write_configs(&dir, &ports)?;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let address = SocketAddr::from(([127, 0, 0, 1], ports.upstream));
        let listener = tokio::net::TcpListener::bind(address).await.map_err(|e| format!("{address}: {e}"))?;
        tokio::spawn(async move { axum::serve(listener, super::upstream::router()).await });
        let mut children = Children(Vec::new());
        for (role, config) in [("gateway", "gateway.toml"), ("connector", "connector.toml")] {
            let log = fs::File::create(dir.join(format!("{role}.log"))).map_err(|e| format!("{role}.log: {e}"))?;
            let child = Command::new(&program)
                .args([role, "--config"])
                .arg(dir.join(config))
                .stdin(Stdio::null())
                .stdout(log.try_clone().map_err(|e| e.to_string())?)
                .stderr(log)
                .spawn()
                .map_err(|e| format!("cannot start the {role}: {e}"))?;
            children.0.push((role, child));
        }
        let waiting = [("gateway", ports.gateway_admin), ("connector", ports.connector_admin)];
        let (program_dir, mut ready) = (dir.clone(), children);
        let mut children = tokio::task::spawn_blocking(move || {
            for (role, port) in waiting {
                wait_ready(role, port, &program_dir, &mut ready)?;
            }
            Ok::<_, String>(ready)
        })
        .await
        .map_err(|e| e.to_string())??;
        print!("{}", greeting(&dir, &ports));
        let _ = std::io::stdout().flush();
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
            .map_err(|e| e.to_string())?;
        let mut look = tokio::time::interval(Duration::from_millis(500));
        loop {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => break,
                _ = terminate.recv() => break,
                _ = look.tick() => {
                    for (role, child) in &mut children.0 {
                        if let Ok(Some(status)) = child.try_wait() {
                            return Err(format!("the {role} ended ({status}); see {}", dir.join(format!("{role}.log")).display()));
                        }
                    }
                }
            }
        }
        println!("\nended");
        Ok(())
    })
}

/// Makes what is missing of the PKI and of the site's token keys; a second run uses the first one's.
fn make_pki(program: &Path, dir: &Path) -> Result<(), String> {
    let steps: [(&str, &[&str]); 5] = [
        ("ca.pem", &["pki", "init"]),
        ("server.pem", &["pki", "server"]),
        ("cp-1.pem", &["pki", "connector", "cp-1"]),
        ("device-1.pem", &["pki", "client", "device-1"]),
        ("site-tokens.jwks", &["token", "init"]),
    ];
    for (made, arguments) in steps {
        if dir.join(made).exists() {
            continue;
        }
        let output = Command::new(program)
            .args(arguments)
            .arg("--dir")
            .arg(dir)
            .output()
            .map_err(|e| format!("cannot run myself: {e}"))?;
        if !output.status.success() {
            return Err(format!(
                "{}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            ));
        }
    }
    Ok(())
}

fn write_configs(dir: &Path, ports: &Ports) -> Result<(), String> {
    let listen = |port: u16| match ports.ipv6 {
        true => format!("[\"127.0.0.1:{port}\", \"[::1]:{port}\"]"),
        false => format!("[\"127.0.0.1:{port}\"]"),
    };
    let gateway = format!(
        r#"# The demo's gateway. Paths are relative to this file.
[gateway]
name = "demo"
[listen]
clients = {clients}
relay = {relay}
admin = "127.0.0.1:{admin}"
[tls]
certificate = "server.pem"
key = "server.key"
[relay]
connector_ca = "ca.pem"
[[site]]
name = "main"
hosts = ["*"]
connectors = ["cp-1"]
[log]
access = "all"
"#,
        clients = listen(ports.clients),
        relay = listen(ports.relay),
        admin = ports.gateway_admin
    );
    let connector = format!(
        r#"# The demo's connector. Paths are relative to this file.
[connector]
id = "cp-1"
site = "main"
admin = "127.0.0.1:{admin}"
tls = {{ certificate = "cp-1.pem", key = "cp-1.key", gateway_ca = "ca.pem" }}
[[gateway]]
host = "localhost"
port = {relay}
[site]
revision = 1
client_ca = [{{ name = "lab", file = "clients-ca.pem" }}]
tokens = ["site-tokens.jwks"]
[[route]]
path = "/app/"
upstream = ["http://127.0.0.1:{upstream}"]
auth = "any"
[[route]]
path = "/mp/"
upstream = ["http://127.0.0.1:{upstream}"]
auth = "certificate"
[[route]]
path = "/open/"
upstream = ["http://127.0.0.1:{upstream}"]
auth = "none"
[notify]
listen = "127.0.0.1:{notify}"
store = "notify.redb"
"#,
        admin = ports.connector_admin,
        relay = ports.relay,
        upstream = ports.upstream,
        notify = ports.notify
    );
    for (name, text) in [("gateway.toml", gateway), ("connector.toml", connector)] {
        fs::write(dir.join(name), text).map_err(|e| format!("{name}: {e}"))?;
    }
    Ok(())
}

/// Polls `/readyz` until it says 200.
fn wait_ready(role: &str, port: u16, dir: &Path, children: &mut Children) -> Result<(), String> {
    let until = Instant::now() + START;
    let log = dir.join(format!("{role}.log"));
    loop {
        for (role, child) in &mut children.0 {
            if let Ok(Some(status)) = child.try_wait() {
                let log = dir.join(format!("{role}.log"));
                let said = fs::read_to_string(&log).unwrap_or_default();
                return Err(format!("the {role} ended at start ({status}):\n{said}"));
            }
        }
        if is_ready(port) {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(format!(
                "the {role} is not ready after {} s; see {}",
                START.as_secs(),
                log.display()
            ));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn is_ready(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let mut answer = [0; 12];
    let asked =
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    asked.is_ok() && stream.read_exact(&mut answer).is_ok() && &answer == b"HTTP/1.1 200"
}

fn greeting(dir: &Path, ports: &Ports) -> String {
    let dir = dir.display();
    let clients = ports.clients;
    let curl = format!("curl -sS --cacert {dir}/ca.pem");
    let device = format!("--cert {dir}/device-1.pem --key {dir}/device-1.key");
    let program = std::env::current_exe()
        .map_or_else(|_| "tidegate".into(), |path| path.display().to_string());
    let token = format!(
        "-H \"Authorization: Bearer $({program} token issue --dir {dir} --client phone-1)\""
    );
    let lines = [
        (
            format!("{curl} {device} https://localhost:{clients}/mp/hello"),
            "200: a device with its certificate",
        ),
        (
            format!("{curl} https://localhost:{clients}/open/hello"),
            "200: a path that asks for nobody",
        ),
        (
            format!("{curl} {device} -d 'some text' https://localhost:{clients}/mp/echo"),
            "200: a body, there and back",
        ),
        (
            format!("{curl} {device} https://localhost:{clients}/open/headers"),
            "200: what the upstream is told of the client",
        ),
        (
            format!("{curl} {token} https://localhost:{clients}/app/headers"),
            "200: a client with a token of the site",
        ),
        (
            format!("{curl} https://localhost:{clients}/mp/hello"),
            "401 unauthenticated: no certificate",
        ),
        (
            format!("{curl} {device} https://localhost:{clients}/secret"),
            "404 not_published: no connector publishes it",
        ),
    ];
    let device_id = "cert:lab/device-1";
    let notify = ports.notify;
    let push = format!(
        "curl -sS -d '{{\"to\": {{\"clients\": [\"{device_id}\"]}}, \"payload\": {{\"hello\": \"world\"}}, \"queue\": true}}' \
         http://127.0.0.1:{notify}/v1/push"
    );
    let channel = format!("{device} https://localhost:{clients}/.tidegate/channel");
    let mut text = format!(
        "tidegate demo\n  gateway    https://localhost:{clients}   admin http://127.0.0.1:{}/metrics   log {dir}/gateway.log\n  \
         connector  dials localhost:{}, listens nowhere   admin http://127.0.0.1:{}/metrics   log {dir}/connector.log\n  \
         upstream   http://127.0.0.1:{}   (the server behind the firewall)\n  \
         notify     http://127.0.0.1:{notify}/v1/openapi.json   (pushes from behind the firewall)\n\n",
        ports.gateway_admin, ports.relay, ports.connector_admin, ports.upstream
    );
    for (line, what) in lines {
        let _ = writeln!(text, "{line}   # {what}");
    }
    if ports.ipv6 {
        let line = format!("{curl} -g 'https://[::1]:{clients}/open/hello'");
        let _ = writeln!(text, "{line}   # 200: the same over IPv6");
    }
    let _ = writeln!(
        text,
        "{curl} {channel}?wait=1   # 204: a long poll, and nothing was pushed"
    );
    let _ = writeln!(
        text,
        "{push}   # 202: a push, kept on disk until the device has it"
    );
    let _ = writeln!(text, "{curl} {channel}?wait=1   # 200: there it is");
    let _ = writeln!(
        text,
        "\nA channel that stays open, and a push to it from another shell:\n  {curl} -N {channel}\n  \
         {program} push --api http://127.0.0.1:{notify} --to {device_id} --payload '{{\"hello\": \"world\"}}' --wait 5"
    );
    text.push_str("\nCtrl-C ends it.\n");
    text
}
