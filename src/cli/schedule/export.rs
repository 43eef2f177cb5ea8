//! `lifeboat schedule export`: what the headers' schedules are elsewhere.

use crate::base::failure::{Code, Exit, Failure};
use crate::cli::global::Context;
use crate::cli::report::{self, Gravity};
use crate::cli::schedule::left_out;
use crate::script::header::{self, Header};
use crate::script::library::Library;
use crate::sys::host::Host;
use crate::sys::program;
use serde::Serialize;
use std::path::Path;

/// Other schedulers.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Format {
    /// Lines of a crontab
    Cron,
}

#[derive(Debug, Serialize)]
struct Line {
    playbook: String,
    summary: String,
    cron: String,
    tz: Option<String>,
    line: String,
}

/// Exports the schedules.
pub fn run(format: Format, cx: &Context) -> Result<Exit, Failure> {
    match format {
        Format::Cron => export(&cx.library(), &program::executable()?, cx),
    }
}

fn export(library: &Library, program: &Path, cx: &Context) -> Result<Exit, Failure> {
    let mut lines = Vec::new();
    let mut exit = Exit::Success;
    for entry in library.list()? {
        match library.find(&entry.name).and_then(|playbook| header::header(&playbook)) {
            Ok(header) => lines.extend(of_playbook(&entry.name, &header, program, &cx.project)?),
            Err(failure) => {
                exit = Exit::Warnings;
                let told = left_out(&entry.name, &failure);
                cx.screen.talk(&report::failure(&told, Gravity::Warning, cx.screen.err_paint, &|_| None));
            }
        }
    }
    // Lines for a time zone come last, since `CRON_TZ` holds for all lines below it.
    lines.sort_by(|a, b| a.tz.cmp(&b.tz));
    if cx.global.json {
        cx.screen.json(&lines);
        return Ok(exit);
    }
    if lines.is_empty() {
        cx.screen.talk("no playbook has a schedule\n");
    } else {
        cx.screen.data(&crontab(&lines, &cx.project));
    }
    Ok(exit)
}

fn of_playbook(name: &str, header: &Header, program: &Path, project: &Path) -> Result<Vec<Line>, Failure> {
    let summary = header.summary.lines().next().unwrap_or_default().to_owned();
    header
        .schedule
        .iter()
        .map(|schedule| {
            let mut words = vec![path_text(program)?, "run".to_owned()];
            words.extend(["--scheduled".to_owned(), schedule.name.clone(), name.to_owned()]);
            if Host::find_project(project) != project {
                // From its own folder alone another project would be found, further up.
                words.extend(["--project".to_owned(), ".".to_owned()]);
            }
            let command: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            let project = quoted(&path_text(project)?);
            let command = format!(
                "cd {project} && mkdir -p logs && {} >> logs/cron-backup.log 2>&1",
                command.join(" ")
            );
            if command.contains('\n') {
                return Err(Failure::new(
                    Code::Usage,
                    format!("the schedule of `{name}` does not fit into one line"),
                )
                .hint(
                    "A crontab has one line per job: remove the line break from the parameter or the path.",
                ));
            }
            Ok(Line {
                playbook: name.to_owned(),
                summary: summary.clone(),
                cron: schedule.cron.clone(),
                tz: schedule.tz.map(|tz| tz.name().to_owned()),
                line: format!("{} {}", schedule.cron, for_cron(&command)),
            })
        })
        .collect()
}

fn path_text(path: &Path) -> Result<String, Failure> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::new(Code::Usage, format!("the path `{}` is not UTF-8", path.display()))
            .hint("A crontab cannot name it: move it to a path of ordinary characters.")
    })
}

fn crontab(lines: &[Line], project: &Path) -> String {
    let mut text =
        format!("# Lifeboat: the schedules of {}\n", project.display().to_string().replace('\n', " "));
    let mut zone = None;
    for line in lines {
        if line.tz != zone {
            let tz = line.tz.as_deref().unwrap_or_default();
            text += "\n# The lines below are in a time zone of their own; cronie knows CRON_TZ, Debian's cron ignores it.\n";
            text += &format!("CRON_TZ={tz}\n");
            zone.clone_from(&line.tz);
        }
        text += &format!("\n# {}\n{}\n", line.summary, line.line);
    }
    text
}

