//! What users type for the `bearertokenauth` extension.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use profpipe_engine::component::{self, Error, Extension, ExtensionConfig, Offer, Setup};
use profpipe_engine::config::Problems;
use profpipe_engine::settings::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::tenants;

/// Tokens that prove who sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What stands before the token; nothing if empty.
    pub scheme: String,
    /// The header that carries the token.
    pub header: String,
    /// A token.
    pub token: Secret,
    /// More tokens; a receiver accepts all, an exporter sends the first.
    pub tokens: Vec<Secret>,
    /// A file with tokens, one in each line; read again when it changes, and before the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filename: Option<PathBuf>,
    /// Tokens that belong to a tenant, by its name.
    pub tenants: BTreeMap<String, Source>,
}

/// The tokens of a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Source {
    /// A token.
    pub token: Secret,
    /// More tokens.
    pub tokens: Vec<Secret>,
    /// A file with tokens, one in each line; read again when it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filename: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            scheme: "Bearer".into(),
            header: "Authorization".into(),
            token: Secret::default(),
            tokens: Vec::new(),
            filename: None,
            tenants: BTreeMap::new(),
        }
    }
}

impl component::Config for Config {
    fn validate(&self, problems: &mut Problems) {
        if http::HeaderName::from_bytes(self.header.as_bytes()).is_err() {
            problems.push("header", "is not the name of a header");
        }
        if self.scheme.bytes().any(|byte| !byte.is_ascii_graphic()) {
            problems.push("scheme", "is one word of visible characters, such as `Bearer`");
        }
        tenants::check("tenants", self.tenants.keys(), problems);
    }

    fn advise(&self, advice: &mut Problems) {
        let nothing = self.token.is_empty()
            && self.tokens.is_empty()
            && self.filename.is_none()
            && self.tenants.is_empty();
        if nothing {
            advice.push("", "there is no token; set `token`, `tokens` or `filename`");
        }
    }
}

impl ExtensionConfig for Config {
    fn offers() -> Option<&'static [Offer]> {
        Some(&[Offer::ClientAuth, Offer::ServerAuth])
    }

    fn build(self, setup: &Setup) -> Result<Arc<dyn Extension>, Error> {
        Ok(Arc::new(super::BearerTokenAuth::new(self, &setup.id)?))
    }
}
