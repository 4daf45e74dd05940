//! Names of tenants in configurations.

use profpipe_engine::component::Identity;
use profpipe_engine::config::Problems;

/// Reports names that cannot be used; `field` is the map they are keys of.
pub(crate) fn check<'n>(
    field: &str,
    names: impl IntoIterator<Item = &'n String>,
    problems: &mut Problems,
) {
    for name in names {
        if !Identity::is_tenant(name) {
            let message = format!("a tenant is named with {}", Identity::TENANT_RULE);
            problems.push(&format!("{field}::{name}"), message);
        }
    }
}
