//! `--resume`: where an interrupted archive can be taken up.
//!
//! The bytes of an archive are a function of its plan, so an archive in a file can go on at any
//! block, and a compressed one where a frame ends. What is there already is compared with the plan
//! first: two plans are never mixed.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::Path,
};

use crate::{
    archive::{
        checkpoint::{self, Record},
        write::{
            compress::{self, Codec, Format},
            plan::{Content, Plan},
            producer::Behind,
        },
    },
    error::{Context, Error, Result},
    log,
    media::{
        sink::{Sink, Volume},
        tape::{
            locate,
            sink::{self, Drive},
        },
    },
    oci::{Descriptor, Digest, Manifest, annotation, media},
    util::units::grouped,
};

/// No index that this tool writes is longer.
const INDEX_MAX: u64 = 64 << 20;

/// Where to go on.
#[derive(Default)]
pub struct Found {
    /// Offset in the plan's stream from which on it is made anew.
    pub plan: u64,
    /// Offset on the medium from which on it is written anew.
    pub medium: u64,
    /// What stands between that and what is made anew: the beginning of a block.
    pub kept: Vec<u8>,
    /// The ledger's records that stay.
    pub records: Vec<Record>,
    /// Reads what stays of the plan's stream.
    pub behind: Option<Box<dyn Behind>>,
}

/// An archive in a file.
struct Plain(File);

impl Behind for Plain {
    fn read_from(&self, offset: u64) -> Result<Box<dyn Read>> {
        let mut file = self.0.try_clone().doing(|| "reading it")?;
        file.seek(SeekFrom::Start(offset)).doing(|| "reading it")?;
        Ok(Box::new(file))
    }
}

/// The frames behind the last record of a compressed archive.
struct Frames {
    file: File,
    format: Format,
    /// Where the first begins in the file, and in the plan's stream.
    at: u64,
    offset: u64,
}

impl Behind for Frames {
    fn read_from(&self, offset: u64) -> Result<Box<dyn Read>> {
        let doing = || "reading it";
        let mut file = self.file.try_clone().doing(doing)?;
        file.seek(SeekFrom::Start(self.at)).doing(doing)?;
        let mut from = decoder(BufReader::new(file), self.format).doing(doing)?;
        let skip = offset.checked_sub(self.offset).ok_or_else(|| Error::new("that frame is not kept"))?;
        std::io::copy(&mut from.by_ref().take(skip), &mut std::io::sink()).doing(doing)?;
        Ok(from)
    }
}

/// Looks at what an interrupted run has left in the file at `path`, and in its ledger. Blocks are of
/// `block` bytes.
///
/// # Errors
/// If that is no beginning of the archive that is planned: then it says what has changed.
pub fn examine(plan: &Plan, path: &Path, ledger: &Path, codec: Option<Codec>, block: u64) -> Result<Found> {
    let doing = || format!("resuming {path:?}");
    let file = File::open(path).doing(doing)?;
    let length = file.metadata().doing(doing)?.len();
    let mut records = match ledger.exists() {
        true => checkpoint::records(ledger)?,
        false => Vec::new(),
    };
    belong(plan, &records).map_err(|e| explained(e, plan, path, codec)).doing(doing)?;
    let told = records.len();
    records.retain(|record| record.offset <= length);
    if records.len() < told {
        log::warn(format_args!(
            "{path:?} has {} bytes, and the checkpoint {ledger:?} speaks of more: what is missing is made again",
            grouped(length)
        ));
    }
    let looked = match codec {
        None => plain(plan, &file, length, records, block),
        Some(codec) => compressed(plan, &file, records, codec, block),
    };
    looked.map_err(|e| explained(e, plan, path, codec)).doing(doing)
}

/// Whether records speak of the planned archive.
fn belong(plan: &Plan, records: &[Record]) -> Result<()> {
    for (n, record) in records.iter().enumerate() {
        if plan.blob_end(n).is_none() || *plan.digest(n as u32) != record.digest {
            return Err(another(format_args!("the checkpoint says that blob {n} is {}", record.digest)));
        }
    }
    Ok(())
}

