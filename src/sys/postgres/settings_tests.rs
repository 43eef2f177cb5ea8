use super::*;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

fn env(variables: &[(&str, &str)]) -> Env {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Env::of(variables.iter().map(owned).collect(), BTreeMap::new())
}

fn machine() -> Machine {
    Machine { user: Some("ada".into()), ..Machine::default() }
}

fn resolved(explicit: &Explicit, variables: &[(&str, &str)]) -> Settings {
    resolve_on(&machine(), explicit, &env(variables)).unwrap_or_else(|failure| panic!("{failure}"))
}

fn refused(explicit: &Explicit, variables: &[(&str, &str)]) -> Failure {
    resolve_on(&machine(), explicit, &env(variables)).unwrap_err()
}

fn none() -> Explicit {
    Explicit::default()
}

fn password(settings: &Settings) -> Option<&str> {
    settings.password.as_ref().map(|password| password.expose())
}

#[test]
fn the_guides_variables_are_enough() {
    let settings = resolved(
        &none(),
        &[
            ("DB_HOST", "db1"),
            ("DB_PORT", "5433"),
            ("DB_NAME", "shop"),
            ("DB_USER", "app"),
            ("DB_PASSWORD", "s3cr3t/p@ss w0rd"),
        ],
    );
    assert_eq!(settings.to_string(), "shop at db1:5433 as app");
    assert_eq!(settings.target(), Target::Database("db1:5433/shop".into()));
    assert_eq!(password(&settings), Some("s3cr3t/p@ss w0rd"));
    assert_eq!(
        settings.lines(),
        [
            "host from DB_HOST",
            "port from DB_PORT",
            "database from DB_NAME",
            "user from DB_USER",
            "password from DB_PASSWORD"
        ]
    );
    assert!(!format!("{settings:?}").contains("s3cr3t"), "{settings:?}");
}

#[test]
fn what_nobody_says_is_a_default_and_there_is_no_default_password() {
    let settings = resolved(&none(), &[("PGDATABASE", "shop")]);
    assert_eq!(settings.to_string(), "shop at localhost:5432 as ada");
    assert_eq!(password(&settings), None);
    assert_eq!(settings.sslmode, SslMode::Prefer);
    assert_eq!(settings.connect_timeout, Some(Duration::from_secs(10)));
    assert_eq!(
        settings.lines(),
        [
            "host by default",
            "port by default",
            "database from PGDATABASE",
            "user the operating system's user"
        ]
    );
}

#[test]
fn every_part_of_the_pg_variables_counts() {
    let settings = resolved(
        &none(),
        &[
            ("PGHOST", "db1"),
            ("PGHOSTADDR", "10.0.0.7"),
            ("PGPORT", "6000"),
            ("PGDATABASE", "shop"),
            ("PGUSER", "app"),
            ("PGPASSWORD", "hunter22"),
            ("PGSSLMODE", "verify-ca"),
            ("PGSSLROOTCERT", "/etc/db.crt"),
            ("PGCONNECT_TIMEOUT", "3"),
            ("PGOPTIONS", "-c work_mem=1MB"),
            ("PGCHANNELBINDING", "require"),
        ],
    );
    assert_eq!(settings.to_string(), "shop at db1:6000 as app");
    assert_eq!(settings.sslmode, SslMode::VerifyCa);
    let child: Vec<(&str, String)> = settings
        .child_env("-c TimeZone=UTC")
        .into_iter()
        .map(|(name, value)| (name, value.expose().to_owned()))
        .collect();
    let expected = [
        ("PGHOST", "db1"),
        ("PGPORT", "6000"),
        ("PGDATABASE", "shop"),
        ("PGUSER", "app"),
        ("PGSSLMODE", "verify-ca"),
        ("PGCONNECT_TIMEOUT", "3"),
        ("PGAPPNAME", "lifeboat"),
        ("PGPASSFILE", "/dev/null/none"),
        ("PGHOSTADDR", "10.0.0.7"),
        ("PGSSLROOTCERT", "/etc/db.crt"),
        ("PGCHANNELBINDING", "require"),
        ("PGOPTIONS", "-c work_mem=1MB -c TimeZone=UTC"),
        ("PGPASSWORD", "hunter22"),
    ];
    assert_eq!(child, expected.map(|(name, value)| (name, value.to_owned())));
}

