//! What an archive must have, and in which order.

use super::{Delivery, Met};
use crate::archive::read::{
    events::{ArchiveEnd, Event, ManifestEvent},
    finding::Finding,
    foreign,
    lists::KnownContent,
};

impl Delivery<'_> {
    /// Whether what comes next may stand there, if the order matters.
    pub(super) fn check_order(&self, met: &Met, event: &Event) {
        let (name, place, is_right) = match event {
            Event::Layout(file) => ("oci-layout", file.place, !met.layout && met.indexes == 0 && !met.blobs),
            Event::Index(file) => (
                "index.json",
                file.place,
                met.layout && !met.docker && (met.indexes == 0 && !met.blobs || met.indexes == 1),
            ),
            Event::DockerIndex(file) => ("manifest.json", file.place, met.indexes == 2 && !met.docker),
            Event::Manifest(ManifestEvent { blob, .. }) => ("a blob", blob.place, met.indexes == 1),
            Event::Blob(event) if event.at == 0 => ("a blob", event.blob.place, met.indexes == 1),
            _ => return,
        };
        if !is_right {
            let text = format!("{name} at {place} stands out of order");
            self.finding(Finding::wrong(text));
        }
    }

    /// What an archive must have.
    pub(super) fn complete(&self, met: &mut Met, end: ArchiveEnd, is_resumed: bool) {
        let lacks = |text: &str| match end.end {
            Some(_) => Finding::wrong(text.into()),
            None => Finding::incomplete(text.into()),
        };
        if met.docker && met.is_nothing() {
            return self.finding(Finding::wrong(foreign::DOCKER_ARCHIVE.into()));
        }
        std::mem::take(&mut met.odd).into_iter().for_each(|finding| self.finding(finding));
        if end.is_foreign {
            return;
        }
        if !met.layout {
            self.finding(lacks("it holds no oci-layout"));
        }
        if met.indexes == 0 {
            self.finding(lacks("it holds no index.json that can be read: what its blobs are is not known"));
        }
        if is_resumed || end.end.is_none() {
            return;
        }
        let mut found = Vec::new();
        let state = self.state();
        let known = KnownContent {
            has_blobs: met.blobs,
            is_there: &|digest| state.tracker.knows(digest),
            is_referrer: &|digest| state.tracker.subject(digest).is_some(),
        };
        met.lists.check(&|| met.listed.iter(), &known, &mut |text| found.push(text));
        found.extend(state.tracker.misnamed());
        drop(state);
        found.into_iter().for_each(|text| self.finding(Finding::wrong(text)));
    }
}
