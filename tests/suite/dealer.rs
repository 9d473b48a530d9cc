//! A registry that takes what is pushed, with faults by chance, so many a run.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{
    receiver::Receiver,
    scripted::{Answer, Content, Request, Scripted},
};

/// Kinds of faults.
pub const NAMES: [&str; 6] = ["bodies cut", "answers lost", "429", "503", "sessions lost", "stalls"];

/// Faults, dealt by chance.
pub struct Dealer {
    random: AtomicU64,
    left: AtomicUsize,
    one_in: u64,
    dealt: [AtomicUsize; NAMES.len()],
}

impl Dealer {
    /// At most so many faults, each by one chance in so many.
    pub fn new(seed: u64, most: usize, one_in: u64) -> Arc<Dealer> {
        let (random, left) = (AtomicU64::new(seed * 1_000_003 + 7), AtomicUsize::new(most));
        Arc::new(Dealer { random, left, one_in, dealt: Default::default() })
    }

    fn deal(&self, kind: usize) -> bool {
        let drawn = self.random.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::SeqCst).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let due = (drawn >> 33).is_multiple_of(self.one_in)
            && self.left.try_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        self.dealt[kind].fetch_add(usize::from(due), Ordering::SeqCst);
        due
    }

    /// How many of each kind were dealt.
    pub fn dealt(&self) -> [usize; NAMES.len()] {
        std::array::from_fn(|kind| self.dealt[kind].load(Ordering::SeqCst))
    }

    /// A registry in front of `receiver`. `first` may answer a request in its place.
    pub fn registry(
        self: &Arc<Dealer>,
        receiver: &Arc<Receiver>,
        first: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static,
    ) -> Scripted {
        let (dealer, in_cut, honest) = (self.clone(), self.clone(), receiver.clone());
        let busy = |status| Answer { status, headers: vec![("Retry-After".into(), "0".into())], ..Answer::default() };
        Scripted::cutting(
            Content::default(),
            move |request, _| {
                for (kind, status) in [(2, 429), (3, 503)] {
                    if dealer.deal(kind) {
                        return busy(status);
                    }
                }
                if let Some(answer) = first(request) {
                    return answer;
                }
                if request.method == "PATCH" && dealer.deal(4) {
                    honest.forget(request.path);
                }
                let mut answer = honest.answer(request);
                answer.reset = dealer.deal(1);
                if dealer.deal(5) {
                    answer.delay = Duration::from_millis(400);
                }
                answer
            },
            move |method, _, length| {
                let cut = ["PUT", "PATCH"].contains(&method) && length > 1 && in_cut.deal(0);
                cut.then(|| length * (1 + length % 7) / 9)
            },
        )
    }
}

/// Faults of all runs, in words.
pub fn in_words(total: &[usize; NAMES.len()]) -> String {
    NAMES.iter().zip(total).map(|(name, n)| format!("{n} {name}")).collect::<Vec<_>>().join(", ")
}
