//! Extractions that fail or are killed in the middle: under every name is the one file or the other, whole, and running
//! the same again or rolling back leads to the one tree or the other.

use super::{kept, project, timeless};
use crate::aftermath::{nobody_survives, runs};
use crate::full_disk::Disk;
use crate::project::TestProject;
use expect_test::expect;
use lifeboat::action::Action;
use lifeboat::action::extract::{Extract, Extracted};
use lifeboat::action::rollback_files::{RollbackFiles, RolledBack};
use lifeboat::base::event::What;
use lifeboat::base::plan::{Plan, Reconciled, Was};
use lifeboat::journal::reader;
use lifeboat::sys::env::Env;
use lifeboat::sys::facts::{Facts, Reality};
use lifeboat::sys::host::Host;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// So many files change places.
const FILES: usize = 1500;

/// What a tree holds under every name, for comparison.
type Tree = BTreeMap<Vec<u8>, String>;

/// A project whose tree differs from its backup in that many files; returns the tree of the backup and the one that stands.
fn many(files: usize) -> (TestProject, Tree, Tree) {
    let project = project();
    let write = |n: usize, text: &str| {
        let at = project.at(format!("tree/{}", name(n)));
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(at, text).unwrap();
    };
    (0..files).for_each(|n| write(n, &format!("the new content of {n}")));
    project.run(&["back"]).exits(0);
    let new = timeless(&project.at("tree"));
    // Every tenth is not there.
    (0..files).filter(|n| n % 10 != 0).for_each(|n| write(n, &format!("old {n}")));
    for n in (0..files).step_by(10) {
        std::fs::remove_file(project.at(format!("tree/{}", name(n)))).unwrap();
    }
    let old = timeless(&project.at("tree"));
    (project, new, old)
}

fn name(n: usize) -> String {
    format!("{:02}/{n:04}", n / 100)
}

/// Whether file `n` has changed places.
fn has_changed(project: &TestProject, n: usize, to: &str) -> bool {
    std::fs::read_to_string(project.at(format!("tree/{}", name(n)))).is_ok_and(|text| text.starts_with(to))
}

/// Starts the program, kills it when `moment` has come, and says whether it was alive until then.
fn killed(project: &TestProject, args: &[&str], moment: impl Fn() -> bool) -> bool {
    let mut process = project.start(args);
    let began = Instant::now();
    while !moment() && process.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < crate::aftermath::PATIENCE, "the moment never came");
        std::hint::spin_loop();
    }
    let _ = process.kill();
    let status = process.wait().unwrap();
    nobody_survives(project);
    !status.success()
}

fn states(project: &TestProject) -> Vec<String> {
    kept(project, "tree")
        .iter()
        .map(|name| name.split_once('.').map_or("kept", |(_, s)| s).to_owned())
        .collect()
}

/// Every name has what it had or what the archive has for it.
#[track_caller]
fn one_or_the_other(project: &TestProject, new: &Tree, old: &Tree) {
    for (name, found) in timeless(&project.at("tree")) {
        let shown = String::from_utf8_lossy(&name).into_owned();
        assert!(new.get(&name) == Some(&found) || old.get(&name) == Some(&found), "{shown}: {found}");
    }
}

fn facts(project: &TestProject) -> Facts {
    let host = Host::new(project.path().to_path_buf(), project.at(".lifeboat"), Env::default());
    Facts::new(Arc::new(host), Arc::new(Reality))
}

/// What the newest run's journal holds of its action.
fn was<O: DeserializeOwned>(project: &TestProject) -> Was<O> {
    let run = runs(project).remove(0).run;
    let recording = reader::events(&project.at(".lifeboat"), &run).unwrap();
    let plan = recording.events.iter().find_map(|event| match &event.what {
        What::Planned { plan, .. } => Some(serde_json::to_value(plan).unwrap()),
        _ => None,
    });
    let plan: Plan<O> = serde_json::from_value(plan.unwrap()).unwrap();
    Was { run: run.to_string(), plan, begun: true, output: None }
}

fn reconciled(project: &TestProject, was: &Was<Extracted>) -> Reconciled<Extracted> {
    Extract::reconcile(was, &facts(project)).unwrap()
}

