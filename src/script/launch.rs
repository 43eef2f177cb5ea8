//! Launches a run: what stands between a playbook's name and its exit code, whoever asks for it.
//!
//! Lint, parameters, policy, session, journal, run, alert, end: in this order, for commands, schedules and watches alike.

use crate::base::event::{Event, EventSink, Events, Level, Mode, What};
use crate::base::failure::{Code, Exit, Failure};
use crate::base::ids::RunId;
use crate::base::resume::Resuming;
use crate::base::schedule::Scheduled;
use crate::base::units;
use crate::engine::alert;
use crate::engine::drill::mark_restored;
use crate::engine::injection::Injection;
use crate::engine::metrics;
use crate::engine::policy::Policy;
use crate::engine::resume::Past;
use crate::engine::session::{LiveRun, Session};
use crate::journal::daily::DailyLog;
use crate::journal::drills;
use crate::journal::reader;
use crate::journal::retention;
use crate::journal::store::{NewRun, RunRecord};
use crate::script::grants::grants;
use crate::script::header::{Header, read};
use crate::script::library::{Library, Origin, Playbook};
use crate::script::lint::{Finding, Reserved, of_program};
use crate::script::param::Kind;
use crate::script::parameters::{Given, ParamValue, Values, values};
use crate::script::program::{Program, Unit};
use crate::script::rehearse;
use crate::script::resume::Resumable;
use crate::script::runtime::{self, ScriptParam};
use crate::script::surface::Surface;
use crate::sys::host::Host;
use crate::sys::logs;
use crate::sys::state::{self, Reserve};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A playbook that was read and checked, with nothing run.
pub struct Checked {
    /// Playbook and modules as compiled.
    pub program: Program,
    /// The header, or why it cannot be read.
    pub header: Result<Header, Failure>,
    /// What lint found.
    pub findings: Vec<Finding>,
}

impl Checked {
    /// The first finding that forbids a run.
    pub fn error(&self) -> Option<&Failure> {
        self.findings.iter().find(|finding| finding.error).map(|finding| &finding.failure)
    }
}

/// What is to be run, and how.
pub struct Launch<'a> {
    /// Playbooks and modules.
    pub library: &'a Library,
    /// The playbook.
    pub playbook: &'a Playbook,
    /// What the command line gives.
    pub given: &'a Given,
    /// Live or dry.
    pub mode: Mode,
    /// Names that playbooks may not use.
    pub reserved: &'a Reserved,
    /// Who else wants the events: screen, `--json`.
    pub sinks: Vec<Events>,
}

/// The exit code of a run that began, and the failure that ended it; or why it could not begin.
pub(super) type Landing = Result<(Exit, Option<Failure>), Failure>;

/// How a run ended.
#[derive(Debug)]
pub struct Landed {
    /// Its exit code.
    pub exit: Exit,
    /// Its id; a dry run has none on record.
    pub run: Option<RunId>,
    /// What lint found; with an error among them nothing was run.
    pub findings: Vec<Finding>,
    /// The failure that ended it.
    pub failure: Option<Failure>,
}

/// Reads and checks a playbook; runs nothing.
pub fn examine(library: &Library, playbook: &Playbook, reserved: &Reserved) -> Checked {
    let program = Program::of(library, playbook);
    let header = program.playbook().map(|unit| read(&unit.ast, &playbook.file));
    let findings = of_program(&program, header.as_ref(), library, playbook, reserved);
    let header = header.unwrap_or_else(|| {
        let first = program.failures.first().cloned();
        Err(first
            .unwrap_or_else(|| Failure::new(Code::Playbook, format!("`{}` does not compile", playbook.file))))
    });
    Checked { program, header, findings }
}

