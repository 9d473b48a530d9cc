//! Words into [`Args`], by the table.

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
    str::FromStr,
};

use lexopt::Arg;

use crate::cli::{
    args::Args,
    meant::{meant, meant_command},
    schema::{self, COMMANDS, Command, Flag, Value},
};
use crate::{error::Error, util::nearest::nearest};

/// What the words ask for.
pub enum Parsed {
    /// The help of a command on one screen.
    Brief(&'static Command),
    /// All the help of a command.
    Help(&'static Command),
    /// The version.
    Version,
    /// What the program writes of itself: for a command and all below it.
    Generate(&'static Command, Generate),
    /// What a shell asks to complete these words.
    Complete(Vec<String>),
    /// A command to be run.
    Run(&'static Command, Box<Args>),
}

/// What the program writes of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Generate {
    /// The man page of the command, on standard output.
    ManPage,
    /// The pages of the command and all below it, into a directory.
    ManPages(PathBuf),
}

impl FromStr for Generate {
    type Err = String;

    fn from_str(text: &str) -> Result<Generate, String> {
        match text.split_once(':') {
            None if text == "man" => Ok(Generate::ManPage),
            Some(("man", dir)) if !dir.is_empty() => Ok(Generate::ManPages(dir.into())),
            _ => Err(format!("{text:?} is neither man nor man:DIR")),
        }
    }
}

/// Reads the words behind the program's name. Flags may stand before, between and behind operands.
///
/// # Errors
/// All are wrong usage, and name the word that is wrong.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Parsed, Error> {
    let mut words = words.into_iter().peekable();
    if words.next_if(|word| word == "__complete").is_some() {
        return Ok(Parsed::Complete(words.map(|word| word.to_string_lossy().into_owned()).collect()));
    }
    let mut parser = lexopt::Parser::from_args(words);
    let mut command = schema::root();
    let mut args = Args::default();
    // Each as it was written, and its value.
    let mut given: Vec<(&Flag, String, Option<OsString>)> = Vec::new();
    for flag in schema::flags().filter(|flag| !flag.env.is_empty()) {
        if let Some(value) = std::env::var_os(flag.env).filter(|v| !v.is_empty()).filter(|_| flag.env_sets_it) {
            set(flag, &mut args, &value).map_err(|why| Error::usage(why).doing(flag.env))?;
        }
    }
    while let Some(arg) = parser.next().map_err(|e| wrong(command, told(e)))? {
        let (flag, written) = match arg {
            Arg::Value(word) => {
                match word.to_str().filter(|_| command.action.is_none()).map(|name| schema::below(command, name)) {
                    Some(Some(below)) => command = below,
                    _ if command.action.is_none() => return Err(unknown_command(command, &word)),
                    _ => args.operands.push(word),
                }
                continue;
            }
            Arg::Long("help") => return Ok(Parsed::Help(command)),
            Arg::Short('h') => return Ok(Parsed::Brief(command)),
            Arg::Long("version") => return Ok(Parsed::Version),
            Arg::Long("generate") => {
                let what = parser.value().map_err(|e| wrong(command, e))?;
                let what = what.to_string_lossy().parse();
                let what = what.map_err(|why: String| wrong(command, format!("--generate: {why}")))?;
                return Ok(Parsed::Generate(command, what));
            }
            Arg::Long(name) => (schema::flags().find(|f| f.long == name), format!("--{name}")),
            Arg::Short(c) => (schema::flags().find(|f| f.short == Some(c)), format!("-{c}")),
        };
        let Some(flag) = flag else { return Err(no_flag(command, &written)) };
        let value = match flag.value {
            Value::None => None,
            Value::Required(_) => Some(parser.value().map_err(|e| wrong(command, e))?),
            // The next word belongs to the flag only if it is a value for it.
            Value::Optional(_, accepts) => match parser.optional_value() {
                Some(value) => Some(value),
                None => {
                    parser.try_raw_args().and_then(|mut raw| raw.next_if(|next| next.to_str().is_some_and(accepts)))
                }
            },
        };
        given.push((flag, written, value));
    }
    if command.action.is_none() {
        let which = if command.name.is_empty() {
            "no command was given".into()
        } else {
            format!("{}: which command?", command.full_name())
        };
        return Err(wrong(command, which));
    }
    for (flag, written, value) in given {
        // A value that was given where it does not belong may be a secret: it is not told.
        let Some(flag) = command.flags().find(|f| f.long == flag.long) else {
            return Err(no_flag(command, &written));
        };
        set(flag, &mut args, value.as_deref().unwrap_or(OsStr::new("")))
            .map_err(|why| wrong(command, format!("--{}: {why}", flag.long)))?;
        args.given.push((flag.long, value.map(|v| v.to_string_lossy().into_owned())));
    }
    check(command, &args)?;
    Ok(Parsed::Run(command, Box::new(args)))
}

/// Whether all is there that a command needs, and no more.
fn check(command: &Command, args: &Args) -> Result<(), Error> {
    let needed = command.needed(&|flag| args.was_given(flag));
    if let Some(missing) = needed.get(args.operands.len()) {
        return Err(wrong(command, format!("{} is missing", missing.name)));
    }
    if let Some(extra) = args.operands.get(needed.len().saturating_add(command.further())) {
        return Err(wrong(
            command,
            match command.takes_secrets() {
                true => "there is one operand too many; a password is read with --password-stdin".to_string(),
                false => format!("{extra:?} is one operand too many"),
            },
        ));
    }
    if let Some(flag) = command.flags().find(|f| f.required_by.contains(&command.name) && !args.was_given(f.long)) {
        return Err(wrong(command, format!("--{} is required", flag.long)));
    }
    Ok(())
}

/// What is wrong with a word, without a value that may be a secret.
fn told(error: lexopt::Error) -> String {
    match error {
        lexopt::Error::UnexpectedValue { option, .. } => format!("{option} takes no value"),
        other => other.to_string(),
    }
}

fn set(flag: &Flag, args: &mut Args, value: &OsStr) -> Result<(), String> {
    let text = value.to_str().ok_or_else(|| format!("{value:?} is not UTF-8"))?;
    (flag.set)(args, text)
}

fn wrong(command: &Command, why: impl std::fmt::Display) -> Error {
    Error::usage(why).hint(format_args!("see {} --help", command.full_name()))
}

/// A flag that a command has not got, with what may be meant.
fn no_flag(command: &Command, written: &str) -> Error {
    let why = format!("{} has no flag {written}", command.full_name());
    if let Some(meant) = meant(command.name, written) {
        return wrong(command, format!("{why}: {meant}"));
    }
    let own = command.flags().map(|flag| flag.long).chain(["help", "version"]);
    let begun = |name: &str| {
        let mut begun = command.flags().map(|flag| flag.long).filter(|own| name.len() > 2 && own.starts_with(name));
        begun.next().filter(|_| begun.next().is_none())
    };
    match written.strip_prefix("--").and_then(|name| begun(name).or_else(|| nearest(name, own))) {
        Some(near) => wrong(command, format!("{why}: is --{near} meant?")),
        None => wrong(command, why),
    }
}

/// A word that names no command of a group, with what may be meant.
pub(super) fn unknown_command(command: &Command, word: &OsStr) -> Error {
    let why = format!("{} has no command {word:?}", command.full_name());
    let text = word.to_string_lossy();
    // One of this group that is misspelt, or one of another.
    let of_group: Vec<&'static Command> = command.commands().collect();
    let all: Vec<&'static Command> = COMMANDS.iter().filter(|other| other.action.is_some()).collect();
    let exact = all.iter().find(|other| other.word() == text);
    let near = |among: &[&'static Command]| {
        let near = nearest(&text, among.iter().map(|other| other.word()))?;
        among.iter().find(|other| other.word() == near).copied()
    };
    let other = || all.iter().find(|other| Some(other.name) == meant_command(&text)).copied();
    match exact.copied().or_else(other).or_else(|| near(&of_group)).or_else(|| near(&all)) {
        Some(meant) => wrong(command, format!("{why}: is {} meant?", meant.full_name())),
        None => wrong(command, why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(words: &str) -> Result<(&'static str, Args), String> {
        match parse(words.split_whitespace().map(OsString::from)) {
            Ok(Parsed::Run(command, args)) => Ok((command.name, *args)),
            Ok(_) => Err("help or version".into()),
            Err(e) => Err(e.to_string()),
        }
    }

    #[test]
    fn flags_stand_anywhere() {
        let (name, args) = run("-v mirror -r archive s.list -b64k --hwm=50 out.tar a b -p x/y,z/w -p q/r").unwrap();
        assert_eq!(name, "mirror archive");
        assert!(args.recursive);
        assert_eq!((args.block_size, args.hwm, args.platforms.len()), (64_000, Some(50), 3));
        assert_eq!(args.operands, ["s.list", "out.tar", "a", "b"]);
    }

    #[test]
    fn a_bare_verbosity_takes_no_operand() {
        let (_, args) = run("mirror archive -v s.list out.tar").unwrap();
        assert_eq!((args.verbosity, args.operands.len()), (crate::log::Level::Warn, 2));
        let (_, args) = run("mirror archive -v debug s.list out.tar").unwrap();
        assert_eq!((args.verbosity, args.operands.len()), (crate::log::Level::Debug, 2));
        let (_, args) = run("mirror archive s.list out.tar --verbosity=8").unwrap();
        assert_eq!(args.verbosity, crate::log::Level::Info);
    }

    #[test]
    fn wrong_usage_names_the_word() {
        for (words, named) in [
            ("", "no command was given"),
            ("mirror", "which command?"),
            ("mirror frob", "\"frob\""),
            ("mirror archive", "SOURCES-FILE is missing"),
            ("mirror archive a", "DEST-FILE is missing"),
            ("util mbuffer -m 1M x", "\"x\" is one operand too many"),
            ("util mbuffer", "--buffer-size is required"),
            ("mirror archive a b --frob", "ace-dt mirror archive has no flag --frob"),
            ("mirror archive a b --checkpont x", "is --checkpoint meant?"),
            ("mirror arhcive", "is ace-dt mirror archive meant?"),
            ("mirror ls", "is ace-dt mirror list meant?"),
            ("push", "is ace-dt mirror deserialize meant?"),
            ("mirror archive a b --manifest", "is --manifest-json meant?"),
            ("mbuffer -m 1M", "is ace-dt util mbuffer meant?"),
            ("archve", "is ace-dt mirror archive meant?"),
            ("login -p secret r", "has no flag -p: a password is read with --password-stdin"),
            ("util mbuffer -m 1M -s 64k", "has no flag -s: the size of a block is --block-size (-b)"),
            ("util mbuffer -m 1M -r 1M", "has no flag -r: the rate is that of the output"),
            ("mirror archive a b -b 0", "--block-size: "),
            ("mirror archive a b --hwm 101", "--hwm: "),
            ("mirror archive a b --hwm", "--hwm"),
            ("util mbuffer -m 1M --recursive", "ace-dt util mbuffer has no flag --recursive"),
            ("version -r", "has no flag -r"),
        ] {
            let why = run(words).unwrap_err();
            assert!(why.contains(named) && why.contains("--help"), "{words}: {why}");
        }
    }
}
