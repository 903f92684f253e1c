use super::*;
use crate::ring::uring::Waker;
use crate::ring::{ListenOptions, Receive, SocketId};
use crate::shard::mesh;
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// CPU that an idle shard may use in the test's half second: 1 %.
const IDLE_CPU_MAX: Duration = Duration::from_millis(5);
const OBSERVATION: Duration = Duration::from_millis(500);

enum Message {
    Number(u64),
    Stop,
}

/// Echoes; panics at an exclamation mark; passes the mesh's numbers on.
struct Echo {
    mesh: mesh::Receiver<Message>,
    numbers: mpsc::Sender<u64>,
    sending: HashMap<SocketId, Vec<u8>>,
    deadline: Option<Instant>,
    turns: u64,
    finished: bool,
}

impl Service<Ring> for Echo {
    fn handle(&mut self, ring: &mut Ring, event: Event) {
        match event {
            Event::Accepted { socket, .. } => ring.receive(socket, Receive::Small),
            Event::Received { socket, buf } => {
                assert!(!buf.contains(&b'!'), "somebody shouted");
                self.sending
                    .entry(socket)
                    .or_default()
                    .extend_from_slice(&buf);
            }
            Event::PeerFinished { socket } | Event::Failed { socket, .. } => ring.close(socket),
            _ => {}
        }
    }
    fn end_turn(&mut self, ring: &mut Ring) {
        self.turns += 1;
        for (socket, bytes) in self.sending.drain() {
            ring.send(socket, bytes);
        }
        while let Some(message) = self.mesh.receive() {
            match message {
                Message::Number(number) => self.numbers.send(number).unwrap(),
                Message::Stop => self.finished = true,
            }
        }
        if self.deadline.is_some_and(|at| at <= ring.now()) {
            self.deadline = None;
            self.numbers.send(self.turns).unwrap();
        }
    }
    fn next_deadline(&self) -> Option<Instant> {
        self.deadline
    }
    fn is_finished(&self) -> bool {
        self.finished
    }
}

struct Running {
    shard: Shard,
    addr: SocketAddr,
    mesh: mesh::Sender<Message>,
    numbers: mpsc::Receiver<u64>,
}

impl Running {
    fn start(name: &str, deadline: Option<Duration>) -> Running {
        Running::start_polling(name, deadline, Duration::ZERO)
    }

    fn start_polling(name: &str, deadline: Option<Duration>, busy_poll: Duration) -> Running {
        let waker = Waker::new().unwrap();
        let (mesh, receiver) = mesh::channel(16, waker.clone());
        let (numbers, numbers_out) = mpsc::channel();
        let (addr_in, addr) = mpsc::channel();
        let ring = RingConfig {
            waker: Some(waker),
            ..RingConfig::default()
        };
        let spec = ShardSpec {
            core: Some(0),
            ring,
            busy_poll,
            ..ShardSpec::new(name)
        };
        let shard = spec.run(move |ring| {
            let (_, addr) = ring.listen("127.0.0.1:0".parse().unwrap(), &listen_options())?;
            addr_in.send(addr).unwrap();
            Ok(Echo {
                mesh: receiver,
                numbers,
                sending: HashMap::new(),
                deadline: deadline.map(|after| ring.now() + after),
                turns: 0,
                finished: false,
            })
        });
        let shard = shard.unwrap_or_else(|error| panic!("{error}"));
        Running {
            shard,
            addr: addr.recv().unwrap(),
            mesh,
            numbers: numbers_out,
        }
    }

    fn echoes(&self) {
        let mut stream = TcpStream::connect(self.addr).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        for text in ["hello", "again"] {
            stream.write_all(text.as_bytes()).unwrap();
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(answer, text.as_bytes());
        }
    }

    fn stop(self) {
        assert!(self.mesh.send(Message::Stop).is_ok());
        self.shard.join().unwrap();
    }
}

fn listen_options() -> ListenOptions {
    ListenOptions {
        reuse_port: false,
        backlog: 64,
        direct: true,
        user_timeout: Duration::from_secs(30),
    }
}

/// CPU that the threads of this name have used.
fn cpu_of(name: &str) -> Duration {
    let mut nanos = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path();
        let read = |file| std::fs::read_to_string(path.join(file)).unwrap_or_default();
        if read("comm").trim() == name {
            let used = read("schedstat")
                .split(' ')
                .next()
                .map(|n| n.parse::<u64>().unwrap());
            nanos += used.unwrap();
        }
    }
    assert!(nanos > 0, "no thread is called {name}");
    Duration::from_nanos(nanos)
}

#[test]
fn a_shard_echoes_and_ends_when_its_service_does() {
    let running = Running::start("echo", None);
    running.echoes();
    running.stop();
}

