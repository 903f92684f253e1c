//! The store against a model, through disks that lose what was not synced, and files that are not its own.

use super::disk::Disk;
use super::*;
use redb::{Database, StorageBackend};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

fn record(n: u8, clients: &[&str]) -> Record {
    Record {
        created_ms: 1,
        expires_ms: u64::MAX,
        clients: Some(clients.iter().map(|client| (*client).to_owned()).collect()),
        payload: format!("{{\"n\":{n}}}"),
    }
}

fn put_as(n: u8, record: Record) -> Command {
    let key = n.is_multiple_of(2).then(|| StoredKey {
        key: format!("key-{n}").into(),
        hash: [n; 32],
        push: PushId([n; 16]),
        until_ms: 1 << 50,
    });
    Command::Put {
        id: PushId([n; 16]),
        record: Some(record),
        key,
    }
}

fn put(n: u8, clients: &[&str]) -> Command {
    put_as(n, record(n, clients))
}

fn loaded_as(n: u8, clients: &[&str], acknowledged: &[&str], cancelled: bool) -> Loaded {
    Loaded {
        id: PushId([n; 16]),
        record: record(n, clients),
        acknowledged: acknowledged.iter().map(|client| (*client).into()).collect(),
        cancelled,
    }
}

fn id(n: u8) -> PushId {
    PushId([n; 16])
}

/// A store and its news.
fn start(open: worker::Open) -> (Store, mpsc::Receiver<News>) {
    let (sender, news) = mpsc::channel();
    let store = Store::start_with(open, move |one| drop(sender.send(one))).unwrap();
    (store, news)
}

fn next(news: &mpsc::Receiver<News>) -> News {
    news.recv_timeout(Duration::from_secs(20)).expect("news")
}

fn loaded(news: &mpsc::Receiver<News>) -> (Vec<Loaded>, Vec<StoredKey>) {
    let (mut all, mut known) = (Vec::new(), Vec::new());
    loop {
        match next(news) {
            News::Loaded { pushes, keys } => {
                all.extend(pushes);
                known.extend(keys);
            }
            News::Opened => return (all, known),
            other => panic!("{other:?}"),
        }
    }
}

/// Waits until all of these were said to be stored.
fn stored(news: &mpsc::Receiver<News>, mut wanted: Vec<PushId>) {
    while !wanted.is_empty() {
        let News::Committed { puts, .. } = next(news) else {
            panic!("not stored");
        };
        wanted.retain(|id| !puts.contains(id));
    }
}

