//! The dance at the end of a tape, and all that a drive may answer, on a drive by script.

use nix::{errno::Errno, libc};

use super::*;
use crate::media::tape::{
    fake::{FakeDrive, FakeLoader, Item},
    label::Label,
    locate,
    mtio::Limits,
    scsi::{
        alert::alert,
        answer::{Capacity, CartridgeFacts, Encryption, TapePosition},
        facts::DriveFacts,
    },
    watch::check_barcode,
};

/// Blocks of ten bytes, each of one digit.
fn block(n: u8) -> Vec<u8> {
    vec![b'0' + n; 10]
}

fn start(from: u64) -> SinkStart {
    SinkStart { block_size: 10, from, preserve_until: from, expected: None, cancel: CancelToken::default() }
}

fn sink(drive: &FakeDrive, more: &[FakeDrive], options: TapeOptions) -> TapeSink {
    let loader = FakeLoader(more.iter().cloned().collect());
    TapeSink::new(Box::new(drive.clone()), Some(Box::new(loader)), "\"/dev/nst0\"".into(), options)
}

/// Writes so many blocks.
fn write(sink: &mut TapeSink, blocks: std::ops::Range<u8>) -> Result<()> {
    blocks.into_iter().try_for_each(|n| sink.write_block(&block(n)))
}

#[test]
fn a_filemark_ends_the_archive_and_only_then_it_is_synced() {
    let drive = FakeDrive::default();
    let mut sink = sink(&drive, &[], TapeOptions { pad: true, ..TapeOptions::default() });
    sink.begin(&start(0)).unwrap();
    write(&mut sink, 0..2).unwrap();
    sink.write_block(b"end").unwrap();
    assert_eq!((sink.accepted(), sink.synced()), (23, 0), "what the drive has in its buffer may be lost");
    sink.finish().unwrap();
    assert_eq!(sink.synced(), 23);
    assert_eq!(drive.files(), [b"00000000001111111111end\0\0\0\0\0\0\0".to_vec(), vec![]]);
    assert_eq!(drive.tape().calls, ["write 10", "write 10", "write 10", "WriteFilemarks 1", "close"]);
}

#[test]
fn what_was_accepted_is_synced_every_so_often() {
    let drive = FakeDrive::default();
    let mut sink = sink(&drive, &[], TapeOptions { sync_interval: 20, ..TapeOptions::default() });
    sink.begin(&start(0)).unwrap();
    write(&mut sink, 0..3).unwrap();
    assert_eq!((sink.accepted(), sink.synced()), (30, 20));
    assert_eq!(drive.tape().calls, ["write 10", "write 10", "WriteFilemarks 0", "write 10"]);
    // At the early warning it cannot be synced; that is no failure, and nothing is claimed.
    drive.tape().mark_errors.push_back(Some(Errno::ENOSPC));
    write(&mut sink, 3..4).unwrap();
    assert_eq!((sink.accepted(), sink.synced()), (40, 20));
    drive.tape().mark_errors.push_back(Some(Errno::EIO));
    let error = write(&mut sink, 4..5).unwrap_err();
    assert!(error.to_string().contains("bringing what the drive has in its buffer to the tape"), "{error}");
}

#[test]
fn a_full_tape_is_ended_and_the_next_one_goes_on_with_the_block() {
    let (first, second) = (FakeDrive::with_capacity(3), FakeDrive::default());
    let mut sink = sink(&first, std::slice::from_ref(&second), TapeOptions::default());
    sink.begin(&start(0)).unwrap();
    write(&mut sink, 0..5).unwrap();
    sink.finish().unwrap();
    assert_eq!(first.files(), [[block(0), block(1), block(2)].concat(), vec![]]);
    assert_eq!(second.files(), [[block(3), block(4)].concat(), vec![]]);
    let volumes: Vec<_> = sink.volumes().all().iter().map(|v| (v.number, v.offset, v.blocks)).collect();
    assert_eq!(volumes, [(1, 0, 3), (2, 30, 2)]);
    assert_eq!(first.tape().calls.last().unwrap(), "close", "a drive must be closed to be given another tape");
}

