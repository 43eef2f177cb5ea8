//! Where PostgreSQL's programs are on this machine.
//!
//! Distributions put server programs outside PATH and keep several versions side by side, so the usual places are
//! searched too. Nothing here asks the environment itself: callers pass the look-up.

use crate::base::failure::{Code, Failure};
use crate::sys::postgres::version::Version;
use std::cmp::Reverse;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Looks up a variable of the environment.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The variable that names the folder of PostgreSQL's programs, before all other places.
pub const BINDIR: &str = "LIFEBOAT_PG_BINDIR";

/// The usual places, where `*` stands for a version or a part of a name.
const PLACES: [&str; 8] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Library/PostgreSQL/*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "/run/current-system/sw/bin",
];

/// The programs of one installation that can run a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerPrograms {
    /// The server itself.
    pub postgres: PathBuf,
    /// Makes a data folder.
    pub initdb: PathBuf,
    /// Their version.
    pub version: Version,
}

/// The path of `program`.
///
/// # Errors
/// `ProgramMissing`, with the places that were looked at and how to install it.
pub fn find(program: &str, env: Env) -> Result<PathBuf, Failure> {
    let mut found = Search { env, root: Path::new("/") }.all(program)?;
    Ok(found.swap_remove(0))
}

/// A `pg_dump` that can dump a server of major version `server`: of the same version if there is one, else the
/// nearest newer one.
///
/// A newer one than needed is avoided, because it may write settings that the server's own version does not know:
/// what 17 writes does not load into 15.
///
/// # Errors
/// `ProgramMissing` if there is none, `Version` if all are older than the server.
pub fn find_pg_dump(server: u32, env: Env) -> Result<(PathBuf, Version), Failure> {
    Search { env, root: Path::new("/") }.pg_dump(server, version_of)
}

/// An installation with `postgres` and `initdb`: the first one, or if a major version is asked for, that one, else the
/// nearest newer one, else the newest.
///
/// # Errors
/// `ProgramMissing`, with the places that were looked at and how to install it.
pub fn find_server(major: Option<u32>, env: Env) -> Result<ServerPrograms, Failure> {
    Search { env, root: Path::new("/") }.server(major, version_of)
}

/// The version that `program --version` prints.
///
/// # Errors
/// `ProcessFailed` if it does not start, fails, or prints none.
pub fn version_of(program: &Path) -> Result<Version, Failure> {
    let failed = || {
        Failure::new(Code::ProcessFailed, format!("cannot ask `{}` its version", program.display()))
            .hint(format!("Repair that program, or set {BINDIR} to the folder of another installation."))
    };
    // Debian's wrapper is a script, which needs a PATH to find its interpreter.
    let output = Command::new(program)
        .arg("--version")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed().caused_by(error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed().caused_by(output.status).caused_by(said.trim()));
    }
    Version::parse(&text).ok_or_else(|| failed().caused_by(format!("it printed `{}`", text.trim())))
}

/// A search below `root`, which is `/` but for tests.
struct Search<'a> {
    env: Env<'a>,
    root: &'a Path,
}

impl Search<'_> {
    /// All paths of `program`, at least one, best first.
    fn all(&self, program: &str) -> Result<Vec<PathBuf>, Failure> {
        if let Some(folder) = (self.env)(BINDIR).filter(|folder| !folder.is_empty()) {
            let path = Path::new(&folder).join(program);
            return if is_program(&path) {
                Ok(vec![path])
            } else {
                Err(Failure::new(
                    Code::ProgramMissing,
                    format!("`{program}` is not in `{folder}`, which {BINDIR} names"),
                )
                .hint(format!("Set {BINDIR} to the folder that holds `{program}`, or unset it.")))
            };
        }
        let mut found: Vec<PathBuf> = Vec::new();
        for folder in self.folders() {
            let path = folder.join(program);
            if is_program(&path) && !found.contains(&path) {
                found.push(path);
            }
        }
        // Debian's wrapper picks a version by rules of its own, such as a user's default cluster: a last resort.
        found.sort_by_key(|path| is_wrapper(path));
        if found.is_empty() { Err(missing(program)) } else { Ok(found) }
    }

    fn pg_dump(
        &self,
        server: u32,
        version_of: impl Fn(&Path) -> Result<Version, Failure>,
    ) -> Result<(PathBuf, Version), Failure> {
        let mut best: Option<(PathBuf, Version)> = None;
        let mut broken = None;
        for path in self.all("pg_dump")? {
            // It would run one of those that were asked already, after Perl has started.
            if is_wrapper(&path) && best.as_ref().is_some_and(|(_, version)| version.major() == server) {
                continue;
            }
            match version_of(&path) {
                Ok(version)
                    if best.as_ref().is_none_or(|(_, b)| fitness(*b, server) < fitness(version, server)) =>
                {
                    best = Some((path, version));
                }
                Ok(_) => {}
                Err(failure) => {
                    broken.get_or_insert(failure);
                }
            }
        }
        match best {
            Some((path, version)) if version.major() < server => Err(Failure::new(
                Code::Version,
                format!("no `pg_dump` can dump a server of version {server}: all are older"),
            )
            .caused_by(format!("the newest is {version}, in `{}`", path.display()))
            .hint(format!(
                "Install PostgreSQL's client programs of version {server}, on Debian and Ubuntu with `apt-get \
                 install postgresql-client-{server}`, or set {BINDIR} to the folder that holds them."
            ))),
            Some(best) => Ok(best),
            None => Err(broken.unwrap_or_else(|| missing("pg_dump"))),
        }
    }

    fn server(
        &self,
        major: Option<u32>,
        version_of: impl Fn(&Path) -> Result<Version, Failure>,
    ) -> Result<ServerPrograms, Failure> {
        let mut best: Option<ServerPrograms> = None;
        let mut broken = None;
        for initdb in self.all("initdb")? {
            // Both must be of one installation; a link in PATH tells where that is.
            let initdb = initdb.canonicalize().unwrap_or(initdb);
            let postgres = initdb.with_file_name("postgres");
            if !is_program(&postgres) {
                broken.get_or_insert_with(|| {
                    missing("postgres").caused_by(format!("it is not beside `{}`", initdb.display()))
                });
                continue;
            }
            match version_of(&postgres) {
                Ok(version) => {
                    let better = best.as_ref().is_none_or(|best| {
                        major.is_some_and(|wanted| fitness(best.version, wanted) < fitness(version, wanted))
                    });
                    if better {
                        best = Some(ServerPrograms { postgres, initdb, version });
                    }
                }
                Err(failure) => {
                    broken.get_or_insert(failure);
                }
            }
        }
        best.ok_or_else(|| broken.unwrap_or_else(|| missing("postgres")))
    }

    /// The folders to look into: those of PATH, then the usual places, the highest version first.
    fn folders(&self) -> Vec<PathBuf> {
        // A relative entry would depend on the current folder, which a project's files share.
        let path = (self.env)("PATH").unwrap_or_default();
        let mut folders: Vec<PathBuf> =
            std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
        folders.extend(PLACES.iter().flat_map(|place| self.expand(place)));
        folders
    }

    /// The folders that `place` stands for.
    fn expand(&self, place: &str) -> Vec<PathBuf> {
        let mut folders = vec![self.root.to_path_buf()];
        for part in place.split('/').filter(|part| !part.is_empty()) {
            folders = match part.split_once('*') {
                None => folders.into_iter().map(|folder| folder.join(part)).collect(),
                Some((prefix, suffix)) => folders
                    .iter()
                    .flat_map(|folder| {
                        let mut names = matching(folder, prefix, suffix);
                        names.sort_by_key(|name| Reverse(numbers(name)));
                        names.into_iter().map(|name| folder.join(name))
                    })
                    .collect(),
            };
        }
        folders
    }
}

/// The names in `folder` with this prefix and suffix; none if it cannot be read.
fn matching(folder: &Path, prefix: &str, suffix: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix) && name.ends_with(suffix))
        .collect()
}

/// The numbers in a name, which order versions: `9.6` before `10`, a name without any before both.
fn numbers(name: &str) -> Vec<u32> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// How well a version stands in for major version `wanted`: that one fits best, then the nearest newer, then the newest
/// of the older ones; of one major version, the newest.
fn fitness(version: Version, wanted: u32) -> (bool, i64, Version) {
    let major = i64::from(version.major());
    let newer = version.major() >= wanted;
    (newer, if newer { -major } else { major }, version)
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn is_wrapper(path: &Path) -> bool {
    path.canonicalize().is_ok_and(|real| real.file_name().is_some_and(|name| name == "pg_wrapper"))
}

fn missing(program: &str) -> Failure {
    let server = matches!(program, "postgres" | "initdb" | "pg_ctl");
    let (kind, package) = if server { ("server", "postgresql") } else { ("client", "postgresql-client") };
    Failure::new(Code::ProgramMissing, format!("cannot find PostgreSQL's program `{program}`"))
        .caused_by(format!("it is neither in PATH nor in {}", PLACES.join(", ")))
        .hint(format!(
            "Install PostgreSQL's {kind} programs, on Debian and Ubuntu with `apt-get install {package}`, or set \
             {BINDIR} to the folder that holds them."
        ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Machine(tempfile::TempDir);

    impl Machine {
        fn with(programs: &[&str]) -> Self {
            let machine = Self(tempfile::tempdir().unwrap());
            for program in programs {
                let path = machine.path(program);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, "").unwrap();
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
            machine
        }

        fn path(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }

        /// The paths that a search finds, relative to this machine.
        fn found(&self, program: &str, env: Env) -> Result<Vec<String>, Failure> {
            let root = self.0.path();
            let relative = |path: PathBuf| path.strip_prefix(root).unwrap().display().to_string();
            Search { env, root }.all(program).map(|all| all.into_iter().map(relative).collect())
        }
    }

    /// Reads the version from the folder above `bin`.
    fn by_folder(program: &Path) -> Result<Version, Failure> {
        let name = program.ancestors().nth(2).unwrap().file_name().unwrap().to_str().unwrap();
        Version::parse(name).ok_or_else(|| Failure::new(Code::ProcessFailed, format!("`{name}` is broken")))
    }

    #[test]
    fn path_comes_first_then_the_highest_version() {
        let machine = Machine::with(&[
            "usr/lib/postgresql/9.6/bin/psql",
            "usr/lib/postgresql/15/bin/psql",
            "usr/lib/postgresql/16/bin/initdb",
            "usr/lib/postgresql/17/bin/psql",
            "usr/pgsql-16/bin/psql",
            "usr/local/pgsql/bin/psql",
            "opt/homebrew/opt/postgresql@14/bin/psql",
            "Library/PostgreSQL/13/bin/psql",
            "Applications/Postgres.app/Contents/Versions/latest/bin/psql",
            "Applications/Postgres.app/Contents/Versions/16/bin/psql",
            "run/current-system/sw/bin/psql",
            "mine/psql",
        ]);
        std::fs::create_dir_all(machine.path("usr/lib/postgresql/18/bin/psql")).unwrap();
        let path = format!("relative:{}:/nowhere", machine.path("mine").display());
        let env = |name: &str| (name == "PATH").then(|| path.clone());
        assert_eq!(
            machine.found("psql", &env).unwrap(),
            [
                "mine/psql",
                "usr/lib/postgresql/17/bin/psql",
                "usr/lib/postgresql/15/bin/psql",
                "usr/lib/postgresql/9.6/bin/psql",
                "usr/pgsql-16/bin/psql",
                "usr/local/pgsql/bin/psql",
                "opt/homebrew/opt/postgresql@14/bin/psql",
                "Library/PostgreSQL/13/bin/psql",
                "Applications/Postgres.app/Contents/Versions/16/bin/psql",
                "Applications/Postgres.app/Contents/Versions/latest/bin/psql",
                "run/current-system/sw/bin/psql",
            ]
        );
    }

    #[test]
    fn the_wrapper_of_debian_is_a_last_resort() {
        let machine = Machine::with(&["usr/share/pg_wrapper", "usr/lib/postgresql/15/bin/psql"]);
        std::fs::create_dir_all(machine.path("usr/bin")).unwrap();
        for name in ["psql", "pg_dump"] {
            symlink("../share/pg_wrapper", machine.path("usr/bin").join(name)).unwrap();
        }
        let path = machine.path("usr/bin").display().to_string();
        let env = |name: &str| (name == "PATH").then(|| path.clone());
        assert_eq!(machine.found("psql", &env).unwrap(), ["usr/lib/postgresql/15/bin/psql", "usr/bin/psql"]);
        assert_eq!(machine.found("pg_dump", &env).unwrap(), ["usr/bin/pg_dump"]);
    }

    #[test]
    fn the_wrapper_of_debian_is_asked_only_if_it_may_know_a_better_one() {
        let machine = Machine::with(&["usr/share/pg_wrapper", "usr/lib/postgresql/15/bin/pg_dump"]);
        std::fs::create_dir_all(machine.path("usr/bin")).unwrap();
        symlink("../share/pg_wrapper", machine.path("usr/bin/pg_dump")).unwrap();
        let path = machine.path("usr/bin").display().to_string();
        let env = |name: &str| (name == "PATH").then(|| path.clone());
        let search = Search { env: &env, root: machine.0.path() };
        for (server, asked) in [
            (15, vec!["usr/lib/postgresql/15/bin/pg_dump"]),
            (14, vec!["usr/lib/postgresql/15/bin/pg_dump", "usr/bin/pg_dump"]),
        ] {
            let seen = std::cell::RefCell::new(Vec::new());
            let version = |path: &Path| {
                seen.borrow_mut().push(path.to_owned());
                Ok(Version::parse("pg_dump (PostgreSQL) 15.3").unwrap())
            };
            search.pg_dump(server, version).unwrap();
            let asked: Vec<PathBuf> = asked.iter().map(|path| machine.path(path)).collect();
            assert_eq!(seen.into_inner(), asked, "for a server of version {server}");
        }
    }

    #[test]
    fn the_named_folder_is_the_only_one() {
        let machine = Machine::with(&["mine/psql", "usr/lib/postgresql/15/bin/pg_dump"]);
        let folder = machine.path("mine").display().to_string();
        let env = |name: &str| (name == BINDIR).then(|| folder.clone());
        assert_eq!(machine.found("psql", &env).unwrap(), ["mine/psql"]);
        let failure = machine.found("pg_dump", &env).unwrap_err();
        assert_eq!(failure.code, Code::ProgramMissing);
        assert_eq!(
            failure.to_string(),
            format!("`pg_dump` is not in `{folder}`, which LIFEBOAT_PG_BINDIR names")
        );
        assert_eq!(
            failure.hints,
            ["Set LIFEBOAT_PG_BINDIR to the folder that holds `pg_dump`, or unset it."]
        );
    }

    #[test]
    fn a_missing_program_says_where_it_was_sought_and_how_to_get_it() {
        let machine = Machine::with(&[]);
        let failure = machine.found("pg_dump", &|_| None).unwrap_err();
        assert_eq!(failure.code, Code::ProgramMissing);
        assert_eq!(
            failure.to_string(),
            "cannot find PostgreSQL's program `pg_dump`: it is neither in PATH nor in /usr/lib/postgresql/*/bin, \
             /usr/pgsql-*/bin, /usr/local/pgsql/bin, /opt/homebrew/opt/postgresql@*/bin, \
             /usr/local/opt/postgresql@*/bin, /Library/PostgreSQL/*/bin, \
             /Applications/Postgres.app/Contents/Versions/*/bin, /run/current-system/sw/bin"
        );
        assert_eq!(
            failure.hints,
            [
                "Install PostgreSQL's client programs, on Debian and Ubuntu with `apt-get install postgresql-client`, \
              or set LIFEBOAT_PG_BINDIR to the folder that holds them."
            ]
        );
        let failure = machine.found("initdb", &|_| None).unwrap_err();
        assert!(failure.hints[0].contains("`apt-get install postgresql`"), "{failure:?}");
    }

    #[test]
    fn pg_dump_is_of_the_servers_version_or_the_nearest_newer_one() {
        let machine = Machine::with(&[
            "usr/lib/postgresql/17/bin/pg_dump",
            "usr/lib/postgresql/15/bin/pg_dump",
            "usr/lib/postgresql/14/bin/pg_dump",
            "usr/lib/postgresql/broken/bin/pg_dump",
            "Library/PostgreSQL/15.4/bin/pg_dump",
        ]);
        let search = Search { env: &|_| None, root: machine.0.path() };
        for (server, path) in [
            (15, "Library/PostgreSQL/15.4/bin/pg_dump"),
            (16, "usr/lib/postgresql/17/bin/pg_dump"),
            (13, "usr/lib/postgresql/14/bin/pg_dump"),
        ] {
            let (found, _) = search.pg_dump(server, by_folder).unwrap();
            assert_eq!(found, machine.path(path), "for a server of version {server}");
        }
        let failure = search.pg_dump(18, by_folder).unwrap_err();
        assert_eq!(failure.code, Code::Version);
        let newest = machine.path("usr/lib/postgresql/17/bin/pg_dump");
        assert_eq!(
            failure.to_string(),
            format!(
                "no `pg_dump` can dump a server of version 18: all are older: the newest is 17.0, in `{}`",
                newest.display()
            )
        );
        assert!(failure.hints[0].contains("`apt-get install postgresql-client-18`"), "{failure:?}");
    }

    #[test]
    fn the_programs_of_a_server_are_of_one_installation() {
        let machine = Machine::with(&[
            "usr/lib/postgresql/15/bin/initdb",
            "usr/lib/postgresql/15/bin/postgres",
            "usr/lib/postgresql/17/bin/initdb",
            "usr/lib/postgresql/16/bin/initdb",
            "usr/lib/postgresql/16/bin/postgres",
        ]);
        std::fs::create_dir_all(machine.path("bin")).unwrap();
        symlink("../usr/lib/postgresql/15/bin/initdb", machine.path("bin/initdb")).unwrap();
        let path = machine.path("bin").display().to_string();
        let env = |name: &str| (name == "PATH").then(|| path.clone());
        let root = machine.0.path().canonicalize().unwrap();
        let search = Search { env: &env, root: &root };
        for (asked, given) in [(None, 15), (Some(16), 16), (Some(14), 15), (Some(17), 16)] {
            let server = search.server(asked, by_folder).unwrap();
            let bin = root.join(format!("usr/lib/postgresql/{given}/bin"));
            assert_eq!(server.version.major(), given, "asked for {asked:?}");
            assert_eq!((server.postgres, server.initdb), (bin.join("postgres"), bin.join("initdb")));
        }
        std::fs::remove_dir_all(root.join("usr/lib/postgresql/15")).unwrap();
        std::fs::remove_dir_all(root.join("usr/lib/postgresql/16")).unwrap();
        let failure = search.server(None, by_folder).unwrap_err();
        assert_eq!(failure.message, "cannot find PostgreSQL's program `postgres`");
    }
}
