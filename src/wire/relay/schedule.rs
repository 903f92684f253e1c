//! Whose turn it is: deficit round-robin over the streams that can send, small ones that just woke first.
//!
//! A stream that becomes able to send with little waiting joins `New` and gets one quantum before those in `Old` (a small
//! exchange does not wait behind bulk); one with more joins `Old`. When its quantum is used it goes to the end of `Old`.
//! When it runs empty in `New` it passes through `Old` once before it may be new again, so that a producer that refills in
//! small steps cannot starve the others. Between two streams that stay able to send, the bytes sent differ by at most a
//! quantum and a frame.
//!
//! The lists are linked through one node per slot: no allocation in steady state, and a freed slot leaves at once.

use super::frame::{HEADER, MAX_DATA};

/// Bytes that a stream may send in its turn: four full DATA frames, so that whoever takes them from the link has enough
/// of one stream at a time to send it on in one piece.
pub const QUANTUM: i32 = 4 * (HEADER + MAX_DATA) as i32;
/// With at most so many bytes waiting, a stream that wakes up goes before those that had their turn.
pub const SMALL: usize = 4096;

const NONE: u32 = u32::MAX;
const UNLISTED: u8 = u8::MAX;

#[derive(Clone, Copy, Debug)]
struct Node {
    previous: u32,
    next: u32,
    list: u8,
}

/// `N` lists of slots; a slot is in one of them at most.
#[derive(Debug)]
pub struct Lists<const N: usize> {
    nodes: Vec<Node>,
    ends: [(u32, u32); N],
}

impl<const N: usize> Lists<N> {
    pub fn new() -> Lists<N> {
        Lists {
            nodes: Vec::new(),
            ends: [(NONE, NONE); N],
        }
    }

    /// Makes room for slots below `slots`.
    pub fn reserve(&mut self, slots: usize) {
        if self.nodes.len() < slots {
            self.nodes.resize(
                slots,
                Node {
                    previous: NONE,
                    next: NONE,
                    list: UNLISTED,
                },
            );
        }
    }

    pub fn is_empty(&self, list: usize) -> bool {
        self.ends[list].0 == NONE
    }

    pub fn front(&self, list: usize) -> Option<usize> {
        let (first, _) = self.ends[list];
        (first != NONE).then_some(first as usize)
    }

    /// The list that holds `slot`.
    pub fn list_of(&self, slot: usize) -> Option<usize> {
        let list = self.nodes[slot].list;
        (list != UNLISTED).then_some(list as usize)
    }

    /// Takes `slot` out of the list it is in, if any, and puts it at the end of `list`.
    pub fn move_to_back(&mut self, list: usize, slot: usize) {
        self.remove(slot);
        let (first, last) = self.ends[list];
        self.nodes[slot] = Node {
            previous: last,
            next: NONE,
            list: list as u8,
        };
        if last == NONE {
            self.ends[list] = (slot as u32, slot as u32);
        } else {
            self.nodes[last as usize].next = slot as u32;
            self.ends[list] = (first, slot as u32);
        }
    }

    pub fn remove(&mut self, slot: usize) {
        let Node {
            previous,
            next,
            list,
        } = self.nodes[slot];
        if list == UNLISTED {
            return;
        }
        let ends = &mut self.ends[list as usize];
        if previous == NONE {
            ends.0 = next;
        } else {
            self.nodes[previous as usize].next = next;
        }
        let ends = &mut self.ends[list as usize];
        if next == NONE {
            ends.1 = previous;
        } else {
            self.nodes[next as usize].previous = previous;
        }
        self.nodes[slot] = Node {
            previous: NONE,
            next: NONE,
            list: UNLISTED,
        };
    }

    pub fn pop_front(&mut self, list: usize) -> Option<usize> {
        let slot = self.front(list)?;
        self.remove(slot);
        Some(slot)
    }
}

/// Woke up with little to send, and has not had a turn.
const NEW: usize = 0;
/// Has had a turn, or woke up with much to send.
const OLD: usize = 1;
/// Could send but for session credit.
const STARVED: usize = 2;

/// The round-robin of one session's streams, by slot.
#[derive(Debug)]
pub struct Schedule {
    lists: Lists<3>,
    deficits: Vec<i32>,
}

impl Schedule {
    pub fn new() -> Schedule {
        Schedule {
            lists: Lists::new(),
            deficits: Vec::new(),
        }
    }

    /// Makes room for slots below `slots`.
    pub fn reserve(&mut self, slots: usize) {
        self.lists.reserve(slots);
        if self.deficits.len() < slots {
            self.deficits.resize(slots, 0);
        }
    }

    /// Some stream waits for its turn.
    pub fn waits(&self) -> bool {
        !(self.lists.is_empty(NEW) && self.lists.is_empty(OLD))
    }

    /// The stream has something to send now, and `waiting` bytes altogether.
    pub fn activate(&mut self, slot: usize, waiting: usize) {
        if self.lists.list_of(slot).is_none() {
            self.deficits[slot] = QUANTUM;
            let list = if waiting <= SMALL { NEW } else { OLD };
            self.lists.move_to_back(list, slot);
        }
    }

    /// The slot whose turn it is; it stays in place until one of the verbs below moves it.
    pub fn turn(&mut self) -> Option<usize> {
        loop {
            let slot = self.lists.front(NEW).or_else(|| self.lists.front(OLD))?;
            if self.deficits[slot] > 0 {
                return Some(slot);
            }
            // At most five rounds: no frame is longer than four quanta and a bit.
            self.deficits[slot] += QUANTUM;
            self.lists.move_to_back(OLD, slot);
        }
    }

    /// It sent `n` bytes in its turn.
    pub fn charge(&mut self, slot: usize, n: usize) {
        self.deficits[slot] -= i32::try_from(n).unwrap_or(QUANTUM);
    }

    /// It has nothing more to send.
    pub fn ran_empty(&mut self, slot: usize) {
        if self.lists.list_of(slot) == Some(NEW) && !self.lists.is_empty(OLD) {
            self.lists.move_to_back(OLD, slot);
        } else {
            self.lists.remove(slot);
        }
    }

    /// It waits for credit of its own, or is gone.
    pub fn remove(&mut self, slot: usize) {
        self.lists.remove(slot);
    }

    /// It waits for session credit.
    pub fn starve(&mut self, slot: usize) {
        self.lists.move_to_back(STARVED, slot);
    }

    /// Session credit came.
    pub fn feed(&mut self) {
        while let Some(slot) = self.lists.pop_front(STARVED) {
            self.lists.move_to_back(OLD, slot);
        }
    }
}
