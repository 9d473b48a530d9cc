use super::*;

/// Numbers that look random (xorshift64*), the same each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// The smaller, the more often: the number `k` by the weight 1/(k+1) (Zipf's law).
    fn zipf(&mut self, n: u64) -> u64 {
        let weights: Vec<f64> = (0..n).map(|k| 1.0 / (k + 1) as f64).collect();
        let mut at = self.below(1 << 40) as f64 / (1_u64 << 40) as f64 * weights.iter().sum::<f64>();
        weights.iter().position(|weight| (at -= weight, at < 0.0).1).unwrap_or(0) as u64
    }
}

/// What a list is like.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Each on a base that others have too, some on a second one.
    SharedBases,
    /// One has more than half of all.
    OneGiant,
    /// All of one size, on few bases.
    AllEqual,
    NothingShared,
}

/// A list of images: layers of bases, and layers of their own.
fn list(kind: Kind, seed: u64) -> Portions {
    let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1);
    let sources = 30 + numbers.below(370);
    let bases = 3 + numbers.below(40);
    let sizes: Vec<u64> = (0..bases * 3).map(|_| 1000 + numbers.below(200_000)).collect();
    let keys: Vec<u64> = (0..sources).map(|_| numbers.next()).collect();
    let (mut needs, mut fresh) = (Vec::new(), 1 << 32);
    for source in 0..sources as u32 {
        let mut need = |content: u64, bytes: u64| needs.push(Need { content, bytes, source });
        let own = match kind {
            Kind::AllEqual => 50_000,
            Kind::OneGiant if source == 0 => sources * 150_000,
            _ => 1000 + numbers.below(300_000),
        };
        fresh += 1;
        need(fresh, own);
        if matches!(kind, Kind::NothingShared) {
            continue;
        }
        let base = match kind {
            Kind::AllEqual => numbers.below(bases),
            _ => numbers.zipf(bases),
        };
        // The layers of a base, up to one of three.
        let depth = if matches!(kind, Kind::AllEqual) { 2 } else { numbers.below(3) };
        for layer in 0..=depth {
            let content = base * 3 + layer;
            need(content, if matches!(kind, Kind::AllEqual) { 30_000 } else { sizes[content as usize] });
        }
        // Something that is copied in from elsewhere.
        if matches!(kind, Kind::SharedBases) && numbers.below(4) == 0 {
            need(1 << 20 | numbers.zipf(20), 40_000);
        }
    }
    Portions::of(&keys, needs)
}

/// What a division says of itself, worked out anew.
fn check(portions: &Portions, division: &Division) {
    let mut loads = vec![0; division.loads.len()];
    let mut has = vec![vec![false; portions.parts.len()]; loads.len()];
    for (portion, &at) in portions.all.iter().zip(&division.shard_of) {
        loads[at as usize] += portion.own;
        for &part in &portion.parts {
            if !std::mem::replace(&mut has[at as usize][part as usize], true) {
                loads[at as usize] += portions.parts[part as usize];
            }
        }
    }
    assert_eq!(loads, division.loads);
}

/// On 200 lists neither the bytes stored twice nor the largest shard are more than what dividing by names and largest-first
/// without regard to sharing give, whichever of the two is better in it.
#[test]
fn a_division_is_no_worse_than_simple_ones_in_either_figure() {
    let kinds = [Kind::SharedBases, Kind::OneGiant, Kind::AllEqual, Kind::NothingShared];
    let counts = [1, 2, 3, 4, 6, 8, 12, 16, 32, 64];
    let (mut savings, mut excess, mut worse) = (Vec::new(), Vec::new(), Vec::new());
    for seed in 0..200 {
        let kind = kinds[seed % 4];
        let shards = counts[seed / 4 % 10];
        let portions = list(kind, seed as u64);
        let division = portions.divide(shards, 5);
        check(&portions, &division);
        assert_eq!(division, portions.divide(shards, 5));
        let (by_name, by_size) = (portions.by_name(shards), portions.by_size(shards, &portions.largest_first()));
        check(&portions, &by_size);
        let total = portions.total();
        let twice = |division: &Division| division.total() - total;
        let least_twice = twice(&by_name).min(twice(&by_size));
        let least_largest = by_name.largest().min(by_size.largest());
        let bound = portions.lower_bound(shards);
        assert!(division.largest() >= bound);
        if twice(&division) > least_twice || division.largest() > least_largest {
            worse.push(format!(
                "{seed} {kind:?} {shards} shards: twice {} of {least_twice}, largest {} of {least_largest}, bound {bound}",
                twice(&division),
                division.largest()
            ));
        }
        if least_twice > 0 {
            savings.push(100.0 * (1.0 - twice(&division) as f64 / least_twice as f64));
        }
        excess.push(100.0 * (division.largest() as f64 / bound as f64 - 1.0));
    }
    savings.sort_by(f64::total_cmp);
    excess.sort_by(f64::total_cmp);
    let median = |all: &[f64]| all[all.len() / 2];
    println!(
        "of {} lists with something stored twice, {:.1} % of it is spared in the median ({:.1} to {:.1}); the largest shard has {:.1} % more than the lower bound in the median (at most {:.1})",
        savings.len(),
        median(&savings),
        savings[0],
        savings[savings.len() - 1],
        median(&excess),
        excess[excess.len() - 1]
    );
    assert!(worse.is_empty(), "{} of 200:\n{}", worse.len(), worse.join("\n"));
}

#[test]
fn equal_needs_are_one_and_what_the_same_sources_share_is_one_part() {
    let need = |content, bytes, source| Need { content, bytes, source };
    let needs = vec![need(1, 10, 0), need(1, 10, 0), need(2, 5, 0), need(2, 5, 1), need(3, 7, 1), need(3, 7, 0)];
    let portions = Portions::of(&[1, 2], needs);
    assert_eq!((portions.parts.as_slice(), portions.total()), (&[12_u64][..], 22));
    assert_eq!((portions.all[0].own, portions.all[1].own), (10, 0));
    assert_eq!(portions.lower_bound(2), 22);
    // Nothing is gained by a second shard.
    assert_eq!(portions.divide(2, 5).total(), 22);
    assert_eq!(Portions::default().divide(3, 5), Division { shard_of: vec![], loads: vec![0; 3] });
}
