//! All that a drive tells, asked for at once; and what it does not, with why.

use serde::Serialize;

use super::{
    alert::{Alert, alert},
    answer::{self, CartridgeFacts, Cleaning, DeviceIdentity, Encryption, ErrorCounters, TapePosition},
    command::{self, LogPage, ScsiCommand},
};
use crate::media::tape::mtio::ScsiFailure;

/// Answers SCSI commands.
pub trait ScsiDevice {
    /// Sends a command, and returns its answer.
    ///
    /// # Errors
    /// If the kernel does not pass it on, or the device refuses it.
    fn ask(&self, command: &ScsiCommand) -> Result<Vec<u8>, ScsiFailure>;
}

/// [`Unanswered::what`] of the cartridge's memory.
pub const MEMORY: &str = "the cartridge's memory";
/// The same of its capacity.
pub const CAPACITY: &str = "capacity";
/// The same of encryption.
pub const ENCRYPTION: &str = "encryption";

/// What could not be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unanswered {
    /// What was asked for.
    pub what: &'static str,
    /// Why there is no answer.
    pub why: String,
}

/// What a drive and its cartridge tell. What is `None` was not told; [`DriveFacts::unanswered`] has why. Sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DriveFacts {
    /// What it is.
    #[serde(flatten)]
    pub identity: DeviceIdentity,
    /// Its serial number.
    pub serial: Option<String>,
    /// The density of the cartridge in words.
    pub density: Option<String>,
    /// Bytes of a block as the drive is set; 0 if each write is a block of its size.
    pub block_size: Option<u32>,
    /// The smallest block that it takes.
    pub least_block: Option<u32>,
    /// The largest block that it takes.
    pub largest_block: Option<u32>,
    /// Where the tape stands.
    pub position: Option<TapePosition>,
    /// The cartridge is protected against writing.
    pub write_protected: Option<bool>,
    /// The drive compresses.
    pub compression: Option<bool>,
    /// The drive encrypts.
    pub encryption: Option<Encryption>,
    /// What is known of the cartridge.
    pub cartridge: CartridgeFacts,
    /// When the drive was cleaned.
    pub cleaning: Option<Cleaning>,
    /// TapeAlert flags that are set.
    pub alerts: Option<Vec<Alert>>,
    /// Errors of writing since the cartridge was loaded.
    pub write_errors: Option<ErrorCounters>,
    /// Errors of reading since then.
    pub read_errors: Option<ErrorCounters>,
    /// What could not be had.
    pub unanswered: Vec<Unanswered>,
}

impl DriveFacts {
    /// Asks a device for all of it. TapeAlert flags are cleared by the drive when they are read (SSC-4).
    pub fn of(device: &dyn ScsiDevice) -> DriveFacts {
        let mut asking = Questioning { device, unanswered: Vec::new() };
        let identity = asking.ask("what it is", &question(command::inquiry(), answer::identity));
        let serial = asking.ask("its serial number", &question(command::serial_number(), answer::serial_number));
        // Other devices may take the same commands for others.
        if identity.as_ref().is_some_and(|identity| !identity.is_tape) {
            let identity = identity.unwrap_or_default();
            return DriveFacts { identity, serial, unanswered: asking.unanswered, ..DriveFacts::default() };
        }
        let limits = asking.ask("limits of blocks", &question(command::block_limits(), answer::block_limits));
        let mode = asking.either(
            "density, protection and compression",
            &question(command::mode(), answer::mode),
            &question(command::short_mode(), answer::short_mode),
        );
        let position = asking.either(
            "the position",
            &question(command::position(), answer::position),
            &question(command::short_position(), answer::short_position),
        );
        let encryption = asking.ask(ENCRYPTION, &question(command::encryption(), answer::encryption));
        let partition = position.and_then(|position: TapePosition| u8::try_from(position.partition).ok()).unwrap_or(0);
        let (cartridge, cleaning) = (asking.cartridge(partition), asking.cleaning());
        let alerts = asking.ask("TapeAlert flags", &question(command::log(LogPage::TapeAlert), answer::alerts));
        let of_writing = question(command::log(LogPage::WriteErrors), |b| answer::errors(b, LogPage::WriteErrors));
        let of_reading = question(command::log(LogPage::ReadErrors), |b| answer::errors(b, LogPage::ReadErrors));
        let write_errors = asking.ask("errors of writing", &of_writing);
        let read_errors = asking.ask("errors of reading", &of_reading);
        let density = mode.and_then(|mode| mode.density).map(|code| match answer::density_name(code) {
            Some(name) => name.into(),
            None => format!("code {code:#04x}"),
        });
        DriveFacts {
            identity: identity.unwrap_or_default(),
            serial,
            density,
            block_size: mode.and_then(|mode| mode.block_size),
            least_block: limits.map(|limits| limits.least),
            largest_block: limits.map(|limits| limits.most),
            position,
            write_protected: mode.map(|mode| mode.is_protected),
            compression: mode.and_then(|mode| mode.compresses),
            encryption,
            cartridge,
            cleaning,
            alerts: alerts.map(|alerts| alerts.into_iter().map(alert).collect()),
            write_errors,
            read_errors,
            unanswered: asking.unanswered,
        }
    }

