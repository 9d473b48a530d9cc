//! What is asked of a tape drive: the flags, and `util tape`.

use super::{
    flag_table::{FLAG, yes},
    general_flags::table_or_json,
    schema::{Action, Command, Count, Flag, FlagGroup, Operand, Value},
};

const ARCHIVES: &[&str] = &["mirror archive", "mirror serialize"];

/// These flags, in the order in which they are shown.
pub static TAPE_FLAGS: &[Flag] = &[
    Flag {
        long: "require-room",
        group: FlagGroup::Device,
        brief: "only if all of it fits on the cartridge",
        on: ARCHIVES,
        text: "On a tape: end with an error before the first byte if the archive does not fit on what is left on the cartridge, or if the drive does not tell how much that is. Without this flag a warning tells how many volumes it takes. What the drive's own compression may gain is not counted.",
        set: |a, _| yes(&mut a.demands.room),
        ..FLAG
    },
    Flag {
        long: "require-encryption",
        group: FlagGroup::Device,
        brief: "only if the drive encrypts",
        on: ARCHIVES,
        text: "On a tape: end with an error before the first byte if the drive does not encrypt what is written, or does not tell. Each further volume is asked for, too. The drive gets its key from stenc(1).",
        set: |a, _| yes(&mut a.demands.encryption),
        ..FLAG
    },
    Flag {
        long: "output",
        group: FlagGroup::Output,
        brief: "how it is printed",
        choices: &["json", "table"],
        short: Some('o'),
        value: Value::Required("FORMAT"),
        default: "table",
        on: &["util tape"],
        text: "How it is printed: `table` for people, or `json`, one object: what was not told is `null`, and `unanswered` has why.",
        set: table_or_json,
        ..FLAG
    },
];

/// `util tape`.
pub const TAPE_COMMAND: Command = Command {
    name: "util tape",
    summary: "show what a tape drive knows of itself and its cartridge",
    operands: &[Operand {
        name: "DEVICE",
        count: Count::One,
        text: "A tape drive, such as `/dev/nst0`, or its generic node, such as `/dev/sg1`.",
    }],
    description: "Asks a drive by SCSI commands, and prints: vendor, model, serial number and firmware; density, block size in effect and limits; the position; write protection, compression and encryption; capacity left and whole; barcode, load count and bytes written in the cartridge's life; the last cleaning; TapeAlert flags in words, with what to do; errors that were corrected, and that were not.\n\n\
        The tape is not moved. A drive that another program uses is asked through its generic node. A drive clears its TapeAlert flags when they are read, so that they are told once.\n\n\
        The kernel passes most questions on only for root (CAP_SYS_RAWIO), or through the generic node for whoever may open that. What could not be asked, or what the drive does not know, is listed with the reason: nothing is guessed.\n\n\
        The questions and the layouts of their answers are those of SPC-4 (INQUIRY, MODE SENSE, LOG SENSE, READ ATTRIBUTE, SECURITY PROTOCOL IN) and SSC-4 (READ BLOCK LIMITS, READ POSITION, TapeAlert and the log pages of tapes); capacity is also asked for by the Tape Capacity page 31h of LTO drives.\n\n\
        `ace-dt mirror archive` and `ace-dt mirror serialize` ask the same before and behind a run: a warning tells if the archive does not fit on what is left (see `--require-room`), alerts and errors that came up meanwhile are told at the end and in the report, and the barcode stands in the checkpoint, so that a resume with another cartridge is refused.",
    sections: &[
        (
            "EXIT STATUS",
            "0 if the drive says what it is, even if it does not tell everything; 1 if it cannot be asked at all, 2 on wrong usage.",
        ),
        (
            "EXAMPLES",
            "Look at a drive:\n\n    \
             ace-dt util tape /dev/nst0\n\n\
             What is left on the cartridge, in bytes:\n\n    \
             ace-dt util tape -o json /dev/nst0 | jq .cartridge.capacity.left",
        ),
    ],
    action: Some(Action::Tape),
};
