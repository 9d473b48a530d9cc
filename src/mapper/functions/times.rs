//! Times and durations, as Go's package `time` reads and writes them. What the time is no template can find out.

use std::sync::Arc;

use gotmpl::Value;

use super::{
    account::{Made, NamedFunction, string},
    cast::{KIND, TEXT, index_of, kind_of, shown, string_of, text_of},
};

/// What a map stands for that is a time.
pub(in crate::mapper) const TIME: &str = "time.Time";

/// These functions.
pub(super) static FUNCTIONS: &[NamedFunction] = &[
    ("toDate", 2, 2, |a| Ok(to_value(parse(string_of(&a[0])?, string_of(&a[1])?).unwrap_or(ZERO)))),
    ("mustToDate", 2, 2, |a| parse(string_of(&a[0])?, string_of(&a[1])?).map(to_value)),
    ("mustDateModify", 2, 2, modified),
    ("must_date_modify", 2, 2, modified),
    ("unixEpoch", 1, 1, |a| Ok(string(of_value(&a[0])?.seconds.to_string()))),
    ("duration", 1, 1, |a| {
        // A number that is not written as text is none to sprig.
        let seconds = a[0].as_str().and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
        Ok(string(duration_text(i128::from(seconds) * SECOND)))
    }),
    ("durationRound", 1, 1, |a| {
        let nanos = match &a[0] {
            Value::String(text) => parse_duration(text).unwrap_or(0),
            other => i128::from(index_of(other)?),
        };
        Ok(string(rounded(nanos)))
    }),
];

const SECOND: i128 = 1_000_000_000;
const DAY: i64 = 86_400;
/// The first second of the year 1, as Go counts.
const ZERO: Moment = Moment { seconds: -62_135_596_800, nanos: 0, offset: 0 };

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A point in time, and the zone in which it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moment {
    /// Since 1970, in UTC.
    seconds: i64,
    nanos: u32,
    /// Seconds east of UTC.
    offset: i64,
}

/// The parts of a moment in its zone.
struct CalendarParts {
    year: i64,
    month: usize,
    day: i64,
    year_day: i64,
    weekday: usize,
    second_of_day: i64,
}

/// A date of the Gregorian calendar as days since 1970 (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && year % 100 != 0 || year % 400 == 0
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl Moment {
    fn parts(&self) -> CalendarParts {
        let local = self.seconds + self.offset;
        let (days, second_of_day) = (local.div_euclid(DAY), local.rem_euclid(DAY));
        let shifted = days + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let year_day = days - days_of(year, 1, 1) + 1;
        let weekday = (days + 4).rem_euclid(7) as usize;
        CalendarParts { year, month: month as usize, day, year_day, weekday, second_of_day }
    }
}

fn to_value(moment: Moment) -> Value {
    let entries = [
        (KIND, string(TIME)),
        ("\0seconds", Value::Int(moment.seconds)),
        ("\0nanos", Value::Int(moment.nanos.into())),
        ("\0offset", Value::Int(moment.offset)),
        (TEXT, string(format(&moment, "2006-01-02 15:04:05.999999999 -0700 MST"))),
    ];
    Value::Map(Arc::new(entries.into_iter().map(|(key, value)| (key.into(), value)).collect()))
}

fn of_value(value: &Value) -> Result<Moment, String> {
    if kind_of(value) != Some(TIME) {
        return Err(format!("{} is no time", shown(value)));
    }
    let field = |name: &str| value.field(name).and_then(Value::as_int).unwrap_or(0);
    Ok(Moment { seconds: field("\0seconds"), nanos: field("\0nanos") as u32, offset: field("\0offset") })
}

/// Calls a method of a time.
///
/// # Errors
/// If there is none, or its arguments are not what it takes.
pub(in crate::mapper) fn method(value: &Value, name: &str, arguments: &[Value]) -> Made {
    let moment = of_value(value)?;
    let parts = moment.parts();
    let takes = usize::from(name == "Format");
    if arguments.len() != takes {
        return Err(format!("{name} takes {takes} arguments, and got {}", arguments.len()));
    }
    Ok(match name {
        "Format" => string(format(&moment, string_of(&arguments[0])?)),
        "String" => string(text_of(value)),
        "Year" => Value::Int(parts.year),
        "Month" => string(MONTHS[parts.month - 1]),
        "Day" => Value::Int(parts.day),
        "YearDay" => Value::Int(parts.year_day),
        "Weekday" => string(WEEKDAYS[parts.weekday]),
        "Hour" => Value::Int(parts.second_of_day / 3600),
        "Minute" => Value::Int(parts.second_of_day / 60 % 60),
        "Second" => Value::Int(parts.second_of_day % 60),
        "Nanosecond" => Value::Int(moment.nanos.into()),
        "Unix" => Value::Int(moment.seconds),
        "IsZero" => Value::Bool(moment.seconds == ZERO.seconds && moment.nanos == 0),
        "UTC" => to_value(Moment { offset: 0, ..moment }),
        _ => return Err(format!("a time has no {name}")),
    })
}

