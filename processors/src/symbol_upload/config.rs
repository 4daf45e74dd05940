//! What users type for `symbol_upload`.

use std::path::PathBuf;

use profpipe_engine::component::{self, Error, Processor, ProcessorConfig, Setup};
use profpipe_engine::config::Problems;
use profpipe_engine::settings::{ByteSize, Duration};
use profpipe_network::settings::Compression;

use super::SymbolUpload;

profpipe_network::http_client_config! {
    /// Offers the binaries of this host's profiles to a gateway, by build id. A binary may hold what is not
    /// meant for others: whoever runs the gateway can read what is sent.
    pub struct Config {
        endpoint: "", compression: Compression::None;
        /// How long a request may take, beside what the size of a file allows (64 KiB a second).
        pub timeout: Duration = Duration::from_secs(30),
        /// Larger files are not offered.
        pub max_file_size: ByteSize = ByteSize::mib(512),
        /// How many bytes are sent in a minute, the smallest files first. A file is never cut: after a large one
        /// there is a pause.
        pub bytes_per_minute: ByteSize = ByteSize::mib(256),
        /// Whether the functions of the running kernel are offered, too, where it shows them to this process
        /// (`kptr_restrict`, `CAP_SYSLOG`). Frames of the kernel then say of which kernel they are.
        pub kernel: bool = true,
        /// Only modules in these directories are offered; those of all programs unless set.
        pub paths: Vec<PathBuf> = Vec::new(),
        /// Where the debug files of stripped programs are looked for; they are offered, too.
        pub debug_directories: Vec<PathBuf> = vec!["/usr/lib/debug".into()],
    }
}

impl component::Config for Config {
    fn validate(&self, problems: &mut Problems) {
        self.client().validate_http(problems);
        if self.compression != Compression::None {
            let problem = "must be `none`: files are sent as they are";
            problems.push("compression", problem);
        }
        let positive = [
            ("timeout", self.timeout.0.as_millis() > 0),
            ("max_file_size", self.max_file_size.0 > 0),
            ("bytes_per_minute", self.bytes_per_minute.0 > 0),
        ];
        for (key, _) in positive.iter().filter(|(_, is_positive)| !is_positive) {
            problems.push(key, "must be more than 0");
        }
        for (key, paths) in [("paths", &self.paths), ("debug_directories", &self.debug_directories)]
        {
            for (at, path) in paths.iter().enumerate().filter(|(_, path)| !path.is_absolute()) {
                let problem = format!("`{}` is not an absolute path", path.display());
                problems.push(&format!("{key}::{at}"), problem);
            }
        }
    }

    fn advise(&self, advice: &mut Problems) {
        self.client().advise(advice);
    }
}

impl ProcessorConfig for Config {
    fn build(self, setup: &Setup) -> Result<Box<dyn Processor>, Error> {
        Ok(Box::new(SymbolUpload::new(self, setup)?))
    }
}
