//! What is made sure of before a backup begins.

use crate::doors::Doors;
use lifeboat::action::exec::Exec;
use lifeboat::base::failure::{Code, Failure};
use lifeboat::base::plan::Later;
use lifeboat::observe::Observation;
use lifeboat::observe::disk_space::DiskSpaceOf;
use lifeboat::observe::require_disk_space::RequireDiskSpace;
use lifeboat::observe::require_program::RequireProgram;
use lifeboat::observe::require_writable::RequireWritable;
use lifeboat::sys::host::Host;
use std::path::PathBuf;

#[test]
fn a_program_is_found_or_named_as_missing() {
    let doors = Doors::dry(&[]);
    let observe = |program: &str| doors.session.observe(&RequireProgram::new(program), false, None);
    assert_eq!(observe("sh"), Ok(Later::Now(PathBuf::from("/usr/bin/sh"))));
    let failure = observe("pg_frobnicate").unwrap_err();
    assert_eq!((failure.code, failure.message.as_str()), (Code::ProgramMissing, "`pg_frobnicate` not found"));
    assert_eq!(failure.hints, ["Install `pg_frobnicate`, or add its folder to PATH."]);
    doors.session.perform(&Exec::new(["sh", "-c", "apt-get install it"]), None).unwrap();
    assert_eq!(observe("pg_frobnicate"), Ok(Later::AfterRun));
    assert_eq!(RequireProgram::new("sh").question(), "is `sh` installed?");
}

#[test]
fn another_way_of_looking_may_be_given() {
    fn elsewhere(_: &Host, program: &str) -> Result<PathBuf, Failure> {
        Ok(PathBuf::from("/opt").join(program))
    }
    let require = RequireProgram { program: "pg_dump".into(), finder: elsewhere };
    let doors = Doors::dry(&[]);
    assert_eq!(doors.session.observe(&require, false, None), Ok(Later::Now("/opt/pg_dump".into())));
}

#[test]
fn space_is_told_for_folders_that_are_not_there_yet() {
    let doors = Doors::dry(&[]);
    let ask = DiskSpaceOf { path: "backups/database".into() };
    let space = doors.session.observe(&ask, false, None).unwrap().now().unwrap();
    assert!(space.available > 0 && space.available <= space.total);
    let enough = RequireDiskSpace { dir: "backups".into(), bytes: 1 };
    assert!(doors.session.observe(&enough, false, None).is_ok());
}

#[test]
fn too_little_space_says_how_much_and_what_to_do() {
    let doors = Doors::dry(&[]);
    let require = RequireDiskSpace { dir: "backups/database".into(), bytes: 1 << 60 };
    let failure = doors.session.observe(&require, false, None).unwrap_err();
    assert_eq!(
        (failure.code, failure.message.as_str()),
        (Code::DiskFull, "insufficient disk space for `backups/database`")
    );
    let cause = &failure.causes[0];
    assert!(cause.starts_with("1.0 EiB are needed, ") && cause.ends_with(" are available"), "{cause}");
    assert_eq!(
        failure.hints,
        [
            "Free space on the file system of `backups/database`: `lifeboat run rotate_backups` removes backups that \
             retention no longer keeps.",
            "Or let the backups go to another file system: name another folder.",
        ]
    );
    // What an earlier step frees is known after the run.
    doors.session.perform(&Exec::new(["sh", "-c", "rm -r old"]), None).unwrap();
    assert_eq!(doors.session.observe(&require, false, None), Ok(Later::AfterRun));
}

#[test]
fn a_folder_must_be_writable_or_makeable() {
    let doors = Doors::dry(&[]);
    let observe = |dir: &str| doors.session.observe(&RequireWritable { dir: dir.into() }, false, None);
    assert_eq!(observe("backups/database"), Ok(Later::Now(())));
    assert!(!doors.join("backups").exists());
    std::fs::write(doors.join("file"), "").unwrap();
    let failure = observe("file/backups").unwrap_err();
    assert_eq!(
        failure.to_string(),
        format!(
            "cannot write to the folder `file/backups`: `{}` is not a folder",
            doors.join("file").display()
        )
    );
    assert_eq!(
        failure.hints,
        ["Give the user that runs Lifeboat access to `file/backups`, or name another folder."]
    );
    assert_eq!(observe("/etc").unwrap_err().message, "`require_writable` may not write `/etc`");
}
