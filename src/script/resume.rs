//! From the record of a run that ended early to what it needs to go on: parameters, code, and what it has done already.

use crate::base::event::{Event, Mode, What};
use crate::base::failure::{Code, Exit, Failure};
use crate::base::ids::RunId;
use crate::base::resume::Resuming;
use crate::base::secret::MASK;
use crate::engine::resume::Past;
use crate::journal::reader::{self, RunState};
use crate::script::header::Header;
use crate::script::parameters::{Given, ParamValue, Values, values};
use crate::script::program::Program;
use crate::sys::host::Host;
use chrono::{DateTime, FixedOffset};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A run on record that can go on.
#[derive(Clone, Debug)]
pub struct Resumable {
    /// Its id.
    pub run: RunId,
    /// The playbook: its name if it is embedded, else its path.
    pub playbook: String,
    /// When it began.
    pub began: DateTime<FixedOffset>,
    /// Its events.
    pub events: Vec<Event>,
    params: Map<String, Value>,
    /// Names that it had for a file, and the text of that file.
    sources: BTreeMap<String, String>,
}

impl Resumable {
    /// Reads the record of a run.
    ///
    /// # Errors
    /// If it still works, ended well, or cannot be read.
    pub fn read(state: &Path, run: &RunId) -> Result<Self, Failure> {
        let summary = reader::summary(state, run);
        let refused =
            |why: &str| Failure::new(Code::Usage, format!("the run `{run}` cannot be resumed: {why}"));
        match summary.state {
            RunState::Running => {
                return Err(Failure::new(Code::Locked, format!("the run `{run}` is still going on"))
                    .hint(format!("`lifeboat logs -f {}` follows it.", run.letters())));
            }
            RunState::Ended(Exit::Success | Exit::Warnings) => {
                return Err(refused("it completed").hint("Run its playbook once more instead."));
            }
            RunState::Ended(_) | RunState::Killed => {}
        }
        let unreadable = || refused("its record cannot be read").hint("Run its playbook once more instead.");
        let began = summary.began.ok_or_else(unreadable)?;
        let events = reader::events(state, run)?.events;
        let (params, origin, mode, name) = events
            .iter()
            .find_map(|event| match &event.what {
                What::RunBegun { params, origin, mode, playbook, .. } => {
                    Some((params.clone(), origin.clone(), *mode, playbook.clone()))
                }
                _ => None,
            })
            .ok_or_else(unreadable)?;
        if mode != Mode::Live {
            return Err(refused("it was not for real").hint("Run its playbook once more instead."));
        }
        let sources = reader::sources(state, run);
        if sources.is_empty() {
            return Err(unreadable());
        }
        let playbook = if origin == "embedded" { name } else { origin };
        Ok(Self { run: run.clone(), playbook, began, events, params, sources })
    }

    /// Files whose text is not that of the record any more.
    pub fn changed(&self, program: &Program) -> Vec<String> {
        let now: BTreeMap<&str, &str> =
            program.units.iter().map(|unit| (unit.source.file.as_str(), &*unit.source.text)).collect();
        let files: BTreeSet<&str> =
            self.sources.keys().map(String::as_str).chain(now.keys().copied()).collect();
        let differs = |file: &&str| self.sources.get(*file).map(String::as_str) != now.get(*file).copied();
        files.into_iter().filter(differs).map(str::to_owned).collect()
    }

    /// What the earlier attempts left, unless other code runs now and nobody accepted that.
    ///
    /// # Errors
    /// `Usage` that names the files.
    pub fn past(&self, program: &Program, terms: &Resuming) -> Result<(Past, Vec<String>), Failure> {
        let changed = self.changed(program);
        let letters = self.run.letters();
        if !changed.is_empty() && !terms.accept_changed {
            let mut failure =
                Failure::new(Code::Usage, format!("the code of the run `{}` has changed since", self.run));
            failure.causes = changed;
            return Err(failure.hint(format!(
                "Undo the changes, or accept them: `lifeboat resume {letters} --accept-changed` runs the code as it is now."
            )));
        }
        let mut past = Past::of(self.run.as_str(), &self.events);
        past.changed = !changed.is_empty();
        past.settle = terms.settle;
        Ok((past, changed))
    }

    /// The parameters as recorded; secrets are looked up again where they came from.
    ///
    /// # Errors
    /// `Usage` for a secret that is not there any more.
    pub fn values(&self, header: &Header, host: &Host) -> Result<Values, Failure> {
        let env = host.env();
        let mut resolved = Values::default();
        for param in &header.params {
            let again = || {
                let one = std::slice::from_ref(param);
                values(one, &Given::new(), &env, host.masker())
                    .map(|values| values.values.get(&param.name).cloned())
            };
            let value = match self.params.get(&param.name) {
                Some(recorded) if param.secret && !recorded.is_null() => match again() {
                    Ok(Some(value @ ParamValue::Secret(_))) => value,
                    _ => return Err(self.lost(&param.name, param.env.as_deref())),
                },
                Some(recorded) if recorded.to_string().contains(MASK) => {
                    let shown = |value: &ParamValue| {
                        let mut shown = value.shown();
                        host.masker().mask_json(&mut shown);
                        shown
                    };
                    match again() {
                        Ok(Some(value)) if shown(&value) == *recorded => value,
                        _ => return Err(self.lost(&param.name, param.env.as_deref())),
                    }
                }
                Some(recorded) => ParamValue::Json(recorded.clone()),
                // The code has changed: a new parameter is what it is in a new run.
                None => match again()? {
                    Some(value) => value,
                    None => continue,
                },
            };
            resolved.values.insert(param.name.clone(), value);
        }
        Ok(resolved)
    }

    fn lost(&self, name: &str, variable: Option<&str>) -> Failure {
        let run = &self.run;
        let failure = Failure::new(
            Code::Usage,
            format!("the parameter `{name}` of the run `{run}` cannot be had again"),
        )
        .caused_by("it holds a secret, which no record holds");
        match variable {
            Some(variable) => failure.hint(format!(
                "Set `{variable}` in the environment or in `.env` to what it was when the run began."
            )),
            None => failure.hint("Run its playbook once more instead."),
        }
    }
}
