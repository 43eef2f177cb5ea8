//! Options that every command takes, and what they stand for.

use crate::base::cancel::Cancel;
use crate::base::failure::Failure;
use crate::base::resume::Resuming;
use crate::base::schedule::Scheduled;
use crate::cli::diagnostics;
use crate::cli::lines::Detail;
use crate::cli::screen::{Color, Screen};
use crate::engine::injection::{self, Injection};
use crate::script::library::Library;
use crate::sys::clock::Clock;
use crate::sys::env::Env;
use crate::sys::host::Host;
use crate::sys::program;
use chrono::{DateTime, Local};
use clap::ArgMatches;
use clap::parser::ValueSource;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Names the project folder, as `--project` does.
pub const PROJECT_VARIABLE: &str = "LIFEBOAT_PROJECT";
/// Names the folder of journal and locks; `.lifeboat` in the project otherwise.
pub const STATE_VARIABLE: &str = "LIFEBOAT_STATE";
/// Set to anything, it asks for output without colours.
pub const NO_COLOR_VARIABLE: &str = "NO_COLOR";

/// Options that every command takes.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Project folder [default: the nearest one above with `lifeboat.toml` or `playbooks/`] [env: LIFEBOAT_PROJECT]
    #[arg(long, value_name = "DIR", global = true)]
    pub project: Option<PathBuf>,
    /// Show what would be done, and change nothing
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// Answer every question with yes, in advance
    #[arg(short, long, global = true)]
    pub yes: bool,
    /// Write JSON to stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// Tell errors only
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Tell also what was asked, and what other programs print
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Use colours: `auto`, `always` or `never` [default: auto]
    #[arg(
        long,
        value_name = "WHEN",
        global = true,
        value_enum,
        default_value_t,
        hide_possible_values = true,
        hide_default_value = true
    )]
    pub color: Color,
}

impl Global {
    /// These options, with those that stand behind a playbook's name laid over.
    pub fn with(mut self, later: Self, matches: &ArgMatches) -> Self {
        self.project = later.project.or(self.project);
        self.dry_run |= later.dry_run;
        self.yes |= later.yes;
        self.json |= later.json;
        self.quiet |= later.quiet;
        self.verbose |= later.verbose;
        if matches.value_source("color") == Some(ValueSource::CommandLine) {
            self.color = later.color;
        }
        self
    }

    /// How much is told.
    pub fn detail(&self) -> Detail {
        match (self.quiet, self.verbose) {
            (true, _) => Detail::Errors,
            (_, true) => Detail::All,
            _ => Detail::Steps,
        }
    }
}

/// What every command works with.
pub struct Context {
    /// The options.
    pub global: Global,
    /// Root folder of the project, absolute.
    pub project: PathBuf,
    /// Folder of journal and locks.
    pub state: PathBuf,
    /// Where output goes.
    pub screen: Arc<Screen>,
    /// Which diagnostics of the host itself are told, if any.
    pub diagnostics: Option<String>,
}

impl Context {
    /// What is said when a second interrupt ends the program at once.
    pub fn last_words(&self) -> impl FnOnce() + Send + 'static {
        let screen = self.screen.clone();
        move || {
            screen.talk(
                "\ninterrupted twice: ended at once, in the middle of a clean-up too; `lifeboat status` tells what is left to do\n",
            );
        }
    }

    /// The context of these options.
    pub fn new(global: Global) -> Result<Self, Failure> {
        let here = program::working_dir()?;
        let named = global.project.clone().or_else(|| program::variable(PROJECT_VARIABLE).map(PathBuf::from));
        let project = match named {
            Some(named) => absolute(&here, &named),
            None => Host::find_project(&here),
        };
        if !project.is_dir() {
            return Err(Failure::new(
                crate::base::failure::Code::Usage,
                format!("there is no folder `{}`", project.display()),
            )
            .hint(format!("Name an existing folder with `--project DIR` or `{PROJECT_VARIABLE}`.")));
        }
        let state = match program::variable(STATE_VARIABLE) {
            Some(named) => absolute(&here, Path::new(&named)),
            None => project.join(".lifeboat"),
        };
        let screen = Screen::of_process(global.color, program::variable(NO_COLOR_VARIABLE).is_some());
        let diagnostics = program::variable(diagnostics::VARIABLE);
        Clock::check(program::variable("LIFEBOAT_NOW").as_deref())?;
        Ok(Self { global, project, state, screen, diagnostics })
    }

    /// The playbooks and modules of the project.
    pub fn library(&self) -> Library {
        Library::new(&self.project)
    }

    /// The machine, for a command that runs something.
    pub fn host(&self) -> Result<Arc<Host>, Failure> {
        self.host_ended_by(&Cancel::new())
    }

    /// The machine, for one run of a command that makes several; all of them end with `cancel`.
    pub fn host_ended_by(&self, cancel: &Cancel) -> Result<Arc<Host>, Failure> {
        self.host_with(|host| host.ended_by(cancel))
    }

    /// The machine, for a run that goes on since it `began`.
    pub fn host_resuming(&self, terms: Resuming, began: DateTime<Local>) -> Result<Arc<Host>, Failure> {
        self.host_with(|host| host.resuming(terms, began))
    }

    /// The machine, for a run of a schedule; it ends with `cancel`.
    pub fn host_scheduled(&self, scheduled: &Scheduled, cancel: &Cancel) -> Result<Arc<Host>, Failure> {
        self.host_with(|host| host.ended_by(cancel).scheduled_for(scheduled.clone()))
    }

    fn host_with(&self, with: impl FnOnce(Host) -> Host) -> Result<Arc<Host>, Failure> {
        let env = Env::load(&self.project)?;
        Clock::check(env.value("LIFEBOAT_NOW"))?;
        env.value(injection::VARIABLE).map(Injection::parse).transpose()?;
        let host = Arc::new(with(Host::new(self.project.clone(), self.state.clone(), env)));
        if let Some(filter) = &self.diagnostics {
            diagnostics::begin(filter, &self.screen, host.masker())?;
        }
        Ok(host)
    }

    /// The time by which output goes.
    pub fn now(&self) -> DateTime<Local> {
        Clock::new(program::variable("LIFEBOAT_NOW").as_deref()).now()
    }
}

/// The value of `--project` among words that are not parsed yet.
pub fn project_in(words: &[String]) -> Option<PathBuf> {
    let mut words = words.iter().take_while(|word| *word != "--");
    let mut found = None;
    while let Some(word) = words.next() {
        if let Some(value) = word.strip_prefix("--project=") {
            found = Some(value.into());
        } else if word == "--project" {
            found = words.next().map(PathBuf::from);
        }
    }
    found
}

/// An absolute path without `.` and `..` where they can be told without looking.
fn absolute(here: &Path, path: &Path) -> PathBuf {
    let joined = here.join(path);
    crate::sys::fs::resolved(&joined)
}

/// A context whose output tests read.
#[cfg(test)]
pub mod test {
    use super::*;
    use crate::cli::screen::captured::{self, Captured};

    /// A context for a project, its stdout and its stderr.
    pub fn context(project: &Path, global: Global) -> (Context, Captured, Captured) {
        let (screen, out, err) = captured::screen();
        let state = project.join(".lifeboat");
        (Context { global, project: project.to_path_buf(), state, screen, diagnostics: None }, out, err)
    }
}
