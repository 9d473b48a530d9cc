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
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
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
const TEMPLATE_MAX: usize = 64 << 10;
/// And its output so many.
const OUTPUT_MAX: usize = 64 << 10;
/// And so many lines that are destinations.
const DESTINATIONS_MAX: usize = 1000;
/// Milliseconds that it may take for all sources together.
const TAKEN_MAX: u64 = 60_000;
/// Characters of a message.
const MESSAGE_MAX: usize = 500;
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
    /// Milliseconds that it took for all sources so far.
    taken: AtomicU64,
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
                if name.starts_with('\0') {
                    return Err(format!("{:?} is no name of a template", name.trim_start_matches('\0')));
                }
                template = template.add_parse_tree(if name.is_empty() { MAIN } else { &name }, tree);
            }
            Ok(template)
        })?;
        Ok(MapTemplate { path: path.into(), text: text.into(), template, taken: AtomicU64::new(0) })
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
        if self.taken.load(Ordering::Relaxed) > TAKEN_MAX {
            return Err(format!("it took more than {} s for the sources before this one", TAKEN_MAX / 1000));
        }
        let begun = Instant::now();
        let output = with_stack(|| {
            functions::begin();
            AT.set((0, 0));
            let mut output = BoundedOutput(String::new());
            let executed = self.template.execute_template_fmt(&mut output, MAIN, &data(descriptor));
            let why = match executed {
                Ok(()) => return Ok(output.0),
                Err(TemplateError::Write) => format!("its output has more than {OUTPUT_MAX} bytes"),
                Err(e) => in_words(&e),
            };
            let why: String = why.chars().take(MESSAGE_MAX).collect();
            Err(format!("line {}: {why}", AT.get().0))
        });
        self.taken.fetch_add(begun.elapsed().as_millis() as u64, Ordering::Relaxed);
        output
    }

    /// The lines of its output, trimmed, without blank ones.
    ///
    /// # Errors
    /// As [`MapTemplate::output`].
    pub fn destinations(&self, descriptor: &Descriptor) -> std::result::Result<Vec<String>, String> {
        let output = self.output(descriptor)?;
        let lines: Vec<&str> = output.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        match lines.len() {
            n if n > DESTINATIONS_MAX => Err(format!("it makes {n} destinations, and {DESTINATIONS_MAX} are the most")),
            _ => Ok(lines.into_iter().map(String::from).collect()),
        }
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
                functions::check_time()?;
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
        let name = name.as_str().unwrap_or_default();
        // A key that is missing is nothing, and so is all below it.
        let is_missing = match &value {
            Value::Nil => n == 0,
            Value::Map(map) => functions::kind_of(&value).is_none() && !map.contains_key(name),
            _ => false,
        };
        if is_missing && arguments.is_empty() {
            return Ok(Value::Nil);
        }
        value = field(&value, name, arguments)?;
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
        descriptor.annotations.iter().map(|(key, value)| (key.trim_start_matches('\0').into(), text(value))).collect();
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

    fn output(template: &str) -> std::result::Result<String, String> {
        let mut descriptor = Descriptor::new("t", Digest::of(b"x"), 1);
        descriptor.annotations.insert("k".into(), "v".into());
        MapTemplate::parse(Path::new("t.tmpl"), template)?.output(&descriptor)
    }

    #[test]
    fn dicts_are_changed_where_a_variable_names_them() {
        for (template, made) in [
            (r#"{{$d := dict "a" 1}}{{$_ := set $d "b" 2}}{{$d}}"#, "map[a:1 b:2]"),
            (r#"{{$d := dict "a" 1}}{{$_ := "v" | set $d "k"}}{{$d}}"#, "map[a:1 k:v]"),
            (r#"{{$d := dict "a" (dict)}}{{$_ := set $d.a "b" 2}}{{$d}}"#, "map[a:map[b:2]]"),
            (r#"{{$d := dict "a" 1}}{{$_ := unset $d "a"}}{{$d}}"#, "map[]"),
            (r#"{{$d := dict "a" 1}}{{$_ := merge $d (dict "b" 2)}}{{$d}}"#, "map[a:1 b:2]"),
            (r#"{{set (dict) "k" "v"}}"#, "map[k:v]"),
            (r#"{{mergeOverwrite (dict "a" true) (dict "a" false)}}"#, "map[a:false]"),
            (r#"{{$l := fromJson "{}"}}{{$l.x.y | default "none"}}"#, "none"),
            (r#"{{(index .Annotations "none" | fromJson).env}}"#, "<no value>"),
            (r#"{{. | toJson | len | lt 10}} {{printf "%s" (list "a" "b")}}"#, "true [a b]"),
        ] {
            assert_eq!(output(template).as_deref(), Ok(made), "{template}");
        }
        for lost in [r#"{{set . "a" 1}}"#, r#"{{with dict}}{{$_ := set . "a" 1}}{{end}}"#] {
            assert!(output(lost).unwrap_err().contains("only one that a variable names"), "{lost}");
        }
        assert!(output(r#"{{$d := set (dict) "\x00kind" "time.Time"}}{{$d.Format "2006"}}"#).is_err());
        assert!(output(r#"{{define "\x00main"}}x{{end}}"#).is_err());
    }

    #[test]
    fn no_template_takes_long_or_much() {
        let many = |call: &str| format!("{{{{$b := repeat 60000 \"<\"}}}}{{{{$x := {call}{}}}}}", " $b".repeat(250));
        let looped = |call: &str| {
            format!(
                "{{{{$b := repeat 60000 \"a\"}}}}{{{{$l := until 1500}}}}{{{{range 99000}}}}{{{{$x := {call}}}}}{{{{end}}}}"
            )
        };
        let kept = |call: &str| {
            let all: Vec<String> = (0..250).map(|n| format!("{{{{$v{n} := {call}}}}}")).collect();
            format!("{{{{$j := printf \"[%s{{}}]\" (repeat 5000 \"{{\\\"\\\":0}},\")}}}}{}", all.concat())
        };
        let mut templates = vec![
            r#"{{regexFindAll "a[^c]*c|a" (repeat 4000 "a") -1 | len}}"#.to_string(),
            r#"{{regexMatch "[a-z]{0,1000}b" (repeat 4000 "a")}}"#.into(),
            r#"{{repeat 1000000000 "x"}}"#.into(),
            r#"{{until 1000000000 | len}}"#.into(),
            r#"{{define "r"}}{{template "r" .}}{{end}}{{template "r" .}}"#.into(),
            r#"{{$x := list}}{{range 99999}}{{$x = list $x}}{{end}}"#.into(),
            r#"{{$x := "aa"}}{{range 99999}}{{$x = print $x $x}}{{end}}"#.into(),
            r#"{{$x := list 1}}{{range 99999}}{{$x = concat $x $x}}{{end}}"#.into(),
            r#"{{range until 3000}}{{range until 3000}}x{{end}}{{end}}"#.into(),
            r#"{{range 60000}}h.io/x:1{{println}}{{end}}"#.into(),
            "{{\"\"}}\n".repeat(8000),
            format!("{}x{}", "{{if 1}}".repeat(79), "{{end}}".repeat(79)),
            format!("{{{{{}1{}}}}}", "(".repeat(79), ")".repeat(79)),
            kept("fromJson $j"),
            kept("splitList \",\" (repeat 1000 \",\")"),
        ];
        templates.extend(["js", "html", "quote", "print", "cat", "printf \"%s%s\"", "list", "concat"].map(many));
        let calls = [
            "sha512sum $b",
            "contains \"b\" $b",
            "has -1 $l",
            "deepEqual $l $l",
            "semverCompare (repeat 1000 \">1 \") \"1.2.3\"",
            "regexMatch \"[a-z]{1,90}\" \"a\"",
            "eq $b $b",
            "derivePassword 1 \"long\" \"p\" \"u\" \"s\"",
            "trimAll $b $b",
            "toDate $b \"x\"",
        ];
        templates.extend(calls.map(looped));
        for template in templates {
            let begun = Instant::now();
            let made = output(&template).map(|output| output.len());
            let taken = begun.elapsed();
            let shown: String = template.chars().take(120).collect();
            println!("{taken:?} {made:?}: {shown}");
            assert!(taken < std::time::Duration::from_secs(5), "{taken:?}: {shown}");
        }
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(peak < 600 << 10, "{peak} KiB");
    }

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
