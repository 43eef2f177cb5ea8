//! PostgreSQL: which database, dumping it, asking it, and throw-away servers.

use crate::action::dump::{Dump, DumpOptions};
use crate::action::restore::{Restore, RestoreOptions, Restored};
use crate::action::scratch_database::ScratchDatabase;
use crate::action::scratch_postgres::{ScratchOptions, ScratchPostgres};
use crate::action::source::BackupSource;
use crate::base::backup::Backup;
use crate::base::event::Level;
use crate::base::secret::Secret;
use crate::observe::databases::{DatabaseInfo, Databases};
use crate::observe::estimate::{Estimate, Estimated};
use crate::observe::query::{Answer, Query, Value};
use crate::observe::require_pg_dump::{PgDump, RequirePgDump};
use crate::observe::require_restorable::RequireRestorable;
use crate::script::bind::backup::Pipeline;
use crate::script::bind::time::{Bytes, Time};
use crate::script::bind::{known_text, observe, perform};
use crate::script::context::{Raised, RunContext, place};
use crate::script::fault;
use crate::script::option_keys::Options;
use crate::script::options::{self, Period};
use crate::script::value::{IntoScript, Kind, ScriptValue};
use crate::sys::postgres::settings::{Explicit, Settings, resolve_for};
use crate::sys::scratch::ScratchTarget;
use rhai::Map;
use rhai::plugin::*;
use serde::Deserialize;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Types of this family.
pub const KINDS: &[Kind] = &[Kind::of::<Database>()];

/// Gives an engine this family.
pub fn register(engine: &mut Engine) {
    engine.register_global_module(exported_module!(functions).into());
}

/// Options of this family's functions.
pub fn options() -> Vec<Options> {
    vec![
        Options::of::<PostgresOptions>("postgres"),
        Options::of::<DumpOptions>("dump"),
        Options::of::<QueryOptions>("query"),
        Options::of::<RestoreOptions>("restore"),
        Options::of::<ScratchOptions>("scratch_postgres"),
    ]
}

/// A database as scripts handle it.
#[derive(Clone, Debug)]
pub struct Database(pub Settings);

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ScriptValue for Database {
    const NAME: &'static str = "database";

    fn json(&self) -> serde_json::Value {
        serde_json::json!({ "database": self.0.to_string() })
    }
}

impl IntoScript for ScratchTarget {
    fn into_script(self) -> Dynamic {
        // The target is made of names that the host chose itself, so that it always resolves.
        self.settings().map_or(Dynamic::UNIT, |settings| Dynamic::from(Database(settings)))
    }
}

impl IntoScript for Restored {
    fn into_script(self) -> Dynamic {
        let count = |n: u64| Dynamic::from(i64::try_from(n).unwrap_or(i64::MAX));
        let time = |millis: u64| Duration::from_millis(millis).into_script();
        let mut map = Map::new();
        map.insert("backup".into(), self.backup.display().to_string().into());
        map.insert("database".into(), self.database.into());
        map.insert("host".into(), self.target.host.into());
        map.insert("port".into(), i64::from(self.target.port).into());
        map.insert("user".into(), self.target.user.into());
        map.insert("kept".into(), self.kept.map_or(Dynamic::UNIT, Dynamic::from));
        map.insert("tables".into(), count(self.tables));
        map.insert("rows".into(), count(self.rows));
        map.insert("compared".into(), self.compared.into());
        let point = self.recovery_point.map(|point| Dynamic::from(Time(point.time)));
        map.insert("recovery_point".into(), point.unwrap_or_default());
        map.insert("load_time".into(), time(self.load_millis));
        map.insert("check_time".into(), time(self.check_millis));
        map.insert("swap_time".into(), time(self.swap_millis));
        map.insert("notes".into(), self.notes.into_iter().map(Dynamic::from).collect::<rhai::Array>().into());
        map.into()
    }
}

impl IntoScript for Estimated {
    fn into_script(self) -> Dynamic {
        Bytes(self.bytes).into_script()
    }
}

impl IntoScript for DatabaseInfo {
    fn into_script(self) -> Dynamic {
        let mut map = Map::new();
        map.insert("name".into(), self.name.into());
        map.insert("owner".into(), self.owner.into());
        map.insert("size".into(), self.size.map(Bytes).into_script());
        map.into()
    }
}

impl IntoScript for PgDump {
    fn into_script(self) -> Dynamic {
        self.path.display().to_string().into()
    }
}

