//! `undoable`: what a run on record did that can be rolled back, from its journal, newest first.

use crate::action::Action;
use crate::action::extract::Extract;
use crate::action::rollback_database::{RollbackDatabase, RolledBack};
use crate::action::rollback_files::RollbackFiles;
use crate::base::event::{Mode, What};
use crate::base::failure::{Code, Failure};
use crate::base::ids::RunId;
use crate::base::plan::{Later, Need};
use crate::journal::actions::{RecordedAction, actions};
use crate::journal::reader::{self, RunState};
use crate::observe::Observation;
use crate::sys::facts::Facts;
use crate::sys::kept::{Kept, State};
use crate::sys::postgres::address::Address;
use crate::sys::postgres::maintenance::Maintenance;
use crate::sys::postgres::swap::Named;
use crate::sys::tree::KEPT;
use serde::Deserialize;
use std::path::PathBuf;

/// The actions whose effect a rollback takes back.
const DATABASES: [&str; 2] = ["restore", RollbackDatabase::NAME];
const FILES: [&str; 2] = [Extract::NAME, RollbackFiles::NAME];

/// What a run did that can be rolled back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undoable {
    /// The run.
    pub run: String,
    /// What is to be performed, in this order.
    pub undo: Vec<Undo>,
    /// What need not be rolled back, and why, for people.
    pub notes: Vec<String>,
}

/// An action that takes back what another one did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undo {
    /// A database gets its name back.
    Database(Box<RollbackDatabase>),
    /// Files change places with those that are kept of them.
    Files(RollbackFiles),
}

/// Asks what a run did that can be rolled back.
pub struct AskUndoable {
    /// The run as people name it. `latest` is the newest that changed anything which can be rolled back.
    pub run: String,
}

impl Observation for AskUndoable {
    const NAME: &'static str = "undoable";
    type Answer = Undoable;

    fn question(&self) -> String {
        format!("what run {} did that can be rolled back", self.run)
    }

    fn answer(&self, answer: &Undoable) -> String {
        let actions = if answer.undo.len() == 1 { "action" } else { "actions" };
        format!("{} {actions} of run {}", answer.undo.len(), answer.run)
    }

    fn needs(&self, facts: &Facts) -> Vec<Need> {
        vec![Need::Read(facts.host().state().to_path_buf())]
    }

    fn ask(&self, facts: &Facts) -> Result<Later<Undoable>, Failure> {
        let run = if self.run == "latest" { latest(facts)? } else { named(facts, &self.run)? };
        let mut undoable = Undoable { run: run.to_string(), undo: Vec::new(), notes: Vec::new() };
        for action in recorded(facts, &run)?.into_iter().rev() {
            if DATABASES.contains(&action.name.as_str()) {
                match database(facts, &run, &action)? {
                    Ok(rollback) => undoable.undo.push(Undo::Database(Box::new(rollback))),
                    Err(why) => undoable.notes.push(why),
                }
            } else {
                match files(&run, &action)? {
                    Ok(rollback) => undoable.undo.push(Undo::Files(rollback)),
                    Err(why) => undoable.notes.push(why),
                }
            }
        }
        if undoable.undo.is_empty() {
            let failure =
                Failure::new(Code::NotFound, format!("run {run} did nothing that can be rolled back"));
            let failure = if undoable.notes.is_empty() {
                failure.caused_by("it restored no database and replaced no file")
            } else {
                undoable.notes.iter().fold(failure, Failure::caused_by)
            };
            return Err(failure.hint(format!("`lifeboat show {run}` tells what it did.")));
        }
        Ok(Later::Now(undoable))
    }
}

/// The run that is meant, if it has ended.
fn named(facts: &Facts, name: &str) -> Result<RunId, Failure> {
    let state = facts.host().state();
    let run = reader::find(state, name)?;
    if reader::summary(state, &run).state == RunState::Running {
        return Err(Failure::new(Code::Locked, format!("run {run} has not ended"))
            .hint("Wait until it has ended, or end it, then roll it back."));
    }
    Ok(run)
}

/// The newest run that has ended and changed what can be rolled back.
fn latest(facts: &Facts) -> Result<RunId, Failure> {
    let state = facts.host().state();
    for run in reader::runs(state)? {
        if reader::summary(state, &run).state != RunState::Running && !recorded(facts, &run)?.is_empty() {
            return Ok(run);
        }
    }
    Err(Failure::new(Code::NotFound, "no run on record did anything that can be rolled back")
        .hint("Name the run: `lifeboat history` lists them."))
}

/// What a live run did that a rollback may take back, oldest first.
fn recorded(facts: &Facts, run: &RunId) -> Result<Vec<RecordedAction>, Failure> {
    let events = reader::events(facts.host().state(), run)?.events;
    let is_live = events.iter().any(|event| matches!(event.what, What::RunBegun { mode: Mode::Live, .. }));
    let mut all = if is_live { actions(&events) } else { Vec::new() };
    let is_nothing = |action: &RecordedAction| {
        action.output.as_ref().is_some_and(|output| output["changes"] == serde_json::json!([]))
    };
    all.retain(|action| {
        let name = action.name.as_str();
        DATABASES.contains(&name) || (FILES.contains(&name) && !is_nothing(action))
    });
    Ok(all)
}

