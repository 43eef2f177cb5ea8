//! What a dump needs of a server, learnt while it is verified: roles, extensions, tablespaces, encoding.

use super::rules::{Rule, rule};
use super::scan::Segment;
use super::statement::{Token, Tokens, describe};
use std::collections::BTreeSet;

/// A statement that must not be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forbidden {
    /// The line it begins at.
    pub line: u64,
    /// Its beginning.
    pub statement: String,
    /// What is wrong with it.
    pub why: &'static str,
    /// The remedy.
    pub hint: &'static str,
}

/// What a dump needs of the server that it is loaded into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirements {
    /// The encoding of the dump's text, as it says itself.
    pub encoding: Option<String>,
    /// Roles that own something, are granted something, or are named in policies.
    pub roles: BTreeSet<String>,
    /// Extensions it makes.
    pub extensions: BTreeSet<String>,
    /// Tablespaces it puts something into.
    pub tablespaces: BTreeSet<String>,
    /// Subscriptions it makes, which do nothing until they are enabled.
    pub subscriptions: Vec<String>,
    /// The first statement that reaches beyond the database.
    pub forbidden: Option<Forbidden>,
    foreign_tables: BTreeSet<String>,
}

impl Requirements {
    /// Takes the next segment of the dump.
    pub fn observe(&mut self, segment: &Segment<'_>) {
        match *segment {
            Segment::Statement { text, line } => self.statement(text, line),
            Segment::CopyBegin { head, line, text } if self.foreign_tables.contains(&head.table) => {
                self.forbid(
                    text,
                    line,
                    "its rows would go to another server, through a foreign table",
                    "Make the dump without --include-foreign-data.",
                );
            }
            _ => {}
        }
    }

    /// Whether one of the tables, named as the dump writes them, is on another server.
    pub fn are_foreign<'a>(&self, mut tables: impl Iterator<Item = &'a str>) -> bool {
        tables.any(|table| self.foreign_tables.contains(table))
    }

    fn forbid(&mut self, text: &[u8], line: u64, why: &'static str, hint: &'static str) {
        let statement = describe(text);
        self.forbidden.get_or_insert(Forbidden { line, statement, why, hint });
    }

    fn statement(&mut self, text: &[u8], line: u64) {
        match rule(text) {
            Rule::Refuse(why, hint) => self.forbid(text, line, why, hint),
            Rule::Set(name, value) if name == "client_encoding" => {
                self.encoding.get_or_insert(value);
            }
            Rule::Set(name, value) if name == "default_tablespace" && !value.is_empty() => {
                self.tablespaces.insert(value);
            }
            Rule::Insert(table) if self.foreign_tables.contains(&table) => self.forbid(
                text,
                line,
                "its rows would go to another server, through a foreign table",
                "Make the dump without --include-foreign-data.",
            ),
            _ => self.learn(text),
        }
    }

    fn learn(&mut self, text: &[u8]) {
        let mut tokens = Tokens::of(text);
        let head = Tokens::head(text, 3);
        let words: Vec<&str> = head.split(' ').collect();
        match words.as_slice() {
            ["alter", "default", "privileges"] => {
                let mut roles = tokens.clone();
                if roles.skip_to("role") {
                    self.roles(&mut roles);
                }
                if tokens.skip_to("on") && (tokens.clone().skip_to("to") || tokens.clone().skip_to("from")) {
                    self.granted(tokens);
                }
            }
            ["alter", ..] => {
                // The object itself may be called `owner`.
                while tokens.skip_to("owner") {
                    let mut rest = tokens.clone();
                    if rest.next().is_some_and(|token| token.is("to"))
                        && let Some(token) = rest.next()
                        && rest.next() == Some(Token::Symbol(b';'))
                    {
                        self.role(&token);
                    }
                }
            }
            ["grant" | "revoke", ..] if tokens.skip_to("on") => self.granted(tokens),
            ["create", "policy", ..] => {
                let mut tokens = tokens.take_while(|token| !token.is("using") && !token.is("with"));
                if tokens.any(|token| token.is("to")) {
                    for token in tokens {
                        self.role(&token);
                    }
                }
            }
            ["create", "schema", ..] if tokens.skip_to("authorization") => self.roles(&mut tokens),
            ["create", "user", "mapping"] if tokens.skip_to("for") => self.roles(&mut tokens),
            ["set", "session", "authorization"] => {
                let name = tokens.nth(3).filter(|token| !token.is("default")).and_then(|token| token.text());
                self.roles.extend(name);
            }
            ["create", "extension", ..] => {
                let skipped = if words.get(2) == Some(&"if") { 5 } else { 2 };
                self.extensions.extend(tokens.nth(skipped).and_then(|token| token.name()));
            }
            ["create", "subscription", ..] => {
                self.subscriptions.extend(tokens.nth(2).and_then(|token| token.name()));
            }
            ["create", "foreign", "table"] => {
                let name: Vec<u8> = text[tokens_length(&mut tokens, 3, text)..]
                    .iter()
                    .copied()
                    .skip_while(u8::is_ascii_whitespace)
                    .collect();
                let end = name_end(&name);
                self.foreign_tables.insert(String::from_utf8_lossy(&name[..end]).into_owned());
            }
            _ => {}
        }
    }

    /// The grantees behind the TO or FROM of a grant, and who granted it.
    fn granted(&mut self, tokens: Tokens<'_>) {
        let mut grantees = tokens.clone();
        let mut from = tokens;
        if grantees.skip_to("to") || from.skip_to("from") {
            let mut rest = if grantees.clone().next().is_some() { grantees } else { from };
            self.roles(&mut rest);
            if rest.skip_to("granted") && rest.next().is_some_and(|token| token.is("by")) {
                self.roles(&mut rest);
            }
        }
    }

    /// A list of roles.
    fn roles(&mut self, tokens: &mut Tokens<'_>) {
        loop {
            let Some(token) = tokens.next() else { return };
            // An old word of GRANT, with no meaning.
            if token.is("group") {
                continue;
            }
            self.role(&token);
            if tokens.clone().next() != Some(Token::Symbol(b',')) {
                return;
            }
            tokens.next();
        }
    }

    fn role(&mut self, token: &Token<'_>) {
        let special = ["public", "current_user", "current_role", "session_user", "user"];
        if special.iter().any(|word| token.is(word)) {
            return;
        }
        // A name in another encoding than ours cannot be compared, and is left to the server.
        self.roles.extend(token.name().filter(|name| !name.contains('\u{fffd}')));
    }
}

