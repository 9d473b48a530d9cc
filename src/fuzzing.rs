//! What `make fuzz` runs: whatever comes from outside, given any bytes. Only there in builds for fuzzing.

use std::{path::Path, sync::atomic::AtomicU64};

use crate::{
    archive::{
        checkpoint,
        read::{
            catalog::{Catalog, Elsewhere},
            finding::Finding,
            images::ImageWalk,
            scan::Scanner,
        },
    },
    config,
    gather::sources,
    mapper::{MapFile, MapTemplate, selector},
    media::{
        memory_source::MemorySource,
        tape::{
            mtio::ScsiFailure,
            scsi::{
                command::ScsiCommand,
                facts::{DriveFacts, ScsiDevice},
            },
        },
    },
    oci::{Descriptor, Digest, Reference, annotation, media},
    registry::{
        auth::{challenge::Challenge, docker_config::Credentials},
        transport::http::next_page,
    },
    serve::{
        http::{self, Part, RequestReader},
        library::Library,
        routes,
    },
    shards::plan_file::SharedPlan,
};

/// A TAR stream, its members, and what they refer to: it ends, and counts no byte twice.
pub fn walk(data: &[u8]) {
    let (mut catalog, read, mut told) = (Catalog::default(), AtomicU64::new(0), 0);
    let mut source = MemorySource::new(data.to_vec(), data.len().max(1));
    let mut tell = |finding: Finding| {
        assert!(!finding.text.is_empty());
        told += 1;
    };
    let mut scanner = Scanner { deep: true, share: None, passes_holes: false, tell: &mut tell, read: &read };
    let Ok(end) = scanner.stream(&mut source, &mut catalog) else { return };
    assert!(read.into_inner() <= data.len() as u64, "more was read than there is");
    assert!(end.end.is_none_or(|end| end <= data.len() as u64), "it ends behind its end");
    assert!(catalog.bytes() <= data.len() as u64, "its blobs have more bytes than it");
    // One that is no archive is told of.
    assert!(told > 0 || end.end.is_some(), "nothing is wrong with what is no archive");
    let mut missing = 0;
    let reached = catalog.check(&Elsewhere::default(), &mut |_| missing += 1);
    assert!(missing <= 2 * data.len(), "more is missing than it can name");
    catalog.check_lists(&|_| false, &mut |text| assert!(!text.is_empty()));
    let mut walk = ImageWalk::new(&catalog, &[]);
    let marks = walk.marked(&reached);
    for image in catalog.images() {
        walk.count_below(&image.digest, &marks);
    }
}

/// A checkpoint: its records lie one behind the other.
pub fn checkpoint(data: &[u8]) {
    let Ok((records, _)) = checkpoint::parse_all(data, Path::new("checkpoint")) else { return };
    assert!(records.iter().all(|record| record.end <= data.len() as u64));
    assert!(records.windows(2).all(|pair| pair[0].end < pair[1].end));
}

/// A reference: what is read from one is a reference to the same.
pub fn reference(data: &[u8]) {
    let Some(reference) = std::str::from_utf8(data).ok().and_then(|text| text.parse::<Reference>().ok()) else {
        return;
    };
    let again: Reference = format!("{}:{}", reference.repository, reference.tag.as_deref().unwrap_or("v1"))
        .parse()
        .expect("its parts make a reference");
    assert_eq!(again.repository, reference.repository);
}

/// A sources file: each source is a line.
pub fn sources_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match sources::parse(text) {
        Ok(sources) => assert!(sources.len() <= text.lines().count()),
        Err(why) => assert!(why.contains("line ")),
    }
}

/// A configuration file.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // The parser of YAML takes time that grows with depth, and files are written by people.
    if text.len() < 4096
        && let Ok(file) = config::parse(text, &mut |key| assert!(!key.is_empty()))
    {
        let _ = config::resolve(file).map_err(|e| assert!(!e.to_string().is_empty()));
    }
}

