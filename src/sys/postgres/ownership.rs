//! What a role owns in its database, and what others do.

use super::catalog::text;
use super::exchange::own;
use crate::base::failure::Failure;
use crate::sys::postgres::connection::Session;
use crate::sys::postgres::sessions::SESSION;

/// Catalogs of what has an owner and would go, or stay in the way, and the column of the owner.
const OWNED: [(&str, &str); 8] = [
    ("pg_namespace", "nspowner"),
    ("pg_proc", "proowner"),
    ("pg_publication", "pubowner"),
    ("pg_foreign_server", "srvowner"),
    ("pg_event_trigger", "evtowner"),
    ("pg_collation", "collowner"),
    ("pg_operator", "oprowner"),
    ("pg_statistic_ext", "stxowner"),
];

/// How many objects of others are named.
const NAMED: usize = 10;

/// Objects of the session's database that belong to others, each with what helps; those of extensions do not count.
pub fn strangers(session: &Session) -> Result<Vec<(String, String)>, Failure> {
    let first =
        session.one("SELECT oid = 10, current_user FROM pg_catalog.pg_roles WHERE rolname = current_user")?;
    let user = text(&first, 1);
    if text(&first, 0) == "t" {
        return Ok(vec![(
            format!("the server does not record what `{user}`, which made it, owns"),
            "Restore without `in_place`: this role may make databases.".to_owned(),
        )]);
    }
    // What the server's first role owns is recorded nowhere but in the objects themselves.
    let found = session.rows(&format!(
        "WITH others(classid, objid, owner) AS ( \
         SELECT d.classid, d.objid, d.refobjid FROM pg_shdepend d WHERE d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) \
           AND d.refclassid = 'pg_authid'::regclass AND d.deptype = 'o' AND d.classid NOT IN ('pg_default_acl'::regclass, 'pg_extension'::regclass) \
         UNION SELECT 'pg_extension'::regclass, e.oid, e.extowner FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace \
           WHERE n.nspowner = current_user::regrole \
         UNION SELECT 'pg_class'::regclass, oid, relowner FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND relpersistence <> 't' \
         UNION SELECT 'pg_type'::regclass, oid, typowner FROM pg_type WHERE typrelid = 0 AND typcategory <> 'A' {}), \
         foreigners AS (SELECT o.*, pg_identify_object(o.classid, o.objid, 0) AS what FROM others o WHERE o.objid >= 16384 AND o.owner <> current_user::regrole \
           AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.classid AND d.objid = o.objid AND d.deptype IN ('e', 'i'))) \
         SELECT CASE WHEN (what).type IN ('table', 'view', 'sequence', 'materialized view', 'foreign table') THEN (what).identity \
           ELSE (what).type || ' ' || (what).identity END, pg_get_userbyid(owner) FROM foreigners \
         WHERE (what).identity IS NOT NULL AND coalesce((what).schema, '') !~ '^(pg_toast|pg_temp_)' ORDER BY 1",
        OWNED
            .iter()
            .map(|(catalog, owner)| format!("UNION SELECT '{catalog}'::regclass, oid, {owner} FROM {catalog} "))
            .collect::<String>()
    ))?;
    let stranger = |row: &Vec<Option<String>>| {
        (
            format!("{} belongs to `{}`, so that `{user}` may not replace it", text(row, 0), text(row, 1)),
            format!(
                "Restore as the role that owns everything in `{}`, or as a superuser without `in_place`.",
                session.settings().database
            ),
        )
    };
    Ok(found.rows.iter().take(NAMED).map(stranger).collect())
}

/// Locks every table that the session's role owns, in the transaction that is open: nobody reads or writes them until it ends.
///
/// # Errors
/// `Query` with the sessions that hold on to them, which `witness` is asked for.
pub fn lock_own(session: &Session, witness: &Session) -> Result<(), Failure> {
    let found = session.rows(
        "SELECT c.oid::regclass, c.oid, (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) \
         FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' \
         AND c.relowner = current_user::regrole ORDER BY c.oid",
    )?;
    if found.rows.is_empty() {
        return Ok(());
    }
    let pid = text(&session.one("SELECT pg_catalog.pg_backend_pid()")?, 0);
    let names: Vec<String> = found.rows.iter().map(|row| text(row, 0)).collect();
    let oids = found.rows.iter().map(|row| text(row, 1)).collect::<Vec<_>>().join(", ");
    session.run("SET LOCAL lock_timeout = '10s'")?;
    match session.batch(&format!("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE", names.join(", ONLY ")))? {
        Ok(_) => session.run("SET LOCAL lock_timeout = '60s'"),
        Err(refused) => {
            let mut failure = own(&refused, "the tables of the live database cannot be locked");
            let database = found.rows.first().map(|row| text(row, 2)).unwrap_or_default();
            let holders = witness.rows(&format!(
                "SELECT DISTINCT {SESSION} FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
                 WHERE l.granted AND l.database = {database} AND l.relation IN ({oids}) AND l.pid <> {pid} ORDER BY 1",
            ))?;
            failure.causes.extend(holders.rows.iter().map(|row| format!("{} uses them", text(row, 0))));
            Err(failure.hint("End those sessions, or stop the services, and run it again."))
        }
    }
}

