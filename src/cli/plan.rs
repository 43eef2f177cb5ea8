//! The plan of a dry run: every action with its targets, and plainly what cannot be known.

use crate::base::event::{Event, EventSink, Mode, Outcome, What};
use crate::base::failure::Failure;
use crate::base::plan::{Effect, Plan};
use crate::base::units;
use crate::cli::lines::{Detail, lines};
use crate::cli::report::counted;
use crate::cli::screen::{Paint, Screen};
use std::sync::{Arc, Mutex, PoisonError};

/// Shows the plan on stdout while it is made.
pub struct PlanSink {
    screen: Arc<Screen>,
    detail: Detail,
    shown: Mutex<Shown>,
}

#[derive(Default)]
struct Shown {
    /// The step whose heading was shown last.
    step: Option<String>,
    /// Steps that are open, outermost first.
    open: Vec<String>,
    actions: usize,
    unknown: usize,
    /// Commands that were run and queries that were asked.
    commands: usize,
    queries: usize,
}

impl PlanSink {
    /// A plan on the stdout of `screen`.
    pub fn new(screen: Arc<Screen>, detail: Detail) -> Self {
        Self { screen, detail, shown: Mutex::default() }
    }
}

impl EventSink for PlanSink {
    fn event(&self, event: &Event) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let text = shown.show(&event.what, self.detail, self.screen.out_paint);
        if !text.is_empty() {
            self.screen.data(&text);
        }
    }
}

impl Shown {
    fn show(&mut self, what: &What, detail: Detail, paint: Paint) -> String {
        match what {
            What::RunBegun { playbook, mode: Mode::DryRun, .. } => {
                format!("{}\n", paint.heading(&format!("Dry run of {playbook}")))
            }
            What::Planned { action, step, plan, .. } => {
                self.actions += 1;
                self.under(step, paint) + planned(action, plan, paint).as_str()
            }
            What::Incomplete { step, reason, at } => {
                self.unknown += 1;
                let place = at.as_ref().map(|at| paint.faint(&format!(" ({at})"))).unwrap_or_default();
                let end = if step.is_empty() {
                    "  the plan ends here: what follows could not be planned\n"
                } else {
                    ""
                };
                self.under(step, paint)
                    + format!("  {} {reason}{place}\n{end}", paint.warning("unknown")).as_str()
            }
            What::StepBegun { step } => {
                self.open.push(step.clone());
                String::new()
            }
            What::StepEnded { step, outcome, failure, .. } => {
                self.open.retain(|open| open != step);
                match (outcome, failure) {
                    (Outcome::Tolerated | Outcome::Failed, Some(failure)) => {
                        self.under(step, paint) + fails(failure, *outcome, paint).as_str()
                    }
                    _ => String::new(),
                }
            }
            What::ActionTolerated { action, step, failure } => {
                self.under(step, paint) + tolerated(action, failure, paint).as_str()
            }
            What::RunEnded { .. } => self.footer(),
            What::Observed { name, answer, .. } => {
                if answer != "(known after run)" {
                    self.commands += usize::from(name == "exec");
                    self.queries += usize::from(name == "query");
                }
                lines(what, detail, paint)
            }
            What::Log { .. } => {
                let step = self.open.last().cloned().unwrap_or_default();
                self.under(&step, paint) + lines(what, detail, paint).as_str()
            }
            What::Asked { step, question } => {
                self.under(step, paint) + format!("  {} {question}\n", paint.hint("would ask:")).as_str()
            }
            What::CleanUpBegun { .. } => {
                let step = self.open.last().cloned().unwrap_or_default();
                self.under(&step, paint) + "  cleaning up, whatever happened:\n"
            }
            What::CleanUpEnded { failure: Some(_), .. } | What::Resolved { .. } => lines(what, detail, paint),
            _ => String::new(),
        }
    }

    /// The heading of `step`, unless it stands there already.
    fn under(&mut self, step: &str, paint: Paint) -> String {
        if self.step.as_deref() == Some(step) {
            return String::new();
        }
        self.step = Some(step.to_owned());
        let title = if step.is_empty() { "Outside of steps" } else { step };
        format!("\n{}\n", paint.heading(title))
    }

    fn footer(&self) -> String {
        let planned = counted(self.actions, "action");
        let unknown = match self.unknown {
            0 => String::new(),
            n => format!(", {n} could not be known"),
        };
        format!("\n{planned} planned{unknown}; {}\n", self.done())
    }

    /// What the dry run itself did: what the playbook calls read-only was done, whatever it really does.
    fn done(&self) -> String {
        let both = [(self.commands, "command"), (self.queries, "query")];
        let done: Vec<String> = both
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| match (count, what) {
                (count, "query") if count > 1 => format!("{count} queries"),
                (count, what) => counted(count, what),
            })
            .collect();
        let (were, them) = if self.commands + self.queries == 1 { ("was", "it") } else { ("were", "them") };
        if done.is_empty() {
            return "nothing was changed".to_owned();
        }
        format!(
            "{} {were} run, since the playbook calls {them} read-only; nothing else was done",
            done.join(" and ")
        )
    }
}

/// A step that fails already in the dry run.
fn fails(failure: &Failure, outcome: Outcome, paint: Paint) -> String {
    let word = if outcome == Outcome::Tolerated { "fails, and the run goes on:" } else { "fails:" };
    format!("  {} {}\n", paint.error(word), failure.message) + reasons(failure, paint).as_str()
}

