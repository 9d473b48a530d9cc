//! `mirror diff`: the sources of a gathered artifact that others do not have.

use std::{
    collections::{BTreeSet, HashSet},
    path::PathBuf,
    sync::Arc,
};

use nix::fcntl::OFlag;

use super::{path_conflicts, setup, setup::Setup};
use crate::{
    cli::{
        args::ListFormat,
        deliver_options::DiffOptions,
        output::print,
        progress::{Progress, ProgressOptions},
    },
    error::{Context, Error, Result, one_line},
    fd,
    oci::{Descriptor, Digest, Manifest, annotation, json, layout::DEPTH_MAX, media},
    store::{Locator, Origin, Store, graph::Graph},
    util::{csv, units::grouped},
};

/// One source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct DiffRow {
    reference: String,
    digest: Digest,
    /// Bytes that it adds to those before it, if they are asked for.
    bytes: Option<u64>,
}

/// # Errors
/// If an image cannot be had, the first is no gathered artifact, or the list cannot be written.
pub fn run(options: &DiffOptions) -> Result<()> {
    let files = options.outputs.iter().filter_map(|(_, file)| file.as_deref());
    let written: Vec<_> = files.map(|file| ("--output", file)).collect();
    let archives = options.existing.iter().chain([&options.image]).filter_map(Locator::archive);
    let read: Vec<_> = archives.map(|file| ("IMAGE", file)).collect();
    // One archive may be named twice, but not written over.
    path_conflicts::check(&read[..read.len().min(1)], &written)?;
    let setup = Setup::new(&options.connection)?;
    let store = &*setup.store;
    let resolve = |image: &Locator| store.resolve(image).doing(|| format!("resolving {image}"));
    let (root, bytes) = resolve(&options.image)?;
    let Some(gather) = gather(&root, &bytes)? else {
        return Err(Error::new(format!("{} is no gathered artifact, but {}", options.image, root.media_type)));
    };
    let mut known = HashSet::new();
    for image in &options.existing {
        let (root, bytes) = resolve(image)?;
        let mut walk =
            SourceWalk { store, origin: image.origin(), expand: true, seen: &mut known, sources: Vec::new() };
        walk.seen.insert(root.digest.clone());
        if let Some(existing) = self::gather(&root, &bytes)? {
            walk.walk(&existing, 0)?;
        }
    }
    let mut seen = HashSet::new();
    let mut walk = SourceWalk {
        store,
        origin: options.image.origin(),
        expand: options.expand,
        seen: &mut seen,
        sources: Vec::new(),
    };
    walk.walk(&gather, 0)?;
    let mut sources = walk.sources;
    sources.retain(|source| !known.contains(&source.digest));
    let rows: BTreeSet<DiffRow> = sources
        .iter()
        .map(|source| DiffRow { reference: name(source), digest: source.digest.clone(), bytes: None })
        .collect();
    let mut rows: Vec<DiffRow> = rows.into_iter().collect();
    if options.bytes {
        count_bytes(options, &setup, &mut rows, &sources)?;
    }
    for (format, file) in &options.outputs {
        let text = match format {
            ListFormat::Csv => comma_separated(&rows, options.bytes),
            ListFormat::Json => objects(&rows),
            ListFormat::Table => table(&rows, options.bytes),
        };
        match file {
            None => print(&text)?,
            Some(file) => write(file, &text)?,
        }
    }
    Ok(())
}

/// A gather index, if this is one.
fn gather(descriptor: &Descriptor, bytes: &[u8]) -> Result<Option<Manifest>> {
    if !media::is_index(&descriptor.media_type) {
        return Ok(None);
    }
    let doing = || format!("reading {}", descriptor.digest);
    let index = Manifest::parse(&descriptor.media_type, bytes).map_err(Error::new).doing(doing)?;
    Ok(Some(index).filter(|index| index.artifact_type == media::GATHER))
}

fn name(source: &Descriptor) -> String {
    source.annotations.get(annotation::SOURCE).cloned().unwrap_or_default()
}

/// Collects the sources of a gather index, and of those in it.
struct SourceWalk<'a> {
    store: &'a dyn Store,
    origin: Origin,
    /// A nested gather is replaced by its sources.
    expand: bool,
    seen: &'a mut HashSet<Digest>,
    sources: Vec<Descriptor>,
}

