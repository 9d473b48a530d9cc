//! The list of images for people: text, or a page of HTML that stands alone.

use super::library::{ImageSummary, Library, ServedImage};
use crate::util::{
    markup::escaped,
    units::{counted, human_size},
};

/// Characters of what is shown.
const SHOWN_MAX: usize = 300;
/// Columns are as wide as what is in them, but not wider.
const WIDTH_MAX: usize = 100;

/// A row of the list.
struct PageRow<'a> {
    image: &'a ServedImage,
    summary: &'a ImageSummary,
    /// Its whole name.
    name: String,
}

impl PageRow<'_> {
    /// The command with which people take it.
    fn command(&self) -> String {
        let name = &self.name;
        match self.summary {
            ImageSummary { is_gathered: true, .. } => format!("ace-dt mirror serialize {name} FILE"),
            ImageSummary { platforms, .. } if platforms.is_empty() => format!("oras pull {name}"),
            _ => format!("docker pull {name}"),
        }
    }

    fn is_image(&self) -> bool {
        !self.summary.is_gathered && !self.summary.platforms.is_empty()
    }
}

fn rows<'a>(library: &'a Library, host: &str) -> Vec<PageRow<'a>> {
    let row = |(image, summary): (&'a ServedImage, &'a ImageSummary)| {
        let end = match &image.name.tag {
            Some(tag) => format!(":{tag}"),
            None => format!("@{}", image.digest),
        };
        PageRow { image, summary, name: format!("{host}/{}{end}", image.name.repository) }
    };
    library.images().iter().zip(library.summaries()).map(row).collect()
}

fn platforms(summary: &ImageSummary) -> String {
    if summary.platforms.is_empty() { "-".into() } else { shown(&summary.platforms.join(", ")) }
}

/// Text that anybody may have written, as it is shown: in one line, not too long, without what a terminal would obey.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The list for a terminal: a line an image.
pub fn text(library: &Library, host: &str) -> String {
    let rows = rows(library, host);
    let width = |len: &dyn Fn(&PageRow) -> usize| rows.iter().map(len).max().unwrap_or(0).min(WIDTH_MAX);
    let (names, kinds) = (width(&|row| row.name.len()), width(&|row| platforms(row.summary).len()));
    let mut text = format!("{}\n\n", heading(library, rows.len()));
    for PageRow { image, summary, name } in &rows {
        let size = human_size(summary.size);
        let platforms = platforms(summary);
        text.push_str(&format!("{name:<names$}  {platforms:<kinds$}  {size:>10}  {}\n", image.digest));
    }
    if let Some(one) = rows.iter().find(|row| row.is_image()).or(rows.first()) {
        text.push_str(&format!("\nTo pull one:  {}\n", one.command()));
    }
    text
}

fn heading(library: &Library, images: usize) -> String {
    let (images, blobs) = (counted(images, "image"), counted(library.blob_count(), "blob"));
    format!("ace-dt serves {images}, {blobs}; nothing can be pushed here.")
}

const STYLE: &str = "body{font:16px/1.5 sans-serif;margin:2em auto;max-width:75em;padding:0 1em;color:#222;background:#fff}\
    table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.4em .8em;border-bottom:1px solid #ccc;\
    vertical-align:top}td.size{text-align:right;white-space:nowrap}code{font:14px monospace;overflow-wrap:anywhere}\
    @media(max-width:60em){thead{display:none}td,td.size{display:block;text-align:left;border:0;padding:.1em 0}\
    tr{display:block;border-bottom:1px solid #ccc;padding:.6em 0}}\
    @media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}th,td,tr{border-color:#444}}";

/// The list for a browser. It needs nothing else, and no script.
pub fn html(library: &Library, host: &str) -> String {
    let rows = rows(library, host);
    let mut text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
        <meta name=\"viewport\" content=\"width=device-width\">\n<title>Images</title>\n<style>{STYLE}</style>\n</head>\n\
        <body>\n<h1>Images</h1>\n<p>{}</p>\n<table>\n<thead><tr><th>Image</th><th>Tag</th><th>Platforms</th><th>Size</th>\
        <th>Digest</th><th>To pull it</th></tr></thead>\n<tbody>\n",
        escaped(&heading(library, rows.len()))
    );
    for row in &rows {
        let PageRow { image, summary, .. } = row;
        text.push_str(&format!(
            "<tr><td title=\"{}\">{}</td><td>{}</td><td>{}</td><td class=\"size\">{}</td><td><code>{}</code></td>\
            <td><code>{}</code></td></tr>\n",
            escaped(&shown(&image.source)),
            escaped(&image.name.repository),
            escaped(image.name.tag.as_deref().unwrap_or("-")),
            escaped(&platforms(summary)),
            human_size(summary.size),
            image.digest,
            escaped(&row.command())
        ));
    }
    text.push_str("</tbody>\n</table>\n</body>\n</html>\n");
    text
}