/// An action that fails already in the dry run, in spite of which the run goes on.
fn tolerated(action: &str, failure: &Failure, paint: Paint) -> String {
    let word = paint.error(&format!("{action} fails, and the run goes on:"));
    format!("  {word} {}\n", failure.message) + reasons(failure, paint).as_str()
}

fn reasons(failure: &Failure, paint: Paint) -> String {
    let mut text = String::new();
    for cause in &failure.causes {
        text += &format!("            caused by: {cause}\n");
    }
    for hint in &failure.hints {
        text += &format!("            {} {hint}\n", paint.hint("hint:"));
    }
    text
}

/// One action of the plan.
fn planned(action: &str, plan: &Plan<serde_json::Value>, paint: Paint) -> String {
    let effect = match plan.effect {
        Effect::Create => "create",
        Effect::Replace => "replace",
        Effect::Destroy => "destroy",
        Effect::Notify => "notify",
        Effect::Opaque => "run",
    };
    let estimate = plan.estimate.map(|n| format!(" (about {})", units::bytes(n))).unwrap_or_default();
    let mut text = format!("  {effect:<7} {}: {}{estimate}\n", paint.heading(action), plan.summary);
    for line in plan.details.iter().flat_map(|detail| detail.lines()) {
        text += &format!("            {line}\n");
    }
    for line in &plan.unknown {
        text += &format!("            {} {line}\n", paint.warning("known after run:"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::failure::{Exit, Place};
    use crate::cli::lines::example;
    use crate::cli::screen::captured;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn shows(events: Vec<What>, expected: Expect) {
        let (screen, out, err) = captured::screen();
        let sink = PlanSink::new(screen, Detail::Steps);
        for what in events {
            sink.event(&example::at(what));
        }
        expected.assert_eq(&out.text());
        assert_eq!(err.text(), "");
    }

    fn ended() -> What {
        What::RunEnded { exit: Exit::Partial, millis: 12, failure: None, warnings: vec![], value: None }
    }

    #[test]
    fn a_plan_shows_every_action_and_what_cannot_be_known() {
        let What::Planned { action, step, at, mut plan, nth } =
            example::planned("Dump", "dump", "save shop to backups/database/shop_db.sql.gz", Effect::Create)
        else {
            unreachable!()
        };
        plan.estimate = Some(3 << 20);
        plan.details = vec!["pg_dump --format=plain --dbname=shop".into()];
        plan.unknown = vec!["size and digest".into()];
        shows(
            vec![
                example::begun(Mode::DryRun),
                What::Resolved {
                    what: "postgres".into(),
                    value: "shop at db1".into(),
                    from: vec!["host from PGHOST".into()],
                },
                What::StepBegun { step: "Dump".into() },
                What::Observed {
                    name: "disk_space".into(),
                    question: "space".into(),
                    answer: "1 GiB".into(),
                },
                What::Planned { action, step, at, plan, nth },
                What::StepBegun { step: "Rotate".into() },
                example::planned("Rotate", "rotate", "remove 2 backups", Effect::Destroy),
                example::planned("Rotate", "exec", "run `npm ci`", Effect::Opaque),
                What::Incomplete {
                    step: "Rotate".into(),
                    reason: "`code` is known only after the run".into(),
                    at: Some(Place { file: "playbooks/p.rhai".into(), line: 12, column: 5 }),
                },
                example::planned("", "notify", "success: \"done\" to hooks.example", Effect::Notify),
                example::planned("", "save", "replace x", Effect::Replace),
                ended(),
            ],
            expect![[r#"
                Dry run of backup_database
                postgres: shop at db1 (host from PGHOST)

                Dump
                  create  dump: save shop to backups/database/shop_db.sql.gz (about 3.0 MiB)
                            pg_dump --format=plain --dbname=shop
                            known after run: size and digest

                Rotate
                  destroy rotate: remove 2 backups
                  run     exec: run `npm ci`
                  unknown `code` is known only after the run (playbooks/p.rhai:12:5)

                Outside of steps
                  notify  notify: success: "done" to hooks.example
                  replace save: replace x

                5 actions planned, 1 could not be known; nothing was changed
            "#]],
        );
    }

    #[test]
    fn a_plan_tells_what_was_really_run() {
        let observed = |name: &str, answer: &str| What::Observed {
            name: name.into(),
            question: "x".into(),
            answer: answer.into(),
        };
        let end = |observed: Vec<What>| {
            let mut shown = Shown::default();
            for what in observed {
                shown.show(&what, Detail::Steps, captured::screen().0.out_paint);
            }
            shown.footer()
        };
        assert_eq!(
            end(vec![observed("query", "1"), observed("query", "(known after run)")]),
            "\n0 actions planned; 1 query was run, since the playbook calls it read-only; nothing else was done\n"
        );
        assert_eq!(
            end(vec![observed("exec", "x"), observed("query", "1"), observed("query", "2")]),
            "\n0 actions planned; 1 command and 2 queries were run, since the playbook calls them read-only; nothing else \
             was done\n"
        );
    }

    #[test]
    fn a_plan_without_actions_says_so() {
        shows(
            vec![example::begun(Mode::DryRun), ended()],
            expect![[r#"
            Dry run of backup_database

            0 actions planned; nothing was changed
        "#]],
        );
    }
}
