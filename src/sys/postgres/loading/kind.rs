//! What a statement behind the rows of a dump needs of the others, as far as its words tell.
//!
//! Only what `pg_dump` writes in a known form is told apart; all else counts as a statement that everything waits for. Names in
//! an index or constraint that bear a schema may lead to functions of the dump's own, which could read any table: such ones
//! count so too. (The server writes its own functions and operators without a schema, since dumps have an empty path.)

use crate::sys::postgres::context::sets_search_path;
use crate::sys::postgres::rules::{Rule, rule};
use crate::sys::postgres::statement::{Token, Tokens};

/// What a statement needs of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An index of a table.
    Index(String),
    /// An index of a table whose expressions cast to types of the dump's own. If these are enums, the server itself does that.
    CastIndex {
        /// The table.
        table: String,
        /// The types as the dump writes them.
        types: Vec<String>,
    },
    /// A constraint that makes an index of a table, which nobody else can use meanwhile.
    Key(String),
    /// A foreign key.
    ForeignKey(ForeignKey),
    /// Makes or says something that no index and no foreign key needs, and runs nothing.
    Light,
    /// Statistics on several columns, which are there to be filled.
    Statistics,
    /// Comes after all before it, and before all behind it.
    Other(Code),
}

/// Whether a statement may run code that the dump has brought along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// It cannot.
    Never,
    /// It fills a materialized view: it does if its query does.
    Refresh,
    /// It may.
    Maybe,
}

/// A foreign key, with names as the dump writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignKey {
    /// Its table.
    pub table: String,
    /// The table that it refers to.
    pub referenced: String,
    /// Its name.
    pub name: Vec<u8>,
    /// Whether the dump wants it validated.
    pub validated: bool,
}

/// Where a statement behind the rows belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// To the data: sequences and large objects.
    Data,
    /// To the settings of the session.
    Setting,
    /// To what is made of the data.
    Made(Kind),
    /// To a transaction of the dump's.
    Transaction,
    /// It inserts rows, or changes whom the session acts for: all must then be carried out in order and in one session.
    Session,
}

/// Where a statement belongs.
pub fn place(statement: &[u8]) -> Place {
    let head = Tokens::head(statement, 4);
    let words: Vec<&str> = head.split(' ').collect();
    match (rule(statement), words.as_slice()) {
        (Rule::Transaction, _) => Place::Transaction,
        (Rule::Set(..), _) => Place::Setting,
        (Rule::Insert(_), _) | (_, ["set" | "reset", ..]) => Place::Session,
        _ if sets_search_path(statement) => Place::Setting,
        (_, ["select", ..]) if is_data(statement) => Place::Data,
        (_, ["alter", "large", "object", ..] | ["comment" | "grant" | "revoke" | "security", ..])
            if names_large_object(statement) =>
        {
            Place::Data
        }
        _ => Place::Made(kind(statement, &words)),
    }
}

fn is_data(statement: &[u8]) -> bool {
    const DATA: [&str; 7] =
        ["setval", "lo_create", "lo_open", "lowrite", "lo_close", "lo_put", "lo_from_bytea"];
    Tokens::of(statement)
        .nth(3)
        .is_some_and(|token| DATA.iter().chain(&["lo_unlink"]).any(|called| token.is(called)))
}

fn names_large_object(statement: &[u8]) -> bool {
    let mut tokens = Tokens::of(statement).take(24).skip_while(|token| !token.is("large"));
    tokens.nth(1).is_some_and(|token| token.is("object"))
}

fn kind(statement: &[u8], words: &[&str]) -> Kind {
    match words {
        ["create", "index" | "unique", ..] => index(statement),
        ["alter", "table", ..] => alter_table(statement),
        ["create", "statistics", ..] | ["alter", "index" | "statistics", ..] => Kind::Statistics,
        ["create", "rule", ..] if !Tokens::of(statement).any(|token| token == Token::Quoted(b"_RETURN")) => {
            Kind::Light
        }
        ["create", "trigger" | "constraint" | "policy" | "publication", ..]
        | ["alter", "policy" | "publication" | "trigger" | "rule" | "default", ..]
        | ["comment" | "grant" | "revoke" | "security", ..] => Kind::Light,
        ["create", "or", "replace", "trigger", ..] => Kind::Light,
        ["create", "function" | "procedure" | "aggregate" | "view" | "subscription", ..]
        | ["create", "or", "replace", ..]
        | ["alter", "function" | "procedure" | "aggregate" | "view" | "subscription" | "materialized", ..] => {
            Kind::Other(Code::Never)
        }
        ["refresh", "materialized", ..] | ["create", "materialized", ..] => Kind::Other(Code::Refresh),
        _ => Kind::Other(Code::Maybe),
    }
}

