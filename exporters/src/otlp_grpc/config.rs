//! What users type for the `otlp_grpc` exporter.

use profpipe_engine::component::{self, Error, Exporter, ExporterConfig, Setup};
use profpipe_engine::config::Problems;
use profpipe_engine::settings::ByteSize;
use profpipe_network::settings::Compression;

use super::Grpc;

profpipe_network::grpc_client_config! {
    /// Sends profiles by OTLP over gRPC.
    pub struct Config {
        endpoint: "", compression: Compression::Gzip;
        /// The most bytes of a request, uncompressed; larger batches are cut. Most servers take
        /// 4 MiB unless they are configured to take more (`max_recv_msg_size_mib` of the Collector).
        pub max_request_size: ByteSize = ByteSize::mib(4),
    }
}

impl component::Config for Config {
    fn validate(&self, problems: &mut Problems) {
        self.client().validate_grpc(problems);
        if self.max_request_size.0 < 64 << 10 {
            problems.push("max_request_size", "must be at least 64KiB");
        }
    }

    fn advise(&self, advice: &mut Problems) {
        self.client().advise(advice);
    }
}

impl ExporterConfig for Config {
    fn build(self, setup: &Setup) -> Result<Box<dyn Exporter>, Error> {
        Ok(Box::new(Grpc::build(&self, setup)?))
    }
}
