//! What users type for the `pyroscope` receiver.

use profpipe_engine::component::{self, Error, Receiver, ReceiverConfig, Setup};
use profpipe_engine::config::Problems;
use profpipe_engine::settings::ByteSize;
use profpipe_network::server::Server;
use profpipe_network::server_config;

server_config! {
    /// Takes profiles from Pyroscope's clients and agents.
    pub struct Config: http("127.0.0.1:4040") {
        /// The most bytes that the profiles of one request may take once they are decompressed.
        pub max_decompressed_size: ByteSize = ByteSize::mib(64),
        /// The extension that keeps binaries and debug files which clients upload
        /// (`debuginfo.v1alpha1`), such as `symbol_storage`; without it they are not taken.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub symbol_storage: Option<String> = None,
    }
}

impl component::Config for Config {
    fn validate(&self, problems: &mut Problems) {
        self.server().validate("", problems);
        if self.max_decompressed_size.0 == 0 {
            problems.push("max_decompressed_size", "must be more than 0");
        }
    }

    fn advise(&self, advice: &mut Problems) {
        self.server().advise("", advice);
    }

    fn listens(&self) -> Vec<(&'static str, String)> {
        vec![("endpoint", self.endpoint.clone())]
    }
}

impl ReceiverConfig for Config {
    fn build(self, setup: &Setup) -> Result<Box<dyn Receiver>, Error> {
        let server = Server::build(self.server(), setup)?;
        let symbols = self.symbol_storage.as_deref();
        let symbols = symbols.map(|id| setup.extensions.symbol_storage(id)).transpose()?;
        Ok(Box::new(super::Pyroscope::new(server, self.max_decompressed_size, symbols, setup)))
    }
}
