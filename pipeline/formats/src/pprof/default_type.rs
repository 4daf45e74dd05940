//! Which sample type is shown first.
//!
//! pprof shows the type that a file names, else the last; OTLP shows the first profile. So the two
//! trade places between the formats, as in the OpenTelemetry Collector's translator: reading a file
//! puts the profile of its default type first, and writing one puts the type of the first profile
//! last. The order of a file's types is kept in `pprof.scope.sample_type_order`, which undoes it.

use super::attributes::{file_order, of_scope};
use profpipe_profile::attribute_names::PPROF_DEFAULT_SAMPLE_TYPE;
use profpipe_profile::{Profiles, ScopeProfiles, ValueType};

/// The name of the sample type that a batch declares as its default, whether there is such a type
/// or not: what its first scope says. Empty if that says nothing.
pub(crate) fn declared(profiles: &Profiles) -> &str {
    let value = first_scope(profiles)
        .and_then(|scope| of_scope(&scope.scope, PPROF_DEFAULT_SAMPLE_TYPE)?.as_str());
    value.unwrap_or_default()
}

/// The sample type of a batch that is shown first: the declared one; else, of the first scope, the
/// last type of its file if it came from one, else the first. None if there are no profiles.
pub(crate) fn default_type(profiles: &Profiles) -> Option<ValueType> {
    let strings = &profiles.dictionary.strings;
    let declared = declared(profiles);
    let named = profiles
        .iter()
        .map(|(_, _, profile)| profile.sample_type)
        .find(|kind| !declared.is_empty() && strings.get(kind.kind) == declared);
    named.or_else(|| {
        let scope = first_scope(profiles)?;
        let position = match file_order(scope) {
            Some(order) => order.last().copied().unwrap_or_default(),
            None => 0,
        };
        Some(scope.profiles.get(position)?.sample_type)
    })
}

fn first_scope(profiles: &Profiles) -> Option<&ScopeProfiles> {
    let mut scopes = profiles.resources.iter().flat_map(|resource| &resource.scopes);
    scopes.find(|scope| !scope.profiles.is_empty())
}
