//! `lifeboat playbooks`: what can be run by name.

use crate::base::failure::{Exit, Failure};
use crate::cli::global::Context;
use crate::cli::report::in_short;
use crate::cli::screen::{Paint, columns};
use crate::script::header::{self, Header};
use crate::script::library::{Entry, Library, Origin};
use serde::Serialize;
use serde_json::{Value, json};

/// List the playbooks that can be run by name: the project's and those that come with Lifeboat
///
/// With `--json`: an array of objects with `name`, `origin` (`project` or `embedded`), `path` (or null), `summary`, `params`
/// (each with `name`, `flag` (null for what has none), `default`, `env`, `help`, `required`, `choices`), `schedule` (each with `cron`, `tz`,
/// `params`) and `broken` (why its header cannot be read, with `code`, `message`, `causes`, `hints`, `at`; or null).
#[derive(Debug, clap::Args)]
pub struct Args {}

/// A playbook and its header, or why it cannot be read.
pub struct Known {
    /// Its name and where it comes from.
    pub entry: Entry,
    /// What it says about itself.
    pub header: Result<Header, Failure>,
}

/// All playbooks with their headers. A broken one is an entry like any other.
pub fn known(library: &Library) -> Result<Vec<Known>, Failure> {
    let read = |entry: Entry| {
        let header = library.find(&entry.name).and_then(|playbook| header::header(&playbook));
        Known { entry, header }
    };
    Ok(library.list()?.into_iter().map(read).collect())
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    name: &'a str,
    origin: &'static str,
    path: Option<String>,
    summary: Option<&'a str>,
    params: Vec<Value>,
    schedule: Vec<Value>,
    broken: Option<&'a Failure>,
}

impl<'a> From<&'a Known> for Row<'a> {
    fn from(known: &'a Known) -> Self {
        let header = known.header.as_ref().ok();
        let params = header.map(|header| header.params.as_slice()).unwrap_or_default();
        let schedule = header.map(|header| header.schedule.as_slice()).unwrap_or_default();
        Self {
            name: &known.entry.name,
            origin: origin(known.entry.origin),
            path: known.entry.path.as_ref().map(|path| path.display().to_string()),
            summary: header.map(|header| header.summary.as_str()),
            params: params
                .iter()
                .map(|param| {
                    json!({
                        "name": param.name,
                        "flag": (!param.positional && !param.secret).then(|| format!("--{}", param.flag())),
                        "default": param.default,
                        "env": param.env,
                        "help": param.help,
                        "required": param.required,
                        "choices": param.choices,
                    })
                })
                .collect(),
            schedule: schedule
                .iter()
                .map(
                    |schedule| json!({ "cron": schedule.cron, "tz": schedule.tz.map(|tz| tz.name()), "params": schedule.params }),
                )
                .collect(),
            broken: known.header.as_ref().err(),
        }
    }
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Project => "project",
        Origin::Embedded => "embedded",
    }
}

/// Lists playbooks.
pub fn run(_: &Args, cx: &Context) -> Result<Exit, Failure> {
    list(&cx.library(), cx)
}

fn list(library: &Library, cx: &Context) -> Result<Exit, Failure> {
    let all = known(library)?;
    if cx.global.json {
        cx.screen.json(&all.iter().map(Row::from).collect::<Vec<_>>());
    } else if all.is_empty() {
        cx.screen.talk("there are no playbooks\n");
    } else {
        cx.screen.data(&table(&all, cx.screen.out_paint));
    }
    Ok(Exit::Success)
}

/// Names and summaries; one that is broken says so.
pub fn table(all: &[Known], paint: Paint) -> String {
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|known| {
            let told = match &known.header {
                Ok(header) => header.summary.lines().next().unwrap_or_default().to_owned(),
                Err(failure) => format!("{} {}", paint.error("broken:"), in_short(failure)),
            };
            vec![known.entry.name.clone(), told]
        })
        .collect();
    columns(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::global::{Global, test};
    use expect_test::expect;

    const EMBEDDED: &[(&str, &str)] = &[
        ("backup_all", "const PLAYBOOK = #{ summary: \"Back up everything\" };\n"),
        ("verify_backups", "const PLAYBOOK = #{ summary: \"Prove all backups\" };\n"),
    ];

    fn project() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("playbooks")).unwrap();
        for (name, text) in [
            ("broken", "const PLAYBOOK = #{ summary: 1 };\n"),
            ("torn", "const PLAYBOOK = #{\n"),
            (
                "backup_all",
                "const PLAYBOOK = #{ summary: \"Our own way\",\n params: #{ n: #{ default_value: 1, env: \"N\" } },\n schedule: [#{ cron: \"0 2 * * *\", params: #{ n: 2 } }] };\n",
            ),
        ] {
            std::fs::write(dir.path().join(format!("playbooks/{name}.rhai")), text).unwrap();
        }
        dir
    }

    #[test]
    fn a_broken_playbook_breaks_nothing_but_itself() {
        let dir = project();
        let (cx, out, _) = test::context(dir.path(), Global::default());
        assert_eq!(list(&Library::of(dir.path(), EMBEDDED, &[]), &cx), Ok(Exit::Success));
        expect![[r#"
            backup_all      Our own way
            broken          broken: `summary` must be text, not a whole number (playbooks/broken.rhai:1:30)
            torn            broken: expected `}` to end this object map literal (playbooks/torn.rhai:2:1)
            verify_backups  Prove all backups
        "#]]
        .assert_eq(&out.text());
    }

    #[test]
    fn json_is_the_documented_contract() {
        let dir = project();
        let (cx, out, _) = test::context(dir.path(), Global { json: true, ..Global::default() });
        list(&Library::of(dir.path(), EMBEDDED, &[]), &cx).unwrap();
        expect![[r#"
            [
              {
                "name": "backup_all",
                "origin": "project",
                "path": "PROJECT/playbooks/backup_all.rhai",
                "summary": "Our own way",
                "params": [
                  {
                    "choices": [],
                    "default": 1,
                    "env": "N",
                    "flag": "--n",
                    "help": null,
                    "name": "n",
                    "required": false
                  }
                ],
                "schedule": [
                  {
                    "cron": "0 2 * * *",
                    "params": {
                      "n": 2
                    },
                    "tz": null
                  }
                ],
                "broken": null
              },
              {
                "name": "broken",
                "origin": "project",
                "path": "PROJECT/playbooks/broken.rhai",
                "summary": null,
                "params": [],
                "schedule": [],
                "broken": {
                  "code": "playbook",
                  "message": "`summary` must be text, not a whole number",
                  "causes": [],
                  "hints": [],
                  "at": {
                    "file": "playbooks/broken.rhai",
                    "line": 1,
                    "column": 30
                  },
                  "trail": [],
                  "step": null
                }
              },
              {
                "name": "torn",
                "origin": "project",
                "path": "PROJECT/playbooks/torn.rhai",
                "summary": null,
                "params": [],
                "schedule": [],
                "broken": {
                  "code": "playbook",
                  "message": "expected `}` to end this object map literal",
                  "causes": [],
                  "hints": [
                    "The file ends inside a block: look for a `{` without its `}`."
                  ],
                  "at": {
                    "file": "playbooks/torn.rhai",
                    "line": 2,
                    "column": 1
                  },
                  "trail": [],
                  "step": null
                }
              },
              {
                "name": "verify_backups",
                "origin": "embedded",
                "path": null,
                "summary": "Prove all backups",
                "params": [],
                "schedule": [],
                "broken": null
              }
            ]
        "#]]
        .assert_eq(&out.text().replace(&dir.path().display().to_string(), "PROJECT"));
    }
}
