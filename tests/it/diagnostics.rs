//! `LIFEBOAT_LOG`: what the program itself does, on stderr, without secrets.

use crate::cluster::database;
use crate::project::TestProject;

#[test]
fn the_host_tells_what_it_does_and_no_secret() {
    let source = database("diagnostics");
    let project = TestProject::new()
        .database(&source)
        .env("BACKUP_WEBHOOK_URL", "http://127.0.0.1:9/services/t0k3n-value")
        .env("LIFEBOAT_LOG", "trace");
    let ran = project.run(&["backup_database"]).exits(0);
    for told in
        ["locked target=", "connected settings=", "spawned program=", "staged path=", "published path="]
    {
        assert!(ran.stderr.contains(told), "{told}: {}", ran.stderr);
    }
    for told in ["planned action=\"save\"", "executed action=\"save\" number=1"] {
        assert!(ran.stderr.contains(told), "{told}: {}", ran.stderr);
    }
    for secret in ["s3cr3t", "w0rd", "t0k3n"] {
        assert!(!ran.stderr.contains(secret) && !ran.stdout.contains(secret), "{secret}: {}", ran.stderr);
    }
}

#[test]
fn it_tells_nothing_unless_it_is_asked() {
    let project = TestProject::new().playbook("quiet", "step \"x\" { exec([\"true\"]); }");
    let ran = project.run(&["quiet"]).exits(0);
    assert!(!ran.stderr.contains("DEBUG") && !ran.stderr.contains("spawned"), "{}", ran.stderr);
    let ran = TestProject::new().playbook("p", "").env("LIFEBOAT_LOG", "lifeboat=loud").run(&["p"]);
    ran.exits(2).says("LIFEBOAT_LOG is not understood: `lifeboat=loud`").says("Set LIFEBOAT_LOG to `debug`");
}
