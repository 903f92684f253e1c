//! The store against a model, through disks that lose what was not synced, and files that are not its own.

use super::*;
use redb::{Database, StorageBackend};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};

fn push(n: u8, clients: &[&str]) -> StoredPush {
    StoredPush {
        push: PushId([n; 16]),
        payload: format!("{{\"n\":{n}}}").into(),
        created_ms: 1,
        expires_ms: u64::MAX,
        all: false,
        targets: clients
            .iter()
            .map(|client| StoredTarget {
                client: (*client).into(),
                attempted: false,
                acknowledged: false,
            })
            .collect(),
        key: n.is_multiple_of(2).then(|| ("key".into(), [n; 32])),
    }
}

fn put(n: u8, clients: &[&str]) -> Command {
    Command::Put(Box::new(push(n, clients)))
}

/// A store and its events.
fn start(open: Open) -> (Store, mpsc::Receiver<Event>) {
    let (sender, events) = mpsc::channel();
    let store = Store::start_with(open, move |event| drop(sender.send(event))).unwrap();
    (store, events)
}

fn next(events: &mpsc::Receiver<Event>) -> Event {
    events
        .recv_timeout(Duration::from_secs(20))
        .expect("an event")
}

fn loaded(events: &mpsc::Receiver<Event>) -> Vec<StoredPush> {
    let mut all = Vec::new();
    loop {
        match next(events) {
            Event::Loaded(part) => all.extend(part),
            Event::LoadedAll => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(next(events), Event::Up);
    all
}

struct Folder(PathBuf);
impl Folder {
    fn new() -> Folder {
        let name = format!(
            "tidegate-store-{}-{}",
            std::process::id(),
            fastrand::u64(..)
        );
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Folder(dir)
    }
    fn open(&self) -> Open {
        let file = self.0.join("notify.redb");
        Box::new(move || Disk::open(&file))
    }
}
impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn what_was_stored_comes_back_and_what_was_forgotten_does_not() {
    let folder = Folder::new();
    let (store, events) = start(folder.open());
    assert_eq!(loaded(&events), []);
    for command in [
        put(1, &["a", "b"]),
        put(2, &["a"]),
        put(3, &[]),
        Command::Acknowledged {
            push: PushId([1; 16]),
            client: "a".into(),
        },
        Command::Attempted {
            push: PushId([1; 16]),
            clients: vec!["b".into()],
        },
        Command::Forget(PushId([2; 16])),
        // Of one that is gone: nothing comes back by it.
        Command::Acknowledged {
            push: PushId([2; 16]),
            client: "a".into(),
        },
    ] {
        store.send(command).unwrap();
    }
    for n in 1..=3 {
        assert_eq!(next(&events), Event::Stored(PushId([n; 16])));
    }
    assert!(matches!(next(&events), Event::Attempted { .. }));
    // The thread ends when its owner is gone, and gives the file free.
    drop(store);
    assert!(events.recv_timeout(Duration::from_secs(20)).is_err());
    let (_store, events) = start(folder.open());
    let mut first = push(1, &["a", "b"]);
    first.targets[0].acknowledged = true;
    first.targets[1].attempted = true;
    assert_eq!(loaded(&events), [first, push(3, &[])]);
}

#[test]
fn expired_ones_are_not_loaded_and_go() {
    let folder = Folder::new();
    let mut disk = (folder.open())().unwrap();
    let mut old = push(1, &["a"]);
    old.expires_ms = 5;
    disk.commit(&[Command::Put(Box::new(old)), put(2, &["a"])])
        .unwrap();
    let ids = |disk: &Disk, now| {
        let mut all = Vec::new();
        disk.load(now, 1, &mut |part| {
            all.extend(part.into_iter().map(|p| p.push.0[0]))
        })
        .unwrap();
        all
    };
    assert_eq!(ids(&disk, 4), [1, 2]);
    assert_eq!(ids(&disk, 5), [2]);
    assert_eq!(ids(&disk, 4), [2], "it is gone from the file");
}

#[test]
fn a_file_of_another_process_is_left_alone_until_it_is_free() {
    let folder = Folder::new();
    let other = (folder.open())().unwrap();
    let (store, events) = start(folder.open());
    let Event::Down(why) = next(&events) else {
        panic!("it is in use");
    };
    assert!(why.contains("in use by another process"), "{why}");
    store.send(put(1, &["a"])).unwrap();
    let Event::Failed { push, why } = next(&events) else {
        panic!("nothing can be stored");
    };
    assert_eq!(push, PushId([1; 16]));
    assert!(why.contains("in use"), "{why}");
    drop(other);
    assert_eq!(loaded(&events), [], "after a few seconds");
    store.send(put(1, &["a"])).unwrap();
    assert_eq!(next(&events), Event::Stored(PushId([1; 16])));
}

#[test]
fn a_file_of_something_else_is_not_written_to() {
    let folder = Folder::new();
    let file = folder.0.join("notify.redb");
    let junk = b"this is somebody's diary ".repeat(1000);
    std::fs::write(&file, &junk).unwrap();
    let (_store, events) = start(folder.open());
    let Event::Down(why) = next(&events) else {
        panic!("it is no store");
    };
    assert!(why.contains("notify.redb"), "{why}");
    assert!(std::fs::read(&file).unwrap() == junk, "left as it was");
    // A folder that is not there is told as such.
    let nowhere = folder.0.join("no/such/folder.redb");
    let error = Disk::open(&nowhere).err().unwrap();
    assert!(error.contains("No such file"), "{error}");
}

/// A disk in memory that forgets what was not synced, and may be full.
#[derive(Debug, Clone, Default)]
struct Lossy(Arc<Mutex<LossyState>>);
#[derive(Debug, Default)]
struct LossyState {
    synced: Vec<u8>,
    now: Vec<u8>,
    room: Option<usize>,
    /// Writes until the power goes.
    writes_left: Option<u32>,
}

impl Lossy {
    fn open(&self) -> Result<Disk, String> {
        let backend = self.clone();
        let database = Database::builder()
            .create_with_backend(backend)
            .map_err(|error| error.to_string())?;
        Disk::with(database)
    }

    /// The power goes: parts of what was not synced may have been written.
    fn crash(&self, random: &mut fastrand::Rng) {
        let mut state = self.0.lock().unwrap();
        let mut left = state.synced.clone();
        left.resize(state.now.len().max(left.len()), 0);
        for at in (0..left.len()).step_by(4096) {
            let end = (at + 4096).min(left.len());
            if random.bool() && end <= state.now.len() {
                left[at..end].copy_from_slice(&state.now[at..end]);
            }
        }
        state.synced.clone_from(&left);
        state.now = left;
        state.writes_left = None;
    }
}

impl StorageBackend for Lossy {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.0.lock().unwrap().now.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let state = self.0.lock().unwrap();
        let from = offset as usize;
        out.copy_from_slice(&state.now[from..from + out.len()]);
        Ok(())
    }
    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let mut state = self.0.lock().unwrap();
        if state.room.is_some_and(|room| len as usize > room) {
            return Err(full());
        }
        state.now.resize(len as usize, 0);
        Ok(())
    }
    fn sync_data(&self) -> Result<(), io::Error> {
        let mut state = self.0.lock().unwrap();
        if state.writes_left == Some(0) {
            return Err(io::Error::other("no power"));
        }
        state.synced = state.now.clone();
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut state = self.0.lock().unwrap();
        match &mut state.writes_left {
            Some(0) => return Err(io::Error::other("no power")),
            Some(left) => *left -= 1,
            None => {}
        }
        let from = offset as usize;
        state.now[from..from + data.len()].copy_from_slice(data);
        Ok(())
    }
}

