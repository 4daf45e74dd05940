//! The text of `grpc-message`: percent-encoded UTF-8.

/// Encodes a text for the `grpc-message` header: what is not printable ASCII, and `%`, becomes `%XX`.
pub fn encode_text(text: &str) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'$' | b'&'..=b'~' => encoded.push(char::from(byte)),
            byte => {
                encoded.push('%');
                for digit in [byte >> 4, byte & 15] {
                    encoded.extend(DIGITS.get(usize::from(digit)));
                }
            }
        }
    }
    encoded
}

/// Decodes the `grpc-message` header. As the specification asks, what is wrongly encoded stays as it
/// is; what is not UTF-8 becomes replacement characters.
pub fn decode_text(header: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(header.len());
    let mut rest = header;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte == b'%'
            && let Some(([high, low], after)) = rest.split_first_chunk::<2>()
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            bytes.push(high << 4 | low);
            rest = after;
        } else {
            bytes.push(*byte);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn digit(letter: u8) -> Option<u8> {
    char::from(letter).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