impl IntoScript for Answer {
    fn into_script(self) -> Dynamic {
        let columns = self.columns;
        let rows = self.rows.into_iter().map(|row| {
            let cells = columns.iter().zip(row).map(|(name, value)| (name.as_str().into(), cell(value)));
            Dynamic::from(cells.collect::<Map>())
        });
        rows.collect::<rhai::Array>().into()
    }
}

fn cell(value: Value) -> Dynamic {
    match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(value) => value.into(),
        Value::Int(value) => value.into(),
        Value::Float(value) => value.into(),
        Value::Text(value) => value.into(),
    }
}

/// Options of `postgres`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PostgresOptions {
    url: Option<String>,
    service: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    database: Option<String>,
    user: Option<String>,
    password: Option<String>,
    sslmode: Option<String>,
    sslrootcert: Option<String>,
    connect_timeout: Option<Period>,
}

/// Options of `query`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct QueryOptions {
    timeout: Option<Period>,
    max_rows: Option<u64>,
    independent: bool,
    as_superuser: bool,
}

fn settings(ctx: &NativeCallContext, options: Map) -> Result<Dynamic, Raised> {
    let options: PostgresOptions = options::read("postgres", options)?;
    let context = RunContext::of(ctx)?;
    let host = context.session()?.host().clone();
    let explicit = Explicit {
        url: options.url.map(Secret::new),
        service: options.service,
        host: options.host,
        port: options.port.map(|port| port.to_string()),
        database: options.database,
        user: options.user,
        password: options.password.map(Secret::new),
        sslmode: options.sslmode,
        sslrootcert: options.sslrootcert,
        connect_timeout: options.connect_timeout.map(|Period(limit)| limit.as_secs().to_string()),
        options: None,
    };
    resolve_for(&host, &explicit).map(|settings| Dynamic::from(Database(settings))).map_err(fault::raise)
}

fn ask(
    ctx: &NativeCallContext,
    db: Database,
    sql: &str,
    params: rhai::Array,
    options: Map,
) -> Result<Dynamic, Raised> {
    let options: QueryOptions = options::read("query", options)?;
    let mut query = Query::new(db.0, known_text(sql)?);
    query.literal = RunContext::of(ctx)?.is_literal(sql);
    query.params = params.into_iter().map(|param| (!param.is_unit()).then(|| param.to_string())).collect();
    query.time_limit = options.timeout.map_or(query.time_limit, |Period(limit)| limit);
    query.row_limit = options.max_rows.unwrap_or(query.row_limit);
    query.as_superuser = options.as_superuser;
    let context = RunContext::of(ctx)?;
    let answer = context.session()?.observe(&query, options.independent, place(ctx)).map_err(fault::raise)?;
    if answer.as_now().is_some_and(|answer| answer.superuser) && context.first_superuser_query() {
        context.session()?.log(
            Level::Info,
            &format!("`query` asks as a superuser, whose SELECT may write files: a role with fewer rights is safer than `{}`", query.settings.user),
        );
    }
    Ok(answer.into_script())
}

fn guess(ctx: &NativeCallContext, db: Database, dir: Option<&str>) -> Result<Dynamic, Raised> {
    let dir = dir.map(known_text).transpose()?.map(PathBuf::from);
    observe(ctx, &Estimate { settings: db.0, dir }, false)
}

fn dump_of(db: Database, options: Map) -> Result<Pipeline, Raised> {
    let options: DumpOptions = options::read("dump", options)?;
    Ok(Pipeline::of(BackupSource::Dump(Box::new(Dump { settings: db.0, options }))))
}

fn restore_from(
    ctx: &NativeCallContext,
    backup: PathBuf,
    db: Database,
    mut options: Map,
) -> Result<Dynamic, Raised> {
    // A backup is as good as its path.
    if let Some(undo) = options.get_mut("undo")
        && let Some(path) = undo.read_lock::<Backup>().map(|backup| backup.path.display().to_string())
    {
        *undo = path.into();
    }
    let options: RestoreOptions = options::read("restore", options)?;
    perform(ctx, &Restore { backup, settings: db.0, options })
}

#[export_module]
mod functions {
    /// Checks that a database can be restored now: the server can be reached, the role may make and rename databases, and
    /// nothing holds on to the present one: `require_restorable(db)`.
    #[rhai_fn(volatile, return_raw)]
    pub fn require_restorable(ctx: NativeCallContext, db: Database) -> Result<Dynamic, Raised> {
        observe(&ctx, &RequireRestorable { settings: db.0 }, false)
    }

