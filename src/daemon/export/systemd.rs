//! Units of systemd: a service and a timer per schedule, or one service for `lifeboat daemon`.
//!
//! *Decision*: the timer only knocks. It waits no jitter, which the run waits itself, and it catches up unless the schedule
//! says that nothing is made up for. The service may write where the header's parameters say, and nowhere else. The guide's
//! timer `Requires=` its service, which starts a backup at each start of the machine: that line is not here.

use crate::base::calendar::at_clock_changes;
use crate::base::failure::{Code, Failure};
use crate::base::schedule::{Missed, Overlap};
use crate::daemon::export::{Export, Job, Piece, Site, slug};
use chrono::{DateTime, Utc};
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

/// So long the current step of a run may take to end when the service is stopped.
pub const GRACE: Duration = Duration::from_secs(60);

/// What keeps a service of the system from what no backup needs. /tmp is the machine's own, because scratch servers and compose
/// services meet there.
const HARDENED: &str = "NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=no
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
UMask=0077
";

/// The same for a service of a user's own systemd, which cannot make file systems read-only on every machine.
const HARDENED_FOR_USER: &str = "NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
UMask=0077
";

/// Whose systemd the units are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum For {
    /// The system's; the services run as this user, or as root.
    System(Option<String>),
    /// That of the user who installs them.
    User,
}

/// The line by which units of a project are known.
pub fn mark(site: &Site) -> String {
    format!(
        "# Lifeboat: a unit of {}; `lifeboat schedule install systemd` writes it",
        one_line(&site.project)
    )
}

/// Units for the jobs. `now` says from which year on clock changes are written out.
pub fn export(jobs: &[Job], site: &Site, whose: &For, now: DateTime<Utc>) -> Export {
    let mut export = Export::default();
    for job in jobs {
        let calendar = match job.calendar("systemd") {
            Ok(calendar) => calendar,
            Err(failure) => {
                export.left_out.push(failure);
                continue;
            }
        };
        if job.terms.overlap != Overlap::Skip {
            export.notes.push(merges(job));
        }
        let zone = job.tz.map_or("", |zone| zone.name());
        let mut instants = calendar.systemd(zone);
        instants.extend(at_clock_changes(&job.timetable, now));
        let name = format!(
            "lifeboat-{}",
            [&site.name, &job.playbook, &job.schedule].map(|part| slug(part, "_.")).join("-")
        );
        let service = service(job, site, whose);
        export.pieces.push(Piece::of(job, Some(format!("{name}.service")), service));
        export.pieces.push(Piece::of(job, Some(format!("{name}.timer")), timer(job, site, &instants)));
    }
    export.text = listed(&export.pieces);
    export
}

/// The service of `lifeboat daemon`, which keeps all schedules itself.
pub fn daemon(jobs: &[Job], site: &Site, whose: &For) -> Export {
    let mut outside: Vec<PathBuf> = jobs.iter().flat_map(|job| job.outside.clone()).collect();
    outside.sort();
    outside.dedup();
    let words: &[&str] = if site.names_project { &["daemon", "--project", "."] } else { &["daemon"] };
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let mut text = format!("{}\n[Unit]\nDescription=Lifeboat for {}\n", mark(site), specified(&site.project));
    text += "Wants=network-online.target\nAfter=network-online.target postgresql.service docker.service\n\n";
    text += "[Service]\nType=notify\nNotifyAccess=main\nWatchdogSec=120\nRestart=on-failure\nRestartSec=10\n";
    text += &command(site, &words);
    text += "ExecReload=/bin/kill -HUP $MAINPID\nKillMode=mixed\nTimeoutStopSec=300\n";
    text += &surroundings(site, whose, &outside);
    let target = if *whose == For::User { "default.target" } else { "multi-user.target" };
    let _ = write!(text, "\n[Install]\nWantedBy={target}\n");
    let name = format!("lifeboat-{}.service", slug(&site.name, "_."));
    let pieces = vec![Piece { playbook: None, schedule: None, name: Some(name), text }];
    Export { text: listed(&pieces), pieces, ..Export::default() }
}

fn listed(pieces: &[Piece]) -> String {
    let texts = pieces.iter().map(|piece| {
        format!("# /etc/systemd/system/{}\n{}", piece.name.as_deref().unwrap_or_default(), piece.text)
    });
    texts.collect::<Vec<_>>().join("\n")
}