#[test]
fn a_tape_that_nobody_changes_is_an_error_that_says_it_is_full() {
    let drive = FakeDrive::with_capacity(2);
    let mut sink = sink(&drive, &[], TapeOptions::default());
    sink.begin(&start(0)).unwrap();
    let error = write(&mut sink, 0..3).unwrap_err();
    assert!(error.is(ErrorKind::Full));
    assert_eq!(
        error.to_string(),
        "writing \"/dev/nst0\": the tape is full after block 2 (offset 20); \
         with --volume-command, or at a terminal, it would go on with the next tape"
    );
    assert_eq!(sink.synced(), 20, "what it holds is behind a filemark");
}

#[test]
fn a_second_tape_that_takes_nothing_is_not_changed_for_ever() {
    let (first, second, third) = (FakeDrive::with_capacity(1), FakeDrive::with_capacity(0), FakeDrive::default());
    let mut sink = sink(&first, &[second, third.clone()], TapeOptions::default());
    sink.begin(&start(0)).unwrap();
    let error = write(&mut sink, 0..2).unwrap_err();
    assert!(error.is(ErrorKind::Full) && error.to_string().contains("the tape took not one block"), "{error}");
    assert!(third.tape().items.is_empty());
}

#[test]
fn a_block_that_is_on_the_tape_though_it_was_refused_does_not_stand_on_two_tapes() {
    let (first, second) = (FakeDrive::with_capacity(2), FakeDrive::default());
    (first.tape().tells_position, first.tape().writes_despite_enospc) = (true, true);
    let mut sink = sink(&first, std::slice::from_ref(&second), TapeOptions::default());
    sink.begin(&start(0)).unwrap();
    write(&mut sink, 0..4).unwrap();
    sink.finish().unwrap();
    assert_eq!(first.files()[0], [block(0), block(1), block(2)].concat());
    assert_eq!(second.files()[0], block(3));
    assert_eq!(sink.accepted(), 40);
}

#[test]
fn a_filemark_may_be_refused_once_at_the_early_warning() {
    let drive = FakeDrive::default();
    let mut sink = sink(&drive, &[], TapeOptions::default());
    sink.begin(&start(0)).unwrap();
    write(&mut sink, 0..1).unwrap();
    drive.tape().mark_errors.push_back(Some(Errno::ENOSPC));
    sink.finish().unwrap();
    assert_eq!(drive.tape().items.last(), Some(&Item::Mark));
}

#[test]
fn a_filemark_that_fails_and_a_close_that_fails_are_errors() {
    let drive = FakeDrive::default();
    let mut to = sink(&drive, &[], TapeOptions::default());
    to.begin(&start(0)).unwrap();
    write(&mut to, 0..1).unwrap();
    drive.tape().mark_errors.extend([Some(Errno::EIO), Some(Errno::EIO)]);
    let error = to.finish().unwrap_err();
    assert!(error.to_string().contains("writing the filemark"), "{error}");
    assert!(error.to_string().contains("up to offset 0, is on it for sure"), "{error}");
    assert_eq!(to.synced(), 0);

    let drive = FakeDrive::default();
    let mut to = sink(&drive, &[], TapeOptions::default());
    to.begin(&start(0)).unwrap();
    write(&mut to, 0..1).unwrap();
    drive.tape().close_error = Some(libc::EIO);
    let error = to.finish().unwrap_err();
    assert!(error.to_string().contains("closing") && error.os_error() == Some(libc::EIO), "{error}");
}

