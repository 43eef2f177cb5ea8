//! The table: one row for each action, and more where an action goes several ways.

use super::world::{AnyAction, PASSWORD, World};
use crate::cluster::{options, psql_output};
use crate::project::noise;
use lifeboat::action::archive::{Archive, ArchiveOptions};
use lifeboat::action::dump::{Dump, DumpOptions};
use lifeboat::action::exec::{Exec, Variable};
use lifeboat::action::extract::{Extract, ExtractOptions};
use lifeboat::action::file::FileSource;
use lifeboat::action::gzip::Gzip;
use lifeboat::action::hash::Hash;
use lifeboat::action::notify::Notify;
use lifeboat::action::remove_database::{RemoveDatabase, RemoveOptions};
use lifeboat::action::remove_kept_files::RemoveKeptFiles;
use lifeboat::action::restore::{Restore, RestoreOptions};
use lifeboat::action::rollback_database::{RollbackDatabase, Undone};
use lifeboat::action::rollback_files::RollbackFiles;
use lifeboat::action::rotate::{Rotate, RotateOptions};
use lifeboat::action::save::{Save, SaveOptions};
use lifeboat::action::scratch_database::ScratchDatabase;
use lifeboat::action::scratch_postgres::{ScratchOptions, ScratchPostgres};
use lifeboat::action::source::BackupSource;
use lifeboat::action::verify::{Verify, VerifyOptions};
use lifeboat::action::write::Write;
use lifeboat::base::plan::Later;
use lifeboat::base::secret::Secret;
use lifeboat::sys::postgres::address::Address;
use lifeboat::sys::postgres::maintenance::Maintenance;
use lifeboat::sys::postgres::swap::Named;
use lifeboat::sys::process::Value;
use lifeboat::sys::scratch::{ScratchCluster, ScratchTarget};
use lifeboat::sys::stream::{Digest, Level};
use serde_json::json;

/// What performing an action a second time in the same run comes to.
pub enum Again {
    /// It fails and says this.
    Refuses(&'static str),
    /// It returns the same, but for these fields.
    Returns(&'static [&'static str]),
    /// It has nothing left to do and returns this.
    Idle(fn() -> serde_json::Value),
}

/// Sets up a world and makes an action.
type Make = fn(&World) -> Box<dyn AnyAction>;

/// How the world is set up for an action, and what the action then does.
pub struct Case {
    /// What is tried.
    pub name: &'static str,
    /// Sets up the world and makes the action.
    pub set_up: Make,
    /// An action of the same kind that fails.
    pub failing: Option<Make>,
    /// How its intent begins, if it destroys or replaces something.
    pub intent: Option<&'static str>,
    /// Where files are that it makes or replaces.
    pub makes: &'static [&'static str],
    /// What else of the world it may change, as text.
    pub rest: fn(&World) -> String,
    /// What a second time comes to.
    pub again: Again,
}

const KIND: Case = Case {
    name: "",
    set_up: |_| unreachable!("every case sets up its world"),
    failing: None,
    intent: None,
    makes: &[],
    rest: |_| String::new(),
    again: Again::Returns(&[]),
};

