//! What is found to be wrong with an archive.

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What sort of thing.
    pub kind: FindingKind,
    /// In words.
    pub text: String,
}

/// What sort of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingKind {
    /// A blob's content has not its digest, or something cannot be read.
    Damaged,
    /// Something that is referred to is not there.
    Missing,
    /// It ends before its end, so that what follows is not there.
    Incomplete,
    /// Something else.
    Wrong,
    /// Nothing is wrong, but somebody may want to know.
    Note,
}

impl Finding {
    /// A blob has not its digest, or something cannot be read.
    pub fn damaged(text: String) -> Finding {
        Finding { kind: FindingKind::Damaged, text }
    }

    /// Something is referred to and not there.
    pub fn missing(text: String) -> Finding {
        Finding { kind: FindingKind::Missing, text }
    }

    /// Nothing is wrong, but somebody may want to know.
    pub fn note(text: String) -> Finding {
        Finding { kind: FindingKind::Note, text }
    }

    /// It ends before its end.
    pub fn incomplete(text: String) -> Finding {
        Finding { kind: FindingKind::Incomplete, text }
    }

    /// Something else is wrong.
    pub fn wrong(text: String) -> Finding {
        Finding { kind: FindingKind::Wrong, text }
    }
}
