//! The messages of OTLP profiles (proto 1.10 and 1.11) as data: names for error messages, and
//! everything that the JSON form needs to know.
//!
//! The hot paths of the protobuf codec do not look in here.

use super::error::DecodeError;

/// A message type.
#[derive(Debug)]
pub(super) struct Message {
    /// The name in the proto file.
    pub(super) name: &'static str,
    /// The fields, by ascending number.
    pub(super) fields: &'static [Field],
}

/// A field of a message.
#[derive(Debug)]
pub(super) struct Field {
    /// The number on the wire.
    pub(super) number: u32,
    /// The name in the proto file; in JSON it is the same in lowerCamelCase.
    pub(super) name: &'static str,
    /// What it holds.
    pub(super) kind: Kind,
    /// Whether it holds a list.
    pub(super) repeated: bool,
}

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// `int32`.
    Int32,
    /// `uint32`.
    Uint32,
    /// `int64`, a text in JSON.
    Int64,
    /// `uint64`, a text in JSON.
    Uint64,
    /// `fixed64`, a text in JSON.
    Fixed64,
    /// `double`.
    Double,
    /// `bool`.
    Bool,
    /// `string`.
    Text,
    /// `bytes`, base64 in JSON.
    Bytes,
    /// `bytes` that are an id, hex in JSON.
    Id,
    /// Another message.
    Message(&'static Message),
}

impl Message {
    /// The field with this number.
    pub(super) fn field(&self, number: u32) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.number == number)
    }

    /// How a field is named in an error message.
    pub(super) fn path(&self, number: u32) -> String {
        match self.field(number) {
            Some(field) => format!("{}.{}", self.name, field.name),
            None if number == 0 => self.name.to_owned(),
            None => format!("{} field {number}", self.name),
        }
    }
}

impl Message {
    /// The field that samples are under, for the messages from the request down to the profile.
    pub(super) fn leads_to_samples(&self) -> Option<&'static str> {
        match self.name {
            "ExportProfilesServiceRequest" => Some("resource_profiles"),
            "ResourceProfiles" => Some("scope_profiles"),
            "ScopeProfiles" => Some("profiles"),
            "Profile" => Some("samples"),
            _ => None,
        }
    }

    /// The error for a JSON key that only older versions of the protocol have, where what is under
    /// it would be lost. Keys that were added or renamed without loss are none.
    pub(super) fn older_key(&self, key: &str) -> Option<DecodeError> {
        OLDER_KEYS
            .iter()
            .find(|(message, older, ..)| *message == self.name && *older == key)
            .map(|(.., dialect, sign)| DecodeError::Dialect { dialect, sign })
    }
}

/// The proto versions up to which the keys below were.
const PROTO_1_8: &str = "1.8 or older";
const PROTO_1_7: &str = "1.7 or older";

/// A list where proto 1.8 and later have one sample type.
pub(super) const SAMPLE_TYPE_LIST: DecodeError =
    DecodeError::Dialect { dialect: PROTO_1_7, sign: "Profile.sample_type is a list" };

/// Messages, keys of theirs that are gone, the last version that had them, and how to say that.
const OLDER_KEYS: &[(&str, &str, &str, &str)] = &[
    (
        "ExportProfilesServiceRequest",
        "stringTable",
        PROTO_1_7,
        "tables are outside of a dictionary",
    ),
    ("Profile", "sample", PROTO_1_8, "profiles hold `sample`, not `samples`"),
    ("Profile", "stringTable", PROTO_1_7, "profiles hold tables"),
    ("Profile", "locationIndices", PROTO_1_7, "profiles hold location indices"),
    ("Sample", "value", PROTO_1_7, "samples hold `value`, not `values`"),
    ("Sample", "locationsStartIndex", PROTO_1_7, "samples hold a range of locations"),
    ("Sample", "locationsLength", PROTO_1_7, "samples hold a range of locations"),
    ("Sample", "locationIndex", PROTO_1_7, "samples hold locations"),
    ("Location", "line", PROTO_1_8, "locations hold `line`, not `lines`"),
];

macro_rules! messages {
    ($($symbol:ident $name:literal { $($number:literal $field:ident: $kind:ident $(($of:ident))? $(* $repeated:tt)?;)* })*) => {$(
        #[doc = concat!("`", $name, "`.")]
        pub(super) static $symbol: Message = Message {
            name: $name,
            fields: &[$(Field {
                number: $number,
                name: stringify!($field),
                kind: Kind::$kind $((&$of))?,
                repeated: messages!(@ $($repeated)?),
            }),*],
        };
    )*};
    (@) => { false };
    (@ list) => { true };
}

