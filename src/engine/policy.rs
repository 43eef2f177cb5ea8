//! What a playbook may do. Without a policy file: programs named literally in the playbook and tools that Lifeboat
//! ships with, files below the project and below folders given as parameters, hosts named literally or by parameters,
//! and named environment variables.

use crate::base::failure::{Code, Failure};
use crate::base::plan::Need;
use crate::sys::fs;
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// PostgreSQL's own programs, which Lifeboat calls itself.
const SHIPPED: [&str; 7] =
    ["pg_dump", "pg_dumpall", "pg_restore", "psql", "initdb", "postgres", "pg_isready"];

/// What is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Program names or paths, as written in the playbook.
    pub programs: BTreeSet<String>,
    /// Folders, absolute, below which files may be read.
    pub read: BTreeSet<PathBuf>,
    /// Folders, absolute, below which files may be written; they may be read as well.
    pub write: BTreeSet<PathBuf>,
    /// Host names or addresses.
    pub hosts: BTreeSet<String>,
    /// Names of environment variables.
    pub env: BTreeSet<String>,
}

/// Decides by grants.
#[derive(Clone, Debug)]
pub struct Policy {
    grants: Grants,
    /// Files and folders that are never written, whatever is granted.
    guarded: Vec<PathBuf>,
    /// The state folder, into which nothing is ever restored either.
    state: Option<PathBuf>,
    /// Hosts that the machine's own environment names since it was read again.
    more_hosts: Arc<Mutex<BTreeSet<String>>>,
}

impl Policy {
    /// A policy that allows `grants` and the shipped tools.
    pub fn new(grants: Grants) -> Self {
        Self { grants, guarded: Vec::new(), state: None, more_hosts: Arc::default() }
    }

    /// The same policy, which never lets a playbook write playbooks and modules, the project's configuration, or the
    /// state folder: with these a playbook would decide what the next one may do, or what is remembered of it.
    #[must_use]
    pub fn guarding(mut self, project: &Path, state: &Path) -> Self {
        self.guarded = ["playbooks", "stdlib", "lifeboat.toml", ".env"].map(|name| project.join(name)).into();
        self.guarded.push(state.to_path_buf());
        self.state = Some(state.to_path_buf());
        self
    }

    /// Allows hosts that the machine's environment names by now: it was read again after it had been restored.
    pub fn allow_hosts(&self, hosts: impl IntoIterator<Item = String>) {
        self.more_hosts.lock().unwrap_or_else(PoisonError::into_inner).extend(hosts);
    }

    /// The grants.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Refuses the first need that nothing allows.
    pub fn authorize(&self, needs: &[Need], verb: &str) -> Result<(), Failure> {
        let mut real = Real::new(self);
        for need in needs {
            if let Need::Write(path) = need
                && self.is_guarded(path)
            {
                return Err(guarded(path, verb));
            }
            if let Need::Restore(path) = need {
                let place = real.unfollowed(path);
                if real.state().is_some_and(|state| place.starts_with(state)) {
                    return Err(never_restored(path, verb));
                }
            }
            if !self.allows(need, &mut real) {
                return Err(refusal(need, verb));
            }
        }
        Ok(())
    }

    fn is_guarded(&self, path: &Path) -> bool {
        let real = fs::resolved(path);
        self.guarded.iter().any(|guarded| real.starts_with(fs::resolved(guarded)))
    }

    fn allows<'a>(&self, need: &'a Need, real: &mut Real<'a>) -> bool {
        match need {
            Need::Program(name) => SHIPPED.contains(&name.as_str()) || self.grants.programs.contains(name),
            Need::Read(path) => below(path, &self.grants.read) || below(path, &self.grants.write),
            Need::Write(path) => below(path, &self.grants.write),
            Need::Restore(path) => {
                let place = real.unfollowed(path);
                real.write().iter().any(|folder| place.starts_with(folder))
            }
            Need::Host(host) => {
                let host = host.to_ascii_lowercase();
                self.grants.hosts.contains(&host)
                    || self.more_hosts.lock().unwrap_or_else(PoisonError::into_inner).contains(&host)
            }
            Need::Env(name) => self.grants.env.contains(name),
        }
    }
}

