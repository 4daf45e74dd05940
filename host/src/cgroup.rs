//! What `/proc/PID/cgroup` says of a process: its container and its systemd unit.
//!
//! Paths are named by container runtimes and systemd, by conventions and not by a standard; what
//! follows none of them belongs to no container.

/// The container id: 64 hex digits at the end of a path segment, as docker, containerd, cri-o and
/// podman write it (`/docker/ID`, `docker-ID.scope`, `cri-containerd-ID.scope`, `crio-ID.scope`,
/// `libpod-ID.scope`, `/kubepods/…/ID`).
pub fn container_id(cgroup: &str) -> Option<&str> {
    // The innermost segment counts: containers run in containers.
    paths(cgroup).find_map(|path| path.rsplit('/').find_map(container_segment))
}

/// The container id in the name of one control group.
pub fn container_id_of(name: &str) -> Option<&str> {
    container_segment(name)
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

/// The systemd unit, with its suffix. The manager of a user's own services is not meant, but the
/// services under it are.
pub fn unit(cgroup: &str) -> Option<&str> {
    paths(cgroup).find_map(|path| {
        path.rsplit('/').find(|name| {
            let is_service = name.strip_suffix(".service").is_some_and(|name| !name.is_empty());
            is_service && !name.starts_with("user@")
        })
    })
}

/// The paths of the hierarchies that a process is in, in the file's order.
fn paths(cgroup: &str) -> impl Iterator<Item = &str> {
    cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    /// Scenario: the cgroup files of the usual container runtimes, version 1 and 2.
    /// Guarantees: the container's id is found, and nothing is mistaken for one.
    #[test]
    fn finds_the_container() {
        for path in [
            "0::/system.slice/docker-ID.scope",
            "12:cpu,cpuacct:/docker/ID",
            "0::/kubepods.slice/kubepods-pod1_2.slice/cri-containerd-ID.scope",
            "5:memory:/kubepods/burstable/pod1-2-3/ID",
            "0::/kubepods.slice/kubepods-besteffort.slice/crio-ID.scope/container",
            "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope",
            "0::/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:ID",
            "1:name=systemd:/\n0::/docker/ID",
        ] {
            let cgroup = path.replace("ID", ID);
            assert_eq!(container_id(&cgroup), Some(ID), "{path}");
        }
        for path in [
            "0::/",
            "",
            "0::/system.slice/ssh.service",
            "0::/machine.slice/libpod-conmon-ID.scope",
            "0::/user.slice/session-2.scope",
            "0::/docker/0123",
        ] {
            assert_eq!(container_id(&path.replace("ID", ID)), None, "{path}");
        }
    }

    /// Scenario: cgroup files of services, of a user's services and of sessions.
    /// Guarantees: the unit's name; a session has none.
    #[test]
    fn finds_the_systemd_unit() {
        assert_eq!(unit("0::/system.slice/nginx.service"), Some("nginx.service"));
        assert_eq!(
            unit("0::/system.slice/system-getty.slice/getty@tty1.service/x"),
            Some("getty@tty1.service")
        );
        let own = "0::/user.slice/user-1.slice/user@1.service/app.slice/player.service";
        assert_eq!(unit(own), Some("player.service"));
        assert_eq!(unit("0::/user.slice/user-1.slice/user@1.service/init.scope"), None);
        assert_eq!(unit("0::/user.slice/user-1.slice/session-2.scope"), None);
    }
}
