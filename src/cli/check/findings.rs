//! What `check` found.

use crate::cli::failed::Failed;
use crate::daemon::StartError;
use crate::exit::Exit;

/// What one look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Ok,
    Warning,
    Failed(u8),
}

/// A line of the answer.
pub struct Finding {
    pub subject: String,
    pub verdict: Verdict,
    pub detail: String,
}

#[derive(Default)]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    pub fn add(&mut self, subject: impl Into<String>, verdict: Verdict, detail: impl Into<String>) {
        self.0.push(Finding { subject: subject.into(), verdict, detail: detail.into() });
    }

    pub fn error(&mut self, subject: &str, error: impl Into<StartError>) {
        let Failed { code, text } = Failed::from(error.into());
        self.add(subject, Verdict::Failed(code), text);
    }

    /// The worst of all: a wrong configuration counts more than a server that is away.
    pub fn exit_code(&self) -> u8 {
        let codes = self.0.iter().filter_map(|finding| match finding.verdict {
            Verdict::Failed(code) => Some(code),
            Verdict::Ok | Verdict::Warning => None,
        });
        codes.max().unwrap_or(Exit::OK)
    }
}
