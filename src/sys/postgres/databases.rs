//! Making and dropping databases that Lifeboat marks.

use crate::base::failure::{Code, Failure};
use crate::sys::postgres::connection::has_state;
use crate::sys::postgres::maintenance::{Maintenance, Standing};
use crate::sys::postgres::mark::{Kind, Mark, UNMARKED_LIMIT};
use crate::sys::postgres::quote::{ident, literal};

/// A database that is to be made from `template0`, empty, to be filled and swapped in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDatabase {
    /// Its name: [`Maintenance::free_name`] with [`staging_ending`](super::mark::staging_ending).
    pub name: String,
    /// What is written on it.
    pub mark: Mark,
    /// Its owner, if not this role.
    pub owner: Option<String>,
    /// Encoding, as `UTF8`.
    pub encoding: String,
    /// Collation, as `en_US.UTF-8`.
    pub collate: String,
    /// Classes of characters, as `en_US.UTF-8`.
    pub ctype: String,
    /// `libc`, `icu` or `builtin`.
    pub provider: String,
    /// Locale of the provider, unless that is libc.
    pub locale: Option<String>,
    /// ICU's own rules (from PostgreSQL 16).
    pub icu_rules: Option<String>,
    /// Tablespace, if not the server's default.
    pub tablespace: Option<String>,
}

/// Makes a database and marks it.
///
/// # Errors
/// `Query` with the server's words, `Version` if the server does not know the locale's provider.
pub(in crate::sys) fn create(maintenance: &Maintenance, new: &NewDatabase) -> Result<Standing, Failure> {
    let session = maintenance.session();
    let sql = statement(new, session.version().major())?;
    session.run(&sql).map_err(|failure| refused(failure, new, maintenance))?;
    // The comment cannot be a part of the statement: until it is there, name and limit tell what this database is.
    session.run(&format!(
        "COMMENT ON DATABASE {name} IS {comment}; ALTER DATABASE {name} CONNECTION LIMIT -1",
        name = ident(&new.name),
        comment = literal(&new.mark.before(None)),
    ))?;
    maintenance.find(&new.name)?.ok_or_else(|| {
        Failure::new(
            Code::NotFound,
            format!("the database `{}` was removed as soon as it was made", new.name),
        )
    })
}

fn statement(new: &NewDatabase, major: u32) -> Result<String, Failure> {
    let mut sql = format!("CREATE DATABASE {} TEMPLATE template0", ident(&new.name));
    let mut say = |what: &str, value: &str| sql.push_str(&format!(" {what} {value}"));
    say("ENCODING", &literal(&new.encoding));
    if let Some(owner) = &new.owner {
        say("OWNER", &ident(owner));
    }
    let provider = new.provider.as_str();
    let since = match provider {
        "libc" => 13,
        "icu" => 15,
        _ => 17,
    };
    if major < since {
        return Err(Failure::new(
            Code::Version,
            format!("PostgreSQL {major} knows no databases with the locale provider `{provider}`"),
        )
        .hint(format!("Restore on PostgreSQL {since} or newer.")));
    }
    if major >= 15 {
        say("LOCALE_PROVIDER", provider);
    }
    say("LC_COLLATE", &literal(&new.collate));
    say("LC_CTYPE", &literal(&new.ctype));
    match (provider, &new.locale) {
        ("icu", Some(locale)) => say("ICU_LOCALE", &literal(locale)),
        ("builtin", Some(locale)) => say("BUILTIN_LOCALE", &literal(locale)),
        _ => {}
    }
    if let Some(rules) = new.icu_rules.as_ref().filter(|_| major >= 16) {
        say("ICU_RULES", &literal(rules));
    }
    if let Some(tablespace) = &new.tablespace {
        say("TABLESPACE", &ident(tablespace));
    }
    say("CONNECTION LIMIT", &UNMARKED_LIMIT.to_string());
    Ok(sql)
}

