//! What a shell may complete a command line with, from the table; and the scripts that have shells ask.
//!
//! A script runs `ace-dt __complete SHELL WORDS...` with the words behind the program's name, the last of which is to be
//! completed; bash, which takes words apart at `:` and `=`, gives its whole line and the cursor's place in it instead. The
//! answer is a line for each candidate, a tab and what it is, and a last line that says what else there is: `:files`,
//! `:directories`, `:more` (a candidate is not the end of a word) or `:end`.

use super::schema::{self, Action, Command, Count, Flag, Value};

/// The shells that are known.
pub const SHELLS: &[&str] = &["bash", "fish", "zsh"];

/// What a word may become.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// Whole words, and what they are.
    pub candidates: Vec<(String, &'static str)>,
    /// What else.
    pub rest: CompletionRest,
}

/// What else a word may become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompletionRest {
    /// Nothing.
    #[default]
    End,
    /// What a candidate begins, something follows.
    More,
    /// A file.
    Files,
    /// A directory.
    Directories,
}

impl Completion {
    /// The answer, in lines.
    pub fn lines(&self) -> String {
        let rest = match self.rest {
            CompletionRest::End => ":end",
            CompletionRest::More => ":more",
            CompletionRest::Files => ":files",
            CompletionRest::Directories => ":directories",
        };
        let all = self.candidates.iter().map(|(word, what)| format!("{word}\t{what}\n"));
        all.collect::<String>() + rest + "\n"
    }

    fn rest(rest: CompletionRest) -> Completion {
        Completion { rest, ..Completion::default() }
    }

    fn of<'a>(words: impl IntoIterator<Item = (&'a str, &'static str)>) -> Completion {
        let candidates = words.into_iter().map(|(word, what)| (word.to_string(), what)).collect();
        Completion { candidates, rest: CompletionRest::End }
    }
}

/// What the last word of `words` may become. `registries` gives the names of registries and repositories that are known.
pub fn complete(words: &[String], registries: &dyn Fn() -> Vec<String>) -> Completion {
    let Some((current, before)) = words.split_last() else { return Completion::default() };
    let (mut command, mut operands, mut waiting, mut no_flags) = (schema::root(), Vec::new(), None, false);
    for word in before {
        let takes = |flag: &'static Flag| match flag.value {
            Value::Optional(_, accepts) => accepts(word),
            _ => true,
        };
        if waiting.take().is_some_and(takes) {
            continue;
        }
        match word.as_str() {
            "--" if !no_flags => no_flags = true,
            flag if flag.starts_with('-') && flag.len() > 1 && !no_flags => waiting = waits_for_value(flag),
            word if command.action.is_none() => match schema::below(command, word) {
                Some(below) => command = below,
                None => return Completion::default(),
            },
            word => operands.push(word),
        }
    }
    let is_value = |flag: &&Flag| matches!(flag.value, Value::Required(_));
    let mut completion = match (waiting.filter(is_value), current.split_once('=')) {
        (Some(flag), _) => value(own(command, flag)),
        (None, Some((name, _))) if name.starts_with("--") && !no_flags => {
            let flag = command.flags().find(|flag| flag.long == &name[2..] && flag.value_name().is_some());
            let mut completion = flag.map(value).unwrap_or_default();
            completion.candidates.iter_mut().for_each(|(word, _)| *word = format!("{name}={word}"));
            completion
        }
        _ if current.starts_with('-') && !no_flags => flags(command),
        _ if command.action.is_none() => commands(command),
        _ => operand(command, &operands, registries),
    };
    completion.candidates.retain(|(word, _)| word.starts_with(current.as_str()));
    completion
}

/// The words of a line of bash up to a place in it, counted in characters, without the program's; quoting is undone.
pub fn words_of_line(line: &str, point: usize) -> Vec<String> {
    let mut chars = line.chars().take(point);
    let (mut words, mut word, mut quote) = (Vec::new(), Some(String::new()), None);
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.push(word.unwrap_or_default());
    words.drain(..1);
    words
}

/// The flag among these that waits for the next word as its value.
fn waits_for_value(word: &str) -> Option<&'static Flag> {
    let takes = |flag: &&Flag| !matches!(flag.value, Value::None);
    match word.strip_prefix("--") {
        Some(name) => schema::flags().find(|flag| flag.long == name).filter(takes),
        None => {
            let mut letters = word[1..].chars();
            let flag = letters.find_map(|c| schema::flags().find(|flag| flag.short == Some(c)).filter(takes));
            flag.filter(|_| letters.as_str().is_empty())
        }
    }
}

