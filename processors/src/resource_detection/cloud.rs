//! What the metadata service of a cloud says of the machine: the `ec2`, `gcp` and `azure` detectors.
//!
//! The services are asked on a thread of their own, all at once, with one deadline for everything.
//! Nothing is asked unless the configuration lists the detector. An answer is data from a stranger
//! until proven otherwise: bounded, and only single values of it are used. Of what these services
//! know, secrets are never asked for.

use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use profpipe_engine::component::Extensions;
use profpipe_network::client::{Client, Endpoint, Request};
use profpipe_network::settings::ClientSettings;
use serde_json::Value as Json;

use super::catalog::Detector;
use super::facts::Facts;

/// Where the services are: on Amazon and Azure an address, on Google a name for the same.
const LINK_LOCAL: &str = "http://169.254.169.254";
const GOOGLE: &str = "http://metadata.google.internal";
/// The most of an answer that is read.
const MAX_ANSWER: usize = 64 << 10;
/// For how many seconds a token is good.
const TOKEN_SECONDS: &str = "60";

/// A service to ask.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) detector: Detector,
    /// Where it is, if not where all are.
    pub(super) endpoint: String,
}

/// What a service said; the problem in one line if it said nothing of use.
pub(super) type Said = (Detector, Result<Facts, String>);

/// Asks services; what they say comes when all have answered or the time is over.
///
/// # Errors
/// If no thread can be started.
pub(super) fn ask(services: Vec<Service>, timeout: Duration) -> io::Result<Receiver<Vec<Said>>> {
    let (sender, answers) = channel();
    let run = move || {
        // Nobody waiting any more is not an error.
        let _ = sender.send(ask_all(&services, timeout));
    };
    std::thread::Builder::new().name("cloud-metadata".into()).spawn(run)?;
    Ok(answers)
}

fn ask_all(services: &[Service], timeout: Duration) -> Vec<Said> {
    let failed = |problem: String| {
        services.iter().map(|service| (service.detector, Err(problem.clone()))).collect()
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(error.to_string()),
    };
    let said = runtime.block_on(async {
        let tasks: Vec<_> = services
            .iter()
            .cloned()
            .map(|service| {
                let detector = service.detector;
                let late = format!("no answer within {timeout:?}");
                let asked = async move { tokio::time::timeout(timeout, one(&service)).await };
                (detector, late, tokio::spawn(asked))
            })
            .collect();
        let mut said = Vec::new();
        for (detector, late, task) in tasks {
            let answer = match task.await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err(late),
                Err(error) => Err(error.to_string()),
            };
            said.push((detector, answer));
        }
        said
    });
    // A name that is being looked up cannot be interrupted.
    runtime.shutdown_background();
    said
}

async fn one(service: &Service) -> Result<Facts, String> {
    let default = if service.detector == Detector::Gcp { GOOGLE } else { LINK_LOCAL };
    let at = if service.endpoint.is_empty() { default } else { &service.endpoint };
    // No proxy, no credentials, no redirects: the service is next door or not there.
    let settings = ClientSettings::new(at);
    let client = Client::builder(&settings).build(&Extensions::default());
    let service_at =
        Metadata { endpoint: Endpoint::http(at)?, client: client.map_err(|error| error.chain())? };
    match service.detector {
        Detector::Ec2 => ec2(&service_at).await,
        Detector::Gcp => gcp(&service_at).await,
        Detector::Azure => azure(&service_at).await,
        other => Err(format!("`{}` asks no service", other.name())),
    }
}

struct Metadata {
    endpoint: Endpoint,
    client: Client,
}

