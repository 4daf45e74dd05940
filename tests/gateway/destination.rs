//! A backend of every protocol that exporters speak, which remembers the rows it has taken, by their
//! number, and misbehaves on demand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Method, StatusCode};
use profpipe::pipeline::budget::Budget;
use profpipe::{Lifecycle, Profiles, Services, Setup, otlp, pprof};
use profpipe_network::grpc::Code;
use profpipe_network::server::{Handler, Rejection, Reply, Request, Router, Server};
use profpipe_network::server_config;
use prost::Message as _;
use tokio::task::JoinHandle;

use crate::traffic;

/// Where OTLP goes by gRPC.
pub(crate) const METHOD: &str =
    "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";

server_config! {
    /// A server with the settings that all have.
    struct Listening: http("127.0.0.1:0") {}
}

/// What a backend does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behavior {
    Take,
    /// Answers that it will take it later.
    Later,
    /// Rejects it for good.
    Reject,
    /// Takes the request and none of its profiles.
    Partial,
    /// Never answers.
    Hang,
}

/// What a backend has, and does; it outlives the place where it listens.
#[derive(Debug)]
pub(crate) struct Records {
    behavior: Mutex<Behavior>,
    /// How often each row arrived, by number and row.
    rows: Mutex<BTreeMap<(u64, u64), u64>>,
    /// Rows that were rejected by an answer that is success, by number and row.
    rejected: Mutex<BTreeMap<(u64, u64), u64>>,
    trouble: Mutex<Vec<String>>,
    /// Counts the programs that were killed, and the rows that arrived from one after its end.
    lives: Mutex<(u64, u64)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Records {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            behavior: Mutex::new(Behavior::Take),
            rows: Mutex::default(),
            rejected: Mutex::default(),
            trouble: Mutex::default(),
            lives: Mutex::default(),
        })
    }

    pub(crate) fn be(&self, behavior: Behavior) {
        *lock(&self.behavior) = behavior;
    }

    /// How often each row arrived.
    #[track_caller]
    pub(crate) fn rows(&self) -> BTreeMap<(u64, u64), u64> {
        let trouble = lock(&self.trouble);
        assert!(trouble.is_empty(), "{}", trouble.join("\n"));
        lock(&self.rows).clone()
    }

    /// Rows that the backend said it did not take, in an answer that is success.
    pub(crate) fn rejected(&self) -> BTreeMap<(u64, u64), u64> {
        lock(&self.rejected).clone()
    }

    /// How many profiles that were: each has one first row.
    pub(crate) fn rejected_profiles(&self) -> u64 {
        let rejected = self.rejected();
        rejected.iter().filter(|((_, row), _)| *row == 0).map(|(_, count)| count).sum()
    }

    /// The sender was killed: what places still take that were open before is not of the next one.
    pub(crate) fn outlive(&self) {
        lock(&self.lives).0 += 1;
    }

    /// How many rows arrived after the end of the one that sent them.
    pub(crate) fn late(&self) -> u64 {
        lock(&self.lives).1
    }

    fn note(&self, life: u64, rows: Vec<(u64, u64)>, is_taken: bool) {
        // Held until the rows are noted: they are of one life or late, and not in between.
        let mut lives = lock(&self.lives);
        if lives.0 != life {
            lives.1 += rows.len() as u64;
        }
        let mut known = lock(if is_taken { &self.rows } else { &self.rejected });
        for row in rows {
            *known.entry(row).or_default() += 1;
        }
    }
}

/// The rows of a directory of OTLP files.
pub(crate) fn rows_of_files(directory: &Path) -> BTreeMap<(u64, u64), u64> {
    let mut rows = BTreeMap::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "otlp") {
            let profiles = otlp::decode(&std::fs::read(path).unwrap()).unwrap();
            for row in traffic::rows(&profiles) {
                *rows.entry(row).or_default() += 1;
            }
        }
    }
    rows
}

