//! Where the servers of a plan listen: no two of them at one address.
//!
//! A reload keeps sockets by their address, so that two servers of one address would share one: half
//! of all requests would reach the wrong server. Addresses overlap as connections see them: a server
//! without a host, or at a wildcard, has every address of its port, and `localhost` is whatever of
//! `127.0.0.1` and `::1` a client tries.

use std::net::IpAddr;

use super::plan::Plan;
use crate::config::{ConfigError, Mark, Node};

/// An address that a server of the plan listens at.
struct Listening<'a> {
    /// The key that says so.
    path: String,
    mark: &'a Mark,
    endpoint: String,
    host: Host,
    port: u16,
}

/// The addresses of a host that a server listens at.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    /// Every address of both families, of which a host may have one only.
    Everywhere,
    /// Every address of IPv4.
    EverywhereV4,
    /// One or the other of the addresses of this host for itself.
    Localhost,
    Address(IpAddr),
    Name(String),
}

impl Host {
    fn of(host: &str) -> Self {
        match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
            _ if host.is_empty() => Self::Everywhere,
            Ok(IpAddr::V4(address)) if address.is_unspecified() => Self::EverywhereV4,
            Ok(address) if address.is_unspecified() => Self::Everywhere,
            Ok(address) => Self::Address(address),
            Err(_) if host.eq_ignore_ascii_case("localhost") => Self::Localhost,
            Err(_) => Self::Name(host.to_ascii_lowercase()),
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Everywhere, _) | (_, Self::Everywhere) => true,
            (Self::EverywhereV4, Self::Address(address))
            | (Self::Address(address), Self::EverywhereV4) => address.is_ipv4(),
            // A name is nearly always one of IPv4, too.
            (Self::EverywhereV4, _) | (_, Self::EverywhereV4) => true,
            (Self::Localhost, Self::Address(address))
            | (Self::Address(address), Self::Localhost) => {
                *address == IpAddr::from([127, 0, 0, 1])
                    || *address == IpAddr::from(std::net::Ipv6Addr::LOCALHOST)
            }
            (one, other) => one == other,
        }
    }
}

/// Every server whose address another one has already; `service` is the section of that name.
pub(super) fn check(plan: &Plan, service: &Node) -> Vec<ConfigError> {
    let mut known: Vec<Listening<'_>> = Vec::new();
    let mut errors = Vec::new();
    for one in listening(plan, service) {
        // Port 0 is another one each time.
        let same = |other: &&Listening<'_>| {
            one.port != 0 && other.port == one.port && other.host.overlaps(&one.host)
        };
        if let Some(other) = known.iter().find(same) {
            let message = format!(
                "`{}` is where `{}` listens already{}; give one of them another port",
                one.endpoint,
                other.path,
                if other.endpoint == one.endpoint {
                    String::new()
                } else {
                    format!(", at `{}`", other.endpoint)
                },
            );
            errors.push(ConfigError::at(one.mark, one.path.clone(), message));
        }
        known.push(one);
    }
    errors
}

fn listening<'a>(plan: &'a Plan, service: &'a Node) -> Vec<Listening<'a>> {
    let mut found = Vec::new();
    for ((kind, id), defined) in &plan.components {
        if !plan.uses(*kind, id) {
            continue;
        }
        for (field, endpoint) in (defined.factory.listens)(&defined.section) {
            let path = format!("{}::{field}", defined.section.path());
            found.extend(one(path, defined.section.mark_of(field), endpoint));
        }
    }
    let readers = ["telemetry", "metrics", "readers"];
    let readers = readers.iter().try_fold(service, |node, key| node.get(key));
    let pulls = readers.map(Node::items).unwrap_or_default().iter().enumerate();
    let pulls = pulls.filter_map(|(at, reader)| {
        Some((at, reader.get("pull")?.get("exporter")?.get("prometheus")?))
    });
    for ((at, node), endpoint) in pulls.zip(&plan.telemetry.prometheus) {
        let path =
            format!("service::telemetry::metrics::readers::{at}::pull::exporter::prometheus");
        let host = match endpoint.host.as_str() {
            host if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
            host => host.to_owned(),
        };
        let endpoint = format!("{host}:{}", endpoint.port);
        found.extend(one(path, &node.mark, endpoint));
    }
    found
}

fn one(path: String, mark: &Mark, endpoint: String) -> Option<Listening<'_>> {
    let (host, port) = endpoint.rsplit_once(':')?;
    let host = Host::of(host.trim_start_matches('[').trim_end_matches(']'));
    let port = port.parse().ok()?;
    Some(Listening { path, mark, host, port, endpoint })
}

#[cfg(test)]
mod tests {
    use super::Host;

    /// Scenario: pairs of hosts of servers at one port.
    /// Guarantees: those that a client could take for each other overlap, in either order; others
    /// do not.
    #[test]
    fn hosts_overlap_as_clients_see_them() {
        for (one, other, wanted) in [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "localhost", true),
            ("LOCALHOST", "localhost", true),
            ("::1", "localhost", true),
            ("::ffff:127.0.0.1", "127.0.0.1", true),
            ("0.0.0.0", "127.0.0.1", true),
            ("0.0.0.0", "localhost", true),
            ("0.0.0.0", "::1", false),
            ("::", "127.0.0.1", true),
            ("", "192.0.2.1", true),
            ("", "0.0.0.0", true),
            ("::", "0.0.0.0", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("127.0.0.1", "::1", false),
            ("localhost", "192.0.2.1", false),
            ("a.example", "A.example", true),
            ("a.example", "b.example", false),
        ] {
            let (one, other) = (Host::of(one), Host::of(other));
            assert_eq!(one.overlaps(&other), wanted, "{one:?} {other:?}");
            assert_eq!(other.overlaps(&one), wanted, "{other:?} {one:?}");
        }
    }
}