fn refused(failure: Failure, new: &NewDatabase, maintenance: &Maintenance) -> Failure {
    let mut told = Failure::new(failure.code, format!("cannot make the database `{}`", new.name));
    told.causes.clone_from(&failure.causes);
    told.hints.clone_from(&failure.hints);
    let user = &maintenance.settings().user;
    if has_state(&failure, "42501") {
        told = told.hint(format!("As a superuser: `ALTER ROLE {} CREATEDB;`.", ident(user)));
    }
    told
}

/// A database that is to be dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doomed {
    /// Its name.
    pub name: String,
    /// Its OID: a database that has the name by now is another one.
    pub oid: u32,
    /// Whether sessions in it are ended; otherwise they keep it.
    pub force: bool,
}

/// Drops a database that has a mark; one that is gone already is fine.
///
/// # Errors
/// `Failed` if it has no mark, is another one by now, or is in use.
pub(in crate::sys) fn drop(maintenance: &Maintenance, doomed: &Doomed) -> Result<(), Failure> {
    let Some(found) = maintenance.find(&doomed.name)? else { return Ok(()) };
    let stays = |why: String| {
        Failure::new(Code::Failed, format!("the database `{}` stays", doomed.name)).caused_by(why)
    };
    if found.oid != doomed.oid {
        return Err(stays(format!("it is another one than before: OID {}, not {}", found.oid, doomed.oid)));
    }
    if !found.is_removable() {
        return Err(stays("it has no mark that Lifeboat keeps or stages it".to_owned())
            .hint("Lifeboat removes only databases that it made or kept itself."));
    }
    let is_staged = found.mark.as_ref().is_some_and(|mark| mark.kind == Kind::Staging);
    maintenance.room_for_removal(&found, is_staged)?;
    let force = if doomed.force && !found.is_invalid() { " WITH (FORCE)" } else { "" };
    // The server waits five seconds for sessions to end by themselves.
    maintenance.session().run(&format!("DROP DATABASE {}{force}", ident(&doomed.name))).map_err(|failure| {
        let mut told = stays(failure.causes.join(": "));
        told.code = failure.code;
        told.hints = failure.hints;
        told
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::postgres::mark::of_name;

    fn new(provider: &str, locale: Option<&str>) -> NewDatabase {
        let name = "sh\"op_staging_20251110_020000_abcdef".to_owned();
        NewDatabase {
            mark: of_name(&name).unwrap(),
            name,
            owner: Some("app".to_owned()),
            encoding: "UTF8".to_owned(),
            collate: "C".to_owned(),
            ctype: "C.UTF-8".to_owned(),
            provider: provider.to_owned(),
            locale: locale.map(str::to_owned),
            icu_rules: None,
            tablespace: None,
        }
    }

    #[test]
    fn each_version_gets_the_words_it_knows() {
        let begin = "CREATE DATABASE \"sh\"\"op_staging_20251110_020000_abcdef\" TEMPLATE template0 ENCODING 'UTF8' \
                     OWNER \"app\"";
        let end = "LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'";
        for (major, provider, locale, middle, more) in [
            (13, "libc", None, "", ""),
            (15, "libc", None, " LOCALE_PROVIDER libc", ""),
            (15, "icu", Some("de-DE"), " LOCALE_PROVIDER icu", " ICU_LOCALE 'de-DE'"),
            (17, "builtin", Some("C.UTF-8"), " LOCALE_PROVIDER builtin", " BUILTIN_LOCALE 'C.UTF-8'"),
        ] {
            assert_eq!(
                statement(&new(provider, locale), major).unwrap(),
                format!("{begin}{middle} {end}{more} CONNECTION LIMIT 47"),
            );
        }
        let rules = NewDatabase { icu_rules: Some("&a<b".to_owned()), ..new("icu", Some("und")) };
        assert!(statement(&rules, 16).unwrap().contains(" ICU_LOCALE 'und' ICU_RULES '&a<b' "));
        let old = statement(&new("icu", Some("de")), 14).unwrap_err();
        assert_eq!(old.to_string(), "PostgreSQL 14 knows no databases with the locale provider `icu`");
        assert_eq!(old.hints, ["Restore on PostgreSQL 15 or newer."]);
    }
}
