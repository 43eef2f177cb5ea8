//! `last_drill`: the newest drill of a playbook.

use crate::base::drill::DrillRecord;
use crate::base::failure::Failure;
use crate::base::plan::Later;
use crate::observe::Observation;
use crate::sys::facts::Facts;
use crate::sys::state::newest::{self, Of};

/// Asks for the newest drill of a playbook.
#[derive(Clone, Debug)]
pub struct LastDrill {
    /// The playbook.
    pub playbook: String,
}

impl Observation for LastDrill {
    const NAME: &'static str = "last_drill";
    type Answer = Option<DrillRecord>;

    fn question(&self) -> String {
        format!("the newest drill of `{}`", self.playbook)
    }

    fn answer(&self, answer: &Self::Answer) -> String {
        match answer {
            Some(drill) => format!("{}: {}", drill.began.format("%Y-%m-%d %H:%M:%S"), drill.in_short()),
            None => "none".to_owned(),
        }
    }

    fn ask(&self, facts: &Facts) -> Result<Later<Self::Answer>, Failure> {
        let text = newest::read(facts.host().state(), Of::Drills, &self.playbook);
        let drill = text.and_then(|text| DrillRecord::read(&text, &self.playbook));
        Ok(Later::Now(drill.filter(|drill| drill.began <= facts.now())))
    }
}
