//! Calls: functions that do not exist, numbers and types of arguments, keys of options.

use super::Finding;
use crate::base::diagnostic::did_you_mean;
use crate::base::failure::Failure;
use crate::base::units;
use crate::script::fields::listed;
use crate::script::known::Signature;
use crate::script::literal::Literal;
use crate::script::options::refusal;
use crate::script::program::{Program, Unit};
use crate::script::surface::Surface;
use crate::script::tree;
use rhai::{ASTNode, Expr, FnCallExpr, ImmutableString, Position};
use std::any::TypeId;

/// Functions that the language knows by itself, without metadata.
const BUILT_IN: [&str; 8] = ["Fn", "call", "curry", "is_shared", "is_def_var", "is_def_fn", "print", "debug"];

/// Hints listing more forms than this help nobody.
const FORMS_SHOWN: usize = 4;

/// Checks the calls of one file.
pub fn check(program: &Program, index: usize, surface: &Surface, findings: &mut Vec<Finding>) {
    let unit = &program.units[index];
    let nodes = unit.nodes();
    let checker = Calls { program, unit, surface, map_keys: map_keys(&nodes) };
    for node in nodes {
        if let Some((call, at, method)) = tree::call(node) {
            findings.extend(checker.call(call, at, method).map(Finding::error));
            if call.name == "Fn" {
                findings.extend(checker.pointer(call).map(Finding::error));
            }
            findings.extend(checker.options(call).into_iter().map(Finding::error));
            findings.extend(checker.measure(call).map(Finding::error));
        }
    }
}

/// Keys of all literal maps: a method of that name may be a closure in a map.
fn map_keys(nodes: &[ASTNode<'_>]) -> Vec<String> {
    let keys = nodes.iter().filter_map(|node| match node {
        ASTNode::Expr(Expr::Map(map, _)) => Some(map.0.iter().map(|(key, _)| key.name.to_string())),
        _ => None,
    });
    keys.flatten().collect()
}

struct Calls<'a> {
    program: &'a Program,
    unit: &'a Unit,
    surface: &'a Surface,
    map_keys: Vec<String>,
}

