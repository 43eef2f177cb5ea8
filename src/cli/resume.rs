//! `lifeboat resume`: a run that ended early goes on.

use crate::base::event::Mode;
use crate::base::failure::{Code, Exit, Failure};
use crate::base::ids::RunId;
use crate::base::resume::{Resuming, Settle};
use crate::cli::global::{Context, Global};
use crate::cli::run;
use crate::journal::reader;
use crate::script::parameters::Given;
use crate::script::resume::Resumable;
use crate::sys::signals;
use std::time::Duration;

/// Go on with a run that failed, was interrupted or killed
///
/// Its playbook runs again, with the parameters, the names and the time of the run, in the same record. A step is kept if it
/// was completed and all that it did still stands; within other steps the same holds for each action. A step that only
/// looked keeps its value: what was decided, such as which backup is restored, stays decided; without a value it is done
/// again. So are programs, unless `exec` was told `done_if`. Secrets are looked up again.
///
/// Where nobody can tell whether something was done, the run stops with exit code 6: look at it, then say `--redo` or `--trust`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run: `latest`, the newest that ended early, or the beginning of its name or of its letters [default: latest]
    #[arg(value_name = "RUN", default_value = "latest", hide_default_value = true)]
    run: String,
    /// Run the playbook as it is now, though it has changed since
    #[arg(long)]
    accept_changed: bool,
    /// Do again what may be done already
    #[arg(long, conflicts_with = "trust")]
    redo: bool,
    /// Take what may be done for done, where what it returned is known
    #[arg(long)]
    trust: bool,
}

/// How many other runs a refusal names.
const OTHERS: usize = 3;

/// Names the runs that could be resumed instead.
fn with_others(failure: Failure, cx: &Context, run: &RunId) -> Failure {
    let mut others = reader::resumable(&cx.state, OTHERS + 1).unwrap_or_default();
    others.retain(|other| other.run != *run);
    let others: Vec<String> = others
        .iter()
        .take(OTHERS)
        .map(|other| {
            let began =
                other.began.map(|began| began.format(" of %Y-%m-%d %H:%M").to_string()).unwrap_or_default();
            format!("`lifeboat resume {}` ({}{began})", other.run.letters(), other.playbook)
        })
        .collect();
    match others.is_empty() {
        true => failure,
        false => failure.hint(format!("What can be resumed: {}.", others.join(", "))),
    }
}

/// Resumes a run.
pub fn run(args: &Args, global: &Global) -> Result<Exit, Failure> {
    let cx = Context::new(global.clone())?;
    if cx.global.dry_run {
        return Err(Failure::new(Code::Usage, "`resume` has no dry run")
            .hint("`lifeboat show RUN` shows what the run has done so far."));
    }
    let run = reader::find_resumable(&cx.state, &args.run)?;
    let resumable = Resumable::read(&cx.state, &run).map_err(|failure| with_others(failure, &cx, &run))?;
    let library = cx.library();
    // A path is meant from the project, wherever this is called.
    let name = cx.project.join(&resumable.playbook);
    let playbook = match library.find(&resumable.playbook) {
        Err(_) if name.is_file() => library.find(&name.display().to_string())?,
        found => found?,
    };
    let settle = match (args.redo, args.trust) {
        (true, _) => Settle::Redo,
        (_, true) => Settle::Trust,
        _ => Settle::Ask,
    };
    let terms = Resuming { run: run.to_string(), settle, accept_changed: args.accept_changed };
    let host = cx.host_resuming(terms, resumable.began.into())?;
    signals::cancel_on_signals(host.cancel().clone(), Duration::ZERO, cx.last_words())?;
    Ok(run::perform(&cx, &host, &library, &playbook, &Given::new(), Mode::Live, None).exit)
}
