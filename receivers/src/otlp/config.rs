//! What users type for the `otlp` receiver.

use profpipe_engine::component::{self, Error, Receiver, ReceiverConfig, Setup};
use profpipe_engine::config::Problems;
use profpipe_network::server::Server;
use profpipe_network::server_config;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Takes OTLP profiles by gRPC and HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The protocols to take; both, if this is not there.
    pub protocols: Protocols,
}

/// The protocols to take. One that is named is taken, even with nothing after the colon.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Protocols {
    /// gRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcConfig>,
    /// HTTP, in protobuf and JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpConfig>,
}

server_config! {
    /// How gRPC is taken.
    pub struct GrpcConfig: grpc("localhost:4317") {}
}

server_config! {
    /// How HTTP is taken.
    pub struct HttpConfig: http("localhost:4318") {
        /// The path that profiles are posted to.
        pub profiles_url_path: String = "/v1development/profiles".to_owned(),
    }
}

impl Default for Config {
    fn default() -> Self {
        let (grpc, http) = (Some(GrpcConfig::default()), Some(HttpConfig::default()));
        Self { protocols: Protocols { grpc, http } }
    }
}

impl component::Config for Config {
    fn validate(&self, problems: &mut Problems) {
        let Protocols { grpc, http } = &self.protocols;
        if grpc.is_none() && http.is_none() {
            problems.push("protocols", "is empty; name `grpc`, `http` or both");
        }
        if let Some(grpc) = grpc {
            grpc.server().validate("protocols::grpc::", problems);
        }
        if let Some(http) = http {
            http.server().validate("protocols::http::", problems);
            if !http.profiles_url_path.starts_with('/') {
                problems.push("protocols::http::profiles_url_path", "must begin with `/`");
            }
        }
    }

    fn advise(&self, advice: &mut Problems) {
        if let Some(grpc) = &self.protocols.grpc {
            grpc.server().advise("protocols::grpc::", advice);
        }
        if let Some(http) = &self.protocols.http {
            http.server().advise("protocols::http::", advice);
        }
    }

    fn listens(&self) -> Vec<(&'static str, String)> {
        let Protocols { grpc, http } = &self.protocols;
        let grpc = grpc.iter().map(|grpc| ("protocols::grpc::endpoint", grpc.endpoint.clone()));
        let http = http.iter().map(|http| ("protocols::http::endpoint", http.endpoint.clone()));
        grpc.chain(http).collect()
    }
}

impl ReceiverConfig for Config {
    fn build(self, setup: &Setup) -> Result<Box<dyn Receiver>, Error> {
        let Protocols { grpc, http } = self.protocols;
        let grpc = grpc.map(|grpc| Server::build(grpc.server(), setup)).transpose()?;
        let path = http.as_ref().map(|http| http.profiles_url_path.clone());
        let http = http.map(|http| Server::build(http.server(), setup)).transpose()?;
        Ok(Box::new(super::Otlp::new(grpc, http, path.unwrap_or_default(), setup)))
    }
}
