//! What a pprof profile of `/ingest` is called, and what its agent means by its sample types.
//!
//! A form may say in `sample_type_config` what each sample type is shown as: that alone tells the
//! mutex profile of a Go program from its block profile, which have the same types. Names are found as
//! Pyroscope finds them, by parts of these texts and in the order of the types.

use std::collections::BTreeMap;

use profpipe_formats::report::sample_types;
use profpipe_profile::Profiles;
use profpipe_profile::attribute_names::PPROF_DEFAULT_SAMPLE_TYPE;
use serde::Deserialize;

use super::push::Malformed;

/// The most sample types that a form may speak of.
const MAX_TYPES: usize = 1024;

/// What sample types are shown as, by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SampleTypes(BTreeMap<String, String>);

/// What a form says about a sample type. Units and ways to aggregate are not used, as in Pyroscope.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SampleType {
    #[serde(rename = "display-name")]
    display_name: Option<String>,
}

impl SampleTypes {
    /// Reads the field `sample_type_config` of a form; none says nothing else than the usual.
    ///
    /// # Errors
    /// If it is not a JSON object of sample types.
    pub(super) fn read(json: Option<&[u8]>) -> Result<Self, Malformed> {
        let Some(json) = json.filter(|json| !json.trim_ascii().is_empty()) else {
            return Ok(Self::usual());
        };
        let wrong = |what: String| Malformed(format!("the field sample_type_config {what}"));
        let read: Option<BTreeMap<String, Option<SampleType>>> = serde_json::from_slice(json)
            .map_err(|error| wrong(format!("is not JSON of sample types: {error}")))?;
        let Some(read) = read else { return Ok(Self::usual()) };
        if read.len() > MAX_TYPES {
            return Err(wrong(format!("has more than {MAX_TYPES} sample types")));
        }
        let shown = |one: Option<SampleType>| one.and_then(|one| one.display_name);
        let all = read.into_iter().map(|(name, one)| (name, shown(one).unwrap_or_default()));
        Ok(Self(all.collect()))
    }

    /// What profiles that say nothing mean.
    pub(super) fn usual() -> Self {
        let all = [
            ("samples", "cpu"),
            ("goroutine", "goroutines"),
            ("contentions", "mutex_count"),
            ("delay", "mutex_duration"),
        ];
        Self(all.into_iter().map(|(name, shown)| (name.to_owned(), shown.to_owned())).collect())
    }

    /// Whether a profile comes from the agent for .NET, which some versions say by their types alone.
    pub(super) fn is_dotnet(&self, spy: &str) -> bool {
        spy == "dotnetspy" || (spy == "unknown" && self.0.contains_key("inuse-space"))
    }

    /// What a profile is called.
    pub(super) fn name(&self, profiles: &Profiles) -> String {
        // In the order of the file, of which the last may count.
        let kinds: Vec<&str> = sample_types(profiles).into_iter().map(|(kind, _)| kind).collect();
        if kinds.contains(&"wall") {
            return "wall".to_owned();
        }
        let mut last = "";
        for kind in kinds {
            let shown = self.0.get(kind).map(String::as_str);
            let kind = shown.filter(|shown| !shown.is_empty()).unwrap_or(kind);
            let has = |part: &str| kind.contains(part);
            let name = match kind {
                _ if has("cpu") => "process_cpu",
                "space" | "objects" => "memory",
                _ if has("alloc_") || has("inuse_") => "memory",
                _ if has("mutex_") => "mutex",
                _ if has("block_") => "block",
                _ if has("goroutines") => "goroutines",
                other => {
                    last = other;
                    continue;
                }
            };
            return name.to_owned();
        }
        if last.is_empty() { "unknown".to_owned() } else { last.to_owned() }
    }
}

/// Writes the sample types of .NET's agent, `alloc-samples`, as all others are written.
pub(super) fn underscore(profiles: &mut Profiles) {
    let strings = &mut profiles.dictionary.strings;
    for resource in &mut profiles.resources {
        for scope in &mut resource.scopes {
            for attribute in &mut scope.scope.attributes {
                if attribute.key == PPROF_DEFAULT_SAMPLE_TYPE
                    && let Some(text) = attribute.value.as_str()
                {
                    attribute.value = text.replace('-', "_").into();
                }
            }
            for profile in &mut scope.profiles {
                let kind = strings.get(profile.sample_type.kind);
                if kind.contains('-') {
                    let kind = kind.replace('-', "_");
                    profile.sample_type.kind = strings.intern(&kind);
                }
            }
        }
    }
}