#[test]
fn what_the_drive_does_not_take_is_refused_before_anything_is_written() {
    let drive = FakeDrive::default();
    drive.tape().limits = Some(Limits { least: 16, most: 1024 });
    let error = sink(&drive, &[], TapeOptions::default()).begin(&start(0)).unwrap_err();
    assert!(error.is(ErrorKind::Usage) && error.to_string().contains("16 to 1,024 bytes"), "{error}");
    drive.tape().fixed = 4;
    let error = sink(&drive, &[], TapeOptions::default()).begin(&start(0)).unwrap_err();
    assert!(error.to_string().contains("set to blocks of 4 bytes"), "{error}");
    assert!(drive.tape().items.is_empty());
    drive.tape().fixed = 5;
    sink(&drive, &[], TapeOptions::default()).begin(&start(0)).unwrap();
}

#[test]
fn in_fixed_mode_a_write_is_several_blocks_and_the_last_is_filled_up() {
    let drive = FakeDrive::default();
    drive.tape().fixed = 5;
    let mut sink = sink(&drive, &[], TapeOptions::default());
    sink.begin(&start(0)).unwrap();
    write(&mut sink, 0..1).unwrap();
    sink.write_block(b"end").unwrap();
    sink.finish().unwrap();
    assert_eq!(drive.files()[0], b"0000000000end\0\0");
    assert_eq!((sink.accepted(), sink.volumes().all()[0].blocks), (13, 3));
}

#[test]
fn each_volume_begins_with_its_label_and_keeps_the_size_of_blocks() {
    let (first, second) = (FakeDrive::with_capacity(2), FakeDrive::default());
    first.tape().fixed = 512;
    let mut sink = sink(
        &first,
        std::slice::from_ref(&second),
        TapeOptions { label: Some("week".into()), ..TapeOptions::default() },
    );
    sink.begin(&SinkStart { block_size: 512, ..start(0) }).unwrap();
    (0..2).for_each(|_| sink.write_block(&[7; 512]).unwrap());
    sink.finish().unwrap();
    for (drive, volume) in [(first, 1), (second, 2)] {
        let tape = drive.tape();
        assert_eq!(tape.fixed, 512, "a drive may forget with its tape what it was set to");
        let Item::Block(label) = &tape.items[0] else { panic!() };
        assert_eq!(Label::read(label).map(|label| (label.text, label.volume)), Some(("week".into(), volume)));
        assert_eq!(tape.items[1], Item::Block(vec![7; 512]));
    }
}

#[test]
fn a_cancelled_run_ends_a_write_that_is_interrupted_and_nothing_else_does() {
    let drive = FakeDrive::default();
    let cancel = CancelToken::default();
    let mut sink = sink(&drive, &[], TapeOptions::default());
    sink.begin(&SinkStart { cancel: cancel.clone(), ..start(0) }).unwrap();
    drive.tape().write_errors.push_back(Some(libc::EINTR));
    write(&mut sink, 0..1).unwrap();
    cancel.cancel();
    drive.tape().write_errors.push_back(Some(libc::EINTR));
    let error = write(&mut sink, 1..2).unwrap_err();
    assert_eq!(error.to_string(), "writing \"/dev/nst0\" at block 1 (offset 10): the run was given up");
    sink.finish().unwrap();
    assert_eq!(drive.files()[0], block(0), "what was accepted is brought to the tape");
}

/// A tape with an older file, and an archive of five blocks whose end was lost.
fn interrupted(tells_position: bool) -> (FakeDrive, Volume) {
    let drive = FakeDrive::default();
    drive.tape().tells_position = tells_position;
    drive.tape().items = vec![Item::Block(b"old".to_vec()), Item::Mark];
    drive.tape().at = 2;
    let mut first = sink(&drive, &[], TapeOptions::default());
    first.begin(&start(0)).unwrap();
    write(&mut first, 0..5).unwrap();
    (drive, first.volumes().all()[0].clone())
}

