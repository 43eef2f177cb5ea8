//! What a playbook may do without a policy file: what it names literally, and what its parameters name.
//!
//! *Problem*: a playbook must not reach beyond what its reader sees. *Decision*: literals of the playbook and of the
//! modules it imports, and values of parameters, are the permission. *Rejected*: asking while the run goes on.

use crate::engine::policy::Grants;
use crate::script::header::Header;
use crate::script::parameters::{ParamValue, Values};
use crate::script::program::Program;
use crate::script::tree;
use crate::sys::host::Host;
use rhai::{ASTNode, Expr};
use serde_json::Value;

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
    for unit in &program.units {
        for stmt in
            unit.ast.statements().iter().chain(unit.functions.iter().flat_map(|function| &function.body))
        {
            below(ASTNode::Stmt(stmt), &mut grants);
        }
    }
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
fn below(node: ASTNode<'_>, grants: &mut Grants) {
    call(node, grants);
    match node {
        ASTNode::Expr(Expr::StringConstant(text, _)) => grants.hosts.extend(url_host(text)),
        ASTNode::Expr(Expr::InterpolatedString(parts, _)) => {
            // The host is literal only when the text goes on behind it: `http://db${n}` names none.
            if let Some(Expr::StringConstant(text, _)) = parts.first()
                && text.split("://").nth(1).is_some_and(|rest| rest.contains('/'))
            {
                grants.hosts.extend(url_host(text));
            }
            let inserted = parts.iter().filter(|part| !matches!(part, Expr::StringConstant(..)));
            inserted.for_each(|part| below(ASTNode::Expr(part), grants));
        }
        other => tree::children(other).into_iter().for_each(|child| below(child, grants)),
    }
}

/// What one call grants.
fn call(node: ASTNode<'_>, grants: &mut Grants) {
    let Some((call, _, method)) = tree::call(node) else { return };
    let first = call.args.first();
    match (call.name.as_str(), first) {
        ("exec", Some(Expr::Array(argv, _))) if !method => {
            grants.programs.extend(argv.first().and_then(text))
        }
        ("require_program", Some(arg)) => grants.programs.extend(text(arg)),
        ("env" | "require_env", Some(arg)) => grants.env.extend(text(arg)),
        ("postgres", Some(Expr::Map(map, _))) => {
            let host = map.0.iter().find(|(key, _)| key.name == "host").and_then(|(_, value)| text(value));
            grants.hosts.extend(host.map(|host| host.to_ascii_lowercase()));
        }
        _ => {}
    }
    if let ("exec", Some(Expr::Map(map, _))) = (call.name.as_str(), call.args.get(1)) {
        for (key, value) in &map.0 {
            if let ("env", Expr::Array(names, _)) = (key.name.as_str(), value) {
                grants.env.extend(names.iter().filter_map(text));
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
    if let Some(name) = url_host(text) {
        grants.hosts.insert(name);
    } else if path
        || (text.contains('/') && !text.contains("://") && !text.chars().any(|c| "*?[{\n".contains(c)))
    {
        grants.write.insert(host.absolute(text));
    }
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
    use std::path::PathBuf;

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
        assert_eq!(texts(&grants.hosts), ["api.example", "db1", "health.example"]);
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
        assert_eq!(texts(&grants.hosts), ["2001:db8::1", "db2.example", "db3"]);
        assert_eq!(texts(&grants.programs), Vec::<&str>::new());
    }
}