messages! {
    REQUEST "ExportProfilesServiceRequest" {
        1 resource_profiles: Message(RESOURCE_PROFILES) *list;
        2 dictionary: Message(DICTIONARY);
    }
    DICTIONARY "ProfilesDictionary" {
        1 mapping_table: Message(MAPPING) *list;
        2 location_table: Message(LOCATION) *list;
        3 function_table: Message(FUNCTION) *list;
        4 link_table: Message(LINK) *list;
        5 string_table: Text *list;
        6 attribute_table: Message(ATTRIBUTE) *list;
        7 stack_table: Message(STACK) *list;
    }
    RESOURCE_PROFILES "ResourceProfiles" {
        1 resource: Message(RESOURCE);
        2 scope_profiles: Message(SCOPE_PROFILES) *list;
        3 schema_url: Text;
    }
    RESOURCE "Resource" {
        1 attributes: Message(KEY_VALUE) *list;
        2 dropped_attributes_count: Uint32;
    }
    PROCESS_CONTEXT "ProcessContext" {
        1 resource: Message(RESOURCE);
        2 attributes: Message(KEY_VALUE) *list;
    }
    SCOPE_PROFILES "ScopeProfiles" {
        1 scope: Message(SCOPE);
        2 profiles: Message(PROFILE) *list;
        3 schema_url: Text;
    }
    SCOPE "InstrumentationScope" {
        1 name: Text;
        2 version: Text;
        3 attributes: Message(KEY_VALUE) *list;
        4 dropped_attributes_count: Uint32;
    }
    PROFILE "Profile" {
        1 sample_type: Message(VALUE_TYPE);
        2 samples: Message(SAMPLE) *list;
        3 time_unix_nano: Fixed64;
        4 duration_nano: Uint64;
        5 period_type: Message(VALUE_TYPE);
        6 period: Int64;
        7 profile_id: Id;
        8 dropped_attributes_count: Uint32;
        9 original_payload_format: Text;
        10 original_payload: Bytes;
        11 attribute_indices: Int32 *list;
    }
    VALUE_TYPE "ValueType" {
        1 type_strindex: Int32;
        2 unit_strindex: Int32;
    }
    SAMPLE "Sample" {
        1 stack_index: Int32;
        2 attribute_indices: Int32 *list;
        3 link_index: Int32;
        4 values: Int64 *list;
        5 timestamps_unix_nano: Fixed64 *list;
    }
    MAPPING "Mapping" {
        1 memory_start: Uint64;
        2 memory_limit: Uint64;
        3 file_offset: Uint64;
        4 filename_strindex: Int32;
        5 attribute_indices: Int32 *list;
    }
    LOCATION "Location" {
        1 mapping_index: Int32;
        2 address: Uint64;
        3 lines: Message(LINE) *list;
        4 attribute_indices: Int32 *list;
    }
    LINE "Line" {
        1 function_index: Int32;
        2 line: Int64;
        3 column: Int64;
    }
    FUNCTION "Function" {
        1 name_strindex: Int32;
        2 system_name_strindex: Int32;
        3 filename_strindex: Int32;
        4 start_line: Int64;
    }
    LINK "Link" {
        1 trace_id: Id;
        2 span_id: Id;
    }
    ATTRIBUTE "KeyValueAndUnit" {
        1 key_strindex: Int32;
        2 value: Message(ANY_VALUE);
        3 unit_strindex: Int32;
    }
    STACK "Stack" {
        1 location_indices: Int32 *list;
    }
    KEY_VALUE "KeyValue" {
        1 key: Text;
        2 value: Message(ANY_VALUE);
        3 key_strindex: Int32;
    }
    ANY_VALUE "AnyValue" {
        1 string_value: Text;
        2 bool_value: Bool;
        3 int_value: Int64;
        4 double_value: Double;
        5 array_value: Message(ARRAY_VALUE);
        6 kvlist_value: Message(KEY_VALUE_LIST);
        7 bytes_value: Bytes;
        8 string_value_strindex: Int32;
    }
    ARRAY_VALUE "ArrayValue" {
        1 values: Message(ANY_VALUE) *list;
    }
    KEY_VALUE_LIST "KeyValueList" {
        1 values: Message(KEY_VALUE) *list;
    }
}
