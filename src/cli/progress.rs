//! The live view on a terminal: the open steps with a spinner, streams with bytes, rate and time left; lines above.

use crate::base::event::{Event, EventSink, Progress, What};
use crate::cli::lines::{Detail, lines};
use crate::cli::screen::Paint;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const TICK: Duration = Duration::from_millis(100);

/// Draws a run on the terminal.
pub struct LiveSink {
    /// Where to draw, after a pause too.
    target: Box<dyn Fn() -> ProgressDrawTarget + Send + Sync>,
    view: MultiProgress,
    detail: Detail,
    paint: Paint,
    bars: Mutex<Bars>,
}

#[derive(Default)]
struct Bars {
    /// Open steps, outermost first.
    steps: Vec<(String, ProgressBar)>,
    /// Streams, by the action that runs beside others, and by label.
    streams: BTreeMap<(Option<u64>, String), ProgressBar>,
    /// While a person is asked nothing is drawn; what is to be told then.
    held: Option<String>,
}

impl LiveSink {
    /// A view on `target`, normally stderr.
    pub fn new(
        target: impl Fn() -> ProgressDrawTarget + Send + Sync + 'static,
        detail: Detail,
        paint: Paint,
    ) -> Self {
        let view = MultiProgress::with_draw_target(target());
        Self { target: Box::new(target), view, detail, paint, bars: Mutex::default() }
    }

    fn say(&self, text: &str) {
        for line in text.lines() {
            let _ = self.view.println(line);
        }
    }

    fn begin_step(&self, bars: &mut Bars, step: &str) {
        let depth = bars.steps.len();
        let template = format!("{}{{spinner}} {{msg}} ({{elapsed}})", "  ".repeat(depth));
        let bar = ProgressBar::new_spinner().with_style(style(&template)).with_message(step.to_owned());
        let bar = self.view.add(bar);
        bar.enable_steady_tick(TICK);
        bars.steps.push((step.to_owned(), bar));
    }

    fn end_step(&self, bars: &mut Bars, step: &str) {
        self.clear_streams(bars, None);
        bars.steps.retain(|(open, bar)| {
            if open == step {
                bar.finish_and_clear();
                self.view.remove(bar);
            }
            open != step
        });
    }

    /// Clears the streams of one action that runs beside others, or all.
    fn clear_streams(&self, bars: &mut Bars, of: Option<u64>) {
        bars.streams.retain(|(action, _), bar| {
            let stays = of.is_some() && *action != of;
            if !stays {
                bar.finish_and_clear();
                self.view.remove(bar);
            }
            stays
        });
    }

    fn progress(&self, bars: &mut Bars, action: Option<u64>, progress: &Progress) {
        let bar = bars.streams.entry((action, progress.label.clone())).or_insert_with(|| {
            let bar = ProgressBar::new(progress.total.unwrap_or_default())
                .with_style(style(&template(progress)))
                .with_message(progress.label.clone());
            let bar = self.view.add(bar);
            bar.enable_steady_tick(TICK);
            bar
        });
        if bar.length() != progress.total {
            bar.set_style(style(&template(progress)));
            match progress.total {
                Some(total) => bar.set_length(total),
                None => bar.unset_length(),
            }
        }
        bar.set_position(progress.done);
    }
}

