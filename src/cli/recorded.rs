//! Records of runs that tests of several commands show.

use crate::base::event::{Event, EventSink, Mode, What};
use crate::base::failure::Exit;
use crate::base::ids::RunId;
use crate::cli::lines::example;
use crate::journal::store::{NewRun, RunRecord};
use crate::sys::env::Env;
use crate::sys::host::Host;
use crate::sys::state::Reserve;
use std::collections::BTreeMap;
use std::path::Path;

/// One run that succeeded, one that was killed, one that failed; in this order, a minute apart.
pub fn three_runs(project: &Path) {
    let ended = |exit, failure| What::RunEnded {
        exit,
        millis: 222_000,
        failure,
        warnings: vec!["Announce: cannot connect".into()],
        value: None,
    };
    record(
        project,
        "02:00",
        "abcdef",
        "backup_config",
        vec![ended(Exit::Success, None)],
        Some(Exit::Success),
    );
    record(project, "02:01", "kkkkkk", "backup_database", vec![], None);
    let mut events = example::failed_run();
    let mut failure = example::failure();
    failure.step = Some("Rotate".into());
    events.push(ended(Exit::Failed, Some(failure)));
    record(project, "02:02", "mmmmmm", "backup_database", events, Some(Exit::Failed));
}

fn record(project: &Path, time: &str, letters: &str, playbook: &str, events: Vec<What>, exit: Option<Exit>) {
    let now = format!("2025-11-10T{time}:00+00:00");
    let env = Env::of(BTreeMap::from([("LIFEBOAT_NOW".to_owned(), now)]), BTreeMap::new());
    let host = Host::new(project.to_path_buf(), project.join(".lifeboat"), env);
    let run = RunId::parse(&format!("20251110-{}00-{letters}", time.replace(':', ""))).unwrap();
    let new = NewRun {
        run: &run,
        playbook,
        file: "playbooks/p.rhai",
        source: "  dump(db)\n",
        modules: &[],
        mode: Mode::Live,
        reserve: Reserve::Own,
    };
    let record = RunRecord::begin(&host, &new).unwrap();
    for what in events {
        record.event(&Event::new(host.clock().now().fixed_offset(), what));
    }
    if let Some(exit) = exit {
        record.end(exit).unwrap();
    }
}