    /// The database that the environment names; does not connect: `let db = postgres();`.
    ///
    /// Read are DB_HOST, DB_PORT, DB_NAME, DB_USER and DB_PASSWORD, DATABASE_URL, the PG* variables, the service file and
    /// `.pgpass`. Two of them naming different targets are an error, as is none naming a database. There is no default
    /// password.
    #[rhai_fn(volatile, return_raw)]
    pub fn postgres(ctx: NativeCallContext) -> Result<Dynamic, Raised> {
        settings(&ctx, Map::new())
    }

    /// A database by options, which win over the environment: `postgres(#{ host: "db1", database: "shop" })`.
    ///
    /// Options: `url`, `service`, `host`, `port`, `database`, `user`, `password`, `sslmode`, `sslrootcert`,
    /// `connect_timeout`.
    #[rhai_fn(volatile, return_raw, name = "postgres")]
    pub fn postgres_with(ctx: NativeCallContext, options: Map) -> Result<Dynamic, Raised> {
        settings(&ctx, options)
    }

    /// A database as the source of a backup: `dump(db).gzip().hash().save(path)`.
    #[rhai_fn(volatile, return_raw)]
    pub fn dump(db: Database) -> Result<Pipeline, Raised> {
        dump_of(db, Map::new())
    }

    /// A database, or a part of it, as the source of a backup. Arrays of `pg_dump`'s patterns pick parts: `schemas`, `tables`,
    /// `exclude_tables`, `exclude_table_data`. `jobs` is how many connections read rows (0: one for each core), `lock_wait` how
    /// many seconds a table's lock is waited for (300).
    #[rhai_fn(volatile, return_raw, name = "dump")]
    pub fn dump_with(db: Database, options: Map) -> Result<Pipeline, Raised> {
        dump_of(db, options)
    }

    /// How large a backup of the database will be: at most what its tables take on the server.
    #[rhai_fn(volatile, return_raw)]
    pub fn estimate(ctx: NativeCallContext, db: Database) -> Result<Dynamic, Raised> {
        guess(&ctx, db, None)
    }

    /// How large the next backup in a folder will be, from the last one there: `estimate(db, "backups/database")`.
    #[rhai_fn(volatile, return_raw, name = "estimate")]
    pub fn estimate_in(ctx: NativeCallContext, db: Database, dir: &str) -> Result<Dynamic, Raised> {
        guess(&ctx, db, Some(dir))
    }

    /// Checks that there is a `pg_dump` that is not older than the database's server; returns its path.
    #[rhai_fn(volatile, return_raw)]
    pub fn require_pg_dump(ctx: NativeCallContext, db: Database) -> Result<Dynamic, Raised> {
        observe(&ctx, &RequirePgDump { settings: db.0 }, false)
    }

    /// Asks the database: `query(db, "SELECT count(*) AS n FROM users")[0].n`.
    ///
    /// Returns an array of maps. The SQL is one SELECT or VALUES, run read-only with a time limit of 30 s and at most
    /// 1000 rows. A dry run asks only SQL that stands literally in the playbook.
    #[rhai_fn(volatile, return_raw)]
    pub fn query(ctx: NativeCallContext, db: Database, sql: &str) -> Result<Dynamic, Raised> {
        ask(&ctx, db, sql, rhai::Array::new(), Map::new())
    }

    /// Asks with values for `$1`, `$2`, ...: `query(db, "SELECT id FROM users WHERE email = $1", [email])`.
    #[rhai_fn(volatile, return_raw, name = "query")]
    pub fn query_params(
        ctx: NativeCallContext,
        db: Database,
        sql: &str,
        params: rhai::Array,
    ) -> Result<Dynamic, Raised> {
        ask(&ctx, db, sql, params, Map::new())
    }

    /// Asks with values and with options `timeout`, `max_rows`, `independent` (no earlier effect of the run can change
    /// the answer), and `as_superuser` (a superuser keeps its rights in place of those of `pg_read_all_data`; a dry run
    /// does not ask it).
    #[rhai_fn(volatile, return_raw, name = "query")]
    pub fn query_with(
        ctx: NativeCallContext,
        db: Database,
        sql: &str,
        params: rhai::Array,
        options: Map,
    ) -> Result<Dynamic, Raised> {
        ask(&ctx, db, sql, params, options)
    }

