//! The house keeps its order: layers, exclusive words, one verb one file, no leftovers.

mod source;

use lifeboat::action;
use lifeboat::script::doc;
use source::{Source, root, sources};
use std::collections::{BTreeMap, BTreeSet};

/// Every module and the layer it belongs to.
const LAYERS: [(&str, u8); 9] = [
    ("base", 0),
    ("sys", 1),
    ("action", 2),
    ("observe", 2),
    ("journal", 2),
    ("engine", 3),
    ("script", 4),
    ("daemon", 5),
    ("cli", 6),
];

/// Paths and macros, and the module that alone may name them.
const EXCLUSIVE: [(&str, &str); 31] = [
    ("std::fs", "sys"),
    ("std::process", "sys"),
    ("std::net", "sys"),
    ("std::os", "sys"),
    ("std::env::var", "sys"),
    ("std::env::var_os", "sys"),
    ("std::env::vars", "sys"),
    ("std::env::set_var", "nowhere"),
    ("SystemTime::now", "sys"),
    ("Local::now", "sys"),
    ("Utc::now", "sys"),
    ("libc", "sys"),
    ("rustix", "sys"),
    ("reqwest", "sys"),
    ("rustls", "sys"),
    ("signal_hook", "sys"),
    ("dotenvy", "sys"),
    ("walkdir", "sys"),
    ("tokio_postgres", "sys"),
    ("tokio::fs", "nowhere"),
    ("tokio::net", "sys"),
    ("tokio::process", "nowhere"),
    ("tokio::runtime", "sys"),
    ("rhai", "script"),
    ("clap", "cli"),
    ("indicatif", "cli"),
    ("tracing_subscriber", "cli"),
    ("println!", "cli"),
    ("eprintln!", "cli"),
    ("print!", "cli"),
    ("eprint!", "cli"),
];

/// Most lines of a file, tests left out.
const LONGEST: usize = 500;

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

/// Files of `src` whose code is for the program itself, and not for its tests.
fn program() -> impl Iterator<Item = &'static Source> {
    sources().iter().filter(|source| !source.is_test)
}

#[track_caller]
fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn modules_import_lower_layers_only() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for source in program() {
        let Some(module) = source.module() else { continue };
        let Some(own) = layer(module) else {
            wrong.push(format!("{}: `{module}` stands in no layer", source.path));
            continue;
        };
        seen.insert(module);
        for (line, path) in source.paths() {
            let Some(other) = path.strip_prefix("crate::").and_then(|path| path.split("::").next()) else {
                continue;
            };
            if other != module && layer(other).is_none_or(|other| other >= own) {
                wrong.push(format!("{}:{line}: `{module}` must not know `{path}`", source.path));
            }
        }
        if let Some(line) = source.climbs_out() {
            wrong.push(format!("{}:{line}: `super` leads out of `{module}`", source.path));
        }
    }
    none(&wrong);
    for module in ["base", "sys", "action", "observe", "journal", "engine", "script", "daemon", "cli"] {
        assert!(seen.contains(module), "{module} was not looked at: {seen:?}");
    }
}

#[test]
fn exclusive_words_stay_home() {
    let mut wrong = Vec::new();
    let mut found: BTreeSet<&str> = BTreeSet::new();
    for source in program() {
        let module = source.module().unwrap_or_default();
        for (line, path) in source.paths() {
            for (word, home) in EXCLUSIVE {
                if names(&path, word) {
                    found.insert(word);
                    if module != home {
                        wrong.push(format!("{}:{line}: `{path}` belongs to `{home}`", source.path));
                    }
                }
            }
            if names(&path, "Effects::new") && source.path != "src/engine/session.rs" {
                wrong.push(format!("{}:{line}: effects are made by the session only", source.path));
            }
        }
    }
    none(&wrong);
    // What nobody names any more proves nothing.
    for word in
        ["std::fs", "std::process", "std::env::var", "Local::now", "rhai", "clap", "indicatif", "libc"]
    {
        assert!(found.contains(word), "{word} was not found at all");
    }
}

/// Whether a path is the word, leads through it, or ends with it.
fn names(path: &str, word: &str) -> bool {
    let Some(rest) = path.strip_prefix(word) else {
        return word.contains("::") && !word.starts_with("std") && path.ends_with(&format!("::{word}"));
    };
    rest.is_empty() || rest.starts_with("::")
}

