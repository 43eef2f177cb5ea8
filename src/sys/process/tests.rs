use super::*;
use crate::base::cancel::Reason;
use crate::base::event::{Event, EventSink, What};
use crate::sys::env::Env;
use std::io::Read as _;
use std::sync::Mutex;
use std::time::Instant;

#[derive(Default)]
struct Sink(Mutex<Vec<Event>>);

impl EventSink for Sink {
    fn event(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

struct Bench {
    dir: tempfile::TempDir,
    host: Arc<Host>,
    sink: Arc<Sink>,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let env = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    let env = Env::of(
        env(&[("PATH", "/usr/bin:/bin"), ("HOME", "/nowhere"), ("PGPASSWORD", "kept back"), ("LC_ALL", "C")]),
        env(&[("DOT", "env")]),
    );
    let host = Arc::new(Host::new(dir.path().to_path_buf(), dir.path().join(".lifeboat"), env));
    let sink = Arc::new(Sink::default());
    host.listen(sink.clone());
    Bench { dir, host, sink }
}

impl Bench {
    fn sh(&self, script: &str) -> Result<Ended, Failure> {
        sh(script).run(&self.host)
    }

    fn lines(&self) -> Vec<String> {
        let events = self.sink.0.lock().unwrap();
        let line = |event: &Event| match &event.what {
            What::Output { program, stream, line } => Some(format!("{program} {stream}: {line}")),
            _ => None,
        };
        events.iter().filter_map(line).collect()
    }
}

/// A command that sleeps long and that no other test, nor another run of this one, has.
fn sleeper(number: u32) -> String {
    sleeper_of(number, std::process::id())
}

fn sleeper_of(number: u32, pid: u32) -> String {
    format!("sleep {number}.{pid:07}")
}

fn sh(script: &str) -> Command {
    Command::new("sh").args(["-c", script])
}

/// Processes whose command line holds `mark`.
fn alive(mark: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(mark))
        .collect()
}

fn wait_for(mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(60), "waited in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn output_and_status_come_back() {
    let bench = bench();
    let ended = bench.sh("echo out; echo err >&2; exit 3").unwrap();
    assert_eq!((ended.status, ended.success()), (Status::Code(3), false));
    assert_eq!((ended.stdout.text.as_str(), ended.stderr.text.as_str()), ("out\n", "err\n"));
    let mut lines = bench.lines();
    lines.sort();
    assert_eq!(lines, ["sh stderr: err", "sh stdout: out"]);
    let failure = ended.checked().unwrap_err();
    assert_eq!(failure.code, Code::ProcessFailed);
    assert_eq!(failure.to_string(), "`sh` exited with status 3: err");
}

#[test]
fn a_failure_quotes_the_last_lines() {
    let failure = bench().sh("seq 9 >&2; printf 'last, \\033[31mred\\033[0m' >&2; exit 1").unwrap().failure();
    assert_eq!(failure.causes, ["6", "7", "8", "9", "last, red"]);
    let failure = bench().sh("echo said on stdout; exit 1").unwrap().failure();
    assert_eq!(failure.causes, ["said on stdout"]);
}

#[test]
fn a_signal_is_named() {
    let ended = bench().sh("kill -9 $$").unwrap();
    assert_eq!(ended.status, Status::Signal(9));
    assert_eq!(ended.failure().message, "`sh` was ended by signal 9 (SIGKILL)");
}

#[test]
fn children_get_a_clean_environment_and_the_project_as_folder() {
    let bench = bench();
    let ended = sh("unset OLDPWD PWD SHLVL _; env; pwd")
        .env("GIVEN", Value::Plain("plain".into()))
        .env("HOME", Value::Plain("/elsewhere".into()))
        .run(&bench.host)
        .unwrap();
    let mut lines: Vec<&str> = ended.stdout.text.lines().collect();
    let folder = lines.pop().unwrap();
    lines.sort_unstable();
    assert_eq!(lines, ["GIVEN=plain", "HOME=/elsewhere", "LC_ALL=C", "PATH=/usr/bin:/bin"]);
    assert_eq!(folder, bench.dir.path().canonicalize().unwrap().display().to_string());
}

#[test]
fn secrets_go_by_environment_or_input_and_are_masked_in_all_they_print() {
    let bench = bench();
    let secret = Secret::new("s3cr3t/p@ss w0rd");
    let ended =
        sh("cat /proc/$$/cmdline | tr '\\0' ' '; echo; echo \"$PW\"; echo 's3cr3t%2Fp''%40ss%20w0rd'; \
                    echo 's3cr3t/p@''ss\\ w0rd' >&2; cat; exit 1")
        .env("PW", Value::Secret(secret))
        .input(Input::Secret(Secret::new("typed by hand")))
        .run(&bench.host)
        .unwrap();
    let line = ended.stdout.text.lines().next().unwrap();
    assert!(line.contains("sh -c cat"), "{line}");
    assert!(!line.contains("***"), "{line}");
    let rest: Vec<&str> = ended.stdout.text.lines().skip(1).collect();
    assert_eq!(rest, ["***", "***", "***"]);
    assert_eq!(ended.failure().causes, ["***"]);
    let said = format!("{:?}{:?}", bench.lines(), bench.sink.0.lock().unwrap());
    for form in ["s3cr3t/p@ss w0rd", "s3cr3t%2Fp%40ss%20w0rd", "s3cr3t/p@ss\\ w0rd", "typed by hand"] {
        assert!(!said.contains(form), "{said}");
    }
}

#[test]
fn the_command_line_of_the_child_holds_no_secret() {
    let bench = bench();
    let child = sh("sleep 417").env("PW", Value::Secret(Secret::new("hunter22"))).spawn(&bench.host).unwrap();
    let line = std::fs::read(format!("/proc/{}/cmdline", child.id())).unwrap();
    let environ = std::fs::read(format!("/proc/{}/environ", child.id())).unwrap();
    let holds = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains("hunter22");
    assert!(holds(&environ) && !holds(&line));
}

#[test]
fn an_argument_that_holds_a_secret_is_refused() {
    let bench = bench();
    bench.host.masker().add(&Secret::new("hunter22"));
    let given = Command::new("true").env("PW", Value::Secret(Secret::new("a/b c"))).arg("--pw=a%2Fb%20c");
    assert_eq!(given.run(&bench.host).unwrap_err().message, "an argument of `true` holds a secret");
    let failure = Command::new("curl").arg("--user=app:hunter22").run(&bench.host).unwrap_err();
    assert_eq!(
        (failure.code, failure.message.as_str()),
        (Code::Usage, "an argument of `curl` holds a secret")
    );
    assert_eq!(failure.causes, ["the argument `--user=app:***` would show it to every user of this machine"]);
    assert_eq!(
        failure.hints,
        ["Pass the secret with the option `env`, or as `input`, and let the program read it there."]
    );
}

#[test]
fn a_secret_of_several_lines_is_masked_in_text_and_in_lines() {
    let bench = bench();
    let key = "-----BEGIN KEY-----\nabcdefgh\nijklmnop\n-----END KEY-----";
    let ended = sh("echo before; echo \"$KEY\"; echo after")
        .env("KEY", Value::Secret(Secret::new(key)))
        .run(&bench.host)
        .unwrap();
    assert_eq!(ended.stdout.text, "before\n***\nafter\n");
    let lines = bench.lines();
    assert_eq!(lines[1..5], ["sh stdout: ***", "sh stdout: ***", "sh stdout: ***", "sh stdout: ***"]);
}

#[test]
fn much_output_is_cut_and_says_so() {
    let bench = bench();
    let ended = sh("yes 0123456789 | head -c 400000; echo; echo end").keep(1000).run(&bench.host).unwrap();
    assert!(ended.stdout.truncated);
    assert!(ended.stdout.text.starts_with("(the first 389.7 KiB are left out)\n"), "{}", ended.stdout.text);
    assert!(ended.stdout.text.ends_with("0123456789\n0123\nend\n") || ended.stdout.text.ends_with("\nend\n"));
    assert_eq!(ended.stdout.text.lines().skip(1).map(|l| l.len() + 1).sum::<usize>(), 1000);
    let lines = bench.lines();
    assert_eq!(lines.len(), 10_001);
    assert_eq!(lines[10_000], "sh stdout: (further lines are not shown)");
}

#[test]
fn input_reaches_the_child_and_need_not_be_read() {
    let bench = bench();
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| b'a' + (n % 26) as u8).collect();
    let ended = Command::new("wc").arg("-c").input(Input::Bytes(bytes.clone())).run(&bench.host).unwrap();
    assert_eq!(ended.stdout.text.trim(), "300000");
    assert!(Command::new("true").input(Input::Bytes(bytes)).run(&bench.host).unwrap().success());
    assert_eq!(bench.sh("cat; echo done").unwrap().stdout.text, "done\n");
}