/// Runs a playbook and sees its run through to its end: exit code, journal record, alert.
pub fn launch(host: &Arc<Host>, launch: Launch<'_>) -> Landed {
    let checked = examine(launch.library, launch.playbook, launch.reserved);
    let refused = |failure: Failure, findings: Vec<Finding>| {
        let exit = failure.code.exit();
        // A run is resumed by a person, who sees why it is not.
        let is_by_hand = launch.mode == Mode::Drill && exit == Exit::Usage;
        if launch.mode != Mode::DryRun && !is_by_hand && host.resumes().is_none() {
            // A schedule's run that cannot even begin is the one that nobody would notice.
            host.listen(Arc::new(Fan(launch.sinks.clone())));
            alert_of(host, &launch, exit, Some(&failure), &[], None);
        }
        Landed { exit, run: None, findings, failure: Some(failure) }
    };
    if let Some(failure) = checked.error().cloned() {
        return Landed { failure: None, ..refused(failure, checked.findings) };
    }
    let Checked { program, header, findings } = checked;
    let resolved = header.and_then(|header| {
        let env = match launch.mode {
            Mode::Drill => rehearse::environment(host, &header),
            Mode::Live | Mode::DryRun => host.env(),
        };
        let resumed = host.resumes().map(|terms| Resumed::of(host, terms, &program)).transpose()?;
        let values = match &resumed {
            Some(resumed) => resumed.run.values(&header, host)?,
            None => values(&header.params, launch.given, &env, host.masker())?,
        };
        Ok((values, header, resumed))
    });
    let (values, header, resumed) = match resolved {
        Ok(resolved) => resolved,
        Err(failure) => return refused(failure, findings),
    };
    let policy =
        || Policy::new(grants(&program, &header, &values, host)).guarding(host.project(), host.state());
    let run = match &resumed {
        Some(resumed) => resumed.run.run.clone(),
        None => RunId::new(host.began(), &host.letters()),
    };
    let result = match launch.mode {
        Mode::DryRun => {
            host.listen(Arc::new(Fan(launch.sinks.clone())));
            begin(host, &launch, &program, &values, &run);
            if let Some(drill) = drills::newest(host.state(), &launch.playbook.name) {
                let value = drill.told(host.clock().now());
                host.emit(What::Resolved { what: "drill".to_owned(), value, from: Vec::new() });
            }
            let session = Arc::new(Session::dry(host.clone(), policy()));
            Ok(conduct(host, None, &launch, session, &header, &values))
        }
        Mode::Live => live(host, &launch, &program, policy(), (&header, &values), &run, resumed),
        Mode::Drill => rehearse::drill(host, &launch, &program, &header, &values, &run),
    };
    if launch.mode != Mode::DryRun {
        measure(host, &launch);
    }
    match result {
        Err(failure) => refused(failure, findings),
        Ok((exit, failure)) => {
            Landed { exit, run: (launch.mode != Mode::DryRun).then_some(run), findings, failure }
        }
    }
}

fn live(
    host: &Arc<Host>,
    launch: &Launch<'_>,
    program: &Program,
    policy: Policy,
    (header, values): (&Header, &Values),
    run: &RunId,
    resumed: Option<Resumed>,
) -> Landing {
    if resumed.is_some() {
        // That this very run was killed is told before it lives again.
        host.listen(Arc::new(Fan(launch.sinks.clone())));
        tell_of_killed_runs(host);
    }
    let record = match &resumed {
        Some(resumed) => Arc::new(resumed.record(host, program)?),
        None => record(host, launch, program, run)?,
    };
    let log_host = Arc::downgrade(host);
    let daily = DailyLog::new(host.project().join(logs::DIR), move |failure| {
        if let Some(host) = log_host.upgrade() {
            host.warn(&failure.to_string());
        }
    });
    let mut sinks: Vec<Events> = vec![record.clone(), Arc::new(daily)];
    sinks.extend(launch.sinks.iter().cloned());
    host.listen(Arc::new(Fan(sinks)));
    let live = LiveRun { run: run.to_string(), intents: record.clone() };
    let mut session = Session::live(host.clone(), policy, live);
    match resumed {
        Some(resumed) => {
            resumed.tell(host, launch, program);
            session = session.resuming(resumed.past);
        }
        None => {
            tell_of_killed_runs(host);
            begin(host, launch, program, values, run);
        }
    }
    tidy_up(host, &record);
    let session = Arc::new(session);
    let ended = conduct(host, Some(&record), launch, session, header, values);
    if matches!(ended.0, Exit::Success | Exit::Warnings) {
        mark_restored(host, &record.restored(), run.as_str());
    }
    match (record.end(ended.0), &ended.1) {
        (Ok(()), _) => Ok(ended),
        // What ended the run counts for more than that its end is not on record.
        (Err(failure), Some(_)) => {
            host.warn(&format!("the end of the run could not be recorded: {failure}"));
            Ok(ended)
        }
        (Err(failure), None) => Err(failure),
    }
}

