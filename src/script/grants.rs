//! What a playbook may do without a policy file: what it names literally, and what its parameters name.
//!
//! *Problem*: a playbook must not reach beyond what its reader sees. *Decision*: literals of the playbook and of the
//! modules it imports, and values of parameters, are the permission. *Rejected*: asking while the run goes on.

use crate::base::plan::Need;
use crate::engine::policy::Grants;
use crate::script::header::Header;
use crate::script::parameters::{ParamValue, Values};
use crate::script::program::Program;
use crate::script::tree;
use crate::sys::host::Host;
use crate::sys::postgres::settings::{Explicit, resolve};
use rhai::{ASTNode, Expr};
use serde_json::Value;
use std::path::PathBuf;

/// Variables that the host itself reads to find databases and to announce; scripts get them only by naming them.
pub const HOST_VARIABLES: [&str; 16] = [
    "BACKUP_WEBHOOK_URL",
    "DATABASE_URL",
    "DB_HOST",
    "DB_NAME",
    "DB_PASSWORD",
    "DB_PORT",
    "DB_USER",
    "PGDATABASE",
    "PGHOST",
    "PGPASSFILE",
    "PGPASSWORD",
    "PGPORT",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGSSLMODE",
    "PGUSER",
];

/// The grants of one run.
pub fn grants(program: &Program, header: &Header, values: &Values, host: &Host) -> Grants {
    let mut grants = Grants::default();
    grants.write.insert(host.project().to_path_buf());
    grants.read.insert(host.state().to_path_buf());
    grants.hosts.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    // What the machine itself is set up to reach, whichever database of it the playbook names.
    grants.hosts.extend(hosts_of_environment(None, host));
    for unit in &program.units {
        for stmt in
            unit.ast.statements().iter().chain(unit.functions.iter().flat_map(|function| &function.body))
        {
            below(ASTNode::Stmt(stmt), host, &mut grants);
        }
    }
    // A variable that the playbook names literally is the machine's own configuration too.
    let named: Vec<String> =
        grants.env.iter().filter_map(|name| host.env().value(name).map(url_hosts)).flatten().collect();
    grants.hosts.extend(named);
    for param in &header.params {
        grants.env.extend(param.env.clone());
        match values.values.get(&param.name) {
            Some(ParamValue::Json(Value::Array(items))) => {
                items
                    .iter()
                    .filter_map(Value::as_str)
                    .for_each(|text| value(text, param.path, host, &mut grants));
            }
            Some(ParamValue::Json(Value::String(text))) => {
                value(text, param.path, host, &mut grants);
                // A parameter that is named like a host is one, also without a URL around it.
                if param.name == "host" || param.name.ends_with("_host") {
                    grants.hosts.insert(text.to_ascii_lowercase());
                }
            }
            _ => {}
        }
    }
    grants
}

/// What a part of the source grants.
fn below(node: ASTNode<'_>, host: &Host, grants: &mut Grants) {
    call(node, host, grants);
    match node {
        ASTNode::Expr(Expr::StringConstant(text, _)) => grants.hosts.extend(url_hosts(text)),
        ASTNode::Expr(Expr::InterpolatedString(parts, _)) => {
            // The host is literal only when the text goes on behind it: `http://db${n}` names none.
            if let Some(Expr::StringConstant(text, _)) = parts.first()
                && text.split("://").nth(1).is_some_and(|rest| rest.contains('/'))
            {
                grants.hosts.extend(url_hosts(text));
            }
            let inserted = parts.iter().filter(|part| !matches!(part, Expr::StringConstant(..)));
            inserted.for_each(|part| below(ASTNode::Expr(part), host, grants));
        }
        other => tree::children(other).into_iter().for_each(|child| below(child, host, grants)),
    }
}

