//! One host's minute, as an eBPF profiler would send it.

use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::profiles::v1development::{
    Function, KeyValueAndUnit, Line, Link, Location, Mapping, Profile, ProfilesDictionary,
    ResourceProfiles, Sample, ScopeProfiles, Stack, ValueType,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// Low numbers more often.
    fn skewed(&mut self, bound: u64) -> u64 {
        let (a, b) = (self.below(bound) + 1, self.below(bound) + 1);
        (a * b / bound).min(bound - 1)
    }
}

fn text(text: String) -> Option<AnyValue> {
    Some(AnyValue { value: Some(Value::StringValue(text)) })
}

const PROCESSES: u64 = 150;
const SAMPLES: u64 = 80;
const FUNCTIONS: u64 = 9_000;
const LOCATIONS: u64 = 12_000;
const STACKS: u64 = 6_000;
const START: u64 = 1_760_000_000_000_000_000;

/// The host `number`; its code begins `number * shift` functions into the code of the fleet.
pub(crate) fn host(number: u64, shift: u64) -> ExportProfilesServiceRequest {
    let random = &mut Random(0x9e37_79b9_7f4a_7c15 ^ (number * 7919 + 1));
    let base = number * shift;
    let mut strings = vec![String::new()];
    let mut string = |text: String| {
        strings.push(text);
        strings.len() as i32 - 1
    };
    let files: Vec<i32> = (0..900)
        .map(|file| {
            string(format!("/usr/src/app/internal/service_{file}/handler_module_{}.go", file % 37))
        })
        .collect();
    let mut functions = vec![Function::default()];
    for function in base..base + FUNCTIONS {
        let name = string(format!(
            "github.com/acme/platform/pkg{}/(*Server).handleRequest{function}",
            function % 311
        ));
        functions.push(Function {
            name_strindex: name,
            system_name_strindex: name,
            filename_strindex: files[(function % 900) as usize],
            start_line: (function % 4000) as i64,
        });
    }
    let mut attributes = vec![KeyValueAndUnit::default()];
    let mut mappings = vec![Mapping::default()];
    let build_id = string("process.executable.build_id.htlhash".into());
    let thread = string("thread.name".into());
    for file in 0..300 {
        attributes.push(KeyValueAndUnit {
            key_strindex: build_id,
            value: text(format!("{:032x}", file * 77_777)),
            unit_strindex: 0,
        });
        mappings.push(Mapping {
            memory_start: 0x40_0000 + file * 4096,
            memory_limit: 0x80_0000 + file * 4096,
            file_offset: 0,
            filename_strindex: string(format!("/usr/lib/x86_64/lib{file}.so.6")),
            attribute_indices: vec![attributes.len() as i32 - 1],
        });
    }
    let first_thread = attributes.len() as u64;
    for worker in 0..400 {
        attributes.push(KeyValueAndUnit {
            key_strindex: thread,
            value: text(format!("worker-{worker}")),
            unit_strindex: 0,
        });
    }
    let mut locations = vec![Location::default()];
    for at in 0..LOCATIONS {
        let place = base * 4 / 3 + at;
        locations.push(Location {
            mapping_index: (place % 300 + 1) as i32,
            address: 0x1000 + place * 61,
            lines: vec![Line {
                function_index: (at * 3 / 4 % FUNCTIONS + 1) as i32,
                line: (place % 900) as i64,
                column: 0,
            }],
            attribute_indices: Vec::new(),
        });
    }
    let mut stacks = vec![Stack::default()];
    for at in 0..STACKS {
        let random = &mut Random(((at * 13 + 7) << 17) | 1);
        let depth = 12 + random.below(30);
        stacks.push(Stack {
            location_indices: (0..depth)
                .map(|_| (random.skewed(LOCATIONS - 1) + 1) as i32)
                .collect(),
        });
    }
    let samples_type = ValueType {
        type_strindex: string("samples".into()),
        unit_strindex: string("count".into()),
    };
    const KEYS: [&str; 8] = [
        "container.id",
        "k8s.pod.name",
        "k8s.namespace.name",
        "k8s.container.name",
        "process.pid",
        "process.executable.path",
        "service.name",
        "host.name",
    ];
    let resource_profiles = (0..PROCESSES)
        .map(|process| {
            let attributes = KEYS
                .iter()
                .map(|key| KeyValue {
                    key: (*key).to_owned(),
                    value: text(format!("{key}-value-{number}-{process}")),
                    key_strindex: 0,
                })
                .collect();
            let samples = (0..SAMPLES)
                .map(|_| {
                    let events = 1 + random.below(3);
                    Sample {
                        stack_index: (random.skewed(STACKS - 1) + 1) as i32,
                        attribute_indices: vec![(first_thread + random.below(400)) as i32],
                        link_index: 0,
                        values: Vec::new(),
                        timestamps_unix_nano: (0..events)
                            .map(|event| START + number * 1000 + event * 50_000_000)
                            .collect(),
                    }
                })
                .collect();
            let profile = Profile {
                sample_type: Some(samples_type),
                samples,
                time_unix_nano: START,
                duration_nano: 60_000_000_000,
                period_type: Some(ValueType::default()),
                period: 52_631_578,
                profile_id: vec![7; 16],
                ..Profile::default()
            };
            ResourceProfiles {
                resource: Some(Resource { attributes, ..Resource::default() }),
                scope_profiles: vec![ScopeProfiles {
                    scope: Some(InstrumentationScope {
                        name: "go.opentelemetry.io/ebpf-profiler".into(),
                        version: "v1".into(),
                        ..InstrumentationScope::default()
                    }),
                    profiles: vec![profile],
                    schema_url: String::new(),
                }],
                schema_url: String::new(),
            }
        })
        .collect();
    ExportProfilesServiceRequest {
        resource_profiles,
        dictionary: Some(ProfilesDictionary {
            mapping_table: mappings,
            location_table: locations,
            function_table: functions,
            link_table: vec![Link::default()],
            string_table: strings,
            attribute_table: attributes,
            stack_table: stacks,
        }),
    }
}
