//! Sources that were found, divided: each shard's archive is planned as a host that goes by the plan will plan it.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{
    partition::{Division, Need, Portions},
    pins::{FetchedStore, PinnedStore, Pins},
    plan_file::{PlannedExisting, PlannedSource, ShardFigures, ShardPlan, VERSION},
};
use crate::{
    archive::{
        TAR_BLOCK, padded,
        write::{
            existing::ExistingContent,
            plan::{ArchiveSpec, Plan},
        },
    },
    error::{Context, Error, Result},
    gather::{self, Gathered, ResolvedSource, collect::Collected, sources::GatherSource},
    oci::{Annotations, Descriptor, Digest, annotation},
    signal,
    store::{
        Locator, Store,
        graph::{self, FetchOptions, Graph},
    },
};

/// How sources are divided.
pub struct PlanSpec<'a> {
    /// How many shards.
    pub shards: usize,
    /// The largest may be larger by so many percent.
    pub balance: u64,
    /// Copy referrers too.
    pub recursive: bool,
    /// For the gather indexes.
    pub annotations: &'a Annotations,
    /// List indexes in an annotation.
    pub index_fallback: bool,
    /// The version of this tool.
    pub version: &'a str,
    /// What is at the destination already.
    pub existing: &'a ExistingContent,
    /// Requests at a time.
    pub threads: usize,
}

/// One source of a shard, or several that stay together.
struct Group {
    /// Numbers of the sources.
    members: Vec<usize>,
}

