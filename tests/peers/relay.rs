//! Between an SDK and profpipe: keeps each request as it came, hands it on, unchanged, to profpipe and to
//! Pyroscope, and answers what profpipe answers. So what the SDK means is known twice: by the sums of
//! what it sent, read with nothing of profpipe, and by what Pyroscope makes of the same bytes.

use std::net::SocketAddr;

use opentelemetry_proto::tonic::profiles::v1development::ProfilesData;
use prost::Message;

use crate::http;
use crate::pprof;
use crate::pyroscope::TENANT;
use crate::serve::{Request, Server};
use crate::totals::{self, Totals};

/// A relay for as long as the test runs.
#[derive(Debug)]
pub(crate) struct Relay {
    server: Server,
}

/// Whose profiles are those that went to Pyroscope directly.
pub(crate) const DIRECT: &str = "direct";

impl Relay {
    pub(crate) fn start(profpipe: SocketAddr, pyroscope: SocketAddr) -> Self {
        let server = Server::start(move |request, _| {
            let direct = hand_on(pyroscope, request, Some((TENANT, DIRECT)));
            if !(200..300).contains(&direct.status) {
                // The SDK logs it; the test sees that something is missing.
                return (500, [b"Pyroscope: ", &direct.body[..]].concat());
            }
            let answer = hand_on(profpipe, request, None);
            (answer.status, answer.body)
        });
        Self { server }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// How many requests there were.
    pub(crate) fn count(&self) -> usize {
        self.server.seen().len()
    }

    /// Whether all that came has been handed on.
    pub(crate) fn is_idle(&self) -> bool {
        self.server.is_idle()
    }

    /// What was sent so far, all services and windows together.
    #[track_caller]
    pub(crate) fn sent(&self) -> Totals {
        let mut all = Totals::new();
        for request in self.server.seen() {
            let path = request.path.split('?').next().unwrap_or_default();
            let sent = match path {
                "/ingest" => vec![totals::of_pprof(&pprof::Profile::read(&ingested(&request)))],
                "/push.v1.PusherService/Push" => {
                    let pushed = PushRequest::decode(request.body.as_slice()).unwrap();
                    let samples = pushed.series.iter().flat_map(|series| &series.samples);
                    let profile = |sample: &RawSample| pprof::Profile::read(&sample.raw_profile);
                    samples.map(|sample| totals::of_pprof(&profile(sample))).collect()
                }
                "/v1development/profiles" => {
                    let data = ProfilesData::decode(request.body.as_slice()).unwrap();
                    vec![totals::of_all_otlp(&[data])]
                }
                other => panic!("an SDK asks for {other}"),
            };
            sent.into_iter().for_each(|sent| totals::add(&mut all, sent));
        }
        all
    }
}

fn hand_on(server: SocketAddr, request: &Request, header: Option<(&str, &str)>) -> http::Answer {
    // What is about the connection, the client writes itself.
    let own = ["host", "connection", "content-length", "transfer-encoding", "expect"];
    let kept = request.headers.iter().filter(|(name, _)| !own.contains(&name.as_str()));
    let headers: Vec<(&str, &str)> =
        kept.map(|(name, value)| (name.as_str(), value.as_str())).chain(header).collect();
    http::request(server, "POST", &request.path, &headers, &request.raw)
        .unwrap_or(http::Answer { status: 502, body: b"no answer".to_vec() })
}

/// The pprof profile of a request to `/ingest`: its body, or the field `profile` of a form.
#[track_caller]
fn ingested(request: &Request) -> Vec<u8> {
    let content_type = request.header("content-type").unwrap_or_default();
    let Some((_, boundary)) = content_type.split_once("boundary=") else {
        return request.body.clone();
    };
    let delimiter = format!("\r\n--{}", boundary.trim_matches('"'));
    let body = [b"\r\n", &request.body[..]].concat();
    let mut rest = body.as_slice();
    while let Some(start) = find(rest, delimiter.as_bytes()) {
        rest = &rest[start + delimiter.len()..];
        let end = find(rest, delimiter.as_bytes()).unwrap_or(rest.len());
        let Some(head) = find(&rest[..end], b"\r\n\r\n") else { continue };
        if String::from_utf8_lossy(&rest[..head]).contains("name=\"profile\"") {
            return rest[head + 4..end].to_vec();
        }
    }
    panic!("a form without the field profile: {content_type}")
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// `push.v1.PushRequest`.
#[derive(Clone, PartialEq, Message)]
struct PushRequest {
    #[prost(message, repeated, tag = "1")]
    series: Vec<RawProfileSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct RawProfileSeries {
    #[prost(message, repeated, tag = "2")]
    samples: Vec<RawSample>,
}

#[derive(Clone, PartialEq, Message)]
struct RawSample {
    #[prost(bytes = "vec", tag = "1")]
    raw_profile: Vec<u8>,
}
