//! The push request of Pyroscope, in protobuf: `push.v1.PushRequest`.

use bytes::Bytes;
use prost::Message;

/// What is pushed.
#[derive(Clone, PartialEq, Eq, Message)]
struct PushRequest {
    #[prost(message, repeated, tag = "1")]
    series: Vec<RawProfileSeries>,
}

/// Profiles with the same labels.
#[derive(Clone, PartialEq, Eq, Message)]
struct RawProfileSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelPair>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<RawSample>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct LabelPair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// One profile, as pprof. Its other field, an id, is for the server to give.
#[derive(Clone, PartialEq, Eq, Message)]
struct RawSample {
    #[prost(bytes = "bytes", tag = "1")]
    raw_profile: Bytes,
}

/// A push request of one series with one profile, which has as many bytes as its parts together.
pub(super) fn push_request<'a>(
    labels: impl Iterator<Item = (&'a str, &'a str)>,
    profile: [&[u8]; 2],
) -> Vec<u8> {
    let pair = |(name, value): (&str, &str)| LabelPair { name: name.into(), value: value.into() };
    let sample = RawSample { raw_profile: profile.concat().into() };
    let series = RawProfileSeries { labels: labels.map(pair).collect(), samples: vec![sample] };
    PushRequest { series: vec![series] }.encode_to_vec()
}
