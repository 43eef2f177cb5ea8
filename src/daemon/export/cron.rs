//! Lines of a crontab, and the block of it that belongs to a project.

use crate::base::failure::{Code, Failure};
use crate::base::schedule::Missed;
use crate::daemon::export::{Export, Job, Piece, Site, quoted};
use chrono_tz::Tz;

/// Lines for a crontab of a machine in the time zone `here`.
pub fn export(jobs: &[Job], site: &Site, here: Tz) -> Export {
    let mut export = Export::default();
    let mut lines = Vec::new();
    for job in jobs {
        let calendar = job.calendar("A crontab");
        match calendar.and_then(|calendar| calendar.cron().map_err(|why| job.refused("A crontab", &why))) {
            Ok(cron) => {
                let zone = job.tz.filter(|zone| !is_same(*zone, here));
                if let Some(zone) = zone {
                    export.notes.push(elsewhere(job, zone, here));
                }
                lines.push((zone.map_or("", Tz::name), job, text(job, site, &cron)));
            }
            Err(failure) => export.left_out.push(failure),
        }
    }
    // Lines for a time zone come last, since `CRON_TZ` holds for all lines below it.
    lines.sort_by_key(|(zone, ..)| *zone);
    export.text = format!("# Lifeboat: the schedules of {}\n", site.project.replace('\n', " "));
    let mut current = "";
    for (zone, job, text) in lines {
        if zone != current {
            export.text += "\n# The lines below are in a time zone of their own; cronie knows CRON_TZ, Debian's cron ignores it.\n";
            export.text += &format!("CRON_TZ={zone}\n");
            current = zone;
        }
        export.text += &format!("\n# {}\n{text}", job.summary);
        export.pieces.push(Piece::of(job, None, text));
    }
    export
}

/// The line of a job; and one for the start of the machine, which catches up where the schedule wants that.
fn text(job: &Job, site: &Site, cron: &str) -> String {
    let words = std::iter::once(site.program.clone()).chain(job.words(site));
    let command: Vec<String> = words.map(|word| quoted(&word)).collect();
    let project = quoted(&site.project);
    let command =
        format!("cd {project} && mkdir -p logs && {} >> logs/cron-backup.log 2>&1", command.join(" "));
    let command = escaped(&command);
    let line = format!("{cron} {command}\n");
    match job.terms.missed {
        Missed::Skip => line,
        Missed::Once | Missed::All => format!("{line}@reboot {command}\n"),
    }
}

/// Whether two zones are one; UTC has several names, and machines use another one than people.
fn is_same(one: Tz, other: Tz) -> bool {
    let is_utc =
        |zone: Tz| matches!(zone.name(), "UTC" | "Etc/UTC" | "Etc/UCT" | "UCT" | "Etc/Zulu" | "Zulu");
    one == other || (is_utc(one) && is_utc(other))
}

fn elsewhere(job: &Job, zone: Tz, here: Tz) -> Failure {
    Failure::new(
        Code::Usage,
        format!("{} is in {zone}, and this machine is in {here}: not every cron knows `CRON_TZ`", job.called()),
    )
    .at(Some(job.at.clone()))
    .hint("cronie keeps the hour. Debian's cron knocks at that hour of this machine, so that each run begins late, up to a day: use `lifeboat schedule install systemd` or `lifeboat daemon` there.")
}

/// A command as cron wants it: an unescaped `%` is a line break wherever it stands, and a backslash before the one that
/// escapes it would take that away. Such a backslash is always within quotes, which may end and begin again behind it.
fn escaped(command: &str) -> String {
    command.replace('%', r"\%").replace(r"\\%", r"\''\%")
}

fn begin(project: &str) -> String {
    format!("# BEGIN Lifeboat {project}")
}

fn end(project: &str) -> String {
    format!("# END Lifeboat {project}")
}

/// A crontab with `block` in the place of the block of `project`, or behind all other lines if it has none; without a block
/// the old one goes. All other lines stay as they are, to the byte.
///
/// # Errors
/// `Usage` when the old block has no end, so that it cannot be told what belongs to it.
pub fn with_block(crontab: &str, project: &str, block: Option<&str>) -> Result<String, Failure> {
    let (begin, end) = (begin(project), end(project));
    let new = block.map(|block| format!("{begin}\n{}\n{end}\n", block.trim_end())).unwrap_or_default();
    let mut lines = crontab.split_inclusive('\n').peekable();
    let (mut before, mut after) = (String::new(), String::new());
    for line in lines.by_ref().take_while(|line| line.trim_end() != begin) {
        before += line;
    }
    if before.len() == crontab.len() {
        let gap = if new.is_empty() || before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
        return Ok(format!("{before}{gap}{new}"));
    }
    if !lines.by_ref().any(|line| line.trim_end() == end) {
        return Err(Failure::new(Code::Usage, format!("the crontab has a line `{begin}` and no `{end}`"))
            .hint("Remove what is left of the block by `crontab -e`, and try again."));
    }
    for line in lines {
        after += line;
    }
    Ok(format!("{before}{new}{after}"))
}
