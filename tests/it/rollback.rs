//! What a restore changed is taken back, also twice, and what it kept is listed and removed.

mod cleanup;
mod killed;

use crate::cluster::{TestDatabase, cluster, database, psql, psql_output};
use crate::project::{Ran, TestProject};
use expect_test::expect;

/// A playbook that restores one file into the database that the environment names.
const RESTORE: &str = r#"
const PLAYBOOK = #{
    summary: "Restore one file",
    params: #{ file: #{ help: "The backup", required: true, positional: true } },
};
let db = postgres();
step "Restore" { restore(params.file, db); }
"#;

/// A project with a database, and the backup of its first state.
struct Place {
    project: TestProject,
    database: TestDatabase,
    backup: String,
}

impl Place {
    /// The database says `old` in the backup, and `new` now.
    fn new(hint: &str) -> Self {
        let database = database(hint);
        psql(&database, "CREATE TABLE which AS SELECT 'old' AS which FROM generate_series(1, 3)");
        let project = TestProject::new().database(&database).playbook("restore_file", RESTORE);
        project.run(&["backup_database"]).exits(0);
        let backup = format!("backups/database/{}", project.only("backups/database", ".sql.gz"));
        psql(&database, "UPDATE which SET which = 'new'");
        Self { project, database, backup }
    }

    #[track_caller]
    fn restore(&self) -> String {
        self.project.run(&["restore_file", &self.backup]).exits(0);
        self.latest()
    }

    /// The newest run's id.
    fn latest(&self) -> String {
        let history = self.project.run(&["history", "--json"]).exits(0).stdout;
        let runs: serde_json::Value = serde_json::from_str(&history).unwrap();
        let runs = runs.get("runs").unwrap_or(&runs);
        runs[0]["run"].as_str().unwrap().to_owned()
    }

    fn rollback(&self, run: &str) -> Ran {
        self.project.run(&["rollback", run, "--yes"])
    }

    /// What the live database says.
    #[track_caller]
    fn which(&self) -> String {
        which(&self.database.name)
    }

    /// The databases beside the live one.
    fn others(&self) -> Vec<String> {
        let sql = "SELECT datname FROM pg_database ORDER BY 1";
        let output = psql_output(&cluster().client_env("postgres"), sql, &[]);
        let text = String::from_utf8(output.stdout).unwrap();
        let begin = format!("{}_", self.database.name);
        text.lines().filter(|name| name.starts_with(&begin)).map(str::to_owned).collect()
    }

    #[track_caller]
    fn only_other(&self) -> String {
        let others = self.others();
        assert_eq!(others.len(), 1, "{others:?}");
        others.into_iter().next().unwrap()
    }

    /// A text without what changes from run to run.
    fn steady(&self, text: &str) -> String {
        let server = format!("{}:{}", cluster().socket_dir().display(), cluster().port());
        let text = text.replace(&server, "SERVER").replace(&self.database.name, "shop");
        self.project.steady(&steady_runs(&text))
    }

    /// The exit code, and what was printed from the failure on.
    fn told(&self, ran: &Ran) -> String {
        let text = self.steady(&ran.stderr);
        format!("exit {}\n{}", ran.code, &text[text.find("error: ").unwrap_or(0)..])
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for name in self.others() {
            drop(TestDatabase { name });
        }
    }
}

