//! Who a process is: the attributes of its resource.

use std::fs;

use profpipe_profile::Resource;
use profpipe_profile::attribute_names::{
    CONTAINER_ID, HOST_NAME, PROCESS_EXECUTABLE_NAME, PROCESS_EXECUTABLE_PATH, PROCESS_PID,
    SERVICE_NAME,
};

use crate::perf::linux::handoff::ProcessFacts;

/// The service name of what runs in the kernel itself.
const KERNEL_SERVICE: &str = "kernel";
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
    let cgroup = |pid: u32| fs::read_to_string(format!("/proc/{pid}/cgroup")).ok();
    let cgroup = cgroup(facts.pid).or_else(|| cgroup(facts.parent)).unwrap_or_default();
    let container = container_id(&cgroup);
    let service = match (service, facts.kernel, container, unit(&cgroup)) {
        (Some(service), ..) => service,
        (None, true, ..) => KERNEL_SERVICE,
        (None, false, Some(container), _) => container.get(..SHORT_ID).unwrap_or(container),
        (None, false, None, Some(unit)) => unit,
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

/// The container id in a `/proc/PID/cgroup` file: 64 hex digits at the end of a path segment, as
/// docker, containerd, cri-o and podman write it (`/docker/ID`, `docker-ID.scope`,
/// `cri-containerd-ID.scope`, `crio-ID.scope`, `libpod-ID.scope`, `/kubepods/…/ID`), or the two
/// parts of an ECS task.
pub(crate) fn container_id(cgroup: &str) -> Option<&str> {
    // The innermost segment counts: containers run in containers.
    cgroup.lines().filter_map(path).find_map(|path| path.rsplit('/').find_map(container_segment))
}

fn container_segment(segment: &str) -> Option<&str> {
    // `conmon` watches over a container and is not in it.
    if segment.contains("conmon") {
        return None;
    }
    let name = segment.strip_suffix(".scope").unwrap_or(segment);
    let id = name.rsplit(['-', ':']).next()?;
    (id.len() == 64 && id.bytes().all(|digit| digit.is_ascii_hexdigit())).then_some(id)
}

/// The systemd unit in a `/proc/PID/cgroup` file, without its suffix. The manager of a user's own
/// services is not meant, but the services under it are.
pub(crate) fn unit(cgroup: &str) -> Option<&str> {
    cgroup.lines().filter_map(path).find_map(|path| {
        let segment = path.rsplit('/').find(|segment| segment.ends_with(".service"))?;
        let name = segment.strip_suffix(".service")?;
        (!name.is_empty() && !name.starts_with("user@")).then_some(name)
    })
}

fn path(line: &str) -> Option<&str> {
    line.splitn(3, ':').nth(2)
}
