//! The one table of commands and flags.
//!
//! Texts are for help and man pages alike: paragraphs are separated by an empty line, words in
//! backquotes are set as what they are (`--flag`, `OPERAND`, `$VARIABLE`, `path/`, `literal`), and
//! a paragraph that is indented stands as it is.

use crate::cli::args::Args;
pub use crate::cli::{
    command_table::COMMANDS, deliver_flags::DELIVER_FLAGS, flag_table::FLAGS, general_flags::GENERAL_FLAGS,
    map_flags::MAP_FLAGS, serve_flags::SERVE_FLAGS, shard_flags::SHARD_FLAGS, tape_flags::TAPE_FLAGS,
};

/// A command, or a group of commands.
pub struct Command {
    /// The words behind the program's name; empty for the program itself.
    pub name: &'static str,
    /// One line, without a full stop.
    pub summary: &'static str,
    /// In their order.
    pub operands: &'static [Operand],
    /// Paragraphs.
    pub description: &'static str,
    /// Further sections of the man page: title and text.
    pub sections: &'static [(&'static str, &'static str)],
    /// What it does; `None` for a group.
    pub action: Option<Action>,
}

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `mirror archive`
    Archive,
    /// `mirror batch-deserialize`
    BatchDeserialize,
    /// `mirror batch-serialize`
    BatchSerialize,
    /// `mirror clone`
    Clone,
    /// `mirror deserialize`
    Deserialize,
    /// `mirror diff`
    Diff,
    /// `mirror gather`
    Gather,
    /// `mirror list`
    List,
    /// `mirror report merge`
    MergeReports,
    /// `mirror plan`
    Plan,
    /// `mirror scatter`
    Scatter,
    /// `mirror serialize`
    Serialize,
    /// `mirror unarchive`
    Unarchive,
    /// `mirror verify`
    Verify,
    /// `completion`
    Completion,
    /// `config`
    Config,
    /// `help`
    Help,
    /// `login`
    Login,
    /// `logout`
    Logout,
    /// `util demux`
    Demux,
    /// `util mbuffer`
    Mbuffer,
    /// `util mux`
    Mux,
    /// `util prune`
    Prune,
    /// `util serve`
    Serve,
    /// `util tape`
    Tape,
    /// `version`
    Version,
}

/// What a command is given beside flags.
pub struct Operand {
    /// In capitals.
    pub name: &'static str,
    /// How many of it.
    pub count: Count,
    /// What it is.
    pub text: &'static str,
}

/// How often an operand stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Exactly once.
    One,
    /// Exactly once, or with this flag not at all.
    OneUnless(&'static str),
    /// Not at all, or several times.
    Any,
}

/// The value of a flag.
pub enum Value {
    /// It has none.
    None,
    /// The name of the value in texts.
    Required(&'static str),
    /// Likewise, and whether a word is such a value.
    Optional(&'static str, fn(&str) -> bool),
}

/// What flags have to do with; they are shown in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagGroup {
    /// What of what is named is taken.
    Take,
    /// Files, tapes and the buffer before them.
    Device,
    /// How a run is tried, goes on, and is taken up.
    GoingOn,
    /// What a registry is served with.
    Serving,
    /// What is told.
    Output,
    /// Registries and their configuration.
    Registry,
    /// The program itself.
    Program,
}

impl FlagGroup {
    /// All, in their order.
    pub const ALL: [FlagGroup; 7] = [
        FlagGroup::Take,
        FlagGroup::Device,
        FlagGroup::GoingOn,
        FlagGroup::Serving,
        FlagGroup::Output,
        FlagGroup::Registry,
        FlagGroup::Program,
    ];

    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            FlagGroup::Take => "What to take",
            FlagGroup::Device => "The device",
            FlagGroup::GoingOn => "Going on",
            FlagGroup::Serving => "Serving",
            FlagGroup::Output => "Output",
            FlagGroup::Registry => "Registries",
            FlagGroup::Program => "The program",
        }
    }
}

/// A flag, and the commands that take it. On several commands flags of one name may mean different
/// things, but are written alike.
pub struct Flag {
    /// Behind two dashes.
    pub long: &'static str,
    /// Behind one dash.
    pub short: Option<char>,
    /// Under which it is shown by `-h`.
    pub group: FlagGroup,
    /// What it does, in a few words, for `-h`.
    pub brief: &'static str,
    /// The words that it takes, if these are all.
    pub choices: &'static [&'static str],
    /// What it is given.
    pub value: Value,
    /// In words; empty where nothing is the default.
    pub default: &'static str,
    /// The environment variable that stands in for it, or empty.
    pub env: &'static str,
    /// Whether the parser applies the variable; the configuration applies the others.
    pub env_sets_it: bool,
    /// Names of commands; none means all.
    pub on: &'static [&'static str],
    /// Names of commands that do nothing without it.
    pub required_by: &'static [&'static str],
    /// For help and manual.
    pub text: &'static str,
    /// Notes its value; the error says what is wrong with it.
    pub set: fn(&mut Args, &str) -> Result<(), String>,
}

