//! Connection URLs, `postgres://user:password@host:port/database?sslmode=require`, with libpq's rules.

use crate::base::failure::{Code, Failure};
use crate::sys::postgres::sources::{Found, Parts, part_of};
use percent_encoding::percent_decode_str;

/// Parameters that change nothing in what Lifeboat does, and need no word.
const SILENT: [&str; 2] = ["application_name", "client_encoding"];

/// Reads a URL that came `from` somewhere; what it holds beyond our parts is noted.
///
/// # Errors
/// `Usage`; the text of the URL never stands in the message, since it may hold a password.
pub(super) fn parse(url: &str, from: &str, notes: &mut Vec<String>) -> Result<Parts, Failure> {
    let broken = |what: &str| Failure::new(Code::Usage, format!("{from} is not a connection URL: {what}"));
    let Some((scheme, rest)) = url.trim().split_once("://") else {
        return Err(broken("it has no `://`").hint(EXAMPLE));
    };
    // Database toolkits name their driver, as in `postgresql+asyncpg`.
    let family = scheme.split('+').next().unwrap_or_default();
    if !matches!(family, "postgres" | "postgresql") {
        return Err(broken("it is not one of PostgreSQL").hint(EXAMPLE));
    }
    let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = before.split_once('/').unwrap_or((before, ""));
    let (login, server) = match authority.rsplit_once('@') {
        Some((login, server)) => (login, server),
        None => ("", authority),
    };
    let (host, port) = split_server(server).ok_or_else(|| broken("its `[` has no `]`"))?;
    if !port.is_empty() && !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(broken("what follows the host's `:` is no port").hint(ENCODE));
    }
    let (user, password) = login.split_once(':').unwrap_or((login, ""));

    let mut parts = Parts::new();
    let mut set = |part: &'static str, value: &str| {
        let value = decode(value)
            .ok_or_else(|| broken(&format!("the {part} is not percent-encoded rightly")).hint(ENCODE))?;
        if !value.is_empty() {
            parts.insert(part, Found { value, from: from.to_owned() });
        }
        Ok::<(), Failure>(())
    };
    for (part, value) in
        [("user", user), ("password", password), ("host", host), ("port", port), ("database", path)]
    {
        set(part, value)?;
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match part_of(name) {
            Some(part) => set(part, value)?,
            // JDBC's way to ask for encryption, which libpq knows too.
            None if name == "ssl" && value == "true" => set("sslmode", "require")?,
            None if SILENT.contains(&name) => {}
            None => notes.push(format!("`{}` in {from} is not used", decode(name).unwrap_or_default())),
        }
    }
    Ok(parts)
}

const EXAMPLE: &str = "Write it as `postgres://user:password@host:5432/database`.";

const ENCODE: &str = "Percent-encode what is special in a user or password: `/` as `%2F`, `@` as `%40`, `:` as `%3A`, \
                      `%` as `%25`, `?` as `%3F`, a blank as `%20`.";

/// Host and port; an IPv6 address stands in brackets.
fn split_server(server: &str) -> Option<(&str, &str)> {
    match server.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            Some((address, rest.strip_prefix(':').unwrap_or(rest)))
        }
        None => Some(server.split_once(':').unwrap_or((server, ""))),
    }
}

/// The text with `%XX` decoded; `None` if a `%` begins nothing of the kind, or if it is no text.
fn decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let encoded = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    let sound =
        bytes.iter().enumerate().all(|(at, byte)| *byte != b'%' || (encoded(at + 1) && encoded(at + 2)));
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    (sound && !decoded.contains('\0')).then(|| decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> (Vec<String>, Vec<String>) {
        let mut notes = Vec::new();
        let parts = parse(url, "DATABASE_URL", &mut notes).unwrap_or_else(|failure| panic!("{failure}"));
        (parts.iter().map(|(part, found)| format!("{part}={}", found.value)).collect(), notes)
    }

    #[test]
    fn urls_are_read_as_libpq_reads_them() {
        for (url, parts) in [
            ("postgres://", &[][..]),
            ("postgresql://app@db1", &["host=db1", "user=app"]),
            ("postgres:///shop", &["database=shop"]),
            ("postgresql+asyncpg://db1/shop", &["database=shop", "host=db1"]),
            (
                "postgres://app:s3cr3t%2Fp%40ss%20w0rd@db1:5433/shop%20%C3%A9",
                &["database=shop é", "host=db1", "password=s3cr3t/p@ss w0rd", "port=5433", "user=app"],
            ),
            ("postgres://app:p@ss@db1/shop", &["database=shop", "host=db1", "password=p@ss", "user=app"]),
            ("postgres://[2001:db8::1]:6000/shop", &["database=shop", "host=2001:db8::1", "port=6000"]),
            ("postgres://%2Fvar%2Frun%2Fpg:6000/shop", &["database=shop", "host=/var/run/pg", "port=6000"]),
            (
                "postgresql:///shop?host=/var/run/pg&port=6000&user=a%26b&sslmode=require",
                &["database=shop", "host=/var/run/pg", "port=6000", "sslmode=require", "user=a&b"],
            ),
            (
                "postgres://db1/shop?ssl=true&application_name=x",
                &["database=shop", "host=db1", "sslmode=require"],
            ),
        ] {
            assert_eq!(read(url), (parts.iter().map(|part| (*part).to_owned()).collect(), vec![]), "{url}");
        }
    }

    #[test]
    fn what_is_not_used_is_noted() {
        let (_, notes) = read("postgres://db1/shop?schema=public&pool_timeout=3");
        assert_eq!(
            notes,
            ["`schema` in DATABASE_URL is not used", "`pool_timeout` in DATABASE_URL is not used"]
        );
    }

    #[test]
    fn a_broken_url_is_refused_without_showing_it() {
        for (url, message) in [
            ("shop", "it has no `://`"),
            ("mysql://app:hunter22@db1/shop", "it is not one of PostgreSQL"),
            ("postgres://app:hunter22/x@db1/shop", "what follows the host's `:` is no port"),
            ("postgres://app:hunter22%@db1/shop", "the password is not percent-encoded rightly"),
            ("postgres://app:hunter22%00@db1/shop", "the password is not percent-encoded rightly"),
            ("postgres://app:%FFhunter22@db1/shop", "the password is not percent-encoded rightly"),
            ("postgres://app:hunter22@[::1/shop", "its `[` has no `]`"),
        ] {
            let Err(failure) = parse(url, "DATABASE_URL", &mut Vec::new()) else { panic!("{url} was read") };
            assert_eq!(failure.message, format!("DATABASE_URL is not a connection URL: {message}"), "{url}");
            assert!(!format!("{failure:?}").contains("hunter22"), "{failure:?}");
        }
    }
}
