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

/// A text of anybody's, such as an error of a library or what a server says, with every address in it as
/// [`ShownAddress`] has it.
///
/// ```
/// use profpipe_engine::settings::shown_text;
/// let text = shown_text("cannot reach (https://u:pw@h/p?key=s): gone");
/// assert_eq!(text, "cannot reach (https://h/p?key=…): gone");
/// ```
pub fn shown_text(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, _) = rest.split_at(at);
        let is_of_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        let scheme = before.trim_end_matches(is_of_scheme).len();
        let (before, address) = rest.split_at(scheme);
        let is_end =
            |c: char| c.is_whitespace() || c.is_control() || "\"'`<>(){}[]|\\^,;".contains(c);
        // Brackets are those of IPv6, up to the path; what else ends an address has no place in it.
        let mut in_brackets = false;
        let end = address.char_indices().find(|(_, c)| {
            match c {
                '[' => in_brackets = true,
                ']' if in_brackets => {
                    in_brackets = false;
                    return false;
                }
                _ => {}
            }
            !in_brackets && is_end(*c)
        });
        let (address, after) = address.split_at(end.map_or(address.len(), |(at, _)| at));
        // What ends a sentence or introduces the cause is not of the address.
        let bare = address.trim_end_matches([':', '.']);
        let marks = address.get(bare.len()..).unwrap_or_default();
        shown.push_str(before);
        if bare.len() > 3 {
            shown.push_str(&ShownAddress::of(bare).0);
            shown.push_str(marks);
        } else {
            shown.push_str(address);
        }
        rest = after;
    }
    shown.push_str(rest);
    shown
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
    use super::{ShownAddress, shown_text};

    /// Scenario: texts with addresses in all places of a sentence, and with what only looks like one.
    /// Guarantees: neither logins nor values of queries are left; everything else is as it was.
    #[test]
    fn addresses_in_texts_are_shown_without_secrets() {
        for (text, wanted) in [
            ("no address: a/b ://", "no address: a/b ://"),
            ("http://u:s@h:1/p?a=s: refused", "http://h:1/p?a=…: refused"),
            (
                "\"http://h?s\", 'https://s@h' and <grpc://u:s@h>.",
                "\"http://h?…\", 'https://h' and <grpc://h>.",
            ),
            (
                "error (http://[::1]:8/p?k=s) at http://u:s@[::1]:8.",
                "error (http://[::1]:8/p?k=…) at http://[::1]:8.",
            ),
            ("[http://h/?a=s]", "[http://h/?a=…]"),
            (
                "see https://profpipe.example/docs, please",
                "see https://profpipe.example/docs, please",
            ),
            ("é://s@h é", "é://h é"),
        ] {
            assert_eq!(shown_text(text), wanted, "{text}");
        }
    }

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
