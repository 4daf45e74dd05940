//! How a running agent fares, by its metrics: whether profiles leave in time, whether samples are lost
//! and frames have names, and what would help.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use profpipe::metric_names::overhead;
use profpipe::telemetry::names;
use profpipe_receivers::perf::{Finding, Level};

/// How long an agent may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer that is read.
const MAX_BYTES: u64 = 16 << 20;
/// Milliseconds from which on a window that waits is old, for the default interval of 10 s.
const LATE: f64 = 20_000.0;
/// The share of frames without a name from which on that is worth advice.
const MANY_UNNAMED: f64 = 0.2;
/// The state that the governor reports where a budget cannot be kept, and those above it.
const INFEASIBLE: f64 = 3.0;

/// What the metrics of the agent at `address` (host and port) say.
///
/// # Errors
/// If nobody answers there, or somebody else.
pub(super) fn ask(address: &str) -> anyhow::Result<Vec<Finding>> {
    let text = fetch(address).with_context(|| {
        format!(
            "cannot read metrics at {address}; is `service::telemetry::metrics` configured there?"
        )
    })?;
    let metrics = Metrics::read(&text);
    if !metrics.0.keys().any(|name| name.starts_with("profpipe_")) {
        bail!("what answers at {address} is not profpipe");
    }
    Ok(findings(&metrics))
}

fn fetch(address: &str) -> anyhow::Result<String> {
    let addresses = address.to_socket_addrs()?;
    let mut last = anyhow!("no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => return read(stream, &address.to_string()),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

fn read(mut stream: TcpStream, host: &str) -> anyhow::Result<String> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    // Of this version an answer is plain and ends with the connection.
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(MAX_BYTES).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("not an HTTP answer")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status != "200" {
        bail!("the response is {}", head.lines().next().unwrap_or_default());
    }
    Ok(body.to_owned())
}

/// The sum of each metric, and those with labels one by one.
struct Metrics(HashMap<String, f64>);

impl Metrics {
    fn read(text: &str) -> Self {
        let mut all: HashMap<String, f64> = HashMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let bare = name.split('{').next().unwrap_or(name);
            *all.entry(bare.to_owned()).or_default() += value;
            if bare != name {
                all.insert(name.to_owned(), value);
            }
        }
        Self(all)
    }

    fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    fn sum(&self, name: &str) -> f64 {
        self.get(name).unwrap_or_default()
    }

    /// What the windows that wait do wait for.
    fn stages(&self) -> String {
        let waiting = self.0.iter().filter(|(name, value)| {
            name.split('{').next() == Some(names::WINDOWS_WAITING) && **value > 0.0
        });
        let stage = |name: &str| Some(name.split_once("stage=\"")?.1.split('"').next()?.to_owned());
        let mut stages: Vec<String> = waiting.filter_map(|(name, _)| stage(name)).collect();
        stages.sort_unstable();
        stages.join(", ")
    }
}

fn findings(metrics: &Metrics) -> Vec<Finding> {
    let mut findings = vec![age(metrics), loss(metrics)];
    findings.extend(unnamed(metrics));
    findings.extend(budget(metrics));
    findings
}

fn finding(name: &'static str, is_good: bool, detail: String, advice: [&str; 2]) -> Finding {
    let [cost, grant] = if is_good { ["", ""] } else { advice };
    let level = if is_good { Level::Good } else { Level::Limited };
    Finding { name, level, detail, cost: cost.into(), grant: grant.into() }
}

fn age(metrics: &Metrics) -> Finding {
    let age = metrics.sum(names::OLDEST_WINDOW);
    let detail = match metrics.stages() {
        stages if stages.is_empty() => "no profile waits".to_owned(),
        stages => format!("the oldest window ended {:.1} s ago and waits for {stages}", age / 1e3),
    };
    let advice = [
        "profiles arrive late",
        "a larger `governor::cpu` or a longer `perf::interval`; where they wait for `send`, look \
         whether the exporter reaches its backend",
    ];
    finding("age of profiles", age < LATE, detail, advice)
}

