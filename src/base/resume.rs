//! Going on with a run that ended early.

/// How a person settles what nobody else can tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Settle {
    /// Not at all: the run stops there.
    #[default]
    Ask,
    /// What is in doubt is not done.
    Redo,
    /// What is in doubt is done, where its output is known.
    Trust,
}

/// The run that goes on, and on what terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resuming {
    /// Its id.
    pub run: String,
    /// How doubts are settled.
    pub settle: Settle,
    /// Whether playbook and modules may have changed since.
    pub accept_changed: bool,
}
