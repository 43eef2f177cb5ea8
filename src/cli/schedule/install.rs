//! `lifeboat schedule install` and `uninstall`: the schedules in this user's crontab, or as units of systemd.
//!
//! The difference is shown first, and a person says yes. What stands in a crontab beside the project's own block stays as it
//! is, and of units only those are touched whose first line names this project.

use crate::base::failure::{Code, Exit, Failure};
use crate::cli::ask;
use crate::cli::global::Context;
use crate::cli::schedule::export::{site, tell};
use crate::cli::schedule::left_out;
use crate::daemon::export::systemd::{self, For, mark};
use crate::daemon::export::{Export, Job, Site, cron, jobs};
use crate::sys::env::Env;
use crate::sys::process::Command;
use crate::sys::{clock, crontab, fs, program};
use chrono::Utc;
use serde::Serialize;
use similar::TextDiff;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Install the schedules of all playbooks in cron or systemd
///
/// The difference is shown first, then asked whether to go on. Installing again changes only what is different. cron: a block of
/// this user's crontab that belongs to the project; all other lines stay. systemd: a service and a timer for each schedule, enabled
/// and started, in `/etc/systemd/system` for root and `~/.config/systemd/user` for others; units of schedules that are gone are
/// removed.
///
/// With `--json`: an object with `changes` (objects with `path`, which is `crontab` for cron, and `diff`) and `installed`
/// (whether they were made).
#[derive(Debug, clap::Args)]
pub struct InstallArgs {
    /// Where: `cron` or `systemd`
    #[arg(value_enum, hide_possible_values = true)]
    at: At,
    /// systemd: the services run as this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// systemd: one service for `lifeboat daemon`, which keeps all schedules itself
    #[arg(long)]
    daemon: bool,
    /// systemd: what the units are called [default: the name of the project's folder]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// systemd: write the units below this folder, as for an image, and enable nothing
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// systemd: write the units, and enable nothing
    #[arg(long)]
    no_enable: bool,
}

/// Remove what `lifeboat schedule install` has installed
///
/// The difference is shown first, then asked whether to go on.
///
/// With `--json`: as `lifeboat schedule install` has it.
#[derive(Debug, clap::Args)]
pub struct UninstallArgs {
    /// Where: `cron` or `systemd`
    #[arg(value_enum, hide_possible_values = true)]
    at: At,
    /// systemd: the units are below this folder, as of an image
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// systemd: remove the units, and disable nothing
    #[arg(long)]
    no_enable: bool,
}

/// Where schedules are installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum At {
    /// This user's crontab
    Cron,
    /// Units of systemd
    Systemd,
}

#[derive(Debug, Serialize)]
struct Told {
    changes: Vec<Change>,
    installed: bool,
}

/// One file that changes.
#[derive(Debug, Serialize)]
struct Change {
    path: String,
    diff: String,
    #[serde(skip)]
    new: Option<String>,
}

impl Change {
    fn of(path: &str, old: Option<&str>, new: Option<&str>) -> Option<Self> {
        if old == new {
            return None;
        }
        let name = |side: Option<&str>| if side.is_some() { path.to_owned() } else { "/dev/null".to_owned() };
        let diff = TextDiff::from_lines(old.unwrap_or_default(), new.unwrap_or_default());
        let diff = diff.unified_diff().header(&name(old), &name(new)).to_string();
        Some(Self { path: path.to_owned(), diff, new: new.map(str::to_owned) })
    }
}

/// Installs the schedules.
pub fn install(args: &InstallArgs, cx: &Context) -> Result<Exit, Failure> {
    let here = clock::zone(program::variable("TZ").as_deref())?;
    let (jobs, broken) = jobs(&cx.library(), &cx.project, &Env::load(&cx.project)?, here)?;
    if let Some((name, failure)) = broken.first() {
        let mut failure = left_out(name, failure);
        failure.message = format!("the schedules of `{name}` cannot be installed: it is broken");
        return Err(failure);
    }
    let site = site(&program::executable()?, args.name.as_deref(), cx)?;
    match args.at {
        At::Cron => {
            let flags =
                [("--user", args.user.is_some()), ("--daemon", args.daemon), ("--root", args.root.is_some())];
            refuse(&flags)?;
            let exported = cron::export(&jobs, &site, here);
            tell(&exported, &cx.library(), cx);
            let block = (!exported.pieces.is_empty()).then_some(exported.text.as_str());
            change_crontab(&site, block, cx)?;
            Ok(exit(&exported))
        }
        At::Systemd => {
            let place = Place::of(args.root.as_deref(), args.no_enable)?;
            let exported = units(args, &jobs, &site, &place, cx);
            tell(&exported, &cx.library(), cx);
            change_units(&site, &place, &exported, cx)?;
            Ok(exit(&exported))
        }
    }
}

