//! The server's handler: who may ask, what is asked, and where that is answered.

use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderValue, Method, StatusCode, header, request};
use profpipe_network::grpc::Code;
use profpipe_network::server::{Handler, Rejection, Reply, Request, Router};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;

use crate::answer::{Answer, guard};
use crate::options::Options;
use crate::{api, assets, pyroscope};

/// How many queries are computed at a time; others wait.
const CONCURRENT_QUERIES: usize = 4;

/// The page, and the query API below it.
#[derive(Debug)]
pub struct Page {
    options: Arc<Options>,
    queries: Arc<Semaphore>,
}

impl Page {
    /// Over a source.
    pub fn new(options: Options) -> Self {
        let queries = Arc::new(Semaphore::new(CONCURRENT_QUERIES));
        Self { options: Arc::new(options), queries }
    }

    /// The router of a server that has this page alone.
    pub fn router(self) -> Router {
        let token = self.options.token.clone();
        let handler: Arc<dyn Handler> = Arc::new(self);
        let methods = pyroscope::GRPC_METHODS.iter();
        let router = methods.fold(Router::new(), |router, method| {
            router
                .grpc(&format!("/{token}/querier.v1.QuerierService/{method}"), Arc::clone(&handler))
        });
        router.otherwise(handler)
    }

    /// What stands behind the token.
    fn below_token<'p>(&self, path: &'p str) -> Result<&'p str, Rejection> {
        let (token, below) = match path.strip_prefix('/').unwrap_or_default().split_once('/') {
            Some((token, below)) => (token, Some(below)),
            None => (path.strip_prefix('/').unwrap_or_default(), None),
        };
        let is_right: bool = token.as_bytes().ct_eq(self.options.token.as_bytes()).into();
        if !is_right {
            let message =
                "there is nothing here without the token; open the address that was printed";
            return Err(Rejection::new(StatusCode::NOT_FOUND, Code::NotFound, message));
        }
        // The page asks for what is beside it, so its own address ends with a slash.
        Ok(below.unwrap_or("/"))
    }
}

#[async_trait]
impl Handler for Page {
    fn admit(&self, head: &request::Parts) -> Result<(), Rejection> {
        if !self.options.hosts.allow(head) {
            let message =
                "the Host of this request is not this server's; open the address that was printed";
            return Err(Rejection::new(StatusCode::FORBIDDEN, Code::PermissionDenied, message));
        }
        self.below_token(head.uri.path()).map(|_| ())
    }

    async fn handle(&self, request: Request) -> Result<Reply, Rejection> {
        let path = self.below_token(request.head.uri.path())?.to_owned();
        if path == "/" {
            let mut reply = Answer::new("text/plain", "").into_reply(&request.head.headers);
            reply.status = StatusCode::PERMANENT_REDIRECT;
            // Relative, so that it holds behind a proxy, too.
            if let Ok(location) = HeaderValue::from_str(&format!("{}/", self.options.token)) {
                reply.headers.insert(header::LOCATION, location);
            }
            return Ok(reply);
        }
        let path = path.trim_start_matches('/').to_owned();
        if let Some(asset) = assets::find(&path).filter(|_| request.head.method == Method::GET) {
            return Ok(
                Answer::new(asset.content_type, asset.content).into_reply(&request.head.headers)
            );
        }
        let options = Arc::clone(&self.options);
        let Ok(permit) = Arc::clone(&self.queries).acquire_owned().await else {
            return Err(Rejection::unavailable("the server is stopping"));
        };
        let answered = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            answer(&options, &path, &request)
        });
        answered.await.unwrap_or_else(|_| {
            let message = "the query failed; this is a mistake in profpipe";
            Err(Rejection::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, message)
                .of_others())
        })
    }

    fn reject(&self, _head: &request::Parts, rejection: &Rejection) -> Reply {
        let code = match rejection.code {
            Code::PermissionDenied => "permission_denied",
            Code::NotFound => "not_found",
            Code::Unauthenticated => "unauthenticated",
            Code::ResourceExhausted => "resource_exhausted",
            Code::Unavailable => "unavailable",
            Code::InvalidArgument => "invalid_argument",
            Code::DeadlineExceeded => "deadline_exceeded",
            _ => "internal",
        };
        let body = serde_json::json!({ "code": code, "message": rejection.message }).to_string();
        let mut reply = Reply::rejection(rejection, "application/json", body);
        guard(&mut reply.headers);
        reply
    }
}

/// Answers what is asked by a path below the token.
fn answer(options: &Options, path: &str, request: &Request) -> Result<Reply, Rejection> {
    let headers = &request.head.headers;
    if let Some(reply) = pyroscope::answer(options, path, request) {
        return reply;
    }
    if !matches!(request.head.method, Method::GET | Method::HEAD) {
        let message = "this path takes GET only";
        let answer = Answer::error(StatusCode::METHOD_NOT_ALLOWED, "unimplemented", message);
        return Ok(answer.into_reply(headers));
    }
    let query = request.head.uri.query().unwrap_or_default();
    let answer = match path.strip_prefix("api/") {
        Some(name) => api::answer(options, name, query),
        None => None,
    };
    let nothing =
        || Answer::error(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path");
    let answer = match answer {
        Some(answer) => answer.unwrap_or_else(Answer::from),
        None => nothing(),
    };
    Ok(answer.into_reply(headers))
}
