//! The functions of playbooks as `lifeboat doc` tells them, from the metadata of the bindings.

use crate::base::diagnostic::did_you_mean;
use crate::base::failure::{Code, Failure};
use crate::script::engine::engine;
use crate::script::known::Known;
use crate::script::surface::{EFFECTS, FAMILIES, family};
use serde::Serialize;

/// One function, with all its forms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FunctionDoc {
    /// Its name.
    pub name: String,
    /// What it belongs to.
    pub family: String,
    /// How it is called.
    pub signatures: Vec<String>,
    /// What it does.
    pub text: String,
    /// Whether it acts on the world, so that it stands inside steps.
    pub acts: bool,
}

/// The family of the language's own additions.
const STEPS: &str = "Steps";

/// All functions, by family in the order of the manual, then by name.
pub fn functions() -> Vec<FunctionDoc> {
    of(&Known::of(&engine()))
}

/// One function.
///
/// # Errors
/// `Usage` when there is none, with the name that was probably meant.
pub fn find(name: &str) -> Result<FunctionDoc, Failure> {
    let all = functions();
    all.iter().find(|function| function.name == name).cloned().ok_or_else(|| {
        let failure = Failure::new(Code::Usage, format!("unknown function `{name}`"));
        match did_you_mean(name, all.iter().map(|function| function.name.as_str())) {
            Some(close) => failure.hint(format!("Did you mean `{close}`?")),
            None => failure.hint("`lifeboat doc` lists all functions."),
        }
    })
}

fn of(known: &Known) -> Vec<FunctionDoc> {
    let mut all: Vec<FunctionDoc> = steps().into();
    for form in known.ours() {
        let last = all.last_mut().filter(|last| last.name == form.name);
        let doc = match last {
            Some(doc) => doc,
            None => {
                all.push(FunctionDoc {
                    name: form.name.clone(),
                    family: family(&form.name).to_owned(),
                    signatures: Vec::new(),
                    text: String::new(),
                    acts: EFFECTS.contains(&form.name.as_str()),
                });
                let index = all.len() - 1;
                &mut all[index]
            }
        };
        doc.signatures.push(form.shown());
        if !form.text.is_empty() && !doc.text.contains(&form.text) {
            doc.text = [doc.text.as_str(), form.text.as_str()].join("\n\n").trim().to_owned();
        }
    }
    // How a value is shown is not a function that anybody calls.
    all.retain(|doc| !["to_string", "to_debug", "print", "debug"].contains(&doc.name.as_str()));
    all.sort_by_key(|doc| (order(&doc.family), doc.name.clone()));
    all
}

fn order(family: &str) -> usize {
    if family == STEPS {
        return 0;
    }
    FAMILIES.iter().position(|(name, _)| *name == family).map_or(usize::MAX, |index| index + 1)
}

/// What is syntax rather than a function.
fn steps() -> [FunctionDoc; 4] {
    let doc = |name: &str, signature: &str, text: &str| FunctionDoc {
        name: name.to_owned(),
        family: STEPS.to_owned(),
        signatures: vec![signature.to_owned()],
        text: text.to_owned(),
        acts: false,
    };
    [
        doc(
            "step",
            "step \"name\" { ... }",
            "A named part of the run, timed and journaled. Its value is that of its block:\n\
             `let backup = step \"Dump\" { ... };`. Actions stand inside steps. A step does not assign outer\n\
             variables and is not left by `return`, `break` or `continue`.",
        ),
        doc(
            "attempt",
            "attempt \"name\" { ... } -> #{ ok, value, failure }",
            "A step that may fail: the run goes on, and completes with warnings (exit 3). `ok` tells whether it\n\
             succeeded, `value` is that of its block, `failure` says what failed.",
        ),
        doc(
            "ensure",
            "ensure { ... } always { ... }",
            "A block with a clean-up, which follows success, failure and interruption. Its value is that of the\n\
             first block. When both fail, the first failure ends the run. A second Ctrl-C ends the clean-up too; a run\n\
             that was killed before it ended owes it, and `lifeboat resume` does it.",
        ),
        doc(
            "params",
            "params.NAME",
            "The parameters of this run, as the header declares them. They are visible in functions too, and cannot\n\
             be changed.",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use rhai::{Engine, FuncRegistration, ImmutableString, Map, Module};

    #[test]
    fn functions_are_told_in_the_words_of_playbooks() {
        let mut engine = Engine::new();
        let mut module = Module::new();
        let rotate = |params: &[&str]| FuncRegistration::new("rotate").with_params_info(params);
        rotate(&["dir: &str", "options: Map", "Result<Array, Box<EvalAltResult>>"])
            .with_comments([
                "/// Removes what no rule keeps.",
                "///",
                "/// Never the newest verified backup.",
            ])
            .set_into_module(&mut module, |_: ImmutableString, _: Map| 1_i64);
        rotate(&["dir: &str", "i64"]).set_into_module(&mut module, |_: ImmutableString| 1_i64);
        engine.register_global_module(module.into());
        let all = of(&Known::of(&engine));
        assert_eq!(
            all.iter().map(|doc| doc.name.as_str()).collect::<Vec<_>>(),
            ["attempt", "ensure", "params", "step", "rotate"]
        );
        assert_eq!(
            all[4],
            FunctionDoc {
                name: "rotate".into(),
                family: "Keeping and checking".into(),
                signatures: vec![
                    "rotate(dir: text) -> int".into(),
                    "rotate(dir: text, options: map) -> array".into()
                ],
                text: "Removes what no rule keeps.\n\nNever the newest verified backup.".into(),
                acts: true,
            }
        );
    }

    #[test]
    fn every_function_of_the_engine_is_documented_without_rust_paths() {
        // The crate's own tests add functions to the engine.
        let probes = ["ask", "make", "made_later", "works_at", "panics", "opaque", "interrupt", "to_make"];
        for doc in functions().into_iter().filter(|doc| !probes.contains(&doc.name.as_str())) {
            assert_ne!(doc.family, "More", "`{}` stands in no family", doc.name);
            assert_ne!(doc.text, "", "`{}` has no doc comment", doc.name);
            let foreign =
                doc.signatures.iter().find(|s| s.contains("::") || s.contains('&') || s.contains('<'));
            assert_eq!(foreign, None, "`{}`", doc.name);
        }
    }

    #[test]
    fn an_unknown_function_gets_a_proposal() {
        let failure = find("stepp").unwrap_err();
        assert_eq!(failure.message, "unknown function `stepp`");
        assert_eq!(failure.hints, ["Did you mean `step`?"]);
        assert_eq!(find("attempt").unwrap().family, "Steps");
    }
}