#[test]
fn cancelling_ends_the_whole_tree_at_once() {
    let bench = bench();
    let host = bench.host.clone();
    let sleep = sleeper(901);
    let command = sh(&format!("{sleep} & {sleep}; echo survived"));
    let run = std::thread::spawn(move || command.run(&host));
    wait_for(|| alive(&sleep).len() >= 3);
    let began = Instant::now();
    bench.host.cancel().cancel(Reason::Terminated);
    let failure = run.join().unwrap().unwrap_err();
    assert_eq!((failure.code, failure.message.as_str()), (Code::Terminated, "terminated"));
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(alive(&sleep), Vec::<String>::new());
    let failure = bench.sh("echo not any more").unwrap_err();
    assert_eq!(failure.code, Code::Terminated);
}

#[test]
fn what_does_not_heed_sigterm_is_killed_after_the_grace() {
    let bench = bench();
    let host = bench.host.clone();
    // The child goes at once; its descendant does not, and must not be forgotten.
    let sleep = sleeper(905);
    let script =
        format!("sh -c 'trap \"\" TERM; echo ready; while :; do sleep 0.01 & wait; done' '{sleep}' & wait");
    let command = sh(&script).grace(Duration::from_millis(300));
    let run = std::thread::spawn(move || command.run(&host));
    wait_for(|| !bench.lines().is_empty());
    let began = Instant::now();
    bench.host.cancel().cancel(Reason::Interrupted);
    assert_eq!(run.join().unwrap().unwrap_err().code, Code::Interrupted);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(30), "{took:?}");
    wait_for(|| alive(&sleep).is_empty());
}

