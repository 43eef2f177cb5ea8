use super::*;
use crate::base::backup::TableContent;
use crate::sys::postgres::contents::Contents;
use crate::sys::postgres::fingerprint::Fingerprint;
use crate::sys::postgres::summary;
use proptest::prelude::*;

/// A segment that owns its text, whatever chunks it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Space(String),
    Comment(u64, String),
    Statement(u64, String),
    Begin(u64, String),
    Rows(String),
    End,
    Meta(u64, String, bool),
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn add(pieces: &mut Vec<Piece>, segment: Segment<'_>) {
    let piece = match segment {
        Segment::Space(bytes) => Piece::Space(text(bytes)),
        Segment::Comment { text: comment, line } => Piece::Comment(line, text(comment)),
        Segment::Statement { text: statement, line } => Piece::Statement(line, text(statement)),
        Segment::CopyBegin { head, line, .. } => Piece::Begin(line, head.table.clone()),
        Segment::Rows(bytes) => Piece::Rows(text(bytes)),
        Segment::CopyEnd(_) => Piece::End,
        Segment::Meta { text: command, line, restrict } => Piece::Meta(line, text(command), restrict),
    };
    match (pieces.last_mut(), piece) {
        (Some(Piece::Space(before)), Piece::Space(more)) | (Some(Piece::Rows(before)), Piece::Rows(more)) => {
            before.push_str(&more);
        }
        (_, piece) => pieces.push(piece),
    }
}

/// All that a scan tells: pieces, the line at the end, and the contents. The bytes of the segments are the input.
type Told = (Vec<Piece>, u64, Vec<TableContent>);

fn scan_chunks<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Result<Told, ScanError> {
    let (mut scanner, mut contents) = (Scanner::new(), Contents::new());
    let (mut pieces, mut passed, mut input) = (Vec::new(), Vec::new(), Vec::new());
    for mut rest in chunks {
        input.extend_from_slice(rest);
        while let Some(segment) = scanner.next(&mut rest)? {
            assert!(!segment.bytes().is_empty());
            passed.extend_from_slice(segment.bytes());
            contents.observe(&segment);
            add(&mut pieces, segment);
        }
        assert!(rest.is_empty());
    }
    if let Some(segment) = scanner.end()? {
        passed.extend_from_slice(segment.bytes());
        contents.observe(&segment);
        add(&mut pieces, segment);
    }
    assert_eq!(text(&passed), text(&input));
    Ok((pieces, scanner.line(), contents.tables()))
}

/// Scans in one chunk, byte by byte, and cut in two at every place: all must tell the same.
fn try_scan(dump: &[u8]) -> Result<Vec<Piece>, ScanError> {
    let whole = scan_chunks([dump].into_iter());
    assert_eq!(scan_chunks(dump.chunks(1)), whole, "byte by byte: {}", text(dump));
    for at in 0..=dump.len() {
        let (left, right) = dump.split_at(at);
        assert_eq!(scan_chunks([left, right].into_iter()), whole, "cut at {at}: {}", text(dump));
    }
    whole.map(|(pieces, _, _)| pieces)
}

fn scan(dump: &str) -> Vec<Piece> {
    try_scan(dump.as_bytes()).unwrap_or_else(|error| panic!("{error}: {dump}"))
}

fn error(dump: &str) -> String {
    try_scan(dump.as_bytes()).expect_err(dump).to_string()
}

/// Each text, followed by another statement, is exactly one statement.
fn one_statement_each(statements: &[&str]) {
    for statement in statements {
        let expected = [
            Piece::Statement(1, (*statement).into()),
            Piece::Statement(1 + statement.matches('\n').count() as u64, "SELECT 2;".into()),
        ];
        assert_eq!(scan(&format!("{statement}SELECT 2;")), expected);
    }
}

fn contents(dump: &str) -> Contents {
    let (mut scanner, mut contents) = (Scanner::new(), Contents::new());
    let mut rest = dump.as_bytes();
    while let Some(segment) = scanner.next(&mut rest).unwrap() {
        contents.observe(&segment);
    }
    if let Some(segment) = scanner.end().unwrap() {
        contents.observe(&segment);
    }
    contents
}

