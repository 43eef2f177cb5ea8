//! Backups that the guide's scripts and other tools made: they verify as they are, and damage to them is found.

use super::{ONE, gzipped, sha256};
use crate::cluster::{database, program, psql};
use crate::project::TestProject;
use expect_test::expect;
use std::process::Command;

/// Runs a script of bash below the project, with the programs and variables of a database.
#[track_caller]
fn bash(project: &TestProject, env: Vec<(&str, String)>, script: &str) {
    let bin = program("pg_dump");
    let path = format!("{}:{}", bin.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(project.path())
        .envs(env)
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The guide's scripts, as far as they make files.
const GUIDE: &str = r#"
mkdir -p backups/database backups/config conf/deep
db=backups/database/aurora_db_20251110_020000.sql.gz
pg_dump | gzip > "$db"
sha256sum "$db" > "$db.sha256"
head -c 3000 /dev/urandom > conf/key
head -c 5000 /dev/zero > conf/zeros
echo A=1 > conf/.env
ln -s .env conf/deep/link
config=backups/config/aurora_config_20251110_023000.tar.gz
tar czf "$config" --sort=name -C conf .
sha256sum "$config" > "$config.sha256"
"#;

/// Turns over all bits of one byte.
const FLIP: &str = r#"byte=$(od -An -tu1 -j300 -N1 $f)
printf "\\x$(printf %x $((255 - byte)))" | dd of=$f bs=1 seek=300 conv=notrunc status=none"#;

#[test]
fn backups_of_the_guides_scripts_verify() {
    let source = database("guide");
    psql(&source, "CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 5000) n");
    let project = TestProject::new();
    bash(&project, source.env(), GUIDE);
    let before = project.tree(&[".lifeboat", "logs"]);
    let ran = project.run(&["verify_backups"]).exits(0);
    expect![[r#"
        ▶ Verify
          verify: aurora_db_STAMP.sql.gz is intact (SIZE; sha256, gzip, end marker)
          verify: aurora_config_STAMP.tar.gz is intact (SIZE; sha256, gzip, archive)
        ✔ Verify (TIME)
        ▶ Report
          notify: alert `success`: Verified 2 backups: all are intact
        ✔ Report (TIME)
        ▶ Note
        ℹ️  INFO - Verify backups is done: 2 backups are intact
        ✔ Note (TIME)
        ✔ verify_backups completed in TIME
    "#]]
    .assert_eq(&project.steady(&ran.stderr));
    assert!(project.tree(&[".lifeboat", "logs"]) == before, "no manifest is made for what others made");
}

#[test]
fn damage_of_the_guides_backups_is_found() {
    let source = database("guide");
    psql(&source, "CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 500) n");
    let project = TestProject::new().playbook("one", ONE);
    bash(&project, source.env(), GUIDE);
    bash(&project, vec![], "gunzip -k backups/*/*.gz; cp -r backups good");
    // What exactly a changed byte does to deflate depends on the random key that pg_dump writes: it may look for its end in vain.
    let vague = |what: &str, line: &str| {
        let ends = [" is damaged at byte N: ", " is cut off at byte N"];
        let known = if what.starts_with("changed") { &ends[..] } else { &ends[..1] };
        match known.iter().find_map(|end| line.split_once(end)) {
            Some((before, _)) => format!("{before} is damaged"),
            None => line.to_owned(),
        }
    };
    let mut told = String::new();
    let mut tell = |what: &str, file: &str, script: &str| {
        bash(&project, vec![], "rm -r backups; cp -r good backups");
        bash(&project, vec![("f", file.to_owned())], script);
        let ran = project.run(&["one", file]);
        let text = project.steady(&ran.stderr);
        let said = text
            .lines()
            .filter(|line| line.starts_with("error: ") || line.starts_with("caused by: "))
            .map(|line| vague(what, line));
        told += &format!("{what}: {} {}\n", ran.code, said.collect::<Vec<_>>().join("; "));
        if what.starts_with("cut at its source") {
            bash(&project, vec![("f", file.to_owned())], "gzip -t $f; sha256sum -c $f.sha256");
        }
    };
    let (sql, tar) = (
        "backups/database/aurora_db_20251110_020000.sql.gz",
        "backups/config/aurora_config_20251110_023000.tar.gz",
    );
    for file in [sql, tar] {
        tell("cut", file, "truncate -s -100 $f");
        tell("cut, new digest", file, "truncate -s -100 $f; sha256sum $f > $f.sha256");
        tell("cut to nothing, new digest", file, "truncate -s 0 $f; sha256sum $f > $f.sha256");
        tell("changed", file, FLIP);
        tell("changed, new digest", file, &format!("{FLIP}; sha256sum $f > $f.sha256"));
        tell("no digest", file, "rm $f.sha256");
        tell("garbage behind it", file, "echo garbage >> $f");
        tell("cut at its source", file, "head -c 8192 ${f%.gz} | gzip > $f; sha256sum $f > $f.sha256");
    }
    tell("cut at its source in the first line", sql, "echo -n '-- Po' | gzip > $f; sha256sum $f > $f.sha256");
    tell("cut at its source to nothing", sql, "gzip < /dev/null > $f; sha256sum $f > $f.sha256");
    tell(
        "cut at its source behind the data",
        sql,
        "sed '/dump complete/,$d' ${f%.gz} | gzip > $f; sha256sum $f > $f.sha256",
    );
    tell("cut at its source to nothing", tar, "gzip < /dev/null > $f; sha256sum $f > $f.sha256");
    tell(
        "cut at its source behind a file of zeros",
        tar,
        "tar cf - --format=gnu -b1 -C conf .env zeros | head -c -1024 | gzip > $f; sha256sum $f > $f.sha256",
    );
    tell(
        "cut at its source within a file of zeros",
        tar,
        "tar cf - --format=gnu -b1 -C conf .env zeros | head -c -4096 | gzip > $f; sha256sum $f > $f.sha256",
    );
    tell("no archive at all", tar, "seq 1000 | gzip > $f; sha256sum $f > $f.sha256");
    expect![[r#"
        cut: 12 error: `aurora_db_STAMP.sql.gz` is not intact; caused by: aurora_db_STAMP.sql.gz is cut off at byte N; caused by: aurora_db_STAMP.sql.gz has the SHA-256 SHA256 instead of SHA256
        cut, new digest: 12 error: `aurora_db_STAMP.sql.gz` is not intact; caused by: aurora_db_STAMP.sql.gz is cut off at byte N
        cut to nothing, new digest: 12 error: `aurora_db_STAMP.sql.gz` is not intact; caused by: aurora_db_STAMP.sql.gz is empty
        changed: 12 error: `aurora_db_STAMP.sql.gz` is not intact; caused by: aurora_db_STAMP.sql.gz is damaged; caused by: aurora_db_STAMP.sql.gz has the SHA-256 SHA256 instead of SHA256
        changed, new digest: 12 error: `aurora_db_STAMP.sql.gz` is not intact; caused by: aurora_db_STAMP.sql.gz is damaged
        no digest: 12 error: `aurora_db_STAMP.sql.gz` is not intact; caused by: aurora_db_STAMP.sql.gz.sha256 is missing
        garbage behind it: 12 error: `aurora_db_STAMP.sql.gz` is not intact; caused by: aurora_db_STAMP.sql.gz has foreign bytes behind its end at byte N; caused by: aurora_db_STAMP.sql.gz has the SHA-256 SHA256 instead of SHA256
        cut at its source: 12 error: `aurora_db_STAMP.sql.gz` is not intact; caused by: aurora_db_STAMP.sql.gz: the data of table `public.t`, which begins at line 41, has no end
        cut: 12 error: `aurora_config_STAMP.tar.gz` is not intact; caused by: aurora_config_STAMP.tar.gz is cut off at byte N; caused by: aurora_config_STAMP.tar.gz has the SHA-256 SHA256 instead of SHA256
        cut, new digest: 12 error: `aurora_config_STAMP.tar.gz` is not intact; caused by: aurora_config_STAMP.tar.gz is cut off at byte N
        cut to nothing, new digest: 12 error: `aurora_config_STAMP.tar.gz` is not intact; caused by: aurora_config_STAMP.tar.gz is empty
        changed: 12 error: `aurora_config_STAMP.tar.gz` is not intact; caused by: aurora_config_STAMP.tar.gz is damaged; caused by: aurora_config_STAMP.tar.gz has the SHA-256 SHA256 instead of SHA256
        changed, new digest: 12 error: `aurora_config_STAMP.tar.gz` is not intact; caused by: aurora_config_STAMP.tar.gz is damaged
        no digest: 12 error: `aurora_config_STAMP.tar.gz` is not intact; caused by: aurora_config_STAMP.tar.gz.sha256 is missing
        garbage behind it: 12 error: `aurora_config_STAMP.tar.gz` is not intact; caused by: aurora_config_STAMP.tar.gz has foreign bytes behind its end at byte N; caused by: aurora_config_STAMP.tar.gz has the SHA-256 SHA256 instead of SHA256
        cut at its source: 12 error: `aurora_config_STAMP.tar.gz` is not intact; caused by: aurora_config_STAMP.tar.gz: the archive is damaged: unexpected EOF during skip
        cut at its source in the first line: 12 error: `aurora_db_STAMP.sql.gz` is not intact; caused by: aurora_db_STAMP.sql.gz: the dump's end marker is missing
        cut at its source to nothing: 12 error: `aurora_db_STAMP.sql.gz` is not intact; caused by: aurora_db_STAMP.sql.gz: the dump's end marker is missing
        cut at its source behind the data: 12 error: `aurora_db_STAMP.sql.gz` is not intact; caused by: aurora_db_STAMP.sql.gz: the dump's end marker is missing
        cut at its source to nothing: 12 error: `aurora_config_STAMP.tar.gz` is not intact; caused by: aurora_config_STAMP.tar.gz: the archive's end is missing
        cut at its source behind a file of zeros: 12 error: `aurora_config_STAMP.tar.gz` is not intact; caused by: aurora_config_STAMP.tar.gz: the archive's end is missing
        cut at its source within a file of zeros: 12 error: `aurora_config_STAMP.tar.gz` is not intact; caused by: aurora_config_STAMP.tar.gz: the archive is damaged: unexpected EOF during skip
        no archive at all: 12 error: `aurora_config_STAMP.tar.gz` is not intact; caused by: aurora_config_STAMP.tar.gz: the archive is damaged: numeric field was not a number: 3
    "#]].assert_eq(&told);
}

#[test]
fn an_archive_cut_at_any_block_of_its_source_is_found() {
    let project = TestProject::new();
    bash(
        &project,
        vec![],
        "mkdir -p conf; head -c 4000 /dev/zero > conf/a; seq 300 > conf/b; ln -s b conf/c",
    );
    bash(&project, vec![], "tar cf whole.tar -b1 -C conf .");
    let whole = std::fs::read(project.at("whole.tar")).unwrap();
    std::fs::create_dir_all(project.at("backups/config")).unwrap();
    let mut names = Vec::new();
    for cut in (0..whole.len()).step_by(256).chain([whole.len()]) {
        let name = format!("c{cut}_20250101_020000.tar.gz");
        let bytes = gzipped(&whole[..cut]);
        let at = project.at("backups/config").join(&name);
        std::fs::write(&at, &bytes).unwrap();
        std::fs::write(format!("{}.sha256", at.display()), format!("{}  {name}\n", sha256(&bytes))).unwrap();
        names.push(name);
    }
    let ran = project.run(&["verify_backups"]).exits(12);
    let intact = format!("c{}_20250101_020000.tar.gz is intact", whole.len());
    assert!(ran.stderr.contains(&intact), "{}", ran.stderr);
    for name in &names[..names.len() - 1] {
        assert!(ran.stderr.contains(&format!("{name} is NOT intact: ")), "{name}");
    }
}

#[test]
fn archives_of_other_tools_verify() {
    let project =
        TestProject::new().file("tree/a", "a").file(&format!("tree/{}", "long/".repeat(40) + "b"), "b");
    bash(&project, vec![], "truncate -s 1M tree/sparse; echo x >> tree/sparse; mkdir -p backups/config");
    for (n, options) in [
        "--format=gnu",
        "--format=pax",
        "--format=ustar --exclude long",
        "-S --format=gnu",
        "-S --format=pax",
        "-b1",
    ]
    .iter()
    .enumerate()
    {
        let file = format!("backups/config/t{n}_20250101_020000.tar.gz");
        bash(&project, vec![], &format!("tar czf {file} {options} tree; sha256sum {file} > {file}.sha256"));
    }
    let ran = project.run(&["verify_backups"]).exits(0);
    assert_eq!(ran.stderr.matches(" is intact (").count(), 6, "{}", ran.stderr);
}