/// How a stream is drawn.
fn template(progress: &Progress) -> String {
    let unit = &progress.unit;
    match (unit.as_str(), progress.total) {
        ("bytes", Some(_)) => {
            "    {msg} [{bar:24}] {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left"
                .to_owned()
        }
        ("bytes", None) => "    {spinner} {msg} {binary_bytes}, {binary_bytes_per_sec}".to_owned(),
        (_, Some(_)) => format!("    {{msg}} [{{bar:24}}] {{pos}} of {{len}} {unit}, {{eta}} left"),
        ("", None) => "    {spinner} {msg}".to_owned(),
        (_, None) => format!("    {{spinner}} {{msg}} {{pos}} {unit}"),
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .progress_chars("=> ")
}

impl EventSink for LiveSink {
    fn event(&self, event: &Event) {
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        match &event.what {
            What::Asked { .. } => {
                bars.held = Some(String::new());
                let _ = self.view.clear();
                self.view.set_draw_target(ProgressDrawTarget::hidden());
            }
            What::Answered { .. } => {
                self.view.set_draw_target((self.target)());
                let held = bars.held.take().unwrap_or_default();
                self.say(&(held + lines(&event.what, self.detail, self.paint).as_str()));
                return;
            }
            _ => {}
        }
        if let Some(held) = &mut bars.held {
            held.push_str(&lines(&event.what, self.detail, self.paint));
            return;
        }
        match &event.what {
            What::StepBegun { step } => self.begin_step(&mut bars, step),
            What::Progress(progress) => self.progress(&mut bars, event.action, progress),
            What::StepEnded { step, .. } => {
                self.end_step(&mut bars, step);
                self.say(&lines(&event.what, self.detail, self.paint));
            }
            What::RunEnded { .. } => {
                self.clear_streams(&mut bars, None);
                bars.steps.clear();
                let _ = self.view.clear();
            }
            What::ActionEnded { .. } | What::ActionFailed { .. } => {
                self.clear_streams(&mut bars, event.action);
                self.say(&lines(&event.what, self.detail, self.paint));
            }
            what => self.say(&lines(what, self.detail, self.paint)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::failure::Exit;
    use crate::cli::lines::example;
    use indicatif::TermLike;
    use std::io;
    use std::sync::Arc;

    /// A terminal that keeps what is written to it.
    #[derive(Clone, Debug, Default)]
    struct Paper(Arc<Mutex<String>>);

    impl Paper {
        fn add(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn take(&self) -> String {
            std::mem::take(&mut *self.0.lock().unwrap())
        }
    }

    impl TermLike for Paper {
        fn width(&self) -> u16 {
            120
        }
        fn height(&self) -> u16 {
            40
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.add(&format!("{text}\n"))
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.add(text)
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn sink() -> (LiveSink, Paper) {
        let paper = Paper::default();
        let drawn = paper.clone();
        let target = move || ProgressDrawTarget::term_like_with_hz(Box::new(drawn.clone()), 255);
        (LiveSink::new(target, Detail::Steps, Paint::PLAIN), paper)
    }

    fn send(sink: &LiveSink, what: What) {
        // The view skips what comes too fast for a person to see.
        std::thread::sleep(Duration::from_millis(120));
        sink.event(&example::at(what));
    }

    #[test]
    fn open_steps_and_streams_are_drawn() {
        let (sink, paper) = sink();
        send(&sink, What::StepBegun { step: "Dump".into() });
        let progress = |done, total: Option<u64>, unit: &str| {
            What::Progress(Progress { label: "dump shop".into(), done, total, unit: unit.into() })
        };
        for done in 0..3 {
            send(&sink, progress(done << 20, Some(4 << 20), "bytes"));
        }
        std::thread::sleep(Duration::from_secs(1));
        let text = paper.take();
        assert!(text.contains("Dump ("), "{text}");
        assert!(!text.contains('░'), "a stream was drawn in a style that is not ours: {text}");
        assert!(text.contains("dump shop [============>           ] 2.00 MiB of 4.00 MiB, "), "{text}");
        assert!(text.contains("/s, ") && text.contains(" left"), "{text}");

        send(
            &sink,
            What::StepEnded {
                step: "Dump".into(),
                outcome: crate::base::event::Outcome::Done,
                millis: 3100,
                failure: None,
            },
        );
        let text = paper.take();
        assert!(text.contains("✔ Dump (3.1 s)"), "{text}");
        send(
            &sink,
            What::RunEnded { exit: Exit::Success, millis: 1, failure: None, warnings: vec![], value: None },
        );
        paper.take();
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(paper.take(), "", "something still draws after the end");
    }

    #[test]
    fn streams_of_actions_that_run_at_the_same_time_end_one_by_one() {
        let (sink, paper) = sink();
        let tell = |action: u64, what: What| {
            std::thread::sleep(Duration::from_millis(120));
            sink.event(&Event { action: Some(action), ..example::at(what) });
        };
        // Both are called the same, as files of one name in two folders are.
        let progress = |done: u64| {
            let (label, unit) = ("file a.gz".to_owned(), "files".to_owned());
            What::Progress(Progress { label, done, total: None, unit })
        };
        tell(1, progress(11));
        tell(2, progress(22));
        std::thread::sleep(Duration::from_secs(1));
        let text = paper.take();
        assert!(text.contains("file a.gz 11 files") && text.contains("file a.gz 22 files"), "{text}");
        let (action, summary) = ("save".to_owned(), "saved a.gz".to_owned());
        tell(1, What::ActionEnded { action, number: 1, output: serde_json::Value::Null, summary, millis: 1 });
        paper.take();
        std::thread::sleep(Duration::from_secs(1));
        let text = paper.take();
        assert!(!text.contains("11 files") && text.contains("22 files"), "{text}");
    }

    #[test]
    fn units_without_a_total_are_counted() {
        let (sink, paper) = sink();
        for done in 0..3 {
            let unit = "files".to_owned();
            send(&sink, What::Progress(Progress { label: "archive".into(), done, total: None, unit }));
        }
        std::thread::sleep(Duration::from_secs(1));
        let text = paper.take();
        assert!(text.contains("archive 2 files"), "{text}");
    }
}
