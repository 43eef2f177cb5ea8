//! Where a program is.

use crate::base::failure::{Code, Failure};
use crate::sys::host::Host;
use std::path::{Path, PathBuf};

/// Searched when the environment has no PATH.
const USUAL_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The PATH that programs are looked for on, and that children get.
pub(super) fn search_path(host: &Host) -> String {
    host.env().value("PATH").unwrap_or(USUAL_PATH).to_owned()
}

/// The path of `program`: of a name, the first on PATH; of a path, that one, taken from the project.
///
/// # Errors
/// `ProgramMissing` if there is none, or if it may not be executed.
pub fn find(host: &Host, program: &str) -> Result<PathBuf, Failure> {
    find_from(host, program, host.project())
}

/// As [`find`], with paths taken from `dir`.
pub(super) fn find_from(host: &Host, program: &str, dir: &Path) -> Result<PathBuf, Failure> {
    if program.is_empty() {
        return Err(Failure::new(Code::Usage, "no program is named"));
    }
    if program.contains('/') {
        let path = dir.join(program);
        return match look(&path) {
            Look::Runs => Ok(path),
            Look::Missing => Err(missing(program)
                .caused_by(format!("`{}` does not exist", path.display()))
                .hint("Correct the path; it is taken from the folder that the program runs in.")),
            Look::Folder => {
                Err(missing(program).caused_by(format!("`{}` is a folder, not a program", path.display())))
            }
            Look::Forbidden => Err(forbidden(program, &path)),
        };
    }
    let mut refused = None;
    for folder in search_path(host).split(':').filter(|folder| folder.starts_with('/')) {
        let path = Path::new(folder).join(program);
        match look(&path) {
            Look::Runs => return Ok(path),
            Look::Forbidden => refused = refused.or(Some(path)),
            Look::Missing | Look::Folder => {}
        }
    }
    Err(match refused {
        Some(path) => forbidden(program, &path),
        None => missing(program)
            .caused_by(format!("no folder of PATH holds it: {}", search_path(host)))
            .hint(format!("Install `{program}`, or add its folder to PATH.")),
    })
}

enum Look {
    Runs,
    Missing,
    Folder,
    Forbidden,
}

fn look(path: &Path) -> Look {
    match std::fs::metadata(path) {
        Err(_) => Look::Missing,
        Ok(meta) if meta.is_dir() => Look::Folder,
        Ok(_) if rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() => Look::Runs,
        Ok(_) => Look::Forbidden,
    }
}

fn missing(program: &str) -> Failure {
    Failure::new(Code::ProgramMissing, format!("`{program}` not found"))
}

fn forbidden(program: &str, path: &Path) -> Failure {
    Failure::new(Code::ProgramMissing, format!("`{program}` may not be executed"))
        .caused_by(format!("`{}` is not executable for this user", path.display()))
        .hint(format!("Make it executable: `chmod +x {}`.", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::env::Env;

    fn host(dir: &Path, path: &str) -> Host {
        let env = Env::of([("PATH".to_owned(), path.to_owned())].into(), [].into());
        Host::new(dir.to_path_buf(), dir.join(".lifeboat"), env)
    }

    #[test]
    fn a_name_is_looked_for_on_path_only() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sh")).unwrap();
        let shown = dir.path().display();
        let found = find(&host(dir.path(), &format!("{shown}:relative:/bin")), "sh");
        assert_eq!(found, Ok(PathBuf::from("/bin/sh")));
        let failure = find(&host(dir.path(), &format!("{shown}")), "frobnicate").unwrap_err();
        assert_eq!(
            (failure.code, failure.to_string()),
            (Code::ProgramMissing, format!("`frobnicate` not found: no folder of PATH holds it: {shown}"))
        );
        assert_eq!(failure.hints, ["Install `frobnicate`, or add its folder to PATH."]);
    }

    #[test]
    fn a_path_is_taken_as_it_is_and_says_why_it_does_not_run() {
        let dir = tempfile::tempdir().unwrap();
        let shown = dir.path().display();
        std::fs::write(dir.path().join("plain"), "text").unwrap();
        std::fs::create_dir(dir.path().join("folder")).unwrap();
        let host = host(dir.path(), "/bin");
        assert_eq!(find(&host, "/bin/sh"), Ok(PathBuf::from("/bin/sh")));
        let said = |program| {
            let failure = find(&host, program).unwrap_err();
            (failure.to_string(), failure.hints)
        };
        assert_eq!(
            said("./plain"),
            (
                format!("`./plain` may not be executed: `{shown}/./plain` is not executable for this user"),
                vec![format!("Make it executable: `chmod +x {shown}/./plain`.")]
            )
        );
        assert_eq!(
            said("./folder").0,
            format!("`./folder` not found: `{shown}/./folder` is a folder, not a program")
        );
        assert_eq!(
            said("./none"),
            (
                format!("`./none` not found: `{shown}/./none` does not exist"),
                vec!["Correct the path; it is taken from the folder that the program runs in.".to_owned()]
            )
        );
        assert_eq!(said("").0, "no program is named");
    }
}
