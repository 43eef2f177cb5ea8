//! Rotation over simulated days, and what it never removes.

use crate::project::TestProject;
use chrono::{DateTime, Datelike, Local, TimeDelta, TimeZone, Timelike, Weekday};
use expect_test::expect;
use lifeboat::action::file::FileSource;
use lifeboat::action::rotate::{Rotate, RotateOptions, Rotated};
use lifeboat::action::save::{Save, SaveOptions};
use lifeboat::action::source::BackupSource;
use lifeboat::action::verify::{Verify, VerifyOptions};
use lifeboat::base::backup::Manifest;
use lifeboat::base::failure::Failure;
use lifeboat::base::ids::RunId;
use lifeboat::base::plan::Later;
use lifeboat::engine::policy::{Grants, Policy};
use lifeboat::engine::session::{LiveRun, Session};
use lifeboat::sys::effects::IntentLog;
use lifeboat::sys::env::Env;
use lifeboat::sys::host::Host;
use lifeboat::sys::stream::Level;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// Keeps no intents: these runs are not killed.
struct Forgetful;

impl IntentLog for Forgetful {
    fn record(&self, _: u64, _: &str) -> Result<(), Failure> {
        Ok(())
    }
}

/// A run at a fixed time, in a project folder.
fn session(project: &Path, now: DateTime<Local>) -> Session {
    session_with(project, now, Arc::new(Forgetful))
}

/// The same, which keeps its intents somewhere.
pub fn session_with(project: &Path, now: DateTime<Local>, intents: Arc<dyn IntentLog>) -> Session {
    let env = Env::of([("LIFEBOAT_NOW".to_owned(), now.to_rfc3339())].into(), BTreeMap::new());
    let host = Arc::new(Host::new(project.to_path_buf(), project.join(".lifeboat"), env));
    let grants = Grants { write: [project.to_path_buf()].into(), ..Grants::default() };
    let run = RunId::new(host.began(), &host.letters()).to_string();
    Session::live(host, Policy::new(grants), LiveRun { run, intents })
}

/// What a playbook of the guide does in one run: save, verify, rotate. Returns the backup's name.
fn back_up(project: &Path, now: DateTime<Local>, source: &str, dir: &str, tag: &str, days: u32) -> String {
    let session = session(project, now);
    let name = format!("{source}_{}.gz", now.format("%Y%m%d_%H%M%S"));
    let path = Path::new(dir).join(&name);
    let save = Save {
        source: BackupSource::File(FileSource { path: source.into() }),
        gzip: Some(Level::default()),
        path: path.clone(),
        options: SaveOptions { tag: tag.to_owned() },
    };
    session.perform(&save, None).unwrap();
    session.perform(&Verify { path, options: VerifyOptions::default() }, None).unwrap();
    rotate(&session, dir, tag, days);
    name
}

fn rotate(session: &Session, dir: &str, tag: &str, days: u32) -> Rotated {
    let options =
        RotateOptions { tag: Some(tag.to_owned()), keep_days: Some(days), ..RotateOptions::default() };
    let Later::Now(rotated) = session.perform(&Rotate { dir: dir.into(), options }, None).unwrap() else {
        panic!("a live run knows what it did")
    };
    rotated
}

fn hours(from: DateTime<Local>, n: i64) -> impl Iterator<Item = DateTime<Local>> {
    (0..n).map(move |hour| from + TimeDelta::hours(hour))
}

/// Names in a folder that bear no sidecar's suffix.
fn backups(project: &TestProject, dir: &str) -> BTreeSet<String> {
    project
        .names(dir)
        .into_iter()
        .filter(|name| !name.ends_with(".json") && !name.ends_with(".sha256"))
        .collect()
}

