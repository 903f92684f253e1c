//! The hub's thread: it parks until something is said to it or due.

use crate::connector::shard::Message;
use crate::shard::mesh;
use crossbeam::sync::Parker;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};
use std::{io, thread};
use tokio::sync::{mpsc, oneshot};

use super::call::{Answer, CallId, HubEvent, Refusal, Request};
use super::core::{Core, Settings};
use super::limits::{CALLS, FROM_SHARD, LISTENERS, PER_TURN};
use super::message::FromShard;
use super::store::{News, Store};

/// News of the store that may wait; the store waits for room.
const NEWS: usize = 1024;
/// How often a full queue of a shard or of the store is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(1);

/// What the API says to the hub.
pub enum Call {
    Ask(Request, oneshot::Sender<Answer>),
    /// Events, from now on; the sender comes back when there are too many listeners already.
    Listen(mpsc::Sender<HubEvent>, oneshot::Sender<Result<(), Refusal>>),
}

/// The API's way to the hub.
#[derive(Clone)]
pub struct Handle {
    calls: mesh::Sender<Call>,
}

impl Handle {
    /// Asks, and waits for the answer.
    pub async fn ask(&self, request: Request) -> Answer {
        let (reply, answer) = oneshot::channel();
        if self.calls.send(Call::Ask(request, reply)).is_err() {
            return Answer::Refused(Refusal::Overloaded);
        }
        answer.await.unwrap_or(Answer::Refused(Refusal::Overloaded))
    }

    /// The same from a thread that may wait a moment.
    pub fn ask_within(&self, request: Request, patience: Duration) -> Option<Answer> {
        let (reply, mut answer) = oneshot::channel();
        self.calls.send(Call::Ask(request, reply)).ok()?;
        let end = Instant::now() + patience;
        loop {
            match answer.try_recv() {
                Ok(answer) => return Some(answer),
                Err(oneshot::error::TryRecvError::Closed) => return None,
                Err(oneshot::error::TryRecvError::Empty) if Instant::now() >= end => return None,
                Err(oneshot::error::TryRecvError::Empty) => {
                    thread::park_timeout(Duration::from_millis(1));
                }
            }
        }
    }

    /// A stream of events that holds so many before it is cut.
    pub async fn listen(&self, room: usize) -> Result<mpsc::Receiver<HubEvent>, Refusal> {
        let (events, receiver) = mpsc::channel(room);
        let (reply, answer) = oneshot::channel();
        if self.calls.send(Call::Listen(events, reply)).is_err() {
            return Err(Refusal::Overloaded);
        }
        answer.await.unwrap_or(Err(Refusal::Overloaded))?;
        Ok(receiver)
    }
}

/// A hub before its shards are there.
pub struct Hub {
    parker: Parker,
    inbox: mesh::Receiver<(usize, FromShard)>,
    to_hub: mesh::Sender<(usize, FromShard)>,
    calls: mesh::Receiver<Call>,
    handle: Handle,
    news: mesh::Receiver<News>,
    from_store: mesh::Sender<News>,
}

impl Hub {
    pub fn new() -> Hub {
        let parker = Parker::new();
        let waker = || parker.unparker().clone();
        let (to_hub, inbox) = mesh::channel(FROM_SHARD, waker());
        let (calls, waiting) = mesh::channel(CALLS, waker());
        let (from_store, news) = mesh::channel(NEWS, waker());
        Hub {
            inbox,
            to_hub,
            calls: waiting,
            handle: Handle { calls },
            news,
            from_store,
            parker,
        }
    }

