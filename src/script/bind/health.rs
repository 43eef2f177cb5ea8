//! The check-up of the backups.

use crate::base::health::{Chain, Finding, Newest, Report, SourceReport, Terms};
use crate::engine::health::{recorded, terms};
use crate::observe::health_check::{Checkup, Health};
use crate::script::bind::time::{Bytes, Span};
use crate::script::bind::{known_text, known_texts, observe};
use crate::script::context::{Raised, RunContext};
use crate::script::fault;
use crate::script::option_keys::Options;
use crate::script::options::{self, Period};
use crate::script::value::IntoScript;
use rhai::plugin::*;
use rhai::{Array, Map};
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// Gives an engine this family.
pub fn register(engine: &mut Engine) {
    engine.register_global_module(exported_module!(functions).into());
}

/// Options of this family's functions.
pub fn options() -> Vec<Options> {
    vec![Options::of::<Given>("health_check")]
}

/// The options of `health_check` as scripts give them.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Given {
    max_age: Option<Period>,
    max_change: Option<u32>,
    min_free: Option<u32>,
    verify_age: Option<Period>,
    drill_age: Option<Period>,
    kept_age: Option<Period>,
    days: Option<u32>,
    copies: Option<u32>,
    storage: Option<u32>,
    offsite_copies: Option<u32>,
    offsite: Vec<String>,
    production: Option<String>,
}

impl Given {
    fn terms(&self, usual: Terms) -> Terms {
        let period = |given: Option<Period>, usual: Duration| given.map_or(usual, |period| period.0);
        Terms {
            max_age: period(self.max_age, usual.max_age),
            max_change: self.max_change.unwrap_or(usual.max_change),
            min_free: self.min_free.unwrap_or(usual.min_free),
            verify_age: period(self.verify_age, usual.verify_age),
            drill_age: period(self.drill_age, usual.drill_age),
            kept_age: period(self.kept_age, usual.kept_age),
            days: self.days.unwrap_or(usual.days),
            copies: self.copies.unwrap_or(usual.copies),
            storage: self.storage.unwrap_or(usual.storage),
            offsite: self.offsite_copies.unwrap_or(usual.offsite),
        }
    }
}

fn check(ctx: &NativeCallContext, dirs: Vec<PathBuf>, options: Map) -> Result<Dynamic, Raised> {
    let given: Given = options::read("health_check", options)?;
    let context = RunContext::of(ctx)?;
    let session = context.session()?;
    let terms = given.terms(terms(session.host()).map_err(fault::raise)?);
    let facts = session.facts();
    // A drill has no runs before it: those of the machine are none of its sandbox.
    let (history, (), _) = recorded(session.host().state(), facts.now().fixed_offset(), &terms, |_| ());
    let offsite = given.offsite.iter().map(PathBuf::from).collect();
    let production = given.production.filter(|dir| !dir.is_empty()).map(PathBuf::from);
    observe(ctx, &Health { dirs, offsite, production, terms, history, offline: false }, false)
}

fn number(n: impl TryInto<i64>) -> Dynamic {
    n.try_into().unwrap_or(i64::MAX).into()
}

fn map<const N: usize>(entries: [(&str, Dynamic); N]) -> Dynamic {
    entries.into_iter().map(|(key, value)| (key.into(), value)).collect::<Map>().into()
}

fn seconds(seconds: u64) -> Dynamic {
    Dynamic::from(Span(Duration::from_secs(seconds)))
}

fn millis(millis: u64) -> Dynamic {
    Dynamic::from(Span(Duration::from_millis(millis)))
}

fn texts(list: Vec<String>) -> Dynamic {
    list.into_iter().map(Dynamic::from).collect::<Array>().into()
}

fn plain(value: &impl serde::Serialize) -> Dynamic {
    serde_json::to_value(value).unwrap_or_default().into_script()
}

impl IntoScript for Checkup {
    fn into_script(self) -> Dynamic {
        self.report.into_script()
    }
}

impl IntoScript for Report {
    fn into_script(self) -> Dynamic {
        map([
            ("ok", self.ok.into()),
            ("status", self.status.word().into()),
            ("summary", self.headline().into()),
            ("playbooks", plain(&self.playbooks)),
            ("disks", plain(&self.disks)),
            ("missed", plain(&self.missed)),
            ("findings", self.findings.into_script()),
            ("sources", self.sources.into_script()),
            ("unknown", texts(self.unknown)),
        ])
    }
}

impl IntoScript for Finding {
    fn into_script(self) -> Dynamic {
        map([
            ("severity", self.severity.word().into()),
            ("code", plain(&self.code)),
            ("about", self.about.into()),
            ("tag", self.tag.into_script()),
            ("message", self.message.into()),
            ("hint", self.hint.into()),
        ])
    }
}

