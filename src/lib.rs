//! Lifeboat runs playbooks: short scripts that say how a system is backed up, checked and kept, with a host written in
//! Rust that knows how each of those things is done safely.
//!
//! # The way of a run
//!
//! A command line names a playbook. Its header becomes parameters, its text is linted, and what it names literally becomes the
//! policy of the run. The script then calls primitives. Each makes an action or an observation, a plain value, and hands it to
//! the one session of the run, which has two doors:
//!
//! - [`Session::perform`](engine::session::Session::perform) for effects. The action plans itself from
//!   [`Facts`](sys::facts::Facts); the policy decides; a dry run shows the plan and answers with its forecast, a live run carries out
//!   exactly that plan with [`Effects`](sys::effects::Effects), which a dry run does not have.
//! - [`Session::observe`](engine::session::Session::observe) for questions, which are asked in either mode, unless an effect that
//!   was only predicted would have changed the answer: that answer is [`Later::AfterRun`](base::plan::Later).
//!
//! Whatever happens on the way is an [`Event`](base::event::Event): the screen, `--json`, the log file and the journal read the same
//! ones. What goes wrong is a [`Failure`](base::failure::Failure): a code, a message, causes, a place and the remedy.
//!
//! # The rooms of the house
//!
//! Each knows those below it and none beside or above it; a test of the tree holds them to that.
//!
//! - L6 [`cli`]: commands, one per file, and all that is printed. The only place that names clap.
//! - L5 [`daemon`]: what runs playbooks when something happens instead of when somebody asks: [watching](daemon::watch), for
//!   [several playbooks](daemon::watches) too, the [timer](daemon::timer) and the [turn](daemon::turn) of schedules, the
//!   [service](daemon::service) of both, and [exports](daemon::export) for other schedulers.
//! - L4 [`script`]: the only place that names rhai. Headers, lint, the library of playbooks, the run of a script, and `bind`, which
//!   gives scripts their primitives; [`launch`](script::launch) leads a run from its name to its exit code.
//! - L3 [`engine`]: the [session](engine::session), the [policy](engine::policy), the [overlay](engine::overlay) of what a dry run
//!   predicts, the [drill](engine::drill) with its verdict, and the [alert](engine::alert) at the end.
//! - L2 [`action`]: one verb, one file. An [`Action`](action::Action) has a plan, an execution and an output that can be recorded.
//! - L2 [`observe`]: one question, one file. An [`Observation`](observe::Observation) says what it asks about.
//! - L2 [`journal`]: the record of runs, written as they happen, with intents made durable before what they announce.
//! - L1 [`sys`]: the only place that touches the system and the network: files, processes, PostgreSQL, HTTP, clock, locks, and the
//!   [`Host`](sys::host::Host) that all of it shares.
//! - L0 [`base`]: values without effects: [plans](base::plan), [events](base::event), [failures](base::failure),
//!   [secrets](base::secret) that cannot print themselves, [retention](base::retention), units.
//!
//! # Where a new thing goes
//!
//! A verb is a file in `action` and a line in [`action::NAMES`], bound under the same name in `script::bind`, and a case among the
//! contract tests, which hold every action to the same laws. A question is a file in `observe`, bound likewise.

pub mod action;
pub mod base;
pub mod cli;
pub mod daemon;
pub mod engine;
pub mod journal;
pub mod observe;
pub mod script;
pub mod sys;
