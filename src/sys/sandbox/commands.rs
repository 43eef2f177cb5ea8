//! Which programs really run in a drill, and what they are given.

use crate::base::failure::Failure;
use crate::base::secret::Secret;
use crate::sys::exec::{Exec, Variable};
use crate::sys::fs;
use crate::sys::host::Host;
use crate::sys::postgres::settings::{Explicit, Settings, resolve};
use crate::sys::process::Value;
use crate::sys::sandbox::Sandbox;
use crate::sys::sandbox::copy::lexical;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::path::Path;
use std::sync::Arc;

/// Paths that lead out of a project and do no harm.
const HARMLESS: [&str; 5] = ["/dev/null", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/urandom"];
/// Variables that would lead a client to another server, whatever the rest says.
const ELSEWHERE: [&str; 5] = ["PGSERVICE", "PGHOSTADDR", "PGSYSCONFDIR", "PGSSLROOTCERT", "PGCHANNELBINDING"];
/// Where nobody listens: what programs are given when the environment names no database.
const NOBODY: &str = "/dev/null/none";

impl Sandbox {
    /// Why a program is not run; `None` if it may really run here.
    pub fn captures(&self, exec: &Exec) -> Option<String> {
        let program = exec.program();
        if !self.terms.run.iter().any(|name| name == program) {
            return Some(format!("`run` of the header does not name `{program}`"));
        }
        let dir = exec.cwd.clone().unwrap_or_else(|| self.project());
        if !self.holds(&dir) {
            return Some(format!("its folder `{}` is outside of the project", self.original(&dir).display()));
        }
        let outside =
            exec.argv.iter().skip(1).flat_map(|arg| paths(arg)).find(|path| !self.holds(&dir.join(path)));
        outside.map(|path| format!("it is given `{path}`, which is outside of the project"))
    }

    /// Whether a path stays in the copy of the project, or in the sandbox's own folders.
    fn holds(&self, path: &Path) -> bool {
        let clean = lexical(path);
        let real = fs::resolved(&clean);
        let root = fs::resolved(&self.root);
        HARMLESS.iter().any(|harmless| clean == Path::new(harmless))
            || (real.starts_with(&root) && !real.starts_with(fs::resolved(&self.outside())))
    }

    /// The program as it really runs: whatever it is told of databases is the scratch server's.
    ///
    /// # Errors
    /// Whatever keeps that server from starting.
    pub fn confined(&self, exec: &Exec, host: &Arc<Host>) -> Result<Exec, Failure> {
        let settings = match resolve(&Explicit::default(), &host.env(), self.real_home()) {
            Ok(settings) => Some(self.stand_in(host, &settings)?),
            Err(_) => None,
        };
        let variables = variables(settings.as_ref());
        // What the option `postgres` gives is a scratch server's already.
        let given = exec.env.get("PGHOST").is_some_and(|variable| match variable {
            Variable::Set(value) => self.is_socket_of_ours(value.expose()),
            Variable::Passed => false,
        });
        let mut confined = exec.clone();
        confined.env.retain(|name, _| !ELSEWHERE.contains(&name.as_str()));
        for (name, value) in &variables {
            if !(given && name.starts_with("PG")) {
                confined.env.insert((*name).to_owned(), Variable::Set(value.clone()));
            }
        }
        let url = variables.into_iter().find(|(name, _)| *name == "DATABASE_URL").map(|(_, value)| value);
        let env = host.env();
        for (name, variable) in &mut confined.env {
            let text = match variable {
                Variable::Set(value) => value.expose(),
                Variable::Passed => env.value(name).unwrap_or_default(),
            };
            if (text.contains("postgres://") || text.contains("postgresql://"))
                && let Some(url) = &url
            {
                *variable = Variable::Set(url.clone());
            }
        }
        let project = format!("lifeboat_drill_{}", self.letters);
        confined.env.insert("COMPOSE_PROJECT_NAME".to_owned(), Variable::Set(Value::Plain(project)));
        Ok(confined)
    }

    fn is_socket_of_ours(&self, host: &str) -> bool {
        self.servers().iter().any(|server| server.is_at(host))
    }
}

/// The variables that name a database, every one of them, so that none is left to name a real one.
fn variables(settings: Option<&Settings>) -> Vec<(&'static str, Value)> {
    let plain = |text: &str| Value::Plain(text.to_owned());
    let mut all = vec![
        ("PGPASSFILE", plain(NOBODY)),
        ("PGSERVICEFILE", plain(NOBODY)),
        ("PGSSLMODE", plain("disable")),
    ];
    let Some(settings) = settings else {
        all.extend([("DB_HOST", plain(NOBODY)), ("PGHOST", plain(NOBODY)), ("DATABASE_URL", plain(""))]);
        return all;
    };
    let password = settings.password.clone().unwrap_or_else(|| Secret::new(""));
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let url = format!(
        "postgresql://{}:{}@127.0.0.1:{}/{}",
        encoded(&settings.user),
        encoded(password.expose()),
        settings.port,
        encoded(&settings.database)
    );
    let port = settings.port.to_string();
    let values = [
        (["DB_HOST", "PGHOST"], plain("127.0.0.1")),
        (["DB_PORT", "PGPORT"], plain(&port)),
        (["DB_NAME", "PGDATABASE"], plain(&settings.database)),
        (["DB_USER", "PGUSER"], plain(&settings.user)),
        (["DB_PASSWORD", "PGPASSWORD"], Value::Secret(password)),
    ];
    all.extend(values.into_iter().flat_map(|(names, value)| names.map(|name| (name, value.clone()))));
    all.push(("DATABASE_URL", Value::Secret(Secret::new(url))));
    all
}

/// What in an argument may be a path that leads out of the folder the program runs in.
fn paths(arg: &str) -> Vec<String> {
    let mut found = Vec::new();
    let bytes = arg.as_bytes();
    for (at, _) in arg.match_indices('/') {
        let before = arg[..at].chars().next_back();
        let is_url = before == Some(':') && arg[at..].starts_with("//") && !arg[at..].starts_with("///");
        let is_second = before == Some('/');
        let begins = match before {
            None => true,
            // `-I/usr/include`
            Some(c) if c.is_ascii_alphanumeric() => at == 2 && bytes[0] == b'-',
            Some(c) => !"._-/".contains(c) && !c.is_alphanumeric(),
        };
        if begins && !is_url && !is_second {
            let rest = &arg[at..];
            let end = rest.find([' ', '\'', '"', ';', ':', ',', '\n', ')', '|', '&']).unwrap_or(rest.len());
            found.push(rest[..end].to_owned());
        }
    }
    // `..` may lead out as well, wherever it stands.
    for word in arg.split([' ', '=', ':', ',', '\'', '"', ';', '\n']) {
        if Path::new(word).components().any(|part| part == std::path::Component::ParentDir) {
            found.push(word.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_wherever_they_stand_in_an_argument() {
        for (arg, expected) in [
            ("ci", vec![]),
            ("src/main.js", vec![]),
            ("./src/a-b/main.js", vec![]),
            ("/etc/passwd", vec!["/etc/passwd"]),
            ("--out=/srv/x", vec!["/srv/x"]),
            ("-C/srv/x", vec!["/srv/x"]),
            ("cat </etc/hosts >/tmp/x; ls /", vec!["/etc/hosts", "/tmp/x", "/"]),
            ("/a:/b", vec!["/a", "/b"]),
            ("--registry=https://registry.example/x", vec![]),
            ("file:///etc/x", vec!["///etc/x"]),
            ("--dir=../other", vec!["../other"]),
            ("@scope/name@1.2.3", vec![]),
        ] {
            assert_eq!(paths(arg), expected, "{arg}");
        }
    }
}
