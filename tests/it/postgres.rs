//! PostgreSQL as Lifeboat meets it: sessions, queries and the catalog of a real server.

mod catalog;
mod connection;
mod query;

use crate::cluster::{PASSWORD, TestDatabase, cluster, psql};
use lifeboat::base::failure::Failure;
use lifeboat::engine::policy::{Grants, Policy};
use lifeboat::engine::session::Session as Run;
use lifeboat::sys::env::Env;
use lifeboat::sys::host::Host;
use lifeboat::sys::postgres::connection::{Session, connect};
use lifeboat::sys::postgres::settings::{Explicit, Settings, resolve};
use std::collections::BTreeMap;
use std::sync::Arc;

pub fn host() -> Arc<Host> {
    let env = [("PATH".to_owned(), std::env::var("PATH").unwrap())];
    let env = Env::of(BTreeMap::from(env), BTreeMap::new());
    Arc::new(Host::new("/nowhere".into(), "/nowhere/.lifeboat".into(), env))
}

pub fn dry(host: &Arc<Host>) -> Run {
    Run::dry(host.clone(), Policy::new(Grants::default()))
}

pub fn settings_from(variables: Vec<(&'static str, String)>) -> Settings {
    let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    resolve(&Explicit::default(), &Env::of(variables, BTreeMap::new()), None).unwrap()
}

pub fn settings(database: &TestDatabase) -> Settings {
    settings_from(database.env())
}

/// The settings with some variables changed.
pub fn changed(database: &TestDatabase, changes: &[(&'static str, &str)]) -> Settings {
    let mut variables = database.env();
    variables.retain(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    variables.extend(changes.iter().map(|(name, value)| (*name, (*value).to_owned())));
    settings_from(variables)
}

pub fn session(database: &TestDatabase) -> Session {
    connect(&host(), &settings(database)).unwrap()
}

/// The failure as lines, with the server's changing address as SERVER.
pub fn lines(failure: &Failure) -> Vec<String> {
    let socket = format!("{}:{}", cluster().socket_dir().display(), cluster().port());
    let tcp = format!("127.0.0.1:{}", cluster().port());
    std::iter::once(&failure.message)
        .chain(&failure.causes)
        .chain(&failure.hints)
        .map(|text| text.replace(&socket, "SERVER").replace(&tcp, "SERVER"))
        .collect()
}

pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A role of one test, with the password of the superuser; dropped with it.
pub struct TestRole<'a> {
    pub name: String,
    database: &'a TestDatabase,
}

impl<'a> TestRole<'a> {
    pub fn new(database: &'a TestDatabase, name: &str, attributes: &str) -> Self {
        psql(database, &format!("CREATE ROLE {} PASSWORD '{PASSWORD}' {attributes}", quoted(name)));
        Self { name: name.to_owned(), database }
    }
}

impl Drop for TestRole<'_> {
    fn drop(&mut self) {
        let name = quoted(&self.name);
        psql(self.database, &format!("DROP OWNED BY {name}"));
        psql(self.database, &format!("DROP ROLE {name}"));
    }
}
