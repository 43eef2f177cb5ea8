//! `write`: a text file, for example the report of a restore test.

use crate::action::{Action, Recorded};
use crate::base::failure::{Code, Failure};
use crate::base::plan::{Effect, Later, Need, Plan, Reconciled, Target, Touch, Was};
use crate::base::units;
use crate::sys::effects::Effects;
use crate::sys::facts::Facts;
use crate::sys::fs;
use crate::sys::stream::{Control, Digest, hash};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Writes a text into a file of mode 0600, whole or not at all; one that is there is replaced.
#[derive(Clone, Debug)]
pub struct Write {
    /// The file.
    pub path: PathBuf,
    /// Its text; a dry run may not know all of it.
    pub text: Later<String>,
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The file.
    pub path: PathBuf,
    /// Bytes.
    pub size: Later<u64>,
    /// SHA-256 in hex.
    pub sha256: Later<String>,
}

impl Recorded for Written {
    fn summary(&self) -> String {
        match &self.size {
            Later::Now(size) => format!("wrote {} ({})", self.path.display(), units::bytes(*size)),
            Later::AfterRun => format!("wrote {}", self.path.display()),
        }
    }
}

impl Action for Write {
    const NAME: &'static str = "write";
    type Output = Written;

    fn plan(&self, facts: &Facts) -> Result<Plan<Written>, Failure> {
        let path = facts.absolute(&self.path);
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Failure::new(Code::Usage, format!("`{}` is not the path of a file", path.display())));
        };
        if name.to_string_lossy().contains(['\n', '\r']) {
            let shown = path.display().to_string();
            return Err(Failure::new(
                Code::Usage,
                format!("a file cannot be called `{}`", shown.escape_debug()),
            )
            .hint("Use a name without line breaks; `file_name(text)` makes one."));
        }
        let replaces = facts.exists(&path)? == Later::Now(true);
        let text = self.text.as_now();
        let output = Written {
            path: path.clone(),
            size: text.map_or(Later::AfterRun, |text| Later::Now(text.len() as u64)),
            sha256: text
                .map_or(Later::AfterRun, |text| Later::Now(Digest::of_bytes(text.as_bytes()).to_string())),
        };
        let mut plan = Plan::new(
            format!("write `{}`", facts.host().shown(&path)),
            if replaces { Effect::Replace } else { Effect::Create },
            Later::Now(output),
        );
        // Another text is another file, whose place it takes.
        let digest = text.map(|text| Digest::of_bytes(text.as_bytes()));
        plan.identity = digest.map(|digest| format!("{} {digest}", path.display()));
        match text {
            Some(text) => plan.details.push(units::bytes(text.len() as u64)),
            None => plan.unknown.push("part of the text".to_owned()),
        }
        plan.needs = vec![Need::Write(dir.to_path_buf()), Need::Write(path.clone())];
        plan.locks.push(Target::Path(dir.to_path_buf()));
        plan.touches.push(Touch::PathMade(path));
        Ok(plan)
    }

    fn execute(&self, plan: &Plan<Written>, effects: &Effects) -> Result<Written, Failure> {
        let (Later::Now(planned), Later::Now(text)) = (&plan.forecast, &self.text) else {
            return Err(Failure::new(Code::Internal, "`write` was planned without knowing its text"));
        };
        if let Some(dir) = planned.path.parent() {
            effects.create_dir(dir)?;
        }
        if plan.effect == Effect::Create {
            effects.write_new(&planned.path, text.as_bytes())?;
        } else {
            let intent = effects.intend(&format!("replace {}", planned.path.display()))?;
            effects.replace_file(&intent, &planned.path, text.as_bytes())?;
        }
        Ok(planned.clone())
    }

    fn reconcile(was: &Was<Written>, facts: &Facts) -> Result<Reconciled<Written>, Failure> {
        let Later::Now(planned) = &was.plan.forecast else { return Ok(Reconciled::NotDone) };
        if !fs::exists(&planned.path)? {
            return Ok(Reconciled::NotDone);
        }
        let control = Control { cancel: facts.cancel(), progress: &|_| {} };
        let (_, digest) = hash(fs::open(&planned.path)?, &planned.path, control, &mut |_| Ok(()))?;
        let stands = planned.sha256 == Later::Now(digest.to_string());
        Ok(if stands { Reconciled::Done(planned.clone()) } else { Reconciled::NotDone })
    }
}