/// Writes the metrics, if somebody wants them. The run is over, so that what fails here fails nothing.
fn measure(host: &Arc<Host>, launch: &Launch<'_>) {
    // Its record has ended; whoever watches may still be told.
    host.listen(Arc::new(Fan(launch.sinks.clone())));
    if let Err(failure) = metrics::write(host) {
        let hint = failure.hints.first().map_or_else(String::new, |hint| format!(". {hint}"));
        host.emit(What::Log { level: Level::Warn, message: format!("{failure}{hint}") });
    }
}

/// Begins the record of a run.
pub(super) fn record(
    host: &Arc<Host>,
    launch: &Launch<'_>,
    program: &Program,
    run: &RunId,
) -> Result<Arc<RunRecord>, Failure> {
    let modules: Vec<(String, String)> = program
        .units
        .iter()
        .skip(1)
        .map(|unit| (unit.source.file.clone(), unit.source.text.to_string()))
        .collect();
    let new = NewRun {
        run,
        playbook: &launch.playbook.name,
        file: &launch.playbook.file,
        source: &launch.playbook.source,
        modules: &modules,
        mode: launch.mode,
        reserve: reserve(program),
    };
    Ok(Arc::new(RunRecord::begin(host, &new)?))
}

/// What a run of a program may use when the journal's disk is full: what only frees space must work then.
fn reserve(program: &Program) -> Reserve {
    if only_rotates(program) { Reserve::Host } else { Reserve::Own }
}

/// Runs the playbook in the session and ends the run.
fn conduct(
    host: &Arc<Host>,
    record: Option<&RunRecord>,
    launch: &Launch<'_>,
    session: Arc<Session>,
    header: &Header,
    values: &Values,
) -> (Exit, Option<Failure>) {
    let began = host.clock().instant();
    let pings = record.and_then(|record| {
        alert::Pings::begin(host, &header.notify, !header.schedule.is_empty(), record.run())
    });
    let result =
        runtime::run(session.clone(), launch.library, launch.playbook, script_params(header, values));
    let warnings = session.warnings();
    let exit = match &result {
        // A mistake that shows up after something was done is no longer one of the command line alone.
        Err(failure) => match failure.code.exit() {
            Exit::Usage if session.has_acted() => Exit::Failed,
            exit => exit,
        },
        Ok(_) if session.is_incomplete() => Exit::Partial,
        Ok(_) if !warnings.is_empty() => Exit::Warnings,
        Ok(_) => Exit::Success,
    };
    let (value, failure) = match result {
        Ok(value) => (Some(value).filter(|value| !value.is_null()), None),
        Err(failure) => (None, Some(failure)),
    };
    // Who said no knows it, and nothing was done.
    let told = exit == Exit::Confirm && session.is_declined() && !session.has_acted();
    let name = &launch.playbook.name;
    if let Some(pings) = &pings {
        let end = alert::End { playbook: name, exit, failure: failure.as_ref(), warnings: &warnings };
        pings.end(exit, alert::in_words(host, end));
    }
    if launch.mode == Mode::Live
        && !told
        && let Some(record) = record
        && let Some(sent) =
            alert_of(host, launch, exit, failure.as_ref(), &warnings, Some((record, began.elapsed())))
    {
        // Not noted, a later command may take this run's alert for unsent; that is no reason to fail.
        let _ = record.alert_sent(&sent.result());
    }
    if let Some(pings) = pings {
        pings.wait();
    }
    let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    host.emit(What::RunEnded { exit, millis, failure: failure.clone(), warnings, value });
    (exit, failure)
}

