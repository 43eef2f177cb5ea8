//! `lifeboat schedule export`: what the headers' schedules are elsewhere.

use crate::base::failure::{Code, Exit, Failure};
use crate::cli::global::Context;
use crate::cli::report::{self, Gravity};
use crate::cli::schedule::left_out;
use crate::daemon::export::ofelia::Container;
use crate::daemon::export::systemd::{self, For};
use crate::daemon::export::{Export, Job, Site, cron, jobs, kubernetes, ofelia};
use crate::script::library::Library;
use crate::sys::env::Env;
use crate::sys::host::Host;
use crate::sys::{clock, program};
use chrono::Utc;
use chrono_tz::Tz;
use std::path::Path;

/// Write the schedules of all playbooks for another scheduler
///
/// What is written calls `lifeboat run --scheduled`, which decides what is due: each instant runs once, whoever knocks, and the
/// terms in the header hold. A schedule that a format cannot express is left out and told, and the exit code is 3.
///
/// `cron`: lines of a crontab. `systemd`: a service and a timer for each schedule; with `--daemon`, one service for `lifeboat
/// daemon`. `ofelia`: a file for docker-compose. `kubernetes`: a CronJob for each schedule. `lifeboat schedule install` installs
/// the first two.
///
/// With `--json`: an array of objects with `playbook`, `schedule` (null both for the daemon's service), `name` (of the unit, the
/// job or the CronJob; null for cron) and `text`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// For which scheduler: `cron`, `systemd`, `ofelia` or `kubernetes`
    #[arg(value_enum, hide_possible_values = true)]
    format: Format,
    /// systemd: the services run as this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// systemd: one service for `lifeboat daemon`, which keeps all schedules itself
    #[arg(long)]
    daemon: bool,
    /// systemd and kubernetes: what units and jobs are called [default: the name of the project's folder]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// ofelia and kubernetes: an image with Lifeboat and the programs that playbooks call
    #[arg(long, value_name = "IMAGE", default_value = "lifeboat:latest")]
    image: String,
    /// ofelia and kubernetes: the project's folder in the container
    #[arg(long, value_name = "DIR", default_value = "/project")]
    dir: String,
    /// kubernetes: the persistent volume claim that holds the project
    #[arg(long, value_name = "NAME", default_value = "lifeboat-project")]
    claim: String,
}

/// Other schedulers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Lines of a crontab
    Cron,
    /// Units of systemd
    Systemd,
    /// Labels of ofelia
    Ofelia,
    /// CronJobs
    Kubernetes,
}

/// Exports the schedules.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, Failure> {
    if args.format != Format::Systemd && (args.user.is_some() || args.daemon) {
        let flag = if args.daemon { "--daemon" } else { "--user" };
        return Err(Failure::new(Code::Usage, format!("`{flag}` is for `systemd` only"))
            .hint(format!("Leave `{flag}` out, or export for `systemd`.")));
    }
    let here = clock::zone(program::variable("TZ").as_deref())?;
    export(args, &cx.library(), &program::executable()?, here, cx)
}

fn export(args: &Args, library: &Library, program: &Path, here: Tz, cx: &Context) -> Result<Exit, Failure> {
    let (jobs, broken) = jobs(library, &cx.project, &Env::load(&cx.project)?, here)?;
    for (name, failure) in &broken {
        warn(&left_out(name, failure), library, cx);
    }
    let site = site(program, args.name.as_deref(), cx)?;
    if jobs.is_empty() && !args.daemon {
        if cx.global.json {
            cx.screen.json(&[(); 0]);
        } else {
            cx.screen.talk("no playbook has a schedule\n");
        }
    } else {
        let exported = made(args, &jobs, &site, here, cx);
        tell(&exported, library, cx);
        if cx.global.json {
            cx.screen.json(&exported.pieces);
        } else {
            cx.screen.data(&exported.text);
        }
        if !exported.left_out.is_empty() {
            return Ok(Exit::Warnings);
        }
    }
    Ok(if broken.is_empty() { Exit::Success } else { Exit::Warnings })
}

fn made(args: &Args, jobs: &[Job], site: &Site, here: Tz, cx: &Context) -> Export {
    let container = Container { image: args.image.clone(), dir: args.dir.clone() };
    let whose = For::System(args.user.clone());
    match args.format {
        Format::Cron => cron::export(jobs, site, here),
        Format::Systemd if args.daemon => systemd::daemon(jobs, site, &whose),
        Format::Systemd => systemd::export(jobs, site, &whose, cx.now().with_timezone(&Utc)),
        Format::Ofelia => ofelia::export(jobs, site, &container),
        Format::Kubernetes => kubernetes::export(jobs, site, &container, &args.claim),
    }
}

/// Tells what is left out, and what is otherwise than the header says.
pub fn tell(export: &Export, library: &Library, cx: &Context) {
    for failure in export.left_out.iter().chain(&export.notes) {
        warn(failure, library, cx);
    }
}

fn warn(failure: &Failure, library: &Library, cx: &Context) {
    let source = |file: &str| library.source(file);
    cx.screen.talk(&report::failure(failure, Gravity::Warning, cx.screen.err_paint, &source));
}

/// What all jobs of the project have in common.
///
/// # Errors
/// `Usage` for a path that other schedulers cannot name.
pub fn site(program: &Path, name: Option<&str>, cx: &Context) -> Result<Site, Failure> {
    let folder = cx.project.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(Site {
        program: path_text(program)?,
        project: path_text(&cx.project)?,
        name: name.map(str::to_owned).or(folder).unwrap_or_else(|| "root".to_owned()),
        names_project: Host::find_project(&cx.project) != cx.project,
    })
}

fn path_text(path: &Path) -> Result<String, Failure> {
    let why = match path.to_str() {
        Some(text) if !text.contains(char::is_control) => return Ok(text.to_owned()),
        Some(_) => "has a line break or another control character",
        None => "is not UTF-8",
    };
    Err(Failure::new(Code::Usage, format!("the path `{}` {why}", path.display()))
        .hint("Other schedulers cannot name it: move it to a path of ordinary characters."))
}

#[cfg(test)]
mod tests;
