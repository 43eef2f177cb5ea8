//! `lifeboat daemon`: schedules and watches in one process.

use crate::base::event::Level;
use crate::base::failure::{Code, Exit, Failure};
use crate::base::notice::Kind;
use crate::cli::global::{Context, Global};
use crate::cli::reserved;
use crate::cli::run::{Stopped, duration};
use crate::cli::sinks::PlainSink;
use crate::daemon::orders;
use crate::daemon::service::{Pulse, Service, Woken, project_args, wakes};
use crate::engine::alert::{self, Raised};
use crate::engine::metrics;
use crate::script::launch::tell_of_killed_runs;
use crate::sys::host::Host;
use crate::sys::http_server::{self, Page, Pages, SocketAddr};
use crate::sys::program;
use crate::sys::signals::{self, Asked};
use chrono::Utc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// An address that cannot be had is tried again after this time.
const AGAIN: Duration = Duration::from_secs(60);
/// So long the last alerts may take when the daemon ends.
const LAST_ALERTS: Duration = Duration::from_secs(40);

/// Run what is scheduled, and what watches files, in one long-running process
///
/// Each run is a process of its own, on record and with alerts as a run by hand. Instants that passed while nothing was there
/// are made up for as the schedule's `missed` says; a run whose playbook still runs is left out, waits, or takes over, as its
/// `overlap` says. Playbooks with `watch` in their header run when those files change.
///
/// SIGTERM lets the current steps end, within `--grace`; a second one does not wait; the exit code is then 0. SIGHUP reads the
/// playbooks again, and keeps the old set if one of them does not lint. Under systemd (`Type=notify`) it tells that it is
/// ready and alive. Only one daemon runs in a project; cron, people and it share locks and records, so no instant runs twice.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these playbooks [default: all with a schedule or a watch]
    #[arg(value_name = "PLAYBOOK")]
    playbooks: Vec<String>,
    /// How long the current step of a run may go on after SIGTERM
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30s")]
    grace: Duration,
    /// Serve `/metrics` (Prometheus) and `/healthz` here, for example `127.0.0.1:9732`
    #[arg(long, value_name = "ADDRESS:PORT", env = "LIFEBOAT_LISTEN")]
    listen: Option<SocketAddr>,
}

/// Works until it is asked to end.
pub fn run(args: &Args, global: &Global) -> Result<Exit, Stopped> {
    let cx = Context::new(global.clone())?;
    if cx.global.dry_run {
        return Err(Failure::new(Code::Usage, "a daemon has no dry run")
            .hint("`lifeboat schedule` shows what would run when.")
            .into());
    }
    let host = cx.host()?;
    host.listen(Arc::new(PlainSink::new(cx.screen.clone(), cx.global.detail())));
    let (send, woken) = wakes();
    let signal = send.clone();
    signals::listen(move |asked| {
        // Nobody listens any more once the daemon ends.
        let _ = signal.send(match asked {
            Asked::End => Woken::End,
            Asked::Reload => Woken::Reload,
        });
    })?;
    let pulse = Arc::new(Pulse::default());
    let tell: Tell = {
        let (screen, host, quiet) = (cx.screen.clone(), host.clone(), cx.global.quiet);
        Arc::new(move |level, message| {
            if !quiet || level == Level::Error {
                screen.talk(&format!("{}{}\n", level.pattern(), host.masker().mask(message)));
            }
        })
    };
    let alarms = Alarms::begin(host.clone())?;
    if let Some(address) = args.listen {
        if !address.ip().is_loopback() {
            tell(
                Level::Warn,
                &format!("`{address}` is reached by other machines, and whoever reaches it is served"),
            );
        }
        serve(&host, address, pages(&host, &pulse), &tell, &alarms)?;
    }
    let reserved = reserved();
    let service = Service {
        host: host.clone(),
        program: program::executable()?,
        args: project_args(&cx.project),
        grace: args.grace,
        orders: &|| {
            host.reread_env()?;
            orders::read(&host, &cx.library(), &reserved, &args.playbooks)
        },
        tell: &*tell,
        alarm: &|key, message| alarms.raise(key, message),
        catch_up: Arc::new({
            let host = host.clone();
            move || tell_of_killed_runs(&host)
        }),
        pulse: pulse.clone(),
    };
    let ended = service.run(&woken, send);
    // A person at a terminal sees it, and one daemon that works is enough.
    if let Err(failure) = &ended
        && failure.code != Code::Locked
        && !cx.screen.live
    {
        alarms.raise("begin", &format!("the daemon does not run: {failure}"));
    }
    alarms.end();
    Ok(ended?)
}

