//! The file that a plan is kept in: which source is in which shard, and all that makes their archives what they are. A JSON
//! document, as `ace-dt-plan(5)` has it.

use std::{
    collections::{HashMap, VecDeque},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::{choice::ShardChoice, partition::SHARDS_MAX, pins::Pins};
use crate::{
    archive::{
        checkpoint::CheckpointRecord,
        write::{existing::ExistingContent, plan::Plan},
    },
    error::{Context, Error, Result},
    fd,
    gather::{ResolvedSource, sources::GatherSource},
    oci::{Annotations, Descriptor, Digest, Manifest, annotation, json, media},
    util::units::counted,
};

/// The version of the document.
pub(super) const VERSION: u32 = 1;

/// A plan that hosts share.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ShardPlan {
    /// Always 1.
    pub(super) ace_dt_plan: u32,
    /// The version of the tool, as it stands in the archives.
    pub tool: String,
    /// The digest of the gather index over all sources.
    pub root: Digest,
    /// Bytes that are in several shards, once for each but the first.
    pub stored_twice: u64,
    /// In their order: shard 1 is the first.
    pub shards: Vec<ShardFigures>,
    /// In the order of the gather index.
    pub sources: Vec<PlannedSource>,
    /// Copy referrers too.
    pub recursive: bool,
    /// List indexes in an annotation of the gather indexes.
    pub index_fallback: bool,
    /// For the gather indexes.
    pub annotations: Annotations,
    /// The bytes of the gather index over all sources.
    pub(super) gather: String,
    /// What indexes list, and is not taken: the index, and the manifest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<(Digest, Digest)>,
    /// What is at the destination already: not written.
    #[serde(default)]
    pub existing: PlannedExisting,
    /// What registries said.
    pub pins: Pins,
}

impl PlannedExisting {
    /// The same for who plans an archive.
    pub fn content(&self) -> ExistingContent {
        let all = |digests: &[Digest]| digests.iter().cloned().collect();
        ExistingContent { on_media: all(&self.on_media), blobs: all(&self.blobs) }
    }
}

/// What tells a plan from other documents.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PlanVersion {
    ace_dt_plan: u32,
}

/// What is at the destination already, of all that sources consist of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PlannedExisting {
    /// By checkpoints: blobs and manifests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on_media: Vec<Digest>,
    /// By existing images: blobs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blobs: Vec<Digest>,
}

/// What is known of a shard's archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ShardFigures {
    /// The digest of its gather index; none of a shard without sources, of which no archive is made.
    pub root: Option<Digest>,
    /// Sources that are in it.
    pub images: usize,
    /// The gather index included.
    pub manifests: usize,
    /// Manifests included.
    pub blobs: usize,
    /// Bytes of the archive, uncompressed and without a `manifest.json`.
    pub size: u64,
    /// Of these, bytes of blobs that other shards hold, too.
    pub shared: u64,
    /// The digest of the digests of all its blobs, in their order, each with a line feed behind it.
    pub content: Option<Digest>,
}

/// A source, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlannedSource {
    /// As it stands in the list.
    pub source: String,
    /// What its reference points to.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Bytes of that.
    pub size: u64,
    /// Bytes of all that is taken of it, each content once, without referrers.
    pub bytes: u64,
    /// How many descriptors of the gather index are of it: of several sources of one name the first have the first.
    pub picks: usize,
    /// From 1 on.
    pub shard: u32,
}

/// A manifest that is taken of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedImage {
    /// The name of the source.
    pub source: String,
    /// The manifest.
    pub digest: Digest,
    /// The labels of the source, a JSON object.
    pub labels: Option<String>,
}

/// A plan that was read, and what it is known by.
pub struct SharedPlan {
    /// The plan.
    pub plan: ShardPlan,
    /// The digest of the file.
    pub digest: Digest,
    /// Its gather index.
    index: Manifest,
    /// What that lists in an annotation.
    extra: Vec<Descriptor>,
}

impl ShardPlan {
    /// The document.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = json::pretty(self);
        text.push(b'\n');
        text
    }
}

/// Whether a file holds a plan.
pub fn is_plan(bytes: &[u8]) -> bool {
    serde_json::from_slice::<ShardPlan>(bytes).is_ok_and(|plan| plan.ace_dt_plan == VERSION)
}

/// The digest of the digests of blobs, each with a line feed behind it.
fn content_of<'a>(digests: impl Iterator<Item = &'a Digest>) -> Digest {
    let mut hasher = Digest::of(b"").hasher();
    digests.for_each(|digest| hasher.update(format!("{digest}\n").as_bytes()));
    hasher.finish()
}

impl ShardFigures {
    /// Of an archive of `images` sources, of which bytes of blobs are `shared` with other shards.
    pub fn of(plan: &Plan, images: usize, shared: u64) -> ShardFigures {
        ShardFigures {
            root: Some(plan.root().clone()),
            images,
            manifests: plan.manifests,
            blobs: plan.blobs(),
            size: plan.total(),
            shared,
            content: Some(content_of((0..plan.blobs() as u32).map(|blob| plan.digest(blob)))),
        }
    }

