//! Client ids, byte for byte, in slabs by length: no allocation and no spare capacity per id.

use super::limits::CLIENT_ID_BYTES;
use crate::shard::paged::Paged;

/// Ids are rounded up to a multiple of this.
const STEP: usize = 8;
const CLASSES: usize = CLIENT_ID_BYTES / STEP;

macro_rules! classes {
    ($($class:ident: $words:literal),*) => {
        /// Where ids lie: one slab for each rounded length.
        #[derive(Default)]
        pub struct Names { $($class: Paged<[u64; $words]>),* }

        impl Names {
            pub fn new() -> Names {
                Names::default()
            }

            /// Keeps an id of 1 to 128 bytes; `None` for others.
            pub fn insert(&mut self, id: &[u8]) -> Option<Name> {
                if id.is_empty() || id.len() > CLIENT_ID_BYTES {
                    return None;
                }
                let place = match id.len().div_ceil(STEP) {
                    $($words => self.$class.insert(pack(id)),)*
                    _ => return None,
                };
                Some(Name { place, len: id.len() as u8 })
            }

            /// Bytes of memory.
            pub fn bytes(&self) -> usize {
                [$(self.$class.bytes()),*].iter().sum()
            }

            pub fn remove(&mut self, name: Name) {
                match usize::from(name.len).div_ceil(STEP) {
                    $($words => { self.$class.remove(name.place); })*
                    _ => {}
                }
            }

            /// The id, copied out; `buffer` is only room for it.
            pub fn get<'a>(&self, name: Name, buffer: &'a mut [u8; CLIENT_ID_BYTES]) -> &'a [u8] {
                let len = usize::from(name.len);
                match len.div_ceil(STEP) {
                    $($words => if let Some(words) = self.$class.get(name.place) {
                        unpack(words, buffer);
                    })*
                    _ => {}
                }
                &buffer[..len.min(CLIENT_ID_BYTES)]
            }

            pub fn equals(&self, name: Name, id: &[u8]) -> bool {
                if usize::from(name.len) != id.len() {
                    return false;
                }
                match id.len().div_ceil(STEP) {
                    $($words => self.$class.get(name.place).is_some_and(|words| *words == pack(id)),)*
                    _ => false,
                }
            }
        }
    };
}

classes! {
    c1: 1, c2: 2, c3: 3, c4: 4, c5: 5, c6: 6, c7: 7, c8: 8,
    c9: 9, c10: 10, c11: 11, c12: 12, c13: 13, c14: 14, c15: 15, c16: 16
}

const _: () = assert!(CLASSES == 16);

/// Where an id lies. Meaningless after its removal.
#[derive(Clone, Copy, Debug, Default)]
pub struct Name {
    place: u32,
    len: u8,
}

fn pack<const N: usize>(id: &[u8]) -> [u64; N] {
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(id.chunks(STEP)) {
        let mut padded = [0; STEP];
        padded[..bytes.len()].copy_from_slice(bytes);
        *word = u64::from_ne_bytes(padded);
    }
    words
}

fn unpack(words: &[u64], buffer: &mut [u8]) {
    for (word, room) in words.iter().zip(buffer.chunks_mut(STEP)) {
        room.copy_from_slice(&word.to_ne_bytes()[..room.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_every_length_come_back() {
        let mut names = Names::new();
        let ids: Vec<Vec<u8>> = (1..=CLIENT_ID_BYTES)
            .map(|len| (0..len).map(|n| (n * 7 + len) as u8).collect())
            .collect();
        let kept: Vec<Name> = ids.iter().map(|id| names.insert(id).unwrap()).collect();
        let mut buffer = [0; CLIENT_ID_BYTES];
        for (id, name) in ids.iter().zip(&kept) {
            assert_eq!(names.get(*name, &mut buffer), &id[..]);
            assert!(names.equals(*name, id));
            assert!(!names.equals(*name, &id[1..]));
        }
        assert!(names.insert(&[]).is_none());
        assert!(names.insert(&[1; CLIENT_ID_BYTES + 1]).is_none());
    }
}
