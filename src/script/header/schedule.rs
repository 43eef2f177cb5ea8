//! `schedule` in a header: when the playbook runs by itself, with which parameters, and on what terms.

use crate::base::diagnostic::did_you_mean;
use crate::base::failure::{Code, Failure, Place};
use crate::base::schedule::{Missed, Overlap, Terms, Timetable};
use crate::base::units;
use crate::script::fields::{Fields, listed, place, wrong};
use crate::script::literal::{Entry, Literal};
use crate::script::param::{Param, shown};
use crate::script::parameters::Given;
use chrono_tz::{TZ_VARIANTS, Tz};
use serde_json::{Map, Value};

const KEYS: [&str; 12] = [
    "cron",
    "seconds",
    "tz",
    "name",
    "params",
    "overlap",
    "missed",
    "window",
    "jitter",
    "timeout",
    "max_lateness",
    "rpo",
];

const CRON_HINT: &str = "A cron expression has five fields: minute, hour, day of month, month and day of week, for \
                         example `30 2 * * 1-5`.";

/// One schedule of a playbook.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// What it is called: its `name`, or else its cron expression. No two of a playbook have the same.
    pub name: String,
    /// Cron expression with five fields, or six with seconds.
    pub cron: String,
    /// Whether the expression begins with a field of seconds.
    pub seconds: bool,
    /// IANA time zone; the machine's own when none is named.
    pub tz: Option<Tz>,
    /// How it is kept.
    pub terms: Terms,
    /// Parameters of scheduled runs.
    pub params: Map<String, Value>,
    /// Where it stands.
    pub at: Place,
}

impl Schedule {
    /// Its parameters as the command line would give them.
    pub fn given(&self) -> Given {
        let texts = |value: &Value| match value {
            Value::Array(items) => items.iter().map(shown).collect(),
            value => vec![shown(value)],
        };
        self.params.iter().map(|(name, value)| (name.clone(), texts(value))).collect()
    }

    /// Its instants; `here` is the time zone of a machine, for a schedule that names none.
    ///
    /// # Errors
    /// `Playbook`; not for a schedule that was read from a header.
    pub fn timetable(&self, here: Tz) -> Result<Timetable, Failure> {
        Timetable::new(&self.cron, self.seconds, self.tz.unwrap_or(here)).map_err(|problem| {
            Failure::new(Code::Playbook, format!("the schedule `{}` {problem}", self.name))
                .at(Some(self.at.clone()))
                .hint(CRON_HINT)
        })
    }
}

/// Reads `schedule`.
pub(super) fn read(list: &[Literal], params: &[Param], file: &str) -> Result<Vec<Schedule>, Failure> {
    let mut schedules: Vec<Schedule> = Vec::new();
    for (index, literal) in list.iter().enumerate() {
        let schedule = one(literal, index, params, file)?;
        if let Some(other) = schedules.iter().position(|other| other.name == schedule.name) {
            return Err(wrong(
                file,
                literal.at,
                format!("`schedule[{index}]` and `schedule[{other}]` are both called `{}`", schedule.name),
            )
            .hint("A schedule is called by its `name`, or else by its `cron`: give one a name, for example `name: \"weekly\"`."));
        }
        schedules.push(schedule);
    }
    Ok(schedules)
}

