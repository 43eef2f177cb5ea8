//! `lifeboat run --scheduled`: the run of a schedule, started by cron, systemd, the daemon or a person.

use crate::base::cancel::{Cancel, Reason};
use crate::base::diagnostic::did_you_mean;
use crate::base::event::{Event, EventSink, Events, Mode, What};
use crate::base::failure::{Code, Exit, Failure};
use crate::base::ids::RunId;
use crate::base::notice::Kind;
use crate::base::schedule::{Passed, Scheduled, Timetable, Why};
use crate::cli::global::{Context, Global};
use crate::cli::run::{self, Asked, How, Stopped};
use crate::cli::sinks::PlainSink;
use crate::daemon::orders;
use crate::daemon::turn::{Machine, Taken, Turn};
use crate::engine::alert::{self, Raised};
use crate::journal::slots::{self, Beginning};
use crate::script::header::{Header, Schedule};
use crate::script::library::Playbook;
use crate::script::parameters::Given;
use crate::sys::host::Host;
use crate::sys::signals;
use chrono::Utc;
use std::ffi::OsString;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How an instant is shown.
const TIME: &str = "%Y-%m-%d %H:%M %:z";

/// Runs what is due of a schedule.
pub fn run(name: &str, words: &[OsString], how: &How, global: &Global) -> Result<Exit, Stopped> {
    let ended = work(name, words, how, global);
    if let Err(Stopped::Failure(failure)) = &ended
        // Whoever asked for the end knows.
        && !matches!(failure.code, Code::Interrupted | Code::Terminated)
    {
        // What keeps the alert from being sent is no more than that.
        let _ = alarm(words, failure, global);
    }
    ended
}

fn work(name: &str, words: &[OsString], how: &How, global: &Global) -> Result<Exit, Stopped> {
    let asked = run::ask(words, global, "lifeboat run")?;
    let Asked { playbook, given, cx, .. } = &asked;
    let schedule = find(&asked.header, name, &playbook.name)?;
    let timetable = schedule.timetable(orders::zone(schedule)?)?;
    let mut with = schedule.given();
    with.extend(given.clone());
    let cancel = Cancel::new();
    if cx.global.dry_run {
        return rehearse(&asked, &timetable, schedule, &with, &cancel).map_err(Stopped::from);
    }
    signals::cancel_on_signals(cancel.clone(), how.grace.unwrap_or_default(), cx.last_words())?;
    let host = cx.host_ended_by(&cancel)?;
    // A schedule that the header has no longer is not missed.
    let names: Vec<&str> = asked.header.schedule.iter().map(|schedule| schedule.name.as_str()).collect();
    slots::forget_others(host.state(), &playbook.name, &names)?;
    let turn = Turn {
        state: host.state(),
        playbook: &playbook.name,
        schedule,
        timetable: &timetable,
        delay: orders::delay(&cx.project, &playbook.name, schedule),
    };
    let mut refused = None;
    let mut once = |scheduled: &Scheduled, beginning: Beginning| {
        let host = match cx.host_scheduled(scheduled, &cancel) {
            Ok(host) => host,
            Err(failure) => {
                let exit = failure.code.exit();
                refused = Some(failure);
                return (None, exit);
            }
        };
        let in_time = schedule.terms.timeout.map(|limit| end_after(limit, cancel.clone()));
        let begins: Events = Arc::new(Begins(Mutex::new(Some(beginning))));
        let landed = run::perform(cx, &host, &asked.library, playbook, &with, Mode::Live, Some(begins));
        drop(in_time);
        (landed.run, landed.exit)
    };
    let taken = turn.take(&Machine(&host), &mut once)?;
    if let Some(failure) = refused {
        return Err(failure.into());
    }
    let told: Vec<String> = taken.passed.iter().map(|passed| left_out(&playbook.name, passed)).collect();
    raise(&host, playbook, schedule, &taken, &told);
    if !cx.global.quiet && !cx.global.json {
        let paint = cx.screen.err_paint;
        if let Some(slot) = taken.decided_before {
            let (name, slot) = (&playbook.name, slot.format(TIME));
            cx.screen.talk(&format!("{name} of {slot}: nothing to do, it was run or left out before\n"));
        }
        told.iter().for_each(|told| cx.screen.talk(&format!("{} {told}\n", paint.warning("warning:"))));
    }
    Ok(exit(&taken))
}

/// Gives the right to begin back once the run is on record.
struct Begins(Mutex<Option<Beginning>>);