#[test]
fn ninety_days_of_the_guides_schedule() {
    let (database, config) = ("backups/database", "backups/config");
    let project = TestProject::in_memory().file("shop", "rows").file("blog", "posts").file("conf", "A=1");
    let begin = Local.with_ymd_and_hms(2025, 8, 1, 0, 0, 0).unwrap();
    // What is not Lifeboat's, or another source's, is not touched in all that time.
    let strangers = [
        ("backups/database/notes.txt", "mine"),
        ("backups/database/aurora_db_20240101_020000.sql.gz", "made by a script"),
        ("backups/database/aurora_db_20240101_020000.sql.gz.sha256", "made by a script"),
        ("backups/database/shop_20240101_020000.gz.json", "{\"of\": \"a file that is gone\"}"),
        ("backups/config/sub/conf_20240101_023000.gz", "in a folder of its own"),
    ];
    let project = strangers.iter().fold(project, |project, (path, content)| project.file(path, content));
    let other = back_up(project.path(), begin - TimeDelta::days(200), "blog", database, "daily", 30);
    let before: Vec<String> = backups(&project, database).into_iter().collect();
    assert_eq!(before.len(), 3);

    for now in hours(begin, 90 * 24) {
        let path = project.path();
        if now.hour() == 2 {
            back_up(path, now, "shop", database, "daily", 30);
            back_up(path, now + TimeDelta::minutes(30), "conf", config, "daily", 30);
        }
        if (9..=17).contains(&now.hour()) {
            back_up(path, now, "shop", database, "hourly", 7);
        }
        if now.hour() == 3 && now.weekday() == Weekday::Sun {
            back_up(path, now, "shop", database, "weekly", 60);
            back_up(path, now, "conf", config, "weekly", 60);
        }
    }

    let last =
        |day: u32, hour: u32, minute: u32| Local.with_ymd_and_hms(2025, 10, day, hour, minute, 0).unwrap();
    let expected = |source: &str, runs: &[(DateTime<Local>, i64, i64)]| -> BTreeSet<String> {
        let stamps = runs.iter().flat_map(|(newest, every, count)| {
            (0..*count).map(move |n| *newest - TimeDelta::hours(n * every))
        });
        stamps.map(|at| format!("{source}_{}.gz", at.format("%Y%m%d_%H%M%S"))).collect()
    };
    let mut shop = vec![(last(29, 2, 0), 24, 30), (last(26, 3, 0), 7 * 24, 9)];
    shop.extend((9..=17).map(|hour| (last(29, hour, 0), 24, 7)));
    let mut kept = expected("shop", &shop);
    assert_eq!(kept.len(), 30 + 9 + 9 * 7);
    kept.extend(before);
    assert_eq!(backups(&project, database), kept);
    let mut kept = expected("conf", &[(last(29, 2, 30), 24, 30), (last(26, 3, 0), 7 * 24, 9)]);
    kept.insert("sub".to_owned());
    assert_eq!(backups(&project, config), kept);

    // Sidecars went with their files, and stayed with those that stayed.
    let ours =
        |name: &String| name.starts_with("shop_2025") || name.starts_with("conf_2025") || *name == other;
    for (dir, count) in [(database, 103), (config, 39)] {
        let with: BTreeSet<String> = backups(&project, dir)
            .into_iter()
            .filter(ours)
            .flat_map(|name| [name.clone(), name.clone() + ".json", name + ".sha256"])
            .collect();
        let there: BTreeSet<String> = project
            .names(dir)
            .into_iter()
            .filter(|name| {
                name.starts_with("shop_2025") || name.starts_with("conf_2025") || name.starts_with("blog")
            })
            .collect();
        assert_eq!((there.len(), there), (3 * count, with));
    }
    for (path, content) in strangers {
        assert_eq!(std::fs::read_to_string(project.at(path)).unwrap(), content, "{path}");
    }
    for name in backups(&project, database).iter().filter(|name| ours(name)) {
        let at = project.at(database).join(format!("{name}.json"));
        let manifest: Manifest = serde_json::from_slice(&std::fs::read(at).unwrap()).unwrap();
        let tag = match (name.contains("_02"), name.contains("_03"), *name == other) {
            (_, _, true) | (true, _, _) => "daily",
            (_, true, _) => "weekly",
            _ => "hourly",
        };
        assert_eq!((manifest.tag.as_str(), manifest.verified.unwrap().intact), (tag, true), "{name}");
    }
}

