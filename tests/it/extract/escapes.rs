//! Archives that somebody else has made, with every known way out of a folder: each is refused with its entry and its
//! reason, before anything is written.

use super::{kept, project, tree};
use crate::archive::fifo;
use crate::project::{Ran, TestProject};
use expect_test::{Expect, expect};
use flate2::Compression;
use flate2::write::GzEncoder;
use lifeboat::sys::stream::Digest;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use tar::EntryType;

/// An archive entry by entry, with raw names that the usual tools would not write.
struct Bad(tar::Builder<Vec<u8>>);

impl Bad {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn header(name: &[u8], kind: EntryType, size: usize) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(size as u64);
        header
    }

    fn raw(mut self, mut header: tar::Header, content: &[u8]) -> Self {
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.raw(Self::header(name.as_bytes(), EntryType::Regular, content.len()), content.as_bytes())
    }

    fn kind(self, name: &str, kind: EntryType) -> Self {
        self.raw(Self::header(name.as_bytes(), kind, 0), b"")
    }

    fn link(self, name: &str, kind: EntryType, to: &str) -> Self {
        let mut header = Self::header(name.as_bytes(), kind, 0);
        header.as_old_mut().linkname[..to.len()].copy_from_slice(to.as_bytes());
        self.raw(header, b"")
    }

    /// A GNU long name, which may hold what a header's field cannot.
    fn long(self, name: &[u8], content: &str) -> Self {
        let mut text = name.to_vec();
        text.push(0);
        let long = Self::header(b"././@LongLink", EntryType::GNULongName, text.len());
        self.raw(long, &text).file("short", content)
    }

    fn pax(self, key: &str, value: &str) -> Self {
        let mut length = key.len() + value.len() + 3;
        length += length.to_string().len();
        let record = format!("{length} {key}={value}\n");
        self.raw(Self::header(b"pax", EntryType::XHeader, record.len()), record.as_bytes())
    }

    fn end(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// Puts an archive where the playbook looks for it, with the right digest.
fn put(project: &TestProject, bytes: &[u8]) {
    std::fs::create_dir_all(project.at("in")).unwrap();
    std::fs::write(project.at("in/a.tar.gz"), bytes).unwrap();
    let line = format!("{}  a.tar.gz\n", Digest::of_bytes(bytes));
    std::fs::write(project.at("in/a.tar.gz.sha256"), line).unwrap();
}

/// What was told after the place in the playbook.
fn reasons(project: &TestProject, ran: &Ran) -> String {
    let told = project.told(ran);
    let mut lines = told.lines();
    let head: Vec<&str> = lines.by_ref().take(2).collect();
    let rest: Vec<&str> =
        lines.skip_while(|line| !line.starts_with("caused by") && !line.starts_with("hint")).collect();
    let rest: Vec<&str> = rest.into_iter().filter(|line| !line.starts_with('✘')).collect();
    format!("{}\n{}\n", head.join("\n"), rest.join("\n"))
}

/// Extracts live, and says what was told; nothing may have been written, in the folder or out of it.
#[track_caller]
fn refused(bytes: &[u8], args: &[&str], expected: Expect) {
    let project = project().file("tree/there", "there").file("outside/victim", "safe");
    put(&project, bytes);
    let before = project.tree(&[".lifeboat", "logs"]);
    let ran = project.run(&[&["extract"], args].concat());
    assert!(project.tree(&[".lifeboat", "logs"]) == before, "{}", ran.stderr);
    assert_eq!(kept(&project, "tree"), [""; 0]);
    expected.assert_eq(&reasons(&project, &ran));
}

#[test]
fn names_that_lead_out() {
    refused(
        &packed(&Bad::new().file("ok", "x").file("/etc/evil", "x").end()),
        &[],
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: `/etc/evil` has an absolute name
        hint: Nothing was written. Backups do not hold such an entry: find out where this archive comes from.
    "#]],
    );
    refused(
        &packed(&Bad::new().file("../outside/victim", "x").end()),
        &[],
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: `../outside/victim` leads out of the folder
        hint: Nothing was written. Backups do not hold such an entry: find out where this archive comes from.
    "#]],
    );
    refused(
        &packed(&Bad::new().file("a/../../outside/victim", "x").end()),
        &[],
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: `a/../../outside/victim` leads out of the folder
        hint: Nothing was written. Backups do not hold such an entry: find out where this archive comes from.
    "#]],
    );
    refused(
        &packed(&Bad::new().file("ok/..", "x").end()),
        &["--only", "none"],
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: `ok/..` leads out of the folder
        hint: Nothing was written. Backups do not hold such an entry: find out where this archive comes from.
    "#]],
    );
    refused(
        &packed(&Bad::new().long(b"a\0b", "x").end()),
        &[],
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: `a\u{0}b` has a NUL in its name
        hint: Nothing was written. Backups do not hold such an entry: find out where this archive comes from.
    "#]],
    );
    refused(
        &packed(&Bad::new().pax("path", "/etc/evil").file("ok", "x").end()),
        &[],
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: `/etc/evil` has an absolute name
        hint: Nothing was written. Backups do not hold such an entry: find out where this archive comes from.
    "#]],
    );
    refused(
        &packed(&Bad::new().file("", "x").end()),
        &[],
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: an entry has no name
    "#]],
    );
    refused(
        &packed(&Bad::new().file(".lifeboat-kept/x/index.json", "{}").end()),
        &[],
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: `.lifeboat-kept/x/index.json` is what Lifeboat keeps of an earlier extraction
        hint: Nothing was written. To extract the rest, leave the entry out: `except: [".lifeboat-kept/x/index.json"]`.
    "#]],
    );
    refused(
        &packed(&Bad::new().file("deep/er/.lifeboat-kept/x/index.json", "{}").end()),
        &[],
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: `deep/er/.lifeboat-kept/x/index.json` is what Lifeboat keeps of an earlier extraction
        hint: Nothing was written. To extract the rest, leave the entry out: `except: ["deep/er/.lifeboat-kept/x/index.json"]`.
    "#]],
    );
}

#[test]
fn links_that_lead_out() {
    let symlink = EntryType::Symlink;
    let refused = |archive: Bad, expected: Expect| refused(&packed(&archive.end()), &[], expected);
    refused(
        Bad::new().link("l", symlink, "/etc"),
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: `l` is a link to `/etc`, which leads out of the folder
        hint: Nothing was written. To extract the rest, leave the entry out: `except: ["l"]`.
    "#]],
    );
    refused(
        Bad::new().link("l", symlink, "../outside"),
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: `l` is a link to `../outside`, which leads out of the folder
        hint: Nothing was written. To extract the rest, leave the entry out: `except: ["l"]`.
    "#]],
    );
    refused(
        Bad::new().link("a/l", symlink, "../../outside"),
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: `a/l` is a link to `../../outside`, which leads out of the folder
        hint: Nothing was written. To extract the rest, leave the entry out: `except: ["a/l"]`.
    "#]],
    );
    // Each alone stays inside, and both together do not.
    refused(
        Bad::new().link("d/up", symlink, "..").link("l", symlink, "d/up/.."),
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: `l` is a link to `d/up/..`, which leads out of the folder
        hint: Nothing was written. To extract the rest, leave the entry out: `except: ["l"]`.
    "#]],
    );
    refused(
        Bad::new().link("l", symlink, ""),
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: `l` is a link to ``, which is no path
        hint: Nothing was written. To extract the rest, leave the entry out: `except: ["l"]`.
    "#]],
    );
    refused(
        Bad::new().link("l", symlink, ".").file("l/x", "x"),
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: `l/x` lies behind the link `l`
        hint: Nothing was written. Backups do not hold such an entry: find out where this archive comes from.
    "#]],
    );
    refused(
        Bad::new().file("f", "x").file("f/x", "x"),
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: `f/x` lies below the file `f`
        hint: Nothing was written. Backups do not hold such an entry: find out where this archive comes from.
    "#]],
    );
    refused(
        Bad::new().file("d/x", "x").link("d", symlink, "there"),
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: `d` comes twice
        hint: Nothing was written. Backups do not hold such an entry: find out where this archive comes from.
    "#]],
    );
    refused(
        Bad::new().file("x", "1").file("./x", "2"),
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: `x` comes twice
        hint: Nothing was written. Backups do not hold such an entry: find out where this archive comes from.
    "#]],
    );
    let hard = EntryType::Link;
    refused(
        Bad::new().link("l", hard, "/etc/passwd"),
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: `l` is a second name of `/etc/passwd`, which is no file of the archive
        hint: Nothing was written. To extract the rest, leave the entry out: `except: ["l"]`.
    "#]],
    );
    refused(
        Bad::new().link("l", hard, "../outside/victim"),
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: `l` is a second name of `../outside/victim`, which is no file of the archive
        hint: Nothing was written. To extract the rest, leave the entry out: `except: ["l"]`.
    "#]],
    );
    refused(
        Bad::new().link("l", hard, "there"),
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: `l` is a second name of `there`, which is no file of the archive
        hint: Nothing was written. To extract the rest, leave the entry out: `except: ["l"]`.
    "#]],
    );
    refused(
        Bad::new().link("s", symlink, "there").link("l", hard, "s"),
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: `l` is a second name of `s`, which is no file of the archive
        hint: Nothing was written. To extract the rest, leave the entry out: `except: ["l"]`.
    "#]],
    );
}

#[test]
fn what_is_no_file() {
    let refused = |archive: Bad, expected: Expect| refused(&packed(&archive.end()), &[], expected);
    refused(
        Bad::new().kind("null", EntryType::Char),
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: `null` is a device
        hint: Nothing was written. To extract the rest, leave the entry out: `except: ["null"]`.
    "#]],
    );
    refused(
        Bad::new().kind("disk", EntryType::Block),
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: `disk` is a device
        hint: Nothing was written. To extract the rest, leave the entry out: `except: ["disk"]`.
    "#]],
    );
    refused(
        Bad::new().kind("pipe", EntryType::Fifo),
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: `pipe` is a pipe
        hint: Nothing was written. To extract the rest, leave the entry out: `except: ["pipe"]`.
    "#]],
    );
    refused(
        Bad::new().kind("odd", EntryType::new(b'Z')),
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: `odd` is of the unknown kind `Z`
        hint: Nothing was written. To extract the rest, leave the entry out: `except: ["odd"]`.
    "#]],
    );
    refused(
        Bad::new().pax("GNU.sparse.major", "1").file("holes", "x"),
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: `holes` is a sparse file in the POSIX format, which is not understood
        hint: Nothing was written. To extract the rest, leave the entry out: `except: ["holes"]`.
    "#]],
    );
}

#[test]
fn bombs() {
    let zeros = vec![0; 100 << 20];
    let mut header = Bad::header(b"zeros", EntryType::Regular, zeros.len());
    header.set_cksum();
    let bomb = packed(&Bad::new().raw(header, &zeros).end());
    refused(
        &bomb,
        &[],
        expect![[r#"
            exit 10
            error: `a.tar.gz` is not safe to extract
            caused by: it holds more than 200 times its own size, SIZE and more
            hint: Nothing was written. If it is meant to, raise the limit: `max_ratio`.
        "#]],
    );
    // A name that would fill the memory.
    let long = vec![b'n'; 2 << 20];
    refused(
        &packed(&Bad::new().long(&long, "x").end()),
        &[],
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: an entry's header is longer than SIZE
    "#]],
    );
    // One that no system takes, and a link to one.
    refused(
        &packed(&Bad::new().long(&[b'n'; 4097], "x").end()),
        &[],
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: the name of `nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn…`, or where it leads, has more than SIZE
        hint: Nothing was written. No file can have such a name: find out where this archive comes from.
    "#]],
    );
    let to = Bad::new().pax("linkpath", &"t".repeat(4097)).link("link", EntryType::Symlink, "short");
    refused(
        &packed(&to.end()),
        &[],
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: the name of `link`, or where it leads, has more than SIZE
        hint: Nothing was written. No file can have such a name: find out where this archive comes from.
    "#]],
    );
    let many = (0..1001).fold(Bad::new(), |bad, n| bad.file(&format!("{n}"), ""));
    let project = project().playbook(
        "limited",
        r#"const PLAYBOOK = #{ summary: "A test", params: #{ entries: 1000, size: "1 KiB" } };
        step "x" { extract("in/a.tar.gz", "tree", #{ max_entries: params.entries, max_size: params.size }); }"#,
    );
    put(&project, &packed(&many.end()));
    let ran = project.run(&["limited"]);
    expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: it holds more than 1000 entries
        hint: Nothing was written. If it is meant to, raise the limit: `max_entries`.
    "#]]
    .assert_eq(&reasons(&project, &ran));
    project.run(&["limited", "--entries", "1001"]).exits(0);
    put(&project, &packed(&Bad::new().file("large", &"x".repeat(1025)).end()));
    let ran = project.run(&["limited"]);
    expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: it holds more than SIZE
        hint: Nothing was written. If it is meant to, raise the limit: `max_size`.
    "#]]
    .assert_eq(&reasons(&project, &ran));
    project.run(&["limited", "--size", "2 KiB"]).exits(0);
    // Long names count as well: the list of them is kept.
    let named = (0..3).fold(Bad::new(), |bad, n| bad.long(format!("{n}/{}", "n".repeat(400)).as_bytes(), ""));
    put(&project, &packed(&named.end()));
    project.run(&["limited", "--dry-run"]).exits(10).says("it holds more than 1.0 KiB");
    // A folder may come again, but not so often that all that was said of it fills the memory.
    let again = |times| (0..times).fold(Bad::new(), |bad, _| bad.kind("d/", EntryType::Directory));
    put(&project, &packed(&again(1000).end()));
    project.run(&["limited"]).exits(0);
    refused(
        &packed(&again(1001).end()),
        &[],
        expect![[r#"
        exit 10
        error: `a.tar.gz` is not safe to extract
        caused by: `d` comes more than 1000 times
        hint: Nothing was written. Backups do not hold such an entry: find out where this archive comes from.
    "#]],
    );
}

#[test]
fn what_is_left_out_does_no_harm() {
    let project = project();
    let archive = Bad::new()
        .file("a", "a")
        .kind("pipe", EntryType::Fifo)
        .link("out", EntryType::Symlink, "/etc")
        .file("line\nbreak", "odd")
        .raw(
            {
                let mut header = Bad::header(b"suid", EntryType::Regular, 1);
                header.set_mode(0o6755);
                header
            },
            b"s",
        );
    put(&project, &packed(&archive.end()));
    let dry = project.run(&["extract", "--except", "pipe", "--except", "out", "--dry-run"]).exits(0);
    assert!(dry.stdout.contains("+ line\\nbreak (new, 3 B)\n"), "{}", dry.stdout);
    project.run(&["extract", "--except", "pipe", "--except", "out"]).exits(0).says("3 new, 0 changed");
    let tree: Vec<String> = tree(&project.at("tree")).into_values().collect();
    assert_eq!(tree.len(), 3);
    assert!(tree.iter().all(|text| text.starts_with("100644 ") || text.starts_with("100755 ")), "{tree:?}");
}

#[test]
fn what_is_damaged_or_not_what_it_says() {
    let good = packed(&Bad::new().file("a", "a").file("b", "b").end());
    refused(
        &good[..good.len() - 20],
        &[],
        expect![[r#"
        exit 12
        error: `a.tar.gz` is not intact
        caused by: a.tar.gz is cut off at byte N
        hint: Nothing was extracted. `lifeboat backups in --verified` lists the intact ones.
    "#]],
    );
    let mut flipped = good.clone();
    flipped[30] ^= 4;
    refused(
        &flipped,
        &[],
        expect![[r#"
        exit 12
        error: `a.tar.gz` is not intact
        caused by: a.tar.gz is damaged at byte N: corrupt gzip stream does not have a matching checksum
        hint: Nothing was extracted. `lifeboat backups in --verified` lists the intact ones.
    "#]],
    );
    let plain = Bad::new().file("a", "a").end();
    refused(
        &packed(&plain[..plain.len() - 1024]),
        &[],
        expect![[r#"
        exit 12
        error: `a.tar.gz` is not intact
        caused by: a.tar.gz: the archive's end is missing
        hint: Nothing was extracted. `lifeboat backups in --verified` lists the intact ones.
    "#]],
    );
    refused(
        &packed(&plain[..700]),
        &[],
        expect![[r#"
        exit 12
        error: `a.tar.gz` is not intact
        caused by: a.tar.gz: the archive is damaged: unexpected EOF during skip
        hint: Nothing was extracted. `lifeboat backups in --verified` lists the intact ones.
    "#]],
    );
    refused(
        b"PK\x03\x04 and so on",
        &[],
        expect![[r#"
        exit 2
        error: `a.tar.gz` cannot be extracted
        caused by: it is a zip archive
        hint: `extract` reads tar archives, as they are or compressed by gzip; `restore` reads dumps.
    "#]],
    );
    refused(
        b"",
        &[],
        expect![[r#"
        exit 12
        error: `a.tar.gz` is not intact
        caused by: a.tar.gz is empty
        hint: Nothing was extracted. `lifeboat backups in --verified` lists the intact ones.
    "#]],
    );
    refused(
        &packed(b"no archive at all, just a text that somebody has compressed"),
        &[],
        expect![[r#"
        exit 12
        error: `a.tar.gz` is not intact
        caused by: a.tar.gz: the archive is damaged: failed to read entire block
        hint: Nothing was extracted. `lifeboat backups in --verified` lists the intact ones.
    "#]],
    );
    refused(
        &packed(&Bad::new().end()),
        &[],
        expect![[r#"
        exit 1
        error: nothing of `a.tar.gz` is to be extracted
        caused by: none of its 0 entries is meant
        hint: Check `only` and `except`: patterns are relative to the archive's root, and `**/` stands for any depth.
    "#]],
    );
}

#[test]
fn a_hole_is_no_bomb_since_it_takes_no_room() {
    let mut header = Bad::header(b"holes", EntryType::GNUSparse, 512);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.sparse[0].offset.copy_from_slice(b"77777777000\0");
    gnu.sparse[0].numbytes.copy_from_slice(b"00000001000\0");
    gnu.realsize.copy_from_slice(b"100000000000");
    let project = project();
    put(&project, &packed(&Bad::new().raw(header, &[1; 512]).end()));
    project.run(&["extract"]).exits(0);
    let metadata = std::fs::metadata(project.at("tree/holes")).unwrap();
    assert_eq!(metadata.len(), 8 << 30);
    assert!(metadata.blocks() <= 16, "{}", metadata.blocks());
    // The same again is nothing new.
    project.run(&["extract"]).exits(0).says("0 new, 0 changed, 1 same");
    // Pieces that do not add up, overlap, or are out of order.
    let holes = |offset: &[u8; 12], length: &[u8; 12], size: &[u8; 12]| {
        let mut header = Bad::header(b"holes", EntryType::GNUSparse, 512);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.sparse[0].offset.copy_from_slice(b"00000001000\0");
        gnu.sparse[0].numbytes.copy_from_slice(b"00000000000\0");
        gnu.sparse[1].offset.copy_from_slice(offset);
        gnu.sparse[1].numbytes.copy_from_slice(length);
        gnu.realsize.copy_from_slice(size);
        packed(&Bad::new().raw(header, &[1; 512]).end())
    };
    for (offset, length, size) in [
        (b"00000000000\0", b"00000001000\0", b"00000001000\0"),
        (b"00000002000\0", b"00000001000\0", b"00000004000\0"),
        (b"00000002000\0", b"00000002000\0", b"00000004000\0"),
    ] {
        let project = TestProject::new().playbook("extract", super::EXTRACT);
        put(&project, &holes(offset, length, size));
        let ran = project.run(&["extract"]).exits(12);
        assert!(ran.stderr.contains("a.tar.gz: the archive is damaged: "), "{}", ran.stderr);
    }
}

#[test]
fn a_wrong_or_missing_digest() {
    let project = project();
    put(&project, &packed(&Bad::new().file("a", "a").end()));
    let line = format!("{}  a.tar.gz\n", "0".repeat(64));
    std::fs::write(project.at("in/a.tar.gz.sha256"), line).unwrap();
    let ran = project.run(&["extract"]);
    expect![[r#"
        exit 12
        error: `a.tar.gz` is not intact
        caused by: a.tar.gz has the SHA-256 SHA256 instead of SHA256
        hint: Nothing was extracted. `lifeboat backups in --verified` lists the intact ones.
    "#]]
    .assert_eq(&reasons(&project, &ran));
    // A file that has no record at all, as other tools make them, is proved by its own checks.
    std::fs::remove_file(project.at("in/a.tar.gz.sha256")).unwrap();
    let ran = project.run(&["extract", "--dry-run"]).exits(0);
    assert!(ran.stdout.contains("its SHA-256 is not compared with any record\n"), "{}", ran.stdout);
    std::fs::remove_file(project.at("in/a.tar.gz")).unwrap();
    let ran = project.run(&["extract"]);
    expect![[r#"
        exit 1
        error: there is no backup `PROJECT/in/a.tar.gz`
        hint: `lifeboat backups in` lists what is there.
    "#]]
    .assert_eq(&reasons(&project, &ran));
    assert_eq!(project.names("tree"), [""; 0]);
}

/// Extracts into a folder in which something stands, and says what was told; nothing may have been written.
#[track_caller]
fn in_the_way(archive: Bad, prepare: impl Fn(&TestProject), expected: Expect) {
    let project = project().file("outside/victim", "safe");
    prepare(&project);
    put(&project, &packed(&archive.end()));
    let before = project.tree(&[".lifeboat", "logs"]);
    let ran = project.run(&["extract"]);
    assert!(project.tree(&[".lifeboat", "logs"]) == before, "{}", ran.stderr);
    expected.assert_eq(&reasons(&project, &ran));
}

#[test]
fn what_stands_in_the_way() {
    let through = |project: &TestProject| symlink("../outside", project.at("tree/d")).unwrap();
    in_the_way(
        Bad::new().file("d/victim", "evil"),
        through,
        expect![[r#"
        exit 10
        error: `d/victim` would be written through a link
        caused by: `PROJECT/tree/d` is a link to another place
        hint: Nothing was written. Extract into the folder that the link leads to, or take the link away.
    "#]],
    );
    in_the_way(
        Bad::new().kind("d/", EntryType::Directory).file("d/victim", "evil"),
        through,
        expect![[r#"
            exit 10
            error: `d` would be written through a link
            caused by: `PROJECT/tree/d` is a link to another place
            hint: Nothing was written. Extract into the folder that the link leads to, or take the link away.
        "#]],
    );
    in_the_way(
        Bad::new().kind("d/", EntryType::Directory),
        through,
        expect![[r#"
        exit 10
        error: `d` would be written through a link
        caused by: `PROJECT/tree/d` is a link to another place
        hint: Nothing was written. Extract into the folder that the link leads to, or take the link away.
    "#]],
    );
    let kept = |project: &TestProject| symlink("../outside", project.at("tree/.lifeboat-kept")).unwrap();
    in_the_way(
        Bad::new().file("x", "x"),
        kept,
        expect![[r#"
        exit 10
        error: `.lifeboat-kept` would be written through a link
        caused by: `PROJECT/tree/.lifeboat-kept` is a link to another place
        hint: Nothing was written. Extract into the folder that the link leads to, or take the link away.
    "#]],
    );
    let folder = |project: &TestProject| std::fs::create_dir(project.at("tree/d")).unwrap();
    in_the_way(
        Bad::new().file("d", "x"),
        folder,
        expect![[r#"
        exit 1
        error: `PROJECT/tree/d` is in the way
        caused by: it is a folder, and the archive has none there
        hint: Nothing was written. Move it away, or leave it out with `except`.
    "#]],
    );
    let file = |project: &TestProject| std::fs::write(project.at("tree/d"), "x").unwrap();
    in_the_way(
        Bad::new().file("d/x", "x"),
        file,
        expect![[r#"
        exit 1
        error: `PROJECT/tree/d` is in the way
        caused by: it is no folder, and the archive has `d/x` below it
        hint: Nothing was written. Move it away, or leave it out with `except`.
    "#]],
    );
    in_the_way(
        Bad::new().kind("d/", EntryType::Directory),
        file,
        expect![[r#"
        exit 1
        error: `PROJECT/tree/d` is in the way
        caused by: it is no folder, and the archive has one there
        hint: Nothing was written. Move it away, or leave it out with `except`.
    "#]],
    );
    let pipe = |project: &TestProject| fifo(&project.at("tree/d"));
    in_the_way(
        Bad::new().file("d", "x"),
        pipe,
        expect![[r#"
        exit 1
        error: `PROJECT/tree/d` is in the way
        caused by: it is a device, a pipe or a socket, and the archive has a file there
        hint: Nothing was written. Move it away, or leave it out with `except`.
    "#]],
    );
    // A link is replaced itself, wherever it leads.
    let project = project().file("outside/victim", "safe");
    symlink("../outside/victim", project.at("tree/d")).unwrap();
    put(&project, &packed(&Bad::new().file("d", "new").end()));
    project.run(&["extract"]).exits(0);
    assert_eq!(std::fs::read_to_string(project.at("tree/d")).unwrap(), "new");
    assert_eq!(std::fs::read_to_string(project.at("outside/victim")).unwrap(), "safe");
}

#[test]
fn neither_the_state_nor_a_place_elsewhere_is_restored_into() {
    let project = project();
    put(&project, &packed(&Bad::new().file(".lifeboat/runs/x", "x").end()));
    let ran = project.run(&["extract", "--dir", "."]);
    expect![[r#"
        exit 10
        error: `extract` may not write `PROJECT/.lifeboat/runs/x`
        caused by: Lifeboat's own state is never restored: it would tell of other runs than those that were
        hint: Leave it out with `except`.
    "#]]
    .assert_eq(&reasons(&project, &ran));
    // Nor among so many that a plan does not name each.
    let many = (0..10_001).fold(Bad::new(), |bad, n| bad.file(&format!("many/{n}"), ""));
    put(&project, &packed(&many.file(".lifeboat/runs/x", "x").end()));
    let ran = project.run(&["extract", "--dir", "."]);
    assert!(ran.stderr.contains("/.lifeboat/runs/x`\n"), "{}", ran.stderr);
    assert!(!project.at("many").exists() && !project.at(".lifeboat/runs/x").exists());
    let project = project.playbook("away", r#"step "x" { extract("in/a.tar.gz", "/etc/x"); }"#);
    let ran = project.run(&["away"]);
    expect![[r#"
        exit 10
        error: `extract` may not write `/etc/x`
        caused by: the policy does not allow it
        hint: Writing is allowed below the project and below folders given as parameters: make this folder a parameter.
    "#]].assert_eq(&reasons(&project, &ran));
}
