//! Sources and their destinations: what is selected, where each goes, and whether that can be, all before anything is
//! sent.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use serde_json::Value;

use super::{
    MapSource, Mapper,
    selector::{Selector, selects},
};
use crate::{
    error::{Context, Error, Result},
    log,
    oci::{Descriptor, Digest, Manifest, Reference, annotation, json, media},
};

/// So many lines of a map that are idle are told, and so many failures.
const TOLD_MAX: usize = 20;

/// Which sources are taken, and where they go.
pub struct Assigner<'a> {
    /// Where they go.
    pub mapper: &'a Mapper,
    /// Sources whose labels one of these selects; without any, all.
    pub selectors: &'a [Selector],
    /// Names of sources; without it, all.
    pub subset: Option<&'a HashSet<String>>,
    /// What cannot be assigned is left out.
    pub keep_going: bool,
}

/// One manifest of a source.
#[derive(Clone, Debug)]
pub struct SourceManifest {
    /// What the mapper sees.
    pub mapped: Descriptor,
    /// What is delivered, with the annotations of a gather index.
    pub carried: Descriptor,
}

/// Where a manifest goes.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// Name of its source.
    pub source: String,
    /// Labels of its source, a JSON object.
    pub labels: Option<String>,
    /// What is delivered.
    pub manifest: Descriptor,
    /// The manifests of the source that are in it.
    pub carried: Vec<Digest>,
    /// Its bytes, if it was made: an index of those manifests of a source that are carried.
    pub made: Option<Arc<[u8]>>,
    /// Where to.
    pub destination: Reference,
}

impl Assignment {
    /// The tag that it gets there.
    pub fn tag(&self) -> Option<&str> {
        match (&self.destination.tag, &self.destination.digest) {
            (Some(tag), _) => Some(tag),
            (None, None) => Some("latest"),
            (None, Some(_)) => None,
        }
    }
}

/// What was worked out.
#[derive(Debug, Default)]
pub struct Assigned {
    /// Where each goes, in the order of the sources.
    pub all: Vec<Assignment>,
    /// Sources that cannot be delivered, with why.
    pub failed: Vec<(String, Error)>,
    /// Sources that go nowhere.
    pub unmapped: Vec<String>,
}

/// What is known of one source while destinations are worked out.
struct NamedSource<'a> {
    name: &'a str,
    labels: Option<&'a str>,
    /// Destinations in order, each with the manifests that go there, and the line that says so.
    places: Vec<(String, Option<usize>, Vec<&'a SourceManifest>)>,
}

/// The manifests of a gather index, then those that it lists in an annotation.
///
/// # Errors
/// If the annotation is malformed.
pub fn sources_of(gather: &Manifest) -> Result<Vec<SourceManifest>> {
    let extra = gather.extra_manifests().map_err(Error::new)?;
    let all = gather.manifests.iter().chain(&extra);
    Ok(all.map(|listed| SourceManifest { mapped: listed.clone(), carried: listed.clone() }).collect())
}

/// The labels of a source.
///
/// # Errors
/// If they are no JSON object of strings.
fn labels_of(labels: Option<&str>) -> Result<BTreeMap<String, String>> {
    let read = |text: &str| serde_json::from_str(text).map_err(|_| text.to_string());
    labels.map_or(Ok(BTreeMap::new()), read).map_err(|text| Error::new(format!("its labels are {text:?}")))
}

