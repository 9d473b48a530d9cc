//! The mapper `go-template`: Go's text/template, executed on the descriptor of a source.
//!
//! The crate `gotmpl` reads and executes templates; it is known here only and in [`super::functions`]. Nothing that a
//! template can do reaches files, environment, time or network, and its output, its steps and what its functions make
//! are bounded.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fmt::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use base64::Engine as _;
use gotmpl::{FuncMap, Template, TemplateError, Value, ValueFunc};

use super::{
    functions::{self, KIND, TIME, VERSION},
    rewrite, structure,
};
use crate::{
    error::{Context, Error, Result},
    fd,
    oci::{Descriptor, Digest, Platform},
};

/// A template has at most so many bytes.
const TEMPLATE_MAX: usize = 256 << 10;
/// And its output so many.
const OUTPUT_MAX: usize = 1 << 20;
/// Rounds of all its loops together.
const ROUNDS_MAX: u64 = 100_000;
/// Actions that are executed.
const ACTIONS_MAX: u64 = 1_000_000;
/// The stack that a template has.
const STACK: usize = 64 << 20;

/// The name of the main template, which no other has.
const MAIN: &str = "\0main";

thread_local! {
    /// The line that is executed, and how many actions were.
    static AT: Cell<(usize, u64)> = const { Cell::new((0, 0)) };
}

/// A template that was read.
pub struct MapTemplate {
    path: PathBuf,
    text: String,
    template: Template,
}

impl MapTemplate {
    /// Reads the template at `path`.
    ///
    /// # Errors
    /// If it cannot be read, or is none; then the line is named.
    pub fn read(path: &Path) -> Result<MapTemplate> {
        let doing = || format!("reading the template {path:?}");
        let bytes = fd::read_file(path).doing(doing)?;
        let text = String::from_utf8(bytes).map_err(|_| Error::new("it is not UTF-8").doing(doing()))?;
        MapTemplate::parse(path, &text).map_err(|why| Error::new(why).doing(doing()))
    }

    /// The template of a text.
    ///
    /// # Errors
    /// What is wrong with it, and in which line.
    pub fn parse(path: &Path, text: &str) -> std::result::Result<MapTemplate, String> {
        if text.len() > TEMPLATE_MAX {
            return Err(format!("it has more than {TEMPLATE_MAX} bytes"));
        }
        let at_line = |(line, why): (usize, String)| format!("line {line}: {why}");
        structure::check(text).map_err(at_line)?;
        let template = with_stack(|| {
            let template = Template::new("").max_range_iters(ROUNDS_MAX).funcs(functions::all()).funcs(own());
            let mut template = template.parse(text).map_err(|e| in_words(&e))?;
            let trees = rewrite::trees(text).map_err(at_line)?;
            for (name, tree) in trees {
                template = template.add_parse_tree(if name.is_empty() { MAIN } else { &name }, tree);
            }
            Ok(template)
        })?;
        Ok(MapTemplate { path: path.into(), text: text.into(), template })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its output for a source.
    ///
    /// # Errors
    /// If it fails, or goes beyond its bounds; with the line.
    pub fn output(&self, descriptor: &Descriptor) -> std::result::Result<String, String> {
        with_stack(|| {
            functions::begin();
            AT.set((0, 0));
            let mut output = BoundedOutput(String::new());
            let executed = self.template.execute_template_fmt(&mut output, MAIN, &data(descriptor));
            let why = match executed {
                Ok(()) => return Ok(output.0),
                Err(TemplateError::Write) => format!("its output has more than {OUTPUT_MAX} bytes"),
                Err(e) => in_words(&e),
            };
            Err(format!("line {}: {why}", AT.get().0))
        })
    }

    /// The lines of its output, trimmed, without blank ones.
    ///
    /// # Errors
    /// As [`MapTemplate::output`].
    pub fn destinations(&self, descriptor: &Descriptor) -> std::result::Result<Vec<String>, String> {
        let output = self.output(descriptor)?;
        Ok(output.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect())
    }
}

/// Text, up to a bound.
struct BoundedOutput(String);

impl Write for BoundedOutput {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > OUTPUT_MAX {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// Runs on a thread with room for what is nested deep.
fn with_stack<T: Send>(work: impl FnOnce() -> std::result::Result<T, String> + Send) -> std::result::Result<T, String> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        let worker = worker.map_err(|e| format!("there is no thread for it: {e}"))?;
        worker.join().unwrap_or_else(|_| Err("it cannot be executed".into()))
    })
}

