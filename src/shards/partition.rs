//! Sources divided among shards: nearly the same bytes in each, and what sources share stored as seldom as can be.
//!
//! Every shard stores what its sources need once, so what is shared by sources of several shards is stored several times.
//! To find the division for which that is least is NP-hard (bin packing is a part of it). Several are made, each is mended
//! by moving one source at a time, and the best is taken: nothing is random, so the same sources give the same division.

use std::{cmp::Reverse, collections::BTreeSet};

/// One source, as the division sees it.
#[derive(Clone, Debug)]
pub struct Portion {
    /// What tells it from others: decides where all else is equal, and which shard it would be by its name alone.
    pub key: u64,
    /// Bytes that nobody else needs.
    pub own: u64,
    /// Numbers of the parts that it shares with others, each once.
    pub parts: Vec<u32>,
}

/// What is divided.
#[derive(Clone, Debug, Default)]
pub struct Portions {
    /// The sources.
    pub all: Vec<Portion>,
    /// Bytes of each part that several of them share.
    pub parts: Vec<u64>,
}

/// The most shards.
pub const SHARDS_MAX: usize = 4096;

/// Which shard each source is in, counted from 0, and what follows from that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Division {
    /// By source.
    pub shard_of: Vec<u32>,
    /// Bytes of each shard.
    pub loads: Vec<u64>,
}

impl Division {
    /// Bytes of the largest shard.
    pub fn largest(&self) -> u64 {
        self.loads.iter().copied().max().unwrap_or(0)
    }

    /// Bytes of all shards together.
    pub fn total(&self) -> u64 {
        self.loads.iter().sum()
    }
}

/// A thing that some sources need, for [`Portions::of`]: what tells it from others, its bytes, and who needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// Equal for equal content.
    pub content: u64,
    /// In the archive.
    pub bytes: u64,
    /// Number of the source.
    pub source: u32,
}

impl Portions {
    /// Brings together what the same sources need. `keys` are those of the sources; of several equal needs one counts.
    pub fn of(keys: &[u64], mut needs: Vec<Need>) -> Portions {
        needs.sort_unstable();
        needs.dedup();
        let portion = |key: &u64| Portion { key: *key, own: 0, parts: Vec::new() };
        let mut portions = Portions { all: keys.iter().map(portion).collect(), parts: Vec::new() };
        let is_same = |a: &Need, b: &Need| (a.content, a.bytes) == (b.content, b.bytes);
        let mut shared: Vec<&[Need]> = Vec::new();
        for one in needs.chunk_by(is_same) {
            match one {
                [alone] => portions.all[alone.source as usize].own += alone.bytes,
                several => shared.push(several),
            }
        }
        // What the same sources share is one part.
        let sources = |needs: &[Need]| needs.iter().map(|need| need.source).collect::<Vec<u32>>();
        shared.sort_by(|a, b| a.iter().map(|n| n.source).cmp(b.iter().map(|n| n.source)));
        for part in shared.chunk_by(|a, b| a.iter().map(|n| n.source).eq(b.iter().map(|n| n.source))) {
            let number = portions.parts.len() as u32;
            portions.parts.push(part.iter().map(|needs| needs[0].bytes).sum());
            sources(part[0]).into_iter().for_each(|source| portions.all[source as usize].parts.push(number));
        }
        portions
    }

    /// Bytes of one source alone.
    fn size(&self, source: usize) -> u64 {
        let portion = &self.all[source];
        portion.own + portion.parts.iter().map(|part| self.parts[*part as usize]).sum::<u64>()
    }

    /// Bytes of all sources together, each content once.
    pub fn total(&self) -> u64 {
        self.all.iter().map(|portion| portion.own).sum::<u64>() + self.parts.iter().sum::<u64>()
    }

    /// No division into so many shards has a smaller largest one: that has a part of all, and holds some source.
    pub fn lower_bound(&self, shards: usize) -> u64 {
        let largest = (0..self.all.len()).map(|source| self.size(source)).max().unwrap_or(0);
        self.total().div_ceil(shards.max(1) as u64).max(largest)
    }

