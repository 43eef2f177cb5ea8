//! Copies of shipped modules, made by `lifeboat customize`, whose shipped text has changed since.

use super::Finding;
use crate::base::failure::{Code, Failure};
use crate::script::fields::place;
use crate::script::library::Library;
use crate::script::program::Program;
use rhai::Position;
use sha2::{Digest, Sha256};

/// Begins the line that a copy records its origin with.
const MARK: &str = "//! Copied by `lifeboat customize std/";

/// The text of a project's own copy: the shipped text below a line that records which one it was.
pub fn copy(name: &str, shipped: &str) -> String {
    format!("{MARK}{name}`; shipped text: sha256 {}\n{shipped}", digest(shipped))
}

/// Warns about copies that the program imports and whose shipped text is another one now.
pub fn check(program: &Program, library: &Library) -> Vec<Finding> {
    let mut findings = Vec::new();
    for unit in &program.units {
        let Some(name) = unit.source.file.strip_prefix("stdlib/").and_then(|name| name.strip_suffix(".rhai"))
        else {
            continue;
        };
        let Ok(Some((_, shipped))) = library.copy_of(name) else { continue };
        if recorded(&unit.source.text).is_some_and(|recorded| recorded != digest(&shipped)) {
            findings.push(Finding::warning(
                Failure::new(Code::Playbook, format!("the shipped `std/{name}` has changed since this copy was made"))
                    .at(Some(place(&unit.source.file, Position::NONE)))
                    .hint(format!(
                        "Compare the two with `lifeboat customize std/{name} --print | diff - stdlib/{name}.rhai`, or \
                         delete the copy to use the shipped one."
                    )),
            ));
        }
    }
    findings
}

/// The digest that a copy records.
fn recorded(text: &str) -> Option<&str> {
    let line = text.lines().next()?.strip_prefix(MARK)?;
    line.rsplit_once("sha256 ").map(|(_, digest)| digest.trim())
}

fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::library::{Origin, Playbook};

    fn findings(copied_from: &str, shipped: &'static str) -> Vec<Finding> {
        let project = tempfile::tempdir().unwrap();
        std::fs::create_dir(project.path().join("stdlib")).unwrap();
        std::fs::write(project.path().join("stdlib/backup.rhai"), copy("backup", copied_from)).unwrap();
        let modules: &'static [(&str, &str)] = Box::leak(Box::new([("backup", shipped)]));
        let library = Library::of(project.path(), &[], modules);
        let playbook = Playbook {
            name: "p".into(),
            origin: Origin::Project,
            path: None,
            file: "playbooks/p.rhai".into(),
            source: "import \"std/backup\" as backup;".into(),
        };
        check(&Program::of(&library, &playbook), &library)
    }

    #[test]
    fn a_copy_of_the_shipped_text_is_fine_though_it_was_changed_by_the_project() {
        assert_eq!(findings("fn f() { 1 }\n", "fn f() { 1 }\n"), []);
    }

    #[test]
    fn a_copy_of_an_older_text_has_drifted() {
        let findings = findings("fn f() { 1 }\n", "fn f() { 2 }\n");
        assert_eq!(findings.len(), 1);
        assert!(!findings[0].error);
        let failure = &findings[0].failure;
        assert_eq!(failure.message, "the shipped `std/backup` has changed since this copy was made");
        assert_eq!(failure.at.as_ref().unwrap().to_string(), "stdlib/backup.rhai:1:1");
        assert_eq!(
            failure.hints,
            [
                "Compare the two with `lifeboat customize std/backup --print | diff - stdlib/backup.rhai`, or delete the copy to use the shipped one."
            ]
        );
    }
}
