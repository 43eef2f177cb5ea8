//! Lines of the crontab, carried out as cron carries them out.

use crate::project::TestProject;
use std::path::Path;
use std::process::Command;

/// What Vixie's cron and cronie hand to the shell: an escaped `%` without its backslash, nothing from a bare one on.
fn as_cron_reads(command: &str) -> String {
    let mut read = String::new();
    let mut escaped = false;
    for c in command.chars() {
        if escaped && c == '%' {
            read.pop();
        } else if c == '%' {
            break;
        }
        escaped = !escaped && c == '\\';
        read.push(c);
    }
    read
}

/// The job of a line with five fields before it.
fn job(line: &str) -> &str {
    line.splitn(6, ' ').nth(5).unwrap()
}

/// Runs a job as cron does: from elsewhere, with little in its environment.
#[track_caller]
fn carry_out(home: &Path, job: &str) {
    let output = Command::new("/bin/sh")
        .args(["-c", &as_cron_reads(job)])
        .current_dir("/")
        .env_clear()
        .envs([
            ("HOME", home.to_str().unwrap()),
            ("LOGNAME", "me"),
            ("SHELL", "/bin/sh"),
            ("PATH", "/usr/bin:/bin"),
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{job}\n{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn an_exported_line_makes_its_backup_from_any_folder() {
    let outer = TestProject::new().file(".env", "WRONG=project\n");
    for (name, marked) in [
        ("plain", true),
        ("it's 100% \"awkward\" $HOME `x`; &", true),
        ("back\\slash \\% and \\\\%", true),
        // Nothing but what the line says tells that this is the project.
        ("unmarked", false),
    ] {
        let project = outer.at(name);
        std::fs::create_dir(&project).unwrap();
        std::fs::write(project.join("docker-compose.yml"), "services: {}\n").unwrap();
        if marked {
            std::fs::write(project.join("lifeboat.toml"), "").unwrap();
        }
        let args = ["--project", project.to_str().unwrap(), "schedule", "export", "cron"];
        let exported = outer.run(&args).exits(0);
        assert_eq!(exported.stderr, "");
        let line = exported
            .stdout
            .lines()
            .find(|line| line.contains(" run --scheduled ") && line.contains(" backup_config"))
            .unwrap();
        assert!(line.starts_with("30 2 * * * cd "), "{line}");

        carry_out(outer.path(), job(line));
        let made = outer.only(&format!("{name}/backups/config"), ".tar.gz");
        outer.stock(&format!("{name}/backups/config"), "gzip", &["-t", &made]);
        let list = outer.stock(&format!("{name}/backups/config"), "tar", &["-tzf", &made]);
        assert!(list.contains("docker-compose.yml") && !list.contains(".env"), "{list}");
        let log = std::fs::read_to_string(project.join("logs/cron-backup.log")).unwrap();
        assert!(log.contains("backup_config completed in "), "{log}");
    }
}