/// What both a restore and a rollback return of the database that they replaced.
#[derive(Deserialize)]
struct Replaced {
    target: Address,
    live_oid: Option<u32>,
    kept: Option<String>,
    kept_oid: Option<u32>,
}

/// The rollback of one action, or why there is nothing to roll back.
fn database(
    facts: &Facts,
    run: &RunId,
    action: &RecordedAction,
) -> Result<Result<RollbackDatabase, String>, Failure> {
    let Some(output) = &action.output else { return unfinished(facts, run, action) };
    let replaced: Replaced = serde_json::from_value(output.clone()).map_err(|error| {
        Failure::new(
            Code::Journal,
            format!("the record of run {run} does not tell what `{}` did", action.name),
        )
        .caused_by(error)
    })?;
    if was_in_place(action, &replaced) {
        return Err(Failure::new(
            Code::Failed,
            format!("`{}` was restored in place, so that nothing was kept of it", replaced.target.database),
        )
        .hint("Restore the backup that was made right before: `lifeboat backups` lists them."));
    }
    let kept = replaced.kept.zip(replaced.kept_oid).map(|(name, oid)| Named { name, oid });
    Ok(Ok(RollbackDatabase {
        target: replaced.target,
        run: run.to_string(),
        action: action.number,
        live_oid: replaced.live_oid,
        kept,
    }))
}

/// Whether the database was there before, and is the same one since.
fn was_in_place(action: &RecordedAction, replaced: &Replaced) -> bool {
    let before = action.plan.basis.as_ref().and_then(|basis| basis.get("live")?.get("oid")?.as_u64());
    before.is_some() && before == replaced.live_oid.map(u64::from)
}

/// The rollback of an action that failed or was killed: the mark on what was kept tells whether the names were swapped.
fn unfinished(
    facts: &Facts,
    run: &RunId,
    action: &RecordedAction,
) -> Result<Result<RollbackDatabase, String>, Failure> {
    let basis = action.plan.basis.as_ref().and_then(|basis| basis.get("target")).cloned();
    let forecast = action.plan.forecast.clone().now();
    let forecast = forecast.and_then(|output| serde_json::from_value::<RolledBack>(output).ok());
    let target = basis.and_then(|target| serde_json::from_value::<Address>(target).ok());
    let Some(target) = target.or(forecast.map(|output| output.target)) else {
        return Ok(Err(format!("`{}` did not come far enough to change a database", action.name)));
    };
    let settings = target.settings(facts.host())?;
    let kept = Maintenance::connect(facts.host(), &settings)?.kept_by(run.as_str(), action.number)?;
    Ok(match kept {
        Some(kept) => Ok(RollbackDatabase {
            live_oid: kept.mark.and_then(|mark| mark.replaced_by),
            kept: Some(Named { name: kept.name, oid: kept.oid }),
            target,
            run: run.to_string(),
            action: action.number,
        }),
        None => Err(format!(
            "`{}` did not come to its end, and `{target}` keeps nothing of it: it was not swapped, or was not there before",
            action.name
        )),
    })
}

/// Where an extraction put files, and where it kept others.
#[derive(Deserialize)]
struct Placed {
    dir: PathBuf,
    kept: Later<Option<PathBuf>>,
}

/// The rollback of an action on files, or why there is nothing to roll back. Where it stands is told by what is kept.
fn files(run: &RunId, action: &RecordedAction) -> Result<Result<RollbackFiles, String>, Failure> {
    let told = action.output.clone().or_else(|| action.plan.forecast.clone().now());
    let Some(told) = told else {
        return Ok(Err(format!("`{}` did not come far enough to change a file", action.name)));
    };
    // A rollback tells its folder at once, an extraction only when it is made.
    let kept = told["kept"].as_str().map(PathBuf::from);
    let at = match kept {
        Some(kept) => kept,
        None => {
            let placed: Placed = serde_json::from_value(told.clone()).map_err(|error| {
                let message = format!("the record of run {run} does not tell what `{}` did", action.name);
                Failure::new(Code::Journal, message).caused_by(error)
            })?;
            let own = placed.dir.join(KEPT).join(format!("{run}-{}", action.number));
            placed.kept.now().flatten().unwrap_or(own)
        }
    };
    let forward = told["forward"].as_bool().unwrap_or(true);
    Ok(match Kept::open(&at) {
        Ok(kept) if kept.state == State::Swapped && !forward => {
            Err("what was rolled back was extracted again already".to_owned())
        }
        Ok(kept) if kept.state == State::Undone && forward => Err("it was rolled back already".to_owned()),
        Ok(_) => Ok(RollbackFiles { kept: at }),
        Err(failure) if failure.code == Code::NotFound => Err(format!(
            "nothing is kept of what `{}` did, or it did not come far enough to replace files",
            action.name
        )),
        Err(failure) => return Err(failure),
    })
}
