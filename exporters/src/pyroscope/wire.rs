//! Writing protobuf: the few forms that pprof and the push request have.

/// A message being written. Zero is the default and is left out.
#[derive(Debug, Default, Clone)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    /// A number, unless it is 0.
    pub(super) fn uint(&mut self, field: u64, number: u64) {
        if number != 0 {
            self.varint(field << 3);
            self.varint(number);
        }
    }

    /// Bytes, a text or a message, even if empty.
    pub(super) fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// Numbers, packed.
    pub(super) fn packed(&mut self, field: u64, numbers: impl Iterator<Item = u64>) {
        let mut packed = Self::default();
        numbers.for_each(|number| packed.varint(number));
        if !packed.0.is_empty() {
            self.bytes(field, &packed.0);
        }
    }
}

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