/// A place where a backend listens, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Place {
    pub(crate) fn open(runtime: &tokio::runtime::Runtime, records: &Arc<Records>) -> Self {
        let handler: Arc<dyn Handler> =
            Arc::new(Backend(Arc::clone(records), lock(&records.lives).0));
        let router = Router::new()
            .http(Method::POST, crate::http::PATH, Arc::clone(&handler))
            .http(Method::POST, "/push.v1.PusherService/Push", Arc::clone(&handler))
            .grpc(METHOD, handler);
        Self::serve(runtime, router)
    }

    pub(crate) fn serve(runtime: &tokio::runtime::Runtime, router: Router) -> Self {
        let _inside = runtime.enter();
        let setup = Setup::new("backend", Services::default());
        let server = Server::build(Listening::default().server(), &setup).unwrap();
        let address = server.address();
        let task = runtime.spawn(async move {
            let (_stopper, life) = Lifecycle::new();
            server.run(router, Budget::new(1 << 30), life).await.unwrap();
        });
        Self { address, task }
    }
}

/// One of a place, with the life of the sender that began before it.
struct Backend(Arc<Records>, u64);

#[profpipe::async_trait]
impl Handler for Backend {
    async fn handle(&self, request: Request) -> Result<Reply, Rejection> {
        let is_push = request.head.uri.path().contains("/push.v1.");
        let read = match is_push {
            true => pushed(&request.body),
            false => otlp::decode(&request.body).map(|one| vec![one]).map_err(|e| e.to_string()),
        };
        let profiles = match read {
            Ok(profiles) => profiles,
            Err(error) => {
                lock(&self.0.trouble).push(error.clone());
                return Err(Rejection::invalid(error));
            }
        };
        let rows = profiles.iter().flat_map(traffic::rows).collect();
        let kind = if is_push { "application/proto" } else { "application/x-protobuf" };
        let behavior = *lock(&self.0.behavior);
        let reject = |status, code| Rejection::new(status, code, "as told").of_others();
        match behavior {
            // Pyroscope has no partial success.
            Behavior::Partial if !is_push => {
                self.0.note(self.1, rows, false);
                let count = profiles.iter().flat_map(Profiles::iter).count() as i64;
                let answer = Answer { partial: Some(Partial { rejected: count }) };
                Ok(Reply::new(kind, answer.encode_to_vec()))
            }
            Behavior::Take | Behavior::Partial => {
                self.0.note(self.1, rows, true);
                Ok(Reply::new(kind, Vec::new()))
            }
            Behavior::Later => Err(reject(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable)),
            Behavior::Reject => Err(reject(StatusCode::BAD_REQUEST, Code::InvalidArgument)),
            Behavior::Hang => std::future::pending().await,
        }
    }

    fn reject(&self, head: &http::request::Parts, rejection: &Rejection) -> Reply {
        // Connect says by a code what is wrong.
        if head.uri.path().contains("/push.v1.") {
            let code = if rejection.code == Code::Unavailable {
                "unavailable"
            } else {
                "invalid_argument"
            };
            let body = format!("{{\"code\":\"{code}\",\"message\":\"as told\"}}");
            let mut reply = Reply::new("application/json", body);
            reply.status = rejection.status;
            return reply;
        }
        Reply::text(rejection)
    }
}

/// `ExportProfilesServiceResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct Answer {
    #[prost(message, optional, tag = "1")]
    partial: Option<Partial>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Partial {
    #[prost(int64, tag = "1")]
    rejected: i64,
}

/// The profiles of a push of Pyroscope's.
fn pushed(body: &[u8]) -> Result<Vec<Profiles>, String> {
    let push = traffic::Push::decode(body).map_err(|error| error.to_string())?;
    let samples = push.series.iter().flat_map(|series| &series.samples);
    samples
        .map(|sample| pprof::decode(&sample.profile).map_err(|error| error.to_string()))
        .collect()
}

/// Answers scrapes with a profile of a new number each time.
pub(crate) struct Target {
    pub(crate) next: Box<dyn Fn() -> Vec<u8> + Send + Sync>,
}

#[profpipe::async_trait]
impl Handler for Target {
    async fn handle(&self, _request: Request) -> Result<Reply, Rejection> {
        Ok(Reply::new("application/octet-stream", (self.next)()))
    }
}
