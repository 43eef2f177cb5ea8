//! The steps of a load, and what each one comes after.
//!
//! Rows come first, each table for itself. Its indexes follow as soon as its rows are in. A foreign key is added without being
//! validated when the rows and indexes of both tables are in; validating it is a step of its own, which other work can go beside.
//! All else keeps the order of the dump, behind all rows and all that stands before it; what may run code of the dump waits for
//! validation too, since an event trigger would see it. Reading a table back waits for everything that may run code of the dump,
//! which could still change rows; so do the constraints of tables that come late.

use super::kind::{Code, ForeignKey, Kind};
use super::schedule::{Lock, Step};
use std::collections::BTreeMap;

/// What a step does. Numbers count tables and statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Loads the rows of a table.
    Rows(usize),
    /// Carries out what else belongs to the data.
    Data,
    /// Carries out a statement as it stands.
    Statement(usize),
    /// Adds a foreign key without validating it.
    AddForeignKey(usize),
    /// Validates it.
    Validate(usize),
    /// Reads a table back and compares it.
    Compare(usize),
    /// Analyzes a table.
    Analyze(usize),
    /// Nothing: others wait for all that it waits for.
    Milestone,
}

/// A table whose rows a dump holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Its name as the dump writes it.
    pub name: String,
    /// About how many bytes its rows have.
    pub size: u64,
    /// Whether its rows are taken only after those of the tables before it: a constraint may look at them.
    pub late: bool,
    /// Whether its rows are in already.
    pub loaded: bool,
    /// Whether it is analyzed by a step of its own.
    pub analyze: bool,
    /// Whether its rows go to its partitions, which the dump then need not name.
    pub partitioned: bool,
}

/// What decides about the steps beside tables and statements.
#[derive(Clone, Copy, Debug, Default)]
pub struct Circumstances {
    /// Bytes of the data that are no rows.
    pub data: u64,
    /// Whether queries of views use functions that the dump has brought along.
    pub views_run_code: bool,
    /// Whether rows are not read back.
    pub only_counted: bool,
    /// Whether the data comes by a stream in the dump's order: who reads that tells when rows are in.
    pub streamed: bool,
}

