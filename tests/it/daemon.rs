//! The daemon: real processes, real signals, real files, a real socket of systemd's protocol.

mod year;

use crate::aftermath::{nobody_survives, processes, wait_for};
use crate::cluster::all_tests;
use crate::project::TestProject;
use crate::receiver::Receiver;
use expect_test::expect;
use lifeboat::base::failure::Exit;
use lifeboat::base::schedule::Why;
use lifeboat::journal::reader::{self, RunState};
use lifeboat::journal::slots::{self, Became, Decision};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A daemon that is killed with the test.
struct Daemon<'a> {
    project: &'a TestProject,
    child: Child,
}

impl<'a> Daemon<'a> {
    fn start(project: &'a TestProject, args: &[&str]) -> Self {
        Self::start_with(project, args, &[])
    }

    /// Starts it, and waits until it is ready.
    #[track_caller]
    fn start_with(project: &'a TestProject, args: &[&str], env: &[(&str, &str)]) -> Self {
        let said = File::create(project.at("said")).unwrap();
        let args: Vec<&str> = ["daemon"].into_iter().chain(args.iter().copied()).collect();
        let mut command = project.command(&args);
        let child = command.envs(env.iter().copied()).stdout(Stdio::null()).stderr(said).spawn().unwrap();
        let daemon = Self { project, child };
        daemon.says("ready; ");
        daemon
    }

    fn all(&self) -> String {
        std::fs::read_to_string(self.project.at("said")).unwrap()
    }