/// A part of a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LayoutPiece<'a> {
    Text(&'a str),
    /// What the reference time shows there, as it is written.
    Field(&'a str),
    /// A fraction of a second, with so many digits; as many as there are, if trailing zeros are left out.
    Fraction(char, usize, bool),
}

/// Fields, a longer one before one that it begins with.
const FIELDS: [&str; 33] = [
    "January",
    "Jan",
    "Monday",
    "Mon",
    "MST",
    "2006",
    "002",
    "01",
    "02",
    "03",
    "04",
    "05",
    "06",
    "15",
    "1",
    "__2",
    "_2",
    "2",
    "3",
    "4",
    "5",
    "PM",
    "pm",
    "-07:00:00",
    "-070000",
    "-07:00",
    "-0700",
    "-07",
    "Z07:00:00",
    "Z070000",
    "Z07:00",
    "Z0700",
    "Z07",
];

fn pieces(layout: &str) -> Vec<LayoutPiece<'_>> {
    let (mut all, mut text, mut at) = (Vec::new(), 0, 0);
    while at < layout.len() {
        let rest = &layout[at..];
        let fraction = fraction(rest);
        let field = FIELDS.iter().find(|field| rest.starts_with(**field));
        let field = field.filter(|field| match **field {
            // A word that only begins like this is none of them.
            "Jan" | "Mon" => !rest[3..].starts_with(|c: char| c.is_ascii_lowercase()),
            "_2" => !rest.starts_with("_2006"),
            _ => true,
        });
        let (piece, length) = match (fraction, field) {
            (Some((piece, length)), _) => (piece, length),
            (None, Some(field)) => (LayoutPiece::Field(&rest[..field.len()]), field.len()),
            (None, None) => {
                at += rest.chars().next().map_or(1, char::len_utf8);
                continue;
            }
        };
        if text < at {
            all.push(LayoutPiece::Text(&layout[text..at]));
        }
        all.push(piece);
        at += length;
        text = at;
    }
    if text < layout.len() {
        all.push(LayoutPiece::Text(&layout[text..]));
    }
    all
}

/// `.000`, `,000`, `.999` or `,999`, of any length, before what is no digit.
fn fraction(rest: &str) -> Option<(LayoutPiece<'static>, usize)> {
    let mut chars = rest.chars();
    let point = chars.next().filter(|c| matches!(c, '.' | ','))?;
    let digit = chars.next().filter(|c| matches!(c, '0' | '9'))?;
    let count = rest[1..].chars().take_while(|c| *c == digit).count();
    let is_end = !rest[1 + count..].starts_with(|c: char| c.is_ascii_digit());
    (is_end && count <= 9).then_some((LayoutPiece::Fraction(point, count, digit == '9'), 1 + count))
}

