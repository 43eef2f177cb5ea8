//! What stands in the way of restoring into a database, found before anything is done.

use crate::base::failure::{Code, Failure};
use crate::base::units;
use crate::sys::postgres::catalog::text;
use crate::sys::postgres::maintenance::{Maintenance, SYSTEM, Standing};
use crate::sys::postgres::mark::LONGEST_NAME;
use crate::sys::postgres::quote::{ident, literal};
use crate::sys::postgres::sessions::{ENDABLE, SESSION};

/// What kind of obstacle it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObstacleKind {
    /// The name is one of the server's own databases, of a template, or too long.
    Name,
    /// This role may not make databases.
    NoCreate,
    /// This role may not rename the database.
    NoRename,
    /// A logical replication slot would go on following the old database.
    Slot,
    /// A subscription would go on filling the old database.
    Subscription,
    /// A prepared transaction holds on to the database.
    Prepared,
    /// A session that this role may not end.
    Session,
    /// The server's disk has not enough space.
    Space,
}

/// Something that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// What kind it is.
    pub kind: ObstacleKind,
    /// What it is, in one line.
    pub what: String,
    /// What removes it, in a full sentence.
    pub remedy: String,
}

/// What was looked for and found, and what could not be looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Obstacles {
    /// What stands in the way.
    pub found: Vec<Obstacle>,
    /// What cannot be known before the run, in plain words.
    pub unknown: Vec<String>,
}

impl Obstacles {
    /// All of them as one failure; nothing when there is none.
    ///
    /// # Errors
    /// `Failed`, with a cause and a hint for each.
    pub fn refuse(&self, database: &str) -> Result<(), Failure> {
        if self.found.is_empty() {
            return Ok(());
        }
        let failure = Failure::new(Code::Failed, format!("`{database}` cannot be replaced as things are"));
        Err(self.found.iter().fold(failure, |failure, obstacle| {
            failure.caused_by(&obstacle.what).hint(obstacle.remedy.as_str())
        }))
    }
}

impl Maintenance {
    /// What stands in the way of making a new database and giving it the name `database`. `bytes` is what the new one is
    /// expected to take on the server's disk; the present one's size if nobody knows better.
    ///
    /// # Errors
    /// Those of the questions to the server.
    pub fn obstacles(&self, database: &str, bytes: Option<u64>) -> Result<Obstacles, Failure> {
        let standing = self.find(database)?;
        let found = self.obstacles_of_renaming(database, standing.as_ref())?;
        let mut all = Obstacles { found, unknown: Vec::new() };
        // Nothing else matters of a database that is not to be touched.
        if all.found.iter().any(|obstacle| obstacle.kind == ObstacleKind::Name) {
            return Ok(all);
        }
        let needed = bytes.or(standing.as_ref().and_then(|standing| standing.size));
        match self.disk(standing.as_ref())? {
            Ok(disk)
                if needed.is_some_and(|needed| needed.saturating_add(disk.wal.min(needed)) > disk.free) =>
            {
                let needed = needed.unwrap_or_default();
                let wal = match disk.wal.min(needed) {
                    0 => String::new(),
                    wal => format!(" and the server's WAL {} more", units::bytes(wal)),
                };
                all.found.push(Obstacle {
                    kind: ObstacleKind::Space,
                    what: format!(
                        "the server's disk has {} free, and the new database takes about {}{wal}",
                        units::bytes(disk.free),
                        units::bytes(needed)
                    ),
                    remedy: "Free space on the server's disk: `lifeboat cleanup` removes databases that were kept."
                        .to_owned(),
                });
            }
            Ok(_) if needed.is_none() => all.unknown.push(
                "whether the server's disk has enough space: nothing tells how large the database will be"
                    .to_owned(),
            ),
            Ok(_) => {}
            Err(why) => all.unknown.push(format!("whether the server's disk has enough space: {why}")),
        }
        Ok(all)
    }

    /// What stands in the way of giving the name `database` away, which `standing` has now.
    ///
    /// # Errors
    /// Those of the questions to the server.
    pub fn obstacles_of_renaming(
        &self,
        database: &str,
        standing: Option<&Standing>,
    ) -> Result<Vec<Obstacle>, Failure> {
        if let Some(obstacle) = of_name(database, standing) {
            return Ok(vec![obstacle]);
        }
        let mut found = Vec::new();
        if !self.may_create()? {
            let user = &self.settings().user;
            found.push(Obstacle {
                kind: ObstacleKind::NoCreate,
                what: format!("the role `{user}` may not make or rename databases"),
                remedy: format!("As a superuser: `ALTER ROLE {} CREATEDB;`.", ident(user)),
            });
        }
        if let Some(standing) = standing {
            found.extend(self.not_owner(standing));
            found.extend(self.slots(database)?);
            found.extend(self.subscriptions(standing)?);
            found.extend(self.prepared(database)?);
            found.extend(self.strange_sessions(standing)?);
        }
        Ok(found)
    }

    fn may_create(&self) -> Result<bool, Failure> {
        let row = self
            .session()
            .one("SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user")?;
        Ok(text(&row, 0) == "t")
    }

