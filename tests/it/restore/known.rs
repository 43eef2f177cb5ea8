//! What a restore need not do twice or at all: a dump whose very bytes were verified before is not read again before its rows are
//! loaded, and rows are counted and not compared where somebody says so.

use super::{DIR, backed_up, databases_like, kept, project};
use crate::cluster::{TestDatabase, database, dump_text, psql};
use crate::project::{Ran, TestProject};
use expect_test::expect;
use lifeboat::base::cancel::Cancel;
use lifeboat::sys::fs;
use lifeboat::sys::stream::{Control, Sections};
use sha2::{Digest as _, Sha256};

const COUNT: &str = r#"
const PLAYBOOK = #{
    summary: "Restore one file, and only count its rows",
    params: #{
        file: #{ help: "The backup", required: true, positional: true },
        in_place: #{ default_value: false, help: "Load into the live database" },
    },
};
let db = postgres();
step "Restore" {
    let done = restore(params.file, db, #{ skip_compare: true, in_place: params.in_place });
    info(`restored ${done.tables} tables, ${done.rows} rows; compared: ${done.compared}`);
}
"#;

fn shop(hint: &str) -> TestDatabase {
    let shop = database(hint);
    psql(
        &shop,
        "CREATE TABLE users (id int PRIMARY KEY, name text); INSERT INTO users SELECT n, 'name ' || n FROM generate_series(1, 5000) n",
    );
    shop
}

/// What a dry run says was checked.
fn checked(project: &TestProject, file: &str) -> String {
    let ran = project.run(&["--dry-run", "restore_file", file]).exits(4);
    let line = ran.stdout.lines().find(|line| line.contains("checked: ")).unwrap();
    let at = line.find("checked: ").unwrap();
    let mut words: Vec<&str> = line[at..].split(' ').collect();
    if words.contains(&"content") {
        // Date, time and offset.
        words.truncate(words.len() - 3);
    }
    words.join(" ")
}

/// What a run that failed says of it, without names that differ from run to run.
fn failure(project: &TestProject, shop: &TestDatabase, ran: &Ran) -> Vec<String> {
    let told = project.told(ran).replace(&shop.name, "DB");
    let is_told =
        |line: &&str| ["exit", "error", "caused by", "hint"].iter().any(|word| line.starts_with(word));
    told.lines().filter(is_told).map(str::to_owned).collect()
}

/// Writes digests of the file as it is into the records beside it.
fn sign(project: &TestProject, file: &str) {
    let digest: String =
        Sha256::digest(std::fs::read(project.at(file)).unwrap()).iter().map(|b| format!("{b:02x}")).collect();
    let manifest = project.at(format!("{file}.json"));
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&manifest).unwrap()).unwrap();
    json["sha256"] = digest.clone().into();
    std::fs::write(manifest, serde_json::to_vec_pretty(&json).unwrap()).unwrap();
    let name = file.rsplit('/').next().unwrap();
    std::fs::write(project.at(format!("{file}.sha256")), format!("{digest}  {name}\n")).unwrap();
}

#[test]
fn bytes_that_were_verified_before_are_not_read_again() {
    let shop = shop("known");
    let (project, file) = backed_up(&shop);
    assert_eq!(checked(&project, &file), "checked: sha256, content as it was verified at");
    let manifest = project.at(format!("{file}.json"));
    let whole = std::fs::read(&manifest).unwrap();
    let mut json: serde_json::Value = serde_json::from_slice(&whole).unwrap();
    let all = "checked: sha256, gzip, end marker, row counts and fingerprints, manifest";
    // Nobody has verified it, or has found it damaged.
    json["verified"]["intact"] = false.into();
    std::fs::write(&manifest, serde_json::to_vec(&json).unwrap()).unwrap();
    assert_eq!(checked(&project, &file), all);
    json["verified"] = serde_json::Value::Null;
    std::fs::write(&manifest, serde_json::to_vec(&json).unwrap()).unwrap();
    assert_eq!(checked(&project, &file), all);
    std::fs::write(&manifest, &whole).unwrap();
    // A file that another program has written has no parts that could be read apart.
    let name = file.rsplit('/').next().unwrap();
    project.stock(DIR, "gunzip", &[name]);
    project.stock(DIR, "gzip", &["-n", name.strip_suffix(".gz").unwrap()]);
    sign(&project, &file);
    let ran = project.run(&["--dry-run", "restore_file", &file]).exits(12);
    ran.says(&format!("{name} has "));
}