fn format(moment: &Moment, layout: &str) -> String {
    let CalendarParts { year, month, day, year_day, weekday, second_of_day } = moment.parts();
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    let hour12 = (hour + 11) % 12 + 1;
    let mut out = String::new();
    for piece in pieces(layout) {
        out += &match piece {
            LayoutPiece::Text(text) => text.to_string(),
            LayoutPiece::Fraction(point, count, trims) => {
                let digits = format!("{:09}", moment.nanos)[..count].to_string();
                let digits = if trims { digits.trim_end_matches('0') } else { &digits };
                if digits.is_empty() { String::new() } else { format!("{point}{digits}") }
            }
            LayoutPiece::Field(field) => match field {
                "2006" => format!("{year:04}"),
                "06" => format!("{:02}", year.rem_euclid(100)),
                "January" => MONTHS[month - 1].into(),
                "Jan" => MONTHS[month - 1][..3].into(),
                "01" => format!("{month:02}"),
                "1" => month.to_string(),
                "02" => format!("{day:02}"),
                "_2" => format!("{day:2}"),
                "2" => day.to_string(),
                "002" => format!("{year_day:03}"),
                "__2" => format!("{year_day:3}"),
                "Monday" => WEEKDAYS[weekday].into(),
                "Mon" => WEEKDAYS[weekday][..3].into(),
                "15" => format!("{hour:02}"),
                "03" => format!("{hour12:02}"),
                "3" => hour12.to_string(),
                "04" => format!("{minute:02}"),
                "4" => minute.to_string(),
                "05" => format!("{second:02}"),
                "5" => second.to_string(),
                "PM" => if hour < 12 { "AM" } else { "PM" }.into(),
                "pm" => if hour < 12 { "am" } else { "pm" }.into(),
                "MST" if moment.offset == 0 => "UTC".into(),
                "MST" => offset_text("-0700", moment.offset),
                zone => offset_text(zone, moment.offset),
            },
        };
    }
    out
}

/// An offset as a field shows it: `Z` in front stands for UTC, and colons and seconds as they are there.
fn offset_text(field: &str, offset: i64) -> String {
    if field.starts_with('Z') && offset == 0 {
        return "Z".into();
    }
    let (sign, size) = (if offset < 0 { '-' } else { '+' }, offset.abs());
    let (hours, minutes, seconds) = (size / 3600, size / 60 % 60, size % 60);
    match &field[1..] {
        "07" => format!("{sign}{hours:02}"),
        "0700" => format!("{sign}{hours:02}{minutes:02}"),
        "07:00" => format!("{sign}{hours:02}:{minutes:02}"),
        "070000" => format!("{sign}{hours:02}{minutes:02}{seconds:02}"),
        _ => format!("{sign}{hours:02}:{minutes:02}:{seconds:02}"),
    }
}

/// What is read of a time.
struct LayoutReader<'a> {
    rest: &'a str,
}

impl<'a> LayoutReader<'a> {
    /// A number of so many digits.
    fn number(&mut self, least: usize, most: usize) -> Result<i64, String> {
        let count = self.rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
        if count < least {
            return Err(format!("a number is wanted at {:?}", self.rest));
        }
        let (digits, rest) = self.rest.split_at(count);
        self.rest = rest;
        digits.parse().map_err(|_| format!("{digits:?} is no number"))
    }

    fn text(&mut self, text: &str) -> Result<(), String> {
        self.rest = self.rest.strip_prefix(text).ok_or_else(|| format!("{text:?} is wanted at {:?}", self.rest))?;
        Ok(())
    }

    /// One of several names, or their first letters, in any case.
    fn name(&mut self, names: &[&str], letters: usize) -> Result<usize, String> {
        let length = |name: &str| if letters == 0 { name.len() } else { letters };
        let is_it = |name: &&str| {
            let start = self.rest.get(..length(name));
            start.is_some_and(|start| start.eq_ignore_ascii_case(&name[..length(name)]))
        };
        let found = names.iter().position(is_it).ok_or_else(|| format!("no name at {:?}", self.rest))?;
        self.rest = &self.rest[length(names[found])..];
        Ok(found)
    }

    fn offset(&mut self, field: &str) -> Result<i64, String> {
        if field.starts_with('Z') && self.rest.starts_with('Z') {
            self.rest = &self.rest[1..];
            return Ok(0);
        }
        let sign = match self.rest.as_bytes().first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Err(format!("a zone is wanted at {:?}", self.rest)),
        };
        self.rest = &self.rest[1..];
        let (mut offset, mut unit) = (0, 3600);
        for part in field[1..].split_inclusive(':') {
            let digits = part.trim_end_matches(':').len();
            for _ in 0..digits / 2 {
                offset += self.number(2, 2)? * unit;
                unit /= 60;
            }
            if part.ends_with(':') {
                self.text(":")?;
            }
        }
        Ok(sign * offset)
    }
}

/// Reads a time by a layout; what that leaves open is that of the year 0's first second.
fn parse(layout: &str, text: &str) -> Result<Moment, String> {
    let wrong = |why: String| format!("{text:?} is no time as {layout:?} has it: {why}");
    read(layout, text).map_err(wrong)
}