    /// Divides all among `shards` (1 to [`SHARDS_MAX`]). The largest shard may be larger by `balance` percent than that of
    /// the evenest division found, where so less is stored twice.
    pub fn divide(&self, shards: usize, balance: u64) -> Division {
        let order = self.largest_first();
        // Two that are simple: what is chosen is to be no worse than either.
        let simple = [self.by_size(shards, &order), self.by_name(shards)];
        let bound = simple.iter().map(Division::largest).min().unwrap_or(0);
        let simple_total = simple.iter().map(Division::total).min().unwrap_or(0);
        let mut found: Vec<Division> = simple.into_iter().map(|division| self.improved(division, bound)).collect();
        let ideal = self.lower_bound(shards);
        for limit in limits(ideal, bound, balance) {
            found.push(self.improved(self.by_sharing(shards, &order, limit), limit));
        }
        let evenest = found.iter().map(Division::largest).min().unwrap_or(0);
        let allowed = grown(evenest.max(ideal), balance).min(bound).max(evenest);
        let rank = |division: &Division| {
            let (largest, total) = (division.largest(), division.total());
            (largest > bound || total > simple_total, largest > allowed, total, largest)
        };
        found.into_iter().min_by_key(rank).expect("there are two at least")
    }

    /// Sources by size, the largest first.
    fn largest_first(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.all.len()).collect();
        order.sort_by_cached_key(|&source| (Reverse(self.size(source)), self.all[source].key, source));
        order
    }

    /// Each where its name says, whatever it holds: by the remainder of its key.
    fn by_name(&self, shards: usize) -> Division {
        let mut filling = Filling::new(self, shards);
        for source in 0..self.all.len() {
            let at = (self.all[source].key % shards as u64) as usize;
            filling.put(source, at);
        }
        filling.done()
    }

    /// The largest first, each to the shard that has the fewest bytes, as if nothing were shared (Graham's LPT rule).
    fn by_size(&self, shards: usize, order: &[usize]) -> Division {
        let mut filling = Filling::new(self, shards);
        let mut apparent: BTreeSet<(u64, usize)> = (0..shards).map(|shard| (0, shard)).collect();
        for &source in order {
            let (load, at) = apparent.pop_first().expect("there is a shard");
            filling.put(source, at);
            apparent.insert((load + self.size(source), at));
        }
        filling.done()
    }

    /// The largest first, each to the shard where it adds the fewest bytes, as long as that has at most `limit` then.
    fn by_sharing(&self, shards: usize, order: &[usize], limit: u64) -> Division {
        let mut filling = Filling::new(self, shards);
        for &source in order {
            let size = self.size(source);
            let spared = filling.spared(source);
            let at = (0..shards).min_by_key(|&at| {
                let (load, added) = (filling.loads[at], size - spared[at]);
                match load + added <= limit {
                    true => (0, added, load, at),
                    false => (1, load + added, added, at),
                }
            });
            filling.put(source, at.expect("there is a shard"));
        }
        filling.done()
    }

    /// Moves sources, one at a time: out of the largest shard as long as that makes it smaller, and to where they add less
    /// than they free, with no shard above `limit` (or above what is the largest already).
    fn improved(&self, division: Division, limit: u64) -> Division {
        let shards = division.loads.len();
        if shards < 2 {
            return division;
        }
        let mut filling = Filling::of(self, division);
        let visits: usize = self.all.iter().map(|portion| portion.parts.len() + shards).sum();
        for _ in 0..(VISITS_MAX / visits.max(1)).clamp(1, PASSES_MAX) {
            let limit = limit.max(filling.largest());
            if filling.save(limit) + filling.even_out() == 0 {
                break;
            }
        }
        filling.done()
    }
}

/// A division is mended by so many passes over all sources at most,
const PASSES_MAX: usize = 12;
/// and looks at so many parts of sources meanwhile, or does one pass.
const VISITS_MAX: usize = 40_000_000;
/// So many limits are tried.
const LIMITS: u64 = 4;

/// Limits to be tried: from what no division stays below to what the balance allows, and on to what one has already.
fn limits(ideal: u64, bound: u64, balance: u64) -> Vec<u64> {
    let up_to = |end: u64| {
        let step = end.saturating_sub(ideal) / LIMITS;
        (0..=LIMITS).map(move |n| ideal + n * step)
    };
    let mut limits: Vec<u64> = up_to(bound).chain(up_to(grown(ideal, balance))).chain([bound]).collect();
    limits.retain(|limit| *limit <= bound.max(ideal));
    limits.sort_unstable();
    limits.dedup();
    limits
}

/// So many percent more.
fn grown(bytes: u64, percent: u64) -> u64 {
    let grown = u128::from(bytes) * u128::from(100 + percent) / 100;
    grown.try_into().unwrap_or(u64::MAX)
}

/// Shards while they are filled: which has how many sources that need a part.
struct Filling<'a> {
    portions: &'a Portions,
    shard_of: Vec<u32>,
    loads: Vec<u64>,
    /// By part: the shards that have it, and how many sources of each need it.
    holders: Vec<Vec<(u32, u32)>>,
}

