//! Every attribute that detectors can set: the one list from which settings are checked and the
//! README's table comes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What finds something out.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Detector {
    /// `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` of the agent.
    Env,
    /// The host and its operating system.
    System,
    /// The process that was profiled.
    Process,
    /// Its container.
    Container,
    /// Its systemd unit.
    Systemd,
    /// Where in Kubernetes the agent runs, as its manifest tells it in its environment.
    Kubernetes,
    /// What decides how fast a program is: hardware, kernel, limits, build.
    Fingerprint,
    /// Amazon EC2, by its metadata service.
    Ec2,
    /// Google Compute Engine, by its metadata service.
    Gcp,
    /// Microsoft Azure, by its metadata service.
    Azure,
}

impl Detector {
    /// Every detector.
    pub(super) const ALL: [Self; 10] = [
        Self::Env,
        Self::System,
        Self::Process,
        Self::Container,
        Self::Systemd,
        Self::Kubernetes,
        Self::Fingerprint,
        Self::Ec2,
        Self::Gcp,
        Self::Azure,
    ];

    /// The name, as users write it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Env => "env",
            Self::System => "system",
            Self::Process => "process",
            Self::Container => "container",
            Self::Systemd => "systemd",
            Self::Kubernetes => "kubernetes",
            Self::Fingerprint => "fingerprint",
            Self::Ec2 => "ec2",
            Self::Gcp => "gcp",
            Self::Azure => "azure",
        }
    }

    /// Whether it asks a metadata service.
    pub(super) fn is_cloud(self) -> bool {
        matches!(self, Self::Ec2 | Self::Gcp | Self::Azure)
    }
}

/// What an attribute is about, which decides where it is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// The host: on every resource.
    Host,
    /// A process: on its resource, if the profile was taken here.
    Process,
    /// The time of a profile: on the profile, if it was taken here.
    Profile,
}

/// An attribute.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(test), expect(dead_code, reason = "the README's table is made of it, by a test"))]
pub(super) struct AttributeSpec {
    pub(super) detector: Detector,
    pub(super) name: &'static str,
    /// Set unless the configuration says otherwise.
    pub(super) on: bool,
    pub(super) about: About,
    /// What it is, for people.
    pub(super) meaning: &'static str,
}

const fn row(
    detector: Detector,
    name: &'static str,
    on: bool,
    about: About,
    meaning: &'static str,
) -> AttributeSpec {
    AttributeSpec { detector, name, on, about, meaning }
}

/// What the attribute is about for a detector of the host.
const HOST: About = About::Host;
const PROCESS: About = About::Process;