type Tell = Arc<dyn Fn(Level, &str) + Send + Sync>;

/// Sends alerts on a thread of its own: a channel that does not answer takes half a minute, in which schedules are due.
struct Alarms {
    send: Sender<Raised>,
    over: Receiver<()>,
}

impl Alarms {
    fn begin(host: Arc<Host>) -> Result<Self, Failure> {
        let (send, raised) = channel();
        let (told, over) = channel();
        std::thread::Builder::new()
            .name("lifeboat-alarms".to_owned())
            .spawn(move || {
                for raised in raised {
                    alert::raise(&host, raised);
                }
                let _ = told.send(());
            })
            .map_err(|error| Failure::new(Code::Internal, "cannot send alerts").caused_by(error))?;
        Ok(Self { send, over })
    }

    fn raise(&self, key: &str, message: &str) {
        // Its thread ends after this does.
        let _ = self.send.send(Raised {
            kind: Kind::Failed,
            key: format!("daemon: {key}"),
            status: "error".to_owned(),
            message: message.to_owned(),
        });
    }

    /// Waits for what is on its way, so that it is sent, or kept for the next chance.
    fn end(self) {
        drop(self.send);
        let _ = self.over.recv_timeout(LAST_ALERTS);
    }
}

/// Serves pages. An address that cannot be had is tried again, since backups matter more than what tells of them.
fn serve(
    host: &Arc<Host>,
    address: SocketAddr,
    pages: Pages,
    tell: &Tell,
    alarms: &Alarms,
) -> Result<(), Failure> {
    let told = |address| format!("http://{address}/metrics and http://{address}/healthz are served");
    match http_server::serve(host, address, pages.clone()) {
        Ok(address) => tell(Level::Info, &told(address)),
        Err(failure) if failure.code == Code::Io => {
            let message = format!("metrics are not served, which is tried each minute: {failure}");
            tell(Level::Error, &message);
            alarms.raise("listen", &message);
            let (host, tell) = (Arc::downgrade(host), tell.clone());
            std::thread::spawn(move || {
                loop {
                    std::thread::sleep(AGAIN);
                    let Some(host) = host.upgrade() else { return };
                    if let Ok(address) = http_server::serve(&host, address, pages.clone()) {
                        tell(Level::Info, &told(address));
                        return;
                    }
                }
            });
        }
        Err(failure) => return Err(failure),
    }
    Ok(())
}

/// What is served.
fn pages(host: &Arc<Host>, pulse: &Arc<Pulse>) -> Pages {
    let (host, pulse) = (Arc::downgrade(host), pulse.clone());
    const TEXT: &str = "text/plain; charset=utf-8";
    Arc::new(move |path| {
        let host = host.upgrade()?;
        match path {
            "/healthz" => {
                let alive = pulse.is_alive(host.clock().now().with_timezone(&Utc));
                let (status, text) =
                    if alive { (200, "ok\n") } else { (503, "the daemon does not look at its schedules\n") };
                Some(Page { status, kind: TEXT, text: text.to_owned() })
            }
            "/metrics" => Some(Page {
                status: 200,
                kind: "text/plain; version=0.0.4; charset=utf-8",
                text: metrics::text(&host),
            }),
            _ => None,
        }
    })
}