fn read(layout: &str, text: &str) -> Result<Moment, String> {
    let (mut year, mut month, mut day, mut year_day) = (0, 1, 1, None);
    let (mut hour, mut minute, mut second, mut nanos, mut offset, mut afternoon) = (0, 0, 0, 0u32, 0, None);
    let mut reading = LayoutReader { rest: text };
    for piece in pieces(layout) {
        match piece {
            LayoutPiece::Text(text) => reading.text(text)?,
            LayoutPiece::Fraction(_, count, trims) => {
                if trims && !reading.rest.starts_with(['.', ',']) {
                    continue;
                }
                nanos = read_fraction(&mut reading, if trims { None } else { Some(count) })?;
            }
            LayoutPiece::Field(field) => match field {
                "2006" => year = reading.number(4, 4)?,
                "06" => {
                    year = Some(reading.number(2, 2)?).map(|y| if y >= 69 { 1900 + y } else { 2000 + y }).unwrap_or(0)
                }
                "January" => month = reading.name(&MONTHS, 0)? as i64 + 1,
                "Jan" => month = reading.name(&MONTHS, 3)? as i64 + 1,
                "01" => month = reading.number(2, 2)?,
                "1" => month = reading.number(1, 2)?,
                "02" => day = reading.number(2, 2)?,
                "_2" | "2" => {
                    reading.rest = reading.rest.strip_prefix(' ').unwrap_or(reading.rest);
                    day = reading.number(1, 2)?;
                }
                "002" => year_day = Some(reading.number(3, 3)?),
                "__2" => {
                    reading.rest = reading.rest.trim_start_matches(' ');
                    year_day = Some(reading.number(1, 3)?);
                }
                "Monday" => drop(reading.name(&WEEKDAYS, 0)?),
                "Mon" => drop(reading.name(&WEEKDAYS, 3)?),
                "15" => hour = reading.number(2, 2)?,
                "03" => hour = reading.number(2, 2)?,
                "3" => hour = reading.number(1, 2)?,
                "04" => minute = reading.number(2, 2)?,
                "4" => minute = reading.number(1, 2)?,
                "05" | "5" => {
                    second = reading.number(if field == "05" { 2 } else { 1 }, 2)?;
                    // A fraction may follow that the layout does not have.
                    if reading.rest.starts_with(['.', ','])
                        && reading.rest[1..].starts_with(|c: char| c.is_ascii_digit())
                    {
                        nanos = read_fraction(&mut reading, None)?;
                    }
                }
                "PM" | "pm" => {
                    let words = if field == "PM" { ["AM", "PM"] } else { ["am", "pm"] };
                    let found = words.iter().position(|word| reading.rest.starts_with(word));
                    afternoon = Some(found.ok_or_else(|| format!("{field} is wanted at {:?}", reading.rest))? == 1);
                    reading.rest = &reading.rest[2..];
                }
                "MST" => {
                    let length = reading.rest.bytes().take_while(u8::is_ascii_uppercase).count();
                    if !(3..=5).contains(&length) {
                        return Err(format!("the name of a zone is wanted at {:?}", reading.rest));
                    }
                    reading.rest = &reading.rest[length..];
                }
                zone => offset = reading.offset(zone)?,
            },
        }
    }
    if !reading.rest.is_empty() {
        return Err(format!("{:?} is too much", reading.rest));
    }
    if let Some(afternoon) = afternoon {
        hour = hour % 12 + if afternoon { 12 } else { 0 };
    }
    let (days, most) = match year_day {
        Some(n) if (1..=365 + i64::from(is_leap(year))).contains(&n) => (days_of(year, 1, 1) + n - 1, 31),
        Some(n) => return Err(format!("there is no day {n} of a year")),
        None if !(1..=12).contains(&month) => return Err(format!("there is no month {month}")),
        None => (days_of(year, month, day), days_in(year, month)),
    };
    if !(1..=most).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return Err("a part is out of range".into());
    }
    let seconds = days * DAY + hour * 3600 + minute * 60 + second - offset;
    Ok(Moment { seconds, nanos, offset })
}