/// What is wrong with a template.
fn in_words(error: &TemplateError) -> String {
    match error {
        TemplateError::Parse { line, col, message, .. } | TemplateError::Lex { line, col, message, .. } => {
            format!("line {line}, column {col}: {message}")
        }
        TemplateError::RangeIterLimit => format!("its loops have more than {ROUNDS_MAX} rounds"),
        TemplateError::RecursionLimit => "its templates are nested too deep, or call themselves".into(),
        TemplateError::Exec(why) => why.clone(),
        other => other.to_string(),
    }
}

/// The functions that the pass over the tree calls.
fn own() -> FuncMap {
    let function = |work: fn(&[Value]) -> std::result::Result<Value, String>| -> ValueFunc {
        Arc::new(move |a: &[Value]| work(a).map_err(TemplateError::Exec))
    };
    let all = [
        (rewrite::FIELD, function(fields)),
        (rewrite::PRINT, function(|a| printed(&a[0]))),
        (
            rewrite::PRINT_TYPED,
            function(|a| if matches!(a[0], Value::Nil) { Ok(text("<nil>")) } else { printed(&a[0]) }),
        ),
        (rewrite::NOTHING, function(|_| Ok(Value::Nil))),
        (rewrite::CHECK, function(|a| functions::account(&a[0]).map(|()| a[0].clone()))),
        (
            rewrite::LINE,
            function(|a| {
                let (line, actions) = (a[0].as_int().unwrap_or(0) as usize, AT.get().1 + 1);
                AT.set((line, actions));
                if actions > ACTIONS_MAX {
                    Err(format!("it takes more than {ACTIONS_MAX} steps"))
                } else {
                    Ok(Value::Nil)
                }
            }),
        ),
    ];
    all.into_iter().map(|(name, function)| (name.to_string(), function)).collect()
}

/// What is printed; nothing at all is left to `gotmpl`.
fn printed(value: &Value) -> std::result::Result<Value, String> {
    functions::account(value)?;
    Ok(match value {
        Value::Nil => Value::Nil,
        other => text(&functions::text_of(other)),
    })
}

/// A field of a field of a value: how many names there are, the value, the names, and arguments for the last.
fn fields(a: &[Value]) -> std::result::Result<Value, String> {
    let count = a[0].as_int().unwrap_or(0) as usize;
    let (names, arguments) = a[2..].split_at(count);
    let mut value = a[1].clone();
    for (n, name) in names.iter().enumerate() {
        let arguments = if n + 1 == count { arguments } else { &[] };
        value = field(&value, name.as_str().unwrap_or_default(), arguments)?;
    }
    Ok(value)
}

/// A field or method, as Go's types have them.
fn field(value: &Value, name: &str, arguments: &[Value]) -> std::result::Result<Value, String> {
    let kind = functions::kind_of(value);
    if kind == Some(TIME) {
        return functions::time_method(value, name, arguments);
    }
    if !arguments.is_empty() {
        return Err(format!("{name} is no method that takes arguments"));
    }
    match (kind, value) {
        (Some(VERSION), _) => functions::version_field(value, name),
        (Some(kind), _) => value.field(name).cloned().ok_or_else(|| format!("there is no field {name} in {kind}")),
        (None, Value::Map(map)) => Ok(map.get(name).cloned().unwrap_or(Value::Nil)),
        (None, Value::String(digest)) => {
            let parsed: std::result::Result<Digest, String> = digest.parse();
            let digest = parsed.map_err(|_| format!("there is no field {name} in a string"))?;
            match name {
                "Algorithm" => Ok(text(digest.algorithm())),
                "Encoded" | "Hex" => Ok(text(&digest.hex())),
                "String" => Ok(text(&digest.to_string())),
                "Validate" => Ok(Value::Nil),
                _ => Err(format!("there is no field {name} in a digest")),
            }
        }
        (None, Value::Nil) => Err(format!("there is no {name} in nothing (nil)")),
        (None, other) => Err(format!("there is no field {name} in {}", other.type_name())),
    }
}

