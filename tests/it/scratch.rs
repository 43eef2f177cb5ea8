//! The scratch cluster: reachable by its owner only, gone with its owner.

use crate::aftermath::{PATIENCE, wait_for};
use crate::cluster::{self, PASSWORD, cluster, options, psql, psql_output};
use lifeboat::base::cancel::{Cancel, Reason};
use lifeboat::base::failure::Code;
use lifeboat::base::secret::Secret;
use lifeboat::sys::postgres::binaries;
use lifeboat::sys::scratch::ScratchCluster;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Where the process that is killed makes its cluster.
const OWNER_PARENT: &str = "LIFEBOAT_TEST_OWNER_PARENT";

/// A folder that the server's user can enter.
fn open_folder() -> tempfile::TempDir {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().unwrap()
}

/// Whether `condition` comes true soon enough.
fn soon(mut condition: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

fn is_alive(pid: u32) -> bool {
    // One that ended may stay in the table until its parent asks for its status.
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    let ended = state.is_ok_and(|state| state.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")));
    let number = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    !ended && rustix::process::test_kill_process(number).is_ok()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn the_password_is_asked_for_by_socket_and_by_tcp() {
    let cluster = cluster();
    let by_socket = cluster.client_env("postgres");
    let mut by_tcp = by_socket.clone();
    by_tcp[0].1 = cluster.tcp_host().unwrap().to_owned();
    for env in [by_socket, by_tcp] {
        let asked = "SELECT current_user, current_setting('password_encryption')";
        let output = psql_output(&env, asked, &[]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "postgres|scram-sha-256\n", "{output:?}");
        let mut wrong = env.clone();
        wrong.retain(|(name, _)| *name != "PGPASSWORD");
        wrong.push(("PGPASSWORD", "postgres".to_owned()));
        let output = psql_output(&wrong, "SELECT 1", &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("password authentication failed"), "{said}");
        wrong.pop();
        let output = psql_output(&wrong, "SELECT 1", &["-w"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("no password supplied"), "{said}");
    }
}

#[test]
fn the_server_is_private_and_unprivileged() {
    let cluster = cluster();
    let folder = cluster.socket_dir().metadata().unwrap();
    assert_eq!(folder.mode() & 0o777, 0o700);
    assert_ne!(folder.uid(), 0);
    assert!(!cluster.socket_dir().join("password").exists());
    let database = cluster::database("settings");
    let settings = psql(
        &database,
        "SELECT current_setting('server_encoding'), current_setting('TimeZone'), current_setting('fsync'), \
         current_setting('server_version_num'), current_setting('data_directory')",
    );
    let expected = format!("UTF8|UTC|off|{}|{}\n", cluster.version().number(), cluster.data_dir().display());
    assert_eq!(settings, expected);
    let argv = std::fs::read(format!("/proc/{}/cmdline", cluster.server_pid())).unwrap_or_default();
    assert!(!String::from_utf8_lossy(&argv).contains(PASSWORD));
}

#[test]
fn nothing_is_left_when_a_cluster_is_dropped() {
    let parent = open_folder();
    let mut options = options();
    options.parent = parent.path().to_path_buf();
    options.superuser = "Über admin".to_owned();
    options.settings = vec![("wal_level".to_owned(), "logical".to_owned())];
    let cluster = ScratchCluster::start(&options).unwrap();
    assert_eq!(cluster.tcp_host(), None);
    let output = psql_output(
        &cluster.client_env("postgres"),
        "SHOW wal_level; SHOW listen_addresses; SELECT user",
        &[],
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), "logical\n\nÜber admin\n", "{output:?}");
    let pid = cluster.server_pid();
    assert!(is_alive(pid));
    drop(cluster);
    assert!(!is_alive(pid));
    assert_eq!(names(parent.path()), [""; 0]);
}

#[test]
fn a_killed_owner_takes_its_server_along_and_the_next_one_removes_its_folder() {
    let parent = open_folder();
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "scratch::owner_that_is_killed", "--ignored", "--quiet"])
        .env(OWNER_PARENT, parent.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let pid_file = parent.path().join("server.pid");
    assert!(soon(|| pid_file.exists()), "the owner did not start");
    let server: u32 = std::fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    std::fs::remove_file(&pid_file).unwrap();
    assert!(is_alive(server));

    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(soon(|| !is_alive(server)), "the server outlived its owner");
    let left = format!("lifeboat-pg-{}-0", owner.id());
    assert_eq!(names(parent.path()), [left.as_str()]);

    let mut options = options();
    options.parent = parent.path().to_path_buf();
    let next = ScratchCluster::start(&options).unwrap();
    let own = format!("lifeboat-pg-{}-0", std::process::id());
    assert_eq!(names(parent.path()), [own.as_str()]);
    drop(next);
}

#[test]
#[ignore = "the process that another test kills"]
fn owner_that_is_killed() {
    let Some(parent) = cluster::env(OWNER_PARENT) else { return };
    let parent = Path::new(&parent);
    let mut options = options();
    options.parent = parent.to_path_buf();
    let cluster = ScratchCluster::start(&options).unwrap();
    let staged = parent.join("server.pid.new");
    std::fs::write(&staged, cluster.server_pid().to_string()).unwrap();
    std::fs::rename(&staged, parent.join("server.pid")).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_server_that_does_not_start_shows_the_end_of_its_log() {
    let parent = open_folder();
    let mut options = options();
    options.parent = parent.path().to_path_buf();
    options.settings = vec![("shared_buffers".to_owned(), "plenty".to_owned())];
    let failure = ScratchCluster::start(&options).unwrap_err();
    assert_eq!(failure.code, Code::ProcessFailed);
    assert_eq!(
        failure.to_string(),
        "`postgres` of a scratch cluster failed: exit status: 1: its log ends with\n\
         FATAL:  invalid value for parameter \"shared_buffers\": \"plenty\""
    );
    assert_eq!(names(parent.path()), [""; 0]);

    options.superuser = "pg_me".to_owned();
    let failure = ScratchCluster::start(&options).unwrap_err();
    assert_eq!(
        failure.to_string(),
        "`initdb` of a scratch cluster failed: exit status: 1: its log ends with\n\
         initdb: error: superuser name \"pg_me\" is disallowed; role names cannot begin with \"pg_\""
    );
    assert_eq!(names(parent.path()), [""; 0]);
}

#[test]
fn a_start_can_be_cancelled_and_is_bounded() {
    let parent = open_folder();
    let mut options = options();
    options.parent = parent.path().to_path_buf();
    options.ready_within = Duration::from_millis(30);
    let failure = ScratchCluster::start(&options).unwrap_err();
    assert_eq!(
        (failure.code, failure.message.as_str()),
        (Code::TimedOut, "`initdb` was not ready within 30 ms")
    );
    assert_eq!(names(parent.path()), [""; 0]);

    options.ready_within = Duration::from_secs(60);
    options.cancel = Cancel::new();
    let cancel = options.cancel.clone();
    let folder = parent.path().to_path_buf();
    let canceller = std::thread::spawn(move || {
        wait_for("the start", || !names(&folder).is_empty());
        cancel.cancel(Reason::Terminated);
    });
    let begin = Instant::now();
    let failure = ScratchCluster::start(&options).unwrap_err();
    assert_eq!(failure.code, Code::Terminated);
    assert!(begin.elapsed() < Duration::from_secs(50));
    assert_eq!(names(parent.path()), [""; 0]);
    canceller.join().unwrap();
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let mut open = options();
    open.tcp = true;
    let failure = ScratchCluster::start(&open).unwrap_err();
    assert_eq!(failure.to_string(), "a scratch cluster that listens on TCP needs a password");

    let parent = open_folder();
    let deep = parent.path().join("d".repeat(100));
    std::fs::create_dir(&deep).unwrap();
    let mut long = options();
    long.password = Some(Secret::new(PASSWORD));
    long.parent.clone_from(&deep);
    let failure = ScratchCluster::start(&long).unwrap_err();
    assert_eq!(failure.to_string(), format!("the path of `{}` is too long for a socket", deep.display()));
    assert_eq!(names(&deep), [""; 0]);
}

#[test]
fn missing_programs_name_the_place() {
    let empty = open_folder();
    let folder = empty.path().display().to_string();
    let env = |name: &str| (name == binaries::BINDIR).then(|| folder.clone());
    let failure = binaries::find_server(None, &env).unwrap_err();
    assert_eq!(failure.code, Code::ProgramMissing);
    assert_eq!(failure.to_string(), format!("`initdb` is not in `{folder}`, which LIFEBOAT_PG_BINDIR names"));
    assert_eq!(failure.hints, ["Set LIFEBOAT_PG_BINDIR to the folder that holds `initdb`, or unset it."]);
}

#[test]
fn the_sample_is_what_it_says() {
    let sample = cluster::sample_database("sample \"copied\"");
    let counts = psql(
        &sample,
        "SELECT (SELECT count(*) FROM public.users), (SELECT count(*) FROM public.corpus), \
         (SELECT count(*) FROM analytics.events), (SELECT count(*) FROM ref.t40), \
         (SELECT count(*) FROM \"Odd Schema\".\"We\"\"ird \\ Table\"), (SELECT count(*) FROM ref.nocols), \
         (SELECT last_value FROM ref.lonely), (SELECT length(lo_get(424242)))",
    );
    assert_eq!(counts, "50000|32000|80000|40|500|2|324|320000\n");
    let dump = cluster::dump_text(&sample);
    assert!(dump.trim_end().ends_with("-- PostgreSQL database dump complete\n--"));

    if cluster::all_tests() {
        let computed = cluster::database("sample computed");
        cluster::compute_sample(&computed, 1);
        assert!(dump == cluster::dump_text(&computed), "the sample differs from load to load");
    }
}