#[test]
fn a_tape_goes_on_at_a_block_by_address_and_by_counting() {
    for tells_position in [true, false] {
        let (drive, volume) = interrupted(tells_position);
        assert_eq!((volume.file, volume.block), (Some(1), Some(0)));
        assert_eq!(locate::go_to(&mut drive.clone(), &volume, 30).unwrap(), 30);
        let sought = drive.tape().calls.iter().any(|call| call.starts_with("Seek"));
        assert_eq!(sought, tells_position);
        let mut again = sink(&drive, &[], TapeOptions::default());
        again.resume_at(volume.clone(), 30, Vec::new());
        again.begin(&start(30)).unwrap();
        write(&mut again, 7..9).unwrap();
        again.finish().unwrap();
        let wanted = [block(0), block(1), block(2), block(7), block(8)].concat();
        assert_eq!(drive.files(), [b"old".to_vec(), wanted, vec![]]);
        assert_eq!(again.volumes().all().last().unwrap().blocks, 5);
    }
}

#[test]
fn a_tape_that_ends_early_is_brought_as_far_as_it_goes() {
    for tells_position in [true, false] {
        let (drive, volume) = interrupted(tells_position);
        drive.tape().items.truncate(5);
        assert_eq!(locate::go_to(&mut drive.clone(), &volume, 40).unwrap(), 30);
    }
}

#[test]
fn addresses_that_do_not_count_blocks_are_forgotten() {
    let drive = FakeDrive::default();
    drive.tape().tells_position = true;
    let mut sink = sink(&drive, &[], TapeOptions::default());
    sink.begin(&start(0)).unwrap();
    write(&mut sink, 0..1).unwrap();
    // The drive says that it stands elsewhere.
    drive.tape().items.push(Item::Block(vec![1]));
    drive.tape().at += 1;
    sink.finish().unwrap();
    assert_eq!(sink.volumes().all()[0].position, None);
}

/// A sink on a tape that holds what `items` says.
fn on(items: Vec<Item>, options: TapeOptions) -> (FakeDrive, TapeSink) {
    let drive = FakeDrive::default();
    drive.tape().items = items;
    let sink = sink(&drive, &[], options);
    (drive, sink)
}

fn labelled(text: &str) -> TapeOptions {
    TapeOptions { label: Some(text.into()), ..TapeOptions::default() }
}

#[test]
fn a_label_of_another_series_is_written_over_only_by_force() {
    let items = || vec![Item::Block(label_block("week 47", 2, 0)), Item::Block(block(1)), Item::Mark];
    for options in [TapeOptions::default(), labelled("week 48")] {
        let (drive, mut refused) = on(items(), options.clone());
        let error = refused.prepare(&start(0)).unwrap_err().to_string();
        assert!(error.contains("is volume 2 of \"week 47\""), "{error}");
        assert_eq!(drive.tape().items, items(), "it stays as it is");
        let (drive, mut forced) = on(items(), TapeOptions { force: true, ..options });
        forced.prepare(&start(0)).unwrap();
        assert_eq!(drive.tape().items, items());
        assert_eq!(drive.tape().at, 0, "brought back");
    }
    let (_, mut again) = on(items(), labelled("week 47"));
    again.prepare(&start(0)).unwrap();
}

#[test]
fn a_volume_of_this_run_is_not_written_again() {
    for options in [TapeOptions::default(), labelled("week"), TapeOptions { force: true, ..labelled("week") }] {
        let first = FakeDrive::with_capacity(3);
        // Nobody has changed the tape.
        let mut sink = sink(&first, std::slice::from_ref(&first), options);
        sink.prepare(&start(0)).unwrap();
        sink.begin(&start(0)).unwrap();
        let error = write(&mut sink, 0..9).unwrap_err().to_string();
        assert!(error.contains("volume 1 of ") && error.ends_with("; volume 2 is wanted"), "{error}");
        let _ = sink.finish();
        assert_eq!(first.tape().items.len(), 4, "three blocks and the filemark");
    }
}

#[test]
fn a_further_volume_begins_at_the_beginning_whatever_the_driver_counts() {
    let (first, second) = (FakeDrive::with_capacity(2), FakeDrive::default());
    second.tape().stale_files = 1;
    let mut sink = sink(&first, std::slice::from_ref(&second), TapeOptions::default());
    sink.prepare(&start(0)).unwrap();
    sink.begin(&start(0)).unwrap();
    write(&mut sink, 0..4).unwrap();
    sink.finish().unwrap();
    let volume = sink.volumes().all()[1].clone();
    assert_eq!((volume.number, volume.file, volume.block), (2, Some(0), Some(0)));
}

