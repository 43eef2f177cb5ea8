//! What a sandbox keeps in and out.

use super::*;
use crate::base::failure::Code;
use crate::sys::env::Env;
use crate::sys::http::{self, Address};
use crate::sys::postgres::connection::connect;
use crate::sys::postgres::settings::{Explicit, resolve};
use std::os::unix::fs::symlink;

const RUN: &str = "20251110-020000-abcdef";

/// A project with some files, and its host.
fn project() -> (tempfile::TempDir, Host) {
    let dir = tempfile::tempdir().unwrap();
    let project = dir.path().join("project");
    std::fs::create_dir_all(project.join("backups")).unwrap();
    std::fs::create_dir_all(project.join("playbooks")).unwrap();
    for name in ["lifeboat.toml", "notes.txt", "playbooks/p.rhai", "backups/shop_db_20251110_020000.sql.gz"] {
        std::fs::write(project.join(name), name).unwrap();
    }
    let host = Host::new(project.clone(), project.join(".lifeboat"), Env::default());
    (dir, host)
}

fn sandbox(host: &Host, terms: Terms) -> Arc<Sandbox> {
    Arc::new(Sandbox::make(host, RUN, terms).unwrap())
}

fn files(dir: &Path) -> Vec<String> {
    let entries = walkdir::WalkDir::new(dir).sort_by_file_name().into_iter().flatten();
    let files = entries.filter(|entry| !entry.file_type().is_dir());
    files.map(|entry| entry.path().strip_prefix(dir).unwrap().display().to_string()).collect()
}

#[test]
fn an_empty_start_keeps_backups_and_playbooks_only() {
    let (_dir, host) = project();
    let all = sandbox(&host, Terms::default());
    assert_eq!(
        files(&all.project()),
        ["backups/shop_db_20251110_020000.sql.gz", "lifeboat.toml", "notes.txt", "playbooks/p.rhai"]
    );
    all.end();
    let empty = sandbox(&host, Terms { start: crate::base::drill::Start::Empty, ..Terms::default() });
    assert_eq!(
        files(&empty.project()),
        ["backups/shop_db_20251110_020000.sql.gz", "lifeboat.toml", "playbooks/p.rhai"]
    );
    empty.end();
    assert_eq!(files(&host.state().join("sandboxes")), [""; 0]);
}

#[test]
fn paths_lead_into_the_sandbox_and_back() {
    let (dir, host) = project();
    let outside = dir.path().join("elsewhere");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("x.conf"), "x").unwrap();
    let sandbox = sandbox(&host, Terms::default());
    let scratch = host.sandboxed(sandbox.clone(), &Env::default());
    for path in ["notes.txt", "a/../notes.txt", "/etc/../srv/x"] {
        let real = host.absolute(path);
        let inside = scratch.absolute(path);
        assert!(inside.starts_with(sandbox.root()), "{}", inside.display());
        assert_eq!(scratch.original(&inside), real);
        assert_eq!(scratch.absolute(&inside), inside);
        assert_eq!(scratch.shown(&inside), host.shown(&real));
    }
    assert_eq!(sandbox.inside(host.state()), sandbox.state());
    for device in ["/dev/null", "/dev/stdout", "/dev/fd/3"] {
        assert_eq!(sandbox.inside(Path::new(device)), Path::new(device));
    }
    for path in ["/dev", "/dev/shm/backups", "/dev/sda", "/dev/fd/3/x", "/dev/null/x"] {
        assert!(sandbox.inside(Path::new(path)).starts_with(sandbox.root()), "{path}");
        assert!(!sandbox.keeps(Path::new(path)), "{path}");
    }
    // What lies outside comes when it is used, and is another file from then on.
    let conf = scratch.absolute(outside.join("x.conf"));
    assert!(!conf.exists());
    sandbox.bring(&conf);
    std::fs::write(&conf, "changed").unwrap();
    sandbox.bring(&conf);
    assert_eq!(std::fs::read_to_string(&conf).unwrap(), "changed");
    assert_eq!(std::fs::read_to_string(outside.join("x.conf")).unwrap(), "x");
}

#[test]
fn links_lead_to_copies() {
    let (dir, host) = project();
    let outside = dir.path().join("elsewhere");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("x.conf"), "x").unwrap();
    let at = |name: &str| host.project().join(name);
    symlink("notes.txt", at("relative")).unwrap();
    symlink(at("notes.txt"), at("absolute")).unwrap();
    symlink("../elsewhere/x.conf", at("out")).unwrap();
    symlink(&outside, at("out_dir")).unwrap();
    symlink("/nowhere/at/all", at("dangling")).unwrap();
    let sandbox = sandbox(&host, Terms::default());
    for name in ["relative", "absolute", "out", "out_dir/x.conf"] {
        let path = sandbox.project().join(name);
        let real = path.canonicalize().unwrap();
        assert!(real.starts_with(sandbox.root().canonicalize().unwrap()), "{name}: {}", real.display());
        std::fs::write(&path, "changed").unwrap();
    }
    assert_eq!(std::fs::read_to_string(at("notes.txt")).unwrap(), "notes.txt");
    assert_eq!(std::fs::read_to_string(outside.join("x.conf")).unwrap(), "x");
    let dangling = std::fs::read_link(sandbox.project().join("dangling")).unwrap();
    assert!(dangling.starts_with(sandbox.root()), "{}", dangling.display());
}

#[test]
fn a_backup_that_a_program_could_write_into_is_a_copy() {
    let (_dir, host) = project();
    let name = "backups/shop_db_20251110_020000.sql.gz";
    let sandbox = sandbox(&host, Terms { run: vec!["sh".into()], ..Terms::default() });
    std::fs::write(sandbox.project().join(name), "damaged").unwrap();
    assert_eq!(std::fs::read_to_string(host.project().join(name)).unwrap(), name);
}

#[test]
fn nothing_but_a_scratch_server_is_reached() {
    let (_dir, host) = project();
    let sandbox = sandbox(&host, Terms::default());
    let scratch = Arc::new(host.sandboxed(sandbox, &Env::default()));
    let explicit = Explicit {
        host: Some("127.0.0.1".into()),
        database: Some("shop".into()),
        user: Some("app".into()),
        ..Explicit::default()
    };
    let settings = resolve(&explicit, &Env::default(), None).unwrap();
    let Err(failure) = connect(&scratch, &settings) else { panic!("it connected") };
    assert_eq!(failure.code, Code::Internal);
    assert_eq!(
        failure.to_string(),
        "a drill may not connect to `shop at 127.0.0.1:5432 as app`: it is none of the drill's scratch servers"
    );
    let address = Address::parse("http://127.0.0.1:9/").unwrap();
    let failure = http::get(&scratch, &address, &http::Terms::default()).unwrap_err();
    assert_eq!(failure.to_string(), "a drill may not use the network");
}

#[test]
fn writing_stays_in_the_sandbox_wherever_links_lead() {
    let (dir, host) = project();
    let elsewhere = dir.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("x"), "x").unwrap();
    let sandbox = sandbox(&host, Terms::default());
    let inside = sandbox.project();
    symlink(&elsewhere, inside.join("folder")).unwrap();
    symlink(elsewhere.join("x"), inside.join("file")).unwrap();
    for path in ["notes.txt", "new/deep.txt", "file"] {
        assert!(sandbox.keeps(&inside.join(path)), "{path}");
    }
    for path in ["folder", "folder/x", "folder/new", "new/../../../../x"] {
        assert!(!sandbox.keeps(&inside.join(path)), "{path}");
    }
    assert!(!sandbox.keeps(&elsewhere) && !sandbox.keeps(host.project()));
}
