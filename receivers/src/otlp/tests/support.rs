//! A receiver at work, and a client that speaks HTTP by hand.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use profpipe_engine::batch::{Batch, Outcome};
use profpipe_engine::component::{Lifecycle, ReceiverConfig, Setup, Stopper};
use profpipe_engine::config::Section;
use profpipe_engine::{Sender, Services};
use profpipe_formats::otlp;
use profpipe_network::grpc::Status;
use profpipe_profile::{
    KeyValue, Profile, Profiles, Resource, ResourceProfiles, SampleRef, Scope, ScopeProfiles,
    Value, ValueType,
};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::otlp::Config;

pub(super) const PATH: &str = "/v1development/profiles";

/// A receiver at work.
pub(super) struct Running {
    pub(super) grpc: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) services: Services,
    pub(super) stopper: Stopper,
    pub(super) task: tokio::task::JoinHandle<Result<(), profpipe_engine::component::Error>>,
    pub(super) batches: mpsc::Receiver<Batch>,
}

/// A port that was free a moment ago.
pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts a receiver with these keys below `grpc` and `http`.
pub(super) fn start(grpc: &str, http: &str) -> Running {
    let ports = [free_port(), free_port()];
    let yaml = format!(
        "protocols:\n  grpc: {{endpoint: '127.0.0.1:{}', {grpc}}}\n  http: {{endpoint: \
         '127.0.0.1:{}', {http}}}",
        ports[0], ports[1]
    );
    let config: Config = Section::from_yaml(&yaml).unwrap().read_valid().unwrap();
    let services = Services::default();
    let receiver = config.build(&Setup::new("otlp", services.clone())).unwrap();
    let (out, batches) = Sender::detached(64);
    let (stopper, life) = Lifecycle::new();
    let task = tokio::spawn(receiver.run(out, life));
    let [grpc, http] = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    Running { grpc, http, services, stopper, task, batches }
}

impl Running {
    /// Answers every batch with this outcome and keeps the batches.
    pub(super) fn settle(&mut self, outcome: Outcome) -> Arc<std::sync::Mutex<Vec<Batch>>> {
        let kept = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (_, none) = mpsc::channel(1);
        let mut batches = std::mem::replace(&mut self.batches, none);
        let into = Arc::clone(&kept);
        tokio::spawn(async move {
            while let Some(mut batch) = batches.recv().await {
                batch.receipt.settle(outcome.clone());
                batch.receipt = profpipe_engine::batch::Receipt::none();
                into.lock().unwrap().push(batch);
            }
        });
        kept
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) trailers: HeaderMap,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The text of a failed gRPC call.
    pub(super) fn grpc_message(&self) -> String {
        Status::from_header_map(&self.headers).unwrap().message().to_owned()
    }

    /// The status of a gRPC call.
    pub(super) fn code(&self) -> i32 {
        let status = self.trailers.get("grpc-status").or_else(|| self.headers.get("grpc-status"));
        status.unwrap().to_str().unwrap().parse().unwrap()
    }
}

async fn collect(response: http::Response<hyper::body::Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    Answer { status: head.status, headers: head.headers, body: body.to_bytes(), trailers }
}

/// Posts by HTTP/1.1.
pub(super) async fn post(
    to: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let stream = TcpStream::connect(to).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::post(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
    collect(sender.send_request(request).await.unwrap()).await
}

/// A message behind its five bytes.
pub(super) fn framed(compressed: bool, message: &[u8]) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(u8::from(compressed));
    framed.put_u32(message.len() as u32);
    framed.put_slice(message);
    framed.freeze()
}

/// Calls by gRPC.
pub(super) async fn call(to: SocketAddr, headers: &[(&str, &str)], body: Bytes) -> Answer {
    let stream = TcpStream::connect(to).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let mut request = Request::post(format!("http://{to}{}", crate::otlp::METHOD))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body)).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(20), sender.send_request(request)).await;
    collect(answer.unwrap().unwrap()).await
}

/// A request with one profile of each of these numbers of samples.
pub(super) fn request(samples: &[usize]) -> Vec<u8> {
    let mut profiles = Profiles::new();
    let strings = &mut profiles.dictionary.strings;
    let (cpu, nanoseconds) = (strings.intern("cpu"), strings.intern("nanoseconds"));
    let mut scope = ScopeProfiles { scope: Scope::default(), ..ScopeProfiles::default() };
    for count in samples {
        let mut profile = Profile {
            sample_type: ValueType { kind: cpu, unit: nanoseconds },
            ..Profile::default()
        };
        for sample in 0..*count {
            let values = [sample as i64 + 1];
            profile.samples.push(SampleRef { values: &values, ..SampleRef::default() });
        }
        scope.profiles.push(profile);
    }
    let name =
        KeyValue { key: "service.name".to_owned(), value: Value::String("checkout".to_owned()) };
    profiles.resources.push(ResourceProfiles {
        resource: Resource { attributes: vec![name], ..Resource::default() },
        scopes: vec![scope],
        ..ResourceProfiles::default()
    });
    otlp::encode(&profiles)
}
