//! `mirror report merge`: the reports of all shards of a plan as one.

use std::path::Path;

use serde_json::Value;

use super::{
    path_conflicts,
    report::{ReplacedFile, ShardReport, is_report},
};
use crate::{
    cli::{archive_options::MergeOptions, output},
    error::{Context, Error, Result},
    fd,
    gather::collect::SourceOutcome,
    oci::json,
    shards::partition::SHARDS_MAX,
    util::units::counted,
};

/// One report that was read.
struct ReadReport<'a> {
    path: &'a Path,
    shard: ShardReport,
    sources: Vec<Value>,
}

/// # Errors
/// If a report cannot be read, they are not those of all shards of one plan, or something is in no archive.
pub fn run(options: &MergeOptions) -> Result<()> {
    let read: Vec<_> = options.reports.iter().map(|path| ("REPORT", path.as_path())).collect();
    let written: Vec<_> = options.dest.iter().map(|dest| ("--output", dest.as_path())).collect();
    path_conflicts::check(&read, &written)?;
    let file = options.dest.as_deref().map(|dest| ReplacedFile::open(dest, "the report", is_report)).transpose()?;
    let mut reports: Vec<ReadReport> = options.reports.iter().map(|path| read_report(path)).collect::<Result<_>>()?;
    reports.sort_by_key(|report| report.shard.shard);
    check_set(&reports).doing(|| "merging reports")?;
    let mut merged: Vec<Value> = reports.iter().map(|report| serde_json::json!(report.shard)).collect();
    let mut sources: Vec<&Value> = reports.iter().flat_map(|report| &report.sources).collect();
    sources.sort_by_key(|source| source["source"].as_str().unwrap_or_default());
    let named = sources.iter().filter(|record| record["source"].is_string());
    let (all, archived) = (named.clone().count(), named.filter(|source| is_archived(source)).count());
    merged.extend(sources.into_iter().cloned());
    let mut text = json::pretty(&merged);
    text.push(b'\n');
    match file {
        Some(file) => file.write(&text)?,
        None => output::print(&String::from_utf8(text).expect("JSON is UTF-8"))?,
    }
    let lacking = reports.iter().filter(|report| report.shard.outcome != SourceOutcome::Archived);
    let lacking: Vec<String> = lacking.map(|report| report.shard.shard.to_string()).collect();
    match (archived == all, &lacking[..]) {
        (true, []) => Ok(()),
        (_, []) => Err(Error::new(format!("{} of {} in no archive", all - archived, counted(all, "source")))),
        (_, shards) => Err(Error::new(format!("not whole: shard {} of {}", shards.join(", "), reports.len()))),
    }
}

/// Whether all of a source is in its archive.
fn is_archived(source: &Value) -> bool {
    serde_json::from_value(source["outcome"].clone())
        .is_ok_and(|outcome: SourceOutcome| outcome == SourceOutcome::Archived)
}

fn read_report(path: &Path) -> Result<ReadReport<'_>> {
    let doing = || format!("reading the report {path:?}");
    let bytes = fd::read_file(path).doing(doing)?;
    if bytes.is_empty() {
        let why = "it is empty: the run was killed before it could tell what became of the shard";
        return Err(Error::new(why).doing(doing()));
    }
    let records: Vec<Value> = serde_json::from_slice(&bytes).doing(doing)?;
    let (mut shards, mut sources): (Vec<Value>, Vec<Value>) =
        records.into_iter().partition(|record| record.get("shards").is_some());
    match (shards.pop(), shards.pop()) {
        (Some(one), None) => {
            let shard: ShardReport = serde_json::from_value(one).doing(doing)?;
            let is_one = |source: &&Value| source["source"].is_string() && source["ofShard"] == shard.shard;
            let devices = sources.iter().filter(|record| record.get("device").is_some()).count();
            let named = sources.iter().filter(is_one).count();
            if !(1..=shard.shards).contains(&shard.shard) || shard.shards as usize > SHARDS_MAX {
                return Err(Error::new(format!("it is of shard {} of {}", shard.shard, shard.shards)).doing(doing()));
            }
            // Of a run that ended before it knew them, none may be there.
            let is_known = named == shard.sources || shard.outcome != SourceOutcome::Archived;
            if named + devices != sources.len() || !is_known {
                let why = format!("its shard has {}, and it tells of {named}", counted(shard.sources, "source"));
                return Err(Error::new(why).doing(doing()));
            }
            // A drive of the same name may be in every host.
            for record in sources.iter_mut().filter(|record| record.get("device").is_some()) {
                record["ofShard"] = shard.shard.into();
            }
            Ok(ReadReport { path, shard, sources })
        }
        (None, _) => {
            Err(Error::new("it is not of a shard: ace-dt mirror archive --plan --report writes those").doing(doing()))
        }
        (Some(_), Some(_)) => Err(Error::new("it is of several shards, and perhaps merged already").doing(doing())),
    }
}

/// Whether they are those of all shards of one plan, each once. They stand in the order of the shards.
fn check_set(reports: &[ReadReport]) -> Result<()> {
    let first = &reports[0];
    for ReadReport { path, shard, .. } in reports {
        if shard.plan != first.shard.plan || shard.shards != first.shard.shards {
            let why = format!("{path:?} is of the plan {}, and {:?} of {}", shard.plan, first.path, first.shard.plan);
            return Err(Error::new(why));
        }
    }
    if let Some(pair) = reports.windows(2).find(|pair| pair[0].shard.shard == pair[1].shard.shard) {
        let number = pair[0].shard.shard;
        return Err(Error::new(format!("shard {number} is there twice: {:?}, {:?}", pair[0].path, pair[1].path)));
    }
    let is_there = |number: &u32| reports.iter().any(|report| report.shard.shard == *number);
    let missing: Vec<String> =
        (1..=first.shard.shards).filter(|number| !is_there(number)).map(|number| number.to_string()).collect();
    match &missing[..] {
        [] => Ok(()),
        missing => Err(Error::new(format!("of {} shards, {} is missing", first.shard.shards, missing.join(", ")))),
    }
}