/// Removes the schedules.
pub fn uninstall(args: &UninstallArgs, cx: &Context) -> Result<Exit, Failure> {
    let site = site(&program::executable()?, None, cx)?;
    match args.at {
        At::Cron => {
            refuse(&[("--root", args.root.is_some())])?;
            change_crontab(&site, None, cx)?;
        }
        At::Systemd => {
            let place = Place::of(args.root.as_deref(), args.no_enable)?;
            change_units(&site, &place, &Export::default(), cx)?;
        }
    }
    Ok(Exit::Success)
}

fn exit(export: &Export) -> Exit {
    if export.left_out.is_empty() { Exit::Success } else { Exit::Warnings }
}

fn refuse(flags: &[(&str, bool)]) -> Result<(), Failure> {
    match flags.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((flag, _)) => Err(Failure::new(Code::Usage, format!("`{flag}` is for `systemd` only"))
            .hint(format!("Leave `{flag}` out."))),
    }
}

fn change_crontab(site: &Site, block: Option<&str>, cx: &Context) -> Result<(), Failure> {
    let host = cx.host()?;
    let old = crontab::read(&host)?;
    let new = cron::with_block(&old, &site.project, block)?;
    let changes: Vec<Change> = Change::of("crontab", Some(&old), Some(&new)).into_iter().collect();
    let agreed = agreed(changes, "change the crontab", cx)?;
    agreed.make(cx, |_| crontab::write(&host, &new))
}

/// Where units are written, and whose they are.
struct Place {
    dir: PathBuf,
    is_of_user: bool,
    enables: bool,
}

impl Place {
    fn of(root: Option<&Path>, no_enable: bool) -> Result<Self, Failure> {
        if let Some(root) = root {
            let dir = program::working_dir()?.join(root).join("etc/systemd/system");
            return Ok(Self { dir, is_of_user: false, enables: false });
        }
        if !no_enable && !fs::exists(Path::new("/run/systemd/system"))? {
            return Err(Failure::new(Code::Usage, "systemd does not run on this machine").hint(
                "Use `lifeboat schedule install cron` or `lifeboat daemon`, or write the units alone with `--no-enable` or `--root DIR`.",
            ));
        }
        if fs::is_root() {
            return Ok(Self { dir: "/etc/systemd/system".into(), is_of_user: false, enables: !no_enable });
        }
        let config = program::variable("XDG_CONFIG_HOME").map(PathBuf::from);
        let home = || program::variable("HOME").map(|home| PathBuf::from(home).join(".config"));
        let config = config.or_else(home).ok_or_else(|| {
            Failure::new(Code::Usage, "cannot tell where the units of this user are")
                .hint("Set HOME or XDG_CONFIG_HOME.")
        })?;
        Ok(Self { dir: config.join("systemd/user"), is_of_user: true, enables: !no_enable })
    }
}

fn units(args: &InstallArgs, jobs: &[Job], site: &Site, place: &Place, cx: &Context) -> Export {
    let whose = if place.is_of_user { For::User } else { For::System(args.user.clone()) };
    match args.daemon {
        true => systemd::daemon(jobs, site, &whose),
        false => systemd::export(jobs, site, &whose, cx.now().with_timezone(&Utc)),
    }
}

