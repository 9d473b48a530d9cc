//! Labels: a block in front of each volume that says which one it is, so that volumes cannot be mixed
//! up when they are read.

use crate::error::{Error, Result};

/// In a label's header, the field for the owner's name: it tells a label of ours from other members.
const OWNER: &[u8] = b"ace-dt";

/// A volume's label: its text, which volume it is, and the bytes of its block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The same on all volumes of a series.
    pub text: String,
    /// Counted from 1.
    pub volume: usize,
    /// Bytes of the block, 512 at the least.
    pub size: u64,
}

/// A block that begins a volume: the header of a TAR member of the type that GNU tar has for a
/// volume's name (`V`), which TAR readers leave out, with zeros as its content up to `size` bytes
/// (512 at the least).
pub fn label_block(text: &str, volume: usize, size: usize) -> Vec<u8> {
    let size = size.max(512);
    let mut header = tar::Header::new_gnu();
    let name = format!("{text} Volume {volume}");
    let name = &name.as_bytes()[..name.len().min(99)];
    header.as_gnu_mut().expect("made as GNU's").name[..name.len()].copy_from_slice(name);
    header.set_entry_type(tar::EntryType::new(b'V'));
    header.set_mode(0o444);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size((size - 512) as u64);
    header.as_gnu_mut().expect("made as GNU's").uname[..OWNER.len()].copy_from_slice(OWNER);
    header.set_cksum();
    let mut block = header.as_bytes().to_vec();
    block.resize(size, 0);
    block
}

impl Label {
    /// The label of ours that begins with these bytes, if there is one.
    pub fn read(bytes: &[u8]) -> Option<Label> {
        let block: &[u8; 512] = bytes.first_chunk()?;
        let header = tar::Header::from_byte_slice(block);
        let owner = header.username_bytes()?;
        if block[156] != b'V' || !owner.starts_with(OWNER) || !is_summed(header) {
            return None;
        }
        let name = String::from_utf8_lossy(&header.path_bytes()).into_owned();
        let (text, volume) = name.rsplit_once(" Volume ")?;
        Some(Label { text: text.into(), volume: volume.parse().ok()?, size: 512 + header.entry_size().ok()? })
    }

    /// Whether it is that of volume `volume`, and of the same series as those before; the first sets
    /// the series.
    ///
    /// # Errors
    /// If it is not, with what is wanted and what this is.
    pub fn check(&self, volume: usize, series: &mut Option<String>) -> Result<()> {
        let series = series.get_or_insert_with(|| self.text.clone());
        if self.volume == volume && self.text == *series {
            return Ok(());
        }
        let why =
            format!("volume {volume} of {series:?} is wanted, and this is volume {} of {:?}", self.volume, self.text);
        Err(Error::new(why))
    }
}

fn is_summed(header: &tar::Header) -> bool {
    let mut again = header.clone();
    again.set_cksum();
    header.cksum().is_ok_and(|sum| again.cksum().is_ok_and(|other| sum == other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_back() {
        for size in [0, 512, 65536] {
            let block = label_block("week 48", 3, size);
            assert_eq!(block.len(), size.max(512));
            let label = Label { text: "week 48".into(), volume: 3, size: block.len() as u64 };
            assert_eq!(Label::read(&block), Some(label));
        }
        let mut block = label_block("a", 1, 512);
        block[3] ^= 1;
        assert_eq!(Label::read(&block), None);
        assert_eq!(Label::read(&[0; 512]), None);
    }

    #[test]
    fn a_label_of_another_series_or_volume_is_refused() {
        let label = |text: &str, volume| Label { text: text.into(), volume, size: 512 };
        let mut series = None;
        assert!(label("week", 1).check(1, &mut series).is_ok());
        assert!(label("week", 2).check(2, &mut series).is_ok());
        assert!(label("week", 2).check(3, &mut series).unwrap_err().to_string().contains("volume 3 of \"week\""));
        assert!(label("day", 3).check(3, &mut series).is_err());
    }
}
