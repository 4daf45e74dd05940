//! Where a client connects: parsed from what users type.

use std::fmt;
use std::net::IpAddr;

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

/// A server: scheme, host, port and perhaps a path before all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    tls: bool,
    authority: Authority,
    /// Without a slash at the end.
    path: String,
}

impl Endpoint {
    /// Of an HTTP server: `http://` or `https://`, host, perhaps a port and a path.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn http(text: &str) -> Result<Self, String> {
        let like = "write it like `https://backend:4318`";
        if text.contains(['?', '#']) {
            return Err(format!("a query or fragment has no place here; {like}"));
        }
        let uri: Uri = text.parse().map_err(|_| format!("is not a URL; {like}"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) => return Err(format!("has a scheme that is neither http nor https; {like}")),
            None => return Err(format!("has no scheme; {like}")),
        };
        let authority = uri.authority().ok_or_else(|| format!("has no host; {like}"))?;
        let path = uri.path().trim_end_matches('/').to_owned();
        Self { tls, authority: authority.clone(), path }.checked()
    }

    /// Of a gRPC server: `host:port`, with `http://`, `https://` or `dns:///` before it. With TLS
    /// unless `insecure` or `http://` say otherwise.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn grpc(text: &str, insecure: bool) -> Result<Self, String> {
        let like = "write it like `backend:4317`";
        let (scheme, rest) =
            text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
        let (tls, rest) = match scheme {
            "" => (!insecure, rest.strip_prefix("dns:").unwrap_or(rest)),
            "http" => (false, rest),
            "https" => (true, rest),
            // After the second slash there may be a name server; the system's is used.
            "dns" | "passthrough" => {
                (!insecure, rest.split_once('/').map_or(rest, |(_, host)| host))
            }
            _ => return Err(format!("has a scheme that is not known here; {like}")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.starts_with("unix:") || rest.contains('/') {
            return Err(format!("is neither a host nor an address; {like}"));
        }
        let authority: Authority =
            rest.parse().map_err(|_| format!("is neither a host nor an address; {like}"))?;
        if authority.port_u16().is_none() && !matches!(scheme, "http" | "https") {
            return Err(format!("has no port; {like}"));
        }
        Self { tls, authority, path: String::new() }.checked()
    }

    fn checked(self) -> Result<Self, String> {
        if self.authority.as_str().contains('@') {
            return Err("has credentials in it; put them into `auth` or `headers`".into());
        }
        if self.host().is_empty() {
            return Err("has no host".into());
        }
        // `Authority` takes a port that is no port for none.
        let written = self.authority.as_str();
        let port =
            written.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
        match port {
            Some((_, port)) if !port.parse().is_ok_and(|port: u16| port > 0) => {
                Err(format!("`{port}` is not a port"))
            }
            _ if self.host().contains(':') && !written.starts_with('[') => {
                Err("put an IPv6 address into brackets: `[::1]:4317`".into())
            }
            _ => Ok(self),
        }
    }

    /// True if connections to it are encrypted.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// The host: a name or an address, without brackets.
    pub fn host(&self) -> &str {
        bare(self.authority.host())
    }

    /// The port, written or that of the scheme.
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.tls { 443 } else { 80 })
    }

    /// True if it is this machine, by its name.
    pub fn is_loopback(&self) -> bool {
        is_loopback(self.host())
    }

    /// The path before all others, without a slash at the end.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The address of something on the server; `path` begins with a slash and is appended to the
    /// endpoint's own.
    ///
    /// # Errors
    /// If it is not a path.
    pub fn uri(&self, path: &str) -> Result<Uri, http::Error> {
        let path: PathAndQuery = format!("{}{path}", self.path).parse()?;
        let scheme = if self.tls { Scheme::HTTPS } else { Scheme::HTTP };
        let uri = Uri::builder().scheme(scheme).authority(self.authority.clone());
        uri.path_and_query(path).build()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

/// A host without the brackets of IPv6.
pub(crate) fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

pub(crate) fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => {
            let host = host.trim_end_matches('.').to_ascii_lowercase();
            host == "localhost" || host.ends_with(".localhost")
        }
    }
}

/// A proxy: where it is, and what to show it.
#[derive(Clone)]
pub struct Proxy {
    pub(crate) endpoint: Endpoint,
    /// The value of `proxy-authorization`.
    pub(crate) credentials: Option<http::HeaderValue>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Reads `http://user:password@host:port`.
///
/// # Errors
/// What is wrong with it; never repeats it, because there may be a password in it.
pub fn parse_proxy(text: &str) -> Result<Proxy, String> {
    use base64::Engine as _;
    let rest = text.strip_prefix("http://").ok_or(
        "only HTTP proxies reached without TLS are known; write it like `http://proxy:3128`",
    )?;
    let rest = rest.trim_end_matches('/');
    let (login, host) =
        rest.rsplit_once('@').map_or((None, rest), |(login, host)| (Some(login), host));
    let mut endpoint = Endpoint::http(&format!("http://{host}"))?;
    endpoint.path.clear();
    let credentials = login.map(|login| {
        let login = percent_decoded(login);
        let value = base64::engine::general_purpose::STANDARD.encode(login);
        http::HeaderValue::try_from(format!("Basic {value}")).map(|mut value| {
            value.set_sensitive(true);
            value
        })
    });
    let credentials = credentials.transpose().map_err(|_| "has a login that cannot be sent")?;
    Ok(Proxy { endpoint, credentials })
}

/// Without the escapes of URLs.
fn percent_decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}
