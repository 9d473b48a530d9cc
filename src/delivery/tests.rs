//! Deliveries into a repository in memory: members in any order, parts missing, blocks of a tape that cannot be read.

use proptest::prelude::*;

use super::*;
use crate::{
    archive::tar_header,
    media::{
        memory_source::MemorySource,
        source::MediaSource,
        stream_input::{InputOptions, StreamInput},
        tape::fake::{FakeDrive, Item},
    },
    oci::{Annotations, Repository, json, manifest::Index},
    store::{memory::MemoryStore, target::Target},
};

/// A layout: what it holds, in the order of an archive, and its root.
struct Layout {
    members: Vec<(String, Vec<u8>)>,
    root: Descriptor,
    layers: Vec<Descriptor>,
}

fn index_of(roots: &[Descriptor]) -> Vec<u8> {
    json::compact(&Index::new("", roots.to_vec(), Annotations::new()))
}

/// Two images that share a layer, in an index, and a signature of one of them.
fn layout() -> Layout {
    layout_under(|low, images| low.index(images))
}

/// A gathered artifact of the same images, with the signature of the first; all in the order of an archive.
fn gathered() -> Layout {
    layout_under(|low, images| {
        low.add(media::INDEX, &json::compact(&Index::new(media::GATHER, images, Annotations::new())))
    })
}

