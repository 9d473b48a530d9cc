//! Events of archives in memory and in files.

use std::{fs, thread};

use super::*;
use crate::{
    archive::tar_header,
    media::{files::Files, files_cursor::FilesCursor, memory_source::MemorySource},
    oci::media,
    util::scratch::Scratch,
};

fn put(archive: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    archive.extend(tar_header::file(name, bytes.len() as u64));
    archive.extend(bytes);
    archive.resize(archive.len().next_multiple_of(512), 0);
}

/// A layout with a manifest, a configuration, a layer of 5,000 bytes and an empty blob.
fn archive() -> Vec<u8> {
    let mut all = Vec::new();
    put(&mut all, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    put(&mut all, "index.json", br#"{"schemaVersion":2,"manifests":[]}"#);
    let manifest = format!(r#"{{"schemaVersion":2,"mediaType":"{}","layers":[]}}"#, media::MANIFEST);
    for blob in [manifest.as_bytes(), br#"{"os":"linux","architecture":"amd64"}"#, &[7; 5000], b""] {
        put(&mut all, &Digest::of(blob).path(), blob);
    }
    all.resize(all.len() + 1024, 0);
    all
}

/// What events say, a word each; the parts of a blob are put together.
fn words(reader: &mut EventReader) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    loop {
        words.push(match reader.next_event().unwrap() {
            Event::Layout(file) => format!("layout {}", file.bytes.unwrap().len()),
            Event::Index(file) => format!("index {}", file.bytes.unwrap().len()),
            Event::DockerIndex(_) => "docker".into(),
            Event::Manifest(event) => match event.document {
                Document::Manifest(_, bytes) => format!("manifest {bytes}"),
                Document::Config(platform) => format!("config {platform}"),
            },
            Event::Blob(event) if !event.is_last() => continue,
            Event::Blob(event) => format!("blob {}", event.blob.size),
            Event::Fault(finding) => format!("fault {}", finding.text),
            Event::End(end) => {
                words.push(format!("end {:?}", end.end));
                return words;
            }
        });
    }
}

fn wanted(end: usize) -> Vec<String> {
    let words = ["layout 30", "index 34", "manifest 88", "config linux/amd64", "blob 5000", "blob 0"];
    words.iter().map(|word| word.to_string()).chain([format!("end Some({end})")]).collect()
}

#[test]
fn a_stream_gives_its_events_whatever_its_pieces() {
    let archive = archive();
    for step in [1, 7, 512, 4096, usize::MAX / 2] {
        let mut stream = MemorySource::new(archive.clone(), step);
        let mut reader = EventReader::new(&mut stream, true);
        assert_eq!(words(&mut reader), wanted(archive.len()), "{step}");
        assert!(matches!(reader.next_event(), Ok(Event::End(_))), "after the end, the end again");
    }
}

#[test]
fn files_give_blobs_as_windows_that_nobody_has_read() {
    let (dir, archive) = (Scratch::new(), archive());
    fs::write(dir.join("a.tar"), &archive).unwrap();
    let files = Arc::new(Files::open(&[dir.join("a.tar")]).unwrap());
    let mut cursor = FilesCursor::new(files.clone(), 0);
    assert_eq!(words(&mut EventReader::new(&mut cursor, true)), wanted(archive.len()));
    let mut cursor = FilesCursor::new(files, 0);
    let mut reader = EventReader::new(&mut cursor, false);
    let mut sizes = Vec::new();
    while let event = reader.next_event().unwrap()
        && !matches!(event, Event::End(_))
    {
        if let Event::Blob(event) = event {
            assert!(event.is_whole() && (event.window.is_empty() || event.window.in_memory().is_none()));
            sizes.push(event.window.len());
        }
    }
    assert_eq!(sizes, [88, 37, 5000, 0], "without documents all blobs are alike");
}

#[test]
fn windows_outlive_the_reader_and_go_to_other_threads() {
    let mut windows = Vec::new();
    {
        let mut stream = MemorySource::new(archive(), 1000);
        let mut reader = EventReader::new(&mut stream, true);
        while let event = reader.next_event().unwrap()
            && !matches!(event, Event::End(_))
        {
            if let Event::Blob(event) = event
                && event.blob.size == 5000
            {
                assert_eq!(event.at, windows.iter().map(Window::len).sum::<u64>());
                windows.push(event.window);
            }
        }
    }
    assert!(windows.len() > 1);
    let bytes =
        thread::spawn(move || windows.iter().flat_map(|w| w.in_memory().unwrap().to_vec()).collect::<Vec<u8>>());
    assert_eq!(bytes.join().unwrap(), [7; 5000]);
}

#[test]
fn faults_are_events_and_what_follows_is_found() {
    let mut archive = archive();
    let damaged = archive.windows(5000).position(|bytes| bytes == [7; 5000]).unwrap() - 512;
    archive[damaged] ^= 1;
    let mut stream = MemorySource::new(archive.clone(), 512);
    let found = words(&mut EventReader::new(&mut stream, true));
    assert!(found.iter().any(|word| word.starts_with("fault at offset") && word.contains("no header")), "{found:?}");
    assert!(found.contains(&"blob 0".to_string()) && !found.contains(&"blob 5000".to_string()), "{found:?}");

    archive[damaged] ^= 1;
    let mut stream = MemorySource::new(archive[..damaged + 600].to_vec(), 512);
    let found = words(&mut EventReader::new(&mut stream, true));
    assert!(found[4].contains("the archive ends at offset") && found[4].contains("breaks off"), "{found:?}");
    assert_eq!(found[5], "end None");

    archive.extend([1; 512]);
    let mut stream = MemorySource::new(archive, 512);
    let found = words(&mut EventReader::new(&mut stream, true));
    assert!(found[6].contains("stands something that no TAR reader sees"), "{found:?}");
}
