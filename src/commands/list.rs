//! `mirror list`: the images in an archive.

use serde::Serialize;

use super::path_conflicts;
use crate::{
    archive::read::{catalog::Image, open::look},
    cli::{args::ListFormat, options::ListOptions, output::print},
    error::{Error, Result, one_line},
    log,
    oci::{Digest, json},
    util::{csv, units::human_size},
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
}

/// # Errors
/// If the archive cannot be read, or something is wrong with it.
pub fn run(options: &ListOptions) -> Result<()> {
    let path = &options.archive;
    path_conflicts::check(&[("TAR-FILE", path)], &[path_conflicts::stdout()])?;
    let (catalog, findings) = look(path, options.input.clone())?;
    let images = catalog.images();
    print(&match options.format {
        ListFormat::Table => table(&images),
        ListFormat::Csv => comma_separated(&images),
        ListFormat::Json => {
            let rows: Vec<Row> = images.iter().map(row).collect();
            String::from_utf8(json::pretty(&rows)).expect("JSON is UTF-8") + "\n"
        }
    })?;
    let unknown = images.iter().filter(|image| image.size.is_none()).count();
    if unknown > 0 {
        log::warn(format_args!("{path:?}: the manifests of {unknown} images are not in it"));
    }
    match findings.as_slice() {
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
    }
}

/// Characters of a column of the table; what is longer sticks out.
const WIDTH_MAX: usize = 120;

fn table(images: &[Image]) -> String {
    let mut rows = vec![["REFERENCE", "PLATFORM", "SIZE", "DIGEST"].map(String::from)];
    for image in images {
        let or_dash = |text: &Option<String>| text.as_deref().map_or("-".into(), one_line);
        let size = image.size.map_or("?".into(), human_size);
        rows.push([or_dash(&image.reference), or_dash(&image.platform), size, image.digest.to_string()]);
    }
    // One very long name does not widen the lines of all others.
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).min(WIDTH_MAX);
    let (reference, platform, size) = (width(0), width(1), width(2));
    let line = |[r, p, s, d]: &[String; 4]| format!("{r:<reference$}  {p:<platform$}  {s:>size$}  {d}\n");
    rows.iter().map(line).collect()
}

fn comma_separated(images: &[Image]) -> String {
    let mut text = csv::line(&["reference", "platform", "digest", "size"]);
    for image in images {
        let size = image.size.map_or(String::new(), |size| size.to_string());
        let or_nothing = |text: &Option<String>| text.as_deref().map_or(String::new(), one_line);
        let (reference, platform) = (or_nothing(&image.reference), or_nothing(&image.platform));
        text.push_str(&csv::line(&[&reference, &platform, &image.digest.to_string(), &size]));
    }
    text
}
