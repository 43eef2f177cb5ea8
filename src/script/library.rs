//! Where playbooks and modules come from: a path, the project's own folders, then those that are part of the program.

use crate::base::diagnostic::did_you_mean;
use crate::base::failure::{Code, Failure};
use crate::script::embedded;
use crate::sys::fs;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// Ends the name of every playbook and module file.
const EXTENSION: &str = "rhai";

/// Who wrote a playbook or module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The project.
    Project,
    /// It is part of the program.
    Embedded,
}

/// A playbook that can be run by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name, which is a command too.
    pub name: String,
    /// Who wrote it.
    pub origin: Origin,
    /// Its file, unless it is embedded.
    pub path: Option<PathBuf>,
}

/// A playbook that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Playbook {
    /// Its name: that of the file without extension.
    pub name: String,
    /// Who wrote it.
    pub origin: Origin,
    /// Its file, unless it is embedded.
    pub path: Option<PathBuf>,
    /// The file as places name it: relative to the project, or `playbooks/NAME.rhai` for an embedded one.
    pub file: String,
    /// Its text.
    pub source: String,
}

/// A module that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleSource {
    /// The file as places name it: relative to the project, or `std/NAME` for an embedded one.
    pub file: String,
    /// Its text.
    pub source: String,
}

type Table = &'static [(&'static str, &'static str)];

/// The playbooks and modules that a project can use.
#[derive(Clone, Debug)]
pub struct Library {
    project: PathBuf,
    playbooks: Table,
    modules: Table,
}

impl Library {
    /// The library of a project: its own files, then the embedded ones.
    pub fn new(project: &Path) -> Self {
        Self::of(project, embedded::PLAYBOOKS, embedded::MODULES)
    }

    /// A library with other embedded texts, as pairs of name and text.
    pub fn of(project: &Path, playbooks: Table, modules: Table) -> Self {
        Self { project: project.to_path_buf(), playbooks, modules }
    }

    /// All playbooks that have a name, sorted by it; the project's own hide embedded ones.
    pub fn list(&self) -> Result<Vec<Entry>, Failure> {
        let mut found: BTreeMap<String, Entry> = self
            .playbooks
            .iter()
            .map(|(name, _)| {
                ((*name).to_owned(), Entry { name: (*name).to_owned(), origin: Origin::Embedded, path: None })
            })
            .collect();
        let dir = self.playbook_dir();
        for file in fs::file_names(&dir)? {
            if let Some(name) = file.strip_suffix(".rhai") {
                let path = Some(dir.join(&file));
                found.insert(name.to_owned(), Entry { name: name.to_owned(), origin: Origin::Project, path });
            }
        }
        Ok(found.into_values().collect())
    }

    /// Finds a playbook by path (it ends in `.rhai` or holds a `/`) or by name.
    ///
    /// # Errors
    /// `Usage` when there is none; what reading the file raises.
    pub fn find(&self, name_or_path: &str) -> Result<Playbook, Failure> {
        let path = self.playbook_place(name_or_path);
        if is_path(name_or_path) {
            return match fs::read_text(&path)? {
                Some(source) => Ok(self.own_playbook(path, source)),
                None => Err(Failure::new(Code::Usage, format!("no playbook at `{name_or_path}`"))
                    .caused_by(format!("`{}` does not exist", path.display()))
                    .hint("`lifeboat playbooks` lists those that can be run by name.")),
            };
        }
        if let Some(source) = fs::read_text(&path)? {
            return Ok(self.own_playbook(path, source));
        }
        match self.playbooks.iter().find(|(name, _)| *name == name_or_path) {
            Some((name, source)) => Ok(Playbook {
                name: (*name).to_owned(),
                origin: Origin::Embedded,
                path: None,
                file: format!("playbooks/{name}.rhai"),
                source: (*source).to_owned(),
            }),
            None => Err(self.unknown_playbook(name_or_path)),
        }
    }

