//! Which processes this one can see: those of the host, or those of a PID namespace.
//!
//! In a namespace the kernel reports no process outside of it, so that a busy host looks idle. Where
//! `/proc` is that of another namespace its numbers are not those of perf events, and one process would
//! be taken for another.

use std::fs;
use std::path::PathBuf;

/// The number that the kernel gives the first PID namespace.
const FIRST_NAMESPACE: &str = "pid:[4026531836]";

/// Whose processes there are to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    /// Those of the host.
    Host,
    /// Those of a PID namespace.
    Namespace,
    /// `/proc` is that of another PID namespace.
    OtherProc,
    /// There is no `/proc`.
    NoProc,
}

impl View {
    /// The view of this process.
    pub(crate) fn own() -> Self {
        let own = PathBuf::from(std::process::id().to_string());
        let is_mounted = || fs::exists("/proc/version").unwrap_or(false);
        Self::of(
            fs::read_link("/proc/self").ok().map(|seen| seen == own),
            is_mounted(),
            fs::read_link("/proc/self/ns/pid")
                .ok()
                .and_then(|link| Some(link.to_str()? == FIRST_NAMESPACE)),
        )
    }

    /// `is_own`: `/proc/self` has our number; none if it does not exist, as in the `/proc` of a
    /// namespace that we are not in.
    fn of(is_own: Option<bool>, is_mounted: bool, is_first: Option<bool>) -> Self {
        match (is_own, is_mounted, is_first) {
            (None, false, _) => Self::NoProc,
            (None | Some(false), ..) => Self::OtherProc,
            (Some(true), _, Some(false)) => Self::Namespace,
            (Some(true), ..) => Self::Host,
        }
    }

    /// Why nothing can be sampled with this view, and what to do.
    pub(crate) fn obstacle(self) -> Option<&'static str> {
        match self {
            Self::Host | Self::Namespace => None,
            Self::OtherProc => Some(
                "/proc is that of another PID namespace, so its processes are not those that perf \
                 events report; mount the /proc of this namespace (`unshare --mount-proc`), or run in \
                 the host's (`hostPID: true`, `docker run --pid=host`)",
            ),
            Self::NoProc => Some(
                "there is no /proc, without which no process can be told from another; mount it \
                 with `mount -t proc proc /proc`",
            ),
        }
    }

    /// What is not seen, if that is so.
    pub(crate) fn limit(self) -> Option<&'static str> {
        (self == Self::Namespace).then_some(
            "this is a PID namespace, as of a container: only its processes are seen, and the CPU \
             time of all others is missing; run in the host's namespace (`hostPID: true`, `docker run \
             --pid=host`)",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: what a process can find in `/proc`, or not.
    /// Guarantees: each is taken for what it is; nothing is said against a host.
    #[test]
    fn views() {
        assert_eq!(View::of(Some(true), true, Some(true)), View::Host);
        assert_eq!(View::of(Some(true), true, None), View::Host);
        assert_eq!(View::of(Some(true), true, Some(false)), View::Namespace);
        assert_eq!(View::of(Some(false), true, Some(false)), View::OtherProc);
        assert_eq!(View::of(None, true, None), View::OtherProc);
        assert_eq!(View::of(None, false, None), View::NoProc);
        assert_eq!((View::Host.obstacle(), View::Host.limit()), (None, None));
        assert!(View::Namespace.obstacle().is_none() && View::Namespace.limit().is_some());
        assert!(View::OtherProc.obstacle().is_some() && View::NoProc.obstacle().is_some());
        assert!(matches!(View::own(), View::Host | View::Namespace));
    }
}
