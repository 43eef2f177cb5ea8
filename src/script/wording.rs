//! The engine's own errors in our words: lowercase, the object in backticks, the exact remedy as a hint.

use crate::base::diagnostic::did_you_mean;
use crate::base::failure::{Code, Failure, Place};
use crate::script::bind;
use crate::script::context::{RunContext, place_at};
use crate::script::engine::PARAMS;
use crate::script::fault::Fault;
use rhai::{Dynamic, Engine, EvalAltResult, LexError, ParseErrorType, Position};

/// Words of the language that playbooks may not use, and what to use instead.
const DISABLED: [(&str, &str); 6] = [
    (
        "switch",
        "Use `if` and `else if`: a `switch` on a value that is known only after the run would fall through.",
    ),
    ("type_of", "Compare values instead: in a dry run a value may be known only after the run."),
    (
        "try",
        "Use `attempt \"name\" { ... }`, a step that may fail: it returns `#{ ok, value, failure }`, and the run then \
         completes with warnings.",
    ),
    (
        "eval",
        "Write the code into the playbook, or import it as a module: what runs must be readable before it runs.",
    ),
    ("exit", "Use `fail(message)` to end a run as failed, or let the playbook reach its end."),
    (
        "sleep",
        "Use `retry(times, delay, || ...)` to wait for something; a run that only waits cannot be rehearsed.",
    ),
];

/// What to use instead of a word that is disabled.
pub fn disabled(word: &str) -> Option<&'static str> {
    DISABLED.iter().find(|(disabled, _)| *disabled == word).map(|(_, instead)| *instead)
}

/// The failure of a text that does not compile.
pub fn syntax_error(error: &ParseErrorType, position: Position, source: &str, file: &str) -> Failure {
    let new = |message: String| Failure::new(Code::Playbook, message);
    let failure = match error {
        ParseErrorType::BadInput(LexError::ImproperSymbol(word, text)) if text.is_empty() => {
            unavailable(word)
        }
        // After a dot, the parser does not tell that it found a word that is disabled.
        ParseErrorType::PropertyExpected if disabled(word_at(source, position)).is_some() => {
            unavailable(word_at(source, position))
        }
        ParseErrorType::BadInput(error) => new(lowercase(&error.to_string())),
        ParseErrorType::UnexpectedEOF => new("the playbook ends too early".to_owned())
            .hint("Close every `{`, `(`, `[` and every quoted text."),
        ParseErrorType::VariableUndefined(name) => undefined(name, source),
        ParseErrorType::ModuleUndefined(name) => new(format!("unknown module `{name}`"))
            .hint(format!("Import it first: `import \"std/{name}\" as {name};`.")),
        ParseErrorType::ForbiddenVariable(name) => new(format!("`{name}` cannot be the name of a variable"))
            .hint(format!("`{name}` holds the playbook's parameters; choose another name.")),
        ParseErrorType::Reserved(word) => new(format!("`{word}` is a reserved word")).hint(
            "Choose another name: reserved words cannot name variables, functions, parameters or keys.",
        ),
        ParseErrorType::MissingToken(token, purpose) => {
            let failure = new(format!("expected `{token}` {purpose}"));
            match token.as_str() {
                ";" => failure.hint("A step alone needs no `;`, but `let x = step \"...\" { ... };` does."),
                _ => failure,
            }
        }
        ParseErrorType::WrongDocComment => {
            new("a `///` comment stands before something that is not a function".to_owned())
                .hint("Use `//!` to describe the playbook, or `//`.")
        }
        other => new(lowercase(&other.to_string())),
    };
    failure.at(place_at(file, position))
}

fn unavailable(word: &str) -> Failure {
    let failure = Failure::new(Code::Playbook, format!("`{word}` is not available in playbooks"));
    disabled(word).into_iter().fold(failure, Failure::hint)
}

