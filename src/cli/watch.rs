//! `lifeboat watch`: a playbook run again whenever what it depends on changes.

use crate::base::cancel::Cancel;
use crate::base::event::Mode;
use crate::base::failure::{Code, Exit, Failure};
use crate::base::units;
use crate::cli::global::{Context, Global, project_in};
use crate::cli::report::{self, Gravity, counted};
use crate::cli::run::{self, Stopped};
use crate::cli::{lint, params, reserved};
use crate::daemon::watch::{Notice, Watching, Written};
use crate::daemon::watch_set::WatchSet;
use crate::script::header::Header;
use crate::script::launch::{Checked, examine};
use crate::script::library::{Library, Playbook};
use crate::script::parameters::Given;
use crate::sys::env::Env;
use crate::sys::host::Host;
use crate::sys::signals;
use clap::{ArgMatches, Args as _, FromArgMatches};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The shortest interval of `--poll`.
const SHORTEST: Duration = Duration::from_millis(100);

/// Run a playbook again whenever it changes
///
/// What is watched: the playbook, the modules it imports, `lifeboat.toml`, `.env`, and the patterns of the header's `watch`.
/// After a change the playbook is checked, then shown as a dry run, or run for real with `--live`. Changes during a run make one
/// more run; nothing interrupts a run but Ctrl-C and SIGTERM, which end the watch (exit code 130 or 143). With
/// `--exit-on-error` a run that fails ends it too, with its exit code, so that a container is started anew.
///
/// With `--json`: the events of the runs, as `lifeboat run --json` has them.
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    override_usage = "lifeboat watch [OPTIONS] <PLAYBOOK> [PARAMETERS]",
    disable_help_subcommand = true
)]
pub struct Args {
    #[command(flatten)]
    how: How,
    #[command(subcommand)]
    playbook: Named,
}

/// What stands before the playbook's name or behind it.
#[derive(Clone, Copy, Debug, clap::Args)]
struct How {
    /// Run for real, on record as any run
    #[arg(long)]
    live: bool,
    /// Wait for the first change before the first run
    #[arg(long)]
    postpone: bool,
    /// Look at the files so often, 2s if not given, instead of being told: for network file systems
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, require_equals = true, default_missing_value = "2s", value_parser = interval)]
    poll: Option<Duration>,
    /// End with the exit code of the first run that fails
    #[arg(long)]
    exit_on_error: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    let read = units::parse_duration(text).filter(|interval| *interval >= SHORTEST);
    read.ok_or_else(|| "write it as `500ms`, `2s` or `1m`, at least `100ms`".to_owned())
}

#[derive(Debug, clap::Subcommand)]
enum Named {
    #[command(external_subcommand)]
    Playbook(Vec<OsString>),
}

/// Watches until it is asked to end.
pub fn run(args: &Args, global: &Global) -> Result<Exit, Stopped> {
    let Named::Playbook(words) = &args.playbook;
    let words = run::texts(words)?;
    let Some((name, rest)) = words.split_first() else {
        return Err(Failure::new(Code::Usage, "no playbook is named").into());
    };
    let project = project_in(rest).or_else(|| global.project.clone());
    let cx = Context::new(Global { project, ..global.clone() })?;
    let library = cx.library();
    library.find(name)?;
    let watch = Watch { name, rest, how: args.how, library, cx };
    // What is wrong with the command line itself is told at once, unless the header is yet to be repaired.
    let how = match watch.read() {
        Ok(asked) => asked.how,
        Err(Stopped::Failure(failure)) if failure.code == Code::Playbook => args.how,
        Err(stopped) => return Err(stopped),
    };
    watch.until_the_end(how)
}

/// What is watched and how, as far as it does not change.
struct Watch<'a> {
    name: &'a str,
    rest: &'a [String],
    how: How,
    library: Library,
    cx: Context,
}

/// What one reading of the playbook and the command line asks for.
struct Asked {
    playbook: Playbook,
    checked: Checked,
    header: Header,
    given: Given,
    how: How,
    cx: Context,
}