/// All cases.
pub const CASES: &[Case] = &[
    Case {
        name: "save of a dump",
        set_up: |world| save(dump(world), "backups/db/a.sql.gz"),
        failing: Some(|world| {
            let mut settings = world.settings();
            settings.password = Some(Secret::new(format!("{PASSWORD} is wrong")));
            let dump = Dump { settings, options: DumpOptions::default() };
            save(BackupSource::Dump(Box::new(dump)), "backups/db/b.sql.gz")
        }),
        makes: &[
            "backups/db/a.sql.gz",
            "backups/db/a.sql.gz.globals.sql",
            "backups/db/a.sql.gz.json",
            "backups/db/a.sql.gz.sha256",
        ],
        again: Again::Refuses("exists already"),
        ..KIND
    },
    Case {
        name: "save of an archive",
        set_up: |world| {
            world.file("tree/.env", format!("DB_PASSWORD={PASSWORD}\n"));
            world.file("tree/big", noise(6 << 20));
            save(archive(), "backups/tree/a.tar.gz")
        },
        failing: Some(|_| {
            let archive = Archive { root: "nowhere".into(), options: ArchiveOptions::default() };
            save(BackupSource::Archive(archive), "backups/tree/b.tar.gz")
        }),
        makes: &["backups/tree/a.tar.gz", "backups/tree/a.tar.gz.json", "backups/tree/a.tar.gz.sha256"],
        again: Again::Refuses("exists already"),
        ..KIND
    },
    Case {
        name: "save of a file",
        set_up: |world| {
            world.file("big", noise(6 << 20));
            save(BackupSource::File(FileSource { path: "big".into() }), "backups/file/big.gz")
        },
        failing: Some(|_| save(BackupSource::File(FileSource { path: "nowhere".into() }), "backups/file/b")),
        makes: &["backups/file/big.gz", "backups/file/big.gz.json", "backups/file/big.gz.sha256"],
        again: Again::Refuses("exists already"),
        ..KIND
    },
    Case {
        name: "save where a killed run left files",
        set_up: |world| {
            world.file("tree/a", "a");
            world.file("backups/tree/.dead.tar.gz.20251101-000000-killed.part", "half");
            world.file("backups/tree/dead.tar.gz.json", "{}");
            save(archive(), "backups/tree/a.tar.gz")
        },
        intent: Some("remove what killed runs left: .dead.tar.gz.20251101-000000-killed.part"),
        makes: &["backups/tree/a.tar.gz", "backups/tree/a.tar.gz.json", "backups/tree/a.tar.gz.sha256"],
        again: Again::Refuses("exists already"),
        ..KIND
    },
    Case {
        name: "gzip",
        set_up: |world| {
            world.file("big", noise(6 << 20));
            Box::new(Gzip { path: "big".into(), level: Level::default() })
        },
        failing: Some(|_| Box::new(Gzip { path: "nowhere".into(), level: Level::default() })),
        makes: &["big.gz"],
        again: Again::Refuses("exists already"),
        ..KIND
    },
    Case {
        name: "write",
        set_up: |_| write("reports/a.md"),
        failing: Some(|world| {
            world.file("taken", "a file");
            write("taken/a.md")
        }),
        makes: &["reports/a.md"],
        ..KIND
    },
    Case {
        name: "write of a file that is there",
        set_up: |world| {
            world.file("a.md", "old");
            write("a.md")
        },
        intent: Some("replace "),
        makes: &["a.md"],
        ..KIND
    },
    Case {
        name: "hash",
        set_up: |world| {
            world.file("big", noise(3 << 20));
            Box::new(Hash { path: "big".into() })
        },
        failing: Some(|_| Box::new(Hash { path: "nowhere".into() })),
        makes: &["big.sha256"],
        ..KIND
    },
    Case {
        name: "hash over an old digest",
        set_up: |world| {
            world.file("big", noise(3 << 20));
            world.file("big.sha256", "old");
            Box::new(Hash { path: "big".into() })
        },
        intent: Some("replace "),
        makes: &["big.sha256"],
        ..KIND
    },
    Case {
        name: "extract",
        set_up: |world| {
            packed(world, "in/a.tar");
            world.file("conf/.env", "DB_PASSWORD=another\n");
            world.file("conf/own", "own");
            extract("in/a.tar")
        },
        failing: Some(|world| {
            packed(world, "in/b.tar");
            world.file("in/b.tar.sha256", format!("{}  b.tar\n", "0".repeat(64)));
            extract("in/b.tar")
        }),
        intent: Some("replace 1 and make 1 in "),
        makes: &["conf/.env"],
        again: Again::Returns(&["added", "changed", "same", "changes", "kept"]),
        ..KIND
    },
    Case {
        name: "remove_kept_files",
        set_up: |world| {
            packed(world, "in/a.tar");
            world.file("conf/.env", "DB_PASSWORD=another\n");
            world.earlier("2025-11-09T02:00:00+00:00", &extract_of("in/a.tar"));
            Box::new(RemoveKeptFiles { kept: kept(world) })
        },
        failing: Some(|_| Box::new(RemoveKeptFiles { kept: "conf/.lifeboat-kept/nothing".into() })),
        intent: Some("remove "),
        again: Again::Refuses("nothing is kept at "),
        ..KIND
    },
    Case {
        name: "rollback_files",
        set_up: |world| {
            packed(world, "in/a.tar");
            world.file("conf/.env", "DB_PASSWORD=another\n");
            world.earlier("2025-11-09T02:00:00+00:00", &extract_of("in/a.tar"));
            rollback_of_files(world)
        },
        failing: Some(|_| Box::new(RollbackFiles { kept: "conf/.lifeboat-kept/nothing".into() })),
        intent: Some("put back 2 files in "),
        makes: &["conf/.env"],
        again: Again::Returns(&["forward"]),
        ..KIND
    },
    Case {
        name: "verify",
        set_up: |world| {
            world.file("tree/big", noise(6 << 20));
            world.earlier("2025-11-09T02:00:00+00:00", &save_of(archive(), "backups/a.tar.gz"));
            verify("backups/a.tar.gz")
        },
        failing: Some(|world| {
            world.earlier("2025-11-09T03:00:00+00:00", &save_of(archive(), "broken/b.tar.gz"));
            let mut bytes = std::fs::read(world.at("broken/b.tar.gz")).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            world.file("broken/b.tar.gz", bytes);
            verify("broken/b.tar.gz")
        }),
        intent: Some("replace "),
        makes: &["backups/a.tar.gz.json"],
        ..KIND
    },
    Case {
        name: "rotate",
        set_up: |world| {
            world.file("tree/a", "a");
            for day in 1..=4 {
                let (now, path) = (format!("2025-11-0{day}T02:00:00+00:00"), format!("backups/{day}.tar.gz"));
                world.earlier(&now, &save_of(archive(), &path));
                world.earlier(&now, &verify_of(&path));
            }
            rotate(RotateOptions { keep_last: Some(2), ..RotateOptions::default() })
        },
        failing: Some(|_| rotate(RotateOptions::default())),
        intent: Some("remove 1.tar.gz, 2.tar.gz"),
        again: Again::Idle(|| json!({"removed": [], "kept": 2, "freed": 0})),
        ..KIND
    },
    Case {
        name: "remove_database",
        set_up: |world| remove(&kept_database(world), "shop_before_20251109_020000"),
        failing: Some(|world| remove(&server_of(world), "postgres")),
        intent: Some("drop the database `shop_before_20251109_020000` (OID "),
        rest: databases,
        again: Again::Refuses("there is no database `shop_before_20251109_020000`"),
        ..KIND
    },
    Case {
        name: "restore",
        set_up: |world| {
            world.earlier("2025-11-09T02:00:00+00:00", &save_of(dump(world), "backups/db/a.sql.gz"));
            let server = own_server(world);
            restore("backups/db/a.sql.gz", &ScratchTarget { database: "postgres copy".into(), ..server })
        },
        failing: Some(|world| {
            let mut bytes = std::fs::read(world.at("backups/db/a.sql.gz")).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            world.file("broken/a.sql.gz", bytes);
            let server = std::fs::read(world.at("server.json")).unwrap();
            restore("broken/a.sql.gz", &serde_json::from_slice(&server).unwrap())
        }),
        intent: Some("rename `postgres copy_staging_20251110_020000_abcdef` to `postgres copy`"),
        rest: databases,
        again: Again::Returns(&[
            "kept",
            "kept_oid",
            "live_oid",
            "load_millis",
            "check_millis",
            "swap_millis",
        ]),
        ..KIND
    },
    Case {
        name: "rollback_database",
        set_up: |world| rollback_of(world, &kept_database(world)),
        failing: Some(|world| {
            rollback_of(world, &ScratchTarget { database: "gone".into(), ..server_of(world) })
        }),
        intent: Some(
            "swap databases: `shop` becomes `shop_undone_20251110_020000`, `shop_before_20251109_020000` becomes `shop`",
        ),
        rest: databases,
        again: Again::Refuses("is not what run 20251109-020000-abcdef left"),
        ..KIND
    },
    Case {
        name: "notify",
        set_up: |_| Box::new(Notify { status: "success".into(), message: "Backed up shop".into() }),
        rest: |world| format!("{:?}", world.host.alert()),
        ..KIND
    },
    Case {
        name: "exec",
        set_up: |_| exec("echo \"got $GIVEN\"; echo \"$GIVEN\" | base64 >&2; sleep 1.5; echo done > made"),
        failing: Some(|_| exec("echo \"cannot log in with $GIVEN\" >&2; exit 3")),
        makes: &["made"],
        again: Again::Returns(&["millis"]),
        ..KIND
    },
    Case {
        name: "scratch_postgres",
        set_up: |_| scratch("scratch"),
        failing: Some(|_| scratch(&"x".repeat(64))),
        again: Again::Returns(&["socket", "port"]),
        ..KIND
    },
    Case {
        name: "scratch_database",
        set_up: |world| {
            let server = own_server(world);
            Box::new(ScratchDatabase { server: server.settings().unwrap(), name: "Second \"one\"".into() })
        },
        failing: Some(|world| Box::new(ScratchDatabase { server: world.settings(), name: "third".into() })),
        rest: databases,
        again: Again::Refuses("already exists"),
        ..KIND
    },
];

