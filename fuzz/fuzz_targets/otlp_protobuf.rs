//! Any bytes as an OTLP request: no panic, what is read the generated reader reads too, and what
//! is written reads the same again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest;
use profpipe_formats::otlp;
use prost::Message;

fuzz_target!(|bytes: &[u8]| {
    let _ = otlp::summary(bytes);
    let Ok(profiles) = otlp::decode(bytes) else { return };
    assert_eq!(profiles.dictionary.check(), Ok(()));
    // The generated reader looks into a field that we skip.
    if let Err(error) = ExportProfilesServiceRequest::decode(bytes) {
        assert!(error.to_string().contains("entity_refs"), "{error}");
    }
    let written = otlp::encode(&profiles);
    assert_eq!(written.len(), otlp::encoded_len(&profiles));
    let again = otlp::decode(&written).unwrap();
    assert_eq!(otlp::encode(&again), written);
});