impl Calls<'_> {
    fn call(&self, call: &FnCallExpr, at: Position, method: bool) -> Option<Failure> {
        let name = call.name.as_str();
        let given = call.args.len();
        if call.is_qualified() {
            return self.qualified(call, at);
        }
        if BUILT_IN.contains(&name) || (method && self.map_keys.iter().any(|key| key == name)) {
            return None;
        }
        let own: Vec<usize> = self.unit.forms(name).map(|form| form.params.len()).collect();
        if own.contains(&given) {
            return None;
        }
        // The receiver of a method is the first argument of a native function.
        let received = given + usize::from(method);
        let native = self.surface.known.forms(name);
        let fitting: Vec<&Signature> = native.iter().filter(|form| form.params.len() == received).collect();
        if !fitting.is_empty() {
            return self.types(call, &fitting, method);
        }
        if own.is_empty() && native.is_empty() {
            return Some(self.unknown(name, at, method));
        }
        let failure = self.unit.wrong(at, format!("`{name}` cannot be called with {}", arguments(given)));
        Some(failure.hint(self.forms(name, native, method)))
    }

    fn qualified(&self, call: &FnCallExpr, at: Position) -> Option<Failure> {
        let alias = call.namespace.root();
        let module = &self.program.units[*self.unit.imports.get(alias)?];
        let forms: Vec<usize> = module.forms(&call.name).map(|form| form.params.len()).collect();
        if forms.contains(&call.args.len()) {
            return None;
        }
        let file = &module.source.file;
        if forms.is_empty() {
            let failure = self.unit.wrong(at, format!("the module `{file}` has no function `{}`", call.name));
            let names = || public(module);
            return Some(match did_you_mean(&call.name, names()) {
                Some(close) => failure.hint(format!("Did you mean `{alias}::{close}`?")),
                None => failure.hint(format!("Its functions are {}.", listed(names(), "and"))),
            });
        }
        let given = arguments(call.args.len());
        let failure = self.unit.wrong(at, format!("`{alias}::{}` cannot be called with {given}", call.name));
        Some(failure.hint(format!("It is called as {}.", script_forms(module, &call.name))))
    }

    fn unknown(&self, name: &str, at: Position, method: bool) -> Failure {
        let what = if method { "method" } else { "function" };
        let failure = self.unit.wrong(at, format!("unknown {what} `{name}`"));
        let own =
            self.unit.functions.iter().map(|f| f.name.as_str()).filter(|f| !f.starts_with(tree::CLOSURE));
        let close = did_you_mean(name, self.surface.known.names().chain(own));
        if let Some(close) = close {
            return failure.hint(format!("Did you mean `{close}`?"));
        }
        // A function of an imported module that is called without its alias.
        let module = self
            .unit
            .imports
            .iter()
            .find(|(_, index)| self.program.units[**index].forms(name).next().is_some());
        match module {
            Some((alias, _)) => failure.hint(format!("Did you mean `{alias}::{name}`?")),
            None => failure.hint("`lifeboat doc` lists all functions."),
        }
    }

    /// How `name` is called.
    fn forms(&self, name: &str, native: &[Signature], method: bool) -> String {
        let mut forms: Vec<String> = native
            .iter()
            .filter_map(|form| if method { form.shown_as_method() } else { Some(form.shown()) })
            .collect();
        forms.dedup();
        let more = forms.len().saturating_sub(FORMS_SHOWN);
        forms.truncate(FORMS_SHOWN);
        let mut shown: Vec<String> = forms.iter().map(|form| format!("`{form}`")).collect();
        if self.unit.forms(name).next().is_some() {
            shown.insert(0, script_forms(self.unit, name));
        }
        if more > 0 {
            return format!("It is called as {}; `lifeboat doc {name}` lists {more} more.", shown.join(", "));
        }
        format!("It is called as {}.", shown.join(" or "))
    }

    /// Literal arguments against the types of native parameters.
    fn types(&self, call: &FnCallExpr, forms: &[&Signature], method: bool) -> Option<Failure> {
        let shift = usize::from(method);
        let given: Vec<Option<(TypeId, &'static str)>> = call.args.iter().map(literal_type).collect();
        let fits = |form: &Signature, index: usize| {
            given[index].is_none_or(|(id, _)| accepts(form.params[index + shift].id, id))
        };
        if forms.iter().any(|form| (0..given.len()).all(|index| fits(form, index))) {
            return None;
        }
        let wrong = (0..given.len()).find(|index| !forms.iter().any(|form| fits(form, *index)));
        let index = wrong.or_else(|| given.iter().position(Option::is_some))?;
        let kinds: std::collections::BTreeSet<&str> =
            forms.iter().map(|form| form.params[index + shift].kind.as_str()).collect();
        let kind = given[index].map_or("any", |(_, kind)| kind);
        let name = &call.name;
        let at = call.args[index].start_position();
        let failure = if wrong.is_some() {
            let wanted = listed(kinds, "or");
            self.unit.wrong(at, format!("argument {} of `{name}` must be {wanted}, not `{kind}`", index + 1))
        } else {
            self.unit.wrong(at, format!("no form of `{name}` takes these arguments together"))
        };
        let native: Vec<Signature> = forms.iter().map(|form| (*form).clone()).collect();
        Some(failure.hint(self.forms(name, &native, method)))
    }

    /// `Fn("name")` must name a function.
    fn pointer(&self, call: &FnCallExpr) -> Option<Failure> {
        let Some(Expr::StringConstant(name, at)) = call.args.first() else { return None };
        let exists = self.unit.forms(name).next().is_some() || !self.surface.known.forms(name).is_empty();
        (!exists && call.args.len() == 1).then(|| self.unknown(name, *at, false))
    }

    /// A literal duration or size must be one.
    fn measure(&self, call: &FnCallExpr) -> Option<Failure> {
        let (index, is_read, what, forms) = match call.name.as_str() {
            "duration" if call.args.len() == 1 => (0, is_duration as fn(&str) -> bool, "duration", DURATIONS),
            "retry" if call.args.len() == 3 => (1, is_duration as fn(&str) -> bool, "duration", DURATIONS),
            "bytes" if call.args.len() == 1 => (0, is_size as fn(&str) -> bool, "size", SIZES),
            _ => return None,
        };
        let Expr::StringConstant(text, at) = &call.args[index] else { return None };
        if is_read(text) || call.is_qualified() || self.unit.forms(&call.name).next().is_some() {
            return None;
        }
        Some(self.unit.wrong(*at, format!("`{text}` is not a {what}")).hint(forms))
    }

    /// Keys of a literal map that ends the arguments, and their literal values.
    fn options(&self, call: &FnCallExpr) -> Vec<Failure> {
        let Some(options) = self.surface.options.iter().find(|options| call.name == options.function) else {
            return Vec::new();
        };
        let Some(Expr::Map(map, _)) = call.args.last() else { return Vec::new() };
        if call.is_qualified() || self.unit.forms(&call.name).next().is_some() {
            return Vec::new();
        }
        let mut failures = Vec::new();
        for (key, value) in &map.0 {
            let name = key.name.as_str();
            if !options.keys.contains(&name) {
                let failure = self.unit.wrong(key.pos, format!("unknown option `{name}` of `{}`", call.name));
                failures.push(match did_you_mean(name, options.keys.iter().copied()) {
                    Some(close) => failure.hint(format!("Did you mean `{close}`?")),
                    None => failure
                        .hint(format!("Its options are {}.", listed(options.keys.iter().copied(), "and"))),
                });
            } else if let Ok(literal) = Literal::read(value)
                && let Err(reason) = (options.check)(name, &literal.json())
            {
                let refusal = refusal(&call.name, name, &reason);
                let failure = self.unit.wrong(literal.at, refusal.message);
                failures.push(Failure { causes: refusal.causes, hints: refusal.hints, ..failure });
            }
        }
        failures
    }
}

