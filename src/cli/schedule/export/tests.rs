use super::*;
use crate::cli::global::{Global, test};
use crate::cli::params::tests::EVERY_KIND;
use expect_test::expect;
use std::path::PathBuf;

const PLAYBOOKS: &[(&str, &str)] = &[
    ("backup_database", EVERY_KIND),
    (
        "backup_all",
        "const PLAYBOOK = #{ summary: \"Everything\", schedule: [#{ cron: \"0 3 * * 0\", missed: \"skip\" }] };\n",
    ),
    ("broken", "const PLAYBOOK = #{ summary: 1 };\n"),
    ("never", "const PLAYBOOK = #{ summary: \"On request\" };\n"),
];

fn args(format: Format) -> Args {
    Args {
        format,
        user: None,
        daemon: false,
        name: None,
        image: "lifeboat:latest".to_owned(),
        dir: "/project".to_owned(),
        claim: "lifeboat-project".to_owned(),
    }
}

fn exported(
    dir: &str,
    playbooks: &'static [(&str, &str)],
    json: bool,
) -> (Result<Exit, Failure>, String, String) {
    let dir = PathBuf::from(dir);
    let library = Library::of(&dir, playbooks, &[]);
    let (cx, out, err) = test::context(&dir, Global { json, ..Global::default() });
    let exit = export(&args(Format::Cron), &library, Path::new("/usr/bin/lifeboat"), Tz::UTC, &cx);
    (exit, out.text(), err.text())
}

#[test]
fn schedules_become_lines_of_a_crontab() {
    let (exit, out, err) = exported("/srv/100% of Bob's app", PLAYBOOKS, false);
    assert_eq!(exit, Ok(Exit::Warnings));
    expect![[r#"
        # Lifeboat: the schedules of /srv/100% of Bob's app

        # Everything
        0 3 * * 0 cd '/srv/100\% of Bob'\''s app' && mkdir -p logs && /usr/bin/lifeboat run --scheduled '0 3 * * 0' backup_all >> logs/cron-backup.log 2>&1

        # Back up the database
        0 2 * * * cd '/srv/100\% of Bob'\''s app' && mkdir -p logs && /usr/bin/lifeboat run --scheduled '0 2 * * *' backup_database >> logs/cron-backup.log 2>&1
        @reboot cd '/srv/100\% of Bob'\''s app' && mkdir -p logs && /usr/bin/lifeboat run --scheduled '0 2 * * *' backup_database >> logs/cron-backup.log 2>&1

        # The lines below are in a time zone of their own; cronie knows CRON_TZ, Debian's cron ignores it.
        CRON_TZ=Europe/Berlin

        # Back up the database
        0 3 * * 0 cd '/srv/100\% of Bob'\''s app' && mkdir -p logs && /usr/bin/lifeboat run --scheduled '0 3 * * 0' backup_database >> logs/cron-backup.log 2>&1
        @reboot cd '/srv/100\% of Bob'\''s app' && mkdir -p logs && /usr/bin/lifeboat run --scheduled '0 3 * * 0' backup_database >> logs/cron-backup.log 2>&1
    "#]].assert_eq(&out);
    expect![[r#"
        warning: the schedules of `broken` are left out: it is broken
        caused by: `summary` must be text, not a whole number (playbooks/broken.rhai:1:30)
        hint: `lifeboat lint broken` tells more.
        warning: the schedule `0 3 * * 0` of `backup_database` is in Europe/Berlin, and this machine is in UTC: not every cron knows `CRON_TZ`
           ——▶ playbooks/backup_database.rhai:21:9
           │
        21 │         #{ cron: "0 3 * * 0", tz: "Europe/Berlin",
           │         ^
        hint: cronie keeps the hour. Debian's cron knocks at that hour of this machine, so that each run begins late, up to a day: use `lifeboat schedule install systemd` or `lifeboat daemon` there.
    "#]].assert_eq(&err);
}

#[test]
fn json_is_the_documented_contract() {
    let (_, out, _) = exported("/srv/app", &PLAYBOOKS[1..2], true);
    expect![[r#"
        [
          {
            "playbook": "backup_all",
            "schedule": "0 3 * * 0",
            "name": null,
            "text": "0 3 * * 0 cd /srv/app && mkdir -p logs && /usr/bin/lifeboat run --scheduled '0 3 * * 0' backup_all >> logs/cron-backup.log 2>&1\n"
          }
        ]
    "#]].assert_eq(&out);
}

#[test]
fn a_line_break_is_refused() {
    let (refused, ..) = exported("/srv/a\nb", &PLAYBOOKS[1..2], false);
    assert_eq!(
        refused.unwrap_err().message,
        "the path `/srv/a\nb` has a line break or another control character"
    );
}

#[test]
fn flags_of_systemd_are_for_systemd() {
    let (cx, ..) = test::context(Path::new("/srv/app"), Global::default());
    for (args, flag) in [
        (Args { daemon: true, ..args(Format::Cron) }, "--daemon"),
        (Args { user: Some("me".to_owned()), ..args(Format::Ofelia) }, "--user"),
    ] {
        let refused = run(&args, &cx).unwrap_err();
        assert_eq!(refused.message, format!("`{flag}` is for `systemd` only"));
        assert_eq!(refused.hints, [format!("Leave `{flag}` out, or export for `systemd`.")]);
    }
}
