//! The disk of a server on this machine, and what happens when it is full.
//!
//! *Problem*: a checkpoint that finds no room ends the server with all its databases, and it does not start again before there
//! is room; `DROP DATABASE` makes one (seen on PostgreSQL 15.18). So clean-up after a load that filled the disk would be an
//! outage. *Decision*: a load stops while there is room to go on working, and what was staged is emptied before it is removed.

use super::trouble::DISK_FULL;
use crate::base::failure::{Code, Failure};
use crate::base::units;
use crate::sys::fs::disk_space;
use crate::sys::postgres::catalog::{text, value};
use crate::sys::postgres::connection::connect;
use crate::sys::postgres::maintenance::{Maintenance, Standing};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a server needs to go on working: two segments of WAL.
const RESERVE: u64 = 32 << 20;

/// How much must be free for a removal.
const FOR_REMOVAL: u64 = 1 << 20;

/// How often a load looks.
const PAUSE: Duration = Duration::from_millis(20);

/// How long the sessions of a server that ends are looked for.
const AFTERMATH: Duration = Duration::from_millis(300);

/// How long emptying one table may take, and how many are emptied.
const EMPTIED_WITHIN: Duration = Duration::from_secs(10);
const EMPTIED: usize = 10;

/// The disk of a new database.
pub(super) struct Disk {
    /// Its folder.
    pub folder: PathBuf,
    /// Bytes that are free.
    pub free: u64,
    /// Bytes that the server's WAL may still grow by there.
    pub wal: u64,
}

/// How much the WAL may grow on the disk of `folder`: what is there already is used again. A server that finds no room for its
/// WAL ends, and cannot even start again (PostgreSQL 15, "WAL Configuration").
fn growth_of_wal(data: &Path, folder: &Path, most: u64) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let wal = data.join("pg_wal");
    let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev()).ok();
    if device(&wal) != device(folder) {
        return 0;
    }
    let Ok(entries) = std::fs::read_dir(&wal) else { return 0 };
    let sizes = entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len());
    most.saturating_sub(sizes.sum())
}

/// The identifier of the server whose data is in a folder: the first eight bytes of its control file.
fn system_of(data: &Path) -> Option<u64> {
    let control = std::fs::read(data.join("global/pg_control")).ok()?;
    Some(u64::from_ne_bytes(control.get(..8)?.try_into().ok()?))
}

/// The disk of the server's data, which is looked at now and then while a load fills it.
pub struct DataDisk {
    folder: PathBuf,
    looked: Mutex<Option<Instant>>,
}

impl DataDisk {
    /// Fails when there is no room for the server to go on working.
    ///
    /// # Errors
    /// `DiskFull`.
    pub fn check(&self) -> Result<(), Failure> {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.is_some_and(|looked| looked.elapsed() < PAUSE) {
            return Ok(());
        }
        *looked = Some(Instant::now());
        match disk_space(&self.folder) {
            Ok(space) if space.available < RESERVE => Err(Failure::new(
                Code::DiskFull,
                "the server's disk is almost full, and the load was stopped",
            )
            .caused_by(format!(
                "`{}` has {} free, and a server without room for its WAL ends",
                self.folder.display(),
                units::bytes(space.available)
            ))
            .hint(DISK_FULL)),
            _ => Ok(()),
        }
    }
}

impl Maintenance {
    /// The disk of the server's data, if it is on this machine.
    pub fn data_disk(&self) -> Option<DataDisk> {
        let disk = self.disk(None).ok()?.ok()?;
        Some(DataDisk { folder: disk.folder, looked: Mutex::default() })
    }

    /// Whether the server still works a moment after it found no room: one that cannot write its WAL ends, and its sessions with
    /// it. Where the disk could not be looked at, nothing kept a load from that.
    pub fn survives_full_disk(&self) -> bool {
        std::thread::sleep(AFTERMATH);
        self.session().one("SELECT 1").is_ok()
    }