    /// Whether a checkpoint says that all of the archive is on its medium.
    pub fn is_recorded(&self, records: &[CheckpointRecord]) -> bool {
        records.len() == self.blobs && self.content == Some(content_of(records.iter().map(|record| &record.digest)))
    }

    /// Whether an archive is the one that was planned.
    ///
    /// # Errors
    /// If it is another.
    pub fn check(&self, plan: &Plan) -> Result<()> {
        let made = ShardFigures::of(plan, self.images, self.shared);
        if made.root != self.root {
            let why = format!("its root would be {}, and not {}", plan.root(), or_none(self.root.as_ref()));
            return Err(Error::new(why));
        }
        let is_same = made.content == self.content;
        if !is_same || (made.manifests, made.blobs) != (self.manifests, self.blobs) {
            let others = if is_same { "" } else { " that are others" };
            let why =
                format!("it would hold {}{others}, and the plan says {}", counted(made.blobs, "blob"), self.blobs);
            return Err(Error::new(why));
        }
        Ok(())
    }
}

fn or_none(digest: Option<&Digest>) -> String {
    digest.map_or("none".into(), Digest::to_string)
}

impl SharedPlan {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// If it cannot be read, is no plan, or contradicts itself.
    pub fn read(path: &Path) -> Result<SharedPlan> {
        let doing = || format!("reading the plan {path:?}");
        let bytes = fd::read_file(path).doing(doing)?;
        SharedPlan::parse(&bytes).map_err(|why| Error::usage(why).doing(doing()))
    }

    /// The same of its bytes.
    ///
    /// # Errors
    /// As [`SharedPlan::read`].
    pub fn parse(bytes: &[u8]) -> std::result::Result<SharedPlan, String> {
        let no_plan = || "it is no plan of ace-dt mirror plan".to_string();
        let PlanVersion { ace_dt_plan } = serde_json::from_slice(bytes).map_err(|_| no_plan())?;
        if ace_dt_plan != VERSION {
            return Err(format!("it is of version {ace_dt_plan}, and this program reads version {VERSION}"));
        }
        let plan: ShardPlan =
            serde_json::from_slice(bytes).map_err(|e| format!("it was changed, or is damaged: {e}"))?;
        if !plan.root.matches(plan.gather.as_bytes()) {
            return Err("its gather index has not the digest that it states: it was changed, or is damaged".into());
        }
        let index = Manifest::parse(media::INDEX, plan.gather.as_bytes())?;
        let extra = index.extra_manifests()?;
        let shards = plan.shards.len();
        if shards == 0 || shards > SHARDS_MAX {
            return Err(format!("it has {shards} shards"));
        }
        let mut images = vec![0; shards];
        for source in &plan.sources {
            match images.get_mut((source.shard as usize).wrapping_sub(1)) {
                Some(count) => *count += 1,
                None => return Err(format!("it puts {} into shard {} of {shards}", source.source, source.shard)),
            }
        }
        for (n, (shard, images)) in plan.shards.iter().zip(images).enumerate() {
            if shard.images != images {
                let (number, has) = (n + 1, counted(images, "source"));
                return Err(format!("shard {number} has {has}, and not {} as it says", shard.images));
            }
            if shard.root.is_some() != (images > 0) {
                let (number, has) = (n + 1, counted(images, "source"));
                return Err(format!("shard {number} has {has}, and its root is {}", or_none(shard.root.as_ref())));
            }
        }
        let shared = SharedPlan { digest: Digest::of(bytes), plan, index, extra };
        shared.check_sources()?;
        Ok(shared)
    }

    /// What is picked of each source, in their order.
    fn picks(&self) -> std::result::Result<Vec<Vec<&Descriptor>>, String> {
        let mut of_name: HashMap<&str, VecDeque<&Descriptor>> = HashMap::new();
        for pick in self.index.manifests.iter().chain(&self.extra) {
            let source = pick.annotations.get(annotation::SOURCE).map_or("", String::as_str);
            of_name.entry(source).or_default().push_back(pick);
        }
        let mut picks = Vec::new();
        for PlannedSource { source, picks: count, .. } in &self.plan.sources {
            let left = of_name.get_mut(&**source).filter(|left| left.len() >= *count && *count > 0);
            let left = left.ok_or_else(|| format!("its gather index has not what it says of the source {source}"))?;
            picks.push(left.drain(..*count).collect());
        }
        match of_name.iter().find(|(_, left)| !left.is_empty()) {
            Some((source, _)) => Err(format!("its gather index has more of {source:?} than its sources say")),
            None => Ok(picks),
        }
    }

