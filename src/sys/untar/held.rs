//! Holding the entries of an archive against each other, when all of them are read: in the order of their names what lies
//! below a name follows it, so that little needs to be known at a time.

use super::packed::{flag, path, put_path};
use super::{Attributes, Item, What, shown};
use crate::base::failure::{Code, Failure};
use crate::sys::spill::{Gather, KeyValue, Packed, Rows, Sorted, Sorter, Store, Stored, Unpack, put_number};
use crate::sys::stream::Digest;
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Bytes of digests that are read at a time. In an archive that is in no order each may be read for itself.
const WINDOW: usize = 4 << 10;

/// So often one name may come: a folder comes again in an archive that was appended to.
const MOST_TIMES: usize = 1000;

/// What was seen under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Folder,
    File,
    Link,
}

/// What the archive says about an entry.
pub(super) struct Said {
    pub(super) what: What,
    pub(super) attributes: Attributes,
    /// Whether it is wanted itself.
    pub(super) taken: bool,
    /// Which file's content it has, counted from the first.
    pub(super) content: Option<u64>,
    /// Where a second name leads, as it stands in the archive.
    pub(super) to: Option<PathBuf>,
    /// Whether that is a second name that is left out.
    pub(super) left_out: bool,
}

impl Packed for Said {
    fn pack(&self, out: &mut Vec<u8>) {
        let Self { what, attributes, taken, content, to, left_out } = self;
        what.pack(out);
        attributes.pack(out);
        put_number(out, (*taken).into());
        put_number(out, content.map_or(0, |content| content + 1));
        put_number(out, to.is_some().into());
        to.iter().for_each(|to| put_path(out, to));
        put_number(out, (*left_out).into());
    }

    fn unpack(from: &mut Unpack<'_>) -> Option<Self> {
        Some(Self {
            what: What::unpack(from)?,
            attributes: Attributes::unpack(from)?,
            taken: flag(from)?,
            content: from.number()?.checked_sub(1),
            to: if flag(from)? { Some(path(from)?) } else { None },
            left_out: flag(from)?,
        })
    }
}

/// Why an entry is refused, and whether it may be left out instead.
pub(super) struct Wrong {
    pub(super) name: PathBuf,
    pub(super) why: String,
    pub(super) is_spared: bool,
}

/// A file that has several names.
#[derive(Clone, Copy)]
struct First {
    number: u64,
    taken: bool,
    size: u64,
    stored: u64,
    holes: bool,
    content: Option<u64>,
}

/// The entries, as they come.
pub(super) struct Listing {
    dir: PathBuf,
    rows: Sorter,
    row: Vec<u8>,
    key: Vec<u8>,
    /// The first name of each second one, which may have second names itself, and whether it is wanted.
    seconds: HashMap<PathBuf, (PathBuf, bool)>,
}

impl Listing {
    /// An empty one; many rows go to files in `dir`.
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            rows: Sorter::new(dir),
            row: Vec::new(),
            key: Vec::new(),
            seconds: HashMap::new(),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The first name of the file that has `name`, which is that of `to` too, and whether `to` is a second name that is left out.
    pub(super) fn second_name(&mut self, name: &Path, to: &Path, taken: bool) -> (PathBuf, bool) {
        let known = self.seconds.get(to).cloned();
        let (first, is_taken) = known.unwrap_or_else(|| (to.to_path_buf(), true));
        // One that comes twice is refused; the first of them may still be fine.
        self.seconds.entry(name.to_path_buf()).or_insert_with(|| (first.clone(), taken));
        (first, !is_taken)
    }

    /// Takes note of an entry. One that says nothing is only in the way of others.
    pub(super) fn take(
        &mut self,
        name: &Path,
        number: u64,
        seen: Seen,
        said: Option<&Said>,
    ) -> Result<(), Failure> {
        self.key.clear();
        // No name has a NUL in it. So what lies below a name comes right behind it, as paths are ordered.
        let bytes = name.as_os_str().as_bytes().iter();
        self.key.extend(bytes.map(|byte| if *byte == b'/' { 0 } else { *byte }));
        self.key.extend(number.to_be_bytes());
        self.row.clear();
        self.row.push(seen as u8);
        put_number(&mut self.row, said.is_some().into());
        if let Some(said) = said {
            said.pack(&mut self.row);
        }
        self.rows.push(&self.key, &self.row)
    }

