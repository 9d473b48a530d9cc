//! What `mirror verify` prints: lines for people, or an array of objects.

use serde::Serialize;

use crate::{
    archive::read::images::Image,
    cli::{args::ListFormat, output::print},
    error::{Result, one_line},
    oci::{Digest, json},
};

/// A line as an object.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VerdictObject<'a> {
    kind: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    broken_parts: Option<usize>,
}

/// Prints as it is found.
pub struct VerdictLines {
    format: ListFormat,
    lines: usize,
    printed: Result<()>,
}

impl VerdictLines {
    /// Nothing is printed so far.
    pub fn new(format: ListFormat) -> VerdictLines {
        VerdictLines { format, lines: 0, printed: Ok(()) }
    }

    /// Prints what something is, and more of it.
    pub fn line(&mut self, word: &str, text: &str) {
        match self.format {
            ListFormat::Json => {
                let object = VerdictObject { kind: word, text, reference: None, digest: None, broken_parts: None };
                self.object(&object);
            }
            _ => self.put(&format!("{word:<8} {}\n", one_line(text))),
        }
    }

    /// Prints how many parts of an image are missing or wrong, and whether all of them were read.
    pub fn image(&mut self, image: &Image, broken: usize, is_read: bool) {
        let kind = match (broken, is_read) {
            (0, true) => "whole",
            (0, false) => "found",
            _ => "broken",
        };
        if self.format == ListFormat::Json {
            let (reference, digest) = (image.reference.as_deref(), Some(&image.digest));
            let broken_parts = (broken > 0).then_some(broken);
            return self.object(&VerdictObject { kind, text: "", reference, digest, broken_parts });
        }
        let name = image.reference.as_ref().map_or(String::new(), |reference| format!("{reference} "));
        let parts = match broken {
            0 => String::new(),
            1 => ": one of its parts is missing or wrong".into(),
            n => format!(": {n} of its parts are missing or wrong"),
        };
        self.line(kind, &format!("{name}{}{parts}", image.digest));
    }

    fn object(&mut self, object: &VerdictObject) {
        let begin = if self.lines == 0 { "[\n" } else { ",\n" };
        let text = String::from_utf8(json::compact(object)).expect("JSON is UTF-8");
        self.put(&format!("{begin}{text}"));
    }

    fn put(&mut self, text: &str) {
        self.lines += 1;
        if self.printed.is_ok() {
            self.printed = print(text);
        }
    }

    /// All was said.
    ///
    /// # Errors
    /// If it could not be printed.
    pub fn finish(mut self) -> Result<()> {
        if self.format == ListFormat::Json {
            self.put(if self.lines == 0 { "[]\n" } else { "\n]\n" });
        }
        self.printed
    }
}
