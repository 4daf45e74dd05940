//! Cross-origin requests: which pages of other sites may send.
//!
//! A browser asks first, by OPTIONS and without credentials; then it sends, and reads the answer if
//! that names the page's origin. What is allowed is what Go's servers allow with the same settings:
//! origins with one `*` in them, the methods GET, POST and HEAD, credentials, and the headers that are
//! listed beside those that browsers may always send.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, request};

use super::answer::Reply;
use crate::settings::server::Cors;

/// The methods that pages may use.
const METHODS: [&str; 3] = ["GET", "POST", "HEAD"];
/// Headers that pages may send without a list of them.
const HEADERS: [&str; 4] = ["accept", "content-type", "origin", "x-requested-with"];

/// The answer to a browser that asks before it sends; `None` for any other request.
pub(super) fn preflight(cors: &Cors, head: &request::Parts) -> Option<Reply> {
    if head.method != Method::OPTIONS || !head.headers.contains_key(ORIGIN) {
        return None;
    }
    let mut reply = Reply {
        status: StatusCode::NO_CONTENT,
        headers: HeaderMap::new(),
        body: bytes::Bytes::new(),
    };
    let vary = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
    reply.headers.insert(VARY, HeaderValue::from_static(vary));
    let Some(origin) = allowed(cors, &head.headers) else { return Some(reply) };
    let method = head.headers.get(ACCESS_CONTROL_REQUEST_METHOD);
    let method = method.map_or("POST", |method| method.to_str().unwrap_or_default());
    if !METHODS.contains(&method) {
        return Some(reply);
    }
    let wanted = head.headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter();
    let mut wanted = wanted.flat_map(|list| list.to_str().unwrap_or("?").split(','));
    if !wanted.all(|name| allows_header(cors, name.trim())) {
        return Some(reply);
    }
    insert_origin(&mut reply.headers, origin);
    if let Ok(method) = HeaderValue::from_str(method) {
        reply.headers.insert(ACCESS_CONTROL_ALLOW_METHODS, method);
    }
    for list in head.headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS) {
        reply.headers.append(ACCESS_CONTROL_ALLOW_HEADERS, list.clone());
    }
    if cors.max_age > 0 {
        reply.headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(cors.max_age));
    }
    Some(reply)
}

/// Lets a page read the answer to what it sent.
pub(super) fn allow(cors: &Cors, request: &HeaderMap, response: &mut HeaderMap) {
    response.append(VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = allowed(cors, request) else { return };
    insert_origin(response, origin);
    if let Ok(names) = HeaderValue::from_str(&cors.exposed_headers.join(", "))
        && !cors.exposed_headers.is_empty()
    {
        response.insert(ACCESS_CONTROL_EXPOSE_HEADERS, names);
    }
}

fn insert_origin(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
}

/// What to name as the origin that is allowed, if the request's is.
fn allowed(cors: &Cors, request: &HeaderMap) -> Option<HeaderValue> {
    let origin = request.get(ORIGIN)?;
    if cors.allowed_origins.iter().any(|pattern| pattern == "*") {
        return Some(HeaderValue::from_static("*"));
    }
    let text = origin.to_str().ok()?.to_ascii_lowercase();
    let matches = |pattern: &String| {
        let pattern = pattern.to_ascii_lowercase();
        match pattern.split_once('*') {
            None => pattern == text,
            Some((start, end)) => {
                text.len() >= start.len() + end.len()
                    && text.starts_with(start)
                    && text.ends_with(end)
            }
        }
    };
    cors.allowed_origins.iter().any(matches).then(|| origin.clone())
}

fn allows_header(cors: &Cors, name: &str) -> bool {
    let is = |known: &str| known == "*" || known.eq_ignore_ascii_case(name);
    name.is_empty()
        || HEADERS.iter().any(|known| is(known))
        || cors.allowed_headers.iter().any(|known| is(known))
}
