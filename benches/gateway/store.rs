//! With merge, edit and delivery into a real Pyroscope: what is sent, and what Pyroscope then says.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::profiles::v1development::{ProfilesData, ValueType};
use prost::Message as _;

use crate::load::Load;
use crate::payloads::Payload;
use crate::pyroscope::{CPU, Pyroscope};
use crate::report::{Figures, median, percentile};
use crate::server::{Kind, Other, Server, Work};
use crate::totals::Column;

/// More connections than elsewhere: an answer waits for the merge and for Pyroscope.
const LOAD: Load = Load { connections: 32, pace: None, silence: Duration::ZERO };

/// Requests of their own times and services, because Pyroscope keeps one of equals.
#[derive(Debug)]
pub(crate) struct Store {
    payloads: Vec<Payload>,
    order: Vec<usize>,
    warmth: usize,
    samples: usize,
    bytes: usize,
    /// CPU nanoseconds by service.
    expected: BTreeMap<String, i64>,
}

/// What Pyroscope has, by service.
pub(crate) type Stored = BTreeMap<String, Column>;

impl Store {
    pub(crate) fn new(recorded: &[Payload], bytes: usize) -> Self {
        let recorded: Vec<_> = recorded
            .iter()
            .map(|payload| ProfilesData::decode(payload.bytes.as_slice()).unwrap())
            .collect();
        let mut store = Self {
            payloads: Vec::new(),
            order: Vec::new(),
            warmth: recorded.len(),
            samples: 0,
            bytes: 0,
            expected: BTreeMap::new(),
        };
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let mut time = started - Duration::from_secs(1800);
        while store.bytes < bytes || store.order.is_empty() {
            let number = store.payloads.len();
            let mut data = recorded[number % recorded.len()].clone();
            let name = format!("bench-{}", number % recorded.len());
            let samples = store.name(&mut data, &name, &mut time);
            let body = data.encode_to_vec();
            if number >= store.warmth {
                store.order.push(number);
                store.samples += samples;
                store.bytes += body.len();
            }
            store.payloads.push(Payload { bytes: body });
        }
        store
    }

    /// Gives every resource a service and every profile a time; the number of samples. CPU time is
    /// counted in samples of a period, as the OTel eBPF profiler does, because Pyroscope gives OTLP of
    /// another type another name.
    fn name(&mut self, data: &mut ProfilesData, name: &str, time: &mut Duration) -> usize {
        let strings = &mut data.dictionary.get_or_insert_default().string_table;
        let counted = ValueType {
            type_strindex: strings.len() as i32,
            unit_strindex: strings.len() as i32 + 1,
        };
        strings.extend(["samples", "count"].map(String::from));
        let string = |index: i32| strings[index as usize].as_str();
        let mut samples = 0;
        for (number, resource) in data.resource_profiles.iter_mut().enumerate() {
            let service = format!("{name}-{number}");
            let attributes = &mut resource.resource.get_or_insert_default().attributes;
            attributes.retain(|attribute| {
                attribute.key != "service.name" && string(attribute.key_strindex) != "service.name"
            });
            attributes.push(KeyValue {
                key: "service.name".into(),
                value: Some(AnyValue { value: Some(Value::StringValue(service.clone())) }),
                ..KeyValue::default()
            });
            let sum = self.expected.entry(service).or_default();
            for scope in &mut resource.scope_profiles {
                scope.profiles.retain(|profile| {
                    string(profile.sample_type.unwrap_or_default().type_strindex) == "cpu"
                });
                for profile in &mut scope.profiles {
                    profile.sample_type = Some(counted);
                    *time += Duration::from_millis(20);
                    profile.time_unix_nano = time.as_nanos() as u64;
                    samples += profile.samples.len();
                    for sample in &mut profile.samples {
                        // Pyroscope takes one value a sample.
                        let count = sample.values.iter().sum::<i64>() / profile.period;
                        *sum += count * profile.period;
                        sample.values = vec![count];
                        sample.timestamps_unix_nano.clear();
                    }
                }
            }
        }
        assert!(samples > 0, "{name}: no CPU time");
        samples
    }

    pub(crate) fn title(&self, compression: &str) -> String {
        format!(
            "into Pyroscope, compression {compression}: {} requests ({:.0} MB, {} samples) with times of their own over {} \
             connections, success answered when Pyroscope has them; profpipe: resource (upsert), batch \
             (merge), pyroscope exporter; Collector: otlp_grpc exporter only, for it has neither \
             processor built in",
            self.order.len(),
            self.bytes as f64 / 1e6,
            self.samples,
            LOAD.connections,
        )
    }

    /// `None`, told, where Pyroscope is not there.
    pub(crate) fn run(
        &self,
        kind: Kind,
        other: Other<'_>,
        compression: &str,
    ) -> Option<(Figures, Stored)> {
        let pyroscope = Pyroscope::start()?;
        let as_kind = if matches!(other, Other::Build(_)) { Kind::Profpipe } else { kind };
        let work = Work::store(as_kind, compression, pyroscope.address);
        let server = Server::start(kind, other, &work);
        let rest = server.peak_mebibytes();
        let warmth: Vec<_> = (0..self.warmth).collect();
        LOAD.send(server.address, &self.payloads, &warmth);
        let (before, began) = (server.cpu_seconds(), Instant::now());
        let answers = LOAD.send(server.address, &self.payloads, &self.order);
        let (seconds, cpu) = (began.elapsed().as_secs_f64(), server.cpu_seconds() - before);
        let megabytes = self.bytes as f64 / 1e6;
        let figures = Figures {
            samples: self.samples as f64 / cpu,
            megabytes: megabytes / cpu,
            rest,
            memory: server.peak_mebibytes(),
            speed: megabytes / seconds,
            taken: megabytes / seconds,
            answer: median(answers.iter().copied()) * 1e3,
            late: percentile(answers.iter().copied(), 99) * 1e3,
        };
        let stored: Stored = self
            .expected
            .iter()
            .map(|(service, expected)| {
                let columns = pyroscope.totals(CPU, service).into_values();
                let column = columns.last().unwrap_or_default();
                assert_eq!(
                    column.total,
                    *expected,
                    "{service} by {kind:?}, at Pyroscope:\n{}",
                    server.said()
                );
                (service.clone(), column)
            })
            .collect();
        Some((figures, stored))
    }
}

/// Both ways the same totals, by function too. What has no name profpipe calls `module+0xoffset` and
/// Pyroscope leaves out of OTLP, so a function's own share is not comparable.
pub(crate) fn compare(ours: &Stored, theirs: &Stored) {
    let (mut functions, mut unnamed) = (0, 0);
    for (service, column) in ours {
        let other = &theirs[service];
        assert_eq!(column.total, other.total, "{service}");
        for (name, sums) in &column.functions {
            match other.functions.get(name) {
                None if name.contains("+0x") => unnamed += 1,
                found => {
                    let found = found.map(|sums| sums.total);
                    assert_eq!(found, Some(sums.total), "{name} of {service}");
                    functions += 1;
                }
            }
        }
    }
    println!(
        "  contents: the CPU time of each of {} services in both Pyroscopes is what was sent, and that of \
         {functions} functions is equal ({unnamed} addresses without a name have one only from profpipe)",
        ours.len()
    );
}
