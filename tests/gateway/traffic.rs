//! What senders of every kind send: profiles of which each row says its number, in every protocol and
//! dialect that receivers take.

use std::net::SocketAddr;

use profpipe::profile::{
    Function, Line, LocationRef, Profile, Profiles, Resource, ResourceProfiles, SampleRef,
    ScopeProfiles, ValueType,
};
use profpipe::{otlp, pprof};
use profpipe_engine::component::Extensions;
use profpipe_network::client::Client;
use profpipe_network::settings::ClientSettings;
use prost::Message as _;

use crate::destination::METHOD;
use crate::http::{Connection, PATH};
use crate::process::PATIENCE;

/// How many rows the request of a number has.
pub(crate) fn row_count(id: u64) -> u64 {
    1 + id % 3
}

fn value(id: u64, row: u64) -> i64 {
    (id * 31 + row * 7) as i64 % 1000 + 1
}

/// The profile of a number.
pub(crate) fn profiles(id: u64) -> Profiles {
    let mut profiles = Profiles::new();
    let tables = &mut profiles.dictionary;
    let kind = tables.strings.intern("walk");
    let unit = tables.strings.intern("count");
    let mut profile = Profile {
        sample_type: ValueType { kind, unit },
        // Each at a time of its own, as Pyroscope tells profiles apart by it.
        time_unix_nano: 1_764_000_000_000_000_000 + id * 1_000_000_000,
        duration_nano: 1_000_000_000,
        ..Profile::default()
    };
    for row in 0..row_count(id) {
        let name = tables.strings.intern(&format!("walk_{id}_{row}"));
        let function = Function { name, ..Function::default() };
        let function = tables.functions.intern(function);
        let lines = [Line { function, line: 1, column: 0 }];
        let location = LocationRef { lines: &lines, ..LocationRef::default() };
        let location = tables.locations.intern(location);
        let stack = tables.stacks.intern(&[location]);
        let values = [value(id, row)];
        profile.samples.push(SampleRef { stack, values: &values, ..SampleRef::default() });
    }
    let mut resource = Resource::default();
    resource.set("service.name", "walk");
    let scopes = vec![ScopeProfiles { profiles: vec![profile], ..ScopeProfiles::default() }];
    profiles.resources.push(ResourceProfiles { resource, scopes, ..ResourceProfiles::default() });
    profiles
}

/// The rows of what arrived, by number and row. Fails if one is not as it was sent.
#[track_caller]
pub(crate) fn rows(profiles: &Profiles) -> Vec<(u64, u64)> {
    let mut rows = Vec::new();
    let tables = &profiles.dictionary;
    for (_, _, profile) in profiles.iter() {
        for sample in profile.samples.iter() {
            let location = tables.stacks.get(sample.stack)[0];
            let line = tables.locations.get(location).lines[0];
            let name = tables.strings.get(tables.functions.get(line.function).name);
            let (id, row) = name.strip_prefix("walk_").unwrap().split_once('_').unwrap();
            let (id, row) = (id.parse().unwrap(), row.parse().unwrap());
            assert_eq!(sample.weight(), value(id, row), "{name}");
            rows.push((id, row));
        }
    }
    rows
}

/// `push.v1.PushRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Push {
    #[prost(message, repeated, tag = "1")]
    pub(crate) series: Vec<Series>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Series {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) samples: Vec<Raw>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Raw {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) profile: Vec<u8>,
}

/// A way to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Protobuf,
    Json,
    Gzip,
    Grpc,
    Ingest,
    PushV1,
    /// JSON of OTLP 1.8, which is not to be taken.
    JsonOf18,
}

pub(crate) const DIALECTS: [Dialect; 7] = [
    Dialect::Protobuf,
    Dialect::Json,
    Dialect::Gzip,
    Dialect::Grpc,
    Dialect::Ingest,
    Dialect::PushV1,
    Dialect::JsonOf18,
];

/// Where the receivers are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inlets {
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    pub(crate) pyroscope: SocketAddr,
}

/// How a request was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answered {
    Success,
    Later,
    Rejected(String),
}

impl Inlets {
    /// Sends the profiles of a number.
    pub(crate) fn send(
        &self,
        runtime: &tokio::runtime::Runtime,
        id: u64,
        dialect: Dialect,
    ) -> Answered {
        let profiles = profiles(id);
        let (to, path, kind, body) = match dialect {
            Dialect::Grpc => return by_grpc(runtime, self.grpc, otlp::encode(&profiles)),
            Dialect::Protobuf => {
                (self.http, PATH.to_owned(), "application/x-protobuf", otlp::encode(&profiles))
            }
            Dialect::Gzip => {
                use std::io::Write as _;
                let mut packed =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                packed.write_all(&otlp::encode(&profiles)).unwrap();
                let kind = "application/x-protobuf\r\ncontent-encoding: gzip";
                (self.http, PATH.to_owned(), kind, packed.finish().unwrap())
            }
            Dialect::Json => {
                (self.http, PATH.to_owned(), "application/json", otlp::encode_json(&profiles))
            }
            Dialect::JsonOf18 => {
                let text = String::from_utf8(otlp::encode_json(&profiles)).unwrap();
                let text = text.replace("\"samples\"", "\"sample\"");
                (self.http, PATH.to_owned(), "application/json", text.into_bytes())
            }
            Dialect::Ingest => {
                let path = format!(
                    "/ingest?name=walk&format=pprof&from={}&until={}",
                    1_764_000_000 + id,
                    1_764_000_001 + id
                );
                let body = pprof::encode(&profiles).unwrap();
                (self.pyroscope, path, "application/octet-stream", body)
            }
            Dialect::PushV1 => {
                let label = |name: &str| Label { name: name.into(), value: "walk".into() };
                let labels = vec![label("__name__"), label("service_name")];
                let samples = vec![Raw { profile: pprof::encode(&profiles).unwrap() }];
                let push = Push { series: vec![Series { labels, samples }] };
                let path = "/push.v1.PusherService/Push".to_owned();
                (self.pyroscope, path, "application/proto", push.encode_to_vec())
            }
        };
        let mut connection = Connection::open(to, PATIENCE).unwrap();
        let answer = connection.post_to(&path, kind, &body).unwrap();
        match answer.status {
            200 => Answered::Success,
            429 | 503 => Answered::Later,
            status => {
                Answered::Rejected(format!("{status} {}", String::from_utf8_lossy(&answer.body)))
            }
        }
    }
}

fn by_grpc(runtime: &tokio::runtime::Runtime, to: SocketAddr, message: Vec<u8>) -> Answered {
    runtime.block_on(async move {
        let mut settings = ClientSettings::default();
        settings.endpoint = format!("http://{to}");
        let client = Client::builder(&settings).grpc().build(&Extensions::default()).unwrap();
        let uri = format!("http://{to}{METHOD}").parse().unwrap();
        let headers = http::HeaderMap::new();
        match client.call(uri, message.into(), headers, Some(PATIENCE)).await {
            Ok(_) => Answered::Success,
            Err(error) => {
                let text = error.to_string();
                match profpipe::Failure::from(error) {
                    profpipe::Failure::Retry { .. } => Answered::Later,
                    _ => Answered::Rejected(text),
                }
            }
        }
    })
}