/// What a command means by a flag: the same name may mean different things.
fn own(command: &Command, flag: &'static Flag) -> &'static Flag {
    command.flags().find(|own| own.long == flag.long).unwrap_or(flag)
}

fn value(flag: &Flag) -> Completion {
    let name = flag.value_name().unwrap_or_default();
    match name {
        _ if !flag.choices.is_empty() => Completion::of(flag.choices.iter().map(|choice| (*choice, ""))),
        "MAPPER" => mappers(),
        "DIR" => Completion::rest(CompletionRest::Directories),
        _ if name.starts_with("FILE") => Completion::rest(CompletionRest::Files),
        _ => Completion::default(),
    }
}

fn mappers() -> Completion {
    let all = [
        ("nest=", "under a prefix"),
        ("first-prefix=", "by the first line that fits"),
        ("longest-prefix=", "by the longest prefix that fits"),
        ("all-prefix=", "by every line that fits"),
        ("digests=", "by digest"),
        ("go-template=", "by a template"),
    ];
    Completion { rest: CompletionRest::More, ..Completion::of(all) }
}

fn flags(command: &Command) -> Completion {
    let mut completion = Completion::of(command.flags().map(|flag| (flag.long, flag.brief)));
    completion.candidates.iter_mut().for_each(|(word, _)| word.insert_str(0, "--"));
    completion
}

fn commands(group: &Command) -> Completion {
    Completion::of(group.commands().map(|below| (below.word(), below.summary)))
}

/// What the next operand may be, behind these.
fn operand(command: &Command, before: &[&str], registries: &dyn Fn() -> Vec<String>) -> Completion {
    match command.action {
        Some(Action::Help) => {
            let group = before.iter().try_fold(schema::root(), |group, word| schema::below(group, word));
            return group.map(commands).unwrap_or_default();
        }
        Some(Action::Completion) if before.is_empty() => {
            return Completion::of(SHELLS.iter().map(|shell| (*shell, "")));
        }
        _ => {}
    }
    let last = command.operands.last();
    let named = command.operands.get(before.len());
    // Behind those of which there may be any number another may stand: both are possible.
    let any = command.operands.iter().position(|operand| operand.count == Count::Any);
    if let (Some(any), Some(last)) = (any, last.filter(|last| last.count == Count::One))
        && before.len() >= any
    {
        return Completion { rest: CompletionRest::Files, ..of_operand(last.name, registries) };
    }
    let Some(operand) = named.or(last.filter(|last| last.count == Count::Any)) else { return Completion::default() };
    of_operand(operand.name, registries)
}

/// What an operand of this name may be.
fn of_operand(name: &str, registries: &dyn Fn() -> Vec<String>) -> Completion {
    let known = |rest| {
        let candidates = registries().into_iter().map(|name| (name, "")).collect();
        Completion { candidates, rest }
    };
    match name {
        "REGISTRY" => {
            let mut completion = known(CompletionRest::End);
            completion.candidates.retain(|(name, _)| !name.contains('/'));
            completion
        }
        "IMAGE" | "EXISTING-IMAGE" | "DESTINATION" => {
            let mut completion = known(CompletionRest::More);
            completion.candidates.iter_mut().for_each(|(name, _)| name.push('/'));
            completion
        }
        "MAPPER" => mappers(),
        name if name.contains("DIRECTORY") => Completion::rest(CompletionRest::Directories),
        _ => Completion::rest(CompletionRest::Files),
    }
}

/// The script for a shell, one of [`SHELLS`].
pub fn script(shell: &str) -> &'static str {
    match shell {
        "bash" => include_str!("completion/ace-dt.bash"),
        "fish" => include_str!("completion/ace-dt.fish"),
        _ => include_str!("completion/_ace-dt"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(line: &str) -> (Vec<String>, CompletionRest) {
        let words = words_of_line(line, line.chars().count());
        let registries = || vec!["reg.example.com:5000".to_string(), "reg.example.com/team".into()];
        let completion = complete(&words, &registries);
        (completion.candidates.into_iter().map(|(word, _)| word).collect(), completion.rest)
    }

    #[test]
    fn what_may_stand_at_the_end_of_a_line() {
        use CompletionRest::{Directories, End, Files, More};
        for (line, words, rest) in [
            ("ace-dt mir", &["mirror"][..], End),
            ("ace-dt mirror arch", &["archive"], End),
            ("ace-dt -v mirror ver", &["verify"], End),
            ("ace-dt mirror archive --comp", &["--compression"], End),
            ("ace-dt mirror archive --compression ", &["gzip", "zstd"], End),
            ("ace-dt mirror archive --compression=z", &["--compression=zstd"], End),
            ("ace-dt mirror archive --checkpoint ", &[], Files),
            ("ace-dt mirror archive --cache ", &[], Directories),
            ("ace-dt mirror archive -m 1Gi ", &[], Files),
            ("ace-dt mirror archive -m1Gi 'my list' ", &[], Files),
            ("ace-dt mirror archive s d reg", &["reg.example.com:5000/", "reg.example.com/team/"], More),
            ("ace-dt mirror archive s d reg.example.com:", &["reg.example.com:5000/"], More),
            ("ace-dt mirror list -o ", &["csv", "json", "table"], End),
            ("ace-dt util mbuffer -o ", &[], Files),
            ("ace-dt login reg", &["reg.example.com:5000"], End),
            ("ace-dt mirror clone s nes", &["nest="], More),
            ("ace-dt help mirror unar", &["unarchive"], End),
            ("ace-dt completion ", &["bash", "fish", "zsh"], End),
            ("ace-dt mirror archive -- --x", &[], Files),
            ("ace-dt frob ", &[], End),
            ("ace-dt version ", &[], End),
            ("ace-dt -v debug mirror arch", &["archive"], End),
            ("ace-dt -v mirror arch", &["archive"], End),
            ("ace-dt mirror archive Übung.list --compression ", &["gzip", "zstd"], End),
            ("ace-dt mirror deserialize x.tar reg.example.com/", &["reg.example.com/team/"], Files),
            ("ace-dt mirror unarchive x.tar nes", &["nest="], Files),
        ] {
            assert_eq!(candidates(line), (words.iter().map(|word| word.to_string()).collect(), rest), "{line}");
        }
    }

    #[test]
    fn words_of_a_line_of_bash() {
        for (line, words) in [
            ("ace-dt ", &[""][..]),
            ("ace-dt a  b", &["a", "b"]),
            ("ace-dt 'a b' \"c\\\"d\" e\\ f", &["a b", "c\"d", "e f"]),
            ("x ''", &[""]),
        ] {
            assert_eq!(words_of_line(line, line.len()), words, "{line}");
        }
    }
}