fn layout_under(root: impl Fn(&MemoryStore, Vec<Descriptor>) -> Descriptor) -> Layout {
    let low = MemoryStore::new("low");
    let layer = |n: u8| vec![n; 700 + 300 * n as usize];
    let (one, two) = (low.image(&[&layer(1), &layer(2)]), low.image(&[&layer(2), &layer(3)]));
    let signature = low.referrer(&one, b"signature");
    let root = root(&low, vec![one.clone(), two.clone()]);
    let layers: Vec<Descriptor> = (1..=3).map(|n| low.add("layer", &layer(n))).collect();
    let mut members = vec![
        ("oci-layout".to_string(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ("index.json".into(), index_of(&[root.clone(), signature.clone()])),
    ];
    let config = low.add("config", br#"{"os":"linux","architecture":"amd64"}"#);
    let (empty, of_signature) = (low.add("empty", b"{}"), low.add("layer", b"signature"));
    for part in [&root, &one, &config, &layers[0], &layers[1], &signature, &empty, &of_signature, &two, &layers[2]] {
        members.push((part.digest.path(), low.content(&part.digest).unwrap()));
    }
    Layout { members, root, layers }
}

fn archive(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, bytes) in members {
        archive.extend(tar_header::file(name, bytes.len() as u64));
        archive.extend(bytes);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

fn options(homes: Homes<'_>, keep_going: bool) -> DeliveryOptions<'_> {
    DeliveryOptions {
        homes,
        destination: "mem.example.com/high".into(),
        routing: Routing::All,
        recursive: true,
        rereads: false,
        keeps_nothing: false,
        looks_again: true,
        digest: None,
        set: None,
        threads: 3,
        keep_going,
        strict: false,
        check_all: false,
        has_checkpoint: true,
    }
}

fn deliver(
    source: &mut dyn MediaSource,
    ring: &FillerStopper,
    to: &MemoryStore,
    keep_going: bool,
) -> outcome::DeliveryOutcome {
    let make = |_: &Repository| -> Box<dyn Target + '_> { Box::new(to) };
    let homes = Homes::new(&make);
    homes.number(Target::repository(to));
    let delivery = Delivery::new(options(homes, keep_going));
    let read = || {
        let mut events = EventReader::new(source, true);
        delivery.read(&mut events, ReadingFrom::default(), Some(ring)).map(drop)
    };
    delivery.run(Some("v1"), read).unwrap()
}

fn deliver_bytes(bytes: Vec<u8>, to: &MemoryStore, keep_going: bool) -> outcome::DeliveryOutcome {
    let (_filler, ring) = ace_dt_ring::fan_out(1, 1).unwrap();
    deliver(&mut MemorySource::new(bytes, 600), &ring, to, keep_going)
}

/// What was pushed, in order; the target refuses a manifest before what it refers to.
fn is_whole(to: &MemoryStore, root: &Descriptor) -> bool {
    to.tagged("v1") == Some(root.digest.clone()) && to.calls().last().unwrap() == "tag v1"
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Members in any order, and some twice: all is there, each manifest after what it refers to, the tag last.
    #[test]
    fn members_in_any_order(order in Just((0..12).collect::<Vec<usize>>()).prop_shuffle(), twice in 0usize..12) {
        let layout = layout();
        let order = order.iter().chain([&order[twice]]);
        let members: Vec<_> = order.map(|n| layout.members[*n].clone()).collect();
        // A second index.json is as the first.
        let to = MemoryStore::new("high");
        let outcome = deliver_bytes(archive(&members), &to, false);
        prop_assert!(outcome.is_complete() && !outcome.is_wrong, "{:?} {:?}", outcome.stop, outcome.lacking);
        prop_assert!(is_whole(&to, &layout.root));
        let manifests = to.calls().iter().filter(|call| call.starts_with("manifest")).count();
        prop_assert_eq!(manifests, 4, "the signature, too");
    }

    /// Any member missing or damaged, or the archive cut anywhere: no tag, and what is missing is named.
    #[test]
    fn nothing_is_tagged_that_is_not_whole(victim in 2usize..12, damage in 0u8..3, keep_going: bool) {
        let layout = layout();
        let mut members = layout.members.clone();
        match damage {
            0 => drop(members.remove(victim)),
            1 => members[victim].1[0] ^= 1,
            _ => members.truncate(victim),
        }
        let to = MemoryStore::new("high");
        let outcome = deliver_bytes(archive(&members), &to, keep_going);
        let of_signature = damage < 2 && (7..=9).contains(&victim);
        prop_assert!(!outcome.is_complete(), "something is missing");
        prop_assert!(to.tagged("v1").is_none() || of_signature, "the root does not need its signature");
        if keep_going {
            let digest = layout.members[victim].0.trim_start_matches("blobs/").replace('/', ":").parse().unwrap();
            prop_assert!(outcome.lacking.contains_key(&digest) , "{digest} is not told: {:?}", outcome.lacking);
        }
    }

    /// A block of a tape that cannot be read, of any size, anywhere: reading goes on behind it, and all that does not lie
    /// in it is delivered.
    #[test]
    fn a_block_that_cannot_be_read(size in prop::sample::select(vec![512usize, 1024, 4096, 700]), bad in 0usize..60) {
        let layout = layout();
        let bytes = archive(&layout.members);
        let blocks: Vec<&[u8]> = bytes.chunks(size).collect();
        // The beginning is needed, and before the first block nobody knows how large blocks are.
        let bad = 3 * 1024usize.div_ceil(size) + bad % blocks.len();
        prop_assume!(bad < blocks.len() - 1024usize.div_ceil(size));
        let drive = FakeDrive::default();
        drive.tape().items = blocks.iter().map(|block| Item::Block(block.to_vec())).chain([Item::Mark]).collect();
        drive.tape().bad = vec![bad];
        let options = InputOptions { passes_holes: true, ..InputOptions::default() };
        let mut stream = StreamInput::of_drive(drive, options);
        let ring = stream.ring();
        let to = MemoryStore::new("high");
        let outcome = deliver(&mut stream, &ring, &to, true);
        prop_assert!(outcome.stop.is_none(), "{:?}", outcome.stop);
        // Members of which no byte lies in the block, nor their headers.
        let (lost, mut at) = (bad * size..(bad + 1) * size, 0);
        for (name, content) in &layout.members {
            let end = at + 512 + content.len().next_multiple_of(512);
            let untouched = end <= lost.start || at >= lost.end;
            let digest = name.trim_start_matches("blobs/").replace('/', ":").parse::<Digest>();
            // What does not begin where a block of the TAR stream may begin is not found again behind a hole.
            if let Ok(digest) = digest && untouched && size % 512 == 0 {
                prop_assert!(to.content(&digest).is_some(), "{name} at {at} was not delivered; {lost:?} is lost");
            }
            at = end;
        }
        prop_assert!(to.tagged("v1").is_none() || outcome.tracker.lacking_below(&layout.root.digest).is_empty());
    }
}

#[test]
fn what_the_repository_has_is_not_sent_and_what_was_kept_there_completes() {
    let layout = layout();
    let to = MemoryStore::new("high");
    // A first part, cut behind the first image; and the rest, which repeats nothing.
    let (first, rest) = layout.members.split_at(6);
    let outcome = deliver_bytes(archive(first), &to, false);
    assert!(!outcome.is_complete() && to.tagged("v1").is_none());
    assert!(to.content(&layout.root.digest).is_some(), "the root waits there");
    let again: Vec<_> = layout.members[..2].iter().chain(rest).cloned().collect();
    let outcome = deliver_bytes(archive(&again), &to, false);
    assert!(outcome.is_complete(), "{:?}", outcome.lacking);
    assert!(is_whole(&to, &layout.root));
    let pushes = to.calls();
    let sent =
        |descriptor: &Descriptor| pushes.iter().filter(|call| **call == format!("push {}", descriptor.digest)).count();
    assert_eq!(layout.layers.iter().map(sent).collect::<Vec<_>>(), [1, 1, 1]);
}

#[test]
fn indexes_as_deep_as_an_archive_has_them() {
    let low = MemoryStore::new("low");
    let mut members = vec![("oci-layout".to_string(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())];
    let mut next = low.index(Vec::new());
    members.push((next.digest.path(), low.content(&next.digest).unwrap()));
    for _ in 0..3000 {
        next = low.index(vec![next]);
        members.push((next.digest.path(), low.content(&next.digest).unwrap()));
    }
    // Nothing has named any of them before the last member does.
    members.push(("index.json".into(), index_of(&[next.clone()])));
    let to = MemoryStore::new("high");
    let outcome = deliver_bytes(archive(&members), &to, false);
    assert!(outcome.is_complete(), "{:?}", outcome.stop);
    assert!(is_whole(&to, &next));
}

#[test]
fn a_copy_that_is_damaged_does_not_undo_one_that_is_whole() {
    let layout = layout();
    let mut members = layout.members.clone();
    let layer = members[4].clone();
    let damaged = (layer.0.clone(), vec![0; layer.1.len()]);
    members.splice(4..5, [layer.clone(), damaged, layer]);
    for _ in 0..20 {
        let to = MemoryStore::new("high");
        let outcome = deliver_bytes(archive(&members), &to, true);
        assert!(outcome.lacking.is_empty(), "{:?}", outcome.lacking);
        assert_eq!(to.tagged("v1"), Some(layout.root.digest.clone()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// What is a manifest to one and a layer to another is there as both, whatever comes first; what is repeated is sent once.
    #[test]
    fn a_manifest_that_is_a_layer_too(order in Just((0..6).collect::<Vec<usize>>()).prop_shuffle(), copies in 1usize..5) {
        let low = MemoryStore::new("low");
        let one = low.image(&[b"layer"]);
        let bytes = low.content(&one.digest).unwrap();
        let two = low.image(&[&bytes]);
        let root = low.index(vec![one.clone(), two.clone()]);
        let (config, layer) = (low.add("config", br#"{"os":"linux","architecture":"amd64"}"#), low.add("layer", b"layer"));
        let mut members = vec![
            ("oci-layout".to_string(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".into(), index_of(std::slice::from_ref(&root))),
        ];
        let parts = [&root, &one, &two, &config, &layer, &layer];
        for n in order {
            members.extend(std::iter::repeat_n((parts[n].digest.path(), low.content(&parts[n].digest).unwrap()), copies));
        }
        let to = MemoryStore::new("high");
        let outcome = deliver_bytes(archive(&members), &to, false);
        prop_assert!(outcome.is_complete(), "{:?} {:?}", outcome.stop, outcome.lacking);
        prop_assert!(is_whole(&to, &root));
        for blob in [&config, &layer] {
            let sent = to.calls().iter().filter(|call| **call == format!("push {}", blob.digest)).count();
            prop_assert_eq!(sent, 1);
        }
    }

    /// What is no manifest is none, though an index names it as one; and it is always told alike.
    #[test]
    fn what_is_named_a_manifest_and_is_none(content in prop::sample::select(vec![
        r#"{"os":"linux","architecture":"amd64"}"#, r#"{"config":[]}"#, r#"{"layers":[{"size":-1}]}"#, "{}", "layer",
    ])) {
        let low = MemoryStore::new("low");
        let root = low.add(media::MANIFEST, content.as_bytes());
        let members = vec![
            ("oci-layout".to_string(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".into(), index_of(std::slice::from_ref(&root))),
            (root.digest.path(), content.as_bytes().to_vec()),
        ];
        let to = MemoryStore::new("high");
        let outcome = deliver_bytes(archive(&members), &to, false);
        prop_assert!(to.tagged("v1").is_none());
        let why = outcome.lacking.get(&root.digest).and_then(|(_, why)| why.clone()).unwrap_or_default();
        prop_assert!(why.contains("manifest"), "{why:?}");
    }
}

/// Delivers by a route: the first image to both repositories, the second to the second one; again what was missed.
fn deliver_routed(members: &[(String, Vec<u8>)], to: [&MemoryStore; 2], recursive: bool) -> outcome::DeliveryOutcome {
    let make = |repository: &Repository| -> Box<dyn Target + '_> {
        Box::new(if repository == Target::repository(to[0]) { to[0] } else { to[1] })
    };
    let route = |gather: &Manifest, homes: &Homes| {
        let at = to.map(|store| homes.number(Target::repository(store)));
        let root = |n: usize, at: u32| AssignedRoot {
            descriptor: gather.manifests[n].clone(),
            bytes: None,
            at,
            tag: Some(format!("v{n}")),
            is_settled: false,
        };
        Ok(vec![root(0, at[0]), root(0, at[1]), root(1, at[1])])
    };
    let options = DeliveryOptions {
        routing: Routing::ByRoot(&route),
        recursive,
        rereads: true,
        ..options(Homes::new(&make), false)
    };
    let delivery = Delivery::new(options);
    let (_filler, ring) = ace_dt_ring::fan_out(1, 1).unwrap();
    let read = || {
        let mut source = MemorySource::new(archive(members), 600);
        delivery.read(&mut EventReader::new(&mut source, true), ReadingFrom::default(), Some(&ring)).map(drop)
    };
    let all = || {
        read()?;
        while delivery.has_missed()? {
            read()?;
        }
        Ok(())
    };
    delivery.run(None, all).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Members in any order: each image is where the route says, with all below it and nothing else, each manifest after
    /// what it refers to; and the signature where its image is, if referrers are followed.
    #[test]
    fn routed_members_in_any_order(order in Just((0..12).collect::<Vec<usize>>()).prop_shuffle(), recursive: bool) {
        let layout = gathered();
        let members: Vec<_> = order.iter().map(|n| layout.members[*n].clone()).collect();
        let to = [MemoryStore::new("a"), MemoryStore::new("b")];
        let outcome = deliver_routed(&members, [&to[0], &to[1]], recursive);
        prop_assert!(outcome.stop.is_none() && outcome.lacking.is_empty(), "{:?} {:?}", outcome.stop, outcome.lacking);
        let roots = outcome.roots.unwrap();
        prop_assert!(roots.len() == 3 && roots.iter().all(|root| root.is_tagged && root.lacking.is_empty()), "{roots:?}");
        prop_assert!(to[0].tagged("v0").is_some() && to[1].tagged("v0").is_some() && to[1].tagged("v1").is_some());
        prop_assert!(to[0].tagged("v1").is_none() && to[0].content(&layout.layers[2].digest).is_none());
        prop_assert!(to[0].content(&layout.root.digest).is_none(), "what gathers them is nobody's image");
        let manifests = |store: &MemoryStore| store.calls().iter().filter(|call| call.starts_with("manifest")).count();
        let signed = usize::from(recursive);
        prop_assert_eq!([manifests(&to[0]), manifests(&to[1])], [1 + signed, 2 + signed]);
        for store in &to {
            // But for the empty blob, which shows whether a registry mounts.
            let empty = format!("push {}", Digest::of(b"{}"));
            let is_sent = |call: &String| call.starts_with("push") && *call != empty;
            let mut sent: Vec<String> = store.calls().into_iter().filter(is_sent).collect();
            let count = sent.len();
            sent.sort();
            sent.dedup();
            prop_assert_eq!(sent.len(), count, "nothing is sent twice to one place");
        }
    }

    /// Any member missing or damaged: no tag on what is not whole, and without --continue none at all.
    #[test]
    fn routed_and_not_whole(victim in 3usize..12, damages: bool) {
        // The empty blob shows whether a registry mounts, and so is there.
        prop_assume!(victim != 8);
        let layout = gathered();
        let mut members = layout.members.clone();
        if damages { members[victim].1[0] ^= 1 } else { drop(members.remove(victim)) }
        let to = [MemoryStore::new("a"), MemoryStore::new("b")];
        let outcome = deliver_routed(&members, [&to[0], &to[1]], true);
        prop_assert!(outcome.stop.is_some() || !outcome.lacking.is_empty(), "something is missing");
        let tags = [to[0].tagged("v0"), to[1].tagged("v0"), to[1].tagged("v1")];
        prop_assert!(tags.iter().all(Option::is_none), "{tags:?}");
    }
}
