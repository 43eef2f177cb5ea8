//! Functions of arrays and maps that decide by a closure or by comparing.
//!
//! *Problem*: the standard library takes what a closure returns for `false` unless it is `true`, swallows what a
//! comparer raises, and takes a text for the name of a function: `backups.filter(|b| b.verified)` would be empty in a
//! dry run, and `names.index_of("a")` would call `a`. *Decision*: these functions are our own, and strict. *Rejected*:
//! checking what they return, which cannot tell a swallowed answer from a true one.

use crate::base::failure::{Code, Failure};
use crate::script::context::Raised;
use crate::script::{fault, unknown, wording};
use rhai::plugin::*;
use rhai::{Array, FnPtr, ImmutableString, Map};
use std::cmp::Ordering;

/// Functions that the standard library lets take the name of a function instead of a closure.
const BY_NAME: [&str; 10] =
    ["all", "dedup", "drain", "filter", "map", "reduce", "reduce_rev", "retain", "some", "sort"];

/// Lays these functions over the standard library.
pub fn register(engine: &mut Engine) {
    let mut module = exported_module!(functions);
    for name in BY_NAME {
        module.set_native_fn(name, move |_: &mut Array, _: ImmutableString| {
            let failure = Failure::new(Code::Script, format!("`{name}` takes a closure, not a text"));
            Err::<(), _>(fault::defect(failure.hint(format!("For example `list.{name}(|x| ...)`."))))
        });
    }
    engine.register_global_module(module.into());
}

/// Whether the predicate holds for an element; it may take the index, or the element as `this`, too.
fn holds(
    ctx: &NativeCallContext,
    predicate: &FnPtr,
    element: &Dynamic,
    index: usize,
) -> Result<bool, Raised> {
    let index = Dynamic::from(i64::try_from(index).unwrap_or(i64::MAX));
    let mut element = element.clone();
    let said =
        predicate.call_raw_with_extra_args(ctx.fn_name(), ctx, Some(&mut element), [], [index], Some(0))?;
    truth(ctx, &said)
}

fn truth(ctx: &NativeCallContext, said: &Dynamic) -> Result<bool, Raised> {
    if unknown::holds(said) {
        let message = format!("what the closure of `{}` says is known only after the run", ctx.fn_name());
        return Err(fault::raise(unknown::failure(&message)));
    }
    said.as_bool().map_err(|name| {
        let name = wording::type_name(ctx.engine(), name);
        let message = format!("the closure of `{}` must say `true` or `false`", ctx.fn_name());
        fault::defect(
            Failure::new(Code::Script, message).caused_by(format!("it returned a value of type `{name}`")),
        )
    })
}