fn in_doubt<O>(reconciled: Reconciled<O>) -> String {
    match reconciled {
        Reconciled::InDoubt(why) => why,
        Reconciled::Done(_) => "done".to_owned(),
        Reconciled::NotDone => "not done".to_owned(),
    }
}

#[test]
fn killed_while_files_change_places_it_is_finished_or_undone() {
    let (project, new, old) = many(FILES);
    let mut between = 0;
    for (round, at) in [1, FILES / 4 + 1, FILES / 2 + 1, FILES - 101].into_iter().enumerate() {
        if !killed(&project, &["extract"], || has_changed(&project, at, "the new")) {
            continue;
        }
        one_or_the_other(&project, &new, &old);
        let was = was::<Extracted>(&project);
        let is_between = states(&project) == ["swapping"];
        if is_between {
            between += 1;
            assert_eq!(reconciled(&project, &was), Reconciled::NotDone);
            // A dry run sees what there is to do, and does nothing.
            let dry = project.run(&["extract", "--dry-run"]).exits(0);
            assert!(
                dry.stdout.contains(&format!("goes on where run {} was killed", was.run)),
                "{}",
                dry.stdout
            );
            assert_eq!(states(&project), ["swapping"]);
            // Something else is not extracted over it.
            let other = project.run(&["extract", "--only", "00"]);
            let told = other
                .stderr
                .replace(&was.run, "RUN")
                .replace(&project.path().display().to_string(), "PROJECT");
            assert!(told.contains("error: the files in `PROJECT/tree` are half replaced\n"), "{told}");
            assert!(told.contains("caused by: run RUN was killed while extracting `a.tar.gz`\n"), "{told}");
            assert!(
                told.contains("hint: Finish that first: run the same again, or `lifeboat rollback RUN`.\n"),
                "{told}"
            );
        }
        let path = format!("tree/.lifeboat-kept/{}-1", was.run);
        if round % 2 == 0 {
            // It may have been killed after the last file.
            let told = if is_between { "150 new, 1350 changed" } else { "0 new, 0 changed" };
            project.run(&["extract"]).exits(0).says(told);
            assert!(timeless(&project.at("tree")) == new);
            assert_eq!(states(&project), ["kept"]);
            assert!(matches!(reconciled(&project, &was), Reconciled::Done(_)));
        }
        project.run(&["rollback_kept", &path]).exits(0);
        assert!(timeless(&project.at("tree")) == old);
        assert_eq!(states(&project), ["undone"]);
        assert_eq!(
            in_doubt(reconciled(&project, &was)),
            format!("what was extracted into `{}` was rolled back since", project.at("tree").display())
        );
        std::fs::remove_dir_all(project.at("tree/.lifeboat-kept")).unwrap();
    }
    assert!(between > 0, "it was never killed in between");
}

#[test]
fn killed_while_it_rolls_back_it_is_finished() {
    let (project, new, old) = many(FILES);
    let mut between = 0;
    for at in [1, FILES / 2 + 1] {
        project.run(&["extract"]).exits(0);
        let extraction = runs(&project).remove(0).run.to_string();
        let path = format!("tree/.lifeboat-kept/{extraction}-1");
        if killed(&project, &["rollback_kept", &path], || has_changed(&project, at, "old ")) {
            one_or_the_other(&project, &new, &old);
            let was = was::<RolledBack>(&project);
            let reconciled = || RollbackFiles::reconcile(&was, &facts(&project)).unwrap();
            if states(&project) == ["undoing"] {
                between += 1;
                assert_eq!(reconciled(), Reconciled::NotDone);
                let told = project.run(&["extract"]).stderr.replace(&extraction, "RUN");
                assert!(
                    told.contains("caused by: run RUN was killed while rolling back `a.tar.gz`\n"),
                    "{told}"
                );
                project.run(&["rollback_kept", &path]).exits(0);
            }
            assert!(matches!(reconciled(), Reconciled::Done(_)));
        }
        assert!(timeless(&project.at("tree")) == old);
        std::fs::remove_dir_all(project.at("tree/.lifeboat-kept")).unwrap();
        let was = was::<RolledBack>(&project);
        assert_eq!(
            in_doubt(RollbackFiles::reconcile(&was, &facts(&project)).unwrap()),
            format!("nothing is kept at `{}` any more", project.at(&path).display())
        );
    }
    assert!(between > 0, "it was never killed in between");
}

