//! TAR headers as Go's `archive/tar` writes them: USTAR, with a PAX extended header before it
//! where a size (8 GiB and more) or a name (over 100 characters) does not fit.

use tar::{EntryType, Header};

use crate::archive::TAR_BLOCK;

/// The largest size that eleven octal digits hold.
const USTAR_SIZE_MAX: u64 = 0o77_777_777_777;
const USTAR_NAME_MAX: usize = 100;

/// The header of a regular file: one block, or three with a PAX extended header.
pub fn file(name: &str, size: u64) -> Vec<u8> {
    let mut records = String::new();
    if name.len() > USTAR_NAME_MAX {
        record(&mut records, "path", name);
    }
    if size > USTAR_SIZE_MAX {
        record(&mut records, "size", &size.to_string());
    }
    let mut out = Vec::with_capacity(3 * TAR_BLOCK as usize);
    if !records.is_empty() {
        let (dir, base) = name.rsplit_once('/').unwrap_or(("", name));
        let pax = format!("{dir}/PaxHeaders.0/{base}");
        out.extend(block(&pax, records.len() as u64, EntryType::XHeader, 0));
        out.extend_from_slice(records.as_bytes());
        out.resize(out.len().next_multiple_of(TAR_BLOCK as usize), 0);
    }
    // A reader that knows PAX takes the size from there; Go writes zero here.
    let size = if size > USTAR_SIZE_MAX { 0 } else { size };
    out.extend(block(name, size, EntryType::Regular, 0o666));
    out
}

/// The header of a directory, without a trailing slash, as the format has it.
pub fn directory(name: &str) -> Vec<u8> {
    block(name, 0, EntryType::Directory, 0o777).to_vec()
}

/// `length key=value\n`, where the length counts itself.
fn record(out: &mut String, key: &str, value: &str) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    out.push_str(&format!("{len} {key}={value}\n"));
}

fn block(name: &str, size: u64, kind: EntryType, mode: u32) -> [u8; 512] {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    let ustar = header.as_ustar_mut().expect("made as USTAR");
    let name = &name.as_bytes()[..name.len().min(USTAR_NAME_MAX)];
    ustar.name[..name.len()].copy_from_slice(name);
    if kind != EntryType::XHeader {
        ustar.set_device_major(0);
        ustar.set_device_minor(0);
    }
    // The checksum field counts as spaces; Go writes six digits, NUL, space.
    ustar.cksum = *b"        ";
    let sum: u32 = header.as_bytes().iter().map(|&b| u32::from(b)).sum();
    let digits = format!("{sum:06o}\0 ");
    header.as_ustar_mut().expect("made as USTAR").cksum.copy_from_slice(digits.as_bytes());
    *header.as_bytes()
}
