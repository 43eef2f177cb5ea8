//! `lifeboat lint`: what is wrong with playbooks, without running them.

use crate::base::failure::{Code, Exit, Failure};
use crate::cli::global::Context;
use crate::cli::report::{self, Gravity, Source, counted};
use crate::cli::screen::Paint;
use crate::script::library::Library;
use crate::script::lint::{self, Finding, Reserved};
use serde::Serialize;

/// Check playbooks and the modules they import, without running anything
///
/// Exits with 2 when a playbook has an error. Every run checks its playbook first, so a playbook with an error never runs.
///
/// With `--json`: an array of objects with `playbook`, `error` (false for a warning) and `failure` (`code`, `message`,
/// `causes`, `hints`, `at`).
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names or paths of playbooks; all that have a name if none is given
    #[arg(value_name = "PLAYBOOK")]
    playbooks: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    playbook: &'a str,
    error: bool,
    failure: &'a Failure,
}

/// Checks playbooks.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, Failure> {
    check(&args.playbooks, &cx.library(), cx)
}

fn check(names: &[String], library: &Library, cx: &Context) -> Result<Exit, Failure> {
    let names: Vec<String> = match names {
        [] => library.list()?.into_iter().map(|entry| entry.name).collect(),
        names => names.to_vec(),
    };
    let reserved = crate::cli::reserved();
    let mut found: Vec<(&str, Finding)> = Vec::new();
    for name in &names {
        found.extend(findings(name, library, &reserved)?.into_iter().map(|finding| (name.as_str(), finding)));
    }
    if cx.global.json {
        let rows: Vec<Row<'_>> = found
            .iter()
            .map(|(playbook, finding)| Row { playbook, error: finding.error, failure: &finding.failure })
            .collect();
        cx.screen.json(&rows);
    } else {
        let findings: Vec<Finding> = found.iter().map(|(_, finding)| finding.clone()).collect();
        cx.screen.data(&text(&findings, cx.screen.out_paint, &|file| library.source(file)));
        if !cx.global.quiet {
            cx.screen.talk(&format!(
                "{} checked, {}\n",
                counted(names.len(), "playbook"),
                verdict(&findings)
            ));
        }
    }
    Ok(if found.iter().any(|(_, finding)| finding.error) { Exit::Usage } else { Exit::Success })
}

/// What is wrong with one playbook. One that is not there is an error of the command, one that cannot be read a finding.
fn findings(name: &str, library: &Library, reserved: &Reserved) -> Result<Vec<Finding>, Failure> {
    match library.find(name) {
        Ok(playbook) => Ok(lint::lint(library, &playbook, reserved)),
        Err(failure) if failure.code == Code::Usage => Err(failure),
        Err(failure) => Ok(vec![Finding { failure, error: true }]),
    }
}

/// Findings for people, each followed by an empty line.
pub fn text(findings: &[Finding], paint: Paint, source: Source<'_>) -> String {
    findings
        .iter()
        .map(|finding| {
            let gravity = if finding.error { Gravity::Error } else { Gravity::Warning };
            report::failure(&finding.failure, gravity, paint, source) + "\n"
        })
        .collect()
}

/// `2 errors, 1 warning`, or that nothing is wrong.
pub fn verdict(findings: &[Finding]) -> String {
    let errors = findings.iter().filter(|finding| finding.error).count();
    match (errors, findings.len() - errors) {
        (0, 0) => "nothing is wrong".to_owned(),
        (0, warnings) => counted(warnings, "warning"),
        (errors, 0) => counted(errors, "error"),
        (errors, warnings) => format!("{}, {}", counted(errors, "error"), counted(warnings, "warning")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::global::{Global, test};
    use expect_test::expect;

    const PLAYBOOKS: &[(&str, &str)] = &[
        ("good", "const PLAYBOOK = #{ summary: \"Good\" };\n"),
        ("history", "const PLAYBOOK = #{ summary: \"Named like a command\" };\n"),
        ("flags", "const PLAYBOOK = #{ summary: \"x\", params: #{ json: true, quiet: 1 } };\n"),
        ("typo", "const PLAYBOOK = #{ summary: \"x\" };\nstep \"Say\" {\n    inof(\"hello\");\n}\n"),
    ];

    fn linted(names: &[&str], global: Global) -> (Result<Exit, Failure>, String, String) {
        let dir = tempfile::tempdir().unwrap();
        let (cx, out, err) = test::context(dir.path(), global);
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let exit = check(&names, &Library::of(dir.path(), PLAYBOOKS, &[]), &cx);
        (exit, out.text(), err.text())
    }

    #[test]
    fn findings_are_shown_with_their_place() {
        let (exit, out, err) = linted(&[], Global::default());
        assert_eq!(exit, Ok(Exit::Usage));
        expect![[r#"
            error: the parameter `quiet` would be the flag `--quiet`, which every run has
              ——▶ playbooks/flags.rhai:1:58
              │
            1 │ const PLAYBOOK = #{ summary: "x", params: #{ json: true, quiet: 1 } };
              │                                                          ^
            hint: Rename the parameter, for example to `quiet_value`.

            error: the playbook `history` is named like a command of lifeboat
              ——▶ playbooks/history.rhai:1:1
              │
            1 │ const PLAYBOOK = #{ summary: "Named like a command" };
              │ ^
            hint: Rename the file, for example to `history_backups.rhai`.

            error: unknown function `inof`
              ——▶ playbooks/typo.rhai:3:5
              │
            3 │     inof("hello");
              │     ^
            hint: Did you mean `info`?

        "#]]
        .assert_eq(&out);
        expect![[r#"
            4 playbooks checked, 3 errors
        "#]]
        .assert_eq(&err);
    }

    #[test]
    fn a_good_playbook_is_good() {
        let (exit, out, err) = linted(&["good"], Global::default());
        assert_eq!(
            (exit, out.as_str(), err.as_str()),
            (Ok(Exit::Success), "", "1 playbook checked, nothing is wrong\n")
        );
    }

    #[test]
    fn json_is_the_documented_contract() {
        let (exit, out, _) = linted(&["typo"], Global { json: true, ..Global::default() });
        assert_eq!(exit, Ok(Exit::Usage));
        expect![[r#"
            [
              {
                "playbook": "typo",
                "error": true,
                "failure": {
                  "code": "playbook",
                  "message": "unknown function `inof`",
                  "causes": [],
                  "hints": [
                    "Did you mean `info`?"
                  ],
                  "at": {
                    "file": "playbooks/typo.rhai",
                    "line": 3,
                    "column": 5
                  },
                  "trail": [],
                  "step": null
                }
              }
            ]
        "#]]
        .assert_eq(&out);
    }

    #[test]
    fn an_unknown_playbook_is_an_error_of_the_command() {
        let (exit, ..) = linted(&["goood"], Global::default());
        assert_eq!(exit.unwrap_err().code, Code::Usage);
    }
}
