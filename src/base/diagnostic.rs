//! Snippets of source with a caret, as in `just` and rustc.

use crate::base::failure::Place;

/// The lines that show `place` in `source`, each ended by a newline; empty when the line does not exist.
///
/// ```text
///   ——▶ playbooks/nightly.rhai:12:5
///    │
/// 12 │     dump(db).gzip().save("shop.sql.gz")
///    │     ^
/// ```
pub fn snippet(place: &Place, source: &str) -> String {
    let Some(line) = source.lines().nth(place.line.saturating_sub(1)) else {
        return format!("  ——▶ {place}\n");
    };
    let number = place.line.to_string();
    let margin = " ".repeat(number.len());
    // Tabs count as one column; they are shown as four blanks, so that the caret stands below its character.
    let shown = line.trim_end().replace('\t', "    ");
    let before: usize =
        line.chars().take(place.column.saturating_sub(1)).map(|c| if c == '\t' { 4 } else { 1 }).sum();
    format!("{margin} ——▶ {place}\n{margin} │\n{number} │ {shown}\n{margin} │ {}^\n", " ".repeat(before))
}

/// The closest of `candidates` to `word`, if it is close enough to be what was meant.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_below_its_character() {
        let place = Place { file: "p.rhai".into(), line: 2, column: 3 };
        assert_eq!(snippet(&place, "a\n\té x\n"), "  ——▶ p.rhai:2:3\n  │\n2 │     é x\n  │      ^\n");
    }

    #[test]
    fn the_closest_word_is_proposed() {
        assert_eq!(did_you_mean("gizp", ["gzip", "hash"]), Some("gzip"));
        assert_eq!(did_you_mean("retension", ["retention", "dir"]), Some("retention"));
        assert_eq!(did_you_mean("x", ["dump", "save"]), None);
    }
}
