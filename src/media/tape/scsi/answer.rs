//! Answers of a drive, read. What is too short, or of another page, is `None`; text that is not printable is left out.

use serde::Serialize;

use super::command::LogPage;
use crate::media::tape::mtio::Limits;

/// Bytes of a megabyte of READ ATTRIBUTE (SPC-4 7.4) and of the Tape Capacity page.
const MEBIBYTE: u64 = 1 << 20;
/// Bytes of a megabyte of the Volume Statistics page (SSC-4 8.4).
const MEGABYTE: u64 = 1_000_000;

fn number(bytes: &[u8]) -> Option<u64> {
    (bytes.len() <= 8 && !bytes.is_empty()).then(|| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

fn field(bytes: &[u8], from: usize, len: usize) -> Option<u64> {
    number(bytes.get(from..from.checked_add(len)?)?)
}

/// Text as SCSI has it: ASCII, filled up with spaces or zeros.
fn text(bytes: &[u8]) -> Option<String> {
    let printable = |byte: &&u8| byte.is_ascii_graphic() || **byte == b' ';
    let text: String =
        bytes.iter().take_while(|byte| **byte != 0).filter(printable).map(|byte| char::from(*byte)).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.into())
}

/// What a device is (SPC-4 6.4.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeviceIdentity {
    /// Who made it.
    pub vendor: Option<String>,
    /// Its model.
    pub product: Option<String>,
    /// The version of its firmware.
    pub firmware: Option<String>,
    /// It is a sequential-access device.
    #[serde(skip)]
    pub is_tape: bool,
}

/// Standard INQUIRY data.
pub fn identity(bytes: &[u8]) -> Option<DeviceIdentity> {
    let part = |from: usize, to: usize| bytes.get(from..to.min(bytes.len())).and_then(text);
    let is_tape = bytes.first()? & 0x1f == 1;
    Some(DeviceIdentity { vendor: part(8, 16), product: part(16, 32), firmware: part(32, 36), is_tape })
}

/// The Unit Serial Number page.
pub fn serial_number(bytes: &[u8]) -> Option<String> {
    if *bytes.get(1)? != 0x80 {
        return None;
    }
    let len = usize::from(*bytes.get(3)?);
    text(bytes.get(4..(4 + len).min(bytes.len()))?)
}

/// READ BLOCK LIMITS data.
pub fn block_limits(bytes: &[u8]) -> Option<Limits> {
    let (most, least) = (field(bytes, 1, 3)? as u32, field(bytes, 4, 2)? as u32);
    (most > 0).then_some(Limits { least, most })
}

/// How a drive is set, and what of the cartridge it says with that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriveMode {
    /// The cartridge is protected against writing.
    pub is_protected: bool,
    /// The density of the cartridge, as SSC-4 and the makers of LTO number it.
    pub density: Option<u8>,
    /// Bytes of a block; 0 if each write is a block of its size.
    pub block_size: Option<u32>,
    /// The drive compresses.
    pub compresses: Option<bool>,
}

/// MODE SENSE(10) data.
pub fn mode(bytes: &[u8]) -> Option<DriveMode> {
    mode_behind(bytes, *bytes.get(3)?, field(bytes, 6, 2)? as usize, 8)
}

/// MODE SENSE(6) data.
pub fn short_mode(bytes: &[u8]) -> Option<DriveMode> {
    mode_behind(bytes, *bytes.get(2)?, usize::from(*bytes.get(3)?), 4)
}

/// What stands behind a mode parameter header of `header` bytes: a block descriptor, and the pages.
fn mode_behind(bytes: &[u8], device: u8, descriptor_len: usize, header: usize) -> Option<DriveMode> {
    let descriptor = bytes.get(header..header.checked_add(descriptor_len)?).filter(|descriptor| descriptor.len() >= 8);
    let mut compresses = None;
    let mut page = bytes.get(header + descriptor_len..).unwrap_or_default();
    while let [code, len, rest @ ..] = page {
        let len = usize::from(*len);
        if code & 0x3f == 0x0f && len >= 1 {
            compresses = rest.first().map(|flags| flags & 0x80 != 0);
        }
        page = rest.get(len..).unwrap_or_default();
    }
    Some(DriveMode {
        is_protected: device & 0x80 != 0,
        density: descriptor.map(|descriptor| descriptor[0]),
        block_size: descriptor.and_then(|descriptor| field(descriptor, 5, 3)).map(|size| size as u32),
        compresses,
    })
}

