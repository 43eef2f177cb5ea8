//! What a watched playbook depends on.

use crate::base::failure::Failure;
use crate::base::secret::Masker;
use crate::script::header::Header;
use crate::script::launch::Checked;
use crate::script::library::Library;
use crate::script::parameters::{Given, ParamValue, values};
use crate::sys::env::Env;
use crate::sys::tree::{self, Selection};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Files of a project that every playbook depends on.
const PROJECT_FILES: [&str; 2] = ["lifeboat.toml", ".env"];

/// Files and patterns under watch. A file needs not be there: that it comes is a change.
#[derive(Clone, Debug)]
pub struct WatchSet {
    project: PathBuf,
    files: BTreeSet<PathBuf>,
    patterns: Vec<String>,
    selection: Option<Selection>,
    /// Folders that patterns do not reach: Lifeboat's own, and those that the playbook writes.
    own: Vec<PathBuf>,
}

impl WatchSet {
    /// The files that decide what the playbook `name` is, as far as it can be told without reading it.
    pub fn of_name(library: &Library, name: &str, project: &Path, state: &Path) -> Self {
        let mut files: BTreeSet<PathBuf> = PROJECT_FILES.iter().map(|file| project.join(file)).collect();
        files.insert(library.playbook_place(name));
        let own = vec![state.to_path_buf(), project.join("logs"), project.join(".git")];
        Self { project: project.to_path_buf(), files, patterns: Vec::new(), selection: None, own }
    }

    /// The files of a header's `watch` alone, for live runs; `None` if it has none.
    pub fn of_header(
        header: &Header,
        given: &Given,
        env: &Env,
        project: &Path,
        state: &Path,
    ) -> Result<Option<Self>, Failure> {
        if header.watch.is_empty() {
            return Ok(None);
        }
        let own = vec![state.to_path_buf(), project.join("logs"), project.join(".git")];
        let (files, patterns) = (BTreeSet::new(), Vec::new());
        let mut set = Self { project: project.to_path_buf(), files, patterns, selection: None, own };
        set.watch(&header.watch)?;
        set.leave_out_folders_of(header, given, env);
        Ok(Some(set))
    }

    /// Adds what the playbook imports, and the patterns of its header.
    pub fn add(&mut self, library: &Library, checked: &Checked) -> Result<(), Failure> {
        for (importer, path) in &checked.program.imported {
            self.files.extend(library.module_places(importer, path));
        }
        if let Ok(header) = &checked.header {
            self.watch(&header.watch)?;
        }
        Ok(())
    }

    fn watch(&mut self, patterns: &[String]) -> Result<(), Failure> {
        self.patterns = patterns.to_vec();
        self.selection = if patterns.is_empty() { None } else { Some(Selection::new(patterns, &[])?) };
        Ok(())
    }

    /// Leaves out the folders that parameters name, since a playbook writes there, unless a pattern lies within one.
    pub fn leave_out_folders_of(&mut self, header: &Header, given: &Given, env: &Env) {
        // Wrong parameters are what the run itself reports.
        let Ok(resolved) = values(&header.params, given, env, &Masker::new()) else { return };
        for param in header.params.iter().filter(|param| param.path) {
            let texts: Vec<&str> = match resolved.values.get(&param.name) {
                Some(ParamValue::Json(Value::String(text))) => vec![text],
                Some(ParamValue::Json(Value::Array(items))) => {
                    items.iter().filter_map(Value::as_str).collect()
                }
                _ => Vec::new(),
            };
            for text in texts {
                let dir = self.project.join(text.trim_start_matches("./"));
                if !self.is_watched_on_purpose(&dir) {
                    self.own.push(dir);
                }
            }
        }
    }

    fn is_watched_on_purpose(&self, dir: &Path) -> bool {
        let within =
            |prefix: &Path| !prefix.as_os_str().is_empty() && self.project.join(prefix).starts_with(dir);
        self.project.starts_with(dir)
            || self.selection.as_ref().is_some_and(|selection| selection.prefixes().any(within))
    }

    /// Watches also what `good` does: the set of the last playbook that compiled.
    pub fn keep(&mut self, good: &Self) {
        self.files.extend(good.files.iter().cloned());
        if self.patterns.is_empty() {
            self.patterns.clone_from(&good.patterns);
            self.selection.clone_from(&good.selection);
            self.own.clone_from(&good.own);
        }
    }

    /// The patterns.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// The files that are named.
    pub fn named(&self) -> &BTreeSet<PathBuf> {
        &self.files
    }

    /// All files: those that are named, and those that match a pattern now.
    pub fn all(&self) -> BTreeSet<PathBuf> {
        let mut all = self.files.clone();
        if let Some(selection) = &self.selection {
            let matching = tree::walk(&self.project, selection, &self.own).filter_map(Result::ok);
            all.extend(matching.map(|entry| entry.path));
        }
        all
    }

    /// The folders in which a change may show.
    pub fn folders(&self) -> BTreeSet<PathBuf> {
        let mut folders: BTreeSet<PathBuf> =
            self.files.iter().filter_map(|file| file.parent()).map(Path::to_path_buf).collect();
        if let Some(selection) = &self.selection {
            folders.extend(tree::folders(&self.project, selection, &self.own));
        }
        folders
    }