#[test]
fn a_dump_in_all_its_pieces() {
    let dump = "--\n-- PostgreSQL database dump\n--\n\n\\restrict k3Y\n\nSET a = 1;\nCREATE TABLE public.t (\n    a integer\n);\n\n\
                COPY public.t (a) FROM stdin;\n1\n2\n\\.\n\n\nALTER TABLE public.t\n    OWNER TO x;\n\\unrestrict k3Y\n";
    let space = |text: &str| Piece::Space(text.into());
    assert_eq!(
        scan(dump),
        [
            Piece::Comment(1, "--".into()),
            space("\n"),
            Piece::Comment(2, "-- PostgreSQL database dump".into()),
            space("\n"),
            Piece::Comment(3, "--".into()),
            space("\n\n"),
            Piece::Meta(5, "\\restrict k3Y".into(), true),
            space("\n\n"),
            Piece::Statement(7, "SET a = 1;".into()),
            space("\n"),
            Piece::Statement(8, "CREATE TABLE public.t (\n    a integer\n);".into()),
            space("\n\n"),
            Piece::Begin(12, "public.t".into()),
            Piece::Rows("1\n2\n".into()),
            Piece::End,
            space("\n\n"),
            Piece::Statement(18, "ALTER TABLE public.t\n    OWNER TO x;".into()),
            space("\n"),
            Piece::Meta(20, "\\unrestrict k3Y".into(), true),
            space("\n"),
        ]
    );
}

fn rows_of(data: &str) -> Vec<Piece> {
    let pieces = scan(&format!("COPY t (a) FROM stdin;\n{data}\\.\nSELECT 1;"));
    let last = pieces.len() - 1;
    assert_eq!(pieces[0], Piece::Begin(1, "t".into()));
    assert_eq!(pieces[last - 1], Piece::End);
    assert_eq!(pieces[last], Piece::Statement(3 + data.matches('\n').count() as u64, "SELECT 1;".into()));
    pieces[1..last - 1].to_vec()
}

#[test]
fn data_that_looks_like_something_else_is_data() {
    for data in [
        "\\\\restrict x\n\\restrict x\n\\! sh\n",
        "\\\\.\n\\\\.\n",
        "x\\.\n",
        "a\\N\n\\N\n\\\n\\n\n",
        "-- comment\n/* no end\n'\n\"\n$$\nE'\\'\n",
        "COPY x FROM stdin;\nSELECT 1;\n",
        "CR LF\r\n\r\n\r",
        " \\.\n",
        "\n\n\n",
    ] {
        let data = if data.ends_with('\n') { data.to_owned() } else { format!("{data}\n") };
        assert_eq!(rows_of(&data), [Piece::Rows(data.clone())]);
    }
}

#[test]
fn an_empty_block_has_no_rows() {
    assert_eq!(rows_of(""), []);
    let tables = contents("COPY public.t (a) FROM stdin;\n\\.\n").tables();
    assert_eq!(tables, [Fingerprint::default().of_table("public.t")]);
}

#[test]
fn rows_without_columns_are_counted() {
    let tables = contents("COPY public.nocols  FROM stdin;\n\n\n\n\\.\n").tables();
    assert_eq!((tables[0].table.as_str(), tables[0].rows), ("public.nocols", 3));
}

#[test]
fn blocks_of_one_table_are_added() {
    let twice = contents(
        "COPY p (a) FROM stdin;\n1\n\\.\nCOPY q (a) FROM stdin;\n9\n\\.\nCOPY p (a) FROM stdin;\n2\n\\.\n",
    )
    .tables();
    let once = contents("COPY q (a) FROM stdin;\n9\n\\.\nCOPY p (a) FROM stdin;\n2\n1\n\\.\n").tables();
    assert_eq!(twice, once);
    assert_eq!((twice[0].table.as_str(), twice[0].rows, twice.len()), ("p", 2, 2));
}

