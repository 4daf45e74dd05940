//! Who a process is: the attributes of its resource.

use profpipe_host::{cgroup, proc};
use profpipe_profile::Resource;
use profpipe_profile::attribute_names::{
    CONTAINER_ID, HOST_NAME, PROCESS_EXECUTABLE_NAME, PROCESS_EXECUTABLE_PATH, PROCESS_PID,
    SERVICE_NAME,
};

use crate::perf::linux::handoff::ProcessFacts;

/// The service name of what runs in the kernel itself.
const KERNEL_SERVICE: &str = "kernel";
/// The most of a list of cgroups that is read.
const MAX_CGROUP: u64 = 64 << 10;
/// How many hex digits of a container id people are used to.
const SHORT_ID: usize = 12;

/// Describes a process; reads its cgroup, and its parent's if it is gone already.
pub(crate) fn describe(facts: &ProcessFacts, service: Option<&str>, host: &str) -> Resource {
    let mut resource = Resource::default();
    let executable = facts.executable.as_deref().map(|path| path.trim_end_matches(" (deleted)"));
    let name = match executable.and_then(|path| path.rsplit('/').next()) {
        Some(name) if !name.is_empty() => name,
        _ if !facts.name.is_empty() => &facts.name,
        // It ended before anything could be asked about it.
        _ => "unknown",
    };
    let read = |pid: u32| proc::text(pid, "cgroup", MAX_CGROUP);
    let groups = read(facts.pid).or_else(|| read(facts.parent)).unwrap_or_default();
    let container = cgroup::container_id(&groups);
    let service = match (service, facts.kernel, container, cgroup::unit(&groups)) {
        (Some(service), ..) => service,
        (None, true, ..) => KERNEL_SERVICE,
        (None, false, Some(container), _) => container.get(..SHORT_ID).unwrap_or(container),
        (None, false, None, Some(unit)) => unit.strip_suffix(".service").unwrap_or(unit),
        (None, false, None, None) => name,
    };
    resource.set(SERVICE_NAME, service);
    resource.set(PROCESS_PID, i64::from(facts.pid));
    resource.set(PROCESS_EXECUTABLE_NAME, name);
    if let Some(path) = executable {
        resource.set(PROCESS_EXECUTABLE_PATH, path);
    }
    if let Some(container) = container {
        resource.set(CONTAINER_ID, container);
    }
    if !host.is_empty() {
        resource.set(HOST_NAME, host);
    }
    resource
}

/// The name of this host.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