#[test]
fn a_member_that_was_damaged_before_its_digest_was_taken_is_found_while_it_is_loaded() {
    let shop = shop("known_damage");
    let (project, file) = backed_up(&shop);
    let path = project.at(&file);
    let control = Control { cancel: &Cancel::new(), progress: &|_| {} };
    let sections = Sections::find(fs::open(&path).unwrap(), &path, control).unwrap().unwrap();
    let rows = sections.list.iter().position(|section| section.table.is_some()).unwrap();
    let end: u64 = sections.list[..=rows].iter().map(|section| section.size).sum();
    let mut bytes = std::fs::read(&path).unwrap();
    // Its checksum.
    bytes[end as usize - 8] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    sign(&project, &file);
    let before = dump_text(&shop);
    assert_eq!(checked(&project, &file), "checked: sha256, content as it was verified at");
    let ran = project.run(&["restore_file", &file]);
    assert!(dump_text(&shop) == before);
    assert_eq!(databases_like(&format!("{}_", shop.name)), [""; 0]);
    let told = failure(&project, &shop, &ran);
    expect![[r#"
        [
            "exit 12",
            "error: `DB_db_STAMP.sql.gz` is damaged at byte N: its checksum does not match",
            "hint: It was so when its SHA-256 was taken: use another backup, and find out what wrote this one.",
            "hint: `DB` is as it was.",
        ]
    "#]].assert_debug_eq(&told);
}

#[test]
fn rows_are_only_counted_where_somebody_says_so() {
    let shop = shop("counted");
    let (project, file) = backed_up(&shop);
    let project = project.playbook("count", COUNT);
    let before = dump_text(&shop);
    psql(&shop, "DROP TABLE users");
    let manifest = || std::fs::read_to_string(project.at(format!("{file}.json"))).unwrap();
    let plan = project.run(&["--dry-run", "count", &file]).exits(4);
    assert!(
        plan.stdout.contains("rows are counted as they are loaded, and not read back to be compared"),
        "{}",
        plan.stdout
    );
    let ran = project.run(&["count", &file]).exits(0);
    ran.says("restored 1 tables, 5000 rows; compared: false")
        .says("the rows of 1 table were counted as the server took them, and not read back")
        .says("1 tables, 5000 rows (counted, not compared), in ");
    drop(kept(&shop));
    assert!(dump_text(&shop) == before);
    // It is no proof that the backup can be restored; a restore that compares is one, and so is a drill of this very playbook.
    assert!(!manifest().contains("\"drilled\""));
    project.run(&["drill", "count", &file]).exits(0);
    assert!(manifest().contains("\"drilled\""));
    let ran = project.run(&["count", &file, "--in-place"]).exits(2);
    let told = failure(&project, &shop, &ran);
    expect![[r#"
        [
            "exit 2",
            "error: `skip_compare` does not go with `in_place`",
            "caused by: in place, the database that was there is gone when anybody notices that rows are wrong",
            "hint: Leave one of the two out.",
        ]
    "#]].assert_debug_eq(&told);
}

#[test]
fn rows_that_are_only_counted_must_be_as_many() {
    let target = database("counted_odd");
    let project = project(&target).playbook("count", COUNT);
    let file = "odd.sql";
    let dump = |body: &str| {
        let text = format!(
            "--\n-- PostgreSQL database dump\n--\n\nSET client_encoding = 'UTF8';\nCREATE TABLE public.a (x int);\n\
             CREATE FUNCTION public.change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;\n\
             CREATE TRIGGER change BEFORE INSERT ON public.a FOR EACH ROW EXECUTE FUNCTION public.change();\n\
             COPY public.a (x) FROM stdin;\n1\n\\.\n\n--\n-- PostgreSQL database dump complete\n--\n\n"
        );
        std::fs::write(project.at(file), text).unwrap();
    };
    dump("RETURN NULL;");
    project.run(&["count", file]).exits(12).says("table public.a has 0 rows instead of 1");
    // Other content goes unseen, and in a drill it does not.
    dump("NEW.x := 7; RETURN NEW;");
    project.run(&["backup_database"]).exits(0);
    project.run(&["drill", "count", file]).exits(5).says("table public.a has other content than the backup");
    project.run(&["count", file]).exits(0);
    drop(kept(&target));
    assert_eq!(psql(&target, "SELECT x FROM a"), "7\n");
}