impl Assigner<'_> {
    /// Works out where sources go. Sources that go nowhere are warned of.
    ///
    /// # Errors
    /// If a source cannot be assigned and none may be left out, or nothing is left.
    pub fn assign(&self, sources: &[SourceManifest]) -> Result<Assigned> {
        let (mut assigned, mut named): (Assigned, Vec<NamedSource>) = Default::default();
        let (mut lines, mut selected) = (HashSet::new(), 0);
        for source in sources {
            let annotation = |key: &str| source.carried.annotations.get(key).map(String::as_str);
            let digest = &source.carried.digest;
            let Some(name) = annotation(annotation::SOURCE) else {
                let why = format!("{digest} names no source: it lacks the annotation {}", annotation::SOURCE);
                assigned.failed.push((digest.to_string(), Error::new(why)));
                continue;
            };
            let labels = annotation(annotation::LABELS);
            let fails = |e: Error| (name.to_string(), e.doing(format!("the source {name}")));
            match labels_of(labels) {
                Ok(labels) if !selects(self.selectors, &labels) => continue,
                Ok(_) => {}
                Err(e) => {
                    assigned.failed.push(fails(e));
                    continue;
                }
            }
            if self.subset.is_some_and(|subset| !subset.contains(name)) {
                continue;
            }
            selected += 1;
            let places = match self.mapper.destinations(MapSource { name, descriptor: &source.mapped }) {
                Ok(places) => places,
                Err(e) => {
                    assigned.failed.push((name.into(), e));
                    continue;
                }
            };
            lines.extend(places.iter().filter_map(|place| place.line));
            // The manifests of one source stand together.
            if named.last().is_none_or(|last| last.name != name || last.labels != labels) {
                named.push(NamedSource { name, labels, places: Vec::new() });
            }
            let of_name = named.last_mut().expect("it was added");
            if places.is_empty() {
                assigned.unmapped.push(name.into());
            }
            for place in places {
                match of_name.places.iter_mut().find(|(destination, ..)| *destination == place.destination) {
                    Some((.., manifests)) => manifests.push(source),
                    None => of_name.places.push((place.destination, place.line, vec![source])),
                }
            }
        }
        for source in &named {
            for (destination, line, manifests) in &source.places {
                match self.assignment(source, destination, manifests) {
                    Ok(found) => assigned.all.push(found),
                    Err(e) => {
                        let place = match (self.mapper.path(), line) {
                            (Some(path), Some(line)) => format!(" by line {line} of {path:?}"),
                            (Some(path), None) => format!(" by {path:?}"),
                            (None, _) => String::new(),
                        };
                        let e = e.doing(format!("the destination of {}{place}", source.name));
                        assigned.failed.push((source.name.into(), e));
                    }
                }
            }
        }
        refuse_contradictions(&mut assigned);
        let names = sources.iter().filter_map(|s| s.carried.annotations.get(annotation::SOURCE)).map(String::as_str);
        self.tell(&mut assigned, &lines, &names.collect());
        self.conclude(assigned, sources.len(), selected)
    }

    fn assignment(&self, source: &NamedSource, destination: &str, manifests: &[&SourceManifest]) -> Result<Assignment> {
        let reference: Reference = destination.parse().map_err(Error::new)?;
        let mut seen = HashSet::new();
        let manifests: Vec<&SourceManifest> =
            manifests.iter().filter(|manifest| seen.insert(&manifest.carried.digest)).copied().collect();
        let (manifest, made) = match &manifests[..] {
            [only] => (only.carried.clone(), None),
            several => index_of(several)?,
        };
        if let Some(wanted) = &reference.digest {
            let of_name = source.name.split_once('@').and_then(|(_, digest)| digest.parse::<Digest>().ok());
            let is_right = *wanted == manifest.digest
                || of_name.as_ref() == Some(wanted)
                || manifests.iter().any(|source| source.mapped.digest == *wanted);
            if !is_right {
                return Err(Error::new(format!("{destination} names {wanted}, and the source is {}", manifest.digest)));
            }
        }
        let (source, labels) = (source.name.to_string(), source.labels.map(String::from));
        let carried = manifests.iter().map(|manifest| manifest.carried.digest.clone()).collect();
        Ok(Assignment { source, labels, manifest, carried, made, destination: reference })
    }

    /// Warns of sources without a destination, of lines that are idle, and of names in the subset that no source has.
    fn tell(&self, assigned: &mut Assigned, lines: &HashSet<usize>, names: &HashSet<&str>) {
        let mut strange: Vec<&String> =
            self.subset.iter().copied().flatten().filter(|name| !names.contains(name.as_str())).collect();
        strange.sort_unstable();
        strange.iter().take(TOLD_MAX).for_each(|name| log::warn(format_args!("{name} of the subset is no source")));
        let mapped: HashSet<&str> = assigned.all.iter().map(|assignment| assignment.source.as_str()).collect();
        let mut seen = BTreeSet::new();
        let unmapped = assigned.unmapped.iter();
        let unmapped: Vec<String> =
            unmapped.filter(|name| !mapped.contains(name.as_str()) && seen.insert(*name)).cloned().collect();
        for name in unmapped.iter().take(TOLD_MAX) {
            log::warn(format_args!("{name}: the mapper names no destination"));
        }
        if unmapped.len() > TOLD_MAX {
            log::warn(format_args!(
                "and {} more sources that the mapper names no destination for",
                unmapped.len() - TOLD_MAX
            ));
        }
        assigned.unmapped = unmapped;
        let Some((path, all)) = self.mapper.lines() else { return };
        let idle: Vec<String> = all.iter().filter(|line| !lines.contains(line)).map(ToString::to_string).collect();
        match &idle[..] {
            [] => {}
            [only] => log::warn(format_args!("{path:?}: line {only} took no source that was selected")),
            _ => {
                let more = if idle.len() > TOLD_MAX { ", …" } else { "" };
                let told = idle[..idle.len().min(TOLD_MAX)].join(", ");
                log::warn(format_args!(
                    "{path:?}: {} lines took no source that was selected: {told}{more}",
                    idle.len()
                ));
            }
        }
    }

    fn conclude(&self, assigned: Assigned, sources: usize, selected: usize) -> Result<Assigned> {
        // Of what several have in common one line is enough.
        let mut told: Vec<String> = Vec::new();
        for (_, e) in &assigned.failed {
            let line = e.to_string();
            if !told.contains(&line) {
                told.push(line);
            }
        }
        match &told[..] {
            [] => {}
            [_] if !self.keep_going => return Err(assigned.failed[0].1.clone()),
            lines => {
                lines.iter().take(TOLD_MAX).for_each(|line| log::error(Error::new(line)));
                if lines.len() > TOLD_MAX {
                    log::error(Error::new(format!("and {} more of this kind", lines.len() - TOLD_MAX)));
                }
                if !self.keep_going {
                    let names: BTreeSet<&str> = assigned.failed.iter().map(|(name, _)| name.as_str()).collect();
                    let count = names.len();
                    return Err(Error::new(format!("{count} sources cannot be delivered: nothing was sent")));
                }
            }
        }
        if !assigned.all.is_empty() || !assigned.failed.is_empty() {
            return Ok(assigned);
        }
        Err(Error::new(match (sources, selected) {
            (0, _) => "there is nothing to deliver: it has no sources",
            (_, 0) => "there is nothing to deliver: no source was selected",
            _ => "there is nothing to deliver: the mapper names no destination for any source",
        }))
    }
}

