//! The form of older agents: a pprof profile as the field `profile` of `multipart/form-data`.

use super::push::Malformed;

/// What is used of a form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form<'a> {
    pub(super) profile: &'a [u8],
    /// What the sample types mean, in JSON.
    pub(super) sample_types: Option<&'a [u8]>,
}

/// Reads a form.
///
/// # Errors
/// If the form is broken, has no such field, or has `prev_profile`: such an agent wants the
/// difference of two profiles to be computed, which Pyroscope does not do any more either.
pub(super) fn read<'a>(content_type: &str, body: &'a [u8]) -> Result<Form<'a>, Malformed> {
    let wrong = |what: &str| Malformed(format!("the form {what}"));
    let boundary = boundary(content_type).ok_or_else(|| wrong("names no boundary"))?;
    let delimiter = format!("--{boundary}");
    let (mut found, mut sample_types) = (None, None);
    let mut rest = body;
    let first = find(rest, delimiter.as_bytes()).ok_or_else(|| wrong("has no part"))?;
    rest = rest.get(first + delimiter.len()..).unwrap_or_default();
    let delimiter = format!("\r\n--{boundary}");
    loop {
        if rest.starts_with(b"--") {
            break;
        }
        let end = find(rest, delimiter.as_bytes()).ok_or_else(|| wrong("is cut off"))?;
        let part = rest.get(..end).unwrap_or_default();
        rest = rest.get(end + delimiter.len()..).unwrap_or_default();
        let part = part.strip_prefix(b"\r\n").ok_or_else(|| wrong("has a broken part"))?;
        let split = find(part, b"\r\n\r\n").ok_or_else(|| wrong("has a part without headers"))?;
        let head = String::from_utf8_lossy(part.get(..split).unwrap_or_default());
        let content = part.get(split + 4..).unwrap_or_default();
        match field(&head) {
            Some("profile") => found = Some(content),
            Some("sample_type_config") => sample_types = Some(content),
            Some("prev_profile") if !content.is_empty() => {
                return Err(wrong(
                    "has a `prev_profile`: unsupported client version, use one that computes \
                     differences itself",
                ));
            }
            _ => {}
        }
    }
    let profile = found.ok_or_else(|| wrong("has no field `profile`"))?;
    Ok(Form { profile, sample_types })
}

fn boundary(content_type: &str) -> Option<&str> {
    let parameter = content_type.split(';').skip(1).find_map(|parameter| {
        let (key, value) = parameter.trim().split_once('=')?;
        key.eq_ignore_ascii_case("boundary").then_some(value)
    })?;
    let boundary = parameter.trim_matches('"');
    // RFC 2046: 1 to 70 characters.
    (1..=70).contains(&boundary.len()).then_some(boundary)
}

/// The field's name in the headers of a part.
fn field(head: &str) -> Option<&str> {
    let line = head.split("\r\n").find(|line| {
        line.get(..20).is_some_and(|start| start.eq_ignore_ascii_case("content-disposition:"))
    })?;
    line.split(';').skip(1).find_map(|parameter| {
        let (key, value) = parameter.trim().split_once('=')?;
        key.eq_ignore_ascii_case("name").then(|| value.trim_matches('"'))
    })
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    // Few bytes are a line end or a dash: only there is the rest compared.
    let first = *wanted.first()?;
    let mut at = 0;
    loop {
        at += text.get(at..)?.iter().position(|byte| *byte == first)?;
        if text.get(at..)?.starts_with(wanted) {
            return Some(at);
        }
        at += 1;
    }
}
