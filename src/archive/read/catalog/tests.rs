//! The catalog over blobs in memory.

use super::*;
use crate::archive::read::{document, images::ImageWalk};

/// Notes a blob, and returns its descriptor.
fn add(catalog: &mut Catalog, media_type: &str, bytes: &[u8]) -> Descriptor {
    let descriptor = Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64);
    let held = HeldBlob { size: descriptor.size, place: StreamPosition::default(), end: 0, sound: true };
    catalog.blob(&descriptor.digest, held, document::parse(bytes)).unwrap();
    descriptor
}

fn image(catalog: &mut Catalog, layers: &[Descriptor]) -> Descriptor {
    let config = add(catalog, media::CONFIG, br#"{"os":"linux","architecture":"arm64"}"#);
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media::MANIFEST, "config": config, "layers": layers,
    });
    add(catalog, media::MANIFEST, manifest.to_string().as_bytes())
}

fn index(manifests: &[Descriptor]) -> Vec<u8> {
    serde_json::json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": manifests}).to_string().into()
}

fn flaws(catalog: &Catalog) -> Vec<String> {
    let mut flaws = Vec::new();
    catalog.check(&Elsewhere::default(), &mut |flaw| flaws.push(flaw.text));
    flaws
}

#[test]
fn an_image_is_told_with_its_name_platform_and_size() {
    let mut catalog = Catalog::default();
    let layer = add(&mut catalog, "layer", &[7; 100]);
    let mut named = image(&mut catalog, std::slice::from_ref(&layer));
    named.annotations.insert(crate::oci::annotation::REF_NAME.into(), "reg.io/app:v1".into());
    catalog.lists.set_index(&index(&[named.clone()])).unwrap();
    let [image] = &catalog.images()[..] else { panic!() };
    assert_eq!(image.reference.as_deref(), Some("reg.io/app:v1"));
    assert_eq!(image.platform.as_deref(), Some("linux/arm64"), "by its configuration");
    assert_eq!(image.size, Some(named.size + 100 + 37));
    assert!(flaws(&catalog).is_empty());
    let gone = HashSet::from([named.digest.clone(), layer.digest.clone(), Digest::of(b"elsewhere")]);
    let mut walk = ImageWalk::new(&catalog, &[]);
    let gone = walk.marked(&gone);
    assert_eq!(walk.count_below(&named.digest, &gone), 2);
}

#[test]
fn claims_are_compared_with_what_is_there() {
    let mut catalog = Catalog::default();
    let layer = add(&mut catalog, "layer", b"layer");
    let gone = Descriptor::new("layer", Digest::of(b"gone"), 4);
    let liar = Descriptor { size: 99, ..layer };
    let root = image(&mut catalog, &[liar, gone.clone()]);
    catalog.lists.set_index(&index(&[root.clone(), root])).unwrap();
    let flaws = flaws(&catalog);
    assert_eq!(flaws.len(), 2, "each digest is told of once: {flaws:?}");
    assert!(flaws.iter().any(|text| text.contains("has 5 bytes, and") && text.contains("says 99")), "{flaws:?}");
    assert!(flaws.iter().any(|text| text.contains(&gone.digest.to_string())), "{flaws:?}");
    let mut left = Vec::new();
    let listed = HashSet::from([gone.digest.clone()]);
    let elsewhere = Elsewhere { listed: Some(&listed), ..Elsewhere::default() };
    catalog.check(&elsewhere, &mut |flaw| left.push(flaw.text));
    assert_eq!(left.len(), 1, "what is elsewhere is not missing");
}

#[test]
fn a_blob_that_is_no_manifest_and_one_of_another_type_are_told() {
    let mut catalog = Catalog::default();
    let layer = add(&mut catalog, "layer", b"layer");
    let image = image(&mut catalog, &[]);
    let as_manifest = Descriptor { media_type: media::MANIFEST.into(), ..layer };
    let as_docker = Descriptor { media_type: media::DOCKER_MANIFEST.into(), ..image };
    catalog.lists.set_index(&index(&[as_manifest, as_docker])).unwrap();
    let flaws = flaws(&catalog);
    assert!(flaws.iter().any(|text| text.contains("is no manifest")), "{flaws:?}");
    assert!(flaws.iter().any(|text| text.contains("says it is") && text.contains("docker")), "{flaws:?}");
}

#[test]
fn what_was_only_found_is_wanted_when_something_refers_to_it() {
    let mut catalog = Catalog::default();
    let bytes = index(&[]);
    let root = Descriptor::new(media::INDEX, Digest::of(&bytes), bytes.len() as u64);
    let held = HeldBlob { size: root.size, place: StreamPosition::default(), end: 0, sound: true };
    catalog.blob(&root.digest, held, None).unwrap();
    assert!(catalog.unread().is_empty());
    catalog.lists.set_index(&index(std::slice::from_ref(&root))).unwrap();
    assert_eq!(catalog.unread(), std::slice::from_ref(&root.digest));
    catalog.document(&root.digest, document::parse(&bytes)).unwrap();
    assert!(catalog.unread().is_empty());
}