/// Sends the one alert of a run, if it has one, and what else there is to tell of one that is on record: what became of it.
fn alert_of(
    host: &Arc<Host>,
    launch: &Launch<'_>,
    exit: Exit,
    failure: Option<&Failure>,
    warnings: &[String],
    recorded: Option<(&RunRecord, std::time::Duration)>,
) -> Option<alert::Sent> {
    let name = match launch.mode {
        Mode::Drill => format!("drill of {}", launch.playbook.name),
        Mode::Live | Mode::DryRun => launch.playbook.name.clone(),
    };
    let end = alert::End { playbook: &name, exit, failure, warnings };
    let made = recorded.map(|(record, _)| record.made()).unwrap_or_default();
    let took = recorded.map(|(_, took)| took).unwrap_or_default();
    let run = recorded.map(|(record, _)| record.run());
    alert::finish(host, alert::Finished { end, run, made: &made, took })
}

/// The parameters as the script gets them.
pub(super) fn script_params(header: &Header, values: &Values) -> BTreeMap<String, ScriptParam> {
    let script = |name: &String, value: &ParamValue| match (value, header.param(name).map(|param| param.kind))
    {
        (ParamValue::Secret(secret), _) => ScriptParam::Secret(secret.clone()),
        (ParamValue::Json(Value::String(text)), Some(Kind::Size)) => {
            units::parse_bytes(text).map_or(ScriptParam::Plain(text.as_str().into()), ScriptParam::Size)
        }
        (ParamValue::Json(Value::String(text)), Some(Kind::Duration)) => units::parse_duration(text)
            .map_or(ScriptParam::Plain(text.as_str().into()), ScriptParam::Duration),
        (ParamValue::Json(value), _) => ScriptParam::Plain(value.clone()),
    };
    values.values.iter().map(|(name, value)| (name.clone(), script(name, value))).collect()
}

/// A run that goes on: its record, and what its earlier attempts left.
struct Resumed {
    run: Resumable,
    past: Past,
    /// Files whose text is not as recorded.
    changed: Vec<String>,
}

impl Resumed {
    fn of(host: &Host, terms: &Resuming, program: &Program) -> Result<Self, Failure> {
        let run = Resumable::read(host.state(), &reader::find(host.state(), &terms.run)?)?;
        let (past, changed) = run.past(program, terms)?;
        Ok(Self { run, past, changed })
    }

    fn record(&self, host: &Host, program: &Program) -> Result<RunRecord, Failure> {
        let text = |unit: &Unit| (unit.source.file.clone(), unit.source.text.to_string());
        let sources: Vec<(String, String)> = program.units.iter().map(text).collect();
        RunRecord::resume(host, &self.run.run, &self.run.events, &sources, &self.changed, reserve(program))
    }

    fn tell(&self, host: &Host, launch: &Launch<'_>, program: &Program) {
        host.emit(What::RunResumed {
            run: self.run.run.clone(),
            playbook: launch.playbook.name.clone(),
            code: digest(program),
            changed: self.changed.clone(),
            pid: state::process_id(),
            lifeboat: env!("CARGO_PKG_VERSION").to_owned(),
        });
        tell_of_settings(host);
    }
}