fn full() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

#[test]
fn a_full_disk_fails_pushes_and_takes_them_again_when_there_is_room() {
    let lossy = Lossy::default();
    let opened = lossy.clone();
    let (store, events) = start(Box::new(move || opened.open()));
    assert_eq!(loaded(&events), []);
    let size = lossy.0.lock().unwrap().now.len();
    lossy.0.lock().unwrap().room = Some(size);
    let mut stored = 0;
    let long = "x".repeat(100_000);
    let why = loop {
        let mut large = push(9, &["a"]);
        large.push = PushId([stored; 16]);
        large.payload = long.as_str().into();
        store.send(Command::Put(Box::new(large))).unwrap();
        match next(&events) {
            Event::Stored(_) => stored += 1,
            Event::Failed { why, .. } => break why,
            other => panic!("{other:?}"),
        }
        assert!(stored < 200, "the disk is never full");
    };
    assert!(why.contains("full"), "{why}");
    assert!(matches!(next(&events), Event::Down(_)));
    lossy.0.lock().unwrap().room = None;
    assert_eq!(
        next(&events),
        Event::Up,
        "what was loaded is not loaded again"
    );
    store.send(put(200, &["a"])).unwrap();
    assert_eq!(next(&events), Event::Stored(PushId([200; 16])));
}

/// Whatever was said to be stored is there after a crash at any write, and nothing that was never put.
#[test]
fn a_crash_loses_nothing_that_was_said_to_be_stored() {
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let lossy = Lossy::default();
        let mut sure: BTreeMap<u8, bool> = BTreeMap::new();
        for _ in 0..4 {
            let Ok(mut disk) = lossy.open() else {
                panic!("seed {seed}: the file does not open after a crash");
            };
            let mut found = BTreeMap::new();
            disk.load(0, 10, &mut |part| {
                for push in part {
                    found.insert(push.push.0[0], push.targets[0].acknowledged);
                }
            })
            .unwrap();
            for (n, acknowledged) in &sure {
                let there = found.get(n).copied();
                assert!(there.is_some(), "seed {seed}: push {n} is lost");
                assert!(
                    there >= Some(*acknowledged),
                    "seed {seed}: a receipt of {n} is lost"
                );
            }
            sure = found;
            lossy.0.lock().unwrap().writes_left = Some(random.u32(0..60));
            loop {
                let n = random.u8(..);
                let client = || "a".into();
                let batch = match sure.contains_key(&n) {
                    false => vec![put(n, &["a"])],
                    true if random.bool() => vec![Command::Forget(PushId([n; 16]))],
                    true => vec![Command::Acknowledged {
                        push: PushId([n; 16]),
                        client: client(),
                    }],
                };
                // Forgetting may have happened although it was not said.
                let forgets = matches!(batch[0], Command::Forget(_));
                if forgets {
                    sure.remove(&n);
                }
                if disk.commit(&batch).is_err() {
                    break;
                }
                match &batch[0] {
                    Command::Put(_) => drop(sure.insert(n, false)),
                    Command::Acknowledged { .. } => drop(sure.insert(n, true)),
                    _ => {}
                }
            }
            drop(disk);
            lossy.crash(&mut random);
        }
    }
}