impl IntoScript for SourceReport {
    fn into_script(self) -> Dynamic {
        map([
            ("source", self.source.into()),
            ("status", self.status.word().into()),
            ("superseded", self.superseded.into()),
            ("backups", number(self.backups)),
            ("damaged", texts(self.damaged)),
            ("newest", self.newest.into_script()),
            ("verified", self.verified.into_script()),
            ("drilled", self.drilled.into_script()),
            ("copies", plain(&self.copies)),
            ("tags", self.tags.into_script()),
        ])
    }
}

impl IntoScript for Newest {
    fn into_script(self) -> Dynamic {
        map([
            ("name", self.name.into()),
            ("folder", self.folder.into()),
            ("created", self.created.into_script()),
            ("age", seconds(self.age)),
            ("size", Bytes(self.size).into_script()),
            ("verified", self.verified.into_script()),
        ])
    }
}

impl IntoScript for Chain {
    fn into_script(self) -> Dynamic {
        map([
            ("tag", self.tag.into()),
            ("backups", number(self.backups)),
            ("newest", self.newest.into_script()),
            ("usual_size", self.usual_size.map(Bytes).into_script()),
            ("duration", self.millis.map_or(Dynamic::UNIT, millis)),
            ("usual_duration", self.usual_millis.map_or(Dynamic::UNIT, millis)),
            ("verified", self.verified.into_script()),
            ("drilled", self.drilled.into_script()),
        ])
    }
}

#[export_module]
mod functions {
    /// Whether the backups are as they should be: `if !health_check().ok { ... }`.
    ///
    /// It looks at the newest backup of each source and tag, at size and duration against the median of those before, at
    /// verifications, drills and runs, at what is left over, at disk space, and counts copies for 3-2-1. It asks only, and
    /// fails for nothing that it finds.
    ///
    /// Returns a map with `ok` (nothing was found), `status` (`ok`, `unknown`, `warning` or `critical`), `summary` (one line),
    /// `findings` (worst first, each with `severity`, `code`, `about`, `tag`, `message`, `hint`), `sources` (each with `source`,
    /// `status`, `superseded`, `backups`, `damaged`, `newest` (`name`, `folder`, `created`, `age`, `size`, `verified`),
    /// `verified`, `drilled`, `copies` (`copies`, `storage`, `offsite`, `places`, `notes`) and `tags`), `playbooks`, `disks`,
    /// `missed` and `unknown` (what could not be looked at, and why).
    #[rhai_fn(volatile, return_raw)]
    pub fn health_check(ctx: NativeCallContext) -> Result<Dynamic, Raised> {
        check(&ctx, Vec::new(), Map::new())
    }

    /// The same on other terms: `health_check(#{ max_age: "26h", offsite: ["/mnt/nas/aurora"] })`.
    ///
    /// Options: `max_age` (of a source's newest backup, "24h"; twice as old is critical), `max_change` (percent off the median,
    /// 50), `min_free` (percent of a disk, 10), `verify_age` ("7d"), `drill_age` ("35d"), `kept_age` (of what restores have
    /// kept, "7d"), `days` (of runs that count, 7), `copies` (3), `storage` (types of it, 2), `offsite_copies` (1), `offsite`
    /// (folders of copies off-site, besides those in BACKUP_OFFSITE_DIRS) and `production` (folder where the database server
    /// keeps its data, if that is on this machine; BACKUP_PRODUCTION_DIR).
    #[rhai_fn(volatile, return_raw, name = "health_check")]
    pub fn health_check_with(ctx: NativeCallContext, options: Map) -> Result<Dynamic, Raised> {
        check(&ctx, Vec::new(), options)
    }

    /// The same for a folder of backups instead of the usual ones: `health_check("backups/database")`.
    #[rhai_fn(volatile, return_raw, name = "health_check")]
    pub fn health_check_of(ctx: NativeCallContext, dir: &str) -> Result<Dynamic, Raised> {
        check(&ctx, vec![known_text(dir)?.into()], Map::new())
    }

    /// The same for several folders on other terms: `health_check([params.dir, params.config_dir], #{ max_age: "26h" })`.
    #[rhai_fn(volatile, return_raw, name = "health_check")]
    pub fn health_check_of_all(ctx: NativeCallContext, dirs: Array, options: Map) -> Result<Dynamic, Raised> {
        let dirs = known_texts("a folder of `health_check`", &dirs)?;
        check(&ctx, dirs.into_iter().map(PathBuf::from).collect(), options)
    }

    /// The same for several folders: `health_check(["backups/database", "/srv/other"])`.
    #[rhai_fn(volatile, return_raw, name = "health_check")]
    pub fn health_check_of_several(ctx: NativeCallContext, dirs: Array) -> Result<Dynamic, Raised> {
        health_check_of_all(ctx, dirs, Map::new())
    }
}