/// SHA-256 of playbook and modules.
fn digest(program: &Program) -> String {
    let mut code = Sha256::new();
    for unit in &program.units {
        code.update(unit.source.text.as_bytes());
        code.update([0]);
    }
    code.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Tells of variables that make a run another one than usual.
fn tell_of_settings(host: &Host) {
    if let Some(Scheduled { schedule, slot }) = host.scheduled() {
        host.info(&format!("scheduled for {} by `{schedule}`", slot.format("%Y-%m-%d %H:%M:%S %:z")));
    }
    if let Some(fixed) = host.clock().fixed() {
        host.info(&format!("the clock stands at {}, since LIFEBOAT_NOW is set", fixed.to_rfc3339()));
    }
    if let Ok(Some(injection)) = Injection::of(host) {
        host.info(&injection.told());
    }
}

pub(super) fn begin(host: &Host, launch: &Launch<'_>, program: &Program, values: &Values, run: &RunId) {
    host.emit(What::RunBegun {
        run: run.clone(),
        playbook: launch.playbook.name.clone(),
        origin: match launch.playbook.origin {
            Origin::Project => launch.playbook.file.clone(),
            Origin::Embedded => "embedded".to_owned(),
        },
        code: digest(program),
        mode: launch.mode,
        params: values.shown(),
        pid: state::process_id(),
        lifeboat: env!("CARGO_PKG_VERSION").to_owned(),
        scheduled: host.scheduled().cloned(),
    });
    tell_of_settings(host);
    if !values.from.is_empty() {
        host.emit(What::Resolved {
            what: "parameters".to_owned(),
            value: values.given().join(", "),
            from: values.from.clone(),
        });
    }
}

/// Removes old logs, and tells what became of old records and logs. None of it keeps a run from its work.
fn tidy_up(host: &Host, record: &RunRecord) {
    let tidied = record.tidied();
    tidied.lost.iter().for_each(|lost| host.info(lost));
    let (removed, wrong) =
        retention::retire_logs(&host.project().join(logs::DIR), host.clock().now(), &host.env());
    match removed.as_slice() {
        [] => {}
        [one] => host.info(&format!("removed the old log {one}")),
        [first, .., last] => host.info(&format!("removed {} old logs, {first} to {last}", removed.len())),
    }
    tidied.wrong.iter().chain(&wrong).for_each(|wrong| host.warn(wrong));
}

/// Delivers alerts that nobody has accepted yet, and tells of runs that were killed since; they could not do it themselves.
pub fn tell_of_killed_runs(host: &Arc<Host>) {
    let mut gets_through = alert::deliver_pending(host).is_some();
    let mut unread = |run: &RunId, failure: Failure| {
        host.warn(&format!(
            "nobody may hear what became of run {run}, whose record cannot be read: {failure}"
        ));
    };
    let killed = reader::killed(host.state(), &mut unread).unwrap_or_else(|failure| {
        host.warn(&format!("nobody hears of runs that were killed: {failure}"));
        Vec::new()
    });
    for run in killed {
        let what = if run.is_drill { "drill" } else { "run" };
        host.info(&format!("{what} {} of `{}` was killed before it ended", run.run, run.playbook));
        // A receiver that is down now may be up by the next run. Until then every further alert would wait for it too.
        gets_through = gets_through && alert::tell_of_killed(host, &run);
    }
}

/// Whether the only effect that a program asks for is rotation.
fn only_rotates(program: &Program) -> bool {
    let effects: BTreeSet<&str> = Surface::new().effects.into_iter().collect();
    let called: BTreeSet<String> =
        program.units.iter().flat_map(Unit::called).filter(|name| effects.contains(name.as_str())).collect();
    called.len() == 1 && called.contains("rotate")
}

/// Hands every event to each sink.
pub(super) struct Fan(pub(super) Vec<Events>);

impl EventSink for Fan {
    fn event(&self, event: &Event) {
        for sink in &self.0 {
            sink.event(event);
        }
    }
}
