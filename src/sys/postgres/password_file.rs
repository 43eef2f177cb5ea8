//! `.pgpass`: passwords by host, port, database and user, with libpq's rules.

use crate::base::failure::Failure;
use crate::base::secret::Secret;
use crate::sys::postgres::machine::SOCKET_DIRS;
use crate::sys::postgres::settings::Settings;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The password that `path` holds for these settings, and where it came from.
///
/// A file that others may read is not used, as in libpq, and that is noted.
///
/// # Errors
/// `Io` if a file that is there cannot be read.
pub(super) fn look_up(
    path: &Path,
    settings: &Settings,
    notes: &mut Vec<String>,
) -> Result<Option<(Secret, String)>, Failure> {
    let meta = match path.metadata() {
        Ok(meta) => meta,
        Err(_) => return Ok(None),
    };
    if !meta.is_file() {
        // `PGPASSFILE=/dev/null` is the usual way to have none.
        return Ok(None);
    }
    let mode = meta.mode() & 0o777;
    if mode & 0o077 != 0 {
        let shown = path.display();
        notes.push(format!(
            "`{shown}` is not used, since others may access it (mode {mode:04o}): `chmod 600 {shown}`"
        ));
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).map_err(|error| Failure::io("read", path, &error))?;
    Ok(password_in(&text, settings).map(|password| (Secret::new(password), path.display().to_string())))
}

/// The password of the first line that fits.
fn password_in(text: &str, settings: &Settings) -> Option<String> {
    // A socket in one of the usual folders is called `localhost` there.
    let is_usual = SOCKET_DIRS.contains(&settings.host.as_str());
    let port = settings.port.to_string();
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields(line);
        let [host, port_field, database, user, password] = fields.as_slice() else { return None };
        let fits = |field: &Field, value: &str| field.is_wildcard() || field.text == value;
        let host_fits = fits(host, &settings.host) || (is_usual && host.text == "localhost");
        (host_fits
            && fits(port_field, &port)
            && fits(database, &settings.database)
            && fits(user, &settings.user)
            && !password.text.is_empty())
        .then(|| password.text.clone())
    })
}

struct Field {
    text: String,
    escaped: bool,
}

impl Field {
    /// A star that stands for anything; an escaped one is a star.
    fn is_wildcard(&self) -> bool {
        self.text == "*" && !self.escaped
    }
}

/// The five fields of a line. `\:` and `\\` stand for `:` and `\`; the password ends with the line or the next `:`.
fn fields(line: &str) -> Vec<Field> {
    let mut fields = Vec::new();
    let mut field = Field { text: String::new(), escaped: false };
    let mut chars = line.trim_end_matches('\r').chars();
    while let Some(c) = chars.next() {
        match c {
            ':' if fields.len() == 4 => break,
            ':' => {
                fields.push(std::mem::replace(&mut field, Field { text: String::new(), escaped: false }));
            }
            '\\' => {
                field.escaped = true;
                field.text.extend(chars.next());
            }
            c => field.text.push(c),
        }
    }
    fields.push(field);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::env::Env;
    use crate::sys::postgres::settings::{Explicit, resolve};
    use std::os::unix::fs::PermissionsExt as _;

    fn settings(host: &str, database: &str, user: &str) -> Settings {
        let explicit = Explicit {
            host: Some(host.into()),
            database: Some(database.into()),
            user: Some(user.into()),
            ..Explicit::default()
        };
        resolve(&explicit, &Env::default(), None).unwrap()
    }

    #[test]
    fn lines_fit_as_in_libpq() {
        let shop = settings("db1", "shop", "app");
        let odd = settings("/srv/pg:x", "a:b\\c", "*");
        let socket = settings("/var/run/postgresql", "shop", "app");
        for (text, settings, password) in [
            ("db1:5432:shop:app:hunter22", &shop, Some("hunter22")),
            ("#db1:5432:shop:app:no\n*:*:*:*:s3cr3t/p@ss w0rd", &shop, Some("s3cr3t/p@ss w0rd")),
            ("db1:5432:shop:app:a\\:b\\\\c:ignored", &shop, Some("a:b\\c")),
            ("db1:5433:shop:app:no\ndb2:*:*:*:no\n*:*:other:*:no", &shop, None),
            ("db1:5432:shop:app:first\ndb1:5432:shop:app:second", &shop, Some("first")),
            ("db1:5432:shop:app:\r\ndb1:5432:shop:app:crlf\r\n", &shop, Some("crlf")),
            ("/srv/pg\\:x:5432:a\\:b\\\\c:\\*:star", &odd, Some("star")),
            ("*:*:*:\\*:star", &shop, None),
            ("localhost:5432:shop:app:socket", &socket, Some("socket")),
            ("/var/run/postgresql:5432:shop:app:socket", &socket, Some("socket")),
            ("localhost:5432:shop:app:no", &shop, None),
            ("db1:5432:shop:app", &shop, None),
            ("", &shop, None),
        ] {
            assert_eq!(password_in(text, settings).as_deref(), password, "{text}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_not_used() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "*:*:*:*:hunter22\n").unwrap();
        let shop = settings("db1", "shop", "app");
        let read = |mode| {
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            let mut notes = Vec::new();
            let found = look_up(file.path(), &shop, &mut notes).unwrap();
            (found.map(|(password, from)| (password.expose().to_owned(), from)), notes)
        };
        let shown = file.path().display().to_string();
        let found = Some(("hunter22".to_owned(), shown.clone()));
        assert_eq!(read(0o600), (found.clone(), vec![]));
        assert_eq!(read(0o400), (found, vec![]));
        let note =
            format!("`{shown}` is not used, since others may access it (mode 0640): `chmod 600 {shown}`");
        assert_eq!(read(0o640), (None, vec![note]));
        let mut notes = Vec::new();
        assert_eq!(look_up(Path::new("/dev/null"), &shop, &mut notes).unwrap(), None);
        assert_eq!(look_up(Path::new("/nowhere/pgpass"), &shop, &mut notes).unwrap(), None);
        assert!(notes.is_empty());
    }
}