/// The steps, each after those that it waits for.
pub fn steps(tables: &[Table], statements: &[Kind], circumstances: Circumstances) -> Vec<(Work, Step)> {
    let mut plan = Plan { apart: circumstances.streamed, steps: Vec::new() };
    let by_name: BTreeMap<&str, usize> =
        tables.iter().enumerate().map(|(number, table)| (table.name.as_str(), number)).collect();
    let rows: Vec<Option<usize>> = plan.rows(tables);
    let data = plan.add(Work::Data, circumstances.data, Vec::new(), Vec::new());
    plan.apart = false;
    let all_rows =
        plan.add(Work::Milestone, 0, rows.iter().copied().flatten().chain([data]).collect(), Vec::new());
    let late = tables.iter().zip(&rows).filter(|(table, _)| table.late);
    let late: Vec<usize> = late.filter_map(|(_, rows)| *rows).collect();
    let late = (!late.is_empty()).then(|| plan.add(Work::Milestone, 0, late, Vec::new()));
    let any_partitioned = tables.iter().any(|table| table.partitioned);
    let mut indexes: Vec<Vec<usize>> = vec![Vec::new(); tables.len()];
    let (mut since, mut validating) = (Vec::new(), Vec::new());
    let mut last = all_rows;
    let (mut barrier, mut code, mut statistics) = (None, None, None);
    for (number, kind) in statements.iter().enumerate() {
        let of = |name: &str| by_name.get(name).copied();
        match kind {
            Kind::Index(table) | Kind::Key(table) => {
                let step = match of(table) {
                    Some(table) => {
                        let after = rows[table].into_iter().chain(barrier).collect();
                        let size = tables[table].size * 4;
                        let lock = if matches!(kind, Kind::Key(_)) { Lock::Alone } else { Lock::Build };
                        let step = plan.add(Work::Statement(number), size, after, vec![(table, lock)]);
                        indexes[table].push(step);
                        step
                    }
                    // Of a view or of a table that holds no rows itself: there is nothing to be done in it yet, unless it is
                    // a partition that others' rows go to.
                    None => {
                        let after = barrier.into_iter().chain(any_partitioned.then_some(all_rows)).collect();
                        plan.add(Work::Statement(number), 1, after, Vec::new())
                    }
                };
                since.push(step);
            }
            // One of a partitioned table can only be added as a whole (PostgreSQL up to 17).
            Kind::ForeignKey(ForeignKey { table, referenced, validated, .. })
                if [table, referenced]
                    .iter()
                    .all(|name| of(name).is_some_and(|table| !tables[table].partitioned)) =>
            {
                let (Some(table), Some(referenced)) = (of(table), of(referenced)) else { continue };
                let both = [table, referenced];
                let after = both.iter().filter_map(|table| rows[*table]).chain(barrier);
                let after = after.chain(indexes[referenced].iter().copied()).collect();
                let locks = both.map(|table| (table, Lock::Upkeep)).to_vec();
                let work = if *validated { Work::AddForeignKey(number) } else { Work::Statement(number) };
                let add = plan.add(work, 1, after, locks);
                since.push(add);
                if *validated {
                    let locks = vec![(table, Lock::Upkeep), (referenced, Lock::Read)];
                    let size = tables[table].size * 4;
                    validating.push(plan.add(Work::Validate(number), size, vec![add], locks));
                }
            }
            other => {
                let runs_code = match other {
                    Kind::Other(Code::Maybe) | Kind::CastIndex { .. } => true,
                    // It is a command that event triggers see which stand before it.
                    Kind::Other(Code::Refresh) => circumstances.views_run_code || code.is_some(),
                    _ => false,
                };
                let mut after = std::mem::take(&mut since);
                after.push(last);
                // Validating is no command of the dump's: an event trigger that it makes must see none.
                if runs_code {
                    after.append(&mut validating);
                }
                last = plan.add(Work::Statement(number), 1, after, Vec::new());
                match other {
                    Kind::Light => {}
                    Kind::Statistics => statistics = Some(last),
                    _ => barrier = Some(last),
                }
                if runs_code {
                    code = Some(last);
                }
            }
        }
    }
    let mut compared = Vec::new();
    for (number, table) in tables.iter().enumerate() {
        let after = rows[number].into_iter().chain(late).chain(code).collect();
        let (size, locks) = match circumstances.only_counted {
            true => (1, Vec::new()),
            false => (table.size * 5, vec![(number, Lock::Read)]),
        };
        compared.push(plan.add(Work::Compare(number), size, after, locks));
    }
    // Statistics of expressions are gathered by running them.
    let all_compared = code.map(|_| plan.add(Work::Milestone, 0, compared, Vec::new()));
    for (number, table) in tables.iter().enumerate().filter(|(_, table)| table.analyze) {
        let after = rows[number].into_iter().chain(indexes[number].iter().copied());
        let after = after.chain(statistics).chain(barrier).chain(all_compared).collect();
        plan.add(Work::Analyze(number), ANALYZE.min(table.size * 10), after, vec![(number, Lock::Upkeep)]);
    }
    plan.steps
}

/// What analyzing a large table costs: it looks at a sample of one size.
const ANALYZE: u64 = 30 << 20;

struct Plan {
    steps: Vec<(Work, Step)>,
    /// Whether what is added now is carried out elsewhere.
    apart: bool,
}

impl Plan {
    fn add(&mut self, work: Work, weight: u64, mut after: Vec<usize>, locks: Vec<(usize, Lock)>) -> usize {
        after.sort_unstable();
        after.dedup();
        self.steps.push((work, Step { weight, after, locks, apart: self.apart }));
        self.steps.len() - 1
    }

