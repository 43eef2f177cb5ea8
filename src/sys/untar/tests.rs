use super::*;
use crate::base::cancel::Reason;
use std::io::Write;
use std::sync::Mutex;

fn archive(dir: &Path) -> PathBuf {
    let path = dir.join("a.tar");
    let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
    for n in 0..2000_usize {
        let size = if n % 500 == 3 { (1 << 20) + n } else { n };
        let mut header = tar::Header::new_gnu();
        header.set_size(size as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("{}/{n}", n % 7), &vec![n as u8; size][..]).unwrap();
    }
    tar.into_inner().unwrap().flush().unwrap();
    path
}

/// Writes into a folder, and does something before each file.
struct Into<'a> {
    dir: &'a Path,
    before: &'a (dyn Fn(usize) -> Result<(), Failure> + Sync),
    made: Mutex<usize>,
}

impl Sink for Into<'_> {
    fn wants(&self, _: u64) -> bool {
        true
    }
    fn create(&self, name: &Path) -> Result<Created, Failure> {
        let mut made = self.made.lock().unwrap();
        *made += 1;
        (self.before)(*made)?;
        let path = self.dir.join(name.to_string_lossy().replace('/', "-"));
        Ok(Created { file: std::fs::File::create_new(&path).unwrap(), path })
    }
}

fn extracted(
    before: &(dyn Fn(usize) -> Result<(), Failure> + Sync),
    cancel: &Cancel,
) -> (tempfile::TempDir, Result<Contents, Failure>) {
    let dir = tempfile::tempdir().unwrap();
    let path = archive(dir.path());
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let limits = Limits { size: 1 << 30, entries: 10_000, ratio: 200 };
    let control = Control { cancel, progress: &|_| () };
    let sink = Into { dir: &out, before, made: Mutex::new(0) };
    let selection = &Selection::new(&[], &[]).unwrap();
    let wanted = Wanted { selection, limits, sink: &sink, list: Some(dir.path()) };
    let read = read(&path, wanted, control);
    (dir, read)
}

#[test]
fn every_content_gets_to_its_own_name() {
    let (dir, read) = extracted(&|_| Ok(()), &Cancel::new());
    let contents = read.unwrap();
    assert_eq!((contents.entries, contents.items.len()), (2000, 2000));
    let mut last = PathBuf::new();
    for item in contents.items.iter() {
        let item = item.unwrap();
        assert!(item.name > last);
        last.clone_from(&item.name);
        let name = item.name.to_string_lossy().replace('/', "-");
        let written = std::fs::read(dir.path().join("out").join(name)).unwrap();
        let What::File { size, sha256, holes, stored, first: None } = item.what else { panic!("{item:?}") };
        assert_eq!((size, stored, holes), (written.len() as u64, written.len() as u64, false));
        assert_eq!(sha256, Digest::of_bytes(&written));
        let n: usize = item.name.file_name().unwrap().to_str().unwrap().parse().unwrap();
        assert!(written.iter().all(|byte| *byte == n as u8));
    }
}

#[test]
fn a_file_that_cannot_be_written_ends_it() {
    let full = |made| {
        if made < 900 { Ok(()) } else { Err(Failure::new(Code::DiskFull, "cannot write `x`")) }
    };
    let failure = extracted(&full, &Cancel::new()).1.unwrap_err();
    assert_eq!((failure.code, failure.message.as_str()), (Code::DiskFull, "cannot write `x`"));
}

#[test]
fn a_cancellation_in_the_midst_ends_it() {
    let cancel = Cancel::new();
    let before = |made| {
        if made == 700 {
            cancel.cancel(Reason::Interrupted);
        }
        Ok(())
    };
    let (dir, read) = extracted(&before, &cancel);
    assert_eq!(read.unwrap_err().code, Code::Interrupted);
    assert!(std::fs::read_dir(dir.path().join("out")).unwrap().count() < 2000);
}
