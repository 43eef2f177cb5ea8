//! A restore on a server whose disk fills up: the live database stays as it is, the disk is named, and with room it works.

use super::{DIR, RESTORE};
use crate::cluster::{env, options, psql_output};
use crate::project::TestProject;
use lifeboat::sys::scratch::ScratchCluster;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tells the children below where their disk is.
const DISK: &str = "LIFEBOAT_TEST_SMALL_DISK";

/// Runs an ignored test of this file where a disk of so many MiB is mounted, which goes with it: root in a mount namespace,
/// others in a user namespace too, in which they are themselves again.
fn on_a_disk(child: &str, size: u32) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let disk = dir.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
    let mut command = Command::new("unshare");
    command.args(if user.is_root() { &["-m"][..] } else { &["-m", "-r"] });
    command.args(["sh", "-c", "mount -t tmpfs -o size=$0m,mode=755 none \"$1\" && shift && exec \"$@\""]);
    command.arg(size.to_string()).arg(&disk);
    if !user.is_root() {
        command.args(["unshare", &format!("--map-user={user}"), &format!("--map-group={group}")]);
    }
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("restore::full_disk::{child}"), "--ignored", "--nocapture"]);
    let output = command.env(DISK, &disk).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// A server, and a project that restores into its database `live`.
struct Place {
    cluster: ScratchCluster,
    project: TestProject,
}

impl Place {
    fn new(cluster: ScratchCluster) -> Self {
        let mut project = TestProject::new().playbook("restore_file", RESTORE);
        for (name, value) in [
            ("DB_HOST", cluster.socket_dir().display().to_string()),
            ("DB_PORT", cluster.port().to_string()),
            ("DB_NAME", "live".to_owned()),
            ("DB_USER", cluster.superuser().to_owned()),
        ] {
            project = project.env(name, value);
        }
        std::fs::create_dir_all(project.at(DIR)).unwrap();
        // A row of two bytes takes eighteen times as much in a table.
        let rows = "1\n".repeat(1_000_000);
        let text = format!(
            "SET client_encoding = 'UTF8';\nCREATE TABLE public.wide (x int);\nCOPY public.wide (x) FROM stdin;\n{rows}\\.\n\n\
             --\n-- PostgreSQL database dump complete\n--\n"
        );
        std::fs::write(project.at(format!("{DIR}/wide.sql")), text).unwrap();
        Self { cluster, project }
    }