    /// Refuses when a removal would find no room for its checkpoint. What is staged, and only that, is emptied instead: nobody
    /// misses it, and its room is free at once.
    ///
    /// # Errors
    /// `DiskFull`.
    pub(super) fn room_for_removal(&self, doomed: &Standing, is_staged: bool) -> Result<(), Failure> {
        // The checkpoint writes to the server's own disk, and what of this database was not written yet to that of its tablespace.
        let disks = [None, Some(doomed)].map(|of| self.disk(of).ok().and_then(Result::ok));
        match disks.into_iter().flatten().min_by_key(|disk| disk.free) {
            Some(disk) if disk.free >= RESERVE => Ok(()),
            Some(disk) if !is_staged && disk.free < FOR_REMOVAL => Err(Failure::new(
                Code::DiskFull,
                format!("the database `{}` stays", doomed.name),
            )
            .caused_by(format!(
                "`{}` has {} free, and a removal makes a checkpoint, which would end a server without room",
                disk.folder.display(),
                units::bytes(disk.free)
            ))
            .hint("Free some megabytes there by other means, then run it again.")),
            _ if is_staged => {
                self.empty(doomed);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Drops the largest tables of a database. What fails is left to the removal.
    fn empty(&self, doomed: &Standing) {
        let settings = self.settings().with_database(&doomed.name);
        let Ok(session) = connect(self.host(), &settings) else { return };
        session.see_through(true);
        let tables = session.limit(Some(EMPTIED_WITHIN)).and_then(|()| {
            session.rows(&format!(
                "SELECT c.oid::regclass FROM pg_class c WHERE c.relkind = 'r' AND c.oid >= 16384 AND pg_table_size(c.oid) > {FOR_REMOVAL} \
                 ORDER BY pg_table_size(c.oid) DESC LIMIT {EMPTIED}"
            ))
        });
        for row in tables.unwrap_or_default().rows {
            let _ = session.run(&format!("DROP TABLE {} CASCADE", text(&row, 0)));
        }
    }

    /// The folder on this machine where the server puts what is to become `database`, and the bytes that are free there;
    /// `None` where that cannot be known.
    pub fn room(&self, database: &str) -> Option<(PathBuf, u64)> {
        let standing = self.find(database).ok()?;
        let disk = self.disk(standing.as_ref()).ok()?.ok()?;
        Some((disk.folder, disk.free))
    }

    /// Where the server would put a new database, if that is on this machine; or why that cannot be known.
    pub(super) fn disk(&self, standing: Option<&Standing>) -> Result<Result<Disk, String>, Failure> {
        let settings = self.settings();
        let is_here =
            settings.is_socket() || matches!(settings.host.as_str(), "localhost" | "127.0.0.1" | "::1");
        if !is_here {
            return Ok(Err(format!("`{}` is another machine", settings.host)));
        }
        let folders = match self.session().one(&format!(
            "SELECT current_setting('data_directory'), system_identifier, (SELECT \
             nullif(pg_tablespace_location(dattablespace), '') FROM pg_database WHERE oid = {}), \
             pg_size_bytes(current_setting('max_wal_size')) FROM pg_control_system()",
            standing.map_or(0, |standing| standing.oid)
        )) {
            Ok(row) => row,
            Err(failure) if failure.code == Code::Query => {
                return Ok(Err(format!("the server does not tell `{}` where its data is", settings.user)));
            }
            Err(failure) => return Err(failure),
        };
        let data = PathBuf::from(text(&folders, 0));
        // A forwarded port leads to a server elsewhere, and a container's folder is another one here.
        if system_of(&data) != text(&folders, 1).parse().ok() {
            return Ok(Err(format!("the server's data is not in `{}` of this machine", data.display())));
        }
        let folder = value(&folders, 2).map_or_else(|| data.join("base"), PathBuf::from);
        let wal = growth_of_wal(&data, &folder, text(&folders, 3).parse().unwrap_or(0));
        Ok(match disk_space(&folder) {
            Ok(space) => Ok(Disk { folder, free: space.available, wal }),
            Err(failure) => Err(failure.to_string()),
        })
    }
}
