//! Layer 6: commands. The only place that names clap or prints.
//!
//! One file per command; [`report`] alone makes prose of failures. What a playbook's header says becomes flags and help when
//! the playbook is named, so that a broken playbook breaks nothing but itself.

pub mod alert;
pub mod ask;
pub mod backups;
pub mod customize;
pub mod daemon;
pub mod diagnostics;
pub mod doc;
pub mod drill;
pub mod global;
pub mod history;
pub mod lines;
pub mod lint;
pub mod logs;
pub mod params;
pub mod plan;
pub mod playbooks;
pub mod progress;
#[cfg(test)]
mod recorded;
pub mod report;
pub mod resume;
pub mod run;
pub mod schedule;
pub mod scheduled;
pub mod screen;
pub mod show;
pub mod sinks;
pub mod status;
pub mod summary;
pub mod verify;
pub mod watch;

use crate::base::event::Mode;
use crate::base::failure::{Exit, Failure};
use crate::script::lint::Reserved;
use crate::sys::program;
use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use global::{Context, Global};
use report::Gravity;
use run::Stopped;
use screen::{Color, Paint, Screen};
use std::ffi::OsString;

/// How the program is called.
const PROGRAM: &str = "lifeboat";

/// Scriptable backup, recovery and rehearsal
///
/// Playbooks are commands: `lifeboat backup_database --retention 14` is `lifeboat run backup_database --retention 14`.
///
/// Exit codes: 0 success, 1 failed, 2 usage or playbook error, 3 completed with warnings, 4 the plan of a dry run is
/// partial, 5 a drill failed or missed its objective, 6 a person is needed, 10 refused by policy, 11 locked by another
/// run, 12 a backup is not intact, 130
/// interrupted, 143 terminated.
///
/// `LIFEBOAT_FAULT=fail:3` lets the third action of a run fail, `kill-before:3` and `kill-after:3` kill the run around it: to try
/// out what a playbook does then.
///
/// `LIFEBOAT_LOG=debug` tells on stderr what the program itself does: processes, connections, files, locks.
#[derive(Debug, Parser)]
#[command(
    name = PROGRAM,
    version,
    max_term_width = 100,
    allow_external_subcommands = true,
    disable_help_subcommand = true,
    override_usage = "lifeboat [OPTIONS] <COMMAND>\n       lifeboat [OPTIONS] <PLAYBOOK> [PARAMETERS]"
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Drill(drill::Args),
    Resume(resume::Args),
    Playbooks(playbooks::Args),
    Backups(backups::Args),
    Verify(verify::Args),
    Lint(lint::Args),
    History(history::Args),
    Show(show::Args),
    Status(status::Args),
    Logs(logs::Args),
    Alert(alert::Args),
    Watch(watch::Args),
    Schedule(schedule::Args),
    Daemon(daemon::Args),
    Customize(customize::Args),
    Doc(doc::Args),
    #[command(external_subcommand)]
    Playbook(Vec<OsString>),
}

/// Carries out a command line, the program's name first. Returns the exit code.
pub fn main(args: Vec<OsString>) -> u8 {
    let stopped = match dispatch(&args) {
        Ok(exit) => return exit.code(),
        Err(stopped) => stopped,
    };
    if is_for_nagios(&args)
        && let Some(why) = stopped.why()
    {
        let (line, exit) = status::unknown_to_nagios(&why);
        Screen::of_process(Color::Never, true).data(&line);
        return exit.code();
    }
    match stopped {
        Stopped::Plugin(exit) => exit.code(),
        Stopped::Clap(error) => {
            // Nobody is left to tell when the stream is closed.
            let _ = error.print();
            u8::try_from(error.exit_code()).unwrap_or(Exit::Usage.code())
        }
        Stopped::Failure(failure) => {
            fail(&args, &failure);
            failure.code.exit().code()
        }
    }
}

/// Whether a monitoring system waits for the answer, which then has to be in its form whatever happens.
fn is_for_nagios(args: &[OsString]) -> bool {
    args.iter().any(|arg| arg == "status") && args.iter().any(|arg| arg == "--nagios")
}

fn dispatch(args: &[OsString]) -> Result<Exit, Stopped> {
    let cli = parse(args)?;
    let cx = || Context::new(cli.global.clone());
    Ok(match &cli.command {
        None => return Err(help(args, &[PROGRAM.into(), "-h".into()]).into()),
        Some(Command::Run(command)) => return run::command(command, &cli.global),
        Some(Command::Drill(command)) => return drill::run(command, &cli.global),
        Some(Command::Playbook(words)) => return named(args, words, &cli.global),
        Some(Command::Resume(command)) => resume::run(command, &cli.global)?,
        Some(Command::Playbooks(command)) => playbooks::run(command, &cx()?)?,
        Some(Command::Backups(command)) => backups::run(command, &cx()?)?,
        Some(Command::Verify(command)) => return verify::run(command, &cli.global),
        Some(Command::Lint(command)) => lint::run(command, &cx()?)?,
        Some(Command::History(command)) => history::run(command, &cx()?)?,
        Some(Command::Show(command)) => show::run(command, &cx()?)?,
        Some(Command::Status(command)) => return status::run(command, &cx()?),
        Some(Command::Logs(command)) => logs::run(command, &cx()?)?,
        Some(Command::Alert(command)) => alert::run(command, &cx()?)?,
        Some(Command::Watch(command)) => return watch::run(command, &cli.global),
        Some(Command::Daemon(command)) => return daemon::run(command, &cli.global),
        Some(Command::Schedule(command)) => schedule::run(command, &cx()?)?,
        Some(Command::Customize(command)) => customize::run(command, &cx()?)?,
        Some(Command::Doc(command)) => doc::run(command, &cx()?)?,
    })
}

