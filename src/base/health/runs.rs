//! The judgement about runs and drills.

use crate::base::drill::Passed;
use crate::base::failure::{Code, Exit};
use crate::base::health::report::age;
use crate::base::health::{Finding, PlaybookReport, Problem, Ran, RanState, Seen, Severity, Terms};
use chrono::TimeDelta;
use std::collections::BTreeMap;

/// Judges runs and drills.
pub fn judge(seen: &Seen, terms: &Terms, findings: &mut Vec<Finding>) -> Vec<PlaybookReport> {
    let mut by_playbook: BTreeMap<&str, Vec<&Ran>> = BTreeMap::new();
    for run in seen.runs.iter().filter(|run| !run.is_drill && !run.playbook.is_empty()) {
        by_playbook.entry(&run.playbook).or_default().push(run);
    }
    for run in seen.runs.iter().filter(|run| run.owes && run.state != RanState::Running) {
        findings.push(warning(
            Problem::OwedCleanUp,
            &run.playbook,
            format!("run {} of {} owes a clean-up", run.run.letters(), run.playbook),
            format!("`lifeboat resume {}` makes up for it.", run.run.letters()),
        ));
    }
    findings.extend(seen.drills.iter().filter(|drill| drill.result == Passed::Failed).map(|drill| Finding {
        severity: Severity::Critical,
        ..warning(
            Problem::DrillFailed,
            &drill.playbook,
            format!("the last drill of {} failed, {} ago", drill.playbook, age(since(seen, drill.began))),
            format!(
                "`lifeboat history --playbook {}` tells why; drill it again when that is mended.",
                drill.playbook
            ),
        )
    }));
    by_playbook.into_iter().map(|(name, runs)| playbook(name, &runs, seen, terms, findings)).collect()
}

fn warning(code: Problem, about: &str, message: String, hint: String) -> Finding {
    Finding { severity: Severity::Warning, code, about: about.to_owned(), tag: None, message, hint }
}

fn since(seen: &Seen, then: chrono::DateTime<chrono::FixedOffset>) -> u64 {
    u64::try_from((seen.now - then).num_seconds()).unwrap_or_default()
}

/// How grave the end of a run is; `None` if it is no failure.
fn gravity(run: &Ran) -> Option<Severity> {
    match run.state {
        RanState::Running => None,
        RanState::Killed => Some(Severity::Critical),
        RanState::Ended(exit) => match exit {
            Exit::Success | Exit::Warnings | Exit::Partial | Exit::Confirm => None,
            // That it found something wrong is judged by what is wrong now.
            Exit::Failed if matches!(run.failure, Some((Code::Unhealthy, _))) => None,
            Exit::Interrupted | Exit::Usage | Exit::Locked => Some(Severity::Warning),
            _ => Some(Severity::Critical),
        },
    }
}

fn playbook(
    name: &str,
    runs: &[&Ran],
    seen: &Seen,
    terms: &Terms,
    findings: &mut Vec<Finding>,
) -> PlaybookReport {
    let begin = seen.now - TimeDelta::days(i64::from(terms.days));
    let counts = |run: &&&Ran| run.began.is_some_and(|began| began >= begin);
    let ended: Vec<&&Ran> = runs.iter().filter(|run| run.state != RanState::Running).collect();
    let recent: Vec<&&Ran> = ended.iter().copied().filter(counts).collect();
    let failures = recent.iter().filter(|run| gravity(run).is_some()).count();
    let newest = ended.first();
    for run in runs.iter().filter(|run| run.state == RanState::Running) {
        let seconds = run.began.map_or(0, |began| since(seen, began));
        if seconds > terms.max_age.as_secs() {
            findings.push(warning(
                Problem::Stuck,
                name,
                format!("run {} of {name} has been going on for {}", run.run.letters(), age(seconds)),
                format!("`lifeboat logs -f {}` tells what it does.", run.run.letters()),
            ));
        }
    }
    let completion =
        (recent.len() - failures).checked_mul(100).and_then(|done| done.checked_div(recent.len()));
    let completion = completion.and_then(|percent| u8::try_from(percent).ok());
    match newest.filter(|run| counts(run)).and_then(|run| Some((run, gravity(run)?))) {
        Some((run, severity)) => {
            let why = run.failure.as_ref().map_or_else(String::new, |(_, why)| format!(": {why}"));
            let how = match run.state {
                RanState::Killed => "was killed",
                RanState::Ended(Exit::Interrupted) => "was interrupted",
                RanState::Ended(Exit::Terminated) => "was terminated",
                _ => "failed",
            };
            let ago = run.began.map_or(0, |began| since(seen, began));
            findings.push(Finding {
                severity,
                ..warning(
                    Problem::RunFailed,
                    name,
                    format!("the last run of {name} {how} {} ago{why}", age(ago)),
                    format!("`lifeboat show {}` tells more; mend it, then `lifeboat resume {}` or run it again.", run.run.letters(), run.run.letters()),
                )
            });
        }
        None if failures > 0 => findings.push(warning(
            Problem::Failures,
            name,
            format!(
                "{failures} of {} runs of {name} failed in the last {} days ({} % completed); the last one did not",
                recent.len(),
                terms.days,
                completion.unwrap_or(0)
            ),
            format!("`lifeboat history --playbook {name}` lists them."),
        )),
        None => {}
    }
    let completed = |run: &&&&Ran| matches!(run.state, RanState::Ended(Exit::Success | Exit::Warnings));
    PlaybookReport {
        playbook: name.to_owned(),
        runs: recent.len(),
        failures,
        completion,
        last: newest.and_then(|run| run.began),
        last_exit: newest.and_then(|run| match run.state {
            RanState::Ended(exit) => Some(exit.code()),
            _ => None,
        }),
        last_millis: newest.and_then(|run| run.millis),
        last_success: ended.iter().find(completed).and_then(|run| run.began),
    }
}
