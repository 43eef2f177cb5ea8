//! Installing schedules: in a real crontab, and as units of systemd.

use crate::project::{Ran, TestProject};
use expect_test::expect;
use std::path::Path;
use std::process::Command;

const PLAYBOOK: &str = r#"const PLAYBOOK = #{ summary: "Back it up", schedule: [#{ name: "daily", cron: "0 2 * * *", tz: "UTC" }] };"#;

/// A project whose only schedules are its own.
fn project() -> TestProject {
    let mut project = TestProject::new().playbook("p", PLAYBOOK).env("LIFEBOAT_NOW", "2026-05-05T02:00:00Z");
    let shipped = [
        "backup_all",
        "backup_config",
        "backup_database",
        "health_check",
        "maintenance",
        "restore_test",
        "verify_backups",
    ];
    for shipped in shipped {
        project = project.playbook(shipped, "");
    }
    project
}

/// Commands in a world whose crontabs and units are kept in a folder of the project, and whose systemd writes down what it is told.
struct World<'a>(&'a TestProject);

impl World<'_> {
    fn run(&self, script: &str) -> Ran {
        let dir = |name: &str| {
            let dir = self.0.at("world").join(name);
            std::fs::create_dir_all(&dir).unwrap();
            dir.display().to_string()
        };
        let set_up = format!(
            "mkdir -p /var/spool/cron /etc/systemd/system && mount --bind {} /var/spool/cron && \
             mount --bind {} /etc/systemd/system && mount --bind {} /run && mkdir -p /var/spool/cron/crontabs && \
             chmod 1730 /var/spool/cron/crontabs && exec sh -c \"$1\"",
            dir("cron"),
            dir("units"),
            dir("run")
        );
        let like = self.0.command(&[]);
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &set_up, "sh", script]).current_dir(self.0.path()).env_clear();
        command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("LIFEBOAT", like.get_program());
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", self.0.at("bin").display()));
        Ran::of(command.output().unwrap())
    }

    fn crontab(&self) -> String {
        self.run("crontab -l").exits(0).stdout
    }
}

const OTHERS: &str = "# mine\nPGPASSWORD=hunter22\n0 5 * * *\techo  100\\%\n";