    /// What is wanted of all that was taken note of, by name; or what is wrong with it, the first in the archive. `digests`
    /// are those of all contents.
    pub(super) fn end(self, digests: Store) -> Result<Result<Rows<Item>, Wrong>, Failure> {
        let rows = self.rows.end()?;
        let firsts = if self.seconds.is_empty() { HashMap::new() } else { firsts(&rows, &self.seconds)? };
        drop(self.seconds);
        let digests = Digests { stored: digests.end()?, window: Vec::new(), at: 0 };
        let mut sieve = Sieve {
            above: Vec::new(),
            wrong: None,
            digests,
            firsts,
            waiting: Vec::new(),
            items: Gather::new(&self.dir),
        };
        let mut same: Vec<Row> = Vec::new();
        for row in rows.merged()? {
            let row = Row::of(row?)?;
            if same.first().is_some_and(|first| first.name != row.name) {
                sieve.all(&mut same)?;
            }
            if same.len() == MOST_TIMES {
                let why = format!("comes more than {MOST_TIMES} times");
                return Ok(Err(Wrong { name: row.name, why, is_spared: false }));
            }
            same.push(row);
        }
        sieve.all(&mut same)?;
        match sieve.wrong {
            Some((_, wrong)) => Ok(Err(wrong)),
            None => sieve.items.end().map(Ok),
        }
    }
}

/// An entry, as it was taken note of.
struct Row {
    name: PathBuf,
    number: u64,
    seen: Seen,
    said: Option<Said>,
}

impl Row {
    fn of((mut key, value): KeyValue) -> Result<Self, Failure> {
        let torn = || Failure::new(Code::Internal, "the list of the archive's entries cannot be read");
        let numbered = key.len().checked_sub(8).ok_or_else(torn)?;
        let number = u64::from_be_bytes(key[numbered..].try_into().map_err(|_| torn())?);
        key.truncate(numbered);
        key.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b'/');
        let mut from = Unpack(&value);
        let mut rest = || {
            let seen = match from.number()? {
                0 => Seen::Folder,
                1 => Seen::File,
                _ => Seen::Link,
            };
            Some((seen, if flag(&mut from)? { Some(Said::unpack(&mut from)?) } else { None }))
        };
        let (seen, said) = rest().ok_or_else(torn)?;
        Ok(Self { name: OsString::from_vec(key).into(), number, seen, said })
    }
}

/// What is known of the files that have second names.
fn firsts(
    rows: &Sorted,
    seconds: &HashMap<PathBuf, (PathBuf, bool)>,
) -> Result<HashMap<PathBuf, Option<First>>, Failure> {
    let mut firsts: HashMap<PathBuf, Option<First>> =
        seconds.values().map(|(first, _)| (first.clone(), None)).collect();
    for row in rows.merged()? {
        let Row { name, number, said, .. } = Row::of(row?)?;
        if let Some(Said {
            what: What::File { size, stored, holes, first: None, .. }, taken, content, ..
        }) = said
            && let Some(first) = firsts.get_mut(&name)
        {
            first.get_or_insert(First { number, taken, size, stored, holes, content });
        }
    }
    Ok(firsts)
}

/// Takes entries by name.
struct Sieve {
    /// What the name that came last lies below, and is itself.
    above: Vec<(PathBuf, u64, Seen)>,
    /// What is wrong, and with which entry it turned out.
    wrong: Option<(u64, Wrong)>,
    digests: Digests,
    firsts: HashMap<PathBuf, Option<First>>,
    /// Folders that are not wanted themselves, as long as nothing in them is.
    waiting: Vec<Item>,
    items: Gather<Item>,
}

impl Sieve {
    /// The first that is wrong in the archive is told, and of one entry rather what nobody may leave out.
    fn refuse(&mut self, number: u64, name: &Path, why: String, is_spared: bool) {
        let told = self.wrong.as_ref().map(|(first, wrong)| (*first, wrong.is_spared));
        if told.is_none_or(|told| (number, is_spared) < told) {
            self.wrong = Some((number, Wrong { name: name.to_path_buf(), why, is_spared }));
        }
    }

