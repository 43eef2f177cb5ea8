//! `lifeboat customize`: the project's own copy of a module of the standard library.

use crate::base::diagnostic::did_you_mean;
use crate::base::failure::{Code, Exit, Failure};
use crate::cli::global::Context;
use crate::script::library::Library;
use crate::script::lint::drift;
use crate::sys::fs;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// Write a copy of a standard module into `stdlib/`, where it wins over the shipped one
///
/// The copy begins with a line that records the SHA-256 of the shipped text, so that `lifeboat lint` can tell when a newer
/// Lifeboat ships another one. An existing copy is never overwritten.
///
/// With `--json`: an object with `module`, `path` (relative to the project), `sha256` (of the shipped text) and `written`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The module, for example `std/backup`
    #[arg(value_name = "MODULE")]
    module: String,
    /// Write the shipped text to stdout instead, to compare a copy with it
    #[arg(long, conflicts_with = "json")]
    print: bool,
}

#[derive(Debug, Serialize)]
struct Copied<'a> {
    module: &'a str,
    path: &'a str,
    sha256: &'a str,
    written: bool,
}

/// Writes the copy.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, Failure> {
    let library = cx.library();
    if args.print {
        cx.screen.data(&shipped(&args.module, &library)?.1);
        return Ok(Exit::Success);
    }
    copy(&args.module, &library, cx)
}

fn copy(module: &str, library: &Library, cx: &Context) -> Result<Exit, Failure> {
    let (name, shipped) = shipped(module, library)?;
    let module = format!("std/{name}");
    let shown = format!("stdlib/{name}.rhai");
    if library.copy_of(name)?.is_some() {
        return Err(Failure::new(Code::Usage, format!("`{shown}` exists already"))
            .hint("Edit that copy, or remove it first to get a fresh one."));
    }
    let sha256: String =
        Sha256::digest(shipped.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let path = cx.project.join(&shown);
    let written = !cx.global.dry_run;
    if written {
        if let Some(dir) = path.parent() {
            fs::create_dir(dir)?;
        }
        let mut staged = fs::stage(&path, "copy")?;
        std::io::Write::write_all(staged.file(), drift::copy(name, &shipped).as_bytes())
            .map_err(|error| Failure::io("write", staged.path(), &error))?;
        staged.publish()?;
    }
    if cx.global.json {
        cx.screen.json(&Copied { module: &module, path: &shown, sha256: &sha256, written });
    } else if written {
        cx.screen.talk(&format!("wrote `{shown}`; it wins over the shipped `{module}` from now on\n"));
    } else {
        cx.screen.data(&format!("would write `{shown}`; nothing was changed\n"));
    }
    Ok(Exit::Success)
}

/// Name without `std/`, and text, of a module that is part of the program.
fn shipped<'a>(module: &'a str, library: &Library) -> Result<(&'a str, String), Failure> {
    let name = module.strip_prefix("std/").unwrap_or(module);
    let module = format!("std/{name}");
    library.source(&module).map(|text| (name, text)).ok_or_else(|| unknown(&module, library))
}

fn unknown(module: &str, library: &Library) -> Failure {
    let all: Vec<String> = library.std_modules().collect();
    let failure = Failure::new(Code::Usage, format!("there is no module `{module}`"));
    match did_you_mean(module, all.iter().map(String::as_str)) {
        Some(close) => failure.hint(format!("Did you mean `{close}`?")),
        None if all.is_empty() => failure,
        None => {
            let names: Vec<String> = all.iter().map(|name| format!("`{name}`")).collect();
            failure.hint(format!("The modules of the standard library are {}.", names.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::global::{Global, test};
    use expect_test::expect;

    const MODULES: &[(&str, &str)] = &[("backup", "fn nightly() { 1 }\n"), ("verify", "")];

    #[test]
    fn a_copy_is_written_once_and_says_what_it_is_a_copy_of() {
        let dir = tempfile::tempdir().unwrap();
        let library = Library::of(dir.path(), &[], MODULES);
        let path = dir.path().join("stdlib/backup.rhai");

        let (cx, out, _) = test::context(dir.path(), Global { dry_run: true, ..Global::default() });
        copy("std/backup", &library, &cx).unwrap();
        assert_eq!(out.text(), "would write `stdlib/backup.rhai`; nothing was changed\n");
        assert!(!path.exists());

        let (cx, _, err) = test::context(dir.path(), Global::default());
        copy("backup", &library, &cx).unwrap();
        assert_eq!(
            err.text(),
            "wrote `stdlib/backup.rhai`; it wins over the shipped `std/backup` from now on\n"
        );
        expect![[r#"
            //! Copied by `lifeboat customize std/backup`; shipped text: sha256 66b38d46633672dcf1c0c86999bd00a18e51a025ad516981f77b610c39c4b8dc
            fn nightly() { 1 }
        "#]].assert_eq(&std::fs::read_to_string(&path).unwrap());

        std::fs::write(&path, "mine").unwrap();
        let refused = copy("std/backup", &library, &cx).unwrap_err();
        assert_eq!(refused.message, "`stdlib/backup.rhai` exists already");
        assert_eq!(refused.hints, ["Edit that copy, or remove it first to get a fresh one."]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn an_unknown_module_is_refused_with_what_was_meant() {
        let dir = tempfile::tempdir().unwrap();
        let library = Library::of(dir.path(), &[], MODULES);
        let (cx, ..) = test::context(dir.path(), Global::default());
        let refused = copy("std/bakcup", &library, &cx).unwrap_err();
        assert_eq!(
            (refused.code, refused.message.as_str()),
            (Code::Usage, "there is no module `std/bakcup`")
        );
        assert_eq!(refused.hints, ["Did you mean `std/backup`?"]);
        let refused = copy("zzz", &library, &cx).unwrap_err();
        assert_eq!(refused.hints, ["The modules of the standard library are `std/backup`, `std/verify`."]);
    }
}