/// Whether `path` lies below one of the folders, links resolved on both sides as far as the path exists.
fn below(path: &Path, folders: &BTreeSet<PathBuf>) -> bool {
    let real = fs::resolved(path);
    folders.iter().any(|folder| real.starts_with(fs::resolved(folder)))
}

/// Where things really are. An action may restore very many files in few folders, so each is looked up once.
struct Real<'a> {
    policy: &'a Policy,
    state: OnceCell<Option<PathBuf>>,
    write: OnceCell<Vec<PathBuf>>,
    /// The folder that was looked up last.
    folder: Option<(&'a Path, PathBuf)>,
}

impl<'a> Real<'a> {
    fn new(policy: &'a Policy) -> Self {
        Self { policy, state: OnceCell::new(), write: OnceCell::new(), folder: None }
    }

    fn state(&self) -> Option<&Path> {
        self.state.get_or_init(|| self.policy.state.as_deref().map(fs::resolved)).as_deref()
    }

    fn write(&self) -> &[PathBuf] {
        let resolved = || self.policy.grants.write.iter().map(|folder| fs::resolved(folder)).collect();
        self.write.get_or_init(resolved)
    }

    /// Where a path is that is replaced itself, should it be a link: only the folders above it are resolved.
    fn unfollowed(&mut self, path: &'a Path) -> PathBuf {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return path.to_path_buf();
        };
        // Compared as text: how a path is written may decide where it leads.
        match &self.folder {
            Some((folder, real)) if folder.as_os_str() == parent.as_os_str() => real.join(name),
            _ => self.folder.insert((parent, fs::resolved(parent))).1.join(name),
        }
    }
}

fn guarded(path: &Path, verb: &str) -> Failure {
    Failure::new(Code::Policy, format!("`{verb}` may not write `{}`", path.display()))
        .caused_by(
            "playbooks, their modules, configuration and Lifeboat's own state are never written by a playbook",
        )
        .hint("Choose another folder; backups belong in one of their own, for example `backups`.")
}

fn never_restored(path: &Path, verb: &str) -> Failure {
    Failure::new(Code::Policy, format!("`{verb}` may not write `{}`", path.display()))
        .caused_by("Lifeboat's own state is never restored: it would tell of other runs than those that were")
        .hint("Leave it out with `except`.")
}

