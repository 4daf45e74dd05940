//! What users type for files that are not on this host.

use std::path::PathBuf;

use profpipe_engine::component::{Error, Setup};
use profpipe_engine::config::Problems;
use profpipe_engine::settings::{ByteSize, Duration, Secret};
use profpipe_network::client::{Client, Endpoint};
use profpipe_network::settings::{Authentication, ClientSettings, ClientTls, Headers};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::{Allowance, DiskSettings, ServerSettings, Settings};

/// Servers that have files of modules by their build id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DebuginfodConfig {
    /// The servers, asked in this order: `https://host`. A list, or a text with spaces between
    /// them, so that `${env:DEBUGINFOD_URLS}` can stand here. Nothing is fetched without.
    pub urls: Urls,
    /// How long one file may take.
    pub timeout: Duration,
    /// How long a batch waits for files that are fetched for it, if that is longer than the `timeout` of
    /// the processor. A sender that gives up sooner sends its batch again: lower it to what senders allow,
    /// or raise their timeouts. With 0s what comes late is for later batches only.
    pub max_wait: Duration,
    /// How large one file may be. `worker_address_space` must hold an executable and its debug
    /// file.
    pub max_file_size: ByteSize,
    /// How many files are fetched at a time, those of the tenant with the fewest under way first.
    pub max_concurrent: u32,
    /// How many files each tenant may have asked of the servers in a minute, found or not.
    pub files_per_minute: u32,
    /// How many bytes each tenant may have fetched in a minute. A file is never given up halfway: a
    /// tenant that is over waits.
    pub bytes_per_minute: ByteSize,
    /// TLS.
    pub tls: ClientTls,
    /// Headers of every request: a map of names and values. All servers get them.
    pub headers: Headers,
    /// The extension that adds credentials. All servers get them.
    pub auth: Option<Authentication>,
    /// An HTTP proxy to go through: `http://host:port`. TLS goes through it unread.
    pub proxy_url: Secret,
}

impl Default for DebuginfodConfig {
    fn default() -> Self {
        Self {
            urls: Urls::default(),
            timeout: Duration::from_secs(60),
            max_wait: Duration::from_secs(4),
            max_file_size: ByteSize::mib(1024),
            max_concurrent: 4,
            files_per_minute: 600,
            bytes_per_minute: ByteSize::mib(2048),
            tls: ClientTls::default(),
            headers: Headers::default(),
            auth: None,
            proxy_url: Secret::default(),
        }
    }
}

/// Where files that were fetched are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// A directory for this alone, which only our user may write. Several processes may share it.
    pub directory: Option<PathBuf>,
    /// How many bytes of files are kept; those unused for longest make room.
    pub max_bytes: ByteSize,
    /// How long an unused file is kept.
    pub max_age: Duration,
    /// How long what no server had is not asked for again.
    pub negative_ttl: Duration,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            directory: None,
            max_bytes: ByteSize::mib(4096),
            max_age: Duration::from_secs(30 * 24 * 3600),
            negative_ttl: Duration::from_secs(3600),
        }
    }
}

/// Addresses of servers: a list, or a text with spaces between them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Urls(pub Vec<String>);

impl Urls {
    /// Each of them. Words such as `ima:permissive`, which elfutils reads in the same variable, are
    /// not addresses.
    fn iter(&self) -> impl Iterator<Item = (usize, &str)> {
        let entries = self.0.iter().enumerate();
        let words = entries.flat_map(|(at, text)| text.split_whitespace().map(move |it| (at, it)));
        words.filter(|(_, word)| !word.starts_with("ima:"))
    }
}

impl<'de> Deserialize<'de> for Urls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Urls;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of addresses")
            }
            fn visit_str<E>(self, text: &str) -> Result<Urls, E> {
                Ok(Urls(text.split_whitespace().map(str::to_owned).collect()))
            }
            fn visit_unit<E>(self) -> Result<Urls, E> {
                Ok(Urls::default())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Urls, A::Error> {
                let mut urls = Urls::default();
                while let Some(url) = list.next_element()? {
                    urls.0.push(url);
                }
                Ok(urls)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for Urls {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Urls".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "oneOf": [
                { "type": "array", "items": { "type": "string" } },
                { "type": "string" },
            ],
        })
    }
}