fn save_of(source: BackupSource, path: &str) -> Save {
    let options = SaveOptions { tag: "daily".into() };
    Save { source, gzip: Some(Level::default()), path: path.into(), options }
}

fn save(source: BackupSource, path: &str) -> Box<dyn AnyAction> {
    Box::new(save_of(source, path))
}

fn dump(world: &World) -> BackupSource {
    BackupSource::Dump(Box::new(Dump { settings: world.settings(), options: DumpOptions::default() }))
}

fn archive() -> BackupSource {
    BackupSource::Archive(Archive { root: "tree".into(), options: ArchiveOptions::default() })
}

fn verify_of(path: &str) -> Verify {
    Verify { path: path.into(), options: VerifyOptions::default() }
}

fn verify(path: &str) -> Box<dyn AnyAction> {
    Box::new(verify_of(path))
}

fn rotate(options: RotateOptions) -> Box<dyn AnyAction> {
    Box::new(Rotate { dir: "backups".into(), options })
}

/// A script that is given the password.
fn exec(script: &str) -> Box<dyn AnyAction> {
    let mut exec = Exec::new(["sh", "-c", script]);
    exec.env.insert("GIVEN".into(), Variable::Set(Value::Secret(Secret::new(PASSWORD))));
    Box::new(exec)
}