    #[track_caller]
    fn says(&self, text: &str) {
        let began = Instant::now();
        while !self.all().contains(text) {
            assert!(began.elapsed() < Duration::from_secs(60), "not said: {text}\n{}", self.all());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Waits for its end; returns its exit code and what it said.
    #[track_caller]
    fn ended(mut self) -> (Option<i32>, String) {
        let mut status = None;
        wait_for("the daemon's end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        (status.unwrap().code(), self.all())
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A playbook that runs every so many seconds.
fn every(seconds: u32, more: &str, steps: &str) -> String {
    format!(
        "const PLAYBOOK = #{{ summary: \"x\", schedule: [#{{ cron: \"*/{seconds} * * * * *\", seconds: true, tz: \"UTC\"{more} }}] }};\n{steps}"
    )
}

fn decisions(project: &TestProject) -> Vec<Decision> {
    let since = chrono::DateTime::parse_from_rfc3339("2000-01-01T00:00:00Z").unwrap();
    slots::decisions(&project.at(".lifeboat"), since).unwrap()
}

fn begun(project: &TestProject) -> usize {
    decisions(project).iter().filter(|decision| decision.what == Became::Begun).count()
}

const TOUCH: &str = "step \"Touch\" { exec([\"sh\", \"-c\", \"echo ran >> ran\"]); }";
/// Takes as long as the test wants.
const SLOW: &str = "step \"Wait\" { exec([\"sh\", \"-c\", \": > begun; while [ ! -e go ]; do sleep 0.05; done\"]); }\n\
                    step \"Then\" { exec([\"touch\", \"then\"]); }";

#[test]
fn schedules_run_each_instant_once() {
    let project = TestProject::new().playbook("tick", &every(1, "", TOUCH));
    let daemon = Daemon::start(&project, &["tick"]);
    wait_for("three runs", || begun(&project) >= 3);
    daemon.signal("-TERM");
    let (code, said) = daemon.ended();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("INFO - ready; next: tick (`*/1 * * * * *`) at "), "{said}");
    assert!(said.contains("SUCCESS - tick (`*/1 * * * * *`) ended"), "{said}");
    let mut slots: Vec<_> = decisions(&project)
        .into_iter()
        .filter(|decision| decision.what == Became::Begun)
        .map(|decision| decision.slot)
        .collect();
    let all = slots.len();
    slots.dedup();
    assert_eq!(slots.len(), all, "an instant ran twice");
    let runs = reader::list(&project.at(".lifeboat")).unwrap();
    // The newest may have been asked to end before its first step.
    assert!(runs[1..].iter().all(|run| run.state == RunState::Ended(Exit::Success)), "{runs:?}");
    assert_eq!(runs.len(), all);
    nobody_survives(&project);
}

#[test]
fn what_comes_while_a_run_goes_on_is_left_out_and_the_current_step_may_end() {
    let project = TestProject::new().playbook("slow", &every(1, "", SLOW));
    let daemon = Daemon::start(&project, &["slow", "--grace", "1m"]);
    wait_for("the first step", || project.at("begun").exists());
    let over = |decision: &Decision| {
        matches!(&decision.what, Became::PassedOver { why: Why::Overlapped, by: Some(_), .. })
    };
    wait_for("an instant that is left out", || decisions(&project).iter().any(over));
    daemon.signal("-TERM");
    daemon.says("ends when ");
    // The run has been asked to end by now; it may need a moment to hear that.
    std::thread::sleep(Duration::from_secs(3));
    assert!(!processes(&project).is_empty());
    std::fs::write(project.at("go"), "").unwrap();
    let (code, said) = daemon.ended();
    assert_eq!(code, Some(0), "{said}");
    // The step ended, and the next one is for `resume`.
    assert!(!project.at("then").exists());
    assert!(said.contains("slow (`*/1 * * * * *`) ended with exit code 143"), "{said}");
    assert!(said.contains("ended with exit code 11"), "{said}");
    nobody_survives(&project);
    project.run(&["resume"]).exits(0);
    assert!(project.at("then").exists());
}

#[test]
fn a_second_signal_does_not_wait_for_steps() {
    let project = TestProject::new().playbook("slow", &every(1, "", SLOW));
    let daemon = Daemon::start(&project, &["slow", "--grace", "10m"]);
    wait_for("the first step", || project.at("begun").exists());
    daemon.signal("-TERM");
    daemon.says("ends when ");
    daemon.signal("-TERM");
    assert_eq!(daemon.ended().0, Some(0));
    nobody_survives(&project);
}

#[test]
fn output_that_nobody_reads_stops_no_backup() {
    let project = TestProject::new().playbook("tick", &every(1, "", TOUCH));
    let (_reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
    let mut writer = File::from(writer);
    while writer.write(&[b'x'; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::empty()).unwrap();
    let mut command = project.command(&["daemon", "tick"]);
    let child =
        command.stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
    let daemon = Daemon { project: &project, child };
    wait_for("a run", || project.at("ran").exists());
    daemon.signal("-TERM");
    let mut daemon = daemon;
    wait_for("the end", || daemon.child.try_wait().unwrap().is_some());
    nobody_survives(&project);
}

#[test]
fn a_run_that_is_killed_is_told_at_once() {
    let receiver = Receiver::new();
    let project =
        TestProject::new().playbook("slow", &every(1, "", SLOW)).env("BACKUP_WEBHOOK_URL", receiver.url());
    let daemon = Daemon::start(&project, &["slow"]);
    wait_for("the first step", || project.at("begun").exists());
    let (_, pid) = reader::running(&project.at(".lifeboat"), "slow").unwrap().expect("it runs");
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    daemon.says("was killed by signal 9");
    wait_for("the alert", || !receiver.messages("slow was killed: run ").is_empty());
    std::fs::write(project.at("go"), "").unwrap();
    daemon.signal("-TERM");
    assert_eq!(daemon.ended().0, Some(0));
}

#[test]
fn changed_files_run_their_playbook_once_for_many_changes() {
    let header = "const PLAYBOOK = #{ summary: \"x\", watch: [\".env\", \"config/**\"] };\n";
    let project = TestProject::new()
        .file(".env", "A=1\n")
        .file("config/a.yml", "a\n")
        .playbook("follow", &format!("{header}{TOUCH}"));
    let daemon = Daemon::start(&project, &["follow"]);
    let ran = || std::fs::read_to_string(project.at("ran")).unwrap_or_default().lines().count();
    std::thread::sleep(Duration::from_millis(300));
    let ended = || daemon.all().matches("SUCCESS - follow (files changed) ended").count();
    // A pause ends a series of changes, and a busy machine may make one.
    let mut before = 0;
    for round in 0.. {
        let began = Instant::now();
        for n in 0..20 {
            std::fs::write(project.at("config/a.yml"), format!("{round} {n}\n")).unwrap();
        }
        // As editors do: a new file takes the name.
        std::fs::write(project.at("new"), format!("A={round}2\n")).unwrap();
        std::fs::rename(project.at("new"), project.at(".env")).unwrap();
        let is_series = began.elapsed() < Duration::from_millis(200);
        daemon.says("changed: ");
        wait_for("the run", || ended() > before);
        std::thread::sleep(Duration::from_millis(700));
        if is_series {
            assert_eq!(ran(), before + 1, "{}", daemon.all());
            break;
        }
        wait_for("the end of all runs", || ended() == ran());
        before = ran();
    }
    let before = ran();
    // Neither touching nor a change of the playbook itself runs it.
    File::options()
        .append(true)
        .open(project.at(".env"))
        .unwrap()
        .set_modified(std::time::SystemTime::now())
        .unwrap();
    std::fs::write(project.at("playbooks/follow.rhai"), format!("{header}{TOUCH}\n// other\n")).unwrap();
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(ran(), before, "{}", daemon.all());
    std::fs::write(project.at("config/b.yml"), "new\n").unwrap();
    wait_for("the second run", || ran() == before + 1);
    daemon.signal("-INT");
    assert_eq!(daemon.ended().0, Some(0));
}

#[test]
fn files_are_looked_at_where_the_system_tells_of_no_changes() {
    // A user namespace may have limits of its own.
    let limit = "echo 0 > /proc/sys/user/max_inotify_instances";
    let unshared = |script: &str| ["-r", "sh", "-c", script].map(str::to_owned);
    if !Command::new("unshare").args(unshared(limit)).output().is_ok_and(|output| output.status.success()) {
        assert!(!all_tests(), "this machine has no user namespaces");
        return;
    }
    let project = TestProject::new()
        .file("a.yml", "a\n")
        .playbook("follow", &format!("const PLAYBOOK = #{{ summary: \"x\", watch: [\"a.yml\"] }};\n{TOUCH}"));
    let said = File::create(project.at("said")).unwrap();
    let daemon = project.command(&["daemon", "follow"]);
    let program = daemon.get_program().to_str().unwrap();
    let mut command = Command::new("unshare");
    command.args(unshared(&format!("{limit}; exec '{program}' daemon follow")));
    command.current_dir(project.path()).env_clear();
    command.envs(daemon.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).spawn().unwrap();
    let daemon = Daemon { project: &project, child };
    daemon.says("WARN - the files of follow are looked at every 2 s: cannot watch files");
    std::fs::write(project.at("a.yml"), "b\n").unwrap();
    wait_for("the run", || project.at("ran").exists());
    daemon.signal("-TERM");
    assert_eq!(daemon.ended().0, Some(0));
}

#[test]
fn a_change_while_its_run_is_on_makes_one_more() {
    let header = "const PLAYBOOK = #{ summary: \"x\", watch: [\"config/**\"] };\n";
    let steps = "step \"Run\" { exec([\"sh\", \"-c\", \"echo ran >> ran; : > begun; while [ ! -e go ]; do sleep 0.05; done\"]); }";
    let project =
        TestProject::new().file("config/a.yml", "a\n").playbook("follow", &format!("{header}{steps}"));
    let daemon = Daemon::start(&project, &[]);
    std::thread::sleep(Duration::from_millis(300));
    std::fs::write(project.at("config/a.yml"), "b\n").unwrap();
    wait_for("the first run", || project.at("begun").exists());
    for n in 0..3 {
        std::fs::write(project.at("config/a.yml"), format!("{n}\n")).unwrap();
        std::thread::sleep(Duration::from_millis(400));
    }
    // A change in one piece, which is told after all others.
    std::fs::write(project.at("last"), "last\n").unwrap();
    std::fs::rename(project.at("last"), project.at("config/last.yml")).unwrap();
    daemon.says("last.yml");
    std::fs::write(project.at("go"), "").unwrap();
    let ran = || std::fs::read_to_string(project.at("ran")).unwrap().lines().count();
    wait_for("one more run", || ran() == 2);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(ran(), 2, "{}", daemon.all());
}

#[test]
fn a_broken_playbook_keeps_the_old_set_and_is_told() {
    let receiver = Receiver::new();
    let project =
        TestProject::new().playbook("tick", &every(1, "", TOUCH)).env("BACKUP_WEBHOOK_URL", receiver.url());
    let daemon = Daemon::start(&project, &["tick"]);
    let good = std::fs::read_to_string(project.at("playbooks/tick.rhai")).unwrap();
    std::fs::write(project.at("playbooks/tick.rhai"), good.replace("exec", "exce")).unwrap();
    daemon.signal("-HUP");
    daemon.says("the schedules of the daemon stay as they were: `tick` is broken");
    let kept = "the schedules of the daemon stay as they were: `tick` is broken";
    wait_for("the alert", || !receiver.messages(kept).is_empty());
    // Its runs are tried all the same, and tell once that they cannot begin.
    wait_for("the alert of a run", || !receiver.messages("tick failed").is_empty());
    std::fs::write(project.at("playbooks/tick.rhai"), good.replace("*/1 ", "*/2 ")).unwrap();
    daemon.signal("-HUP");
    daemon.says("read again; next: tick (`*/2 * * * * *`) at ");
    daemon.signal("-TERM");
    assert_eq!(daemon.ended().0, Some(0));
}

#[test]
fn a_set_without_anything_to_do_keeps_the_old_one() {
    let project = TestProject::new().playbook("tick", &every(1, "", TOUCH));
    let daemon = Daemon::start(&project, &["tick"]);
    std::fs::write(project.at("playbooks/tick.rhai"), "const PLAYBOOK = #{ summary: \"x\" };\n1;").unwrap();
    daemon.signal("-HUP");
    daemon.says("the schedules of the daemon stay as they were: there is nothing to do for a daemon");
}

#[test]
fn schedules_and_playbooks_that_are_gone_are_not_missed() {
    let daily = "const PLAYBOOK = #{ summary: \"x\", schedule: [#{ cron: \"0 2 * * *\" }] };\n1;";
    let project = TestProject::new().playbook("p", daily).playbook("q", daily).playbook("r", daily);
    let marks = || project.names(".lifeboat/schedule").iter().filter(|name| name.ends_with(".json")).count();
    let daemon = Daemon::start(&project, &[]);
    let before = marks();
    std::fs::write(project.at("playbooks/p.rhai"), "const PLAYBOOK = #{ summary: \"x\" };\n1;").unwrap();
    std::fs::remove_file(project.at("playbooks/q.rhai")).unwrap();
    daemon.signal("-HUP");
    daemon.says("read again; ");
    assert_eq!(marks(), before - 2);
}

#[test]
fn what_the_daemon_missed_is_made_up_for() {
    let schedule = ", missed: \"once\"";
    let project = TestProject::new().playbook("tick", &every(1, schedule, TOUCH));
    let daemon = Daemon::start(&project, &["tick"]);
    wait_for("a run", || begun(&project) >= 1);
    daemon.signal("-TERM");
    daemon.ended();
    std::thread::sleep(Duration::from_millis(2500));
    let daemon = Daemon::start(&project, &["tick"]);
    let missed = |decision: &Decision| matches!(&decision.what, Became::PassedOver { why: Why::Missed, count, .. } if *count >= 1);
    wait_for("what was missed", || decisions(&project).iter().any(missed));
    daemon.signal("-TERM");
    daemon.ended();
}

#[test]
fn systemd_is_told_and_health_is_served() {
    let project = TestProject::new().playbook("tick", &every(30, "", TOUCH));
    let path = project.at("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let env = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "600000")];
    let daemon = Daemon::start_with(&project, &["tick", "--listen", "127.0.0.1:0"], &env);
    let mut heard: Vec<String> = Vec::new();
    let mut hear = |wanted: &str| {
        let mut buffer = [0; 4096];
        while !heard.iter().any(|told| told.contains(wanted)) {
            let n = socket.recv(&mut buffer).unwrap_or_else(|_| panic!("not told: {wanted}: {heard:?}"));
            heard.push(String::from_utf8_lossy(&buffer[..n]).into_owned());
        }
        heard.retain(|told| !told.contains(wanted));
    };
    hear("READY=1\nSTATUS=next: tick (`*/30 * * * * *`) at ");
    (0..3).for_each(|_| hear("WATCHDOG=1"));
    daemon.signal("-HUP");
    hear("RELOADING=1\nMONOTONIC_USEC=");
    hear("READY=1");
    let said = daemon.all();
    let address = said.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
    let ask = |path: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    };
    assert_eq!(ask("/healthz"), "ok\n");
    let metrics = ask("/metrics");
    assert!(metrics.contains("\nlifeboat_build_info{version=\""), "{metrics}");
    assert!(metrics.contains("\n# TYPE lifeboat_health_status gauge\n"), "{metrics}");
    daemon.signal("-TERM");
    hear("STOPPING=1\nSTATUS=ends");
    assert_eq!(daemon.ended().0, Some(0));
}

#[test]
fn an_address_that_is_taken_and_a_channel_that_does_not_answer_keep_nothing_from_running() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    // Connections are taken, and never answered.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let project = TestProject::new()
        .playbook("tick", &every(1, "", TOUCH))
        .playbook("broken", &every(1, "", "exce();"))
        .env("BACKUP_WEBHOOK_URL", format!("http://{}/", deaf.local_addr().unwrap()));
    let daemon = Daemon::start(&project, &["tick", "broken", "--listen", &address]);
    daemon.says(&format!(
        "ERROR - metrics are not served, which is tried each minute: cannot listen on `{address}`"
    ));
    wait_for("a run", || project.at("ran").exists());
    // No alert was given up meanwhile: the daemon did not wait for them.
    assert!(!daemon.all().contains("was not delivered"), "{}", daemon.all());
}

#[test]
fn a_daemon_that_cannot_start_is_told() {
    let receiver = Receiver::new();
    let project = TestProject::new()
        .playbook("tick", "const PLAYBOOK = #{ summary: \"x\", schedule: [#{ cron: \"0 2 * * *\" }] };\n1;")
        .env("BACKUP_WEBHOOK_URL", receiver.url())
        .env("TZ", "CET-1CEST");
    project.run(&["daemon"]).exits(2);
    let told = "the daemon does not run: `CET-1CEST` in TZ is not the name of a time zone";
    assert_eq!(receiver.messages(told).len(), 1);
}

#[test]
fn what_a_daemon_cannot_do_is_told() {
    let project = TestProject::new().playbook("tick", &every(30, "", TOUCH)).playbook("still", "1;");
    expect![[r#"
        exit 2
        error: there is nothing to do for a daemon
        caused by: no playbook has a `schedule` or a `watch` in its header
        hint: Add `schedule: [#{ cron: "0 2 * * *" }]` to the header of a playbook.
    "#]]
    .assert_eq(&project.told(&project.run(&["daemon", "still"])));
    expect![[r#"
        exit 2
        error: a daemon has no dry run
        hint: `lifeboat schedule` shows what would run when.
    "#]]
    .assert_eq(&project.told(&project.run(&["--dry-run", "daemon"])));
    let daemon = Daemon::start(&project, &["tick"]);
    let second = project.run(&["daemon", "tick"]).exits(11);
    assert_eq!(
        second.stderr,
        format!(
            "error: the project has a daemon already\ncaused by: process {}\nhint: Stop that one first, or let it go on: \
             one daemon runs all schedules of a project.\n",
            daemon.child.id()
        )
    );
}

/// What `/proc` says of a process: resident memory in KiB, open files, children.
fn footprint(pid: u32) -> (u64, usize, usize) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let rss = rss.trim().trim_end_matches(" kB").parse().unwrap();
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    (rss, files, children.split_whitespace().count())
}

#[test]
fn a_daemon_that_works_on_and_on_grows_in_nothing() {
    let project = TestProject::in_memory()
        .playbook("tick", &every(1, "", TOUCH))
        .playbook("tock", &every(1, ", overlap: \"queue\"", TOUCH))
        .playbook("fails", &every(2, "", "step \"Fail\" { exec([\"false\"]); }"));
    let daemon = Daemon::start(&project, &["tick", "tock", "fails", "--listen", "127.0.0.1:0"]);
    let pid = daemon.child.id();
    let rounds = if all_tests() { 300 } else { 8 };
    let wait_for_runs = |runs: usize| {
        let began = Instant::now();
        while begun(&project) < runs {
            assert!(began.elapsed() < Duration::from_secs(900), "{}", daemon.all());
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    wait_for_runs(6);
    let (rss, files, _) = footprint(pid);
    wait_for_runs(6 + rounds);
    // Between two instants nothing runs.
    let mut later = footprint(pid);
    wait_for("a moment of rest", || {
        later = footprint(pid);
        later.2 == 0
    });
    assert!(later.0 < rss + 8 * 1024, "memory: {rss} KiB, then {} KiB", later.0);
    assert!(later.1 <= files + 3, "files: {files}, then {}", later.1);
    daemon.signal("-TERM");
    assert_eq!(daemon.ended().0, Some(0));
    nobody_survives(&project);
}