    /// The databases of a server that accept connections, by name, templates left out: maps with `name`, `owner` and
    /// `size`, which is `()` where this role may not know it.
    #[rhai_fn(volatile, return_raw)]
    pub fn databases(ctx: NativeCallContext, db: Database) -> Result<Dynamic, Raised> {
        observe(&ctx, &Databases { settings: db.0 }, false)
    }

    /// Starts a PostgreSQL server of this run's own, with one database; it ends with the run:
    /// `let db = scratch_postgres(#{ database: "shop" });`.
    ///
    /// Options: `database` (its name), `sample` (load the sample database at this scale; 1 is about 58 MB of dump).
    #[rhai_fn(volatile, return_raw)]
    pub fn scratch_postgres(ctx: NativeCallContext, options: Map) -> Result<Dynamic, Raised> {
        let options: ScratchOptions = options::read("scratch_postgres", options)?;
        perform(&ctx, &ScratchPostgres { options })
    }

    /// Makes an empty database on a scratch server: `scratch_database(db, "copy")`.
    #[rhai_fn(volatile, return_raw)]
    pub fn scratch_database(ctx: NativeCallContext, db: Database, name: &str) -> Result<Dynamic, Raised> {
        perform(&ctx, &ScratchDatabase { server: db.0, name: known_text(name)?.to_owned() })
    }

    /// Restores a backup into a database: `restore(latest("backups/database"), db)`.
    ///
    /// The backup is verified, loaded into a database beside the live one, read back and compared; then one transaction gives
    /// it the name, and what had the name is kept as `NAME_before_STAMP`. A database that is absent is made. Returns a map
    /// with `backup`, `database`, `host`, `port`, `user`, `kept` (`()` if nothing was), `tables`, `rows`, `compared`,
    /// `recovery_point` (`()` if the backup does not tell), `load_time`, `check_time`, `swap_time` and `notes`.
    #[rhai_fn(volatile, return_raw)]
    pub fn restore(ctx: NativeCallContext, backup: Backup, db: Database) -> Result<Dynamic, Raised> {
        restore_from(&ctx, backup.path, db, Map::new())
    }

    /// Restores a backup with options: `jobs` (how many sessions load at once; 0, as many as there are cores, up to 8), `skip_checksum`
    /// (do not compare the SHA-256; a person must agree), `skip_compare` (count the rows as the server takes them, and do not read
    /// them back to compare them; a drill compares all the same), `in_place` (load into the live database itself, for a role that may
    /// not make databases) and `undo` (the fresh backup of this very database that alone can undo that).
    #[rhai_fn(volatile, return_raw, name = "restore")]
    pub fn restore_with(
        ctx: NativeCallContext,
        backup: Backup,
        db: Database,
        options: Map,
    ) -> Result<Dynamic, Raised> {
        restore_from(&ctx, backup.path, db, options)
    }

    /// Restores the backup in a file: `restore("backups/database/shop.sql.gz", db)`.
    #[rhai_fn(volatile, return_raw, name = "restore")]
    pub fn restore_file(ctx: NativeCallContext, path: &str, db: Database) -> Result<Dynamic, Raised> {
        restore_from(&ctx, known_text(path)?.into(), db, Map::new())
    }

    /// Restores the backup in a file, with options.
    #[rhai_fn(volatile, return_raw, name = "restore")]
    pub fn restore_file_with(
        ctx: NativeCallContext,
        path: &str,
        db: Database,
        options: Map,
    ) -> Result<Dynamic, Raised> {
        restore_from(&ctx, known_text(path)?.into(), db, options)
    }

    /// Name of the database.
    #[rhai_fn(get = "name", pure)]
    pub fn database_name(db: &mut Database) -> String {
        db.0.database.clone()
    }

    /// Host name, or the folder of its socket.
    #[rhai_fn(get = "host", pure)]
    pub fn database_host(db: &mut Database) -> String {
        db.0.named_host().to_owned()
    }

    /// Port.
    #[rhai_fn(get = "port", pure)]
    pub fn database_port(db: &mut Database) -> i64 {
        i64::from(db.0.named_port())
    }

    /// Role.
    #[rhai_fn(get = "user", pure)]
    pub fn database_user(db: &mut Database) -> String {
        db.0.user.clone()
    }
}
