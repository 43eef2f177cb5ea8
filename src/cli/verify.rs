//! `lifeboat verify`: the playbook `verify_backups` as a command.

use crate::base::event::Mode;
use crate::base::failure::{Code, Exit, Failure};
use crate::cli::global::Global;
use crate::cli::run::{self, Stopped};
use std::ffi::OsString;

/// The playbook that does it.
const PLAYBOOK: &str = "verify_backups";

/// Prove that backups are intact: SHA-256, every gzip member, end marker, row counts
///
/// It runs the playbook `verify_backups`, so the run is on record, and the result is in each backup's manifest. Exits with 12
/// when a backup is not intact, with 1 when there is none at a path.
///
/// With `--json`: the events of the run, as `lifeboat run --json` has them; `value` of the last one is an array of objects with
/// `path`, `name`, `intact`, `size`, `raw_size`, `sha256`, `checks` and `problems`, unless the run failed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Backup files, or folders of them, relative to the project
    #[arg(value_name = "PATH", conflicts_with = "all")]
    paths: Vec<OsString>,
    /// All in the usual folders: backups/database and backups/config, or what BACKUP_DIR and CONFIG_BACKUP_DIR name
    #[arg(long)]
    all: bool,
}

/// Verifies backups.
pub fn run(args: &Args, global: &Global) -> Result<Exit, Stopped> {
    if args.paths.is_empty() && !args.all {
        return Err(Failure::new(Code::Usage, "no backup is named")
            .hint("Name files or folders, or verify all in the usual folders with `lifeboat verify --all`.")
            .into());
    }
    let mut words: Vec<OsString> = vec![PLAYBOOK.into(), "--".into()];
    words.extend(args.paths.iter().cloned());
    run::run(&words, global, "lifeboat run", Mode::Live)
}
