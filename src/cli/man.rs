//! Man pages in mdoc(7), from the table.

use std::{fs, path::Path};

use super::schema::{COMMANDS, Command, Count};
use crate::error::{Context, Result};

const WIDTH: usize = 78;

/// The pages that are no command's, their sections, and what stands in them.
const PAGES: [(&str, u8, &str); 8] = [
    ("ace-dt-archive", 5, include_str!("../../man/ace-dt-archive.5")),
    ("ace-dt-config.yaml", 5, include_str!("../../man/ace-dt-config.yaml.5")),
    ("ace-dt-plan", 5, include_str!("../../man/ace-dt-plan.5")),
    ("ace-dt-progress", 5, include_str!("../../man/ace-dt-progress.5")),
    ("ace-dt-airgap", 7, include_str!("../../man/ace-dt-airgap.7")),
    ("ace-dt-recipes", 7, include_str!("../../man/ace-dt-recipes.7")),
    ("ace-dt-shards", 7, include_str!("../../man/ace-dt-shards.7")),
    ("ace-dt-tape", 7, include_str!("../../man/ace-dt-tape.7")),
];

/// When the pages last changed.
const DATE: &str = "November 27, 2026";

/// Writes the pages of a command and all below it, of the program itself all pages, into a directory, which is made if it is not there.
///
/// # Errors
/// If it cannot be made, or a file in it cannot be written.
pub fn write_all(command: &Command, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).doing(|| format!("creating the directory {dir:?}"))?;
    let is_below = |other: &Command| {
        let rest = other.name.strip_prefix(command.name);
        rest.is_some_and(|rest| command.name.is_empty() || rest.is_empty() || rest.starts_with(' '))
    };
    for command in COMMANDS.iter().filter(|other| is_below(other)) {
        let path = dir.join(format!("{}.1", command.page()));
        fs::write(&path, page(command)).doing(|| format!("writing {path:?}"))?;
    }
    for (name, section, text) in PAGES.iter().filter(|_| command.name.is_empty()) {
        let path = dir.join(format!("{name}.{section}"));
        fs::write(&path, text).doing(|| format!("writing {path:?}"))?;
    }
    Ok(())
}

/// The page of a command.
pub fn page(command: &Command) -> String {
    let mut out = format!(
        ".\\\" Written from the program's table of commands and flags: `make man`.\n.Dd {DATE}\n.Dt {} 1\n.Os\n.Sh NAME\n.Nm {}\n.Nd {}\n.Sh SYNOPSIS\n",
        command.page().to_uppercase(),
        command.page(),
        command.summary
    );
    synopsis(&mut out, command);
    out.push_str(".Sh DESCRIPTION\n");
    paragraphs(&mut out, command.description);
    if command.action.is_none() {
        out.push_str(".Pp\nThe commands are:\n.Bl -tag -width Ds\n");
        for below in command.commands() {
            out.push_str(&format!(".It Ic {}\n", below.word()));
            paragraphs(&mut out, &format!("{}: see `{}(1)`.", capital(below.summary), below.page()));
        }
        out.push_str(".El\n");
    }
    if !command.operands.is_empty() {
        out.push_str(".Pp\nThe operands are:\n.Bl -tag -width Ds\n");
        for operand in command.operands {
            out.push_str(&format!(".It Ar {}\n", operand.name));
            paragraphs(&mut out, operand.text);
        }
        out.push_str(".El\n");
    }
    out.push_str(".Pp\nThe flags are:\n.Bl -tag -width Ds\n");
    for flag in command.flags() {
        let value = flag.value_name().map_or(String::new(), |v| format!(" Ar {v}"));
        let short = flag.short.map_or(String::new(), |c| format!("Fl {c} , "));
        out.push_str(&format!(".It {short}Fl \\-{}{value}\n", flag.long));
        paragraphs(&mut out, flag.text);
        if !flag.default.is_empty() && !flag.required_by.contains(&command.name) {
            paragraphs(&mut out, &format!("The default is `{}`.", flag.default));
        }
        if !flag.env.is_empty() {
            paragraphs(&mut out, &format!("The environment variable is `${}`.", flag.env));
        }
    }
    out.push_str(".El\n");
    for (title, text) in command.sections {
        out.push_str(&format!(".Sh {title}\n"));
        paragraphs(&mut out, text);
    }
    see_also(&mut out, command);
    out
}

