//! The command line of the real program: help, wrong words, records of runs, streams.

use crate::aftermath::wait_for;
use expect_test::{Expect, expect};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A project whose name does not matter, in which the program is called.
struct Project(tempfile::TempDir);

const HELLO: &str = r#"//! Says hello to somebody.
const PLAYBOOK = #{
    summary: "Say hello",
    params: #{
        name: #{ default_value: "you", env: "HELLO_NAME", help: "Whom to greet" },
        times: 1,
        password: #{ secret: true, env: "HELLO_PASSWORD", help: "Never told" },
    },
    schedule: [#{ cron: "0 2 * * *", params: #{ name: "cron" } }],
};
step "Say" { info(`hello ${params.name}, ${params.password}.`); }
"#;

const FAILING: &str = r#"const PLAYBOOK = #{ summary: "Fail" };
fn give_up(why) {
    fail(why, "Try something else.");
}
step "Work" { info("working"); }
step "Give up" {
    give_up("it cannot be done");
}
"#;

const WARNING: &str = r#"const PLAYBOOK = #{ summary: "Warn" };
step "Look" { warn("it smells"); }
attempt "Try" { fail("no luck"); }
"#;

impl Project {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("playbooks")).unwrap();
        let project = Self(dir);
        project.write("playbooks/hello.rhai", HELLO);
        project
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.args(args).current_dir(self.path()).env_clear();
        command.env("PATH", "/usr/bin:/bin").env("TZ", "UTC").env("LIFEBOAT_NOW", "2025-11-10T02:00:00Z");
        command
    }

    /// Exit code, stdout and stderr; what differs from run to run is replaced.
    fn call(&self, args: &[&str]) -> (i32, String, String) {
        self.told(&self.command(args).output().unwrap())
    }

    fn told(&self, output: &Output) -> (i32, String, String) {
        let text = |bytes: &[u8]| {
            let mut text = String::from_utf8(bytes.to_vec()).unwrap();
            for entry in std::fs::read_dir(self.path().join(".lifeboat/runs")).into_iter().flatten() {
                let run = entry.unwrap().file_name().into_string().unwrap();
                text = text.replace(run.rsplit('-').next().unwrap(), "xxxxxx");
            }
            steady(&text.replace(&self.path().display().to_string(), "PROJECT"))
        };
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    #[track_caller]
    fn shows(&self, args: &[&str], expected: Expect) {
        let (code, out, err) = self.call(args);
        let mut text = format!("exit {code}\n");
        for (name, stream) in [("stdout", out), ("stderr", err)] {
            if !stream.is_empty() {
                text += &format!("--- {name}\n{stream}");
            }
        }
        expected.assert_eq(&text);
    }
}

/// Durations become `TIME`.
fn steady(text: &str) -> String {
    let words: Vec<&str> = text.split_inclusive(char::is_whitespace).collect();
    let is_unit = |word: &str| ["ms", "s"].contains(&word.trim_end_matches(|c: char| !c.is_alphabetic()));
    let mut steady = String::new();
    let mut skip = false;
    for (word, next) in words.iter().zip(words.iter().skip(1).chain([&""])) {
        let number = word.trim().trim_start_matches('(');
        if skip {
            steady += word.trim_start_matches(char::is_alphabetic);
            skip = false;
        } else if !number.is_empty() && number.parse::<f64>().is_ok() && is_unit(next) {
            steady += &word.trim_end().replace(number, "TIME");
            skip = true;
        } else {
            steady += word;
        }
    }
    steady
}

#[test]
fn without_words_it_lists_commands_and_playbooks() {
    let project = Project::new();
    let (code, out, err) = project.call(&[]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("  history    List runs, newest first\n"), "{out}");
    let listed = out.split_once("\nPlaybooks:\n").unwrap().1;
    assert!(listed.contains("  hello "), "{out}");
}

