//! JSON as Go's `encoding/json` writes it: `<`, `>`, `&`, U+2028 and U+2029 escaped, compact or
//! indented by two spaces. Indexes of ours must have the digests that the Go tool would give them.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Write},
    marker::PhantomData,
};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

/// Compact, as `json.Marshal`.
pub fn compact<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    encode(value, CompactFormatter)
}

/// Indented by two spaces, as `json.MarshalIndent(value, "", "  ")`.
pub fn pretty<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    encode(value, PrettyFormatter::with_indent(b"  "))
}

/// Compact, as a string: for JSON inside annotations.
pub fn compact_string<T: Serialize + ?Sized>(value: &T) -> String {
    String::from_utf8(compact(value)).expect("JSON is UTF-8")
}

/// `null` is read as if the key were absent, as Go does.
///
/// # Errors
/// If there is something, and it is no `T`.
pub fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

/// No honest descriptor has so many URLs, or annotations.
const MANY: usize = 10_000;

/// A list that is short, or `null`: one of empty strings would need many times the memory of its text.
///
/// # Errors
/// If it is no list of `T`, or has more than ten thousand.
pub fn few_items<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Vec<T>, D::Error> {
    struct Few<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Few<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            write!(f, "a list of at most {MANY}")
        }

        fn visit_unit<E>(self) -> Result<Vec<T>, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
            let mut all = Vec::new();
            while let Some(item) = items.next_element()? {
                all.push(item);
                if all.len() > MANY {
                    return Err(de::Error::invalid_length(all.len(), &self));
                }
            }
            Ok(all)
        }
    }

    d.deserialize_any(Few(PhantomData))
}

/// Annotations that are few, or `null`.
///
/// # Errors
/// If they are no map of strings, or more than ten thousand.
pub fn few_entries<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Few;

    impl<'de> Visitor<'de> for Few {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            write!(f, "a map of at most {MANY} strings")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(BTreeMap::new())
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut all = BTreeMap::new();
            // A value that is null is an empty string to Go.
            while let Some((key, value)) = entries.next_entry::<String, Option<String>>()? {
                all.insert(key, value.unwrap_or_default());
                if all.len() > MANY {
                    return Err(de::Error::invalid_length(all.len(), &self));
                }
            }
            Ok(all)
        }
    }

    d.deserialize_any(Few)
}

fn encode<T: Serialize + ?Sized>(value: &T, layout: impl Formatter) -> Vec<u8> {
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Go(layout));
    value.serialize(&mut serializer).expect("our own structures have string keys and a memory sink");
    out
}

/// Delegates the layout and escapes what Go escapes.
struct Go<F>(F);

impl<F: Formatter> Formatter for Go<F> {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, w: &mut W, text: &str) -> io::Result<()> {
        let mut from = 0;
        for (at, c) in text.char_indices() {
            let escape: &[u8] = match c {
                '<' => b"\\u003c",
                '>' => b"\\u003e",
                '&' => b"\\u0026",
                '\u{2028}' => b"\\u2028",
                '\u{2029}' => b"\\u2029",
                _ => continue,
            };
            w.write_all(&text.as_bytes()[from..at])?;
            w.write_all(escape)?;
            from = at + c.len_utf8();
        }
        w.write_all(&text.as_bytes()[from..])
    }

    fn begin_array<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.begin_array(w)
    }
    fn end_array<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.end_array(w)
    }
    fn begin_array_value<W: ?Sized + Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(w, first)
    }
    fn end_array_value<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.end_array_value(w)
    }
    fn begin_object<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.begin_object(w)
    }
    fn end_object<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.end_object(w)
    }
    fn begin_object_key<W: ?Sized + Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(w, first)
    }
    fn begin_object_value<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.begin_object_value(w)
    }
    fn end_object_value<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.end_object_value(w)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_as_go_does() {
        assert_eq!(
            compact("a<b>&\u{2028}\u{2029}\"\\\n\u{8}\u{1}é"),
            br#""a\u003cb\u003e\u0026\u2028\u2029\"\\\n\b\u0001"#.iter().chain("é\"".as_bytes()).copied().collect::<Vec<_>>()
        );
    }

    #[test]
    fn indents_by_two() {
        let value = std::collections::BTreeMap::from([("a", vec![1, 2]), ("b", vec![])]);
        assert_eq!(String::from_utf8(pretty(&value)).unwrap(), "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": []\n}");
    }
}
