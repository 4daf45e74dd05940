//! What a request tells a server that nobody else is to read.
//!
//! A login before the host of an address becomes the header that it stands for, as Go's client has it,
//! so that no library prints it with the address; and where a server repeats in the text of an error
//! what it was told, that is taken out before anybody logs it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Uri};
use profpipe_engine::component::Error;

use super::error::{ClientError, ErrorKind};

/// What is shorter is a word that errors may have on their own.
const MIN_SECRET_BYTES: usize = 4;
/// What stands in the place of a secret.
const HIDDEN: &str = "[hidden]";

/// An address without its login, and the value of `authorization` that this stands for.
pub(super) fn without_login(uri: Uri) -> Result<(Uri, Option<HeaderValue>), ClientError> {
    let authority = uri.authority().map(|authority| authority.as_str());
    let Some((login, host)) = authority.and_then(|authority| authority.rsplit_once('@')) else {
        return Ok((uri, None));
    };
    let wrong = |_| {
        let cause = Error::new("the login before the host cannot be sent");
        ClientError::new(ErrorKind::Request, cause)
    };
    let login = percent_encoding::percent_decode_str(login).decode_utf8_lossy();
    // A name alone has an empty password.
    let colon = if login.contains(':') { "" } else { ":" };
    let value = format!("Basic {}", STANDARD.encode(format!("{login}{colon}")));
    let mut value = HeaderValue::try_from(value).map_err(|_| wrong(()))?;
    value.set_sensitive(true);
    let host = host.parse().map_err(|_| wrong(()))?;
    let mut parts = uri.into_parts();
    parts.authority = Some(host);
    let uri = Uri::from_parts(parts).map_err(|_| wrong(()))?;
    Ok((uri, Some(value)))
}

/// The secrets of a request, which its answer may repeat: values of headers that are marked so, and those of the query.
#[derive(Default)]
pub(super) struct Told {
    headers: Vec<HeaderValue>,
    uri: Uri,
}

impl Told {
    pub(super) fn of<B>(request: &http::Request<B>) -> Self {
        let secret = request.headers().values().filter(|value| value.is_sensitive());
        Self { headers: secret.cloned().collect(), uri: request.uri().clone() }
    }

    /// All of them, as a server may repeat them; the longer first: one may be a part of another.
    fn secrets(&self) -> Vec<String> {
        let mut secrets: Vec<String> = Vec::new();
        for value in self.headers.iter().filter_map(|value| value.to_str().ok()) {
            let after = value.split_once(' ').map(|(_, credentials)| credentials);
            let login = after.and_then(|text| STANDARD.decode(text).ok());
            let login = login.and_then(|login| String::from_utf8(login).ok());
            if let Some((_, password)) = login.as_deref().and_then(|it| it.split_once(':')) {
                secrets.push(password.to_owned());
            }
            secrets.extend(login);
            secrets.extend(after.map(str::to_owned));
            secrets.push(value.to_owned());
        }
        let pairs = self.uri.query().into_iter().flat_map(|query| query.split('&'));
        for value in pairs.map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value)) {
            let plain = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
            secrets.push(plain.into_owned());
            secrets.push(value.to_owned());
        }
        secrets.retain(|secret| secret.len() >= MIN_SECRET_BYTES);
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        secrets
    }

    /// What a server says about an error, without them; whatever bytes it is made of.
    pub(super) fn taken_out_of(&self, body: Bytes) -> Bytes {
        self.replaced(body, |_| HIDDEN.as_bytes().to_vec())
    }

    /// A message in protobuf without them: what stands in their place is as long, so that it can be read.
    pub(super) fn taken_out_of_message(&self, message: Bytes) -> Bytes {
        self.replaced(message, |length| vec![b'*'; length])
    }

    fn replaced(&self, body: Bytes, by: impl Fn(usize) -> Vec<u8>) -> Bytes {
        let mut body = body;
        for secret in self.secrets() {
            let secret = secret.as_bytes();
            if !body.windows(secret.len()).any(|bytes| bytes == secret) {
                continue;
            }
            let mut rest = &body[..];
            let mut without = Vec::with_capacity(rest.len());
            while let Some(first) = rest.first() {
                match rest.strip_prefix(secret) {
                    Some(after) => {
                        without.extend(by(secret.len()));
                        rest = after;
                    }
                    None => {
                        without.push(*first);
                        rest = rest.get(1..).unwrap_or_default();
                    }
                }
            }
            body = without.into();
        }
        body
    }
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Told").finish_non_exhaustive()
    }
}