#[test]
fn help_of_a_playbook_is_its_header() {
    let project = Project::new();
    let asked = [
        project.call(&["hello", "--help"]),
        project.call(&["help", "hello"]),
        project.call(&["--json", "help", "hello"]),
    ];
    assert_eq!(asked[0], asked[1]);
    assert_eq!(asked[0], asked[2]);
    let (_, whole, _) = project.call(&["run", "hello", "--help"]);
    assert_eq!(asked[0].1.replace("lifeboat hello", "lifeboat run hello"), whole);
    project.shows(
        &["hello", "-h"],
        expect![[r#"
            exit 0
            --- stdout
            Say hello

            Usage: lifeboat hello [OPTIONS]

            Options:
                  --name <NAME>    Whom to greet [default: you] [env: HELLO_NAME]
                  --times <TIMES>  [default: 1]
              -h, --help           Print help (see more with '--help')

            Global options:
                  --project <DIR>  Project folder [default: the nearest one above with `lifeboat.toml` or
                                   `playbooks/`] [env: LIFEBOAT_PROJECT]
                  --dry-run        Show what would be done, and change nothing
              -y, --yes            Answer every question with yes, in advance
                  --json           Write JSON to stdout
              -q, --quiet          Tell errors only
              -v, --verbose        Tell also what was asked, and what other programs print
                  --color <WHEN>   Use colours: `auto`, `always` or `never` [default: auto]

            Secrets, from the environment or `.env` only:
              HELLO_PASSWORD  Never told

            Schedule:
              0 2 * * *  --name cron
        "#]],
    );
}

#[test]
fn wrong_words_are_refused_with_what_was_meant() {
    let project = Project::new();
    project.shows(
        &["helo"],
        expect![[r#"
        exit 2
        --- stderr
        error: there is no command or playbook `helo`
        hint: Did you mean `hello`?
    "#]],
    );
    project.shows(
        &["histroy"],
        expect![[r#"
        exit 2
        --- stderr
        error: there is no command or playbook `histroy`
        hint: Did you mean `history`?
    "#]],
    );
    project.shows(
        &["run", "helo"],
        expect![[r#"
        exit 2
        --- stderr
        error: no playbook `helo`
        hint: Did you mean `hello`?
        hint: `lifeboat playbooks` lists those that can be run by name.
    "#]],
    );
    project.shows(
        &["hello", "--nmae", "x"],
        expect![[r#"
        exit 2
        --- stderr
        error: unexpected argument '--nmae' found

          tip: a similar argument exists: '--name'

        Usage: lifeboat hello --name <NAME>

        For more information, try '--help'.
    "#]],
    );
    project.shows(
        &["hello", "--times", "two"],
        expect![[r#"
        exit 2
        --- stderr
        error: `--times` must be a whole number, not `two`
    "#]],
    );
    project.shows(
        &["--project", "/nonexistent", "history"],
        expect![[r#"
        exit 2
        --- stderr
        error: there is no folder `/nonexistent`
        hint: Name an existing folder with `--project DIR` or `LIFEBOAT_PROJECT`.
    "#]],
    );
    project.shows(
        &["show", "xyz"],
        expect![[r#"
        exit 2
        --- stderr
        error: there is no run `xyz`
        caused by: no run is on record yet
        hint: Run a playbook first; `lifeboat playbooks` lists them.
    "#]],
    );
}

#[test]
fn a_broken_playbook_breaks_nothing_but_itself() {
    let project = Project::new();
    project.write("playbooks/broken.rhai", "const PLAYBOOK = #{ summary: 1 };\n");
    project.shows(
        &["broken"],
        expect![[r#"
        exit 2
        --- stderr
        error: `summary` must be text, not a whole number
          ——▶ playbooks/broken.rhai:1:30
          │
        1 │ const PLAYBOOK = #{ summary: 1 };
          │                              ^
    "#]],
    );
    project.shows(
        &["broken", "--help"],
        expect![[r#"
        exit 2
        --- stderr
        error: `summary` must be text, not a whole number
          ——▶ playbooks/broken.rhai:1:30
          │
        1 │ const PLAYBOOK = #{ summary: 1 };
          │                              ^
    "#]],
    );
    let (code, out, _) = project.call(&["playbooks"]);
    assert!(code == 0 && out.contains("broken: `summary` must be text"), "{out}");
    let (code, ..) = project.call(&["hello", "--quiet"]);
    assert_eq!(code, 0);
}

#[test]
fn a_run_is_told_and_recorded() {
    let project = Project::new();
    project.shows(
        &["hello", "--name", "world"],
        expect![[r#"
            exit 0
            --- stderr
            02:00:00 hello run 20251110-020000-xxxxxx
            02:00:00 ℹ️  INFO - the clock stands at 2025-11-10T02:00:00+00:00, since LIFEBOAT_NOW is set
            02:00:00 parameters: name (name from --name)
            02:00:00 ▶ Say
            02:00:00 ℹ️  INFO - hello world, .
            02:00:00 ✔ Say (TIME)
            ✔ hello completed in TIME
              run 20251110-020000-xxxxxx, log logs/backup-20251110.log; `lifeboat show xxxxxx` tells more
        "#]],
    );
    let (_, out, _) = project.call(&["history"]);
    assert!(
        out.contains("xxxxxx  2025-11-10 02:00:00  hello     TIME") && out.contains("success\n"),
        "{out}"
    );
    project.shows(
        &["show"],
        expect![[r#"
            exit 0
            --- stdout
            02:00:00 hello run 20251110-020000-xxxxxx
            02:00:00 ℹ️  INFO - the clock stands at 2025-11-10T02:00:00+00:00, since LIFEBOAT_NOW is set
            02:00:00 parameters: name (name from --name)
            02:00:00 ▶ Say
            02:00:00 ℹ️  INFO - hello world, .
            02:00:00 ✔ Say (TIME)
            ✔ hello completed in TIME
        "#]],
    );
    project.shows(
        &["logs"],
        expect![[r#"
            exit 0
            --- stdout
            2025-11-10 02:00:00 ℹ️  INFO - Run 20251110-020000-xxxxxx of hello begins
            2025-11-10 02:00:00 ℹ️  INFO - the clock stands at 2025-11-10T02:00:00+00:00, since LIFEBOAT_NOW is set
            2025-11-10 02:00:00 ℹ️  INFO - parameters: name (name from --name)
            2025-11-10 02:00:00 ℹ️  INFO - hello world, .
            2025-11-10 02:00:00 ✅ SUCCESS - Say completed in TIME
            2025-11-10 02:00:00 ✅ SUCCESS - Run completed in TIME
        "#]],
    );
}

#[test]
fn a_failed_run_says_why_and_where() {
    let project = Project::new();
    project.write("playbooks/failing.rhai", FAILING);
    project.shows(
        &["failing"],
        expect![[r#"
            exit 1
            --- stderr
            02:00:00 failing run 20251110-020000-xxxxxx
            02:00:00 ℹ️  INFO - the clock stands at 2025-11-10T02:00:00+00:00, since LIFEBOAT_NOW is set
            02:00:00 ▶ Work
            02:00:00 ℹ️  INFO - working
            02:00:00 ✔ Work (TIME)
            02:00:00 ▶ Give up
            02:00:00 ✘ Give up failed (TIME)
            error: it cannot be done
              ——▶ playbooks/failing.rhai:3:5
              │
            3 │     fail(why, "Try something else.");
              │     ^
            while calling `give_up` at playbooks/failing.rhai:7:5
            hint: Try something else.
            ✘ failing failed in step `Give up` after TIME (exit 1)
              run 20251110-020000-xxxxxx, log logs/backup-20251110.log; `lifeboat show xxxxxx` tells more
        "#]],
    );
    project.shows(
        &["failing", "--quiet"],
        expect![[r#"
        exit 1
        --- stderr
        error: it cannot be done
          ——▶ playbooks/failing.rhai:3:5
          │
        3 │     fail(why, "Try something else.");
          │     ^
        while calling `give_up` at playbooks/failing.rhai:7:5
        hint: Try something else.
    "#]],
    );
    // What is shown later is the playbook as it ran.
    project.write("playbooks/failing.rhai", "// something else\n");
    let (code, out, _) = project.call(&["show"]);
    assert_eq!(code, 0);
    assert!(out.contains("3 │     fail(why, \"Try something else.\");\n"), "{out}");
}

#[test]
fn a_run_with_warnings_exits_with_3() {
    let project = Project::new();
    project.write("playbooks/warning.rhai", WARNING);
    project.shows(
        &["warning"],
        expect![[r#"
            exit 3
            --- stderr
            02:00:00 warning run 20251110-020000-xxxxxx
            02:00:00 ℹ️  INFO - the clock stands at 2025-11-10T02:00:00+00:00, since LIFEBOAT_NOW is set
            02:00:00 ▶ Look
            02:00:00 ⚠️  WARN - it smells
            02:00:00 ✔ Look (TIME)
            02:00:00 ▶ Try
            02:00:00 ! Try failed, the run goes on (TIME)
            02:00:00   no luck
            02:00:00   at playbooks/warning.rhai:3:17
            warning: it smells
            warning: Try: no luck
            ! warning completed with 2 warnings in TIME
              run 20251110-020000-xxxxxx, log logs/backup-20251110.log; `lifeboat show xxxxxx` tells more
        "#]],
    );
}

#[test]
fn json_is_events_on_stdout() {
    let project = Project::new();
    let (code, out, err) = project.call(&["hello", "--json"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let events: Vec<lifeboat::base::event::Event> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = format!("{:?}", events.last().unwrap().what);
    assert!(last.starts_with("RunEnded { exit: Success"), "{last}");
}

#[test]
fn a_dry_run_changes_nothing() {
    let project = Project::new();
    project.shows(
        &["hello", "--dry-run"],
        expect![[r#"
            exit 0
            --- stdout
            Dry run of hello

            Outside of steps
            ℹ️  INFO - the clock stands at 2025-11-10T02:00:00+00:00, since LIFEBOAT_NOW is set

            Say
            ℹ️  INFO - hello you, .

            0 actions planned; nothing was changed
        "#]],
    );
    let left: Vec<_> =
        std::fs::read_dir(project.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["playbooks"]);
}

#[test]
fn a_secret_is_not_taken_from_the_command_line() {
    let project = Project::new();
    let (code, out, err) = project.call(&["hello", "--password=hunter22"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(!err.contains("hunter22"), "{err}");
    project.shows(
        &["hello", "--password", "hunter22"],
        expect![[r#"
            exit 2
            --- stderr
            error: `--password` cannot be given on the command line: it is a secret
            caused by: everybody on this machine can read the words of a running command
            hint: Set `HELLO_PASSWORD` in the environment or in `.env`; if the secret was real, change it.
        "#]],
    );
}

#[test]
fn a_secret_is_told_to_nobody() {
    let project = Project::new();
    let secret = "s3cr3t/p@ss w0rd";
    for args in [
        &["hello"][..],
        &["hello", "--json"],
        &["hello", "--verbose"],
        &["show"],
        &["show", "--json"],
        &["logs"],
    ] {
        let output = project.command(args).env("HELLO_PASSWORD", secret).output().unwrap();
        let (code, out, err) = project.told(&output);
        assert_eq!(code, 0, "{err}");
        assert!(!format!("{out}{err}").contains(secret), "{args:?}: {out}{err}");
        assert!(format!("{out}{err}").contains("hello you, ***."), "{args:?}: {out}{err}");
    }
    for entry in walkdir::WalkDir::new(project.path()).into_iter().map(Result::unwrap) {
        if entry.file_type().is_file() {
            let text = std::fs::read(entry.path()).unwrap();
            assert!(!String::from_utf8_lossy(&text).contains("s3cr3t"), "{}", entry.path().display());
        }
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let project = Project::new();
    let mut child = project.command(&["doc"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn the_crontab_runs_this_very_program() {
    let project = Project::new();
    let (code, out, _) = project.call(&["schedule", "export", "cron"]);
    assert_eq!(code, 0);
    let line = format!(
        "0 2 * * * cd PROJECT && mkdir -p logs && {} run --scheduled '0 2 * * *' hello >> logs/cron-backup.log 2>&1\n",
        env!("CARGO_BIN_EXE_lifeboat")
    );
    assert!(out.contains(&line), "{out}");

    // The line does what it says when `sh` takes it, as cron does.
    let whole =
        String::from_utf8(project.command(&["schedule", "export", "cron"]).output().unwrap().stdout).unwrap();
    let line = whole.lines().find(|line| line.contains(" hello ")).unwrap();
    let job = line.trim_start_matches("0 2 * * * ");
    let status = Command::new("sh").args(["-c", job]).current_dir("/").env_clear().status().unwrap();
    let log = std::fs::read_to_string(project.path().join("logs/cron-backup.log")).unwrap_or_default();
    assert!(status.success(), "{job}: {log}");
    assert!(log.contains("hello cron,"), "{log}");
}

const SLOW: &str = r#"const PLAYBOOK = #{ summary: "Take long" };
step "Wait" { exec(["sleep", "60"]); }
"#;

/// Waits until a text stands in the log file of the project.
fn wait_for_log(project: &Project, text: &str) {
    let log = project.path().join("logs/backup-20251110.log");
    wait_for(text, || std::fs::read_to_string(&log).is_ok_and(|log| log.contains(text)));
}

fn signal(child: &std::process::Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn signals_end_a_run_with_their_exit_code() {
    for (name, exit, told) in [("-INT", 130, "was interrupted"), ("-TERM", 143, "was terminated")] {
        let project = Project::new();
        project.write("playbooks/slow.rhai", SLOW);
        let child = project.command(&["slow"]).stderr(Stdio::piped()).spawn().unwrap();
        wait_for_log(&project, "of slow begins");
        std::thread::sleep(std::time::Duration::from_millis(200));
        let began = std::time::Instant::now();
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        let (code, _, err) = project.told(&output);
        assert_eq!(code, exit, "{err}");
        assert!(err.contains(&format!("slow {told}")), "{err}");
        assert!(began.elapsed().as_secs() < 50, "it took {:?}", began.elapsed());
        let (_, out, _) = project.call(&["history", "--json"]);
        assert!(out.contains(&format!("\"exit\": {exit},")), "{out}");
    }
}

#[test]
fn a_followed_log_goes_on_until_it_is_interrupted() {
    let project = Project::new();
    assert_eq!(project.call(&["hello", "--name", "first"]).0, 0);
    let mut follower = project.command(&["logs", "--follow"]).stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(project.call(&["hello", "--name", "second"]).0, 0);
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("hello first,")));
    assert!(lines.any(|line| line.contains("hello second,")));
    signal(&follower, "-INT");
    assert_eq!(follower.wait().unwrap().code(), Some(0));
}

#[test]
fn on_a_terminal_it_draws_and_in_the_end_says_the_same() {
    let project = Project::new();
    let line = format!("{} hello --color never", env!("CARGO_BIN_EXE_lifeboat"));
    let mut terminal = project.command(&[]);
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).current_dir(project.path()).env_clear();
    for (name, value) in terminal.env("TERM", "xterm").get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let (code, out, _) = project.told(&command.stdin(Stdio::null()).output().unwrap());
    assert_eq!(code, 0);
    assert!(out.contains("ℹ️  INFO - hello you,"), "{out}");
    assert!(out.contains("✔ Say (TIME)"), "{out}");
    assert!(out.contains("✔ hello completed in TIME"), "{out}");
    assert!(!out.contains("▶ Say"), "the live view has spinners instead: {out}");
}
