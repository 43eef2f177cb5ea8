//! Telling the service manager how a service is: systemd's notification protocol, sd_notify(3).
//!
//! *Decision*: our own few lines. One datagram of `NAME=value` lines goes to the socket that `NOTIFY_SOCKET` names; the
//! protocol is stable by systemd's promise. Nothing that goes wrong here may keep a service from its work, so every message
//! is tried once and never waits.

use crate::base::failure::{Code, Failure};
use crate::sys::env::Env;
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The socket of the service manager.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    address: SocketAddr,
    watchdog: Option<Duration>,
}

impl NotifySocket {
    /// The one that the environment names; `None` if no service manager waits for news.
    ///
    /// # Errors
    /// `Usage` when `NOTIFY_SOCKET` names no socket that there can be.
    pub fn of(env: &Env) -> Result<Option<Self>, Failure> {
        let Some(name) = env.value("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Ok(None) };
        let unusable = |error: &dyn std::fmt::Display| {
            Failure::new(Code::Usage, format!("`NOTIFY_SOCKET` names no socket: `{name}`"))
                .caused_by(error)
                .hint("Unset it, or let systemd set it with `Type=notify`.")
        };
        let address = match name.as_bytes() {
            // An at sign stands for the zero byte of an abstract address.
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest),
            [b'/', ..] => SocketAddr::from_pathname(name),
            _ => return Err(unusable(&"it is neither an absolute path nor an abstract address")),
        };
        let address = address.map_err(|error| unusable(&error))?;
        let socket = UnixDatagram::unbound()
            .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
            .map_err(|error| unusable(&error))?;
        Ok(Some(Self { socket, address, watchdog: watchdog(env) }))
    }

    /// How often the manager wants to be told that the service lives: half of the time after which it would end it.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The service is ready, or has been re-read.
    pub fn ready(&self) -> io::Result<()> {
        self.send("READY=1")
    }

    /// The service is re-reading its configuration; [`Self::ready`] ends that.
    pub fn reloading(&self) -> io::Result<()> {
        let now = clock_gettime(ClockId::Monotonic);
        // systemd tells with it whether the news is older than its own request.
        let usec = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"))
    }

    /// The service is about to end.
    pub fn stopping(&self) -> io::Result<()> {
        self.send("STOPPING=1")
    }

    /// What the service does at this moment, in one line, without secrets.
    pub fn status(&self, text: &str) -> io::Result<()> {
        self.send(&format!("STATUS={}", text.replace(['\n', '\r'], " ")))
    }

    /// The service lives.
    pub fn alive(&self) -> io::Result<()> {
        self.send("WATCHDOG=1")
    }

    fn send(&self, message: &str) -> io::Result<()> {
        self.socket.send_to_addr(message.as_bytes(), &self.address).map(|_| ())
    }
}

/// Half of `WATCHDOG_USEC`, unless it is meant for another process.
fn watchdog(env: &Env) -> Option<Duration> {
    let meant = env.value("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(std::process::id()));
    let usec = env.value("WATCHDOG_USEC")?.parse().ok().filter(|usec: &u64| *usec > 0)?;
    meant.then(|| Duration::from_micros(usec) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn env(variables: &[(&str, &str)]) -> Env {
        Env::of(variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(), [].into())
    }

    fn heard(receiver: &UnixDatagram) -> String {
        receiver.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut buffer = [0; 4096];
        let length = receiver.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn the_manager_hears_what_the_service_tells() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let abstract_name = format!("lifeboat-notify-{}", std::process::id());
        for (name, receiver) in [
            (path.display().to_string(), UnixDatagram::bind(&path).unwrap()),
            (
                format!("@{abstract_name}"),
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&abstract_name).unwrap()).unwrap(),
            ),
        ] {
            let socket = NotifySocket::of(&env(&[("NOTIFY_SOCKET", &name)])).unwrap().unwrap();
            socket.ready().unwrap();
            assert_eq!(heard(&receiver), "READY=1");
            socket.status("2 schedules\nREADY=1").unwrap();
            assert_eq!(heard(&receiver), "STATUS=2 schedules READY=1");
            socket.reloading().unwrap();
            let told = heard(&receiver);
            let usec = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            assert!(usec.parse::<u64>().unwrap() > 0, "{told}");
            socket.alive().unwrap();
            assert_eq!(heard(&receiver), "WATCHDOG=1");
            socket.stopping().unwrap();
            assert_eq!(heard(&receiver), "STOPPING=1");
        }
    }

    #[test]
    fn a_manager_that_is_gone_or_does_not_listen_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let name = path.display().to_string();
        let socket = NotifySocket::of(&env(&[("NOTIFY_SOCKET", &name)])).unwrap().unwrap();
        let full = (0..100_000).find_map(|_| socket.alive().err()).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        drop(receiver);
        assert!(socket.alive().is_err());
    }

    #[test]
    fn what_names_no_socket_is_refused_and_nothing_is_none() {
        assert!(NotifySocket::of(&env(&[])).unwrap().is_none());
        assert!(NotifySocket::of(&env(&[("NOTIFY_SOCKET", "")])).unwrap().is_none());
        let failure = NotifySocket::of(&env(&[("NOTIFY_SOCKET", "relative")])).unwrap_err();
        expect![[r#"
            `NOTIFY_SOCKET` names no socket: `relative`
            it is neither an absolute path nor an abstract address
            Unset it, or let systemd set it with `Type=notify`."#]]
        .assert_eq(&format!("{}\n{}\n{}", failure.message, failure.causes[0], failure.hints[0]));
    }

    #[test]
    fn the_watchdog_is_fed_twice_as_often_as_it_asks() {
        let own = std::process::id().to_string();
        for (variables, expected) in [
            (&[][..], None),
            (&[("WATCHDOG_USEC", "30000000")], Some(15)),
            (&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", own.as_str())], Some(15)),
            (&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "1")], None),
            (&[("WATCHDOG_USEC", "0")], None),
            (&[("WATCHDOG_USEC", "soon")], None),
        ] {
            assert_eq!(watchdog(&env(variables)), expected.map(Duration::from_secs), "{variables:?}");
        }
    }
}
