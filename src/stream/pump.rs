//! A medium pumped into the one segment of an open stream, and hashed on the way.

use ace_dt_ring::Segment;

use crate::{
    error::{Error, Result},
    media::block_reader::BlockReader,
    oci::{Digest, Hasher},
    stream::pipeline::Halt,
};

/// What the stream is read from.
pub struct InputPump {
    reader: BlockReader,
    hasher: Option<Hasher>,
    /// Why the stream ended before the medium did.
    failed: Option<Error>,
}

impl InputPump {
    /// Reads all that `reader` gives; with `sha256` its digest is computed.
    pub fn new(reader: BlockReader, sha256: bool) -> InputPump {
        InputPump { reader, hasher: sha256.then(|| Digest::of(b"").hasher()), failed: None }
    }

    /// Reads all there is into the one segment. If the medium fails, the stream ends there, so that all
    /// that was read before is delivered; [`InputPump::finish`] tells.
    ///
    /// # Errors
    /// If a signal asks to stop, or somebody else has stopped the ring.
    pub fn run(&mut self, mut segment: Segment) -> Result<(), Halt> {
        let outcome = match self.reader.is_tape() {
            true => self.pump_blocks(&mut segment),
            false => self.pump_bytes(&mut segment),
        };
        self.reader.restore();
        match outcome {
            Err(Halt::Failed(e)) if !e.is_signal() => self.failed = Some(e),
            other => other?,
        }
        segment.end_stream();
        Ok(())
    }

    /// The digest of all that went through, if it was to be computed.
    ///
    /// # Errors
    /// If the medium failed.
    pub fn finish(self) -> Result<Option<Digest>> {
        self.failed.map_or(Ok(()), Err)?;
        Ok(self.hasher.map(Hasher::finish))
    }

    fn pump_bytes(&mut self, segment: &mut Segment) -> Result<(), Halt> {
        loop {
            let window = segment.window()?;
            match self.reader.read_some(window)? {
                Some(0) => return Ok(()),
                Some(n) => {
                    if let Some(hasher) = &mut self.hasher {
                        hasher.update(&window[..n]);
                    }
                    segment.advance(n);
                    segment.publish();
                }
                // Stopped, perhaps: `window` knows.
                None => {}
            }
        }
    }

    /// A tape's blocks are read whole, whatever room there is.
    fn pump_blocks(&mut self, segment: &mut Segment) -> Result<(), Halt> {
        let mut piece = Vec::new();
        while let Some((bytes, _)) = self.reader.read(piece)? {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&bytes);
            }
            segment.put(&bytes)?;
            segment.publish();
            piece = bytes;
        }
        Ok(())
    }
}