/// Two sources with different digests must not get one tag.
fn refuse_contradictions(assigned: &mut Assigned) {
    let mut tagged: HashMap<(String, String), Vec<usize>> = HashMap::new();
    for (n, assignment) in assigned.all.iter().enumerate() {
        if let Some(tag) = assignment.tag() {
            let place = (assignment.destination.repository.to_string(), tag.to_string());
            tagged.entry(place).or_default().push(n);
        }
    }
    let mut refused = BTreeMap::new();
    for ((repository, tag), all) in tagged {
        let digests: HashSet<&Digest> = all.iter().map(|&n| &assigned.all[n].manifest.digest).collect();
        if digests.len() < 2 {
            continue;
        }
        let names: Vec<String> =
            all.iter().map(|&n| format!("{} ({})", assigned.all[n].source, assigned.all[n].manifest.digest)).collect();
        for &n in &all {
            let why = format!("{repository}:{tag} would be the destination of {}", names.join(" and of "));
            refused.insert(n, why);
        }
    }
    for (&n, why) in &refused {
        assigned.failed.push((assigned.all[n].source.clone(), Error::new(why)));
    }
    let mut n = 0;
    assigned.all.retain(|_| {
        n += 1;
        !refused.contains_key(&(n - 1))
    });
}

/// An index of the manifests of a source that are carried: as the index that they stand in, without the others. Returns its
/// bytes, too, if it had to be made.
///
/// # Errors
/// If an annotation says that they stand in something that is no index.
pub fn index_of(manifests: &[&SourceManifest]) -> Result<(Descriptor, Option<Arc<[u8]>>)> {
    let doing = || "making an index of several manifests of one source";
    let mut entries = Vec::new();
    let mut first: Option<(&str, Value)> = None;
    for manifest in manifests {
        let text = manifest.carried.annotations.get(annotation::SOURCE_INDEX).map_or("", String::as_str);
        let index: Value = match text {
            // Nothing says which index they were in.
            "" => serde_json::json!({ "schemaVersion": 2, "mediaType": media::INDEX, "manifests": [] }),
            text => serde_json::from_str(text)
                .map_err(|e| Error::new(format!("the annotation is no index: {e}")))
                .doing(doing)?,
        };
        let digest = manifest.carried.digest.to_string();
        let listed = index["manifests"].as_array().cloned().unwrap_or_default();
        let own = listed.iter().filter(|entry| entry["digest"].as_str() == Some(&digest)).cloned();
        let mut own: Vec<Value> = own.collect();
        if own.is_empty() {
            let mut entry = manifest.carried.clone();
            entry.annotations.clear();
            own.push(serde_json::to_value(&entry).map_err(|e| Error::new(e.to_string()))?);
        }
        entries.extend(own);
        first.get_or_insert((text, index));
    }
    let Some((text, mut index)) = first else { return Err(Error::new("it has no manifests").doing(doing())) };
    // In the order of the source.
    let order: Vec<Value> = index["manifests"].as_array().cloned().unwrap_or_default();
    let at = |entry: &Value| order.iter().position(|other| other == entry).unwrap_or(usize::MAX);
    entries.sort_by_key(at);
    let media_type = match index["mediaType"].as_str() {
        Some(own) if media::is_index(own) => own.to_string(),
        _ => media::INDEX.to_string(),
    };
    let bytes: Vec<u8> = match entries == order {
        true => text.as_bytes().to_vec(),
        false => {
            index["manifests"] = Value::Array(entries);
            json::compact(&index)
        }
    };
    let descriptor = Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64);
    Ok((descriptor, Some(bytes.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, content: &[u8]) -> SourceManifest {
        let mut carried = Descriptor::new(media::MANIFEST, Digest::of(content), content.len() as u64);
        carried.annotations.insert(annotation::SOURCE.into(), name.into());
        SourceManifest { mapped: carried.clone(), carried }
    }

    fn assign(mapper: &Mapper, sources: &[SourceManifest], keep_going: bool) -> Result<Assigned> {
        Assigner { mapper, selectors: &[], subset: None, keep_going }.assign(sources)
    }

    fn prefixes(text: &str) -> Mapper {
        Mapper::AllPrefix(super::super::MapFile::parse(std::path::Path::new("map.csv"), text).unwrap())
    }

    #[test]
    fn one_tag_for_two_digests_is_refused() {
        let mapper = prefixes("reg.io/a,h.io/x\nreg.io/b,h.io/x\nreg.io/c,h.io/y\n");
        let sources = [source("reg.io/a:1", b"a"), source("reg.io/b:1", b"b"), source("reg.io/c:1", b"c")];
        let why = assign(&mapper, &sources, false).unwrap_err().to_string();
        assert!(why.contains("reg.io/a:1") && why.contains("reg.io/b:1") && why.contains("h.io/x:1"), "{why}");
        let found = assign(&mapper, &sources, true).unwrap();
        assert_eq!((found.all.len(), found.failed.len()), (1, 2));
        // The same digest twice is no contradiction.
        let same = [source("reg.io/a:1", b"a"), source("reg.io/b:1", b"a")];
        assert_eq!(assign(&mapper, &same, false).unwrap().all.len(), 2);
    }

    #[test]
    fn a_destination_that_is_none_is_named_with_its_line() {
        let mapper = prefixes("reg.io/b,h.io/x\nreg.io/a,H.io/Bad/\n");
        let why = assign(&mapper, &[source("reg.io/a:1", b"a")], false).unwrap_err().to_string();
        assert!(why.contains("reg.io/a:1") && why.contains("line 2 of \"map.csv\""), "{why}");
    }

    #[test]
    fn what_goes_nowhere() {
        let mapper = prefixes("reg.io/b,h.io/x\n");
        assert!(assign(&mapper, &[], false).unwrap_err().to_string().contains("no sources"));
        let why = assign(&mapper, &[source("reg.io/a:1", b"a")], false).unwrap_err().to_string();
        assert!(why.contains("names no destination"), "{why}");
    }

    #[test]
    fn several_platforms_are_an_index() {
        let entry = |content: &[u8], os: &str| serde_json::json!({ "mediaType": media::MANIFEST, "digest": Digest::of(content).to_string(), "size": 1, "platform": { "os": os, "architecture": "x" } });
        let (a, b, c) = (entry(b"a", "linux"), entry(b"b", "windows"), entry(b"c", "plan9"));
        let text = serde_json::json!({ "schemaVersion": 2, "mediaType": media::INDEX, "manifests": [a, b, c], "annotations": { "k": "v" } }).to_string();
        let of = |content: &[u8]| {
            let mut manifest = source("reg.io/a:1", content);
            manifest.carried.annotations.insert(annotation::SOURCE_INDEX.into(), text.clone());
            manifest.mapped = manifest.carried.clone();
            manifest
        };
        let mapper = Mapper::Nest("h.io/n".into());
        // In any order: the source's counts.
        let found = assign(&mapper, &[of(b"c"), of(b"a")], false).unwrap();
        let made: Value = serde_json::from_slice(found.all[0].made.as_ref().unwrap()).unwrap();
        assert_eq!(made["manifests"], serde_json::json!([a, c]));
        assert_eq!(made["annotations"]["k"], "v");
        // All of them are the index itself.
        let found = assign(&mapper, &[of(b"a"), of(b"b"), of(b"c")], false).unwrap();
        assert_eq!(found.all[0].manifest.digest, Digest::of(text.as_bytes()));
        let found = assign(&mapper, &[of(b"b")], false).unwrap();
        assert_eq!((found.all[0].manifest.digest.clone(), found.all[0].made.is_none()), (Digest::of(b"b"), true));
    }
}
