//! A destination, opened by its name: found out what it is, and made a [`Sink`].

use std::{
    fs::File,
    io::{self, IsTerminal},
    os::{fd::AsFd, unix::fs::FileTypeExt},
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

use crate::{
    error::{Context, Error, Result},
    media::{
        fd,
        file_sink::{CreatedFile, FileSink, MediumKind},
        sink::Sink,
        tape::{
            drive::StDrive,
            mtio,
            sink::{DriveLoader, TapeOptions, TapeSink},
        },
    },
    util::units::grouped,
};

/// A destination that is open for writing. Nothing is written or cut yet.
pub struct Destination {
    file: File,
    kind: MediumKind,
    name: String,
    /// Its name in the file system; standard output has none.
    path: Option<PathBuf>,
    /// An empty file that was made for it.
    created: Option<CreatedFile>,
}

impl Destination {
    /// Standard output.
    ///
    /// # Errors
    /// If it is a terminal, or cannot be duplicated.
    pub fn stdout() -> Result<Destination> {
        let out = io::stdout();
        if out.is_terminal() {
            return Err(Error::usage("standard output is a terminal").hint("redirect it to a file or a pipe"));
        }
        let fd = out.as_fd().try_clone_to_owned().doing(|| "opening standard output")?;
        Destination::new(File::from(fd), "standard output".into(), None)
    }

    /// Opens `path`, creating a regular file if nothing is there.
    ///
    /// # Errors
    /// If it cannot be opened. A regular file that is not empty is refused without `force`.
    pub fn open(path: &Path, force: bool) -> Result<Destination> {
        let opening = || format!("opening the destination {path:?}");
        let before = std::fs::metadata(path);
        if let Ok(meta) = &before
            && meta.is_file()
            && meta.len() > 0
            && !force
        {
            let why = format!(
                "it holds {} bytes already, and a second archive behind the first would be invisible",
                grouped(meta.len())
            );
            return Err(Error::new(why).doing(opening()).hint("--force writes over it"));
        }
        let file = fd::open(path, OFlag::O_WRONLY | OFlag::O_CREAT).doing(opening)?;
        let mut destination = Destination::new(file, format!("{path:?}"), Some(path.into()))?;
        if before.is_err() && destination.kind == MediumKind::File {
            destination.created = Some(CreatedFile::new(path.into()));
        }
        Ok(destination)
    }

    /// Opens the regular file at `path`, to go on with what it holds.
    ///
    /// # Errors
    /// If it cannot be opened, or is no regular file.
    pub fn reopen(path: &Path) -> Result<Destination> {
        let opening = || format!("opening the destination {path:?}");
        let file = File::options().write(true).open(path).doing(opening)?;
        let destination = Destination::new(file, format!("{path:?}"), Some(path.into()))?;
        match destination.kind {
            MediumKind::File => Ok(destination),
            _ => Err(Error::new("it is no regular file, and only such can be resumed").doing(opening())),
        }
    }

    fn new(file: File, name: String, path: Option<PathBuf>) -> Result<Destination> {
        let meta = file.metadata().doing(|| format!("examining {name}"))?;
        let kind = match meta.file_type() {
            t if t.is_file() => MediumKind::File,
            t if t.is_block_device() => MediumKind::BlockDevice,
            _ if mtio::is_tape(&meta) => MediumKind::Tape,
            _ => MediumKind::Stream,
        };
        Ok(Destination { file, kind, name, path, created: None })
    }

    /// What it is.
    pub fn kind(&self) -> MediumKind {
        self.kind
    }

    /// What takes the blocks. A tape can be changed if its drive has a name.
    pub fn into_sink(self, options: TapeOptions) -> Box<dyn Sink> {
        if self.kind == MediumKind::Tape {
            let loader = self.path.map(|path| DriveLoader::boxed(path, options.changer.clone()));
            return Box::new(TapeSink::new(Box::new(StDrive::new(self.file)), loader, self.name, options));
        }
        let is_ours = self.path.is_some();
        Box::new(FileSink::new(self.file, self.kind, self.name, is_ours, self.created))
    }
}
