//! One of several sessions that carry out the steps of a load.

use super::steps::Work;
use super::{Shared, Source};
use crate::base::failure::Failure;
use crate::sys::postgres::connection::Session;
use crate::sys::postgres::exchange::own;
use crate::sys::postgres::load::{LinesBefore, Loader};
use crate::sys::postgres::loading::kind::{Kind, Place, place};
use crate::sys::postgres::read_back::{compare, counted};
use crate::sys::postgres::scan::{Scanner, Segment};
use crate::sys::postgres::server_disk::DataDisk;
use crate::sys::stream::Section;

/// How often a statement is tried again that the server gave up to untie sessions that wait for each other.
const TRIES: u32 = 5;

/// Carries out steps until there are none any more.
pub(super) fn work(shared: &Shared<'_>, session: &Session, reader: &Session) -> Result<(), Failure> {
    let options = shared.filling.options(true);
    let loader = Loader::join(session, options, &shared.left.terms)?;
    let mut worker = Worker { shared, session, reader, loader };
    while let Some(number) = shared.next() {
        worker.carry_out(shared.work[number])?;
        shared.done(number);
    }
    shared.lock().notes.extend(worker.loader.notes().iter().cloned());
    Ok(())
}

struct Worker<'a> {
    shared: &'a Shared<'a>,
    session: &'a Session,
    reader: &'a Session,
    loader: Loader<'a>,
}

impl Worker<'_> {
    fn carry_out(&mut self, work: Work) -> Result<(), Failure> {
        match work {
            Work::Milestone => Ok(()),
            Work::Rows(table) => self.rows(table),
            Work::Data => self.data(),
            Work::Statement(number) => self.statement(number, None),
            Work::AddForeignKey(number) => {
                let text = &self.shared.left.statements[number].text;
                let mut own = text.strip_suffix(b";").unwrap_or(text).to_vec();
                own.extend_from_slice(b"\nNOT VALID");
                self.statement(number, Some(&own))
            }
            Work::Validate(number) => {
                let Kind::ForeignKey(key) = &self.shared.left.statements[number].kind else { return Ok(()) };
                let validate = [
                    b"ALTER TABLE ONLY ",
                    key.table.as_bytes(),
                    b" VALIDATE CONSTRAINT ",
                    key.name.as_slice(),
                ];
                self.statement(number, Some(&validate.concat()))
            }
            Work::Compare(table) => self.compare(table),
            Work::Analyze(table) => self.analyze(table),
        }
    }

    fn rows(&mut self, table: usize) -> Result<(), Failure> {
        let shared = self.shared;
        let Some(source) = &shared.left.source else { return Ok(()) };
        self.loader.enter(&shared.left.context)?;
        for (at, &number) in source.rows[table].iter().enumerate() {
            let section = &source.sections.list[number];
            let mut target = source.targets[table].clone();
            // What an earlier section has loaded must stay.
            target.freeze &= at == 0;
            self.loader.begin_part(Some(target), lines(source, section));
            read(shared, source, section, &mut |bytes| self.loader.take(bytes))?;
            let (copied, _) = self.loader.end_part()?;
            let mut state = shared.lock();
            for (name, part) in copied {
                let whole = state.copied.entry(name).or_default();
                let rows = whole.rows + part.rows;
                *whole = part;
                whole.rows = rows;
            }
        }
        Ok(())
    }

    /// Sequences and large objects, which stand between the rows and behind them.
    fn data(&mut self) -> Result<(), Failure> {
        let shared = self.shared;
        let Some(source) = &shared.left.source else { return Ok(()) };
        self.loader.enter(&shared.left.context)?;
        for &number in &source.rest {
            let section = &source.sections.list[number];
            self.loader.begin_part(None, lines(source, section));
            let mut scanner = Scanner::new();
            let mut is_over = false;
            read(shared, source, section, &mut |bytes| {
                let mut rest = bytes;
                while !is_over && let Ok(Some(segment)) = scanner.next(&mut rest) {
                    if let Segment::Statement { text, line } = segment {
                        match place(text) {
                            Place::Data | Place::Transaction => self.loader.add_statement(text, line)?,
                            Place::Setting => {}
                            _ => is_over = true,
                        }
                    }
                }
                Ok(())
            })?;
            self.loader.end_part()?;
        }
        Ok(())
    }

    /// Carries out a statement of the dump, or `own` in its place.
    fn statement(&mut self, number: usize, own: Option<&[u8]>) -> Result<(), Failure> {
        let shared = self.shared;
        let statement = &shared.left.statements[number];
        if let (Some(source), Some(section)) = (&shared.left.source, shared.left.behind) {
            let count = lines(source, section);
            self.loader.begin_part(None, Box::new(move || *shared.left.lines_before.get_or_init(&count)));
        }
        let (text, line, context) = (&statement.text, statement.line, &statement.context);
        let mut tries = 1;
        loop {
            let done = match own {
                None => self.loader.carry_out(text, line, context),
                Some(own) => self.loader.carry_out_instead(text, line, context, own),
            };
            match done {
                Err(failure) if tries < TRIES && is_deadlock(&failure) => tries += 1,
                done => return done,
            }
        }
    }

    fn compare(&mut self, table: usize) -> Result<(), Failure> {
        let shared = self.shared;
        let name = &shared.left.tables[table].name;
        let copied = shared.lock().copied.get(name).cloned().unwrap_or_default();
        let content = shared.contents.get(name.as_str()).copied();
        let job = shared.left.described.job(name, &copied, content, &shared.manner)?;
        let outcome = if shared.filling.compare {
            compare(self.reader, &shared.manner, &job)?
        } else {
            counted(&job, copied.rows)
        };
        let mut state = shared.lock();
        state.compared.add(job, outcome);
        Ok(())
    }

    fn analyze(&mut self, table: usize) -> Result<(), Failure> {
        let shared = self.shared;
        let table = &shared.left.tables[table];
        self.loader.leave();
        self.session.run("RESET search_path")?;
        match self.session.batch(&format!("ANALYZE {}", table.name))? {
            Ok(_) => {
                let mut state = shared.lock();
                let oid = state.copied.get(&table.name).map(|copied| copied.oid);
                state.analyzed.extend(oid);
                Ok(())
            }
            // It is no reason to give up a restore, and is tried once more at the end, which tells why it cannot be done.
            Err(refused) if !refused.is_disk_full() => Ok(()),
            Err(refused) => Err(own(&refused, format!("table {} cannot be analyzed", table.name))),
        }
    }
}

fn is_deadlock(failure: &Failure) -> bool {
    failure.causes.iter().any(|cause| cause.ends_with("(40P01)"))
}

/// Tells how many lines stand before a section; 0 if that cannot be read any more.
fn lines<'a>(source: &'a Source<'_>, section: &'a Section) -> LinesBefore<'a> {
    Box::new(|| source.sections.lines_before(section).unwrap_or(0))
}

fn read(
    shared: &Shared<'_>,
    source: &Source<'_>,
    section: &Section,
    take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    source.sections.read(section, &mut |bytes| {
        shared.check()?;
        shared.filling.disk.as_ref().map_or(Ok(()), DataDisk::check)?;
        take(bytes)
    })?;
    (shared.filling.progress)(section.size);
    Ok(())
}
