//! One record of comma-separated values, as Go's `encoding/csv` reads it with leading space trimmed.
//!
//! The contract of lists, maps and sources files is that reader's. The `csv` crate cannot trim the
//! space before an opening quote, which people write; so these few lines are our own.

/// Writes one record, with a newline; fields that need it are quoted.
pub fn line(fields: &[&str]) -> String {
    let quoted = |field: &&str| match field.contains([',', '"', '\n', '\r']) || field.starts_with(' ') {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_string(),
    };
    fields.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n"
}

/// Splits one line into its fields. A field may be quoted, `""` in it stands for a quote.
///
/// # Errors
/// What is wrong with the quotes.
pub fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start();
        let Some(mut quoted) = rest.strip_prefix('"') else {
            let (field, more) = match rest.split_once(',') {
                Some((field, more)) => (field, Some(more)),
                None => (rest, None),
            };
            if field.contains('"') {
                return Err(format!("a bare quote in {field:?}"));
            }
            fields.push(field.trim_end().to_string());
            match more {
                Some(more) => rest = more,
                None => return Ok(fields),
            }
            continue;
        };
        let mut field = String::new();
        loop {
            let (part, after) = quoted.split_once('"').ok_or("a quote that is never closed")?;
            field.push_str(part);
            match after.strip_prefix('"') {
                Some(more) => {
                    field.push('"');
                    quoted = more;
                }
                None => {
                    quoted = after;
                    break;
                }
            }
        }
        fields.push(field);
        match quoted.trim_start() {
            "" => return Ok(fields),
            more => match more.strip_prefix(',') {
                Some(more) => rest = more,
                None => return Err(format!("{more:?} after a closing quote")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_and_unquotes() {
        assert_eq!(fields("a,b=c, d").unwrap(), ["a", "b=c", "d"]);
        assert_eq!(fields(r#"a, "k=x,y","q=""z""" "#).unwrap(), ["a", "k=x,y", "q=\"z\""]);
        assert_eq!(fields("a,,").unwrap(), ["a", "", ""]);
        assert!(fields("\"a").is_err());
        assert!(fields("\"a\"b").is_err());
        assert!(fields("a\"b").is_err());
    }
}
