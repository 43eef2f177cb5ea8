//! What must hold in a database that was just filled, beside its rows: indexes, constraints, sequences, extensions.

use super::catalog::text;
use crate::base::backup::DatabaseProperties;
use crate::base::failure::Failure;
use crate::sys::postgres::connection::Session;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// What makes the database unfit.
    pub problems: Vec<String>,
    /// What should be looked at.
    pub warnings: Vec<String>,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

/// Checks the database of the session against what is known of its source.
pub fn check(session: &Session, source: &DatabaseProperties) -> Result<Checked, Failure> {
    let mut checked = Checked::default();
    let indexes = session.rows(
        "SELECT indexrelid::regclass FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
         WHERE NOT (i.indisvalid AND i.indisready AND i.indislive) AND c.relkind = 'i' ORDER BY 1",
    )?;
    checked
        .problems
        .extend(indexes.rows.iter().map(|row| format!("the index {} is not valid", text(row, 0))));
    let constraints = session.rows(
        "SELECT format('%s of %s', quote_ident(conname), conrelid::regclass) FROM pg_constraint \
         WHERE NOT convalidated AND conrelid <> 0 ORDER BY 1",
    )?;
    checked.notes.extend(
        constraints
            .rows
            .iter()
            .map(|row| format!("the constraint {} is NOT VALID, as in the source", text(row, 0))),
    );
    checked.warnings.extend(behind(session)?);
    for (name, version) in &source.extensions {
        let found = session.rows(&format!(
            "SELECT extversion FROM pg_extension WHERE extname = {}",
            super::quote::literal(name)
        ))?;
        match found.rows.first().map(|row| text(row, 0)) {
            Some(found) if found != *version => checked.warnings.push(format!(
                "the extension `{name}` has version {found} here, and {version} in the source"
            )),
            // Every database has this one; a dump made of parts has no others.
            _ => {}
        }
    }
    Ok(checked)
}

/// Sequences that would give out a number that their column holds already. Only columns that lead an index are asked, for
/// which the answer is there at once.
fn behind(session: &Session) -> Result<Vec<String>, Failure> {
    let owned = session.rows(
        "SELECT s.oid::regclass, d.refobjid::regclass, quote_ident(a.attname), sequences.last_value, sequences.increment_by \
         FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' \
         JOIN pg_namespace n ON n.oid = s.relnamespace \
         JOIN pg_sequences sequences ON sequences.schemaname = n.nspname AND sequences.sequencename = s.relname \
         JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid \
         JOIN pg_class t ON t.oid = d.refobjid AND t.relkind = 'r' \
         WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') \
         AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) \
         AND EXISTS (SELECT FROM pg_index i WHERE i.indrelid = t.oid AND i.indkey[0] = a.attnum AND i.indpred IS NULL) \
         ORDER BY 1",
    )?;
    let mut behind = Vec::new();
    for row in &owned.rows {
        let (sequence, table, column) = (text(row, 0), text(row, 1), text(row, 2));
        let last: Option<i128> = text(row, 3).parse().ok();
        let rises = !text(row, 4).starts_with('-');
        let (most, which) = if rises { ("max", "largest") } else { ("min", "smallest") };
        let found = session.one(&format!("SELECT {most}({column}) FROM ONLY {table}"))?;
        let Ok(value) = text(&found, 0).parse::<i128>() else { continue };
        let is_behind = match last {
            None => true,
            Some(last) => {
                if rises {
                    last < value
                } else {
                    last > value
                }
            }
        };
        if is_behind {
            let last = last.map_or_else(|| "was never used".to_owned(), |last| format!("stands at {last}"));
            behind.push(format!(
                "the sequence {sequence} {last}, and the {which} {column} of {table} is {value}: new rows may collide"
            ));
        }
    }
    Ok(behind)
}
