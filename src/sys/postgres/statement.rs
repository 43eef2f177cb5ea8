//! Words of a SQL statement, as far as who carries out a dump must understand it.
//!
//! Read lazily: of a long INSERT only the words that are asked for are looked at.

use super::lexer::{is_space, is_word, is_word_begin};
use memchr::{memchr, memmem};

/// A piece of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// A word or number without quotes, as written.
    Word(&'a [u8]),
    /// What stands between double quotes, doubled quotes still doubled.
    Quoted(&'a [u8]),
    /// A string or dollar-quoted text, with its quotes.
    Text(&'a [u8]),
    /// Any other byte.
    Symbol(u8),
}

impl Token<'_> {
    /// Whether it is this keyword.
    pub fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(bytes) if bytes.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// The name that it stands for: small letters unless it is quoted. Bytes that are no UTF-8 are replaced.
    pub fn name(&self) -> Option<String> {
        match self {
            Self::Word(bytes) => {
                Some(String::from_utf8_lossy(bytes).chars().map(|c| c.to_ascii_lowercase()).collect())
            }
            Self::Quoted(bytes) => Some(String::from_utf8_lossy(bytes).replace("\"\"", "\"")),
            _ => None,
        }
    }

    /// What a string means, if it is a plain one.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Text(bytes) => {
                let inner = bytes.strip_prefix(b"'")?.strip_suffix(b"'")?;
                Some(String::from_utf8_lossy(inner).replace("''", "'"))
            }
            other => other.name(),
        }
    }
}

/// The pieces of a statement, one after the other; comments are left out.
#[derive(Clone, Debug)]
pub struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Tokens<'a> {
    /// Of a whole statement.
    pub fn of(statement: &'a [u8]) -> Self {
        Self { rest: statement }
    }

    /// The first `n` words in small letters with blanks between, for comparison; stops at what is no bare word.
    pub fn head(statement: &'a [u8], n: usize) -> String {
        let mut head = String::new();
        for token in Self::of(statement).take(n) {
            let Token::Word(word) = token else { break };
            if !head.is_empty() {
                head.push(' ');
            }
            head.extend(word.iter().map(|byte| byte.to_ascii_lowercase() as char));
        }
        head
    }

    /// How many bytes are left behind the last token.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// Skips what stands up to and with a keyword outside of parentheses; false if there is none.
    pub fn skip_to(&mut self, word: &str) -> bool {
        let mut depth = 0usize;
        for token in self.by_ref() {
            match token {
                Token::Symbol(b'(') => depth += 1,
                Token::Symbol(b')') => depth = depth.saturating_sub(1),
                token if depth == 0 && token.is(word) => return true,
                _ => {}
            }
        }
        false
    }

    fn cut(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// Length of a string that begins here, up to and with its closing quote.
    fn string(&self, escapes: bool) -> usize {
        let mut at = 1;
        while let Some(&byte) = self.rest.get(at) {
            match byte {
                b'\\' if escapes => at += 2,
                b'\'' if self.rest.get(at + 1) == Some(&b'\'') => at += 2,
                b'\'' => return at + 1,
                _ => at += 1,
            }
        }
        self.rest.len()
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let spaces = self.rest.iter().take_while(|&&byte| is_space(byte)).count();
            self.cut(spaces);
            if self.rest.starts_with(b"--") {
                let end = memchr(b'\n', self.rest).unwrap_or(self.rest.len());
                self.cut(end);
            } else if self.rest.starts_with(b"/*") {
                let end = memmem::find(self.rest, b"*/").map_or(self.rest.len(), |at| at + 2);
                self.cut(end);
            } else {
                break;
            }
        }
        let first = *self.rest.first()?;
        if matches!(first, b'e' | b'E') && self.rest.get(1) == Some(&b'\'') {
            self.cut(1);
            let length = self.string(true);
            return Some(Token::Text(self.cut(length)));
        }
        if is_word_begin(first) {
            let length = self.rest.iter().take_while(|&&byte| is_word(byte)).count();
            return Some(Token::Word(self.cut(length)));
        }
        match first {
            b'0'..=b'9' => {
                let length = self.rest.iter().take_while(|&&byte| is_word(byte) || byte == b'.').count();
                Some(Token::Word(self.cut(length)))
            }
            b'"' => {
                let mut at = 1;
                while let Some(found) = memchr(b'"', &self.rest[at..]) {
                    at += found + 1;
                    if self.rest.get(at) != Some(&b'"') {
                        let whole = self.cut(at);
                        return Some(Token::Quoted(&whole[1..whole.len() - 1]));
                    }
                    at += 1;
                }
                self.rest = &[];
                None
            }
            b'\'' => {
                let length = self.string(false);
                Some(Token::Text(self.cut(length)))
            }
            b'$' => {
                let tag = self.rest[1..].iter().take_while(|&&byte| is_word(byte) && byte != b'$').count();
                if self.rest.get(tag + 1) != Some(&b'$') {
                    return Some(Token::Symbol(self.cut(1)[0]));
                }
                let (open, body) = self.rest.split_at(tag + 2);
                let length = memmem::find(body, open).map_or(self.rest.len(), |at| at + 2 * open.len());
                Some(Token::Text(self.cut(length)))
            }
            _ => Some(Token::Symbol(self.cut(1)[0])),
        }
    }
}

/// A statement in a few words for people: its beginning on one line, without any value, which may be a secret.
pub fn describe(statement: &[u8]) -> String {
    const LONGEST: usize = 70;
    let end = statement.iter().position(|&byte| matches!(byte, b'\'' | b'$' | b'(' | b';'));
    let text = String::from_utf8_lossy(&statement[..end.unwrap_or(statement.len()).min(4 * LONGEST)]);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_strings_names_and_comments_are_told_apart() {
        let sql = br#"ALTER /* x */ TABLE "a ""b""".c -- y
            ADD x text DEFAULT 'it''s' || E'\'' || $t$ $$ ; $t$, e $1"#;
        let tokens: Vec<Token<'_>> = Tokens::of(sql).collect();
        assert_eq!(tokens[2].name().as_deref(), Some("a \"b\""));
        assert_eq!(tokens[9].text().as_deref(), Some("it's"));
        assert_eq!(tokens[12], Token::Text(br"'\''"));
        assert_eq!(tokens[15], Token::Text(b"$t$ $$ ; $t$"));
        assert_eq!(tokens.len(), 20);
        assert_eq!(Tokens::head(sql, 3), "alter table");
    }

    #[test]
    fn a_description_shows_no_values() {
        let sql = b"CREATE USER MAPPING FOR app SERVER s OPTIONS (\n    password 'secret'\n);";
        assert_eq!(describe(sql), "CREATE USER MAPPING FOR app SERVER s OPTIONS");
        assert_eq!(describe(b"ALTER ROLE x\n PASSWORD 'secret';"), "ALTER ROLE x PASSWORD");
    }
}
