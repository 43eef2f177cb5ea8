//! `lifeboat run`, and playbooks as commands.

use crate::base::diagnostic::did_you_mean;
use crate::base::drill::Verdict;
use crate::base::event::{Event, EventSink, Events, Mode, What};
use crate::base::failure::{Code, Exit, Failure, PluginExit};
use crate::base::units;
use crate::cli::global::{Context, Global, project_in};
use crate::cli::plan::PlanSink;
use crate::cli::progress::LiveSink;
use crate::cli::report::{self, Gravity, Source};
use crate::cli::sinks::{JsonSink, PlainSink};
use crate::cli::summary::{self, Ended};
use crate::cli::{ask, drill, lint, params, reserved, scheduled};
use crate::journal::daily;
use crate::script::header::{self, Header};
use crate::script::launch::{Landed, Launch, launch};
use crate::script::library::{Library, Playbook};
use crate::script::lint::Finding;
use crate::script::parameters::Given;
use crate::sys::host::Host;
use crate::sys::signals;
use clap::FromArgMatches;
use indicatif::ProgressDrawTarget;
use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Run a playbook
///
/// A playbook is named, or given as a path. Its name alone is a command too: `lifeboat backup_database --retention 14`.
/// `lifeboat run PLAYBOOK --help` shows its parameters.
///
/// With `--json`: the events of the run as JSON lines, each with `time` and `what`; the last one is `run_ended`, with `exit`,
/// `millis`, `failure`, `warnings` and `value`.
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    override_usage = "lifeboat run [OPTIONS] <PLAYBOOK> [PARAMETERS]",
    disable_help_subcommand = true
)]
pub struct Args {
    #[command(flatten)]
    how: How,
    #[command(subcommand)]
    playbook: Named,
}

/// What stands before the playbook's name, for those who start runs by a clock.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct How {
    /// Run as the schedule of this name in the header: with its parameters, its instant as the time of the run, and once for
    /// each instant
    ///
    /// A schedule is called by its `name`, or else by its cron expression: `lifeboat run --scheduled '0 2 * * *' backup_database`.
    #[arg(long, value_name = "SCHEDULE")]
    pub scheduled: Option<String>,
    /// On SIGTERM, let the current step end first if it does so within this time; `lifeboat resume` then goes on
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub grace: Option<Duration>,
}

/// A duration as an option.
pub fn duration(text: &str) -> Result<Duration, String> {
    units::parse_duration(text).ok_or_else(|| "write a number and a unit, for example `30s`".to_owned())
}

#[derive(Debug, clap::Subcommand)]
enum Named {
    #[command(external_subcommand)]
    Playbook(Vec<OsString>),
}

/// Carries out `lifeboat run`.
pub fn command(args: &Args, global: &Global) -> Result<Exit, Stopped> {
    let Named::Playbook(words) = &args.playbook;
    match &args.how.scheduled {
        Some(schedule) => scheduled::run(schedule, words, &args.how, global),
        None => run_within(words, global, "lifeboat run", Mode::Live, args.how.grace.unwrap_or_default()),
    }
}

/// What keeps a command line from being carried out.
#[derive(Debug)]
pub enum Stopped {
    /// A failure.
    Failure(Box<Failure>),
    /// What clap prints: its errors, and help.
    Clap(clap::Error),
    /// The verdict of a monitoring plugin, whose codes are not those of runs.
    Plugin(PluginExit),
}

impl Stopped {
    /// Why in one line; `None` if it is no error, such as help that was asked for.
    pub fn why(&self) -> Option<String> {
        match self {
            Self::Failure(failure) => Some(failure.to_string()),
            Self::Clap(error) if error.exit_code() == 0 => None,
            Self::Clap(error) => {
                let text = error.to_string();
                let line = text.lines().next().unwrap_or_default();
                Some(line.strip_prefix("error: ").unwrap_or(line).to_owned())
            }
            Self::Plugin(_) => None,
        }
    }
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Failure(Box::new(failure))
    }
}

