//! What users type for the `basicauth` extension.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use profpipe_engine::component::{self, Error, Extension, ExtensionConfig, Offer, Setup};
use profpipe_engine::config::Problems;
use profpipe_engine::settings::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::tenants;

/// Users and passwords.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The users that receivers accept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub htpasswd: Option<Htpasswd>,
    /// The user and the password that exporters send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<ClientCredentials>,
    /// Which users belong to a tenant: lists of users by the tenant's name.
    pub tenants: BTreeMap<String, Vec<String>>,
}

/// Users as `htpasswd` writes them: a line `user:hash` each, with bcrypt (`htpasswd -B`) or a plain
/// password.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Htpasswd {
    /// A file of them; read again when it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The lines themselves; they win over the file.
    pub inline: Secret,
}

/// A user and a password to send.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientCredentials {
    /// The user.
    pub username: String,
    /// A file with the user, in place of `username`; read again when it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username_file: Option<PathBuf>,
    /// The password.
    pub password: Secret,
    /// A file with the password, in place of `password`; read again when it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
}

impl component::Config for Config {
    fn validate(&self, problems: &mut Problems) {
        tenants::check("tenants", self.tenants.keys(), problems);
        let mut seen = BTreeSet::new();
        for (tenant, users) in &self.tenants {
            for user in users {
                if !seen.insert(user) {
                    let message = format!("the user `{user}` belongs to two tenants");
                    problems.push(&format!("tenants::{tenant}"), message);
                }
            }
        }
        if let Some(client) = &self.client_auth
            && client.username.contains(':')
        {
            problems.push("client_auth::username", "must not have a colon");
        }
    }

    fn advise(&self, advice: &mut Problems) {
        if self.htpasswd.is_none() && self.client_auth.is_none() {
            advice.push("", "it does nothing; set `htpasswd` or `client_auth`");
        }
    }
}

impl ExtensionConfig for Config {
    fn offers() -> Option<&'static [Offer]> {
        Some(&[Offer::ClientAuth, Offer::ServerAuth])
    }

    fn build(self, setup: &Setup) -> Result<Arc<dyn Extension>, Error> {
        Ok(Arc::new(super::BasicAuth::new(self, &setup.id)?))
    }
}
