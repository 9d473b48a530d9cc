//! An archive written, with what is shown of it: progress, the summary, and if it was interrupted where it
//! stands and the command that goes on.

use std::path::PathBuf;

use super::report;
use crate::{
    archive::write::session::{Interruption, OpenedDestination, WriteOptions, WriteOutcome, WriteSession},
    cli::{command_line::CommandLine, progress::Progress},
    error::{Error, ErrorKind, Result},
    media::{file_sink::MediumKind, sink::Volumes},
    registry::transport::retry,
    util::units::counted,
};

/// What the command that goes on is made of.
pub struct RetryHint<'a> {
    /// What was given.
    pub line: &'a CommandLine,
    /// What became of it.
    pub options: &'a WriteOptions,
}

/// An archive that was written, or not.
pub struct Written {
    /// The tapes that it went to.
    pub volumes: Volumes,
    /// The error, if it was not completed.
    pub outcome: Result<()>,
}

/// Writes an archive. With a `hint`, the error of one that was interrupted says how to go on.
pub fn write(
    session: &WriteSession,
    dest: OpenedDestination,
    progress: &Progress,
    hint: Option<&RetryHint>,
) -> Written {
    let nowhere = |outcome| Written { volumes: Volumes::default(), outcome };
    match session.run(dest, &mut |now, total| progress.writing(now, total)) {
        Err(e) => nowhere(Err(e)),
        Ok(WriteOutcome::Complete(summary)) => {
            let (last, geometry) = (&summary.last, session.options.geometry);
            let told = summary.kind == MediumKind::Tape || geometry.mark > 1 && summary.kind != MediumKind::File;
            let streaming = told.then(|| report::streaming(last, &summary.volumes));
            let next = hint.and_then(|hint| hint.options.checkpoint.as_deref());
            // What the next increment needs to know.
            let next =
                next.map(|checkpoint| format!("the checkpoint {checkpoint:?} ends at offset {}", summary.last_blob));
            let plan = session.plan;
            let root = format!("{}, root {}", counted(plan.blobs(), "blob"), plan.root());
            let retries = retries_in_words();
            let told: Vec<String> = [root].into_iter().chain(retries).chain(streaming).chain(next).collect();
            progress.done(last, Some(told.join("; ")));
            report::advise(last, geometry, summary.kind);
            Written { volumes: summary.volumes, outcome: summary.recorded }
        }
        Ok(WriteOutcome::WasWhole) => {
            progress.clear();
            progress.say(&format!("{:?}: the archive is whole, and nothing was written", session.options.dest));
            nowhere(Ok(()))
        }
        Ok(WriteOutcome::Interrupted(at)) => {
            progress.clear();
            let volumes = at.volumes.clone();
            let error = match hint {
                Some(hint) => hint.explain(*at),
                None => at.error,
            };
            Written { volumes, outcome: Err(error) }
        }
    }
}

/// How often requests were tried again, if any was.
fn retries_in_words() -> Option<String> {
    let retries = retry::count();
    (retries > 0).then(|| counted(retries, "retry"))
}

impl RetryHint<'_> {
    /// Adds to an error where the archive stands, and the command that goes on with it.
    fn explain(&self, at: Interruption) -> Error {
        let Interruption { error, device, kind, blobs, planned, offset, volume, has_filemark, is_begun, .. } = at;
        if !is_begun {
            return error.after(format!("nothing was written to {device}"));
        }
        let mark = if has_filemark { ", and a filemark behind them" } else { "" };
        let place = volume.map_or(String::new(), |volume| {
            format!("; volume {} has {} of it{mark}", volume.number, counted(volume.blocks, "block"))
        });
        let error = error.after(format!(
            "{device} holds {blobs} of {} whole, up to offset {offset}{place}",
            counted(planned, "blob")
        ));
        let (is_file, is_tape) = (kind == MediumKind::File && !self.options.is_stdout(), kind == MediumKind::Tape);
        let again = |changes: &[(&str, String)]| self.line.again(changes, &self.options.dest);
        let force: Vec<(&str, String)> = is_file.then(|| ("force", String::new())).into_iter().collect();
        match &self.options.checkpoint {
            _ if blobs == 0 => error.hint(format_args!("to start again: {}", again(&force))),
            None => {
                error.hint(format_args!("only with --checkpoint can a run go on; to start again: {}", again(&force)))
            }
            Some(_) if is_file || is_tape && !error.is(ErrorKind::Full) => {
                error.hint(format_args!("to go on: {}", again(&[("resume", String::new())])))
            }
            // What a plan leaves out was said when it was made.
            Some(_) if self.line.flags.iter().any(|(flag, _)| *flag == "plan") => {
                let again = again(&[("resume", String::new())]);
                error.hint(format_args!("to go on with --volume-command, or at a terminal, on the next tape: {again}"))
            }
            Some(checkpoint) => {
                let next = PathBuf::from(format!("{}.2", checkpoint.display()));
                let known = format!("{}:{offset}", checkpoint.display());
                let known =
                    if known.contains([',', '"']) { format!("\"{}\"", known.replace('"', "\"\"")) } else { known };
                let changes = [("checkpoint", next.display().to_string()), ("existing-from-checkpoint", known)];
                let place = if is_tape { ", on another tape" } else { "" };
                error.hint(format_args!("to go on with what is missing{place}: {}", again(&changes)))
            }
        }
    }
}
