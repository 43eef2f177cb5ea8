//! Reads `COPY table (columns) FROM stdin`, the statement that opens a block of table data.

use super::lexer::{is_space, is_word, is_word_begin};

/// What the statement that opens a block of COPY data says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyHead {
    /// The table's name as the statement writes it, for example `public."odd ""name"`; bytes that are no UTF-8 stand
    /// as `\xE9`.
    pub table: String,
    /// The columns as the statement writes them; empty if it names none.
    pub columns: Vec<String>,
    /// What follows `FROM stdin`, without the semicolon; empty in a dump of `pg_dump`.
    pub options: String,
}

/// What a statement that begins with `COPY` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Copy {
    /// Lines of data follow.
    Data(CopyHead),
    /// No data follows.
    Statement,
    /// Data may follow, in a form that is not read here.
    Unreadable,
}

/// Reads a whole statement, with its semicolon, whose first word is `COPY`.
pub(super) fn read(statement: &[u8]) -> Copy {
    match head(statement) {
        Some(head) if has_word(head.options.as_bytes(), &["csv", "binary"]) => Copy::Unreadable,
        Some(head) => Copy::Data(head),
        // psql would take the lines that follow for data, so taking them for SQL would be worse than stopping here.
        None if has_word(statement, &["from"]) && has_word(statement, &["stdin", "stdout"]) => {
            Copy::Unreadable
        }
        None => Copy::Statement,
    }
}

/// The names in a statement that opens a block of data, as its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawNames {
    /// The parts of the table's name: schema and table, or the table alone.
    pub table: Vec<Vec<u8>>,
    /// The columns.
    pub columns: Vec<Vec<u8>>,
}

/// The names in a statement that [`read`] found to open a block of data; the rest of its line may follow it.
pub(super) fn raw_names(statement: &[u8]) -> Option<RawNames> {
    parts(statement.trim_ascii_end()).map(|(names, ..)| names)
}

fn head(statement: &[u8]) -> Option<CopyHead> {
    let (names, table, options) = parts(statement)?;
    Some(CopyHead { table, columns: names.columns.iter().map(|name| text(name)).collect(), options })
}

fn parts(statement: &[u8]) -> Option<(RawNames, String, String)> {
    let mut cursor = Cursor { text: statement.strip_suffix(b";")?, at: 0 };
    cursor.keyword("copy")?;
    cursor.blank();
    let begin = cursor.at;
    cursor.name()?;
    let mut end = cursor.at;
    let mut names = RawNames { table: vec![statement[begin..end].to_vec()], columns: Vec::new() };
    cursor.blank();
    while cursor.byte(b'.') {
        cursor.blank();
        let begin = cursor.at;
        cursor.name()?;
        end = cursor.at;
        names.table.push(statement[begin..end].to_vec());
        cursor.blank();
    }
    let table = text(&statement[begin..end]);
    if cursor.byte(b'(') {
        loop {
            cursor.blank();
            let begin = cursor.at;
            cursor.name()?;
            names.columns.push(statement[begin..cursor.at].to_vec());
            cursor.blank();
            if cursor.byte(b')') {
                break;
            }
            cursor.byte(b',').then_some(())?;
        }
    }
    cursor.keyword("from")?;
    // The server's grammar takes either word for the client's side.
    cursor.keyword("stdin").or_else(|| cursor.keyword("stdout"))?;
    let options = text(cursor.text[cursor.at..].trim_ascii());
    Some((names, table, options))
}

/// The text of `bytes`, where each byte that is no UTF-8 becomes `\xE9`, so that different names stay different.
fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02X}"));
        }
    }
    text
}

fn has_word(text: &[u8], words: &[&str]) -> bool {
    text.split(|&byte| !is_word(byte))
        .any(|word| words.iter().any(|wanted| word.eq_ignore_ascii_case(wanted.as_bytes())))
}

struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn rest(&self) -> &[u8] {
        &self.text[self.at..]
    }

    fn byte(&mut self, byte: u8) -> bool {
        let is_there = self.rest().first() == Some(&byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn blank(&mut self) {
        loop {
            self.at += self.rest().iter().take_while(|&&byte| is_space(byte)).count();
            if self.rest().starts_with(b"--") {
                self.at += self.rest().iter().take_while(|&&byte| byte != b'\n' && byte != b'\r').count();
            } else {
                return;
            }
        }
    }

    /// A word, in any case; blanks before it are skipped.
    fn keyword(&mut self, word: &str) -> Option<()> {
        self.blank();
        let length = self.rest().iter().take_while(|&&byte| is_word(byte)).count();
        if !self.rest()[..length].eq_ignore_ascii_case(word.as_bytes()) {
            return None;
        }
        self.at += length;
        Some(())
    }

    /// An identifier, quoted or not.
    fn name(&mut self) -> Option<()> {
        let first = *self.rest().first()?;
        if first != b'"' {
            is_word_begin(first).then_some(())?;
            self.at += self.rest().iter().take_while(|&&byte| is_word(byte)).count();
            return Some(());
        }
        while self.byte(b'"') {
            self.at += memchr::memchr(b'"', self.rest())? + 1;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(statement: &str) -> (String, Vec<String>, String) {
        match read(statement.as_bytes()) {
            Copy::Data(CopyHead { table, columns, options }) => (table, columns, options),
            other => panic!("{statement}: {other:?}"),
        }
    }

    #[test]
    fn names_stay_as_written() {
        let (table, columns, options) =
            data(r#"COPY "Odd Schema"."t ""x"" (a) FROM stdin;" (id, "b c", "d"")", é) FROM stdin;"#);
        assert_eq!(table, r#""Odd Schema"."t ""x"" (a) FROM stdin;""#);
        assert_eq!(columns, ["id", r#""b c""#, r#""d"")""#, "é"]);
        assert_eq!(options, "");
    }

    #[test]
    fn a_table_without_columns_has_an_empty_list() {
        assert_eq!(data("COPY public.nocols  FROM stdin;"), ("public.nocols".into(), vec![], String::new()));
    }

    #[test]
    fn blanks_comments_and_case_do_not_matter() {
        let (table, columns, options) = data("copy -- a (b)\n s . t(a\n,b) From\tSTDIN with (freeze) ;");
        assert_eq!((table.as_str(), columns.len(), options.as_str()), ("s . t", 2, "with (freeze)"));
    }

    #[test]
    fn names_that_are_no_utf8_stay_apart() {
        for (bytes, name) in [
            (&b"COPY s.gr\xF6\xDFe FROM stdin;"[..], r"s.gr\xF6\xDFe"),
            (b"COPY s.\xE9 FROM stdin;", r"s.\xE9"),
        ] {
            let Copy::Data(head) = read(bytes) else { panic!("{name}") };
            assert_eq!(head.table, name);
        }
    }

    #[test]
    fn statements_without_data_are_none_of_its_business() {
        for statement in [
            "COPY t TO stdout;",
            "COPY (SELECT 1) TO '/tmp/x';",
            "COPY t FROM '/tmp/x';",
            "COPY t FROM PROGRAM 'x';",
        ] {
            assert_eq!(read(statement.as_bytes()), Copy::Statement, "{statement}");
        }
    }

    #[test]
    fn data_that_is_not_line_by_line_text_is_refused() {
        for statement in [
            "COPY t FROM stdin CSV;",
            "COPY t FROM stdin WITH (FORMAT binary);",
            "COPY BINARY t FROM stdin;",
            "COPY t /* x */ FROM stdin;",
            r#"COPY U&"d\0061t" FROM stdin;"#,
        ] {
            assert_eq!(read(statement.as_bytes()), Copy::Unreadable, "{statement}");
        }
    }
}