/// The word that begins at a position; "" if none does.
fn word_at(source: &str, position: Position) -> &str {
    let (Some(line), Some(column)) = (position.line(), position.position()) else { return "" };
    let line = source.lines().nth(line - 1).unwrap_or_default();
    let begin = line.char_indices().nth(column.saturating_sub(1)).map_or(line.len(), |(index, _)| index);
    let rest = &line[begin..];
    &rest[..rest.find(|c: char| !is_name(c)).unwrap_or(rest.len())]
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn undefined(name: &str, source: &str) -> Failure {
    let failure = Failure::new(Code::Playbook, format!("unknown variable `{name}`"));
    let defined = definitions(source);
    if defined.contains(&name) {
        return failure
            .caused_by("a function sees only its arguments and `params`")
            .hint(format!("Pass `{name}` to the function as an argument."));
    }
    match did_you_mean(name, defined.into_iter().chain([PARAMS])) {
        Some(close) => failure.hint(format!("Did you mean `{close}`?")),
        None => failure,
    }
}

/// Names of the variables that a text defines; only for hints, so comments and texts may fool it.
fn definitions(source: &str) -> Vec<&str> {
    source
        .lines()
        .filter_map(|line| {
            let line = line.trim_start();
            let rest = line.strip_prefix("let ").or_else(|| line.strip_prefix("const "))?.trim_start();
            Some(&rest[..rest.find(|c: char| !is_name(c)).unwrap_or(rest.len())])
        })
        .filter(|name| !name.is_empty())
        .collect()
}

/// The fault that an error of the engine itself stands for.
pub fn engine_error(
    engine: &Engine,
    context: Option<&RunContext>,
    error: &EvalAltResult,
    at: Option<&Place>,
) -> Fault {
    use EvalAltResult as E;
    let kind = |name: &str| type_name(engine, name);
    let defect = |message: String| (Failure::new(Code::Script, message), true);
    let usual = |message: String| (Failure::new(Code::Script, message), false);
    let (failure, defect) = match error {
        E::ErrorFunctionNotFound(signature, _) => (function_not_found(engine, context, signature), true),
        E::ErrorVariableNotFound(name, _) => defect(format!("unknown variable `{name}`")),
        E::ErrorPropertyNotFound(name, _) => (property_not_found(context, name, at), true),
        E::ErrorDotExpr(text, _) => (dot_error(engine, text), true),
        E::ErrorModuleNotFound(path, _) => defect(format!("no module `{path}`")),
        E::ErrorIndexNotFound(index, _) => usual(format!("no entry `{index}`")),
        E::ErrorIndexingType(types, _) => {
            let (target, index) = types.split_once(" [").unwrap_or((types, ""));
            let index = index.trim_end_matches(']');
            defect(format!("a value of type `{}` cannot be indexed with `{}`", kind(target), kind(index)))
        }
        E::ErrorMismatchDataType(wanted, found, _) | E::ErrorMismatchOutputType(wanted, found, _) => {
            defect(format!("expected a value of type `{}`, found `{}`", kind(wanted), kind(found)))
        }
        E::ErrorArrayBounds(len, index, _) => usual(format!("index {index} is outside of an array of {len}")),
        E::ErrorStringBounds(len, index, _) => usual(format!("index {index} is outside of a text of {len}")),
        E::ErrorBitFieldBounds(len, index, _) => usual(format!("bit {index} is outside of {len} bits")),
        E::ErrorArithmetic(text, _) => usual(lowercase(text)),
        E::ErrorFor(_) => defect("`for` needs an array, a map, a text or a range".to_owned()),
        E::ErrorAssignmentToConstant(name, _) => {
            let (failure, _) = defect(format!("`{name}` is a constant"));
            let hint = if name == PARAMS {
                "Parameters are given when the run begins; keep a changed value in a variable of your own."
            } else {
                "Define it with `let` if it has to change."
            };
            (failure.hint(hint), true)
        }
        E::ErrorNonPureMethodCallOnConstant(name, _) => {
            let name = name.trim_start_matches("get$").trim_start_matches("set$");
            defect(format!("`{name}` cannot change a constant"))
        }
        E::ErrorVariableExists(name, _) => defect(format!("the variable `{name}` exists already")),
        E::ErrorForbiddenVariable(name, _) => defect(format!("`{name}` cannot be the name of a variable")),
        E::ErrorUnboundThis(_) => defect("`this` has no value here".to_owned()),
        E::ErrorDataRace(name, _) => defect(format!("{name} is used while it is being changed")),
        E::ErrorStackOverflow(_) => {
            let (failure, _) =
                defect(format!("calls are nested more than {} deep", engine.max_call_levels()));
            (failure.hint("Does a function call itself without end?"), true)
        }
        E::ErrorTooManyVariables(_) => defect(format!("more than {} variables", engine.max_variables())),
        E::ErrorTooManyModules(_) => {
            defect(format!("more than {} modules are imported", engine.max_modules()))
        }
        E::ErrorDataTooLarge(what, _) => defect(match what.as_str() {
            what if what.contains("string") => {
                format!("a text is longer than {} bytes", engine.max_string_size())
            }
            what if what.contains("map") => format!("a map has more than {} entries", engine.max_map_size()),
            _ => format!("an array has more than {} entries", engine.max_array_size()),
        }),
        E::ErrorParsing(kind, position) => (syntax_error(kind, *position, "", ""), true),
        E::ErrorRuntime(value, _) => (thrown(value), false),
        other => defect(lowercase(&other.to_string())),
    };
    Fault { failure, defect }
}

fn thrown(value: &Dynamic) -> Failure {
    let text = if value.is_unit() { "the playbook threw an error".to_owned() } else { value.to_string() };
    Failure::new(Code::Failed, crate::script::unknown::shown(&text))
}

fn function_not_found(engine: &Engine, context: Option<&RunContext>, signature: &str) -> Failure {
    let (name, types) = signature.split_once(" (").unwrap_or((signature, ")"));
    let types: Vec<String> = types
        .trim_end_matches(')')
        .split(", ")
        .filter(|name| !name.is_empty())
        .map(|name| type_name(engine, name))
        .collect();
    let given = types.join(", ");
    if !name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
        return Failure::new(
            Code::Script,
            match types.as_slice() {
                [one] => format!("`{name}` cannot be applied to a value of type `{one}`"),
                _ => format!("`{name}` cannot be applied to values of the types `{given}`"),
            },
        );
    }
    let known: Vec<(String, String)> = engine.collect_fn_metadata(
        None,
        |info| {
            let metadata = info.metadata;
            let params: Vec<String> =
                metadata.params_info.iter().map(|info| parameter(engine, info)).collect();
            Some((metadata.name.to_string(), format!("{}({})", metadata.name, params.join(", "))))
        },
        true,
    );
    let mut overloads: Vec<&str> =
        known.iter().filter(|(other, _)| other == name).map(|(_, signature)| signature.as_str()).collect();
    // A function of a module or of the playbook itself has no metadata here, but its name is known.
    let own = context.map(RunContext::functions).unwrap_or_default();
    let bare = name.rsplit("::").next().unwrap_or(name);
    if overloads.is_empty() && !own.contains(bare) {
        let failure = Failure::new(Code::Script, format!("unknown function `{name}`"));
        let names = known.iter().map(|(name, _)| name.as_str()).filter(|name| !name.contains('$'));
        return match did_you_mean(bare, names.chain(own.iter().map(String::as_str))) {
            Some(close) => failure.hint(format!("Did you mean `{close}`?")),
            None => failure.hint("`lifeboat doc` lists all functions."),
        };
    }
    let given = if given.is_empty() { "no arguments".to_owned() } else { format!("`({given})`") };
    let failure = Failure::new(Code::Script, format!("`{name}` does not take {given}"));
    overloads.sort_unstable();
    overloads.dedup();
    if overloads.is_empty() || overloads.len() > 6 {
        return failure.hint(format!("`lifeboat doc {bare}` shows how it is called."));
    }
    failure.hint(format!("It is called as `{}`.", overloads.join("` or `")))
}