/// Every attribute of every detector but `env`, which has what the environment says.
pub(super) const KNOWN: &[AttributeSpec] = {
    use Detector::{Azure, Container, Ec2, Fingerprint, Gcp, Kubernetes, Process, System, Systemd};
    &[
        row(System, "host.name", true, HOST, "the name of the host"),
        row(System, "host.id", true, HOST, "`/etc/machine-id`"),
        row(System, "host.arch", true, HOST, "`amd64`, `arm64` …"),
        row(System, "host.cpu.vendor.id", false, HOST, "the maker of the CPU"),
        row(System, "host.cpu.family", false, HOST, "the CPU's family"),
        row(System, "host.cpu.model.id", false, HOST, "the CPU's model as a number"),
        row(System, "host.cpu.model.name", false, HOST, "the CPU's name"),
        row(System, "host.cpu.stepping", false, HOST, "the CPU's stepping"),
        row(System, "host.cpu.cache.l2.size", false, HOST, "its second-level cache in bytes"),
        row(System, "os.type", true, HOST, "`linux`"),
        row(System, "os.name", true, HOST, "`NAME` of `/etc/os-release`"),
        row(System, "os.version", true, HOST, "`VERSION_ID` of `/etc/os-release`"),
        row(System, "os.description", true, HOST, "`PRETTY_NAME` of `/etc/os-release`"),
        row(
            System,
            "os.build_id",
            true,
            HOST,
            "`BUILD_ID` of `/etc/os-release`, where there is one",
        ),
        row(Process, "process.owner", true, PROCESS, "the user, by name if the host knows it"),
        row(Process, "process.parent_pid", true, PROCESS, "the process that started it"),
        row(Process, "process.creation.time", true, PROCESS, "when it was started"),
        row(Process, "process.linux.cgroup", true, PROCESS, "its control group"),
        row(
            Process,
            "process.command_line",
            false,
            PROCESS,
            "its arguments, which may hold secrets",
        ),
        row(Container, "container.id", true, PROCESS, "the container's id"),
        row(
            Container,
            "container.runtime.name",
            true,
            PROCESS,
            "`docker`, `containerd`, `cri-o`, `podman`",
        ),
        row(Systemd, "profpipe.environment.systemd.unit", true, PROCESS, "the systemd unit"),
        row(
            Kubernetes,
            "k8s.node.name",
            true,
            HOST,
            "`K8S_NODE_NAME`, `KUBE_NODE_NAME` or `NODE_NAME`",
        ),
        row(Kubernetes, "k8s.cluster.name", true, HOST, "`K8S_CLUSTER_NAME` or `CLUSTER_NAME`"),
        row(
            Kubernetes,
            "k8s.pod.name",
            false,
            HOST,
            "`K8S_POD_NAME` or `POD_NAME`: the agent's own pod, for sidecars",
        ),
        row(Kubernetes, "k8s.pod.uid", false, HOST, "`K8S_POD_UID` or `POD_UID`: likewise"),
        row(
            Kubernetes,
            "k8s.namespace.name",
            false,
            HOST,
            "`K8S_NAMESPACE_NAME`, `K8S_POD_NAMESPACE` or `POD_NAMESPACE`: likewise",
        ),
        row(
            Kubernetes,
            "k8s.container.name",
            false,
            HOST,
            "`K8S_CONTAINER_NAME` or `CONTAINER_NAME`: likewise",
        ),
        row(
            Kubernetes,
            "container.image.name",
            false,
            HOST,
            "`K8S_CONTAINER_IMAGE` or `CONTAINER_IMAGE`: likewise",
        ),
        row(
            Fingerprint,
            "profpipe.environment.id",
            true,
            HOST,
            "a short value that is equal where all other values about the host are",
        ),
        row(Fingerprint, "host.cpu.vendor.id", true, HOST, "the maker of the CPU"),
        row(Fingerprint, "host.cpu.family", true, HOST, "the CPU's family"),
        row(Fingerprint, "host.cpu.model.id", true, HOST, "the CPU's model as a number"),
        row(Fingerprint, "host.cpu.model.name", true, HOST, "the CPU's name"),
        row(Fingerprint, "host.cpu.stepping", true, HOST, "the CPU's stepping"),
        row(Fingerprint, "profpipe.environment.cpu.microcode", true, HOST, "the CPU's microcode"),
        row(Fingerprint, "profpipe.environment.cpu.count", true, HOST, "CPUs that are online"),
        row(
            Fingerprint,
            "profpipe.environment.cpu.smt",
            true,
            HOST,
            "cores run several threads at a time",
        ),
        row(
            Fingerprint,
            "profpipe.environment.cpu.governor",
            true,
            HOST,
            "the frequency governor: `performance`, `schedutil` …",
        ),
        row(
            Fingerprint,
            "profpipe.environment.cpu.driver",
            true,
            HOST,
            "the driver that sets frequencies",
        ),
        row(
            Fingerprint,
            "profpipe.environment.cpu.frequency.max",
            true,
            HOST,
            "the highest frequency in hertz",
        ),
        row(
            Fingerprint,
            "profpipe.environment.cpu.boost",
            true,
            HOST,
            "CPUs may go above their nominal frequency",
        ),
        row(Fingerprint, "profpipe.environment.memory.size", true, HOST, "memory in bytes"),
        row(
            Fingerprint,
            "profpipe.environment.memory.huge_pages",
            true,
            HOST,
            "transparent huge pages: `always`, `madvise`, `never`",
        ),
        row(Fingerprint, "profpipe.environment.numa.nodes", true, HOST, "memory nodes"),
        row(
            Fingerprint,
            "profpipe.environment.virtualization",
            true,
            HOST,
            "the hypervisor, `vm` if it does not say, `none` without",
        ),
        row(Fingerprint, "profpipe.environment.machine", true, HOST, "what the machine is sold as"),
        row(Fingerprint, "profpipe.environment.kernel.release", true, HOST, "the kernel's release"),
        row(
            Fingerprint,
            "profpipe.environment.kernel.mitigations",
            true,
            HOST,
            "what the kernel does about weaknesses that the CPU has, one text each",
        ),
        row(
            Fingerprint,
            "process.executable.build_id.gnu",
            true,
            PROCESS,
            "the executable's GNU build id",
        ),
        row(Fingerprint, "process.executable.build_id.go", true, PROCESS, "its Go build id"),
        row(
            Fingerprint,
            "process.executable.build_id.htlhash",
            true,
            PROCESS,
            "the hash of its ends and length",
        ),
        row(
            Fingerprint,
            "profpipe.environment.compiler",
            true,
            PROCESS,
            "the compilers and linkers of the executable, as `.comment` names them",
        ),
        row(Fingerprint, "profpipe.environment.libc.name", true, PROCESS, "`glibc` or `musl`"),
        row(
            Fingerprint,
            "profpipe.environment.libc.version",
            true,
            PROCESS,
            "the version of glibc",
        ),
        row(
            Fingerprint,
            "process.runtime.name",
            true,
            PROCESS,
            "`go`, `cpython`, `ruby`, `nodejs`, `jvm`, `dotnet`",
        ),
        row(
            Fingerprint,
            "process.runtime.version",
            true,
            PROCESS,
            "its version, for Go, CPython and Ruby",
        ),
        row(
            Fingerprint,
            "profpipe.environment.cgroup.cpu.limit",
            true,
            PROCESS,
            "how many CPUs' time its control groups allow",
        ),
        row(
            Fingerprint,
            "profpipe.environment.cgroup.cpu.weight",
            true,
            PROCESS,
            "its control group's weight where CPUs are short, 100 unless set",
        ),
        row(
            Fingerprint,
            "profpipe.environment.cgroup.cpu.count",
            true,
            PROCESS,
            "CPUs that its control group may run on",
        ),
        row(
            Fingerprint,
            "profpipe.environment.cgroup.memory.limit",
            true,
            PROCESS,
            "how many bytes its control groups allow",
        ),
        row(
            Fingerprint,
            "profpipe.environment.cgroup.cpu.throttled_time",
            true,
            About::Profile,
            "nanoseconds for which its CPUs were stopped by the limit since the last profile",
        ),
        row(
            Fingerprint,
            "profpipe.environment.cgroup.cpu.throttled_periods",
            true,
            About::Profile,
            "periods in which they were",
        ),
        row(
            Fingerprint,
            "profpipe.environment.cgroup.cpu.periods",
            true,
            About::Profile,
            "periods in which it wanted to run",
        ),
        row(Ec2, "cloud.provider", true, HOST, "`aws`"),
        row(Ec2, "cloud.platform", true, HOST, "`aws_ec2`"),
        row(Ec2, "cloud.account.id", true, HOST, "the account"),
        row(Ec2, "cloud.region", true, HOST, "the region"),
        row(Ec2, "cloud.availability_zone", true, HOST, "the zone"),
        row(Ec2, "host.id", true, HOST, "the instance's id"),
        row(Ec2, "host.image.id", true, HOST, "the machine image"),
        row(Ec2, "host.name", true, HOST, "the host name that the service gives"),
        row(Ec2, "host.type", true, HOST, "the instance's type"),
        row(Gcp, "cloud.provider", true, HOST, "`gcp`"),
        row(Gcp, "cloud.platform", true, HOST, "`gcp_compute_engine`"),
        row(Gcp, "cloud.account.id", true, HOST, "the project"),
        row(Gcp, "cloud.region", true, HOST, "the region"),
        row(Gcp, "cloud.availability_zone", true, HOST, "the zone"),
        row(Gcp, "host.id", true, HOST, "the instance's id"),
        row(Gcp, "host.name", true, HOST, "the instance's name"),
        row(Gcp, "host.type", true, HOST, "the machine type"),
        row(Azure, "cloud.provider", true, HOST, "`azure`"),
        row(Azure, "cloud.platform", true, HOST, "`azure_vm`"),
        row(Azure, "cloud.account.id", true, HOST, "the subscription"),
        row(Azure, "cloud.region", true, HOST, "the location"),
        row(Azure, "cloud.availability_zone", true, HOST, "the zone, where there is one"),
        row(Azure, "host.id", true, HOST, "the machine's id"),
        row(Azure, "host.name", true, HOST, "the machine's name"),
        row(Azure, "host.type", true, HOST, "the machine's size"),
    ]
};

/// Other names that attributes have in the Collector's settings.
pub(super) fn canonical(name: &str) -> &str {
    match name {
        "os.build.id" => "os.build_id",
        "container.runtime" => "container.runtime.name",
        other => other,
    }
}

/// The attributes of a detector.
pub(super) fn of(detector: Detector) -> impl Iterator<Item = &'static AttributeSpec> {
    KNOWN.iter().filter(move |known| known.detector == detector)
}
