//! Names and values as SQL text.

/// A name in double quotes, always: a word that is none today may be a keyword tomorrow.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as a literal that means the same whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// Settings whose value is a list of quoted names; each member must be its own literal in `SET`.
const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// The `name TO value` of a `SET`, from `name=value` as the catalog stores it; `None` if it is not that.
pub fn setting(stored: &str) -> Option<String> {
    let (name, value) = stored.split_once('=')?;
    let is_list = LISTS.iter().any(|list| list.eq_ignore_ascii_case(name));
    let members = if is_list { members(value) } else { vec![value.to_owned()] };
    let literals: Vec<String> = members.iter().map(|member| literal(member)).collect();
    let value = if literals.is_empty() { "''".to_owned() } else { literals.join(", ") };
    Some(format!("{} TO {value}", ident(name)))
}

/// The members of a stored list, `"$user", public`, without their quotes.
fn members(list: &str) -> Vec<String> {
    let mut members = Vec::new();
    let mut chars = list.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace() || *c == ',').is_some() {}
        let Some(first) = chars.next() else { return members };
        let mut member = String::new();
        if first == '"' {
            while let Some(c) = chars.next() {
                match c {
                    '"' if chars.next_if_eq(&'"').is_none() => break,
                    c => member.push(c),
                }
            }
        } else {
            member.push(first);
            while let Some(c) = chars.next_if(|c| *c != ',') {
                member.push(c);
            }
            member.truncate(member.trim_end().len());
        }
        members.push(member);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
    }

    #[test]
    fn lists_are_quoted_member_by_member() {
        for (stored, set) in [
            ("work_mem=1MB", "\"work_mem\" TO '1MB'"),
            ("search_path=\"$user\", public", "\"search_path\" TO '$user', 'public'"),
            ("search_path=\"a, \"\"b\"\"\",c d", "\"search_path\" TO 'a, \"b\"', 'c d'"),
            ("search_path=\"\"", "\"search_path\" TO ''"),
            ("search_path=", "\"search_path\" TO ''"),
            ("app.note=it's, = \\ fine", "\"app.note\" TO E'it''s, = \\\\ fine'"),
        ] {
            assert_eq!(setting(stored).as_deref(), Some(set), "{stored}");
        }
        assert_eq!(setting("nothing"), None);
    }
}
