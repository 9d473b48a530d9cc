//! Where a tape stands, and how it is brought to a block.
//!
//! A drive that answers READ POSITION is sent to the block's address (`MTSEEK`). Any other is rewound, and
//! moved forward by files and blocks, which the driver counts.

use nix::errno::Errno;

use super::{drive::TapeDrive, mtio::Op};
use crate::{
    error::{Context, Error, Result},
    log,
    media::sink::Volume,
    util::units::grouped,
};

/// The most that one operation passes over: the driver has 24 bits, one of them for the direction.
const STEP: u32 = 0x7f_ffff;

/// A place on a tape, as far as the driver and the drive tell it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// File of the tape, as the driver counts them.
    pub file: Option<u32>,
    /// Block in that file.
    pub block: Option<u32>,
    /// The drive's own address of the block, if it answers READ POSITION.
    pub position: Option<u64>,
}

impl Place {
    /// Where the tape stands.
    ///
    /// # Errors
    /// If the driver does not answer.
    pub fn of(drive: &dyn TapeDrive) -> Result<Place> {
        let status = drive.status().doing(|| "asking for its status")?;
        Ok(Place { file: status.file, block: status.block, position: drive.position() })
    }

    /// Where a stream begins on a volume.
    pub fn of_volume(volume: &Volume) -> Place {
        Place { file: volume.file, block: volume.block, position: volume.position.map(u64::from) }
    }

    /// So many blocks further on in the same file.
    pub fn ahead(self, blocks: u64) -> Place {
        Place {
            file: self.file,
            block: self.block.and_then(|block| u32::try_from(u64::from(block) + blocks).ok()),
            position: self.position.map(|position| position + blocks),
        }
    }

    /// Whether this is the beginning of the tape.
    pub fn is_beginning(&self) -> bool {
        // The driver's count of blocks begins anew when the drive was made to write out its buffer (st.c).
        self.position.map_or((self.file, self.block) == (Some(0), Some(0)), |at| at == 0)
    }

    /// Whether a tape can be brought there.
    pub fn is_known(&self) -> bool {
        self.position.is_some() || (self.file.is_some() && self.block.is_some())
    }

    /// Whether the tape stands there, as far as anybody tells.
    pub fn is_here(&self, drive: &dyn TapeDrive) -> bool {
        let Ok(now) = Place::of(drive) else { return false };
        match (self.position, now.position) {
            (Some(to), Some(at)) => to == at,
            _ => now.file.is_some() && now.block.is_some() && (now.file, now.block) == (self.file, self.block),
        }
    }

    /// Brings the tape there.
    ///
    /// # Errors
    /// If it cannot be moved, or stands elsewhere then.
    pub fn go(&self, drive: &mut dyn TapeDrive) -> Result<()> {
        if self.is_beginning() {
            return drive.operate(Op::Rewind, 1).doing(|| "rewinding");
        }
        if self.seek(drive, 0).is_some() {
            return Ok(());
        }
        match self.space(drive, 0)? {
            0 if self.is_here(drive) => Ok(()),
            _ => Err(Error::new("it stands elsewhere than it was sent to")),
        }
    }

    /// Moves the tape so many blocks behind this place by the drive's own addresses. Returns how many it is
    /// behind, or `None` where the drive does not tell addresses, or goes elsewhere.
    fn seek(&self, drive: &mut dyn TapeDrive, blocks: u64) -> Option<u64> {
        let first = self.position?;
        drive.position()?;
        let to = u32::try_from(first + blocks).ok()?;
        let sought = drive.operate(Op::Seek, to);
        let stands = drive.position()?;
        log::debug(format_args!("sought block {to} of the tape, and it stands at {stands}"));
        match sought {
            Ok(()) if stands == u64::from(to) => Some(blocks),
            // Behind the last block that was written.
            Err(_) if (first..to.into()).contains(&stands) => Some(stands - first),
            _ => None,
        }
    }

    /// Moves the tape from its beginning so many blocks behind this place, or as many as there are. Returns how
    /// many.
    fn space(&self, drive: &mut dyn TapeDrive, blocks: u64) -> Result<u64> {
        let (Some(file), Some(block)) = (self.file, self.block) else {
            return Err(Error::new("nobody tells where that is on the tape"));
        };
        drive.operate(Op::Rewind, 1).doing(|| "rewinding")?;
        if file > 0 {
            drive.operate(Op::ForwardFiles, file).doing(|| format!("going to file {file}"))?;
        }
        let reached = forward(drive, u64::from(block) + blocks)?;
        let behind = reached.checked_sub(block.into());
        behind.map(|n| n.min(blocks)).ok_or_else(|| Error::new(format!("file {file} has only {reached} blocks")))
    }
}

/// Moves the tape in front of the block that begins at `offset` of the stream, or as far as the
/// stream is on it. Returns the offset that it stands at.
///
/// # Errors
/// If the tape cannot be moved, or nobody knows where it stands.
pub fn go_to(drive: &mut dyn TapeDrive, volume: &Volume, offset: u64) -> Result<u64> {
    let first = Place::of_volume(volume);
    let blocks = (offset - volume.offset) / u64::from(volume.block_size);
    let reached = match first.seek(drive, blocks) {
        Some(reached) => reached,
        None => first.space(drive, blocks)?,
    };
    Ok(volume.offset + reached * u64::from(volume.block_size))
}

/// As [`go_to`], and nowhere else.
///
/// # Errors
/// If the stream does not reach as far on the tape.
pub fn go_exactly(drive: &mut dyn TapeDrive, volume: &Volume, offset: u64) -> Result<()> {
    match go_to(drive, volume, offset)? {
        reached if reached == offset => Ok(()),
        reached => {
            let why = format!("it stands at offset {} of the archive, not {}", grouped(reached), grouped(offset));
            Err(Error::new(why))
        }
    }
}

/// Moves the tape to block number `to` of the file at whose beginning it stands, or as far as there
/// are blocks. Returns which block that is.
fn forward(drive: &mut dyn TapeDrive, to: u64) -> Result<u64> {
    let mut left = to;
    while left > 0 {
        let step = u32::try_from(left).unwrap_or(STEP).min(STEP);
        if let Err(e) = drive.operate(Op::ForwardBlocks, step) {
            // A filemark, or the end of what was written.
            let stands = drive.status().ok().and_then(|status| status.block);
            return match (e, stands) {
                (Errno::EIO | Errno::ENOSPC, Some(block)) => Ok(block.into()),
                _ => Err(Error::from_errno(e)),
            };
        }
        left -= u64::from(step);
    }
    let stands = drive.status().ok().and_then(|status| status.block).map(u64::from);
    match stands {
        Some(block) if block == to => Ok(to),
        Some(block) => Err(Error::new(format!("it stands at block {}, not at {}", grouped(block), grouped(to)))),
        None => Err(Error::new("the driver does not know where it stands")),
    }
}
