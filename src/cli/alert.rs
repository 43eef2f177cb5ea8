//! `lifeboat alert`: whether alerts arrive.

use crate::base::failure::{Code, Exit, Failure};
use crate::cli::global::Context;
use crate::engine::alert;
use crate::journal::store::ChannelResult;

/// Alerts and their channels
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Send a test alert through every channel that is set
    ///
    /// The channels are set in the environment or in `.env`: BACKUP_WEBHOOK_URL (with BACKUP_WEBHOOK_FORMAT), BACKUP_SMTP_URL with
    /// BACKUP_EMAIL_FROM and BACKUP_EMAIL_TO, BACKUP_ALERT_COMMAND. The check in BACKUP_PING_URL gets a line in its log.
    ///
    /// Exits with 1 when a channel fails, with 2 when none is set.
    ///
    /// With `--json`: an array of objects with `channel` (`webhook`, `e-mail`, `command` or `ping`), `delivered` and `detail`
    /// (the receiver, or why it failed).
    Test,
}

/// Sends the test alert.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, Failure> {
    match args.action {
        Action::Test => {}
    }
    let results = alert::test(&cx.host()?);
    if results.is_empty() {
        return Err(Failure::new(Code::Usage, "no channel is set, so no alert can be sent").hint(
            "Set BACKUP_WEBHOOK_URL, BACKUP_SMTP_URL or BACKUP_ALERT_COMMAND in the environment or in `.env`; \
             `lifeboat alert test --help` tells more.",
        ));
    }
    if cx.global.json {
        cx.screen.json(&results);
    } else {
        cx.screen.data(&results.iter().map(line).collect::<String>());
    }
    let failed = results.iter().any(|result| !result.delivered);
    Ok(if failed { Exit::Failed } else { Exit::Success })
}

fn line(result: &ChannelResult) -> String {
    let word = if result.delivered { "sent" } else { "failed" };
    format!("{word:<7} {:<8} {}\n", result.channel, result.detail)
}
