//! A dump of a standby, which follows its primary meanwhile.

use super::parallel::{ALSO_WHOLE, equals_pg_dump};
use super::{manifest, with_pg_dump};
use crate::cluster::{options, program, psql_output};
use crate::project::TestProject;
use lifeboat::sys::scratch::ScratchCluster;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// A server that follows a scratch cluster; it ends with this.
struct Standby {
    folder: tempfile::TempDir,
    owner: (u32, u32),
}

impl Standby {
    fn of(primary: &ScratchCluster) -> Self {
        let owner = primary.socket_dir().metadata().unwrap();
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        chown(folder.path(), Some(owner.uid()), Some(owner.gid())).unwrap();
        let standby = Self { folder, owner: (owner.uid(), owner.gid()) };
        let data = standby.folder.path().join("data").display().to_string();
        let mut copy = standby.command("pg_basebackup");
        copy.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--pgdata", &data]);
        ran(copy.envs(primary.client_env("postgres")));
        let socket = format!("-k {} -c listen_addresses= -c fsync=off", standby.folder.path().display());
        let log = standby.folder.path().join("log").display().to_string();
        ran(standby.command("pg_ctl").args(["start", "-w", "-D", &data, "-l", &log, "-o", &socket]));
        standby
    }

    /// A program that runs as the server's user, since the server refuses to run as root.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(program(name));
        if rustix::process::geteuid().is_root() {
            command.uid(self.owner.0).gid(self.owner.1);
        }
        command.current_dir("/");
        command
    }

    fn env(&self) -> Vec<(&'static str, String)> {
        let host = self.folder.path().display().to_string();
        [("PGHOST", host.as_str()), ("PGPORT", "5432"), ("PGUSER", "postgres"), ("PGDATABASE", "live")]
            .map(|(name, value)| (name, value.to_owned()))
            .to_vec()
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        let data = self.folder.path().join("data");
        let _ = self.command("pg_ctl").args(["stop", "-w", "-m", "immediate", "-D"]).arg(data).output();
    }
}

#[track_caller]
fn ran(command: &mut Command) {
    // What a server inherits stays open for as long as it runs, so nothing is captured.
    let status = command.stdout(std::process::Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}");
}

#[track_caller]
fn told(env: &[(&'static str, String)], sql: &str) -> String {
    let output = psql_output(env, sql, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_standby_is_dumped_by_several_connections_too() {
    let mut options = options();
    for (name, value) in [("wal_level", "replica"), ("max_wal_senders", "5")] {
        options.settings.push((name.to_owned(), value.to_owned()));
    }
    let primary = ScratchCluster::start(&options).unwrap();
    told(&primary.client_env("postgres"), "CREATE DATABASE live");
    let live = primary.client_env("live");
    told(
        &live,
        "CREATE TABLE large AS SELECT n, repeat('x', 100) AS text FROM generate_series(1, 60000) n; \
         CREATE TABLE small (id serial PRIMARY KEY, at timestamptz DEFAULT now()); INSERT INTO small DEFAULT VALUES; \
         CREATE UNLOGGED TABLE gone AS SELECT 1 AS n; SELECT lo_from_bytea(0, 'object')",
    );
    let standby = Standby::of(&primary);
    told(&live, "INSERT INTO small DEFAULT VALUES");
    let has_come = "SELECT pg_is_in_recovery() AND count(*) = 2 FROM small";
    crate::aftermath::wait_for("the standby", || told(&standby.env(), has_come) == "t");

    let project =
        standby.env().into_iter().fold(TestProject::new(), |project, (name, value)| project.env(name, value));
    let project = with_pg_dump(project, ALSO_WHOLE);
    let ran = project.run(&["backup_database", "--level", "1", "--jobs", "2"]).exits(0);
    assert!(!ran.stderr.contains("one stream"), "{}", ran.stderr);
    equals_pg_dump(&project);
    // The rows of unlogged tables are on the primary only.
    let rows = |name: &str| manifest(&project).tables.iter().find(|t| t.table == name).map(|t| t.rows);
    assert_eq!(
        (rows("public.large"), rows("public.small"), rows("public.gone")),
        (Some(60000), Some(2), None)
    );
}