#[test]
fn a_place_behind_other_files_is_told_as_it_was_before_it_was_looked_at() {
    for tells_position in [true, false] {
        let (drive, mut sink) = on(vec![Item::Block(block(1)), Item::Mark], TapeOptions::default());
        (drive.tape().at, drive.tape().tells_position) = (2, tells_position);
        sink.prepare(&start(0)).unwrap();
        sink.begin(&start(0)).unwrap();
        write(&mut sink, 0..4).unwrap();
        sink.finish().unwrap();
        let volume = sink.volumes().all()[0].clone();
        assert_eq!((volume.file, volume.block), (Some(1), Some(0)));
        let numbers: Vec<u64> = volume.known.iter().map(|known| known.number).collect();
        assert_eq!(numbers, [0, 2, 3], "the first block, and the last two");
        assert_eq!(volume.known[2], KnownBlock::of(3, &block(3)));
    }
}

#[test]
fn a_first_volume_behind_other_files_is_known_again() {
    for tells_position in [true, false] {
        let first = FakeDrive::with_capacity(6);
        first.tape().items = vec![Item::Block(block(9)), Item::Mark, Item::Block(block(8)), Item::Mark];
        (first.tape().at, first.tape().tells_position) = (4, tells_position);
        let mut sink = sink(&first, std::slice::from_ref(&first), TapeOptions::default());
        sink.prepare(&start(0)).unwrap();
        sink.begin(&start(0)).unwrap();
        let error = write(&mut sink, 0..9).unwrap_err().to_string();
        assert!(error.contains("is volume 1 of this archive; volume 2 is wanted"), "{error}");
        assert_eq!(first.tape().items.len(), 9, "two files, four blocks and a filemark");
    }
}

#[test]
fn a_tape_that_stands_elsewhere_than_the_driver_says_is_not_written_over() {
    for (tells_position, fixed) in [(true, 0), (false, 0), (true, 10), (false, 10)] {
        // Killed behind three blocks, just after they were brought to the tape.
        let items = || (0..3).map(|n| Item::Block(block(n))).collect::<Vec<_>>();
        let (drive, mut sink) = on(items(), TapeOptions::default());
        (drive.tape().at, drive.tape().counts_from) = (3, 3);
        (drive.tape().tells_position, drive.tape().fixed) = (tells_position, fixed);
        let told = sink.prepare(&start(0));
        assert_eq!(drive.tape().items, items());
        match tells_position {
            true => assert_eq!(drive.tape().at, 3, "behind what is there"),
            false => assert!(told.unwrap_err().to_string().contains("does not know where the tape stands")),
        }
    }
}

/// What a drive tells of a cartridge with so many bytes left of so many.
fn told(left: u64, whole: u64) -> DriveFacts {
    DriveFacts {
        cartridge: CartridgeFacts {
            barcode: Some("WK4801L8".into()),
            capacity: Capacity { left: Some(left), whole: Some(whole) },
            ..CartridgeFacts::default()
        },
        ..DriveFacts::default()
    }
}

fn asking(demands: DriveDemands) -> TapeOptions {
    TapeOptions { asks_drive: true, demands, ..TapeOptions::default() }
}

/// Whether `bytes` may be written to a drive that tells `facts`.
fn prepared(facts: DriveFacts, demands: DriveDemands, bytes: Option<u64>) -> Result<()> {
    let drive = FakeDrive::default();
    drive.tape().facts.push_back(facts);
    let mut sink = sink(&drive, &[], asking(demands));
    let outcome = sink.prepare(&SinkStart { expected: bytes, ..start(0) });
    assert!(drive.tape().items.is_empty());
    outcome
}

