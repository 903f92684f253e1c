//! Requests of several kinds from several threads until told to stop, each answer checked and each failure kept.

use super::lab::Lab;
use super::pattern;
use super::tls::{self, Tls};
use rustls::ClientConfig;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Get,
    /// An answer that is under way for a while.
    Large,
    Put,
    Post,
}

const KINDS: [Kind; 4] = [Kind::Get, Kind::Post, Kind::Put, Kind::Large];
const LARGE: u64 = 200_000;
const UPLOAD: u64 = 3000;

/// How a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// A problem document of the gateway's.
    Problem(u16, String),
    /// The answer broke off after its head.
    Cut,
    /// No byte of an answer.
    Silent(String),
    /// An answer, and not the right one.
    Wrong(String),
}

#[derive(Debug, Clone)]
pub struct Failure {
    pub kind: Kind,
    pub how: How,
}

/// What became of all requests.
#[derive(Debug, Default)]
pub struct Tally {
    pub sent: u64,
    pub right: u64,
    pub failures: Vec<Failure>,
}

/// A load that runs.
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Tally>>,
}

impl Load {
    pub fn start(lab: &Lab, threads: u64) -> Load {
        let config = tls::config(lab, None);
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let threads = (0..threads).map(|thread| {
            let (port, config) = (lab.ports.clients, config.clone());
            let (stop, answered) = (stop.clone(), answered.clone());
            std::thread::spawn(move || run(thread, port, &config, &stop, &answered))
        });
        Load {
            threads: threads.collect(),
            stop,
            answered,
        }
    }

    /// Waits for so many more answers, or failures.
    #[track_caller]
    pub fn pass(&self, count: u64) {
        let wanted = self.answered.load(Ordering::Relaxed) + count;
        super::until("the load goes on", Duration::from_secs(30), || {
            (self.answered.load(Ordering::Relaxed) >= wanted).then_some(())
        });
    }

    pub fn finish(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for thread in self.threads {
            let one = thread.join().expect("a thread of the load");
            all.sent += one.sent;
            all.right += one.right;
            all.failures.extend(one.failures);
        }
        all
    }
}

fn run(
    thread: u64,
    port: u16,
    config: &Arc<ClientConfig>,
    stop: &AtomicBool,
    answered: &AtomicU64,
) -> Tally {
    let mut tally = Tally::default();
    let mut client = None;
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let kind = KINDS[((turn + thread) % KINDS.len() as u64) as usize];
        let number = turn << 8 | thread;
        let mut tls = client
            .take()
            .unwrap_or_else(|| Tls::try_connect_to(port, config).expect("the gateway accepts"));
        tally.sent += 1;
        match ask(&mut tls, kind, number) {
            Ok(()) => {
                tally.right += 1;
                client = Some(tls);
            }
            Err(how) => {
                // A problem document leaves the connection as it was.
                if matches!(how, How::Problem(..)) {
                    client = Some(tls);
                }
                tally.failures.push(Failure { kind, how });
            }
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
    tally
}

/// One request and its answer.
fn ask(client: &mut Tls, kind: Kind, number: u64) -> Result<(), How> {
    let silent = |error: io::Error| How::Silent(error.to_string());
    let (line, body) = match kind {
        Kind::Get => (format!("GET /t/small?n={number}"), Vec::new()),
        Kind::Large => (
            format!("GET /t/pattern?seed={number}&size={LARGE}"),
            Vec::new(),
        ),
        Kind::Put | Kind::Post => {
            let method = if kind == Kind::Put { "PUT" } else { "POST" };
            (
                format!("{method} /t/verify?seed={number}"),
                pattern::body(number, UPLOAD),
            )
        }
    };
    let length = match body.len() {
        0 => String::new(),
        n => format!("Content-Length: {n}\r\n"),
    };
    let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n");
    client
        .try_send([head.as_bytes(), &body].concat())
        .map_err(silent)?;
    let mut answer = client.try_head().map_err(silent)?;
    let mut bytes = Vec::new();
    client
        .body(&mut answer, &mut |part| bytes.extend_from_slice(part))
        .map_err(|_| How::Cut)?;
    if let Some(code) = answer.header("Tidegate-Error") {
        return Err(How::Problem(answer.status, code.to_owned()));
    }
    let right = match kind {
        Kind::Get => bytes == b"/t/small",
        Kind::Large => bytes == pattern::body(number, LARGE),
        Kind::Put | Kind::Post => bytes == format!("{UPLOAD} bytes right").as_bytes(),
    };
    if answer.status == 200 && right {
        Ok(())
    } else {
        Err(How::Wrong(format!(
            "{}\n{}",
            answer.head,
            String::from_utf8_lossy(&bytes[..bytes.len().min(200)])
        )))
    }
}

/// Time that something took, for the test's output.
pub fn timed<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = run();
    println!("{what}: {:?}", began.elapsed());
    result
}
