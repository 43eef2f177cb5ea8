//! Drills: the very same playbook, for real, in a sandbox.

use crate::cluster::sample_database;
use crate::project::TestProject;

/// A project with a database and one backup of it.
fn backed_up(database: &crate::cluster::TestDatabase) -> TestProject {
    let project = TestProject::new().database(database);
    project.run(&["backup_database"]).exits(0);
    project
}

#[test]
fn a_backup_is_rehearsed_beside_the_real_one() {
    let database = sample_database("drilled");
    let project = backed_up(&database);
    let before = project.tree(&[".lifeboat"]);
    let ran = project.run(&["drill", "backup_database", "-v"]);
    assert_eq!(ran.code, 0);
    let after = project.tree(&[".lifeboat"]);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
}