/// What a density is called.
pub fn density_name(code: u8) -> Option<&'static str> {
    Some(match code {
        0x00 => "that of the drive",
        0x40 => "LTO-1",
        0x42 => "LTO-2",
        0x44 => "LTO-3",
        0x46 => "LTO-4",
        0x58 => "LTO-5",
        0x5a => "LTO-6",
        0x5c => "LTO-7",
        0x5d => "LTO-7 type M (M8)",
        0x5e => "LTO-8",
        0x60 => "LTO-9",
        _ => return None,
    })
}

/// Where a tape stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TapePosition {
    /// At the beginning of the partition.
    pub at_beginning: bool,
    /// Beyond the early warning at its end.
    pub at_end: bool,
    /// Which partition.
    pub partition: u64,
    /// Blocks and filemarks in front of it, if known.
    pub block: Option<u64>,
    /// Filemarks in front of it, if known.
    pub file: Option<u64>,
}

/// READ POSITION data, long form.
pub fn position(bytes: &[u8]) -> Option<TapePosition> {
    let flags = *bytes.first()?;
    let (partition, block, file) = (field(bytes, 4, 4)?, field(bytes, 8, 8)?, field(bytes, 16, 8)?);
    Some(TapePosition {
        at_beginning: flags & 0x80 != 0,
        at_end: flags & 0x40 != 0,
        partition,
        // LONU: the number is not known; MPU: nor is that of filemarks.
        block: (flags & 0x04 == 0).then_some(block),
        file: (flags & 0x08 == 0).then_some(file),
    })
}

/// READ POSITION data, short form: it does not count filemarks.
pub fn short_position(bytes: &[u8]) -> Option<TapePosition> {
    let (flags, block) = (*bytes.first()?, field(bytes, 4, 4)?);
    Some(TapePosition {
        at_beginning: flags & 0x80 != 0,
        at_end: flags & 0x40 != 0,
        partition: field(bytes, 1, 1)?,
        // BPU: the number is not known.
        block: (flags & 0x04 == 0).then_some(block),
        file: None,
    })
}

/// The parameters of a log page: code, and value.
pub fn log_parameters(bytes: &[u8], page: LogPage) -> Option<Vec<(u16, &[u8])>> {
    if bytes.first()? & 0x3f != page as u8 {
        return None;
    }
    let len = field(bytes, 2, 2)? as usize;
    let mut rest = bytes.get(4..(4 + len).min(bytes.len()))?;
    let mut parameters = Vec::new();
    while let [high, low, _control, len, behind @ ..] = rest {
        let len = usize::from(*len);
        let Some(value) = behind.get(..len) else { break };
        parameters.push((u16::from_be_bytes([*high, *low]), value));
        rest = &behind[len..];
    }
    Some(parameters)
}

/// The number that a parameter holds. All ones are an unknown value.
fn parameter(parameters: &[(u16, &[u8])], code: u16) -> Option<u64> {
    let (_, value) = parameters.iter().find(|(known, _)| *known == code)?;
    if value.iter().all(|byte| *byte == 0xff) { None } else { number(value) }
}

/// Numbers of the flags that are set, 1 to 64 (SSC-4 "TapeAlert log page").
pub fn alerts(bytes: &[u8]) -> Option<Vec<u8>> {
    let parameters = log_parameters(bytes, LogPage::TapeAlert)?;
    let set = parameters
        .into_iter()
        .filter(|(code, value)| (1..=64).contains(code) && value.first().is_some_and(|v| v & 1 == 1));
    Some(set.map(|(code, _)| code as u8).collect())
}

/// How often errors were corrected, and were not (SPC-4 "Write Error Counters", "Read Error Counters").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ErrorCounters {
    /// Errors that were corrected.
    pub corrected: Option<u64>,
    /// Errors that were not.
    pub uncorrected: Option<u64>,
    /// How often something was written or read once more.
    pub retries: Option<u64>,
}

/// The counters of a page of errors.
pub fn errors(bytes: &[u8], page: LogPage) -> Option<ErrorCounters> {
    let parameters = log_parameters(bytes, page)?;
    let of = |code| parameter(&parameters, code);
    Some(ErrorCounters { corrected: of(3), uncorrected: of(6), retries: of(2) })
}

/// When a drive was cleaned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cleaning {
    /// The drive asks for it.
    pub is_due: Option<bool>,
    /// How often in the drive's life.
    pub times: Option<u64>,
    /// Hours of tape motion since the last time.
    pub motion_hours_since: Option<u64>,
}

