//! OpenSSL's command line as the peer, over loopback.

use super::parked::Idle;
use super::*;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Longest wait for anything; a pass takes a second or two.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends the process with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(arguments: &[&str]) -> Process {
    let child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    Process(child.expect("the openssl command is needed for this test"))
}

/// What a process prints, line by line, with a limit on the wait.
struct Lines(mpsc::Receiver<String>);

impl Lines {
    fn of(process: &mut Process) -> Self {
        let (sender, receiver) = mpsc::channel();
        let output = BufReader::new(process.0.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self(receiver)
    }

    /// The first line that begins so.
    fn wait_for(&self, begin: &str) -> String {
        loop {
            let line = self.0.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("openssl never printed {begin:?}"));
            if line.starts_with(begin) {
                return line;
            }
        }
    }
}

/// The test PKI in files, removed at the end.
struct Files(PathBuf);

impl Files {
    fn new(test: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("tidegate-tls-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let files = Self(dir);
        let pki = pki();
        for (name, text) in [
            ("ca.pem", &pki.ca_pem),
            ("server.pem", &pki.server.pem.0),
            ("server.key", &pki.server.pem.1),
            ("client.pem", &pki.client.pem.0),
            ("client.key", &pki.client.pem.1),
        ] {
            std::fs::write(files.0.join(name), text).unwrap();
        }
        files
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Moves bytes between the socket and ours until `done`.
fn pump_socket(ours: &mut Ours, socket: &mut TcpStream, done: impl Fn(&Ours) -> bool) {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut chunk = [0; 5000];
    loop {
        let is_done = done(ours);
        let bytes = ours.control();
        socket.write_all(&bytes).unwrap();
        if is_done {
            return;
        }
        let n = socket.read(&mut chunk).unwrap();
        assert!(n > 0, "connection ended; error {:?}", ours.error);
        ours.receive(&chunk[..n]);
        assert_eq!(ours.error, None);
    }
}

#[test]
fn s_client_talks_to_our_server() {
    let files = Files::new("s-client");
    for version in ["-tls1_3", "-tls1_2"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let keys = super::super::tickets::TicketKeys::random(3600).unwrap();
        let mut config = server_config(all_suites());
        config.ticketer = Arc::new(keys);
        let config = Arc::new(config);
        let session = files.path("session");
        for resumed in [false, true] {
            let (ca, cert, key) = (
                files.path("ca.pem"),
                files.path("client.pem"),
                files.path("client.key"),
            );
            let mut arguments = vec![
                "s_client",
                "-connect",
                &address,
                "-servername",
                "localhost",
                version,
                "-CAfile",
                &ca,
                "-verify_return_error",
                "-cert",
                &cert,
                "-key",
                &key,
                "-sess_out",
                &session,
            ];
            if resumed {
                arguments.extend(["-sess_in", &session]);
            }
            let mut client = spawn(&arguments);
            let mut input = client.0.stdin.take().unwrap();
            let output = Lines::of(&mut client);
            let (mut socket, _) = listener.accept().unwrap();
            let mut ours = Ours::new(Connection::server(&config).unwrap());
            pump_socket(&mut ours, &mut socket, |ours| ours.is_established);
            let established = ours.established.take().unwrap();
            assert_eq!(established.resumed, resumed, "{version}");
            assert_eq!(established.peer_chain[0], pki().client.chain[0].to_vec());

            input.write_all(b"hello\n").unwrap();
            pump_socket(&mut ours, &mut socket, |ours| {
                ours.received.ends_with(b"hello\n")
            });
            if version == "-tls1_3" {
                // s_client's commands: K asks for a key update both ways.
                input.write_all(b"K\n").unwrap();
                pump_socket(&mut ours, &mut socket, |ours| ours.tls.wants_transmit());
                input.write_all(b"again\n").unwrap();
                pump_socket(&mut ours, &mut socket, |ours| {
                    ours.received.ends_with(b"again\n")
                });
                ours.tls.update_keys(true);
            }
            let mut answer = vec![b'a'; 40_000];
            answer.extend(b"\nthe end\n");
            let bytes = ours.send(&answer);
            socket.write_all(&bytes).unwrap();
            output.wait_for("the end");
            input.write_all(b"after\n").unwrap();
            pump_socket(&mut ours, &mut socket, |ours| {
                ours.received.ends_with(b"after\n")
            });
            input.write_all(b"Q\n").unwrap();
            pump_socket(&mut ours, &mut socket, |ours| ours.closed);
            ours.tls.close();
            let bytes = ours.control();
            let _ = socket.write_all(&bytes);
            assert!(client.0.wait().unwrap().success());
        }
    }
}

/// Moves bytes between the socket and a parked connection until `done`, through a whole connection now and then.
fn pump_parked(mut idle: Idle, socket: &mut TcpStream, done: impl Fn(&Idle) -> bool) -> Idle {
    let mut chunk = [0; 700];
    loop {
        let is_done = done(&idle);
        let bytes = idle.control();
        socket.write_all(&bytes).unwrap();
        idle = idle.cycle();
        if is_done {
            return idle;
        }
        let n = socket.read(&mut chunk).unwrap();
        assert!(n > 0, "connection ended; error {:?}", idle.error);
        idle.receive(&chunk[..n]);
        assert_eq!(idle.error, None);
    }
}

#[test]
fn s_client_talks_to_a_parked_server() {
    let suites = [
        ("-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"),
        ("-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"),
        ("-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    ];
    let config = Arc::new(server_config(all_suites()));
    for (version, option, suite) in suites {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut client = spawn(&["s_client", "-connect", &address, version, option, suite]);
        let mut input = client.0.stdin.take().unwrap();
        let output = Lines::of(&mut client);
        let (mut socket, _) = listener.accept().unwrap();
        let mut ours = Ours::new(Connection::server(&config).unwrap());
        pump_socket(&mut ours, &mut socket, |ours| ours.is_established);
        let mut idle = Idle::of(ours.tls);
        for round in 0..4 {
            if version == "-tls1_3" {
                // s_client's commands: k updates its own keys, K asks for ours as well.
                // What follows waits until it was read: in one read with a command it would be lost.
                let (is_asked, before) = (round % 2 == 1, idle.fed);
                input
                    .write_all(if is_asked { b"K\n" } else { b"k\n" })
                    .unwrap();
                idle = pump_parked(idle, &mut socket, |idle| {
                    idle.fed > before && idle.tls.wants_transmit() == is_asked
                });
                idle.tls.update_keys(round > 1);
            }
            let bytes = idle.send(format!("{suite} round {round}\n").as_bytes());
            socket.write_all(&bytes).unwrap();
            output.wait_for(&format!("{suite} round {round}"));
            let line = format!("line {round}\n");
            input.write_all(line.as_bytes()).unwrap();
            idle = pump_parked(idle, &mut socket, |idle| {
                idle.received.ends_with(line.as_bytes())
            });
        }
        input.write_all(b"Q\n").unwrap();
        let mut idle = pump_parked(idle, &mut socket, |idle| idle.closed);
        idle.tls.close();
        let bytes = idle.control();
        let _ = socket.write_all(&bytes);
        assert!(client.0.wait().unwrap().success());
    }
}

#[test]
fn our_client_talks_to_s_server() {
    let files = Files::new("s-server");
    let (cert, key, ca) = (
        files.path("server.pem"),
        files.path("server.key"),
        files.path("ca.pem"),
    );
    for version in ["-tls1_3", "-tls1_2"] {
        let mut server = spawn(&[
            "s_server",
            "-accept",
            "127.0.0.1:0",
            "-cert",
            &cert,
            "-key",
            &key,
            version,
            "-Verify",
            "1",
            "-CAfile",
            &ca,
            "-verify_return_error",
            "-naccept",
            "2",
        ]);
        let mut input = server.0.stdin.take().unwrap();
        let output = Lines::of(&mut server);
        let line = output.wait_for("ACCEPT ");
        let address = line.trim_start_matches("ACCEPT ").trim();
        let config = Arc::new(client_config(all_suites(), true));
        for resumed in [false, true] {
            let mut socket = TcpStream::connect(address).unwrap();
            let mut ours = Ours::new(Connection::client(&config, name()).unwrap());
            pump_socket(&mut ours, &mut socket, |ours| ours.is_established);
            let established = ours.established.take().unwrap();
            assert_eq!(established.tls12, version == "-tls1_2");
            assert_eq!(established.resumed, resumed, "{version}");

            let bytes = ours.send(b"hello from ours\n");
            socket.write_all(&bytes).unwrap();
            output.wait_for("hello from ours");
            if version == "-tls1_3" {
                input.write_all(b"K\n").unwrap();
                pump_socket(&mut ours, &mut socket, |ours| ours.tls.wants_transmit());
                ours.tls.update_keys(true);
            }
            input.write_all(b"hello from openssl\n").unwrap();
            pump_socket(&mut ours, &mut socket, |ours| {
                ours.received.ends_with(b"hello from openssl\n")
            });
            let bytes = ours.send(b"once more\n");
            socket.write_all(&bytes).unwrap();
            output.wait_for("once more");
            ours.tls.close();
            let bytes = ours.control();
            socket.write_all(&bytes).unwrap();
        }
    }
}
