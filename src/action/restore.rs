//! `restore`: a verified dump becomes a database, and takes the place of the one that has its name.
//!
//! The dump is verified, loaded into a staging database over the wire protocol, read back and compared; then one
//! transaction gives it the name, and what had the name is kept. Whatever fails before that leaves the live database as it
//! was. Without the right to make databases, `in_place` loads into the live database itself, in one transaction.

mod in_place;
mod load;
mod preflight;
mod roles;
mod staging;

use crate::action::{Action, Recorded};
use crate::base::backup::{RecoveryPoint, Source};
use crate::base::failure::{Code, Failure};
use crate::base::plan::{Effect, Later, Need, Plan, Reconciled, Touch, Was};
use crate::base::units;
use crate::sys::effects::Effects;
use crate::sys::facts::{Facts, Seen};
use crate::sys::fs;
use crate::sys::postgres::address::Address;
use crate::sys::postgres::loose::Loose;
use crate::sys::postgres::maintenance::Maintenance;
use crate::sys::postgres::mark::Kind;
use crate::sys::postgres::settings::Settings;
use crate::sys::postgres::swap::Named;
use crate::sys::proof::{Checksum, Proof, Reread, prove};
use crate::sys::store;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How a backup is restored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RestoreOptions {
    /// Do not compare the SHA-256. All other checks are made; a person must agree.
    pub skip_checksum: bool,
    /// Count the rows that the server takes, and do not read them back to compare them. A drill compares all the same.
    pub skip_compare: bool,
    /// Load into the live database itself, in one transaction, for a role that may not make databases.
    pub in_place: bool,
    /// The fresh backup of this very database that alone can undo a restore in place.
    pub undo: Option<PathBuf>,
    /// How many sessions load at once; 0 means as many as there are cores, but at most 8. In place there is one.
    pub jobs: usize,
}

/// Restores a backup of a database.
#[derive(Clone, Debug)]
pub struct Restore {
    /// The backup.
    pub backup: PathBuf,
    /// The database that it becomes.
    pub settings: Settings,
    /// How.
    pub options: RestoreOptions,
}

/// A restore that was done, as it was observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The backup.
    pub backup: PathBuf,
    /// Name of the database.
    pub database: String,
    /// Where it is.
    pub target: Address,
    /// The name under which the database is kept that was there before; `None` if there was none, or in place.
    pub kept: Option<String>,
    /// Its OID.
    pub kept_oid: Option<u32>,
    /// OID of the restored database.
    pub live_oid: u32,
    /// Tables that were compared.
    pub tables: u64,
    /// Their rows.
    pub rows: u64,
    /// Whether the rows were read back and compared; else they were counted.
    #[serde(default = "yes")]
    pub compared: bool,
    /// The moment whose data the backup holds.
    pub recovery_point: Option<RecoveryPoint>,
    /// Milliseconds of loading.
    pub load_millis: u64,
    /// Milliseconds of reading back, comparing and analyzing.
    pub check_millis: u64,
    /// Milliseconds of the swap, or of the commit in place.
    pub swap_millis: u64,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

/// Restores were always compared before there was a choice.
fn yes() -> bool {
    true
}

impl Recorded for Restored {
    fn summary(&self) -> String {
        let name = self.backup.file_name().unwrap_or_default().to_string_lossy();
        let millis = Duration::from_millis(self.load_millis + self.check_millis + self.swap_millis);
        let kept = match &self.kept {
            Some(kept) => format!("; the database before is kept as {kept}"),
            None => String::new(),
        };
        format!(
            "{} is {name} now: {} tables, {} rows{}, in {}{kept}",
            self.database,
            self.tables,
            self.rows,
            if self.compared { "" } else { " (counted, not compared)" },
            units::duration(millis)
        )
    }
}

/// What execution and reconciliation need beyond what the plan shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Basis {
    backup: PathBuf,
    /// The digest of what was verified, which is what is loaded.
    sha256: String,
    size: u64,
    raw_size: u64,
    /// Whether the dump was made by `dump`, under our own settings.
    ours: bool,
    encoding: Option<String>,
    recovery_point: Option<RecoveryPoint>,
    target: Address,
    live: Option<Named>,
    in_place: bool,
    /// As in [`RestoreOptions`].
    #[serde(default)]
    jobs: usize,
    /// As in [`RestoreOptions`], but for drills.
    #[serde(default)]
    skip_compare: bool,
    roles: roles::Roles,
    tables: u64,
    rows: u64,
    /// What is to be said of a backup of another database.
    #[serde(default)]
    other: Option<String>,
    /// In place: what the backup that is to undo it holds outside of tables.
    #[serde(default)]
    undo: Option<Loose>,
}

impl Basis {
    fn of(plan: &Plan<Restored>) -> Option<Self> {
        serde_json::from_value(plan.basis.clone()?).ok()
    }
}

impl Action for Restore {
    const NAME: &'static str = "restore";
    type Output = Restored;

