//! A medium pumped into the one segment of an open stream, and hashed on the way.

use ace_dt_ring::Segment;

use crate::{
    media::block_reader::BlockReader,
    oci::{Digest, Hasher},
    stream::pipeline::Halt,
};

/// What the stream is read from.
pub struct InputPump {
    reader: BlockReader,
    hasher: Option<Hasher>,
}

impl InputPump {
    /// Reads all that `reader` gives; with `sha256` its digest is computed.
    pub fn new(reader: BlockReader, sha256: bool) -> InputPump {
        InputPump { reader, hasher: sha256.then(|| Digest::of(b"").hasher()) }
    }

    /// Reads all there is into the one segment.
    ///
    /// # Errors
    /// If the medium cannot be read, or somebody else has stopped the ring.
    pub fn run(&mut self, segment: Segment) -> Result<(), Halt> {
        if !self.reader.is_tape() {
            return self.pump_bytes(segment);
        }
        let outcome = self.pump_blocks(segment);
        self.reader.restore();
        outcome
    }

    /// The digest of all that went through, if it was to be computed.
    pub fn digest(self) -> Option<Digest> {
        self.hasher.map(Hasher::finish)
    }

    fn pump_bytes(&mut self, mut segment: Segment) -> Result<(), Halt> {
        loop {
            let window = segment.window()?;
            match self.reader.read_some(window)? {
                Some(0) => {
                    segment.end_stream();
                    return Ok(());
                }
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
    fn pump_blocks(&mut self, mut segment: Segment) -> Result<(), Halt> {
        let mut piece = Vec::new();
        while let Some((bytes, _)) = self.reader.read(piece)? {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&bytes);
            }
            segment.put(&bytes)?;
            segment.publish();
            piece = bytes;
        }
        segment.end_stream();
        Ok(())
    }
}
