//! A CPU profile of a service, known in all its parts, as OTLP and as pprof: many stacks over few
//! functions, inlined frames, recursion, a label. Both types of it are consistent (cpu = samples ×
//! period), since Pyroscope computes one from the other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::profiles::v1development as otlp;
use opentelemetry_proto::tonic::resource::v1::Resource;

use crate::pprof;
use crate::totals::{Column, Totals};

/// Ten milliseconds of CPU time a sample.
pub(crate) const PERIOD: i64 = 10_000_000;
const FUNCTIONS: usize = 40;

/// What one service did.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) service: String,
    pub(crate) time: u64,
    /// Locations from the leaf on; count; the value of the label `route`.
    samples: Vec<(Vec<usize>, i64, &'static str)>,
}

impl Fixture {
    /// A service that no other test, and no other run against the same peer, knows.
    pub(crate) fn new(name: &str) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let time = SystemTime::now() - Duration::from_secs(60);
        let time = time.duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut state = 0x9e37_79b9_7f4a_7c15 ^ number;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        let samples = (0..300)
            .map(|row| {
                // The row's number is in the stack: no two rows are the same sample.
                let mut stack: Vec<_> = (0..1 + random(12)).map(|_| random(FUNCTIONS)).collect();
                stack.extend([row % 20, row / 20]);
                (stack, 1 + random(9) as i64, ["/cart", "/buy"][row % 2])
            })
            .collect();
        Self { service: format!("{name}-{}-{number}", std::process::id()), time, samples }
    }

    /// Location `index` is function `index`; every third has one inlined into it.
    fn lines(index: usize) -> impl Iterator<Item = usize> {
        let inlined = index.is_multiple_of(3).then_some((index + 1) % FUNCTIONS);
        inlined.into_iter().chain([index])
    }

    fn function(index: usize) -> String {
        format!("shop::step_{index}")
    }

    fn total(&self) -> i64 {
        self.samples.iter().map(|(_, count, _)| count).sum()
    }

    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::new();
        for (kind, unit, weight) in [("samples", "count", 1), ("cpu", "nanoseconds", PERIOD)] {
            let mut column = Column::default();
            for (stack, count, _) in &self.samples {
                let names: Vec<_> = stack
                    .iter()
                    .flat_map(|&location| Self::lines(location))
                    .map(Self::function)
                    .collect();
                column.add(names.iter().map(String::as_str), count * weight);
            }
            assert_eq!(column.total, self.total() * weight);
            totals.insert((kind.into(), unit.into()), column);
        }
        totals
    }

    pub(crate) fn otlp(&self) -> otlp::ProfilesData {
        let mut strings = vec![String::new()];
        let mut string = |text: &str| {
            let found = strings.iter().position(|known| known == text);
            found.unwrap_or_else(|| {
                strings.push(text.into());
                strings.len() - 1
            }) as i32
        };
        let attribute = |key: &str, value: Value| KeyValue {
            key: key.into(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        };
        let value_type =
            |type_strindex, unit_strindex| otlp::ValueType { type_strindex, unit_strindex };
        let mut dictionary = otlp::ProfilesDictionary {
            mapping_table: vec![otlp::Mapping::default()],
            location_table: vec![otlp::Location::default()],
            function_table: vec![otlp::Function::default()],
            link_table: vec![otlp::Link::default()],
            stack_table: vec![otlp::Stack::default()],
            attribute_table: vec![otlp::KeyValueAndUnit::default()],
            ..otlp::ProfilesDictionary::default()
        };
        dictionary.mapping_table.push(otlp::Mapping {
            memory_start: 0x40_0000,
            memory_limit: 0x50_0000,
            filename_strindex: string("/usr/bin/shop"),
            ..otlp::Mapping::default()
        });
        for index in 0..FUNCTIONS {
            dictionary.function_table.push(otlp::Function {
                name_strindex: string(&Self::function(index)),
                filename_strindex: string("shop.rs"),
                ..otlp::Function::default()
            });
            let lines = Self::lines(index).map(|function| otlp::Line {
                function_index: 1 + function as i32,
                line: 10 + index as i64,
                column: 0,
            });
            dictionary.location_table.push(otlp::Location {
                mapping_index: 1,
                address: 0x40_1000 + 16 * index as u64,
                lines: lines.collect(),
                ..otlp::Location::default()
            });
        }
        for route in ["/cart", "/buy"] {
            dictionary.attribute_table.push(otlp::KeyValueAndUnit {
                key_strindex: string("route"),
                value: Some(AnyValue { value: Some(Value::StringValue(route.into())) }),
                unit_strindex: 0,
            });
        }
        for (stack, _, _) in &self.samples {
            let location_indices = stack.iter().map(|&location| 1 + location as i32).collect();
            dictionary.stack_table.push(otlp::Stack { location_indices });
        }
        let period_type = value_type(string("cpu"), string("nanoseconds"));
        let profiles = [("samples", "count", 1), ("cpu", "nanoseconds", PERIOD)].map(
            |(kind, unit, weight)| {
                let samples =
                    self.samples.iter().enumerate().map(|(row, (_, count, route))| otlp::Sample {
                        stack_index: 1 + row as i32,
                        values: vec![count * weight],
                        attribute_indices: vec![if *route == "/cart" { 1 } else { 2 }],
                        ..otlp::Sample::default()
                    });
                otlp::Profile {
                    sample_type: Some(value_type(string(kind), string(unit))),
                    samples: samples.collect(),
                    time_unix_nano: self.time,
                    duration_nano: 10_000_000_000,
                    period_type: Some(period_type),
                    period: PERIOD,
                    ..otlp::Profile::default()
                }
            },
        );
        let resource = otlp::ResourceProfiles {
            resource: Some(Resource {
                attributes: vec![
                    attribute("service.name", Value::StringValue(self.service.clone())),
                    attribute("host.name", Value::StringValue("north-1".into())),
                ],
                ..Resource::default()
            }),
            scope_profiles: vec![otlp::ScopeProfiles {
                scope: Some(InstrumentationScope {
                    name: "fixture".into(),
                    ..InstrumentationScope::default()
                }),
                profiles: profiles.into(),
                ..otlp::ScopeProfiles::default()
            }],
            ..otlp::ResourceProfiles::default()
        };
        dictionary.string_table = strings;
        otlp::ProfilesData { resource_profiles: vec![resource], dictionary: Some(dictionary) }
    }

    pub(crate) fn pprof(&self) -> pprof::Profile {
        const FIXED: [&str; 10] = [
            "",
            "samples",
            "count",
            "cpu",
            "nanoseconds",
            "/usr/bin/shop",
            "shop.rs",
            "route",
            "/cart",
            "/buy",
        ];
        let functions = (0..FUNCTIONS).map(|index| pprof::Function {
            id: 1 + index as u64,
            name: (FIXED.len() + index) as i64,
            filename: 6,
        });
        let locations = (0..FUNCTIONS).map(|index| pprof::Location {
            id: 1 + index as u64,
            mapping_id: 1,
            address: 0x40_1000 + 16 * index as u64,
            line: Self::lines(index)
                .map(|function| pprof::Line {
                    function_id: 1 + function as u64,
                    line: 10 + index as i64,
                })
                .collect(),
        });
        let samples = self.samples.iter().map(|(stack, count, route)| pprof::Sample {
            location_id: stack.iter().map(|&location| 1 + location as u64).collect(),
            value: vec![*count, count * PERIOD],
            label: vec![pprof::Label { key: 7, str: if *route == "/cart" { 8 } else { 9 } }],
        });
        pprof::Profile {
            sample_type: vec![
                pprof::ValueType { r#type: 1, unit: 2 },
                pprof::ValueType { r#type: 3, unit: 4 },
            ],
            sample: samples.collect(),
            mapping: vec![pprof::Mapping {
                id: 1,
                memory_start: 0x40_0000,
                memory_limit: 0x50_0000,
                filename: 5,
                has_functions: true,
            }],
            location: locations.collect(),
            function: functions.collect(),
            string_table: FIXED
                .map(String::from)
                .into_iter()
                .chain((0..FUNCTIONS).map(Self::function))
                .collect(),
            time_nanos: self.time as i64,
            duration_nanos: 10_000_000_000,
            period_type: Some(pprof::ValueType { r#type: 3, unit: 4 }),
            period: PERIOD,
        }
    }

    /// As folded stacks, root first, in samples.
    pub(crate) fn folded(&self) -> String {
        let line = |(stack, count, _): &(Vec<usize>, i64, &str)| {
            let mut names: Vec<_> = stack
                .iter()
                .flat_map(|&location| Self::lines(location))
                .map(Self::function)
                .collect();
            names.reverse();
            format!("{} {count}\n", names.join(";"))
        };
        self.samples.iter().map(line).collect()
    }
}
