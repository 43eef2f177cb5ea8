//! SIGKILL at any moment: nothing under a final name is broken, nothing is left running, and the next run tidies up.

use crate::aftermath::{all_intact, leftovers, next_second, nobody_survives, runs, wait_for};
use crate::cluster::{all_tests, database, env, psql};
use crate::project::TestProject;
use crate::receiver::Receiver;
use lifeboat::journal::reader::RunState;
use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant, SystemTime};

/// Moments that differ from run to run, and can be had again.
pub struct Moments(u64);

impl Moments {
    #[expect(clippy::print_stdout, reason = "a failure can be had again with its seed")]
    pub fn new() -> Self {
        let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = env("LIFEBOAT_TEST_SEED").map_or_else(now, |seed| seed.parse().unwrap());
        println!("LIFEBOAT_TEST_SEED={seed}");
        Self(seed)
    }

    /// A moment within `whole`.
    pub fn next(&mut self, whole: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        whole.mul_f64(((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

/// A command that is killed again and again.
struct Victim<'a> {
    project: TestProject,
    args: &'a [&'a str],
    /// Folder of its backups.
    dir: &'a str,
    /// What makes the folder what it is before each run.
    prepare: &'a dyn Fn(&TestProject),
    /// What is run after each kill, and tidies up.
    next: &'a [&'a str],
}

impl Victim<'_> {
    #[expect(clippy::print_stdout, reason = "tells at which moments it was killed")]
    fn die_often(self) {
        let receiver = Receiver::new();
        let Self { project, args, dir, prepare, next } = self;
        // Each kill is told of, and there are more of them than alerts in an hour.
        let project = project.env("BACKUP_WEBHOOK_URL", receiver.url()).env("BACKUP_ALERTS_PER_HOUR", "0");
        let at = project.at(dir);
        prepare(&project);
        let began = Instant::now();
        project.run(args).exits(0);
        let mut whole = began.elapsed();
        all_intact(&at);

        let mut moments = Moments::new();
        let rounds = if all_tests() { 50 } else { 5 };
        let mut killed = 0;
        for round in 0.. {
            if round >= rounds && killed > 0 {
                break;
            }
            assert!(round < rounds + 100, "it is always over before it is killed");
            let _ = std::fs::remove_dir_all(&at);
            prepare(&project);
            let known: BTreeSet<String> = runs(&project).into_iter().map(|run| run.run.to_string()).collect();
            let moment = moments.next(whole);
            let mut process = project.start(args);
            std::thread::sleep(moment);
            let _ = process.kill();
            let status = process.wait().unwrap();
            let here = format!("{args:?}, round {round}, killed after {moment:?} of {whole:?}");
            println!("{here}: {status}, {} leftovers", leftovers(&at).len());
            nobody_survives(&project);
            all_intact(&at);
            let was_killed = status.signal() == Some(9);
            if !was_killed {
                // The machine is less busy than it was.
                whole = moment;
            }
            let record = runs(&project).into_iter().find(|run| !known.contains(run.run.as_str()));
            let mut untold = None;
            if was_killed && let Some(record) = record {
                killed += 1;
                // One that died with its record complete has ended.
                if !matches!(record.state, RunState::Ended(_)) {
                    assert_eq!(record.state, RunState::Killed, "{here}");
                    let folder = project.at(".lifeboat/runs").join(record.run.as_str());
                    untold = (!folder.join("alert.json").exists()).then_some(record.run.to_string());
                }
            }
            // Names hold the second, and nothing is ever overwritten.
            next_second();
            for _ in 0..2 {
                project.run(next).exits(0);
                next_second();
            }
            assert_eq!(leftovers(&at), [""; 0], "{here}");
            all_intact(&at);
            let told = receiver.messages(" was killed: run ");
            for run in known.iter().chain(&untold) {
                let times = told.iter().filter(|message| message.contains(run.as_str())).count();
                assert!(times <= 1, "{here}: told {times} times of {run}: {told:?}");
            }
            if let Some(run) = &untold {
                assert!(told.iter().any(|message| message.contains(run)), "{here}: not told of {run}");
            }
            nothing_half_made(&project);
        }
        assert!(killed > 0);
    }
}

/// Asserts that the journal holds no folder of a run that died while it was made.
#[track_caller]
fn nothing_half_made(project: &TestProject) {
    let half = |name: &String| {
        name.starts_with('.') && project.at(".lifeboat/runs").join(name).join("run.lock").exists()
    };
    let left: Vec<String> = project.names(".lifeboat/runs").into_iter().filter(half).collect();
    assert_eq!(left, [""; 0]);
}

/// Text of so many bytes that hardly compresses.
fn noise(bytes: usize) -> String {
    let mut state = 1_u64;
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(&format!("{:016x}", state ^ (state >> 29)));
    }
    text
}