/// Positions the tape in the drive at `path` where an interrupted run can be taken up: in front of the
/// last block that both the ledger and the tape have, and that ends behind the last whole blob. What
/// the block holds of whole blobs is read, and written again with what follows.
///
/// # Errors
/// If the tape or the ledger is of another archive; then nothing was written.
pub fn on_tape(
    plan: &Plan,
    path: &Path,
    ledger: &Path,
    codec: Option<Codec>,
    block: u64,
    options: sink::Options,
) -> Result<(Found, Box<dyn Sink>)> {
    let doing = || format!("resuming on the tape in {path:?}");
    let mut records = checkpoint::records(ledger)?;
    belong(plan, &records).doing(doing)?;
    let moved = |(n, record): (usize, &Record)| plan.blob_end(n) != Some(record.offset);
    if codec.is_none() && records.iter().enumerate().any(moved) {
        return Err(another("blobs end elsewhere")).doing(doing);
    }
    loop {
        let last = records.last().ok_or_else(|| Error::new("the tape holds nothing that the ledger speaks of"));
        let last = last.doing(doing)?.clone();
        let Some(volume) = last.volume else {
            return Err(Error::usage("the ledger is that of a file, not of a tape")).doing(doing);
        };
        let (fixed, size) = (u64::from(locate::block_size(path).doing(doing)?), u64::from(volume.size));
        if (if fixed > 0 { fixed } else { block }) != size || !block.is_multiple_of(size) {
            let why = format!("the tape has blocks of {} bytes", grouped(size));
            let hint = match fixed {
                0 => format!("give --block-size {size}"),
                _ => format!("mt setblk {size}, and a --block-size that is a multiple of it"),
            };
            return Err(Error::usage(why).hint(hint)).doing(doing);
        }
        if volume.number == 1 {
            same_beginning(plan, path, &volume, codec, block).doing(doing)?;
        }
        let at = (last.offset / block * block).max(volume.offset);
        let need = (last.offset - at) as usize;
        let (mut tape, mut reached) = locate::go_to(path, &volume, at).doing(doing)?;
        let mut kept = Vec::new();
        if need > 0 && reached == at {
            kept = locate::read_block(&tape, block as usize).doing(doing)?;
            drop(tape);
            (tape, reached) = locate::go_to(path, &volume, at).doing(doing)?;
        }
        if reached < at || kept.len() < need {
            log::warn(format_args!(
                "{path:?}: the tape ends before offset {}, of which the ledger speaks: what is missing is made again",
                grouped(last.offset)
            ));
            records.retain(|record| record.offset <= reached && record.offset < last.offset);
            continue;
        }
        kept.truncate(need);
        log::info(format_args!(
            "{path:?}: going on with volume {} at block {} of the archive",
            volume.number,
            grouped((at - volume.offset) / u64::from(volume.size))
        ));
        let mut sink = Drive::new(tape, Some(path), format!("{path:?}"), options);
        sink.go_on(volume, at);
        let end = plan.blob_end(records.len() - 1).unwrap_or(0);
        return Ok((Found { plan: end, medium: at, kept, records, behind: None }, Box::new(sink)));
    }
}

/// Whether the first block of the archive on a tape is what is planned, as far as that is known here.
fn same_beginning(plan: &Plan, path: &Path, volume: &Volume, codec: Option<Codec>, block: u64) -> Result<()> {
    let (tape, _) = locate::go_to(path, volume, volume.offset)?;
    let block = locate::read_block(&tape, block as usize)?;
    let mut known = Vec::new();
    for entry in 0..plan.entries() {
        match plan.content(entry) {
            Content::Directory(_) => known.extend(plan.header(entry)),
            Content::File(_, bytes) | Content::Held(_, bytes) => {
                known.extend(plan.header(entry));
                known.extend(&*bytes);
                known.resize(known.len().next_multiple_of(512), 0);
            }
            Content::Fetched(_) | Content::End => break,
        }
    }
    let there = match codec {
        None => block,
        Some(codec) => {
            let mut begin = Vec::new();
            // The block may end in the middle of a frame.
            if let Ok(from) = decoder(&block[..], codec.format) {
                let _ = from.take(known.len() as u64).read_to_end(&mut begin);
            }
            begin
        }
    };
    let n = known.len().min(there.len());
    match known[..n] == there[..n] && n > 0 {
        true => Ok(()),
        false => Err(another("the tape begins otherwise")),
    }
}