#[test]
fn room_is_demanded_before_the_first_byte() {
    let room = DriveDemands { room: true, ..DriveDemands::default() };
    prepared(told(1000, 4000), room, Some(1000)).unwrap();
    // Without the demand it is a warning.
    prepared(told(1000, 4000), DriveDemands::default(), Some(5001)).unwrap();
    for (bytes, volumes) in [(1001, 2), (5000, 2), (5001, 3)] {
        let error = prepared(told(1000, 4000), room, Some(bytes)).unwrap_err();
        assert!(error.is(ErrorKind::Full), "{error}");
        let text = error.to_string();
        assert!(
            text.contains(&format!("it takes {volumes} volumes")) && text.contains("WK4801L8 has room for 1,000"),
            "{text}"
        );
    }
    // At its beginning the whole cartridge is free, whatever is on it.
    let position = Some(TapePosition { at_beginning: true, ..TapePosition::default() });
    prepared(DriveFacts { position, ..told(1000, 4000) }, room, Some(4000)).unwrap();
    let untold = prepared(DriveFacts::default(), room, Some(1)).unwrap_err().to_string();
    assert!(untold.contains("does not tell what is left"), "{untold}");
    let unknown = prepared(told(1000, 4000), room, None).unwrap_err().to_string();
    assert!(unknown.contains("not known beforehand"), "{unknown}");
}

#[test]
fn encryption_is_demanded_before_the_first_byte() {
    let demands = DriveDemands { encryption: true, ..DriveDemands::default() };
    let with = |encryption| prepared(DriveFacts { encryption, ..DriveFacts::default() }, demands, Some(1));
    with(Some(Encryption::On)).unwrap();
    for (encryption, why) in [
        (Some(Encryption::Off), "the drive does not encrypt"),
        (Some(Encryption::External), "without encrypting it"),
        (None, "does not tell whether it encrypts"),
    ] {
        let error = with(encryption).unwrap_err().to_string();
        assert!(error.contains("--require-encryption") && error.contains(why), "{error}");
    }
}

/// What came up while a volume was written is told of it, even if writing failed.
#[test]
fn what_the_drive_told_is_kept() {
    for fails in [false, true] {
        let drive = FakeDrive::default();
        let worse = DriveFacts { alerts: Some(vec![alert(6)]), ..told(1000, 4000) };
        drive.tape().facts.extend([told(1000, 4000), worse]);
        if fails {
            drive.tape().mark_errors.push_back(Some(Errno::EIO));
        }
        let mut sink = sink(&drive, &[], asking(DriveDemands::default()));
        sink.prepare(&start(0)).unwrap();
        sink.begin(&start(0)).unwrap();
        sink.write_block(&[1; 10]).unwrap();
        assert_eq!(sink.finish().is_err(), fails);
        let volume = sink.volumes().all().remove(0);
        assert_eq!(volume.barcode.as_deref(), Some("WK4801L8"));
        let words = volume.change.and_then(|change| change.in_words());
        assert_eq!(words.as_deref(), Some("TapeAlert 6: write failure"));
    }
}

#[test]
fn a_resume_wants_the_cartridge_of_the_checkpoint() {
    let volume = |barcode: Option<&str>| Volume { number: 2, barcode: barcode.map(String::from), ..Volume::default() };
    let facts = told(1, 1);
    for same in [volume(None), volume(Some("WK4801L8"))] {
        check_barcode("d", &facts.cartridge, &same, false).unwrap();
    }
    check_barcode("d", &CartridgeFacts::default(), &volume(Some("WK4802L8")), false).unwrap();
    check_barcode("d", &facts.cartridge, &volume(Some("WK4802L8")), true).unwrap();
    let error = check_barcode("d", &facts.cartridge, &volume(Some("WK4802L8")), false).unwrap_err().to_string();
    assert_eq!(
        error,
        "the cartridge WK4801L8 is in d, and the checkpoint says that volume 2 is WK4802L8 (put in WK4802L8)"
    );
}
