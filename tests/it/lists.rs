//! Many backups and many runs: the cache changes no answer, and nothing is destroyed on its word.

mod make;

use crate::cluster;
use crate::project::{Ran, TestProject};
use crate::rotation::session_with;
use expect_test::expect;
use lifeboat::action::rotate::{Rotate, RotateOptions, Rotated};
use lifeboat::base::backup::Manifest;
use lifeboat::base::failure::Failure;
use lifeboat::base::plan::Later;
use lifeboat::journal::reader;
use lifeboat::sys::effects::IntentLog;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

/// What changed so short a time ago is not kept, since it may change again.
fn let_it_settle() {
    std::thread::sleep(Duration::from_millis(4100));
}

fn project(count: usize) -> TestProject {
    let project = TestProject::in_memory().env("LIFEBOAT_NOW", make::NEWEST);
    let state = project.at(".lifeboat");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    make::backups(&project.at("backups/database"), count);
    make::runs(&state, count);
    project
}

/// What every command that reads all backups or all runs says.
fn answers(project: &TestProject) -> Vec<String> {
    let commands: [&[&str]; 10] = [
        &["backups"],
        &["backups", "--json", "--tag", "weekly"],
        &["backups", "--verified", "backups/database"],
        &["status"],
        &["status", "--nagios"],
        &["history"],
        &["history", "-n", "0"],
        &["history", "-n", "0", "--json", "--playbook", "backup_config"],
        &["show", "latest"],
        &["run", "rotate_backups", "--dry-run", "--all-tags", "--keep-last", "30", "backups/database"],
    ];
    let steady = |ran: Ran| {
        let lines = ran.stdout.lines().chain(ran.stderr.lines());
        // How full this machine's disk is says nothing here.
        let lines: Vec<&str> = lines.filter(|line| !line.contains("free")).collect();
        assert!(lines.len() + ran.stdout.len() > 1, "{}", ran.stderr);
        format!("exit {}\n{}", ran.code, lines.join("\n"))
    };
    commands.iter().map(|words| steady(project.run(words))).collect()
}

fn caches(project: &TestProject) -> Vec<PathBuf> {
    project.names(".lifeboat/cache").iter().map(|name| project.at(".lifeboat/cache").join(name)).collect()
}

#[track_caller]
fn same(a: &[String], b: &[String]) {
    for (a, b) in a.iter().zip(b) {
        if a != b {
            let differs = a.lines().zip(b.lines()).find(|(a, b)| a != b);
            panic!("the answer differs: {differs:?}");
        }
    }
}

#[test]
fn two_thousand_are_listed_alike_with_and_without_a_cache() {
    let project = project(2000);
    let allow =
        |mode| fs::set_permissions(project.at(".lifeboat"), fs::Permissions::from_mode(mode)).unwrap();
    // Where others may write, no cache is kept.
    allow(0o770);
    let plain = answers(&project);
    assert_eq!(caches(&project), Vec::<PathBuf>::new());
    allow(0o700);
    assert_eq!(plain[0].lines().count(), 2005);
    assert!(plain[6].lines().count() == 2002, "{}", plain[6].lines().count());
    assert!(plain[9].contains("without a manifest are left alone"), "{}", plain[9]);
    let_it_settle();
    let cold = answers(&project);
    assert_eq!(caches(&project).len(), 2);
    let warm = answers(&project);
    same(&plain, &cold);
    same(&plain, &warm);

    // A manifest that a person edits is seen at once.
    let path = project.at("backups/database").join(make::manifest(0, b"backup 0").file + ".json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"hourly\"", "\"curiou\"")).unwrap();
    let ran = project.run(&["backups", "--tag", "curiou"]).exits(0);
    assert_eq!(ran.stdout.lines().count(), 3, "{}", ran.stdout);
    fs::write(&path, text).unwrap();

    // What a live rotation leaves is what a plain one leaves, and the newest verified backup of each source stays.
    let rotate = ["run", "rotate_backups", "--all-tags", "--keep-last", "5", "backups/database"];
    project.run(&rotate).exits(0);
    let left = project.names("backups/database");
    let newest = |source: &str| {
        let of = |number: usize| make::manifest(number, b"");
        (0..2000).map(of).find(|manifest| {
            manifest.file.starts_with(source)
                && manifest.verified.as_ref().is_some_and(|verified| verified.intact)
        })
    };
    for source in ["shop", "blog", "crm", "wiki"] {
        assert!(left.contains(&newest(source).unwrap().file), "{source}");
    }
    let before = answers(&project);
    for cache in caches(&project) {
        fs::remove_file(cache).unwrap();
    }
    same(&before[..4], &answers(&project)[..4]);
}