    fn plan(&self, facts: &Facts) -> Result<Plan<Restored>, Failure> {
        if self.options.skip_compare && self.options.in_place {
            return Err(Failure::new(Code::Usage, "`skip_compare` does not go with `in_place`")
                .caused_by(
                    "in place, the database that was there is gone when anybody notices that rows are wrong",
                )
                .hint("Leave one of the two out."));
        }
        let path = facts.absolute(&self.backup);
        let shown = facts.host().shown(&path);
        let settings = &self.settings;
        let how = if self.options.in_place { "in place " } else { "" };
        let mut plan =
            Plan::new(format!("restore `{shown}` {how}into `{settings}`"), Effect::Replace, Later::AfterRun);
        plan.needs = vec![Need::Read(path.clone())];
        plan.locks = vec![settings.target()];
        plan.touches = vec![Touch::Changed(settings.target())];
        match facts.view().path(&path) {
            Seen::AsIs if fs::exists(&path)? => {}
            Seen::AsIs | Seen::Gone => return Err(missing(&path, &shown)),
            Seen::Made | Seen::Unknown => {
                plan.unknown
                    .push("what the backup holds, and whether the server has all that it needs".to_owned());
                return Ok(plan);
            }
        }
        let proof = self.prove(facts, &path, &shown)?;
        plan.estimate = Some(proof.verification.size);
        plan.details.push(describe(&proof));
        plan.details.extend(stranger(&proof, &settings.database));
        if self.options.skip_checksum {
            plan.confirm = Some(format!("restore `{shown}` without comparing its SHA-256?"));
        }
        if self.skips_compare(facts) {
            plan.details
                .push("rows are counted as they are loaded, and not read back to be compared".to_owned());
        }
        if facts.view().is_touched(&settings.target()) {
            plan.unknown.push("what stands in the way: this run changes the database before".to_owned());
            return Ok(plan);
        }
        let basis = if self.options.in_place {
            in_place::plan(self, facts, &path, &proof, &mut plan)?
        } else {
            preflight::plan(self, facts, &path, &proof, &mut plan)?
        };
        plan.basis = serde_json::to_value(basis).ok();
        Ok(plan)
    }

    fn execute(&self, plan: &Plan<Restored>, effects: &Effects) -> Result<Restored, Failure> {
        let basis = Basis::of(plan)
            .ok_or_else(|| Failure::new(Code::Internal, "`restore` was planned without its backup"))?;
        if self.options.skip_checksum {
            let name = basis.backup.file_name().unwrap_or_default().to_string_lossy().into_owned();
            effects.facts().host().warn(&format!("{name} is restored without comparing its SHA-256"));
        }
        if let Some(other) = &basis.other {
            effects.facts().host().info(other);
        }
        if self.options.in_place {
            in_place::execute(self, &basis, effects)
        } else {
            staging::execute(self, &basis, effects)
        }
    }

    fn reconcile(was: &Was<Restored>, facts: &Facts) -> Result<Reconciled<Restored>, Failure> {
        let Some(basis) = Basis::of(&was.plan).filter(|_| was.begun) else {
            return Ok(Reconciled::NotDone);
        };
        let in_doubt = |why: String| Ok(Reconciled::InDoubt(why));
        let database = &basis.target.database;
        let maintenance = match basis
            .target
            .settings(facts.host())
            .and_then(|settings| Maintenance::connect(facts.host(), &settings))
        {
            Ok(maintenance) => maintenance,
            Err(failure) => {
                return in_doubt(format!("the server of `{database}` cannot be asked: {failure}"));
            }
        };
        let live = maintenance.find(database)?.map(|standing| standing.oid);
        if let Some(output) = &was.output {
            if live == Some(output.live_oid) {
                return Ok(Reconciled::Done(output.clone()));
            }
            return in_doubt(format!(
                "`{database}` is another database by now than the one that the run restored (OID {})",
                output.live_oid
            ));
        }
        let kept = maintenance.marked(Some(database))?.into_iter().find(|standing| {
            standing.mark.as_ref().is_some_and(|mark| {
                mark.kind == Kind::Kept && mark.run == was.run && live.is_some() && mark.replaced_by == live
            })
        });
        match (kept, live, &basis.live) {
            (Some(kept), Some(live), _) => Ok(Reconciled::Done(Restored {
                backup: basis.backup,
                database: database.clone(),
                target: basis.target.clone(),
                kept: Some(kept.name),
                kept_oid: Some(kept.oid),
                live_oid: live,
                tables: basis.tables,
                rows: basis.rows,
                compared: !basis.skip_compare,
                recovery_point: basis.recovery_point,
                load_millis: 0,
                check_millis: 0,
                swap_millis: 0,
                notes: vec!["the run was interrupted after the swap".to_owned()],
            })),
            (None, Some(live), Some(before)) if live == before.oid && !basis.in_place => {
                Ok(Reconciled::NotDone)
            }
            (None, None, None) => Ok(Reconciled::NotDone),
            (_, Some(_), Some(_)) if basis.in_place => in_doubt(format!(
                "nobody recorded whether `{database}` was loaded in place before the run ended"
            )),
            (_, Some(_), None) => in_doubt(format!(
                "`{database}` was not there when the run began, and is there now: nobody recorded who made it"
            )),
            (_, Some(_), Some(_)) => {
                in_doubt(format!("`{database}` is another database by now than when the run began"))
            }
            (_, None, _) => in_doubt(format!("`{database}` was there when the run began, and is gone")),
        }
    }
}