impl From<clap::Error> for Stopped {
    fn from(error: clap::Error) -> Self {
        Self::Clap(error)
    }
}

/// Runs the playbook `words[0]` with the parameters behind it, live or as a drill. `command` is what stands before:
/// `lifeboat run`.
pub fn run(words: &[OsString], global: &Global, command: &str, mode: Mode) -> Result<Exit, Stopped> {
    run_within(words, global, command, mode, Duration::ZERO)
}

/// A playbook and its parameters, as a command line names them.
pub struct Asked {
    /// Playbooks and modules.
    pub library: Library,
    /// The playbook.
    pub playbook: Playbook,
    /// Its header.
    pub header: Header,
    /// What is given on the command line.
    pub given: Given,
    /// Project, screen and options.
    pub cx: Context,
}

/// Reads the words of a command line: the playbook, then its parameters.
pub fn ask(words: &[OsString], global: &Global, command: &str) -> Result<Asked, Stopped> {
    let words = texts(words)?;
    let Some((name, rest)) = words.split_first() else {
        return Err(Failure::new(Code::Usage, "no playbook is named").into());
    };
    // Which project it is decides which playbook it is, so this option is looked for first.
    let project = project_in(rest).or_else(|| global.project.clone());
    let library = Context::new(Global { project: project.clone(), ..global.clone() })?.library();
    let playbook = library.find(name).map_err(|failure| unknown(failure, name, command, &library))?;
    let header = header::header(&playbook)?;
    let matches = params::command(&header, &format!("{command} {name}")).try_get_matches_from(rest)?;
    let given = params::given(&header, &matches);
    let cx = Context::new(global.clone().with(Global::from_arg_matches(&matches)?, &matches))?;
    Ok(Asked { library, playbook, header, given, cx })
}

fn run_within(
    words: &[OsString],
    global: &Global,
    command: &str,
    mode: Mode,
    grace: Duration,
) -> Result<Exit, Stopped> {
    let Asked { library, playbook, given, cx, .. } = ask(words, global, command)?;
    let name = &playbook.name;
    let host = cx.host()?;
    signals::cancel_on_signals(host.cancel().clone(), grace, cx.last_words())?;
    let mode = match mode {
        Mode::Drill if cx.global.dry_run => {
            return Err(Failure::new(Code::Usage, "a drill cannot be a dry run")
                .hint(format!("`lifeboat run {name} --dry-run` shows what the playbook would do; a drill does it, in a sandbox."))
                .into());
        }
        mode if cx.global.dry_run && mode == Mode::Live => Mode::DryRun,
        mode => mode,
    };
    let landed = perform(&cx, &host, &library, &playbook, &given, mode, None);
    Ok(landed.exit)
}

/// Runs a playbook on `host`, telling the screen and `listener` what happens, and the screen how it ended.
pub fn perform(
    cx: &Context,
    host: &Arc<Host>,
    library: &Library,
    playbook: &Playbook,
    given: &Given,
    mode: Mode,
    listener: Option<Events>,
) -> Landed {
    let last = Arc::new(Last::default());
    if let Some(asker) = ask::asker(&cx.screen, cx.global.yes, cx.global.json) {
        host.answered_by(asker);
    }
    let mut sinks = vec![screen(cx, mode), last.clone() as Events];
    sinks.extend(listener);
    let reserved = reserved();
    let landed = launch(host, Launch { library, playbook, given, mode, reserved: &reserved, sinks });
    let log = host.shown(&daily::file_of(&cx.project.join("logs"), host.began().date_naive()));
    let end = End { landed: &landed, last: last.get(), playbook: &playbook.name, mode, log: &log };
    if let Some(verdict) = last.verdict().filter(|_| !cx.global.json) {
        cx.screen.data(&drill::text(&verdict, &playbook.name, cx.screen.out_paint));
    }
    cx.screen.talk(&told(cx, &end, &|file| library.source(file)));
    landed
}