impl EventSink for Begins {
    fn event(&self, event: &Event) {
        if matches!(event.what, What::RunBegun { .. }) {
            drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

/// Ends a run that takes longer, unless what is returned is dropped before.
fn end_after(limit: Duration, cancel: Cancel) -> Sender<()> {
    let (in_time, over) = channel();
    std::thread::spawn(move || {
        if over.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            cancel.cancel(Reason::Overdue);
        }
    });
    in_time
}

/// Sends the alerts for what did not run; what ran is as it should be again.
fn raise(host: &Arc<Host>, playbook: &Playbook, schedule: &Schedule, taken: &Taken, told: &[String]) {
    let key = format!("{} {}", playbook.name, schedule.name);
    for ((passed, _), told) in taken.passed.iter().zip(told) {
        let kind = if passed.why == Why::Overlapped { Kind::Skipped } else { Kind::Missed };
        let (key, message) = (key.clone(), told.clone());
        alert::raise(host, Raised { kind, key, status: "warning".to_owned(), message });
    }
    if taken.passed.is_empty() && !taken.ran.is_empty() {
        [Kind::Missed, Kind::Skipped].iter().for_each(|kind| alert::settle(host, *kind, &key));
        alert::settle(host, Kind::Failed, &format!("begin {}", playbook.name));
    }
}

/// Tells whoever gets alerts that a scheduled run cannot begin; a person at a terminal sees it.
fn alarm(words: &[OsString], failure: &Failure, global: &Global) -> Result<(), Failure> {
    let cx = Context::new(global.clone())?;
    if cx.screen.live || cx.global.dry_run {
        return Ok(());
    }
    let playbook = words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let host = cx.host()?;
    host.listen(Arc::new(PlainSink::new(cx.screen.clone(), cx.global.detail())));
    let message = format!("{playbook} could not begin: {failure}");
    let raised =
        Raised { kind: Kind::Failed, key: format!("begin {playbook}"), status: "error".to_owned(), message };
    alert::raise(&host, raised);
    Ok(())
}

/// The schedule that is called `name`.
fn find<'a>(header: &'a Header, name: &str, playbook: &str) -> Result<&'a Schedule, Failure> {
    let names = || header.schedule.iter().map(|schedule| schedule.name.as_str());
    header.schedule.iter().find(|schedule| schedule.name == name).ok_or_else(|| {
        let failure = Failure::new(Code::Usage, format!("`{playbook}` has no schedule `{name}`"));
        let failure = match did_you_mean(name, names()) {
            Some(close) => failure.hint(format!("Did you mean `{close}`?")),
            None if header.schedule.is_empty() => failure.hint(format!(
                "Its header has no `schedule`: add one, for example `schedule: [#{{ cron: \"{name}\" }}],`."
            )),
            None => failure.hint(format!(
                "It has {}.",
                names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
            )),
        };
        failure.hint("If the header was changed, install the schedules again: `lifeboat schedule install`.")
    })
}

/// Shows the run of the newest instant as a dry run, which decides nothing.
fn rehearse(
    asked: &Asked,
    timetable: &Timetable,
    schedule: &Schedule,
    given: &Given,
    cancel: &Cancel,
) -> Result<Exit, Failure> {
    let newest = timetable.newest(asked.cx.now().with_timezone(&Utc));
    let host = match newest {
        Some(slot) => {
            let scheduled = Scheduled { schedule: schedule.name.clone(), slot: slot.fixed() };
            asked.cx.host_scheduled(&scheduled, cancel)?
        }
        None => asked.cx.host_ended_by(cancel)?,
    };
    signals::cancel_on_signals(cancel.clone(), Duration::ZERO, asked.cx.last_words())?;
    Ok(run::perform(&asked.cx, &host, &asked.library, &asked.playbook, given, Mode::DryRun, None).exit)
}

/// That instants did not run, and why.
fn left_out(playbook: &str, (passed, by): &(Passed, Option<RunId>)) -> String {
    let which = if passed.count == 1 {
        passed.last.format(TIME).to_string()
    } else {
        let (first, last) = (passed.first.format(TIME), passed.last.format(TIME));
        format!("{first} to {last} ({} times)", passed.count)
    };
    let by = by.as_ref().map(|run| format!(" (run {run})")).unwrap_or_default();
    format!("{playbook} of {which} was not run: {}{by}", passed.why.words())
}

/// The exit code: that of the worst run; an instant that was left out for another run is what a lock is.
fn exit(taken: &Taken) -> Exit {
    let worst = taken.ran.iter().map(|(_, exit)| *exit).find(|exit| *exit != Exit::Success);
    worst.unwrap_or(if taken.passed.iter().any(|(_, by)| by.is_some()) {
        Exit::Locked
    } else {
        Exit::Success
    })
}
