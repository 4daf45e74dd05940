//! A part of a batch: the samples with an attribute.

use std::collections::BTreeMap;

use profpipe_profile::{AttributeIx, Profiles, Samples};

/// Leaves only the samples that have this text as the value of this attribute. Returns how much the
/// samples of each value of the attribute weighed in all profiles, by value; if the value that is
/// wanted is not among them nothing is left.
pub fn retain_samples_with(
    profiles: &mut Profiles,
    key: &str,
    value: &str,
) -> BTreeMap<String, i64> {
    let mut found = BTreeMap::new();
    let wanted = with_key(profiles, key);
    for resource in &mut profiles.resources {
        for profile in resource.scopes.iter_mut().flat_map(|scope| &mut scope.profiles) {
            let mut kept = Samples::default();
            for sample in profile.samples.iter() {
                let Some(text) = sample.attributes.iter().find_map(|at| wanted.get(at)) else {
                    continue;
                };
                let sum = found.entry(text.clone()).or_insert(0_i64);
                *sum = sum.saturating_add(sample.weight());
                if text == value {
                    kept.push(sample);
                }
            }
            profile.samples = kept;
        }
    }
    found
}

/// What samples weigh by the text that they have as the value of an attribute, of one sample type; the
/// heaviest first, those of one weight by value. Samples without it are not counted.
pub fn weights_by_attribute(
    profiles: &Profiles,
    sample_type: &str,
    key: &str,
) -> Vec<(String, i64)> {
    let wanted = with_key(profiles, key);
    let strings = &profiles.dictionary.strings;
    let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
    let of_type = profiles
        .iter()
        .filter(|(_, _, profile)| strings.get(profile.sample_type.kind) == sample_type);
    for sample in of_type.flat_map(|(_, _, profile)| profile.samples.iter()) {
        if let Some(text) = sample.attributes.iter().find_map(|at| wanted.get(at)) {
            let sum = sums.entry(text).or_insert(0);
            *sum = sum.saturating_add(sample.weight());
        }
    }
    let mut sums: Vec<_> = sums.into_iter().map(|(text, sum)| (text.to_owned(), sum)).collect();
    sums.sort_by_key(|(_, sum)| std::cmp::Reverse(*sum));
    sums
}

/// The attributes with this key, and their texts.
fn with_key(profiles: &Profiles, key: &str) -> BTreeMap<AttributeIx, String> {
    let (strings, attributes) = (&profiles.dictionary.strings, &profiles.dictionary.attributes);
    let all = (0..attributes.len() as u32).filter_map(|at| attributes.check(at));
    let wanted = all.filter(|at| strings.get(attributes.key(*at)) == key);
    wanted.filter_map(|at| Some((at, attributes.value(at).as_str()?.to_owned()))).collect()
}
