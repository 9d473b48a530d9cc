//! `mirror batch-deserialize`: each archive of a directory that was not delivered yet, in order.
//!
//! A file in the directory records what was. A success is recorded at once, and on the disk before the next archive is
//! begun.

use std::{
    collections::HashMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use nix::fcntl::OFlag;

use super::{
    deliver::{DeliveredTo, DeliveryJob, is_file},
    setup::Setup,
};
use crate::{
    cli::{deliver_options::BatchDeserializeOptions, progress::Progress},
    error::{Context, Error, Result},
    fd, log,
    oci::Reference,
    owned_file::OwnedFile,
    util::csv,
};

const HEADER: [&str; 3] = ["filename", "artifact", "timestamp"];
/// What archives end in.
const ENDINGS: [&str; 3] = [".tar", ".tar.gz", ".tar.zst"];

/// # Errors
/// With what fails; what was delivered before is recorded.
pub fn run(options: &BatchDeserializeOptions) -> Result<()> {
    let directory = &options.directory;
    let opening = || format!("opening the directory {directory:?}");
    let _alone = fd::open(directory, OFlag::O_RDONLY | OFlag::O_DIRECTORY).and_then(OwnedFile::of).doing(opening)?;
    let tracker = directory.join(&options.sync_filename);
    let done = recorded(&tracker)?;
    let files = archives(directory)?;
    let setup = Setup::new(&options.deliver.connection)?;
    let progress = Progress::new(&options.deliver.progress)?;
    let mut failed = Vec::new();
    let mut delivered = 0;
    for file in &files {
        if let Some(artifact) = done.get(file) {
            log::info(format_args!("{file} was delivered already"));
            let repository = format!("{}:", options.destination.repository);
            if artifact.as_ref().is_some_and(|artifact| artifact.contains('/') && !artifact.starts_with(&repository)) {
                log::warn(format_args!(
                    "{file} was delivered to {}, and counts as delivered; --sync-filename keeps another record",
                    artifact.as_deref().unwrap_or_default()
                ));
            }
            continue;
        }
        let image = match target(file, options) {
            Ok(image) => image,
            Err(e) if options.deliver.keep_going => {
                log::error(&e);
                failed.push(file.clone());
                continue;
            }
            Err(e) => return Err(e),
        };
        let archives: [PathBuf; 1] = [directory.join(file)];
        let job = DeliveryJob {
            shared: None,
            options: &options.deliver,
            archives: &archives,
            to: DeliveredTo::Image(&image),
            setup: &setup,
            progress: &progress,
            checkpoint: None,
        };
        let outcome = job.run().and_then(|outcome| job.conclude(&outcome));
        match outcome {
            Ok(()) if options.deliver.dry_run => {}
            Ok(()) => record(&tracker, file, &image)?,
            Err(e) if options.deliver.keep_going && !e.is_signal() => {
                log::error(&e);
                failed.push(file.clone());
                continue;
            }
            Err(e) => return Err(e),
        }
        delivered += 1;
    }
    if files.is_empty() {
        log::warn(format_args!("there is no archive of a batch in {directory:?}"));
    } else if delivered == 0 && failed.is_empty() {
        progress.say(&format!("nothing is new: all {} archives were delivered already", files.len()));
    }
    match failed.len() {
        0 => Ok(()),
        n => Err(Error::new(format!("{n} archives were not delivered: {}", failed.join(", ")))),
    }
}

/// The names of archives in a directory, in the order of their bytes; a warning names what is none.
fn archives(directory: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).doing(|| format!("reading the directory {directory:?}"))? {
        let entry = entry.doing(|| format!("reading the directory {directory:?}"))?;
        let name = entry.file_name();
        if !is_file(&entry.path()) || name.as_encoded_bytes().ends_with(b".csv") {
            continue;
        }
        match name.to_str().filter(|name| series(name).is_some()) {
            Some(name) => names.push(name.to_string()),
            None => {
                log::warn(format_args!("{:?} is no archive of a batch, N-NAME.tar, and is passed over", entry.path()))
            }
        }
    }
    names.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    Ok(names)
}

/// The name of the series in the name of an archive: `N-NAME.tar`, or with the ending of its compression.
fn series(file: &str) -> Option<&str> {
    let (number, rest) = file.split_once('-')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let name = ENDINGS.iter().find_map(|ending| rest.strip_suffix(ending))?;
    Some(name).filter(|name| is_number && !name.is_empty())
}

/// Where an archive goes.
///
/// # Errors
/// If its name is no tag.
fn target(file: &str, options: &BatchDeserializeOptions) -> Result<Reference> {
    let name = series(file).unwrap_or_default();
    let image = format!("{}:{name}", options.destination).parse();
    image.map_err(|why: String| Error::new(why)).doing(|| format!("the archive {:?}", options.directory.join(file)))
}

/// The archives that were delivered, and whereto, if that is said. Only the first column counts; there may be no header.
fn recorded(path: &Path) -> Result<HashMap<String, Option<String>>> {
    if !path.exists() {
        return Ok(HashMap::new());
    }
    let doing = || format!("reading {path:?}");
    let text = String::from_utf8(fd::read_file(path).doing(doing)?)
        .map_err(|_| Error::new("it is not UTF-8").doing(doing()))?;
    let mut done = HashMap::new();
    for (n, line) in text.trim_start_matches('\u{feff}').lines().enumerate().filter(|(_, line)| !line.trim().is_empty())
    {
        let fields =
            csv::fields(line).map_err(|why| Error::new(why).doing(format!("reading {path:?}, line {}", n + 1)))?;
        let mut fields = fields.into_iter();
        done.extend(fields.next().map(|file| (file, fields.next())));
    }
    Ok(done)
}

/// Records a success, for good.
fn record(path: &Path, file: &str, image: &Reference) -> Result<()> {
    let doing = || format!("recording {file} in {path:?}");
    let flags = OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_CREAT;
    let mut tracker = fd::open(path, flags).doing(doing)?;
    let before = fd::read_file(path).doing(doing)?;
    let mut text = String::new();
    match before.last() {
        None => text.push_str(&csv::line(&HEADER)),
        // A line that a crash has cut off does not swallow this one.
        Some(b'\n') => {}
        Some(_) => text.push('\n'),
    }
    text.push_str(&csv::line(&[file, &image.to_string(), &httpdate::fmt_http_date(SystemTime::now())]));
    tracker.write_all(text.as_bytes()).and_then(|()| tracker.sync_all()).doing(doing)?;
    if before.is_empty() {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::File::open(directory).and_then(|directory| directory.sync_all()).doing(doing)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_archives() {
        for (file, name) in [
            ("000001-tools.tar", Some("tools")),
            ("12-dev-tools.v2.tar.zst", Some("dev-tools.v2")),
            ("1-x.tar.tar.gz", Some("x.tar")),
            ("tools.tar", None),
            ("1-.tar", None),
            ("a-b.tar", None),
            (".000001-tools.tar.unfinished", None),
            ("1-x.tgz", None),
        ] {
            assert_eq!(series(file), name, "{file}");
        }
    }
}
