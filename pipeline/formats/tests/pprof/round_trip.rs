//! Nothing is lost: pprof to tables to pprof, and over OTLP bytes.

use proptest::prelude::*;
use prost::Message as _;

use profpipe_formats::report::{Choice, Column, top};
use profpipe_formats::{otlp, pprof};
use profpipe_profile::{
    Profile as ProfileTable, Profiles, ResourceProfiles, SampleRef, ScopeProfiles, ValueType, merge,
};

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

/// The sample types of the profiles of a batch, in order.
fn kinds(profiles: &Profiles) -> Vec<&str> {
    let strings = &profiles.dictionary.strings;
    profiles.iter().map(|(_, _, profile)| strings.get(profile.sample_type.kind)).collect()
}

/// Scenario: files of pprof that name a default type, or one that there is not, or none.
/// Guarantees: OTLP has the type first that pprof shows; written as pprof again, the order is the
/// file's.
#[test]
fn default_of_pprof_is_first_in_otlp() {
    for (default, expected) in
        [(0, ["c", "b", "a"]), (1, ["a", "b", "c"]), (2, ["b", "a", "c"]), (4, ["c", "b", "a"])]
    {
        let types = [1, 2, 3].map(|kind| crate::message::ValueType { kind, unit: 4 });
        let file = Profile {
            sample_type: types.to_vec(),
            sample: vec![crate::message::Sample { value: vec![1, 20, 300], ..Default::default() }],
            string_table: ["", "a", "b", "c", "gone"].map(str::to_owned).to_vec(),
            default_sample_type: default,
            ..Profile::default()
        };
        let profiles = pprof::decode(&file.encode_to_vec()).unwrap();
        let over = otlp::decode(&otlp::encode(&profiles)).unwrap();
        for profiles in [&profiles, &over] {
            assert_eq!(kinds(profiles), expected, "{default}");
            assert_eq!(Choice::new(profiles, None).unwrap().kind, expected[0]);
            assert_eq!(write(profiles).meaning(), file.meaning());
            // Positions are those of the file.
            assert_eq!(top(profiles, Some("1"), Column::Own).unwrap().total, 20);
        }
    }
}

/// Scenario: two files of the same types in one scope, as after merging batches.
/// Guarantees: written as one file the order of types and the default are those of the files.
#[test]
fn files_in_one_scope() {
    let file = &include_bytes!("../data/go-heap.pb.gz")[..];
    let one = pprof::decode(file).unwrap();
    let both = merge([one.clone(), one.clone()]);
    assert_eq!(both.resources[0].scopes[0].profiles.len(), 8);
    let (one, both) = (write(&one).meaning(), write(&both).meaning());
    assert_eq!((both.types, both.default_type), (one.types, one.default_type));
}

/// Scenario: OTLP of several types that came from no file, in one resource and in two.
/// Guarantees: the first profile is what pprof shows: the last type. Read again, it is the first.
#[test]
fn first_profile_of_otlp_is_the_default_in_pprof() {
    let mut profiles = Profiles::new();
    let strings = &mut profiles.dictionary.strings;
    let types = ["objects", "space", "cpu"]
        .map(|kind| ValueType { kind: strings.intern(kind), unit: strings.intern("count") });
    let [objects, space, cpu] = types.map(|sample_type| {
        let mut profile = ProfileTable { sample_type, ..ProfileTable::default() };
        profile.samples.push(SampleRef { values: &[7], ..SampleRef::default() });
        profile
    });
    for groups in
        [vec![vec![objects.clone(), space.clone()]], vec![vec![objects, space], vec![cpu]]]
    {
        let resources = groups.into_iter().map(|profiles| ResourceProfiles {
            scopes: vec![ScopeProfiles { profiles, ..ScopeProfiles::default() }],
            ..ResourceProfiles::default()
        });
        profiles.resources = resources.collect();
        assert_eq!(Choice::new(&profiles, None).unwrap().kind, "objects");
        let file = write(&profiles).meaning();
        assert_eq!(
            (file.types.last().unwrap().0.as_str(), file.default_type.as_str()),
            ("objects", "")
        );
        let before = kinds(&profiles);
        let again = pprof::decode(&pprof::encode(&profiles).unwrap()).unwrap();
        assert_eq!(kinds(&again)[0], "objects");
        let mut types = kinds(&again);
        types.sort_by_key(|kind| before.iter().position(|other| other == kind));
        assert_eq!(types, before);
        for kind in before {
            assert_eq!(top(&again, Some(kind), Column::Own).unwrap().total, 7);
        }
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
