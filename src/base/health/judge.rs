//! The judgement.

use crate::base::health::report::age;
use crate::base::health::runs;
use crate::base::health::source;
use crate::base::health::{
    DiskReport, Finding, KeptKind, Problem, Report, Seen, Severity, Terms, Undelivered,
};
use crate::base::units;
use std::collections::BTreeMap;

/// Judges what was seen.
pub fn judge(seen: &Seen, terms: &Terms) -> Report {
    let mut findings = Vec::new();
    let sources = source::judge(seen, terms, &mut findings);
    let playbooks = runs::judge(seen, terms, &mut findings);
    findings.extend(absent(seen));
    findings.extend(missed(seen));
    findings.extend(seen.undelivered.as_ref().map(undelivered));
    let disks = disks(seen, terms, &mut findings);
    findings.extend(left(seen, terms));
    let grave = seen.unknown.iter().filter(|unknown| unknown.matters);
    findings.extend(grave.map(|unknown| Finding {
        severity: Severity::Unknown,
        code: Problem::Unreadable,
        about: String::new(),
        tag: None,
        message: format!("not looked at: {}", unknown.what),
        hint: "Let the user that runs Lifeboat read it.".to_owned(),
    }));
    findings.sort_by(|a, b| {
        (b.severity, a.code, &a.about, &a.tag, &a.message)
            .cmp(&(a.severity, b.code, &b.about, &b.tag, &b.message))
    });
    let status = findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok);
    Report {
        ok: status == Severity::Ok,
        status,
        at: seen.now,
        findings,
        sources,
        playbooks,
        disks,
        missed: seen.missed.clone(),
        undelivered: seen.undelivered.clone(),
        unknown: seen.unknown.iter().map(|unknown| unknown.what.clone()).collect(),
        terms: *terms,
    }
}

/// Where backups should be and are not.
fn absent(seen: &Seen) -> Vec<Finding> {
    let found = |about: &str, message: String, hint: &str| Finding {
        severity: Severity::Critical,
        code: Problem::NoBackups,
        about: about.to_owned(),
        tag: None,
        message,
        hint: hint.to_owned(),
    };
    let quoted = |folders: &[&str]| {
        folders.iter().map(|folder| format!("`{folder}`")).collect::<Vec<_>>().join(" and ")
    };
    // A folder that could not be read may hold some.
    let unreadable = seen.unknown.iter().any(|unknown| unknown.matters);
    if seen.backups.is_empty() && !unreadable {
        let folders: Vec<&str> = seen.folders.iter().map(|folder| folder.path.as_str()).collect();
        return vec![found(
            "",
            format!("there are no backups in {}", quoted(&folders)),
            "Make some with `lifeboat backup_all`, and schedule it; BACKUP_DIR and CONFIG_BACKUP_DIR name other folders.",
        )];
    }
    let mut findings = Vec::new();
    for (index, folder) in seen.folders.iter().enumerate() {
        if (folder.is_named || folder.is_offsite)
            && !unreadable
            && !seen.backups.iter().any(|backup| backup.folder == index)
        {
            let what = if folder.exists { "holds no backups" } else { "is not there" };
            findings.push(found(
                &folder.path,
                format!("`{}` {what}", folder.path),
                "Name folders that hold backups; is everything mounted?",
            ));
        }
    }
    if let Some(database) = &seen.database
        && !unreadable
        && !seen.backups.iter().any(|backup| source::is_of_database(backup, database))
    {
        findings.push(found(
            &format!("database {database}"),
            format!("there is no backup of the database `{database}`, which the environment names"),
            "Make one with `lifeboat backup_database`, and schedule it.",
        ));
    }
    findings
}

fn missed(seen: &Seen) -> Vec<Finding> {
    let mut by_playbook: BTreeMap<&str, Vec<&super::Missed>> = BTreeMap::new();
    for missed in &seen.missed {
        by_playbook.entry(&missed.playbook).or_default().push(missed);
    }
    let finding = |(playbook, missed): (&str, Vec<&super::Missed>)| {
        let last = missed.iter().max_by_key(|missed| missed.slot)?;
        let times = if missed.len() == 1 {
            "1 scheduled run was not made".to_owned()
        } else {
            format!("{} scheduled runs were not made, the last", missed.len())
        };
        Some(Finding {
            severity: Severity::Warning,
            code: Problem::Missed,
            about: playbook.to_owned(),
            tag: None,
            message: format!(
                "{playbook}: {times} at {} ({}): {}",
                last.slot.format("%Y-%m-%d %H:%M"),
                last.schedule,
                last.why
            ),
            hint: format!("Run it now if it is still wanted: `lifeboat {playbook}`."),
        })
    };
    by_playbook.into_iter().filter_map(finding).collect()
}