fn index(statement: &[u8]) -> Kind {
    let read = || {
        let mut tokens = Tokens::of(statement).skip(1).peekable();
        tokens.next_if(|token| token.is("unique"));
        tokens.next().filter(|token| token.is("index"))?;
        match tokens.next()? {
            Token::Word(word) if !word.eq_ignore_ascii_case(b"on") => {}
            Token::Quoted(_) => {}
            _ => return None,
        }
        tokens.next().filter(|token| token.is("on"))?;
        tokens.next_if(|token| token.is("only"));
        let (table, next) = name(&mut tokens)?;
        next.filter(|token| token.is("using"))?;
        let types = casts(&mut tokens)?;
        Some(if types.is_empty() { Kind::Index(table) } else { Kind::CastIndex { table, types } })
    };
    read().unwrap_or(Kind::Other(Code::Maybe))
}

/// The types with a schema that are cast to; `None` if anything else has a schema.
fn casts<'a>(tokens: &mut impl Iterator<Item = Token<'a>>) -> Option<Vec<String>> {
    let mut types = Vec::new();
    let mut colons = 0;
    while let Some(token) = tokens.next() {
        match token {
            Token::Symbol(b'.') => return None,
            Token::Symbol(b':') if colons == 0 => colons = 1,
            Token::Symbol(b':') => {
                colons = 0;
                let (name, next) = name(tokens)?;
                if name.contains('.') && !types.contains(&name) {
                    types.push(name);
                }
                // Two casts that follow each other.
                colons += usize::from(next == Some(Token::Symbol(b':')));
            }
            _ => colons = 0,
        }
    }
    Some(types)
}

fn alter_table(statement: &[u8]) -> Kind {
    let mut tokens = Tokens::of(statement).skip(2).peekable();
    tokens.next_if(|token| token.is("only"));
    let Some((table, Some(verb))) = name(&mut tokens) else { return Kind::Other(Code::Maybe) };
    let rest: Vec<Token<'_>> = tokens.collect();
    let at = |number: usize, word: &str| rest.get(number).is_some_and(|token| token.is(word));
    if verb.is("cluster") || verb.is("replica") || verb.is("owner") {
        return Kind::Light;
    }
    if (verb.is("enable") || verb.is("disable") || verb.is("force"))
        && rest.iter().any(|token| token.is("row"))
    {
        return Kind::Light;
    }
    if !verb.is("add") || !at(0, "constraint") || has_more(&rest) {
        return Kind::Other(Code::Maybe);
    }
    let (name, of) = match rest.get(1) {
        Some(Token::Word(word)) => (word.to_vec(), &rest[2..]),
        Some(Token::Quoted(word)) => ([b"\"", *word, b"\""].concat(), &rest[2..]),
        _ => return Kind::Other(Code::Maybe),
    };
    let is = |number: usize, word: &str| of.get(number).is_some_and(|token| token.is(word));
    if is(0, "foreign") && is(1, "key") {
        return foreign_key(table, name, of).map_or(Kind::Other(Code::Maybe), Kind::ForeignKey);
    }
    let is_plain = !of.contains(&Token::Symbol(b'.'));
    let uses_index = of.iter().any(|token| token.is("using")) && !is(0, "exclude");
    if is_plain && !uses_index && (is(0, "primary") || is(0, "unique") || is(0, "exclude")) {
        return Kind::Key(table);
    }
    Kind::Other(Code::Maybe)
}

