//! Addresses as people may see them.
//!
//! An address may hold a password before its host, and tokens in its query. Logs, errors and labels
//! show an address by this type only: scheme, host, port, path and the names of the query's parameters.

use std::fmt;

/// An address without what may be a secret in it.
///
/// ```
/// use profpipe_engine::settings::ShownAddress;
/// let shown = ShownAddress::of("https://user:pw@example.com:8443/sd?token=abc&flat#part");
/// assert_eq!(shown.to_string(), "https://example.com:8443/sd?token=…&…");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShownAddress(String);

impl ShownAddress {
    /// Of an address, or of what should be one: nothing is expected of it.
    pub fn of(address: impl fmt::Display) -> Self {
        let text = address.to_string();
        let text = text.split('#').next().unwrap_or_default();
        let (place, query) =
            text.split_once('?').map_or((text, None), |(place, query)| (place, Some(query)));
        let (scheme, rest) = match place.find("://") {
            Some(at) => place.split_at(at + 3),
            None => ("", place),
        };
        let rest = rest.split_at(login_length(rest)).1;
        let mut shown = format!("{scheme}{rest}");
        for (at, pair) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
            shown.push(if at == 0 { '?' } else { '&' });
            if let Some((name, _)) = pair.split_once('=') {
                shown.push_str(name);
                shown.push('=');
            }
            shown.push('…');
        }
        Self(shown.chars().map(|char| if char.is_control() { '.' } else { char }).collect())
    }
}

/// How long the login before the host is, with its `@`.
fn login_length(rest: &str) -> usize {
    let authority = rest.split('/').next().unwrap_or_default();
    if let Some(at) = authority.rfind('@') {
        return at + 1;
    }
    // A password may have a slash in it, where that is not written as it should be.
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    let is_host = port.is_none_or(|port| port.ends_with(']') || port.parse::<u16>().is_ok());
    if is_host { 0 } else { rest.rfind('@').map_or(0, |at| at + 1) }
}

impl fmt::Display for ShownAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::ShownAddress;

    /// Scenario: addresses of all kinds, and what only looks like one.
    /// Guarantees: neither the login nor a value of the query is left; the rest is.
    #[test]
    fn secrets_are_not_shown() {
        for (address, wanted) in [
            ("http://h:1/p", "http://h:1/p"),
            ("http://u:s@h:1/p?a=s", "http://h:1/p?a=…"),
            ("http://u:s/s@h/p", "http://h/p"),
            ("http://u:s@s@h", "http://h"),
            ("u:s@h:4317", "h:4317"),
            ("h:4317", "h:4317"),
            ("http://h/a@b", "http://h/a@b"),
            ("http://[::1]/a@b", "http://[::1]/a@b"),
            ("http://h?s", "http://h?…"),
            ("http://h?a=s&s&b=s=s#s", "http://h?a=…&…&b=…"),
            ("s@h?s#s", "h?…"),
            ("http://[::1]:8/p", "http://[::1]:8/p"),
            ("http://h/\n", "http://h/."),
            ("", ""),
        ] {
            assert_eq!(ShownAddress::of(address).to_string(), wanted, "{address}");
        }
    }
}
