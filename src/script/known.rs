//! The functions that an engine knows, with signatures in our words.

use crate::script::wording::type_name;
use rhai::packages::{Package, StandardPackage};
use rhai::{Engine, FuncMetadata};
use std::any::TypeId;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

/// One parameter of a native function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name, if the binding gives one.
    pub name: Option<String>,
    /// Its type in our words, such as `string`.
    pub kind: String,
    /// Its Rust type.
    pub id: TypeId,
}

/// One form of a native function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Name of the function.
    pub name: String,
    /// Its parameters; a method's receiver is the first.
    pub params: Vec<Parameter>,
    /// What it returns in our words.
    pub returns: String,
    /// Its doc comments, without leaders.
    pub text: String,
    /// Whether it is one of ours, not of the language's own packages.
    pub ours: bool,
}

impl Signature {
    /// What tells it from other functions of its name.
    fn types(&self) -> Vec<TypeId> {
        self.params.iter().map(|param| param.id).collect()
    }

    fn named(&self) -> usize {
        self.params.iter().filter(|param| param.name.is_some()).count()
    }

    /// As shown to people: `rotate(dir: string, options: map) -> list`.
    pub fn shown(&self) -> String {
        let params: Vec<String> = self
            .params
            .iter()
            .map(|param| match &param.name {
                Some(name) => format!("{name}: {}", param.kind),
                None => param.kind.clone(),
            })
            .collect();
        let returns = match self.returns.as_str() {
            "any" | "nothing" => String::new(),
            kind => format!(" -> {kind}"),
        };
        format!("{}({}){returns}", self.name, params.join(", "))
    }

    /// As a method: `pipeline.save(path: string)`; nothing for a function without parameters.
    pub fn shown_as_method(&self) -> Option<String> {
        let (receiver, rest) = self.params.split_first()?;
        let rest = Self { params: rest.to_vec(), ..self.clone() };
        Some(format!("{}.{}", receiver.name.as_ref().unwrap_or(&receiver.kind), rest.shown()))
    }
}

/// All functions of an engine by name.
#[derive(Clone, Debug, Default)]
pub struct Known(BTreeMap<String, Vec<Signature>>);

impl Known {
    /// Collects from an engine's metadata.
    pub fn of(engine: &Engine) -> Self {
        let read = |info: rhai::FuncInfo<'_>| Some(signature(engine, info.metadata));
        let mut language = Engine::new_raw();
        StandardPackage::new().register_into_engine(&mut language);
        let key = |info: rhai::FuncInfo<'_>| {
            Some((info.metadata.name.to_string(), info.metadata.param_types.to_vec()))
        };
        let language: HashSet<(String, Vec<TypeId>)> =
            language.collect_fn_metadata(None, key, true).into_iter().collect();
        let mut known: BTreeMap<String, Vec<Signature>> = BTreeMap::new();
        for mut signature in engine.collect_fn_metadata(None, read, true) {
            signature.ours = !language.contains(&(signature.name.clone(), signature.types()));
            known.entry(signature.name.clone()).or_default().push(signature);
        }
        for forms in known.values_mut() {
            // Some functions of the language are wrapped: the form that names its parameters speaks for both.
            forms.sort_by_cached_key(|form| (form.params.len(), form.types(), Reverse(form.named())));
            forms.dedup_by(|a, b| a.types() == b.types());
            // What differs for the engine only reads the same.
            forms.sort_by_cached_key(|form| (form.params.len(), form.shown()));
        }
        Self(known)
    }

    /// The forms of a function; none for an unknown one.
    pub fn forms(&self, name: &str) -> &[Signature] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Names of all functions that can be called by name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str).filter(|name| name.chars().all(|c| c.is_alphanumeric() || c == '_'))
    }

    /// Every form of every function of ours that can be called by name.
    pub fn ours(&self) -> impl Iterator<Item = &Signature> {
        self.names().flat_map(|name| self.forms(name)).filter(|form| form.ours)
    }
}

fn signature(engine: &Engine, metadata: &FuncMetadata) -> Signature {
    let params = metadata.param_types.iter().enumerate().map(|(index, id)| {
        let info = metadata.params_info.get(index).map_or("", |info| info.as_str());
        let (name, kind) = info.split_once(':').unwrap_or(("_", info));
        let name = name.trim().trim_start_matches("mut ");
        Parameter {
            name: (name != "_" && !name.is_empty()).then(|| name.to_owned()),
            kind: kind_of(engine, kind),
            id: *id,
        }
    });
    Signature {
        name: metadata.name.to_string(),
        params: params.collect(),
        returns: kind_of(engine, &metadata.return_type),
        text: metadata.comments.iter().map(|comment| plain(comment)).collect::<Vec<_>>().join("\n"),
        ours: false,
    }
}

/// A doc comment without its leader.
fn plain(comment: &str) -> String {
    let lines = comment.lines().map(|line| {
        let line =
            line.trim_start().trim_start_matches("///").trim_start_matches("/**").trim_end_matches("*/");
        line.strip_prefix(' ').unwrap_or(line).trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A Rust type in our words.
fn kind_of(engine: &Engine, rust: &str) -> String {
    let rust = rust.trim().trim_start_matches("rhai::");
    match rust.strip_prefix("RhaiResultOf<").and_then(|rest| rest.strip_suffix('>')) {
        Some(inner) => kind_of(engine, inner),
        None if matches!(rust, "" | "RhaiResult") => "any".to_owned(),
        None => type_name(engine, rust),
    }
}