fn merges(job: &Job) -> Failure {
    Failure::new(
        Code::Usage,
        format!(
            "{} does not `skip` when its playbook still runs, and systemd starts no service that still runs",
            job.called()
        ),
    )
    .at(Some(job.at.clone()))
    .hint("What comes meanwhile is decided when the timer elapses next; `lifeboat daemon` keeps such a schedule to the word.")
}

fn service(job: &Job, site: &Site, whose: &For) -> String {
    let mut text = format!(
        "{}\n[Unit]\nDescription=Lifeboat: {} ({})\n",
        mark(site),
        specified(&job.summary),
        specified(&job.schedule)
    );
    text += "Wants=network-online.target\nAfter=network-online.target postgresql.service docker.service\n\n";
    text += "[Service]\nType=oneshot\n";
    let mut words = job.words(site);
    words.splice(1..1, ["--grace".to_owned(), format!("{}s", GRACE.as_secs())]);
    text += &command(site, &words);
    text +=
        "# Warnings, and an instant that was left out for another run: both are on record and no failure.\n";
    text += "SuccessExitStatus=3 11\n";
    // The run keeps its `timeout` itself; this is for one that does not.
    let limit = match job.terms.timeout {
        Some(timeout) if job.terms.missed != Missed::All && job.terms.overlap == Overlap::Skip => {
            (timeout + job.terms.jitter + 2 * GRACE).as_secs().to_string()
        }
        _ => "infinity".to_owned(),
    };
    let _ =
        write!(text, "TimeoutStartSec={limit}\nKillMode=mixed\nTimeoutStopSec={}\n", GRACE.as_secs() + 30);
    text += &surroundings(site, whose, &job.outside);
    text
}

fn timer(job: &Job, site: &Site, instants: &[String]) -> String {
    let mut text = format!(
        "{}\n[Unit]\nDescription=Lifeboat: when to {} ({})\n\n[Timer]\n",
        mark(site),
        specified(&job.playbook),
        specified(&job.schedule)
    );
    for (index, instant) in instants.iter().enumerate() {
        if index > 0
            && !instants[index - 1].ends_with(" UTC")
            && instant.ends_with(" UTC")
            && job.tz != Some(chrono_tz::UTC)
        {
            text += "# Instants that the lines above leave out where clocks change.\n";
        }
        let _ = writeln!(text, "OnCalendar={instant}");
    }
    let persistent = job.terms.missed != Missed::Skip;
    let _ = write!(text, "Persistent={persistent}\nAccuracySec=1s\n\n[Install]\nWantedBy=timers.target\n");
    text
}

fn command(site: &Site, words: &[String]) -> String {
    // Variables are not replaced in the program itself, so that a dollar stands for itself there.
    let program = in_quotes(&specified(&site.program));
    let words: Vec<String> =
        words.iter().map(|word| in_quotes(&specified(word).replace('$', "$$"))).collect();
    format!("ExecStart={program} {}\n", words.join(" "))
}

/// Who runs it, where, what it may write, and where its output goes.
fn surroundings(site: &Site, whose: &For, outside: &[PathBuf]) -> String {
    let mut text = String::new();
    if let For::System(user) = whose {
        // Root is named too, since systemd sets HOME, where `.pgpass` is looked for, only where a user is named.
        let _ = writeln!(text, "User={}", specified(user.as_deref().unwrap_or("root")));
    }
    let project = specified(&site.project);
    let _ = writeln!(text, "WorkingDirectory={project}");
    for stream in ["Output", "Error"] {
        let _ = writeln!(text, "Standard{stream}=append:{project}/logs/systemd-backup.log");
    }
    if *whose == For::User {
        return text + HARDENED_FOR_USER;
    }
    text += HARDENED;
    let outside = outside.iter().map(|path| specified(&path.display().to_string()));
    for path in [project, "-/tmp".to_owned(), "-/var/tmp".to_owned()]
        .into_iter()
        .chain(outside.map(|path| format!("-{path}")))
    {
        let _ = writeln!(text, "ReadWritePaths={}", in_quotes(&path));
    }
    text
}

/// A text in which systemd is to find no specifier.
fn specified(text: &str) -> String {
    one_line(text).replace('%', "%%")
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// A word, quoted only where it must be.
fn in_quotes(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,$".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("\"{}\"", word.replace('\\', r"\\").replace('"', "\\\""))
    }
}