/// The tables with rows of their own that the session's role owns and a dump would hold, by OID.
///
/// # Errors
/// Those of the connection.
pub fn own_tables(session: &Session) -> Result<Vec<(u32, String)>, Failure> {
    let found = session.rows(
        "SELECT c.oid, c.oid::regclass FROM pg_catalog.pg_class c WHERE c.relkind = 'r' AND c.relpersistence <> 't' \
         AND c.relowner = current_user::regrole AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = c.oid \
         AND d.classid = 'pg_class'::regclass AND d.deptype = 'e') ORDER BY 2",
    )?;
    Ok(found.rows.iter().filter_map(|row| Some((text(row, 0).parse().ok()?, text(row, 1)))).collect())
}

/// Drops everything that the session's role owns in its database, in the transaction that is open.
///
/// # Errors
/// `Query` with the server's words.
pub fn drop_own(session: &Session) -> Result<(), Failure> {
    // What was dropped with another object is not there any more when its turn comes.
    let sql = "\
DO $lifeboat$
DECLARE
  object record;
  named record;
  given record;
BEGIN
  -- Rights that later objects would be born with. Without a schema the entry goes when it says what the server's own default says.
  FOR object IN SELECT defaclnamespace AS space, defaclobjtype AS kind, defaclacl AS acl,
      CASE WHEN defaclnamespace = 0 THEN '' ELSE format(' IN SCHEMA %s', defaclnamespace::regnamespace) END AS place,
      CASE defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS' WHEN 'T' THEN 'TYPES'
        WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END AS what
    FROM pg_catalog.pg_default_acl WHERE defaclrole = current_user::regrole
  LOOP
    FOR given IN SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS role
      FROM pg_catalog.aclexplode(object.acl)
    LOOP
      EXECUTE format('ALTER DEFAULT PRIVILEGES%s REVOKE ALL ON %s FROM %s', object.place, object.what, given.role);
    END LOOP;
    IF object.space = 0 THEN
      EXECUTE format('ALTER DEFAULT PRIVILEGES GRANT ALL ON %s TO CURRENT_USER', object.what);
      IF object.kind IN ('f', 'T') THEN
        EXECUTE format('ALTER DEFAULT PRIVILEGES GRANT ALL ON %s TO PUBLIC', object.what);
      END IF;
    END IF;
  END LOOP;
  FOR object IN SELECT d.classid, d.objid FROM pg_catalog.pg_shdepend d
    WHERE d.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
    AND d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.refobjid = current_user::regrole AND d.deptype = 'o'
    ORDER BY d.classid <> 'pg_catalog.pg_namespace'::regclass, d.classid <> 'pg_catalog.pg_extension'::regclass,
      d.classid <> 'pg_catalog.pg_class'::regclass
  LOOP
    IF object.classid = 'pg_catalog.pg_largeobject'::regclass THEN
      PERFORM pg_catalog.lo_unlink(object.objid);
      CONTINUE;
    END IF;
    BEGIN
      SELECT type, identity INTO named FROM pg_catalog.pg_identify_object(object.classid, object.objid, 0);
    EXCEPTION WHEN OTHERS THEN
      CONTINUE;
    END;
    CONTINUE WHEN named.identity IS NULL OR named.type IN ('default acl', 'index');
    BEGIN
      EXECUTE format('DROP %s IF EXISTS %s CASCADE',
        CASE named.type WHEN 'statistics object' THEN 'STATISTICS' ELSE named.type END, named.identity);
    EXCEPTION WHEN dependent_objects_still_exist OR undefined_object OR undefined_table OR undefined_function THEN
      NULL;
    END;
  END LOOP;
END $lifeboat$";
    session.run("SET client_min_messages = warning")?;
    match session.batch(sql)? {
        Ok(_) => Ok(()),
        Err(refused) => {
            let failure = own(&refused, "what is in the live database cannot be dropped");
            Err(if refused.state == "55P03" {
                failure.hint(
                    "Other sessions hold on to tables: end them, or stop the services, and run it again.",
                )
            } else {
                failure
            })
        }
    }
}
