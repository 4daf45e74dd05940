//! The push request, in protobuf.

use profpipe_pipeline::pprof::Writer;

/// A push request of one series with one profile.
pub(super) fn push_request<'a>(
    labels: impl Iterator<Item = (&'a str, &'a str)>,
    profile: &[u8],
) -> Vec<u8> {
    let mut series = Writer(Vec::with_capacity(profile.len() + 1024));
    for (name, value) in labels {
        let mut pair = Writer::default();
        pair.bytes(1, name.as_bytes());
        pair.bytes(2, value.as_bytes());
        series.bytes(1, &pair.0);
    }
    let mut sample = Writer(Vec::with_capacity(profile.len() + 16));
    sample.bytes(1, profile);
    series.bytes(2, &sample.0);
    let mut request = Writer(Vec::with_capacity(series.0.len() + 16));
    request.bytes(1, &series.0);
    request.0
}