fn synopsis(out: &mut String, command: &Command) {
    out.push_str(".Nm ace-dt\n");
    for word in command.name.split_whitespace() {
        out.push_str(&format!(".Cm {word}\n"));
    }
    if command.action.is_none() {
        out.push_str(".Op Ar flags\n.Ar command\n.Op Ar operand ...\n");
        return;
    }
    for flag in command.flags().filter(|f| !f.on.is_empty()) {
        let short = flag.short.map(|c| c.to_string());
        let name = short.unwrap_or_else(|| format!("\\-{}", flag.long));
        let value = flag.value_name().map_or(String::new(), |v| format!(" Ar {v}"));
        match flag.required_by.contains(&command.name) {
            true => out.push_str(&format!(".Fl {name}{value}\n")),
            false => out.push_str(&format!(".Op Fl {name}{value}\n")),
        }
    }
    for operand in command.operands {
        match operand.count {
            Count::One => out.push_str(&format!(".Ar {}\n", operand.name)),
            Count::OneUnless(_) => out.push_str(&format!(".Op Ar {}\n", operand.name)),
            Count::Any => out.push_str(&format!(".Op Ar {} ...\n", operand.name)),
        }
    }
}

fn see_also(out: &mut String, command: &Command) {
    let mut others: Vec<String> = COMMANDS.iter().filter(|c| c.name != command.name).map(Command::page).collect();
    others.sort();
    out.push_str(".Sh SEE ALSO\n");
    let others = others.iter().map(|page| (page.as_str(), 1)).chain(PAGES.map(|(page, section, _)| (page, section)));
    let others: Vec<String> = others.map(|(page, section)| format!(".Xr {page} {section}")).collect();
    out.push_str(&format!("{}\n", others.join(" ,\n")));
}

fn capital(text: &str) -> String {
    text[..1].to_uppercase() + &text[1..]
}

/// Running text: one sentence a line, words in backquotes as macros.
fn paragraphs(out: &mut String, text: &str) {
    for (n, paragraph) in text.split("\n\n").enumerate() {
        if paragraph.starts_with(' ') {
            out.push_str(".Bd -literal -offset indent\n");
            for line in paragraph.lines() {
                out.push_str(&escaped(line.strip_prefix("    ").unwrap_or(line)));
                out.push('\n');
            }
            out.push_str(".Ed\n");
            continue;
        }
        if n > 0 {
            out.push_str(".Pp\n");
        }
        running(out, paragraph);
    }
}

fn running(out: &mut String, text: &str) {
    let mut line = String::new();
    let flush = |out: &mut String, line: &mut String| {
        let mut column = 0;
        for word in line.split_whitespace() {
            if column > 0 && column + 1 + word.len() > WIDTH {
                out.push('\n');
                column = 0;
            }
            if column > 0 {
                out.push(' ');
                column += 1;
            }
            let word = if column == 0 { escaped(word) } else { word.into() };
            column += word.len();
            out.push_str(&word);
            // A sentence ends its line (mdoc(7)).
            if word.ends_with(['.', ':']) {
                out.push('\n');
                column = 0;
            }
        }
        if column > 0 {
            out.push('\n');
        }
        line.clear();
    };
    for (n, part) in text.split('`').enumerate() {
        if n % 2 == 0 {
            // Punctuation right behind a macro belongs on its line, which `code` has opened.
            let (close, rest) = part.split_at(if n > 0 { part.find([' ', '\n']).unwrap_or(part.len()) } else { 0 });
            if n > 0 {
                close.chars().for_each(|c| out.push_str(&format!(" {c}")));
                out.push('\n');
            }
            line.push_str(&rest.replace('\\', "\\e"));
            continue;
        }
        let open = if line.ends_with('(') { "( " } else { "" };
        if !open.is_empty() {
            line.pop();
        }
        flush(out, &mut line);
        out.push_str(&macro_of(part, open));
    }
    flush(out, &mut line);
}

fn macro_of(word: &str, open: &str) -> String {
    let text = escaped(word);
    match word {
        _ if word.ends_with("(1)") => format!(".Xr {open}{} 1", word.trim_end_matches("(1)")),
        _ if word.ends_with("(5)") => format!(".Xr {open}{} 5", word.trim_end_matches("(5)")),
        _ if word.ends_with("(7)") => format!(".Xr {open}{} 7", word.trim_end_matches("(7)")),
        _ if word.starts_with("--") => format!(".Fl {open}\\-{}", &word[2..]),
        _ if word.starts_with('$') && !word.contains('/') => format!(".Ev {open}{}", &word[1..]),
        _ if word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase() || c == '-') => format!(".Ar {open}{word}"),
        _ if !word.contains(' ')
            && (word.starts_with(['/', '~', '$'])
                || word.ends_with(".yaml")
                || word.ends_with(".json")
                || word.ends_with(".txt")) =>
        {
            format!(".Pa {open}{text}")
        }
        _ => format!(".Ql {open}{text}"),
    }
}

/// Text that roff takes for itself.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}
