//! What an answer of the server means for a profile.

use http::StatusCode;

/// The longest piece of an answer that is repeated.
const MAX_QUOTE: usize = 300;

/// What to do after an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is stored.
    Stored,
    /// It may be stored later.
    Later(String),
    /// It will never be stored.
    Refused(String),
    /// We are refused, whatever we send.
    Held(String),
}

/// Reads an answer of Connect: the code of the body goes before the status, which proxies change.
pub(super) fn read(status: StatusCode, body: &[u8]) -> Answer {
    if status.is_success() {
        return Answer::Stored;
    }
    let (code, message) = connect(body);
    let text = match message.as_deref() {
        Some(message) => format!("HTTP {}: {}", status.as_u16(), quote(message)),
        None => {
            let body = String::from_utf8_lossy(body.get(..1024).unwrap_or(body));
            match quote(&body).trim() {
                "" => format!("HTTP {}", status.as_u16()),
                body => format!("HTTP {}: {body}", status.as_u16()),
            }
        }
    };
    let text = match (text.contains("rejected by time range") || text.contains("older than"), &text)
    {
        (true, text) => format!("{text}; the server's -validation.reject-older-than decides"),
        (false, _) => text,
    };
    match code.as_deref() {
        Some(
            "deadline_exceeded" | "unavailable" | "internal" | "unknown" | "aborted" | "data_loss"
            | "resource_exhausted" | "canceled",
        ) => return Answer::Later(text),
        Some("invalid_argument" | "out_of_range" | "failed_precondition" | "already_exists") => {
            return Answer::Refused(text);
        }
        Some("unauthenticated" | "permission_denied" | "unimplemented" | "not_found") => {
            return Answer::Held(text);
        }
        _ => {}
    }
    match status.as_u16() {
        413 => Answer::Refused(format!("{text}; lower `max_profile_size`")),
        408 | 425 | 429 | 499 | 500.. => Answer::Later(text),
        // A redirect is not followed: it would carry credentials elsewhere.
        300..=399 => Answer::Held(format!("{text}: redirected; correct the endpoint")),
        401 | 403 | 404 | 405 | 407 => Answer::Held(text),
        _ => Answer::Refused(text),
    }
}

/// The code and the message of an error of Connect.
fn connect(body: &[u8]) -> (Option<String>, Option<String>) {
    let Ok(error) = serde_json::from_slice::<serde_json::Value>(body) else { return (None, None) };
    let text = |key: &str| error.get(key).and_then(|value| value.as_str()).map(str::to_owned);
    (text("code"), text("message"))
}

fn quote(text: &str) -> String {
    let text = profpipe_engine::settings::shown_text(text);
    text.chars().take(MAX_QUOTE).map(|char| if char.is_control() { ' ' } else { char }).collect()
}
