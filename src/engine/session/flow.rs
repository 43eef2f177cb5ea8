//! Questions to a person, and blocks with a clean-up.

use super::{ENSURE, Session, numbered};
use crate::base::event::What;
use crate::base::failure::{Code, Failure};

impl Session {
    /// Asks a person whether the run may go on; a dry run tells that it would ask.
    ///
    /// # Errors
    /// `Confirm` when the answer is no, or when nobody can be asked.
    pub fn confirm(&self, question: &str) -> Result<(), Failure> {
        self.host.emit(What::Asked { step: self.step(), question: question.to_owned() });
        if self.live.is_none() {
            return Ok(());
        }
        let answer = self.host.ask(question);
        let (yes, by) = match &answer {
            Ok(Some(answer)) => (answer.yes, answer.by.clone()),
            Ok(None) => (false, "nobody can be asked".to_owned()),
            Err(failure) => (false, failure.to_string()),
        };
        self.host.emit(What::Answered { question: question.to_owned(), yes, by });
        match answer? {
            Some(answer) if answer.yes => Ok(()),
            Some(_) => {
                self.state().declined = true;
                Err(Failure::new(Code::Confirm, format!("not confirmed: {question}")))
            }
            None => Err(Failure::new(Code::Confirm, format!("a person must confirm: {question}"))
                .caused_by("nobody can be asked here")
                .hint(self.how_to_agree())),
        }
    }

    /// A yes holds for the attempt that it was given to: what is true when a run goes on may be another thing.
    fn how_to_agree(&self) -> String {
        match self.host.resumes() {
            Some(terms) => format!(
                "Run it on a terminal, or say yes once more, for an earlier `--yes` does not count: `lifeboat resume {} --yes`.",
                terms.run
            ),
            None => "Run it on a terminal, or say yes in advance with `--yes`.".to_owned(),
        }
    }

    /// Whether a person answered a question with no.
    pub fn is_declined(&self) -> bool {
        self.state().declined
    }

    /// Begins a block whose clean-up must follow. Returns its path.
    pub fn begin_ensure(&self) -> String {
        let ensure = {
            let mut state = self.state();
            let path = state.open.last().map_or_else(|| ENSURE.to_owned(), |step| format!("{step}/{ENSURE}"));
            numbered(&mut state.ensures, path)
        };
        self.host.emit(What::EnsureBegun { ensure: ensure.clone() });
        ensure
    }

    /// Begins the clean-up of a block.
    pub fn begin_clean_up(&self, ensure: &str) {
        self.host.emit(What::CleanUpBegun { ensure: ensure.to_owned() });
    }

    /// Ends the clean-up of a block.
    pub fn end_clean_up(&self, ensure: String, failure: Option<&Failure>) {
        self.host.emit(What::CleanUpEnded { ensure, failure: failure.cloned() });
    }

    /// Notes that a clean-up failed in a run that ends for another failure.
    pub fn clean_up_failed(&self, failure: &Failure) {
        self.host.add_warning(self.host.masker().mask(&format!("the clean-up failed too: {failure}")));
        self.host.set_troubled();
    }
}