/// A playbook's name as a command. `lifeboat help x` is `lifeboat x --help`, be `x` a command or a playbook.
fn named(args: &[OsString], words: &[OsString], global: &Global) -> Result<Exit, Stopped> {
    match words.split_first() {
        Some((word, rest)) if word == "help" => {
            let before = args.len() - words.len();
            let again: Vec<OsString> =
                args[..before].iter().chain(rest).cloned().chain(["--help".into()]).collect();
            dispatch(&again)
        }
        _ => run::run(words, global, PROGRAM, Mode::Live),
    }
}

/// Parses a command line.
fn parse(args: &[OsString]) -> Result<Cli, clap::Error> {
    match Cli::command().try_get_matches_from(args) {
        Ok(matches) => Cli::from_arg_matches(&matches),
        Err(error) => Err(match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => help(args, args),
            _ => error,
        }),
    }
}

/// The help that `asked` asks for. It lists the playbooks too, which are looked for only here.
fn help(args: &[OsString], asked: &[OsString]) -> clap::Error {
    let mut command = Cli::command();
    let playbooks = context(args).and_then(|cx| playbooks::known(&cx.library()));
    if let Ok(playbooks) = playbooks
        && !playbooks.is_empty()
    {
        let table = playbooks::table(&playbooks, Paint::PLAIN);
        let lines: Vec<String> = table.lines().map(|line| format!("  {line}")).collect();
        let listed = format!("Playbooks:\n{}", lines.join("\n"));
        command = command.after_help(listed.clone()).mut_subcommand("run", |run| run.after_help(listed));
    }
    match command.clone().try_get_matches_from(asked) {
        Err(error) => error,
        Ok(_) => command.error(ErrorKind::DisplayHelp, ""),
    }
}

/// The context of a command line that could not be carried out, as far as it can be told.
fn context(args: &[OsString]) -> Result<Context, Failure> {
    let words: Vec<String> = args.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    Context::new(Global { project: global::project_in(&words), ..Global::default() })
}

/// Tells of a failure that ended the command.
fn fail(args: &[OsString], failure: &Failure) {
    match context(args) {
        Ok(cx) => {
            let library = cx.library();
            let source = |file: &str| library.source(file);
            cx.screen.talk(&report::failure(failure, Gravity::Error, cx.screen.err_paint, &source));
        }
        Err(_) => {
            let screen =
                Screen::of_process(Color::Auto, program::variable(global::NO_COLOR_VARIABLE).is_some());
            screen.talk(&report::failure(failure, Gravity::Error, screen.err_paint, &|_| None));
        }
    }
}

/// Names that playbooks and their parameters cannot have.
pub fn reserved() -> Reserved {
    let cli = Cli::command();
    let flags = cli.get_arguments().filter_map(|arg| arg.get_long()).chain(["help"]);
    let commands = cli.get_subcommands().map(clap::Command::get_name).chain(["help"]);
    Reserved { flags: flags.map(str::to_owned).collect(), commands: commands.map(str::to_owned).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect_file;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        let reserved = reserved();
        assert!(
            reserved.flags.contains(&"dry-run".to_owned()) && reserved.flags.contains(&"help".to_owned())
        );
        assert!(
            reserved.commands.contains(&"history".to_owned())
                && reserved.commands.contains(&"run".to_owned())
        );
    }

    #[test]
    fn help_pages_are_pinned() {
        let mut pages = String::new();
        let mut cli = Cli::command().term_width(100);
        cli.build();
        pages += &cli.render_long_help().to_string();
        for name in reserved().commands.iter().filter(|name| *name != "help") {
            let command = cli.find_subcommand_mut(name).unwrap();
            pages += &format!("\n===== {name}\n\n{}", command.render_long_help());
        }
        let test = cli.find_subcommand_mut("alert").unwrap().find_subcommand_mut("test").unwrap();
        pages += &format!("\n===== alert test\n\n{}", test.render_long_help());
        for name in ["export", "install", "uninstall"] {
            let schedule = cli.find_subcommand_mut("schedule").unwrap().find_subcommand_mut(name).unwrap();
            pages += &format!("\n===== schedule {name}\n\n{}", schedule.render_long_help());
        }
        expect_file!["help.txt"].assert_eq(&pages);
    }

    #[test]
    fn a_project_is_found_among_words_that_are_not_parsed() {
        let project = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            global::project_in(&words).map(|path| path.display().to_string())
        };
        assert_eq!(project(&["--retention", "3", "--project", "/a"]).as_deref(), Some("/a"));
        assert_eq!(project(&["--project=/a", "--project", "/b"]).as_deref(), Some("/b"));
        assert_eq!(project(&["--", "--project", "/a"]), None);
        assert_eq!(project(&["--project"]), None);
    }
}
