//! Whether a volume may be written to the tape that is in the drive, and whether it is the one that it was.

use super::{
    drive::TapeDrive,
    label::Label,
    locate::{self, Place},
    look::{self, Found},
    mtio::Op,
};
use crate::{
    error::{Context, Error, Result},
    log,
    media::sink::{KnownBlock, Volume},
    util::units::grouped,
};

/// The volume that is to be in a drive.
#[derive(Clone, Debug)]
pub struct WantedVolume<'a> {
    /// The drive's name.
    pub drive: &'a str,
    /// Which volume.
    pub number: usize,
    /// What its label says.
    pub label: Option<&'a str>,
    /// A label of another series is written over.
    pub force: bool,
    /// Bytes of a block.
    pub block: usize,
}

impl WantedVolume<'_> {
    /// Looks what the tape has at the place where the volume is to begin; `written` are the volumes before it.
    /// The tape is brought back to that place, which is returned.
    ///
    /// # Errors
    /// If it is one of those volumes, or has the label of another and that is not to be written over.
    pub fn may_begin(&self, drive: &mut dyn TapeDrive, written: &[Volume]) -> Result<Place> {
        let name = self.drive;
        let doing = || format!("looking what the tape in {name} has");
        let (found, place) = look::look(drive, self.block).doing(doing)?;
        if let Some(label) = found.label() {
            self.check_label(&label)?;
        }
        for volume in written {
            if self.is_tape_of(drive, volume).doing(doing)? {
                let why = format!("the tape in {name} is volume {} of this archive", volume.number);
                return Err(self.wanted(why));
            }
        }
        if !written.is_empty() && place.is_known() {
            place.go(drive).doing(doing)?;
        }
        match found {
            Found::Blank | Found::EndOfData => {}
            Found::Unknown => log::warn(format_args!(
                "{name}: nobody tells where the tape stands, and what stands there was not looked at"
            )),
            Found::Filemark | Found::Block(_) | Found::Unreadable => {
                let files = look::files_behind(drive, &place).doing(doing)?;
                log::warn(format_args!("{name}: {} written over", in_words(files)));
            }
        }
        Ok(place)
    }

    /// Whether the tape has what a volume is known by, where the volume has it. Archives begin alike, so all of it
    /// must be there. The tape is not brought back.
    fn is_tape_of(&self, drive: &mut dyn TapeDrive, volume: &Volume) -> Result<bool> {
        let first = Place::of_volume(volume);
        let mut is_same = volume.known.len() > 1 && first.is_known();
        for known in &volume.known {
            is_same = is_same
                && first.ahead(known.number).go(drive).is_ok()
                && known.is_in(&look::look(drive, self.block)?.0);
        }
        Ok(is_same)
    }

    fn check_label(&self, label: &Label) -> Result<()> {
        let is_ours = self.label == Some(label.text.as_str());
        let what = format!("the tape in {} is volume {} of {:?}", self.drive, label.volume, label.text);
        match is_ours {
            true if label.volume < self.number => Err(self.wanted(what)),
            false if !self.force => Err(Error::new(what).hint("--force writes over it")),
            _ => Ok(()),
        }
    }

    /// Makes sure that the tape is the one that `volume` was written to: by its label, if it is to have one, and
    /// by the blocks that it is known by.
    ///
    /// # Errors
    /// If it is another tape, or cannot be read. Nothing was written.
    pub fn must_be(&self, drive: &mut dyn TapeDrive, volume: &Volume) -> Result<()> {
        let another = |why: String| {
            let what = format!("the tape in {} is not volume {} of this archive", self.drive, self.number);
            Error::new(format!("{what}: {why}"))
        };
        if let Err(e) = locate::go_to(drive, volume, volume.offset) {
            return Err(another(self.nothing_there(drive).unwrap_or_else(|| e.to_string())));
        }
        if let Some(text) = self.label {
            let label = label_of(drive, volume, self.block).map_err(|e| another(e.to_string()))?;
            match label {
                Some(label) if label.text == text && label.volume == self.number => {}
                Some(label) => return Err(another(format!("it is volume {} of {:?}", label.volume, label.text))),
                None => return Err(another(self.nothing_there(drive).unwrap_or_else(|| "it has no label".into()))),
            }
        }
        if volume.known.is_empty() && self.number > 1 && self.label.is_none() && !self.force {
            return Err(
                another("the checkpoint does not say what it is known by".into()).hint("--force goes on all the same")
            );
        }
        let first = KnownBlock { number: 0, crc: 0 };
        let known = if volume.known.is_empty() { &[first][..] } else { &volume.known };
        for block in known {
            let number = grouped(block.number);
            let to = volume.offset + block.number * u64::from(volume.block_size);
            let reached = locate::go_to(drive, volume, to).map_err(|e| another(e.to_string()))?;
            let found = match reached < to {
                true => Found::EndOfData,
                false => look::look(drive, self.block).map_err(|e| another(e.to_string()))?.0,
            };
            match found {
                Found::Block(_) if volume.known.is_empty() || block.is_in(&found) => {}
                Found::Block(_) => return Err(another(format!("block {number} of the archive is another"))),
                Found::Blank => return Err(another("it is blank".into())),
                // What it is shows in its beginning, and what is lost is made again.
                Found::EndOfData if block.number > 0 && (self.number == 1 || self.force) => {}
                Found::EndOfData => return Err(another(format!("it ends before block {number} of the archive"))),
                Found::Filemark => return Err(another(format!("a filemark is where block {number} would be"))),
                Found::Unreadable => return Err(another(format!("block {number} cannot be read"))),
                Found::Unknown => return Err(another("nobody tells where it stands".into())),
            }
        }
        Ok(())
    }

    /// A tape on which nothing is where it was may be blank.
    fn nothing_there(&self, drive: &mut dyn TapeDrive) -> Option<String> {
        Place { file: Some(0), block: Some(0), position: None }.go(drive).ok()?;
        let (found, _) = look::look(drive, self.block).ok()?;
        (found == Found::Blank).then(|| "it is blank".into())
    }

    /// The tape stands behind the last block of an interrupted archive that stays. Makes sure that nothing of
    /// others stands behind what else it has.
    ///
    /// # Errors
    /// If something does, and it is not to be written over.
    pub fn nothing_behind(&self, drive: &mut dyn TapeDrive) -> Result<()> {
        let doing = || format!("looking what stands behind the archive on the tape in {}", self.drive);
        if self.force {
            return Ok(());
        }
        // The filemark that ended the interrupted run.
        if drive.operate(Op::ForwardFiles, 1).is_err() {
            return match look::is_nothing_here(drive, self.block).doing(doing)? {
                true => Ok(()),
                false => {
                    let why = "the tape cannot be moved to the end of the archive, and what stands there is not known";
                    Err(Error::new(why)).doing(doing).map_err(|e| e.hint("--force writes over it"))
                }
            };
        }
        let (mut found, mut place) = look::look(drive, self.block).doing(doing)?;
        // Some drivers and programs end a tape with two (st(4), MT_ST_TWO_FM).
        if found == Found::Filemark && drive.operate(Op::ForwardFiles, 1).is_ok() {
            (found, place) = look::look(drive, self.block).doing(doing)?;
        }
        if found.is_empty() {
            return Ok(());
        }
        let files = match found {
            Found::Unknown => 0,
            _ => look::files_behind(drive, &place).doing(doing)?,
        };
        let why = format!("behind this archive the tape in {} has more: {} lost", self.drive, in_words(files));
        Err(Error::new(why).hint("--force writes over it"))
    }

    fn wanted(&self, what: String) -> Error {
        Error::new(format!("{what}; volume {} is wanted", self.number))
    }
}

/// The label in front of what a volume has of the stream.
fn label_of(drive: &mut dyn TapeDrive, volume: &Volume, block: usize) -> Result<Option<Label>> {
    locate::go_exactly(drive, volume, volume.offset)?;
    if drive.operate(Op::BackwardBlocks, 1).is_err() {
        return Ok(None);
    }
    Ok(look::look(drive, block)?.0.label())
}

/// What stands behind a place with so many filemarks behind it.
fn in_words(files: u32) -> String {
    match files {
        0 => "what the tape has here, without a filemark behind it, is".into(),
        1 => "a file of the tape is".into(),
        n => format!("{} files of the tape are", grouped(n.into())),
    }
}

impl KnownBlock {
    /// Whether it is what was found.
    fn is_in(&self, found: &Found) -> bool {
        matches!(found, Found::Block(bytes) if KnownBlock::of(self.number, bytes) == *self)
    }
}
