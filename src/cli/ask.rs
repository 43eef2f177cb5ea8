//! Answers questions: a person at the terminal, or the flag that said yes in advance.

use crate::base::confirm::{Answer, Asker};
use crate::cli::screen::Screen;
use std::io::{IsTerminal, stdin};
use std::sync::Arc;

/// Asks the person at the terminal.
struct Person(Arc<Screen>);

impl Asker for Person {
    fn ask(&self, question: &str) -> Option<Answer> {
        let paint = self.0.err_paint;
        self.0.talk(&format!("{} {question} {} ", paint.warning("?"), paint.faint("[y/N]")));
        let mut line = String::new();
        // The end of the input is no answer, and no answer is not yes.
        let read = stdin().read_line(&mut line).ok()?;
        if read == 0 {
            self.0.talk("\n");
        }
        Some(Answer { yes: is_yes(&line), by: "a person".to_owned() })
    }
}

/// Says yes to everything, as the command line asked for.
struct InAdvance;

impl Asker for InAdvance {
    fn ask(&self, _: &str) -> Option<Answer> {
        Some(Answer { yes: true, by: "--yes".to_owned() })
    }
}

/// Who answers the questions of a run, if anybody can: JSON is read by a program, and what is no terminal by nobody.
pub fn asker(screen: &Arc<Screen>, yes: bool, json: bool) -> Option<Arc<dyn Asker>> {
    if yes {
        return Some(Arc::new(InAdvance));
    }
    let person = screen.live && stdin().is_terminal() && !json;
    person.then(|| Arc::new(Person(screen.clone())) as Arc<dyn Asker>)
}

fn is_yes(line: &str) -> bool {
    matches!(line.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        for line in ["y\n", "Y", " yes \r\n", "YES"] {
            assert!(is_yes(line), "{line:?}");
        }
        for line in ["", "\n", "n", "no", "yep", "ye s", "j"] {
            assert!(!is_yes(line), "{line:?}");
        }
    }
}
