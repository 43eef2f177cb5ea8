//! `gzip`: compresses a file beside itself, on all cores; the file stays.

use crate::action::{Action, Recorded};
use crate::base::event::Progress;
use crate::base::failure::{Code, Failure};
use crate::base::plan::{Effect, Later, Need, Plan, Reconciled, Target, Touch, Was};
use crate::base::units;
use crate::sys::effects::Effects;
use crate::sys::facts::{Facts, Seen};
use crate::sys::fs::{self, Staged};
use crate::sys::stream::{BlockSink, BlockWriter, Control, Kind, Level, Output, Stages, hash, pour};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::PathBuf;

/// Compresses a file to `FILE.gz`.
#[derive(Clone, Debug)]
pub struct Gzip {
    /// The file.
    pub path: PathBuf,
    /// How hard it tries.
    pub level: Level,
}

/// A file that was compressed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gzipped {
    /// The compressed file.
    pub path: PathBuf,
    /// Its bytes.
    pub size: Later<u64>,
    /// Bytes before compression.
    pub raw_size: Later<u64>,
    /// SHA-256 of the compressed file in hex.
    pub sha256: Later<String>,
}

impl Recorded for Gzipped {
    fn summary(&self) -> String {
        let size = |bytes: &Later<u64>| bytes.clone().map(units::bytes).to_string();
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        format!("compressed to {name} ({} of {})", size(&self.size), size(&self.raw_size))
    }
}

impl Action for Gzip {
    const NAME: &'static str = "gzip";
    type Output = Gzipped;

    fn plan(&self, facts: &Facts) -> Result<Plan<Gzipped>, Failure> {
        let path = facts.absolute(&self.path);
        let target = crate::sys::store::sidecar(&path, ".gz");
        if facts.exists(&target)? == Later::Now(true) {
            return Err(Failure::new(Code::Io, format!("`{}` exists already", target.display()))
                .hint("`gzip` never overwrites a file: move that one away."));
        }
        let raw_size = match facts.view().path(&path) {
            Seen::AsIs => Later::Now(fs::size(&path)?),
            _ => Later::AfterRun,
        };
        let mut plan = Plan::new(
            format!(
                "gzip (level {}) of `{}` → `{}`",
                self.level,
                facts.host().shown(&path),
                facts.host().shown(&target)
            ),
            Effect::Create,
            Later::Now(Gzipped {
                path: target.clone(),
                size: Later::AfterRun,
                raw_size: raw_size.clone(),
                sha256: Later::AfterRun,
            }),
        );
        plan.estimate = raw_size.now();
        plan.unknown.push("size and digest of the compressed file".to_owned());
        plan.needs = vec![Need::Read(path), Need::Write(target.clone())];
        plan.locks.extend(target.parent().map(|dir| Target::Path(dir.to_path_buf())));
        plan.touches.push(Touch::PathMade(target));
        Ok(plan)
    }

    fn execute(&self, plan: &Plan<Gzipped>, effects: &Effects) -> Result<Gzipped, Failure> {
        let Later::Now(planned) = &plan.forecast else {
            return Err(Failure::new(Code::Internal, "`gzip` was planned without a target"));
        };
        let facts = effects.facts();
        let path = facts.absolute(&self.path);
        let mut file = fs::open(&path)?;
        let label = format!("gzip {}", path.file_name().unwrap_or_default().to_string_lossy());
        let progress = |done: u64| {
            facts.progress(Progress {
                label: label.clone(),
                done,
                total: plan.estimate,
                unit: "bytes".to_owned(),
            });
        };
        let control = Control { cancel: facts.cancel(), progress: &progress };
        let stages = Stages { gzip: Some(self.level), threads: None };
        let mut staged = effects.stage(&planned.path)?;
        let source = |out: &mut dyn BlockSink| {
            let mut writer = BlockWriter::new(out, Kind::File);
            std::io::copy(&mut file, &mut writer).map_err(|error| Failure::io("read", &path, &error))?;
            writer.finish()
        };
        let ((), written) = pour(source, &stages, &mut StagedOutput(&mut staged), control)?;
        effects.publish(&mut staged)?;
        Ok(Gzipped {
            path: planned.path.clone(),
            size: Later::Now(written.size),
            raw_size: Later::Now(written.raw_size),
            sha256: Later::Now(written.sha256.to_string()),
        })
    }

    fn reconcile(was: &Was<Gzipped>, facts: &Facts) -> Result<Reconciled<Gzipped>, Failure> {
        let planned = was.output.clone().or_else(|| was.plan.forecast.clone().now());
        let Some(planned) = planned.filter(|_| was.begun) else { return Ok(Reconciled::NotDone) };
        if !fs::exists(&planned.path)? {
            return Ok(Reconciled::NotDone);
        }
        let control = Control { cancel: facts.cancel(), progress: &|_| {} };
        let (_, digest) = hash(&mut fs::open(&planned.path)?, &planned.path, control, &mut |_| Ok(()))?;
        Ok(if planned.sha256 == Later::Now(digest.to_string()) {
            Reconciled::Done(planned)
        } else {
            Reconciled::InDoubt(format!(
                "`{}` is there, and nothing tells whether this run made it",
                facts.host().shown(&planned.path)
            ))
        })
    }
}

/// A staged file as the end of a stream.
pub(super) struct StagedOutput<'a>(pub(super) &'a mut Staged);

impl Output for StagedOutput<'_> {
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let result = self.0.file().write_all(bytes);
        result.map_err(|error| Failure::io("write", self.0.path(), &error))
    }

    fn hint_written(&mut self, offset: u64) -> Result<(), Failure> {
        self.0.begin_writeback(offset);
        Ok(())
    }
}
