//! What may be in the drive when an archive is to go on: the right tape, another, more than the archive.

use std::collections::HashSet;

use super::*;
use crate::{
    archive::write::plan::tests::{bytes, planned},
    media::{
        sink::{Sink, SinkStart},
        tape::{
            fake::{FakeDrive, FakeLoader, Item},
            sink::{TapeOptions, TapeSink},
        },
    },
    signal::CancelToken,
    store::memory::MemoryStore,
};

const BLOCK: usize = 512;

/// The archive of an image whose layer repeats a byte, and its bytes.
fn archive(byte: u8) -> (Plan, Vec<u8>) {
    let store = MemoryStore::new("a");
    let image = store.image(&[&[byte; 3000], b"x"]);
    let root = store.index(vec![image]);
    let plan = planned(&store, &root, &HashSet::new(), &HashSet::new(), "t").unwrap();
    let bytes = bytes(&store, &plan);
    (plan, bytes)
}

/// Writes the first `blocks` blocks, on tapes one behind the other; what a checkpoint would say.
fn write(archive: &(Plan, Vec<u8>), blocks: usize, tapes: &[FakeDrive], label: Option<&str>) -> Vec<CheckpointRecord> {
    let options = TapeOptions { label: label.map(String::from), force: true, pad: true, ..TapeOptions::default() };
    let loader = FakeLoader(tapes[1..].iter().cloned().collect());
    let mut sink = TapeSink::new(Box::new(tapes[0].clone()), Some(Box::new(loader)), "drive".into(), options);
    let cancel = CancelToken::default();
    let start = SinkStart { block_size: BLOCK, from: 0, preserve_until: 0, expected: None, cancel };
    sink.prepare(&start).unwrap();
    sink.begin(&start).unwrap();
    archive.1.chunks(BLOCK).take(blocks).for_each(|block| sink.write_block(block).unwrap());
    sink.finish().unwrap();
    let (plan, volumes) = (&archive.0, sink.volumes());
    let whole = (0..plan.blobs()).take_while(|n| plan.blob_end(*n).is_some_and(|end| end <= sink.synced()));
    let record = |n: usize| {
        let offset = plan.blob_end(n).unwrap();
        CheckpointRecord { digest: plan.digest(n as u32).clone(), offset, volume: volumes.at(offset), end: 0 }
    };
    whole.map(record).collect()
}

fn resume(
    plan: &Plan,
    drive: &FakeDrive,
    records: &[CheckpointRecord],
    label: Option<&str>,
    force: bool,
) -> Result<Option<u64>> {
    let wanted = WantedVolume { drive: "drive", number: 1, label, force, block: BLOCK };
    let before = drive.tape().items.clone();
    let found = examine(plan, &mut drive.clone(), &wanted, records.to_vec(), None);
    assert_eq!(drive.tape().items, before, "nothing is written");
    Ok(found?.map(|point| point.resumed.0.medium_offset))
}

fn drive(tells_position: bool) -> FakeDrive {
    let drive = FakeDrive::default();
    drive.tape().tells_position = tells_position;
    drive
}

#[test]
fn an_interrupted_archive_goes_on_and_a_whole_one_is_left_alone() {
    for (tells_position, label) in [(true, None), (false, None), (true, Some("week")), (false, Some("week"))] {
        let one = archive(1);
        let blocks = one.1.len() / BLOCK;
        for written in [blocks / 2, blocks - 2, blocks] {
            let drive = drive(tells_position);
            let records = write(&one, written, std::slice::from_ref(&drive), label);
            let at = resume(&one.0, &drive, &records, label, false).unwrap();
            let last = records.last().unwrap().offset;
            assert_eq!(at, if written == blocks { None } else { Some(last) });
            if at.is_none() {
                let tape = drive.tape();
                assert_eq!(tape.at, tape.items.len(), "behind the filemark");
            }
        }
    }
}

#[test]
fn what_stands_behind_is_lost_only_by_force() {
    for tells_position in [true, false] {
        let one = archive(1);
        let blocks = one.1.len() / BLOCK;
        for written in [blocks / 2, blocks] {
            let drive = drive(tells_position);
            let records = write(&one, written, std::slice::from_ref(&drive), None);
            write(&archive(2), blocks, std::slice::from_ref(&drive), None);
            let told = resume(&one.0, &drive, &records, None, false);
            if written == blocks {
                assert_eq!(told.unwrap(), None);
                continue;
            }
            let error = told.unwrap_err().to_string();
            assert!(error.contains("behind this archive") && error.contains("a file of the tape is lost"), "{error}");
            assert!(resume(&one.0, &drive, &records, None, true).unwrap().is_some());
        }
    }
}

#[test]
fn another_archive_is_known_though_its_first_block_is_alike() {
    for tells_position in [true, false] {
        for others in [6, 12, 30] {
            let (one, two) = (archive(1), archive(2));
            assert_eq!(one.1[..BLOCK], two.1[..BLOCK]);
            let (ours, other) = (drive(tells_position), drive(tells_position));
            let records = write(&one, one.1.len() / BLOCK - 3, std::slice::from_ref(&ours), None);
            write(&two, others, std::slice::from_ref(&other), None);
            let error = resume(&one.0, &other, &records, None, true).unwrap_err().to_string();
            assert!(error.contains("this archive") || error.contains("begins otherwise"), "{error}");
            assert!(resume(&one.0, &ours, &records, None, false).unwrap().is_some());
            // What the checkpoint speaks of was lost.
            ours.tape().items.truncate(others);
            ours.tape().at = 0;
            let at = resume(&one.0, &ours, &records, None, false);
            assert_eq!(at.is_ok(), others >= records[0].offset as usize / BLOCK, "{others} blocks");
        }
    }
}

#[test]
fn another_tape_is_refused_with_what_it_is() {
    for tells_position in [true, false] {
        let (one, two) = (archive(1), archive(2));
        let blocks = one.1.len() / BLOCK;
        let tapes = [drive(tells_position), drive(tells_position)];
        tapes[0].tape().capacity = Some(4);
        for label in [None, Some("week")] {
            tapes.iter().for_each(|tape| tape.tape().items.clear());
            tapes.iter().for_each(|tape| tape.tape().at = 0);
            let records = write(&one, blocks - 3, &tapes, label);
            assert_eq!(records.last().unwrap().volume.as_ref().unwrap().number, 2);
            assert!(resume(&one.0, &tapes[1], &records, label, false).unwrap().is_some());
            let (blank, other, larger) = (drive(tells_position), drive(tells_position), drive(tells_position));
            write(&two, blocks, std::slice::from_ref(&other), label);
            larger.tape().items = vec![Item::Block(vec![7; 2 * BLOCK]); 9];
            for (in_drive, why) in [(&tapes[0], ""), (&blank, "blank"), (&other, ""), (&larger, "")] {
                let error = resume(&one.0, in_drive, &records, label, true).unwrap_err().to_string();
                assert!(error.contains("is not volume 2 of this archive: ") && error.contains(why), "{error}");
            }
        }
    }
}
