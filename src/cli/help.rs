//! `--help`, from the table.

use crate::cli::schema::{Command, Count, Flag};

const WIDTH: usize = 79;

/// The help of one command, for standard output.
pub fn text(command: &Command) -> String {
    let mut out = format!("{}: {}\n\nUsage: {}\n", command.full_name(), command.summary, usage(command));
    if command.action.is_none() {
        out.push_str("\nCommands:\n");
        for below in command.commands() {
            out.push_str(&format!("  {:<18} {}\n", below.name, below.summary));
        }
    }
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
    out.push_str(&format!("\nThe manual: man {}\n", command.page()));
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