const DURATIONS: &str = "Write it as `\"30s\"`, `\"5m\"`, `\"2h\"` or `\"7d\"`, or as a number of seconds.";
const SIZES: &str = "Write it as `\"500\"`, `\"10GiB\"`, `\"10GB\"` or `\"1.5M\"`.";

fn is_duration(text: &str) -> bool {
    units::parse_duration(text).is_some()
}

fn is_size(text: &str) -> bool {
    units::parse_bytes(text).is_some()
}

fn arguments(count: usize) -> String {
    match count {
        0 => "no arguments".to_owned(),
        1 => "1 argument".to_owned(),
        many => format!("{many} arguments"),
    }
}

fn public(module: &Unit) -> impl Iterator<Item = &str> {
    module.functions.iter().map(|f| f.name.as_str()).filter(|name| !name.starts_with(tree::CLOSURE))
}

fn script_forms(unit: &Unit, name: &str) -> String {
    let forms: Vec<String> =
        unit.forms(name).map(|form| format!("`{name}({})`", form.params.join(", "))).collect();
    forms.join(" or ")
}

/// The type of an argument that is literal enough to tell, in Rust and in our words.
fn literal_type(expr: &Expr) -> Option<(TypeId, &'static str)> {
    if tree::closure(expr).is_some() {
        return Some((TypeId::of::<rhai::FnPtr>(), "closure"));
    }
    Some(match expr {
        Expr::IntegerConstant(..) => (TypeId::of::<rhai::INT>(), "int"),
        Expr::FloatConstant(..) => (TypeId::of::<rhai::FLOAT>(), "float"),
        Expr::BoolConstant(..) => (TypeId::of::<bool>(), "bool"),
        Expr::StringConstant(..) | Expr::InterpolatedString(..) => (TypeId::of::<ImmutableString>(), "text"),
        Expr::Array(..) => (TypeId::of::<rhai::Array>(), "array"),
        Expr::Map(..) => (TypeId::of::<rhai::Map>(), "map"),
        Expr::Unit(_) => (TypeId::of::<()>(), "()"),
        _ => return None,
    })
}

fn accepts(parameter: TypeId, given: TypeId) -> bool {
    let text = TypeId::of::<ImmutableString>();
    parameter == given
        || parameter == TypeId::of::<rhai::Dynamic>()
        || (given == text && (parameter == TypeId::of::<String>() || parameter == TypeId::of::<&str>()))
}