    /// Whether a change at `path` may be one of a file under watch. `folders` are those that are watched.
    pub fn admits(&self, path: &Path, folders: &BTreeSet<PathBuf>) -> bool {
        // A folder that comes, goes or is renamed takes what is in it along.
        let above = |file: &PathBuf| file.starts_with(path);
        if self.files.contains(path) || self.files.iter().any(above) || folders.contains(path) {
            return true;
        }
        let (Some(selection), Ok(name)) = (&self.selection, path.strip_prefix(&self.project)) else {
            return false;
        };
        // A link that is swapped takes what is behind it along, as those of a mounted configuration do.
        let is_link = || path.is_symlink() && path.parent().is_some_and(|dir| folders.contains(dir));
        !self.own.iter().any(|dir| path.starts_with(dir))
            && (selection.takes(name) || (selection.may_hold(name) && path.is_dir()) || is_link())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::launch::examine;
    use crate::script::lint::Reserved;
    use std::fs;

    struct Bench(tempfile::TempDir);

    impl Bench {
        fn new(files: &[(&str, &str)]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for (name, text) in files {
                let at = dir.path().join(name);
                fs::create_dir_all(at.parent().unwrap()).unwrap();
                fs::write(at, text).unwrap();
            }
            Self(dir)
        }

        fn set(&self, name: &str) -> WatchSet {
            let project = self.0.path();
            let library = Library::of(project, &[("shipped", SHIPPED)], &[("backup", "")]);
            let playbook = library.find(name).unwrap();
            let checked = examine(&library, &playbook, &Reserved::default());
            let mut set = WatchSet::of_name(&library, name, project, &project.join(".lifeboat"));
            set.add(&library, &checked).unwrap();
            if let Ok(header) = &checked.header {
                set.leave_out_folders_of(header, &Given::new(), &Env::default());
            }
            set
        }

        fn names(&self, paths: BTreeSet<PathBuf>) -> Vec<String> {
            paths.iter().map(|path| path.strip_prefix(self.0.path()).unwrap().display().to_string()).collect()
        }
    }

    const SHIPPED: &str = "import \"std/backup\" as b;\nconst PLAYBOOK = #{ summary: \"x\" };\n";
    const PLAYBOOK: &str = r#"
        import "std/backup" as backup;
        import "shared/checks" as checks;
        const PLAYBOOK = #{
            summary: "x",
            watch: ["config/*.yml", "**/*.sql"],
            params: #{
                dir: #{ default_value: "backups/database", path: true },
                root: #{ default_value: ".", path: true },
                config: #{ default_value: "config", path: true },
            },
        };
    "#;

    #[test]
    fn it_is_the_playbook_its_imports_the_project_and_the_patterns() {
        let bench = Bench::new(&[
            ("playbooks/p.rhai", PLAYBOOK),
            ("playbooks/shared/checks.rhai", "import \"more\" as more;\nfn f() {}\n"),
            ("config/a.yml", ""),
            ("config/deep/b.yml", ""),
            ("sql/c.sql", ""),
            ("backups/database/d.sql", ""),
            ("logs/e.sql", ""),
            (".lifeboat/f.sql", ""),
        ]);
        let set = bench.set("p");
        assert_eq!(
            bench.names(set.all()),
            [
                ".env",
                "config",
                "config/a.yml",
                "lifeboat.toml",
                "playbooks/more.rhai",
                "playbooks/p.rhai",
                "playbooks/shared/checks.rhai",
                "playbooks/shared/more.rhai",
                "sql",
                "sql/c.sql",
                "stdlib/backup.rhai",
            ]
        );
        let folders = set.folders();
        let admitted = |name: &str| set.admits(&bench.0.path().join(name), &folders);
        for name in [
            ".env",
            "playbooks",
            "playbooks/shared",
            "stdlib",
            "stdlib/backup.rhai",
            "config/new.yml",
            "x/y.sql",
            "sql",
        ] {
            assert!(admitted(name), "{name}");
        }
        for name in
            ["README.md", "playbooks/q.rhai", "backups/database/x.sql", "logs/x.sql", "config/.a.yml.swp"]
        {
            assert!(!admitted(name), "{name}");
        }
        assert!(bench.names(folders).contains(&"config/deep".to_owned()));
    }

    #[test]
    fn an_embedded_playbook_waits_for_a_copy_of_its_own() {
        let bench = Bench::new(&[]);
        let set = bench.set("shipped");
        assert_eq!(
            bench.names(set.all()),
            [".env", "lifeboat.toml", "playbooks/shipped.rhai", "stdlib/backup.rhai"]
        );
    }

    #[test]
    fn the_last_good_set_is_kept() {
        let bench = Bench::new(&[("playbooks/p.rhai", PLAYBOOK), ("config/a.yml", "")]);
        let good = bench.set("p");
        fs::write(bench.0.path().join("playbooks/p.rhai"), "import \"new\" as new; let").unwrap();
        let mut broken = bench.set("p");
        assert!(!broken.named().contains(&bench.0.path().join("stdlib/backup.rhai")));
        broken.keep(&good);
        assert_eq!(broken.all(), good.all());
    }
}
