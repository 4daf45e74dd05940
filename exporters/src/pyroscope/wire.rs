//! The push request, in protobuf.

use profpipe_formats::pprof::Writer;

/// A push request of one series with one profile, which has as many bytes as its parts together.
pub(super) fn push_request<'a>(
    labels: impl Iterator<Item = (&'a str, &'a str)>,
    profile: [&[u8]; 2],
) -> Vec<u8> {
    let length: usize = profile.iter().map(|part| part.len()).sum();
    let mut series = Writer(Vec::with_capacity(1024));
    for (name, value) in labels {
        series.message(1, |pair| {
            pair.bytes(1, name.as_bytes());
            pair.bytes(2, value.as_bytes());
        });
    }
    // Outermost first, so that the profile is copied once.
    let mut sample = Writer::default();
    sample.head(1, length);
    let mut samples = Writer::default();
    samples.head(2, sample.0.len() + length);
    let inner = [series.0, samples.0, sample.0];
    let size = inner.iter().map(Vec::len).sum::<usize>() + length;
    let mut request = Writer(Vec::with_capacity(size + 16));
    request.head(1, size);
    for part in inner.iter().map(Vec::as_slice).chain(profile) {
        request.0.extend_from_slice(part);
    }
    request.0
}