#[test]
fn semicolons_in_strings_names_and_comments_end_nothing() {
    one_statement_each(&[
        "SELECT ';';",
        "SELECT 'it''s; ';",
        "SELECT 'a\\';",
        "SELECT E'it\\'s; ';",
        "SELECT e'\\\\';",
        "SELECT E'a''b\\'; ';",
        "SELECT E'a' \n 'b\\'; ';",
        "SELECT E'a' -- x\n 'b\\'; ';",
        "SELECT E'a', 'b\\';",
        "SELECT fe'a\\';",
        "SELECT U&'d\\0061t\\';",
        "SELECT U&\"d\\0061;\";",
        "SELECT B'1', X'f', N'a\\';",
        "SELECT 'a\n;\nCOPY x FROM stdin;\n';",
        "SELECT \"a;b\", \"a\"\";\", \"'\";",
        "SELECT 1 -- no end; 'here\n+ 2;",
        "SELECT 1 -- up to the CR; '\r+ 2;",
        "SELECT 1 /* ; /* ; */ ' ; **/ + 2;",
        "SELECT 4 - 2 / 1 -1, @-- ';\n 7;",
        "SELECT (1; 2);",
        "CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT ')'; SELECT 2;);",
    ]);
}

#[test]
fn dollar_quotes_hide_everything() {
    one_statement_each(&[
        "SELECT $$;$$;",
        "SELECT $$ $x$ ; $ $$;",
        "SELECT $tag$ ; $$ ; $tag ; $tagg$ ; $ta$tag$;",
        "SELECT $a$ $$a$;",
        "SELECT $é_1$ ; $é_1$;",
        "DO $do$ BEGIN PERFORM 'COPY x FROM stdin;\n'; END $do$;",
        "SELECT a$1, b$$, $1;",
        "PREPARE p AS SELECT $1$$;$$;",
        "SELECT a$b$;",
        "SELECT $tag;",
        "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $_$ SELECT '\n\\.\n\\! sh\nCOPY x FROM stdin;\n' $_$;",
    ]);
}

#[test]
fn bodies_between_begin_atomic_and_end() {
    one_statement_each(&[
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END;",
        "CREATE OR REPLACE PROCEDURE p(a int)\n BEGIN /* x */ ATOMIC\n SELECT CASE WHEN a > 0 THEN CASE a WHEN 1 THEN 2 END ELSE 3 END;\n SELECT (CASE WHEN true THEN 1 END);\nEND;",
        "create function f() returns int begin atomic SELECT x.end, y.case, 1 AS case, \"end\" FROM x; END;",
        "CREATE FUNCTION public.begin() RETURNS int LANGUAGE sql AS 'SELECT 1';",
        "CREATE FUNCTION begin() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT public.begin(); END;",
        "CREATE FUNCTION f(begin atomic) RETURNS int LANGUAGE sql RETURN CASE begin WHEN 1 THEN 2 END;",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC END;",
        "CREATE VIEW v AS SELECT CASE WHEN begin THEN atomic END;",
        "BEGIN;",
        "END;",
    ]);
}

#[test]
fn what_looks_like_copy_is_a_statement() {
    one_statement_each(&[
        "SELECT 'COPY x FROM stdin;\n';",
        "COPY t TO stdout;",
        "COPY t FROM '/etc/passwd';",
        "CREATE TABLE copy (stdin int);",
        "EXPLAIN COPY t FROM stdin;",
    ]);
    assert_eq!(
        scan("/* COPY x FROM stdin; */-- COPY x FROM stdin;\n"),
        [
            Piece::Comment(1, "/* COPY x FROM stdin; */".into()),
            Piece::Comment(1, "-- COPY x FROM stdin;".into()),
            Piece::Space("\n".into()),
        ]
    );
}

#[test]
fn copy_knows_odd_names() {
    let pieces = scan("copy \"Odd; Schema\".\"t \"\"x\"\"\n\" (\"a;\", b) from STDIN ; \r\n1\t2\n\\.\n");
    assert_eq!(
        pieces,
        [
            Piece::Begin(1, "\"Odd; Schema\".\"t \"\"x\"\"\n\"".into()),
            Piece::Rows("1\t2\n".into()),
            Piece::End,
        ]
    );
}

#[test]
fn inserts_are_statements() {
    let dump = "INSERT INTO public.t VALUES (1, 'a;\n-- b', '\\x00', E'\\\\');\nINSERT INTO public.t VALUES (2, '\n\\.\n', NULL);\n";
    assert_eq!(
        scan(dump),
        [
            Piece::Statement(1, "INSERT INTO public.t VALUES (1, 'a;\n-- b', '\\x00', E'\\\\');".into()),
            Piece::Space("\n".into()),
            Piece::Statement(3, "INSERT INTO public.t VALUES (2, '\n\\.\n', NULL);".into()),
            Piece::Space("\n".into()),
        ]
    );
}