/// An auth file: no secret is in an error.
pub fn auth_file(data: &[u8]) {
    let Ok(credentials) = Credentials::of_text(data) else { return };
    // A helper is a program, and none is run here.
    if !data.windows(4).any(|window| window.eq_ignore_ascii_case(b"cred")) && !data.contains(&b'\\') {
        let _ = credentials.find("reg.example.com", "team/app");
    }
}

/// A challenge: as many as there are commas, at the most.
pub fn challenge(data: &[u8]) {
    let Ok(header) = std::str::from_utf8(data) else { return };
    assert!(Challenge::all(header).len() <= 1 + header.matches(',').count());
}

/// A `Link` header: the next page is a part of it.
pub fn link(data: &[u8]) {
    let Ok(header) = std::str::from_utf8(data) else { return };
    if let Some(next) = next_page(header) {
        assert!(header.contains(&next));
    }
}

/// A template: it is refused or executed, within its bounds, and never brings the program down.
pub fn template(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(template) = MapTemplate::parse(Path::new("t.tmpl"), text) else { return };
    let mut descriptor = Descriptor::new(media::MANIFEST, Digest::of(b""), 7);
    descriptor.annotations.insert(annotation::SOURCE.into(), "reg.example.com/team/app:v1".into());
    descriptor.annotations.insert(annotation::LABELS.into(), r#"{"env":"prod"}"#.into());
    match template.destinations(&descriptor) {
        Ok(destinations) => assert!(destinations.iter().all(|line| !line.trim().is_empty() && !line.contains('\n'))),
        Err(why) => assert!(why.starts_with("line ") && why.len() < 4096, "{why}"),
    }
}

/// The file of a mapper, and selectors: every line that is wrong is named.
pub fn map(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match MapFile::parse(Path::new("map.csv"), text) {
        Ok(map) => {
            let name = "reg.example.com/team/app:v1";
            assert!(map.prefixes(name).all(|(prefix, to)| name.starts_with(prefix) && to.line.is_some()));
        }
        Err(why) => assert!(why.contains("line "), "{why}"),
    }
    if let Ok(selectors) = selector::parse_list(text) {
        assert!(!selectors.is_empty());
    }
}

/// Requests on a connection: each is one, or refused, and what it asks for is text without control characters; no byte of a
/// body is taken for a request.
pub fn request(data: &[u8]) {
    let (mut reader, mut from, mut requests) = (RequestReader::default(), data, 0);
    while let Ok(Some(read)) = reader.next(&mut from) {
        requests += 1;
        assert!(requests <= data.len(), "more requests than bytes");
        let Ok(request) = read else { return };
        assert!(request.path.starts_with('/') && !request.path.chars().any(char::is_control));
        for size in [0, 1, 10, u64::MAX] {
            match http::part_of(request.field("range"), size) {
                Part::Bytes(from, len) => assert!(len > 0 && from.checked_add(len).is_some_and(|end| end <= size)),
                Part::Whole | Part::Nothing => {}
            }
        }
        let answer = routes::answer(&Library::default(), &request);
        let mut head = Vec::new();
        answer.head.write(&mut head, answer.body.len(), false).unwrap();
        assert!(head.ends_with(b"\r\n\r\n") && !head[..head.len() - 4].windows(4).any(|w| w == b"\r\n\r\n"));
        if request.refusal().is_some() {
            return;
        }
    }
}

/// A drive that answers this to whatever it is asked: what is read of it ends.
pub fn drive(data: &[u8]) {
    struct Same<'a>(&'a [u8]);

    impl ScsiDevice for Same<'_> {
        fn ask(&self, command: &ScsiCommand) -> Result<Vec<u8>, ScsiFailure> {
            Ok(self.0[..self.0.len().min(command.room)].to_vec())
        }
    }

    let facts = DriveFacts::of(&Same(data));
    assert!(facts.alerts.iter().flatten().all(|alert| (1..=64).contains(&alert.number)));
}

/// A plan of shards: what is read of it agrees with itself.
pub fn plan(data: &[u8]) {
    let Ok(shared) = SharedPlan::parse(data) else { return };
    let sources: usize = (1..=shared.count()).filter_map(|shard| Some(shared.sources(shard).ok()?.len())).sum();
    assert!(sources <= shared.plan.sources.len());
}