fn nothing(_: &TestProject) {}

#[test]
fn a_database_backup_may_be_killed_at_any_moment() {
    let source = database("kill");
    psql(
        &source,
        "CREATE TABLE noise AS SELECT i AS id, \
         (SELECT string_agg(md5(random()::text || i || j), '') FROM generate_series(1, 64) j) AS text \
         FROM generate_series(1, 3000) i",
    );
    Victim {
        project: TestProject::new().database(&source),
        args: &["backup_database"],
        dir: "backups/database",
        prepare: &nothing,
        next: &["backup_database"],
    }
    .die_often();
}

#[test]
fn a_configuration_backup_may_be_killed_at_any_moment() {
    Victim {
        project: TestProject::new().file("package.json", &noise(4 << 20)),
        args: &["backup_config"],
        dir: "backups/config",
        prepare: &nothing,
        next: &["backup_config"],
    }
    .die_often();
}

/// Makes thirty verified backups that are old, and one that is not.
const MANY: &str = r#"
const PLAYBOOK = #{ summary: "A test", params: #{ first: 1, last: 30 } };
step "Save" {
    for n in params.first..=params.last {
        verify(file("data").gzip().save(`many/data_${n}.gz`, #{ tag: "manual" }));
    }
}
"#;

/// A project whose folder `many` can be filled with thirty old backups and a new one.
fn with_many() -> TestProject {
    let project = TestProject::new()
        .file("data", &noise(20_000))
        .playbook("many", MANY)
        .env("LIFEBOAT_NOW", "2025-01-10T02:00:00+00:00");
    project.run(&["many"]).exits(0);
    let project = project.env("LIFEBOAT_NOW", "2025-11-10T02:00:00+00:00");
    project.run(&["many", "--first", "31", "--last", "31"]).exits(0);
    std::fs::rename(project.at("many"), project.at("kept")).unwrap();
    project.env("LIFEBOAT_NOW", "")
}

fn restore_many(project: &TestProject) {
    std::fs::create_dir(project.at("many")).unwrap();
    for name in project.names("kept") {
        std::fs::copy(project.at("kept").join(&name), project.at("many").join(&name)).unwrap();
    }
}

#[test]
fn rotation_may_be_killed_at_any_moment() {
    let project = with_many();
    Victim {
        project,
        args: &["rotate_backups", "many"],
        dir: "many",
        prepare: &restore_many,
        next: &["rotate_backups", "many"],
    }
    .die_often();
}

#[test]
fn verification_may_be_killed_at_any_moment() {
    Victim {
        project: with_many(),
        args: &["verify_backups", "many"],
        dir: "many",
        prepare: &restore_many,
        // Verification itself leaves a staged manifest for those that hold the folder to change it.
        next: &["rotate_backups", "many"],
    }
    .die_often();
}

#[test]
fn publishing_may_be_killed_at_any_moment() {
    // Small backups one after the other spend nearly all their time where names change.
    let project = TestProject::new().file("data", "small\n").playbook(
        "quick",
        r#"
        step "Save" {
            for n in 1..=20 {
                verify(file("data").save(`quick/${run_stamp()}_${n}`, #{ tag: "quick" }));
                rotate("quick", #{ tag: "quick", keep_last: 2 });
            }
        }
        "#,
    );
    Victim { project, args: &["quick"], dir: "quick", prepare: &nothing, next: &["quick"] }.die_often();
}

/// What a kill leaves at each point where names change, as `(name, content of the file it stands for)`; the run is dead.
#[test]
fn what_a_kill_leaves_at_each_point_is_tidied_up() {
    const DEAD: &str = "20250101-000000-abcdef";
    let project = with_many().playbook("save", "step \"Save\" { file(\"data\").save(\"many/next\"); }");
    let whole = "data_1.gz";
    let hidden = format!(".{whole}.{DEAD}.part");
    let manifest = format!("{whole}.json");
    let digest = format!("{whole}.sha256");
    let staged_manifest = format!(".{manifest}.{DEAD}.part");
    /// What is done to the whole backup.
    enum Did<'a> {
        Renamed(&'a str, &'a str),
        Copied(&'a str, &'a str),
        Removed(&'a str),
        Torn(&'a str),
    }
    use Did::{Copied, Removed, Renamed, Torn};
    let hide = || Renamed(whole, &hidden);
    // The second value: whether the backup stays.
    let points: [(&str, Vec<Did<'_>>, bool); 11] = [
        (
            "in the middle of its content",
            vec![hide(), Removed(&manifest), Removed(&digest), Torn(&hidden)],
            false,
        ),
        ("with all its content", vec![hide(), Removed(&manifest), Removed(&digest)], false),
        // A sidecar gets its name when it is whole.
        (
            "in the middle of the first sidecar",
            vec![hide(), Renamed(&manifest, &staged_manifest), Torn(&staged_manifest), Removed(&digest)],
            false,
        ),
        ("between the sidecars", vec![hide(), Removed(&digest)], false),
        ("in the middle of the second sidecar", vec![hide(), Torn(&digest)], false),
        ("between sidecars and name, or name and removal", vec![hide()], false),
        ("in the middle of a removal", vec![hide(), Removed(&digest)], false),
        ("at the end of a removal", vec![hide(), Removed(&digest), Removed(&manifest)], false),
        ("between a second name and the first one's end", vec![Copied(whole, &hidden)], true),
        (
            "in the middle of a new manifest",
            vec![Copied(&manifest, &staged_manifest), Torn(&staged_manifest)],
            true,
        ),
        ("between a new manifest and its name", vec![Copied(&manifest, &staged_manifest)], true),
    ];
    // Files of others, which only look alike.
    let foreign = [".hidden", ".x.part", "notes.json.txt", ".y.20250101-000000-ABCDEF.part"];
    for tidy in [&["save"][..], &["rotate_backups", "many", "--retention", "10000"]] {
        for (point, did, stays) in &points {
            let _ = std::fs::remove_dir_all(project.at("many"));
            restore_many(&project);
            let at = |name: &str| project.at("many").join(name);
            for name in foreign {
                std::fs::write(at(name), "not ours").unwrap();
            }
            for did in did {
                match did {
                    Renamed(from, to) => std::fs::rename(at(from), at(to)).unwrap(),
                    Copied(from, to) => drop(std::fs::copy(at(from), at(to)).unwrap()),
                    Removed(name) => std::fs::remove_file(at(name)).unwrap(),
                    Torn(name) => {
                        let file = std::fs::OpenOptions::new().write(true).open(at(name)).unwrap();
                        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
                    }
                }
            }
            let expected = if *stays { 31 } else { 30 };
            assert_eq!(all_intact(&project.at("many")), expected, "killed {point}");
            let dry = project.run(&[tidy, &["--dry-run"]].concat()).exits(0);
            let shown = dry.stderr.contains("remove what killed runs left")
                || dry.stdout.contains("remove what killed runs left");
            assert_eq!(shown, tidy[0] == "rotate_backups", "killed {point}:\n{}{}", dry.stdout, dry.stderr);
            project.run(tidy).exits(0).says("cleaned up after a run that was killed");
            assert_eq!(
                leftovers(&project.at("many")),
                [".x.part", ".y.20250101-000000-ABCDEF.part"],
                "killed {point}"
            );
            assert_eq!(at(whole).exists(), *stays, "killed {point}");
            let expected = expected + usize::from(tidy[0] == "save");
            assert_eq!(all_intact(&project.at("many")), expected, "killed {point}");
            for name in foreign {
                assert_eq!(std::fs::read_to_string(at(name)).unwrap(), "not ours", "killed {point}");
            }
            // Nothing is left to do.
            let again = project.run(&["rotate_backups", "many", "--retention", "10000"]).exits(0);
            assert!(!again.stderr.contains("cleaned up"), "killed {point}");
        }
    }
}

/// Kills a run that hangs in a step, and returns its id.
fn killed_run(project: &TestProject) -> String {
    let mut process = project.start(&["hang"]);
    wait_for("the step", || project.at("began").exists());
    process.kill().unwrap();
    process.wait().unwrap();
    std::fs::remove_file(project.at("began")).unwrap();
    let newest = runs(project).into_iter().find(|run| run.playbook == "hang").unwrap();
    assert_eq!(newest.state, RunState::Killed);
    newest.run.to_string()
}

#[test]
fn a_killed_run_is_told_of_once_whatever_the_record_was_left_like() {
    let receiver = Receiver::new();
    let project = TestProject::new()
        .playbook("hang", "step \"x\" { exec([\"sh\", \"-c\", \"touch began; exec sleep 600\"]); }")
        .playbook("well", "step \"x\" { info(\"well\"); }")
        .env("BACKUP_WEBHOOK_URL", receiver.url());
    let state = |run: &str| project.at(".lifeboat/runs").join(run);
    let told = |run: &str| receiver.messages(run).len();

    let plain = killed_run(&project);
    nobody_survives(&project);
    assert!(state(&plain).join("reserve").exists());
    project.run(&["history"]).exits(0);
    project.run(&["well", "--dry-run"]).exits(0);
    assert_eq!(told(&plain), 0, "looking tells nobody");
    project.run(&["well"]).exits(0).says(&format!("run {plain} of `hang` was killed before it ended"));
    project.run(&["well"]).exits(0);
    assert_eq!(receiver.messages(&plain), [format!("hang was killed: run {plain} never ended")]);
    assert!(!state(&plain).join("reserve").exists(), "the dead keep no space");
    let shown = project.run(&["history", "--json"]).exits(0).stdout;
    let killed: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert!(
        killed.as_array().unwrap().iter().any(|run| run["run"] == *plain && run["state"] == "killed"),
        "{shown}"
    );

    // The one that told of it was killed while it noted that; a torn end; no reserve; a torn event.
    let odd = killed_run(&project);
    for name in [".alert.json.new.part", ".exit.json.new.part"] {
        std::fs::write(state(&odd).join(name), "{").unwrap();
    }
    std::fs::remove_file(state(&odd).join("reserve")).unwrap();
    let events = state(&odd).join("events.jsonl");
    let text = std::fs::read_to_string(&events).unwrap();
    std::fs::write(&events, &text[..text.len() - 7]).unwrap();
    // Records of runs that died while they were made.
    for (half, lock) in [(".20250101-000000-aaaaaa.part", true), (".20250101-000000-bbbbbb.part", false)] {
        std::fs::create_dir(state(half)).unwrap();
        if lock {
            std::fs::write(state(half).join("run.lock"), "").unwrap();
        }
    }
    std::fs::write(state(".20250101-000000-cccccc.lock"), "").unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(7200);
    for old in [".20250101-000000-bbbbbb.part", ".20250101-000000-cccccc.lock"] {
        std::fs::File::open(state(old)).unwrap().set_modified(long_ago).unwrap();
    }
    for _ in 0..3 {
        project.run(&["well"]).exits(0);
    }
    assert_eq!(told(&odd), 1);
    assert_eq!(told(&plain), 1);
    let left = project.names(".lifeboat/runs").into_iter().filter(|name| name.starts_with('.')).count();
    assert_eq!(left, 0, "{:?}", project.names(".lifeboat/runs"));
}

#[test]
fn one_of_many_commands_tells_of_a_killed_run() {
    let receiver = Receiver::new();
    let project = TestProject::new()
        .playbook("hang", "step \"x\" { exec([\"sh\", \"-c\", \"touch began; exec sleep 600\"]); }")
        .playbook("well", "step \"x\" { info(\"well\"); }")
        .env("BACKUP_WEBHOOK_URL", receiver.url());
    let run = killed_run(&project);
    let mut commands: Vec<_> = (0..6).map(|_| project.start(&["well"])).collect();
    for command in &mut commands {
        assert!(command.wait().unwrap().success());
    }
    assert_eq!(receiver.messages(&run).len(), 1);
}

#[test]
fn a_run_that_is_killed_after_its_own_alert_is_not_told_of_again() {
    let receiver = Receiver::new();
    let project = TestProject::new()
        .playbook("well", "step \"x\" { notify(\"success\", \"all is well\"); }")
        .env("BACKUP_WEBHOOK_URL", receiver.url());
    project.run(&["well"]).exits(0);
    assert_eq!(receiver.messages("all is well").len(), 1);
    // Its end was not written down.
    let run = runs(&project)[0].run.to_string();
    std::fs::remove_file(project.at(".lifeboat/runs").join(&run).join("exit.json")).unwrap();
    project.run(&["well"]).exits(0);
    assert_eq!(receiver.messages("was killed"), [""; 0]);
}
