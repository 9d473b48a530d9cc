//! Manifests fetched out of a store in memory, and walks over them.

use super::*;
use crate::store::memory::MemoryStore;

fn fetched(store: &MemoryStore, roots: &[&Descriptor], recursive: bool) -> Graph {
    let roots = roots.iter().map(|root| (store.origin(), (*root).clone())).collect();
    fetch(store, Graph::default(), roots, &FetchOptions { recursive, threads: 3, fetched: &|| () })
}

#[test]
fn each_manifest_is_fetched_once_and_found_in_order() {
    let store = MemoryStore::new("a");
    let (one, two) = (store.image(&[b"x", b"y"]), store.image(&[b"y", b"z"]));
    let (inner, other) = (store.index(vec![one.clone(), two.clone()]), store.index(vec![one.clone()]));
    let root = store.index(vec![inner.clone(), other.clone(), two.clone()]);
    let graph = fetched(&store, &[&root], false);
    let fetches = store.calls();
    assert_eq!(fetches.len(), 5, "{fetches:?}");
    let mut order = Vec::new();
    graph
        .walk(&root, false, &mut |descriptor, _| {
            order.push(descriptor.digest.clone());
            Ok(true)
        })
        .unwrap();
    assert_eq!(order[..3], [root.digest.clone(), inner.digest, one.digest.clone()], "depth first");
    assert_eq!(order.iter().filter(|digest| **digest == one.digest).count(), 2, "as often as it is met");
}

#[test]
fn heights_go_from_what_refers_to_nothing_up() {
    let store = MemoryStore::new("a");
    let (one, two) = (store.image(&[b"x"]), store.image(&[b"x", b"y"]));
    let inner = store.index(vec![one.clone()]);
    let root = store.index(vec![two.clone(), inner.clone()]);
    let signature = store.referrer(&root, b"signature");
    let graph = fetched(&store, &[&root], true);
    let found = graph.reachable(&[&root], true).unwrap();
    let level = |digest: &Digest| found.manifests.iter().position(|all| all.iter().any(|d| d.digest == *digest));
    assert_eq!(
        [&one, &two, &inner, &root, &signature].map(|d| level(&d.digest).unwrap()),
        [0, 0, 1, 2, 3],
        "a referrer comes after its subject"
    );
    assert_eq!(found.blobs.len(), 5, "three of the images, two of the signature, each once");
    let plain = graph.reachable(&[&root], false).unwrap();
    assert_eq!(plain.manifests.concat().len(), 4);
    assert_eq!(
        plain.size(),
        plain.manifests.concat().iter().chain(plain.blobs.iter().map(|b| &b.0)).map(|d| d.size).sum::<u64>()
    );
}

#[test]
fn what_cannot_be_had_says_so_where_it_is_needed() {
    let store = MemoryStore::new("a");
    let there = store.image(&[b"x"]);
    let gone = Descriptor::new(media::MANIFEST, Digest::of(b"nowhere"), 7);
    let root = store.index(vec![there.clone(), gone.clone()]);
    let graph = fetched(&store, &[&root], false);
    assert!(graph.reachable(&[&there], false).is_ok());
    let error = graph.reachable(&[&root], false).unwrap_err();
    assert!(error.to_string().contains(&gone.digest.to_string()), "{error}");
    let liar = Descriptor { size: there.size + 1, ..there };
    assert!(graph.bytes(&liar).unwrap_err().to_string().contains("its descriptor says"));
}

#[test]
fn nesting_has_an_end() {
    let store = MemoryStore::new("a");
    let mut root = store.image(&[b"x"]);
    for _ in 0..DEPTH_MAX + 1 {
        root = store.index(vec![root]);
    }
    let graph = fetched(&store, &[&root], false);
    assert!(graph.reachable(&[&root], false).unwrap_err().to_string().contains("manifests deep"));
    assert!(graph.walk(&root, false, &mut |_, _| Ok(true)).is_err());
}
