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
