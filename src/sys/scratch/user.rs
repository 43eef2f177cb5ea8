//! The user that a server runs as.

use crate::base::failure::{Code, Failure};
use std::path::Path;

/// Where this system's own users are listed.
const USERS: &str = "/etc/passwd";

/// Users whom root lends a server, best first.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

/// A user of this system, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub uid: u32,
    pub gid: u32,
}

/// The user that a server must change to: none unless this is root, whom PostgreSQL refuses.
pub(super) fn server_user() -> Result<Option<User>, Failure> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users =
        std::fs::read_to_string(USERS).map_err(|error| Failure::io("read", Path::new(USERS), &error))?;
    match UNPRIVILEGED.iter().find_map(|name| user_of(&users, name)) {
        Some(user) => Ok(Some(user)),
        None => Err(Failure::new(
            Code::NotFound,
            format!("PostgreSQL does not run as root, and `{USERS}` has neither `postgres` nor `nobody`"),
        )
        .hint("Run Lifeboat as an unprivileged user, or add the user `postgres`.")),
    }
}

/// The numbers of user `name` in a text such as `/etc/passwd`; root's do not count.
fn user_of(users: &str, name: &str) -> Option<User> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        (uid != 0).then_some(User { uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let users = "root:x:0:0:root:/root:/bin/bash\nnobodyelse:x:7:8::/:/bin/sh\nbroken:x\n\
                     nobody:x:65534:65533:nobody:/nonexistent:/usr/sbin/nologin\n";
        assert_eq!(user_of(users, "nobody"), Some(User { uid: 65_534, gid: 65_533 }));
        for name in ["postgres", "root", "broken", ""] {
            assert_eq!(user_of(users, name), None, "{name}");
        }
    }
}
