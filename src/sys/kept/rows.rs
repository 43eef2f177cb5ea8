//! Rows of an index that are too many for it: a file of JSON lines beside it.

use crate::base::failure::{Code, Failure};
use crate::sys::tree::KEPT;
use crate::sys::untar::{Name, shown};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::marker::PhantomData;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// What a reader or writer of lines buffers, in bytes.
const BUFFER: usize = 64 << 10;

/// Lines that are being written into a new file.
pub(super) struct Writing<T> {
    file: BufWriter<File>,
    path: PathBuf,
    of: PhantomData<fn(T)>,
}

impl<T: Serialize> Writing<T> {
    pub(super) fn create(path: PathBuf) -> Result<Self, Failure> {
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = made.map_err(|error| Failure::io("create", &path, &error))?;
        Ok(Self { file: BufWriter::with_capacity(BUFFER, file), path, of: PhantomData })
    }

    pub(super) fn push(&mut self, row: &T) -> Result<(), Failure> {
        put(&mut self.file, row).map_err(|error| Failure::io("write", &self.path, &error))
    }

    /// All of them are on stable storage.
    pub(super) fn end(self) -> Result<(), Failure> {
        let synced =
            self.file.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| file.sync_all());
        synced.map_err(|error| Failure::io("write", &self.path, &error))
    }
}

/// Writes a row as a line.
pub(super) fn put<T: Serialize>(mut to: impl Write, row: &T) -> io::Result<()> {
    serde_json::to_writer(&mut to, row)?;
    to.write_all(b"\n")
}

/// Lines of a file that keeps its content, whatever it is called meanwhile. Copies share it.
#[derive(Debug)]
pub(super) struct Lines<T> {
    file: Arc<File>,
    path: PathBuf,
    count: u64,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for Lines<T> {
    fn clone(&self) -> Self {
        Self { file: self.file.clone(), path: self.path.clone(), count: self.count, of: PhantomData }
    }
}

impl<T: DeserializeOwned> Lines<T> {
    /// Those of a file that has `count` of them.
    pub(super) fn open(path: &Path, count: u64) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| Failure::io("read", path, &error))?;
        Ok(Self { file: Arc::new(file), path: path.to_path_buf(), count, of: PhantomData })
    }

    /// Each row.
    pub(super) fn iter(&self) -> impl Iterator<Item = Result<T, Failure>> + Send + use<T> {
        let Self { file, path, count, .. } = self.clone();
        let mut from = BufReader::with_capacity(BUFFER, At { file, at: 0 });
        let mut line = Vec::new();
        let mut read = move || {
            line.clear();
            from.read_until(b'\n', &mut line).map_err(|error| Failure::io("read", &path, &error))?;
            serde_json::from_slice(&line).map_err(|error| unreadable(&path, error))
        };
        (0..count).map(move |_| read())
    }
}

/// Reads the name of something in a tree; one that leads elsewhere, or to what is kept, is none.
pub(super) fn inside<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
    let name = Name::deserialize(deserializer)?;
    let mut parts = name.0.components();
    let is_first = parts.next().is_some_and(|part| is_normal(&part) && part.as_os_str() != KEPT);
    if is_first && parts.all(|part| is_normal(&part)) {
        return Ok(name);
    }
    Err(D::Error::custom(format!("`{}` is no name of a file in the tree", shown(&name.0))))
}

/// Reads what becomes part of the name of a file.
pub(super) fn part<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let mut parts = Path::new(&text).components();
    if parts.next().is_some_and(|part| is_normal(&part) && part.as_os_str() == text.as_str()) {
        return Ok(text);
    }
    Err(D::Error::custom(format!("`{}` is no name of a run", shown(Path::new(&text)))))
}

fn is_normal(part: &Component<'_>) -> bool {
    matches!(part, Component::Normal(_))
}

/// The file of an index that cannot be understood.
pub(super) fn unreadable(path: &Path, cause: impl std::fmt::Display) -> Failure {
    Failure::new(Code::NotIntact, format!("the index `{}` cannot be understood", path.display()))
        .caused_by(cause)
}

/// Reads a file that others read too.
struct At {
    file: Arc<File>,
    at: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_were_written_and_a_missing_one_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        let mut writing = Writing::create(path.clone()).unwrap();
        (0..30_000).for_each(|n| writing.push(&(n, "line")).unwrap());
        writing.end().unwrap();
        let lines = Lines::<(u64, String)>::open(&path, 30_000).unwrap();
        // It may be called otherwise, and be read twice at once.
        std::fs::rename(&path, dir.path().join("renamed")).unwrap();
        for (n, (one, other)) in (0..).zip(lines.iter().zip(lines.clone().iter())) {
            assert_eq!((one.unwrap(), other.unwrap().0), ((n, "line".to_owned()), n));
        }
        assert_eq!(lines.iter().count(), 30_000);
        let more = Lines::<(u64, String)>::open(&dir.path().join("renamed"), 30_001).unwrap();
        let failure = more.iter().last().unwrap().unwrap_err();
        assert_eq!(failure.code, Code::NotIntact);
        let text = std::fs::read(dir.path().join("renamed")).unwrap();
        std::fs::write(dir.path().join("torn"), &text[..text.len() - 5]).unwrap();
        let torn = Lines::<(u64, String)>::open(&dir.path().join("torn"), 30_000).unwrap();
        assert_eq!(torn.iter().filter(Result::is_err).count(), 1);
    }
}
