use super::*;
use crate::sys::untar::Name;

/// An extraction that has come to `state`: files of these names with the content `old` stand in the tree, `new` ones aside.
pub(super) fn extraction(state: State, names: &[&str]) -> (tempfile::TempDir, Kept) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("tree");
    let at = dir.join(KEPT).join(state.name("run-1"));
    let mut entries = Vec::new();
    for name in names {
        let [tree, aside] =
            [(dir.join(name), "old"), (at.join(FILES).join(name), "new")].map(|(path, text)| {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, text).unwrap();
                Some(Identity::of(&std::fs::metadata(&path).unwrap()))
            });
        let (name, mode) = (Name(name.into()), 0o644);
        entries.push(Entry { name, aside, replaced: tree, sha256: None, holes: false, mode, to: None });
    }
    let index = Index {
        version: 1,
        run: "run".to_owned(),
        created: chrono::DateTime::UNIX_EPOCH.fixed_offset(),
        backup: Name("a.tar.gz".into()),
        sha256: String::new(),
        selection: None,
        changes: Vec::new(),
        same: 0,
        others: 0,
        entries,
        folders: Vec::new(),
        beside: None,
    };
    let kept = Kept { dir, at, state, index };
    kept.write_index().unwrap();
    (temp, kept)
}

/// What a failure tells, with the folder's place left out.
pub(super) fn told(temp: &tempfile::TempDir, failure: &Failure) -> String {
    let causes = failure.causes.iter().map(|cause| format!("caused by: {cause}\n"));
    let hints = failure.hints.iter().map(|hint| format!("hint: {hint}\n"));
    let text: String = [format!("{}\n", failure.message)].into_iter().chain(causes).chain(hints).collect();
    text.replace(&temp.path().display().to_string(), "TEMP")
}

#[test]
fn what_keeps_the_only_copy_is_not_withdrawn() {
    for (state, stays) in [
        (State::Staging, false),
        (State::Swapping, true),
        (State::Swapped, true),
        (State::Undoing, true),
        (State::Undone, false),
    ] {
        let (_temp, kept) = extraction(state, &["a"]);
        let (at, folder) = (kept.at.clone(), kept.dir.join(KEPT));
        kept.withdraw();
        assert_eq!((at.exists(), folder.exists()), (stays, stays), "{state:?}");
    }
}

/// Writes the index of a forged folder `run-1` into a tree, and says what came of opening it.
fn forged(index: &str) -> (tempfile::TempDir, Result<Kept, Failure>) {
    let (temp, kept) = extraction(State::Swapped, &["a"]);
    std::fs::write(kept.at.join(INDEX), index).unwrap();
    (temp, Kept::open(&kept.at))
}

fn index_naming(run: &str, entry: &str, folder: &str, change: &str) -> String {
    format!(
        r#"{{"version":1,"run":"{run}","created":"2026-11-10T02:00:00+01:00","backup":"/in/a.tar.gz","sha256":"00",
        "selection":null,"same":0,"others":0,
        "changes":[{{"name":"{change}","kind":"file","how":"new","before":1,"after":2,"mode":384}}],
        "entries":[{{"name":"{entry}","aside":null,"replaced":null,"sha256":null,"mode":384,"to":null}}],
        "folders":[{{"name":"{folder}","mode":493,"before":null,"modified":null,"owner":null}}]}}"#
    )
}

#[test]
fn an_index_that_names_what_is_not_in_the_tree_is_refused() {
    assert!(forged(&index_naming("r", "a/b", "a", ".env")).1.is_ok());
    for name in ["../a", "a/../../b", "/etc/passwd", "", ".", "./a", ".lifeboat-kept/run-2", "a/.."] {
        for (entry, folder, change) in [(name, "a", "a"), ("a", name, "a"), ("a", "a", name)] {
            let (temp, opened) = forged(&index_naming("r", entry, folder, change));
            let failure = opened.unwrap_err();
            assert_eq!(failure.code, Code::NotIntact);
            let told = told(&temp, &failure);
            let told = told.split(" at line").next().unwrap();
            assert_eq!(
                told,
                format!(
                    "the index `TEMP/tree/.lifeboat-kept/run-1/index.json` cannot be understood\n\
                     caused by: `{name}` is no name of a file in the tree"
                )
            );
        }
    }
    for run in ["../x", "a/b", "", "/", ".."] {
        let failure = forged(&index_naming(run, "a", "a", "a")).1.unwrap_err();
        assert!(failure.causes[0].starts_with(&format!("`{run}` is no name of a run")), "{failure}");
    }
}