#[test]
fn one_verb_is_one_file() {
    let mut wrong = Vec::new();
    let mut names = Vec::new();
    for source in program() {
        let Some((folder, file)) = source.path.rsplit_once('/') else { continue };
        if folder != "src/action" && folder != "src/observe" {
            continue;
        }
        for name in source.constants("const NAME: &'static str = ") {
            if file != format!("{name}.rs") {
                wrong.push(format!("{}: `{name}` has no file of its own", source.path));
            }
            names.push((folder, name));
        }
    }
    none(&wrong);
    assert!(names.len() > 15, "{names:?}");
    let functions = doc::functions();
    for (folder, name) in &names {
        let function = functions.iter().find(|function| function.name == *name);
        let function = function.unwrap_or_else(|| panic!("scripts have no function `{name}` of {folder}"));
        assert_ne!(function.text, "", "{name}");
        if function.acts {
            assert!(action::NAMES.contains(&name.as_str()), "`{name}` acts without being an action");
        }
    }
    // `rollback` performs the actions that take back what a run did, `parallel` those of a list.
    let of_others = ["rollback", "parallel"];
    for function in functions.iter().filter(|f| f.acts && !of_others.contains(&f.name.as_str())) {
        assert!(action::NAMES.contains(&function.name.as_str()), "`{}` is no action", function.name);
    }
}

#[test]
fn every_dependency_says_why_it_is_here_and_is_used() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut section = String::new();
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in manifest.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        }
        let Some((name, rest)) = line.split_once(" = ") else { continue };
        if !["dependencies", "dev-dependencies"].contains(&section.as_str()) {
            continue;
        }
        count += 1;
        let why = rest.rsplit_once("# ").map_or("", |(_, why)| why);
        if why.split(' ').count() < 3 {
            wrong.push(format!("`{name}` does not say why it is here"));
        }
        let word = format!("{}::", name.replace('-', "_"));
        let for_tests = section == "dev-dependencies";
        let used = sources()
            .iter()
            .filter(|source| for_tests || !source.is_test)
            .any(|source| source.paths_with_tests(for_tests).iter().any(|(_, path)| path.starts_with(&word)));
        if !used {
            wrong.push(format!("`{name}` is not used"));
        }
    }
    none(&wrong);
    assert!(count > 30, "{count} dependencies were found");
}

#[test]
fn files_are_short() {
    let lines = |path: &str| std::fs::read_to_string(root().join(path)).unwrap().lines().count();
    assert!(lines("src/main.rs") <= 30);
    assert!(lines("src/lib.rs") <= 80);
    let long: Vec<String> = program()
        .map(|source| (source.lines(), source))
        .filter(|(lines, _)| *lines > LONGEST)
        .map(|(lines, source)| format!("{} has {lines} lines without its tests", source.path))
        .collect();
    none(&long);
}

#[test]
fn the_map_of_the_house_names_every_room() {
    let map = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let modules: BTreeMap<&str, u8> = LAYERS.into_iter().collect();
    for entry in std::fs::read_dir(root().join("src")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            assert!(modules.contains_key(name.as_str()), "`{name}` stands in no layer");
            let line =
                map.lines().find(|line| line.starts_with("//!") && line.contains(&format!("[`{name}`]")));
            let line = line.unwrap_or_else(|| panic!("src/lib.rs does not tell of `{name}`"));
            assert!(line.contains(&format!("L{}", modules[name.as_str()])), "{line}");
        }
    }
}

#[test]
fn nothing_is_left_undone() {
    let words = [
        concat!("to", "do!"),
        concat!("db", "g!"),
        concat!("unimpl", "emented!"),
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("XX", "X"),
    ];
    let mut wrong = Vec::new();
    let mut count = 0;
    for folder in
        ["src", "tests", "stdlib", "playbooks", "Cargo.toml", "README.md", "demo.sh", "test.sh", ".ci"]
    {
        for entry in walkdir::WalkDir::new(root().join(folder)).into_iter().flatten() {
            let Ok(text) = std::fs::read_to_string(entry.path()) else { continue };
            count += 1;
            for (number, line) in text.lines().enumerate() {
                if words.iter().any(|word| line.contains(word)) {
                    wrong.push(format!("{}:{}: {line}", entry.path().display(), number + 1));
                }
            }
        }
    }
    none(&wrong);
    assert!(count > 150, "{count} files were read");
}
