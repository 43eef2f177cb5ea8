//! Asking a person. Only the terminal's owner can do that, so it is handed in from above.

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether it was answered yes.
    pub yes: bool,
    /// Who answered: `a person`, or the flag that said yes in advance.
    pub by: String,
}

/// Answers questions that decide whether a run goes on.
pub trait Asker: Send + Sync {
    /// Waits for the answer; `None` when nobody can be asked. It runs on a thread of its own, which is left behind when the
    /// run is asked to end meanwhile.
    fn ask(&self, question: &str) -> Option<Answer>;
}
