//! TapeAlert's flags in words: what happened, and what to do (SSC-4 Annex A, "TapeAlert flags").

use std::fmt;

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It is good to know.
    Information,
    /// It may become worse.
    Warning,
    /// Data is lost, or may be.
    Critical,
}

/// What a flag means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// 1 to 64.
    pub number: u8,
    /// How bad it is.
    pub severity: Severity,
    /// What it is called.
    pub name: &'static str,
    /// What to do.
    pub advice: &'static str,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Information => "information",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        })
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TapeAlert {}: {}", self.number, self.name)
    }
}

const OTHER_CARTRIDGE: &str = "copy what is on the cartridge to another, and use it no more";
const CLEAN: &str = "clean the drive, and try again";
const SERVICE: &str = "have the drive looked at by its maker";
const NOTHING: &str = "nothing";

/// Number, severity (`i`, `w`, `c`), name, advice.
const ALERTS: &[(u8, char, &str, &str)] = &[
    (1, 'w', "read warning", "if it comes again, copy the cartridge; try another drive"),
    (2, 'w', "write warning", "if it comes again, use another cartridge; clean the drive"),
    (3, 'w', "hard error", "an operation failed on the medium: look at the flags beside this one"),
    (4, 'c', "media failure", OTHER_CARTRIDGE),
    (5, 'c', "read failure", "clean the drive, and try the cartridge in another drive"),
    (6, 'c', "write failure", "use another cartridge; if it fails, too, clean the drive, then have it looked at"),
    (7, 'w', "media life is over", OTHER_CARTRIDGE),
    (8, 'w', "not data grade", "use a cartridge that is made for data"),
    (9, 'c', "write protected", "move the switch of the cartridge, or use another"),
    (10, 'i', "no removal", "the cartridge is in use: wait, or end the program that holds the drive"),
    (11, 'i', "cleaning cartridge", "put a data cartridge into the drive"),
    (12, 'i', "unsupported format", "use a cartridge of a generation that the drive writes"),
    (13, 'c', "tape snapped, recoverable", "do not load it again; have it rescued if nothing else holds the data"),
    (14, 'c', "tape snapped in the drive", "do not pull it out; have it taken out by the drive's maker"),
    (15, 'w', "cartridge memory fails", OTHER_CARTRIDGE),
    (16, 'c', "forced eject", "what was being written is not whole: write it again"),
    (17, 'w', "read-only format", "the drive reads this generation, and does not write it: use another cartridge"),
    (18, 'w', "tape directory damaged on load", "read the cartridge once to its end: that mends the directory"),
    (19, 'i', "media life is nearly over", "order another cartridge, and copy this one soon"),
    (20, 'c', "clean now", CLEAN),
    (21, 'w', "clean soon", "clean the drive at the next occasion"),
    (22, 'c', "cleaning cartridge is used up", "use a new cleaning cartridge"),
    (23, 'c', "wrong cleaning cartridge", "use one that is made for this drive"),
    (24, 'w', "retension", "wind the cartridge once to its end and back"),
    (25, 'w', "an interface failed", "look at the cables; the drive's other interface may serve"),
    (26, 'w', "fan failed", SERVICE),
    (27, 'w', "power supply failed", SERVICE),
    (28, 'w', "power consumption", SERVICE),
    (29, 'w', "maintenance is due", SERVICE),
    (30, 'c', "hardware failure A", "switch the drive off and on; if it comes again, have it looked at"),
    (31, 'c', "hardware failure B", SERVICE),
    (32, 'w', "interface failure", "look at cables, terminators and the host's adapter"),
    (33, 'c', "eject the cartridge", "take the cartridge out, put it in again, and try once more"),
    (34, 'w', "firmware update failed", "try again with the right firmware"),
    (35, 'w', "humidity", "bring the room to what the drive is made for"),
    (36, 'w', "temperature", "bring the room to what the drive is made for"),
    (37, 'w', "voltage", "have the power supply looked at"),
    (38, 'c', "failure is predicted", "have the drive looked at before it fails"),
    (39, 'w', "diagnostics are asked for", "run the maker's diagnostics"),
    (50, 'w', "statistics lost", NOTHING),
    (51, 'w', "tape directory invalid at unload", "read the cartridge once to its end: that mends the directory"),
    (52, 'c', "system area cannot be written", OTHER_CARTRIDGE),
    (53, 'c', "system area cannot be read", OTHER_CARTRIDGE),
    (54, 'c', "no start of data", "the cartridge is damaged or was erased in bulk: use another"),
    (55, 'c', "loading failed", "take the cartridge out and look at it; try another"),
    (56, 'c', "unloading failed", SERVICE),
    (57, 'c', "automation interface failed", "have the library looked at"),
    (58, 'w', "firmware failure", "switch the drive off and on; update its firmware"),
    (59, 'w', "WORM cartridge is not intact", "what is on it may have been tampered with: use another"),
    (60, 'w', "WORM cartridge written over", "use a cartridge that can be written again, or a new one"),
    (61, 'w', "encryption policy violated", "look at the drive's keys and policy"),
];

/// What a flag means, 1 to 64.
pub fn alert(number: u8) -> Alert {
    let known = ALERTS.iter().find(|(known, ..)| *known == number);
    let (_, severity, name, advice) = known.unwrap_or(&(0, 'i', "reserved or obsolete flag", "see the drive's manual"));
    let severity = match severity {
        'c' => Severity::Critical,
        'w' => Severity::Warning,
        _ => Severity::Information,
    };
    Alert { number, severity, name, advice }
}
