//! The small messages that receivers answer with and exporters read.
//!
//! What carries profiles has a reader of its own, which takes no more memory than it was granted; these
//! hold nothing that repeats, so that what they decode to is bounded by their size.

use bytes::Bytes;
use prost::Message;

/// What becomes of an `ExportProfilesServiceRequest` of OTLP that was accepted.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ExportProfilesServiceResponse {
    /// Set if something of it was rejected, or there is something to say.
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<ExportProfilesPartialSuccess>,
}

/// What was rejected of a request.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ExportProfilesPartialSuccess {
    /// How many profiles.
    #[prost(int64, tag = "1")]
    pub rejected_profiles: i64,
    /// Why, for people. In the schema it is a string; who sends something that is not UTF-8 still has
    /// rejected what it says.
    #[prost(bytes = "bytes", tag = "2")]
    pub error_message: Bytes,
}