fn undelivered(undelivered: &Undelivered) -> Finding {
    let alerts = match undelivered.count {
        1 => "1 alert was".to_owned(),
        n => format!("{n} alerts were"),
    };
    let since = undelivered.since.format("%Y-%m-%d %H:%M");
    Finding {
        severity: Severity::Warning,
        code: Problem::Undelivered,
        about: String::new(),
        tag: None,
        message: format!("{alerts} not delivered since {since}: {}", undelivered.why),
        hint: "`lifeboat alert test` tries every channel; the next live run delivers what waits.".to_owned(),
    }
}

fn disks(seen: &Seen, terms: &Terms, findings: &mut Vec<Finding>) -> Vec<DiskReport> {
    let mut by_device: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (index, folder) in seen.folders.iter().enumerate() {
        if folder.space.is_some() {
            by_device.entry(folder.place.device).or_default().push(index);
        }
    }
    let mut reports = Vec::new();
    for folders in by_device.into_values() {
        let Some((space, first)) =
            folders.first().and_then(|index| Some((seen.folders[*index].space?, &seen.folders[*index])))
        else {
            continue;
        };
        let percent = |part: u64| u128::from(part) * 100 / u128::from(space.total.max(1));
        let names: Vec<String> = folders.iter().map(|index| seen.folders[*index].path.clone()).collect();
        let of_here = seen.backups.iter().filter(|backup| folders.contains(&backup.folder));
        let next = of_here.max_by_key(|backup| (backup.created, backup.size)).map_or(0, |backup| backup.size);
        let too_little = percent(space.free) < u128::from(terms.min_free);
        if too_little || space.free < next {
            let severity = if space.free < next { Severity::Critical } else { Severity::Warning };
            let why = if space.free < next {
                format!("the next backup needs about {}", units::bytes(next))
            } else {
                format!("{} % should be", terms.min_free)
            };
            findings.push(Finding {
                severity,
                code: Problem::Disk,
                about: names.join(", "),
                tag: None,
                message: format!(
                    "{}: {} of {} are free ({} %), {why}",
                    names.join(", "),
                    units::bytes(space.free),
                    units::bytes(space.total),
                    percent(space.free)
                ),
                hint: "Free space: `lifeboat rotate_backups` removes backups that retention no longer keeps."
                    .to_owned(),
            });
        }
        reports.push(DiskReport {
            folders: names,
            place: first.place.told(),
            free: space.free,
            total: space.total,
            percent: u8::try_from(percent(space.free)).unwrap_or(100),
        });
    }
    reports.sort_by(|a, b| (a.percent, &a.folders).cmp(&(b.percent, &b.folders)));
    reports
}

/// What runs have left behind.
fn left(seen: &Seen, terms: &Terms) -> Vec<Finding> {
    let warning = |code: Problem, about: &str, message: String, hint: String| Finding {
        severity: Severity::Warning,
        code,
        about: about.to_owned(),
        tag: None,
        message,
        hint,
    };
    let mut findings = Vec::new();
    for folder in &seen.folders {
        if folder.leftovers > 0 {
            let files = if folder.leftovers == 1 {
                "1 file".to_owned()
            } else {
                format!("{} files", folder.leftovers)
            };
            findings.push(warning(
                Problem::Leftovers,
                &folder.path,
                format!("{files} of killed runs in `{}`", folder.path),
                format!("The next backup or `lifeboat rotate_backups {}` removes them.", folder.path),
            ));
        }
        for name in &folder.lost {
            findings.push(Finding {
                severity: Severity::Critical,
                ..warning(
                    Problem::Lost,
                    name,
                    format!("the backup `{name}` is gone from `{}`, only its sidecars are left", folder.path),
                    "Find out who removed it. Bring it back from another copy, or remove its sidecars too."
                        .to_owned(),
                )
            });
        }
    }
    for kept in &seen.kept {
        let size = kept.size.map_or_else(String::new, |size| format!(", {}", units::bytes(size)));
        let told = |what: &str| format!("`{}`{size} {what} run {}", kept.name, kept.letters);
        match kept.kind {
            KeptKind::Replaced if kept.age > terms.kept_age.as_secs() => findings.push(warning(
                Problem::KeptOld,
                &kept.name,
                format!("{}, {} old", told("was kept by"), age(kept.age)),
                "When it is not needed any more, `lifeboat cleanup --keep-days N` removes what is older."
                    .to_owned(),
            )),
            KeptKind::Replaced => {}
            KeptKind::Left => findings.push(warning(
                Problem::Leftovers,
                &kept.name,
                told("was left behind by"),
                "`lifeboat cleanup --keep-days 7` removes what interrupted restores left behind.".to_owned(),
            )),
            KeptKind::Half => findings.push(warning(
                Problem::OwedCleanUp,
                &kept.name,
                told("is half replaced by"),
                format!(
                    "Go on with `lifeboat resume {}`, or take it back with `lifeboat rollback {}`.",
                    kept.letters, kept.letters
                ),
            )),
        }
    }
    findings
}