    /// Takes all entries of one name, in the order of the archive.
    fn all(&mut self, same: &mut Vec<Row>) -> Result<(), Failure> {
        let Some(name) = same.first().map(|row| row.name.clone()) else { return Ok(()) };
        while self.above.last().is_some_and(|(above, ..)| !name.starts_with(above)) {
            self.above.pop();
        }
        let blocks = self.above.iter().rev().filter(|(_, _, seen)| *seen != Seen::Folder);
        let blocks: Vec<(PathBuf, u64, Seen)> = blocks.cloned().collect();
        let mut earlier: Option<Seen> = None;
        for row in &*same {
            for (above, number, seen) in &blocks {
                if row.number < *number {
                    // The folder that it lies in was taken for one before.
                    self.refuse(*number, above, "comes twice".to_owned(), false);
                    continue;
                }
                let lies = if *seen == Seen::Link { "behind the link" } else { "below the file" };
                self.refuse(row.number, &name, format!("lies {lies} `{}`", shown(above)), false);
            }
            // Of a folder that comes again, the later one tells its permissions.
            if earlier.is_some_and(|earlier| earlier != Seen::Folder || row.seen != Seen::Folder) {
                self.refuse(row.number, &name, "comes twice".to_owned(), false);
            }
            earlier = Some(row.seen);
            self.second_name(row);
        }
        let is_other = |row: &&Row| row.seen != Seen::Folder;
        let blocks = same.iter().find(is_other).or(same.first()).map(|row| (row.number, row.seen));
        self.above.extend(blocks.map(|(number, seen)| (name, number, seen)));
        let Some(row) = same.pop() else { return Ok(()) };
        same.clear();
        self.item(row)
    }

    /// Sees that the file of a second name came before it, and is wanted if it is.
    fn second_name(&mut self, row: &Row) {
        let Some(Said { what: What::File { first: Some(first), .. }, taken, to, left_out, .. }) = &row.said
        else {
            return;
        };
        let found = self.firsts.get(first).copied().flatten().filter(|found| found.number < row.number);
        let why = match found {
            Some(found) if !taken || (found.taken && !left_out) => return,
            Some(_) => "which is left out",
            None => "which is no file of the archive",
        };
        let why = format!("is a second name of `{}`, {why}", shown(to.as_deref().unwrap_or(first)));
        self.refuse(row.number, &row.name, why, true);
    }

    fn item(&mut self, row: Row) -> Result<(), Failure> {
        let Row { name, number, said, .. } = row;
        let Some(Said { mut what, attributes, taken, mut content, .. }) = said else {
            return Ok(());
        };
        if self.wrong.is_some() {
            return Ok(());
        }
        if let What::File { size, stored, holes, first: Some(first), .. } = &mut what
            && let Some(found) = self.firsts.get(first).copied().flatten()
        {
            (*size, *stored, *holes, content) = (found.size, found.stored, found.holes, found.content);
        }
        if let (What::File { sha256, .. }, Some(content)) = (&mut what, content) {
            *sha256 = self.digests.get(content)?;
        }
        while self.waiting.last().is_some_and(|folder| !name.starts_with(&folder.name)) {
            self.waiting.pop();
        }
        let item = Item { name, number, what, attributes, taken };
        if taken {
            for folder in self.waiting.drain(..) {
                self.items.push(&folder)?;
            }
            self.items.push(&item)?;
        } else if item.what == What::Folder {
            self.waiting.push(item);
        }
        Ok(())
    }
}

/// The digests of all contents. Those of neighbours by name are neighbours too in most archives.
struct Digests {
    stored: Stored,
    window: Vec<u8>,
    /// Where the window begins.
    at: u64,
}

