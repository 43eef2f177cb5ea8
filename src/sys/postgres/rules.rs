//! Which statements of a dump are carried out, which are left out, and which must never be.
//!
//! A dump of one database changes that database and nothing else. What reaches further (roles, other databases, the
//! server's files and programs) is refused before anything is done, wherever it stands in the dump.

use super::statement::{Token, Tokens};

/// What to do with a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Carry it out.
    Run,
    /// Carry it out; without the right to do so go on without it.
    Tolerate,
    /// It inserts rows into this table, as the dump writes its name.
    Insert(String),
    /// `SET` of this setting, to this value.
    Set(String, String),
    /// It begins or ends a transaction.
    Transaction,
    /// Leave it out, and say so.
    Skip(&'static str),
    /// It reaches beyond the database: what it is, and the remedy.
    Refuse(&'static str, &'static str),
}

const OTHER_DATABASES: &str =
    "Restore one database from one dump made without --create: `pg_dump --file=FILE DATABASE`.";
const ROLES: &str =
    "Make roles from the saved `FILE.globals.sql`, or by hand; a dump of one database holds none.";
const SERVER: &str = "No `pg_dump` writes that: do not trust this file, and use another backup.";
const UNKNOWN: Rule = Rule::Refuse(
    "it is none of the statements that `pg_dump` writes",
    "Make the dump again with `pg_dump`; what else is to be done, do by hand after the restore.",
);

/// What `pg_dump` makes, changes and drops, by the first word of its kind.
const KINDS: [&str; 33] = [
    "access",
    "aggregate",
    "cast",
    "collation",
    "constraint",
    "conversion",
    "default",
    "domain",
    "event",
    "extension",
    "foreign",
    "function",
    "index",
    "language",
    "large",
    "materialized",
    "operator",
    "policy",
    "procedural",
    "procedure",
    "publication",
    "rule",
    "schema",
    "sequence",
    "server",
    "statistics",
    "table",
    "text",
    "transform",
    "trigger",
    "trusted",
    "type",
    "view",
];

/// What stands only behind CREATE.
const MADE: [&str; 4] = ["recursive", "subscription", "unique", "unlogged"];

/// Functions of the server that `pg_dump` calls; their arguments are plain values.
const CALLED: [&str; 12] = [
    "lo_close",
    "lo_create",
    "lo_from_bytea",
    "lo_open",
    "lo_put",
    "lo_unlink",
    "lowrite",
    "pg_restore_attribute_stats",
    "pg_restore_extended_stats",
    "pg_restore_relation_stats",
    "set_config",
    "setval",
];

