//! A destination, opened by its name: found out what it is, and made a [`Sink`].

use std::{
    io::IsTerminal,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

use crate::{
    error::{Context, Error, Result},
    fd,
    media::{
        file_sink::{FileSink, MediumKind},
        sink::Sink,
        tape::{
            drive::{StDrive, open_node},
            mtio,
            sink::{DriveLoader, TapeOptions, TapeSink},
        },
    },
    owned_file::OwnedFile,
    util::units::grouped,
};

/// A destination that is open for writing. Nothing is written or cut yet.
pub struct Destination {
    file: OwnedFile,
    kind: MediumKind,
    name: String,
    /// Its name in the file system; standard output has none.
    path: Option<PathBuf>,
}

impl Destination {
    /// Standard output.
    ///
    /// # Errors
    /// If it is closed, a terminal, or a file that somebody else writes.
    pub fn stdout() -> Result<Destination> {
        let out = fd::stdout()?;
        if out.is_terminal() {
            return Err(Error::usage("standard output is a terminal").hint("redirect it to a file or a pipe"));
        }
        let out = OwnedFile::of(out).doing(|| "opening standard output")?;
        Destination::new(out, "standard output".into(), None)
    }

    /// Opens `path`, creating a regular file if nothing is there.
    ///
    /// # Errors
    /// If it cannot be opened, or somebody else writes it. A regular file that is not empty is refused
    /// without `force`.
    pub fn open(path: &Path, force: bool) -> Result<Destination> {
        let opening = || format!("opening the destination {path:?}");
        let file = match std::fs::metadata(path) {
            // What is on a tape is looked at before it is written over.
            Ok(there) if mtio::is_tape(&there) => open_node(path, OFlag::O_RDWR).and_then(OwnedFile::of),
            _ => OwnedFile::open(path),
        };
        let file = file.doing(opening)?;
        let meta = file.metadata().doing(opening)?;
        if meta.is_file() && meta.len() > 0 && !force {
            let why = format!("it holds {} bytes already", grouped(meta.len()));
            return Err(Error::new(why).doing(opening()).hint("--force writes over it"));
        }
        Destination::new(file, format!("{path:?}"), Some(path.into()))
    }

    /// Opens the regular file at `path`, to go on with what it holds.
    ///
    /// # Errors
    /// If it cannot be opened, is no regular file, or somebody else writes it.
    pub fn reopen(path: &Path) -> Result<Destination> {
        let opening = || format!("opening the destination {path:?}");
        let file = OwnedFile::open(path).doing(opening)?;
        let destination = Destination::new(file, format!("{path:?}"), Some(path.into()))?;
        match destination.kind {
            MediumKind::File => Ok(destination),
            _ => Err(Error::new("it is no regular file, and only such can be resumed").doing(opening())),
        }
    }

    fn new(file: OwnedFile, name: String, path: Option<PathBuf>) -> Result<Destination> {
        let meta = file.metadata().doing(|| format!("examining {name}"))?;
        let kind = match meta.file_type() {
            t if t.is_file() => MediumKind::File,
            t if t.is_block_device() => MediumKind::BlockDevice,
            _ if mtio::is_tape(&meta) => MediumKind::Tape,
            _ => MediumKind::Stream,
        };
        Ok(Destination { file, kind, name, path })
    }

    /// What it is.
    pub fn kind(&self) -> MediumKind {
        self.kind
    }

    /// What takes the blocks. A tape can be changed if its drive has a name.
    pub fn into_sink(self, options: TapeOptions) -> Box<dyn Sink> {
        if self.kind == MediumKind::Tape {
            let loader = self.path.map(|path| DriveLoader::boxed(path, options.changer.clone()));
            return Box::new(TapeSink::new(Box::new(StDrive::new(self.file.into_file())), loader, self.name, options));
        }
        let is_ours = self.path.is_some();
        Box::new(FileSink::new(self.file, self.kind, self.name, is_ours))
    }
}