#[test]
fn backslash_commands_are_told_with_their_line() {
    let meta = |text: &str, restrict| Piece::Meta(2, text.into(), restrict);
    for (command, restrict) in [
        ("\\restrict aZ9", true),
        ("\\unrestrict aZ9\r", true),
        ("\\restrict", false),
        ("\\restrict `id`", false),
        ("\\restrict a \\! sh", false),
        ("\\restricted a", false),
        ("\\connect shop", false),
        ("\\! sh", false),
        ("\\.", false),
    ] {
        let dump = format!("\n{command}\nSELECT 1;");
        assert_eq!(scan(&dump)[1], meta(command, restrict));
        let foreign = contents(&dump).foreign_command().map(|foreign| (foreign.line, foreign.text.clone()));
        assert_eq!(foreign, (!restrict).then(|| (2, command.to_owned())));
    }
    assert_eq!(scan("\n\\restrict a"), [Piece::Space("\n".into()), meta("\\restrict a", true)]);
}

#[test]
fn what_is_no_dump_is_refused() {
    assert_eq!(error("SELECT 1\n\\gexec\n"), "line 2: a backslash command inside a statement");
    assert_eq!(error("SELECT (1;\n-- x\n"), "a statement, which begins at line 1, has no end");
    assert_eq!(
        error("\nSELECT 'x;\n"),
        "a statement with an open string, which begins at line 2, has no end"
    );
    assert_eq!(
        error("SELECT $x$;"),
        "a statement with an open dollar quote, which begins at line 1, has no end"
    );
    assert_eq!(
        error("SELECT \";"),
        "a statement with an open identifier, which begins at line 1, has no end"
    );
    assert_eq!(error("\n\n/* /* */\n"), "a comment, which begins at line 3, has no end");
    let no_end = "the data of table `s.t`, which begins at line 2, has no end";
    for data in ["", "\n", "\n1\t2\n", "\n1\t2", "\n1\n\\", "\n1\n\\."] {
        assert_eq!(error(&format!("\nCOPY s.t (a) FROM stdin;{data}")), no_end);
    }
    assert_eq!(
        error("COPY t FROM stdin;\n1\n\\.\r\n"),
        "line 3: a row of table `t` begins like the end of the data"
    );
    assert_eq!(
        error("COPY t FROM stdin;\n\\.x\n"),
        "line 2: a row of table `t` begins like the end of the data"
    );
    for copy in ["COPY t FROM stdin CSV;\n", "COPY t FROM stdin; SELECT 1;\n", "COPY t FROM stdin;\\! sh\n"] {
        assert_eq!(
            error(&format!("\n{copy}1\n\\.\n")),
            "line 2: a COPY statement in a form that cannot be read"
        );
    }
}

#[test]
fn an_endless_string_does_not_fill_the_memory() {
    let mut scanner = Scanner { longest: 1000, ..Scanner::new() };
    let mut refused = None;
    for _ in 0..20 {
        let mut rest = &b"SELECT '........................................................................................"[..];
        refused = refused.or(scanner.next(&mut rest).err());
    }
    let message = "a statement with an open string, which begins at line 1, is longer than 1000 bytes";
    assert_eq!(refused.map(|error| error.to_string()), Some(message.into()));
    assert!(scanner.buffer.len() <= 1000);
}

#[test]
fn rows_are_borrowed_and_never_held_back() {
    let mut scanner = Scanner::new();
    let mut rest = &b"COPY t FROM stdin;\n"[..];
    while scanner.next(&mut rest).unwrap().is_some() {}
    assert_eq!(scanner.copying().map(|head| head.table.as_str()), Some("t"));
    let chunk = b"1\n2\nhalf a row";
    let mut rest = &chunk[..];
    let segment = scanner.next(&mut rest).unwrap().unwrap();
    assert_eq!(segment.bytes().as_ptr(), chunk.as_ptr());
    assert_eq!((segment, segment.cut()), (Segment::Rows(chunk), Some(4)));
    let mut rest = &b" without end"[..];
    assert_eq!(scanner.next(&mut rest).unwrap().unwrap().cut(), None);
    assert!(scanner.buffer.is_empty());
}