/// Words of the command line as text.
pub fn texts(words: &[OsString]) -> Result<Vec<String>, Failure> {
    words.iter().map(text).collect()
}

fn text(word: &OsString) -> Result<String, Failure> {
    word.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Failure::new(Code::Usage, format!("the argument `{}` is not UTF-8", word.display())))
}

/// A word that is neither a playbook nor, where commands stand, a command.
fn unknown(failure: Failure, name: &str, command: &str, library: &Library) -> Failure {
    if command != super::PROGRAM || failure.code != Code::Usage || name.contains('/') {
        return failure;
    }
    let mut words = reserved().commands;
    words.extend(library.list().unwrap_or_default().into_iter().map(|entry| entry.name));
    let failure = Failure::new(Code::Usage, format!("there is no command or playbook `{name}`"));
    match did_you_mean(name, words.iter().map(String::as_str)) {
        Some(close) => failure.hint(format!("Did you mean `{close}`?")),
        None => failure.hint("`lifeboat --help` lists commands and playbooks."),
    }
}

/// The screen as a consumer of events.
fn screen(cx: &Context, mode: Mode) -> Events {
    let (screen, detail) = (cx.screen.clone(), cx.global.detail());
    if cx.global.json {
        Arc::new(JsonSink::new(screen))
    } else if mode == Mode::DryRun {
        Arc::new(PlanSink::new(screen, detail))
    // Diagnostics would be written across a live view.
    } else if screen.live && !cx.global.quiet && cx.diagnostics.is_none() {
        Arc::new(LiveSink::new(ProgressDrawTarget::stderr, detail, screen.err_paint))
    } else {
        Arc::new(PlainSink::new(screen, detail))
    }
}

/// Keeps what the end of a run says.
#[derive(Default)]
struct Last {
    end: Mutex<(Option<u64>, Vec<String>)>,
    verdict: Mutex<Option<Box<Verdict>>>,
}

impl Last {
    fn get(&self) -> (Option<u64>, Vec<String>) {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn verdict(&self) -> Option<Box<Verdict>> {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl EventSink for Last {
    fn event(&self, event: &Event) {
        if let What::RunEnded { millis, warnings, .. } = &event.what {
            *self.end.lock().unwrap_or_else(PoisonError::into_inner) = (Some(*millis), warnings.clone());
        }
        if let What::Drilled(verdict) = &event.what {
            *self.verdict.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdict.clone());
        }
    }
}

/// The end of a run.
struct End<'a> {
    landed: &'a Landed,
    /// Milliseconds and warnings; nothing of a run that did not begin.
    last: (Option<u64>, Vec<String>),
    playbook: &'a str,
    mode: Mode,
    log: &'a str,
}

/// What is said at the end, on stderr.
fn told(cx: &Context, end: &End<'_>, source: Source<'_>) -> String {
    let paint = cx.screen.err_paint;
    let (landed, (millis, warnings)) = (end.landed, &end.last);
    let errors_only = cx.global.quiet || cx.global.json;
    let findings: Vec<Finding> =
        landed.findings.iter().filter(|finding| finding.error || !errors_only).cloned().collect();
    let mut text = lint::text(&findings, paint, source);
    // A plan has its own end, and what did not begin has none.
    if errors_only || end.mode == Mode::DryRun || millis.is_none() {
        if let Some(failure) = &landed.failure {
            text += &report::failure(failure, Gravity::Error, paint, source);
        }
        return text;
    }
    let name = match end.mode {
        Mode::Drill => format!("drill of {}", end.playbook),
        Mode::Live | Mode::DryRun => end.playbook.to_owned(),
    };
    let ended = Ended {
        playbook: &name,
        run: landed.run.as_ref(),
        exit: landed.exit,
        millis: *millis,
        failure: landed.failure.as_ref(),
        warnings,
        // A drill is no backup, and the log is read by those who look for backups.
        log: (end.mode == Mode::Live).then_some(end.log),
    };
    text + summary::ended(&ended, paint, source).as_str()
}