/// The Device Statistics and Sequential-Access Device pages, as far as they are there.
pub fn cleaning(statistics: Option<&[u8]>, sequential: Option<&[u8]>) -> Option<Cleaning> {
    let statistics = statistics.and_then(|bytes| log_parameters(bytes, LogPage::DeviceStatistics));
    let sequential = sequential.and_then(|bytes| log_parameters(bytes, LogPage::SequentialAccess));
    if statistics.is_none() && sequential.is_none() {
        return None;
    }
    let of = |code| statistics.as_ref().and_then(|all| parameter(all, code));
    let is_due = sequential.as_ref().and_then(|all| parameter(all, 0x100)).map(|value| value != 0);
    Some(Cleaning { is_due, times: of(1), motion_hours_since: of(8) })
}

/// What a cartridge holds, in bytes, uncompressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Capacity {
    /// What is left.
    pub left: Option<u64>,
    /// The whole.
    pub whole: Option<u64>,
}

/// The Tape Capacity page.
pub fn capacity(bytes: &[u8]) -> Option<Capacity> {
    let parameters = log_parameters(bytes, LogPage::TapeCapacity)?;
    let of = |code| parameter(&parameters, code).map(|value| value.saturating_mul(MEBIBYTE));
    Some(Capacity { left: of(1), whole: of(3) })
}

/// What is known of a cartridge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CartridgeFacts {
    /// Its barcode, where a library or an admin has written it into its memory.
    pub barcode: Option<String>,
    /// Its own number.
    pub serial: Option<String>,
    /// Who made it.
    pub manufacturer: Option<String>,
    /// How often it was loaded.
    pub loads: Option<u64>,
    /// Bytes written in its life.
    pub written: Option<u64>,
    /// Bytes read in its life.
    pub read: Option<u64>,
    /// What it holds.
    pub capacity: Capacity,
}

/// Attributes of a cartridge's memory (SPC-4 7.4): number, and value.
pub fn attributes(bytes: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let len = field(bytes, 0, 4)? as usize;
    let mut rest = bytes.get(4..4_usize.checked_add(len)?.min(bytes.len()))?;
    let mut attributes = Vec::new();
    while let [high, low, _format, len_high, len_low, behind @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*len_high, *len_low]));
        let Some(value) = behind.get(..len) else { break };
        attributes.push((u16::from_be_bytes([*high, *low]), value));
        rest = &behind[len..];
    }
    Some(attributes)
}

/// READ ATTRIBUTE data.
pub fn cartridge(bytes: &[u8]) -> Option<CartridgeFacts> {
    let attributes = attributes(bytes)?;
    let of = |code: u16| attributes.iter().find(|(known, _)| *known == code).map(|(_, value)| *value);
    let known = |value: &&[u8]| !value.iter().all(|byte| *byte == 0xff);
    let bytes_of = |code| of(code).filter(known).and_then(number).map(|value| value.saturating_mul(MEBIBYTE));
    Some(CartridgeFacts {
        barcode: of(0x0806).and_then(text),
        serial: of(0x0401).and_then(text),
        manufacturer: of(0x0400).and_then(text),
        loads: of(0x0003).filter(known).and_then(number),
        written: bytes_of(0x0220),
        read: bytes_of(0x0221),
        capacity: Capacity { left: bytes_of(0x0000), whole: bytes_of(0x0001) },
    })
}

/// The Volume Statistics page, for drives that answer no READ ATTRIBUTE.
pub fn volume_statistics(bytes: &[u8]) -> Option<CartridgeFacts> {
    let parameters = log_parameters(bytes, LogPage::VolumeStatistics)?;
    let of = |code| parameter(&parameters, code);
    // Parameter 0 says whether the page is valid.
    if of(0) == Some(0) {
        return None;
    }
    let bytes_of = |code| of(code).map(|value| value.saturating_mul(MEGABYTE));
    let text_of = |code: u16| parameters.iter().find(|(known, _)| *known == code).and_then(|(_, value)| text(value));
    let (whole, used) = (bytes_of(0x16), bytes_of(0x17));
    Some(CartridgeFacts {
        barcode: text_of(0x42),
        serial: text_of(0x40),
        manufacturer: text_of(0x43),
        loads: of(1),
        written: bytes_of(0x10),
        read: bytes_of(0x11),
        capacity: Capacity { left: whole.zip(used).and_then(|(whole, used)| whole.checked_sub(used)), whole },
    })
}

/// Whether a drive encrypts what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    /// It does.
    On,
    /// It writes what it gets, which another has encrypted.
    External,
    /// It does not.
    Off,
}

/// The Data Encryption Status page (SSC-4 8.6): the encryption mode.
pub fn encryption(bytes: &[u8]) -> Option<Encryption> {
    if field(bytes, 0, 2)? != 0x20 {
        return None;
    }
    match bytes.get(5)? {
        0 => Some(Encryption::Off),
        1 => Some(Encryption::External),
        2 => Some(Encryption::On),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
