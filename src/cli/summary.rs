//! The end of a run, told to people.

use crate::base::failure::{Exit, Failure};
use crate::base::ids::RunId;
use crate::cli::lines::took;
use crate::cli::report::{self, Gravity, Source, counted};
use crate::cli::screen::Paint;

/// How a run ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// Playbook name.
    pub playbook: &'a str,
    /// The run, if it is on record.
    pub run: Option<&'a RunId>,
    /// How.
    pub exit: Exit,
    /// Milliseconds, if it is known.
    pub millis: Option<u64>,
    /// The failure that ended it.
    pub failure: Option<&'a Failure>,
    /// Warnings and tolerated failures.
    pub warnings: &'a [String],
    /// The log file, as shown.
    pub log: Option<&'a str>,
}

/// The failure, the warnings, the outcome and where more is told.
pub fn ended(end: &Ended<'_>, paint: Paint, source: Source<'_>) -> String {
    let mut text = String::new();
    for warning in end.warnings {
        text += &format!("{} {warning}\n", paint.warning("warning:"));
    }
    if let Some(failure) = end.failure {
        text += &report::failure(failure, Gravity::Error, paint, source);
    }
    text += &outcome(end, paint);
    if let Some(run) = end.run {
        let log = end.log.map(|log| format!(", log {log}")).unwrap_or_default();
        text += &paint.faint(&format!("  run {run}{log}; `lifeboat show {}` tells more", run.letters()));
        text += "\n";
    }
    text
}

fn outcome(end: &Ended<'_>, paint: Paint) -> String {
    let within =
        |word: &str| end.millis.map(|millis| format!(" {word} {}", took(millis))).unwrap_or_default();
    let name = end.playbook;
    match end.exit {
        Exit::Success => format!("{} {name} completed{}\n", paint.good("✔"), within("in")),
        Exit::Warnings => {
            let warnings = counted(end.warnings.len(), "warning");
            format!("{} {name} completed with {warnings}{}\n", paint.warning("!"), within("in"))
        }
        exit => {
            let word = match exit {
                Exit::Interrupted => "was interrupted",
                Exit::Terminated => "was terminated",
                // A step that was begun may have done something before.
                Exit::Usage if end.failure.is_none_or(|failure| failure.step.is_none()) => "did not run",
                Exit::Partial => "is known only in part",
                Exit::Confirm => "stopped",
                _ => "failed",
            };
            let step = end.failure.and_then(|failure| failure.step.as_deref());
            let step = step.map(|step| format!(" in step `{step}`")).unwrap_or_default();
            let after = within("after");
            format!("{} {name} {word}{step}{after} (exit {})\n", paint.error("✘"), exit.code())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::lines::example;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn shows(exit: Exit, failure: Option<Failure>, warnings: &[&str], expected: Expect) {
        let warnings: Vec<String> = warnings.iter().map(|text| (*text).to_owned()).collect();
        let end = Ended {
            playbook: "backup_database",
            run: Some(&RunId::parse("20251110-020000-abcdef").unwrap()),
            exit,
            millis: Some(222_000),
            failure: failure.as_ref(),
            warnings: &warnings,
            log: Some("logs/backup-20251110.log"),
        };
        expected.assert_eq(&ended(&end, Paint::PLAIN, &|_| Some("  dump(db)\n".into())));
    }

    #[test]
    fn every_end_is_told() {
        shows(
            Exit::Success,
            None,
            &[],
            expect![[r#"
            ✔ backup_database completed in 3 min 42 s
              run 20251110-020000-abcdef, log logs/backup-20251110.log; `lifeboat show abcdef` tells more
        "#]],
        );
        shows(
            Exit::Warnings,
            None,
            &["Config: cannot read `x`", "low space"],
            expect![[r#"
            warning: Config: cannot read `x`
            warning: low space
            ! backup_database completed with 2 warnings in 3 min 42 s
              run 20251110-020000-abcdef, log logs/backup-20251110.log; `lifeboat show abcdef` tells more
        "#]],
        );
        let mut failure = example::failure();
        failure.step = Some("Dump".into());
        shows(
            Exit::Failed,
            Some(failure),
            &["low space"],
            expect![[r#"
            warning: low space
            error: cannot connect to `db1`
              ——▶ playbooks/p.rhai:1:3
              │
            1 │   dump(db)
              │   ^
            caused by: Connection refused
            hint: Check that PostgreSQL listens on `db1:5432`.
            ✘ backup_database failed in step `Dump` after 3 min 42 s (exit 1)
              run 20251110-020000-abcdef, log logs/backup-20251110.log; `lifeboat show abcdef` tells more
        "#]],
        );
        shows(
            Exit::Interrupted,
            None,
            &[],
            expect![[r#"
            ✘ backup_database was interrupted after 3 min 42 s (exit 130)
              run 20251110-020000-abcdef, log logs/backup-20251110.log; `lifeboat show abcdef` tells more
        "#]],
        );
        shows(
            Exit::Terminated,
            None,
            &[],
            expect![[r#"
            ✘ backup_database was terminated after 3 min 42 s (exit 143)
              run 20251110-020000-abcdef, log logs/backup-20251110.log; `lifeboat show abcdef` tells more
        "#]],
        );
        shows(
            Exit::NotIntact,
            None,
            &[],
            expect![[r#"
            ✘ backup_database failed after 3 min 42 s (exit 12)
              run 20251110-020000-abcdef, log logs/backup-20251110.log; `lifeboat show abcdef` tells more
        "#]],
        );
    }
}