#[test]
fn rows_beside_an_index_that_name_what_is_not_in_the_tree_are_refused() {
    let (_temp, mut kept) = extraction(State::Swapped, &["a"]);
    let line = |name: &str| {
        format!(r#"{{"name":"{name}","aside":null,"replaced":null,"sha256":null,"mode":384,"to":null}}"#)
            + "\n"
    };
    std::fs::write(kept.at.join("entries.jsonl"), [line("a"), line("../victim")].concat()).unwrap();
    kept.index.stand_beside(0, 2, 0);
    let rows: Vec<_> = kept.entries().unwrap().collect();
    let failure = rows[1].as_ref().unwrap_err();
    assert!(rows[0].is_ok() && failure.code == Code::NotIntact, "{failure}");
    assert!(failure.message.contains("run-1/entries.jsonl` cannot be understood"), "{failure}");
    assert!(failure.causes[0].starts_with("`../victim` is no name of a file in the tree"), "{failure}");
}

#[test]
fn a_link_is_no_folder_that_keeps_something() {
    let (_temp, kept) = extraction(State::Swapped, &["a"]);
    let folder = kept.dir.join(KEPT);
    std::os::unix::fs::symlink("run-1", folder.join("run-2")).unwrap();
    assert_eq!(Kept::open(&folder.join("run-2")).unwrap_err().code, Code::NotFound);
    let other = kept.dir.with_file_name("other");
    std::fs::create_dir(&other).unwrap();
    std::os::unix::fs::symlink(&folder, other.join(KEPT)).unwrap();
    assert_eq!(Kept::open(&other.join(KEPT).join("run-1")).unwrap_err().code, Code::NotFound);
    assert!(Kept::open(&kept.at).is_ok());
}

#[test]
fn what_another_user_has_put_there_moves_nothing() {
    if !fs::is_root() {
        return;
    }
    let (temp, kept) = extraction(State::Swapping, &["a"]);
    std::os::unix::fs::chown(&kept.at, Some(4321), None).unwrap();
    let failure = half_done(&kept.dir).unwrap_err();
    assert_eq!(failure.code, Code::Policy);
    expect_test::expect![[r#"
        `TEMP/tree/.lifeboat-kept/run-1.swapping` belongs to another user
        caused by: user 4321 owns it, and Lifeboat runs as user 0: it moves files by what it finds there
        hint: Nothing was replaced. Run it as user 4321; or, if you trust what that user has put there, make it yours: `chown 0 'TEMP/tree/.lifeboat-kept/run-1.swapping' 'TEMP/tree/.lifeboat-kept/run-1.swapping/index.json'`. One that nobody needs can be removed.
    "#]].assert_eq(&told(&temp, &failure));
    for change in [forward, back, finish, revert] {
        let mut kept = kept.clone();
        assert_eq!(change(&mut kept).unwrap_err(), failure);
    }
    assert_eq!(std::fs::read_to_string(kept.dir.join("a")).unwrap(), "old");
}

#[test]
fn a_file_is_known_again_when_its_file_system_has_another_number() {
    let (_temp, mut kept) = extraction(State::Swapping, &["a", "b"]);
    for entry in &mut kept.index.entries {
        for identity in [&mut entry.aside, &mut entry.replaced].into_iter().flatten() {
            identity.device += 1;
        }
    }
    let text = |kept: &Kept| ["a", "b"].map(|name| std::fs::read_to_string(kept.dir.join(name)).unwrap());
    finish(&mut kept).unwrap();
    assert_eq!(text(&kept), ["new"; 2]);
    back(&mut kept).unwrap();
    assert_eq!(text(&kept), ["old"; 2]);
}