fn loss(metrics: &Metrics) -> Finding {
    let (lost, samples) = (metrics.sum(names::SAMPLES_LOST), metrics.sum(names::SAMPLES));
    let detail = format!("{lost:.0} of {samples:.0}");
    let advice = ["profiles miss what was lost, and say so", "a larger `perf::buffer_size`"];
    finding("samples lost", lost == 0.0, detail, advice)
}

fn unnamed(metrics: &Metrics) -> Option<Finding> {
    let named = metrics.get(names::FRAMES_NAMED)?;
    let unnamed = metrics.sum(names::FRAMES_UNNAMED);
    let share = unnamed / (named + unnamed).max(1.0);
    let detail = format!("{:.1} % of {:.0}", share * 100.0, named + unnamed);
    let advice = [
        "these frames show as module and offset",
        "`profpipe_symbolize_frames_unnamed_total` tells why; for `timeout` a larger \
         `governor::cpu`, or names at a gateway",
    ];
    Some(finding("frames without a name", share < MANY_UNNAMED, detail, advice))
}

fn budget(metrics: &Metrics) -> Option<Finding> {
    let budget = metrics.get(overhead::BUDGET).filter(|budget| *budget > 0.0)? / 1e4;
    let spent = metrics.sum(overhead::SPENT) / 1e4;
    let frequency = metrics.sum(overhead::FREQUENCY) / 1e3;
    let is_good = metrics.sum(overhead::STATE) < INFEASIBLE;
    let detail = format!(
        "{spent:.2} % of a core of {budget} % are spent, for {frequency:.1} samples a second and CPU"
    );
    let advice = ["the budget does not pay for profiling here", "a larger `governor::cpu`"];
    Some(finding("overhead budget", is_good, detail, advice))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// Scenario: the metrics of an agent that fares well, of one whose profiles are late and nameless
    /// because of its budget, and of another program.
    /// Guarantees: the first has nothing to be advised, the second is told what its windows wait for
    /// and what helps, the third is not taken for an agent.
    #[test]
    fn a_running_agent_is_judged() {
        let well = "profpipe_receiver_samples_total{component=\"perf\"} 900\n\
                    profpipe_oldest_window_age_milliseconds{component=\"perf\"} 1500\n\
                    profpipe_windows_waiting{component=\"perf\",stage=\"send\"} 1\n\
                    profpipe_overhead_budget_ppm{component=\"perf\"} 10000\n\
                    profpipe_overhead_spent_ppm{component=\"perf\"} 8500\n\
                    profpipe_symbolize_frames_named_total{component=\"symbolize\"} 99\n";
        let findings = findings(&Metrics::read(well));
        assert_eq!(findings.len(), 4);
        assert!(findings.iter().all(Finding::ok), "{findings:?}");
        assert!(findings[0].detail.contains("1.5 s ago and waits for send"), "{findings:?}");
        assert!(findings[3].detail.contains("0.85 % of a core of 1 %"), "{findings:?}");
        let badly = well.replace(" 1500\n", " 45000\n").replace("named_total", "unnamed_total")
            + "profpipe_overhead_state{component=\"perf\"} 3\n\
               profpipe_receiver_samples_lost_total{component=\"perf\"} 4\n\
               profpipe_symbolize_frames_named_total{component=\"symbolize\"} 0\n";
        let findings = super::findings(&Metrics::read(&badly));
        assert!(findings.iter().all(|finding| !finding.ok() && !finding.grant.is_empty()));
    }

    /// Scenario: something answers that is not an agent, and nobody does.
    /// Guarantees: an error that says which.
    #[test]
    fn others_are_not_taken_for_an_agent() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 64];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nup 1\n").unwrap();
        });
        let error = ask(&address).unwrap_err().to_string();
        assert!(error.contains("is not profpipe"), "{error}");
        server.join().unwrap();
        let error = ask(&address).unwrap_err().to_string();
        assert!(error.contains("cannot read metrics at"), "{error}");
    }
}
