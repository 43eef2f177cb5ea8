//! Rust source as far as the order of the house can be read from it: code without comments, texts and tests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The package's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// One file.
pub struct Source {
    /// Its path in the package.
    pub path: String,
    /// Whether all of it is for tests.
    pub is_test: bool,
    text: String,
    /// The text without comments and texts; lines are kept.
    code: String,
    /// The same without what is for tests.
    program: String,
}

/// All files of `src`, `tests` and `benches`.
pub fn sources() -> &'static [Source] {
    static SOURCES: OnceLock<Vec<Source>> = OnceLock::new();
    SOURCES.get_or_init(|| {
        let mut sources = Vec::new();
        for folder in ["src", "tests", "benches"] {
            for entry in walkdir::WalkDir::new(root().join(folder)).sort_by_file_name() {
                let entry = entry.unwrap();
                if entry.path().extension().is_some_and(|extension| extension == "rs") {
                    let path = entry.path().strip_prefix(root()).unwrap().display().to_string();
                    let text = std::fs::read_to_string(entry.path()).unwrap();
                    let code = without_texts(&text);
                    let program = without_tests(&code).0;
                    let is_test = folder != "src";
                    sources.push(Source { path, is_test, text, code, program });
                }
            }
        }
        let tests: BTreeSet<String> = sources.iter().flat_map(Source::test_modules).collect();
        for source in &mut sources {
            let inside = |test: &String| {
                source.path == format!("{test}.rs") || source.path.starts_with(&format!("{test}/"))
            };
            source.is_test |= tests.iter().any(inside);
        }
        sources
    })
}

impl Source {
    /// The top module it belongs to; none for `main.rs` and `lib.rs`.
    pub fn module(&self) -> Option<&str> {
        self.path.strip_prefix("src/")?.split_once('/').map(|(module, _)| module)
    }

    /// Lines, without those that are for tests.
    pub fn lines(&self) -> usize {
        let (_, removed) = without_tests(&self.code);
        self.text.lines().count() - removed
    }

    /// Values of constants that begin so, as they are written.
    pub fn constants(&self, beginning: &str) -> Vec<String> {
        let values = self.text.split(beginning).skip(1);
        values.filter_map(|rest| rest.strip_prefix('"')?.split('"').next().map(str::to_owned)).collect()
    }

    /// All paths that the program names, with their lines; groups in braces are spread out, macros end with `!`.
    pub fn paths(&self) -> Vec<(usize, String)> {
        paths(&self.program)
    }

    /// As [`Source::paths`], and if asked for with those of tests.
    pub fn paths_with_tests(&self, with: bool) -> Vec<(usize, String)> {
        paths(if with { &self.code } else { &self.program })
    }

    /// The line of a chain of `super` that leads out of the top module.
    pub fn climbs_out(&self) -> Option<usize> {
        let within = self.path.strip_prefix("src/")?.trim_end_matches(".rs").trim_end_matches("/mod");
        let depth = within.split('/').count();
        let chain = "super::".repeat(depth);
        self.program.lines().position(|line| line.contains(&chain)).map(|line| line + 1)
    }

    /// Files, without their ending, of modules that exist for tests only.
    fn test_modules(&self) -> Vec<String> {
        let dir = match self.path.rsplit_once('/') {
            Some((dir, "mod.rs" | "lib.rs" | "main.rs")) => dir.to_owned(),
            _ => self.path.trim_end_matches(".rs").to_owned(),
        };
        let mut modules = Vec::new();
        for after in self.code.split("#[cfg(test)]").skip(1) {
            let item = after.split([';', '{']).next().unwrap_or_default();
            let named =
                self.text.lines().find_map(|line| line.strip_prefix("#[path = \"")?.strip_suffix("\"]"));
            if let Some((_, name)) = item.split_once("mod ")
                && after[item.len()..].starts_with(';')
            {
                modules.push(match named {
                    Some(file) => {
                        format!("{}/{}", self.path.rsplit_once('/').unwrap().0, file.trim_end_matches(".rs"))
                    }
                    None => format!("{dir}/{}", name.trim()),
                });
            }
        }
        modules
    }
}