impl SourceWalk<'_> {
    fn walk(&mut self, index: &Manifest, depth: usize) -> Result<()> {
        let extra = index.extra_manifests().map_err(Error::new)?;
        for source in index.manifests.iter().chain(&extra) {
            let is_new = self.seen.insert(source.digest.clone());
            let nested = match self.expand && media::is_index(&source.media_type) && depth < DEPTH_MAX {
                true => {
                    let bytes: Arc<[u8]> = self.store.manifest(&self.origin, source)?;
                    gather(source, &bytes)?
                }
                false => None,
            };
            match nested {
                // Once is enough, whoever else lists it.
                Some(nested) if is_new => self.walk(&nested, depth + 1)?,
                Some(_) => {}
                None => self.sources.push(source.clone()),
            }
        }
        Ok(())
    }
}

/// What each source adds: blobs and manifests that neither the existing images nor a source before it has.
fn count_bytes(options: &DiffOptions, setup: &Setup, rows: &mut [DiffRow], sources: &[Descriptor]) -> Result<()> {
    let progress = Progress::new(&ProgressOptions { quiet: true, ..ProgressOptions::default() })?;
    let mut there = HashSet::new();
    let mut take = |graph: &Graph, descriptor: &Descriptor| -> Result<u64> {
        let found = graph.reachable(&[descriptor], false)?;
        let all = found.manifests.iter().flatten().chain(found.blobs.iter().map(|(blob, _)| blob));
        Ok(all.filter(|part| there.insert(part.digest.clone())).fold(0, |sum: u64, part| sum.saturating_add(part.size)))
    };
    for image in &options.existing {
        let (graph, root) = setup::fetch(&*setup.store, image, false, setup.threads, &progress)?;
        take(&graph, &root)?;
    }
    let (graph, _) = setup::fetch(&*setup.store, &options.image, false, setup.threads, &progress)?;
    for row in rows {
        let source = sources.iter().find(|source| source.digest == row.digest).expect("rows are made of sources");
        row.bytes = Some(take(&graph, source)?);
    }
    Ok(())
}

fn write(file: &PathBuf, text: &str) -> Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC;
    fd::open(file, flags).and_then(|file| fd::write_all(&file, text.as_bytes())).doing(|| format!("writing {file:?}"))
}

fn comma_separated(rows: &[DiffRow], has_bytes: bool) -> String {
    let mut text = csv::line(if has_bytes { &["reference", "digest", "bytes"] } else { &["reference", "digest"] });
    for DiffRow { reference, digest, bytes } in rows {
        let (reference, digest) = (one_line(reference), digest.to_string());
        let bytes = bytes.map(|bytes| bytes.to_string());
        let fields: Vec<&str> = [&reference, &digest].into_iter().chain(&bytes).map(String::as_str).collect();
        text.push_str(&csv::line(&fields));
    }
    text
}

fn objects(rows: &[DiffRow]) -> String {
    let object = |DiffRow { reference, digest, bytes }: &DiffRow| {
        let mut object = serde_json::json!({"digest": digest, "reference": reference});
        if let Some(bytes) = bytes {
            object["bytes"] = (*bytes).into();
        }
        object
    };
    let objects: Vec<serde_json::Value> = rows.iter().map(object).collect();
    String::from_utf8(json::compact(&objects)).expect("JSON is UTF-8") + "\n"
}

fn table(rows: &[DiffRow], has_bytes: bool) -> String {
    let width = rows.iter().map(|row| row.reference.chars().count()).max().unwrap_or(0).max("REFERENCE".len());
    let total: Option<u64> = rows.iter().map(|row| row.bytes).sum();
    let total = total.filter(|_| has_bytes).map(grouped);
    let bytes = total.as_ref().map_or(0, |total| total.len().max("BYTES".len()));
    let line = |reference: &str, digest: &str, n: &str| match total {
        Some(_) => format!("{reference:<width$}  {n:>bytes$}  {digest}\n"),
        None => format!("{reference:<width$}  {digest}\n"),
    };
    let mut text = line("REFERENCE", "DIGEST", "BYTES");
    for row in rows {
        let n = row.bytes.map_or(String::new(), grouped);
        text.push_str(&line(&one_line(&row.reference), &row.digest.to_string(), &n));
    }
    if let Some(total) = &total {
        text.push_str(line("", "", total).trim_end());
        text.push('\n');
    }
    text
}