/// The rule for a statement.
pub fn rule(statement: &[u8]) -> Rule {
    let head = Tokens::head(statement, 4);
    let words: Vec<&str> = head.split(' ').collect();
    match words.as_slice() {
        ["create" | "alter" | "drop", "user", "mapping", ..] => Rule::Run,
        ["create" | "alter" | "drop", "role" | "user" | "group", ..] => {
            Rule::Refuse("it makes or changes roles", ROLES)
        }
        ["create" | "alter" | "drop", "database", ..] => {
            Rule::Refuse("it makes or changes databases", OTHER_DATABASES)
        }
        ["create" | "alter" | "drop", "tablespace", ..] => Rule::Refuse(
            "it makes or changes tablespaces",
            "Make tablespaces by hand; a dump of one database holds none.",
        ),
        ["alter", "system", ..] => Rule::Refuse("it changes settings of the whole server", SERVER),
        ["create", "subscription", ..] if !says_connect_false(statement) => Rule::Refuse(
            "it would connect to another server and take its changes",
            "Make the dump with `pg_dump`, which writes subscriptions with `connect = false`, or with --no-subscriptions.",
        ),
        ["reassign", ..] | ["drop", "owned", ..] => {
            Rule::Refuse("it changes what roles own everywhere", ROLES)
        }
        ["copy", ..] => Rule::Refuse("it reads or writes files or programs of the server", SERVER),
        ["load", ..] => Rule::Refuse("it loads a library into the server", SERVER),
        ["prepare", "transaction", ..] => Rule::Refuse("it leaves a prepared transaction behind", SERVER),
        ["grant" | "revoke", ..] => granted(statement),
        ["comment", "on", "database", ..] | ["security", "label", "on" | "for", ..]
            if words[1] == "on" || names_shared(statement) =>
        {
            Rule::Skip("comments of databases stand in the manifest, and are carried over from the live one")
        }
        ["comment", "on", "role" | "tablespace", ..] => {
            Rule::Refuse("it changes roles or tablespaces", ROLES)
        }
        ["comment", "on", "extension", ..] => Rule::Tolerate,
        ["create", "schema", "public"] => Rule::Tolerate,
        ["insert", "into", ..] => Rule::Insert(inserted_into(statement)),
        // Around large objects, and nothing but the word.
        ["begin" | "commit"] if is_a_word(statement) => Rule::Transaction,
        ["select", ..] => selected(statement),
        ["drop", "subscription", ..] => Rule::Skip(
            "nothing is subscribed in a database that is loaded, and dropping may reach another server",
        ),
        ["alter", "subscription", ..] => subscription_changed(statement),
        ["create", "or", "replace", kind, ..] if KINDS.contains(kind) || MADE.contains(kind) => Rule::Run,
        ["create", kind, ..] if KINDS.contains(kind) || MADE.contains(kind) => Rule::Run,
        ["alter" | "drop", kind, ..] if KINDS.contains(kind) => Rule::Run,
        ["comment", "on", ..] | ["security", "label", ..] | ["refresh", "materialized", "view", ..] => {
            Rule::Run
        }
        ["set", "session", "authorization", ..] | ["set", "role", ..] | ["set", "transaction", ..] => {
            Rule::Run
        }
        ["set", ..] => set(statement),
        _ => UNKNOWN,
    }
}

fn is_a_word(statement: &[u8]) -> bool {
    Tokens::of(statement).skip(1).all(|token| token == Token::Symbol(b';'))
}

/// One call of a function of the server with plain values, as `pg_dump` writes it.
fn selected(statement: &[u8]) -> Rule {
    let mut tokens = Tokens::of(statement).skip(1);
    let is_the_servers = tokens.next().is_some_and(|token| token.is("pg_catalog"))
        && tokens.next() == Some(Token::Symbol(b'.'));
    let called = match tokens.next() {
        Some(Token::Word(name)) if is_the_servers => String::from_utf8_lossy(name).to_ascii_lowercase(),
        _ => return UNKNOWN,
    };
    if ["lo_import", "lo_export"].contains(&called.as_str()) {
        return Rule::Refuse("it reads or writes files or programs of the server", SERVER);
    }
    if !CALLED.contains(&called.as_str()) || tokens.next() != Some(Token::Symbol(b'(')) {
        return UNKNOWN;
    }
    let mut first = None;
    loop {
        let Some(token) = tokens.next() else { return UNKNOWN };
        match token {
            Token::Symbol(b')') => break,
            Token::Text(_) | Token::Word(_) | Token::Symbol(b',' | b'-' | b':') => {
                first.get_or_insert(token);
            }
            _ => return UNKNOWN,
        }
    }
    if called == "set_config" && first != Some(Token::Text(b"'search_path'")) {
        return Rule::Refuse("it changes a setting that decides how the rest of the dump is read", SERVER);
    }
    let rest: Vec<Token<'_>> = tokens.filter(|token| *token != Token::Symbol(b';')).collect();
    // `pg_dump --clean --if-exists` looks whether the large object is there.
    let looks = called == "lo_unlink"
        && matches!(rest.as_slice(), [from, catalog, Token::Symbol(b'.'), table, place, oid, Token::Symbol(b'='), Token::Text(_)]
            if from.is("from") && catalog.is("pg_catalog") && table.is("pg_largeobject_metadata")
                && place.is("where") && oid.is("oid"));
    if rest.is_empty() || looks { Rule::Run } else { UNKNOWN }
}