#[test]
fn whole_rows_may_be_skipped_only_where_a_row_begins() {
    let mut scanner = Scanner::new();
    assert!(!scanner.skip_rows(9));
    for (text, may) in [
        ("COPY t FROM std", false),
        ("in;\n", true),
        ("", true),
        ("1", false),
        ("\n", true),
        ("\\", false),
        (".\n", false),
    ] {
        let mut rest = text.as_bytes();
        while scanner.next(&mut rest).unwrap().is_some() {}
        let line = scanner.line();
        assert_eq!(scanner.skip_rows(5), may, "{text}");
        assert_eq!(scanner.line(), if may { line + 5 } else { line });
    }
    assert_eq!(scanner.end(), Ok(None));
}

#[test]
fn blocks_are_cut_at_line_ends() {
    let mut rest = &b"SELECT 1;\n-- x\nCOPY t FROM stdin;\n1\n\\.\n"[..];
    let mut scanner = Scanner::new();
    let mut cuts = Vec::new();
    while let Some(segment) = scanner.next(&mut rest).unwrap() {
        cuts.push(segment.cut());
    }
    assert_eq!(cuts, [None, Some(1), None, Some(1), Some(19), Some(2), Some(3)]);
    assert_eq!(scanner.copying(), None);
}

const HEADER: &str = "--\n-- PostgreSQL database dump\n--\n\n\\restrict a\n\n-- Dumped from database version 15.18 (Debian 15.18-0+deb12u1)\n\
                      -- Dumped by pg_dump version 16.1\n\nSET a = 1;\n";
const FOOTER: &str = "--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict a\n\n";

#[test]
fn header_and_end_marker() {
    let known = contents(&format!("{HEADER}{FOOTER}"));
    assert_eq!(known.server_version(), Some("15.18 (Debian 15.18-0+deb12u1)"));
    assert_eq!(known.pg_dump_version(), Some("16.1"));
    assert!(known.ended());
    assert!(!contents(HEADER).ended());
    assert!(contents(&format!("{HEADER}{FOOTER}").replace('\n', "\r\n")).ended());
}

#[test]
fn a_forged_end_marker_or_version_does_not_count() {
    for forged in [
        format!("COPY t FROM stdin;\n{FOOTER}\\.\n"),
        format!("SELECT '\n{FOOTER}';\n"),
        format!("SELECT $$\n{FOOTER}$$;\n"),
        format!("/*\n{FOOTER}*/\n"),
        format!("{FOOTER}SELECT 1;\n"),
        format!("{FOOTER}COPY t FROM stdin;\n\\.\n"),
        " -- PostgreSQL database dump complete, or not\n".into(),
    ] {
        assert!(!contents(&format!("{HEADER}{forged}")).ended(), "{forged}");
    }
    let late =
        contents("SET a = 1;\n-- Dumped from database version 9.6\n-- Dumped by pg_dump version 9.6\n");
    assert_eq!((late.server_version(), late.pg_dump_version()), (None, None));
}

#[test]
fn the_summary_stands_behind_the_end_marker() {
    let data = "COPY ref.t1 (a) FROM stdin;\n1\n2\n\\.\nCOPY \"x\ny\".\"--\" (a) FROM stdin;\n\\.\n";
    let tables = contents(data).tables();
    let summary = summary::write(&tables);
    let known = contents(&format!("{HEADER}{data}{FOOTER}{summary}"));
    assert_eq!(known.summary(), Ok(Some(&tables[..])));
    assert_eq!(known.tables(), tables);
    assert!(known.ended());
    for elsewhere in
        [format!("{HEADER}{summary}{data}{FOOTER}"), format!("{HEADER}{FOOTER}{summary}SELECT 1;{FOOTER}")]
    {
        assert_eq!(contents(&elsewhere).summary(), Ok(None));
    }
    let torn = format!("{HEADER}{FOOTER}{}", &summary[..summary.len() - 2]);
    assert!(contents(&torn).summary().is_err());
}

