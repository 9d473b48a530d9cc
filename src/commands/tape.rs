//! `util tape`: what a drive knows of itself and its cartridge.

use std::fmt::Write as _;

use crate::{
    cli::{args::ListFormat, options::TapeOfOptions, output},
    error::{Context, Error, Result, one_line},
    media::tape::{
        mtio::Limits,
        scsi::{
            alert::Alert,
            answer::{Encryption, ErrorCounters, TapePosition},
            facts::DriveFacts,
            node::DriveNode,
        },
    },
    oci::json,
    util::units::{grouped, human_size},
};

/// # Errors
/// If the drive cannot be asked.
pub fn run(options: &TapeOfOptions) -> Result<()> {
    let doing = || format!("asking {:?}", options.device);
    let facts = DriveFacts::of(&DriveNode::open(&options.device).doing(doing)?);
    if let Some(first) = facts.unanswered.first().filter(|_| facts.identity.vendor.is_none()) {
        return Err(Error::new(&first.why).doing(doing()));
    }
    match options.format {
        ListFormat::Json => {
            output::print(&(String::from_utf8(json::pretty(&facts)).expect("JSON is UTF-8") + "\n"))?;
        }
        ListFormat::Table | ListFormat::Csv => output::print(&table(&facts))?,
    }
    match facts.identity.is_tape {
        true => Ok(()),
        false => Err(Error::new(format!("{} is no tape drive", facts.name())).doing(doing())),
    }
}

/// A line for each thing that is known, and one for each that is not.
fn table(facts: &DriveFacts) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = writeln!(text, "{name:<20}{}", one_line(&value));
        }
    };
    let bytes = |n: u64| format!("{} bytes ({})", grouped(n), human_size(n));
    let yes_or_no = |is: bool| if is { "yes" } else { "no" }.to_string();
    line("drive", Some(facts.name()));
    line("serial number", facts.serial.clone());
    line("firmware", facts.identity.firmware.clone());
    line("density", facts.density.clone());
    line(
        "blocks",
        facts.block_size.map(|size| match size {
            0 => "of any size".into(),
            size => format!("of {} bytes", grouped(size.into())),
        }),
    );
    let limits = facts.least_block.zip(facts.largest_block);
    line("limits of blocks", limits.map(|(least, most)| Limits { least, most }.to_string()));
    line("position", facts.position.map(position));
    line("write protected", facts.write_protected.map(yes_or_no));
    line("compression", facts.compression.map(|on| if on { "on" } else { "off" }.into()));
    line(
        "encryption",
        facts.encryption.map(|encryption| match encryption {
            Encryption::On => "on".into(),
            Encryption::External => "external: the drive writes what it gets".into(),
            Encryption::Off => "off".into(),
        }),
    );
    let cartridge = &facts.cartridge;
    line("capacity left", cartridge.capacity.left.map(bytes));
    line("capacity", cartridge.capacity.whole.map(bytes));
    line("barcode", cartridge.barcode.clone());
    line("cartridge", cartridge.serial.clone());
    line("made by", cartridge.manufacturer.clone());
    line("loaded", cartridge.loads.map(|loads| format!("{} times", grouped(loads))));
    line("written in its life", cartridge.written.map(bytes));
    line("read in its life", cartridge.read.map(bytes));
    if let Some(cleaning) = facts.cleaning {
        line("cleaning is due", cleaning.is_due.map(yes_or_no));
        line("cleaned", cleaning.times.map(|times| format!("{} times", grouped(times))));
        line("since cleaned", cleaning.motion_hours_since.map(|hours| format!("{} hours of motion", grouped(hours))));
    }
    line("errors of writing", facts.write_errors.map(errors));
    line("errors of reading", facts.read_errors.map(errors));
    match facts.alerts.as_deref() {
        None => {}
        Some([]) => line("alerts", Some("none".into())),
        Some(alerts) => {
            for Alert { number, severity, name, advice } in alerts {
                line("alert", Some(format!("{number} ({severity}): {name}: {advice}")));
            }
        }
    }
    for unanswered in &facts.unanswered {
        line("not told", Some(format!("{}: {}", unanswered.what, unanswered.why)));
    }
    text
}

fn position(position: TapePosition) -> String {
    let place = match (position.at_beginning, position.block) {
        (true, _) => "at the beginning".into(),
        (false, Some(block)) => format!("block {}", grouped(block)),
        (false, None) => "not known".into(),
    };
    let file = position.file.filter(|file| *file > 0).map_or(String::new(), |file| format!(", file {}", grouped(file)));
    let partition = if position.partition > 0 { format!(", partition {}", position.partition) } else { String::new() };
    let end = if position.at_end { ", near the end of the tape" } else { "" };
    format!("{place}{file}{partition}{end}")
}

fn errors(counters: ErrorCounters) -> String {
    let one = |count: Option<u64>, what: &str| count.map(|n| format!("{} {what}", grouped(n)));
    let all = [
        one(counters.corrected, "corrected"),
        one(counters.uncorrected, "not corrected"),
        one(counters.retries, "retries"),
    ];
    let all: Vec<String> = all.into_iter().flatten().collect();
    if all.is_empty() { "not counted".into() } else { all.join(", ") }
}
