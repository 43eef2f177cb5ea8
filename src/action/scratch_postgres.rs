//! `scratch_postgres`: a PostgreSQL server of the run's own, which ends with it.

use crate::action::{Action, Recorded};
use crate::base::event::Progress;
use crate::base::failure::{Code, Failure};
use crate::base::plan::{Effect, Later, Need, Plan, Reconciled, Was};
use crate::sys::effects::Effects;
use crate::sys::facts::Facts;
use crate::sys::postgres::binaries;
use crate::sys::postgres::connection::connect;
use crate::sys::postgres::quote::ident;
use crate::sys::process::{Command, Input};
use crate::sys::scratch::ScratchTarget;
use serde::{Deserialize, Serialize};

/// The sample database, for psql.
const SAMPLE: &str = include_str!("../../stdlib/sample.sql");

/// What the server is to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScratchOptions {
    /// Name of its database; `scratch` if none is given.
    pub database: Option<String>,
    /// Scale of the sample that is loaded; nothing is loaded without it.
    pub sample: Option<u32>,
}

/// Starts a server with one database.
#[derive(Clone, Debug)]
pub struct ScratchPostgres {
    /// What it is to hold.
    pub options: ScratchOptions,
}

impl Recorded for ScratchTarget {
    fn summary(&self) -> String {
        format!("PostgreSQL {} with the database {}", self.version, self.database)
    }
}

impl Action for ScratchPostgres {
    const NAME: &'static str = "scratch_postgres";
    type Output = ScratchTarget;

    fn plan(&self, facts: &Facts) -> Result<Plan<ScratchTarget>, Failure> {
        let programs =
            binaries::find_server(None, &|name| facts.host().env().value(name).map(str::to_owned))?;
        let mut plan = Plan::new(
            format!("start PostgreSQL {} with the database `{}`", programs.version, self.database()),
            Effect::Create,
            Later::AfterRun,
        );
        plan.details.push(format!(
            "{}, on a socket in a folder of its own, until the run ends",
            programs.postgres.display()
        ));
        plan.details.extend(self.options.sample.map(|scale| format!("load the sample at scale {scale}")));
        plan.unknown.push("the server's socket".to_owned());
        plan.needs.extend(["postgres", "initdb", "psql"].map(|program| Need::Program(program.to_owned())));
        Ok(plan)
    }

    fn execute(&self, _: &Plan<ScratchTarget>, effects: &Effects) -> Result<ScratchTarget, Failure> {
        let mut target = effects.start_scratch_cluster()?;
        create_database(effects, &target, self.database())?;
        self.database().clone_into(&mut target.database);
        if let Some(scale) = self.options.sample {
            load_sample(effects, &target, scale)?;
        }
        Ok(target)
    }

    /// Never done: a scratch server ends with the process that started it.
    fn reconcile(_: &Was<ScratchTarget>, _: &Facts) -> Result<Reconciled<ScratchTarget>, Failure> {
        Ok(Reconciled::NotDone)
    }
}

impl ScratchPostgres {
    fn database(&self) -> &str {
        self.options.database.as_deref().unwrap_or("scratch")
    }
}

/// Makes an empty database on a server.
pub fn create_database(effects: &Effects, server: &ScratchTarget, name: &str) -> Result<(), Failure> {
    if name.is_empty() || name.len() > 63 || name.contains('\0') {
        return Err(Failure::new(
            Code::Usage,
            format!("a database cannot be called `{}`", name.escape_debug()),
        )
        .hint("Names have 1 to 63 bytes."));
    }
    connect(effects.facts().host(), &server.settings()?)?
        .run(&format!("CREATE DATABASE {} TEMPLATE template0", ident(name)))
}

fn load_sample(effects: &Effects, target: &ScratchTarget, scale: u32) -> Result<(), Failure> {
    let facts = effects.facts();
    let psql = binaries::find("psql", &|name| facts.host().env().value(name).map(str::to_owned))?;
    facts.progress(Progress {
        label: format!("load the sample at scale {scale}"),
        done: 0,
        total: None,
        unit: String::new(),
    });
    let mut command = Command::new(psql.display().to_string())
        .args(["--no-psqlrc", "--quiet", "--file=-", &format!("--set=scale={scale}")])
        .input(Input::Bytes(SAMPLE.as_bytes().to_vec()));
    for (name, value) in target.settings()?.child_env("") {
        command = command.env(name, value);
    }
    command.run(facts.host())?.checked().map(|_| ())
}