/// The program itself.
pub fn root() -> &'static Command {
    &COMMANDS[0]
}

/// The command `name` within `group`.
pub fn below(group: &Command, name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|c| c.group() == Some(group.name) && c.word() == name)
}

/// All flags, in the order in which they are shown.
pub fn flags() -> impl Iterator<Item = &'static Flag> {
    FLAGS
        .iter()
        .chain(SHARD_FLAGS)
        .chain(TAPE_FLAGS)
        .chain(MAP_FLAGS)
        .chain(DELIVER_FLAGS)
        .chain(SERVE_FLAGS)
        .chain(GENERAL_FLAGS)
}

impl Command {
    /// The name of the group that it is in; the program itself is in none.
    fn group(&self) -> Option<&'static str> {
        match self.name.rsplit_once(' ') {
            Some((group, _)) => Some(group),
            None => (!self.name.is_empty()).then_some(""),
        }
    }

    /// Its last word.
    pub fn word(&self) -> &'static str {
        self.name.rsplit(' ').next().unwrap_or(self.name)
    }

    /// With the program's name.
    pub fn full_name(&self) -> String {
        format!("ace-dt {}", self.name).trim_end().to_string()
    }

    /// The name of its man page.
    pub fn page(&self) -> String {
        self.full_name().replace(' ', "-")
    }

    /// The commands of a group.
    pub fn commands(&self) -> impl Iterator<Item = &'static Command> {
        COMMANDS.iter().filter(|c| c.group() == Some(self.name))
    }

    /// The flags that it takes.
    pub fn flags(&self) -> impl Iterator<Item = &'static Flag> {
        flags().filter(|f| f.on.is_empty() || f.on.contains(&self.name))
    }

    /// Whether what was given to it may be a secret in the wrong place.
    pub fn takes_secrets(&self) -> bool {
        self.flags().any(|flag| flag.long == "password-stdin")
    }

    /// The operands that must be there, with flags of which `is_given` tells.
    pub fn needed(&self, is_given: &dyn Fn(&str) -> bool) -> Vec<&'static Operand> {
        let is_needed = |operand: &&Operand| match operand.count {
            Count::One => true,
            Count::OneUnless(flag) => !is_given(flag),
            Count::Any => false,
        };
        self.operands.iter().filter(is_needed).collect()
    }

    /// The most operands that it takes beside those that must be there.
    pub fn further(&self) -> usize {
        if self.operands.iter().any(|operand| operand.count == Count::Any) { usize::MAX } else { 0 }
    }
}

impl Flag {
    /// The name of its value, if it has one.
    pub fn value_name(&self) -> Option<&'static str> {
        match self.value {
            Value::None => None,
            Value::Required(name) | Value::Optional(name, _) => Some(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_name_is_given_twice_and_every_name_exists() {
        let mut names = HashSet::new();
        for command in COMMANDS {
            let mut names = HashSet::new();
            for flag in command.flags() {
                assert!(names.insert(flag.long.to_string()), "{}: --{}", command.name, flag.long);
                assert!(flag.short.is_none_or(|c| names.insert(c.to_string())), "{}: -{:?}", command.name, flag.short);
            }
        }
        for flag in flags() {
            let written = |f: &Flag| (f.short, f.value_name().is_some());
            assert!(flags().all(|f| f.long != flag.long || written(f) == written(flag)), "--{}", flag.long);
            assert!(
                flags().all(|f| f.short != flag.short || f.short.is_none() || f.long == flag.long),
                "{:?}",
                flag.short
            );
            assert!(!flag.text.is_empty() && flag.text.ends_with('.'), "--{}", flag.long);
            for name in flag.on.iter().chain(flag.required_by) {
                assert!(COMMANDS.iter().any(|c| c.name == *name && c.action.is_some()), "--{}: {name}", flag.long);
            }
        }
        for command in COMMANDS {
            assert!(names.insert(command.full_name()), "{}", command.name);
            assert!(command.action.is_some() || command.commands().next().is_some(), "{}", command.name);
            assert!(!command.summary.ends_with('.'));
        }
    }

    #[test]
    fn defaults_in_words_are_the_defaults() {
        for flag in flags().filter(|f| !f.default.is_empty() && f.default != "all") {
            let (plain, mut set) = (Args::default(), Args::default());
            (flag.set)(&mut set, flag.default).unwrap();
            assert_eq!(format!("{plain:?}"), format!("{set:?}"), "--{}", flag.long);
        }
    }
}