fn scratch(database: &str) -> Box<dyn AnyAction> {
    Box::new(ScratchPostgres { options: ScratchOptions { database: Some(database.into()), sample: None } })
}

/// A server of the world's own.
fn own_server(world: &World) -> ScratchTarget {
    let cluster = ScratchCluster::start(&options()).unwrap();
    let server = cluster.target("postgres");
    world.file("server.json", serde_json::to_vec(&server).unwrap());
    world.host.keep_scratch(cluster);
    server
}

fn restore(path: &str, target: &ScratchTarget) -> Box<dyn AnyAction> {
    let settings = target.settings().unwrap();
    Box::new(Restore { backup: path.into(), settings, options: RestoreOptions::default() })
}

/// A server of the world's own where an earlier run has put another database in the place of `shop`, which it kept.
fn kept_database(world: &World) -> ScratchTarget {
    let server = own_server(world);
    let mark = "lifeboat {\"kind\":\"kept\",\"database\":\"shop\",\"run\":\"20251109-020000-abcdef\",\"action\":1,\
                \"at\":\"2025-11-09T02:00:00+00:00\"}";
    for sql in [
        "CREATE DATABASE shop_before_20251109_020000",
        "CREATE DATABASE shop",
        &format!("COMMENT ON DATABASE shop_before_20251109_020000 IS '{mark}'"),
    ] {
        let output = psql_output(&variables(&server), sql, &[]);
        assert!(output.status.success(), "{output:?}");
    }
    ScratchTarget { database: "shop".into(), ..server }
}