/// A subscription may get an owner; whatever else changes it makes it reach out for the other server.
fn subscription_changed(statement: &[u8]) -> Rule {
    let mut tokens = Tokens::of(statement).skip(3);
    if tokens.next().is_some_and(|token| token.is("owner"))
        && tokens.next().is_some_and(|token| token.is("to"))
    {
        return Rule::Run;
    }
    Rule::Refuse(
        "it would connect to another server and take its changes",
        "Enable subscriptions by hand after the restore, when nothing else takes the same changes.",
    )
}

fn says_connect_false(statement: &[u8]) -> bool {
    let mut tokens = Tokens::of(statement);
    while let Some(token) = tokens.next() {
        if token.is("connect") {
            let equals = tokens.next() == Some(Token::Symbol(b'='));
            let value = tokens.next().and_then(|token| token.text());
            return equals && matches!(value.as_deref(), Some("false" | "off" | "0"));
        }
    }
    false
}

/// Whether a security label is about what databases share.
fn names_shared(statement: &[u8]) -> bool {
    let mut tokens = Tokens::of(statement);
    tokens.skip_to("on")
        && tokens
            .next()
            .is_some_and(|token| ["database", "role", "tablespace"].iter().any(|shared| token.is(shared)))
}

/// Grants of rights on the database's own objects are fine; those of membership and on shared objects are not.
fn granted(statement: &[u8]) -> Rule {
    let mut tokens = Tokens::of(statement);
    if !tokens.skip_to("on") {
        return Rule::Refuse("it makes roles members of others", ROLES);
    }
    match tokens.next() {
        Some(token) if token.is("database") => {
            Rule::Refuse("it grants rights on a database", OTHER_DATABASES)
        }
        Some(token) if token.is("tablespace") || token.is("parameter") => {
            Rule::Refuse("it grants rights on the whole server", ROLES)
        }
        _ => Rule::Run,
    }
}

/// The table's name as written, with its schema.
fn inserted_into(statement: &[u8]) -> String {
    let mut tokens = Tokens::of(statement).skip(2).peekable();
    let mut name = String::new();
    while let Some(token) = tokens.next() {
        match token {
            Token::Word(word) => name.push_str(&String::from_utf8_lossy(word)),
            Token::Quoted(word) => {
                name.push('"');
                name.push_str(&String::from_utf8_lossy(word));
                name.push('"');
            }
            _ => break,
        }
        if tokens.peek() != Some(&Token::Symbol(b'.')) {
            break;
        }
        tokens.next();
        name.push('.');
    }
    name
}

