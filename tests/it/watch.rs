//! `lifeboat watch` with the real program and real changes of files.

use crate::project::TestProject;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Long enough for a machine that does much else.
const LONG: Duration = Duration::from_secs(60);
/// Longer than the longest time after which a change is noticed: without event 2 s, and 2 s until a series is over.
const NOTHING_COMES: Duration = Duration::from_millis(4500);

/// A program that watches; what it says is collected.
struct Watch {
    child: Child,
    said: Arc<Mutex<String>>,
    /// So much of it was looked at.
    looked: usize,
}

impl Watch {
    fn start(project: &TestProject, args: &[&str]) -> Self {
        let mut command = project.command(&[&["watch"], args].concat());
        // One pipe for both streams, so that what is said is read in its order.
        let (mut pipe, writer) = std::io::pipe().unwrap();
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let child = command.spawn().unwrap();
        drop(command);
        let said = Arc::new(Mutex::new(String::new()));
        let heard = said.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                heard.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        });
        Self { child, said, looked: 0 }
    }

    fn all(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits until a text is said after what was waited for before; returns all that was said until then.
    #[track_caller]
    fn says(&mut self, text: &str) -> String {
        let began = Instant::now();
        loop {
            let all = self.all();
            if let Some(at) = all[self.looked..].find(text) {
                let end = self.looked + at + text.len();
                let new = all[self.looked..end].to_owned();
                self.looked = end;
                return new;
            }
            assert!(began.elapsed() < LONG, "not said: {text}\n{all}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until it waits.
    #[track_caller]
    fn waits(&mut self) -> String {
        self.says("waiting for changes\n")
    }

    /// Asserts that nothing more is said for a while.
    #[track_caller]
    fn is_quiet(&self) {
        std::thread::sleep(NOTHING_COMES);
        assert_eq!(&self.all()[self.looked..], "");
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Ends it by a signal; returns its exit code.
    #[track_caller]
    fn end(mut self, name: &str) -> Option<i32> {
        self.signal(name);
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(began.elapsed() < LONG, "it does not end\n{}", self.all());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn playbook(word: &str) -> String {
    format!("const PLAYBOOK = #{{ summary: \"Watched\" }};\nstep \"Say\" {{ info(\"it is {word}\"); }}\n")
}

fn write(project: &TestProject, path: &str, text: &str) {
    std::fs::write(project.at(path), text).unwrap();
}

/// Replaces a file as editors do: a new one gets its name.
fn replace(project: &TestProject, path: &str, text: &str) {
    let new = project.at(format!("{path}.tmp"));
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, project.at(path)).unwrap();
}

const FILE: &str = "playbooks/p.rhai";

fn project() -> TestProject {
    TestProject::in_memory().playbook("p", &playbook("one"))
}

#[test]
fn every_way_to_change_a_file_makes_one_dry_run() {
    let project = project();
    let mut watch = Watch::start(&project, &["p"]);
    watch.says(" watching p: 2 files\n");
    let first = watch.waits();
    assert!(first.contains("INFO - it is one") && first.contains(" dry run completed\n"), "{first}");

    write(&project, FILE, &playbook("edited"));
    let told = watch.waits();
    assert!(told.contains(" changed: playbooks/p.rhai\n") && told.contains("it is edited"), "{told}");

    replace(&project, FILE, &playbook("replaced"));
    assert!(watch.waits().contains("it is replaced"));
    write(&project, FILE, &playbook("edited after that"));
    assert!(watch.waits().contains("it is edited after that"));

    std::fs::remove_file(project.at(FILE)).unwrap();
    let told = watch.waits();
    assert!(told.contains("error: no playbook `p`") && told.contains(" nothing was run\n"), "{told}");
    write(&project, FILE, &playbook("back"));
    assert!(watch.waits().contains("it is back"));

    // The whole folder, as a checkout does it.
    std::fs::rename(project.at("playbooks"), project.at("old")).unwrap();
    watch.says("no playbook `p`");
    watch.waits();
    std::fs::create_dir(project.at("playbooks")).unwrap();
    write(&project, FILE, &playbook("in a new folder"));
    assert!(watch.waits().contains("it is in a new folder"));
    write(&project, FILE, &playbook("edited there"));
    assert!(watch.waits().contains("it is edited there"));

    assert_eq!(project.names(".lifeboat"), [""; 0], "dry runs leave nothing");
    assert_eq!(watch.end("-INT"), Some(130));
}

#[test]
fn what_changes_no_content_makes_no_run() {
    let project = project();
    let mut watch = Watch::start(&project, &["p"]);
    watch.waits();
    project.stock(".", "touch", &[FILE, "lifeboat.toml"]);
    project.stock(".", "chmod", &["600", FILE]);
    std::fs::read(project.at(FILE)).unwrap();
    replace(&project, FILE, &playbook("one"));
    write(&project, "playbooks/other.rhai", &playbook("other"));
    write(&project, "notes.txt", "not watched");
    watch.is_quiet();
    assert_eq!(watch.end("-TERM"), Some(143));
}

#[test]
fn a_playbook_that_does_not_compile_waits_for_its_repair() {
    let project = TestProject::in_memory()
        .playbook("p", "import \"words\" as words;\nstep \"Say\" { info(words::word()); }")
        .file("playbooks/words.rhai", "fn word() { \"first word\" }\n");
    let mut watch = Watch::start(&project, &["p"]);
    assert!(watch.waits().contains("first word"));

    write(&project, "playbooks/words.rhai", "fn word() { \"second word\" }\n");
    let told = watch.waits();
    assert!(told.contains(" changed: playbooks/words.rhai\n") && told.contains("second word"), "{told}");

    let good = std::fs::read_to_string(project.at(FILE)).unwrap();
    write(&project, FILE, &good.replace("step \"Say\" {", "step \"Say\" { let = ;"));
    let told = watch.waits();
    assert!(told.contains("playbooks/p.rhai:3:18") && told.contains("nothing was run\n"), "{told}");
    // What the last good one imported is still watched.
    write(&project, "playbooks/words.rhai", "fn word() { \"third word\" }\n");
    let told = watch.waits();
    assert!(
        told.contains(" changed: playbooks/words.rhai\n") && told.contains("nothing was run\n"),
        "{told}"
    );
    write(&project, FILE, &good.replace("info(", "inof("));
    let told = watch.waits();
    assert!(
        told.contains("unknown function `inof`") && told.contains(" 1 error, nothing was run\n"),
        "{told}"
    );
    write(&project, FILE, &good);
    assert!(watch.waits().contains("third word"));
    assert_eq!(watch.end("-INT"), Some(130));
}

#[test]
fn a_new_import_is_watched_and_a_copy_of_a_standard_module_too() {
    let project = project();
    let mut watch = Watch::start(&project, &["p"]);
    watch.waits();
    write(
        &project,
        FILE,
        &format!("import \"std/backup\" as backup;\nimport \"late\" as late;\n{}", playbook("two")),
    );
    assert!(watch.waits().contains("no module `late`"));
    write(&project, "playbooks/late.rhai", "fn f() {}\n");
    assert!(watch.waits().contains("it is two"));
    project.run(&["customize", "std/backup"]).exits(0);
    let told = watch.waits();
    assert!(told.contains(" changed: stdlib/backup.rhai\n"), "{told}");
    write(&project, ".env", "A=1\n");
    assert!(watch.waits().contains(" changed: .env\n"));
    assert_eq!(watch.end("-INT"), Some(130));
}

/// A playbook that notes each run and takes as long as the file `go` is not there.
const SLOW: &str = r#"const PLAYBOOK = #{ summary: "Slow", watch: ["config/**/*.yml"] };
step "Note" {
    exec(["sh", "-c", "echo run >> runs; until test -e go; do sleep 0.05; done"]);
}
"#;

fn runs(project: &TestProject) -> usize {
    std::fs::read_to_string(project.at("runs")).unwrap_or_default().lines().count()
}

#[track_caller]
fn wait_for_runs(project: &TestProject, wanted: usize) {
    let began = Instant::now();
    while runs(project) < wanted {
        assert!(began.elapsed() < LONG, "{} runs", runs(project));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn many_changes_make_one_run_and_those_during_a_run_one_more() {
    let project = TestProject::in_memory().playbook("p", SLOW).file("config/a.yml", "0").file("go", "");
    let mut watch = Watch::start(&project, &["p", "--live", "--postpone"]);
    watch.says(" watching p: 3 files (config/**/*.yml)\n");
    watch.waits();
    assert_eq!(runs(&project), 0, "the first run is postponed");

    // A pause ends a series of changes, and a busy machine may make one.
    let mut before = 0;
    for round in 0.. {
        let (mut longest, mut last) = (Duration::ZERO, Instant::now());
        for n in 0..20 {
            write(&project, "config/a.yml", &format!("burst {round} {n}"));
            longest = longest.max(last.elapsed());
            last = Instant::now();
            std::thread::sleep(Duration::from_millis(10));
        }
        let told = watch.waits();
        assert!(told.contains(" changed: config/a.yml\n") && told.contains(" run completed\n"), "{told}");
        if longest < Duration::from_millis(150) {
            watch.is_quiet();
            assert_eq!(runs(&project), before + 1);
            break;
        }
        std::thread::sleep(NOTHING_COMES);
        watch.looked = watch.all().len();
        before = runs(&project);
    }
    let before = runs(&project);

    std::fs::remove_file(project.at("go")).unwrap();
    write(&project, "config/a.yml", "go on");
    wait_for_runs(&project, before + 1);
    for n in 0..5 {
        std::fs::create_dir_all(project.at("config/deep")).unwrap();
        write(&project, "config/deep/b.yml", &format!("during {n}"));
        std::thread::sleep(Duration::from_millis(400));
    }
    assert_eq!(runs(&project), before + 1, "nothing interrupts a run");
    write(&project, "go", "");
    watch.waits();
    let told = watch.waits();
    assert!(told.contains(" changed: config/deep/b.yml\n"), "{told}");
    watch.is_quiet();
    assert_eq!(runs(&project), before + 2);
    assert_eq!(watch.end("-INT"), Some(130));
    let history = project.run(&["history", "--json"]).exits(0).stdout;
    assert_eq!(history.matches("\"exit\": 0").count(), before + 2, "{history}");
}

#[test]
fn signals_end_a_run_that_is_on_cleanly() {
    for (name, exit) in [("-INT", 130), ("-TERM", 143)] {
        let project = TestProject::in_memory().playbook("p", SLOW);
        let mut watch = Watch::start(&project, &["--live", "p"]);
        wait_for_runs(&project, 1);
        let began = Instant::now();
        watch.signal(name);
        watch.says(&format!("(exit {exit})\n"));
        assert_eq!(watch.child.wait().unwrap().code(), Some(exit));
        assert!(began.elapsed() < LONG / 2);
        let history = project.run(&["history", "--json"]).exits(0).stdout;
        assert!(history.contains(&format!("\"exit\": {exit}")), "{history}");
    }
}

#[test]
fn what_a_run_writes_itself_makes_no_run() {
    let text = r#"const PLAYBOOK = #{
        summary: "Writes",
        watch: ["**/*.gz", "data/*"],
        params: #{ dir: #{ default_value: "out/backups", path: true } },
    };
    step "Save" {
        file("data/in").gzip().hash().save(`${params.dir}/a_${run_stamp()}.gz`, #{ tag: "t" });
        gzip("data/report");
    }
    "#;
    let project = TestProject::in_memory().playbook("p", text).file("data/in", "1").file("data/report", "x");
    let mut watch = Watch::start(&project, &["p", "--live"]);
    let told = watch.waits();
    assert!(told.contains(" run completed"), "{told}");
    watch.is_quiet();
    assert!(project.only("out/backups", ".gz").starts_with("a_"));
    assert_eq!(watch.end("-INT"), Some(130));
}

#[test]
fn an_embedded_playbook_is_watched_as_far_as_there_is_something() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        let output = command.args(args).current_dir(dir.path()).env_clear().output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, told) = run(&["watch", "verify_backups"]);
    assert_eq!(code, Some(2));
    expect_test::expect![[r#"
        error: there is nothing to watch for `verify_backups`
        caused by: it is part of Lifeboat, its header has no `watch`, and the project has no file that it uses
        hint: Write your own `playbooks/verify_backups.rhai` with `watch: ["PATTERN"]` in its header, or make `lifeboat.toml` or `.env`.
    "#]].assert_eq(&told);

    let project = TestProject::in_memory();
    let mut watch = Watch::start(&project, &["verify_backups"]);
    watch.says(" watching verify_backups: 1 file\n");
    watch.waits();
    std::fs::create_dir(project.at("playbooks")).unwrap();
    write(&project, "playbooks/verify_backups.rhai", &playbook("our own"));
    assert!(watch.waits().contains("it is our own"));
    assert_eq!(watch.end("-TERM"), Some(143));
}

#[test]
fn wrong_words_are_told_at_once() {
    let project = project();
    for (args, told) in [
        (&["watch", "q"][..], "error: no playbook `q`\n"),
        (&["watch", "p", "--nothing"], "error: unexpected argument '--nothing' found\n"),
        (&["watch", "p", "--live", "--dry-run"], "error: `--live` and `--dry-run` contradict each other\n"),
    ] {
        project.run(args).exits(2).says(told);
    }
    let help = project.run(&["watch", "p", "--help"]).exits(0).stdout;
    for text in ["Usage: lifeboat watch p [OPTIONS]", "--live", "--postpone"] {
        assert!(help.contains(text), "{help}");
    }
}

/// A link to elsewhere, where no folder is watched.
#[test]
fn a_playbook_behind_a_link_is_looked_at_too() {
    let project =
        TestProject::in_memory().file("elsewhere/p.rhai", &playbook("one")).file("playbooks/keep", "");
    let target: PathBuf = project.at("elsewhere/p.rhai");
    std::os::unix::fs::symlink(&target, project.at(FILE)).unwrap();
    let mut watch = Watch::start(&project, &["p"]);
    watch.waits();
    std::fs::write(target, playbook("two")).unwrap();
    assert!(watch.waits().contains("it is two"));
    assert_eq!(watch.end("-INT"), Some(130));
}

/// Whether the system tells the process of changes.
fn is_told(watch: &Watch) -> bool {
    let files = std::fs::read_dir(format!("/proc/{}/fd", watch.child.id())).unwrap().flatten();
    let mut links = files.filter_map(|file| std::fs::read_link(file.path()).ok());
    links.any(|link| link.to_string_lossy().contains("inotify"))
}

#[test]
fn with_poll_the_files_are_looked_at_and_the_system_is_not_asked() {
    let project = project();
    let mut told = Watch::start(&project, &["p"]);
    told.waits();
    assert!(is_told(&told));
    assert_eq!(told.end("-INT"), Some(130));
    for args in [&["--poll=100ms", "p"][..], &["p", "--poll=200ms"], &["--poll", "p"]] {
        write(&project, FILE, &playbook("one"));
        let mut watch = Watch::start(&project, args);
        watch.waits();
        assert!(!is_told(&watch));
        write(&project, FILE, &playbook("edited"));
        assert!(watch.waits().contains("it is edited"));
        replace(&project, FILE, &playbook("replaced"));
        assert!(watch.waits().contains("it is replaced"));
        assert_eq!(watch.end("-INT"), Some(130));
    }
    for wrong in ["--poll=5 parsecs", "--poll=1ms"] {
        let ran = project.run(&["watch", wrong, "p"]).exits(2);
        ran.says("write it as `500ms`, `2s` or `1m`, at least `100ms`");
    }
}

#[test]
fn the_first_failure_ends_it_when_that_is_asked_for() {
    let fails = "const PLAYBOOK = #{ summary: \"Fails\" };\nstep \"Work\" { fail(\"no\"); }\n";
    let broken = "const PLAYBOOK = #{ summary: \"Broken\" };\nstep \"Work\" { let = ; }\n";
    for (args, text, exit) in [
        (&["--exit-on-error", "p"][..], fails, 1),
        (&["p", "--exit-on-error"], broken, 2),
        (&["p", "--exit-on-error", "--live"], fails, 1),
    ] {
        let project = project();
        let mut watch = Watch::start(&project, args);
        watch.waits();
        write(&project, FILE, &playbook("two"));
        assert!(watch.waits().contains("it is two"));
        write(&project, FILE, text);
        let began = Instant::now();
        let status = loop {
            if let Some(status) = watch.child.try_wait().unwrap() {
                break status;
            }
            assert!(began.elapsed() < LONG, "it does not end\n{}", watch.all());
            std::thread::sleep(Duration::from_millis(20));
        };
        assert_eq!(status.code(), Some(exit), "{}", watch.all());
    }
}