fn plain(plan: &Plan, file: &File, length: u64, mut records: Vec<Record>, block: u64) -> Result<Found> {
    if let Some((n, record)) = records.iter().enumerate().find(|(n, r)| plan.blob_end(*n) != Some(r.offset)) {
        return Err(another(format_args!("the checkpoint says that blob {n} ends at {}", record.offset)));
    }
    if length > plan.total() {
        let why = format!("it has {} bytes, and the archive will have {}", grouped(length), grouped(plan.total()));
        return Err(another(why));
    }
    let known = records.last().map_or(0, |record| record.offset);
    let at = length / block * block;
    for entry in 0..plan.entries() {
        let start = plan.start(entry);
        if start >= length {
            break;
        }
        let (header, mut from) = (plan.header(entry), start);
        let mut compare = |bytes: &[u8]| {
            let n = bytes.len().min(length.saturating_sub(from) as usize);
            let mut there = vec![0; n];
            file.read_exact_at(&mut there, from)?;
            from += n as u64;
            Ok::<bool, std::io::Error>(there == bytes[..n])
        };
        let mut same = compare(&header).doing(|| "reading it")?;
        match plan.content(entry) {
            Content::File(_, bytes) | Content::Held(_, bytes) => same &= compare(&bytes).doing(|| "reading it")?,
            // What the ledger does not speak of is hashed.
            Content::Fetched(blob) if from + plan.size(blob) <= length && from + plan.size(blob) > known => {
                same &= has_digest(file, from, plan.size(blob), plan.digest(blob)).doing(|| "reading it")?;
            }
            Content::Fetched(_) | Content::Directory(_) | Content::End => {}
        }
        if !same {
            return Err(another(format_args!("what it holds at offset {} is not what is planned", grouped(start))));
        }
    }
    records.retain(|record| record.offset <= at);
    let behind = Plain(file.try_clone().doing(|| "opening it")?);
    Ok(Found { plan: at, medium: at, kept: Vec::new(), records, behind: Some(Box::new(behind)) })
}

fn has_digest(file: &File, mut from: u64, mut left: u64, digest: &Digest) -> std::io::Result<bool> {
    let (mut hasher, mut piece) = (digest.hasher(), vec![0; 1 << 20]);
    while left > 0 {
        let n = piece.len().min(left.try_into().unwrap_or(usize::MAX));
        file.read_exact_at(&mut piece[..n], from)?;
        hasher.update(&piece[..n]);
        (from, left) = (from + n as u64, left - n as u64);
    }
    Ok(hasher.finish() == *digest)
}

fn compressed(plan: &Plan, file: &File, records: Vec<Record>, codec: Codec, block: u64) -> Result<Found> {
    // The first frame holds all that stands in front of the first blob.
    let mut begin = Vec::new();
    for entry in 0..plan.entries() {
        match plan.content(entry) {
            Content::File(_, bytes) => {
                begin.extend(plan.header(entry));
                begin.extend(&*bytes);
                begin.resize(begin.len().next_multiple_of(512), 0);
            }
            _ => break,
        }
    }
    let mut there = Vec::new();
    let from = beginning(file).and_then(|file| decoder(file, codec.format));
    let mut from = from.doing(|| "reading it")?.take(begin.len() as u64);
    // A run may have ended in the first frame.
    let decoded = from.read_to_end(&mut there);
    if !begin.starts_with(&there) || !has_magic(file, codec.format) {
        return Err(another("it begins otherwise"));
    }
    let Some(last) = records.last() else { return Ok(Found::default()) };
    if let Err(e) = decoded {
        return Err(another(format_args!("it does not decompress: {e}")));
    }
    let mut offset = plan.blob_end(records.len() - 1).unwrap_or(0);
    let frames =
        Frames { file: file.try_clone().doing(|| "opening it")?, format: codec.format, at: last.offset, offset };
    // Whole frames of the blob that the run broke off in.
    let mut from = BufReader::new(file.try_clone().doing(|| "reading it")?);
    let mut end = last.offset;
    from.seek(SeekFrom::Start(end)).doing(|| "reading it")?;
    while offset < plan.total() {
        let planned = compress::frame_end(plan, offset);
        let whole = compress::read_frame(codec.format, &mut from, &mut std::io::sink());
        // A blob's last frame was kept back until its digest had proved right, and has its record.
        let is_last = plan.blob_end(plan.blob_after(offset)).is_none_or(|blob| planned == blob);
        if is_last || whole.ok() != Some(planned - offset) {
            break;
        }
        end = from.stream_position().doing(|| "reading it")?;
        offset = planned;
    }
    let medium = end / block * block;
    let mut kept = vec![0; (end - medium) as usize];
    file.read_exact_at(&mut kept, medium).doing(|| "reading it")?;
    Ok(Found { plan: offset, medium, kept, records, behind: Some(Box::new(frames)) })
}

