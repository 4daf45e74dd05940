#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;
use std::time::Duration;

use profpipe_engine::Services;
use profpipe_engine::component::{Extension, Lifecycle, Setup};
use profpipe_engine::config::Section;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Config, HealthCheck};

fn config(text: &str) -> Config {
    Section::from_yaml(text).unwrap().read_valid().unwrap()
}

async fn ask(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Scenario: asked before an engine runs, at the right path and at another.
/// Guarantees: 503 with the Collector's words or the configured ones, 404 elsewhere; it ends when
/// told to.
#[tokio::test]
async fn it_says_that_nothing_runs() {
    let setup = Setup::new("health_check", Services::default());
    for (extra, words) in [
        ("", "{\"status\":\"Server not available\"}"),
        (", response_body: {healthy: good, unhealthy: bad}", "bad"),
    ] {
        let text = format!("{{endpoint: '127.0.0.1:0', path: /up{extra}}}");
        let check = Arc::new(HealthCheck::new(config(&text), &setup).unwrap());
        let address = check.server.lock().unwrap().as_ref().unwrap().address();
        let (stopper, life) = Lifecycle::new();
        let running = tokio::spawn(Arc::clone(&check).run(life));
        let answer = ask(address, "/up").await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with(words), "{answer}");
        assert!(ask(address, "/").await.starts_with("HTTP/1.1 404 "));
        stopper.stop(Duration::from_secs(1));
        running.await.unwrap().unwrap();
    }
}

/// Scenario: the Collector's snippet, and a path that is none.
/// Guarantees: the first is read with advice at what has no effect, the second is a mistake.
#[test]
fn the_collectors_keys_are_read() {
    let text = "{endpoint: 'localhost:13133', path: /health/status, check_collector_pipeline: \
                {enabled: true, interval: 5m, exporter_failure_threshold: 5}}";
    let section = Section::from_yaml(text).unwrap();
    assert!((super::FACTORY.parse)(&section).is_ok());
    assert_eq!((super::FACTORY.advise)(&section)[0].path, "check_collector_pipeline");
    assert!((super::FACTORY.parse)(&Section::from_yaml("path: x").unwrap()).is_err());
}
