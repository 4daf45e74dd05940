//! Why a request could not be read, in one line: what is wrong, in which field, at which byte.

/// Why a request could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The data ends, or a length points outside of its message.
    #[error("{field} at byte {at}: the data ends in the middle of it")]
    Truncated {
        /// The message and field, as `Sample.values`.
        field: String,
        /// The byte of the request where reading stopped.
        at: usize,
    },
    /// The bytes are not protobuf: a number of more than 64 bits, field number 0, an unmatched group.
    #[error("{field} at byte {at}: {what}, this is not protobuf")]
    Malformed {
        /// The message and field.
        field: String,
        /// The byte of the request where reading stopped.
        at: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// A known field has another type than in the schema.
    #[error("{field} at byte {at}: holds {found}, which the schema does not allow here")]
    WireType {
        /// The message and field.
        field: String,
        /// The byte after the field.
        at: usize,
        /// What was found: a number, bytes …
        found: &'static str,
    },
    /// A text is not UTF-8.
    #[error("{field} at byte {at}: the text is not UTF-8")]
    Utf8 {
        /// The message and field.
        field: String,
        /// The byte after the text.
        at: usize,
    },
    /// An id is not as long as it must be.
    #[error("{field} at byte {at}: an id of {found} bytes, it must have {expected} or none")]
    IdLength {
        /// The message and field.
        field: String,
        /// The byte after the id.
        at: usize,
        /// Its length.
        found: usize,
        /// The length in the schema.
        expected: usize,
    },
    /// An index points outside of its table.
    #[error("{field}: index {index} is out of range, the table has {rows} rows")]
    Index {
        /// Where the index stands, as `location_table[3].mapping_index`.
        field: String,
        /// The index.
        index: i64,
        /// The rows of the table that it should point into.
        rows: usize,
    },
    /// Values hold values, too deep.
    #[error("{field}: values are nested deeper than {limit} levels")]
    Depth {
        /// The message and field.
        field: String,
        /// The deepest nesting that is read.
        limit: usize,
    },
    /// The tables would take far more memory than the request.
    #[error("the request of {request} bytes unfolds to more than {limit} bytes")]
    TooLarge {
        /// The size of the request.
        request: usize,
        /// The most that it may unfold to.
        limit: usize,
    },
    /// There was no room for what the request unfolds to, when it was asked for.
    #[error("there is no room for what the request unfolds to")]
    NoRoom,
    /// The request is of an older, incompatible version of the protocol.
    #[error(
        "the sender speaks OTLP proto {dialect} ({sign}): upgrade it to OTLP proto 1.10 or later"
    )]
    Dialect {
        /// The versions that look like this, as `1.9 or older`.
        dialect: &'static str,
        /// What gave it away.
        sign: &'static str,
    },
    /// The text is not JSON, or not OTLP JSON.
    #[error("OTLP JSON: {0}")]
    Json(String),
}
