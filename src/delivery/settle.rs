//! The end of a run: what no archive held is looked for at the destination, what cannot be pushed is kept there as a
//! blob, and the root gets its tag.

use super::{
    Delivery,
    outcome::{DeliveryOutcome, TOLD_MAX},
    queue::Job,
    tracker::ManifestState,
};
use crate::{
    error::{Error, Result},
    log,
};

impl Delivery<'_> {
    /// Runs `read`, which reads archives with [`Delivery::read`], while threads deliver; then settles what is left, and
    /// puts the root under `tag`.
    ///
    /// # Errors
    /// Only a signal. What failed otherwise is in the outcome.
    pub fn run(&self, tag: Option<&str>, read: impl FnOnce() -> Result<()>) -> Result<DeliveryOutcome> {
        std::thread::scope(|scope| {
            for _ in 0..self.options.threads {
                scope.spawn(|| self.work());
            }
            let outcome = self.deliver(tag, read);
            if outcome.is_err() {
                let mut state = self.state();
                state.queue.clear();
                state.parked.clear();
            }
            self.close();
            outcome
        })
    }

    fn deliver(&self, tag: Option<&str>, read: impl FnOnce() -> Result<()>) -> Result<DeliveryOutcome> {
        let found = if self.is_routed() { self.find_earlier() } else { Ok(()) };
        if let Err(e) = found.and_then(|()| read()) {
            let mut state = self.state();
            if e.is_signal() {
                return Err(e);
            }
            state.stop.get_or_insert(e);
        }
        self.wait_until_idle()?;
        if !self.is_stopped() {
            self.look_elsewhere()?;
        }
        self.keep_rest()?;
        self.check_expected();
        self.tag(tag);
        self.tag_rest()?;
        if self.options.looks_again {
            self.look_again()?;
        }
        crate::signal::check()?;
        Ok(self.outcome())
    }

    /// What no archive held may be at the destination.
    fn look_elsewhere(&self) -> Result<()> {
        let mut state = self.state();
        state.is_settling = true;
        if !self.is_routed() {
            state.tracker.name_rest();
        }
        self.act(&mut state);
        drop(state);
        loop {
            self.wait_until_idle()?;
            let mut state = self.state();
            let (unseen, unasked) = (state.tracker.unseen(), state.tracker.unasked(self.options.homes.count()));
            if unseen.is_empty() && unasked.is_empty() || state.stop.is_some() {
                break;
            }
            state.queue.add_all(unseen.into_iter().map(Job::Fetch));
            state.queue.add_all(unasked.into_iter().map(Job::Ask));
            self.work.notify_all();
        }
        let mut state = self.state();
        if self.options.keep_going {
            state.tracker.release();
        }
        state.tracker.waive();
        self.act(&mut state);
        drop(state);
        self.wait_until_idle()
    }

    /// Manifests that cannot be pushed yet are kept as blobs.
    fn keep_rest(&self) -> Result<()> {
        let mut state = self.state();
        if state.is_refused || self.options.keeps_nothing {
            return Ok(());
        }
        for (descriptor, bytes) in state.tracker.leftover() {
            state.queue.add(Job::Keep(Box::new(descriptor), bytes));
        }
        self.work.notify_all();
        drop(state);
        self.wait_until_idle()
    }

    fn tag(&self, tag: Option<&str>) {
        let (root, bytes) = {
            let state = self.state();
            let Some(root) = state.root.as_ref().filter(|_| state.stop.is_none()) else { return };
            let Some(manifest) = state.tracker.manifest(&root.digest) else { return };
            if manifest.state != ManifestState::Pushed {
                return;
            }
            (manifest.descriptor(), state.root_bytes.clone())
        };
        let Some(tag) = tag else { return };
        let tagged = self.options.homes.tag(&root, bytes, 0, tag);
        let mut state = self.state();
        match tagged {
            Ok(()) => state.tagged = Some(tag.into()),
            Err(e) => drop(state.stop.get_or_insert(e)),
        }
    }

    fn outcome(&self) -> DeliveryOutcome {
        let checkpoint = self.checkpoint();
        let mut state = self.state();
        let state = &mut *state;
        let lacking = state.tracker.lacking();
        let roots = state.roots.is_some().then(|| self.settle_roots(state));
        DeliveryOutcome {
            roots,
            mounted: std::mem::take(&mut state.mounted),
            root: state.root.clone(),
            met_roots: std::mem::take(&mut state.met_roots),
            root_bytes: state.root_bytes.clone(),
            tagged: state.tagged.take(),
            tally: state.tally,
            lacking,
            is_wrong: state.is_wrong,
            is_refused: state.is_refused,
            stop: state.stop.take(),
            checkpoint,
            tracker: std::mem::take(&mut state.tracker),
        }
    }
}

impl DeliveryOutcome {
    /// Tells of what is missing.
    pub fn tell_lacking(&self) {
        for (n, (digest, (needed_by, why))) in self.lacking.iter().enumerate() {
            if n == TOLD_MAX {
                return log::warn("and more, which is only counted");
            }
            let by: Vec<String> = needed_by.iter().take(8).map(ToString::to_string).collect();
            let more = if needed_by.len() > by.len() { ", …" } else { "" };
            let text = match (why, needed_by.is_empty()) {
                (Some(why), _) => format!("manifest {digest} cannot be pushed: {why}"),
                (None, false) => format!("{digest} is missing, which {}{more} needs", by.join(", ")),
                (None, true) => format!("{digest} is missing, which index.json lists"),
            };
            log::error(Error::new(text));
        }
    }
}