    /// What is known of the cartridge in a device, and no more: its alerts stay.
    pub fn cartridge_of(device: &dyn ScsiDevice) -> CartridgeFacts {
        Questioning { device, unanswered: Vec::new() }.cartridge(0)
    }

    /// What it is called.
    pub fn name(&self) -> String {
        let DeviceIdentity { vendor, product, .. } = &self.identity;
        let parts: Vec<&str> = [vendor, product].into_iter().flatten().map(String::as_str).collect();
        if parts.is_empty() { "a drive that does not say what it is".into() } else { parts.join(" ") }
    }
}

/// A command, and what reads its answer.
struct Question<T> {
    command: ScsiCommand,
    read: fn(&[u8]) -> Option<T>,
}

fn question<T>(command: ScsiCommand, read: fn(&[u8]) -> Option<T>) -> Question<T> {
    Question { command, read }
}

const NO_STANDARD: &str = "the answer is not what the standard says";

/// Questions to a device, and what was not answered.
struct Questioning<'a> {
    device: &'a dyn ScsiDevice,
    unanswered: Vec<Unanswered>,
}

impl Questioning<'_> {
    fn try_ask<T>(&self, question: &Question<T>) -> Result<T, String> {
        let bytes = self.device.ask(&question.command).map_err(|failure| failure.to_string())?;
        (question.read)(&bytes).ok_or_else(|| NO_STANDARD.into())
    }

    fn note<T>(&mut self, what: &'static str, answer: Result<T, String>) -> Option<T> {
        answer.map_err(|why| self.unanswered.push(Unanswered { what, why })).ok()
    }

    fn ask<T>(&mut self, what: &'static str, question: &Question<T>) -> Option<T> {
        let answer = self.try_ask(question);
        self.note(what, answer)
    }

    /// What one command tells, or else another.
    fn either<T>(&mut self, what: &'static str, first: &Question<T>, second: &Question<T>) -> Option<T> {
        let answer = self.try_ask(first).or_else(|why| self.try_ask(second).map_err(|_| why));
        self.note(what, answer)
    }

    /// The cartridge's memory, or else the drive's statistics of it; capacities by whatever tells them.
    fn cartridge(&mut self, partition: u8) -> CartridgeFacts {
        let known = self.either(
            MEMORY,
            &question(command::attributes(partition), answer::cartridge),
            &question(command::log(LogPage::VolumeStatistics), answer::volume_statistics),
        );
        let mut known = known.unwrap_or_default();
        if known.capacity.left.is_none() {
            let capacity = self.ask(CAPACITY, &question(command::log(LogPage::TapeCapacity), answer::capacity));
            known.capacity = capacity.unwrap_or(known.capacity);
        }
        known
    }

    fn cleaning(&mut self) -> Option<Cleaning> {
        let statistics = self.device.ask(&command::log(LogPage::DeviceStatistics));
        let sequential = self.device.ask(&command::log(LogPage::SequentialAccess));
        let cleaning = answer::cleaning(statistics.as_deref().ok(), sequential.as_deref().ok());
        let why = || statistics.err().map_or(NO_STANDARD.into(), |failure| failure.to_string());
        let answer = cleaning.ok_or_else(why);
        self.note("cleaning", answer)
    }
}