fn failed(news: &mpsc::Receiver<News>) -> (Vec<PushId>, String, bool) {
    match next(news) {
        News::Failed { puts, why, full } => (puts, why, full),
        other => panic!("{other:?}"),
    }
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
    fn open(&self) -> worker::Open {
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
    let (store, news) = start(folder.open());
    assert_eq!(loaded(&news), (vec![], vec![]));
    for command in [
        put(1, &["a", "b"]),
        put(2, &["a"]),
        put(3, &[]),
        put(4, &["x"]),
        Command::Acknowledge(id(1), "a".into()),
        Command::Cancel(id(3)),
        Command::Forget(id(2)),
        // Of one that is gone: nothing comes back by it.
        Command::Acknowledge(id(2), "a".into()),
        Command::ForgetKey("key-2".into()),
    ] {
        store.send(command).unwrap();
    }
    stored(&news, (1..=4).map(id).collect());
    // The thread ends when its owner is gone, and gives the file free.
    drop(store);
    while news.recv_timeout(Duration::from_secs(20)).is_ok() {}
    let (_store, news) = start(folder.open());
    let (pushes, keys) = loaded(&news);
    assert_eq!(
        pushes,
        [
            loaded_as(1, &["a", "b"], &["a"], false),
            loaded_as(3, &[], &[], true),
            loaded_as(4, &["x"], &[], false),
        ]
    );
    assert_eq!(keys.len(), 1);
    assert_eq!((&*keys[0].key, keys[0].push), ("key-4", id(4)));
}

#[test]
fn expired_ones_are_not_loaded_and_go() {
    let folder = Folder::new();
    let mut disk = (folder.open())().unwrap();
    let old = Record {
        expires_ms: 5,
        ..record(1, &["a"])
    };
    disk.commit(&[put_as(1, old), put(2, &["a"])]).unwrap();
    let ids = |disk: &Disk, now| {
        let (mut all, mut keys) = (Vec::new(), 0);
        disk.load(now, 1, &mut |news| {
            if let News::Loaded {
                pushes,
                keys: known,
            } = news
            {
                all.extend(pushes.into_iter().map(|push| push.id.0[0]));
                keys += known.len();
            }
        })
        .unwrap();
        (all, keys)
    };
    assert_eq!(ids(&disk, 4), (vec![1, 2], 1));
    assert_eq!(ids(&disk, 5), (vec![2], 1));
    assert_eq!(ids(&disk, 4), (vec![2], 1), "it is gone from the file");
    assert_eq!(ids(&disk, 1 << 51), (vec![2], 0), "the key's time is over");
}

#[test]
fn a_file_of_another_process_is_left_alone_until_it_is_free() {
    let folder = Folder::new();
    let other = (folder.open())().unwrap();
    let (store, news) = start(folder.open());
    let (_, why, full) = failed(&news);
    assert!(why.contains("in use by another process") && !full, "{why}");
    store.send(put(1, &["a"])).unwrap();
    let (puts, why, _) = failed(&news);
    assert_eq!(puts, [id(1)]);
    assert!(why.contains("in use"), "{why}");
    drop(other);
    assert_eq!(loaded(&news), (vec![], vec![]), "after a few seconds");
    // What failed before is taken away first: nobody was told that it is there.
    assert_eq!(
        next(&news),
        News::Committed {
            puts: vec![],
            commands: 1
        }
    );
    store.send(put(1, &["a"])).unwrap();
    stored(&news, vec![id(1)]);
}

#[test]
fn a_file_of_something_else_is_not_written_to() {
    let folder = Folder::new();
    let file = folder.0.join("notify.redb");
    let junk = b"this is somebody's diary ".repeat(1000);
    std::fs::write(&file, &junk).unwrap();
    let (_store, news) = start(folder.open());
    let (_, why, _) = failed(&news);
    assert!(why.contains("notify.redb"), "{why}");
    assert!(std::fs::read(&file).unwrap() == junk, "left as it was");
    // A folder that is not there is told as such.
    let nowhere = folder.0.join("no/such/folder.redb");
    let trouble = Disk::open(&nowhere).err().unwrap();
    assert!(trouble.why.contains("No such file"), "{}", trouble.why);
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
    fn open(&self) -> Result<Disk, disk::Trouble> {
        let backend = self.clone();
        let database = Database::builder()
            .create_with_backend(backend)
            .expect("what was synced opens again");
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
    let (store, news) = start(Box::new(move || opened.open()));
    assert_eq!(loaded(&news), (vec![], vec![]));
    let size = lossy.0.lock().unwrap().now.len();
    lossy.0.lock().unwrap().room = Some(size);
    let long = "x".repeat(100_000);
    let mut count = 0;
    let why = loop {
        let large = Record {
            payload: long.clone(),
            ..record(9, &["a"])
        };
        store.send(put_as(count, large)).unwrap();
        match next(&news) {
            News::Committed { .. } => count += 1,
            News::Failed { puts, why, full } => {
                assert!(full && puts == [id(count)]);
                break why;
            }
            other => panic!("{other:?}"),
        }
        assert!(count < 200, "the disk is never full");
    };
    assert!(why.contains("full"), "{why}");
    lossy.0.lock().unwrap().room = None;
    assert_eq!(
        next(&news),
        News::Opened,
        "what was loaded is not loaded again"
    );
    store.send(put(201, &["a"])).unwrap();
    stored(&news, vec![id(201)]);
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
            disk.load(0, 10, &mut |news| {
                if let News::Loaded { pushes, .. } = news {
                    for push in pushes {
                        found.insert(push.id.0[0], !push.acknowledged.is_empty());
                    }
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
                let batch = match sure.contains_key(&n) {
                    false => vec![put(n, &["a"])],
                    true if random.bool() => vec![Command::Forget(id(n))],
                    true => vec![Command::Acknowledge(id(n), "a".into())],
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
                    Command::Put { .. } => drop(sure.insert(n, false)),
                    Command::Acknowledge(..) => drop(sure.insert(n, true)),
                    _ => {}
                }
            }
            drop(disk);
            lossy.crash(&mut random);
        }
    }
}
