//! The streams of a session by slot, and the lives of their ids.
//!
//! An id names a slot and a generation. The gateway gives each new stream of a slot the next generation (1 to 4,095, then
//! 1 again), so an id comes back after 4,094 others at the earliest. Links keep order, hence a frame that is late for its
//! stream can only name the slot's last generation on the wire.

use super::credit::{STREAM_CREDIT, SendCredit, StreamWindow};
use super::queue::Queue;
use super::stream::{Half, State};
use super::{Role, StreamId};

const LAST_GENERATION: u16 = (1 << (32 - StreamId::SLOT_BITS)) - 1;

pub struct Stream<T> {
    pub token: Option<T>,
    pub state: State,
    pub credit: SendCredit,
    pub window: StreamWindow,
    pub queue: Queue,
    /// The peer has seen OPEN, or may have.
    pub on_wire: bool,
    /// END has been asked for: nothing may follow.
    pub end_asked: bool,
    /// A RESET that waits for room.
    pub reset_owed: Option<Box<[u8]>>,
    used: bool,
    generation: u16,
    /// The last freed generation that was on the wire; 0: none.
    last_on_wire: u16,
}

impl<T> Stream<T> {
    /// Neither side has reset it: the owner's verbs work.
    pub fn is_live(&self) -> bool {
        self.state.ours != Half::Reset && self.state.theirs != Half::Reset
    }

    /// Nothing more will come or go, and nothing is owed to the peer.
    pub fn is_done(&self) -> bool {
        self.state.is_free() && self.reset_owed.is_none()
    }
}

/// What an id from the peer names.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    Slot(usize),
    /// The slot's last stream, which is gone: RESET and CREDIT may have crossed its end.
    Late,
    Never,
}

pub struct Slots<T> {
    role: Role,
    streams: Vec<Stream<T>>,
    free: Vec<u32>,
    open: u32,
}

impl<T> Slots<T> {
    pub fn new(role: Role) -> Slots<T> {
        Slots {
            role,
            streams: Vec::new(),
            free: Vec::new(),
            open: 0,
        }
    }

    /// Streams not free.
    pub fn open(&self) -> u32 {
        self.open
    }

    /// Slots ever used.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    pub fn get(&mut self, slot: usize) -> &mut Stream<T> {
        &mut self.streams[slot]
    }

    pub fn peek(&self, slot: usize) -> &Stream<T> {
        &self.streams[slot]
    }

    pub fn id(&self, slot: usize) -> StreamId {
        StreamId::new(slot as u32, self.streams[slot].generation)
    }

    /// The slot of an id that the owner holds; `None` when it is gone.
    pub fn held(&self, id: StreamId) -> Option<usize> {
        let stream = self.streams.get(id.slot())?;
        (stream.used && stream.generation == id.generation()).then_some(id.slot())
    }

    /// What an id from the peer names.
    pub fn find(&self, id: StreamId) -> Found {
        match self.streams.get(id.slot()) {
            Some(s) if s.used && s.on_wire && s.generation == id.generation() => {
                Found::Slot(id.slot())
            }
            Some(s) if s.last_on_wire == id.generation() && s.last_on_wire != 0 => Found::Late,
            _ => Found::Never,
        }
    }

    /// Gateway: takes a slot for a new stream. `None`: `limit` streams are open.
    pub fn take(&mut self, token: T, limit: u32, window: StreamWindow) -> Option<usize> {
        if self.open >= limit {
            return None;
        }
        let slot = match self.free.pop() {
            Some(slot) => slot as usize,
            None => self.push(),
        };
        let stream = &mut self.streams[slot];
        let mut generation = next_generation(stream.generation);
        if generation == stream.last_on_wire {
            generation = next_generation(generation);
        }
        self.begin(slot, generation, Some(token), window);
        Some(slot)
    }

    /// Connector: the peer opens `id`.
    pub fn accept(
        &mut self,
        id: StreamId,
        limit: u32,
        window: StreamWindow,
    ) -> Result<usize, &'static str> {
        let slot = id.slot();
        if slot >= limit as usize {
            return Err("OPEN over the announced number of streams");
        }
        while self.streams.len() <= slot {
            self.push();
        }
        let stream = &mut self.streams[slot];
        if stream.used {
            return Err("OPEN on a stream that is not free");
        }
        if id.generation() == 0 || id.generation() == stream.last_on_wire {
            return Err("OPEN with a generation used before");
        }
        self.begin(slot, id.generation(), None, window);
        self.streams[slot].on_wire = true;
        Ok(slot)
    }

    /// The stream is done, or never reached the wire.
    pub fn release(&mut self, slot: usize) {
        let stream = &mut self.streams[slot];
        debug_assert!(stream.used && stream.queue.is_empty());
        stream.used = false;
        stream.token = None;
        stream.reset_owed = None;
        if stream.on_wire {
            stream.last_on_wire = stream.generation;
        }
        self.open -= 1;
        if self.role == Role::Gateway {
            self.free.push(slot as u32);
        }
    }

    /// Streams whose owner still expects something.
    pub fn tokens(&self) -> impl Iterator<Item = (StreamId, &T)> {
        self.streams
            .iter()
            .enumerate()
            .filter(|(_, s)| s.used)
            .filter_map(|(slot, s)| {
                Some((StreamId::new(slot as u32, s.generation), s.token.as_ref()?))
            })
    }

    fn push(&mut self) -> usize {
        self.streams.push(Stream {
            token: None,
            state: State::new(self.role),
            credit: SendCredit::new(0),
            window: StreamWindow::new(0, 0),
            queue: Queue::default(),
            on_wire: false,
            end_asked: false,
            reset_owed: None,
            used: false,
            generation: 0,
            last_on_wire: 0,
        });
        self.streams.len() - 1
    }

    fn begin(&mut self, slot: usize, generation: u16, token: Option<T>, window: StreamWindow) {
        let stream = &mut self.streams[slot];
        debug_assert!(!stream.used && stream.queue.is_empty());
        stream.token = token;
        stream.state = State::new(self.role);
        stream.credit = SendCredit::new(STREAM_CREDIT);
        stream.window = window;
        stream.on_wire = false;
        stream.end_asked = false;
        stream.used = true;
        stream.generation = generation;
        self.open += 1;
    }
}

fn next_generation(generation: u16) -> u16 {
    if generation >= LAST_GENERATION {
        1
    } else {
        generation + 1
    }
}