impl PlanSpec<'_> {
    /// Divides what was found, of which `gather` is the index over all.
    ///
    /// # Errors
    /// If a manifest is missing or malformed.
    pub fn plan(&self, found: &Collected, gather: &Descriptor, pins: Pins) -> Result<ShardPlan> {
        let graph = &found.graph;
        let taken: Vec<&Gathered> =
            found.gathered.iter().filter(|g| g.picks.as_ref().is_ok_and(|picks| !picks.is_empty())).collect();
        let groups = groups(graph, &taken, self.recursive)?;
        let (needs, mut existing) = self.needs(graph, &groups, &taken)?;
        signal::check()?;
        let keys: Vec<u64> =
            groups.iter().map(|group| key(&Digest::of(taken[group.members[0]].source.written.as_bytes()))).collect();
        let portions = Portions::of(&keys, needs);
        let division = portions.divide(self.shards, self.balance);
        let mut shard_of = vec![0; taken.len()];
        for (group, shard) in groups.iter().zip(&division.shard_of) {
            group.members.iter().for_each(|&n| shard_of[n] = *shard);
        }
        let mut left_out: Vec<_> = found.gathered.iter().flat_map(|g| g.left_out.iter().cloned()).collect();
        left_out.sort_unstable();
        left_out.dedup();
        let shared = shared(&portions, &division);
        let stored_twice = division.total() - portions.total();
        drop(portions);
        let mut shards = Vec::new();
        for (shard, shared) in (0..self.shards as u32).zip(shared) {
            signal::check()?;
            let members: Vec<&Gathered> =
                taken.iter().zip(&shard_of).filter(|(_, at)| **at == shard).map(|(g, _)| *g).collect();
            let store = PinnedStore { pins: &pins, inner: &FetchedStore(graph) };
            shards.push(self.shard(&store, &members, &left_out, shared)?);
        }
        // The gather index of a shard may be on the media, too, if nothing has changed.
        let roots = shards.iter().filter_map(|shard: &ShardFigures| shard.root.clone());
        existing.on_media.extend(roots.filter(|root| self.existing.on_media.contains(root)));
        let bytes_of: HashMap<&str, u64> = found.records.iter().map(|r| (&*r.source, r.bytes)).collect();
        let sources = taken.iter().zip(shard_of).map(|(taken, shard)| {
            let found = taken.resolved.as_ref().expect("what has picks was resolved");
            PlannedSource {
                source: taken.source.written.clone(),
                digest: found.digest.clone(),
                media_type: found.media_type.clone(),
                size: found.size,
                picks: taken.picks.as_ref().map_or(0, Vec::len),
                bytes: bytes_of.get(&*taken.source.written).copied().unwrap_or(0),
                shard: shard + 1,
            }
        });
        Ok(ShardPlan {
            ace_dt_plan: VERSION,
            tool: self.version.into(),
            root: gather.digest.clone(),
            gather: String::from_utf8(graph.bytes(gather)?.to_vec()).expect("JSON is UTF-8"),
            stored_twice,
            shards,
            sources: sources.collect(),
            recursive: self.recursive,
            index_fallback: self.index_fallback,
            annotations: self.annotations.clone(),
            left_out,
            existing,
            pins,
        })
    }

    /// What each group of sources needs in its archive, and what of that is at the destination already.
    ///
    /// # Errors
    /// If a manifest is missing or malformed, or there are more bytes than any medium holds.
    fn needs(&self, graph: &Graph, groups: &[Group], taken: &[&Gathered]) -> Result<(Vec<Need>, PlannedExisting)> {
        let mut needs = Vec::new();
        let mut reached: (BTreeSet<Digest>, BTreeSet<Digest>) = Default::default();
        let mut sum = 0_u128;
        for (number, group) in groups.iter().enumerate() {
            let picks: Vec<&Descriptor> = group.members.iter().flat_map(|&n| taken[n].picks.iter().flatten()).collect();
            let below = graph.reachable(&picks, self.recursive)?;
            let manifests = below.manifests.iter().flatten().map(|d| (d, true));
            for (descriptor, is_manifest) in manifests.chain(below.blobs.iter().map(|(d, _)| (d, false))) {
                if self.existing.on_media.contains(&descriptor.digest) {
                    reached.0.insert(descriptor.digest.clone());
                    continue;
                }
                if !is_manifest && self.existing.blobs.contains(&descriptor.digest) {
                    reached.1.insert(descriptor.digest.clone());
                    continue;
                }
                sum += u128::from(descriptor.size) + 2 * u128::from(TAR_BLOCK);
                let bytes = padded(descriptor.size).unwrap_or(descriptor.size).saturating_add(TAR_BLOCK);
                needs.push(Need { content: key(&descriptor.digest), bytes, source: number as u32 });
            }
        }
        if sum * self.shards as u128 > i64::MAX as u128 {
            return Err(Error::new("the sizes in the manifests add up to more than any medium holds"));
        }
        let (on_media, blobs) = reached;
        let existing = PlannedExisting { on_media: on_media.into_iter().collect(), blobs: blobs.into_iter().collect() };
        Ok((needs, existing))
    }

    /// The archive of one shard, as a host plans it.
    fn shard(
        &self,
        store: &dyn Store,
        members: &[&Gathered],
        left_out: &[(Digest, Digest)],
        shared: u64,
    ) -> Result<ShardFigures> {
        if members.is_empty() {
            return Ok(ShardFigures::default());
        }
        let mut graph = Graph::default();
        graph.leave_out(left_out.iter().cloned());
        let picks = |taken: &&Gathered| taken.picks.as_deref().unwrap_or_default().to_vec();
        let roots = members.iter().flat_map(|taken| {
            let origin = taken.source.locator.origin();
            picks(taken).into_iter().map(move |pick| (origin.clone(), pick))
        });
        let fetch = FetchOptions { recursive: self.recursive, threads: self.threads, fetched: &|| () };
        let mut graph = graph::fetch(store, graph, roots.collect(), &fetch);
        let all = members.iter().flat_map(picks).collect();
        let root = gather::index(&mut graph, all, self.annotations.clone(), self.index_fallback, self.version)?;
        let archive = ArchiveSpec {
            root: named(root),
            recursive: self.recursive,
            on_media: &self.existing.on_media,
            existing: &self.existing.blobs,
            manifest_json: false,
            version: self.version,
        };
        let plan = Plan::new(&graph, &archive).doing(|| "planning a shard")?;
        Ok(ShardFigures::of(&plan, members.len(), shared))
    }
}

/// The name that archives get in their `index.json` if nothing else is asked for.
fn named(mut root: Descriptor) -> Descriptor {
    root.annotations.insert(annotation::REF_NAME.into(), "latest".into());
    root
}

/// What a shard consists of.
pub struct ShardSpec<'a> {
    /// Its sources, with what is picked of them.
    pub sources: Vec<(GatherSource, ResolvedSource)>,
    /// What indexes list, and is not taken.
    pub left_out: &'a [(Digest, Digest)],
    /// Copy referrers too.
    pub recursive: bool,
    /// Requests at a time.
    pub threads: usize,
    /// Hears of each manifest that is fetched.
    pub fetched: &'a (dyn Fn() + Sync),
}