#[test]
fn what_was_begun_with_another_archive_is_not_finished_for_this_one() {
    let project = project().file("tree/a", "first\n");
    project.run(&["back"]).exits(0);
    std::fs::rename(project.at("in"), project.at("first")).unwrap();
    let project = project.file("tree/a", "second\n");
    project.run(&["back"]).exits(0);
    std::fs::rename(project.at("in"), project.at("second")).unwrap();
    let put = |which: &str| {
        let _ = std::fs::remove_dir_all(project.at("in"));
        project.stock(".", "cp", &["-r", which, "in"]);
    };
    put("first");
    project.run(&["extract"]).exits(0);
    let run = runs(&project).remove(0).run.to_string();
    let folder = project.at("tree/.lifeboat-kept");
    let name = kept(&project, "tree").remove(0);
    std::fs::rename(folder.join(&name), folder.join(format!("{name}.swapping"))).unwrap();
    put("second");
    let ran = project.run(&["extract"]);
    expect![[r#"
        exit 1
        error: the files in `PROJECT/tree` are half replaced
           ——▶ playbooks/extract.rhai:12:16
           │
        N │     let made = extract(params.archive, params.dir, #{ only: params.only, except: params.except });
           │                ^
        caused by: `a.tar.gz` is not the one that it was extracting any more
        hint: Put back what it had replaced: `lifeboat rollback RUN`. Then run the same again.
        ✘ extract failed in step `Extract` after TIME (exit 1)
    "#]]
    .assert_eq(&project.told(&ran).replace(&run, "RUN"));
    assert_eq!(std::fs::read_to_string(project.at("tree/a")).unwrap(), "first\n");
    put("first");
    project.run(&["extract"]).exits(0);
    assert_eq!(states(&project), ["kept"]);
    // As the hint says.
    std::fs::rename(folder.join(&name), folder.join(format!("{name}.swapping"))).unwrap();
    put("second");
    project.run(&["rollback", &run]).exits(0);
    assert_eq!(std::fs::read_to_string(project.at("tree/a")).unwrap(), "second\n");
    project.run(&["extract"]).exits(0).says("0 new, 0 changed, 1 same");
}

/// What is planned on a half replaced tree goes back, which is no end of going forward.
#[test]
fn killed_while_it_goes_forward_again_a_resumed_run_does_not_take_going_back_for_it() {
    let project = project().file("tree/a", "saved\n");
    project.run(&["back"]).exits(0);
    let project = project.file("tree/a", "later\n");
    project.run(&["extract"]).exits(0);
    let name = kept(&project, "tree").remove(0);
    let path = format!("tree/.lifeboat-kept/{name}");
    project.run(&["rollback_kept", &path]).exits(0);
    let project = project.env("LIFEBOAT_FAULT", "kill-before:1");
    assert_eq!(project.run(&["rollback_kept", &path]).code, 1009);
    let project = project.env("LIFEBOAT_FAULT", "");
    // As if it had come to the first of its steps.
    let folder = project.at("tree/.lifeboat-kept");
    std::fs::rename(folder.join(format!("{name}.undone")), folder.join(format!("{name}.swapping"))).unwrap();
    let run = runs(&project).remove(0).run;
    let ran = project.run(&["resume", run.letters()]);
    expect![[r#"
        exit 6
        error: nobody can tell what became of `rollback_files`: it was killed while files in `PROJECT/tree` went forward again; they are half replaced, and doing it again puts all of them back
          ——▶ playbooks/rollback_kept.rhai:3:20
          │
        N │ step "Roll back" { rollback_files(params.kept) }
          │                    ^
        hint: Look at it. If it is done: `lifeboat resume RUN --trust`; if it is not: `lifeboat resume RUN --redo`.
        ✘ rollback_kept stopped in step `Roll back` after TIME (exit 6)
    "#]].assert_eq(&project.told(&ran).replace(&run.to_string(), "RUN"));
    project.run(&["resume", run.letters(), "--redo"]).exits(0);
    assert_eq!(std::fs::read_to_string(project.at("tree/a")).unwrap(), "later\n");
    assert_eq!(states(&project), ["undone"]);
}

#[test]
fn killed_while_new_folders_come_in_it_is_finished_or_undone() {
    let project = project();
    let name = |n: usize| format!("{:02}/{n:04}/sub", n / 100);
    for n in 0..FILES {
        std::fs::create_dir_all(project.at(format!("tree/{}", name(n)))).unwrap();
        std::fs::write(project.at(format!("tree/{}/file", name(n))), format!("the new content of {n}"))
            .unwrap();
    }
    std::fs::create_dir(project.at("tree/07/empty")).unwrap();
    project.run(&["back"]).exits(0);
    let new = timeless(&project.at("tree"));
    // All folders of one hundred are there, with a file that the archive does not hold; the rest is not.
    let empty = || {
        std::fs::remove_dir_all(project.at("tree")).unwrap();
        for n in 0..FILES / 100 {
            std::fs::create_dir_all(project.at(format!("tree/{n:02}"))).unwrap();
            let own = std::fs::File::create(project.at(format!("tree/{n:02}/own"))).unwrap();
            (&own).write_all(b"own").unwrap();
            own.set_modified(std::time::UNIX_EPOCH).unwrap();
        }
    };
    let mut both = new.clone();
    empty();
    let old = timeless(&project.at("tree"));
    both.extend(old.iter().filter(|(name, _)| name.ends_with(b"own")).map(|(a, b)| (a.clone(), b.clone())));
    let mut between = 0;
    for (round, at) in [1, FILES / 3, FILES / 2, FILES - 101].into_iter().enumerate() {
        empty();
        let moment = || project.at(format!("tree/{}/file", name(at))).exists();
        if !killed(&project, &["extract"], moment) {
            continue;
        }
        // A file is there whole, or is not.
        for (name, found) in timeless(&project.at("tree")).iter().filter(|(_, text)| text.starts_with("10")) {
            assert!(both.get(name) == Some(found), "{}: {found}", String::from_utf8_lossy(name));
        }
        let was = was::<Extracted>(&project);
        if states(&project) == ["swapping"] {
            between += 1;
            assert_eq!(reconciled(&project, &was), Reconciled::NotDone);
        }
        let path = format!("tree/.lifeboat-kept/{}-1", was.run);
        if round % 2 == 0 {
            project.run(&["extract"]).exits(0);
            assert!(timeless(&project.at("tree")) == both);
            assert!(matches!(reconciled(&project, &was), Reconciled::Done(_)));
        }
        project.run(&["rollback_kept", &path]).exits(0);
        assert!(timeless(&project.at("tree")) == old);
        assert_eq!(states(&project), ["undone"]);
        // Forward and back once more, which is killed as well.
        project.run(&["rollback_kept", &path]).exits(0);
        assert!(timeless(&project.at("tree")) == both);
        let gone = || !project.at(format!("tree/{}/file", name(at))).exists();
        killed(&project, &["rollback_kept", &path], gone);
        if states(&project) != ["undone"] {
            project.run(&["rollback_kept", &path]).exits(0);
        }
        assert!(timeless(&project.at("tree")) == old);
    }
    assert!(between > 0, "it was never killed in between");
}

/// More files than the index holds by itself.
#[test]
fn killed_among_very_many_files_it_is_finished_or_undone() {
    let files = 10_500;
    let (project, new, old) = many(files);
    let mut between = 0;
    for (finished, at) in [(true, files / 2 + 1), (false, files / 3 + 1)] {
        killed(&project, &["extract"], || has_changed(&project, at, "the new"));
        one_or_the_other(&project, &new, &old);
        let was = was::<Extracted>(&project);
        let is_between = states(&project) == ["swapping"];
        if is_between {
            between += 1;
            assert_eq!(reconciled(&project, &was), Reconciled::NotDone);
        }
        if finished {
            let told = if is_between { "1050 new, 9450 changed" } else { "0 new, 0 changed" };
            project.run(&["extract"]).exits(0).says(told);
            assert!(timeless(&project.at("tree")) == new);
            assert!(matches!(reconciled(&project, &was), Reconciled::Done(_)));
        }
        let kept_at = project.at("tree/.lifeboat-kept").join(&kept(&project, "tree")[0]);
        let lines = std::fs::read_to_string(kept_at.join("entries.jsonl")).unwrap().lines().count();
        assert_eq!(lines, files);
        let path = format!("tree/.lifeboat-kept/{}-1", was.run);
        // What was changed since is kept as it is then.
        if finished {
            std::fs::remove_file(project.at(format!("tree/{}", name(7)))).unwrap();
            std::fs::write(project.at(format!("tree/{}", name(7))), "mine").unwrap();
        }
        project.run(&["rollback_kept", &path]).exits(0);
        assert!(timeless(&project.at("tree")) == old);
        assert_eq!(states(&project), ["undone"]);
        if finished {
            project.run(&["rollback_kept", &path]).exits(0);
            assert!(has_changed(&project, 7, "mine") && has_changed(&project, 8, "the new"));
            project.run(&["rollback_kept", &path]).exits(0);
            assert!(timeless(&project.at("tree")) == old);
        }
        std::fs::remove_dir_all(project.at("tree/.lifeboat-kept")).unwrap();
    }
    assert!(between > 0, "it was never killed in between");
}

#[test]
fn what_somebody_puts_into_a_new_folder_stays_when_it_is_rolled_back() {
    let project = project().file("tree/new/sub/a", "a").file("tree/new/b", "b").file("tree/other/c", "c");
    project.run(&["back"]).exits(0);
    std::fs::remove_dir_all(project.at("tree")).unwrap();
    project.run(&["extract"]).exits(0).says("0 changed");
    let extracted = timeless(&project.at("tree"));
    std::fs::write(project.at("tree/new/sub/mine"), "mine").unwrap();
    let with_mine = timeless(&project.at("tree"));
    let path = format!("tree/.lifeboat-kept/{}", kept(&project, "tree").remove(0));
    project.run(&["rollback_kept", &path]).exits(0);
    let left = timeless(&project.at("tree"));
    let names: Vec<&[u8]> = left.keys().map(Vec::as_slice).collect();
    assert_eq!(names, [&b"new"[..], b"new/sub", b"new/sub/mine"]);
    project.run(&["rollback_kept", &path]).exits(0);
    assert!(timeless(&project.at("tree")) == with_mine);
    std::fs::remove_file(project.at("tree/new/sub/mine")).unwrap();
    assert!(timeless(&project.at("tree")) == extracted);
}

#[test]
fn killed_while_it_stages_nothing_has_happened_and_the_next_run_tidies_up() {
    let (project, new, old) = many(FILES);
    let staged = || {
        let found = kept(&project, "tree");
        let files = found.first().map(|name| project.at(format!("tree/.lifeboat-kept/{name}/files/07")));
        files.is_some_and(|files| files.exists())
    };
    assert!(killed(&project, &["extract"], staged));
    assert!(timeless(&project.at("tree")) == old);
    assert_eq!(states(&project).len(), 1);
    assert_eq!(reconciled(&project, &was(&project)), Reconciled::NotDone);
    project.run(&["extract"]).exits(0).says("cleaned up after a run that was killed: .");
    assert!(timeless(&project.at("tree")) == new);
    assert_eq!(states(&project), ["kept"]);
    // What somebody changes afterwards is not taken for what was extracted.
    let was = was(&project);
    std::fs::write(project.at(format!("tree/{}", name(7))), "mine").unwrap();
    assert_eq!(
        in_doubt(reconciled(&project, &was)),
        format!("`{}` was changed after it was extracted", project.at(format!("tree/{}", name(7))).display())
    );
}

/// A small project on a disk of its own, mounted at `tree`.
fn on_a_disk(size: u32, content: usize) -> (TestProject, Disk) {
    let project = project();
    std::fs::write(project.at("tree/large"), "x".repeat(content)).unwrap();
    std::fs::write(project.at("tree/small"), "new").unwrap();
    project.run(&["back"]).exits(0);
    std::fs::remove_dir_all(project.at("tree")).unwrap();
    let disk = Disk::mount(&project, "tree", size);
    std::fs::write(disk.outside().join("small"), "old").unwrap();
    (project, disk)
}

#[test]
fn a_full_disk_is_said_and_nothing_is_replaced() {
    let (project, disk) = on_a_disk(2, 1 << 20);
    disk.fill();
    let ran = disk.run(&project, &["extract"]);
    expect![[r#"
        exit 1
        error: cannot extract into `PROJECT/tree`
           ——▶ playbooks/extract.rhai:12:16
           │
        N │     let made = extract(params.archive, params.dir, #{ only: params.only, except: params.except });
           │                ^
        caused by: SIZE are needed, SIZE are free
        hint: Free space on the file system of `PROJECT/tree`: `lifeboat run rotate_backups` removes backups that retention no longer keeps.
        ✘ extract failed in step `Extract` after TIME (exit 1)
    "#]].assert_eq(&project.told(&ran));
    // So is one that is full only for what is small: folders, the index.
    for room in [0_u64, 4096, 8192, 16384, 65536, 1 << 20] {
        let filler = std::fs::OpenOptions::new().write(true).open(disk.outside().join("filler")).unwrap();
        filler.set_len(filler.metadata().unwrap().len() - room).unwrap();
        drop(filler);
        let args = ["extract", "--only", "small"];
        let ran = disk.run(&project, &args);
        let small = std::fs::read_to_string(disk.outside().join("small")).unwrap();
        if ran.code == 0 {
            assert_eq!(small, "new");
            break;
        }
        assert_eq!((ran.code, small.as_str()), (1, "old"), "{}", ran.stderr);
        assert!(ran.stderr.contains("hint: Free space on the file system of `"), "{}", ran.stderr);
        assert!(!disk.outside().join(".lifeboat-kept").exists(), "with {room} bytes");
        disk.fill();
    }
    // With it full again, what is kept can still be put back.
    disk.fill();
    let small = || std::fs::read_to_string(disk.outside().join("small")).unwrap();
    assert_eq!(small(), "new");
    let path = format!("tree/.lifeboat-kept/{}", disk.names(".lifeboat-kept").remove(0));
    disk.run(&project, &["rollback_kept", &path]).exits(0);
    assert_eq!(small(), "old");
}

#[test]
fn a_new_folder_of_many_files_goes_back_on_a_full_disk() {
    let project = project();
    std::fs::create_dir_all(project.at("tree/new/sub")).unwrap();
    for n in 0..400 {
        std::fs::write(project.at(format!("tree/new/sub/a file of a long name {n:050}")), "new").unwrap();
    }
    project.run(&["back"]).exits(0);
    std::fs::remove_dir_all(project.at("tree")).unwrap();
    let disk = Disk::mount(&project, "tree", 8);
    disk.run(&project, &["extract"]).exits(0);
    let names = || {
        let names = disk.names("");
        names.into_iter().filter(|name| !name.starts_with('.') && name != "filler").collect::<Vec<_>>()
    };
    let count = || std::fs::read_dir(disk.outside().join("new/sub")).map_or(0, Iterator::count);
    assert_eq!(count(), 400);
    disk.fill();
    let path = format!("tree/.lifeboat-kept/{}", disk.names(".lifeboat-kept").remove(0));
    disk.run(&project, &["rollback_kept", &path]).exits(0);
    assert_eq!((count(), names()), (0, Vec::new()));
}

#[test]
fn a_file_that_cannot_be_replaced_leaves_all_as_it_was() {
    let (project, disk) = on_a_disk(8, 1000);
    std::fs::write(disk.outside().join("large"), "old").unwrap();
    // A file that is mounted by itself, as containers do it, cannot be renamed.
    disk.bind(&project.at("tree/small"), &project.at("tree/small"));
    let ran = disk.run(&project, &["extract"]);
    expect![[r#"
        exit 1
        error: cannot replace `PROJECT/tree/small`
           ——▶ playbooks/extract.rhai:12:16
           │
        N │     let made = extract(params.archive, params.dir, #{ only: params.only, except: params.except });
           │                ^
        caused by: Device or resource busy (os error 16)
        hint: A file that is mounted by itself, or marked as immutable, cannot be replaced.
        hint: Nothing was replaced.
        ✘ extract failed in step `Extract` after TIME (exit 1)
    "#]]
    .assert_eq(&project.told(&ran));
    assert_eq!(disk.names(""), ["large", "small"]);
    assert_eq!(std::fs::read_to_string(disk.outside().join("large")).unwrap(), "old");
    assert_eq!(std::fs::read_to_string(disk.outside().join("small")).unwrap(), "old");
}

#[test]
fn a_folder_on_another_file_system_is_named() {
    let project = project().file("tree/sub/a", "new").file("tree/b", "new");
    project.run(&["back"]).exits(0);
    let disk = Disk::mount(&project, "tree/sub", 1);
    let ran = disk.run(&project, &["extract"]);
    expect![[r#"
        exit 1
        error: `PROJECT/tree/sub` is on another file system
           ——▶ playbooks/extract.rhai:12:16
           │
        N │     let made = extract(params.archive, params.dir, #{ only: params.only, except: params.except });
           │                ^
        caused by: what replaces a file must be on its file system, that of `PROJECT/tree`
        hint: Extract what belongs there by itself: give `PROJECT/tree/sub` as the folder.
        ✘ extract failed in step `Extract` after TIME (exit 1)
    "#]]
    .assert_eq(&project.told(&ran));
    assert_eq!(disk.names(""), [""; 0]);
}

#[test]
fn a_folder_that_may_not_be_written_is_named() {
    let project = project().file("tree/a", "new");
    project.run(&["back"]).exits(0);
    std::fs::write(project.at("tree/a"), "old").unwrap();
    crate::archive::set_mode(&project.at("tree"), 0o555);
    let ran = project.run_as_nobody(&["extract"]);
    expect![[r#"
        exit 1
        error: cannot write in `PROJECT/tree`
           ——▶ playbooks/extract.rhai:12:16
           │
        N │     let made = extract(params.archive, params.dir, #{ only: params.only, except: params.except });
           │                ^
        caused by: permission denied for `PROJECT/tree`
        hint: Nothing was written. Give the user that runs Lifeboat access, or extract into another folder.
        ✘ extract failed in step `Extract` after TIME (exit 1)
    "#]]
    .assert_eq(&project.told(&ran));
    assert_eq!(std::fs::read_to_string(project.at("tree/a")).unwrap(), "old");
    crate::archive::set_mode(&project.at("tree"), 0o755);
    project.run_as_nobody(&["extract"]).exits(0);
    assert_eq!(std::fs::read_to_string(project.at("tree/a")).unwrap(), "new");
}

#[test]
fn folders_that_may_not_be_written_are_rolled_back_by_whom_they_belong_to() {
    use std::os::unix::fs::PermissionsExt;
    let project = project().file("tree/new/sub/a", "new").file("tree/there/sub/b", "new");
    let folders = ["new/sub", "new", "there/sub", "there"].map(|name| project.at("tree").join(name));
    folders.iter().for_each(|folder| crate::archive::set_mode(folder, 0o555));
    project.run(&["back"]).exits(0);
    folders.iter().for_each(|folder| crate::archive::set_mode(folder, 0o755));
    std::fs::remove_dir_all(project.at("tree/new")).unwrap();
    std::fs::write(project.at("tree/there/sub/b"), "old").unwrap();
    // It belongs to that user from here on.
    project.run_as_nobody(&["extract", "--dry-run"]).exits(0);
    let old = timeless(&project.at("tree"));
    project.run_unprivileged(&["extract"]).exits(0);
    let new = timeless(&project.at("tree"));
    let mode = |folder: &PathBuf| std::fs::metadata(folder).unwrap().permissions().mode() & 0o777;
    assert_eq!(folders.each_ref().map(mode), [0o555; 4]);
    let path = format!("tree/.lifeboat-kept/{}", kept(&project, "tree").remove(0));
    for tree in [&old, &new, &old] {
        project.run_unprivileged(&["rollback_kept", &path]).exits(0);
        assert!(timeless(&project.at("tree")) == *tree);
    }
}

/// Owner of a file.
fn owner(path: &Path) -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path).unwrap().uid()
}

#[test]
fn what_root_extracts_stays_with_whom_it_belongs_to() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let project = project()
        .file("tree/theirs", "new")
        .file("tree/sub/a", "new")
        .playbook("owned", r#"step "x" { extract("in/a.tar.gz", "tree", #{ owner: true }); }"#);
    let at = |name: &str| -> PathBuf { project.at("tree").join(name) };
    let give = |name: &str, user: u32| std::os::unix::fs::lchown(at(name), Some(user), Some(user)).unwrap();
    give("sub/a", 4321);
    project.run(&["back"]).exits(0);
    std::fs::write(at("theirs"), "old").unwrap();
    std::fs::remove_dir_all(at("sub")).unwrap();
    give("", 1234);
    give("theirs", 2345);
    project.run(&["extract"]).exits(0);
    assert_eq!((owner(&at("theirs")), owner(&at("sub")), owner(&at("sub/a"))), (2345, 1234, 1234));
    project.run(&["owned"]).exits(0).says("0 new, 2 changed, 1 the same");
    assert_eq!((owner(&at("theirs")), owner(&at("sub/a"))), (0, 4321));
    let ran = project.run_as_nobody(&["owned"]);
    expect![[r#"
        exit 2
        error: only root can give files the owner that an archive names
          ——▶ playbooks/owned.rhai:2:12
          │
        N │ step "x" { extract("in/a.tar.gz", "tree", #{ owner: true }); }
          │            ^
        hint: Leave out `owner`, or run Lifeboat as root.
        ✘ owned failed in step `x` after TIME (exit 2)
    "#]]
    .assert_eq(&project.told(&ran));
}

/// A project whose archive was extracted by a run that was killed before it could say so.
fn killed_after_extracting() -> (TestProject, String) {
    let project = project().file("tree/a", "saved\n").file("tree/b", "the same\n");
    project.run(&["back"]).exits(0);
    let project = project.file("tree/a", "later\n").env("LIFEBOAT_FAULT", "kill-after:1");
    assert_eq!(project.run(&["extract"]).code, 1009);
    let run = runs(&project).remove(0).run;
    assert_eq!(std::fs::read_to_string(project.at("tree/a")).unwrap(), "saved\n");
    (project.env("LIFEBOAT_FAULT", ""), run.letters().to_owned())
}

#[test]
fn a_resumed_run_knows_what_it_extracted_and_rolls_it_back() {
    let (project, run) = killed_after_extracting();
    let ran = project.run(&["resume", &run]).exits(0);
    ran.says("extract: extracted a.tar.gz: 0 new, 1 changed, 1 the same (kept)\n");
    assert_eq!(kept(&project, "tree").len(), 1);
    project.run(&["rollback", &run, "--yes"]).exits(0);
    assert_eq!(std::fs::read_to_string(project.at("tree/a")).unwrap(), "later\n");
}

#[test]
fn a_resumed_run_does_not_overwrite_what_was_edited_since() {
    let (project, run) = killed_after_extracting();
    let project = project.file("tree/a", "edited\n");
    let ran = project.run(&["resume", &run]).exits(6);
    let why = "nobody can tell what became of `extract`: `tree/a` was changed after it was extracted";
    assert!(
        ran.stderr.replace(&format!("{}/", project.path().display()), "").contains(why),
        "{}",
        ran.stderr
    );
    assert_eq!(std::fs::read_to_string(project.at("tree/a")).unwrap(), "edited\n");
    // It was asked to do it again: what was edited is kept, and the rollback brings that back.
    project.run(&["resume", &run, "--redo"]).exits(0);
    assert_eq!(std::fs::read_to_string(project.at("tree/a")).unwrap(), "saved\n");
    assert_eq!(kept(&project, "tree").len(), 2);
}
