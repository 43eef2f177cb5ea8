//! Consumers of events without a live view: plain lines, JSON lines.

use crate::base::event::{Event, EventSink, Progress, What};
use crate::cli::lines::{Detail, lines};
use crate::cli::screen::Screen;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines on stderr, each with its time, for pipes and log files. No progress.
pub struct PlainSink {
    screen: Arc<Screen>,
    detail: Detail,
}

impl PlainSink {
    /// A sink that tells so much.
    pub fn new(screen: Arc<Screen>, detail: Detail) -> Self {
        Self { screen, detail }
    }
}

impl EventSink for PlainSink {
    fn event(&self, event: &Event) {
        let time = event.time.format("%H:%M:%S");
        let text: String = lines(&event.what, self.detail, self.screen.err_paint)
            .lines()
            .map(|line| format!("{time} {line}\n"))
            .collect();
        if !text.is_empty() {
            self.screen.talk(&text);
        }
    }
}

/// Progress of one stream is told at most so often.
const EVERY: Duration = Duration::from_millis(200);

/// Events as JSON lines on stdout.
pub struct JsonSink {
    screen: Arc<Screen>,
    /// When progress was told last, by the action that runs beside others, and by label.
    told: Mutex<BTreeMap<(Option<u64>, String), Instant>>,
}

impl JsonSink {
    /// A sink on stdout.
    pub fn new(screen: Arc<Screen>) -> Self {
        Self { screen, told: Mutex::default() }
    }

    /// Whether progress is to be told: the first, the last, and some between.
    fn is_due(&self, action: Option<u64>, progress: &Progress) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = (action, progress.label.clone());
        let due = told.get(&stream).is_none_or(|last| last.elapsed() >= EVERY)
            || progress.total == Some(progress.done);
        if due {
            told.insert(stream, Instant::now());
        }
        due
    }
}

impl EventSink for JsonSink {
    fn event(&self, event: &Event) {
        if let What::Progress(progress) = &event.what
            && !self.is_due(event.action, progress)
        {
            return;
        }
        if let Ok(line) = serde_json::to_string(event) {
            self.screen.data(&(line + "\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::lines::example;
    use crate::cli::screen::captured;
    use expect_test::expect;

    #[test]
    fn plain_lines_have_their_time() {
        let (screen, out, err) = captured::screen();
        let sink = PlainSink::new(screen, Detail::Steps);
        for what in example::failed_run() {
            sink.event(&example::at(what));
        }
        expect![[r#"
            02:00:00 backup_database run 20251110-020000-abcdef
            02:00:00 postgres: shop at db1:5432 as app (host from DB_HOST, database from DB_NAME in .env)
            02:00:00 ▶ Dump
            02:00:00   dump: saved shop_db.sql.gz, 1.2 MiB
            02:00:00 ✔ Dump (3.1 s)
            02:00:00 ▶ Announce
            02:00:00 ! Announce failed, the run goes on (20 ms)
            02:00:00   cannot connect to `db1`: Connection refused
            02:00:00   at playbooks/p.rhai:1:3
            02:00:00   hint: Check that PostgreSQL listens on `db1:5432`.
            02:00:00 ℹ️  INFO - two
            02:00:00 ℹ️  INFO - lines
            02:00:00 ▶ Rotate
            02:00:00 ✘ Rotate failed (30 ms)
            02:00:00 ❌ ERROR - it broke
            02:00:00 alert sent to hooks.example
        "#]]
        .assert_eq(&err.text());
        assert_eq!(out.text(), "");
    }

    #[test]
    fn json_lines_are_the_events() {
        let (screen, out, err) = captured::screen();
        let sink = JsonSink::new(screen);
        let events: Vec<Event> = example::failed_run().into_iter().map(example::at).collect();
        for event in &events {
            sink.event(event);
        }
        let read: Vec<Event> = out.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read, events);
        assert_eq!(err.text(), "");
    }

    #[test]
    fn json_progress_is_the_first_the_last_and_little_between() {
        let (screen, out, _) = captured::screen();
        let sink = JsonSink::new(screen);
        for done in 0..=1000 {
            let (label, unit) = ("dump".to_owned(), "bytes".to_owned());
            sink.event(&example::at(What::Progress(Progress { label, done, total: Some(1000), unit })));
        }
        let text = out.text();
        assert!(text.lines().count() < 100, "{}", text.lines().count());
        assert!(text.lines().next().unwrap().contains("\"done\":0,"));
        assert!(text.lines().last().unwrap().contains("\"done\":1000,"));
    }
}
