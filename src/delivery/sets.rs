//! Sets of destinations: each is stored once, and everything else speaks of it by number, so that a million blobs need
//! no more than two numbers each.

use std::{collections::HashMap, sync::Arc};

/// Number of a set in [`RepositorySets`]; the default is the empty set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SetId(u32);

impl SetId {
    /// The set of no destination.
    pub const EMPTY: SetId = SetId(0);
}

/// The sets of a run. A member is the number of a destination in [`super::homes::Homes`].
#[derive(Debug)]
pub struct RepositorySets {
    sets: Vec<Arc<[u32]>>,
    numbers: HashMap<Arc<[u32]>, SetId>,
    unions: HashMap<(SetId, SetId), SetId>,
}

impl Default for RepositorySets {
    fn default() -> RepositorySets {
        let empty: Arc<[u32]> = Arc::default();
        let numbers = HashMap::from([(empty.clone(), SetId::EMPTY)]);
        RepositorySets { sets: vec![empty], numbers, unions: HashMap::new() }
    }
}

impl RepositorySets {
    /// The number of a set, whose members may stand in any order.
    pub fn number(&mut self, mut members: Vec<u32>) -> SetId {
        members.sort_unstable();
        members.dedup();
        if let Some(&known) = self.numbers.get(&members[..]) {
            return known;
        }
        let (set, id): (Arc<[u32]>, _) = (members.into(), SetId(self.sets.len() as u32));
        self.sets.push(set.clone());
        self.numbers.insert(set, id);
        id
    }

    /// The members of a set, in ascending order.
    pub fn members(&self, set: SetId) -> Arc<[u32]> {
        self.sets[set.0 as usize].clone()
    }

    /// Both together.
    pub fn union(&mut self, one: SetId, other: SetId) -> SetId {
        if one == other || other == SetId::EMPTY {
            return one;
        }
        if one == SetId::EMPTY {
            return other;
        }
        let pair = if one.0 < other.0 { (one, other) } else { (other, one) };
        if let Some(&known) = self.unions.get(&pair) {
            return known;
        }
        let all = [&*self.members(one), &*self.members(other)].concat();
        let union = self.number(all);
        self.unions.insert(pair, union);
        union
    }

    /// Whether all of `part` is in `whole`.
    pub fn holds(&mut self, whole: SetId, part: SetId) -> bool {
        self.union(whole, part) == whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_set_is_there_once() {
        let mut sets = RepositorySets::default();
        let (one, two) = (sets.number(vec![2, 1, 2]), sets.number(vec![3]));
        assert_eq!(one, sets.number(vec![1, 2]));
        let both = sets.union(two, one);
        assert_eq!(&*sets.members(both), [1, 2, 3]);
        assert_eq!(sets.union(one, two), both);
        assert_eq!(sets.union(one, SetId::EMPTY), one);
        assert!(sets.holds(both, one) && !sets.holds(one, both) && sets.holds(one, SetId::EMPTY));
    }
}