fn change_units(site: &Site, place: &Place, exported: &Export, cx: &Context) -> Result<(), Failure> {
    let wanted: BTreeMap<&str, &str> = exported
        .pieces
        .iter()
        .filter_map(|piece| Some((piece.name.as_deref()?, piece.text.as_str())))
        .collect();
    let (mut changes, mut gone) = (Vec::new(), Vec::new());
    for (name, text) in &wanted {
        let path = place.dir.join(name);
        let old = fs::read_text(&path)?;
        if old.as_ref().is_some_and(|old| !is_of(old, site)) {
            return Err(Failure::new(
                Code::Usage,
                format!("`{}` is not a unit of this project", path.display()),
            )
            .hint("Give the units of this project another name with `--name NAME`."));
        }
        changes.extend(Change::of(&path.display().to_string(), old.as_deref(), Some(text)));
    }
    for name in fs::file_names(&place.dir)? {
        let is_unit =
            name.starts_with("lifeboat-") && (name.ends_with(".service") || name.ends_with(".timer"));
        if !is_unit || wanted.contains_key(name.as_str()) {
            continue;
        }
        let path = place.dir.join(&name);
        if let Some(old) = fs::read_text(&path)?.filter(|old| is_of(old, site)) {
            changes.extend(Change::of(&path.display().to_string(), Some(&old), None));
            // A run that goes on may end: only what starts by itself is stopped.
            if starts_by_itself(&old) {
                gone.push(name);
            }
        }
    }
    let has_changes = !changes.is_empty();
    let agreed = agreed(changes, "change these units", cx)?;
    let is_dry = agreed.is_dry;
    if !is_dry && place.enables && !gone.is_empty() {
        let names: Vec<&str> = gone.iter().map(String::as_str).collect();
        systemctl(&[&["disable", "--now"], &names[..]].concat(), place, cx)?;
    }
    if !is_dry {
        fs::create_readable_dir(&place.dir)?;
    }
    agreed.make(cx, |change| match &change.new {
        Some(text) => fs::replace_readable(Path::new(&change.path), text.as_bytes(), "schedule"),
        None => fs::remove(Path::new(&change.path)),
    })?;
    if is_dry {
        return Ok(());
    }
    if !wanted.is_empty() {
        // systemd makes the log, and not its folder.
        fs::create_dir(&cx.project.join("logs"))?;
    }
    if place.is_of_user && has_changes && !wanted.is_empty() && !cx.global.quiet && !cx.global.json {
        cx.screen.talk(
            "this user's units run while they are logged in; `loginctl enable-linger` lets them run always\n",
        );
    }
    if place.enables {
        if has_changes {
            systemctl(&["daemon-reload"], place, cx)?;
        }
        let begun: Vec<&str> =
            wanted.iter().filter(|(_, text)| starts_by_itself(text)).map(|(name, _)| *name).collect();
        if !begun.is_empty() {
            systemctl(&[&["enable"], &begun[..]].concat(), place, cx)?;
            // A unit that runs takes what is new only from its next start on.
            systemctl(&[&[if has_changes { "restart" } else { "start" }], &begun[..]].concat(), place, cx)?;
        }
    }
    Ok(())
}

/// Whether a unit is one of this project.
fn is_of(unit: &str, site: &Site) -> bool {
    unit.lines().next() == Some(mark(site).as_str())
}

/// Whether a unit is one that is enabled, and not one that a timer starts.
fn starts_by_itself(unit: &str) -> bool {
    unit.contains("\n[Install]\n")
}

fn systemctl(args: &[&str], place: &Place, cx: &Context) -> Result<(), Failure> {
    let mut command = Command::new("systemctl").unseen();
    if place.is_of_user {
        command = command.arg("--user");
        // Without it the user's own systemd is not found.
        if let Some(dir) = program::variable("XDG_RUNTIME_DIR") {
            command = command.env("XDG_RUNTIME_DIR", crate::sys::process::Value::Plain(dir));
        }
    }
    command.args(args.iter().copied()).run(&cx.host()?)?.checked().map(drop)
}

/// Changes that were shown, and may be made.
struct Agreed {
    changes: Vec<Change>,
    is_dry: bool,
}

/// Shows the changes, and asks whether they are to be made.
///
/// # Errors
/// `Confirm` when the answer is no, or when nobody can be asked.
fn agreed(changes: Vec<Change>, what: &str, cx: &Context) -> Result<Agreed, Failure> {
    let is_dry = cx.global.dry_run;
    if !cx.global.json {
        let diff: Vec<&str> = changes.iter().map(|change| change.diff.as_str()).collect();
        cx.screen.data(&diff.join("\n"));
    }
    if changes.is_empty() || is_dry {
        return Ok(Agreed { changes, is_dry });
    }
    let question = format!("{what}?");
    let answer = ask::asker(&cx.screen, cx.global.yes, cx.global.json).and_then(|asker| asker.ask(&question));
    match answer {
        Some(answer) if answer.yes => Ok(Agreed { changes, is_dry }),
        Some(_) => Err(Failure::new(Code::Confirm, format!("not confirmed: {question}"))),
        None => Err(Failure::new(Code::Confirm, format!("a person must confirm: {question}"))
            .caused_by("nobody can be asked here")
            .hint("Run it on a terminal, or say yes in advance with `--yes`; `--dry-run` shows the difference alone.")),
    }
}

impl Agreed {
    /// Makes each change by `make`, unless this is a dry run, and tells.
    fn make(self, cx: &Context, make: impl Fn(&Change) -> Result<(), Failure>) -> Result<(), Failure> {
        let Self { changes, is_dry } = self;
        if !is_dry {
            changes.iter().try_for_each(make)?;
        }
        let said = match (changes.is_empty(), is_dry) {
            (true, _) => "nothing to do: it is as it should be\n",
            (false, true) => "nothing was changed: this was a dry run\n",
            (false, false) => "done\n",
        };
        if cx.global.json {
            cx.screen.json(&Told { installed: !is_dry, changes });
        } else if !cx.global.quiet {
            cx.screen.talk(said);
        }
        Ok(())
    }
}