impl Restore {
    /// Whether rows are only counted. A drill is there to find out, and always compares.
    fn skips_compare(&self, facts: &Facts) -> bool {
        self.options.skip_compare && facts.host().sandbox().is_none()
    }

    /// Verifies the backup, and refuses it unless it is an intact dump.
    fn prove(&self, facts: &Facts, path: &Path, shown: &str) -> Result<Proof, Failure> {
        let checksum = if self.options.skip_checksum { Checksum::Skipped } else { Checksum::IfThere };
        let proof = prove(facts, path, checksum, Reread::UnlessVerified)?;
        if proof.content != crate::base::backup::Content::Sql {
            return Err(Failure::new(Code::Usage, format!("`{shown}` is no dump of a database"))
                .caused_by("its name does not end with .sql or .sql.gz, and no manifest says that it is one")
                .hint("Archives of files are unpacked by `extract`."));
        }
        // What must not be carried out says more than that a dump does not hold it.
        let forbidden = proof.requirements.forbidden.as_ref();
        if let Some(forbidden) = forbidden.filter(|_| proof.verification.problems.len() < 2) {
            return Err(crate::sys::postgres::trouble::forbidden(
                &proof.verification.name,
                forbidden.line,
                &forbidden.statement,
                forbidden.why,
                forbidden.hint,
            ));
        }
        if !proof.verification.intact {
            let name = &proof.verification.name;
            let mut failure = Failure::new(Code::NotIntact, format!("`{name}` is not intact"));
            failure.causes.clone_from(&proof.verification.problems);
            let dir = Path::new(shown).parent().map(|dir| dir.display().to_string()).unwrap_or_default();
            let dir = if dir.is_empty() { ".".to_owned() } else { dir };
            return Err(failure.hint(format!(
                "Nothing was changed. `lifeboat backups {dir} --verified` lists the intact ones."
            )));
        }
        Ok(proof)
    }
}

fn missing(path: &Path, shown: &str) -> Failure {
    let dir = Path::new(shown).parent().map(|dir| dir.display().to_string()).unwrap_or_default();
    let dir = if dir.is_empty() { ".".to_owned() } else { dir };
    Failure::new(Code::NotFound, format!("there is no backup `{}`", path.display()))
        .hint(format!("`lifeboat backups {dir}` lists what is there."))
}

fn describe(proof: &Proof) -> String {
    let rows: u128 = proof.tables.iter().map(|table| u128::from(table.rows)).sum();
    let of = proof.server.as_deref().map(|server| format!(" of PostgreSQL {server}")).unwrap_or_default();
    let at = proof
        .manifest
        .as_ref()
        .and_then(|manifest| manifest.recovery_point.as_ref())
        .map(|point| format!(", as of {}", point.time.format("%Y-%m-%d %H:%M:%S %z")))
        .unwrap_or_default();
    let unsure = if proof.compared { "" } else { "; no SHA-256 was compared" };
    format!(
        "a dump{of}{at}: {} tables, {rows} rows, {} of SQL; checked: {}{unsure}",
        proof.tables.len(),
        units::bytes(proof.verification.raw_size),
        proof.verification.checks.join(", ")
    )
}

/// What the plan records of a verified backup.
fn basis(
    restore: &Restore,
    facts: &Facts,
    path: &Path,
    proof: &Proof,
    live: Option<Named>,
    roles: roles::Roles,
) -> Basis {
    let manifest = proof.manifest.as_ref();
    Basis {
        backup: path.to_path_buf(),
        sha256: proof.verification.sha256.clone(),
        size: proof.verification.size,
        raw_size: proof.verification.raw_size,
        ours: manifest.is_some(),
        encoding: proof.requirements.encoding.clone(),
        recovery_point: manifest.and_then(|manifest| manifest.recovery_point.clone()),
        target: Address::of(&restore.settings),
        live,
        in_place: restore.options.in_place,
        jobs: restore.options.jobs,
        skip_compare: restore.skips_compare(facts),
        roles,
        tables: proof.tables.len() as u64,
        rows: proof.tables.iter().map(|table| table.rows).sum(),
        other: stranger(proof, &restore.settings.database),
        undo: None,
    }
}

/// What is to be said loudly of a backup that is of another database than the one it becomes.
fn stranger(proof: &Proof, database: &str) -> Option<String> {
    match &proof.manifest.as_ref()?.source {
        Source::Database { name, .. } if name != database => {
            Some(format!("{} is a backup of `{name}`, not of `{database}`", proof.verification.name))
        }
        _ => None,
    }
}

/// The globals beside a backup, as text, if its manifest vouches for them: the proof has compared the digest.
fn globals(path: &Path, proof: &Proof) -> Result<Option<String>, Failure> {
    let vouched = proof.manifest.as_ref().is_some_and(|manifest| manifest.globals.is_some());
    if vouched { fs::read_text(&store::sidecar(path, ".globals.sql")) } else { Ok(None) }
}