/// The index of the first element from `start` that the predicate holds for.
fn first(
    ctx: &NativeCallContext,
    array: &Array,
    predicate: &FnPtr,
    start: i64,
) -> Result<Option<usize>, Raised> {
    let len = i64::try_from(array.len()).unwrap_or(i64::MAX);
    let start = if start < 0 { (len + start).max(0) } else { start };
    for (index, element) in array.iter().enumerate().skip(usize::try_from(start).unwrap_or(usize::MAX)) {
        if holds(ctx, predicate, element, index)? {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// Moves what the predicate holds for out of the array; nothing if it raises.
fn split(ctx: &NativeCallContext, array: &mut Array, predicate: &FnPtr) -> Result<(Array, Array), Raised> {
    let kept: Vec<bool> = array
        .iter()
        .enumerate()
        .map(|(index, element)| holds(ctx, predicate, element, index))
        .collect::<Result<_, _>>()?;
    let mut sides = (Array::new(), Array::new());
    for (element, holds) in std::mem::take(array).into_iter().zip(kept) {
        if holds { sides.0.push(element) } else { sides.1.push(element) }
    }
    Ok(sides)
}

fn split_map(ctx: &NativeCallContext, map: &Map, predicate: &FnPtr) -> Result<(Map, Map), Raised> {
    let mut sides = (Map::new(), Map::new());
    for (key, value) in map {
        let mut bound = value.clone();
        let key_value = [Dynamic::from(key.to_string())];
        let said = predicate.call_raw_with_extra_args(
            ctx.fn_name(),
            ctx,
            Some(&mut bound),
            key_value,
            [],
            Some(1),
        )?;
        let side = if truth(ctx, &said)? { &mut sides.0 } else { &mut sides.1 };
        side.insert(key.clone(), value.clone());
    }
    Ok(sides)
}

fn index(found: Option<usize>) -> i64 {
    found.and_then(|index| i64::try_from(index).ok()).unwrap_or(-1)
}

/// Which of two elements comes first by the closure: a number below, at or above 0, or whether `a` comes first.
fn by_closure(
    ctx: &NativeCallContext,
    comparer: &FnPtr,
    a: &Dynamic,
    b: &Dynamic,
) -> Result<Ordering, Raised> {
    let said = comparer.call_raw(ctx, None, [a.clone(), b.clone()])?;
    match said.as_int() {
        Ok(number) => Ok(number.cmp(&0)),
        Err(_) => Ok(if truth(ctx, &said)? { Ordering::Less } else { Ordering::Greater }),
    }
}

/// Which of two elements comes first by `<`.
fn natural(ctx: &NativeCallContext, a: &Dynamic, b: &Dynamic) -> Result<Ordering, Raised> {
    if unknown::holds(a) || unknown::holds(b) {
        return Err(fault::raise(unknown::failure("an element of an array is known only after the run")));
    }
    if let (Ok(a), Ok(b)) = (a.as_int(), b.as_int()) {
        return Ok(a.cmp(&b));
    }
    if let (Ok(a), Ok(b)) = (a.as_bool(), b.as_bool()) {
        return Ok(a.cmp(&b));
    }
    if let (Some(a), Some(b)) = (a.read_lock::<ImmutableString>(), b.read_lock::<ImmutableString>()) {
        return Ok(a.cmp(&b));
    }
    if a.type_id() != b.type_id() {
        let kind = |value: &Dynamic| wording::type_name(ctx.engine(), value.type_name());
        let message = format!("elements of the types `{}` and `{}` have no order", kind(a), kind(b));
        return Err(fault::defect(Failure::new(Code::Script, message)));
    }
    let less = |a: &Dynamic, b: &Dynamic| ctx.call_native_fn::<bool>("<", (a.clone(), b.clone()));
    Ok(match (less(a, b)?, less(b, a)?) {
        (true, _) => Ordering::Less,
        (_, true) => Ordering::Greater,
        _ => Ordering::Equal,
    })
}

/// A stable merge sort: that of Rust may panic when a comparer contradicts itself, and cannot fail.
fn sorted(
    array: &[Dynamic],
    compare: &dyn Fn(&Dynamic, &Dynamic) -> Result<Ordering, Raised>,
) -> Result<Array, Raised> {
    if array.len() < 2 {
        return Ok(array.to_vec());
    }
    let (left, right) = array.split_at(array.len() / 2);
    let (left, right) = (sorted(left, compare)?, sorted(right, compare)?);
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    let mut merged = Array::with_capacity(array.len());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let next = if compare(a, b)? == Ordering::Greater { right.next() } else { left.next() };
        merged.extend(next);
    }
    merged.extend(left.chain(right));
    Ok(merged)
}

/// The array without elements that equal their predecessor.
fn without_repeats(
    array: &Array,
    equal: impl Fn(&Dynamic, &Dynamic) -> Result<bool, Raised>,
) -> Result<Array, Raised> {
    let mut kept = Array::new();
    for element in array {
        if !matches!(kept.last(), Some(last) if equal(last, element)?) {
            kept.push(element.clone());
        }
    }
    Ok(kept)
}

fn equal(ctx: &NativeCallContext, a: &Dynamic, b: &Dynamic) -> Result<bool, Raised> {
    ctx.call_native_fn::<bool>("==", (a.clone(), b.clone()))
}

#[export_module]
mod functions {
    /// Whether the closure holds for all elements.
    #[rhai_fn(return_raw, pure)]
    pub fn all(ctx: NativeCallContext, array: &mut Array, predicate: FnPtr) -> Result<bool, Raised> {
        for (index, element) in array.iter().enumerate() {
            if !holds(&ctx, &predicate, element, index)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the closure holds for any element.
    #[rhai_fn(return_raw, pure)]
    pub fn some(ctx: NativeCallContext, array: &mut Array, predicate: FnPtr) -> Result<bool, Raised> {
        Ok(first(&ctx, array, &predicate, 0)?.is_some())
    }

    /// The elements that the closure holds for.
    #[rhai_fn(return_raw, pure)]
    pub fn filter(ctx: NativeCallContext, array: &mut Array, predicate: FnPtr) -> Result<Array, Raised> {
        split(&ctx, &mut array.clone(), &predicate).map(|(matching, _)| matching)
    }

    /// The first element that the closure holds for, or `()`.
    #[rhai_fn(return_raw, pure)]
    pub fn find(ctx: NativeCallContext, array: &mut Array, predicate: FnPtr) -> Result<Dynamic, Raised> {
        find_from(ctx, array, predicate, 0)
    }

    /// The first element from an index that the closure holds for, or `()`.
    #[rhai_fn(name = "find", return_raw, pure)]
    pub fn find_from(
        ctx: NativeCallContext,
        array: &mut Array,
        predicate: FnPtr,
        start: i64,
    ) -> Result<Dynamic, Raised> {
        let found = first(&ctx, array, &predicate, start)?;
        Ok(found.map_or(Dynamic::UNIT, |index| array[index].clone()))
    }

    /// The index of the first element that the closure holds for, or -1.
    #[rhai_fn(name = "index_of", return_raw, pure)]
    pub fn index_by(ctx: NativeCallContext, array: &mut Array, predicate: FnPtr) -> Result<i64, Raised> {
        first(&ctx, array, &predicate, 0).map(index)
    }

    /// The index of the first element from an index that the closure holds for, or -1.
    #[rhai_fn(name = "index_of", return_raw, pure)]
    pub fn index_by_from(
        ctx: NativeCallContext,
        array: &mut Array,
        predicate: FnPtr,
        start: i64,
    ) -> Result<i64, Raised> {
        first(&ctx, array, &predicate, start).map(index)
    }

    /// The index of a text in an array, or -1.
    #[rhai_fn(name = "index_of", return_raw, pure)]
    pub fn index_of_text(ctx: NativeCallContext, array: &mut Array, text: &str) -> Result<i64, Raised> {
        index_of_text_from(ctx, array, text, 0)
    }

    /// The index of a text in an array from an index, or -1.
    #[rhai_fn(name = "index_of", return_raw, pure)]
    pub fn index_of_text_from(
        ctx: NativeCallContext,
        array: &mut Array,
        text: &str,
        start: i64,
    ) -> Result<i64, Raised> {
        let text = Dynamic::from(text.to_owned());
        for (index, element) in array.iter().enumerate().skip(usize::try_from(start).unwrap_or(0)) {
            if equal(&ctx, element, &text)? {
                return Ok(i64::try_from(index).unwrap_or(i64::MAX));
            }
        }
        Ok(-1)
    }

    /// Removes the elements that the closure holds for, and returns them.
    #[rhai_fn(return_raw)]
    pub fn drain(ctx: NativeCallContext, array: &mut Array, predicate: FnPtr) -> Result<Array, Raised> {
        let (drained, kept) = split(&ctx, array, &predicate)?;
        *array = kept;
        Ok(drained)
    }

    /// Keeps the elements that the closure holds for, and returns the others.
    #[rhai_fn(return_raw)]
    pub fn retain(ctx: NativeCallContext, array: &mut Array, predicate: FnPtr) -> Result<Array, Raised> {
        let (kept, drained) = split(&ctx, array, &predicate)?;
        *array = kept;
        Ok(drained)
    }

    /// Removes elements that equal their predecessor.
    #[rhai_fn(return_raw)]
    pub fn dedup(ctx: NativeCallContext, array: &mut Array) -> Result<(), Raised> {
        *array = without_repeats(array, |a, b| equal(&ctx, a, b))?;
        Ok(())
    }

    /// Removes elements that equal their predecessor by the closure.
    #[rhai_fn(name = "dedup", return_raw)]
    pub fn dedup_by(ctx: NativeCallContext, array: &mut Array, same: FnPtr) -> Result<(), Raised> {
        *array =
            without_repeats(array, |a, b| truth(&ctx, &same.call_raw(&ctx, None, [a.clone(), b.clone()])?))?;
        Ok(())
    }

    /// Sorts the array.
    #[rhai_fn(return_raw)]
    pub fn sort(ctx: NativeCallContext, array: &mut Array) -> Result<(), Raised> {
        *array = order(ctx, array)?;
        Ok(())
    }

    /// Sorts the array by a closure of two elements: below 0, or `true`, if the first comes first.
    #[rhai_fn(name = "sort", name = "sort_by", return_raw)]
    pub fn sort_by(ctx: NativeCallContext, array: &mut Array, comparer: FnPtr) -> Result<(), Raised> {
        *array = order_by(ctx, array, comparer)?;
        Ok(())
    }

    /// Sorts the array, the last first.
    #[rhai_fn(return_raw)]
    pub fn sort_desc(ctx: NativeCallContext, array: &mut Array) -> Result<(), Raised> {
        *array = order_desc(ctx, array)?;
        Ok(())
    }

    /// A sorted copy of the array.
    #[rhai_fn(return_raw, pure)]
    pub fn order(ctx: NativeCallContext, array: &mut Array) -> Result<Array, Raised> {
        sorted(array, &|a, b| natural(&ctx, a, b))
    }

    /// A copy of the array sorted by a closure of two elements.
    #[rhai_fn(name = "order", name = "order_by", return_raw, pure)]
    pub fn order_by(ctx: NativeCallContext, array: &mut Array, comparer: FnPtr) -> Result<Array, Raised> {
        sorted(array, &|a, b| by_closure(&ctx, &comparer, a, b))
    }

    /// A sorted copy of the array, the last first.
    #[rhai_fn(return_raw, pure)]
    pub fn order_desc(ctx: NativeCallContext, array: &mut Array) -> Result<Array, Raised> {
        sorted(array, &|a, b| natural(&ctx, b, a))
    }

    /// The entries that the closure of key and value holds for.
    #[rhai_fn(name = "filter", return_raw, pure)]
    pub fn filter_map(ctx: NativeCallContext, map: &mut Map, predicate: FnPtr) -> Result<Map, Raised> {
        split_map(&ctx, map, &predicate).map(|(matching, _)| matching)
    }

    /// Removes the entries that the closure of key and value holds for, and returns them.
    #[rhai_fn(name = "drain", return_raw)]
    pub fn drain_map(ctx: NativeCallContext, map: &mut Map, predicate: FnPtr) -> Result<Map, Raised> {
        let (drained, kept) = split_map(&ctx, map, &predicate)?;
        *map = kept;
        Ok(drained)
    }

    /// Keeps the entries that the closure of key and value holds for, and returns the others.
    #[rhai_fn(name = "retain", return_raw)]
    pub fn retain_map(ctx: NativeCallContext, map: &mut Map, predicate: FnPtr) -> Result<Map, Raised> {
        let (kept, drained) = split_map(&ctx, map, &predicate)?;
        *map = kept;
        Ok(drained)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rhai::packages::{Package, StandardPackage};
    use std::any::TypeId;

    /// Functions of the standard library whose closure's value is carried on as it is.
    const CARRY: [&str; 7] = ["map", "for_each", "reduce", "reduce_rev", "find_map", "zip", "debug"];

    #[test]
    fn every_function_that_takes_a_closure_is_covered() {
        let mut engine = Engine::new_raw();
        StandardPackage::new().register_into_engine(&mut engine);
        let list = |engine: &Engine| {
            engine.collect_fn_metadata(
                None,
                |info| {
                    let types = &info.metadata.param_types;
                    let decides = types.contains(&TypeId::of::<FnPtr>())
                        && types.first() != Some(&TypeId::of::<FnPtr>())
                        && !CARRY.contains(&info.metadata.name.as_str());
                    decides.then(|| format!("{} {types:?}", info.metadata.name))
                },
                true,
            )
        };
        let standard = list(&engine);
        assert!(standard.len() > 15, "{standard:?}");
        let mut own = Engine::new_raw();
        register(&mut own);
        let own = list(&own);
        let missing: Vec<&String> = standard.iter().filter(|function| !own.contains(function)).collect();
        assert_eq!(missing, [""; 0]);
    }
}
