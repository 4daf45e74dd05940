//! What a component's configuration is to the engine.

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Problems;

/// What users type for a component: `#[serde(deny_unknown_fields, default)]`, `Default` is the
/// documented default, the doc comment of a field is its documentation.
pub trait Config: DeserializeOwned + Serialize + Default + JsonSchema + Send + 'static {
    /// Reports values that have the right type but make no sense.
    fn validate(&self, problems: &mut Problems) {
        let _ = problems;
    }

    /// Reports what is accepted but has no effect, or not the one that its author may expect.
    fn advise(&self, advice: &mut Problems) {
        let _ = advice;
    }

    /// Where the component's servers listen: the field that says so, and its `host:port`. No two
    /// servers of a configuration may have one address.
    fn listens(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}
