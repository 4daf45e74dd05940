//! Getting an answer over HTTP, from addresses that may be asked only.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use profpipe_engine::component::{Error, Setup};
use profpipe_network::client::{AddressPolicy, Client, Request, Resolver, Response, decompress};
use profpipe_network::settings::Compression;

use super::config::Config;
use super::target::{Source, escaped, may_connect};

/// Gets answers; clones share connections.
#[derive(Clone)]
pub(super) struct Fetcher {
    /// For what is written here.
    local: Client,
    /// For what was told over the network.
    network: Client,
}

/// An answer that said it is one.
pub(super) struct HttpResponse {
    /// The header `content-type`, in lower case; empty if there is none.
    pub(super) content_type: String,
    /// The whole body.
    pub(super) body: Bytes,
}

/// The body without what a proxy has packed it in, asked or not: at most `max` bytes. A profile that
/// is packed itself stays so.
fn plain(response: &Response, max: usize) -> Result<Bytes, Error> {
    let mut body = response.body.clone();
    let codings = response.headers.get_all(CONTENT_ENCODING).iter();
    let codings: Vec<&str> =
        codings.flat_map(|list| list.to_str().unwrap_or("?").split(',')).collect();
    // What was done last is undone first; more than a few is not honest.
    for coding in codings.iter().rev().map(|coding| coding.trim().to_ascii_lowercase()).take(4) {
        let how = match coding.as_str() {
            "" | "identity" => continue,
            "gzip" | "x-gzip" => Compression::Gzip,
            "zstd" => Compression::Zstd,
            other => {
                let other = escaped(other);
                return Err(Error::new(format!("the response has the content coding `{other}`")));
            }
        };
        body = decompress(&body, how, max).map_err(|cause| {
            Error::with_source(format!("the response cannot be unpacked as {coding}"), cause)
        })?;
    }
    Ok(body)
}

impl Fetcher {
    pub(super) fn new(config: &Config, setup: &Setup) -> Result<Self, Error> {
        Self::with_resolver(config, setup, None)
    }

    /// As [`Fetcher::new`], with names found in another way: for tests.
    pub(super) fn with_resolver(
        config: &Config,
        setup: &Setup,
        resolver: Option<Arc<dyn Resolver>>,
    ) -> Result<Self, Error> {
        let settings = config.client();
        let client = |source: Source| {
            let policy = move |host: &str, address: IpAddr| {
                may_connect(source, address)
                    .map_err(|problem| format!("{host} is {address}, which {problem}"))
            };
            let mut builder = Client::builder(&settings);
            // A proxy finds addresses itself, and is the one to have a policy.
            if settings.proxy_url.is_empty() {
                builder = builder.policy(Arc::new(policy) as Arc<dyn AddressPolicy>);
            }
            if let Some(resolver) = &resolver {
                builder = builder.resolver(Arc::clone(resolver));
            }
            builder.build(&setup.extensions)
        };
        Ok(Self { local: client(Source::Local)?, network: client(Source::Network)? })
    }

    /// Gets `url` within `limit`, up to `max` bytes.
    ///
    /// # Errors
    /// If there is no answer in time, it is not a success, or it is too large.
    pub(super) async fn get(
        &self,
        url: &str,
        source: Source,
        limit: Duration,
        max: usize,
    ) -> Result<HttpResponse, Error> {
        let uri: Uri = url.parse().map_err(|cause| Error::with_source("no address", cause))?;
        let mut request = Request::get(uri);
        request.timeout = Some(limit);
        request.max_response = max;
        let client = match source {
            Source::Local => &self.local,
            Source::Network => &self.network,
        };
        let response = client.send(request).await.map_err(|error| error.into_cause())?;
        if !response.is_success() {
            let text = response.error_text();
            let text = text.trim();
            let says = if text.is_empty() { String::new() } else { format!(": {}", escaped(text)) };
            return Err(Error::new(format!("it answered {}{says}", response.status)));
        }
        if response.truncated {
            return Err(Error::new(format!("the answer is larger than {max} bytes")));
        }
        let content_type = response.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_ascii_lowercase();
        let body = plain(&response, max)?;
        Ok(HttpResponse { content_type, body })
    }
}
