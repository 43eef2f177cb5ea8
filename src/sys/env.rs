//! Environment variables, from the process and from the project's `.env`.

use crate::base::failure::{Code, Failure};
use crate::base::secret::{Masker, Secret};
use percent_encoding::percent_decode_str;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Where the value of a variable came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The environment of the process.
    Process,
    /// The project's `.env`.
    DotEnv,
}

impl Origin {
    /// As shown to people, after the name: `DB_HOST` or `DB_HOST in .env`.
    pub fn describe(self, name: &str) -> String {
        match self {
            Self::Process => name.to_owned(),
            Self::DotEnv => format!("{name} in .env"),
        }
    }
}

/// A snapshot of the variables, taken once; the process's own environment is never changed.
#[derive(Clone, Debug, Default)]
pub struct Env {
    process: BTreeMap<String, String>,
    dot_env: BTreeMap<String, String>,
}

impl Env {
    /// Takes the process's variables and those of `PROJECT/.env`, if there is one.
    pub fn load(project: &Path) -> Result<Self, Failure> {
        let process = std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .collect();
        Ok(Self { process, dot_env: dot_env(project)? })
    }

    /// The same variables of the process, with those that `PROJECT/.env` holds now.
    ///
    /// # Errors
    /// As [`Env::load`].
    pub fn reread(&self, project: &Path) -> Result<Self, Failure> {
        Ok(Self { process: self.process.clone(), dot_env: dot_env(project)? })
    }

    /// Names of the variables whose values differ between two environments.
    pub fn differs(&self, other: &Self) -> Vec<String> {
        let names: BTreeSet<&String> = [&self.process, &self.dot_env, &other.process, &other.dot_env]
            .into_iter()
            .flat_map(BTreeMap::keys)
            .collect();
        names.into_iter().filter(|name| self.value(name) != other.value(name)).cloned().collect()
    }

    /// An environment of just these variables.
    pub fn of(process: BTreeMap<String, String>, dot_env: BTreeMap<String, String>) -> Self {
        Self { process, dot_env }
    }

    /// The same without what `.env` says.
    #[must_use]
    pub fn of_process(&self) -> Self {
        Self { process: self.process.clone(), dot_env: BTreeMap::new() }
    }

    /// The same with these variables of the process set.
    #[must_use]
    pub fn with(mut self, variables: &[(&str, String)]) -> Self {
        self.process.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        self
    }

    /// The same without these variables.
    #[must_use]
    pub fn without(mut self, names: &[&str]) -> Self {
        for name in names {
            self.process.remove(*name);
            self.dot_env.remove(*name);
        }
        self
    }

    /// The value of a variable and where it came from; the process wins over `.env`, and an empty value counts as none.
    pub fn get(&self, name: &str) -> Option<(&str, Origin)> {
        let from = |map: &'_ BTreeMap<String, String>, origin| {
            map.get(name).filter(|value| !value.is_empty()).map(|_| origin)
        };
        let origin = from(&self.process, Origin::Process).or_else(|| from(&self.dot_env, Origin::DotEnv))?;
        let map = if origin == Origin::Process { &self.process } else { &self.dot_env };
        map.get(name).map(|value| (value.as_str(), origin))
    }

    /// What every child process inherits: the process's own variables that say who and where, never those of `.env`.
    pub fn inherited(&self) -> impl Iterator<Item = (&str, &str)> {
        const NAMES: [&str; 7] = ["PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR"];
        self.process
            .iter()
            .filter(|(name, _)| NAMES.contains(&name.as_str()) || name.starts_with("LC_"))
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Makes known what is secret in it: values of variables that are named like secrets, and passwords within URLs. Names
    /// of databases and their users are no secrets, be they the same text.
    pub fn tell(&self, masker: &Masker) {
        for name in ["DB_USER", "DB_NAME", "PGUSER", "PGDATABASE"] {
            for value in [self.process.get(name), self.dot_env.get(name)].into_iter().flatten() {
                masker.exempt(value);
            }
        }
        for (name, value) in self.process.iter().chain(&self.dot_env) {
            // Shorter ones are too often ordinary words, which would be blotted out everywhere.
            if names_secret(name) && value.chars().count() >= 6 {
                masker.add(&Secret::new(value.as_str()));
            }
            if let Some(password) = url_password(value) {
                let decoded = percent_decode_str(password).decode_utf8_lossy().into_owned();
                masker.add(&Secret::new(password));
                masker.add(&Secret::new(decoded));
            }
        }
    }

    /// The value of a variable.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.get(name).map(|(value, _)| value)
    }
}

