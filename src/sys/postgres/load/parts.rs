//! Parts of a dump, carried out apart from each other: by several sessions, and in another order than that of the file.

use super::super::context::Context;
use super::super::loading::kind::{Kind, Place, place};
use super::super::quote::ident;
use super::super::scan::Scanner;
use super::super::statement::describe;
use super::{Copied, LinesBefore, Loader, Target, Terms};
use crate::base::backup::TableContent;
use crate::base::failure::Failure;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A statement behind the rows that is yet to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deferred {
    /// The statement.
    pub text: Vec<u8>,
    /// Its line in the part that holds it.
    pub line: u64,
    /// The settings that were made before it.
    pub context: Arc<Context>,
    /// What it needs of the others.
    pub kind: Kind,
}

impl<'a> Loader<'a> {
    /// What sessions that join need to know.
    pub fn terms(&self) -> Terms {
        let encoding = self.done.encoding.clone();
        Terms { known: self.known.clone(), tablespaces: self.tablespaces.clone(), encoding }
    }

    /// The settings that the dump has made so far.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Begins a part of the dump, which holds rows of `target` alone, or none.
    pub fn begin_part(&mut self, target: Option<Target>, before: LinesBefore<'a>) {
        self.target = target;
        self.before = before;
    }

    /// Tells of the tables whose rows are to come, each once.
    pub fn expect(&mut self, targets: Vec<Target>) {
        self.expected = targets.into_iter().map(|target| (target.name.clone(), target)).collect();
    }

    /// The tables whose rows are in.
    pub fn copied(&self) -> &BTreeMap<String, Copied> {
        &self.done.copied
    }

    /// Carries out what was taken, as far as statements were kept back to go in one batch.
    pub fn pause(&mut self) -> Result<(), Failure> {
        self.flush()
    }

    /// Carries out one statement of a part, together with those that follow.
    pub fn add_statement(&mut self, text: &[u8], line: u64) -> Result<(), Failure> {
        self.statement(text, line)
    }

    /// Ends a part of the dump: returns the rows that it loaded, by table, and the tables as the part held them.
    pub fn end_part(&mut self) -> Result<(BTreeMap<String, Copied>, Vec<TableContent>), Failure> {
        self.end_scan()?;
        self.scanner = Scanner::new();
        self.target = None;
        let contents = std::mem::take(&mut self.contents);
        Ok((std::mem::take(&mut self.done.copied), contents.tables()))
    }

    /// Carries out one statement under the settings that the dump had made before it.
    pub fn carry_out(&mut self, text: &[u8], line: u64, context: &Arc<Context>) -> Result<(), Failure> {
        self.enter(context)?;
        self.statement(text, line)?;
        self.flush()
    }

    /// Carries out `own` in place of a statement of the dump, of which messages speak.
    pub fn carry_out_instead(
        &mut self,
        text: &[u8],
        line: u64,
        context: &Arc<Context>,
        own: &[u8],
    ) -> Result<(), Failure> {
        self.enter(context)?;
        self.add(own, line, None)?;
        if let Some(item) = self.items.last_mut() {
            item.describe = describe(text);
        }
        self.flush()
    }

    /// Makes the settings those that `context` says.
    pub fn enter(&mut self, context: &Arc<Context>) -> Result<(), Failure> {
        if Arc::ptr_eq(&self.context, context) {
            return Ok(());
        }
        for name in self.context.beyond(context) {
            self.session.run(&format!("RESET {}", ident(name)))?;
        }
        for setting in context.settings() {
            self.statement(&setting.text, setting.line)?;
        }
        self.flush()?;
        self.context = context.clone();
        Ok(())
    }

    /// Has the settings made anew before the next statement, since something else was done in the session.
    pub fn leave(&mut self) {
        self.context = Arc::default();
    }

    /// What was left out so far.
    pub fn notes(&self) -> &[String] {
        &self.done.notes
    }

    /// Keeps a statement behind the rows for later, where all that follows can be kept too; says whether it was kept.
    pub(super) fn defers(&mut self, text: &[u8], line: u64) -> Result<bool, Failure> {
        let kind = match place(text) {
            Place::Setting => return Ok(false),
            Place::Data if self.deferred.is_empty() => return Ok(false),
            Place::Data => Kind::Light,
            Place::Transaction if self.deferred.is_empty() => return Ok(false),
            Place::Transaction | Place::Session => {
                self.options.defer = false;
                self.catch_up()?;
                return Ok(false);
            }
            Place::Made(kind) => kind,
        };
        let context = self.context.clone();
        self.deferred.push(Deferred { text: text.to_vec(), line, context, kind });
        Ok(true)
    }

    /// Carries out what was kept for later, since something follows that must come after it.
    pub(super) fn catch_up(&mut self) -> Result<(), Failure> {
        let (context, defer) = (self.context.clone(), std::mem::take(&mut self.options.defer));
        for statement in std::mem::take(&mut self.deferred) {
            self.carry_out(&statement.text, statement.line, &statement.context)?;
        }
        self.enter(&context)?;
        self.options.defer = defer;
        Ok(())
    }

    /// What was kept for later.
    pub fn take_deferred(&mut self) -> Vec<Deferred> {
        std::mem::take(&mut self.deferred)
    }
}