fn remove(target: &ScratchTarget, name: &str) -> Box<dyn AnyAction> {
    let (settings, options) = (target.settings().unwrap(), RemoveOptions::default());
    Box::new(RemoveDatabase { settings, name: name.into(), options })
}

fn rollback_of(world: &World, target: &ScratchTarget) -> Box<dyn AnyAction> {
    let settings = target.settings().unwrap();
    let maintenance = Maintenance::connect(&world.host, &settings).unwrap();
    let find = |name: &str| maintenance.find(name).unwrap().map(|standing| standing.oid);
    let kept = find("shop_before_20251109_020000");
    Box::new(RollbackDatabase {
        target: Address::of(&settings),
        undone: Undone::Recorded {
            run: "20251109-020000-abcdef".into(),
            live_oid: find("shop"),
            kept: kept.map(|oid| Named { name: "shop_before_20251109_020000".into(), oid }),
        },
    })
}

fn server_of(world: &World) -> ScratchTarget {
    serde_json::from_slice(&std::fs::read(world.at("server.json")).unwrap()).unwrap()
}

fn variables(server: &ScratchTarget) -> [(&'static str, String); 4] {
    [
        ("PGHOST", server.socket.display().to_string()),
        ("PGPORT", server.port.to_string()),
        ("PGUSER", server.user.clone()),
        ("PGDATABASE", server.database.clone()),
    ]
}

/// The databases of the scratch server.
fn databases(world: &World) -> String {
    let server = server_of(world);
    let output = psql_output(&variables(&server), "SELECT datname FROM pg_database ORDER BY 1", &[]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn write(path: &str) -> Box<dyn AnyAction> {
    Box::new(Write { path: path.into(), text: Later::Now("## Restore Test\n".to_owned()) })
}

/// Makes an archive that is of the same bytes in every world.
fn packed(world: &World, path: &str) {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in
        [(".env", format!("DB_PASSWORD={PASSWORD}\n").into_bytes()), ("sub/big", noise(6 << 20))]
    {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(1_760_000_000);
        tar.append_data(&mut header, name, &content[..]).unwrap();
    }
    let bytes = tar.into_inner().unwrap();
    let name = path.rsplit_once('/').unwrap().1;
    world.file(&format!("{path}.sha256"), format!("{}  {name}\n", Digest::of_bytes(&bytes)));
    world.file(path, bytes);
}

fn extract_of(path: &str) -> Extract {
    Extract { path: path.into(), dir: "conf".into(), options: ExtractOptions::default() }
}

fn extract(path: &str) -> Box<dyn AnyAction> {
    Box::new(extract_of(path))
}

fn kept(world: &World) -> std::path::PathBuf {
    std::fs::read_dir(world.at("conf/.lifeboat-kept")).unwrap().next().unwrap().unwrap().path()
}

/// Rolls back the only extraction of which something is kept.
fn rollback_of_files(world: &World) -> Box<dyn AnyAction> {
    Box::new(RollbackFiles { kept: kept(world) })
}