/// A parameter as a person reads it: `path: text`, without the engine's types.
fn parameter(engine: &Engine, info: &str) -> String {
    match info.split_once(':') {
        Some((name, kind)) if name.trim() == "_" => type_name(engine, kind.trim()),
        Some((name, kind)) => format!("{}: {}", name.trim(), type_name(engine, kind.trim())),
        None => type_name(engine, info),
    }
}

fn property_not_found(context: Option<&RunContext>, name: &str, at: Option<&Place>) -> Failure {
    let of_params = at.zip(context).is_some_and(|(at, context)| {
        let line = context.library().source(&at.file);
        let line = line.as_deref().and_then(|text| text.lines().nth(at.line - 1)).unwrap_or_default();
        let before: String = line.chars().take(at.column - 1).collect();
        before.trim_end_matches(['.', ' ']).ends_with(PARAMS)
    });
    if let (true, Some(context)) = (of_params, context) {
        let failure = Failure::new(Code::Script, format!("no parameter `{name}`"));
        let params = context.params().read_lock::<rhai::Map>();
        let names = params.as_ref().map(|params| params.keys().map(|key| key.as_str()).collect::<Vec<_>>());
        return match did_you_mean(name, names.unwrap_or_default()) {
            Some(close) => failure.hint(format!("Did you mean `{close}`?")),
            None => failure
                .hint("Parameters are declared in the header, `const PLAYBOOK = #{ params: #{ ... } };`."),
        };
    }
    Failure::new(Code::Script, format!("no property `{name}`")).hint(format!(
        "Where it may be absent, write `\"{name}\" in map` or `map.get(\"{name}\") ?? default`."
    ))
}

