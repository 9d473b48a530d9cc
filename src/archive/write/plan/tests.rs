//! Plans over manifests in memory.

use proptest::prelude::*;

use super::*;
use crate::store::{
    graph::{self, FetchOptions},
    memory::MemoryStore,
};

fn graph_of(store: &MemoryStore, root: &Descriptor) -> Graph {
    let options = FetchOptions { recursive: true, threads: 2, fetched: &|| () };
    graph::fetch(store, Graph::default(), vec![(store.origin(), root.clone())], &options)
}

fn plan(store: &MemoryStore, root: &Descriptor, on_media: &HashSet<Digest>, existing: &HashSet<Digest>) -> Plan {
    planned(store, root, on_media, existing, "t").unwrap()
}

/// The plan for all below `root`, written by this version.
///
/// # Errors
/// Those of [`Plan::new`].
pub fn planned(
    store: &MemoryStore,
    root: &Descriptor,
    on_media: &HashSet<Digest>,
    existing: &HashSet<Digest>,
    version: &str,
) -> Result<Plan> {
    let root = root.clone();
    let spec = ArchiveSpec { root: root.clone(), recursive: true, on_media, existing, manifest_json: false, version };
    Plan::new(&graph_of(store, &root), &spec)
}

/// The archive that a plan describes.
pub fn bytes(store: &MemoryStore, plan: &Plan) -> Vec<u8> {
    let mut all = Vec::new();
    for n in 0..plan.entries() {
        let entry = plan.entry(n);
        assert_eq!(entry.start, all.len() as u64);
        assert_eq!(plan.entry_at(entry.start), n);
        all.extend(entry.header);
        match entry.body {
            EntryBody::Bytes(bytes) => all.extend(&*bytes),
            EntryBody::Fetched(blob) => all.extend(store.content(plan.digest(blob)).unwrap()),
        }
        all.resize(all.len() + entry.padding as usize, 0);
    }
    all
}

#[test]
fn entries_fill_the_archive_without_a_hole() {
    let store = MemoryStore::new("a");
    let (one, two) = (store.image(&[b"x", &[7; 1000]]), store.image(&[b"x", &[8; 512], b""]));
    let root = store.index(vec![one, two]);
    let plan = plan(&store, &root, &HashSet::new(), &HashSet::new());
    let all = bytes(&store, &plan);
    assert_eq!(all.len() as u64, plan.total());
    assert!(all.len().is_multiple_of(TAR_BLOCK as usize) && all.ends_with(&[0; END_LEN as usize]));
    assert_eq!(plan.blobs(), 8, "three manifests, a configuration, four layers, each once");
    assert_eq!(plan.manifests, 3);
    assert_eq!(plan.to_fetch(), 1 + 1000 + 512 + 37, "the empty layer is at hand");
    let mut names = tar::Archive::new(&all[..]);
    let names: Vec<String> =
        names.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
    assert_eq!(names[..4], ["oci-layout", "index.json", "blobs", "blobs/sha256"]);
    assert_eq!(names.last().unwrap(), "index.json");
    for held in [false, true] {
        assert!(all.starts_with(&plan.known_prefix(held)));
    }
    assert!(plan.known_prefix(true).len() > plan.known_prefix(false).len());
    assert_eq!(plan.root_manifest(), store.content(&root.digest).as_deref());
}

#[test]
fn what_is_at_the_destination_is_left_out_and_counted() {
    let store = MemoryStore::new("a");
    let image = store.image(&[b"x", b"y"]);
    let root = store.index(vec![image.clone()]);
    let on_media = HashSet::from([Digest::of(b"x"), image.digest.clone()]);
    let existing = HashSet::from([Digest::of(b"y"), root.digest.clone()]);
    let plan = plan(&store, &root, &on_media, &existing);
    let left: Vec<Digest> = (0..plan.blobs() as u32).map(|n| plan.digest(n).clone()).collect();
    assert!(left.contains(&root.digest), "an existing image's manifests are written");
    assert!(!left.contains(&image.digest) && !left.contains(&Digest::of(b"x")) && !left.contains(&Digest::of(b"y")));
    assert_eq!(plan.skipped, 3);
}

#[test]
fn sizes_that_no_medium_holds_are_refused() {
    let store = MemoryStore::new("a");
    let layer = Descriptor::new("layer", Digest::of(b"x"), i64::MAX as u64);
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": media::MANIFEST, "layers": [layer, layer]});
    let root = store.add(media::MANIFEST, manifest.to_string().as_bytes());
    let error = planned(&store, &root, &HashSet::new(), &HashSet::new(), "t").unwrap_err();
    assert!(error.to_string().contains("more than any medium holds"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

    /// From any offset on, segments cover what is left, and blobs end where they are said to.
    #[test]
    fn any_offset_can_be_gone_on_from(sizes in prop::collection::vec(0usize..3000, 1..6), part in 0.0..1.0f64) {
        let store = MemoryStore::new("a");
        let layers: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(n, size)| vec![n as u8; *size]).collect();
        let root = store.image(&layers.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let plan = plan(&store, &root, &HashSet::new(), &HashSet::new());
        let from = (plan.total() as f64 * part) as u64;
        let bounds: Vec<u64> = plan.bounds(from).collect();
        prop_assert!(bounds.is_sorted_by(|a, b| a < b) && bounds[0] == 0);
        prop_assert_eq!(from + bounds.last().unwrap(), plan.total());
        let next = plan.blob_after(from);
        prop_assert!(plan.blob_end(next).is_none_or(|end| end > from));
        prop_assert_eq!(plan.whole(|end| end <= from), next);
    }
}