/// A command as cron wants it: an unescaped `%` is a line break wherever it stands, and a backslash before the one that
/// escapes it would take that away. Such a backslash is always within quotes, which may end and begin again behind it.
fn for_cron(command: &str) -> String {
    command.replace('%', r"\%").replace(r"\\%", r"\''\%")
}

/// A word for `sh`, quoted only where it must be.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::global::{Global, test};
    use crate::cli::params::tests::EVERY_KIND;
    use expect_test::expect;
    use std::path::PathBuf;

    const PLAYBOOKS: &[(&str, &str)] = &[
        ("backup_database", EVERY_KIND),
        (
            "backup_all",
            "const PLAYBOOK = #{ summary: \"Everything\", schedule: [#{ cron: \"0 3 * * 0\" }] };\n",
        ),
        ("broken", "const PLAYBOOK = #{ summary: 1 };\n"),
        ("never", "const PLAYBOOK = #{ summary: \"On request\" };\n"),
    ];

    #[test]
    fn schedules_become_lines_of_a_crontab() {
        let dir = PathBuf::from("/srv/100% of Bob's app");
        let library = Library::of(&dir, PLAYBOOKS, &[]);
        let (cx, out, err) = test::context(&dir, Global::default());
        assert_eq!(export(&library, Path::new("/usr/local/bin/lifeboat"), &cx), Ok(Exit::Warnings));
        expect![[r#"
            # Lifeboat: the schedules of /srv/100% of Bob's app

            # Everything
            0 3 * * 0 cd '/srv/100\% of Bob'\''s app' && mkdir -p logs && /usr/local/bin/lifeboat run --scheduled '0 3 * * 0' backup_all >> logs/cron-backup.log 2>&1

            # Back up the database
            0 2 * * * cd '/srv/100\% of Bob'\''s app' && mkdir -p logs && /usr/local/bin/lifeboat run --scheduled '0 2 * * *' backup_database >> logs/cron-backup.log 2>&1

            # The lines below are in a time zone of their own; cronie knows CRON_TZ, Debian's cron ignores it.
            CRON_TZ=Europe/Berlin

            # Back up the database
            0 3 * * 0 cd '/srv/100\% of Bob'\''s app' && mkdir -p logs && /usr/local/bin/lifeboat run --scheduled '0 3 * * 0' backup_database >> logs/cron-backup.log 2>&1
        "#]].assert_eq(&out.text());
        expect![[r#"
            warning: the schedules of `broken` are left out: it is broken
            caused by: `summary` must be text, not a whole number (playbooks/broken.rhai:1:30)
            hint: `lifeboat lint broken` tells more.
        "#]]
        .assert_eq(&err.text());
    }

    #[test]
    fn json_is_the_documented_contract() {
        let dir = PathBuf::from("/srv/app");
        let library = Library::of(&dir, &PLAYBOOKS[1..2], &[]);
        let (cx, out, _) = test::context(&dir, Global { json: true, ..Global::default() });
        export(&library, Path::new("/usr/bin/lifeboat"), &cx).unwrap();
        expect![[r#"
            [
              {
                "playbook": "backup_all",
                "summary": "Everything",
                "cron": "0 3 * * 0",
                "tz": null,
                "line": "0 3 * * 0 cd /srv/app && mkdir -p logs && /usr/bin/lifeboat run --scheduled '0 3 * * 0' backup_all >> logs/cron-backup.log 2>&1"
              }
            ]
        "#]].assert_eq(&out.text());
    }

    #[test]
    fn a_line_break_is_refused() {
        let dir = PathBuf::from("/srv/a\nb");
        let library = Library::of(&dir, &PLAYBOOKS[1..2], &[]);
        let (cx, ..) = test::context(&dir, Global::default());
        let refused = export(&library, Path::new("/usr/bin/lifeboat"), &cx).unwrap_err();
        assert_eq!(refused.message, "the schedule of `backup_all` does not fit into one line");
    }

    #[test]
    fn percent_signs_survive_cron() {
        assert_eq!(for_cron("cd '/100% x'"), r"cd '/100\% x'");
        assert_eq!(for_cron(r"cd '/a\%b'"), r"cd '/a\''\%b'");
        assert_eq!(for_cron(r"cd '/a\\%b'"), r"cd '/a\\''\%b'");
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quoted("/srv/app-1"), "/srv/app-1");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("$HOME"), "'$HOME'");
    }
}