#[test]
fn a_stopped_child_ends_too() {
    let bench = bench();
    let began = Instant::now();
    let failure = sh("kill -STOP $$").timeout(Duration::from_millis(200)).run(&bench.host).unwrap_err();
    assert_eq!(failure.code, Code::TimedOut);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[test]
fn a_time_limit_ends_the_child() {
    let sleep = sleeper(902);
    let failure = sh(&format!("echo waiting for the lock >&2; {sleep}"))
        .timeout(Duration::from_secs(2))
        .run(&bench().host)
        .unwrap_err();
    assert_eq!(
        (failure.code, failure.to_string()),
        (Code::TimedOut, "`sh` did not end within 2.0 s: waiting for the lock".to_owned())
    );
    assert_eq!(alive(&sleep), Vec::<String>::new());
}

#[test]
fn a_descendant_that_keeps_the_pipe_does_not_hold_the_run() {
    let bench = bench();
    let sleep = sleeper(903);
    let began = Instant::now();
    let ended = bench.sh(&format!("echo first; {sleep} & echo $!")).unwrap();
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    let (first, pid) = ended.stdout.text.trim().split_once('\n').unwrap();
    assert_eq!(first, "first");
    // What a command leaves running on purpose goes on.
    assert!(!alive(&sleep).is_empty());
    Command::new("kill").arg(pid).run(&bench.host).unwrap();
}

#[test]
fn a_child_that_nobody_waits_for_is_ended() {
    let bench = bench();
    let sleep = sleeper(904);
    let child = sh(&format!("{sleep} & {sleep}")).spawn(&bench.host).unwrap();
    wait_for(|| alive(&sleep).len() >= 3);
    drop(child);
    assert_eq!(alive(&sleep), Vec::<String>::new());
}

#[test]
fn children_are_reaped_and_leave_no_thread() {
    let bench = bench();
    let mut started = Vec::new();
    for _ in 0..20 {
        started.push(bench.sh("echo $$").unwrap().stdout.text.trim().to_owned());
    }
    let me = std::process::id().to_string();
    let is_zombie = |pid: &&String| {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
            let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
            fields[0] == "Z" && fields[1] == me
        })
    };
    assert_eq!(started.iter().filter(is_zombie).count(), 0, "{started:?}");
}

#[test]
fn a_child_has_no_terminal_to_ask() {
    let ended =
        bench().sh("ps -o sid= -p $$ | tr -d ' '; echo $$; (echo asked > /dev/tty) 2>/dev/null || echo none");
    let text = ended.unwrap().stdout.text;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[0], lines[2]), (lines[1], "none"));
}

