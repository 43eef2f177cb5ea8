//! What a drill refuses, so that it changes nothing outside of its sandbox and rehearses nothing that it does not have.

use super::Session;
use crate::base::failure::{Code, Failure};
use crate::base::plan::{Need, Target};

impl Session {
    /// Refuses, as unknown, what would be done with files that a captured command would have made or changed, or that the
    /// sandbox could not take in.
    pub(super) fn check_rehearsable(&self, needs: &[Need], verb: &str) -> Result<(), Failure> {
        for need in needs {
            let (Need::Read(path) | Need::Write(path)) = need else { continue };
            let why = match self.host.sandbox().and_then(|sandbox| sandbox.beyond(path)) {
                Some(why) => why,
                None if self.facts.view().is_touched(&Target::Path(path.clone())) => {
                    "a command that was not run makes or changes it".to_owned()
                }
                None => continue,
            };
            let path = self.host.shown(path);
            let message = format!("`{verb}` of `{path}` cannot be rehearsed: {why}");
            return Err(Failure::new(Code::Unknown, message));
        }
        Ok(())
    }

    /// Refuses, in a drill, what would write outside of the sandbox. Paths are mapped where they enter; this is the second
    /// wall, for the one that was forgotten.
    pub(super) fn check_inside(&self, needs: &[Need], verb: &str) -> Result<(), Failure> {
        let Some(sandbox) = self.host.sandbox() else { return Ok(()) };
        let outside = needs.iter().find_map(|need| match need {
            Need::Write(path) | Need::Restore(path) if !sandbox.keeps(path) => Some(path),
            _ => None,
        });
        let Some(path) = outside else { return Ok(()) };
        let path = self.host.shown(path);
        Err(Failure::new(Code::Policy, format!("`{verb}` would change `{path}` in a drill"))
            .caused_by("it lies outside of the sandbox, and a drill changes nothing there"))
    }
}
