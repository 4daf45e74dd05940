//! The same work through the generated types, written the straightforward way.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;
pub(crate) use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest as Request;
use prost::Message;

type Numbers<Row> = HashMap<Row, i32, RandomState>;

fn put<Key: Hash + Eq, Row>(
    numbers: &mut Numbers<Key>,
    table: &mut Vec<Row>,
    key: Key,
    row: Row,
) -> i32 {
    *numbers.entry(key).or_insert_with(|| {
        table.push(row);
        table.len() as i32 - 1
    })
}

/// The requests in one, with every row once.
pub(crate) fn merge(requests: Vec<Request>) -> Request {
    let mut merged = Request::default();
    let mut tables =
        opentelemetry_proto::tonic::profiles::v1development::ProfilesDictionary::default();
    let mut strings = Numbers::default();
    let mut attributes = Numbers::<Vec<u8>>::default();
    let mut mappings = Numbers::default();
    let mut functions = Numbers::default();
    let mut locations = Numbers::default();
    let mut links = Numbers::default();
    let mut stacks = Numbers::default();
    for request in requests {
        let from = request.dictionary.unwrap();
        let s: Vec<i32> = from
            .string_table
            .into_iter()
            .map(|row| put(&mut strings, &mut tables.string_table, row.clone(), row))
            .collect();
        let a: Vec<i32> = from
            .attribute_table
            .into_iter()
            .map(|mut row| {
                row.key_strindex = s[row.key_strindex as usize];
                row.unit_strindex = s[row.unit_strindex as usize];
                put(&mut attributes, &mut tables.attribute_table, row.encode_to_vec(), row)
            })
            .collect();
        let m: Vec<i32> = from
            .mapping_table
            .into_iter()
            .map(|mut row| {
                row.filename_strindex = s[row.filename_strindex as usize];
                row.attribute_indices.iter_mut().for_each(|at| *at = a[*at as usize]);
                put(&mut mappings, &mut tables.mapping_table, row.clone(), row)
            })
            .collect();
        let f: Vec<i32> = from
            .function_table
            .into_iter()
            .map(|mut row| {
                row.name_strindex = s[row.name_strindex as usize];
                row.system_name_strindex = s[row.system_name_strindex as usize];
                row.filename_strindex = s[row.filename_strindex as usize];
                put(&mut functions, &mut tables.function_table, row, row)
            })
            .collect();
        let l: Vec<i32> = from
            .location_table
            .into_iter()
            .map(|mut row| {
                row.mapping_index = m[row.mapping_index as usize];
                row.lines
                    .iter_mut()
                    .for_each(|line| line.function_index = f[line.function_index as usize]);
                row.attribute_indices.iter_mut().for_each(|at| *at = a[*at as usize]);
                let key = (
                    row.mapping_index,
                    row.address,
                    row.lines.clone(),
                    row.attribute_indices.clone(),
                );
                put(&mut locations, &mut tables.location_table, key, row)
            })
            .collect();
        let k: Vec<i32> = from
            .link_table
            .into_iter()
            .map(|row| put(&mut links, &mut tables.link_table, row.clone(), row))
            .collect();
        let c: Vec<i32> = from
            .stack_table
            .into_iter()
            .map(|mut row| {
                row.location_indices.iter_mut().for_each(|at| *at = l[*at as usize]);
                put(&mut stacks, &mut tables.stack_table, row.clone(), row)
            })
            .collect();
        for mut resource in request.resource_profiles {
            let profiles = resource.scope_profiles.iter_mut().flat_map(|scope| &mut scope.profiles);
            for profile in profiles {
                profile.attribute_indices.iter_mut().for_each(|at| *at = a[*at as usize]);
                for types in [&mut profile.sample_type, &mut profile.period_type] {
                    let types = types.as_mut().unwrap();
                    types.type_strindex = s[types.type_strindex as usize];
                    types.unit_strindex = s[types.unit_strindex as usize];
                }
                for sample in &mut profile.samples {
                    sample.stack_index = c[sample.stack_index as usize];
                    sample.link_index = k[sample.link_index as usize];
                    sample.attribute_indices.iter_mut().for_each(|at| *at = a[*at as usize]);
                }
            }
            merged.resource_profiles.push(resource);
        }
    }
    merged.dictionary = Some(tables);
    merged
}