fn one(literal: &Literal, index: usize, params: &[Param], file: &str) -> Result<Schedule, Failure> {
    let path = format!("schedule[{index}]");
    let fields = Fields::of(literal, &path, file, &KEYS)?;
    let cron = fields.text("cron")?.ok_or_else(|| {
        wrong(file, fields.at(), format!("`{path}` has no `cron`"))
            .hint("For example `cron: \"0 2 * * *\"`: every day at 02:00.")
    })?;
    let seconds = fields.flag("seconds")?;
    // Whether an expression is valid does not depend on the zone.
    let timetable = Timetable::new(cron, seconds, Tz::UTC)
        .map_err(|problem| fields.refuse("cron", &problem).hint(CRON_HINT))?;
    let (tz, terms) = (zone(&fields)?, terms(&fields)?);
    // The next instant would come while the one before waits, and be taken for the one to run.
    if !terms.jitter.is_zero()
        && let Some(gap) = timetable.shortest_gap().filter(|gap| terms.jitter > *gap)
    {
        let (jitter, gap) = (units::duration(terms.jitter), units::duration(gap));
        return Err(fields
            .refuse("jitter", &format!("is {jitter}, and two instants of `{cron}` may lie {gap} apart"))
            .hint(format!("It may be {gap} at most.")));
    }
    let mut given = Map::new();
    for entry in fields.map("params")?.unwrap_or_default() {
        given.insert(entry.key.clone(), param(entry, &path, params, file)?);
    }
    if let Some(param) = params.iter().find(|p| p.required && p.env.is_none() && !given.contains_key(&p.name))
    {
        let name = &param.name;
        return Err(wrong(
            file,
            fields.at(),
            format!("`{path}` does not give the required parameter `{name}`"),
        )
        .hint(format!("Add `params: #{{ {name}: ... }}` to the schedule.")));
    }
    let name = fields.text("name")?.unwrap_or(cron).to_owned();
    if name.chars().any(char::is_control) || name.trim() != name {
        return Err(fields.refuse("name", "holds blanks around it or characters that cannot be shown"));
    }
    Ok(Schedule {
        name,
        cron: cron.to_owned(),
        seconds,
        tz,
        terms,
        params: given,
        at: place(file, literal.at),
    })
}

fn zone(fields: &Fields<'_>) -> Result<Option<Tz>, Failure> {
    let Some(tz) = fields.text("tz")? else { return Ok(None) };
    tz.parse().map(Some).map_err(|_| {
        let failure = fields.refuse("tz", &format!("is `{tz}`, which is not the name of a time zone"));
        match did_you_mean(tz, TZ_VARIANTS.iter().map(|zone| zone.name())) {
            Some(close) => failure.hint(format!("Did you mean `{close}`?")),
            None => failure.hint("Write an IANA name such as `Europe/Berlin` or `UTC`."),
        }
    })
}

fn terms(fields: &Fields<'_>) -> Result<Terms, Failure> {
    let overlap = word(
        fields,
        "overlap",
        &[("skip", Overlap::Skip), ("queue", Overlap::Queue), ("kill", Overlap::Kill)],
    )?;
    let missed =
        word(fields, "missed", &[("once", Missed::Once), ("skip", Missed::Skip), ("all", Missed::All)])?;
    let window = fields.duration("window")?;
    if window.is_some() && missed != Missed::All {
        return Err(fields
            .refuse("window", "is given, and only `missed: \"all\"` has one")
            .hint("Remove it, or add `missed: \"all\"` to make up for every instant within it."));
    }
    Ok(Terms {
        overlap,
        missed,
        window,
        jitter: fields.duration("jitter")?.unwrap_or_default(),
        timeout: fields.duration("timeout")?,
        max_lateness: fields.duration("max_lateness")?,
        rpo: fields.duration("rpo")?,
    })
}

fn word<T: Copy + Default>(fields: &Fields<'_>, key: &str, known: &[(&str, T)]) -> Result<T, Failure> {
    let Some(text) = fields.text(key)? else { return Ok(T::default()) };
    known.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let words = listed(known.iter().map(|(word, _)| *word), "or");
        fields.refuse(key, &format!("is `{text}`")).hint(format!("It may be {words}."))
    })
}

fn param(entry: &Entry, path: &str, params: &[Param], file: &str) -> Result<Value, Failure> {
    let name = &entry.key;
    let Some(param) = params.iter().find(|param| param.name == *name) else {
        let failure =
            wrong(file, entry.at, format!("`{path}.params.{name}` is not a parameter of this playbook"));
        let names = params.iter().map(|param| param.name.as_str());
        return Err(match did_you_mean(name, names) {
            Some(close) => failure.hint(format!("Did you mean `{close}`?")),
            None => failure,
        });
    };
    if param.secret {
        return Err(wrong(file, entry.value.at, format!("`{path}.params.{name}` gives a secret away")));
    }
    param
        .fits(&entry.value)
        .map(|()| entry.value.json())
        .map_err(|problem| wrong(file, entry.value.at, format!("`{path}.params.{name}` {problem}")))
}
