//! The blocks of a template: whether each is closed, and how deep they stand in each other. `gotmpl` takes a block that is
//! never closed for one that is, and a parser that is driven very deep has no stack left.

/// How deep parentheses and blocks may be nested.
const NESTED_MAX: usize = 80;

/// An action: its line, and what stands between the braces.
struct ActionText<'a> {
    line: usize,
    text: &'a str,
}

/// Whether the blocks of a template are as they must be.
///
/// # Errors
/// The line, and what is wrong there.
pub(super) fn check(text: &str) -> Result<(), (usize, String)> {
    // The words that open what is open, with their lines.
    let mut open: Vec<(&str, usize)> = Vec::new();
    // Each `else if` stands in the one before.
    let mut chained = 0;
    for ActionText { line, text } in actions(text)? {
        let mut words = text.split_whitespace();
        let word = words.next().unwrap_or_default();
        let word = word.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
        let fails = |why: &str| Err((line, why.to_string()));
        match word {
            "if" | "range" | "with" | "block" | "define" => open.push((word, line)),
            "else" => {
                if !matches!(open.last(), Some(("if" | "range" | "with", _))) {
                    return fails("{{else}} stands in no {{if}}, {{range}} or {{with}}");
                }
                chained += usize::from(words.next().is_some());
            }
            "end" if open.pop().is_none() => return fails("{{end}} ends nothing"),
            "break" | "continue" => {
                let own = open.iter().rev().take_while(|(word, _)| !matches!(*word, "define" | "block"));
                if !own.clone().any(|(word, _)| *word == "range") {
                    return fails(&format!("{{{{{word}}}}} stands in no {{{{range}}}}"));
                }
            }
            _ => {}
        }
        let (mut depth, mut deepest) = (0usize, 0);
        for byte in text.bytes() {
            match byte {
                b'(' => depth += 1,
                b')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            deepest = deepest.max(depth);
        }
        if open.len().max(deepest) > NESTED_MAX || chained > 2 * NESTED_MAX {
            return fails(&format!("parentheses or blocks are nested more than {NESTED_MAX} deep"));
        }
    }
    match open.last() {
        Some((word, line)) => Err((*line, format!("{{{{{word}}}}} has no {{{{end}}}}"))),
        None => Ok(()),
    }
}

/// The actions of a template, without comments.
fn actions(text: &str) -> Result<Vec<ActionText<'_>>, (usize, String)> {
    let (mut all, mut at, mut line, mut counted) = (Vec::new(), 0, 1, 0);
    while let Some(begin) = text[at..].find("{{").map(|n| at + n + 2) {
        line += text[counted..begin].matches('\n').count();
        counted = begin;
        let trimmed = text[begin..].strip_prefix('-').filter(|rest| rest.starts_with([' ', '\t', '\r', '\n']));
        let inner = trimmed.map_or(&text[begin..], str::trim_start);
        let start = text.len() - inner.len();
        if inner.starts_with("/*") {
            let end = inner.find("*/").ok_or((line, "a comment is never closed".to_string()))?;
            at = start + end + 2;
            continue;
        }
        if inner.trim_start().starts_with("/*") {
            return Err((line, "a comment must begin right behind the braces".into()));
        }
        let end = action_end(inner).ok_or((line, "an action is never closed".to_string()))?;
        let content = inner[..end].trim_end_matches('-').trim();
        all.push(ActionText { line, text: content });
        at = start + end + 2;
    }
    Ok(all)
}

/// Where the braces are that close an action, outside of quotes.
fn action_end(text: &str) -> Option<usize> {
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in text.char_indices() {
        match quote {
            Some('`') if c == '`' => quote = None,
            Some('`') => {}
            Some(_) if std::mem::take(&mut escaped) => {}
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open || c == '\n' => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'' | '`') => quote = Some(c),
            None if text[at..].starts_with("}}") => return Some(at),
            None => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks() {
        for good in [
            "",
            "{{if true}}a{{else if false}}b{{else}}c{{end}}",
            "{{range .}}{{if .}}{{break}}{{end}}{{continue}}{{end}}",
            "{{\"{{if}}\"}}{{`}}`}}{{'}'}}{{/* {{if */}}{{- /* x */ -}}",
            "{{define \"a\"}}{{end}}{{- if 1 -}}{{- end -}}",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, line) in [
            ("\n{{if true}}", 2),
            ("{{end}}", 1),
            ("{{else}}", 1),
            ("{{break}}", 1),
            ("{{range .}}{{define \"x\"}}{{break}}{{end}}{{end}}", 1),
            ("\n\n{{ /* c */ }}", 3),
            ("{{ \"a }}", 1),
            ("{{/* ", 1),
        ] {
            assert_eq!(check(bad).unwrap_err().0, line, "{bad}");
        }
        assert!(check(&format!("{{{{{}}}}}", "(".repeat(81))).is_err());
        assert!(check(&"{{if 1}}".repeat(81)).is_err());
    }
}
