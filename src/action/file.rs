//! `file`: one file as the source of a backup.

use crate::action::source::{Produced, Sourced};
use crate::base::backup::{Content, Source};
use crate::base::failure::Failure;
use crate::base::plan::{Later, Need, Target};
use crate::sys::effects::Effects;
use crate::sys::facts::Facts;
use crate::sys::fs;
use crate::sys::stream::{BlockSink, BlockWriter, Kind};
use std::path::PathBuf;

/// A file that is backed up as it is.
#[derive(Clone, Debug)]
pub struct FileSource {
    /// The file.
    pub path: PathBuf,
}

impl FileSource {
    /// Looks at the file.
    pub fn look(&self, facts: &Facts) -> Result<Sourced, Failure> {
        let path = facts.absolute(&self.path);
        let unknown = facts.view().is_changed(&Target::Path(path.clone()));
        let raw_size = if unknown { None } else { Some(fs::size(&path)?) };
        Ok(Sourced {
            content: Content::File,
            source: Later::Now(Source::Tree { host: fs::host_name(), root: path.display().to_string() }),
            describe: format!("`{}`", facts.host().shown(&path)),
            details: Vec::new(),
            unknown: unknown
                .then(|| "the file's size: an earlier command may change it".to_owned())
                .into_iter()
                .collect(),
            needs: vec![Need::Read(path.clone())],
            reads: vec![Target::Path(path)],
            raw_size,
        })
    }

    /// Reads the file to its end.
    pub fn produce(&self, effects: &Effects, out: &mut dyn BlockSink) -> Result<Produced, Failure> {
        let path = effects.facts().absolute(&self.path);
        let mut file = fs::open(&path)?;
        let mut writer = BlockWriter::new(out, Kind::File);
        std::io::copy(&mut file, &mut writer).map_err(|error| Failure::io("read", &path, &error))?;
        writer.finish()?;
        Ok(Produced::default())
    }
}
