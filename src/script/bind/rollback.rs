//! Taking back what runs did, and removing what they kept for it.

use crate::action::remove_database::{RemoveDatabase, RemoveOptions, Removed};
use crate::action::rollback_database::RolledBack;
use crate::observe::kept::{Kept, KeptDatabase};
use crate::observe::undoable::{AskUndoable, Undo};
use crate::script::bind::database::Database;
use crate::script::bind::time::{Bytes, Span, Time};
use crate::script::bind::{known_text, observe, perform};
use crate::script::context::{Raised, RunContext, place};
use crate::script::fault;
use crate::script::option_keys::Options;
use crate::script::options;
use crate::script::value::IntoScript;
use crate::sys::postgres::mark::Kind;
use rhai::Map;
use rhai::plugin::*;
use std::time::Duration;

/// Gives an engine this family.
pub fn register(engine: &mut Engine) {
    engine.register_global_module(exported_module!(functions).into());
}

/// Options of this family's functions.
pub fn options() -> Vec<Options> {
    vec![Options::of::<RemoveOptions>("remove_database")]
}

fn kind(kind: Kind) -> Dynamic {
    match kind {
        Kind::Kept => "kept".into(),
        Kind::Staging => "staging".into(),
    }
}

impl IntoScript for KeptDatabase {
    fn into_script(self) -> Dynamic {
        let mut map = Map::new();
        map.insert("name".into(), self.name.into());
        map.insert("database".into(), self.database.into());
        map.insert("kind".into(), kind(self.kind));
        map.insert("run".into(), self.run.into());
        map.insert("at".into(), Dynamic::from(Time(self.at)));
        map.insert("age".into(), Dynamic::from(Span(Duration::from_secs(self.age))));
        map.insert("size".into(), self.size.map(Bytes).into_script());
        map.insert("sessions".into(), Dynamic::from(i64::try_from(self.sessions).unwrap_or(i64::MAX)));
        map.insert("busy".into(), self.busy.into());
        map.into()
    }
}

impl IntoScript for Removed {
    fn into_script(self) -> Dynamic {
        let mut map = Map::new();
        map.insert("name".into(), self.name.into());
        map.insert("kind".into(), kind(self.kind));
        map.insert("run".into(), self.run.into());
        map.insert("size".into(), self.size.map(Bytes).into_script());
        map.into()
    }
}

impl IntoScript for RolledBack {
    fn into_script(self) -> Dynamic {
        let mut map = Map::new();
        map.insert("database".into(), self.database.into());
        map.insert("was".into(), self.was.into_script());
        map.insert("kept".into(), self.kept.into_script());
        map.into()
    }
}

fn remove(ctx: &NativeCallContext, db: Database, name: &str, options: Map) -> Result<Dynamic, Raised> {
    let options: RemoveOptions = options::read("remove_database", options)?;
    perform(ctx, &RemoveDatabase { settings: db.0, name: known_text(name)?.to_owned(), options })
}

#[export_module]
mod functions {
    /// Takes back what an earlier run restored, newest first, and returns what was done: `rollback("latest")`.
    ///
    /// A database that was replaced gets its name back, files that were replaced their places, and what is live now is kept
    /// in its turn, so that a rollback can be rolled back too. `latest` is the newest run that changed anything which can be rolled back. A person must agree.
    #[rhai_fn(volatile, return_raw)]
    pub fn rollback(ctx: NativeCallContext, run: &str) -> Result<Dynamic, Raised> {
        let context = RunContext::of(&ctx)?;
        let session = context.session()?;
        let asked = AskUndoable { run: known_text(run)?.to_owned() };
        let answer = session.observe(&asked, true, place(&ctx)).map_err(fault::raise)?;
        let Some(undoable) = answer.now() else { return Ok(rhai::Array::new().into()) };
        for note in &undoable.notes {
            session.host().info(note);
        }
        let mut done = rhai::Array::new();
        for undo in undoable.undo {
            done.push(match undo {
                Undo::Database(action) => perform(&ctx, &*action)?,
                Undo::Files(action) => perform(&ctx, &action)?,
            });
        }
        Ok(done.into())
    }

    /// The databases that restores into this one have kept, or staged and left behind: `for k in kept(db) { ... }`.
    ///
    /// Each has `name`, `kind` ("kept" or "staging"), `run`, `at`, `age`, `size`, `sessions`, and `busy`, which is true while
    /// somebody restores into the database.
    #[rhai_fn(volatile, return_raw)]
    pub fn kept(ctx: NativeCallContext, db: Database) -> Result<Dynamic, Raised> {
        observe(&ctx, &Kept { settings: db.0 }, false)
    }

    /// Removes a database that restores into `db` have kept or staged: `remove_database(db, "shop_before_20251110_020000")`.
    ///
    /// It must have Lifeboat's mark, nobody may be in it, and a person must agree.
    #[rhai_fn(volatile, return_raw)]
    pub fn remove_database(ctx: NativeCallContext, db: Database, name: &str) -> Result<Dynamic, Raised> {
        remove(&ctx, db, name, Map::new())
    }

    /// Removes a database that was kept; with option `force` sessions in it are ended.
    #[rhai_fn(volatile, return_raw, name = "remove_database")]
    pub fn remove_database_with(
        ctx: NativeCallContext,
        db: Database,
        name: &str,
        options: Map,
    ) -> Result<Dynamic, Raised> {
        remove(&ctx, db, name, options)
    }
}
