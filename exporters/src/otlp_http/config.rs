//! What users type for the `otlp_http` exporter.

use std::time::Duration;

use http::Uri;
use profpipe_engine::DeliveryDefaults;
use profpipe_engine::component::{self, Error, Exporter, ExporterConfig, Setup};
use profpipe_engine::config::Problems;
use profpipe_engine::settings::ByteSize;
use profpipe_network::client::Endpoint;
use profpipe_network::settings::Compression;

use super::{Encoding, Http, PATH};

profpipe_network::http_client_config! {
    /// Sends profiles by OTLP over HTTP.
    pub struct Config {
        endpoint: "", compression: Compression::Gzip;
        /// The whole address to send profiles to, if it is not `/v1development/profiles` under the
        /// endpoint.
        pub profiles_endpoint: Option<String> = None,
        /// How requests are written: `proto` or `json`.
        pub encoding: Encoding = Encoding::Proto,
        /// The most bytes of a request, uncompressed; larger batches are cut. The Collector takes
        /// 20 MiB.
        pub max_request_size: ByteSize = ByteSize::mib(20),
    }
}

impl Config {
    /// Where requests go.
    pub(super) fn uri(&self) -> Result<Uri, Error> {
        let (text, path) = match &self.profiles_endpoint {
            Some(whole) => (whole, ""),
            None => (&self.endpoint, PATH),
        };
        let of = |problem| Error::new(format!("the endpoint {problem}"));
        let endpoint = Endpoint::http(text).map_err(of)?;
        endpoint.uri(path).map_err(|cause| Error::with_source("the endpoint is not one", cause))
    }
}

impl component::Config for Config {
    fn validate(&self, problems: &mut Problems) {
        let mut client = self.client();
        if let Some(whole) = &self.profiles_endpoint {
            match Endpoint::http(whole) {
                Ok(_) => client.endpoint.clone_from(whole),
                Err(problem) => problems.push("profiles_endpoint", problem),
            }
        }
        client.validate_http(problems);
        if self.max_request_size.0 < 64 << 10 {
            problems.push("max_request_size", "must be at least 64KiB");
        }
    }

    fn advise(&self, advice: &mut Problems) {
        self.client().advise(advice);
    }
}

impl ExporterConfig for Config {
    fn delivery() -> DeliveryDefaults {
        // As in the Collector, where HTTP has more time than gRPC.
        DeliveryDefaults { timeout: Duration::from_secs(30), ..DeliveryDefaults::default() }
    }

    fn build(self, setup: &Setup) -> Result<Box<dyn Exporter>, Error> {
        Ok(Box::new(Http::build(&self, setup)?))
    }
}
