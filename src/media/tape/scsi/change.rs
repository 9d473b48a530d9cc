//! What a run has done to a drive and its cartridge: alerts that came up, errors that were counted.

use serde::Serialize;

use super::{alert::Alert, answer::ErrorCounters, facts::DriveFacts};

/// What changed between two times at which a drive was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DriveChange {
    /// The cartridge.
    pub barcode: Option<String>,
    /// Its own number.
    pub cartridge_serial: Option<String>,
    /// TapeAlert flags that were set at the end; `None` if the drive does not tell.
    pub alerts: Option<Vec<Alert>>,
    /// Errors of writing since the first time.
    pub write_errors: Option<ErrorCounters>,
    /// Errors of reading since then.
    pub read_errors: Option<ErrorCounters>,
}

impl DriveChange {
    /// From one time to another.
    pub fn between(before: &DriveFacts, after: &DriveFacts) -> DriveChange {
        DriveChange {
            barcode: after.cartridge.barcode.clone().or_else(|| before.cartridge.barcode.clone()),
            cartridge_serial: after.cartridge.serial.clone().or_else(|| before.cartridge.serial.clone()),
            alerts: after.alerts.clone(),
            write_errors: counted(before.write_errors, after.write_errors),
            read_errors: counted(before.read_errors, after.read_errors),
        }
    }

    /// In words, if there is anything to tell beside the cartridge.
    pub fn in_words(&self) -> Option<String> {
        let mut words: Vec<String> = self.alerts.iter().flatten().map(Alert::to_string).collect();
        for (what, counters) in [("writing", &self.write_errors), ("reading", &self.read_errors)] {
            let Some(ErrorCounters { corrected, uncorrected, .. }) = counters else { continue };
            let counts = [(corrected, "corrected"), (uncorrected, "not corrected")];
            let some =
                counts.into_iter().filter_map(|(count, how)| count.filter(|n| *n > 0).map(|n| format!("{n} {how}")));
            let some: Vec<String> = some.collect();
            if !some.is_empty() {
                words.push(format!("errors of {what}: {}", some.join(", ")));
            }
        }
        (!words.is_empty()).then(|| words.join("; "))
    }
}

/// How much was counted meanwhile, if both times were told. A counter that is lower than before began anew, with another
/// cartridge.
fn counted(before: Option<ErrorCounters>, after: Option<ErrorCounters>) -> Option<ErrorCounters> {
    let (before, after) = (before?, after?);
    let since = |before: Option<u64>, after: Option<u64>| {
        before.zip(after).map(|(before, after)| after.checked_sub(before).unwrap_or(after))
    };
    Some(ErrorCounters {
        corrected: since(before.corrected, after.corrected),
        uncorrected: since(before.uncorrected, after.uncorrected),
        retries: since(before.retries, after.retries),
    })
}
