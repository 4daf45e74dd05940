//! What users type for the `resource_detection` processor.

use std::collections::BTreeMap;
use std::path::PathBuf;

use profpipe_engine::component::{self, Error, Processor, ProcessorConfig, Setup};
use profpipe_engine::config::Problems;
use profpipe_engine::settings::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::catalog::{self, Detector};

/// Says where profiles were taken and what decides how fast programs are there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is found out; of two that find the same, the first counts.
    pub detectors: Vec<Detector>,
    /// How long metadata services may take. Until they have answered, profiles wait.
    pub timeout: Duration,
    /// Whether attributes that are there already are replaced: `true` always, `false` never. By
    /// default in profiles taken here, and not in those received from others. What the `env`
    /// detector says of a service or a process replaces nothing.
    #[serde(rename = "override", skip_serializing_if = "Option::is_none")]
    pub replace: Option<bool>,
    /// If not empty, only these attributes are set.
    pub attributes: Vec<String>,
    /// How often what may change is looked at again: frequency governor, microcode, limits.
    pub refresh_interval: Duration,
    /// Where the host's `/proc`, `/sys` and `/etc` are: in a container, where they are mounted.
    pub root_path: PathBuf,
    /// Settings of the `env` detector.
    pub env: Plain,
    /// Settings of the `system` detector.
    pub system: System,
    /// Settings of the `process` detector.
    pub process: Plain,
    /// Settings of the `container` detector.
    pub container: Plain,
    /// Settings of the `systemd` detector.
    pub systemd: Plain,
    /// Settings of the `kubernetes` detector.
    pub kubernetes: Plain,
    /// Settings of the `fingerprint` detector.
    pub fingerprint: Plain,
    /// Settings of the `ec2` detector.
    pub ec2: Cloud,
    /// Settings of the `gcp` detector.
    pub gcp: Cloud,
    /// Settings of the `azure` detector.
    pub azure: Cloud,
}

/// Settings of a detector.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Plain {
    /// Which attributes it sets, where that is not the default.
    pub resource_attributes: Toggles,
}

/// Settings of the `system` detector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct System {
    /// Which attributes it sets, where that is not the default.
    pub resource_attributes: Toggles,
    /// Where the name of the host comes from: the operating system.
    pub hostname_sources: Vec<HostNameSource>,
}

/// Settings of a detector that asks a metadata service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cloud {
    /// Which attributes it sets, where that is not the default.
    pub resource_attributes: Toggles,
    /// Another address of the service than the one that all machines of that cloud have.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub endpoint: String,
}

/// Where a host's name comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostNameSource {
    /// What the operating system says.
    Os,
}

/// Attributes by name, on or off.
pub type Toggles = BTreeMap<String, Toggle>;

/// Whether an attribute is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Toggle {
    /// On or off.
    pub enabled: bool,
}

impl Default for System {
    fn default() -> Self {
        Self { resource_attributes: Toggles::new(), hostname_sources: vec![HostNameSource::Os] }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            detectors: Detector::ALL.into_iter().filter(|detector| !detector.is_cloud()).collect(),
            timeout: Duration::from_secs(5),
            replace: None,
            attributes: Vec::new(),
            refresh_interval: Duration::from_secs(60),
            root_path: PathBuf::from("/"),
            env: Plain::default(),
            system: System::default(),
            process: Plain::default(),
            container: Plain::default(),
            systemd: Plain::default(),
            kubernetes: Plain::default(),
            fingerprint: Plain::default(),
            ec2: Cloud::default(),
            gcp: Cloud::default(),
            azure: Cloud::default(),
        }
    }
}

impl Config {
    fn toggles(&self, detector: Detector) -> &Toggles {
        match detector {
            Detector::Env => &self.env.resource_attributes,
            Detector::System => &self.system.resource_attributes,
            Detector::Process => &self.process.resource_attributes,
            Detector::Container => &self.container.resource_attributes,
            Detector::Systemd => &self.systemd.resource_attributes,
            Detector::Kubernetes => &self.kubernetes.resource_attributes,
            Detector::Fingerprint => &self.fingerprint.resource_attributes,
            Detector::Ec2 => &self.ec2.resource_attributes,
            Detector::Gcp => &self.gcp.resource_attributes,
            Detector::Azure => &self.azure.resource_attributes,
        }
    }

    /// Whether a detector sets an attribute.
    pub(super) fn sets(&self, detector: Detector, name: &str) -> bool {
        if !self.attributes.is_empty() && !self.attributes.iter().any(|wanted| wanted == name) {
            return false;
        }
        let mut toggles = self.toggles(detector).iter();
        let said = toggles.find(|(key, _)| catalog::canonical(key) == name);
        let default = || {
            detector == Detector::Env
                || catalog::of(detector).any(|known| known.name == name && known.on)
        };
        said.map_or_else(default, |(_, toggle)| toggle.enabled)
    }

    /// Whether a detector is on.
    pub(super) fn has(&self, detector: Detector) -> bool {
        self.detectors.contains(&detector)
    }

    /// The settings of a detector that asks a metadata service.
    pub(super) fn cloud(&self, detector: Detector) -> Option<&Cloud> {
        match detector {
            Detector::Ec2 => Some(&self.ec2),
            Detector::Gcp => Some(&self.gcp),
            Detector::Azure => Some(&self.azure),
            _ => None,
        }
    }
}

impl component::Config for Config {
    fn validate(&self, problems: &mut Problems) {
        if self.detectors.is_empty() {
            problems.push("detectors", "names none; leave it out for the default");
        }
        if self.system.hostname_sources.is_empty() {
            problems.push("system::hostname_sources", "names none; write `[os]`");
        }
        if self.refresh_interval.0 < std::time::Duration::from_secs(1) {
            problems.push("refresh_interval", "must be at least 1s");
        }
        for detector in Detector::ALL {
            for name in self.toggles(detector).keys() {
                let known = |name| catalog::of(detector).any(|known| known.name == name);
                if detector != Detector::Env && !known(catalog::canonical(name)) {
                    let names: Vec<_> = catalog::of(detector).map(|known| known.name).collect();
                    problems.push(
                        &format!("{}::resource_attributes::{name}", detector.name()),
                        format!("is not one of its attributes: {}", names.join(", ")),
                    );
                }
            }
            let endpoint = self.cloud(detector).map_or("", |cloud| &cloud.endpoint);
            if !endpoint.is_empty() && !endpoint.starts_with("http://") {
                let at = format!("{}::endpoint", detector.name());
                problems.push(&at, "is not an address such as `http://127.0.0.1:8080`");
            }
        }
    }

    fn advise(&self, advice: &mut Problems) {
        for detector in Detector::ALL {
            if !self.has(detector) && !self.toggles(detector).is_empty() {
                let name = detector.name();
                advice.push(name, format!("has no effect: `detectors` has no `{name}`"));
            }
        }
    }
}

impl ProcessorConfig for Config {
    fn build(self, setup: &Setup) -> Result<Box<dyn Processor>, Error> {
        Ok(Box::new(super::ResourceDetection::new(self, setup)?))
    }
}
