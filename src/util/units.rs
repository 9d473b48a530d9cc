//! Sizes, durations and percentages as users write and read them.
//!
//! Sizes follow Go's `humanize.ParseBytes`: SI (`1M` = 10^6) and IEC (`1Mi` = `1MiB` = 2^20)
//! suffixes, fractions, an optional space, any case. Durations follow Go's `time.ParseDuration`.

use std::time::Duration;

/// Reads a size in bytes. The error says what is wrong with `text`, without naming where it stood.
///
/// # Errors
/// If it is no size, or more than 2^64.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',').unwrap_or(text.len());
    let (number, suffix) = (text[..digits].replace(',', ""), text[digits..].trim().to_ascii_lowercase());
    let malformed = || format!("{text:?} is not a size such as 64k, 1M or 1.5GiB");
    let (letter, base) = match suffix.as_str() {
        "" | "b" => ("", 1),
        s if s.ends_with("ib") => (&s[..s.len() - 2], 1024),
        s if s.ends_with('i') => (&s[..s.len() - 1], 1024),
        s if s.ends_with('b') => (&s[..s.len() - 1], 1000),
        s => (s, 1000),
    };
    let power = match letter {
        "" if base == 1 => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        "e" => 6,
        _ => return Err(malformed()),
    };
    let unit = u128::from(base as u64).pow(power);
    let too_large = || format!("{text:?} is larger than a size can be");
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || fraction.len() > 18 {
        return Err(malformed());
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| too_large())? };
    let part = match fraction {
        "" => 0,
        f => f.parse::<u128>().map_err(|_| malformed())? * unit / 10u128.pow(f.len() as u32),
    };
    let bytes = whole.checked_mul(unit).and_then(|w| w.checked_add(part)).ok_or_else(too_large)?;
    u64::try_from(bytes).map_err(|_| too_large())
}

/// Reads a duration such as `500ms`, `2s`, `1m30s`. Zero and negative ones are refused.
///
/// # Errors
/// If it is no duration, nothing, or more than a year.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let malformed = || format!("{text:?} is not a duration such as 500ms, 2s or 5m");
    let mut rest = text.trim();
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(malformed)?;
        let number: f64 = rest[..digits].parse().map_err(|_| malformed())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        seconds += number
            * match &rest[..letters] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(malformed()),
            };
        rest = &rest[letters..];
    }
    if seconds <= 0.0 {
        return Err(format!("{text:?}: a time-out must be longer than nothing"));
    }
    if seconds > 366.0 * 86400.0 {
        return Err(format!("{text:?} is more than a year"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| malformed())
}

/// `1234567` as `1,234,567`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// `1 blob`, `2 blobs`, `1,000 retries`.
pub fn counted(n: impl TryInto<u64>, what: &str) -> String {
    let n = n.try_into().unwrap_or(u64::MAX);
    match what.strip_suffix('y') {
        _ if n == 1 => format!("1 {what}"),
        Some(stem) => format!("{} {stem}ies", grouped(n)),
        None => format!("{} {what}s", grouped(n)),
    }
}

/// A size for people, three significant digits, IEC: `1.50 GiB`.
pub fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let places = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.places$} {}", UNITS[unit])
}

/// A time for people: `0:42`, `1:02:03`.
pub fn human_time(seconds: u64) -> String {
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if h > 0 { format!("{h}:{m:02}:{s:02}") } else { format!("{m}:{s:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        assert_eq!([counted(0, "blob"), counted(1_u64, "blob")], ["0 blobs", "1 blob"]);
        assert_eq!([counted(1, "retry"), counted(2000_usize, "retry")], ["1 retry", "2,000 retries"]);
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("1000000", 1_000_000),
            ("64k", 64_000),
            ("1M", 1_000_000),
            ("1MB", 1_000_000),
            ("1Mi", 1 << 20),
            ("1MiB", 1 << 20),
            ("1 mib", 1 << 20),
            ("1.5Gi", 3 << 29),
            (".5Ki", 512),
            ("1,024", 1024),
            ("15EiB", 15 << 60),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "-1", "1X", "1.2.3M", "1Mx", "i", "1i", "99999999999E", "."] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        for text in ["", "0s", "5", "-2s", "s", "1x", "1e400h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn for_people() {
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(12), "12");
        assert_eq!(human_size(1023), "1023 B");
        assert_eq!(human_size(3 << 29), "1.50 GiB");
        assert_eq!(human_time(3723), "1:02:03");
    }
}
