//! What the program itself does, for those who look for a fault in it: processes, connections, files, locks.
//!
//! Off unless `LIFEBOAT_LOG` asks, for example with `debug` or `lifeboat::sys=debug`. Lines go to stderr, masked like everything
//! else that is shown.

use crate::base::failure::{Code, Failure};
use crate::base::secret::Masker;
use crate::cli::screen::Screen;
use std::io;
use std::sync::Arc;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Asks for diagnostics, in the notation of `env_logger`.
pub const VARIABLE: &str = "LIFEBOAT_LOG";

/// Begins to tell. A second time in one process changes nothing.
///
/// # Errors
/// `Usage` for a filter that is not understood.
pub fn begin(filter: &str, screen: &Arc<Screen>, masker: &Masker) -> Result<(), Failure> {
    let subscriber = subscriber(filter, screen, masker)?;
    // Whoever was first goes on.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

fn subscriber(
    filter: &str,
    screen: &Arc<Screen>,
    masker: &Masker,
) -> Result<impl Subscriber + use<>, Failure> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::new(Code::Usage, format!("{VARIABLE} is not understood: `{filter}`"))
            .caused_by(error)
            .hint(format!("Set {VARIABLE} to `debug`, or to a list such as `info,lifeboat::sys=debug`."))
    })?;
    let lines = Lines { screen: screen.clone(), masker: masker.clone() };
    Ok(tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(lines).finish())
}

/// Makes a writer for each line.
struct Lines {
    screen: Arc<Screen>,
    masker: Masker,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { lines: self, text: Vec::new() }
    }
}

/// One line. It is masked as a whole, so that no secret is missed because it came in two parts.
struct Line<'a> {
    lines: &'a Lines,
    text: Vec<u8>,
}

impl io::Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.text);
        self.lines.screen.talk(&self.lines.masker.mask(&text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Secret;
    use crate::cli::screen::captured;

    #[test]
    fn lines_are_masked_as_a_whole() {
        let (screen, out, err) = captured::screen();
        let masker = Masker::new();
        let subscriber = subscriber("debug", &screen, &masker).unwrap();
        masker.add(&Secret::new("p@ss \"w0rd"));
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!(args = ?["--password", "p@ss \"w0rd"], text = "p@ss \"w0rd", "spawned p@ss {}", "\"w0rd");
            tracing::trace!("not asked for");
        });
        let said = err.text();
        assert!(said.contains(r#"DEBUG lifeboat::cli::diagnostics::tests: spawned *** args=["--password", "***"] text="***""#), "{said}");
        assert_eq!((out.text().as_str(), said.lines().count()), ("", 1));
    }

    #[test]
    fn a_filter_that_is_not_understood_says_what_would_be() {
        let (screen, ..) = captured::screen();
        let failure = begin("lifeboat=loud", &screen, &Masker::new()).unwrap_err();
        assert_eq!(
            (failure.code, failure.message.as_str()),
            (Code::Usage, "LIFEBOAT_LOG is not understood: `lifeboat=loud`")
        );
    }
}
