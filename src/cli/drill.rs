//! `lifeboat drill`: a playbook rehearsed for real in a sandbox, and its verdict.

use crate::base::drill::{NotRehearsed, Objective, Passed, RestoredData, Verdict};
use crate::base::event::{Mode, Outcome};
use crate::base::failure::Exit;
use crate::base::units;
use crate::cli::global::Global;
use crate::cli::lines::took;
use crate::cli::report::counted;
use crate::cli::run::{self, Stopped};
use crate::cli::screen::{Paint, columns};
use std::ffi::OsString;
use std::time::Duration;

/// Rehearse a playbook for real, in a sandbox
///
/// The very same playbook runs, in a scratch copy of the project, with scratch PostgreSQL servers in place of the real ones.
/// Lifeboat itself touches nothing of production, and announces nothing. Databases are as their newest intact backups have them, or, with
/// `drill: #{ start: "empty" }` in the header, everything is lost but the backups. Programs are run only if the header lists
/// them: `drill: #{ run: ["npm"] }`. They get the scratch server's address in their environment and in `.env` files; what they
/// reach beyond that is not controlled, so a drill in which one ran passes in part at most, and says so. Folders that can be made again, such as `node_modules` and `.git`, are not copied.
///
/// The verdict on stdout names what was not rehearsed, the time of each step, the recovery time, and the age of the restored
/// data. Objectives are 30 minutes and 1 hour; those of the header (`rto: "30m"`, `rpo: "1h"`) fail the drill when they are
/// missed. Exit: 0 if all that was rehearsed worked, 3 if it did with warnings, 5 if the drill failed.
///
/// With `--json`: the events of the run as JSON lines; the last but one is `drilled`, with `result` (`passed`,
/// `passed_in_part` or `failed`), `reasons`, `start`, `millis` (the recovery time; a lower bound if `at_least`),
/// `sandbox_millis`, `steps`, `not_rehearsed` (`what`, `step`, `why`), `ran`, `doubts`, `servers`, `data` (`database`, `backup`,
/// `recovery_point`, `age_millis`, `by_playbook`, `tables`, `rows`), `objectives` (`name`, `limit_millis`,
/// `reached_millis`, `met`, `binding`), `announced` and `notes`.
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    override_usage = "lifeboat drill [OPTIONS] <PLAYBOOK> [PARAMETERS]",
    disable_help_subcommand = true
)]
pub struct Args {
    #[command(subcommand)]
    playbook: Named,
}

#[derive(Debug, clap::Subcommand)]
enum Named {
    #[command(external_subcommand)]
    Playbook(Vec<OsString>),
}

/// Rehearses a playbook.
pub fn run(args: &Args, global: &Global) -> Result<Exit, Stopped> {
    let Named::Playbook(words) = &args.playbook;
    run::run(words, global, "lifeboat drill", Mode::Drill)
}

/// A verdict for people, each line ended by a newline.
pub fn text(verdict: &Verdict, playbook: &str, paint: Paint) -> String {
    let result = match verdict.result {
        Passed::Passed => paint.good("passed"),
        Passed::PassedInPart => paint.warning("passed in part"),
        Passed::Failed => paint.error("failed"),
    };
    let mut text = format!("{} {result}\n", paint.heading(&format!("Drill of {playbook}:")));
    for reason in &verdict.reasons {
        text += &format!("  {} {reason}\n", paint.error("failed:"));
    }
    for doubt in &verdict.doubts {
        text += &format!("  {} {doubt}\n", paint.warning("in part:"));
    }
    let objective = |name: &str| verdict.objectives.iter().find(|one| one.name == name).map(judged);
    let beside = |name: &str| objective(name).map(|judged| format!("  ({judged})")).unwrap_or_default();
    text += &format!("  recovery time   {}{}\n", recovery_time(verdict), beside("recovery time"));
    let oldest = verdict.data.iter().max_by_key(|data| data.age_millis);
    let point = oldest.map_or_else(
        || "unknown: nothing was restored".to_owned(),
        |data| format!("{} before the drill", took(data.age_millis)),
    );
    text += &format!("  recovery point  {point}{}\n", beside("recovery point"));

    let mut section = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            text += &format!("  {}\n", paint.heading(title));
            text.extend(lines.iter().flat_map(|line| line.lines()).map(|line| format!("    {line}\n")));
        }
    };
    section("Steps", steps(verdict, paint));
    let missing = verdict.not_rehearsed.iter().map(|one| {
        let is_told = one.step.is_empty() || one.what == rest_of(&one.step);
        let step = if is_told { String::new() } else { format!(" in step `{}`", one.step) };
        format!("{}{step}: {}", one.what, one.why)
    });
    section("Not rehearsed", missing.collect());
    let ran = verdict.ran.iter();
    section("Really ran", ran.map(|line| format!("{line}: what it reached is not controlled")).collect());
    section("Data", verdict.data.iter().map(data).collect());
    let servers = verdict.servers.iter();
    section(
        "Servers",
        servers.map(|one| format!("{}: a scratch PostgreSQL {}", one.server, one.version)).collect(),
    );
    let announced = verdict.announced.iter();
    section(
        "Announced to nobody",
        announced.map(|alert| format!("{}: {}", alert.status, alert.message)).collect(),
    );
    section("Notes", verdict.notes.clone());
    text
}