/// A dump of pieces that are known beforehand.
fn piece() -> impl Strategy<Value = Vec<(String, Piece)>> {
    let statement = prop::sample::select(vec![
        "SELECT ';'';';",
        "SELECT E'\\';' $$;$$, $a$;$$;$a$;",
        "SELECT \"a;\"\"b\"/*;/*'*/;*/-- ;'\n;",
        "CREATE FUNCTION begin() BEGIN ATOMIC SELECT CASE 1 WHEN 1 THEN 2 END; END;",
        "COPY t TO stdout;",
        ";",
    ])
    .prop_map(|text| vec![(text.to_owned(), Piece::Statement(0, text.into()))]);
    let comment = prop::sample::select(vec!["-- COPY x FROM stdin;", "--", "-- \\! 'a"]).prop_map(|text| {
        vec![(text.to_owned(), Piece::Comment(0, text.into())), ("\n".into(), Piece::Space("\n".into()))]
    });
    let block = prop::sample::select(vec!["/**/", "/*/**/*/", "/* ' -- */"])
        .prop_map(|text| vec![(text.to_owned(), Piece::Comment(0, text.into()))]);
    let meta = Just(vec![
        ("\\restrict a".to_owned(), Piece::Meta(0, "\\restrict a".into(), true)),
        ("\n".into(), Piece::Space("\n".into())),
    ]);
    let space = "[ \n\t]{1,3}".prop_map(|text| vec![(text.clone(), Piece::Space(text))]);
    let row = prop_oneof![
        "[a\\\\.N\r\t';$-]{0,6}".prop_filter("ends the data", |row| !row.starts_with("\\.")),
        Just(String::new())
    ];
    let copy = proptest::collection::vec(row, 0..5).prop_map(|rows| {
        let head = "COPY s.\"t;\" (a) FROM stdin;\n";
        let mut pieces = vec![(head.to_owned(), Piece::Begin(0, "s.\"t;\"".into()))];
        let data: String = rows.iter().map(|row| format!("{row}\n")).collect();
        if !data.is_empty() {
            pieces.push((data.clone(), Piece::Rows(data)));
        }
        pieces.push(("\\.\n".into(), Piece::End));
        pieces
    });
    prop_oneof![statement, comment, block, meta, space, copy]
}

fn with_lines(known: Vec<(String, Piece)>) -> (String, Vec<Piece>) {
    let (mut dump, mut pieces) = (String::new(), Vec::<Piece>::new());
    for (text, mut piece) in known {
        let here = dump.matches('\n').count() as u64 + 1;
        match &mut piece {
            Piece::Comment(line, _)
            | Piece::Statement(line, _)
            | Piece::Begin(line, _)
            | Piece::Meta(line, ..) => *line = here,
            Piece::Space(_) | Piece::Rows(_) | Piece::End => {}
        }
        dump.push_str(&text);
        match (pieces.last_mut(), piece) {
            (Some(Piece::Space(before)), Piece::Space(more)) => before.push_str(&more),
            (_, piece) => pieces.push(piece),
        }
    }
    (dump, pieces)
}

fn chunks<'a>(dump: &'a [u8], sizes: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = dump;
    sizes.iter().cycle().map_while(move |&size| {
        let (chunk, next) = rest.split_at(size.min(rest.len()));
        rest = next;
        (!chunk.is_empty()).then_some(chunk)
    })
}

proptest! {
    #[test]
    fn any_chunks_give_the_known_pieces(
        known in proptest::collection::vec(piece(), 0..12),
        sizes in proptest::collection::vec(1usize..40, 1..12),
    ) {
        let (dump, pieces) = with_lines(known.into_iter().flatten().collect());
        let (scanned, line, _) = scan_chunks(chunks(dump.as_bytes(), &sizes)).unwrap();
        prop_assert_eq!(scanned, pieces, "{}", dump);
        prop_assert_eq!(line, dump.matches('\n').count() as u64 + 1);
    }

    #[test]
    fn any_bytes_in_any_chunks_tell_the_same(
        noise in proptest::collection::vec(prop::sample::select(vec![
            "COPY t (a) FROM stdin;\n", "\n", "\\.", "\\", "'", "''", "E'", "$$", "$a$", "$", "a", "1", "\"", "--", "/*", "*/",
            "(", ")", ";", "CREATE FUNCTION f()", " BEGIN ATOMIC ", " CASE ", " END ", " ", "\r", "é", "\u{0}",
        ]), 0..30),
        sizes in proptest::collection::vec(1usize..9, 1..6),
    ) {
        let dump = noise.concat();
        let whole = scan_chunks([dump.as_bytes()].into_iter());
        prop_assert_eq!(scan_chunks(chunks(dump.as_bytes(), &sizes)), whole, "{:?}", dump);
    }
}