    /// Finds the module that `import "path"` in the file `importer` means.
    ///
    /// `std/NAME` is the project's `stdlib/NAME.rhai` if there is one, else the embedded module. Other paths are taken
    /// from the folder of the importing file, then from the project's `playbooks`.
    ///
    /// # Errors
    /// `Playbook` when there is none, or when the path is absolute or leaves its folder; what reading raises.
    pub fn module(&self, importer: &str, path: &str) -> Result<ModuleSource, Failure> {
        let parts: Vec<Component> = Path::new(path).components().collect();
        if path.is_empty() || parts.iter().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(Failure::new(Code::Playbook, format!("`{path}` is not the path of a module"))
                .caused_by("a module is named without `.`, `..` and a leading `/`")
                .hint(
                    "Name it relative to the importing file, for example `import \"checks\" as checks;`.",
                ));
        }
        if let Some(name) = path.strip_prefix("std/") {
            return self.std_module(name);
        }
        for candidate in self.module_places(importer, path) {
            if let Some(source) = fs::read_text(&candidate)? {
                return Ok(ModuleSource { file: self.shown(&candidate), source });
            }
        }
        let file = if path.ends_with(".rhai") { path.to_owned() } else { format!("{path}.rhai") };
        Err(Failure::new(Code::Playbook, format!("no module `{path}`"))
            .caused_by(format!("there is no `{file}` beside `{importer}` nor in `playbooks`"))
            .hint(self.std_hint(path.rsplit('/').next().unwrap_or(path))))
    }

    /// The file that decides what a playbook is, whether it is there or not; see [`Self::find`].
    pub fn playbook_place(&self, name_or_path: &str) -> PathBuf {
        if is_path(name_or_path) {
            self.project.join(name_or_path)
        } else {
            self.playbook_dir().join(name_or_path).with_added_extension(EXTENSION)
        }
    }

    /// The files that decide what an import means, whether they are there or not, the first one first; see
    /// [`Self::module`].
    pub fn module_places(&self, importer: &str, path: &str) -> Vec<PathBuf> {
        if let Some(name) = path.strip_prefix("std/") {
            return vec![self.std_place(name.strip_suffix(".rhai").unwrap_or(name))];
        }
        let file = if path.ends_with(".rhai") { path.to_owned() } else { format!("{path}.rhai") };
        let beside = self.project.join(importer).parent().map(|dir| dir.join(&file));
        let mut places: Vec<PathBuf> = beside.into_iter().chain([self.playbook_dir().join(&file)]).collect();
        places.dedup();
        places
    }

    /// The text of a playbook or module by the name that places give its file; `None` if it is gone.
    pub fn source(&self, file: &str) -> Option<String> {
        if let Some(name) = file.strip_prefix("std/") {
            return text(self.modules, name);
        }
        let own = fs::read_text(&self.project.join(file)).ok().flatten();
        own.or_else(|| text(self.playbooks, file.strip_prefix("playbooks/")?.strip_suffix(".rhai")?))
    }

    /// Names of the modules that are part of the program, as `import` takes them.
    pub fn std_modules(&self) -> impl Iterator<Item = String> {
        self.modules.iter().map(|(name, _)| format!("std/{name}"))
    }

    /// The project's copy of an embedded module, if it has one, and the shipped text.
    pub fn copy_of(&self, name: &str) -> Result<Option<(ModuleSource, String)>, Failure> {
        let Some(shipped) = text(self.modules, name) else { return Ok(None) };
        Ok(self.std_copy(name)?.map(|copy| (copy, shipped)))
    }

    fn std_module(&self, name: &str) -> Result<ModuleSource, Failure> {
        let name = name.strip_suffix(".rhai").unwrap_or(name);
        if let Some(copy) = self.std_copy(name)? {
            return Ok(copy);
        }
        match text(self.modules, name) {
            Some(source) => Ok(ModuleSource { file: format!("std/{name}"), source }),
            None => {
                Err(Failure::new(Code::Playbook, format!("no module `std/{name}`")).hint(self.std_hint(name)))
            }
        }
    }

    fn std_copy(&self, name: &str) -> Result<Option<ModuleSource>, Failure> {
        let path = self.std_place(name);
        Ok(fs::read_text(&path)?.map(|source| ModuleSource { file: self.shown(&path), source }))
    }

    fn std_place(&self, name: &str) -> PathBuf {
        self.project.join("stdlib").join(name).with_added_extension(EXTENSION)
    }

    fn std_hint(&self, name: &str) -> String {
        match did_you_mean(name, self.modules.iter().map(|(name, _)| *name)) {
            Some(close) => format!("Did you mean `std/{close}`?"),
            None => {
                let all: Vec<String> = self.std_modules().map(|name| format!("`{name}`")).collect();
                format!("The modules of the standard library are {}.", all.join(", "))
            }
        }
    }

    fn unknown_playbook(&self, name: &str) -> Failure {
        let failure = Failure::new(Code::Usage, format!("no playbook `{name}`"));
        let names: Vec<String> =
            self.list().unwrap_or_default().into_iter().map(|entry| entry.name).collect();
        let failure = match did_you_mean(name, names.iter().map(String::as_str)) {
            Some(close) => failure.hint(format!("Did you mean `{close}`?")),
            None => failure,
        };
        failure.hint("`lifeboat playbooks` lists those that can be run by name.")
    }

    fn own_playbook(&self, path: PathBuf, source: String) -> Playbook {
        Playbook {
            name: path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(),
            origin: Origin::Project,
            file: self.shown(&path),
            path: Some(path),
            source,
        }
    }

    fn playbook_dir(&self) -> PathBuf {
        self.project.join("playbooks")
    }

    fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.project).unwrap_or(path).display().to_string()
    }
}

