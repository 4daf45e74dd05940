//! Pyroscope's query API, so that what asks Pyroscope can ask us: Grafana's data source, `profilecli`,
//! Pyroscope's own page.
//!
//! `querier.v1.QuerierService` by Connect (protobuf and JSON, unary), by gRPC and by gRPC-Web; and the older
//! paths `/pyroscope/…`. Profile ids are not known here, so what selects or shows them is not implemented;
//! neither are formats that clients fall back from.

mod dot;
mod flamegraph;
mod json;
mod messages;
mod pprof;
mod queries;
mod render;
mod time;
mod wire;

#[cfg(test)]
mod tests;

use http::{Method, StatusCode};
use profpipe_network::server::{Rejection, Reply, Request};
use profpipe_store::QueryError;
use serde_json::json;

use crate::answer::Answer;
use crate::options::Options;
use crate::parameters::Parameters;

pub(crate) use queries::METHODS as GRPC_METHODS;
pub(crate) use render::selection as render_query;

/// The service whose methods are [`GRPC_METHODS`].
const SERVICE: &str = "querier.v1.QuerierService/";

/// Why a request of this API has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    Query(QueryError),
    /// It is not implemented, on which clients fall back.
    Unimplemented(String),
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Query(error) => error.into(),
            Failure::Unimplemented(message) => {
                Self::error(StatusCode::NOT_IMPLEMENTED, "unimplemented", &message)
            }
        }
    }
}

/// Answers a request; nothing if it is not for this API.
pub(crate) fn answer(
    options: &Options,
    path: &str,
    request: &Request,
) -> Option<Result<Reply, Rejection>> {
    if let Some(method) = path.strip_prefix(SERVICE) {
        return Some(wire::call(options, method, request));
    }
    let answer = match path {
        "ready" => Answer::new("text/plain; charset=utf-8", "ready"),
        "api/v1/status/buildinfo" => build(options),
        "pyroscope/render" => get(options, request, render::render),
        "pyroscope/render-diff" => get(options, request, render::render_diff),
        "pyroscope/label-values" => get(options, request, render::label_values),
        _ => stub(path, request)?,
    };
    Some(Ok(answer.into_reply(&request.head.headers)))
}

fn build(options: &Options) -> Answer {
    Answer::json(&json!({
        "status": "success",
        "data": {
            "application": "profpipe",
            "version": options.version,
            "revision": "", "branch": "", "buildUser": "", "buildDate": "", "goVersion": "",
        },
    }))
}

fn get(
    options: &Options,
    request: &Request,
    respond: fn(&Options, &Parameters) -> Result<Answer, Failure>,
) -> Answer {
    if !matches!(request.head.method, Method::GET | Method::HEAD) {
        let message = "this path takes GET only";
        return Answer::error(StatusCode::METHOD_NOT_ALLOWED, "unimplemented", message);
    }
    let parameters = Parameters::parse(request.head.uri.query().unwrap_or_default());
    let answer = parameters.map_err(Failure::from).and_then(|it| respond(options, &it));
    answer.unwrap_or_else(Answer::from)
}

/// Services around the queries, which pages ask for and can do without.
fn stub(path: &str, request: &Request) -> Option<Answer> {
    let (service, method) = path.split_once('/')?;
    let is_protobuf = wire::is_protobuf(request);
    let empty = || match is_protobuf {
        true => Answer::new("application/proto", ""),
        false => Answer::json(&json!({})),
    };
    Some(match (service, method) {
        ("settings.v1.SettingsService", "Get") => empty(),
        // Without any flag: no second storage layer, and names of labels of letters, digits and `_`.
        ("capabilities.v1.FeatureFlagsService", "GetFeatureFlags") => empty(),
        (
            "settings.v1.SettingsService"
            | "settings.v1.RecordingRulesService"
            | "capabilities.v1.FeatureFlagsService"
            | "vcs.v1.VCSService"
            | "adhocprofiles.v1.AdHocProfileService",
            _,
        ) => Failure::Unimplemented("profpipe does not have this service".to_owned()).into(),
        _ => return None,
    })
}
