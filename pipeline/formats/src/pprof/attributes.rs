//! Reading attributes by name, for the parts of pprof that the model keeps as attributes.

use profpipe_profile::attribute_names::PPROF_SAMPLE_TYPE_ORDER;
use profpipe_profile::{
    AttributeIx, Dictionary, Profile, Scope, ScopeProfiles, StringIx, Value, ValueType,
};

/// The value of the attribute `name` in a list of rows.
pub(crate) fn find<'a>(
    dictionary: &'a Dictionary,
    attributes: &[AttributeIx],
    name: &str,
) -> Option<&'a Value> {
    attributes
        .iter()
        .find(|row| dictionary.strings.get(dictionary.attributes.key(**row)) == name)
        .map(|row| dictionary.attributes.value(*row))
}

/// The text of the attribute `name`, empty if there is none.
pub(crate) fn text<'a>(
    dictionary: &'a Dictionary,
    attributes: &[AttributeIx],
    name: &str,
) -> &'a str {
    find(dictionary, attributes, name).and_then(Value::as_str).unwrap_or_default()
}

/// True if the attribute `name` is true.
pub(crate) fn is_set(dictionary: &Dictionary, attributes: &[AttributeIx], name: &str) -> bool {
    find(dictionary, attributes, name).and_then(Value::as_bool).unwrap_or_default()
}

/// The value of a scope's attribute.
pub(crate) fn of_scope<'a>(scope: &'a Scope, name: &str) -> Option<&'a Value> {
    scope.attributes.iter().find(|attribute| attribute.key == name).map(|found| &found.value)
}

/// The positions of a scope's profiles, in the order of the pprof file they came from, if the scope
/// says that they came from one and still has all of them. Without sample types it is empty.
pub fn file_order(scope: &ScopeProfiles) -> Option<Vec<usize>> {
    let Value::Array(order) = of_scope(&scope.scope, PPROF_SAMPLE_TYPE_ORDER)? else {
        return None;
    };
    let profiles = &scope.profiles;
    if order.is_empty() {
        let [profile] = profiles.as_slice() else { return None };
        let none = ValueType { kind: StringIx::NONE, unit: StringIx::NONE };
        let is_placeholder = profile.sample_type == none && profile.samples.is_empty();
        return is_placeholder.then(Vec::new);
    }
    if order.len() != profiles.len() {
        return None;
    }
    positions(order)
}

/// As [`file_order`], also of several files with the same types whose profiles came into one scope: file
/// by file.
pub(crate) fn files_order(scope: &ScopeProfiles) -> Option<Vec<usize>> {
    if let Some(order) = file_order(scope) {
        return Some(order);
    }
    let Value::Array(order) = of_scope(&scope.scope, PPROF_SAMPLE_TYPE_ORDER)? else {
        return None;
    };
    let types = |profiles: &[Profile]| -> Vec<ValueType> {
        profiles.iter().map(|profile| profile.sample_type).collect()
    };
    let mut files = scope.profiles.chunks(order.len().max(1));
    let first = types(files.next()?);
    if first.len() != order.len() || !files.all(|file| types(file) == first) {
        return None;
    }
    let positions = positions(order)?;
    let starts = (0..scope.profiles.len()).step_by(order.len());
    Some(starts.flat_map(|start| positions.iter().map(move |at| start + at)).collect())
}

/// The profile of each position, if every position has one.
fn positions(order: &[Value]) -> Option<Vec<usize>> {
    let mut positions = vec![None; order.len()];
    for (profile, at) in order.iter().enumerate() {
        let at = at.as_int().and_then(|at| usize::try_from(at).ok())?;
        let position = positions.get_mut(at)?;
        if position.replace(profile).is_some() {
            return None;
        }
    }
    positions.into_iter().collect()
}