#[test]
fn a_stream_ends_with_the_child() {
    let bench = bench();
    let (child, mut stdout) = sh("seq 200000; echo talk >&2").spawn_streaming(&bench.host).unwrap();
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().count(), 200_000);
    let ended = child.wait().unwrap().checked().unwrap();
    assert_eq!((ended.stdout.text.as_str(), ended.stderr.text.as_str()), ("", "talk\n"));
    assert_eq!(bench.lines(), ["sh stderr: talk"]);
}

#[test]
fn a_stream_of_a_cancelled_child_ends_in_an_error_and_never_in_silence() {
    let bench = bench();
    let (child, mut stdout) = sh("echo half; sleep 90715").spawn_streaming(&bench.host).unwrap();
    let mut half = [0; 5];
    stdout.read_exact(&mut half).unwrap();
    let cancel = bench.host.cancel().clone();
    let later = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        cancel.cancel(Reason::Interrupted);
    });
    let error = stdout.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "interrupted");
    let failure = error.into_inner().unwrap().downcast::<Failure>().unwrap();
    assert_eq!(failure.code, Code::Interrupted);
    assert_eq!(child.wait().unwrap_err().code, Code::Interrupted);
    later.join().unwrap();
}

#[test]
fn a_stream_that_nobody_reads_ends_the_child() {
    let (child, stdout) = Command::new("yes").spawn_streaming(&bench().host).unwrap();
    drop(stdout);
    assert_eq!(child.wait().unwrap().failure().message, "`yes` was ended by signal 13 (SIGPIPE)");
}

#[test]
fn a_stream_held_by_a_descendant_ends_after_the_child() {
    let bench = bench();
    let (child, mut stdout) = sh("echo out; sleep 90816 & echo $! >&2").spawn_streaming(&bench.host).unwrap();
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(text, "out\n");
    let ended = child.wait().unwrap();
    Command::new("kill").arg(ended.stderr.text.trim()).run(&bench.host).unwrap();
}

#[test]
fn what_cannot_start_says_why() {
    let bench = bench();
    let said = |command: Command| {
        let failure = command.run(&bench.host).unwrap_err();
        (failure.code, failure.to_string(), failure.hints)
    };
    let shown = bench.dir.path().display();
    let (code, text, _) = said(Command::new("frobnicate"));
    assert_eq!(code, Code::ProgramMissing);
    assert_eq!(text, "`frobnicate` not found: no folder of PATH holds it: /usr/bin:/bin");
    let (code, text, _) = said(Command::new("true").cwd("gone"));
    assert_eq!(code, Code::NotFound);
    assert_eq!(text, format!("cannot enter the folder `{shown}/gone`: no such file or folder"));
    // Another process writes the files: a descriptor of this one, inherited by a concurrent fork, would make them busy.
    bench.sh("printf '#!/none/sh\\n' > lost; chmod +x lost").unwrap();
    let (_, text, hints) = said(Command::new("./lost"));
    assert_eq!(
        text,
        format!("cannot run `{shown}/./lost`: the interpreter that its first line names does not exist")
    );
    assert_eq!(hints, ["Correct the line that begins with `#!`, or install that interpreter."]);
    let (_, text, hints) = said(Command::new("echo").arg("x".repeat(1 << 18)));
    assert_eq!(text, "cannot run `/usr/bin/echo`: arguments and environment are too long");
    assert_eq!(hints, ["Pass long data with the option `input`."]);
}

/// Set, to the process id of the test, in a copy of its binary that is to start a child and be killed.
const DOOMED: &str = "LIFEBOAT_TEST_DOOMED";

#[test]
fn a_killed_parent_takes_its_child_along() {
    if let Ok(pid) = std::env::var(DOOMED) {
        let _ = sh(&format!("exec {}", sleeper_of(906, pid.parse().unwrap()))).run(&bench().host);
        return;
    }
    let sleep = sleeper(906);
    let mut doomed = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sys::process::tests::a_killed_parent_takes_its_child_along"])
        .env(DOOMED, std::process::id().to_string())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait_for(|| !alive(&sleep).is_empty());
    doomed.kill().unwrap();
    doomed.wait().unwrap();
    wait_for(|| alive(&sleep).is_empty());
}
