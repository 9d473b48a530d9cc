//! What people have in the place of an archive that is TAR, or TAR in zstd or gzip: named by its first bytes.

/// Files that other systems leave in directories: AppleDouble files and folder settings.
const LEFT_BEHIND: [&str; 4] = [".DS_Store", "Thumbs.db", "desktop.ini", "lost+found"];

/// What an archive is that has a `manifest.json` and no layout, and what to do with it.
pub const DOCKER_ARCHIVE: &str = "it is a docker-archive, as docker save, podman save and crane write it, and no image layout; \
    skopeo copy docker-archive:FILE oci-archive:FILE makes one";

/// What begins with these bytes, and what to do with it; `None` if nobody knows.
pub fn named(bytes: &[u8]) -> Option<&'static str> {
    Some(match bytes {
        [0xFD, b'7', b'z', b'X', b'Z', 0, ..] => "it is compressed by xz; xz -dc FILE gives the archive",
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => "it is compressed by bzip2; bzip2 -dc FILE gives the archive",
        [0x04, 0x22, 0x4D, 0x18, ..] | [0x02, 0x21, 0x4C, 0x18, ..] => {
            "it is compressed by lz4; lz4 -dc FILE gives the archive"
        }
        [b'L', b'Z', b'I', b'P', ..] => "it is compressed by lzip; lzip -dc FILE gives the archive",
        [0x5D, 0, 0, _, _, ..] => "it is compressed by lzma; xz -dc FILE gives the archive",
        [0x89, b'L', b'Z', b'O', 0, ..] => "it is compressed by lzop; lzop -dc FILE gives the archive",
        [0x1F, 0x9D, ..] => "it is compressed by compress; gzip -dc FILE gives the archive",
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => "it is a zip archive, not a TAR archive",
        [b'7', b'z', 0xBC, 0xAF, 0x27, 0x1C, ..] => "it is a 7z archive, not a TAR archive",
        [b'R', b'a', b'r', b'!', ..] => "it is a RAR archive, not a TAR archive",
        [b'h', b's', b'q', b's', ..] => "it is a squashfs image, not a TAR archive",
        [b'0', b'7', b'0', b'7', b'0', b'1' | b'2' | b'7', ..] => "it is a cpio archive, not a TAR archive",
        [0x7F, b'E', b'L', b'F', ..] => "it is a program, not a TAR archive",
        [b'{', ..] => "it is JSON, not a TAR archive: a checkpoint, perhaps",
        [b'<', ..] => "it is a page in HTML or XML, not a TAR archive",
        // A header of TAR has NULs.
        _ if is_text(bytes) => "it is text, not a TAR archive",
        _ => return None,
    })
}

/// Whether a docker-archive begins with a member of this name: a configuration, or a layer or its directory, is called by a
/// digest, and nothing of the archives of this tool is.
pub fn begins_docker_archive(name: &str) -> bool {
    let hex = name.trim_start_matches("sha256:");
    let digits = hex.bytes().take_while(u8::is_ascii_hexdigit).count();
    digits == 64 && (hex.len() < name.len() || hex[digits..].starts_with(['.', '/']))
}

fn is_text(bytes: &[u8]) -> bool {
    let is_plain = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..);
    bytes.len() >= 512 && bytes[..512].iter().all(is_plain)
}

/// Whether a file of this name is one that another system leaves in every directory.
pub fn is_left_behind(name: &str) -> bool {
    name.starts_with("._") || LEFT_BEHIND.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_archives_begin_with_a_digest() {
        let hex = "0123456789abcdef".repeat(4);
        for end in [".json", ".tar", ".tar.gz", "/", "/layer.tar"] {
            assert!(begins_docker_archive(&format!("{hex}{end}")), "{end}");
        }
        assert!(begins_docker_archive(&format!("sha256:{hex}")));
        for none in [&hex[..], &hex[1..], "blobs/sha256/", "index.json", "", "sha256:"] {
            assert!(!begins_docker_archive(none), "{none}");
        }
    }

    #[test]
    fn formats_are_named() {
        for (bytes, name) in [
            (&b"\xfd7zXZ\0rest"[..], "xz"),
            (b"BZh9", "bzip2"),
            (b"\x04\x22\x4d\x18", "lz4"),
            (b"PK\x03\x04", "zip"),
            (b"<!DOCTYPE html>", "HTML"),
        ] {
            assert!(named(bytes).unwrap().contains(name), "{name}");
        }
        assert!(named(&[b'a'; 600]).unwrap().contains("text"));
        for none in [&b""[..], b"blobs/", b"oci-layout", b"BZh0", b"\0\0\0\0"] {
            assert_eq!(named(none), None);
        }
    }
}