#[test]
fn an_option_wins_part_by_part() {
    let explicit = Explicit { host: Some("db2".into()), user: Some("reader".into()), ..none() };
    let settings = resolved(
        &explicit,
        &[
            ("DATABASE_URL", "postgres://app:hunter22@db1:5433/shop"),
            ("PGHOSTADDR", "10.0.0.7"),
            ("PGPORT", "5433"),
        ],
    );
    assert_eq!(settings.to_string(), "shop at db2:5433 as reader");
    assert_eq!(settings.lines()[0], "host from the option `host`");
    // Neither the password of another user nor the address of another host goes along.
    assert_eq!(password(&settings), None);
    assert_eq!(settings.hostaddr, None);
}

#[test]
fn a_url_as_an_option_means_its_hosts_usual_port() {
    let url = Some(Secret::new("postgresql://app:s3cr3t%2Fp%40ss%20w0rd@db2/shop"));
    let settings = resolved(&Explicit { url, ..none() }, &[("DB_PORT", "5433"), ("DB_NAME", "other")]);
    assert_eq!(settings.to_string(), "shop at db2:5432 as app");
    assert_eq!(password(&settings), Some("s3cr3t/p@ss w0rd"));
    assert_eq!(settings.lines()[1], "port from the option `url`, by default");
}

#[test]
fn the_same_target_twice_is_fine() {
    let settings = resolved(
        &none(),
        &[
            ("DB_HOST", "localhost"),
            ("DB_NAME", "shop"),
            ("DB_USER", "app"),
            ("DATABASE_URL", "postgres://app:hunter22@127.0.0.1:5432/shop?sslmode=disable&schema=public"),
            ("PGUSER", "postgres"),
            ("PGPASSWORD", "other"),
        ],
    );
    assert_eq!(settings.to_string(), "shop at localhost:5432 as app");
    assert_eq!(password(&settings), Some("hunter22"));
    assert_eq!(settings.sslmode, SslMode::Disable);
    assert_eq!(
        settings.lines(),
        [
            "host from DB_HOST",
            "port from DATABASE_URL",
            "database from DB_NAME",
            "user from DB_USER",
            "password from DATABASE_URL",
            "sslmode from DATABASE_URL",
            "`schema` in DATABASE_URL is not used"
        ]
    );
}

#[test]
fn two_sources_with_different_targets_are_refused() {
    let failure = refused(
        &none(),
        &[
            ("DB_HOST", "db1"),
            ("DB_NAME", "shop"),
            ("DATABASE_URL", "postgres://app:hunter22@db1:5433/shop_test"),
        ],
    );
    assert_eq!(failure.code, Code::Usage);
    assert_eq!(failure.message, "the DB_* variables and DATABASE_URL name different databases");
    assert_eq!(
        failure.causes,
        [
            "the port is `5432` by default (not in the DB_* variables), but `5433` from DATABASE_URL",
            "the database is `shop` from DB_NAME, but `shop_test` from DATABASE_URL"
        ]
    );
    assert_eq!(
        failure.hints,
        ["Unset the one that is not meant, or say in the playbook which one is: \
          `postgres(#{ host: \"db1\", port: 5432, database: \"shop\" })`."]
    );
    let failure = refused(&none(), &[("DATABASE_URL", "postgres://db1/shop"), ("PGHOST", "db2")]);
    assert_eq!(
        failure.to_string(),
        "DATABASE_URL and the PG* variables name different databases: the host is `db1` from DATABASE_URL, but `db2` \
         from PGHOST"
    );
}

#[test]
fn an_option_settles_a_difference() {
    let variables = [("DB_HOST", "db1"), ("DB_NAME", "shop"), ("PGHOST", "db2"), ("PGDATABASE", "shop")];
    let explicit = Explicit { host: Some("db2".into()), ..none() };
    assert_eq!(resolved(&explicit, &variables).to_string(), "shop at db2:5432 as ada");
    let explicit = Explicit { database: Some("shop".into()), ..none() };
    assert_eq!(
        refused(&explicit, &variables).causes,
        ["the host is `db1` from DB_HOST, but `db2` from PGHOST"]
    );
}

#[test]
fn the_variables_in_dot_env_are_named_as_such() {
    let one = BTreeMap::from([("PGDATABASE".to_owned(), "shop".to_owned())]);
    let two = BTreeMap::from([("DB_NAME".to_owned(), "shop_dev".to_owned())]);
    let failure = resolve_on(&machine(), &none(), &Env::of(one, two)).unwrap_err();
    assert_eq!(
        failure.causes,
        ["the database is `shop_dev` from DB_NAME in .env, but `shop` from PGDATABASE"]
    );
}