/// The variables of `PROJECT/.env`, if there is one.
fn dot_env(project: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let path = project.join(".env");
    let mut found = BTreeMap::new();
    match dotenvy::from_path_iter(&path) {
        Err(dotenvy::Error::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(dotenvy::Error::Io(error)) => return Err(Failure::io("read", &path, &error)),
        Err(error) => return Err(malformed(&path, &error)),
        Ok(entries) => {
            for entry in entries {
                let (name, value) = entry.map_err(|error| malformed(&path, &error))?;
                found.insert(name, value);
            }
        }
    }
    Ok(found)
}

/// Whether the name of a variable says that its value is a secret: `PGPASSWORD`, `GITHUB_TOKEN`, `DATABASE_URL`.
pub fn names_secret(name: &str) -> bool {
    const LAST_WORDS: [&str; 9] =
        ["PASSWD", "PASSPHRASE", "SECRET", "SECRETS", "TOKEN", "KEY", "CREDENTIAL", "CREDENTIALS", "DSN"];
    let name = name.to_ascii_uppercase();
    let last = name.rsplit('_').next().unwrap_or_default();
    LAST_WORDS.contains(&last)
        || name.ends_with("PASSWORD")
        || name.ends_with("DATABASE_URL")
        || (name.contains("WEBHOOK") && last != "FORMAT")
        || name.ends_with("PING_URL")
}

/// The password in `scheme://user:password@host`, as it is written.
pub fn url_password(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user, _) = authority.rsplit_once('@')?;
    user.split_once(':').map(|(_, password)| password).filter(|password| !password.is_empty())
}

/// The failure of a file with a malformed line. The parser's error quotes that line, which may hold a secret; its number
/// says as much.
fn malformed(path: &Path, error: &dotenvy::Error) -> Failure {
    let cause = match error {
        dotenvy::Error::LineParse(quoted, _) => {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let first = quoted.lines().next().unwrap_or_default().trim();
            match text.lines().position(|line| line.trim() == first) {
                Some(index) => format!("line {} is not `NAME=value`", index + 1),
                None => "a line is not `NAME=value`".to_owned(),
            }
        }
        _ => "a line is not `NAME=value`".to_owned(),
    };
    Failure::new(Code::Usage, format!("cannot read `{}`", path.display()))
        .caused_by(cause)
        .hint("Write every line as `NAME=value`, and put values with blanks or `#` in single quotes.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_is_known_from_the_start() {
        let of =
            |list: &[(&str, &str)]| list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let env = Env::of(
            of(&[("DB_USER", "postgres"), ("PGPASSWORD", "postgres"), ("SITE", "https://me:hunt%20er@x/y")]),
            of(&[("DB_PASSWORD", "topSecret!9 x"), ("BACKUP_WEBHOOK_URL", "https://hooks.test/T0KENabc")]),
        );
        let masker = Masker::new();
        env.tell(&masker);
        for (text, masked) in [
            ("role postgres", "role postgres"),
            ("a topSecret!9 x b", "a *** b"),
            ("hunt er, hunt%20er", "***, ***"),
            ("see https://hooks.test/T0KENabc", "see ***"),
        ] {
            assert_eq!(masker.mask(text), masked);
        }
    }

    #[test]
    fn names_tell_secrets() {
        for name in
            ["PGPASSWORD", "DB_PASSWORD", "github_token", "API_KEY", "BACKUP_WEBHOOK_URL", "DATABASE_URL"]
        {
            assert!(names_secret(name), "{name}");
        }
        for name in ["PATH", "NODE_ENV", "KEYBOARD", "TOKEN_FILE", "PGPASSFILE", "DOCKER_HOST"] {
            assert!(!names_secret(name), "{name}");
        }
    }

    #[test]
    fn a_malformed_line_is_told_by_its_number_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(".env"), "# ours\nDB_NAME=shop\n\nDB_PASSWORD = hunt er2 'x\n")
            .unwrap();
        let failure = Env::load(dir.path()).unwrap_err();
        assert_eq!(failure.message, format!("cannot read `{}`", dir.path().join(".env").display()));
        assert_eq!(failure.causes, ["line 4 is not `NAME=value`"]);
        assert_eq!(
            failure.hints,
            ["Write every line as `NAME=value`, and put values with blanks or `#` in single quotes."]
        );
    }

    #[test]
    fn children_inherit_who_and_where_only() {
        let of = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let env = Env::of(of(&[("HOME", "/h"), ("LC_ALL", "C"), ("TOKEN", "t")]), of(&[("USER", "u")]));
        assert_eq!(env.inherited().collect::<Vec<_>>(), [("HOME", "/h"), ("LC_ALL", "C")]);
    }
}