/// A project with playbooks that save at a time of their own.
fn project() -> TestProject {
    TestProject::new()
        .file("data", "content")
        .playbook(
            "make",
            r#"
            const PLAYBOOK = #{ summary: "Make one", params: #{ tag: "daily", verify: true, source: #{ default_value: "data", path: true } } };
            step "Make" {
                let made = file(params.source).save(`backups/b_${run_stamp()}.gz.raw`, #{ tag: params.tag });
                if params.verify { verify(made); }
            }
            "#,
        )
        .playbook(
            "turn",
            r#"
            const PLAYBOOK = #{ summary: "Rotate", params: #{ last: 1, tag: "" } };
            step "Rotate" {
                let options = #{ keep_last: params.last };
                if params.tag != "" { options.tag = params.tag; }
                let gone = rotate("backups", options);
                print(`${gone.removed} ${gone.kept} ${gone.freed}`);
            }
            "#,
        )
}

fn on(project: TestProject, day: &str, args: &[&str]) -> TestProject {
    let project = project.env("LIFEBOAT_NOW", format!("{day}T02:00:00Z"));
    project.run(args).exits(0);
    project
}

fn days(project: &TestProject) -> Vec<String> {
    let names = backups(project, "backups").into_iter();
    names.map(|name| name["b_".len()..]["YYYY".len()..]["".len()..4].to_owned()).collect()
}

#[test]
fn the_newest_verified_backup_outlives_every_window() {
    let mut project = project();
    for day in ["2025-01-01", "2025-01-02", "2025-01-03"] {
        project = on(project, day, &["make"]);
    }
    project = on(project, "2025-01-04", &["make", "--no-verify"]);
    project = project.env("LIFEBOAT_NOW", "2025-12-24T02:00:00Z");
    let ran = project
        .run(&["rotate_backups", "backups", "--retention", "7", "--tag", "daily", "--dry-run"])
        .exits(0);
    expect![[r#"
        Dry run of rotate_backups

        Outside of steps
        ℹ️  INFO - the clock stands at 2025-12-24T02:00:00+00:00, since LIFEBOAT_NOW is set
        parameters: dirs, retention, tag (dirs from <DIRS>, retention from --retention, tag from --tag)

        Rotate
          destroy rotate: rotate backups tagged `daily` in `backups`, keeping 7 days: 2 go, 2 stay
                    remove b_STAMP.gz.raw (SIZE), since b_STAMP.gz.raw is newer and verified
                    remove b_STAMP.gz.raw (SIZE), since b_STAMP.gz.raw is newer and verified

        1 action planned; nothing was changed
    "#]]
    .assert_eq(&project.steady(&format!("{}{}", ran.stdout, ran.stderr)));
    assert_eq!(days(&project), ["0101", "0102", "0103", "0104"]);
    let ran = project.run(&["rotate_backups", "backups", "--retention", "7", "--tag", "daily"]).exits(0);
    expect![[r#"
        ℹ️  INFO - the clock stands at 2025-12-24T02:00:00+00:00, since LIFEBOAT_NOW is set
        parameters: dirs, retention, tag (dirs from <DIRS>, retention from --retention, tag from --tag)
        ℹ️  INFO - removed 4 old logs, backup-20250101.log to backup-20250104.log
        ▶ Rotate
          rotate: removed 2 backups (SIZE), kept 2
        ✔ Rotate (TIME)
        ✔ rotate_backups completed in TIME
    "#]]
    .assert_eq(&project.steady(&ran.stderr));
    // The one of the fourth was never verified: no proof lets it go, nor is it one.
    assert_eq!(days(&project), ["0103", "0104"]);
    project.run(&["rotate_backups", "backups", "--retention", "7", "--tag", "daily"]).exits(0);
    assert_eq!(days(&project), ["0103", "0104"]);
    assert_eq!(project.names("backups").len(), 6);
}

#[test]
fn sources_and_tags_in_one_folder_are_apart() {
    let mut project = project().file("other", "other content");
    for (day, args) in [
        ("2025-01-01", &["make"][..]),
        ("2025-01-02", &["make", "--tag", "weekly"]),
        ("2025-01-03", &["make", "--source", "other"]),
        ("2025-01-04", &["make"]),
        ("2025-01-05", &["make", "--source", "other"]),
        ("2025-01-06", &["make", "--tag", "hourly"]),
        ("2025-01-07", &["make", "--tag", "weekly"]),
    ] {
        project = on(project, day, args);
    }
    // A file of another source's name that has no manifest is not even counted.
    std::fs::copy(
        project.at("backups").join(project.names("backups").remove(0)),
        project.at("backups/b_20240101_020000.sql"),
    )
    .unwrap();
    let turn = |project: &TestProject, args: &[&str]| {
        let ran = project.run(args).exits(0);
        let said = |line: &str| Some(line.split_once("INFO - ")?.1.to_owned());
        ran.stderr.lines().filter_map(said).find(|line| !line.starts_with("the clock stands")).unwrap()
    };
    assert_eq!(turn(&project, &["turn", "--tag", "hourly"]), "[] 1 0 B");
    assert_eq!(turn(&project, &["turn", "--tag", "nothing"]), "[] 0 0 B");
    assert_eq!(turn(&project, &["turn", "--tag", "weekly"]), "[\"b_20250102_020000.gz.raw\"] 1 7 B");
    // Without a tag each source and tag keeps its own newest; the oldest goes first.
    assert_eq!(
        turn(&project, &["turn"]),
        "[\"b_20250101_020000.gz.raw\", \"b_20250103_020000.gz.raw\"] 4 20 B"
    );
    assert_eq!(days(&project), ["0101", "0104", "0105", "0106", "0107"]);
}

/// Three verified backups and a playbook, of which nothing may be removed.
#[track_caller]
fn nothing_goes(playbook: &str, code: i32) -> (String, TestProject) {
    let mut project = project();
    for day in ["2025-01-01", "2025-01-02", "2025-01-03"] {
        project = on(project, day, &["make"]);
    }
    let project = project.playbook("it", playbook).env("LIFEBOAT_NOW", "2025-12-24T02:00:00Z");
    let ran = project.run(&["it"]).exits(code);
    assert!(["0101", "0102", "0103"].iter().all(|day| days(&project).iter().any(|other| day == other)));
    (project.told(&ran), project)
}

#[test]
fn nothing_goes_when_the_new_backup_is_not_intact() {
    let spoil = r#"
        const PLAYBOOK = #{ summary: "A test" };
        let made = step "Make" { file("data").save("backups/b_20251224_020000.gz.raw", #{ tag: "daily" }) };
        step "Spoil" { exec(["sh", "-c", "printf x >> backups/b_20251224_020000.gz.raw"]); }
    "#;
    let (told, _) = nothing_goes(
        &format!(
            "{spoil} step \"Verify\" {{ verify(made); }} step \"Rotate\" {{ rotate(\"backups\", #{{ keep_last: 1 }}); }}"
        ),
        12,
    );
    expect![[r#"
        exit 12
        error: `b_STAMP.gz.raw` is not intact
          ——▶ playbooks/it.rhai:5:22
          │
        N │      step "Verify" { verify(made); } step "Rotate" { rotate("backups", #{ keep_last: 1 }); }
          │                      ^
        caused by: b_STAMP.gz.raw has the SHA-256 SHA256 instead of SHA256
        caused by: b_STAMP.gz.raw has SIZE, its manifest says 7
        hint: Do not restore it. `lifeboat backups backups --verified` lists the intact ones.
        ✘ it failed in step `Verify` after TIME (exit 12)
    "#]]
    .assert_eq(&told);
    // The playbook goes on, though it knows better.
    let (told, _) = nothing_goes(
        &format!(
            "{spoil} step \"Verify\" {{ verify(made, #{{ report_only: true }}); }} \
             step \"Rotate\" {{ let gone = rotate(\"backups\", #{{ keep_last: 1 }}); print(gone.removed); }}"
        ),
        0,
    );
    expect![[r#"
        exit 0
        ℹ️  INFO - the clock stands at 2025-12-24T02:00:00+00:00, since LIFEBOAT_NOW is set
        ℹ️  INFO - removed 3 old logs, backup-20250101.log to backup-20250103.log
        ▶ Make
          save: saved b_STAMP.gz.raw (SIZE)
        ✔ Make (TIME)
        ▶ Spoil
          exec: `sh` exited with status 0 after TIME
        ✔ Spoil (TIME)
        ▶ Verify
          verify: b_STAMP.gz.raw is NOT intact: b_STAMP.gz.raw has the SHA-256 SHA256 instead of SHA256; b_STAMP.gz.raw has SIZE, its manifest says 7
        ✔ Verify (TIME)
        ▶ Rotate
        ℹ️  INFO - rotation removes nothing: a part of this run has failed
          rotate: removed 0 backups (SIZE), kept 4
        ℹ️  INFO - []
        ✔ Rotate (TIME)
        ✔ it completed in TIME
    "#]].assert_eq(&told);
}

#[test]
fn nothing_goes_after_a_tolerated_failure() {
    let (told, project) = nothing_goes(
        r#"
        attempt "Part" { fail("no luck"); }
        step "Rotate" { print(rotate("backups", #{ keep_last: 1 }).removed); }
        "#,
        3,
    );
    expect![[r#"
        exit 3
        ! Part failed, the run goes on (TIME)
          no luck
          at playbooks/it.rhai:3:26
        ▶ Rotate
        ℹ️  INFO - rotation removes nothing: a part of this run has failed
          rotate: removed 0 backups (SIZE), kept 3
        ℹ️  INFO - []
        ✔ Rotate (TIME)
        warning: Part: no luck
        ! it completed with 1 warning in TIME
    "#]]
    .assert_eq(&told);
    let ran = project.run(&["it", "--dry-run"]);
    assert!(format!("{}{}", ran.stdout, ran.stderr).contains("nothing goes: a part of this run has failed"));
    // A warning alone is no failure.
    let project = project.playbook(
        "it",
        r#"
        warn("it smells");
        step "Rotate" { rotate("backups", #{ keep_last: 1 }); }
        "#,
    );
    project.run(&["it"]).exits(3);
    assert_eq!(days(&project), ["0103"]);
}

#[test]
fn a_proof_that_is_gone_stops_rotation() {
    let mut project = project();
    for day in ["2025-01-01", "2025-01-02"] {
        project = on(project, day, &["make"]);
    }
    // The newest backup is there no more, though its sidecars are.
    std::fs::remove_file(project.at("backups/b_20250102_020000.gz.raw")).unwrap();
    project.run(&["turn"]).exits(0);
    assert_eq!(days(&project), ["0101"]);
}

#[test]
fn a_proof_that_changed_since_it_was_verified_stops_rotation() {
    let mut project = project();
    for day in ["2025-01-01", "2025-01-02", "2025-01-03"] {
        project = on(project, day, &["make"]);
    }
    let newest = project.at("backups/b_20250103_020000.gz.raw");
    // Of the same size, so only reading it tells.
    std::fs::write(&newest, "cOntent").unwrap();
    let ran = project.run(&["turn"]).exits(12);
    expect![[r#"
        exit 12
        error: nothing was removed: `b_STAMP.gz.raw` has changed since it was verified
          ——▶ playbooks/turn.rhai:6:28
          │
        N │                 let gone = rotate("backups", options);
          │                            ^
        caused by: it has the SHA-256 SHA256, its manifest says SHA256
        hint: Run `lifeboat run verify_backups`, then rotate again.
        ✘ turn failed in step `Rotate` after TIME (exit 12)
    "#]]
    .assert_eq(&project.told(&ran));
    assert_eq!(days(&project), ["0101", "0102", "0103"]);
    // Of another size it is no proof at all, though its manifest says that it is intact.
    std::fs::write(&newest, "cont").unwrap();
    project.run(&["turn"]).exits(0);
    assert_eq!(days(&project), ["0102", "0103"]);
}

#[test]
fn verify_tells_of_what_cannot_be_read_and_of_what_is_gone_and_goes_on() {
    let mut project = project();
    for day in ["2025-01-01", "2025-01-02", "2025-01-03"] {
        project = on(project, day, &["make"]);
    }
    // A folder cannot be read as a file, whoever asks.
    std::fs::remove_file(project.at("backups/b_20250102_020000.gz.raw")).unwrap();
    let project = project.playbook(
        "it",
        r#"
        const PLAYBOOK = #{ summary: "A test" };
        step "Verify" {
            for n in 1..4 { print(verify(`backups/${n}`, #{ report_only: true }).intact); }
            print(backups("backups").len());
        }
        "#,
    );
    for (name, day) in [("1", "01"), ("3", "03")] {
        let at = |suffix: &str| project.at(format!("backups/b_202501{day}_020000.gz.raw{suffix}"));
        std::fs::copy(at(""), project.at(format!("backups/{name}"))).unwrap();
        std::fs::write(project.at(format!("backups/{name}.sha256")), std::fs::read(at(".sha256")).unwrap())
            .unwrap();
    }
    std::fs::create_dir(project.at("backups/2")).unwrap();
    let ran = project.run(&["it"]).exits(3);
    expect![[r#"
        exit 3
        warning: `b_STAMP.gz.raw` is gone, only its sidecars are left
        ! it completed with 1 warning in TIME
    "#]]
    .assert_eq(&project.told(&ran));
}

#[test]
fn names_of_sidecars_are_no_names_of_backups() {
    for suffix in [".sha256", ".json", ".globals.sql", ".part"] {
        let text = format!(r#"step "x" {{ file("data").save("backups/a{suffix}"); }}"#);
        let project = TestProject::new().file("data", "content").playbook("it", &text);
        let ran = project.run(&["it"]).exits(2);
        let told = project.told(&ran);
        if suffix == ".part" {
            expect![[r#"
                exit 2
                error: a backup cannot be called `a.part`
                  ——▶ playbooks/it.rhai:2:25
                  │
                N │ step "x" { file("data").save("backups/a.part"); }
                  │                         ^
                caused by: `.part` ends the names of files that stand beside backups
                hint: Use a name that ends with what the file holds, for example `.sql.gz` or `.tar.gz`.
                ✘ it failed in step `x` after TIME (exit 2)
            "#]]
            .assert_eq(&told);
        }
        assert!(told.contains(&format!("a backup cannot be called `a{suffix}`")), "{told}");
        assert!(!project.at("backups").exists());
    }
}

#[test]
fn a_run_never_removes_what_it_has_made() {
    let project = project().playbook(
        "it",
        r#"
        step "Make" { for n in 0..2 { verify(file("data").save(`backups/b_2025010${n}_020000.gz.raw`, #{ tag: "daily" })); } }
        step "Rotate" { print(rotate("backups", #{ keep_last: 1 }).removed); }
        "#,
    );
    project.run(&["it"]).exits(0);
    assert_eq!(days(&project), ["0100", "0101"]);
}

#[test]
fn wrong_options_are_refused_before_or_while_it_runs() {
    let project = TestProject::new().file("backups/a", "");
    let mut told = String::new();
    for options in [
        "#{ keep_dayz: 3 }",
        "#{ keep_last: 1, tags: \"daily\" }",
        "#{}",
        "#{ tag: \"daily\" }",
        "#{ keep_days: 0, keep_last: 0 }",
        "#{ keep_days: -1 }",
        "#{ keep_days: 1.5 }",
        "#{ keep_days: \"30\" }",
        "#{ keep_days: 4294967296 }",
        "#{ keep_last: 1, tag: 7 }",
    ] {
        for text in [
            format!("rotate(\"backups\", {options});"),
            format!("let o = {options}; rotate(\"backups\", o);"),
        ] {
            let project = TestProject::new().playbook("it", &format!("step \"x\" {{ {text} }}"));
            let said = project.told(&project.run(&["it"]));
            let said: Vec<&str> = said
                .lines()
                .filter(|line| {
                    ["exit ", "error: ", "caused by: ", "hint: "].iter().any(|word| line.starts_with(word))
                })
                .collect();
            told += &format!("{text}\n  {}\n", said.join("\n  "));
        }
    }
    expect![[r#"
        rotate("backups", #{ keep_dayz: 3 });
          exit 2
          error: unknown option `keep_dayz` of `rotate`
          hint: Did you mean `keep_days`?
        let o = #{ keep_dayz: 3 }; rotate("backups", o);
          exit 1
          error: unknown option `keep_dayz` of `rotate`
          hint: Did you mean `keep_days`?
        rotate("backups", #{ keep_last: 1, tags: "daily" });
          exit 2
          error: unknown option `tags` of `rotate`
          hint: Did you mean `tag`?
        let o = #{ keep_last: 1, tags: "daily" }; rotate("backups", o);
          exit 1
          error: unknown option `tags` of `rotate`
          hint: Did you mean `tag`?
        rotate("backups", #{});
          exit 2
          error: `rotate` needs a rule that keeps something
          hint: Give at least one of keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly and keep_days, above 0.
        let o = #{}; rotate("backups", o);
          exit 2
          error: `rotate` needs a rule that keeps something
          hint: Give at least one of keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly and keep_days, above 0.
        rotate("backups", #{ tag: "daily" });
          exit 2
          error: `rotate` needs a rule that keeps something
          hint: Give at least one of keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly and keep_days, above 0.
        let o = #{ tag: "daily" }; rotate("backups", o);
          exit 2
          error: `rotate` needs a rule that keeps something
          hint: Give at least one of keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly and keep_days, above 0.
        rotate("backups", #{ keep_days: 0, keep_last: 0 });
          exit 2
          error: `rotate` needs a rule that keeps something
          hint: Give at least one of keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly and keep_days, above 0.
        let o = #{ keep_days: 0, keep_last: 0 }; rotate("backups", o);
          exit 2
          error: `rotate` needs a rule that keeps something
          hint: Give at least one of keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly and keep_days, above 0.
        rotate("backups", #{ keep_days: -1 });
          exit 2
          error: option `keep_days` of `rotate` must be a whole number from 0
          caused by: it is integer -1
        let o = #{ keep_days: -1 }; rotate("backups", o);
          exit 1
          error: option `keep_days` of `rotate` must be a whole number from 0
          caused by: it is integer -1
        rotate("backups", #{ keep_days: 1.5 });
          exit 2
          error: option `keep_days` of `rotate` must be a whole number from 0
          caused by: it is floating point 1.5
        let o = #{ keep_days: 1.5 }; rotate("backups", o);
          exit 1
          error: option `keep_days` of `rotate` must be a whole number from 0
          caused by: it is floating point 1.5
        rotate("backups", #{ keep_days: "30" });
          exit 2
          error: option `keep_days` of `rotate` must be a whole number from 0
          caused by: it is the text "30"
        let o = #{ keep_days: "30" }; rotate("backups", o);
          exit 1
          error: option `keep_days` of `rotate` must be a whole number from 0
          caused by: it is the text "30"
        rotate("backups", #{ keep_days: 4294967296 });
          exit 2
          error: option `keep_days` of `rotate` must be a whole number from 0
          caused by: it is integer 4294967296
        let o = #{ keep_days: 4294967296 }; rotate("backups", o);
          exit 1
          error: option `keep_days` of `rotate` must be a whole number from 0
          caused by: it is integer 4294967296
        rotate("backups", #{ keep_last: 1, tag: 7 });
          exit 2
          error: option `tag` of `rotate` must be a text
          caused by: it is integer 7
        let o = #{ keep_last: 1, tag: 7 }; rotate("backups", o);
          exit 1
          error: option `tag` of `rotate` must be a text
          caused by: it is integer 7
    "#]].assert_eq(&told);
    let without = project.playbook("it", "step \"x\" { rotate(\"backups\"); }");
    expect![[r#"
        exit 2
        error: `rotate` cannot be called with 1 argument
          ——▶ playbooks/it.rhai:2:12
          │
        N │ step "x" { rotate("backups"); }
          │            ^
        hint: It is called as `rotate(dir: text, options: map)`.

    "#]]
    .assert_eq(&without.told(&without.run(&["it"])));
}

#[test]
fn a_retention_that_keeps_nothing_is_refused_before_a_backup_is_made() {
    let project = TestProject::new().file(".env", "A=1\n");
    let mut told = String::new();
    for retention in ["0", "-3", "many"] {
        let ran = project.run(&["backup_config", &format!("--retention={retention}")]);
        told += &format!("--retention={retention}: {}", project.told(&ran));
    }
    expect![[r#"
        --retention=0: exit 2
        error: a retention of 0 days keeps nothing
           ——▶ std/backup:N
           │
        N │         fail(#{
           │         ^
        while calling `std/backup::check_retention` at std/backup:N
        while calling `std/backup::config` at playbooks/backup_config.rhai:N
        hint: Keep backups for 1 day or more: --retention 30
        ✘ backup_config failed in step `Pre-flight checks` after TIME (exit 2)
        --retention=-3: exit 2
        error: a retention of -3 days keeps nothing
           ——▶ std/backup:N
           │
        N │         fail(#{
           │         ^
        while calling `std/backup::check_retention` at std/backup:N
        while calling `std/backup::config` at playbooks/backup_config.rhai:N
        hint: Keep backups for 1 day or more: --retention 30
        ✘ backup_config failed in step `Pre-flight checks` after TIME (exit 2)
        --retention=many: exit 2
        error: `--retention` must be a whole number, not `many`
    "#]]
    .assert_eq(&told);
    assert_eq!(project.names("backups"), [""; 0]);
}
