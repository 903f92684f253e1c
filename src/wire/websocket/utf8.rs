//! UTF-8 that arrives in pieces, refused at the first byte that no continuation could make right (RFC 6455 §8.1).

/// What is known of a character cut off at the end of a piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Utf8 {
    bytes: [u8; 4],
    filled: u8,
}

impl Utf8 {
    /// Takes the next piece of the text; false when it is no UTF-8.
    pub(super) fn feed(&mut self, mut piece: &[u8]) -> bool {
        while self.filled > 0 {
            let Some((first, rest)) = piece.split_first() else {
                return true;
            };
            let Some(slot) = self.bytes.get_mut(usize::from(self.filled)) else {
                return false;
            };
            *slot = *first;
            self.filled += 1;
            piece = rest;
            let so_far = self.bytes.get(..usize::from(self.filled));
            match std::str::from_utf8(so_far.unwrap_or_default()) {
                Ok(_) => self.filled = 0,
                Err(error) if error.error_len().is_some() => return false,
                Err(_) => {}
            }
        }
        let Err(error) = std::str::from_utf8(piece) else {
            return true;
        };
        let cut = piece.get(error.valid_up_to()..).unwrap_or_default();
        match (error.error_len(), self.bytes.get_mut(..cut.len())) {
            (None, Some(slot)) => {
                slot.copy_from_slice(cut);
                self.filled = cut.len() as u8;
                true
            }
            _ => false,
        }
    }

    /// No character is cut off: the text may end here.
    pub(super) fn is_complete(self) -> bool {
        self.filled == 0
    }
}
