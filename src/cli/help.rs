//! `-h`, a line a flag, and `--help`, all of it: from the table.

use crate::cli::schema::{Command, Count, Flag, FlagGroup};

const WIDTH: usize = 79;
/// What stands in front of a brief text is not wider; a longer name has a line of its own.
const NAMES_MAX: usize = 31;

/// The help of one command on one screen, for standard output.
pub fn brief(command: &Command) -> String {
    let mut out = opening(command);
    let flags: Vec<(FlagGroup, String, &str)> =
        command.flags().map(|flag| (flag.group, name(flag), flag.brief)).collect();
    let width = flags.iter().map(|(_, name, _)| name.len()).filter(|len| *len <= NAMES_MAX).max().unwrap_or(0);
    for group in FlagGroup::ALL {
        let mut of_group = flags.iter().filter(|(of, ..)| *of == group).peekable();
        if of_group.peek().is_some() {
            out.push_str(&format!("\n{}:\n", group.title()));
        }
        for (_, name, text) in of_group {
            match name.len() > NAMES_MAX {
                true => out.push_str(&format!("  {name}\n  {:width$}  {text}\n", "")),
                false => out.push_str(&format!("  {name:width$}  {text}\n")),
            }
        }
    }
    if command.action.is_none() {
        out.push_str("\nThe whole way, step by step: man ace-dt-airgap\n");
    }
    out
}

/// The help of one command, all of it, for standard output.
pub fn full(command: &Command) -> String {
    let mut out = opening(command);
    paragraphs(&mut out, command.description);
    if !command.operands.is_empty() {
        out.push_str("\nOperands:\n");
        for operand in command.operands {
            entry(&mut out, operand.name, operand.text);
        }
    }
    out.push_str("\nFlags:\n");
    for flag in command.flags() {
        let mut text = flag.text.to_string();
        if !flag.default.is_empty() && !flag.required_by.contains(&command.name) {
            text.push_str(&format!(" Default: {}.", flag.default));
        }
        if !flag.env.is_empty() {
            text.push_str(&format!(" Environment: {}.", flag.env));
        }
        entry(&mut out, &name(flag), &text);
    }
    out.push_str(&format!("\nThe manual: man {}\nThe whole way, step by step: man ace-dt-airgap\n", command.page()));
    out
}

fn opening(command: &Command) -> String {
    let mut out = format!("{}: {}\n\nUsage: {}\n", command.full_name(), command.summary, usage(command));
    if command.action.is_none() {
        out.push_str("\nCommands:\n");
        let width = command.commands().map(|below| below.word().len()).max().unwrap_or(0);
        for below in command.commands() {
            out.push_str(&format!("  {:width$}  {}\n", below.word(), below.summary));
        }
    }
    out
}

fn usage(command: &Command) -> String {
    let mut usage = format!("{} [FLAG]...", command.full_name());
    if command.action.is_none() {
        usage.push_str(" COMMAND");
    }
    for operand in command.operands {
        match operand.count {
            Count::One => usage.push_str(&format!(" {}", operand.name)),
            Count::OneUnless(_) => usage.push_str(&format!(" [{}]", operand.name)),
            Count::Any => usage.push_str(&format!(" [{}...]", operand.name)),
        }
    }
    usage
}

fn name(flag: &Flag) -> String {
    let short = flag.short.map_or("    ".into(), |c| format!("-{c}, "));
    let value = flag.value_name().map_or(String::new(), |v| format!(" {v}"));
    format!("{short}--{}{value}", flag.long)
}

fn entry(out: &mut String, name: &str, text: &str) {
    out.push_str(&format!("  {name}\n"));
    wrap(out, text, 8);
}

fn paragraphs(out: &mut String, text: &str) {
    for paragraph in text.split("\n\n") {
        out.push('\n');
        match paragraph.starts_with(' ') {
            true => out.push_str(&format!("{paragraph}\n")),
            false => wrap(out, paragraph, 0),
        }
    }
}

fn wrap(out: &mut String, text: &str, indent: usize) {
    let mut column = 0;
    for word in text.split_whitespace() {
        let word = word.replace('`', "");
        if column > 0 && column + 1 + word.len() > WIDTH {
            out.push('\n');
            column = 0;
        }
        match column {
            0 => out.push_str(&" ".repeat(indent)),
            _ => out.push(' '),
        }
        column = if column == 0 { indent } else { column + 1 } + word.len();
        out.push_str(&word);
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::schema::COMMANDS;

    #[test]
    fn brief_help_fits_a_screen() {
        for command in COMMANDS {
            let text = brief(command);
            for line in text.lines().filter(|line| !line.starts_with("Usage: ")) {
                assert!(line.chars().count() <= WIDTH + 1, "{}: {line}", command.name);
            }
            // A screen of today: the longest has some forty flags.
            assert!(text.lines().count() <= 60, "{}: {} lines", command.name, text.lines().count());
            for flag in command.flags() {
                assert!(!flag.brief.is_empty() && text.contains(&format!("--{}", flag.long)), "--{}", flag.long);
                assert!(!flag.brief.ends_with('.') && !flag.brief.contains('`'), "--{}", flag.long);
            }
        }
    }
}