impl Metadata {
    /// The text under a path; `proof` is a header that the answer must have.
    async fn get(
        &self,
        method: Method,
        path: &str,
        header: (&'static str, &str),
        proof: Option<(&str, &str)>,
    ) -> Result<String, String> {
        let uri = self.endpoint.uri(path).map_err(|error| error.to_string())?;
        let mut request = Request::get(uri);
        request.method = method;
        request.max_response = MAX_ANSWER;
        let mut value =
            HeaderValue::try_from(header.1).map_err(|_| "a token that is none".to_owned())?;
        value.set_sensitive(true);
        request.headers.insert(HeaderName::from_static(header.0), value);
        let answer = self.client.send(request).await;
        let answer = answer.map_err(|error| error.into_cause().chain())?;
        if !answer.is_success() || answer.truncated {
            return Err(format!("{path} was answered with status {}", answer.status.as_u16()));
        }
        if let Some((name, value)) = proof
            && answer.headers.get(name).is_none_or(|found| found.as_bytes() != value.as_bytes())
        {
            return Err("what answers is not the metadata service".to_owned());
        }
        let text = std::str::from_utf8(&answer.body).map_err(|_| format!("{path} is not text"))?;
        Ok(text.trim().to_owned())
    }
}

/// Amazon: with a token, as version 2 of its service wants it; version 1 is not tried.
async fn ec2(service: &Metadata) -> Result<Facts, String> {
    let ttl = ("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS);
    let token = service.get(Method::PUT, "/latest/api/token", ttl, None).await?;
    let token = ("x-aws-ec2-metadata-token", token.as_str());
    let path = "/latest/dynamic/instance-identity/document";
    let document = service.get(Method::GET, path, token, None).await?;
    let document = json(&document)?;
    let mut facts = Facts::default();
    facts.text("cloud.provider", Some("aws".to_owned()));
    facts.text("cloud.platform", Some("aws_ec2".to_owned()));
    for (key, name) in [
        ("cloud.account.id", "accountId"),
        ("cloud.region", "region"),
        ("cloud.availability_zone", "availabilityZone"),
        ("host.id", "instanceId"),
        ("host.image.id", "imageId"),
        ("host.type", "instanceType"),
    ] {
        facts.text(key, text(&document, name));
    }
    // Not there for machines without a name.
    let name = service.get(Method::GET, "/latest/meta-data/hostname", token, None).await;
    facts.text("host.name", name.ok());
    Ok(facts)
}

/// Google: single values, because all together would hold keys and tokens.
async fn gcp(service: &Metadata) -> Result<Facts, String> {
    let flavor = ("metadata-flavor", "Google");
    let get = async |path: &str| {
        let path = format!("/computeMetadata/v1/{path}");
        service.get(Method::GET, &path, flavor, Some(flavor)).await
    };
    let mut facts = Facts::default();
    facts.text("cloud.provider", Some("gcp".to_owned()));
    facts.text("cloud.platform", Some("gcp_compute_engine".to_owned()));
    facts.text("cloud.account.id", Some(get("project/project-id").await?));
    facts.text("host.id", Some(get("instance/id").await?));
    // `projects/123/zones/europe-west1-b`, `projects/123/machineTypes/n2-standard-4`
    let last = |path: String| path.rsplit('/').next().map(str::to_owned);
    if let Some(zone) = get("instance/zone").await.ok().and_then(last) {
        facts.text("cloud.region", zone.rsplit_once('-').map(|(region, _)| region.to_owned()));
        facts.text("cloud.availability_zone", Some(zone));
    }
    facts.text("host.type", get("instance/machine-type").await.ok().and_then(last));
    facts.text("host.name", get("instance/name").await.ok());
    Ok(facts)
}

/// Microsoft.
async fn azure(service: &Metadata) -> Result<Facts, String> {
    let path = "/metadata/instance/compute?api-version=2021-02-01&format=json";
    let document = service.get(Method::GET, path, ("metadata", "true"), None).await?;
    let document = json(&document)?;
    let mut facts = Facts::default();
    facts.text("cloud.provider", Some("azure".to_owned()));
    facts.text("cloud.platform", Some("azure_vm".to_owned()));
    for (key, name) in [
        ("cloud.account.id", "subscriptionId"),
        ("cloud.region", "location"),
        ("cloud.availability_zone", "zone"),
        ("host.id", "vmId"),
        ("host.name", "name"),
        ("host.type", "vmSize"),
    ] {
        facts.text(key, text(&document, name));
    }
    Ok(facts)
}

fn json(text: &str) -> Result<Json, String> {
    let document: Option<Json> = serde_json::from_str(text).ok();
    document.filter(Json::is_object).ok_or_else(|| "an answer that makes no sense".to_owned())
}

fn text(document: &Json, name: &str) -> Option<String> {
    document.get(name)?.as_str().map(str::to_owned)
}