impl Digests {
    fn get(&mut self, number: u64) -> Result<Digest, Failure> {
        let place = number * 32;
        let inside = place.checked_sub(self.at).map(|at| at as usize);
        let found = inside.filter(|at| at + 32 <= self.window.len());
        let at = match found {
            Some(at) => at,
            None => {
                self.window.resize(WINDOW, 0);
                let length = self.stored.read_at(place, &mut self.window)?;
                self.window.truncate(length);
                self.at = place;
                0
            }
        };
        let digest = self.window.get(at..at + 32).and_then(|bytes| bytes.try_into().ok());
        digest.map(Digest).ok_or_else(|| Failure::new(Code::Internal, "the digest of a file is missing"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// An entry: its name, its kind, whether it is wanted, and of which name it is a second one.
    type Told = (&'static str, Seen, bool, Option<&'static str>);

    /// What comes of entries: the names and numbers of what is wanted, or the name that is refused, and why.
    type Outcome = Result<Vec<(PathBuf, u64, Option<PathBuf>)>, (PathBuf, String)>;

    fn held(entries: &[Told]) -> Outcome {
        let dir = tempfile::tempdir().unwrap();
        let mut listing = Listing::new(dir.path());
        let mut digests = Store::new(dir.path());
        let mut contents = 0;
        for (number, (name, seen, taken, to)) in (1..).zip(entries) {
            let (mut content, attributes) = (None, Attributes { mode: 0o644, modified: (0, 0), owner: None });
            let second = to.map(|to| listing.second_name(Path::new(name), Path::new(to), *taken));
            let left_out = second.as_ref().is_some_and(|(_, left_out)| *left_out);
            let first = second.map(|(first, _)| first);
            let what = match seen {
                Seen::Folder => What::Folder,
                Seen::Link => What::Link { to: "x".into() },
                Seen::File => {
                    if *taken && first.is_none() {
                        digests.put(&[contents as u8; 32]).unwrap();
                        content = Some(contents);
                        contents += 1;
                    }
                    What::File { size: number, stored: number, holes: false, sha256: Digest([0; 32]), first }
                }
            };
            let said = Said { what, attributes, taken: *taken, content, to: to.map(Into::into), left_out };
            listing.take(Path::new(name), number, *seen, Some(&said)).unwrap();
        }
        let items = listing.end(digests).unwrap().map_err(|wrong| (wrong.name, wrong.why))?;
        let items: Vec<Item> = items.iter().map(Result::unwrap).collect();
        for item in &items {
            let What::File { size, sha256, first: Some(first), .. } = &item.what else { continue };
            let found = items.iter().find(|other| other.name == *first);
            let Some(What::File { size: s, sha256: d, .. }) = found.map(|other| &other.what) else {
                continue;
            };
            assert_eq!((size, sha256), (s, d));
        }
        Ok(items.into_iter().map(|item| (item.name, item.number, first_of(item.what))).collect())
    }

    fn first_of(what: What) -> Option<PathBuf> {
        if let What::File { first, .. } = what { first } else { None }
    }

    /// The same, one entry after the other.
    fn one_by_one(entries: &[Told]) -> Outcome {
        type Known = Option<(u64, bool, Option<PathBuf>)>;
        let mut seen: BTreeMap<PathBuf, (Seen, Known)> = BTreeMap::new();
        for (number, (name, kind, taken, to)) in (1..).zip(entries) {
            let name = PathBuf::from(name);
            for above in name.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
                let lies = match seen.get(above).map(|(seen, _)| *seen) {
                    Some(Seen::Link) => "behind the link",
                    Some(Seen::File) => "below the file",
                    Some(Seen::Folder) => break,
                    None => {
                        seen.insert(above.to_path_buf(), (Seen::Folder, None));
                        continue;
                    }
                };
                return Err((name.clone(), format!("lies {lies} `{}`", above.display())));
            }
            let earlier = seen.get(&name).map(|(seen, _)| *seen);
            if earlier.is_some_and(|earlier| (earlier, *kind) != (Seen::Folder, Seen::Folder)) {
                return Err((name, "comes twice".to_owned()));
            }
            let mut first = None;
            if let Some(to) = to {
                match seen.get(Path::new(to)) {
                    Some((Seen::File, Some((_, is_taken, of)))) if *is_taken || !taken => {
                        first = Some(of.clone().unwrap_or_else(|| to.into()));
                    }
                    Some((Seen::File, Some(_))) => {
                        return Err((name, format!("is a second name of `{to}`, which is left out")));
                    }
                    _ => {
                        let why = format!("is a second name of `{to}`, which is no file of the archive");
                        return Err((name, why));
                    }
                }
            }
            seen.insert(name, (*kind, Some((number, *taken, first))));
        }
        let mut items: Vec<(PathBuf, u64, Option<PathBuf>)> = Vec::new();
        for (name, (kind, said)) in seen.into_iter().rev() {
            let Some((number, taken, first)) = said else { continue };
            if taken
                || (kind == Seen::Folder && items.last().is_some_and(|(last, ..)| last.starts_with(&name)))
            {
                items.push((name, number, first));
            }
        }
        items.reverse();
        Ok(items)
    }

    fn told() -> impl Strategy<Value = Told> {
        let names = || prop::sample::select(vec!["a", "a/b", "a/b/c", "a-", "a/b-", "b", "b/a", "c"]);
        let kinds =
            prop::sample::select(vec![Seen::Folder, Seen::Folder, Seen::File, Seen::File, Seen::Link]);
        (names(), kinds, prop::bool::weighted(0.8), prop::option::weighted(0.3, names()))
            .prop_map(|(name, kind, taken, to)| (name, kind, taken, to.filter(|_| kind == Seen::File)))
    }

    proptest! {
        #[test]
        fn entries_are_held_against_each_other_as_one_by_one(entries in prop::collection::vec(told(), 1..7)) {
            prop_assert_eq!(held(&entries), one_by_one(&entries));
        }
    }
}
