//! A slab in pages, for tables of millions: entries never move, growth copies nothing, and a page with no entry goes back to the allocator.

/// Entries of a page. Small enough that a few thousand clients cost little, large enough that its bitmap is nothing.
const PAGE: usize = 512;
const WORDS: usize = PAGE / 64;

struct Page<T> {
    entries: Box<[T]>,
    /// A set bit is a place in use.
    used: [u64; WORDS],
    live: u32,
}

/// Entries by a u32 that stays the same for an entry's life. The lowest free place is taken first, so that pages at the
/// end run empty.
pub struct Paged<T> {
    pages: Vec<Option<Page<T>>>,
    /// No page before this one has a free place.
    first_free: usize,
    len: usize,
}

impl<T> Default for Paged<T> {
    fn default() -> Paged<T> {
        Paged {
            pages: Vec::new(),
            first_free: 0,
            len: 0,
        }
    }
}

impl<T: Default> Paged<T> {
    pub fn new() -> Paged<T> {
        Paged::default()
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let pages = self.pages.iter().flatten().count();
        pages * PAGE * size_of::<T>() + self.pages.capacity() * size_of::<Option<Page<T>>>()
    }

    /// Places that there may be: those in use lie below.
    pub fn end(&self) -> usize {
        self.pages.len() * PAGE
    }

    pub fn insert(&mut self, entry: T) -> u32 {
        while self
            .pages
            .get(self.first_free)
            .is_some_and(|page| page.as_ref().is_some_and(|page| page.live as usize == PAGE))
        {
            self.first_free += 1;
        }
        if self.first_free == self.pages.len() {
            self.pages.push(None);
        }
        let number = self.first_free;
        let page = self.pages[number].get_or_insert_with(|| Page {
            entries: std::iter::repeat_with(T::default).take(PAGE).collect(),
            used: [0; WORDS],
            live: 0,
        });
        let word = page.used.iter().position(|w| *w != u64::MAX).unwrap_or(0);
        let bit = page.used[word].trailing_ones() as usize;
        page.used[word] |= 1 << bit;
        page.live += 1;
        self.len += 1;
        let at = word * 64 + bit;
        page.entries[at] = entry;
        (number * PAGE + at) as u32
    }

    /// Takes an entry out; its place may be another's next.
    pub fn remove(&mut self, index: u32) -> Option<T> {
        let (number, at) = split(index);
        let place = self.pages.get_mut(number)?;
        let page = place.as_mut()?;
        let bit = 1 << (at % 64);
        if page.used[at / 64] & bit == 0 {
            return None;
        }
        page.used[at / 64] &= !bit;
        page.live -= 1;
        self.len -= 1;
        self.first_free = self.first_free.min(number);
        let entry = std::mem::take(&mut page.entries[at]);
        if page.live == 0 {
            *place = None;
            while self.pages.last().is_some_and(Option::is_none) {
                self.pages.pop();
            }
            self.first_free = self.first_free.min(self.pages.len());
        }
        Some(entry)
    }

    pub fn get(&self, index: u32) -> Option<&T> {
        let (number, at) = split(index);
        let page = self.pages.get(number)?.as_ref()?;
        (page.used[at / 64] & 1 << (at % 64) != 0).then(|| &page.entries[at])
    }

    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let (number, at) = split(index);
        let page = self.pages.get_mut(number)?.as_mut()?;
        (page.used[at / 64] & 1 << (at % 64) != 0).then(|| &mut page.entries[at])
    }

    /// The first entry at `from` or behind it.
    pub fn next_from(&self, from: u32) -> Option<(u32, &T)> {
        let (first, offset) = split(from);
        for number in first..self.pages.len() {
            let Some(page) = &self.pages[number] else {
                continue;
            };
            let begin = if number == first { offset } else { 0 };
            for word in begin / 64..WORDS {
                let mask = if word == begin / 64 {
                    u64::MAX << (begin % 64)
                } else {
                    u64::MAX
                };
                let bits = page.used[word] & mask;
                if bits != 0 {
                    let at = word * 64 + bits.trailing_zeros() as usize;
                    return Some(((number * PAGE + at) as u32, &page.entries[at]));
                }
            }
        }
        None
    }
}

fn split(index: u32) -> (usize, usize) {
    (index as usize / PAGE, index as usize % PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn is_a_map_of_numbers(ops in prop::collection::vec((any::<bool>(), 0u32..1500), 0..3000)) {
            let (mut slab, mut model) = (Paged::new(), BTreeMap::new());
            for (insert, number) in ops {
                if insert {
                    let at = slab.insert(number);
                    prop_assert_eq!(model.insert(at, number), None);
                } else {
                    prop_assert_eq!(slab.remove(number), model.remove(&number));
                }
                prop_assert_eq!(slab.len(), model.len());
                prop_assert_eq!(slab.next_from(number).map(|(at, v)| (at, *v)),
                    model.range(number..).next().map(|(at, v)| (*at, *v)));
                prop_assert_eq!(slab.get(number), model.get(&number));
            }
        }
    }

    #[test]
    fn empty_pages_go() {
        let mut slab = Paged::new();
        let all: Vec<_> = (0..PAGE as u32 * 3).map(|n| slab.insert(n)).collect();
        assert_eq!(slab.pages.len(), 3);
        for at in all {
            assert_eq!(slab.remove(at), Some(at));
        }
        assert!(slab.pages.is_empty());
    }
}
