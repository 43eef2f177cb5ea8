//! `lifeboat logs`: log lines of a day or of a run.

use crate::base::cancel::Cancel;
use crate::base::failure::{Code, Exit, Failure};
use crate::base::ids::RunId;
use crate::cli::global::Context;
use crate::journal::daily;
use crate::journal::reader::{self, RunState};
use crate::sys::{fs, signals, state};
use chrono::NaiveDate;
use std::path::{Path, PathBuf};
use std::time::Duration;

const POLL: Duration = Duration::from_millis(250);

/// Show log lines: of the newest log file, of a day, or of one run
///
/// With `--json`: the recorded events of the run as JSON lines, each with `time` and `what`; a log file has no JSON.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run: `latest`, or the beginning of its name or of its letters
    #[arg(value_name = "RUN", conflicts_with = "date")]
    run: Option<String>,
    /// The log file of this day
    #[arg(long, value_name = "YYYY-MM-DD")]
    date: Option<NaiveDate>,
    /// Go on with new lines as they are written
    #[arg(short, long)]
    follow: bool,
}

/// Shows log lines.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, Failure> {
    let cancel = Cancel::new();
    if args.follow {
        signals::cancel_on_signals(cancel.clone(), Duration::ZERO, || {})?;
    }
    if let Some(name) = &args.run {
        return of_run(&reader::find(&cx.state, name)?, args.follow, cx, &cancel);
    }
    if cx.global.json {
        return Err(Failure::new(Code::Usage, "a log file has no JSON")
            .hint("Name a run: `lifeboat logs latest --json` writes its events."));
    }
    let path = log_file(&cx.project.join("logs"), args.date)?;
    let mut offset = 0;
    loop {
        let new = state::read_from(&path, offset)?;
        offset += new.len() as u64;
        cx.screen.data(&String::from_utf8_lossy(&new));
        if !args.follow || cancel.is_cancelled() {
            return Ok(Exit::Success);
        }
        std::thread::sleep(POLL);
    }
}

fn of_run(run: &RunId, follow: bool, cx: &Context, cancel: &Cancel) -> Result<Exit, Failure> {
    let mut shown = 0;
    loop {
        // Looked at first, so that what was written before the end is not missed.
        let running = reader::summary(&cx.state, run).state == RunState::Running;
        let recording = reader::events(&cx.state, run)?;
        for event in recording.events.iter().skip(shown) {
            if cx.global.json {
                cx.screen.data(&(serde_json::to_string(event).unwrap_or_default() + "\n"));
            } else {
                cx.screen.data(&daily::lines(event));
            }
        }
        shown = recording.events.len();
        if !(follow && running) || cancel.is_cancelled() {
            for note in &recording.notes {
                cx.screen.talk(&format!("{} {note}\n", cx.screen.err_paint.warning("warning:")));
            }
            return Ok(Exit::Success);
        }
        std::thread::sleep(POLL);
    }
}

/// The log file of a day, or the newest one.
fn log_file(dir: &Path, date: Option<NaiveDate>) -> Result<PathBuf, Failure> {
    let files = fs::file_names(dir)?;
    let is_log = |name: &&String| name.starts_with("backup-") && name.ends_with(".log");
    let newest = files.iter().rfind(is_log);
    match (date.map(|date| daily::file_of(dir, date)), newest) {
        (Some(path), _) if fs::exists(&path)? => Ok(path),
        (None, Some(name)) => Ok(dir.join(name)),
        (Some(path), Some(newest)) => {
            Err(Failure::new(Code::NotFound, format!("there is no log file `{}`", path.display()))
                .hint(format!("The newest one is `{newest}`.")))
        }
        (_, None) => {
            Err(Failure::new(Code::NotFound, format!("there is no log file in `{}`", dir.display()))
                .hint("Run a playbook first; `lifeboat playbooks` lists them."))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::global::{Global, test};
    use crate::cli::recorded;
    use expect_test::expect;

    fn args() -> Args {
        Args { run: None, date: None, follow: false }
    }

    #[test]
    fn lines_of_a_run_are_those_of_the_log_file() {
        let dir = tempfile::tempdir().unwrap();
        recorded::three_runs(dir.path());
        let (cx, out, _) = test::context(dir.path(), Global::default());
        run(&Args { run: Some("abc".into()), ..args() }, &cx).unwrap();
        expect![[r#"
            2025-11-10 02:00:00 ✅ SUCCESS - Run completed in 3 min 42 s
        "#]]
        .assert_eq(&out.text());
        let (cx, out, _) = test::context(dir.path(), Global { json: true, ..Global::default() });
        run(&Args { run: Some("abc".into()), ..args() }, &cx).unwrap();
        expect![[r#"
            {"time":"2025-11-10T02:00:00Z","what":{"event":"run_ended","exit":"success","millis":222000,"failure":null,"warnings":["Announce: cannot connect"],"value":null}}
        "#]].assert_eq(&out.text());
    }

    #[test]
    fn the_newest_log_file_is_shown_or_that_of_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        let show = |date: Option<&str>| {
            let (cx, out, _) = test::context(dir.path(), Global::default());
            let date = date.map(|date| date.parse().unwrap());
            run(&Args { date, ..args() }, &cx).map(|_| out.text()).map_err(|failure| {
                format!(
                    "{} | {}",
                    failure.message.replace(&dir.path().display().to_string(), "PROJECT"),
                    failure.hints[0]
                )
            })
        };
        assert_eq!(
            show(None).unwrap_err(),
            "there is no log file in `PROJECT/logs` | Run a playbook first; `lifeboat playbooks` lists them."
        );
        std::fs::create_dir(&logs).unwrap();
        for (name, text) in
            [("backup-20251109.log", "old\n"), ("backup-20251110.log", "new\n"), ("x.log", "no\n")]
        {
            std::fs::write(logs.join(name), text).unwrap();
        }
        assert_eq!(show(None).unwrap(), "new\n");
        assert_eq!(show(Some("2025-11-09")).unwrap(), "old\n");
        assert_eq!(
            show(Some("2025-11-08")).unwrap_err(),
            "there is no log file `PROJECT/logs/backup-20251108.log` | The newest one is `backup-20251110.log`."
        );
    }
}
