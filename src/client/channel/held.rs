//! An open channel: what is kept of it between two records.

use super::reader::{Desk, Ending, Reader};
use crate::wire::Put;
use crate::wire::record::Outgoing;
use crate::wire::tls::{Parked, ParkedStep};

/// One channel.
#[expect(
    clippy::box_collection,
    reason = "a pointer where a million hold nothing"
)]
pub struct Held {
    tls: Parked,
    reader: Reader,
    pub number: u32,
    /// Milliseconds from the run's epoch to the last sign of life.
    heard_ms: u32,
    /// The beginning of a record.
    partial: Option<Box<Vec<u8>>>,
    /// Plaintext that waits until the send in flight is done.
    staged: Option<Box<Vec<u8>>>,
}

impl Held {
    pub fn new(number: u32, tls: Parked, reader: Reader, desk: &Desk) -> Held {
        Held {
            tls,
            reader,
            number,
            heard_ms: desk.now_ms(),
            partial: None,
            staged: None,
        }
    }

    /// Takes bytes of the gateway. Call `send` afterwards.
    pub fn receive(&mut self, input: &mut [u8], desk: &mut Desk) -> Result<(), Ending> {
        desk.counts.late += u64::from(self.is_silent(desk));
        self.heard_ms = desk.now_ms();
        match self.partial.take() {
            None => {
                let used = self.records(input, desk)?;
                self.keep(input.get(used..).unwrap_or_default());
            }
            Some(mut bytes) => {
                bytes.extend_from_slice(input);
                let used = self.records(&mut bytes, desk)?;
                self.keep(bytes.get(used..).unwrap_or_default());
            }
        }
        Ok(())
    }

    fn keep(&mut self, partial: &[u8]) {
        if !partial.is_empty() {
            self.partial = Some(Box::new(partial.to_vec()));
        }
    }

    /// Reads whole records; gives where they end.
    fn records(&mut self, input: &mut [u8], desk: &mut Desk) -> Result<usize, Ending> {
        let mut used = 0;
        let mut out = Vec::new();
        loop {
            match self.tls.open(input, &mut used) {
                Ok(ParkedStep::Idle | ParkedStep::Partial(_)) => break,
                Ok(ParkedStep::Data(plain)) => self.reader.read(plain, desk, &mut out)?,
                Ok(ParkedStep::Closed) => return Err(Ending::new("close_notify without a word")),
                Err(error) => return Err(Ending::new(error.text)),
            }
        }
        if !out.is_empty() {
            self.staged.get_or_insert_default().append(&mut out);
        }
        Ok(used)
    }

    /// Bytes to send; the last ones must have gone out in full.
    pub fn send(&mut self, buffer: Vec<u8>) -> Result<Vec<u8>, String> {
        if self.staged.is_none() && !self.tls.wants_transmit() {
            return Ok(Vec::new());
        }
        let mut out = Outgoing::new(self.tls.layout(), buffer);
        if let Some(staged) = self.staged.take() {
            out.put(&staged);
        }
        self.tls.seal(out).map_err(|error| error.text)
    }

    /// Nothing was heard for longer than is allowed.
    pub fn is_silent(&self, desk: &Desk) -> bool {
        let silent = desk.now_ms().saturating_sub(self.heard_ms);
        u128::from(silent) > desk.job.silence.as_millis()
    }
}

impl Desk {
    /// 32 bits of them last for 49 days.
    fn now_ms(&self) -> u32 {
        let since = self.now.saturating_duration_since(self.job.epoch);
        since.as_millis() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_channel_is_small() {
        assert!(size_of::<Held>() <= 208, "{} bytes", size_of::<Held>());
    }
}