#[test]
fn an_idle_shard_uses_no_cpu() {
    let running = Running::start("idle-shard", Some(Duration::from_secs(3_600)));
    running.echoes();
    let mut idle = TcpStream::connect(running.addr).unwrap(); // a connection that says nothing
    idle.set_read_timeout(Some(OBSERVATION)).unwrap();
    let before = cpu_of("idle-shard");
    let nothing = idle.read(&mut [0]).unwrap_err().kind(); // the observation is this wait
    assert!(
        matches!(nothing, ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{nothing}"
    );
    let used = cpu_of("idle-shard") - before;
    assert!(
        used < IDLE_CPU_MAX,
        "{used:?} of CPU in {OBSERVATION:?} of idleness"
    );
    running.echoes(); // and it still wakes up
    running.stop();
}

#[test]
fn a_polling_shard_sleeps_when_nothing_comes() {
    let running = Running::start_polling("polling", None, Duration::from_millis(1));
    running.echoes();
    assert!(running.mesh.send(Message::Number(7)).is_ok());
    assert_eq!(running.numbers.recv_timeout(OBSERVATION), Ok(7));
    let before = cpu_of("polling");
    assert!(running.numbers.recv_timeout(OBSERVATION).is_err()); // the observation is this wait
    let used = cpu_of("polling") - before;
    assert!(used < IDLE_CPU_MAX, "{used:?} of CPU in {OBSERVATION:?}");
    running.echoes();
    running.stop();
}

#[test]
fn a_message_wakes_a_sleeping_shard() {
    let running = Running::start("mesh", None);
    for number in 0..1_000 {
        assert!(running.mesh.send(Message::Number(number)).is_ok());
        let arrived = running.numbers.recv_timeout(Duration::from_secs(10));
        assert_eq!(arrived, Ok(number), "a wake-up was lost");
    }
    running.stop();
}

#[test]
fn a_deadline_wakes_a_sleeping_shard() {
    let began = Instant::now();
    let after = Duration::from_millis(40);
    let running = Running::start("deadline", Some(after));
    let turns = running
        .numbers
        .recv_timeout(Duration::from_secs(10))
        .unwrap();
    assert!(began.elapsed() >= after, "early");
    assert!(turns < 50, "{turns} turns to wait once");
    running.stop();
}

#[test]
fn a_panic_is_told_and_harms_no_other_shard() {
    let (loud, quiet) = (Running::start("loud", None), Running::start("quiet", None));
    TcpStream::connect(loud.addr)
        .unwrap()
        .write_all(b"!")
        .unwrap();
    match loud.shard.join() {
        Err(ShardError::Panicked(text)) => assert_eq!(text, "somebody shouted"),
        other => panic!("{other:?}"),
    }
    quiet.echoes();
    quiet.stop();
}

#[test]
fn an_exit_is_told_to_the_watcher() {
    let (told, exits) = mpsc::channel();
    let spec = ShardSpec {
        on_exit: Some(Box::new(move |name, result| {
            told.send((
                name.to_owned(),
                result.as_ref().map_err(ToString::to_string).cloned(),
            ))
            .unwrap();
        })),
        ..ShardSpec::new("watched")
    };
    struct Bad;
    impl Service<Ring> for Bad {
        fn handle(&mut self, _: &mut Ring, _: Event) {}
        fn end_turn(&mut self, _: &mut Ring) {
            panic!("turn {}", 1)
        }
        fn next_deadline(&self) -> Option<Instant> {
            Some(Instant::now())
        }
        fn is_finished(&self) -> bool {
            false
        }
    }
    let shard = spec.run(|_| Ok(Bad)).unwrap();
    let (name, result) = exits.recv().unwrap();
    assert_eq!(
        (name.as_str(), result),
        ("watched", Err("the shard panicked: turn 1".into()))
    );
    assert!(shard.join().is_err());
}

#[test]
fn what_keeps_a_shard_from_starting_is_told_before_anything_runs() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr();
    let holder = std::net::TcpListener::bind(taken.unwrap()).unwrap();
    let addr = holder.local_addr().unwrap();
    let error = run_shard(None, "taken", RingConfig::default(), move |ring| {
        ring.listen(addr, &listen_options())?;
        Ok(NeverMade)
    });
    match error.map(|_| ()).unwrap_err() {
        StartError {
            shard,
            cause: StartFailure::Service(error),
        } => {
            assert_eq!(
                (shard.as_str(), error.kind()),
                ("taken", ErrorKind::AddrInUse)
            );
        }
        other => panic!("{other}"),
    }
    let ring = RingConfig {
        small_buffers: (3, 2_048),
        ..RingConfig::default()
    };
    let error = run_shard(None, "odd", ring, |_| Ok(NeverMade))
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(error.cause, StartFailure::Ring(_)), "{error}");
    let error = run_shard(
        None,
        "early",
        RingConfig::default(),
        |_| -> io::Result<NeverMade> { panic!("not ready") },
    );
    let error = error.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("not ready"), "{error}");
}

struct NeverMade;
impl Service<Ring> for NeverMade {
    fn handle(&mut self, _: &mut Ring, _: Event) {}
    fn end_turn(&mut self, _: &mut Ring) {}
    fn next_deadline(&self) -> Option<Instant> {
        None
    }
    fn is_finished(&self) -> bool {
        true
    }
}

#[test]
fn without_its_core_a_shard_runs_unbound() {
    let shard = run_shard(Some(100_000), "far", RingConfig::default(), |_| {
        Ok(NeverMade)
    })
    .unwrap();
    assert!(!shard.is_pinned());
    shard.join().unwrap();
}

#[test]
fn usable_cores_are_read_as_the_kernel_writes_them() {
    assert_eq!(parse_cores("0-3,8,10-11"), [0, 1, 2, 3, 8, 10, 11]);
    assert_eq!(parse_cores("5"), [5]);
    assert!(parse_cores("").is_empty());
    let count = thread::available_parallelism().unwrap().get();
    assert!(usable_cores().len() >= count, "{:?}", usable_cores());
}
