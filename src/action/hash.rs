//! `hash`: writes `FILE.sha256`, which `sha256sum -c` reads.

use crate::action::{Action, Recorded};
use crate::base::event::Progress;
use crate::base::failure::{Code, Failure};
use crate::base::plan::{Effect, Later, Need, Plan, Reconciled, Target, Touch, Was};
use crate::sys::effects::Effects;
use crate::sys::facts::{Facts, Seen};
use crate::sys::fs;
use crate::sys::store;
use crate::sys::stream::{Control, hash};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Takes the SHA-256 of a file and keeps it beside the file.
#[derive(Clone, Debug)]
pub struct Hash {
    /// The file.
    pub path: PathBuf,
}

/// A digest that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashed {
    /// The sidecar.
    pub path: PathBuf,
    /// Bytes of the file.
    pub size: Later<u64>,
    /// SHA-256 in hex.
    pub sha256: Later<String>,
}

impl Recorded for Hashed {
    fn summary(&self) -> String {
        format!("wrote {} ({})", self.path.file_name().unwrap_or_default().to_string_lossy(), self.sha256)
    }
}

impl Action for Hash {
    const NAME: &'static str = "hash";
    type Output = Hashed;

    fn plan(&self, facts: &Facts) -> Result<Plan<Hashed>, Failure> {
        let path = facts.absolute(&self.path);
        let at = store::sidecar(&path, ".sha256");
        let size = match facts.view().path(&path) {
            Seen::AsIs => Later::Now(fs::size(&path)?),
            _ => Later::AfterRun,
        };
        let replaces = facts.exists(&at)? == Later::Now(true);
        let mut plan = Plan::new(
            format!("sha256 of `{}` → `{}`", facts.host().shown(&path), facts.host().shown(&at)),
            if replaces { Effect::Replace } else { Effect::Create },
            Later::Now(Hashed { path: at.clone(), size: size.clone(), sha256: Later::AfterRun }),
        );
        plan.estimate = size.now();
        plan.unknown.push("the digest".to_owned());
        plan.needs = vec![Need::Read(path), Need::Write(at.clone())];
        plan.locks.extend(at.parent().map(|dir| Target::Path(dir.to_path_buf())));
        plan.touches.push(Touch::PathMade(at));
        Ok(plan)
    }

    fn execute(&self, plan: &Plan<Hashed>, effects: &Effects) -> Result<Hashed, Failure> {
        let Later::Now(planned) = &plan.forecast else {
            return Err(Failure::new(Code::Internal, "`hash` was planned without a target"));
        };
        let facts = effects.facts();
        let path = facts.absolute(&self.path);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let progress = |done: u64| {
            facts.progress(Progress {
                label: format!("hash {name}"),
                done,
                total: plan.estimate,
                unit: "bytes".to_owned(),
            });
        };
        let control = Control { cancel: facts.cancel(), progress: &progress };
        let (size, digest) = hash(&mut fs::open(&path)?, &path, control, &mut |_| Ok(()))?;
        let line = store::sha256_line(&name, &digest.to_string());
        if plan.effect == Effect::Create {
            effects.write_new(&planned.path, line.as_bytes())?;
        } else {
            let intent = effects.intend(&format!("replace {}", planned.path.display()))?;
            effects.replace_file(&intent, &planned.path, line.as_bytes())?;
        }
        Ok(Hashed {
            path: planned.path.clone(),
            size: Later::Now(size),
            sha256: Later::Now(digest.to_string()),
        })
    }

    /// Never done: writing the same line once more is safe, and the file may be another one by now.
    fn reconcile(_: &Was<Hashed>, _: &Facts) -> Result<Reconciled<Hashed>, Failure> {
        Ok(Reconciled::NotDone)
    }
}
