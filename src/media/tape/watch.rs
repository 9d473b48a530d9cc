//! A drive asked before it is written to, and again behind that: whether there is room, whether it encrypts, and what became
//! of it and of its cartridge.

use super::{
    drive::TapeDrive,
    scsi::{
        alert::{Alert, Severity},
        answer::{Capacity, CartridgeFacts, Encryption},
        change::DriveChange,
        facts::{CAPACITY, DriveFacts, ENCRYPTION, MEMORY},
    },
};
use crate::{
    error::{Error, ErrorKind, Result},
    log,
    media::sink::Volume,
    util::units::grouped,
};

/// What a run asks of a drive before the first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriveDemands {
    /// All must find room on the cartridge.
    pub room: bool,
    /// The drive must encrypt.
    pub encryption: bool,
}

/// What a drive said before a volume was written.
pub struct DriveWatch {
    before: DriveFacts,
}

impl DriveWatch {
    /// Asks the drive.
    pub fn begin(drive: &dyn TapeDrive) -> DriveWatch {
        DriveWatch { before: drive.facts() }
    }

    /// What is known of the cartridge.
    pub fn cartridge(&self) -> &CartridgeFacts {
        &self.before.cartridge
    }

    /// The cartridge that is in it.
    pub fn barcode(&self) -> Option<&str> {
        self.before.cartridge.barcode.as_deref()
    }

    /// Asks the drive again.
    pub fn end(&self, drive: &dyn TapeDrive) -> DriveChange {
        DriveChange::between(&self.before, &drive.facts())
    }

    /// Tells of alerts from before the run.
    pub fn tell_alerts(&self, name: &str) {
        tell(name, self.before.alerts.iter().flatten());
    }

    /// Makes sure that the drive named `name` is as it must be, and that `bytes`, if it is known how many they are, find room.
    ///
    /// # Errors
    /// If it is not, or does not tell; of room only if that is demanded, else it is a warning.
    pub fn check(&self, name: &str, bytes: Option<u64>, demands: DriveDemands) -> Result<()> {
        if demands.encryption {
            self.check_encryption(name)?;
        }
        let doing = |e: Error| e.doing(format!("--require-room: {name}"));
        let Some(bytes) = bytes else {
            let why = "how large the archive will be is not known beforehand: it is compressed";
            return if demands.room { Err(doing(Error::usage(why))) } else { Ok(()) };
        };
        let Some(left) = self.left() else {
            let why = format!("the drive does not tell what is left on the cartridge{}", self.why(&[MEMORY, CAPACITY]));
            return if demands.room { Err(doing(Error::new(why))) } else { Ok(()) };
        };
        if bytes <= left {
            return Ok(());
        }
        let volumes = match self.before.cartridge.capacity.whole.filter(|whole| *whole > 0) {
            Some(whole) => format!(": it takes {} volumes", 1 + (bytes - left).div_ceil(whole)),
            None => String::new(),
        };
        let cartridge = self.barcode().map_or("the cartridge".into(), |barcode| format!("the cartridge {barcode}"));
        let why = format!(
            "{} bytes are to be written, and {cartridge} has room for {}, if the drive does not compress{volumes}",
            grouped(bytes),
            grouped(left)
        );
        if demands.room {
            return Err(doing(Error::new(why).of(ErrorKind::Full)));
        }
        log::warn(format_args!("{name}: {why}"));
        Ok(())
    }

    fn check_encryption(&self, name: &str) -> Result<()> {
        let why = match self.before.encryption {
            Some(Encryption::On) => return Ok(()),
            Some(Encryption::Off) => "the drive does not encrypt".into(),
            Some(Encryption::External) => "the drive writes what it gets, without encrypting it".into(),
            None => format!("the drive does not tell whether it encrypts{}", self.why(&[ENCRYPTION])),
        };
        Err(Error::new(why).doing(format!("--require-encryption: {name}")).hint("stenc(1) gives it a key"))
    }

    /// Bytes that find room from where the tape stands. At its beginning all of it does, whatever is there.
    fn left(&self) -> Option<u64> {
        let Capacity { left, whole } = self.before.cartridge.capacity;
        let at_beginning = self.before.position.is_some_and(|position| position.at_beginning);
        if at_beginning { whole.or(left) } else { left }
    }

    /// Why one of these was not told.
    fn why(&self, of: &[&str]) -> String {
        let found = self.before.unanswered.iter().find(|unanswered| of.contains(&unanswered.what));
        found.map_or(String::new(), |unanswered| format!(": {}", unanswered.why))
    }
}

/// Tells of the alerts of a run.
pub fn tell_change(name: &str, change: &DriveChange) {
    tell(name, change.alerts.iter().flatten());
}

fn tell<'a>(name: &str, alerts: impl Iterator<Item = &'a Alert>) {
    for alert in alerts {
        let what = format!("{name}: {alert}: {}", alert.advice);
        match alert.severity {
            Severity::Information => log::info(what),
            Severity::Warning | Severity::Critical => log::warn(what),
        }
    }
}

/// Makes sure that the cartridge in a drive is the one that a checkpoint speaks of, as far as both have a barcode.
///
/// # Errors
/// If it is another, unless that is forced.
pub fn check_barcode(name: &str, cartridge: &CartridgeFacts, volume: &Volume, force: bool) -> Result<()> {
    match (&cartridge.barcode, &volume.barcode) {
        (Some(is), Some(wanted)) if is != wanted => {
            let why = format!(
                "the cartridge {is} is in {name}, and the checkpoint says that volume {} is {wanted}",
                volume.number
            );
            if force {
                log::warn(format_args!("{why}; it is taken all the same"));
                return Ok(());
            }
            Err(Error::new(why).hint(format!("put in {wanted}")))
        }
        _ => Ok(()),
    }
}