    fn rows(&mut self, tables: &[Table]) -> Vec<Option<usize>> {
        let mut rows: Vec<Option<usize>> = Vec::new();
        let mut milestone: Option<(usize, usize)> = None;
        for (number, table) in tables.iter().enumerate() {
            let mut after = Vec::new();
            if table.late && !self.apart {
                // One milestone for all before, so that many late tables do not each wait for all others.
                let (from, before) = milestone.map_or((0, None), |(from, step)| (from, Some(step)));
                let all = rows[from..].iter().copied().flatten().chain(before).collect();
                let step = self.add(Work::Milestone, 0, all, Vec::new());
                milestone = Some((number, step));
                after.push(step);
            }
            rows.push((!table.loaded).then(|| {
                let locks = if self.apart { Vec::new() } else { vec![(number, Lock::Alone)] };
                self.add(Work::Rows(number), table.size * 10, after, locks)
            }));
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, late: bool) -> Table {
        Table { name: name.to_owned(), size: 1000, late, analyze: true, ..Table::default() }
    }

    fn key(table: &str, referenced: &str, validated: bool) -> Kind {
        let (table, referenced) = (table.to_owned(), referenced.to_owned());
        Kind::ForeignKey(ForeignKey { table, referenced, name: b"k".to_vec(), validated })
    }

    /// Whether `one` comes after `other`, be it through others.
    fn is_after(steps: &[(Work, Step)], one: Work, other: Work) -> bool {
        let number = |wanted: Work| steps.iter().position(|(work, _)| *work == wanted).unwrap();
        let (one, other) = (number(one), number(other));
        let mut seen = vec![one];
        while let Some(at) = seen.pop() {
            if at == other {
                return true;
            }
            seen.extend(&steps[at].1.after);
        }
        false
    }

    #[test]
    fn each_statement_waits_for_what_it_needs_and_for_nothing_else() {
        use Work::{AddForeignKey, Analyze, Compare, Data, Rows, Statement, Validate};
        let tables = [table("a", false), table("b", false), table("c", false)];
        let statements = [
            Kind::Key("a".to_owned()),
            Kind::Index("b".to_owned()),
            Kind::Index("parent".to_owned()),
            Kind::Light,
            key("b", "a", true),
            key("b", "c", false),
            Kind::Light,
            Kind::Other(Code::Refresh),
            Kind::Index("c".to_owned()),
        ];
        let found = steps(&tables, &statements, Circumstances::default());
        let after = |one, other| is_after(&found, one, other);
        assert!(after(Statement(0), Rows(0)) && !after(Statement(0), Rows(1)));
        assert!(after(Statement(1), Rows(1)) && !after(Statement(1), Statement(0)));
        assert!(
            [Rows(0), Rows(1), Rows(2), Data, Statement(0), Statement(1), Statement(2)]
                .iter()
                .all(|before| after(Statement(3), *before))
        );
        for before in [Rows(0), Rows(1), Statement(0)] {
            assert!(after(AddForeignKey(4), before) && after(Validate(4), before));
        }
        assert!(!after(AddForeignKey(4), Statement(3)) && !after(AddForeignKey(4), Rows(2)));
        assert!(after(Validate(4), AddForeignKey(4)));
        // A key that the dump has not validated stays so.
        assert!(after(Statement(5), Rows(2)) && !found.iter().any(|(work, _)| *work == Validate(5)));
        assert!(
            [AddForeignKey(4), Statement(5), Statement(3)].iter().all(|before| after(Statement(6), *before))
        );
        assert!(after(Statement(7), Statement(6)) && after(Statement(8), Statement(7)));
        assert!(
            after(Compare(2), Rows(2)) && !after(Compare(2), Statement(7)) && !after(Compare(2), Rows(0))
        );
        assert!(after(Analyze(0), Statement(0)) && after(Analyze(1), Statement(1)));
        assert!(
            found
                .iter()
                .enumerate()
                .all(|(number, (_, step))| step.after.iter().all(|before| *before < number))
        );
    }

    #[test]
    fn what_may_run_code_of_the_dump_comes_before_tables_are_compared() {
        let tables = [table("a", false), table("b", false)];
        let statements = [Kind::Index("a".to_owned()), Kind::Other(Code::Refresh)];
        for views_run_code in [false, true] {
            let found =
                steps(&tables, &statements, Circumstances { views_run_code, ..Circumstances::default() });
            for number in [0, 1] {
                assert_eq!(is_after(&found, Work::Compare(number), Work::Statement(1)), views_run_code);
                assert_eq!(is_after(&found, Work::Analyze(0), Work::Compare(number)), views_run_code);
            }
        }
        let statements = [Kind::Other(Code::Maybe), Kind::Other(Code::Refresh)];
        let found = steps(&tables, &statements, Circumstances::default());
        assert!((0..2).all(|number| is_after(&found, Work::Compare(0), Work::Statement(number))));
    }

    #[test]
    fn what_may_make_an_event_trigger_comes_behind_all_validation() {
        let tables = [table("a", false), table("b", false)];
        let statements =
            [key("a", "b", true), Kind::Light, key("b", "a", true), Kind::Light, Kind::Other(Code::Maybe)];
        let found = steps(&tables, &statements, Circumstances::default());
        for number in [0, 2] {
            assert!(is_after(&found, Work::Statement(4), Work::Validate(number)));
            assert!(!is_after(&found, Work::Statement(3), Work::Validate(number)));
        }
    }

    #[test]
    fn a_table_whose_constraints_may_look_at_others_waits_for_those_before_it() {
        let tables = ["a", "b", "c", "d", "e"].map(|name| table(name, ["c", "e"].contains(&name)));
        let found = steps(&tables, &[], Circumstances::default());
        let after = |one: usize, other: usize| is_after(&found, Work::Rows(one), Work::Rows(other));
        assert!(after(2, 0) && after(2, 1) && !after(3, 0) && !after(1, 0));
        assert!((0..4).all(|before| after(4, before)));
        let loaded = tables.map(|table| Table { loaded: true, ..table });
        assert!(
            !steps(&loaded, &[], Circumstances::default())
                .iter()
                .any(|(work, _)| matches!(work, Work::Rows(_)))
        );
    }

    #[test]
    fn a_table_is_compared_when_no_constraint_can_change_it_any_more() {
        let tables = ["a", "b", "c"].map(|name| table(name, name == "c"));
        let found = steps(&tables, &[], Circumstances::default());
        assert!(is_after(&found, Work::Compare(0), Work::Rows(2)));
    }

    #[test]
    fn what_belongs_to_partitioned_tables_and_their_partitions_waits_for_all_rows() {
        let tables = [Table { partitioned: true, ..table("a", false) }, table("b", false)];
        let kinds =
            [key("a", "b", true), key("b", "a", true), key("b", "b", true), Kind::Index("a_1".to_owned())];
        let found = steps(&tables, &kinds, Circumstances::default());
        let keys: Vec<Work> = found
            .iter()
            .map(|(work, _)| *work)
            .filter(|work| matches!(work, Work::Statement(_) | Work::AddForeignKey(_) | Work::Validate(_)))
            .collect();
        assert_eq!(
            keys,
            [
                Work::Statement(0),
                Work::Statement(1),
                Work::AddForeignKey(2),
                Work::Validate(2),
                Work::Statement(3)
            ]
        );
        for statement in [0, 1, 3] {
            assert!([0, 1].iter().all(|rows| is_after(
                &found,
                Work::Statement(statement),
                Work::Rows(*rows)
            )));
        }
    }

    #[test]
    fn rows_of_a_stream_are_carried_out_elsewhere_and_nothing_else_is() {
        let tables = ["a", "b"].map(|name| table(name, name == "b"));
        let circumstances = Circumstances { streamed: true, ..Circumstances::default() };
        let found = steps(&tables, &[Kind::Index("a".to_owned()), Kind::Light], circumstances);
        let apart: Vec<Work> = found.iter().filter(|(_, step)| step.apart).map(|(work, _)| *work).collect();
        assert_eq!(apart, [Work::Rows(0), Work::Rows(1), Work::Data]);
        // Their order is that of the stream.
        assert!(
            found
                .iter()
                .filter(|(_, step)| step.apart)
                .all(|(_, step)| step.after.is_empty() && step.locks.is_empty())
        );
        assert!(
            is_after(&found, Work::Statement(0), Work::Rows(0))
                && !is_after(&found, Work::Statement(0), Work::Rows(1))
        );
        assert!(is_after(&found, Work::Statement(1), Work::Data));
    }
}
