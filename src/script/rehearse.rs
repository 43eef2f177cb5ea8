//! Leads a drill from its playbook to its verdict: the very same playbook, in a sandbox.

use crate::base::confirm::{Answer, Asker};
use crate::base::drill::Start;
use crate::base::event::{Events, What};
use crate::base::failure::{Code, Exit, Failure};
use crate::base::ids::RunId;
use crate::engine::alert;
use crate::engine::drill::{self, Ended, FromBackups, Rehearsal};
use crate::engine::policy::{Grants, Policy};
use crate::engine::session::{LiveRun, Session};
use crate::journal::drills::{self, DrillRecord};
use crate::journal::store::RunRecord;
use crate::script::grants::grants;
use crate::script::header::Header;
use crate::script::launch::{Fan, Landing, Launch, begin, record, script_params, tell_of_killed_runs};
use crate::script::parameters::Values;
use crate::script::program::{Program, Unit};
use crate::script::runtime;
use crate::sys::env::Env;
use crate::sys::host::Host;
use crate::sys::sandbox::Sandbox;
use serde_json::{Map, Value};
use std::sync::Arc;

/// The environment that a drill finds: when everything is lost but the backups, so is `.env`.
pub(super) fn environment(host: &Host, header: &Header) -> Arc<Env> {
    match header.drill.start {
        Start::Empty => Arc::new(host.env().of_process()),
        Start::Latest => host.env(),
    }
}

/// Functions that look for what earlier runs have kept.
const OF_RUNS: [&str; 2] = ["rollback", "kept_files"];

/// Answers every question in a drill: nothing that is asked about can come to harm.
struct Yes;

impl Asker for Yes {
    fn ask(&self, _: &str) -> Option<Answer> {
        Some(Answer { yes: true, by: "the drill, in place of a person".to_owned() })
    }
}

/// Rehearses a playbook.
///
/// # Errors
/// What keeps the drill from beginning. How it ends, badly too, is its result.
pub(super) fn drill(
    host: &Arc<Host>,
    launch: &Launch<'_>,
    program: &Program,
    header: &Header,
    values: &Values,
    run: &RunId,
) -> Landing {
    if let Some(name) =
        program.units.iter().flat_map(Unit::called).find(|name| OF_RUNS.contains(&name.as_str()))
    {
        return Err(Failure::new(
            Code::Usage,
            format!("`{}` cannot be drilled: it calls `{name}`", launch.playbook.name),
        )
        .caused_by("it works on what earlier runs have kept, and a sandbox has no earlier runs")
        .hint(format!("See what it would do: `lifeboat run {} --dry-run`.", launch.playbook.name)));
    }
    let record = record(host, launch, program, run)?;
    let rehearsal = Arc::new(Rehearsal::new(host.began().fixed_offset()));
    let mut sinks: Vec<Events> = vec![record.clone(), rehearsal.clone()];
    sinks.extend(launch.sinks.iter().cloned());
    let sinks: Events = Arc::new(Fan(sinks));
    host.listen(sinks.clone());
    tell_of_killed_runs(host);
    begin(host, launch, program, values, run);
    let ended = in_sandbox(host, launch, (program, header, values), &record, &rehearsal, &sinks);
    record.end(ended.0)?;
    Ok(ended)
}

/// What is run: program, header, parameters.
type Running<'a> = (&'a Program, &'a Header, &'a Values);

