//! Makes folders of many backups and journals of many runs, in the very formats that Lifeboat writes.

use chrono::{DateTime, FixedOffset, TimeDelta};
use lifeboat::base::backup::{Content, MANIFEST_VERSION, Manifest, Source, TableContent, Verified};
use lifeboat::base::event::{Event, Level, What};
use lifeboat::base::failure::{Code, Exit, Failure};
use lifeboat::base::ids::RunId;
use lifeboat::journal::store::{ExitFile, RunFile};
use lifeboat::sys::store::{sha256_line, sidecar};
use lifeboat::sys::stream::Digest;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The newest of what is made was made at this time; one comes every five minutes.
pub const NEWEST: &str = "2026-05-05T12:00:00+02:00";

fn at(number: usize) -> DateTime<FixedOffset> {
    let newest = DateTime::parse_from_rfc3339(NEWEST).unwrap();
    newest - TimeDelta::minutes(5 * i64::try_from(number).unwrap())
}

/// The letters of a run, each time the same.
fn run(number: usize) -> String {
    let mut left = number.wrapping_mul(7919) % 26_usize.pow(6);
    let letters: String = (0..6)
        .map(|_| {
            let letter = (b'a' + u8::try_from(left % 26).unwrap()) as char;
            left /= 26;
            letter
        })
        .collect();
    // Some begin in the same second.
    let began = at(if number % 10 == 1 { number - 1 } else { number });
    format!("{}-{letters}", began.format("%Y%m%d-%H%M%S"))
}

/// What backup `number` is called and says; the newest is number 0.
pub fn manifest(number: usize, content: &[u8]) -> Manifest {
    let created = at(number);
    let source = ["shop", "blog", "crm", "wiki"][number % 4];
    let is_intact = number % 1000 != 7;
    let tables = (0..12).map(|table| TableContent {
        table: format!("public.t{table}"),
        rows: (number * table) as u64,
        fingerprint: format!("{:032x}", number * 97 + table),
    });
    Manifest {
        version: MANIFEST_VERSION,
        file: format!("{source}_db_{}.sql.gz", created.format("%Y%m%d_%H%M%S")),
        content: Content::Sql,
        source: Source::Database { system: "7301234567890123456".into(), name: source.into() },
        selection: None,
        tag: ["hourly", "daily", "weekly", "manual", "hourly"][number % 5].into(),
        created,
        run: run(number),
        size: content.len() as u64,
        raw_size: content.len() as u64 * 9,
        sha256: Digest::of_bytes(content).to_string(),
        compression: "gzip".into(),
        members: 1,
        lifeboat: "0.1.0".into(),
        pg_dump: Some("pg_dump (PostgreSQL) 15.18".into()),
        server: Some("15.18".into()),
        recovery_point: None,
        properties: None,
        globals: None,
        tables: tables.collect(),
        entries: None,
        unreadable: vec![],
        verified: (number % 10 != 3).then(|| Verified {
            at: created + TimeDelta::minutes(1),
            intact: is_intact,
            checks: ["sha256", "gzip", "end marker", "row counts"].map(str::to_owned).into(),
            problems: if is_intact { vec![] } else { vec!["member 1 is damaged".into()] },
        }),
        drilled: None,
    }
}

/// Makes a folder of so many backups, of four sources and four tags; some were made by the guide's scripts.
pub fn backups(dir: &Path, count: usize) {
    fs::create_dir_all(dir).unwrap();
    for number in 0..count {
        let content = format!("backup {number}");
        let manifest = manifest(number, content.as_bytes());
        let path = dir.join(&manifest.file);
        fs::write(&path, &content).unwrap();
        fs::write(sidecar(&path, ".sha256"), sha256_line(&manifest.file, &manifest.sha256)).unwrap();
        if number % 100 != 99 {
            fs::write(sidecar(&path, ".json"), serde_json::to_vec_pretty(&manifest).unwrap()).unwrap();
        }
    }
}

/// Makes the records of so many runs of four playbooks below a state folder; most succeeded, some failed or were killed.
pub fn runs(state: &Path, count: usize) {
    for number in 0..count {
        let run = RunId::parse(&run(number)).unwrap();
        let dir = state.join("runs").join(run.as_str());
        fs::create_dir_all(&dir).unwrap();
        let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
        write("run.lock", "");
        write("playbook.rhai", "dump(db).gzip().save(path);\n");
        let began = at(number);
        let about = RunFile {
            version: 1,
            run,
            playbook: ["backup_database", "backup_config", "verify_backups", "rotate_backups"][number % 4]
                .into(),
            pid: 1,
            began,
            lifeboat: "0.1.0".into(),
            drill: false,
            scheduled: None,
            sources: BTreeMap::from([("playbooks/p.rhai".into(), "playbook.rhai".into())]),
        };
        write("run.json", &serde_json::to_string_pretty(&about).unwrap());
        let what = What::Log { level: Level::Info, message: format!("run {number}") };
        let event = Event { time: began, action: None, what };
        write("events.jsonl", &(serde_json::to_string(&event).unwrap() + "\n"));
        if number % 500 == 3 {
            write(
                "alert.json",
                r#"{"version": 1, "at": "2026-05-05T12:00:00Z", "delivered": true, "detail": "x"}"#,
            );
            continue;
        }
        let is_failure = number % 50 == 7;
        let ended = ExitFile {
            version: 1,
            exit: if is_failure { Exit::Failed } else { Exit::Success },
            ended: began + TimeDelta::seconds(4),
            millis: Some(4000),
            bytes: number as u64,
            warnings: vec![],
            failure: is_failure.then(|| {
                Failure::new(Code::Connect, "cannot connect to `db1`")
                    .caused_by("Connection refused")
                    .hint("Check that PostgreSQL listens on `db1:5432`.")
            }),
            owes: vec![],
            drill: None,
            resumed: 0,
        };
        write("exit.json", &serde_json::to_string_pretty(&ended).unwrap());
    }
}
