//! What this machine contributes to settings: its user, its home folder, its sockets and its certificates.

use crate::sys::env::Env;
use crate::sys::postgres::settings::RootCertificates;
use std::path::{Path, PathBuf};

/// Folders where packages of PostgreSQL put the server's socket, most usual first.
pub const SOCKET_DIRS: [&str; 3] = ["/var/run/postgresql", "/run/postgresql", "/tmp"];

/// Files that hold the certificates which systems trust.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What this machine contributes to settings.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Home folder of the user.
    pub home: Option<PathBuf>,
    /// Name of the user, which is PostgreSQL's default for the role.
    pub user: Option<String>,
    /// Folders that may hold the server's socket.
    pub socket_dirs: Vec<PathBuf>,
}

impl Machine {
    /// This machine.
    pub fn here(home: Option<&Path>, env: &Env) -> Self {
        Self {
            home: home.map(Path::to_path_buf),
            user: user_name(env),
            socket_dirs: SOCKET_DIRS.iter().map(PathBuf::from).collect(),
        }
    }

    /// The folder whose socket answers for `port`, else `localhost`.
    pub fn default_host(&self, port: u16) -> String {
        self.socket_dirs
            .iter()
            .find(|dir| dir.join(format!(".s.PGSQL.{port}")).exists())
            .map_or_else(|| "localhost".to_owned(), |dir| dir.display().to_string())
    }

    /// The file of passwords, where libpq looks for it too.
    pub fn password_file(&self) -> Option<PathBuf> {
        self.home.as_ref().map(|home| home.join(".pgpass"))
    }

    /// The user's own file of root certificates, if it is there.
    pub fn root_certificate(&self) -> Option<RootCertificates> {
        let path = self.home.as_ref()?.join(".postgresql/root.crt");
        path.is_file().then_some(RootCertificates::File(path))
    }

    /// The path with a leading `~/` replaced by the home folder.
    pub fn expand(&self, path: &str) -> PathBuf {
        match (path.strip_prefix("~/"), &self.home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => PathBuf::from(path),
        }
    }

    /// What to give as `PGSSLROOTCERT` for the system's certificates: their file, which every version of libpq can
    /// read, else `system`, which versions from 16 on understand.
    pub fn system_roots() -> String {
        BUNDLES.iter().find(|path| Path::new(path).is_file()).map_or("system", |path| path).to_owned()
    }
}

/// The name of the user that runs this process. A user who is in no local file, such as one of a directory service, is
/// known by USER or LOGNAME only.
fn user_name(env: &Env) -> Option<String> {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let file = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_of(&uid, &file).or_else(|| env.value("USER").or_else(|| env.value("LOGNAME")).map(str::to_owned))
}

fn name_of(uid: &str, passwd: &str) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1) == Some(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_found_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n+\n\nada:x:1000:1000::/home/ada:/bin/sh\n";
        assert_eq!(name_of("1000", passwd).as_deref(), Some("ada"));
        assert_eq!(name_of("0", passwd).as_deref(), Some("root"));
        assert_eq!(name_of("1", passwd), None);
    }

    #[test]
    fn the_host_by_default_is_the_folder_with_the_ports_socket() {
        let dir = tempfile::tempdir().unwrap();
        let machine =
            Machine { socket_dirs: vec!["/nowhere".into(), dir.path().into()], ..Machine::default() };
        assert_eq!(machine.default_host(5432), "localhost");
        std::fs::write(dir.path().join(".s.PGSQL.5432"), "").unwrap();
        assert_eq!(machine.default_host(5432), dir.path().display().to_string());
        assert_eq!(machine.default_host(5433), "localhost");
    }
}