/// What one call grants.
fn call(node: ASTNode<'_>, machine: &Host, grants: &mut Grants) {
    let Some((call, _, method)) = tree::call(node) else { return };
    let first = call.args.first();
    match (call.name.as_str(), first) {
        ("exec" | "to_exec", Some(Expr::Array(argv, _))) if !method => {
            grants.programs.extend(argv.first().and_then(text))
        }
        ("require_program", Some(arg)) => grants.programs.extend(text(arg)),
        ("env" | "require_env", Some(arg)) => grants.env.extend(text(arg)),
        ("postgres", Some(Expr::Map(map, _))) => {
            let host = map.0.iter().find(|(key, _)| key.name == "host").and_then(|(_, value)| text(value));
            grants.hosts.extend(host.map(|host| host.to_ascii_lowercase()));
            let service =
                map.0.iter().find(|(key, _)| key.name == "service").and_then(|(_, value)| text(value));
            grants
                .hosts
                .extend(service.into_iter().flat_map(|name| hosts_of_environment(Some(name), machine)));
        }
        _ => {}
    }
    if let ("exec" | "to_exec", Some(Expr::Map(map, _))) = (call.name.as_str(), call.args.get(1)) {
        for (key, value) in &map.0 {
            if let ("env", Expr::Array(names, _)) = (key.name.as_str(), value) {
                grants.env.extend(names.iter().filter_map(text));
            }
            if let ("done_if", Expr::Array(argv, _)) = (key.name.as_str(), value) {
                grants.programs.extend(argv.first().and_then(text));
            }
        }
    }
}

fn text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::StringConstant(text, _) => Some(text.to_string()),
        _ => None,
    }
}

/// What the value of a parameter grants.
fn value(text: &str, path: bool, host: &Host, grants: &mut Grants) {
    grants.hosts.extend(url_hosts(text));
    if text.contains("://") {
        return;
    }
    if path || (text.contains('/') && !text.contains("://") && !text.chars().any(|c| "*?[{\n".contains(c))) {
        grants.write.insert(host.absolute(text));
    }
}

