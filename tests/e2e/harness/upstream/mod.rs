//! The server behind the firewall: plain HTTP/1.1, a thread a connection, and every bad habit that a test asks for.
//! What it does is chosen by the path's last segment (see [`behaviour`]); what reached it is noted.

mod behaviour;
mod request;

use super::ports;
use super::until;
pub use request::Request;
use std::io::BufReader;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The longest wait for a byte, or for a gate: then the thread ends.
const PATIENCE: Duration = Duration::from_secs(60);

/// What happened to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Its head arrived.
    Began,
    /// Its body arrived whole.
    Received,
    /// The connection ended before the request or its answer was complete.
    Gone,
}

/// One note.
#[derive(Debug, Clone)]
pub struct Seen {
    pub what: What,
    /// Path and query.
    pub target: String,
    /// The head as it arrived.
    pub head: String,
    /// Connections are counted from 0.
    pub connection: usize,
    /// Whom it came from.
    pub peer: IpAddr,
    pub at: Instant,
}

#[derive(Default)]
struct State {
    seen: Mutex<Vec<Seen>>,
    /// Names of gates that are open.
    gates: Mutex<Vec<String>>,
    opened: Condvar,
    ended: AtomicBool,
}

/// A running upstream. Its threads end with it.
pub struct Upstream {
    address: IpAddr,
    pub port: u16,
    state: Arc<State>,
}

impl Upstream {
    pub fn start() -> Upstream {
        Upstream::on(Ipv4Addr::LOCALHOST)
    }

    /// At another address.
    pub fn on(address: impl Into<IpAddr>) -> Upstream {
        let address = address.into();
        // Another run on this machine may take a port that was free just now.
        let taken = || TcpListener::bind((address, ports::free())).ok();
        Upstream::serving((0..10).find_map(|_| taken()).expect("a free port"))
    }

    /// At another address of the loopback network, at a port of the test's choice.
    pub fn start_at(ip: &str, port: u16) -> Upstream {
        Upstream::serving(TcpListener::bind((ip, port)).expect("a port that was free just now"))
    }

    fn serving(listener: TcpListener) -> Upstream {
        let at = listener.local_addr().expect("it is bound");
        let (address, port) = (at.ip(), at.port());
        let state = Arc::new(State::default());
        let shared = state.clone();
        std::thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                if shared.ended.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let shared = shared.clone();
                std::thread::spawn(move || serve(stream, connection, &shared));
            }
        });
        Upstream {
            address,
            port,
            state,
        }
    }

    /// Everything noted so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits for a note about a target that contains `part`.
    #[track_caller]
    pub fn wait_for(&self, what: What, part: &str, within: Duration) -> Seen {
        until(
            &format!("the upstream notes {what:?} of {part}"),
            within,
            || {
                self.seen()
                    .into_iter()
                    .find(|seen| seen.what == what && seen.target.contains(part))
            },
        )
    }

    /// How many requests with `part` in their target it saw the head of.
    pub fn count(&self, part: &str) -> usize {
        self.seen()
            .iter()
            .filter(|seen| seen.what == What::Began && seen.target.contains(part))
            .count()
    }

    /// Lets answers go on that wait for this gate.
    pub fn open_gate(&self, name: &str) {
        self.state
            .gates
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(name.to_owned());
        self.state.opened.notify_all();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Relaxed);
        self.state.opened.notify_all();
        let _ = TcpStream::connect((self.address, self.port));
    }
}

impl State {
    fn note(&self, what: What, request: &Request, (connection, peer): (usize, IpAddr)) {
        let seen = Seen {
            what,
            target: request.target.clone(),
            head: request.head.clone(),
            connection,
            peer,
            at: Instant::now(),
        };
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(seen);
    }

    /// False: the test is over, or nobody opened it.
    fn wait_gate(&self, name: &str) -> bool {
        let gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = |gates: &mut Vec<String>| {
            !self.ended.load(Ordering::Relaxed) && !gates.iter().any(|open| open == name)
        };
        let waited = self.opened.wait_timeout_while(gates, PATIENCE, closed);
        waited.is_ok_and(|(gates, _)| gates.iter().any(|open| open == name))
    }
}

fn serve(stream: TcpStream, connection: usize, state: &State) {
    let Ok(peer) = stream.peer_addr() else { return };
    let connection = (connection, peer.ip());
    let _ = stream.set_nodelay(true);
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let _ = stream.set_write_timeout(Some(PATIENCE));
    let Ok(reading) = stream.try_clone() else {
        return;
    };
    let mut reading = BufReader::with_capacity(64 * 1024, reading);
    let mut writing = stream;
    while let Ok(Some(mut request)) = Request::read(&mut reading) {
        state.note(What::Began, &request, connection);
        let mut exchange = behaviour::Exchange {
            request: &mut request,
            reading: &mut reading,
            writing: &mut writing,
            state,
        };
        let kept = behaviour::answer(&mut exchange);
        let complete = request.is_complete();
        if complete {
            state.note(What::Received, &request, connection);
        }
        match kept {
            Ok(true) if complete => {}
            Ok(_) => return,
            Err(_) => {
                state.note(What::Gone, &request, connection);
                return;
            }
        }
    }
}
