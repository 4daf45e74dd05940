//! The real Grafana Pyroscope, all in one process on loopback, data in memory and a temporary
//! directory; and the questions that tell what it has stored.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::built;
use crate::http;
use crate::pprof;
use crate::process::{Running, eventually, free_address};
use crate::totals::{self, Totals};

pub(crate) const CPU: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";
pub(crate) const SAMPLES: &str = "process_cpu:samples:count:cpu:nanoseconds";

/// A Pyroscope that is ended on drop.
#[derive(Debug)]
pub(crate) struct Pyroscope {
    pub(crate) address: SocketAddr,
    /// Whose profiles are asked for.
    tenant: &'static str,
    _running: Arc<(Running, tempfile::TempDir)>,
}

/// The header that says whose a request is.
pub(crate) const TENANT: &str = "X-Scope-OrgID";

impl Pyroscope {
    /// `None`, told, where Pyroscope is not there.
    pub(crate) fn start() -> Option<Self> {
        Self::with("")
    }

    /// One that keeps tenants apart, and what two of them have.
    pub(crate) fn of_tenants(tenants: [&'static str; 2]) -> Option<[Self; 2]> {
        let one = Self::with(tenants[0])?;
        let other = Self { tenant: tenants[1], _running: Arc::clone(&one._running), ..one };
        Some([one, other])
    }

    fn with(tenant: &'static str) -> Option<Self> {
        let program = built::peer("pyroscope")?;
        let directory = tempfile::tempdir().unwrap();
        let (http, grpc, gossip) = (free_address(), free_address(), free_address());
        let mut command = Command::new(program);
        command.current_dir(directory.path()).args([
            "-target=all",
            "-storage.backend=filesystem",
            "-storage.filesystem.dir=shared",
            "-pyroscopedb.data-path=data",
            "-compactor.data-dir=compactor",
            "-blocks-storage.bucket-store.sync-dir=sync",
            "-server.http-listen-address=127.0.0.1",
            "-server.grpc-listen-address=127.0.0.1",
            "-memberlist.bind-addr=127.0.0.1",
            "-memberlist.advertise-addr=127.0.0.1",
            "-ingester.lifecycler.addr=127.0.0.1",
            "-ingester.min-ready-duration=0s",
            "-distributor.ring.instance-addr=127.0.0.1",
            "-overrides-exporter.ring.instance-addr=127.0.0.1",
            "-compactor.ring.instance-addr=127.0.0.1",
            "-store-gateway.sharding-ring.instance-addr=127.0.0.1",
            "-query-scheduler.ring.instance-addr=127.0.0.1",
            "-query-frontend.instance-addr=127.0.0.1",
            "-self-profiling.disable-push=true",
            "-usage-stats.enabled=false",
            "-distributor.ingestion-rate-limit-mb=1024",
            "-distributor.ingestion-burst-size-mb=512",
        ]);
        command.arg(format!("-server.http-listen-port={}", http.port()));
        command.arg(format!("-server.grpc-listen-port={}", grpc.port()));
        command.arg(format!("-memberlist.bind-port={}", gossip.port()));
        command.arg(format!("-auth.multitenancy-enabled={}", !tenant.is_empty()));
        let mut running = Running::start("pyroscope", &mut command, directory.path());
        running.ready(|_| {
            let ready = http::get(http, "/ready").is_some_and(|answer| answer.status == 200);
            (ready && http::get(http, "/ring")?.text().contains("ACTIVE")).then_some(())
        });
        Some(Self { address: http, tenant, _running: Arc::new((running, directory)) })
    }

    fn ask(&self, method: &str, mut question: Value, accept: &str) -> http::Answer {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let around = |distance: Duration| (now - distance).as_millis().to_string();
        question["start"] = around(Duration::from_secs(3600)).into();
        question["end"] = (now + Duration::from_secs(60)).as_millis().to_string().into();
        let path = format!("/querier.v1.QuerierService/{method}");
        let mut headers = vec![("content-type", accept)];
        if !self.tenant.is_empty() {
            headers.push((TENANT, self.tenant));
        }
        http::request(self.address, "POST", &path, &headers, question.to_string().as_bytes())
            .expect("an answer of Pyroscope")
    }

    /// What it has stored of a service under a profile type; empty where nothing.
    #[track_caller]
    pub(crate) fn totals(&self, profile_type: &str, service: &str) -> Totals {
        let question = json!({
            "profileTypeID": profile_type,
            "labelSelector": format!("{{service_name=\"{service}\"}}"),
        });
        let answer = self.ask("SelectMergeProfile", question, "application/json").good();
        totals::of_pprof(&from_json(&serde_json::from_slice(&answer).unwrap()))
    }

    /// Waits until a profile type of a service amounts to what `expected` has for it.
    #[track_caller]
    pub(crate) fn receives(&self, profile_type: &str, service: &str, expected: &Totals) {
        let mut parts = profile_type.split(':').skip(1).map(String::from);
        let key = (parts.next().unwrap(), parts.next().unwrap());
        let expected = &expected[&key].without_type_parameters();
        let found = eventually(&format!("{profile_type} of {service} at Pyroscope"), || {
            let column = self.totals(profile_type, service).into_values().next()?;
            (column.total >= expected.total).then_some(column)
        });
        let found = &found.without_type_parameters();
        assert_eq!(found, expected, "{profile_type} of {service}, at Pyroscope");
    }

    /// The labels of the series of a service.
    #[track_caller]
    pub(crate) fn labels(&self, service: &str) -> BTreeSet<(String, String)> {
        self.series(service).into_iter().flatten().collect()
    }

    /// The series of a service, each with its labels.
    #[track_caller]
    pub(crate) fn series(&self, service: &str) -> BTreeSet<BTreeMap<String, String>> {
        let question = json!({ "matchers": [format!("{{service_name=\"{service}\"}}")] });
        let answer = self.ask("Series", question, "application/json").good();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        let series = answer["labelsSet"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let labels = |series: &Value| series["labels"].as_array().cloned().unwrap();
        let labels = |series| {
            labels(series)
                .iter()
                .map(|label| (text(&label["name"]), text(&label["value"])))
                .collect()
        };
        series.iter().map(labels).collect()
    }
}

/// A pprof profile in protobuf's JSON: 64-bit numbers are strings, zeros are left out.
pub(crate) fn from_json(profile: &Value) -> pprof::Profile {
    fn int(value: &Value) -> i64 {
        value.as_str().map_or(value.as_i64().unwrap_or(0), |text| text.parse().unwrap())
    }
    fn list(value: &Value) -> &[Value] {
        value.as_array().map_or(&[], Vec::as_slice)
    }
    let value_type =
        |value: &Value| pprof::ValueType { r#type: int(&value["type"]), unit: int(&value["unit"]) };
    pprof::Profile {
        sample_type: list(&profile["sampleType"]).iter().map(value_type).collect(),
        sample: list(&profile["sample"])
            .iter()
            .map(|sample| pprof::Sample {
                location_id: list(&sample["locationId"]).iter().map(|id| int(id) as u64).collect(),
                value: list(&sample["value"]).iter().map(int).collect(),
                label: Vec::new(),
            })
            .collect(),
        location: list(&profile["location"])
            .iter()
            .map(|location| pprof::Location {
                id: int(&location["id"]) as u64,
                line: list(&location["line"])
                    .iter()
                    .map(|line| pprof::Line {
                        function_id: int(&line["functionId"]) as u64,
                        line: int(&line["line"]),
                    })
                    .collect(),
                ..pprof::Location::default()
            })
            .collect(),
        function: list(&profile["function"])
            .iter()
            .map(|function| pprof::Function {
                id: int(&function["id"]) as u64,
                name: int(&function["name"]),
                filename: int(&function["filename"]),
            })
            .collect(),
        string_table: list(&profile["stringTable"])
            .iter()
            .map(|text| text.as_str().unwrap_or_default().to_owned())
            .collect(),
        ..pprof::Profile::default()
    }
}
