//! Commands to a drive, each with the room that its answer needs. All of them only ask.

/// A command descriptor block, and how many bytes its answer may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScsiCommand {
    /// 6, 10, 12 or 16 bytes.
    pub bytes: Vec<u8>,
    /// Bytes of room for the answer.
    pub room: usize,
}

/// A log page that is asked for (SPC-4 "Log parameters", SSC-4 "Log parameters").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogPage {
    /// Write Error Counters.
    WriteErrors = 0x02,
    /// Read Error Counters.
    ReadErrors = 0x03,
    /// Sequential-Access Device.
    SequentialAccess = 0x0c,
    /// Device Statistics.
    DeviceStatistics = 0x14,
    /// Volume Statistics.
    VolumeStatistics = 0x17,
    /// TapeAlert.
    TapeAlert = 0x2e,
    /// Tape Capacity, which the makers of LTO drives agree on.
    TapeCapacity = 0x31,
}

/// The largest answer that is asked for: drives' pages are smaller by far.
const ROOM: u16 = 16 << 10;

fn command(bytes: &[u8], room: u16) -> ScsiCommand {
    ScsiCommand { bytes: bytes.to_vec(), room: room.into() }
}

/// INQUIRY, standard data (SPC-4 6.4).
pub fn inquiry() -> ScsiCommand {
    command(&[0x12, 0, 0, 0, 96, 0], 96)
}

/// INQUIRY, the Unit Serial Number page (SPC-4 7.8).
pub fn serial_number() -> ScsiCommand {
    command(&[0x12, 1, 0x80, 0, 252, 0], 252)
}

/// READ BLOCK LIMITS (SSC-4 7.5).
pub fn block_limits() -> ScsiCommand {
    command(&[5, 0, 0, 0, 0, 0], 6)
}

/// MODE SENSE(10) for the Data Compression page, with the block descriptor (SPC-4 6.13, SSC-4 8.5).
pub fn mode() -> ScsiCommand {
    command(&[0x5a, 0, 0x0f, 0, 0, 0, 0, 0, 252, 0], 252)
}

/// MODE SENSE(6) for all pages, with the block descriptor, for drives that know no other, or not that page.
pub fn short_mode() -> ScsiCommand {
    command(&[0x1a, 0, 0x3f, 0, 252, 0], 252)
}

/// LOG SENSE for the cumulative values of a page (SPC-4 6.8).
pub fn log(page: LogPage) -> ScsiCommand {
    let room = ROOM.to_be_bytes();
    command(&[0x4d, 0, 0x40 | page as u8, 0, 0, 0, 0, room[0], room[1], 0], ROOM)
}

/// READ ATTRIBUTE for all values of a partition (SPC-4 6.18).
pub fn attributes(partition: u8) -> ScsiCommand {
    let room = u32::from(ROOM).to_be_bytes();
    command(&[0x8c, 0, 0, 0, 0, 0, 0, partition, 0, 0, room[0], room[1], room[2], room[3], 0, 0], ROOM)
}

/// READ POSITION, long form (SSC-4 7.7).
pub fn position() -> ScsiCommand {
    command(&[0x34, 6, 0, 0, 0, 0, 0, 0, 0, 0], 32)
}

/// READ POSITION, short form, for drives that know no other (SSC-4 7.7).
pub fn short_position() -> ScsiCommand {
    command(&[0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0], 20)
}

/// SECURITY PROTOCOL IN for the Data Encryption Status page (SSC-4 8.6).
pub fn encryption() -> ScsiCommand {
    let room = 512_u32.to_be_bytes();
    command(&[0xa2, 0x20, 0, 0x20, 0, 0, room[0], room[1], room[2], room[3], 0, 0], 512)
}
