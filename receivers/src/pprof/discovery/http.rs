//! Targets that an HTTP service tells, as Prometheus' `http_sd`.

use std::time::Duration;

use profpipe_engine::component::Error;
use profpipe_engine::settings::ShownAddress;

use super::{MAX_LIST, parse};
use crate::pprof::config::HttpConfig;
use crate::pprof::fetch::Fetcher;
use crate::pprof::relabel::Labels;
use crate::pprof::target::Source;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn list(config: &HttpConfig, fetcher: &Fetcher) -> Result<Vec<Labels>, Error> {
    // The service itself is written in the configuration.
    let answer = fetcher.get(&config.url, Source::Local, TIMEOUT, MAX_LIST).await?;
    if !answer.content_type.starts_with("application/json") {
        return Err(Error::new(format!(
            "the response is `{}`, not application/json",
            crate::pprof::target::escaped(&answer.content_type)
        )));
    }
    let text = std::str::from_utf8(&answer.body)
        .map_err(|_| Error::new("the response is not UTF-8 text"))?;
    let mut targets = parse(text)?;
    for labels in &mut targets {
        labels.insert("__meta_url".into(), ShownAddress::of(&config.url).to_string());
    }
    Ok(targets)
}