/// Whether several things are altered at once.
fn has_more(tokens: &[Token<'_>]) -> bool {
    let mut depth = 0usize;
    tokens.iter().any(|token| {
        match token {
            Token::Symbol(b'(') => depth += 1,
            Token::Symbol(b')') => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && *token == Token::Symbol(b',')
    })
}

fn foreign_key(table: String, key: Vec<u8>, tokens: &[Token<'_>]) -> Option<ForeignKey> {
    let references = tokens.iter().position(|token| token.is("references"))?;
    let mut rest = tokens[references + 1..].iter().copied().peekable();
    let (referenced, _) = name(&mut rest)?;
    let has =
        |first: &str, second: &str| tokens.windows(2).any(|pair| pair[0].is(first) && pair[1].is(second));
    let validated = !has("not", "valid") && !has("not", "enforced");
    Some(ForeignKey { table, referenced, name: key, validated })
}

/// A name with its schema as the dump writes it, and the token behind it.
fn name<'a>(tokens: &mut impl Iterator<Item = Token<'a>>) -> Option<(String, Option<Token<'a>>)> {
    let mut name = String::new();
    loop {
        match tokens.next()? {
            Token::Word(word) => name.push_str(std::str::from_utf8(word).ok()?),
            Token::Quoted(word) => {
                name.push('"');
                name.push_str(std::str::from_utf8(word).ok()?);
                name.push('"');
            }
            _ => return None,
        }
        match tokens.next() {
            Some(Token::Symbol(b'.')) => name.push('.'),
            next => return Some((name, next)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(statement: &str) -> Kind {
        match place(statement.as_bytes()) {
            Place::Made(kind) => kind,
            other => panic!("{statement}: {other:?}"),
        }
    }

    #[test]
    fn indexes_belong_to_their_table() {
        for (statement, table) in [
            ("CREATE INDEX i ON public.t USING btree (a, lower(b)) WHERE (c > 0.5);", "public.t"),
            (
                "CREATE UNIQUE INDEX \"I 1\" ON ONLY s.\"T \"\"x\" USING btree (a DESC) INCLUDE (b);",
                "s.\"T \"\"x\"",
            ),
        ] {
            assert_eq!(made(statement), Kind::Index(table.to_owned()), "{statement}");
        }
        for (statement, table) in [
            ("ALTER TABLE ONLY public.t\n    ADD CONSTRAINT t_pkey PRIMARY KEY (id);", "public.t"),
            (
                "ALTER TABLE ONLY public.t ADD CONSTRAINT \"u;\" UNIQUE NULLS NOT DISTINCT (a, b) DEFERRABLE;",
                "public.t",
            ),
            ("ALTER TABLE ONLY public.t ADD CONSTRAINT e EXCLUDE USING gist (a WITH &&);", "public.t"),
        ] {
            assert_eq!(made(statement), Kind::Key(table.to_owned()), "{statement}");
        }
    }

    #[test]
    fn types_that_an_index_casts_to_are_named() {
        for (casts, types) in [
            ("(a) WHERE (b = 'x'::text)", vec![]),
            ("(a) WHERE (b = 'x'::ref.status)", vec!["ref.status"]),
            (
                "(((a)::text)) WHERE (b = ANY (ARRAY['x'::ref.status, 'y'::ref.status, ('z'::\"S 1\".\"e\"\"\")::r.e]))",
                vec!["ref.status", "\"S 1\".\"e\"\"\"", "r.e"],
            ),
            ("(a) WHERE (b = 'x'::s.e::s.d)", vec!["s.e", "s.d"]),
        ] {
            let kind = made(&format!("CREATE INDEX i ON public.t USING btree {casts};"));
            let table = "public.t".to_owned();
            let types: Vec<String> = types.into_iter().map(str::to_owned).collect();
            let expected =
                if types.is_empty() { Kind::Index(table) } else { Kind::CastIndex { table, types } };
            assert_eq!(kind, expected, "{casts}");
        }
    }

    #[test]
    fn what_may_run_code_of_the_dump_is_waited_for() {
        for statement in [
            "CREATE INDEX i ON public.t USING btree (public.f(a));",
            "CREATE INDEX i ON public.t USING btree (a) WHERE public.f(a);",
            "CREATE INDEX i ON public.t USING gin (a public.gin_trgm_ops);",
            "CREATE INDEX i ON public.t USING btree (a) WHERE (b = public.f('x'::public.e));",
            "CREATE INDEX i ON public.t USING btree (a) WHERE (b OPERATOR(public.=) 'x'::public.e);",
            "CREATE INDEX CONCURRENTLY i ON public.t USING btree (a);",
            "CREATE INDEX ON public.t USING btree (a);",
            "ALTER TABLE ONLY public.t ADD CONSTRAINT e EXCLUDE USING gist (a WITH OPERATOR(public.&&));",
            "ALTER TABLE ONLY public.t ADD CONSTRAINT u UNIQUE USING INDEX i;",
            "ALTER TABLE ONLY public.t ADD CONSTRAINT a PRIMARY KEY (a), ADD CONSTRAINT b UNIQUE (b);",
            "ALTER TABLE public.t ADD CONSTRAINT c CHECK ((a > 0)) NOT VALID;",
            "ALTER TABLE public.t DISABLE TRIGGER ALL;",
            "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION public.f();",
            "ALTER TABLE ONLY public.p ATTACH PARTITION public.c FOR VALUES IN (1);",
        ] {
            assert_eq!(made(statement), Kind::Other(Code::Maybe), "{statement}");
        }
        assert_eq!(made("REFRESH MATERIALIZED VIEW public.m;"), Kind::Other(Code::Refresh));
        assert_eq!(
            made("CREATE RULE \"_RETURN\" AS ON SELECT TO t DO INSTEAD SELECT 1;"),
            Kind::Other(Code::Maybe)
        );
    }

    #[test]
    fn foreign_keys_are_read() {
        let key = |statement: &str| match made(statement) {
            Kind::ForeignKey(key) => key,
            other => panic!("{statement}: {other:?}"),
        };
        let plain = key(
            "ALTER TABLE ONLY public.a\n    ADD CONSTRAINT \"a b\" FOREIGN KEY (x, \"references\") REFERENCES s.\"b c\"(x, y) ON DELETE CASCADE DEFERRABLE;",
        );
        assert_eq!((plain.table.as_str(), plain.referenced.as_str()), ("public.a", "s.\"b c\""));
        assert_eq!((plain.name.as_slice(), plain.validated), (&b"\"a b\""[..], true));
        for ending in ["NOT VALID", "DEFERRABLE INITIALLY DEFERRED NOT VALID", "NOT ENFORCED"] {
            let text = format!(
                "ALTER TABLE public.a ADD CONSTRAINT k FOREIGN KEY (x) REFERENCES public.b(x) {ending};"
            );
            assert!(!key(&text).validated, "{ending}");
        }
    }

    #[test]
    fn data_settings_and_the_rest_are_told_apart() {
        for (statement, place_of) in [
            ("SELECT pg_catalog.setval('public.s', 7, true);", Place::Data),
            ("SELECT pg_catalog.lowrite(0, '\\x00');", Place::Data),
            ("BEGIN;", Place::Transaction),
            ("COMMIT;", Place::Transaction),
            ("ALTER LARGE OBJECT 7 OWNER TO x;", Place::Data),
            ("COMMENT ON LARGE OBJECT 7 IS 'x';", Place::Data),
            ("GRANT ALL ON LARGE OBJECT 7 TO x;", Place::Data),
            ("SET default_tablespace = '';", Place::Setting),
            ("SELECT pg_catalog.set_config('search_path', '', false);", Place::Setting),
            ("SET SESSION AUTHORIZATION x;", Place::Session),
            ("SET ROLE x;", Place::Session),
            ("INSERT INTO public.t VALUES (1);", Place::Session),
            ("COMMENT ON INDEX public.i IS 'x';", Place::Made(Kind::Light)),
            ("ALTER INDEX public.p ATTACH PARTITION public.c;", Place::Made(Kind::Statistics)),
            ("ALTER TABLE public.t CLUSTER ON i;", Place::Made(Kind::Light)),
            ("ALTER TABLE ONLY public.t REPLICA IDENTITY USING INDEX i;", Place::Made(Kind::Light)),
            ("ALTER TABLE public.t ENABLE ROW LEVEL SECURITY;", Place::Made(Kind::Light)),
            (
                "CREATE TRIGGER t BEFORE INSERT ON public.t EXECUTE FUNCTION public.f();",
                Place::Made(Kind::Light),
            ),
        ] {
            assert_eq!(place(statement.as_bytes()), place_of, "{statement}");
        }
    }
}