#[test]
fn each_question_of_a_run_sees_what_it_and_others_have_changed() {
    let project = project(400).playbook(
        "again",
        "const PLAYBOOK = #{ summary: \"Asks again and again\" };
        let dir = \"backups/database\";
        let tell = |what| info(`${what}: ${latest(dir).name}, ${backups(dir).len()} in all`);
        tell.call(\"first\");
        step \"Save\" { archive(\"playbooks\").gzip().save(`${dir}/zz_saved.tar.gz`, #{ tag: \"hourly\" }); }
        tell.call(\"saved\");
        step \"Tag\" { exec([\"sed\", \"-i\", \"s/hourly/curious/\", `${dir}/zz_saved.tar.gz.json`]); }
        info(`tagged: ${latest(dir, #{ tag: \"curious\" }).name}`);
        step \"Remove\" { exec([\"rm\", `${dir}/zz_saved.tar.gz`, `${dir}/zz_saved.tar.gz.json`]); }
        tell.call(\"removed\");
        step \"Rotate\" { rotate(dir, #{ keep_last: 5 }); }
        tell.call(\"rotated\");",
    );
    let_it_settle();
    project.run(&["backups"]).exits(0);
    assert_eq!(caches(&project).len(), 1);
    let ran = project.run(&["run", "again"]).exits(0);
    let count = |project: &TestProject| {
        project.names("backups/database").iter().filter(|name| name.ends_with(".sql.gz")).count()
    };
    let newest = make::manifest(0, b"").file;
    for told in [
        format!("first: {newest}, 400 in all"),
        "saved: zz_saved.tar.gz, 401 in all".to_owned(),
        "tagged: zz_saved.tar.gz".to_owned(),
        format!("removed: {newest}, 400 in all"),
        format!("rotated: {newest}, {} in all", count(&project)),
    ] {
        assert!(ran.stderr.contains(&told), "{told}: {}", ran.stderr);
    }
    assert!(count(&project) < 200, "{}", count(&project));
}

/// Rewrites every line of a cache, and gives it the checksum that it then has.
fn forge(cache: &Path, line: impl Fn(&str) -> String) {
    let text = fs::read_to_string(cache).unwrap();
    let body: String = text[..text.len() - 17].lines().map(|text| line(text) + "\n").collect();
    fs::write(cache, format!("{body}{:016x}\n", xxh3_64(body.as_bytes()))).unwrap();
}

struct Forgetful;

impl IntentLog for Forgetful {
    fn record(&self, _: u64, _: &str) -> Result<(), Failure> {
        Ok(())
    }
}

fn unverified(path: &Path) {
    let mut manifest: Manifest = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    manifest.verified = None;
    fs::write(path, serde_json::to_vec_pretty(&manifest).unwrap()).unwrap();
}

fn rotate(project: &TestProject, intents: Arc<dyn IntentLog>) -> Result<Rotated, Failure> {
    let now = chrono::DateTime::parse_from_rfc3339(make::NEWEST).unwrap() + chrono::TimeDelta::hours(1);
    let session = session_with(project.path(), now.with_timezone(&chrono::Local), intents);
    let options = RotateOptions { keep_last: Some(1), ..RotateOptions::default() };
    match session.perform(&Rotate { dir: "backups/database".into(), options }, None)? {
        Later::Now(rotated) => Ok(rotated),
        Later::AfterRun => panic!("a live run knows what it did"),
    }
}

#[test]
fn nothing_is_removed_on_the_word_of_the_cache() {
    let project = project(400);
    let manifests = || {
        let names = project.names("backups/database");
        names
            .into_iter()
            .filter(|name| name.ends_with(".json"))
            .map(|name| project.at("backups/database").join(name))
    };
    manifests().for_each(|path| unverified(&path));
    let_it_settle();
    project.run(&["backups"]).exits(0);
    let [cache] = caches(&project).try_into().unwrap();
    // All were verified, says the cache. No file says so.
    let glossary = r#""verdicts":[{"intact":true,"checks":[],"problems":[]}]"#;
    forge(&cache, |line| {
        if line.starts_with('{') {
            return line.replace("\"verdicts\":[]", glossary);
        }
        // Of what more a manifest says, here nothing, a word tells; a time and the number of the verdict would follow it.
        let mut words: Vec<&str> = line.split('\t').collect();
        if words.get(1).is_some_and(|parts| matches!(*parts, "1" | "3")) {
            assert_eq!(words.splice(17..18, ["2", "69f9bcc0", "0", "1c20", "0"]).collect::<Vec<_>>(), ["0"]);
        }
        words.join("\t")
    });
    assert!(
        project.run(&["backups", "--verified"]).exits(0).stdout.lines().count() > 300,
        "it is not believed"
    );
    let before = project.names("backups/database");
    let rotated = rotate(&project, Arc::new(Forgetful)).unwrap();
    assert_eq!((rotated.removed.len(), rotated.kept), (0, 396));
    assert_eq!(project.names("backups/database"), before);
}

/// Changes what a backup is just when rotation has said that it will go.
struct Changing(PathBuf);

impl IntentLog for Changing {
    fn record(&self, _: u64, intent: &str) -> Result<(), Failure> {
        assert!(intent.starts_with("remove "), "{intent}");
        let text = fs::read_to_string(&self.0).unwrap();
        fs::write(&self.0, text.replace("\"shop\"", "\"shoe\"")).unwrap();
        Ok(())
    }
}

#[test]
fn what_has_become_another_backup_stays() {
    let project = project(30);
    // The oldest of its source, which goes first.
    let oldest = make::manifest(28, b"").file;
    let path = project.at("backups/database").join(&oldest);
    let failure = rotate(&project, Arc::new(Changing(project.at(format!("backups/database/{oldest}.json")))))
        .unwrap_err();
    expect![[r#"
        `shop_db_20260505_094000.sql.gz` stays: it is not the backup that was to go: its manifest has changed since the rotation was planned
        Rotate again: what goes is then planned anew."#]]
    .assert_eq(&format!("{failure}\n{}", failure.hints.join("\n")));
    assert!(path.exists());
}

#[test]
fn a_state_folder_that_cannot_be_written_keeps_no_answer_back() {
    let project = project(600);
    let plain = project.run(&["backups"]).exits(0).stdout;
    let_it_settle();
    fs::create_dir(project.at(".lifeboat/cache")).unwrap();
    // To whom it does not belong, it is not for writing, whoever asks.
    fs::set_permissions(project.at(".lifeboat/cache"), fs::Permissions::from_mode(0o777)).unwrap();
    for entry in [".", "backups", "backups/database", ".lifeboat"] {
        fs::set_permissions(project.at(entry), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let ran = project.run_unprivileged(&["backups"]).exits(0);
    assert_eq!((ran.stdout, ran.stderr.as_str()), (plain, ""));
    assert_eq!(caches(&project), Vec::<PathBuf>::new());
}

/// The most memory in MiB that a command takes, as far as looking every millisecond tells.
fn peak(project: &TestProject, args: &[&str]) -> u64 {
    let mut child = project.start(args);
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let most = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        peak = most.map_or(peak, |kib| kib.parse().unwrap()).max(peak);
        std::thread::sleep(Duration::from_millis(1));
    }
    peak / 1024
}

#[test]
fn a_hundred_thousand_are_listed_alike() {
    if !cluster::all_tests() {
        return;
    }
    let project = project(100_000);
    let_it_settle();
    let cold = answers(&project);
    assert_eq!(caches(&project).len(), 2);
    let warm = answers(&project);
    same(&cold, &warm);
    assert_eq!(cold[6].lines().count(), 100_002);
    for cache in caches(&project) {
        fs::remove_file(cache).unwrap();
    }
    fs::set_permissions(project.at(".lifeboat"), fs::Permissions::from_mode(0o770)).unwrap();
    same(&cold, &answers(&project));
    assert_eq!(reader::runs(&project.at(".lifeboat")).unwrap().len(), 100_000);
    // About a third more than was measured: 178, 178, 263 and 85 MiB, of which what is shown takes a part.
    let bounds: [(&[&str], u64); 4] = [
        (&["backups"], 240),
        (&["backups", "--json"], 240),
        (&["status"], 350),
        (&["history", "-n", "0"], 115),
    ];
    for (words, bound) in bounds {
        let most = peak(&project, words);
        assert!((20..bound).contains(&most), "{words:?} took {most} MiB");
    }
}
