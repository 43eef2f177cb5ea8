//! The beginning of every session: what the server is asked for, and what is pinned before anything else is said.

use super::settings::Settings;
use super::wire::Wire;
use std::time::Duration;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error, NoTls, config};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How often a new session tries to lift its time limits before it fails of them.
const ATTEMPTS: usize = 50;

/// What every session sets, whatever database and role say, as far as the server knows the setting.
///
/// Time limits of a role must not cut a backup, a lock is waited for as long as `pg_dump` waits, text must mean the same
/// in every session, rows must not be hidden by policies in silence, and views must not run code while tables are read
/// (CVE-2024-7348). `lc_monetary` is pinned to the database's own value, since text of `money` depends on it. Compiling costs a
/// second where the planner thinks much of a catalog that has no statistics yet.
const PINS: &str = "\
SET search_path = '';
SELECT set_config(s.name, p.value, false) FROM (VALUES
  ('lock_timeout', '60000'), ('idle_in_transaction_session_timeout', '0'),
  ('idle_session_timeout', '0'), ('transaction_timeout', '0'), ('DateStyle', 'ISO'), ('IntervalStyle', 'postgres'),
  ('extra_float_digits', '3'), ('TimeZone', 'UTC'), ('bytea_output', 'hex'), ('standard_conforming_strings', 'on'),
  ('row_security', 'off'), ('synchronize_seqscans', 'off'), ('quote_all_identifiers', 'off'),
  ('restrict_nonsystem_relation_kind', 'view, foreign-table'), ('jit', 'off'),
  ('lc_monetary', (SELECT substr(c, 13) FROM pg_db_role_setting r, unnest(r.setconfig) c WHERE r.setrole = 0
     AND r.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
     AND left(c, 12) = 'lc_monetary='))
) p(name, value) JOIN pg_settings s ON lower(s.name) = lower(p.name) WHERE p.value IS NOT NULL";

/// How a connection is encrypted.
pub(super) enum Tls {
    Never,
    Rustls(MakeRustlsConnect),
}

/// What the server is asked for first.
pub(super) fn config_of(settings: &Settings, mode: config::SslMode) -> Config {
    let mut config = Config::new();
    config
        .host(&settings.host)
        .port(settings.port)
        .dbname(&settings.database)
        .user(&settings.user)
        .application_name("lifeboat")
        .ssl_mode(mode)
        .keepalives_idle(Duration::from_secs(60));
    if let Some(address) = settings.hostaddr {
        config.hostaddr(address);
    }
    if let Some(password) = &settings.password {
        config.password(password.expose());
    }
    if let Some(options) = &settings.options {
        config.options(options);
    }
    match settings.channel_binding.as_deref() {
        Some("disable") => config.channel_binding(config::ChannelBinding::Disable),
        Some("require") => config.channel_binding(config::ChannelBinding::Require),
        _ => &mut config,
    };
    config
}

/// What a server says of itself and of the role.
pub(super) struct Greeting {
    /// Its version as a number: 150018.
    pub number: u32,
    /// Its version as it names it.
    pub version: String,
    /// Whether the role is a superuser.
    pub superuser: bool,
}

/// Connects, and pins what every session needs.
pub(super) async fn log_in(config: &Config, tls: &Tls, wire: &Wire) -> Result<(Client, Greeting), Error> {
    let client = match tls {
        Tls::Never => {
            let (client, connection) = config.connect(NoTls).await?;
            wire.attend(connection);
            client
        }
        Tls::Rustls(connector) => {
            let (client, connection) = config.connect(connector.clone()).await?;
            wire.attend(connection);
            client
        }
    };
    // On its own, for a role's time limit may be too short for the rest.
    insist(&client, "SET statement_timeout = 0").await?;
    insist(&client, PINS).await?;
    let row = client
        .query_one(
            "SELECT current_setting('server_version'), current_setting('server_version_num')::int, \
             current_setting('is_superuser') = 'on'",
            &[],
        )
        .await?;
    let number: i32 = row.try_get(1)?;
    let greeting = Greeting {
        number: u32::try_from(number).unwrap_or_default(),
        version: row.try_get(0)?,
        superuser: row.try_get(2)?,
    };
    Ok((client, greeting))
}

/// Runs statements, again if a role's time limit cuts even the one that lifts it: on a busy server it may take a millisecond, and
/// a limit that ends while it is being lifted cuts the next statement, as if somebody had asked for that.
async fn insist(client: &Client, sql: &str) -> Result<(), Error> {
    for _ in 1..ATTEMPTS {
        match client.batch_execute(sql).await {
            Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => {}
            result => return result,
        }
    }
    client.batch_execute(sql).await
}