fn read_fraction(reading: &mut LayoutReader, digits: Option<usize>) -> Result<u32, String> {
    reading.rest =
        reading.rest.strip_prefix(['.', ',']).ok_or_else(|| format!("a fraction is wanted at {:?}", reading.rest))?;
    let count = reading.rest.bytes().take_while(u8::is_ascii_digit).count();
    if count == 0 || digits.is_some_and(|digits| digits != count) {
        return Err(format!("a fraction is wanted at {:?}", reading.rest));
    }
    let (found, rest) = reading.rest.split_at(count);
    reading.rest = rest;
    let padded: String = found.chars().chain("000000000".chars()).take(9).collect();
    padded.parse().map_err(|_| format!("{found:?} is no fraction"))
}

fn modified(a: &[Value]) -> Made {
    let (by, moment) = (parse_duration(string_of(&a[0])?)?, of_value(&a[1])?);
    let all = i128::from(moment.seconds) * SECOND + i128::from(moment.nanos) + by;
    let seconds = i64::try_from(all.div_euclid(SECOND)).map_err(|_| "it is too long")?;
    Ok(to_value(Moment { seconds, nanos: all.rem_euclid(SECOND) as u32, ..moment }))
}

/// A duration as Go writes it (`1h30m`, `-1.5s`), in nanoseconds.
fn parse_duration(text: &str) -> Result<i128, String> {
    let wrong = || format!("{text:?} is no duration");
    let (sign, mut rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (if text.starts_with('-') { -1 } else { 1 }, rest),
        None => (1, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    let mut all = 0i128;
    while !rest.is_empty() || all == 0 {
        let length = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, behind) = rest.split_at(length);
        let unit = behind.bytes().take_while(|b| !b.is_ascii_digit() && *b != b'.').count();
        let nanos = match &behind[..unit] {
            "ns" => 1,
            "us" | "µs" | "μs" => 1000,
            "ms" => 1_000_000,
            "s" => SECOND,
            "m" => 60 * SECOND,
            "h" => 3600 * SECOND,
            _ => return Err(wrong()),
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && part.is_empty() || whole.len() > 18 || part.len() > 18 {
            return Err(wrong());
        }
        let digits = |text: &str| if text.is_empty() { Ok(0) } else { text.parse::<i128>() };
        all += digits(whole).map_err(|_| wrong())? * nanos;
        all += digits(part).map_err(|_| wrong())? * nanos / 10i128.pow(part.len() as u32);
        rest = &behind[unit..];
        if rest.is_empty() {
            break;
        }
    }
    Ok(sign * all)
}

/// As Go writes it: hours, minutes and seconds.
fn duration_text(nanos: i128) -> String {
    if nanos == 0 {
        return "0s".into();
    }
    let (sign, size) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs() / SECOND as u128);
    let (hours, minutes, seconds) = (size / 3600, size / 60 % 60, size % 60);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, _) => format!("{sign}{minutes}m{seconds}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// The largest unit, whole.
fn rounded(nanos: i128) -> String {
    let size = nanos.unsigned_abs() / SECOND as u128;
    const HOUR: u128 = 3600;
    let units = [(365 * 24 * HOUR, "y"), (30 * 24 * HOUR, "mo"), (24 * HOUR, "d"), (HOUR, "h"), (60, "m"), (1, "s")];
    let unit = units.iter().find(|(unit, _)| size > *unit || *unit == 1 && size == 1);
    unit.map_or("0s".into(), |(unit, name)| format!("{}{name}", size / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (layout, text) in [
            ("2006-01-02T15:04:05Z07:00", "2024-02-29T23:59:59Z"),
            ("2006-01-02T15:04:05Z07:00", "2024-02-29T23:59:59+05:30"),
            ("Mon, 02 Jan 2006 15:04:05 -0700", "Thu, 29 Feb 2024 08:00:01 -0730"),
            ("January _2, 2006 at 3:04pm", "May  6, 2024 at 9:05pm"),
            ("2006.002 15h04.000", "1969.365 01h02.125"),
            ("02/01/06", "31/12/99"),
        ] {
            assert_eq!(format(&parse(layout, text).unwrap(), layout), text);
        }
        for (layout, text) in [("2006-01-02", "2023-02-29"), ("15:04", "24:00"), ("2006", "2024x"), ("Jan", "Foo")] {
            assert!(parse(layout, text).is_err(), "{text}");
        }
        assert_eq!(parse("2006-01-02", "0001-01-01").unwrap(), ZERO);
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("1h30m").unwrap(), 5400 * SECOND);
        assert_eq!(parse_duration("-1.5s").unwrap(), -3 * SECOND / 2);
        for bad in ["", "1", "h", "1x", ".s", "1h2"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
