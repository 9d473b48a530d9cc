//! Answers as the standards lay them out, with the values of drives and cartridges of the LTO generations.

use proptest::prelude::*;

use super::*;
use crate::media::tape::{
    mtio::ScsiFailure,
    scsi::{
        alert::{Severity, alert},
        change::DriveChange,
        command::ScsiCommand,
        facts::{DriveFacts, ScsiDevice},
    },
};

fn padded(text: &str, len: usize) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(len, b' ');
    bytes
}

/// Standard INQUIRY data of a sequential-access device.
fn inquiry_of(vendor: &str, product: &str, firmware: &str) -> Vec<u8> {
    let mut bytes = vec![0x01, 0x80, 0x06, 0x12, 0x5b, 0x00, 0x10, 0x02];
    bytes.extend(padded(vendor, 8));
    bytes.extend(padded(product, 16));
    bytes.extend(padded(firmware, 4));
    bytes.resize(96, 0);
    bytes
}

fn log_page(page: LogPage, parameters: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (code, value) in parameters {
        body.extend(code.to_be_bytes());
        body.extend([0x03, value.len() as u8]);
        body.extend(*value);
    }
    let mut bytes = vec![page as u8, 0];
    bytes.extend((body.len() as u16).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn attributes_of(attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (id, value) in attributes {
        body.extend(id.to_be_bytes());
        body.push(0x80);
        body.extend((value.len() as u16).to_be_bytes());
        body.extend(*value);
    }
    let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
    bytes.extend(body);
    bytes
}

/// MODE SENSE(10): header, block descriptor, Data Compression page.
fn mode_of(is_protected: bool, density: u8, block: u32, compresses: bool) -> Vec<u8> {
    let block = block.to_be_bytes();
    let mut bytes = vec![0, 30, 0x78, if is_protected { 0x90 } else { 0x10 }, 0, 0, 0, 8];
    bytes.extend([density, 0, 0, 0, 0, block[1], block[2], block[3]]);
    bytes.extend([0x0f, 0x0e, if compresses { 0xc0 } else { 0x40 }, 0x80, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]);
    bytes
}

/// A drive that answers as a real one of a generation does.
struct Answering {
    density: u8,
    mib: u64,
    refuses: fn(u8, u8) -> Option<ScsiFailure>,
    alerts: Vec<u16>,
    corrected: u32,
}

impl ScsiDevice for Answering {
    fn ask(&self, command: &ScsiCommand) -> Result<Vec<u8>, ScsiFailure> {
        let bytes = &command.bytes;
        if let Some(failure) = (self.refuses)(bytes[0], bytes[2] & 0x3f) {
            return Err(failure);
        }
        let whole = self.mib.to_be_bytes();
        let left = (self.mib / 3).to_be_bytes();
        Ok(match (bytes[0], bytes[2] & 0x3f) {
            (0x12, _) if bytes[1] == 0 => inquiry_of("IBM", "ULT3580-TD8", "N9M1"),
            (0x12, _) => [&[1, 0x80, 0, 10][..], b"10WT012345"].concat(),
            (0x05, _) => vec![0, 0x80, 0, 0, 0, 1],
            (0x5a, _) => mode_of(false, self.density, 0, true),
            (0x34, _) => {
                let mut bytes = vec![0; 32];
                bytes[8..16].copy_from_slice(&1234_u64.to_be_bytes());
                bytes[16..24].copy_from_slice(&2_u64.to_be_bytes());
                bytes
            }
            (0xa2, _) => vec![0, 0x20, 0, 20, 0x42, 2, 3, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            (0x8c, _) => attributes_of(&[
                (0x0000, &left),
                (0x0001, &whole),
                (0x0003, &17_u64.to_be_bytes()),
                (0x0220, &(self.mib * 40).to_be_bytes()),
                (0x0221, &(self.mib * 2).to_be_bytes()),
                (0x0400, &padded("FUJIFILM", 8)),
                (0x0401, &padded("WA0123456789", 32)),
                (0x0806, &padded("WK4801L8", 32)),
            ]),
            (0x4d, 0x02) => {
                log_page(LogPage::WriteErrors, &[(2, &[0, 0, 0, 7]), (3, &self.corrected.to_be_bytes()), (6, &[0])])
            }
            (0x4d, 0x03) => log_page(LogPage::ReadErrors, &[(3, &[0, 2]), (6, &[0, 1])]),
            (0x4d, 0x0c) => log_page(LogPage::SequentialAccess, &[(0, &[0; 8]), (0x100, &[0; 8])]),
            (0x4d, 0x14) => {
                log_page(LogPage::DeviceStatistics, &[(0, &[0, 0, 4, 0]), (1, &[0, 0, 0, 9]), (8, &[0, 0, 0, 120])])
            }
            (0x4d, 0x17) => log_page(
                LogPage::VolumeStatistics,
                &[
                    (1, &[0, 0, 0, 17]),
                    (0x10, &[0, 0, 0, 5]),
                    (0x16, &[0, 0, 0, 9]),
                    (0x17, &[0, 0, 0, 4]),
                    (0x42, &padded("WK4802L8", 32)),
                ],
            ),
            (0x4d, 0x2e) => {
                let set: Vec<(u16, [u8; 1])> =
                    (1..=64).map(|code| (code, [u8::from(self.alerts.contains(&code))])).collect();
                let set: Vec<(u16, &[u8])> = set.iter().map(|(code, value)| (*code, &value[..])).collect();
                log_page(LogPage::TapeAlert, &set)
            }
            (0x4d, 0x31) => {
                log_page(LogPage::TapeCapacity, &[(1, &left[4..]), (2, &[0; 4]), (3, &whole[4..]), (4, &[0; 4])])
            }
            other => panic!("{other:?} was asked for"),
        })
    }
}

/// A drive that answers all.
const WHOLE: Answering =
    Answering { density: 0x5e, mib: 11_444_091, refuses: |_, _| None, alerts: Vec::new(), corrected: 3 };

#[test]
fn generations_from_lto_5_to_lto_9() {
    for (density, name, mib) in [
        (0x58, "LTO-5", 1_430_511),
        (0x5a, "LTO-6", 2_384_185),
        (0x5c, "LTO-7", 5_722_045),
        (0x5d, "LTO-7 type M (M8)", 8_583_068),
        (0x5e, "LTO-8", 11_444_091),
        (0x60, "LTO-9", 17_166_137),
    ] {
        let facts = DriveFacts::of(&Answering { density, mib, ..WHOLE });
        assert_eq!(facts.density.as_deref(), Some(name));
        let capacity = facts.cartridge.capacity;
        assert_eq!((capacity.left, capacity.whole), (Some((mib / 3) << 20), Some(mib << 20)), "{name}");
        assert!(facts.unanswered.is_empty(), "{:?}", facts.unanswered);
    }
    let unknown = DriveFacts::of(&Answering { density: 0x99, ..WHOLE });
    assert_eq!(unknown.density.as_deref(), Some("code 0x99"));
}

#[test]
fn all_that_a_drive_tells() {
    let facts = DriveFacts::of(&Answering { alerts: vec![3, 20], ..WHOLE });
    assert_eq!(facts.name(), "IBM ULT3580-TD8");
    assert_eq!((facts.serial.as_deref(), facts.identity.firmware.as_deref()), (Some("10WT012345"), Some("N9M1")));
    assert_eq!((facts.least_block, facts.largest_block, facts.block_size), (Some(1), Some(8_388_608), Some(0)));
    assert_eq!((facts.write_protected, facts.compression), (Some(false), Some(true)));
    assert_eq!(facts.encryption, Some(Encryption::On));
    let position = facts.position.unwrap();
    assert_eq!((position.at_beginning, position.block, position.file), (false, Some(1234), Some(2)));
    let cartridge = &facts.cartridge;
    assert_eq!((cartridge.barcode.as_deref(), cartridge.loads), (Some("WK4801L8"), Some(17)));
    assert_eq!(
        (cartridge.serial.as_deref(), cartridge.manufacturer.as_deref()),
        (Some("WA0123456789"), Some("FUJIFILM"))
    );
    assert_eq!(cartridge.written, Some((11_444_091 * 40) << 20));
    let cleaning = facts.cleaning.unwrap();
    assert_eq!((cleaning.is_due, cleaning.times, cleaning.motion_hours_since), (Some(false), Some(9), Some(120)));
    assert_eq!(facts.write_errors.unwrap().retries, Some(7));
    assert_eq!(facts.read_errors.unwrap().uncorrected, Some(1));
    let alerts: Vec<(u8, Severity)> =
        facts.alerts.unwrap().iter().map(|alert| (alert.number, alert.severity)).collect();
    assert_eq!(alerts, [(3, Severity::Warning), (20, Severity::Critical)]);
    assert!((1..=64).all(|number| !alert(number).name.is_empty() && alert(number).number == number));
}

/// What is refused is told, and nothing is made up; another page tells what the first does not.
#[test]
fn what_a_drive_refuses_is_told() {
    let refused = |key, code| ScsiFailure::Refused { key, code, qualifier: 0 };
    let no_memory = DriveFacts::of(&Answering {
        refuses: |op, _| (op == 0x8c).then_some(ScsiFailure::Refused { key: 5, code: 0x20, qualifier: 0 }),
        ..WHOLE
    });
    assert_eq!(no_memory.cartridge.barcode.as_deref(), Some("WK4802L8"));
    assert_eq!(no_memory.cartridge.capacity, Capacity { left: Some(5_000_000), whole: Some(9_000_000) });
    let only_capacity = DriveFacts::of(&Answering {
        refuses: |op, page| (op == 0x8c || page == 0x17).then_some(ScsiFailure::Kernel(nix::errno::Errno::EPERM)),
        ..WHOLE
    });
    assert_eq!(only_capacity.cartridge.capacity.whole, Some(11_444_091 << 20));
    let told: Vec<String> = only_capacity.unanswered.iter().map(|u| format!("{}: {}", u.what, u.why)).collect();
    assert_eq!(told, ["the cartridge's memory: the kernel passes this question on only for root (CAP_SYS_RAWIO)"]);
    let nothing = DriveFacts::of(&Answering { refuses: |_, _| Some(ScsiFailure::Lost), ..WHOLE });
    let told = nothing.unanswered.len();
    assert_eq!(DriveFacts { unanswered: Vec::new(), ..nothing }, DriveFacts::default());
    assert!(told >= 12, "{told}");
    assert_eq!(refused(2, 0x3a).to_string(), "there is no cartridge in the drive");
    assert_eq!(refused(5, 0x24).to_string(), "the drive does not have it");
    assert!(refused(3, 0x0c).to_string().contains("sense 3/0c/00"));
}

#[test]
fn what_changes_during_a_run_is_told() {
    let before = DriveFacts::of(&WHOLE);
    assert_eq!(DriveChange::between(&before, &before).in_words(), None);
    let after = DriveFacts::of(&Answering { alerts: vec![2], corrected: 45, ..WHOLE });
    let change = DriveChange::between(&before, &after);
    assert_eq!(change.in_words().as_deref(), Some("TapeAlert 2: write warning; errors of writing: 42 corrected"));
    assert_eq!(change.barcode.as_deref(), Some("WK4801L8"));
    // The counters began anew.
    let change = DriveChange::between(&after, &before);
    assert_eq!(change.write_errors.unwrap().corrected, Some(3));
}

#[test]
fn odd_answers() {
    assert_eq!(identity(&[0x05]).map(|identity| identity.is_tape), Some(false));
    assert_eq!(position(&[0x80; 12]), None);
    let short = short_position(&[0x80, 0, 0, 0, 0, 0, 0, 9]);
    assert_eq!(
        short.map(|position| (position.at_beginning, position.block, position.file)),
        Some((true, Some(9), None))
    );
    let mut lost = vec![0; 32];
    lost[0] = 0x0c;
    assert_eq!(position(&lost).map(|position| (position.block, position.file)), Some((None, None)));
    // All ones: not known.
    let unknown = attributes_of(&[(0, &[0xff; 8]), (3, &[0xff; 8]), (0x0806, b"\x1b[2J\0rest")]);
    let cartridge = cartridge(&unknown).unwrap();
    assert_eq!((cartridge.capacity.left, cartridge.loads, cartridge.barcode.as_deref()), (None, None, Some("[2J")));
    assert_eq!(errors(&log_page(LogPage::ReadErrors, &[(3, &[1])]), LogPage::WriteErrors), None);
    // A header that claims more than there is.
    let mut short = log_page(LogPage::WriteErrors, &[(3, &[1]), (6, &[2])]);
    short.truncate(10);
    assert_eq!(errors(&short, LogPage::WriteErrors).map(|e| (e.corrected, e.uncorrected)), Some((Some(1), None)));
    assert_eq!(
        short_mode(&[11, 0, 0x80, 8, 0x5e, 0, 0, 0, 0, 0, 2, 0]).map(|m| (m.is_protected, m.block_size)),
        Some((true, Some(512)))
    );
    assert_eq!(encryption(&[0, 0x10, 0, 20, 0, 2]), None);
}

proptest! {
    /// Whatever a drive answers, reading it ends.
    #[test]
    fn anything_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..600), page in 0..8_usize) {
        let pages = [0x02, 0x03, 0x0c, 0x14, 0x17, 0x2e, 0x31, 0x00];
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = pages[page];
        }
        DriveFacts::of(&Same(bytes));
    }
}

/// A device that has one answer to everything.
struct Same(Vec<u8>);

impl ScsiDevice for Same {
    fn ask(&self, command: &ScsiCommand) -> Result<Vec<u8>, ScsiFailure> {
        Ok(self.0[..self.0.len().min(command.room)].to_vec())
    }
}
