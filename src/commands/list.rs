//! `mirror list`: the images in an archive.

use std::path::Path;

use serde::Serialize;

use super::path_conflicts;
use crate::{
    archive::read::{
        finding::Finding,
        images::Image,
        open::{groups, look_at_each},
        tree::TreeStyle,
    },
    cli::{args::ListFormat, options::ListOptions, output::Printer, status_lines::speaks_utf8},
    error::{Context, Error, Result, one_line},
    log,
    media::input::Input,
    oci::{Digest, json},
    shards::plan_file::SharedPlan,
    util::{
        csv,
        units::{counted, human_size},
    },
};

/// One image, for `-o json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    reference: Option<&'a str>,
    platform: Option<&'a str>,
    media_type: &'a str,
    digest: &'a Digest,
    /// In bytes.
    size: Option<u64>,
    /// Of the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<serde_json::Value>,
}

/// # Errors
/// If the archive cannot be read, or something is wrong with it.
pub fn run(options: &ListOptions) -> Result<()> {
    if options.tree && options.format != ListFormat::Table {
        return Err(Error::usage("--tree is a form of its own: --output cannot be given with it"));
    }
    let mut read: Vec<_> = options.archives.iter().map(|path| ("TAR-FILE", path.as_path())).collect();
    read.extend(options.plan.iter().map(|path| ("--plan", path.as_path())));
    path_conflicts::check(&read, &[path_conflicts::stdout()])?;
    let shared = options.plan.as_deref().map(SharedPlan::read).transpose()?;
    let style = if speaks_utf8() { TreeStyle::LINES } else { TreeStyle::ASCII };
    let (mut out, mut images) = (Printer::new()?, Vec::new());
    let (mut roots, mut concluded) = (Vec::new(), Ok(()));
    for group in groups(&options.archives)? {
        let found = look_at_each(Input::open(&group, options.input.clone())?)?;
        for (n, (catalog, findings)) in found.into_iter().enumerate() {
            let path = group.get(n).unwrap_or(&group[0]);
            roots.push((format!("{path:?}"), catalog.lists.root().cloned()));
            let of_archive = catalog.images();
            let unknown = of_archive.iter().filter(|image| image.size.is_none()).count();
            if unknown > 0 && !options.tree {
                let images = counted(unknown, "image");
                log::warn(format_args!("{path:?}: the manifest of {images} is not in it"));
            }
            match options.tree {
                true => catalog.tree(style).iter().try_for_each(|line| out.put(&format!("{line}\n")))?,
                false => images.extend(of_archive),
            }
            let found = conclude(path, &findings);
            if let (Err(_), Err(e)) = (&concluded, &found) {
                log::error(e);
            }
            concluded = concluded.and(found);
        }
    }
    let is_set = shared.map_or(Ok(()), |shared| shared.check_set(&roots).doing(|| "listing the shards of a plan"));
    if let (Err(_), Err(e)) = (&concluded, &is_set) {
        log::error(e);
    }
    let concluded = concluded.and(is_set);
    if options.tree {
        return out.finish().and(concluded);
    }
    match options.format {
        ListFormat::Table => table(&images, &mut out),
        ListFormat::Csv => comma_separated(&images, &mut out),
        ListFormat::Json => objects(&images, &mut out),
    }?;
    out.finish().and(concluded)
}

/// What is wrong with an archive is an error.
fn conclude(path: &Path, findings: &[Finding]) -> Result<()> {
    match findings {
        [] => Ok(()),
        [first, others @ ..] => {
            let error = Error::new(&first.text).doing(format!("listing {path:?}"));
            Err(match others.len() {
                0 => error,
                n => error.after(format!("{n} more things are wrong")),
            }
            .hint("ace-dt mirror verify tells all"))
        }
    }
}

fn row(image: &Image) -> Row<'_> {
    Row {
        reference: image.reference.as_deref(),
        platform: image.platform.as_deref(),
        media_type: &image.media_type,
        digest: &image.digest,
        size: image.size,
        labels: image.labels.as_deref().and_then(|labels| serde_json::from_str(labels).ok()),
    }
}

/// Characters of a column of the table; what is longer sticks out.
const WIDTH_MAX: usize = 120;

fn table(images: &[Image], out: &mut Printer) -> Result<()> {
    // One very long name does not widen the lines of all others.
    let width = |heading: &str, column: &dyn Fn(&Image) -> usize| {
        images.iter().map(column).max().unwrap_or(0).max(heading.len()).min(WIDTH_MAX)
    };
    let length = |text: Option<&str>| text.map_or(1, |text| text.chars().take(WIDTH_MAX).count());
    let size_of = |image: &Image| image.size.map_or("?".into(), human_size);
    let reference = width("REFERENCE", &|image| length(image.reference.as_deref()));
    let platform = width("PLATFORM", &|image| length(image.platform.as_deref()));
    let size = width("SIZE", &|image| size_of(image).len());
    let line = |r: &str, p: &str, s: &str, d: &str| format!("{r:<reference$}  {p:<platform$}  {s:>size$}  {d}\n");
    out.put(&line("REFERENCE", "PLATFORM", "SIZE", "DIGEST"))?;
    for image in images {
        let or_dash = |text: Option<&str>| text.map_or("-".into(), one_line);
        let (r, p) = (or_dash(image.reference.as_deref()), or_dash(image.platform.as_deref()));
        out.put(&line(&r, &p, &size_of(image), &image.digest.to_string()))?;
    }
    Ok(())
}

fn comma_separated(images: &[Image], out: &mut Printer) -> Result<()> {
    out.put(&csv::line(&["reference", "platform", "digest", "size"]))?;
    for image in images {
        let size = image.size.map_or(String::new(), |size| size.to_string());
        let or_nothing = |text: Option<&str>| text.map_or(String::new(), one_line);
        let (reference, platform) = (or_nothing(image.reference.as_deref()), or_nothing(image.platform.as_deref()));
        out.put(&csv::line(&[&reference, &platform, &image.digest.to_string(), &size]))?;
    }
    Ok(())
}

/// One object after the other: the whole list may be much larger than the archive.
fn objects(images: &[Image], out: &mut Printer) -> Result<()> {
    if images.is_empty() {
        return out.put("[]\n");
    }
    for (n, image) in images.iter().enumerate() {
        let object = String::from_utf8(json::pretty(&row(image))).expect("JSON is UTF-8");
        out.put(if n == 0 { "[\n  " } else { ",\n  " })?;
        out.put(&object.replace('\n', "\n  "))?;
    }
    out.put("\n]\n")
}