/// Blanks out comments, texts and characters; lines stay where they are.
fn without_texts(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    let blank =
        |out: &mut String, part: &str| out.extend(part.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
    while at < bytes.len() {
        let rest = &text[at..];
        let ident_before = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with('"') || (!ident_before && rest.starts_with("b\"")) {
            quoted(rest)
        } else if !ident_before
            && (rest.starts_with("r\"") || rest.starts_with("r#") || rest.starts_with("br"))
        {
            raw(rest)
        } else if rest.starts_with('\'') {
            character(rest)
        } else {
            0
        };
        if length == 0 {
            let c = rest.chars().next().unwrap();
            out.push(c);
            at += c.len_utf8();
        } else {
            blank(&mut out, &rest[..length]);
            at += length;
        }
    }
    out
}

/// Length of a text in quotes.
fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    let begin = rest.find('"').unwrap() + 1;
    for (at, c) in rest[begin..].char_indices() {
        match c {
            '"' if !escaped => return begin + at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    rest.len()
}

/// Length of a raw text; 0 for what only looks like one.
fn raw(rest: &str) -> usize {
    let after = rest.trim_start_matches('b');
    let Some(after) = after.strip_prefix('r') else { return 0 };
    let hashes = after.len() - after.trim_start_matches('#').len();
    if !after[hashes..].starts_with('"') {
        return 0;
    }
    let begin = rest.len() - after.len() + hashes + 1;
    let end = format!("\"{}", "#".repeat(hashes));
    rest[begin..].find(&end).map_or(rest.len(), |at| begin + at + end.len())
}

/// Length of a character; 0 for a lifetime.
fn character(rest: &str) -> usize {
    let inner = &rest[1..];
    if let Some(escape) = inner.strip_prefix('\\') {
        return escape[1..].find('\'').map_or(0, |at| 2 + 1 + at + 1);
    }
    let Some(c) = inner.chars().next() else { return 0 };
    if inner[c.len_utf8()..].starts_with('\'') { 2 + c.len_utf8() } else { 0 }
}

/// Blanks out what stands behind `#[cfg(test)]`; also tells how many lines that are.
fn without_tests(code: &str) -> (String, usize) {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::new();
    let mut removed = 0;
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        out.push_str(&rest[..at]);
        let item = &rest[at..];
        let end = item.find([';', '{']).map_or(item.len(), |end| {
            if item[end..].starts_with(';') { end + 1 } else { end + block(&item[end..]) }
        });
        let lines = item[..end].matches('\n').count();
        removed += lines + 1;
        out.extend(std::iter::repeat_n('\n', lines));
        rest = &item[end..];
    }
    out.push_str(rest);
    (out, removed)
}

/// Length of a block in braces.
fn block(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

/// All paths in code. What is imported by name is told by its whole path where it is imported.
fn paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut line = 1;
    let mut rest = code;
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == ':' || c == '!';
    while let Some(begin) = rest.find(|c: char| c.is_alphabetic() || c == '_' || c == '\n') {
        if rest[begin..].starts_with('\n') {
            line += 1;
            rest = &rest[begin + 1..];
            continue;
        }
        let word = &rest[begin..];
        let length = word.find(|c| !part(c)).unwrap_or(word.len());
        let path = &word[..length];
        let mut end = length;
        if path.ends_with("::") && word[length..].starts_with('{') {
            end += block(&word[length..]);
            spread(path, &word[length + 1..end - 1], line, &mut found);
            line += word[length..end].matches('\n').count();
        } else {
            found.push((line, path.trim_end_matches(':').to_owned()));
        }
        rest = &word[end..];
    }
    found
}

/// The paths of a group: `a::{b, c::{d, e}}`.
fn spread(prefix: &str, group: &str, line: usize, found: &mut Vec<(usize, String)>) {
    let mut depth = 0;
    let mut begin = 0;
    let ends = group.char_indices().chain([(group.len(), ',')]).filter_map(|(at, c)| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => return Some(at),
            _ => {}
        }
        None
    });
    for end in ends.collect::<Vec<_>>() {
        let entry = group[begin..end].trim();
        begin = (end + 1).min(group.len());
        match entry.split_once('{') {
            _ if entry.is_empty() => {}
            Some((path, inner)) => {
                let inner = inner.rsplit_once('}').map_or(inner, |(inner, _)| inner);
                spread(&format!("{prefix}{path}"), inner, line, found);
            }
            None => {
                let name = entry.split(" as ").next().unwrap_or(entry);
                found.push((line, format!("{prefix}{}", name.trim_start_matches("self"))));
            }
        }
    }
}

#[test]
fn groups_are_spread_and_texts_and_tests_are_not_code() {
    let code = "use std::{fs::{self, File}, io as x};\n// std::net\nlet a = \"std::env::var\"; '\"'; r#\"clap \"x\"\"#;\n\
                fn f<'a>() { println!(\"\\\"rhai::x\"); }\n#[cfg(test)]\nmod tests { use clap::Parser; { } }\nlibc::x();";
    let program = without_tests(&without_texts(code)).0;
    let found: Vec<String> =
        paths(&program).into_iter().map(|(line, path)| format!("{line} {path}")).collect();
    assert_eq!(
        found,
        [
            "1 use",
            "1 std::fs::",
            "1 std::fs::File",
            "1 std::io",
            "3 let",
            "3 a",
            "4 fn",
            "4 f",
            "4 a",
            "4 println!",
            "7 libc::x",
        ]
    );
}
