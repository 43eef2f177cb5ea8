//! What a role owns in its database, and what others do.

use super::catalog::text;
use super::exchange::own;
use crate::base::failure::Failure;
use crate::sys::postgres::connection::Session;

/// How many objects of others are named.
const NAMED: usize = 10;

/// Relations of the session's database that belong to others, each with what helps; those of extensions do not count.
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
    let found = session.rows(
        "SELECT c.oid::regclass, pg_get_userbyid(c.relowner) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%' AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') \
         AND pg_get_userbyid(c.relowner) <> current_user \
         AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass \
           AND d.deptype = 'e') ORDER BY 1",
    )?;
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
BEGIN
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