fn text(text: &str) -> Value {
    Value::String(text.into())
}

/// A value of one of Go's types.
fn typed<const N: usize>(kind: &str, entries: [(&'static str, Value); N]) -> Value {
    let all = entries.into_iter().chain([(KIND, text(kind))]);
    Value::Map(Arc::new(all.map(|(key, value)| (key.into(), value)).collect()))
}

/// A descriptor as a template sees it: the fields of Go's `v1.Descriptor`.
fn data(descriptor: &Descriptor) -> Value {
    let annotations: BTreeMap<Arc<str>, Value> =
        descriptor.annotations.iter().map(|(key, value)| (key.as_str().into(), text(value))).collect();
    let urls: Vec<Value> = descriptor.urls.iter().map(|url| text(url)).collect();
    let data = descriptor.data.as_ref().and_then(|data| base64::engine::general_purpose::STANDARD.decode(data).ok());
    let data: Vec<Value> = data.unwrap_or_default().into_iter().map(|b| Value::Uint(b.into())).collect();
    typed(
        "v1.Descriptor",
        [
            ("MediaType", text(&descriptor.media_type)),
            ("ArtifactType", text(&descriptor.artifact_type)),
            ("Digest", text(&descriptor.digest.to_string())),
            ("Size", Value::Int(descriptor.size as i64)),
            ("Annotations", Value::Map(Arc::new(annotations))),
            ("Platform", descriptor.platform.as_ref().map_or(Value::Nil, platform)),
            ("URLs", Value::List(urls.into())),
            ("Data", Value::List(data.into())),
        ],
    )
}

fn platform(platform: &Platform) -> Value {
    let features: Vec<Value> = platform.os_features.iter().map(|feature| text(feature)).collect();
    typed(
        "v1.Platform",
        [
            ("OS", text(&platform.os)),
            ("Architecture", text(&platform.architecture)),
            ("Variant", text(&platform.variant)),
            ("OSVersion", text(&platform.os_version)),
            ("OSFeatures", Value::List(features.into())),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value as Json;

    #[test]
    fn the_golden_templates() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/high/templates.json");
        let golden: Json = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let cases = golden["cases"].as_array().unwrap();
        let mut wrong = Vec::new();
        for case in cases {
            let descriptor = &golden["inputs"][case["input"].as_str().unwrap()]["descriptor"];
            let descriptor: Descriptor = serde_json::from_value(descriptor.clone()).unwrap();
            let parsed = MapTemplate::parse(Path::new("t.tmpl"), case["template"].as_str().unwrap());
            let is_parsed = parsed.is_ok();
            let output = parsed.and_then(|template| template.output(&descriptor));
            let is_right = match (case["error"].as_str(), &output) {
                (None, Ok(output)) => Some(output.as_str()) == case["output"].as_str(),
                (None, Err(_)) => false,
                (Some("parse"), Err(_)) => !is_parsed,
                (Some(_), Err(_)) => is_parsed,
                (Some(_), Ok(_)) => case["lenient"] == true,
            };
            if !is_right {
                wrong.push(format!(
                    "{}: {}: {output:?}, not {}{}",
                    case["name"], case["template"], case["output"], case["error"]
                ));
            }
        }
        assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
        assert!(cases.len() >= 300);
    }
}
