//! Why a job can never be run.

use crate::domain::Malformed;

/// Why a job is dead: a closed set, fit for a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeadCode {
    /// A field is missing or wrong.
    Malformed,
    /// Its data is larger than the limit.
    TooLarge,
    /// No handler knows its type.
    UnknownType,
    /// The database refuses its rows, whatever is tried.
    CannotCommit,
    /// The domain's code panicked or broke its own rules.
    Panicked,
    /// It was started too often and never came to an end: it may be what ends the process.
    MaxDeliveries,
}

impl DeadCode {
    /// Every code, for metrics that start at zero.
    pub const ALL: [Self; 6] =
        [Self::Malformed, Self::TooLarge, Self::UnknownType, Self::CannotCommit, Self::Panicked, Self::MaxDeliveries];

    /// The code as it is spelled in reasons and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::UnknownType => "unknown_type",
            Self::CannotCommit => "cannot_commit",
            Self::Panicked => "panicked",
            Self::MaxDeliveries => "max_deliveries",
        }
    }
}

/// Why a job is dead, with what an operator needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dead {
    /// The kind of failure.
    pub code: DeadCode,
    /// A sentence without its full stop, naming the field where there is one.
    pub detail: String,
}

impl Dead {
    /// Dead for this reason.
    pub fn new(code: DeadCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// As [`reason`](Dead::reason) told it; nothing when no version of this program did.
    pub(super) fn recorded(text: &str) -> Option<Self> {
        let (code, detail) = text.split_once(": ")?;
        let code = DeadCode::ALL.into_iter().find(|known| known.as_str() == code)?;
        Some(Self::new(code, detail))
    }

    /// The reason as receipts, replies and dead letters carry it: `malformed: data.quantity must be at least 1`.
    pub fn reason(&self) -> String {
        let mut reason = format!("{}: {}", self.code.as_str(), self.detail);
        let end = (0..=REASON_BYTES.min(reason.len())).rev().find(|&end| reason.is_char_boundary(end));
        reason.truncate(end.unwrap_or(0));
        reason
    }
}

/// The longest reason in bytes, bounded by the receipts' column.
pub const REASON_BYTES: usize = 500;

impl From<Malformed> for Dead {
    fn from(malformed: Malformed) -> Self {
        Self::new(DeadCode::Malformed, malformed.to_string())
    }
}
