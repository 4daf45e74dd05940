//! Nothing is lost: pprof to tables to pprof, and over OTLP bytes.

use proptest::prelude::*;
use prost::Message as _;

use profpipe_formats::{otlp, pprof};
use profpipe_profile::Profiles;

use crate::arbitrary::profile;
use crate::message::Profile;

fn write(profiles: &Profiles) -> Profile {
    Profile::read(&pprof::encode_plain(profiles).unwrap())
}

proptest! {
    /// Scenario: any valid profile, read and written.
    /// Guarantees: it says the same, in the same order.
    #[test]
    fn tables(profile in profile()) {
        let profiles = pprof::decode(&profile.encode_to_vec()).unwrap();
        prop_assert_eq!(write(&profiles).meaning(), profile.meaning());
    }

    /// Scenario: any valid profile, read, written as OTLP in protobuf and in JSON, read from that,
    /// written.
    /// Guarantees: the same bytes as without the detour.
    #[test]
    fn over_otlp(profile in profile()) {
        let profiles = pprof::decode(&profile.encode_to_vec()).unwrap();
        let direct = pprof::encode_plain(&profiles).unwrap();
        let over = otlp::decode(&otlp::encode(&profiles)).unwrap();
        prop_assert_eq!(&pprof::encode_plain(&over).unwrap(), &direct);
        let over = otlp::decode_json(&otlp::encode_json(&profiles)).unwrap();
        prop_assert_eq!(&pprof::encode_plain(&over).unwrap(), &direct);
    }
}

/// Scenario: a CPU profile and a heap profile as Go's runtime wrote them.
/// Guarantees: written again they say the same.
#[test]
fn files_of_go() {
    for file in
        [&include_bytes!("../data/go-cpu.pb.gz")[..], include_bytes!("../data/go-heap.pb.gz")]
    {
        let mut plain = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(file), &mut plain).unwrap();
        let original = Profile::read(&plain).meaning();
        let profiles = pprof::decode(file).unwrap();
        assert_eq!(profiles.sample_count(), original.samples.len() * original.types.len());
        let written = pprof::encode(&profiles).unwrap();
        let written = write(&pprof::decode(&written).unwrap()).meaning();
        assert_eq!(written, original);
    }
}

/// Scenario: numbers that repeat are written packed or one by one; both are valid.
/// Guarantees: both are read alike.
#[test]
fn packed_or_not() {
    let packed = Profile {
        sample_type: vec![crate::message::ValueType { kind: 1, unit: 1 }; 2],
        sample: vec![crate::message::Sample {
            location_id: vec![],
            value: vec![3, 300],
            label: vec![],
        }],
        string_table: vec![String::new(), "a".into()],
        ..Profile::default()
    };
    let mut bytes = Profile { sample: vec![], ..packed.clone() }.encode_to_vec();
    // A sample of two values (field 2, wire type 0), each with its own tag.
    bytes.extend([0x12, 5, 0x10, 3, 0x10, 0xac, 0x02]);
    let profiles = pprof::decode(&bytes).unwrap();
    assert_eq!(write(&profiles).meaning(), packed.meaning());
}
