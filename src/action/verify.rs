//! `verify`: proves that a backup is intact, and records the result in its manifest.
//!
//! One pass over the file checks the SHA-256 against sidecar and manifest, the framing, length and CRC of every gzip member, and
//! what the content itself says: a dump's end marker, row counts and fingerprints, or the archive's end. `gzip -t` alone is no
//! proof: it passes a dump that was cut before it was compressed.

use crate::action::{Action, Recorded};
use crate::base::backup::Verified;
use crate::base::failure::{Code, Failure};
use crate::base::plan::{Effect, Later, Need, Plan, Reconciled, Target, Touch, Was};
use crate::base::units;
use crate::sys::effects::Effects;
use crate::sys::facts::{Facts, Seen};
use crate::sys::fs;
use crate::sys::host::Host;
pub use crate::sys::proof::Verification;
use crate::sys::proof::{Reread, examine, is_about_the_file, unread};
use crate::sys::store::{self, Found};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// How a backup is verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VerifyOptions {
    /// Report a backup that is not intact instead of failing.
    pub report_only: bool,
}

/// Verifies a backup.
#[derive(Clone, Debug)]
pub struct Verify {
    /// The file.
    pub path: PathBuf,
    /// How.
    pub options: VerifyOptions,
}

impl Recorded for Verification {
    fn summary(&self) -> String {
        if self.intact {
            format!("{} is intact ({}; {})", self.name, units::bytes(self.size), self.checks.join(", "))
        } else {
            format!("{} is NOT intact: {}", self.name, self.problems.join("; "))
        }
    }
}

impl Action for Verify {
    const NAME: &'static str = "verify";
    type Output = Verification;

    fn in_short(&self, host: &Host) -> String {
        format!("verify {}", host.shown(&host.absolute(&self.path)))
    }

    fn plan(&self, facts: &Facts) -> Result<Plan<Verification>, Failure> {
        let path = facts.absolute(&self.path);
        let shown = facts.host().shown(&path);
        let mut plan = Plan::new(
            format!("verify `{shown}`: SHA-256, gzip members, content"),
            Effect::Replace,
            Later::AfterRun,
        );
        match facts.view().path(&path) {
            // Whoever wants a report gets one about a file that cannot be looked at, too.
            Seen::AsIs if fs::exists(&path)? => match fs::size(&path) {
                Ok(size) => plan.estimate = Some(size),
                Err(_) if self.options.report_only => {}
                Err(failure) => return Err(failure),
            },
            Seen::AsIs | Seen::Gone => {
                return Err(Failure::new(Code::NotFound, format!("there is no backup `{}`", path.display()))
                    .hint(format!("`lifeboat backups {}` lists what is there.", parent(&shown))));
            }
            Seen::Made | Seen::Unknown => {}
        }
        plan.details.push("record the result in the manifest".to_owned());
        plan.unknown.push("whether it is intact".to_owned());
        plan.needs = vec![Need::Read(path.clone()), Need::Write(path.clone())];
        plan.locks.extend(path.parent().map(|dir| Target::Path(dir.to_path_buf())));
        plan.touches.push(Touch::BackupVerified(path));
        Ok(plan)
    }

    fn execute(&self, _: &Plan<Verification>, effects: &Effects) -> Result<Verification, Failure> {
        let facts = effects.facts();
        let path = facts.absolute(&self.path);
        let verification = match examine(facts, &path, Reread::Always) {
            // The backups that come after it are verified all the same.
            Err(failure) if self.options.report_only && is_about_the_file(&failure) => {
                unread(&path, &failure)
            }
            other => other?,
        };
        self.record(effects, &path, &verification)?;
        // The run that made it has told already.
        if let Ok(Some(manifest)) = store::read_manifest(&path)
            && manifest.run != effects.run()
            && let [first, others @ ..] = manifest.unreadable.as_slice()
        {
            let more = if others.is_empty() { String::new() } else { format!(", and {} more", others.len()) };
            let name = &verification.name;
            facts.host().warn(&format!("{name} does not hold all it should: {first}{more}"));
        }
        if verification.intact {
            return Ok(verification);
        }
        if self.options.report_only {
            // The run goes on, but it has seen a backup that cannot be relied on: nothing is removed after that.
            facts.host().set_troubled();
            return Ok(verification);
        }
        let mut failure = Failure::new(Code::NotIntact, format!("`{}` is not intact", verification.name));
        failure.causes.clone_from(&verification.problems);
        Err(failure.hint(format!(
            "Do not restore it. `lifeboat backups {} --verified` lists the intact ones.",
            parent(&facts.host().shown(&path))
        )))
    }

    fn reconcile(was: &Was<Verification>, _: &Facts) -> Result<Reconciled<Verification>, Failure> {
        // Looking once more is always safe; it is spared where the same file was found intact, and its manifest says so.
        let Some(output) = was.output.clone().filter(|output| output.intact) else {
            return Ok(Reconciled::NotDone);
        };
        let stands = match store::look(&output.path)? {
            Some(Found { backup, manifest: Some(manifest), oddity: None }) => {
                backup.verified == Later::Now(Some(true))
                    && manifest.sha256 == output.sha256
                    && manifest.size == output.size
            }
            _ => false,
        };
        Ok(if stands { Reconciled::Done(output) } else { Reconciled::NotDone })
    }
}

impl Verify {
    fn record(&self, effects: &Effects, path: &Path, found: &Verification) -> Result<(), Failure> {
        let Ok(Some(mut manifest)) = store::read_manifest(path) else { return Ok(()) };
        manifest.verified = Some(Verified {
            at: effects.facts().now().fixed_offset(),
            intact: found.intact,
            checks: found.checks.clone(),
            problems: found.problems.clone(),
        });
        let json = serde_json::to_vec_pretty(&manifest)
            .map_err(|error| Failure::new(Code::Internal, "cannot write the manifest").caused_by(error))?;
        let at = store::sidecar(path, ".json");
        let intent = effects.intend(&format!("replace {}", at.display()))?;
        match effects.replace_file(&intent, &at, &json) {
            // What was found stands, wherever it can be written down.
            Err(failure) if matches!(failure.code, Code::DiskFull | Code::Io) => {
                effects
                    .facts()
                    .host()
                    .warn(&format!("the result for {} could not be recorded: {failure}", found.name));
                Ok(())
            }
            other => other,
        }
    }
}

fn parent(shown: &str) -> String {
    let parent = Path::new(shown).parent().map(|dir| dir.display().to_string()).unwrap_or_default();
    if parent.is_empty() { ".".to_owned() } else { parent }
}