impl DebuginfodConfig {
    /// True if there is somebody to ask.
    pub(in super::super) fn is_on(&self) -> bool {
        self.urls.iter().next().is_some()
    }

    /// How to reach a server.
    fn client(&self, url: &str) -> ClientSettings {
        let mut settings = ClientSettings::new(url);
        settings.tls = self.tls.clone();
        settings.headers = self.headers.clone();
        settings.auth = self.auth.clone();
        settings.proxy_url = self.proxy_url.clone();
        settings
    }

    /// Reports what makes no sense, at `debuginfod` and `cache`.
    pub(in super::super) fn validate(&self, cache: &CacheConfig, problems: &mut Problems) {
        let at = |key: &str| format!("debuginfod::{key}");
        for (number, url) in self.urls.iter() {
            let place = at(&format!("urls::{number}"));
            match Endpoint::http(url) {
                Err(problem) => {
                    problems.push(&place, problem.replace("backend:4318", "debuginfod.debian.net"))
                }
                Ok(server) if !server.is_tls() && !server.is_loopback() && !self.tls.insecure => {
                    problems.push(
                        &place,
                        "whoever is on the way could send other files; use `https://`, or say \
                         `tls: {insecure: true}` in `debuginfod`",
                    );
                }
                Ok(_) => {}
            }
        }
        // The rest is the same for all; a place that is not there would be reported at its section.
        let mut of_client = Problems::default();
        self.client("https://localhost").validate_http(&mut of_client);
        problems.append("debuginfod", of_client);
        if self.timeout.0.is_zero() {
            problems.push(&at("timeout"), "must be longer than 0s");
        }
        let positive = [
            ("max_file_size", self.max_file_size.0),
            ("max_concurrent", self.max_concurrent.into()),
            ("files_per_minute", self.files_per_minute.into()),
            ("bytes_per_minute", self.bytes_per_minute.0),
        ];
        for (key, value) in positive {
            if value == 0 {
                problems.push(&at(key), "must be more than 0");
            }
        }
        match &cache.directory {
            None if self.is_on() => problems.push(
                "cache::directory",
                "is missing; name a directory for files from `debuginfod`, such as \
                 /var/cache/profpipe",
            ),
            Some(directory) if !directory.is_absolute() => problems.push(
                "cache::directory",
                format!("`{}` is not an absolute path", directory.display()),
            ),
            _ => {}
        }
        if cache.max_bytes.0 == 0 {
            problems.push("cache::max_bytes", "must be more than 0");
        }
    }

    /// What the running thing needs; none if no server is to be asked.
    ///
    /// # Errors
    /// If certificates cannot be read or the extension for credentials is not there.
    pub(in super::super) fn settings(
        &self,
        cache: &CacheConfig,
        setup: &Setup,
    ) -> Result<Option<Settings>, Error> {
        let endpoints: Vec<_> =
            self.urls.iter().filter_map(|(_, url)| Endpoint::http(url).ok()).collect();
        let (Some(directory), false) = (cache.directory.clone(), endpoints.is_empty()) else {
            return Ok(None);
        };
        let client = Client::builder(&self.client("https://localhost")).build(&setup.extensions)?;
        Ok(Some(Settings {
            servers: ServerSettings {
                endpoints,
                timeout: self.timeout.0,
                max_file_size: self.max_file_size.0,
                concurrency: self.max_concurrent as usize,
            },
            client,
            disk: DiskSettings {
                directory,
                max_bytes: cache.max_bytes.0,
                max_age: cache.max_age.0,
                negative_ttl: cache.negative_ttl.0,
            },
            allowance: Allowance { files: self.files_per_minute, bytes: self.bytes_per_minute.0 },
        }))
    }
}
