//! Valid pprof profiles of any shape: ids that jump, texts twice, labels that repeat, extremes.

use proptest::collection::{hash_set, vec};
use proptest::prelude::*;

use crate::message::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};

fn ids(most: usize) -> impl Strategy<Value = Vec<u64>> {
    let id = prop_oneof![4 => 1..20_u64, 1 => 1..=u64::MAX];
    hash_set(id, 0..=most).prop_map(|ids| ids.into_iter().collect())
}

fn number() -> impl Strategy<Value = i64> {
    prop_oneof![2 => Just(0), 4 => -3..100_i64, 1 => any::<i64>()]
}

fn address() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0), 4 => 0..0x10_0000_u64, 1 => any::<u64>()]
}

/// Texts by number: an empty one, then any, which may be empty or equal again.
fn texts() -> impl Strategy<Value = Vec<String>> {
    let text = prop_oneof![
        3 => prop::sample::select(vec!["cpu", "a", "b/c", "profpipe.samples.lost=7", ""])
            .prop_map(str::to_owned),
        2 => "\\PC{0,6}",
        1 => any::<String>(),
    ];
    vec(text, 1..10).prop_map(|mut texts| {
        texts.insert(0, String::new());
        texts
    })
}

fn mapping(id: u64, text: BoxedStrategy<i64>) -> impl Strategy<Value = Mapping> {
    let numbers = (address(), address(), address());
    (numbers, text.clone(), text, any::<[bool; 4]>()).prop_map(
        move |((memory_start, memory_limit, file_offset), filename, build_id, flags)| Mapping {
            id,
            memory_start,
            memory_limit,
            file_offset,
            filename,
            build_id,
            has_functions: flags[0],
            has_filenames: flags[1],
            has_line_numbers: flags[2],
            has_inline_frames: flags[3],
        },
    )
}

fn location(id: u64, mappings: Vec<u64>, functions: Vec<u64>) -> impl Strategy<Value = Location> {
    // Also mappings that do not exist, which google/pprof accepts.
    let mapping = prop_oneof![1 => any::<u64>(), 3 => one_of(mappings, 0)];
    let most = if functions.is_empty() { 0 } else { 3 };
    let line = (one_of(functions, 0), number(), number())
        .prop_map(|(function_id, line, column)| Line { function_id, line, column });
    (mapping, address(), vec(line, 0..=most), any::<bool>()).prop_map(
        move |(mapping_id, address, line, is_folded)| Location {
            id,
            mapping_id,
            address,
            line,
            is_folded,
        },
    )
}

fn one_of(ids: Vec<u64>, otherwise: u64) -> BoxedStrategy<u64> {
    if ids.is_empty() { Just(otherwise).boxed() } else { prop::sample::select(ids).boxed() }
}

fn sample(
    types: usize,
    locations: Vec<u64>,
    text: BoxedStrategy<i64>,
) -> impl Strategy<Value = Sample> {
    let most = if locations.is_empty() { 0 } else { 5 };
    let label =
        (text.clone(), text.clone(), number(), text).prop_flat_map(|(key, text, number, unit)| {
            prop_oneof![
                Just(Label { key, text, number: 0, unit: 0 }),
                Just(Label { key, text: 0, number, unit }),
                Just(Label { key, text: 0, number, unit: 0 }),
            ]
        });
    (vec(one_of(locations, 0), 0..=most), vec(number(), types), vec(label, 0..5))
        .prop_map(|(location_id, value, label)| Sample { location_id, value, label })
}

/// Any profile that google/pprof accepts.
pub(crate) fn profile() -> impl Strategy<Value = Profile> {
    (texts(), ids(3), ids(4), ids(6), 0..4_usize).prop_flat_map(
        |(string_table, mappings, functions, locations, types)| {
            let text = (0..string_table.len() as i64).boxed();
            let value_type = (text.clone(), text.clone())
                .prop_map(|(kind, unit)| ValueType { kind, unit })
                .boxed();
            let function_rows: Vec<_> = functions
                .iter()
                .map(|id| {
                    let id = *id;
                    (text.clone(), text.clone(), text.clone(), number()).prop_map(
                        move |(name, system_name, filename, start_line)| Function {
                            id,
                            name,
                            system_name,
                            filename,
                            start_line,
                        },
                    )
                })
                .collect();
            let mapping_rows: Vec<_> =
                mappings.iter().map(|id| mapping(*id, text.clone())).collect();
            let location_rows: Vec<_> = locations
                .iter()
                .map(|id| location(*id, mappings.clone(), functions.clone()))
                .collect();
            let most = if types == 0 { 0 } else { 6 };
            let samples = vec(sample(types, locations, text.clone()), 0..=most);
            let tables = (mapping_rows, function_rows, location_rows, samples);
            let header = (
                vec(value_type.clone(), types),
                prop::option::of(value_type),
                vec(text.clone(), 0..4),
                [text.clone(), text.clone(), text.clone(), text],
                [number().boxed(), number().boxed(), number().boxed()],
            );
            (tables, header).prop_map(
                move |(
                    (mapping, function, location, sample),
                    (sample_type, period_type, comment, texts, numbers),
                )| Profile {
                    sample_type,
                    sample,
                    mapping,
                    location,
                    function,
                    string_table: string_table.clone(),
                    drop_frames: texts[0],
                    keep_frames: texts[1],
                    time_nanos: numbers[0],
                    duration_nanos: numbers[1],
                    period_type,
                    period: numbers[2],
                    comment,
                    default_sample_type: texts[2],
                    doc_url: texts[3],
                },
            )
        },
    )
}
