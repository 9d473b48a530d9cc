//! Where the images of an artifact go: a [`Mapper`] is a value, source in, destinations out. It sends nothing and knows
//! no registry.

pub mod assign;
mod functions;
mod prefix;
mod rewrite;
pub mod selector;
mod structure;
mod template;

use std::{collections::HashSet, path::Path};

use crate::{
    error::{Context, Error, Result},
    oci::Descriptor,
};

pub use prefix::{MapFile, MappedName};
pub use template::MapTemplate;

/// What a mapper sees of a source.
#[derive(Clone, Copy, Debug)]
pub struct MapSource<'a> {
    /// Its name, as it stands in the sources file.
    pub name: &'a str,
    /// What a gather index says of it.
    pub descriptor: &'a Descriptor,
}

/// Says where a source goes.
pub enum Mapper {
    /// Below a prefix, under its own name.
    Nest(String),
    /// By the first line whose first field its name begins with.
    FirstPrefix(MapFile),
    /// By every such line.
    AllPrefix(MapFile),
    /// By the line with the longest such field.
    LongestPrefix(MapFile),
    /// By every line whose first field is its digest.
    Digests(MapFile),
    /// By the lines of a template's output.
    Template(MapTemplate),
}

/// The kinds of mappers, as they are written on the command line.
pub const KINDS: [&str; 6] = ["nest", "first-prefix", "longest-prefix", "all-prefix", "digests", "go-template"];

impl Mapper {
    /// Reads `KIND=ARGUMENT`, and the file that it names.
    ///
    /// # Errors
    /// If the kind is unknown, there is no argument, or the file cannot be read or is malformed.
    pub fn read(text: &str) -> Result<Mapper> {
        let Some((kind, argument)) = text.split_once('=').filter(|(_, argument)| !argument.is_empty()) else {
            let why =
                format!("{text:?} is no mapper: it is written KIND=ARGUMENT, with a KIND of {}", KINDS.join(", "));
            return Err(Error::usage(why));
        };
        let file = || MapFile::read(Path::new(argument));
        Ok(match kind {
            "nest" if argument.contains("://") => {
                return Err(Error::usage(format!(
                    "{text:?}: a prefix begins with a registry, without http:// or https://"
                )));
            }
            "nest" => Mapper::Nest(argument.trim_end_matches('/').to_string()),
            "first-prefix" => Mapper::FirstPrefix(file()?),
            "all-prefix" => Mapper::AllPrefix(file()?),
            "longest-prefix" => Mapper::LongestPrefix(file()?),
            "digests" => Mapper::Digests(file()?),
            "go-template" => Mapper::Template(MapTemplate::read(Path::new(argument))?),
            _ => return Err(Error::usage(format!("{kind:?} is no kind of mapper: it is one of {}", KINDS.join(", ")))),
        })
    }

    /// The destinations of a source, in order, each once; none if nothing is said of it.
    ///
    /// # Errors
    /// If a template fails.
    pub fn destinations(&self, source: MapSource) -> Result<Vec<MappedName>> {
        let mut found = match self {
            Mapper::Nest(prefix) => vec![MappedName { destination: nested(prefix, source.name), line: None }],
            Mapper::FirstPrefix(map) => {
                map.prefixes(source.name).find(|(prefix, _)| !prefix.is_empty()).map(|(_, to)| to).into_iter().collect()
            }
            Mapper::AllPrefix(map) => {
                map.prefixes(source.name).filter(|(prefix, _)| !prefix.is_empty()).map(|(_, to)| to).collect()
            }
            // Of equally long ones the last.
            Mapper::LongestPrefix(map) => {
                map.prefixes(source.name).max_by_key(|(prefix, _)| prefix.len()).map(|(_, to)| to).into_iter().collect()
            }
            Mapper::Digests(map) => map.with_key(&source.descriptor.digest.to_string()).collect(),
            Mapper::Template(template) => {
                let doing = || format!("the template {:?}, for {}", template.path(), source.name);
                let lines = template.destinations(source.descriptor).map_err(Error::new).doing(doing)?;
                lines.into_iter().map(|destination| MappedName { destination, line: None }).collect()
            }
        };
        let mut seen = HashSet::new();
        found.retain(|name| seen.insert(name.destination.clone()));
        Ok(found)
    }

    /// The file that it goes by.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Mapper::Template(template) => Some(template.path()),
            _ => self.lines().map(|(path, _)| path),
        }
    }

    /// The content of the file that it goes by.
    pub fn text(&self) -> &str {
        match self {
            Mapper::FirstPrefix(map) | Mapper::AllPrefix(map) | Mapper::LongestPrefix(map) | Mapper::Digests(map) => {
                map.text()
            }
            Mapper::Template(template) => template.text(),
            Mapper::Nest(_) => "",
        }
    }

    /// The file that it goes by, and the lines of it that say something.
    pub fn lines(&self) -> Option<(&Path, Vec<usize>)> {
        match self {
            Mapper::FirstPrefix(map) | Mapper::AllPrefix(map) | Mapper::LongestPrefix(map) | Mapper::Digests(map) => {
                Some((map.path(), map.lines().collect()))
            }
            Mapper::Nest(_) | Mapper::Template(_) => None,
        }
    }
}

/// A name below a prefix, without empty parts.
fn nested(prefix: &str, name: &str) -> String {
    let parts = prefix.split('/').chain(name.split('/')).filter(|part| !matches!(*part, "" | "."));
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Digest, media};

    fn map(kind: &str, text: &str) -> Mapper {
        let map = MapFile::parse(Path::new("map.csv"), text).unwrap();
        match kind {
            "first-prefix" => Mapper::FirstPrefix(map),
            "all-prefix" => Mapper::AllPrefix(map),
            "longest-prefix" => Mapper::LongestPrefix(map),
            _ => Mapper::Digests(map),
        }
    }

    fn to(mapper: &Mapper, name: &str) -> Vec<String> {
        let descriptor = Descriptor::new(media::MANIFEST, Digest::of(b"x"), 1);
        let found = mapper.destinations(MapSource { name, descriptor: &descriptor }).unwrap();
        found.into_iter().map(|name| name.destination).collect()
    }

    #[test]
    fn below_a_prefix() {
        for prefix in ["h.io/n", "h.io/n/", "h.io//n"] {
            let mapper = Mapper::read(&format!("nest={prefix}")).unwrap();
            assert_eq!(to(&mapper, "reg.io/a:v1"), ["h.io/n/reg.io/a:v1"]);
        }
        assert!(Mapper::read("nest=").is_err() && Mapper::read("nest").is_err() && Mapper::read("up=x").is_err());
    }

    #[test]
    fn by_prefixes() {
        let text = ",e/\nreg.io/a,p/x\nreg.io/,q/\nreg.io/a,r/\nreg.io/a,p/x\n";
        assert_eq!(to(&map("first-prefix", text), "reg.io/a/b:1"), ["p/x/b:1"]);
        assert_eq!(to(&map("all-prefix", text), "reg.io/ab:1"), ["p/xb:1", "q/ab:1", "r/b:1"]);
        assert_eq!(to(&map("longest-prefix", text), "reg.io/a"), ["p/x"]);
        assert_eq!(to(&map("longest-prefix", text), "other.io/a"), ["e/other.io/a"]);
        assert!(to(&map("first-prefix", text), "other.io/a").is_empty());
    }

    #[test]
    fn by_digest() {
        let digest = Digest::of(b"x");
        let text = format!("{digest},a\nsha256:00,b\n{digest},c\n");
        assert_eq!(to(&map("digests", &text), "n"), ["a", "c"]);
    }
}