/// Whether a playbook is named by its path.
fn is_path(name_or_path: &str) -> bool {
    name_or_path.contains('/') || name_or_path.ends_with(".rhai")
}

fn text(table: Table, name: &str) -> Option<String> {
    table.iter().find(|(entry, _)| *entry == name).map(|(_, text)| (*text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAYBOOKS: Table = &[("backup_all", "shipped all"), ("demo", "shipped demo")];

    fn library(files: &[&str]) -> (tempfile::TempDir, Library) {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir(path.parent().unwrap()).unwrap();
            fs::replace(&path, b"own", "test").unwrap();
        }
        let library = Library::of(dir.path(), PLAYBOOKS, &[("backup", "shipped module")]);
        (dir, library)
    }

    #[test]
    fn the_projects_own_playbooks_hide_embedded_ones() {
        let (dir, library) =
            library(&["playbooks/demo.rhai", "playbooks/nightly.rhai", "playbooks/notes.txt"]);
        let listed: Vec<(String, Origin)> =
            library.list().unwrap().into_iter().map(|entry| (entry.name, entry.origin)).collect();
        let expected =
            [("backup_all", Origin::Embedded), ("demo", Origin::Project), ("nightly", Origin::Project)];
        assert_eq!(listed, expected.map(|(name, origin)| (name.to_owned(), origin)));
        let demo = library.find("demo").unwrap();
        assert_eq!((demo.source.as_str(), demo.file.as_str()), ("own", "playbooks/demo.rhai"));
        let all = library.find("backup_all").unwrap();
        assert_eq!((all.source.as_str(), all.file.as_str()), ("shipped all", "playbooks/backup_all.rhai"));
        assert_eq!(library.source(&all.file).as_deref(), Some("shipped all"));
        assert_eq!(library.source(&demo.file).as_deref(), Some("own"));
        assert_eq!(library.source("std/backup").as_deref(), Some("shipped module"));
        let by_path = library.find(dir.path().join("playbooks/nightly.rhai").to_str().unwrap()).unwrap();
        assert_eq!((by_path.name.as_str(), by_path.file.as_str()), ("nightly", "playbooks/nightly.rhai"));
    }

    #[test]
    fn a_playbook_that_is_missing_gets_a_proposal() {
        let (_dir, library) = library(&[]);
        let failure = library.find("backup_al").unwrap_err();
        assert_eq!((failure.code, failure.message.as_str()), (Code::Usage, "no playbook `backup_al`"));
        assert_eq!(failure.hints[0], "Did you mean `backup_all`?");
        assert_eq!(library.find("x/y.rhai").unwrap_err().message, "no playbook at `x/y.rhai`");
    }

    #[test]
    fn a_copy_of_a_module_is_known_beside_what_was_shipped() {
        let (_dir, with_copy) = library(&["stdlib/backup.rhai"]);
        let (copy, shipped) = with_copy.copy_of("backup").unwrap().unwrap();
        assert_eq!((copy.file.as_str(), copy.source.as_str()), ("stdlib/backup.rhai", "own"));
        assert_eq!(shipped, "shipped module");
        let (_dir, without) = library(&[]);
        assert_eq!(without.copy_of("backup").unwrap(), None);
    }
}