fn in_sandbox(
    host: &Arc<Host>,
    launch: &Launch<'_>,
    (program, header, values): Running<'_>,
    record: &Arc<RunRecord>,
    rehearsal: &Arc<Rehearsal>,
    sinks: &Events,
) -> (Exit, Option<Failure>) {
    let began = host.clock().instant();
    let run = record.run();
    let sandbox = match Sandbox::make(host, run.as_str(), header.drill.clone()) {
        Ok(sandbox) => Arc::new(sandbox),
        Err(failure) => {
            let is_over = drill::was_broken_off(&failure);
            let exit = if is_over { failure.code.exit() } else { Exit::Drill };
            if !is_over {
                let verdict = rehearsal.not_begun(&failure, &header.drill, began.elapsed());
                host.emit(What::Drilled(Box::new(verdict.clone())));
                keep(
                    host,
                    DrillRecord::new(run, &launch.playbook.name, host.began().fixed_offset(), exit, verdict),
                    values,
                );
            }
            finish(host, launch, record, exit, Some(&failure), &[], began);
            return (exit, Some(failure));
        }
    };
    let scratch = Arc::new(host.sandboxed(sandbox.clone(), &environment(host, header)));
    scratch.listen(sinks.clone());
    scratch.answered_by(Arc::new(Yes));
    let mut granted = grants(program, header, values, &scratch);
    for path in &granted.write {
        sandbox.bring(path);
    }
    // What a link to a backup leads to is read, and never written.
    granted = Grants { read: granted.read.into_iter().chain(sandbox.linked()).collect(), ..granted };
    let policy = Policy::new(granted).guarding(scratch.project(), scratch.state());
    let live = LiveRun { run: run.to_string(), intents: record.clone() };
    let loader = FromBackups::new(
        host.sandboxed(sandbox.clone(), &scratch.env()),
        live.clone(),
        rehearsal.clone(),
        sinks.clone(),
    );
    sandbox.set_loader(Arc::new(loader));
    let session = Arc::new(Session::drill(scratch.clone(), policy, live));

    let idle = sandbox.idle();
    let start = host.clock().instant();
    let result =
        runtime::run(session.clone(), launch.library, launch.playbook, script_params(header, values));
    let took = start.elapsed().saturating_sub(sandbox.idle() - idle);

    let mut warnings = rehearsal.warnings();
    warnings.extend(session.warnings());
    // A mistake of the command line is none of the playbook, as long as nothing was done.
    let mistake = match &result {
        Err(failure) if failure.code.exit() == Exit::Usage && !rehearsal.has_acted() => Some(failure.clone()),
        Ok(_) => rehearsal.did_nothing(),
        Err(_) => None,
    };
    if let Some(failure) = mistake.filter(|_| sandbox.broken().is_none()) {
        sandbox.end();
        finish(host, launch, record, Exit::Usage, Some(&failure), &warnings, began);
        return (Exit::Usage, Some(failure));
    }
    let verdict =
        rehearsal.verdict(Ended { took, failure: result.as_ref().err(), warnings: &warnings }, &sandbox);
    let (exit, failure) = drill::end(&verdict, result.err(), !warnings.is_empty());
    // What is said must be so: the sandbox is gone before the verdict is told.
    sandbox.end();
    if matches!(exit, Exit::Success | Exit::Warnings) {
        rehearsal.mark(host, &sandbox, run.as_str());
    }
    host.emit(What::Drilled(Box::new(verdict.clone())));
    let kept = DrillRecord::new(run, &launch.playbook.name, host.began().fixed_offset(), exit, verdict);
    // One that was broken off proves nothing, and hides nothing that an earlier one has proved; nor does one in which
    // everything was captured.
    let is_empty = !rehearsal.has_acted() && drills::newest(host.state(), &launch.playbook.name).is_some();
    let proves = failure.as_ref().map_or(!is_empty, |failure| {
        !drill::was_broken_off(failure) && (!is_empty || failure.step.is_some() || failure.at.is_some())
    });
    if proves {
        keep(host, kept, values);
    }
    finish(host, launch, record, exit, failure.as_ref(), &warnings, began);
    (exit, failure)
}

fn keep(host: &Host, drill: DrillRecord, values: &Values) {
    let mut params = Value::Object(values.shown());
    host.masker().mask_json(&mut params);
    let params = match params {
        Value::Object(params) => params,
        _ => Map::new(),
    };
    let drill = drill.with(params, values.given());
    if let Err(failure) = drills::keep(host.state(), &drill) {
        host.warn(&format!("the drill could not be kept as evidence: {failure}"));
    }
}

/// Sends the alert of a drill that failed, and ends the run.
fn finish(
    host: &Arc<Host>,
    launch: &Launch<'_>,
    record: &RunRecord,
    exit: Exit,
    failure: Option<&Failure>,
    warnings: &[String],
    began: std::time::Instant,
) {
    let name = format!("drill of {}", launch.playbook.name);
    let end = alert::End { playbook: &name, exit, failure, warnings };
    if !matches!(exit, Exit::Success | Exit::Warnings | Exit::Usage)
        && let Some(notice) = alert::of_drill(end, record.run().as_str(), host.clock().now())
    {
        let sent = alert::send(host, notice);
        // Not noted, a later command may take this run's alert for unsent; that is no reason to fail.
        let _ = record.alert_sent(&sent.result());
    }
    let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (failure, warnings) = (failure.cloned(), warnings.to_vec());
    host.emit(What::RunEnded { exit, millis, failure, warnings, value: None });
}
