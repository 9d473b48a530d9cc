//! The command line of a run, to be given again with changes: for the error of one that was interrupted.

use std::{ffi::OsString, path::Path};

/// What was given.
#[derive(Clone, Debug)]
pub struct CommandLine {
    /// The command's words behind the program's name.
    pub command: &'static str,
    /// Flags as they were given.
    pub flags: Vec<(&'static str, Option<String>)>,
    /// Operands.
    pub operands: Vec<OsString>,
    /// Which of them is the destination, counted from 0.
    pub dest: usize,
}

impl CommandLine {
    /// The same command with other flags, for a shell. `changes` take the place of flags of their name;
    /// of `--force` and `--resume` one takes the place of the other.
    pub fn again(&self, changes: &[(&str, String)], dest: &Path) -> String {
        let mut operands = self.operands.clone();
        operands[self.dest] = dest.into();
        CommandLine { operands, ..self.clone() }.with(changes)
    }

    /// The same command with other flags, and the same operands.
    pub fn with(&self, changes: &[(&str, String)]) -> String {
        let changed = |flag: &str| changes.iter().any(|(name, _)| *name == flag);
        let replaced = |flag: &str| match flag {
            "checkpoint" => changed(flag),
            "force" | "resume" => changed("force") || changed("resume"),
            _ => false,
        };
        let mut words = vec!["ace-dt".to_string()];
        words.extend(self.command.split(' ').map(String::from));
        let given = self
            .flags
            .iter()
            .filter(|(flag, _)| !replaced(flag))
            .map(|(flag, value)| (*flag, value.clone().unwrap_or_default()));
        for (flag, value) in given.chain(changes.iter().cloned()) {
            words.push(if value.is_empty() { format!("--{flag}") } else { format!("--{flag}={value}") });
        }
        words.extend(self.operands.iter().map(|operand| operand.to_string_lossy().into_owned()));
        words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_command_with_changes() {
        let line = CommandLine {
            command: "mirror archive",
            flags: vec![("checkpoint", Some("a b".into())), ("force", None), ("quiet", None)],
            operands: ["s.list", "out.tar", "reg.io/x:1"].map(OsString::from).to_vec(),
            dest: 1,
        };
        let dest = Path::new("out.tar");
        assert_eq!(
            line.again(&[("resume", String::new())], dest),
            "ace-dt mirror archive '--checkpoint=a b' --quiet --resume s.list out.tar reg.io/x:1"
        );
        let other = line.again(&[("checkpoint", "it's".into())], dest);
        assert_eq!(other, r"ace-dt mirror archive --force --quiet '--checkpoint=it'\''s' s.list out.tar reg.io/x:1");
    }
}
