//! Secrets: a type that cannot print itself, and a masker for texts that come from elsewhere.

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use std::fmt;
use std::sync::{Arc, RwLock};

/// What stands where a secret stood.
pub const MASK: &str = "***";

/// Secrets shorter than this are not masked in foreign texts: they would blot out ordinary words.
const SHORTEST_MASKED: usize = 4;

/// A value that never prints. It has no codec on purpose: journals hold references, never secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<Arc<str>>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that hands it to its receiver.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

#[derive(Default)]
struct Known {
    forms: Vec<String>,
    exempt: Vec<String>,
    finder: Option<AhoCorasick>,
}

/// Replaces every known secret in a text, in all the forms that programs print it.
#[derive(Clone, Default)]
pub struct Masker(Arc<RwLock<Known>>);

impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Masker")
    }
}

impl Masker {
    /// A masker that knows no secrets.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a text that is shown anyway, such as a user's name; a secret that is the same text is not masked.
    pub fn exempt(&self, text: &str) {
        let mut known = self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !known.exempt.iter().any(|exempt| exempt == text) {
            known.exempt.push(text.to_owned());
        }
    }

    /// Adds a secret with its quoted, escaped and encoded forms.
    pub fn add(&self, secret: &Secret) {
        let value = secret.expose();
        if value.chars().count() < SHORTEST_MASKED {
            return;
        }
        let mut known = self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if known.exempt.iter().any(|exempt| exempt == value) {
            return;
        }
        for form in forms(value) {
            if !known.forms.contains(&form) {
                known.forms.push(form);
            }
        }
        known.finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&known.forms).ok();
    }

    /// The text with every secret replaced by `***`.
    pub fn mask(&self, text: &str) -> String {
        let known = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &known.finder {
            None => text.to_owned(),
            Some(finder) => {
                let mut out = String::with_capacity(text.len());
                finder.replace_all_with(text, &mut out, |_, _, dst| {
                    dst.push_str(MASK);
                    true
                });
                out
            }
        }
    }

    /// Whether no secret is known yet, so that nothing would be masked.
    pub fn is_empty(&self) -> bool {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).finder.is_none()
    }

    /// Masks every string inside a JSON value, keys included; says whether there was a secret in it.
    pub fn mask_json(&self, value: &mut serde_json::Value) -> bool {
        let masked = |text: &str| Some(self.mask(text)).filter(|masked| masked != text);
        match value {
            serde_json::Value::String(text) => match masked(text) {
                Some(masked) => {
                    *text = masked;
                    true
                }
                None => false,
            },
            serde_json::Value::Array(items) => {
                let mut any = false;
                items.iter_mut().for_each(|item| any |= self.mask_json(item));
                any
            }
            serde_json::Value::Object(map) => {
                let mut any = false;
                map.values_mut().for_each(|item| any |= self.mask_json(item));
                if map.keys().any(|key| masked(key).is_some()) {
                    let old = std::mem::take(map);
                    map.extend(old.into_iter().map(|(key, item)| (self.mask(&key), item)));
                    any = true;
                }
                any
            }
            _ => false,
        }
    }
}

/// All but RFC 3986's unreserved characters.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What URL parsers escape in a path or user name.
const URL_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'`')
    .add(b'#')
    .add(b'?')
    .add(b'{')
    .add(b'}')
    .add(b'%');

/// The forms in which programs print a secret.
fn forms(value: &str) -> Vec<String> {
    let percent = utf8_percent_encode(value, NON_ALPHANUMERIC).to_string();
    let sparing = utf8_percent_encode(value, UNRESERVED).to_string();
    let json = serde_json::to_string(value).unwrap_or_default();
    let mut all = vec![
        value.to_owned(),
        percent.to_lowercase(),
        percent,
        sparing.replace("%20", "+"),
        sparing.to_lowercase(),
        sparing,
        utf8_percent_encode(value, URL_PATH).to_string(),
        value.replace('\'', r"'\''"),
        value.replace('\'', "''"),
        value.replace('"', "\"\""),
        value.replace('\\', r"\\").replace('\'', r"\'"),
        value.replace('\\', r"\\").replace(':', r"\:"),
        value.chars().flat_map(shell_escaped).collect(),
        value.escape_debug().to_string(),
        json.trim_matches('"').to_owned(),
        base64::engine::general_purpose::STANDARD.encode(value),
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value),
    ];
    // A value of several lines reaches a line-wise masker one line at a time.
    all.extend(value.lines().filter(|line| line.chars().count() >= SHORTEST_MASKED).map(str::to_owned));
    all.sort();
    all.dedup();
    all.retain(|form| form.chars().count() >= SHORTEST_MASKED);
    all
}

fn shell_escaped(c: char) -> impl Iterator<Item = char> {
    let plain = c.is_alphanumeric() || "_-./:=@%+,".contains(c);
    (!plain).then_some('\\').into_iter().chain(std::iter::once(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::new("s3cr3t/p@ss w0rd");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
    }

    #[test]
    fn every_form_is_masked() {
        let masker = Masker::new();
        masker.add(&Secret::new("s3cr3t/p@ss w0rd'\"x"));
        for text in [
            "s3cr3t/p@ss w0rd'\"x",
            "s3cr3t%2Fp%40ss%20w0rd%27%22x",
            "s3cr3t%2fp%40ss%20w0rd%27%22x",
            "s3cr3t%2Fp%40ss+w0rd%27%22x",
            r#"s3cr3t/p@ss w0rd'\''"x"#,
            r#"s3cr3t/p@ss w0rd''"x"#,
            r#"s3cr3t/p@ss w0rd'\"x"#,
            r#"s3cr3t/p@ss\ w0rd\'\"x"#,
            "czNjcjN0L3BAc3MgdzByZCcieA==",
        ] {
            assert_eq!(masker.mask(&format!("a {text} b")), "a *** b", "{text}");
        }
    }

    #[test]
    fn a_secret_that_is_a_public_name_is_not_masked() {
        let masker = Masker::new();
        masker.exempt("postgres");
        masker.add(&Secret::new("postgres"));
        assert_eq!(masker.mask("role postgres"), "role postgres");
    }

    #[test]
    fn json_is_masked_inside() {
        let masker = Masker::new();
        masker.add(&Secret::new("hunter22"));
        let mut value = serde_json::json!({"hunter22": ["x hunter22", {"k": "hunter22"}], "n": 1});
        assert!(masker.mask_json(&mut value));
        assert_eq!(value, serde_json::json!({"***": ["x ***", {"k": "***"}], "n": 1}));
    }

    #[test]
    fn the_longest_secret_wins() {
        let masker = Masker::new();
        masker.add(&Secret::new("pass"));
        masker.add(&Secret::new("password"));
        assert_eq!(masker.mask("a password and a pass"), "a *** and a ***");
    }
}