    #[track_caller]
    fn sql(&self, database: &str, sql: &str) -> String {
        let output = psql_output(&self.cluster.client_env(database), sql, &[]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// What is beside the live database.
    #[track_caller]
    fn beside(&self) -> String {
        self.sql("postgres", "SELECT string_agg(datname, ' ') FROM pg_database WHERE datname LIKE 'live_%'")
    }

    fn live(&self) -> String {
        self.sql("live", "SELECT count(*) FROM t")
    }
}

/// Takes `size` MiB of a disk.
fn fill(disk: &Path, size: usize) -> PathBuf {
    let filler = disk.join("filler");
    std::fs::write(&filler, vec![1; size << 20]).unwrap();
    filler
}

#[test]
fn a_tablespace_that_fills_up_is_named_and_the_live_database_stays() {
    on_a_disk("on_a_small_tablespace", 64);
}

#[test]
#[ignore = "a child of a_tablespace_that_fills_up_is_named_and_the_live_database_stays"]
fn on_a_small_tablespace() {
    let disk = PathBuf::from(env(DISK).unwrap());
    let space = disk.join("space");
    std::fs::create_dir(&space).unwrap();
    let place = Place::new(ScratchCluster::start(&options()).unwrap());
    let owner = place.cluster.socket_dir().metadata().unwrap();
    std::os::unix::fs::chown(&space, Some(owner.uid()), Some(owner.gid())).unwrap();
    place.sql("postgres", &format!("CREATE TABLESPACE small LOCATION '{}'", space.display()));
    place.sql("postgres", "CREATE DATABASE live TABLESPACE small");
    place.sql("live", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS x");
    let file = format!("{DIR}/wide.sql");

    let filler = fill(&disk, 40);
    let ran = place.project.run(&["restore_file", &file]).exits(1);
    let told = place.project.told(&ran).replace(&disk.display().to_string(), "DISK");
    assert!(
        told.contains("\nerror: `wide.sql` cannot be loaded: line ")
            || told.contains("error: a query on `live_staging_"),
        "{told}"
    );
    assert!(told.contains("No space left on device (53100)"), "{told}");
    assert!(told.contains("\ncaused by: the new database is in `DISK/space`, where "), "{told}");
    assert!(told.contains("\nhint: Free space on the database server: "), "{told}");
    assert!(told.contains("\nhint: `live` is as it was.\n"), "{told}");
    assert_eq!((place.live(), place.beside()), ("1000".to_owned(), String::new()));

    // Where it can be known before, nothing is begun.
    std::fs::remove_file(&filler).unwrap();
    let filler = fill(&disk, 55);
    let ran = place.project.run(&["restore_file", &file]).exits(1);
    ran.says("caused by: the server's disk has ").says("`lifeboat cleanup` removes databases that were kept");
    assert_eq!((place.live(), place.beside()), ("1000".to_owned(), String::new()));

    std::fs::remove_file(filler).unwrap();
    place.project.run(&["restore_file", &file]).exits(0);
    assert_eq!(place.sql("live", "SELECT count(*) FROM wide"), "1000000");
    let of = "SELECT spcname FROM pg_tablespace t JOIN pg_database d ON d.dattablespace = t.oid WHERE datname = 'live'";
    assert_eq!(place.sql("postgres", of), "small");
}

#[test]
fn a_server_whose_disk_fills_up_goes_on_working() {
    on_a_disk("on_a_small_server", 256);
}

#[test]
#[ignore = "a child of a_server_whose_disk_fills_up_goes_on_working"]
fn on_a_small_server() {
    let disk = PathBuf::from(env(DISK).unwrap());
    let mut options = options();
    options.parent.clone_from(&disk);
    options.settings = vec![("wal_level".to_owned(), "replica".to_owned())];
    let place = Place::new(ScratchCluster::start(&options).unwrap());
    place.sql("postgres", "CREATE DATABASE live");
    place.sql("live", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS x");
    let file = format!("{DIR}/wide.sql");
    let free = || {
        let stat = rustix::fs::statvfs(&disk).unwrap();
        usize::try_from((stat.f_bavail * stat.f_frsize) >> 20).unwrap()
    };

    // The load stops while there is room for the server.
    let filler = fill(&disk, free() - 50);
    let ran = place.project.run(&["restore_file", &file]).exits(1);
    let told = place.project.told(&ran);
    assert!(told.contains("error: the server's disk is almost full, and the load was stopped"), "{told}");
    assert!(told.contains("\nhint: Free space on the database server: "), "{told}");
    assert_eq!((place.live(), place.beside()), ("1000".to_owned(), String::new()));

    std::fs::remove_file(filler).unwrap();
    let filler = fill(&disk, free() - 50);
    // A few bytes may take all that is left at once. What they took is given back, and the server does not end with it. (Rows of
    // one table in two places are loaded in their order, with nobody beside who would see the disk fill up.)
    let rows = "1\n".repeat(20_000);
    let text = format!(
        "SET client_encoding = 'UTF8';\nCREATE TABLE public.fat (x int, y text DEFAULT pg_catalog.repeat('x'::text, 20000));\n\
         ALTER TABLE ONLY public.fat ALTER COLUMN y SET STORAGE EXTERNAL;\nCOPY public.fat (x) FROM stdin;\n{rows}\\.\n\nCOPY public.fat (x) FROM stdin;\n\\.\n\n\
         --\n-- PostgreSQL database dump complete\n--\n"
    );
    std::fs::write(place.project.at(format!("{DIR}/fat.sql")), text).unwrap();
    let ran = place.project.run(&["restore_file", &format!("{DIR}/fat.sql")]).exits(1);
    ran.says("No space left on device (53100)").says("hint: Free space on the database server: ");
    assert_eq!((place.live(), place.beside()), ("1000".to_owned(), String::new()));

    std::fs::remove_file(filler).unwrap();
    place.project.run(&["restore_file", &file]).exits(0);
    assert_eq!(place.sql("live", "SELECT count(*) FROM wide"), "1000000");

    // What is kept stays where its removal would end the server.
    let filler = fill(&disk, free());
    place
        .project
        .run(&["cleanup", "--all", "--yes"])
        .exits(1)
        .says("a removal makes a checkpoint, which would end a server");
    assert_eq!(place.sql("live", "SELECT count(*) FROM wide"), "1000000");
    std::fs::remove_file(filler).unwrap();
    place.project.run(&["cleanup", "--all", "--yes"]).exits(0);
    assert_eq!(place.beside(), "");

    // A role that may not ask where the data is cannot look at the disk: then the server may end, which is said.
    place.sql("postgres", "CREATE ROLE blind LOGIN CREATEDB; ALTER DATABASE live OWNER TO blind");
    let project = place.project.env("DB_USER", "blind");
    let ran = project.run(&["restore_file", &format!("{DIR}/fat.sql")]).exits(1);
    assert!(ran.stderr.contains("No space left on device"), "{}", ran.stderr);
    let is_up = psql_output(&place.cluster.client_env("live"), "SELECT 1", &[]).status.success();
    let hint = if is_up {
        "hint: `live` is as it was."
    } else {
        "hint: The server ended, since it found no room for its WAL"
    };
    ran.says(hint);
}