/// `Unknown property 'x' - a getter is not registered for type 'T'`, and its counterpart for setting.
fn dot_error(engine: &Engine, text: &str) -> Failure {
    let quoted: Vec<&str> = text.split('\'').skip(1).step_by(2).collect();
    let (property, of) = match quoted.as_slice() {
        [property, of, ..] => (*property, *of),
        _ => return Failure::new(Code::Script, lowercase(text)),
    };
    let shown = type_name(engine, of);
    if text.starts_with("No writable") {
        return Failure::new(
            Code::Script,
            format!("the property `{property}` of `{shown}` cannot be changed"),
        );
    }
    let failure =
        Failure::new(Code::Script, format!("no property `{property}` on a value of type `{shown}`"));
    let getters: Vec<String> = engine.collect_fn_metadata(
        None,
        |info| {
            let name = info.metadata.name.strip_prefix("get$")?;
            let owner = info.metadata.params_info.first()?;
            (parameter(engine, owner).ends_with(&shown)).then(|| name.to_owned())
        },
        true,
    );
    match did_you_mean(property, getters.iter().map(String::as_str)) {
        Some(close) => failure.hint(format!("Did you mean `{close}`?")),
        None if getters.is_empty() => failure,
        None => failure.hint(format!("It has `{}`.", getters.join("`, `"))),
    }
}

/// The name of a type as playbooks know it.
pub fn type_name(engine: &Engine, name: &str) -> String {
    let bare = bare_type(name);
    match plain_type(bare) {
        Some(known) => known.to_owned(),
        None => last_segment(engine.map_type_name(bare)),
    }
}

/// The name of a type as playbooks know it, where there is no engine.
pub fn type_name_alone(name: &str) -> String {
    let bare = bare_type(name);
    plain_type(bare).map_or_else(|| last_segment(bare), str::to_owned)
}

fn bare_type(name: &str) -> &str {
    let bare = name.trim_start_matches('&').trim_start_matches("mut ").trim();
    match bare.strip_prefix("Result<") {
        Some(rest) => rest.split(',').next().unwrap_or(rest),
        None => bare,
    }
}

fn plain_type(name: &str) -> Option<&'static str> {
    Some(match name {
        "&str | ImmutableString | String"
        | "str | ImmutableString | String"
        | "string"
        | "String"
        | "str"
        | "ImmutableString"
        | "rhai::ImmutableString" => "text",
        "i64" | "INT" | "int" => "int",
        "f64" | "FLOAT" | "float" => "float",
        "bool" => "bool",
        "char" => "character",
        "Dynamic" | "rhai::Dynamic" | "?" => "any",
        "Map" | "rhai::Map" => "map",
        "Array" | "rhai::Array" => "array",
        "FnPtr" | "Fn" | "rhai::FnPtr" => "closure",
        "()" => "nothing",
        other => return bind::kinds().find_map(|kind| kind.named(other)),
    })
}

fn last_segment(name: &str) -> String {
    name.rsplit("::").next().unwrap_or(name).to_owned()
}

fn lowercase(text: &str) -> String {
    let text = text.replace('\'', "`");
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        // `I/O error`, `UTF-8`: not the beginning of a sentence.
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().chain(chars).collect::<String>().trim_end_matches('.').to_owned()
        }
        _ => text,
    }
}
