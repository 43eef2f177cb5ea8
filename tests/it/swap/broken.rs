//! The connection breaks while the swap is committed: what came of it is looked up, and never guessed.

use super::{Family, effects};
use crate::cluster::{PASSWORD, cluster};
use crate::postgres::{host, settings_from};
use expect_test::expect;
use lifeboat::base::failure::Failure;
use lifeboat::sys::postgres::maintenance::Maintenance;
use lifeboat::sys::postgres::swap::{Swap, Swapped};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What becomes of a connection over which COMMIT is sent.
#[derive(Clone, Copy, PartialEq)]
enum Break {
    /// The server gets it, and its answer is lost.
    After,
    /// The server never gets it.
    Before,
    /// The server gets it, and nobody reaches the server any more.
    ForGood,
}

/// A port that leads to the shared server until a COMMIT comes along, and whether one did.
fn proxy(how: Break) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let closed = Arc::new(AtomicBool::new(false));
    let broken = Arc::new(AtomicBool::new(false));
    let breaks = broken.clone();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            if closed.load(Ordering::SeqCst) {
                continue;
            }
            let server = TcpStream::connect(("127.0.0.1", cluster().port())).unwrap();
            let (from_server, to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            let cut = Arc::new(AtomicBool::new(false));
            let is_cut = (cut.clone(), closed.clone());
            std::thread::spawn(move || {
                pump(from_server, to_client, |_| {
                    !is_cut.0.load(Ordering::SeqCst) && !is_cut.1.load(Ordering::SeqCst)
                })
            });
            let (closed, breaks) = (closed.clone(), breaks.clone());
            std::thread::spawn(move || {
                let (asked, answer) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                pump(client, server, |bytes| {
                    if closed.load(Ordering::SeqCst) {
                        return false;
                    }
                    if bytes.windows(7).any(|window| window == b"COMMIT\0") {
                        cut.store(true, Ordering::SeqCst);
                        breaks.store(true, Ordering::SeqCst);
                        // Before the server can answer, which would let the other side ask again.
                        closed.store(how == Break::ForGood, Ordering::SeqCst);
                        if how != Break::Before {
                            (&answer).write_all(bytes).unwrap();
                        }
                        let _ = asked.shutdown(Shutdown::Both);
                        return false;
                    }
                    true
                });
            });
        }
    });
    (port, broken)
}

/// Passes bytes on for as long as each chunk may pass.
fn pump(mut from: TcpStream, mut to: TcpStream, mut may: impl FnMut(&[u8]) -> bool) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if !may(&buffer[..n]) || to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

fn swap(family: &Family, how: Break) -> Result<Swapped, Failure> {
    let (port, broken) = proxy(how);
    let mut variables = family.owner(&family.live);
    variables.retain(|(name, _)| !matches!(*name, "PGHOST" | "PGPORT"));
    variables.extend([("PGHOST", "127.0.0.1".to_owned()), ("PGPORT", port.to_string())]);
    // Other tests teach the shared server TLS, and what is encrypted cannot be looked into.
    variables.push(("PGSSLMODE", "disable".to_owned()));
    let maintenance = Maintenance::connect(&host(), &settings_from(variables)).unwrap();
    let staging = family.staged(&family.maintenance());
    let order = Swap { limit: Duration::from_secs(2), ..family.swap(&family.maintenance(), &staging) };
    let effects = effects();
    let token = effects.intend("swap").unwrap();
    let swapped = effects.swap_databases(&token, &maintenance, &order);
    assert!(broken.load(Ordering::SeqCst), "no COMMIT came along: {swapped:?}");
    swapped
}

fn lines(family: &Family, failure: &Failure) -> String {
    let text = family.lines(failure);
    let begin = text.find("127.0.0.1:").unwrap() + "127.0.0.1:".len();
    let port: String = text[begin..].chars().take_while(char::is_ascii_digit).collect();
    text.replace(&port, "PORT")
}

#[test]
fn a_commit_whose_answer_is_lost_is_found_out() {
    let family = Family::new("answer_lost");
    swap(&family, Break::After).unwrap();
    assert_eq!(family.which(&family.live), "new");
}

#[test]
fn a_commit_that_never_arrived_is_found_out() {
    let family = Family::new("never_sent");
    let failure = swap(&family, Break::Before).unwrap_err();
    expect![[r#"
        Connect: `LIVE_staging_20251110_020000_abcdef` did not get the name `LIVE`
          the connection to `postgres at 127.0.0.1:PORT as ROLE` broke
          the server hung up
          > `LIVE` is the same database as before.
    "#]]
    .assert_eq(&lines(&family, &failure));
    assert_eq!(family.which(&family.live), "old");
}

#[test]
fn what_nobody_can_tell_is_told_as_such() {
    let family = Family::new("nobody_knows");
    let failure = swap(&family, Break::ForGood).unwrap_err();
    let text = lines(&family, &failure);
    expect![[r#"
        Connect: nobody can tell whether `LIVE` was swapped
          the connection broke while the swap was committed
          the connection to `postgres at 127.0.0.1:PORT as ROLE` broke: the server hung up
          the connection to `postgres at 127.0.0.1:PORT as ROLE` broke: the server hung up
          > Look when the server answers again: `LIVE` is the new database if there is no `LIVE_staging_20251110_020000_abcdef` any more.
    "#]].assert_eq(&text);
    assert!(!text.contains(PASSWORD));
    assert_eq!(family.which(&family.live), "new");
}