/// The recovery time: `>= 6 min 3 s, without: npm install, docker compose build`.
pub fn recovery_time(verdict: &Verdict) -> String {
    let time = took(verdict.millis);
    if !verdict.at_least {
        return time;
    }
    let mut missing: Vec<&str> = Vec::new();
    let others = |one: &NotRehearsed| {
        verdict.not_rehearsed.iter().any(|other| other.step == one.step && other.what != one.what)
    };
    for one in &verdict.not_rehearsed {
        // Why a step was not carried to its end is told by what was captured in it.
        let is_told = one.what == rest_of(&one.step) && others(one);
        if !is_told && !missing.contains(&one.what.as_str()) {
            missing.push(&one.what);
        }
    }
    if missing.is_empty() {
        return format!(">= {time}");
    }
    format!(">= {time}, without: {}", missing.join(", "))
}

fn judged(objective: &Objective) -> String {
    let limit = limit(objective.limit_millis);
    let whose = if objective.binding { "at most" } else { "objective" };
    let judged = match (objective.met, objective.reached_millis) {
        (Some(true), _) => "met",
        (Some(false), _) => "missed",
        (None, Some(_)) => "not proven",
        (None, None) => "not measured",
    };
    format!("{whose} {limit}: {judged}")
}

/// What a verdict calls the part of a step that was not rehearsed.
fn rest_of(step: &str) -> String {
    format!("the rest of step `{step}`")
}

/// A limit, as it is mostly given: `30 min`, `1 h`.
fn limit(millis: u64) -> String {
    let text = units::duration(Duration::from_millis(millis));
    text.strip_suffix(" 0 s").or_else(|| text.strip_suffix(" 0 min")).map(str::to_owned).unwrap_or(text)
}

fn steps(verdict: &Verdict, paint: Paint) -> Vec<String> {
    let rows = verdict.steps.iter().map(|step| {
        let (mark, word) = match step.outcome {
            Outcome::Done => (paint.good("✔"), ""),
            Outcome::Failed => (paint.error("✘"), "failed"),
            Outcome::Tolerated => (paint.warning("!"), "failed, the run went on"),
            Outcome::Unknown => (paint.warning("?"), "not rehearsed to its end"),
        };
        vec![format!("{mark} {}", step.step), took(step.millis), word.to_owned()]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() { Vec::new() } else { vec![columns(&rows)] }
}

fn data(data: &RestoredData) -> String {
    let what = format!(
        "{}, {}, counts and fingerprints equal",
        number(data.tables, "table"),
        number(data.rows, "row")
    );
    let who =
        if data.by_playbook { "restored by the playbook" } else { "restored before the playbook began" };
    format!("{} from {}: {what}; {who}", data.database, data.backup)
}

fn number(n: u64, what: &str) -> String {
    counted(usize::try_from(n).unwrap_or(usize::MAX), what)
}