    /// Whether the sources are those of the gather index.
    fn check_sources(&self) -> std::result::Result<(), String> {
        for (source, picks) in self.plan.sources.iter().zip(self.picks()?) {
            // What was picked out of an index is not the source itself.
            let is_whole = |pick: &&&Descriptor| !pick.annotations.contains_key(annotation::SOURCE_INDEX);
            if let Some(pick) = picks.iter().find(is_whole)
                && (pick.digest != source.digest || pick.size != source.size || pick.media_type != source.media_type)
            {
                return Err(format!(
                    "it says that {} is {}, and its gather index {}",
                    source.source, source.digest, pick.digest
                ));
            }
        }
        Ok(())
    }

    /// How many shards there are.
    pub fn count(&self) -> u32 {
        self.plan.shards.len() as u32
    }

    /// The figures of a shard, counted from 1.
    ///
    /// # Errors
    /// If the plan has not so many.
    pub fn shard(&self, choice: &ShardChoice) -> Result<&ShardFigures> {
        choice.check(self.count())?;
        Ok(&self.plan.shards[choice.number as usize - 1])
    }

    /// The gather index over all sources.
    pub fn gather(&self) -> &Manifest {
        &self.index
    }

    /// The descriptor of that, and its bytes.
    pub fn root(&self) -> (Descriptor, &[u8]) {
        let bytes = self.plan.gather.as_bytes();
        (Descriptor::new(media::INDEX, self.plan.root.clone(), bytes.len() as u64), bytes)
    }

    /// The sources of a shard, counted from 1, with what is picked of them.
    ///
    /// # Errors
    /// If one is nothing that can be read here.
    pub fn sources(&self, shard: u32) -> Result<Vec<(GatherSource, ResolvedSource)>> {
        let mut sources = Vec::new();
        let all = self.plan.sources.iter().zip(self.picks().map_err(Error::new)?);
        for (planned, picks) in all.filter(|(source, _)| source.shard == shard) {
            let PlannedSource { source: written, digest, media_type, size, .. } = planned;
            let picks: Vec<Descriptor> = picks.into_iter().cloned().collect();
            let labels = picks.iter().find_map(|pick| pick.annotations.get(annotation::LABELS));
            let labels = labels.map(|labels| serde_json::from_str(labels)).transpose();
            let source = GatherSource {
                locator: written
                    .parse()
                    .map_err(|why: String| Error::new(why).doing(format!("the source {written}")))?,
                labels: labels.doing(|| format!("the labels of {written}"))?.unwrap_or_default(),
                written: written.clone(),
            };
            let descriptor = Descriptor::new(media_type.clone(), digest.clone(), *size);
            sources.push((source, ResolvedSource { descriptor, known: Vec::new(), picks, left_out: Vec::new() }));
        }
        Ok(sources)
    }

    /// The manifests that are taken of the sources of a shard, counted from 1.
    pub fn images(&self, shard: u32) -> Vec<PlannedImage> {
        let all = self.plan.sources.iter().zip(self.picks().unwrap_or_default());
        let of_shard = all.filter(|(source, _)| source.shard == shard);
        let images = of_shard.flat_map(|(source, picks)| {
            picks.into_iter().map(|pick| PlannedImage {
                source: source.source.clone(),
                digest: pick.digest.clone(),
                labels: pick.annotations.get(annotation::LABELS).cloned(),
            })
        });
        images.collect()
    }

    /// Whether archives of these names and roots are all shards, each once.
    ///
    /// # Errors
    /// If one is missing, of another plan, or there twice.
    pub fn check_set(&self, roots: &[(String, Option<Digest>)]) -> Result<()> {
        let (mut found, mut wrong): (Vec<Option<&str>>, Vec<String>) = (vec![None; self.plan.shards.len()], Vec::new());
        for (name, root) in roots {
            let at = self.plan.shards.iter().position(|shard| shard.root.is_some() && shard.root == *root);
            let Some(at) = at else {
                wrong.push(format!("{name} is none of the shards of the plan: its root is {}", or_none(root.as_ref())));
                continue;
            };
            if let Some(other) = found[at].replace(name) {
                wrong.push(format!("shard {} of the plan is there twice: {other}, {name}", at + 1));
            }
        }
        let is_there = |root: &Digest| roots.iter().any(|(_, there)| there.as_ref() == Some(root));
        wrong.extend(self.missing(&is_there).map(|missing| missing.to_string()));
        if wrong.is_empty() { Ok(()) } else { Err(Error::new(wrong.join("; "))) }
    }

    /// What is to be said of shards of which no archive is there.
    pub fn missing(&self, is_there: &dyn Fn(&Digest) -> bool) -> Option<Error> {
        let is_lacking = |shard: &ShardFigures| shard.root.as_ref().is_some_and(|root| !is_there(root));
        let all = self.plan.shards.iter().zip(1..).filter(|(shard, _)| is_lacking(shard));
        let missing: Vec<String> = all.map(|(_, number): (_, u32)| number.to_string()).collect();
        match &missing[..] {
            [] => None,
            [one] => Some(Error::new(format!("shard {one} of {} of the plan is missing", self.count()))),
            several => {
                Some(Error::new(format!("shards {} of {} of the plan are missing", several.join(", "), self.count())))
            }
        }
    }
}
