//! Which programs really run in a drill, and what they are given.

use crate::base::failure::Failure;
use crate::base::secret::Secret;
use crate::sys::exec::{Exec, Variable};
use crate::sys::fs;
use crate::sys::host::Host;
use crate::sys::postgres::settings::{Explicit, Settings, resolve};
use crate::sys::process::{Input, Value};
use crate::sys::sandbox::Sandbox;
use crate::sys::sandbox::copy::lexical;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::path::Path;
use std::sync::Arc;

/// Paths that lead out of a project and do no harm.
const HARMLESS: [&str; 5] = ["/dev/null", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/urandom"];
/// Variables that would lead a client to another server, whatever the rest says.
const ELSEWHERE: [&str; 5] = ["PGSERVICE", "PGHOSTADDR", "PGSYSCONFDIR", "PGSSLROOTCERT", "PGCHANNELBINDING"];
/// Variables whose paths are looked for nowhere but where programs are, or are another's in the sandbox.
const UNASKED: [&str; 5] = ["PATH", "PGPASSFILE", "PGSERVICEFILE", "PGSYSCONFDIR", "PGSSLROOTCERT"];
/// Programs to which a `/` among blanks is a folder.
const SHELLS: [&str; 8] = ["sh", "bash", "dash", "zsh", "ksh", "ash", "fish", "busybox"];
/// Programs that tell a daemon what to do, wherever they are run.
const DOCKERS: [&str; 4] = ["docker", "docker-compose", "podman", "nerdctl"];
/// What these may do although it is not confined to a compose project.
const HARMLESS_OF_DOCKER: [&str; 9] =
    ["", "build", "buildx", "version", "info", "ps", "images", "inspect", "pull"];
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
        let out = |path: &String| someone_s_home(path) || !self.holds(&dir.join(path));
        let input = match &exec.input {
            Input::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Input::Nothing | Input::Secret(_) => String::new(),
        };
        let runs_shell = exec.argv.iter().any(|word| SHELLS.contains(&base(word)));
        let texts = || exec.argv.iter().skip(1).chain([&input]);
        if let Some(path) = texts().flat_map(|text| paths(text, runs_shell)).find(out) {
            return Some(format!("it is given `{path}`, which is outside of the project"));
        }
        if let Some(name) = exec.env.iter().find_map(|(name, value)| match value {
            Variable::Set(value) if !UNASKED.contains(&name.as_str()) => {
                let text = value.expose();
                let leads_out = is_path(text) && !self.is_socket_of_ours(text) && out(&text.to_owned());
                leads_out.then_some(name)
            }
            _ => None,
        }) {
            return Some(format!("its variable `{name}` names what is outside of the project"));
        }
        let line = exec.argv.clone();
        let within = texts().flat_map(|text| text.split([';', '&', '|', '\n'])).map(words_of);
        let docker = [line].into_iter().chain(within).find_map(|words| of_docker(&words))?;
        Some(format!("{docker}, which reaches beyond the drill's own containers"))
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
        self.note_run(exec.command_line());
        let settings = match resolve(&Explicit::default(), &host.env(), self.real_home()) {
            Ok(settings) => Some(self.stand_in(host, &settings)?),
            Err(_) => None,
        };
        let variables = variables(settings.as_ref());
        self.lead_env_files(&variables)?;
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

    /// Makes the copied `.env` files name the scratch server, or none: programs read them too.
    fn lead_env_files(&self, variables: &[(&str, Value)]) -> Result<(), Failure> {
        let root = fs::resolved(&self.root);
        for entry in walkdir::WalkDir::new(self.project()).into_iter().flatten() {
            let name = entry.file_name().to_string_lossy();
            let path = fs::resolved(entry.path());
            if !(name == ".env" || name.starts_with(".env.")) || !path.is_file() || !path.starts_with(&root) {
                continue;
            }
            // What is no text names no server that a program could read there.
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let led = led(&text, variables);
            if led != text {
                std::fs::write(&path, led).map_err(|error| Failure::io("write", &path, &error))?;
            }
        }
        Ok(())
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

/// The text of an `.env` file with all that names a database led to `variables`; what those do not tell is emptied.
fn led(text: &str, variables: &[(&str, Value)]) -> String {
    let line = |line: &str| {
        let Some((name, value)) = line.split_once('=') else { return line.to_owned() };
        let key = name.trim().trim_start_matches("export ").trim();
        let is_url = value.contains("postgres://") || value.contains("postgresql://");
        let names_server = key.starts_with("DB_") || key.starts_with("PG") || key.ends_with("DATABASE_URL");
        if key.starts_with('#') || !(is_url || names_server) {
            return line.to_owned();
        }
        let told = |wanted: &str| variables.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value);
        let value = if is_url { told("DATABASE_URL") } else { told(key) };
        format!("{name}={}", value.map_or("", Value::expose))
    };
    let lines: Vec<String> = text.split('\n').map(line).collect();
    lines.join("\n")
}

/// The last part of a program's path.
fn base(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

/// Whether a whole value is a path.
fn is_path(value: &str) -> bool {
    ["/", "~", ".."].iter().any(|begin| value.starts_with(begin)) && !value.contains(char::is_whitespace)
}

/// Whether a path begins in the home folder of somebody by name; `~` alone is the drill's own.
fn someone_s_home(path: &str) -> bool {
    path.strip_prefix('~').is_some_and(|rest| rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}

fn words_of(text: &str) -> Vec<String> {
    let bare = |word: &str| word.trim_matches(['\'', '"', '(', ')', '`', '$']).to_owned();
    text.split_whitespace().map(bare).collect()
}

/// What of a command line would reach containers, or a daemon, that are not the drill's.
fn of_docker(words: &[String]) -> Option<String> {
    let at = words.iter().position(|word| DOCKERS.contains(&base(word)))?;
    let is_compose =
        base(&words[at]) == "docker-compose" || words.get(at + 1).is_some_and(|word| word == "compose");
    let rest: Vec<&str> =
        words[at + 1..].iter().map(String::as_str).filter(|word| *word != "compose").collect();
    let elsewhere = ["-p", "--project-name", "-H", "--host", "-c", "--context"];
    let option = rest.iter().find(|word| {
        let name = word.split('=').next().unwrap_or(word);
        elsewhere.contains(&name)
            || (!word.starts_with("--") && (word.starts_with("-p") || word.starts_with("-H")))
    });
    if let Some(option) = option {
        return Some(format!("it is given `{option}`"));
    }
    let verb = rest.iter().find(|word| !word.starts_with('-')).copied().unwrap_or_default();
    let denied = rest.iter().find(|word| ["exec", "rm", "kill", "attach", "cp"].contains(word));
    match denied {
        Some(denied) => Some(format!("it does `{denied}`")),
        None if is_compose || HARMLESS_OF_DOCKER.contains(&verb) => None,
        None => Some(format!("it does `{verb}`")),
    }
}

/// What in an argument may be a path that leads out of the folder the program runs in. A `/` alone among blanks divides,
/// but for a shell.
fn paths(arg: &str, runs_shell: bool) -> Vec<String> {
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
            Some(c) => !"._-/~".contains(c) && !c.is_alphanumeric(),
        };
        let blank = |c: Option<char>| c.is_some_and(char::is_whitespace);
        let divides = !runs_shell && blank(before) && blank(arg[at + 1..].chars().next());
        if begins && !is_url && !is_second && !divides {
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
        if word.starts_with('~') {
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
            ("cat ~root/x ~/y", vec!["~root/x", "~/y"]),
        ] {
            assert_eq!(paths(arg, true), expected, "{arg}");
        }
    }

    #[test]
    fn a_slash_among_blanks_is_a_folder_to_shells_only() {
        assert_eq!(paths("SELECT a / b FROM t", false), [""; 0]);
        assert_eq!(paths("/", false), ["/"]);
        assert_eq!(paths("--root=/", false), ["/"]);
        assert_eq!(paths("rm -rf / x", true), ["/"]);
        assert!(someone_s_home("~root/x") && !someone_s_home("~/x"));
    }

    #[test]
    fn containers_of_others_are_not_reached() {
        for (line, expected) in [
            ("docker compose build", None),
            ("docker-compose -f test.yml up -d", None),
            ("docker build .", None),
            ("docker compose -p shop up", Some("it is given `-p`")),
            ("docker-compose --project-name=shop up", Some("it is given `--project-name=shop`")),
            ("docker -Htcp://db1 ps", Some("it is given `-Htcp://db1`")),
            ("docker compose exec db psql", Some("it does `exec`")),
            ("docker rm -f db", Some("it does `rm`")),
            ("/usr/bin/docker volume prune", Some("it does `volume`")),
            ("npm ci", None),
        ] {
            assert_eq!(of_docker(&words_of(line)).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn env_files_name_the_scratch_server_or_none() {
        let given = [
            ("DB_HOST", Value::Plain("127.0.0.1".to_owned())),
            ("DATABASE_URL", Value::Plain("URL".to_owned())),
        ];
        let text = "A=1\n# DB_HOST=x\nexport DB_HOST=db1\nDB_PORT=5\nPGPASSWORD=p\nQ=postgres://u@h/d\n";
        assert_eq!(
            led(text, &given),
            "A=1\n# DB_HOST=x\nexport DB_HOST=127.0.0.1\nDB_PORT=\nPGPASSWORD=\nQ=URL\n"
        );
    }
}