fn set(statement: &[u8]) -> Rule {
    let mut tokens = Tokens::of(statement).skip(1).peekable();
    tokens.next_if(|token| token.is("session") || token.is("local"));
    let Some(name) = tokens.next().and_then(|token| token.name()) else { return Rule::Run };
    // A setting with a dot belongs to an extension, and needs not be known.
    if tokens.next() == Some(Token::Symbol(b'.')) {
        return Rule::Run;
    }
    let value = tokens.next().and_then(|token| token.text()).unwrap_or_default();
    if name == "standard_conforming_strings" && !value.eq_ignore_ascii_case("on") {
        return Rule::Refuse(
            "its strings follow the rules of servers before version 9.1",
            "Make the dump again with a `pg_dump` of this century, with standard_conforming_strings on.",
        );
    }
    Rule::Set(name, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reaches_beyond_the_database_is_refused() {
        for statement in [
            "CREATE ROLE x;",
            "CREATE USER x PASSWORD 'y';",
            "alter  user postgres SUPERUSER;",
            "DROP DATABASE live;",
            "CREATE DATABASE x;",
            "ALTER DATABASE x SET y = z;",
            "ALTER/**/SYSTEM SET x = 1;",
            "CREATE TABLESPACE x LOCATION '/y';",
            "COPY t FROM PROGRAM 'id';",
            "COPY t FROM '/etc/passwd';",
            "COPY (SELECT 1) TO PROGRAM 'id';",
            "GRANT boss TO me;",
            "REVOKE ALL ON DATABASE x FROM PUBLIC;",
            "COMMENT ON ROLE x IS 'y';",
            "CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p;",
            "CREATE SUBSCRIPTION s CONNECTION 'connect = false' PUBLICATION p WITH (connect = true);",
            "PREPARE TRANSACTION 'x';",
            "LOAD 'x';",
            "SET standard_conforming_strings = off;",
            "SELECT pg_catalog.set_config('standard_conforming_strings', 'off', false);",
            "SELECT pg_catalog.set_config('search_path', '', false), pg_catalog.set_config('x', 'y', false);",
            "SELECT pg_catalog.set_config('search_path' || '', '', false);",
            "SELECT set_config('search_path', '', false);",
            "SELECT pg_catalog.setval(public.f(), 1);",
            "SELECT pg_catalog.setval('s', 1) FROM public.v;",
            "SELECT pg_catalog.lo_export(1, '/x');",
            "SELECT pg_catalog.lo_import('/etc/passwd');",
            "SELECT pg_catalog.pg_terminate_backend(1);",
            "DO $$ BEGIN END $$;",
            "CALL public.p();",
            "EXPLAIN ANALYZE SELECT 1;",
            "EXECUTE p;",
            "PREPARE p AS SELECT 1;",
            "ALTER SUBSCRIPTION s ENABLE;",
            "ALTER SUBSCRIPTION owner CONNECTION 'x';",
            "COMMIT AND CHAIN;",
            "COMMIT PREPARED 'x';",
            "ROLLBACK;",
            "END;",
            "START TRANSACTION;",
            "BEGIN ISOLATION LEVEL SERIALIZABLE;",
            "VACUUM;",
            "WITH x AS (SELECT 1) SELECT 1;",
            "RESET ALL;",
            "DISCARD ALL;",
        ] {
            assert!(matches!(rule(statement.as_bytes()), Rule::Refuse(..)), "{statement}");
        }
    }

    #[test]
    fn what_dumps_hold_is_carried_out() {
        for statement in [
            "CREATE TABLE role (id int);",
            "CREATE USER MAPPING FOR x SERVER s;",
            "ALTER TABLE database OWNER TO x;",
            "GRANT SELECT(a),UPDATE(b) ON TABLE public.t TO x;",
            "ALTER DEFAULT PRIVILEGES FOR ROLE x GRANT SELECT ON TABLES TO y;",
            "CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p WITH (connect = false, slot_name = 's');",
            "SELECT pg_catalog.set_config('search_path', '', false);",
            "SET app.x = 1;",
            "SELECT pg_catalog.setval('public.\"a b\"', -7, true);",
            "SELECT pg_catalog.lo_open('4711', 131072);",
            "SELECT pg_catalog.lowrite(0, '\\x00');",
            "SELECT pg_catalog.lo_unlink(oid) FROM pg_catalog.pg_largeobject_metadata WHERE oid = '4711';",
            "ALTER SUBSCRIPTION enable OWNER TO x;",
            "CREATE OR REPLACE VIEW public.v AS SELECT 1;",
            "CREATE UNIQUE INDEX i ON public.t USING btree (x);",
            "ALTER TRIGGER x ON public.t DEPENDS ON EXTENSION e;",
            "DROP TABLE IF EXISTS public.t;",
            "REFRESH MATERIALIZED VIEW public.m;",
        ] {
            assert_eq!(rule(statement.as_bytes()), Rule::Run, "{statement}");
        }
        assert_eq!(
            rule(b"SET transaction_timeout = 0;"),
            Rule::Set("transaction_timeout".into(), "0".into())
        );
        assert_eq!(
            rule(b"SET default_tablespace = \"Fast\";"),
            Rule::Set("default_tablespace".into(), "Fast".into())
        );
        assert_eq!(rule(b"BEGIN;"), Rule::Transaction);
        assert_eq!(rule(b"COMMIT ;"), Rule::Transaction);
        assert_eq!(rule(br#"INSERT INTO "a b".c VALUES ('x');"#), Rule::Insert(r#""a b".c"#.into()));
    }
}
