//! What a file of ours holds between the rows and behind them, read before any row is loaded.

use super::kind::{Kind, Place, place};
use crate::base::backup::TableContent;
use crate::base::failure::Failure;
use crate::sys::postgres::contents::Contents;
use crate::sys::postgres::context::Context;
use crate::sys::postgres::load::Deferred;
use crate::sys::postgres::rules::rule;
use crate::sys::postgres::scan::{Scanner, Segment};
use crate::sys::stream::Sections;
use std::sync::Arc;

/// What was read.
pub(super) struct Tail {
    /// What is made of the data, in the order of the dump.
    pub statements: Vec<Deferred>,
    /// What the tables hold, as the dump's own summary says.
    pub contents: Vec<TableContent>,
    /// The first section behind all rows.
    pub begin: Option<usize>,
    /// Sections with statements that belong to the data and are no rows.
    pub data: Vec<usize>,
    /// About how many bytes those have.
    pub data_size: u64,
}

struct Reading {
    context: Arc<Context>,
    tail: Tail,
    /// Nothing was found so far that needs the order of the file.
    is_apart: bool,
}

/// Reads what is no rows behind the first `first` sections; `None` if it cannot be carried out apart from the rows.
pub(super) fn read(
    sections: &Sections,
    first: usize,
    context: &Arc<Context>,
) -> Result<Option<Tail>, Failure> {
    let list = &sections.list;
    let Some(last) = list.iter().rposition(|section| section.table.is_some()) else { return Ok(None) };
    let begin = (last + 1 < list.len()).then_some(last + 1);
    let tail = Tail { statements: Vec::new(), contents: Vec::new(), begin, data: Vec::new(), data_size: 0 };
    let mut reading = Reading { context: context.clone(), tail, is_apart: true };
    for between in (first..last).filter(|number| list[*number].table.is_none()) {
        reading.parts(sections, &[between])?;
        reading.is_apart &= reading.tail.statements.is_empty() && Arc::ptr_eq(&reading.context, context);
    }
    let behind: Vec<usize> = (last + 1..list.len()).collect();
    reading.parts(sections, &behind)?;
    Ok(reading.is_apart.then_some(reading.tail))
}

impl Reading {
    /// Reads sections that follow each other.
    fn parts(&mut self, sections: &Sections, numbers: &[usize]) -> Result<(), Failure> {
        let mut scanner = Scanner::new();
        let mut contents = Contents::new();
        for &number in numbers {
            let section = &sections.list[number];
            let mut read = 0;
            let mut data = None;
            sections.read(section, &mut |bytes| {
                read += bytes.len() as u64;
                let mut rest = bytes;
                loop {
                    match scanner.next(&mut rest) {
                        Ok(Some(segment)) => {
                            contents.observe(&segment);
                            if self.segment(&segment) {
                                data = Some(read);
                            }
                        }
                        Ok(None) => return Ok(()),
                        Err(_) => {
                            self.is_apart = false;
                            return Ok(());
                        }
                    }
                }
            })?;
            if let Some(size) = data {
                self.tail.data.push(number);
                self.tail.data_size += size;
            }
        }
        self.is_apart &= matches!(scanner.end(), Ok(None | Some(Segment::Comment { .. })));
        if let Ok(Some(summary)) = contents.summary() {
            self.tail.contents = summary.to_vec();
        }
        Ok(())
    }

    /// Keeps a statement; says whether it belongs to the data.
    fn segment(&mut self, segment: &Segment<'_>) -> bool {
        let (text, line) = match *segment {
            Segment::Statement { text, line } => (text, line),
            Segment::Space(_) | Segment::Comment { .. } | Segment::Meta { restrict: true, .. } => {
                return false;
            }
            _ => {
                self.is_apart = false;
                return false;
            }
        };
        let kind = match place(text) {
            Place::Data | Place::Transaction if self.tail.statements.is_empty() => return true,
            Place::Data => Kind::Light,
            Place::Setting => {
                if let Some(context) = self.context.after(&rule(text), text, line) {
                    self.context = Arc::new(context);
                }
                return false;
            }
            Place::Transaction | Place::Session => {
                self.is_apart = false;
                return false;
            }
            Place::Made(kind) => kind,
        };
        let context = self.context.clone();
        self.tail.statements.push(Deferred { text: text.to_vec(), line, context, kind });
        false
    }
}
