//! The schedules of the playbooks for other schedulers: one module per format, each a pure function from jobs to text.
//!
//! *Problem*: cron, systemd, ofelia and Kubernetes each know a part of what a schedule says. *Decision*: they only knock; each
//! calls `lifeboat run --scheduled`, which decides what is due, so that a knock too many does nothing and the terms of the
//! header hold everywhere. What a format cannot express is told with the remedy, and never left out in silence.

pub mod cron;
pub mod kubernetes;
pub mod ofelia;
pub mod systemd;

use crate::base::calendar::Calendar;
use crate::base::failure::{Code, Failure, Place};
use crate::base::schedule::{Terms, Timetable};
use crate::script::header::{self, Header, Schedule};
use crate::script::library::Library;
use crate::sys::env::Env;
use chrono_tz::Tz;
use serde::Serialize;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// A schedule of a playbook, as other schedulers need it.
#[derive(Clone, Debug)]
pub struct Job {
    /// Name of the playbook.
    pub playbook: String,
    /// What it does, in one line.
    pub summary: String,
    /// Name of the schedule.
    pub schedule: String,
    /// Its instants.
    pub timetable: Timetable,
    /// The time zone that it names.
    pub tz: Option<Tz>,
    /// How it is kept.
    pub terms: Terms,
    /// Folders outside of the project that its parameters name.
    pub outside: Vec<PathBuf>,
    /// Where it stands.
    pub at: Place,
}

/// What all jobs have in common.
#[derive(Clone, Debug)]
pub struct Site {
    /// The program, absolute.
    pub program: String,
    /// The project's folder, absolute.
    pub project: String,
    /// What units and jobs of this project are called.
    pub name: String,
    /// Whether a run would take another project for this one, if it were not named.
    pub names_project: bool,
}

/// One thing for another scheduler: lines of a crontab, a unit, labels of a job, a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Piece {
    /// Name of the playbook; none for a service that keeps all schedules.
    pub playbook: Option<String>,
    /// Name of the schedule.
    pub schedule: Option<String>,
    /// What it is called over there.
    pub name: Option<String>,
    /// The text.
    pub text: String,
}

impl Piece {
    fn of(job: &Job, name: Option<String>, text: String) -> Self {
        Self { playbook: Some(job.playbook.clone()), schedule: Some(job.schedule.clone()), name, text }
    }
}

/// What a format makes of the jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Export {
    /// The pieces, in their order.
    pub pieces: Vec<Piece>,
    /// The whole text.
    pub text: String,
    /// Schedules that are left out, since the format cannot express them.
    pub left_out: Vec<Failure>,
    /// What the format does otherwise than the header says.
    pub notes: Vec<Failure>,
}

/// The schedules of all playbooks, and the playbooks whose headers cannot be read.
pub type Jobs = (Vec<Job>, Vec<(String, Failure)>);

/// Reads the schedules of all playbooks; `env` gives parameters that schedules do not, `here` is the time zone of this machine.
///
/// # Errors
/// When the playbooks cannot be listed.
pub fn jobs(library: &Library, project: &Path, env: &Env, here: Tz) -> Result<Jobs, Failure> {
    let (mut jobs, mut broken) = (Vec::new(), Vec::new());
    for entry in library.list()? {
        match library.find(&entry.name).and_then(|playbook| header::header(&playbook)) {
            Ok(header) => {
                for schedule in &header.schedule {
                    jobs.push(job(&entry.name, &header, schedule, (project, env), here)?);
                }
            }
            Err(failure) => broken.push((entry.name, failure)),
        }
    }
    Ok((jobs, broken))
}

fn job(
    playbook: &str,
    header: &Header,
    schedule: &Schedule,
    (project, env): (&Path, &Env),
    here: Tz,
) -> Result<Job, Failure> {
    let mut outside = Vec::new();
    for param in header.params.iter().filter(|param| param.path) {
        let of_env = param.env.as_deref().and_then(|name| env.value(name)).map(serde_json::Value::from);
        let value = schedule.params.get(&param.name).or(of_env.as_ref()).or(param.default.as_ref());
        let texts = value.into_iter().flat_map(|value| match value {
            serde_json::Value::Array(items) => items.iter().filter_map(|item| item.as_str()).collect(),
            value => value.as_str().into_iter().collect::<Vec<_>>(),
        });
        outside.extend(texts.map(|text| project.join(text)).filter(|path| !path.starts_with(project)));
    }
    outside.sort();
    outside.dedup();
    Ok(Job {
        playbook: playbook.to_owned(),
        summary: header.summary.lines().next().unwrap_or_default().to_owned(),
        schedule: schedule.name.clone(),
        timetable: schedule.timetable(here)?,
        tz: schedule.tz,
        terms: schedule.terms.clone(),
        outside,
        at: schedule.at.clone(),
    })
}

impl Job {
    /// The words behind the name of the program.
    fn words(&self, site: &Site) -> Vec<String> {
        let mut words = vec!["run".to_owned(), "--scheduled".to_owned(), self.schedule.clone()];
        words.push(self.playbook.clone());
        if site.names_project {
            // From its own folder alone another project would be found, further up.
            words.extend(["--project".to_owned(), ".".to_owned()]);
        }
        words
    }

    /// What a person calls it.
    fn called(&self) -> String {
        format!("the schedule `{}` of `{}`", self.schedule, self.playbook)
    }

    /// That a format cannot express it.
    fn refused(&self, format: &str, why: &str) -> Failure {
        let message =
            format!("{} is left out: its expression `{}` {why}", self.called(), self.timetable.cron());
        Failure::new(Code::Usage, message).at(Some(self.at.clone())).hint(format!(
            "{format} cannot express that: write the expression otherwise, or let `lifeboat daemon` keep the schedules."
        ))
    }

    fn calendar(&self, format: &str) -> Result<Calendar, Failure> {
        Calendar::of(&self.timetable).map_err(|why| self.refused(format, &why))
    }
}

/// A name made of ASCII letters, digits and `extra`. One that loses something by that gets a few digits that tell it from others.
fn slug(name: &str, extra: &str) -> String {
    let kept = |c: char| c.is_ascii_alphanumeric() || extra.contains(c);
    if !name.is_empty() && name.chars().all(kept) {
        return name.to_owned();
    }
    let words: Vec<&str> = name.split(|c| !kept(c)).filter(|word| !word.is_empty()).collect();
    let digits = format!("{:04x}", xxh3_64(name.as_bytes()) & 0xffff);
    words.into_iter().chain([digits.as_str()]).collect::<Vec<_>>().join("-")
}

/// A word of `sh`, quoted only where it must be.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A scalar of YAML; a string of JSON is one.
fn yaml(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