#[test]
fn a_source_that_names_none_is_an_error_with_the_variables() {
    let failure = refused(&none(), &[("DB_HOST", "db1"), ("DB_PASSWORD", "hunter22"), ("DB_NAME", "")]);
    assert_eq!(
        failure.to_string(),
        "no database is named: neither the playbook nor DB_NAME, DATABASE_URL, PGDATABASE or PGSERVICE says which one \
         is meant"
    );
    assert_eq!(
        failure.hints,
        [
            "Set DB_NAME (with DB_HOST, DB_PORT, DB_USER and DB_PASSWORD as needed), or DATABASE_URL, or PGDATABASE \
             (with PGHOST, PGPORT, PGUSER and PGPASSWORD), in the environment or in the project's `.env`.",
            "Or name it in the playbook: `postgres(#{ database: \"shop\" })`."
        ]
    );
}

#[test]
fn a_service_wins_over_the_variables_beside_it() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join(".pg_service.conf"), "[shop]\nhost=db1\ndbname=shop\nuser=app\n")
        .unwrap();
    std::fs::write(home.path().join(".pgpass"), "db1:5432:shop:app:hunter22\n").unwrap();
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(home.path().join(".pgpass"), mode).unwrap();
    let machine = Machine { home: Some(home.path().into()), ..machine() };
    let settings = resolve_on(&machine, &none(), &env(&[("PGSERVICE", "shop"), ("PGHOST", "db9")])).unwrap();
    assert_eq!(settings.to_string(), "shop at db1:5432 as app");
    assert_eq!(password(&settings), Some("hunter22"));
    let file = |name: &str| home.path().join(name).display().to_string();
    assert_eq!(
        settings.lines(),
        [
            format!("host from service `shop` in {}", file(".pg_service.conf")),
            "port by default".to_owned(),
            format!("database from service `shop` in {}", file(".pg_service.conf")),
            format!("user from service `shop` in {}", file(".pg_service.conf")),
            format!("password from {}", file(".pgpass")),
        ]
    );
    let service = Explicit { service: Some("shop".into()), port: Some("6000".into()), ..none() };
    let settings = resolve_on(&machine, &service, &env(&[("DB_NAME", "other"), ("DB_HOST", "db9")])).unwrap();
    assert_eq!(settings.to_string(), "shop at db1:6000 as app");
}

#[test]
fn malformed_values_are_named_with_their_source() {
    let database = ("PGDATABASE", "shop");
    for (variable, value, message, hint) in [
        ("PGPORT", "54x2", "`54x2` from PGPORT is not a port", "A port is a number from 1 to 65535."),
        ("PGPORT", "0", "`0` from PGPORT is not a port", "A port is a number from 1 to 65535."),
        (
            "PGSSLMODE",
            "requir",
            "`requir` from PGSSLMODE is not an sslmode",
            "The modes are disable, allow, prefer, require, verify-ca, verify-full.",
        ),
        (
            "PGCONNECT_TIMEOUT",
            "10s",
            "`10s` from PGCONNECT_TIMEOUT is not a number of seconds",
            "Give whole seconds; 0 waits without a limit.",
        ),
        (
            "PGHOST",
            "db1,db2",
            "several hosts are named: `db1,db2`",
            "Name the one host whose database is meant.",
        ),
        (
            "PGCHANNELBINDING",
            "yes",
            "`yes` from PGCHANNELBINDING is not a channel_binding",
            "It is one of disable, prefer, require.",
        ),
    ] {
        let failure = refused(&none(), &[database, (variable, value)]);
        assert_eq!((failure.message.as_str(), failure.hints[0].as_str()), (message, hint));
    }
}

#[test]
fn the_systems_certificates_verify_names() {
    let variables = [("PGDATABASE", "shop"), ("PGSSLROOTCERT", "system")];
    assert_eq!(resolved(&none(), &variables).sslmode, SslMode::VerifyFull);
    let weak = Explicit { sslmode: Some("require".into()), ..none() };
    assert_eq!(
        refused(&weak, &variables).message,
        "sslmode `require` from the option `sslmode` is too weak for sslrootcert `system`"
    );
}