#[test]
fn a_block_of_the_crontab_is_installed_changed_and_removed() {
    let project = project().file(".env", "DB_PASSWORD=hunter22\n");
    let world = World(&project);
    std::fs::write(project.at("others"), OTHERS).unwrap();
    world.run("crontab others").exits(0);
    let shown = world.run("$LIFEBOAT --dry-run schedule install cron").exits(0);
    assert_eq!(world.crontab(), OTHERS);
    let steady = |text: &str| {
        text.replace(env!("CARGO_BIN_EXE_lifeboat"), "LIFEBOAT")
            .replace(project.path().to_str().unwrap(), "PROJECT")
    };
    expect![[r#"
        --- crontab
        +++ crontab
        @@ -1,3 +1,10 @@
         # mine
         PGPASSWORD=hunter22
         0 5 * * *	echo  100\%
        +# BEGIN Lifeboat PROJECT
        +# Lifeboat: the schedules of PROJECT
        +
        +# Back it up
        +0 2 * * * cd PROJECT && mkdir -p logs && LIFEBOAT run --scheduled daily p >> logs/cron-backup.log 2>&1
        +@reboot cd PROJECT && mkdir -p logs && LIFEBOAT run --scheduled daily p >> logs/cron-backup.log 2>&1
        +# END Lifeboat PROJECT
    "#]].assert_eq(&steady(&shown.stdout));
    assert_eq!(shown.stderr, "nothing was changed: this was a dry run\n");
    expect![[r#"
        exit 6
        error: a person must confirm: change the crontab?
        caused by: nobody can be asked here
        hint: Run it on a terminal, or say yes in advance with `--yes`; `--dry-run` shows the difference alone.
    "#]].assert_eq(&project.told(&world.run("$LIFEBOAT schedule install cron")));
    assert_eq!(world.crontab(), OTHERS);

    world.run("$LIFEBOAT --yes schedule install cron").exits(0);
    let installed = world.crontab();
    assert!(installed.starts_with(OTHERS) && installed.contains("run --scheduled daily p"), "{installed}");
    let again = world.run("$LIFEBOAT schedule install cron").exits(0);
    assert_eq!(
        (again.stdout.as_str(), again.stderr.as_str()),
        ("", "nothing to do: it is as it should be\n")
    );
    assert_eq!(world.crontab(), installed);

    world.run("echo '1 1 * * * true' >> others.more; crontab -l | cat - others.more | crontab -").exits(0);
    std::fs::write(project.at("playbooks/p.rhai"), PLAYBOOK.replace("0 2", "0 4")).unwrap();
    world.run("$LIFEBOAT --yes schedule install cron").exits(0);
    let changed = world.crontab();
    assert_eq!(changed, format!("{}1 1 * * * true\n", installed.replace("\n0 2 ", "\n0 4 ")));
    world.run("$LIFEBOAT --yes schedule uninstall cron").exits(0);
    assert_eq!(world.crontab(), format!("{OTHERS}1 1 * * * true\n"));
}

#[test]
fn a_crontab_of_this_project_alone_goes_with_it() {
    let project = project();
    let world = World(&project);
    let installed = world.run("$LIFEBOAT --yes --json schedule install cron").exits(0);
    let told: serde_json::Value = serde_json::from_str(&installed.stdout).unwrap();
    assert_eq!((&told["installed"], &told["changes"][0]["path"]), (&true.into(), &"crontab".into()));
    assert!(told["changes"][0]["diff"].as_str().unwrap().contains("+# BEGIN Lifeboat"));
    world.run("$LIFEBOAT --yes schedule uninstall cron").exits(0);
    assert_eq!(world.run("crontab -l").exits(1).stderr, "no crontab for root\n");
}

#[test]
fn what_is_broken_removes_nothing() {
    let project = project();
    let world = World(&project);
    world.run("$LIFEBOAT --yes schedule install cron").exits(0);
    let installed = world.crontab();
    std::fs::write(project.at("playbooks/p.rhai"), "const PLAYBOOK = 1;").unwrap();
    expect![[r#"
        exit 2
        error: the schedules of `p` cannot be installed: it is broken
        caused by: `PLAYBOOK` must be a map, not a whole number (playbooks/p.rhai:1:18)
        hint: `lifeboat lint p` tells more.
    "#]]
    .assert_eq(&project.told(&world.run("$LIFEBOAT --yes schedule install cron")));
    assert_eq!(world.crontab(), installed);
}

#[test]
fn units_are_installed_changed_and_removed() {
    let project = project().file("bin/systemctl", "#!/bin/sh\necho \"$*\" >> world/told\n");
    project.stock("bin", "chmod", &["+x", "systemctl"]);
    let world = World(&project);
    let refused = world.run("$LIFEBOAT --yes schedule install systemd");
    expect![[r#"
        exit 2
        error: systemd does not run on this machine
        hint: Use `lifeboat schedule install cron` or `lifeboat daemon`, or write the units alone with `--no-enable` or `--root DIR`.
    "#]].assert_eq(&project.told(&refused));
    std::fs::create_dir_all(project.at("world/run/systemd/system")).unwrap();
    std::fs::write(project.at("world/units/lifeboat-other.timer"), "# of another project\n").unwrap();

    world.run("$LIFEBOAT --dry-run schedule install systemd --name app").exits(0);
    expect![[r#"
        exit 6
        error: a person must confirm: change these units?
        caused by: nobody can be asked here
        hint: Run it on a terminal, or say yes in advance with `--yes`; `--dry-run` shows the difference alone.
    "#]].assert_eq(&project.told(&world.run("$LIFEBOAT schedule install systemd --name app")));
    assert_eq!(project.names("world/units"), ["lifeboat-other.timer"]);
    world.run("$LIFEBOAT --yes schedule install systemd --name app").exits(0);
    let units = ["lifeboat-app-p-daily.service", "lifeboat-app-p-daily.timer", "lifeboat-other.timer"];
    assert_eq!(project.names("world/units"), units);
    assert!(project.at("logs").is_dir());
    let again = world.run("$LIFEBOAT schedule install systemd --name app").exits(0);
    assert_eq!(
        (again.stdout.as_str(), again.stderr.as_str()),
        ("", "nothing to do: it is as it should be\n")
    );

    std::fs::write(project.at("playbooks/p.rhai"), PLAYBOOK.replace("daily", "nightly")).unwrap();
    world.run("$LIFEBOAT --yes schedule install systemd --name app").exits(0);
    let units = ["lifeboat-app-p-nightly.service", "lifeboat-app-p-nightly.timer", "lifeboat-other.timer"];
    assert_eq!(project.names("world/units"), units);
    // One service in their place.
    world.run("$LIFEBOAT --yes schedule install systemd --daemon --name app").exits(0);
    assert_eq!(project.names("world/units"), ["lifeboat-app.service", "lifeboat-other.timer"]);
    let other = world.run("$LIFEBOAT --yes schedule install systemd --daemon --name other").exits(0);
    assert!(other.stdout.contains("lifeboat-other.service"), "{}", other.stdout);
    world.run("$LIFEBOAT --yes schedule uninstall systemd").exits(0);
    assert_eq!(project.names("world/units"), ["lifeboat-other.timer"]);
    expect![[r#"
        daemon-reload
        enable lifeboat-app-p-daily.timer
        restart lifeboat-app-p-daily.timer
        enable lifeboat-app-p-daily.timer
        start lifeboat-app-p-daily.timer
        disable --now lifeboat-app-p-daily.timer
        daemon-reload
        enable lifeboat-app-p-nightly.timer
        restart lifeboat-app-p-nightly.timer
        disable --now lifeboat-app-p-nightly.timer
        daemon-reload
        enable lifeboat-app.service
        restart lifeboat-app.service
        disable --now lifeboat-app.service
        daemon-reload
        enable lifeboat-other.service
        restart lifeboat-other.service
        disable --now lifeboat-other.service
        daemon-reload
    "#]]
    .assert_eq(&std::fs::read_to_string(project.at("world/told")).unwrap());
}

#[test]
fn units_of_others_are_not_touched() {
    let project = project().file("image/etc/systemd/system/lifeboat-app-p-daily.timer", "# theirs\n");
    let install = ["--yes", "schedule", "install", "systemd", "--root", "image", "--name", "app"];
    expect![[r#"
        exit 2
        error: `PROJECT/image/etc/systemd/system/lifeboat-app-p-daily.timer` is not a unit of this project
        hint: Give the units of this project another name with `--name NAME`.
    "#]]
    .assert_eq(&project.told(&project.run(&install)));
    assert_eq!(project.names("image/etc/systemd/system"), ["lifeboat-app-p-daily.timer"]);
    project.run(&["--yes", "schedule", "install", "systemd", "--root", "image", "--name", "mine"]).exits(0);
    let service =
        std::fs::read_to_string(project.at("image/etc/systemd/system/lifeboat-mine-p-daily.service"))
            .unwrap();
    assert!(service.contains("\nProtectSystem=strict\n"), "{service}");
    project.run(&["--yes", "schedule", "uninstall", "systemd", "--root", "image"]).exits(0);
    assert_eq!(project.names("image/etc/systemd/system"), ["lifeboat-app-p-daily.timer"]);
}

#[test]
fn another_user_gets_units_of_their_own() {
    let project = project();
    let home = project.path().to_path_buf();
    let install = ["--yes", "schedule", "install", "systemd", "--no-enable", "--name", "app"];
    project.run_as_nobody(&install).exits(0).says("`loginctl enable-linger` lets them run always");
    let service = home.join(".config/systemd/user/lifeboat-app-p-daily.service");
    let text = std::fs::read_to_string(&service).unwrap();
    assert!(text.contains("NoNewPrivileges=yes") && !text.contains("ReadWritePaths"), "{text}");
    assert!(Path::new(&service).with_extension("timer").exists());
}