/// In no shard yet.
const NOWHERE: u32 = u32::MAX;

impl<'a> Filling<'a> {
    fn new(portions: &'a Portions, shards: usize) -> Filling<'a> {
        Filling {
            portions,
            shard_of: vec![NOWHERE; portions.all.len()],
            loads: vec![0; shards],
            holders: vec![Vec::new(); portions.parts.len()],
        }
    }

    fn of(portions: &'a Portions, division: Division) -> Filling<'a> {
        let mut filling = Filling::new(portions, division.loads.len());
        for (source, at) in division.shard_of.into_iter().enumerate() {
            filling.put(source, at as usize);
        }
        filling
    }

    fn done(self) -> Division {
        Division { shard_of: self.shard_of, loads: self.loads }
    }

    fn largest(&self) -> u64 {
        self.loads.iter().copied().max().unwrap_or(0)
    }

    /// By shard: bytes of a source that are in it already, because of others.
    fn spared(&self, source: usize) -> Vec<u64> {
        let mut spared = vec![0; self.loads.len()];
        let own = self.shard_of[source];
        for &part in &self.portions.all[source].parts {
            for &(at, count) in &self.holders[part as usize] {
                if at != own || count > 1 {
                    spared[at as usize] += self.portions.parts[part as usize];
                }
            }
        }
        spared
    }

    fn put(&mut self, source: usize, at: usize) {
        let portion = &self.portions.all[source];
        let mut load = self.loads[at] + portion.own;
        for &part in &portion.parts {
            let holders = &mut self.holders[part as usize];
            match holders.iter_mut().find(|(shard, _)| *shard as usize == at) {
                Some((_, count)) => *count += 1,
                None => {
                    holders.push((at as u32, 1));
                    load += self.portions.parts[part as usize];
                }
            }
        }
        self.loads[at] = load;
        self.shard_of[source] = at as u32;
    }

    fn take(&mut self, source: usize) {
        let portion = &self.portions.all[source];
        let at = self.shard_of[source];
        let mut load = self.loads[at as usize] - portion.own;
        for &part in &portion.parts {
            let holders = &mut self.holders[part as usize];
            let held = holders.iter().position(|(shard, _)| *shard == at).expect("a shard has what its sources need");
            holders[held].1 -= 1;
            if holders[held].1 == 0 {
                holders.swap_remove(held);
                load -= self.portions.parts[part as usize];
            }
        }
        self.loads[at as usize] = load;
        self.shard_of[source] = NOWHERE;
    }

    /// Moves each source to where it adds less than it frees where it is, if no shard has more than `limit` then. Returns
    /// how many were moved.
    fn save(&mut self, limit: u64) -> usize {
        let mut moved = 0;
        for source in 0..self.shard_of.len() {
            let (size, from) = (self.portions.size(source), self.shard_of[source] as usize);
            let spared = self.spared(source);
            let freed = size - spared[from];
            let fits = |&at: &usize| at != from && self.loads[at] + size - spared[at] <= limit;
            let best = (0..spared.len()).filter(fits).min_by_key(|&at| (size - spared[at], self.loads[at], at));
            if let Some(at) = best.filter(|&at| size - spared[at] < freed) {
                self.take(source);
                self.put(source, at);
                moved += 1;
            }
        }
        moved
    }

    /// Moves sources out of the largest shard as long as that makes the largest smaller, the one first that stores the least
    /// twice. Returns how many were moved.
    fn even_out(&mut self) -> usize {
        let mut moved = 0;
        for _ in 0..self.shard_of.len().min(MOVES_MAX) {
            let Some(from) = (0..self.loads.len()).max_by_key(|&at| (self.loads[at], Reverse(at))) else { break };
            let largest = self.loads[from];
            let mut best: Option<(i128, u64, usize, usize)> = None;
            for source in 0..self.shard_of.len() {
                if self.shard_of[source] as usize != from {
                    continue;
                }
                let size = self.portions.size(source);
                let spared = self.spared(source);
                let freed = size - spared[from];
                for at in (0..spared.len()).filter(|&at| at != from) {
                    let (load, more) = (self.loads[at] + size - spared[at], size - spared[at]);
                    if load < largest && freed > 0 {
                        let candidate = (i128::from(more) - i128::from(freed), load, source, at);
                        best = Some(best.map_or(candidate, |best| best.min(candidate)));
                    }
                }
            }
            let Some((_, _, source, at)) = best else { break };
            self.take(source);
            self.put(source, at);
            moved += 1;
        }
        moved
    }
}

/// So many sources are moved out of largest shards in one pass.
const MOVES_MAX: usize = 256;

#[cfg(test)]
mod tests;
