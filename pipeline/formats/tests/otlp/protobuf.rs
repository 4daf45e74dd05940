//! The protobuf codec: the same content as the generated reader and writer have, clean errors on
//! anything else.

use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest;
use profpipe_formats::otlp;
use proptest::prelude::*;
use prost::Message;

use super::generate::{Random, Shape, request};
use super::normalize::normalize;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Scenario: an arbitrary valid request, with references, missing messages and odd rows 0.
    /// Guarantees: decoding and encoding keeps what the generated types see in it, byte for byte.
    #[test]
    fn keeps_the_content_of_valid_requests(seed: u64, size in 0_usize..12, references: bool) {
        let shape = Shape { size, references, strict: false };
        let original = request(&mut Random(seed), shape);
        let profiles = otlp::decode(&original.encode_to_vec()).unwrap();
        let encoded = otlp::encode(&profiles);
        prop_assert_eq!(otlp::encoded_len(&profiles), encoded.len());
        let expected = normalize(original).encode_to_vec();
        if encoded != expected {
            let seen = ExportProfilesServiceRequest::decode(&encoded[..]).unwrap();
            let expected = ExportProfilesServiceRequest::decode(&expected[..]).unwrap();
            prop_assert_eq!(format!("{seen:#?}"), format!("{expected:#?}"));
            prop_assert!(false, "only the bytes differ");
        }
    }

    /// Scenario: a valid request with bits flipped, cut off, or with bytes put in.
    /// Guarantees: never a panic; what is accepted, the generated reader accepts and sees the same.
    #[test]
    fn accepts_no_more_than_the_generated_reader(seed: u64, size in 0_usize..6, flips in 1_usize..6) {
        let random = &mut Random(seed);
        let mut bytes =
            request(random, Shape { size, references: true, strict: false }).encode_to_vec();
        for _ in 0..flips {
            match random.below(4) {
                0 => bytes.truncate(random.below(bytes.len() + 1)),
                1 => bytes.insert(random.below(bytes.len() + 1), random.next() as u8),
                _ if bytes.is_empty() => {}
                _ => {
                    let at = random.below(bytes.len());
                    bytes[at] ^= 1 << random.below(8);
                }
            }
        }
        agree(&bytes)?;
    }

    /// Scenario: arbitrary bytes.
    /// Guarantees: never a panic.
    #[test]
    fn survives_arbitrary_bytes(bytes: Vec<u8>) {
        agree(&bytes)?;
    }
}

fn agree(bytes: &[u8]) -> Result<(), TestCaseError> {
    match otlp::decode(bytes) {
        Ok(profiles) => {
            let seen = match ExportProfilesServiceRequest::decode(bytes) {
                Ok(seen) => seen,
                // A field that we skip and the generated reader looks into.
                Err(error) if error.to_string().contains("entity_refs") => return Ok(()),
                Err(error) => return Err(TestCaseError::fail(format!("prost refuses: {error}"))),
            };
            prop_assert!(otlp::encode(&profiles) == normalize(seen).encode_to_vec());
        }
        Err(error) => {
            let message = error.to_string();
            prop_assert!(!message.contains('\n') && message.len() < 300, "{}", message);
        }
    }
    Ok(())
}
