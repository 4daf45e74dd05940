//! `ExportProfilesServiceResponse`: what the server did not take.

use profpipe_network::client::printable;
use profpipe_network::messages::ExportProfilesServiceResponse;
use prost::Message as _;

/// What the server did not take of a request that it took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PartialSuccess {
    /// How many profiles it refused.
    pub(crate) rejected_profiles: u64,
    /// Why, or what else it has to say.
    pub(crate) message: String,
}

impl PartialSuccess {
    /// Reads an answer in protobuf. One that cannot be read says nothing: the request was accepted.
    pub(crate) fn decode(answer: &[u8]) -> Self {
        let answer = ExportProfilesServiceResponse::decode(answer).unwrap_or_default();
        let partial = answer.partial_success.unwrap_or_default();
        Self {
            rejected_profiles: u64::try_from(partial.rejected_profiles).unwrap_or(0),
            message: printable(&partial.error_message),
        }
    }

    /// Reads an answer in JSON.
    pub(crate) fn decode_json(answer: &[u8]) -> Self {
        let answer: serde_json::Value = serde_json::from_slice(answer).unwrap_or_default();
        let Some(partial) = answer.get("partialSuccess") else { return Self::default() };
        let rejected = partial.get("rejectedProfiles");
        // A 64-bit number is a text in OTLP JSON; some write a number.
        let rejected = rejected.and_then(|number| {
            number.as_u64().or_else(|| number.as_str().and_then(|text| text.parse().ok()))
        });
        let message = partial.get("errorMessage").and_then(serde_json::Value::as_str);
        Self {
            rejected_profiles: rejected.unwrap_or(0),
            message: printable(message.unwrap_or_default().as_bytes()),
        }
    }
}