/// How many bytes of `text` the first `n` tokens take.
fn tokens_length(tokens: &mut Tokens<'_>, n: usize, text: &[u8]) -> usize {
    for _ in 0..n {
        tokens.next();
    }
    text.len() - tokens.left()
}

/// Where a name, with its schema, ends.
fn name_end(text: &[u8]) -> usize {
    let mut quoted = false;
    text.iter()
        .position(|&byte| {
            quoted ^= byte == b'"';
            !quoted && (byte.is_ascii_whitespace() || byte == b'(')
        })
        .unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::postgres::scan::Scanner;

    fn learn(sql: &str) -> Requirements {
        let mut scanner = Scanner::new();
        let mut requirements = Requirements::default();
        let mut rest = sql.as_bytes();
        while let Some(segment) = scanner.next(&mut rest).unwrap() {
            requirements.observe(&segment);
        }
        requirements
    }

    #[test]
    fn roles_are_found_wherever_a_dump_names_them() {
        let found = learn(
            r#"
            ALTER TABLE public.owner OWNER TO a;
            ALTER FUNCTION public.f(x text DEFAULT 'OWNER TO nobody'::text) OWNER TO "B b";
            GRANT SELECT(x),UPDATE(y) ON TABLE public.t TO c WITH GRANT OPTION;
            GRANT ALL ON FUNCTION public.f("from" text) TO PUBLIC;
            REVOKE ALL ON SCHEMA s FROM d GRANTED BY e;
            ALTER DEFAULT PRIVILEGES FOR ROLE f IN SCHEMA public GRANT SELECT ON TABLES TO g;
            ALTER DEFAULT PRIVILEGES FOR ROLE f REVOKE ALL ON FUNCTIONS FROM h;
            CREATE POLICY p ON public.t AS RESTRICTIVE FOR SELECT TO i, j USING ((x = 1));
            CREATE POLICY q ON public.t USING (x IN (SELECT y FROM "to" ));
            CREATE SCHEMA s AUTHORIZATION k;
            SET SESSION AUTHORIZATION 'l';
            SET SESSION AUTHORIZATION DEFAULT;
            CREATE USER MAPPING FOR m SERVER s OPTIONS (password 'x');
            ALTER TABLE t ALTER COLUMN owner SET DEFAULT 'to';
            "#,
        );
        let roles: Vec<&str> = found.roles.iter().map(String::as_str).collect();
        assert_eq!(roles, ["B b", "a", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m"]);
    }

    #[test]
    fn the_rest_is_found_too() {
        let found = learn(
            "SET client_encoding = 'LATIN1';\nSET default_tablespace = fast;\nSET default_tablespace = '';\n\
             CREATE EXTENSION IF NOT EXISTS \"uuid-ossp\" WITH SCHEMA public;\nCREATE EXTENSION hstore;\n\
             CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p WITH (connect = false);\n\
             CREATE FOREIGN TABLE public.\"f t\" (x int) SERVER s;\nCREATE ROLE x;\n\
             COPY public.\"f t\" (x) FROM stdin;\n\\.\n",
        );
        assert_eq!(found.encoding.as_deref(), Some("LATIN1"));
        assert_eq!(found.extensions.iter().collect::<Vec<_>>(), ["hstore", "uuid-ossp"]);
        assert_eq!(found.tablespaces.iter().collect::<Vec<_>>(), ["fast"]);
        assert_eq!(found.subscriptions, ["s"]);
        assert_eq!(
            found.forbidden.as_ref().map(|forbidden| (forbidden.line, forbidden.statement.as_str())),
            Some((8, "CREATE ROLE x"))
        );
        let foreign = learn(
            "CREATE FOREIGN TABLE public.\"f t\" (x int) SERVER s;\nCOPY public.\"f t\" (x) FROM stdin;\n\\.\n",
        );
        assert_eq!(foreign.forbidden.map(|forbidden| forbidden.line), Some(2));
    }
}