    /// The queue that shards send to, with their numbers.
    pub fn sender(&self) -> mesh::Sender<(usize, FromShard)> {
        self.to_hub.clone()
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Starts the thread, and the store's. It ends with the shards.
    pub fn start(
        self,
        settings: Settings,
        shards: Vec<mesh::Sender<Message>>,
        store: PathBuf,
    ) -> io::Result<()> {
        let Hub {
            parker,
            inbox,
            to_hub,
            calls,
            handle,
            news,
            from_store,
        } = self;
        drop((to_hub, handle));
        let store = Store::start(store, move |news| {
            let mut waiting = news;
            // The hub takes them in every turn; it is gone when the process ends.
            while let Err(back) = from_store.send(waiting) {
                waiting = back;
                thread::park_timeout(TRY_AGAIN);
            }
        })?;
        let core = Core::new(settings, shards.len(), Instant::now(), unix_ms());
        let running = Running {
            core,
            inbox,
            calls,
            news,
            shards,
            store,
            replies: HashMap::new(),
            next_call: 0,
            listeners: Vec::new(),
            stuck: false,
        };
        thread::Builder::new()
            .name("hub".into())
            .spawn(move || running.run(&parker))?;
        Ok(())
    }
}

impl Default for Hub {
    fn default() -> Hub {
        Hub::new()
    }
}

struct Running {
    core: Core,
    inbox: mesh::Receiver<(usize, FromShard)>,
    calls: mesh::Receiver<Call>,
    news: mesh::Receiver<News>,
    shards: Vec<mesh::Sender<Message>>,
    store: Store,
    replies: HashMap<CallId, oneshot::Sender<Answer>>,
    next_call: u64,
    listeners: Vec<mpsc::Sender<HubEvent>>,
    /// A queue of somebody else's is full.
    stuck: bool,
}

impl Running {
    fn run(mut self, parker: &Parker) {
        loop {
            self.core.begin_turn(Instant::now(), unix_ms());
            let heard = self.hear();
            self.speak();
            if heard {
                continue;
            }
            if self.inbox.is_orphaned() {
                return;
            }
            let due = self.core.next_deadline();
            let again = self.stuck.then(|| Instant::now() + TRY_AGAIN);
            match due.into_iter().chain(again).min() {
                Some(at) => parker.park_deadline(at),
                None => parker.park(),
            }
        }
    }

    /// Takes some of what was said. False: nothing was.
    fn hear(&mut self) -> bool {
        let mut heard = false;
        for _ in 0..PER_TURN {
            let Some((shard, message)) = self.inbox.receive() else {
                break;
            };
            heard = true;
            self.core.handle_shard(shard, message);
        }
        for _ in 0..PER_TURN {
            let Some(news) = self.news.receive() else {
                break;
            };
            heard = true;
            self.core.handle_store(news);
        }
        for _ in 0..PER_TURN {
            let Some(call) = self.calls.receive() else {
                break;
            };
            heard = true;
            match call {
                Call::Ask(request, reply) => {
                    self.next_call += 1;
                    let call = CallId(self.next_call);
                    self.replies.insert(call, reply);
                    self.core.handle_call(call, request);
                }
                Call::Listen(events, reply) => {
                    let full = self.listeners.len() >= LISTENERS;
                    let _ = reply.send(if full {
                        Err(Refusal::Overloaded)
                    } else {
                        Ok(())
                    });
                    if !full {
                        self.listeners.push(events);
                    }
                }
            }
        }
        heard
    }

    /// Says what there is to say.
    fn speak(&mut self) {
        self.stuck = false;
        for (at, shard) in self.shards.iter().enumerate() {
            while let Some(message) = self.core.poll_to_shard(at) {
                if let Err(Message::Hub(back)) = shard.send(Message::Hub(message)) {
                    self.core.put_back(at, back);
                    self.stuck = true;
                    break;
                }
            }
        }
        while let Some((call, answer)) = self.core.poll_answer() {
            if let Some(reply) = self.replies.remove(&call) {
                let _ = reply.send(answer);
            }
        }
        while let Some(event) = self.core.poll_event() {
            // One that does not keep up is cut: it would miss what happened.
            self.listeners
                .retain(|listener| listener.try_send(event.clone()).is_ok());
        }
        self.listeners.retain(|listener| !listener.is_closed());
        self.core.watch(!self.listeners.is_empty());
        while let Some(command) = self.core.poll_command() {
            if let Err(back) = self.store.send(command) {
                self.core.put_back_command(back);
                self.stuck = true;
                break;
            }
        }
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