/// A text without ids of runs, OIDs and times.
fn steady_runs(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let bytes = rest.as_bytes();
        let fresh = !out.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        if fresh && digits == 8 && bytes.get(8) == Some(&b'-') && rest.len() >= 22 {
            out.push_str("RUN");
            rest = &rest[22..];
        } else if fresh && digits == 4 && bytes.get(4) == Some(&b'-') && rest.len() >= 19 {
            out.push_str("TIME");
            rest = &rest[19..];
        } else if fresh
            && (digits > 3 || digits > 0 && out.ends_with("process "))
            && bytes.get(digits) != Some(&b'_')
        {
            out.push('N');
            rest = &rest[digits..];
        } else {
            let c = rest.chars().next().unwrap();
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// What a database says: all of its rows.
#[track_caller]
fn which(name: &str) -> String {
    let sql = "SELECT string_agg(which, ' ') FROM which";
    let output = psql_output(&cluster().client_env(name), sql, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_restore_is_rolled_back_and_the_rollback_too() {
    let place = Place::new("rollback");
    psql(&place.database, &format!("COMMENT ON DATABASE \"{}\" IS 'the shop'", place.database.name));
    let run = place.restore();
    assert_eq!(place.which(), "old old old");
    let kept = place.only_other();
    assert_eq!(which(&kept), "new new new");

    // A dry run tells what would be done, and does nothing.
    let shown = place.project.run(&["rollback", "latest", "--dry-run"]).exits(0);
    expect![[r#"
        Dry run of rollback
        parameters: run (run from <RUN>)

        Roll back
          replace rollback_database: make `shop at SERVER as postgres` what it was before run RUN
                    `shop_before_STAMP` (SIZE, kept TIME) becomes `shop`
                    what is `shop` now (SIZE) is kept as `shop_undone_STAMP`
          would ask: Make `shop` again what it was before run RUN on TIME? What is live now is kept as `shop_undone_STAMP`.

        Report
        ℹ️  INFO - what was live until now is kept as shop_undone_STAMP
          notify  notify: set the alert `success`
                    message: Rolled back: latest
                    no channel is set: nothing will be sent

        2 actions planned; nothing was changed
    "#]]
    .assert_eq(&place.steady(&shown.stdout));
    assert_eq!((place.which(), place.only_other()), ("old old old".to_owned(), kept.clone()));

    // Nobody is there to agree.
    let unasked = place.project.run(&["rollback", "latest"]);
    expect![[r#"
        exit 6
        error: a person must confirm: Make `shop` again what it was before run RUN on TIME? What is live now is kept as `shop_undone_STAMP`.
           ——▶ playbooks/rollback.rhai:N
           │
        N │ let done = step "Roll back" { rollback(params.run) };
           │                               ^
        caused by: nobody can be asked here
        hint: Run it on a terminal, or say yes in advance with `--yes`.
        ✘ rollback stopped in step `Roll back` after TIME (exit 6)
    "#]].assert_eq(&place.told(&unasked));
    assert_eq!((place.which().as_str(), place.only_other()), ("old old old", kept));

    place.rollback(&run[16..]).exits(0);
    assert_eq!(place.which(), "new new new");
    let undone = place.only_other();
    assert!(undone.starts_with(&format!("{}_undone_2", place.database.name)), "{undone}");
    assert_eq!(which(&undone), "old old old");
    let comment = |name: &str| {
        psql(
            &place.database,
            &format!(
                "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{name}'"
            ),
        )
    };
    assert_eq!(comment(&place.database.name), "the shop\n");
    assert!(comment(&undone).starts_with("lifeboat {\"kind\":\"kept\""), "{}", comment(&undone));

    // And forward again.
    place.rollback("latest").exits(0);
    assert_eq!(place.which(), "old old old");
    assert_eq!(which(&place.only_other()), "new new new");

    // A playbook may name what is kept.
    let text = "const PLAYBOOK = #{ summary: \"Back\" };\nlet db = postgres();\nlet name = kept(db)[0].name;\n\
                step \"Back\" { rollback_database(db, name); }\n";
    std::fs::write(place.project.at("playbooks/back.rhai"), text).unwrap();
    place.project.run(&["back", "--yes"]).exits(0);
    assert_eq!(place.which(), "new new new");
    let text = text.replace("kept(db)[0].name", "\"postgres\"");
    std::fs::write(place.project.at("playbooks/back.rhai"), text).unwrap();
    let refused = place.project.run(&["back", "--yes"]);
    expect![[r#"
        exit 1
        error: `postgres` cannot become `shop` again
          ——▶ playbooks/back.rhai:4:15
          │
        N │ step "Back" { rollback_database(db, name); }
          │               ^
        caused by: it has no mark that it was `shop` once
        hint: `lifeboat cleanup` lists what is kept.
        ✘ back failed in step `Back` after TIME (exit 1)
    "#]]
    .assert_eq(&place.told(&refused));
}

#[test]
fn what_cannot_be_rolled_back_is_told() {
    let place = Place::new("hopeless");
    let mut told = String::new();
    let mut tell = |what: &str, ran: &Ran| told.push_str(&format!("{what}: {}\n", place.told(ran)));
    tell("nothing to roll back", &place.rollback(&place.latest()));
    tell("nothing at all", &place.rollback("latest"));
    let first = place.restore();
    let first_kept = place.only_other();
    let second = place.restore();
    tell("a newer restore in between", &place.rollback(&first));
    place.rollback(&second).exits(0);
    place.rollback(&first).exits(0);
    assert_eq!(place.which(), "new new new");
    tell("it was rolled back already", &place.rollback(&first));

    let third = place.restore();
    let kept = place.others().into_iter().find(|name| which(name) == "new new new").unwrap();
    assert_ne!(kept, first_kept);
    psql(&place.database, &format!("COMMENT ON DATABASE \"{kept}\" IS NULL"));
    tell("the mark is gone", &place.rollback(&third));
    drop(TestDatabase { name: kept });
    tell("what was kept is gone", &place.rollback(&third));
    let live = &place.database.name;
    let admin = |sql: &str| {
        let output = psql_output(&cluster().client_env("postgres"), sql, &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    admin(&format!("DROP DATABASE \"{live}\" WITH (FORCE)"));
    tell("what was live is gone", &place.rollback(&third));
    admin(&format!("CREATE DATABASE \"{live}\" TEMPLATE template0"));
    tell("somebody made another one", &place.rollback(&third));
    expect![[r#"
        nothing to roll back: exit 1
        error: run RUN did nothing that can be rolled back
           ——▶ playbooks/rollback.rhai:N
           │
        N │ let done = step "Roll back" { rollback(params.run) };
           │                               ^
        caused by: it restored no database and replaced no file
        hint: `lifeboat show RUN` tells what it did.
        ✘ rollback failed in step `Roll back` after TIME (exit 1)

        nothing at all: exit 1
        error: no run on record did anything that can be rolled back
           ——▶ playbooks/rollback.rhai:N
           │
        N │ let done = step "Roll back" { rollback(params.run) };
           │                               ^
        hint: Name the run: `lifeboat history` lists them.
        ✘ rollback failed in step `Roll back` after TIME (exit 1)

        a newer restore in between: exit 1
        error: `shop` is not what run RUN left, so that cannot be rolled back
           ——▶ playbooks/rollback.rhai:N
           │
        N │ let done = step "Roll back" { rollback(params.run) };
           │                               ^
        caused by: run RUN put another one in its place, TIME
        hint: Roll that one back first: `lifeboat rollback RUN`.
        ✘ rollback failed in step `Roll back` after TIME (exit 1)

        it was rolled back already: exit 1
        error: `shop` is not what run RUN left, so that cannot be rolled back
           ——▶ playbooks/rollback.rhai:N
           │
        N │ let done = step "Roll back" { rollback(params.run) };
           │                               ^
        caused by: run RUN put another one in its place, TIME
        hint: Roll that one back first: `lifeboat rollback RUN`.
        ✘ rollback failed in step `Roll back` after TIME (exit 1)

        the mark is gone: exit 1
        error: what `shop` was before run RUN cannot be brought back
           ——▶ playbooks/rollback.rhai:N
           │
        N │ let done = step "Roll back" { rollback(params.run) };
           │                               ^
        caused by: `shop_before_STAMP`, which that run kept, has no mark of it any more: it serves another purpose by now
        hint: To use it all the same: rename `shop` away, then `ALTER DATABASE "shop_before_STAMP" RENAME TO "shop";`.
        ✘ rollback failed in step `Roll back` after TIME (exit 1)

        what was kept is gone: exit 1
        error: what `shop` was before run RUN cannot be brought back
           ——▶ playbooks/rollback.rhai:N
           │
        N │ let done = step "Roll back" { rollback(params.run) };
           │                               ^
        caused by: `shop_before_STAMP`, which that run kept, was removed
        hint: Restore a backup instead: `lifeboat backups` lists them.
        ✘ rollback failed in step `Roll back` after TIME (exit 1)

        what was live is gone: exit 1
        error: `shop` is not what run RUN left, so that cannot be rolled back
           ——▶ playbooks/rollback.rhai:N
           │
        N │ let done = step "Roll back" { rollback(params.run) };
           │                               ^
        caused by: there is no `shop` any more
        ✘ rollback failed in step `Roll back` after TIME (exit 1)

        somebody made another one: exit 1
        error: `shop` is not what run RUN left, so that cannot be rolled back
           ——▶ playbooks/rollback.rhai:N
           │
        N │ let done = step "Roll back" { rollback(params.run) };
           │                               ^
        caused by: its OID is N, and that run's was N
        ✘ rollback failed in step `Roll back` after TIME (exit 1)

    "#]].assert_eq(&told);
}

#[test]
fn a_restore_into_a_database_that_was_absent_is_rolled_back_to_none() {
    let place = Place::new("was_absent");
    let live = place.database.name.clone();
    let output = psql_output(&cluster().client_env("postgres"), &format!("DROP DATABASE \"{live}\""), &[]);
    assert!(output.status.success());
    let run = place.restore();
    assert_eq!(place.which(), "old old old");
    assert_eq!(place.others(), [""; 0]);
    place.rollback(&run).exits(0);
    let undone = place.only_other();
    assert_eq!(which(&undone), "old old old");
    let gone = psql_output(&cluster().client_env(&live), "SELECT 1", &[]);
    assert!(!gone.status.success());
    place.rollback("latest").exits(0);
    assert_eq!(place.which(), "old old old");
    assert_eq!(place.others(), [""; 0]);
}

#[test]
fn the_password_is_looked_for_again() {
    let place = Place::new("secretive");
    let run = place.restore();
    let record = place.project.at(format!(".lifeboat/runs/{run}/events.jsonl"));
    assert!(!std::fs::read_to_string(record).unwrap().contains(crate::cluster::PASSWORD));
    let Place { project, .. } = &place;
    let wrong = Ran::of(
        project.command(&["rollback", "latest", "--yes"]).env("DB_PASSWORD", "guessed").output().unwrap(),
    );
    let without = Ran::of(
        project.command(&["rollback", "latest", "--yes"]).env_remove("DB_PASSWORD").output().unwrap(),
    );
    expect![[r#"
        exit 1
        error: cannot connect to `postgres at SERVER as postgres`
           ——▶ playbooks/rollback.rhai:N
           │
        N │ let done = step "Roll back" { rollback(params.run) };
           │                               ^
        caused by: password authentication failed for user "postgres"
        hint: Correct the password of `postgres`; it came from DB_PASSWORD.
        ✘ rollback failed in step `Roll back` after TIME (exit 1)

        exit 1
        error: cannot connect to `postgres at SERVER as postgres`
           ——▶ playbooks/rollback.rhai:N
           │
        N │ let done = step "Roll back" { rollback(params.run) };
           │                               ^
        caused by: the server asks for a password, and none is set
        hint: Set DB_PASSWORD or PGPASSWORD, or put the password into DATABASE_URL or into a line of ~/.pgpass.
        ✘ rollback failed in step `Roll back` after TIME (exit 1)
    "#]].assert_eq(&format!("{}\n{}", place.told(&wrong), place.told(&without)));
    let as_another = project
        .command(&["rollback", "latest", "--yes"])
        .env("DB_USER", "admin")
        .env("DB_PASSWORD", "of another")
        .output()
        .unwrap();
    expect![[r#"
        exit 1
        error: cannot connect to `postgres at SERVER as postgres`
           ——▶ playbooks/rollback.rhai:N
           │
        N │ let done = step "Roll back" { rollback(params.run) };
           │                               ^
        caused by: the server asks for a password, and none is set
        caused by: the password from DB_PASSWORD is that of `admin` (DB_USER), and is not sent for `postgres`
        caused by: run RUN restored as `postgres`, and is rolled back as the same role, not as `admin`
        hint: Set DB_USER to `postgres` and DB_PASSWORD to its password, or put a line for `postgres` into ~/.pgpass.
        ✘ rollback failed in step `Roll back` after TIME (exit 1)
    "#]].assert_eq(&place.told(&Ran::of(as_another)));
    // Another environment than that of the restore does not lead elsewhere.
    let elsewhere = Ran::of(
        project
            .command(&["rollback", "latest", "--yes"])
            .env("DB_NAME", "another")
            .env("DB_PORT", "1")
            .output()
            .unwrap(),
    );
    elsewhere.exits(0);
    assert_eq!(place.which(), "new new new");
}