/// The hosts of databases that the environment or a service of its service file names, in lowercase. Whatever is wrong
/// with that configuration fails where it is used.
pub fn hosts_of_environment(service: Option<String>, host: &Host) -> Vec<String> {
    let home = host.env().value("HOME").map(PathBuf::from);
    let fixed = |value: &str| Some(value.to_owned());
    let explicit = Explicit {
        port: fixed("5432"),
        database: fixed("postgres"),
        user: fixed("postgres"),
        service,
        ..Explicit::default()
    };
    let Ok(settings) = resolve(&explicit, &host.env(), home.as_deref()) else { return Vec::new() };
    settings
        .needs()
        .into_iter()
        .filter_map(|need| match need {
            Need::Host(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

/// The hosts of an HTTP or PostgreSQL URL: that of its address, and those that a database's URL names behind its `?`.
pub fn url_hosts(text: &str) -> Vec<String> {
    let named = text.split_once('?').map_or("", |(_, query)| query).split('#').next().unwrap_or_default();
    let named = named.split('&').filter_map(|pair| match pair.split_once('=') {
        Some(("host" | "hostaddr", value)) if is_database(text) && !value.is_empty() => {
            Some(value.to_ascii_lowercase())
        }
        _ => None,
    });
    url_host(text).into_iter().chain(named).collect()
}

fn is_database(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

/// The host of an HTTP or PostgreSQL URL, in lowercase and without port, user and brackets.
fn url_host(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    if !["http", "https", "postgres", "postgresql"].contains(&scheme.to_ascii_lowercase().as_str()) {
        return None;
    }
    let authority = rest.split(['/', '?', '#']).next()?;
    let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
    let host = match address.strip_prefix('[') {
        Some(v6) => v6.split_once(']')?.0,
        None => address.split(':').next()?,
    };
    (!host.is_empty()).then(|| host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Masker;
    use crate::script::engine::engine;
    use crate::script::header;
    use crate::script::parameters::{self, Given};
    use crate::script::program::Source;
    use crate::sys::env::Env;

    const MODULE: &str = "fn f() { exec([\"docker\", \"ps\"]); }";

    fn granted(text: &str, given: &[(&str, &str)]) -> Grants {
        let source = Source { file: "p.rhai".into(), text: text.into() };
        let module = |_: &str, _: &str| Ok(Source { file: "std/m".into(), text: MODULE.into() });
        let program = Program::load(&mut engine(), source, &module);
        assert_eq!(program.failures, []);
        let header = header::read(&program.units[0].ast, "p.rhai").unwrap();
        let given: Given = given.iter().map(|(k, v)| ((*k).to_owned(), vec![(*v).to_owned()])).collect();
        let values = parameters::values(&header.params, &given, &Env::default(), &Masker::new()).unwrap();
        let host = Host::new("/srv/app".into(), "/var/state".into(), Env::default());
        grants(&program, &header, &values, &host)
    }

    fn texts(set: &std::collections::BTreeSet<String>) -> Vec<&str> {
        set.iter().map(String::as_str).collect()
    }

    fn paths(set: &std::collections::BTreeSet<PathBuf>) -> Vec<String> {
        set.iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn literals_of_playbook_and_modules_are_granted() {
        let grants = granted(
            r#"const PLAYBOOK = #{ summary: "x", params: #{ token: #{ env: "TOKEN", secret: true } } };
            import "std/m" as m;
            let program = "rm";
            require_program("npm");
            exec(["git", "status"], #{ env: ["GIT_DIR"], cwd: "x" });
            exec([program, "-rf"]);
            env("HOME_DIR");
            http_get("https://User@Health.example:8443/x");
            http_get(`http://api.example/${program}`);
            http_get(`http://db${program}/`);
            postgres(#{ host: "DB1", port: 5432 });
            print("curl is not a program here");"#,
            &[],
        );
        assert_eq!(texts(&grants.programs), ["docker", "git", "npm"]);
        assert_eq!(
            texts(&grants.hosts),
            ["127.0.0.1", "::1", "api.example", "db1", "health.example", "localhost"]
        );
        assert_eq!(texts(&grants.env), ["GIT_DIR", "HOME_DIR", "TOKEN"]);
        assert_eq!(paths(&grants.write), ["/srv/app"]);
        assert_eq!(paths(&grants.read), ["/var/state"]);
    }

    #[test]
    fn values_of_parameters_are_granted() {
        let grants = granted(
            r#"const PLAYBOOK = #{ summary: "x", params: #{
                dir: "backups/database",
                target: "/mnt/nas",
                name: #{ default_value: "plain", path: true },
                word: "plain_word",
                patterns: ["config/*.json", ".env"],
                url: "http://[2001:db8::1]:80/health",
                server: "postgres://app:secret@Db2.example/shop",
                db_host: "DB3",
            } };"#,
            &[("target", "/media/usb/../disk")],
        );
        assert_eq!(
            paths(&grants.write),
            ["/media/disk", "/srv/app", "/srv/app/backups/database", "/srv/app/plain"]
        );
        assert_eq!(
            texts(&grants.hosts),
            ["127.0.0.1", "2001:db8::1", "::1", "db2.example", "db3", "localhost"]
        );
        assert_eq!(texts(&grants.programs), Vec::<&str>::new());
    }

    #[test]
    fn hosts_that_the_environment_names_are_granted() {
        let hosts = |variables: &[(&str, &str)], service: Option<&str>| {
            let process = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let host = Host::new("/srv/app".into(), "/var/state".into(), Env::of(process, [].into()));
            hosts_of_environment(service.map(str::to_owned), &host)
        };
        assert_eq!(hosts(&[("DB_HOST", "Db1")], None), ["db1"]);
        assert_eq!(hosts(&[("DATABASE_URL", "postgres://app@db2/shop")], None), ["db2"]);
        assert_eq!(hosts(&[("PGHOST", "db3"), ("PGHOSTADDR", "192.0.2.1")], None), ["db3", "192.0.2.1"]);
        assert_eq!(hosts(&[("PGHOST", "/run/postgresql")], None), Vec::<String>::new());
        assert_eq!(url_hosts("postgresql:///shop?host=Db4&hostaddr=192.0.2.2"), ["db4", "192.0.2.2"]);
        assert_eq!(url_hosts("http://one/?host=two"), ["one"]);
    }
}
