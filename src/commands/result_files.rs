//! The files that a run over archives leaves: what became of each image, and what must be sent again.

use serde::Serialize;

use super::{
    path_conflicts,
    report::ReportFile,
    wanted::{WantedFile, WantedSource},
};
use crate::{cli::deliver_options::ArchiveRunOptions, delivery::outcome::DeliveryOutcome, error::Result, log};

/// Those that are wanted: they are open, and nobody else's.
pub struct ResultFiles {
    report: Option<ReportFile>,
    wanted: Option<WantedFile>,
}

impl ResultFiles {
    /// Opens them, before anything is sent, and after [`check_paths`].
    ///
    /// # Errors
    /// If one cannot be written.
    pub fn open(options: &ArchiveRunOptions) -> Result<ResultFiles> {
        Ok(ResultFiles {
            report: options.report.as_deref().map(ReportFile::open).transpose()?,
            wanted: options.wanted.as_deref().map(WantedFile::open).transpose()?,
        })
    }

    /// Writes them at the end of a run, which ended as `concluded` says. What is `wanted` may not be known.
    ///
    /// # Errors
    /// How the run ended, or else if one cannot be written.
    pub fn write<'a, R: Serialize>(
        self,
        outcome: &DeliveryOutcome,
        concluded: Result<()>,
        wanted: impl FnOnce() -> Option<Vec<WantedSource<'a>>>,
        records: impl FnOnce() -> Vec<R>,
    ) -> Result<()> {
        // What a registry refuses is not missing in the archive.
        let list = self.wanted.filter(|_| !outcome.is_refused);
        let listed = list.zip(wanted()).map_or(Ok(()), |(file, all)| file.write(all.into_iter()));
        if let (Err(_), Err(e)) = (&concluded, &listed) {
            log::error(e);
        }
        let concluded = concluded.and(listed);
        match self.report {
            Some(report) => report.write(&records(), concluded, "all was delivered"),
            None => concluded,
        }
    }
}

/// No file is both read and written, or written twice. `operand` is what the archives are called on the command line.
///
/// # Errors
/// Wrong usage, if one is.
pub fn check_paths(options: &ArchiveRunOptions, operand: &'static str) -> Result<()> {
    let archives = options.archives.iter().map(|path| (operand, path.as_path()));
    let read: Vec<_> = archives.chain(options.plan.iter().map(|path| ("--plan", path.as_path()))).collect();
    let written = [("--report", &options.report), ("--wanted", &options.wanted), ("--checkpoint", &options.checkpoint)];
    let written = written.into_iter().filter_map(|(flag, path)| Some((flag, path.as_deref()?)));
    let written: Vec<_> = written.chain(options.deliver.progress.written()).collect();
    path_conflicts::check(&read, &written)
}
