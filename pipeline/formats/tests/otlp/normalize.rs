//! Brings a request of the generated types to the form that this crate writes, by the rules that
//! `profpipe_formats::otlp` documents: what is equal after this has the same content.

use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::profiles::v1development::{
    Function, KeyValueAndUnit, Link, Location, Mapping, Stack,
};

/// Row 0 is zero, references are resolved, missing messages are empty ones.
pub(crate) fn normalize(mut request: ExportProfilesServiceRequest) -> ExportProfilesServiceRequest {
    let mut tables = request.dictionary.take().unwrap_or_default();
    fn zero<T: Default>(table: &mut Vec<T>) {
        match table.first_mut() {
            Some(first) => *first = T::default(),
            None => table.push(T::default()),
        }
    }
    zero::<Mapping>(&mut tables.mapping_table);
    zero::<Location>(&mut tables.location_table);
    zero::<Function>(&mut tables.function_table);
    zero::<Link>(&mut tables.link_table);
    zero::<String>(&mut tables.string_table);
    zero::<KeyValueAndUnit>(&mut tables.attribute_table);
    zero::<Stack>(&mut tables.stack_table);
    for link in tables.link_table.iter_mut().skip(1) {
        link.trace_id.resize(16, 0);
        link.span_id.resize(8, 0);
    }
    let strings = &tables.string_table;
    for attribute in tables.attribute_table.iter_mut().skip(1) {
        any_value(&mut attribute.value, strings);
    }
    for resource in &mut request.resource_profiles {
        let inner = resource.resource.get_or_insert_default();
        inner.entity_refs.clear();
        key_values(&mut inner.attributes, strings);
        for scope in &mut resource.scope_profiles {
            key_values(&mut scope.scope.get_or_insert_default().attributes, strings);
            for profile in &mut scope.profiles {
                profile.sample_type.get_or_insert_default();
                profile.period_type.get_or_insert_default();
                if profile.profile_id.iter().all(|byte| *byte == 0) {
                    profile.profile_id.clear();
                }
            }
        }
    }
    request.dictionary = Some(tables);
    request
}

fn key_values(pairs: &mut [KeyValue], strings: &[String]) {
    for pair in pairs {
        if pair.key.is_empty() {
            pair.key.clone_from(&strings[pair.key_strindex as usize]);
        }
        pair.key_strindex = 0;
        any_value(&mut pair.value, strings);
    }
}

fn any_value(value: &mut Option<AnyValue>, strings: &[String]) {
    match &mut value.get_or_insert_default().value {
        Some(Value::ArrayValue(array)) => {
            for item in &mut array.values {
                let mut inner = Some(std::mem::take(item));
                any_value(&mut inner, strings);
                *item = inner.unwrap_or_default();
            }
        }
        Some(Value::KvlistValue(list)) => key_values(&mut list.values, strings),
        Some(reference @ Value::StringValueStrindex(_)) => {
            if let Value::StringValueStrindex(row) = *reference {
                *reference = Value::StringValue(strings[row as usize].clone());
            }
        }
        _ => {}
    }
}
