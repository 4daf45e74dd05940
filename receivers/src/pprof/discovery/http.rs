//! Targets that an HTTP service tells, as Prometheus' `http_sd`.

use std::time::{Duration, Instant};

use profpipe_pipeline::component::Error;
use tokio::sync::mpsc;

use super::{MAX_LIST, Update, parse};
use crate::pprof::config::HttpConfig;
use crate::pprof::fetch::Fetcher;
use crate::pprof::relabel::Labels;
use crate::pprof::target::Source;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks a service for targets at regular times, and tells them when they have changed. While the
/// service does not answer, the targets from before stay.
pub(super) async fn ask(
    config: HttpConfig,
    source: usize,
    updates: mpsc::Sender<Update>,
    fetcher: Fetcher,
    id: String,
) {
    let mut told: Option<Vec<Labels>> = None;
    loop {
        let next = Instant::now() + config.refresh_interval.0.max(Duration::from_secs(1));
        match list(&config, &fetcher).await {
            Ok(targets) if told.as_ref() == Some(&targets) => {}
            Ok(targets) => {
                told = Some(targets.clone());
                if updates.send(Update { source, kind: Source::Network, targets }).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::warn!(
                "receivers::{id}: http_sd {}: {}; going on with the targets from before",
                config.url,
                error.chain()
            ),
        }
        tokio::select! {
            () = tokio::time::sleep_until(next.into()) => {}
            () = updates.closed() => return,
        }
    }
}

async fn list(config: &HttpConfig, fetcher: &Fetcher) -> Result<Vec<Labels>, Error> {
    // The service itself is written in the configuration.
    let answer = fetcher.get(&config.url, Source::Local, TIMEOUT, MAX_LIST).await?;
    if !answer.content_type.starts_with("application/json") {
        return Err(Error::new(format!(
            "the answer is `{}`, not application/json",
            crate::pprof::target::escaped(&answer.content_type)
        )));
    }
    let text =
        std::str::from_utf8(&answer.body).map_err(|_| Error::new("the answer is no UTF-8 text"))?;
    let mut targets = parse(text)?;
    for labels in &mut targets {
        labels.insert("__meta_url".into(), config.url.clone());
    }
    Ok(targets)
}
