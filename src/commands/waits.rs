//! Reports of what threads waited for.

use anyhow::{Context, bail};
use profpipe_formats::report;
use profpipe_profile::attribute_names::WAIT;

use crate::files::Input;

/// The sample type of time that was waited.
const OFF_CPU: &str = "off_cpu";

/// Leaves only the samples of an input that waited for something, if that is asked; returns the sample
/// type to report, of which one may have been chosen.
pub(super) fn only<'a>(
    input: &mut Input,
    wait: Option<&str>,
    choice: Option<&'a str>,
) -> anyhow::Result<Option<&'a str>> {
    let Some(wait) = wait else { return Ok(choice) };
    let found = report::retain_samples_with(&mut input.profiles, WAIT, wait);
    if found.is_empty() {
        let text =
            "it does not say what threads waited for; record it with `-e off_cpu` or `-e wall`";
        return Err(anyhow::anyhow!(text)).with_context(|| input.names());
    }
    if !found.contains_key(wait) {
        let known = found.into_keys().collect::<Vec<_>>().join(", ");
        bail!("{}: no thread waited for `{wait}`; they waited for {known}", input.names());
    }
    Ok(Some(choice.unwrap_or(OFF_CPU)))
}