fn refusal(need: &Need, verb: &str) -> Failure {
    let (what, hint) = match need {
        Need::Program(name) => (
            format!("run `{name}`"),
            "Name the program literally in the playbook, for example `exec([\"npm\", \"ci\"])`; a name made while the \
             playbook runs is not allowed."
                .to_owned(),
        ),
        Need::Read(path) => (
            format!("read `{}`", path.display()),
            "Reading is allowed below the project and below folders given as parameters: make this folder a parameter."
                .to_owned(),
        ),
        Need::Write(path) | Need::Restore(path) => (
            format!("write `{}`", path.display()),
            "Writing is allowed below the project and below folders given as parameters: make this folder a parameter."
                .to_owned(),
        ),
        Need::Host(host) => (
            format!("talk to `{host}`"),
            "Name the host literally in the playbook, or make its URL a parameter.".to_owned(),
        ),
        Need::Env(name) => (
            format!("read the environment variable `{name}`"),
            format!("Name it literally in the playbook: `env(\"{name}\")`, or let a parameter say `env: \"{name}\"`."),
        ),
    };
    Failure::new(Code::Policy, format!("`{verb}` may not {what}"))
        .caused_by("the policy does not allow it")
        .hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy::new(Grants {
            programs: ["npm".to_owned()].into(),
            write: [PathBuf::from("/srv/app")].into(),
            hosts: ["db1".to_owned()].into(),
            env: ["TOKEN".to_owned()].into(),
            ..Grants::default()
        })
    }

    #[test]
    fn what_is_granted_is_allowed() {
        let needs = [
            Need::Program("npm".into()),
            Need::Program("pg_dump".into()),
            Need::Write("/srv/app/backups".into()),
            Need::Read("/srv/app".into()),
            Need::Host("DB1".into()),
            Need::Env("TOKEN".into()),
        ];
        assert_eq!(policy().authorize(&needs, "exec"), Ok(()));
    }

    #[test]
    fn each_of_many_needs_is_held_against_where_it_really_is() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("app/.lifeboat")).unwrap();
        std::fs::create_dir(at("other")).unwrap();
        std::os::unix::fs::symlink("../other", at("app/away")).unwrap();
        std::os::unix::fs::symlink(".lifeboat", at("app/state")).unwrap();
        let policy = Policy::new(Grants { write: [at("app")].into(), ..Grants::default() })
            .guarding(&at("app"), &at("app/.lifeboat"));
        let refused = |names: &[&str]| {
            let needs: Vec<Need> = names.iter().map(|name| Need::Restore(at(name))).collect();
            policy.authorize(&needs, "extract").err().map(|failure| failure.message)
        };
        let message = |name: &str| Some(format!("`extract` may not write `{}`", at(name).display()));
        assert_eq!(refused(&["app/a", "app/b", "app/new/c", "app/new/d", "app/away", "app/e"]), None);
        assert_eq!(refused(&["app/a", "app/away", "app/away/a", "app/b"]), message("app/away/a"));
        assert_eq!(refused(&["app/a", "app/b", "other/a"]), message("other/a"));
        assert_eq!(refused(&["app/a", "app/state/runs/x"]), message("app/state/runs/x"));
        assert_eq!(refused(&["app/a", "app/.lifeboat"]), message("app/.lifeboat"));
    }

    #[test]
    fn what_decides_about_playbooks_is_never_written() {
        let policy = policy().guarding(Path::new("/srv/app"), Path::new("/srv/app/.lifeboat"));
        let refused = |path: &str| policy.authorize(&[Need::Write(path.into())], "save").err();
        for path in
            ["playbooks/x.gz", "playbooks", "stdlib/m.rhai", ".lifeboat/runs", "lifeboat.toml", ".env"]
        {
            let failure = refused(&format!("/srv/app/{path}")).unwrap();
            assert_eq!(failure.code, Code::Policy);
            assert_eq!(failure.message, format!("`save` may not write `/srv/app/{path}`"));
            assert_eq!(
                failure.causes,
                [
                    "playbooks, their modules, configuration and Lifeboat's own state are never written by a playbook"
                ]
            );
        }
        assert_eq!(refused("/srv/app/backups/.env"), None);
        assert_eq!(policy.authorize(&[Need::Read("/srv/app/playbooks".into())], "save"), Ok(()));
    }

    #[test]
    fn a_backup_restores_what_no_playbook_writes_but_the_state() {
        let policy = policy().guarding(Path::new("/srv/app"), Path::new("/srv/app/.lifeboat"));
        let restore = |path: &str| policy.authorize(&[Need::Restore(path.into())], "extract").err();
        for path in ["", ".env", "playbooks/x.rhai", "stdlib/m.rhai", "lifeboat.toml", "config/a"] {
            assert_eq!(restore(&format!("/srv/app/{path}")), None, "{path}");
        }
        for path in [".lifeboat", ".lifeboat/runs/x"] {
            let failure = restore(&format!("/srv/app/{path}")).unwrap();
            assert_eq!(failure.message, format!("`extract` may not write `/srv/app/{path}`"));
            assert_eq!(
                failure.causes,
                ["Lifeboat's own state is never restored: it would tell of other runs than those that were"]
            );
            assert_eq!(failure.hints, ["Leave it out with `except`."]);
        }
        assert_eq!(restore("/etc/passwd").unwrap().message, "`extract` may not write `/etc/passwd`");
    }

    #[test]
    fn the_rest_is_refused_with_a_remedy() {
        let refused = |need| policy().authorize(&[need], "exec").unwrap_err();
        assert_eq!(refused(Need::Program("rm".into())).message, "`exec` may not run `rm`");
        assert_eq!(
            refused(Need::Write("/srv/application".into())).message,
            "`exec` may not write `/srv/application`"
        );
        assert_eq!(refused(Need::Read("/etc/passwd".into())).message, "`exec` may not read `/etc/passwd`");
        assert_eq!(refused(Need::Host("evil".into())).message, "`exec` may not talk to `evil`");
        let env = refused(Need::Env("AWS_KEY".into()));
        assert_eq!(env.message, "`exec` may not read the environment variable `AWS_KEY`");
        assert_eq!(
            env.hints,
            [
                "Name it literally in the playbook: `env(\"AWS_KEY\")`, or let a parameter say `env: \"AWS_KEY\"`."
            ]
        );
    }
}