impl ShardSpec<'_> {
    /// Fetches the manifests of the shard from `store`, which answers as the plan says.
    pub fn collect(self, store: &dyn Store) -> Collected {
        let ShardSpec { mut sources, left_out, recursive, threads, fetched } = self;
        // They are of the plan, and not of one source.
        sources.first_mut().into_iter().for_each(|(_, first)| first.left_out = left_out.to_vec());
        let sources = sources.into_iter().map(|(source, resolved)| (source, Ok(resolved))).collect();
        let (graph, gathered) = gather::complete(store, sources, &FetchOptions { recursive, threads, fetched });
        Collected::new(graph, gathered, false)
    }
}

/// By shard: bytes of what others hold, too.
fn shared(portions: &Portions, division: &Division) -> Vec<u64> {
    let mut holders: Vec<HashSet<u32>> = vec![HashSet::new(); portions.parts.len()];
    for (portion, shard) in portions.all.iter().zip(&division.shard_of) {
        for part in &portion.parts {
            holders[*part as usize].insert(*shard);
        }
    }
    let mut shared = vec![0; division.loads.len()];
    for (bytes, holders) in portions.parts.iter().zip(&holders).filter(|(_, holders)| holders.len() > 1) {
        holders.iter().for_each(|shard| shared[*shard as usize] += bytes);
    }
    shared
}

/// Eight bytes of a digest: enough to tell contents apart where a mistake costs some balance only.
fn key(digest: &Digest) -> u64 {
    let bytes: &[u8] = match digest {
        Digest::Sha256(bytes) => bytes,
        Digest::Sha512(bytes) => &bytes[..],
    };
    u64::from_be_bytes(bytes[..8].try_into().expect("a digest has eight bytes"))
}

/// Sources that stay together: those of one name, and what lies under a tag that is made of a manifest's digest, as cosign
/// lays it out, with the first source that has the manifest.
fn groups(graph: &Graph, taken: &[&Gathered], recursive: bool) -> Result<Vec<Group>> {
    // Which source has the manifest that a tag of its repository speaks of.
    let mut spoken_of: HashMap<(String, Digest), Vec<usize>> = HashMap::new();
    let mut first_of: HashMap<&str, usize> = HashMap::new();
    let mut together: Vec<usize> = (0..taken.len()).collect();
    for (n, source) in taken.iter().enumerate() {
        together[n] = *first_of.entry(&source.source.written).or_insert(n);
        if let Some(subject) = subject_of(&source.source.locator) {
            spoken_of.entry((source.source.locator.origin().to_string(), subject)).or_default().push(n);
        }
    }
    for (n, source) in taken.iter().enumerate() {
        if spoken_of.is_empty() {
            break;
        }
        let origin = source.source.locator.origin().to_string();
        let picks: Vec<&Descriptor> = source.picks.iter().flatten().collect();
        let below = graph.reachable(&picks, recursive)?.manifests;
        let all = below.iter().flatten().map(|d| &d.digest).chain(source.resolved.as_ref().map(|d| &d.digest));
        for digest in all {
            for about in spoken_of.remove(&(origin.clone(), digest.clone())).unwrap_or_default() {
                let (one, other) = (root_of(&together, n), root_of(&together, about));
                // The first in the list stands for all.
                together[one.max(other)] = one.min(other);
            }
        }
    }
    let mut groups: Vec<Group> = Vec::new();
    let mut number_of: HashMap<usize, usize> = HashMap::new();
    for n in 0..taken.len() {
        let root = root_of(&together, n);
        let number = *number_of.entry(root).or_insert_with(|| {
            groups.push(Group { members: Vec::new() });
            groups.len() - 1
        });
        groups[number].members.push(n);
    }
    Ok(groups)
}

fn root_of(together: &[usize], mut n: usize) -> usize {
    while together[n] != n {
        n = together[n];
    }
    n
}

/// The digest that a tag is made of: `sha256-HEX.sig` and the like.
fn subject_of(locator: &Locator) -> Option<Digest> {
    let tag = match locator {
        Locator::Registry(reference) => reference.tag.as_deref()?,
        Locator::Layout(_, name) => name.as_deref()?,
        Locator::Archive(..) => return None,
    };
    let (digest, _) = tag.split_once('.')?;
    digest.replacen('-', ":", 1).parse().ok()
}
