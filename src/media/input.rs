//! What an archive is read from: files, tapes and pipes, one behind the other.
//!
//! Regular files can be read at any place ([`Files`]). All else is a [`StreamInput`]. What ends in the
//! middle of an archive goes on with the next file, or with the next volume in the same drive.

use std::{
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    compression::Format,
    error::{Context, Error, Result},
    fd,
    media::{
        files::{Files, label_of},
        stream_input::{InputOptions, StreamInput},
    },
};

/// An input that is open.
pub enum Input {
    /// Regular files, which can be read at any place.
    Files(Arc<Files>),
    /// Anything else.
    Stream(Box<StreamInput>),
}

impl Input {
    /// Opens what is named; `-` is standard input. Uncompressed regular files can be read at any place.
    ///
    /// # Errors
    /// If one cannot be opened or is a directory, or volumes do not belong together.
    pub fn open(paths: &[PathBuf], options: InputOptions) -> Result<Input> {
        let mut plain = true;
        for path in paths.iter().filter(|path| *path != Path::new("-")) {
            let opening = || format!("opening {path:?}");
            let meta = std::fs::metadata(path).doing(opening)?;
            if meta.is_dir() {
                return Err(Error::new("it is a directory").doing(opening()));
            }
            if meta.is_file() {
                let mut magic = [0; 4];
                let file = fd::open_to_read(path).doing(opening)?;
                let read = file.read_at(&mut magic, label_of(&file).map_or(0, |label| label.size));
                plain &= read.map(|n| Format::of(&magic[..n]).is_none()).doing(opening)?;
            } else {
                plain = false;
            }
        }
        match plain && !paths.iter().any(|path| path == Path::new("-")) {
            true => Ok(Input::Files(Arc::new(Files::open(paths)?))),
            false => Ok(Input::Stream(Box::new(StreamInput::start(paths.to_vec(), options)?))),
        }
    }
}
