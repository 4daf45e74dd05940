//! Whom the server takes requests for, and the token of its address.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, header, request};

/// The names that a request may be for: all others are those of somebody whose name leads here, which a
/// page of theirs could use to read what is here.
#[derive(Debug, Clone)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// Of a server at this address: the address itself, and on loopback also `localhost` and the usual
    /// loopback addresses.
    pub fn of(address: SocketAddr) -> Self {
        let mut names = vec![shown(address.ip())];
        if address.ip().is_loopback() {
            names.extend(["localhost", "127.0.0.1", "[::1]"].map(str::to_owned));
        }
        let port = address.port();
        let mut hosts: Vec<String> = names.iter().map(|name| format!("{name}:{port}")).collect();
        if port == 80 {
            hosts.extend(names);
        }
        Self(hosts)
    }

    /// The same with names that the server is also reached by, with their ports.
    #[must_use]
    pub fn and(mut self, hosts: impl IntoIterator<Item = String>) -> Self {
        self.0.extend(hosts.into_iter().map(|host| host.to_ascii_lowercase()));
        self
    }

    /// Whether a request is for this server, and from nobody's page but its own.
    pub(crate) fn allow(&self, head: &request::Parts) -> bool {
        let host = match head.uri.authority() {
            Some(authority) => Some(authority.as_str()),
            None => only(&head.headers, header::HOST),
        };
        let is_ours = |host: &str| self.0.contains(&host.to_ascii_lowercase());
        let origin_is_ours = match head.headers.contains_key(header::ORIGIN) {
            false => true,
            true => only(&head.headers, header::ORIGIN)
                .and_then(|origin| origin.split_once("://"))
                .is_some_and(|(_, host)| is_ours(host)),
        };
        host.is_some_and(is_ours) && origin_is_ours
    }
}

/// The value of a header that stands there once.
fn only(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(first)
}

fn shown(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// A token that cannot be guessed: 128 bits in hexadecimal.
///
/// # Errors
/// If the system gives no random bytes.
pub fn token() -> std::io::Result<String> {
    let mut bytes = [0_u8; 16];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use http::Request;

    use super::*;

    fn allows(hosts: &Hosts, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        hosts.allow(&request.body(()).unwrap().into_parts().0)
    }

    /// Scenario: requests for a server on loopback, by its names and by others.
    /// Guarantees: only its own names with its port get in, and no page of another site.
    #[test]
    fn only_own_names_are_allowed() {
        let hosts = Hosts::of("127.0.0.1:4040".parse().unwrap());
        for host in ["127.0.0.1:4040", "localhost:4040", "LOCALHOST:4040", "[::1]:4040"] {
            assert!(allows(&hosts, &[("host", host)]), "{host}");
        }
        for host in ["localhost", "localhost:80", "evil.test:4040", "127.0.0.1.evil.test:4040", ""]
        {
            assert!(!allows(&hosts, &[("host", host)]), "{host}");
        }
        assert!(!allows(&hosts, &[]));
        assert!(!allows(&hosts, &[("host", "localhost:4040"), ("host", "localhost:4040")]));
        let origin = |origin| allows(&hosts, &[("host", "localhost:4040"), ("origin", origin)]);
        assert!(origin("http://localhost:4040"));
        assert!(!origin("http://evil.test") && !origin("null"));
    }

    /// Scenario: two tokens.
    /// Guarantees: 32 digits each, and different.
    #[test]
    fn tokens_are_random() {
        let (one, other) = (token().unwrap(), token().unwrap());
        assert!(one.len() == 32 && one.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(one, other);
    }
}
