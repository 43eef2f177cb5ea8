//! `pg_service.conf`: named sets of settings, with libpq's rules for where the file is.

use crate::base::diagnostic::did_you_mean;
use crate::base::failure::{Code, Failure};
use crate::sys::env::Env;
use crate::sys::postgres::machine::Machine;
use crate::sys::postgres::sources::{Found, Parts, part_of};
use std::path::{Path, PathBuf};

/// Where packages put the file of the whole system, unless PGSYSCONFDIR says otherwise.
const SYSTEM_FOLDERS: [&str; 2] = ["/etc/postgresql-common", "/etc"];

/// The settings of `service`.
///
/// # Errors
/// `Usage` if no file defines it or a line is malformed, `Io` if a file that is there cannot be read.
pub(super) fn look_up(
    service: &str,
    env: &Env,
    machine: &Machine,
    notes: &mut Vec<String>,
) -> Result<Parts, Failure> {
    let mut files = vec![];
    match env.value("PGSERVICEFILE") {
        Some(path) => files.push(machine.expand(path)),
        None => files.extend(machine.home.as_ref().map(|home| home.join(".pg_service.conf"))),
    }
    match env.value("PGSYSCONFDIR") {
        Some(folder) => files.push(Path::new(folder).join("pg_service.conf")),
        None => files.extend(SYSTEM_FOLDERS.iter().map(|folder| Path::new(folder).join("pg_service.conf"))),
    }
    let mut known = Vec::new();
    for path in &files {
        let Some(text) = read(path)? else { continue };
        if let Some(parts) = section(&text, service, path, &mut known, notes)? {
            return Ok(parts);
        }
    }
    let searched: Vec<String> = files.iter().map(|path| format!("`{}`", path.display())).collect();
    let failure = Failure::new(Code::Usage, format!("the service `{service}` is not defined"))
        .caused_by(format!("looked in {}", searched.join(", ")));
    Err(match did_you_mean(service, known.iter().map(String::as_str)) {
        Some(name) => failure.hint(format!("Did you mean `{name}`?")),
        None => failure.hint("Define it in one of these files, or set PGSERVICEFILE to the file that does."),
    })
}

fn read(path: &PathBuf) -> Result<Option<String>, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::io("read", path, &error)),
    }
}

/// The settings below `[service]`; the first section of that name counts.
fn section(
    text: &str,
    service: &str,
    path: &Path,
    known: &mut Vec<String>,
    notes: &mut Vec<String>,
) -> Result<Option<Parts>, Failure> {
    let mut parts: Option<Parts> = None;
    let from = format!("service `{service}` in {}", path.display());
    for (index, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            if parts.is_some() {
                break;
            }
            known.push(name.to_owned());
            if name == service {
                parts = Some(Parts::new());
            }
            continue;
        }
        let Some(parts) = &mut parts else { continue };
        let Some((name, value)) = line.split_once('=') else {
            return Err(Failure::new(Code::Usage, format!("cannot read `{}`", path.display()))
                .caused_by(format!("line {} is not `name=value`", index + 1))
                .hint("Write every setting as `name=value`, without blanks around `=` and without quotes."));
        };
        match part_of(name.trim()) {
            Some(part) if !value.trim().is_empty() => {
                let found = Found { value: value.trim().to_owned(), from: from.clone() };
                parts.entry(part).or_insert(found);
            }
            Some(_) => {}
            None if name.trim() == "application_name" => {}
            None => notes.push(format!("`{}` in {from} is not used", name.trim())),
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const FILE: &str = "# services\n[other]\nhost=db9\n\n[shop]\nhost=db1\nport=6000\ndbname=shop\npassword=hunter22\n\
                        keepalives=1\n[shop]\nhost=db2\n";

    fn machine_with(file: &str) -> (tempfile::TempDir, Machine) {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join(".pg_service.conf"), file).unwrap();
        let machine = Machine { home: Some(home.path().into()), ..Machine::default() };
        (home, machine)
    }

    #[test]
    fn the_first_section_of_that_name_counts() {
        let (home, machine) = machine_with(FILE);
        let mut notes = Vec::new();
        let Ok(parts) = look_up("shop", &Env::default(), &machine, &mut notes) else { panic!("not found") };
        let read: Vec<(&str, &str)> =
            parts.iter().map(|(part, found)| (*part, found.value.as_str())).collect();
        assert_eq!(read, [("database", "shop"), ("host", "db1"), ("password", "hunter22"), ("port", "6000")]);
        let from = format!("service `shop` in {}", home.path().join(".pg_service.conf").display());
        assert!(parts.values().all(|found| found.from == from));
        assert_eq!(notes, [format!("`keepalives` in {from} is not used")]);
    }

    #[test]
    fn the_systems_file_is_the_second_one() {
        let (_home, machine) = machine_with(FILE);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pg_service.conf"), "[far]\nhost=db7\n[shop]\nhost=db8\n").unwrap();
        let variables = [("PGSYSCONFDIR".to_owned(), folder.path().display().to_string())];
        let env = Env::of(BTreeMap::from(variables), BTreeMap::new());
        for (service, host) in [("far", "db7"), ("shop", "db1")] {
            let Ok(parts) = look_up(service, &env, &machine, &mut Vec::new()) else { panic!("{service}") };
            assert_eq!(parts["host"].value, host);
        }
    }

    #[test]
    fn an_unknown_service_and_a_malformed_line_are_refused() {
        let (home, machine) = machine_with("[shop]\nhost db1\n");
        let path = home.path().join(".pg_service.conf").display().to_string();
        let variables = [("PGSYSCONFDIR".to_owned(), "/nowhere".to_owned())];
        let env = Env::of(BTreeMap::from(variables), BTreeMap::new());
        let fail = |service: &str| match look_up(service, &env, &machine, &mut Vec::new()) {
            Ok(_) => panic!("{service} was found"),
            Err(failure) => failure,
        };
        let failure = fail("shpo");
        assert_eq!(
            failure.to_string(),
            format!("the service `shpo` is not defined: looked in `{path}`, `/nowhere/pg_service.conf`")
        );
        assert_eq!(failure.hints, ["Did you mean `shop`?"]);
        assert_eq!(fail("shop").to_string(), format!("cannot read `{path}`: line 2 is not `name=value`"));
    }
}