impl Watch<'_> {
    fn until_the_end(&self, how: How) -> Result<Exit, Stopped> {
        let cx = &self.cx;
        let cancel = Cancel::new();
        signals::cancel_on_signals(cancel.clone(), Duration::ZERO, cx.last_words())?;
        let host = Host::new(cx.project.clone(), cx.state.clone(), Env::default()).ended_by(&cancel);
        let notice = how.poll.map_or(Notice::Told, Notice::Looked);
        let mut watching = Watching::new(Arc::new(host), self.named(), notice)?;
        let mut good = None;
        self.refresh(&mut watching, &mut good)?;
        self.begin(&watching)?;
        let mut wait = how.postpone;
        loop {
            if wait {
                if !cancel.is_cancelled() {
                    self.say("waiting for changes");
                }
                match watching.wait() {
                    Ok(changed) => self.say(&format!("changed: {}", self.shown(&changed))),
                    Err(failure) if failure.code.exit() == Exit::Interrupted => return Ok(Exit::Interrupted),
                    Err(failure) if failure.code.exit() == Exit::Terminated => return Ok(Exit::Terminated),
                    Err(failure) => return Err(failure.into()),
                }
                self.refresh(&mut watching, &mut good)?;
            }
            wait = true;
            let exit = self.cycle(&mut watching, &cancel);
            let is_asked_to_end = matches!(exit, Exit::Interrupted | Exit::Terminated);
            let went_well = matches!(exit, Exit::Success | Exit::Warnings | Exit::Partial);
            if is_asked_to_end || (how.exit_on_error && !went_well) {
                return Ok(exit);
            }
        }
    }

    /// One run, or why there is none, and its exit code.
    fn cycle(&self, watching: &mut Watching, cancel: &Cancel) -> Exit {
        let asked = match self.read() {
            Ok(asked) => asked,
            Err(stopped) => {
                self.tell(&stopped);
                self.say("nothing was run");
                return match stopped {
                    Stopped::Failure(failure) => failure.code.exit(),
                    Stopped::Clap(_) | Stopped::Plugin(_) => Exit::Usage,
                };
            }
        };
        if asked.checked.error().is_some() {
            let source = |file: &str| self.library.source(file);
            let mut findings = asked.checked.findings;
            findings.retain(|finding| finding.error || !(asked.cx.global.quiet || asked.cx.global.json));
            asked.cx.screen.talk(&lint::text(&findings, asked.cx.screen.err_paint, &source));
            self.say(&format!("{}, nothing was run", lint::verdict(&findings)));
            return Exit::Usage;
        }
        let host = match asked.cx.host_ended_by(cancel) {
            Ok(host) => host,
            Err(failure) => {
                let exit = failure.code.exit();
                self.tell(&failure.into());
                self.say("nothing was run");
                return exit;
            }
        };
        let mode = if asked.how.live { Mode::Live } else { Mode::DryRun };
        let written = Arc::new(Written::default());
        let listener = asked.how.live.then(|| written.clone() as _);
        let landed =
            run::perform(&asked.cx, &host, &self.library, &asked.playbook, &asked.given, mode, listener);
        watching.adopt(&written.paths());
        if !matches!(landed.exit, Exit::Interrupted | Exit::Terminated) {
            self.say(&outcome(mode, landed.exit));
        }
        landed.exit
    }

    /// Reads the playbook and, with its header, the command line.
    fn read(&self) -> Result<Asked, Stopped> {
        let playbook = self.library.find(self.name)?;
        let checked = examine(&self.library, &playbook, &reserved());
        self.ask(playbook, checked)
    }

    fn ask(&self, playbook: Playbook, checked: Checked) -> Result<Asked, Stopped> {
        let header = match &checked.header {
            Ok(header) => header.clone(),
            Err(failure) => return Err(failure.clone().into()),
        };
        let matches = self.command(&header).try_get_matches_from(self.rest)?;
        let later = Global::from_arg_matches(&matches)?;
        let cx = Context::new(self.cx.global.clone().with(later, &matches))?;
        let how = How {
            live: self.how.live || is_set(&header, &matches, "live"),
            postpone: self.how.postpone || is_set(&header, &matches, "postpone"),
            exit_on_error: self.how.exit_on_error || is_set(&header, &matches, "exit_on_error"),
            poll: if is_taken(&header, "poll") { None } else { matches.get_one("poll").copied() }
                .or(self.how.poll),
        };
        if how.live && cx.global.dry_run {
            return Err(Failure::new(Code::Usage, "`--live` and `--dry-run` contradict each other")
                .hint("Leave out both for dry runs: that is what a watch makes.")
                .into());
        }
        let given = params::given(&header, &matches);
        Ok(Asked { playbook, checked, header, given, how, cx })
    }

    /// The playbook's flags and, where it has none of that name, those of the watch.
    fn command(&self, header: &Header) -> clap::Command {
        let mut command = params::command(header, &format!("lifeboat watch {}", self.name));
        for arg in How::augment_args(clap::Command::new("how")).get_arguments() {
            if arg.get_long().is_some_and(|flag| !is_taken(header, flag)) {
                command = command.arg(arg.clone());
            }
        }
        command
    }

    fn named(&self) -> WatchSet {
        WatchSet::of_name(&self.library, self.name, &self.cx.project, &self.cx.state)
    }

    /// Watches what the playbook depends on now; what it did when it last compiled, too, while it does not.
    fn refresh(&self, watching: &mut Watching, good: &mut Option<WatchSet>) -> Result<(), Failure> {
        let mut set = self.named();
        let complete = match self.library.find(self.name) {
            Err(_) => false,
            Ok(playbook) => {
                let checked = examine(&self.library, &playbook, &reserved());
                set.add(&self.library, &checked)?;
                let complete = checked.program.failures.is_empty() && checked.header.is_ok();
                if let (Ok(asked), Ok(env)) = (self.ask(playbook, checked), Env::load(&self.cx.project)) {
                    set.leave_out_folders_of(&asked.header, &asked.given, &env);
                }
                complete
            }
        };
        if complete {
            *good = Some(set.clone());
        } else if let Some(good) = good {
            set.keep(good);
        }
        watching.refresh(set)
    }

    /// Says what is watched; fails when that is nothing.
    fn begin(&self, watching: &Watching) -> Result<(), Failure> {
        let (set, name) = (watching.set(), self.name);
        if watching.files() == 0 && set.patterns().is_empty() {
            return Err(Failure::new(Code::Usage, format!("there is nothing to watch for `{name}`"))
                .caused_by("it is part of Lifeboat, its header has no `watch`, and the project has no file that it uses")
                .hint(format!(
                    "Write your own `playbooks/{name}.rhai` with `watch: [\"PATTERN\"]` in its header, or make `lifeboat.toml` \
                     or `.env`."
                )));
        }
        let patterns = match set.patterns() {
            [] => String::new(),
            patterns => format!(" ({})", patterns.join(", ")),
        };
        self.say(&format!("watching {name}: {}{patterns}", counted(watching.files(), "file")));
        Ok(())
    }

    fn shown(&self, changed: &[PathBuf]) -> String {
        const MANY: usize = 5;
        let name = |path: &PathBuf| path.strip_prefix(&self.cx.project).unwrap_or(path).display().to_string();
        let mut names: Vec<String> = changed.iter().take(MANY).map(name).collect();
        if changed.len() > MANY {
            names.push(format!("{} more", changed.len() - MANY));
        }
        names.join(", ")
    }

    /// One line with its time.
    fn say(&self, text: &str) {
        let cx = &self.cx;
        if !cx.global.quiet && !cx.global.json {
            cx.screen.talk(&format!("{} {text}\n", cx.now().format("%H:%M:%S")));
        }
    }

    fn tell(&self, stopped: &Stopped) {
        let screen = &self.cx.screen;
        let source = |file: &str| self.library.source(file);
        screen.talk(&match stopped {
            Stopped::Failure(failure) => report::failure(failure, Gravity::Error, screen.err_paint, &source),
            Stopped::Clap(error) => error.to_string(),
            Stopped::Plugin(_) => return,
        });
    }
}

/// Whether a parameter of the playbook is called so.
fn is_taken(header: &Header, flag: &str) -> bool {
    header.params.iter().any(|param| !param.positional && param.flag() == flag)
}

fn is_set(header: &Header, matches: &ArgMatches, id: &str) -> bool {
    !is_taken(header, &id.replace('_', "-")) && matches.get_flag(id)
}

/// How a run ended, in one line.
fn outcome(mode: Mode, exit: Exit) -> String {
    let what = if mode == Mode::Live { "run" } else { "dry run" };
    match exit {
        Exit::Success => format!("{what} completed"),
        Exit::Warnings => format!("{what} completed with warnings"),
        Exit::Partial => format!("{what} completed, known only in part"),
        exit => format!("{what} failed (exit {})", exit.code()),
    }
}