fn has_magic(file: &File, format: Format) -> bool {
    let magic: &[u8] = match format {
        Format::Zstd => &[0x28, 0xB5, 0x2F, 0xFD],
        Format::Gzip => &[0x1F, 0x8B],
    };
    let mut there = [0; 4];
    let n = file.read_at(&mut there, 0).unwrap_or(0).min(magic.len());
    magic.starts_with(&there[..n])
}

/// Reads frame after frame.
fn decoder<'a>(from: impl BufRead + 'a, format: Format) -> std::io::Result<Box<dyn Read + 'a>> {
    Ok(match format {
        Format::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(from)?),
        Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(from)),
    })
}

/// From the beginning of the file.
fn beginning(file: &File) -> std::io::Result<BufReader<File>> {
    let mut file = file.try_clone()?;
    file.rewind()?;
    Ok(BufReader::new(file))
}

/// It is the beginning of another archive.
fn another(why: impl std::fmt::Display) -> Error {
    Error::new(format!("it is not the beginning of the archive that is planned: {why}"))
        .hint("with the same sources, flags and version of this program it can go on; --force starts again")
}

/// Adds to an error which sources have moved on, if some have.
fn explained(error: Error, plan: &Plan, path: &Path, codec: Option<Codec>) -> Error {
    let sources = |bytes: &[u8]| -> Option<BTreeMap<String, Vec<Digest>>> {
        let root = Manifest::parse(media::INDEX, bytes).ok()?;
        let mut all: BTreeMap<String, Vec<Digest>> = BTreeMap::new();
        for descriptor in root.extra_manifests().ok()?.into_iter().chain(root.manifests) {
            let name = descriptor.annotations.get(annotation::SOURCE)?.clone();
            all.entry(name).or_default().push(descriptor.digest);
        }
        Some(all)
    };
    let planned = (0..plan.entries()).find_map(|entry| match plan.content(entry) {
        Content::Held(0, bytes) => sources(&bytes),
        _ => None,
    });
    let begun = File::open(path).ok().and_then(|file| root_of(file, codec)).and_then(|bytes| sources(&bytes));
    let (Some(planned), Some(begun)) = (planned, begun) else { return error };
    let list = |digests: &[Digest]| digests.iter().map(Digest::to_string).collect::<Vec<_>>().join(" and ");
    let mut moved = Vec::new();
    for (name, digests) in &planned {
        match begun.get(name) {
            Some(before) if before == digests => {}
            Some(before) => moved.push(format!("{name} was {}, and is now {}", list(before), list(digests))),
            None => moved.push(format!("{name} was not in it")),
        }
    }
    moved.extend(begun.keys().filter(|name| !planned.contains_key(*name)).map(|name| format!("{name} is missing now")));
    match moved.is_empty() {
        true => error,
        false => error.doing(format!("the sources have moved on since it was begun: {}", moved.join("; "))),
    }
}

/// The root's manifest in an archive, whole or not.
fn root_of(mut file: File, codec: Option<Codec>) -> Option<Vec<u8>> {
    let from: Box<dyn Read> = match codec {
        None => Box::new(BufReader::new(&mut file)),
        Some(codec) => decoder(beginning(&file).ok()?, codec.format).ok()?,
    };
    let mut archive = tar::Archive::new(from);
    let mut root: Option<Descriptor> = None;
    for entry in archive.entries().ok()? {
        let mut entry = match entry {
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            other => other.ok()?,
        };
        let name = String::from_utf8(entry.path_bytes().into_owned()).ok()?;
        let wanted = root.as_ref().map_or("index.json".into(), |root| root.digest.path());
        if name != wanted {
            continue;
        }
        let mut bytes = Vec::new();
        entry.by_ref().take(INDEX_MAX).read_to_end(&mut bytes).ok()?;
        if root.is_some() {
            return Some(bytes);
        }
        root = Manifest::parse(media::INDEX, &bytes).ok()?.manifests.into_iter().next();
        root.as_ref()?;
    }
    None
}