    fn not_owner(&self, standing: &Standing) -> Option<Obstacle> {
        let user = &self.settings().user;
        (!standing.is_own).then(|| Obstacle {
            kind: ObstacleKind::NoRename,
            what: format!(
                "`{}` belongs to `{}`, so that `{user}` may not rename it",
                standing.name, standing.owner
            ),
            remedy: "Connect as its owner or as a superuser.".to_owned(),
        })
    }

    fn slots(&self, database: &str) -> Result<Vec<Obstacle>, Failure> {
        let found = self.session().rows(&format!(
            "SELECT slot_name, active FROM pg_replication_slots WHERE database = {} ORDER BY 1",
            literal(database)
        ))?;
        let obstacle = |row: &Vec<Option<String>>| {
            let slot = text(row, 0);
            let first = if text(row, 1) == "t" { "Stop what reads from it, then" } else { "As a superuser:" };
            Obstacle {
                kind: ObstacleKind::Slot,
                what: format!("the logical replication slot `{slot}` would go on following the old database"),
                remedy: format!(
                    "{first} `SELECT pg_drop_replication_slot({});`, and make it again after the restore.",
                    literal(&slot)
                ),
            }
        };
        Ok(found.rows.iter().map(obstacle).collect())
    }

    fn subscriptions(&self, standing: &Standing) -> Result<Vec<Obstacle>, Failure> {
        let found = self.session().rows(&format!(
            "SELECT subname FROM pg_subscription WHERE subdbid = {} ORDER BY 1",
            standing.oid
        ))?;
        let obstacle = |row: &Vec<Option<String>>| {
            let name = text(row, 0);
            Obstacle {
                kind: ObstacleKind::Subscription,
                what: format!("the subscription `{name}` would go on filling the old database"),
                remedy: format!(
                    "In `{}`: `ALTER SUBSCRIPTION {name} DISABLE; ALTER SUBSCRIPTION {name} SET (slot_name = NONE); \
                     DROP SUBSCRIPTION {name};`, and make it again after the restore.",
                    standing.name,
                    name = ident(&name)
                ),
            }
        };
        Ok(found.rows.iter().map(obstacle).collect())
    }

    fn prepared(&self, database: &str) -> Result<Vec<Obstacle>, Failure> {
        let found = self.session().rows(&format!(
            "SELECT gid, owner FROM pg_prepared_xacts WHERE database = {} ORDER BY prepared, gid",
            literal(database)
        ))?;
        let obstacle = |row: &Vec<Option<String>>| {
            let (gid, owner) = (text(row, 0), text(row, 1));
            Obstacle {
                kind: ObstacleKind::Prepared,
                what: format!("the prepared transaction `{gid}` of `{owner}` holds on to `{database}`"),
                remedy: format!(
                    "In `{database}`, as `{owner}` or a superuser: `COMMIT PREPARED {gid};` or `ROLLBACK PREPARED {gid};`.",
                    gid = literal(&gid)
                ),
            }
        };
        Ok(found.rows.iter().map(obstacle).collect())
    }

    fn strange_sessions(&self, standing: &Standing) -> Result<Vec<Obstacle>, Failure> {
        // Workers of autovacuum belong to no role, and make way by themselves.
        let found = self.session().rows(&format!(
            "SELECT pid, {SESSION}, usename, (SELECT rolsuper FROM pg_roles r WHERE r.oid = a.usesysid) \
             FROM pg_stat_activity a WHERE datid = {} AND usesysid IS NOT NULL AND NOT {ENDABLE} \
             ORDER BY backend_start, pid",
            standing.oid
        ))?;
        let user = &self.settings().user;
        let obstacle = |row: &Vec<Option<String>>| {
            let end = format!("End it as a superuser: `SELECT pg_terminate_backend({});`", text(row, 0));
            let remedy = if text(row, 3) == "t" {
                format!("{end}.")
            } else {
                format!("{end}, or allow it to `{user}`: `GRANT pg_signal_backend TO {};`.", ident(user))
            };
            Obstacle {
                kind: ObstacleKind::Session,
                what: format!("`{user}` may not end {}", text(row, 1)),
                remedy,
            }
        };
        Ok(found.rows.iter().map(obstacle).collect())
    }
}

fn of_name(database: &str, standing: Option<&Standing>) -> Option<Obstacle> {
    let what = if SYSTEM.contains(&database) {
        format!("`{database}` is one of the server's own databases")
    } else if standing.is_some_and(|standing| standing.is_template) {
        format!("`{database}` is a template of other databases")
    } else if database.len() > LONGEST_NAME {
        format!("the name `{database}` has {} bytes, and the server knows {LONGEST_NAME}", database.len())
    } else if standing.is_some_and(Standing::is_invalid) {
        return Some(Obstacle {
            kind: ObstacleKind::Name,
            what: format!("`{database}` is what is left of a database whose removal was interrupted"),
            remedy: format!("Drop it: `DROP DATABASE {};`.", ident(database)),
        });
    } else {
        return None;
    };
    Some(Obstacle {
        kind: ObstacleKind::Name,
        what,
        remedy: "Restore into a database of another name.".to_owned(),
    })
}
