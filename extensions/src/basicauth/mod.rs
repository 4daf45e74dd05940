//! The `basicauth` extension: users and passwords, in both directions.
//!
//! A receiver that names it checks users against lines of an `htpasswd` file: bcrypt or plain
//! passwords. An exporter that names it sends those of `client_auth`. Checking a bcrypt hash takes a
//! tenth of a second by design, so one that was right is remembered, and only one is checked at a
//! time: neither honest senders nor those who guess can use up the processors.

mod config;
mod htpasswd;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use profpipe_engine::component::{
    ClientAuth, Error, Extension, Factory, Identity, Lifecycle, ServerAuth, Stability,
};
use profpipe_engine::settings::Secret;

use crate::credentials::{after_scheme, only};
use crate::watched::{Watched, read_secret};
use htpasswd::Users;

pub use config::{ClientCredentials, Config, Htpasswd};

/// How the component is registered.
pub const FACTORY: Factory = Factory::extension::<Config>(
    "basicauth",
    Stability::Beta,
    "proves and checks who sends by user and password",
)
.with_aliases(&["basic_auth"]);

struct BasicAuth {
    id: String,
    tenants: HashMap<String, Arc<str>>,
    known: Watched<Credentials>,
    /// Whether there are users to check.
    serves: bool,
    /// Whether there is a user to send.
    sends: bool,
}

/// What the configuration and its files say now.
struct Credentials {
    users: Users,
    /// The header's value that exporters send.
    client: Option<Secret>,
}

impl BasicAuth {
    fn new(config: Config, id: &str) -> Result<Self, Error> {
        let (serves, sends) = (config.htpasswd.is_some(), config.client_auth.is_some());
        if !serves && !sends {
            return Err(Error::new("it does nothing; set `htpasswd` or `client_auth`"));
        }
        let mut tenants = HashMap::new();
        for (tenant, users) in &config.tenants {
            let tenant: Arc<str> = tenant.as_str().into();
            tenants.extend(users.iter().map(|user| (user.clone(), Arc::clone(&tenant))));
        }
        let known = Watched::new(config.files(), move || Credentials::read(&config))?;
        Ok(Self { id: id.to_owned(), tenants, known, serves, sends })
    }
}

impl Credentials {
    fn read(config: &Config) -> Result<Self, Error> {
        let mut users = Users::default();
        if let Some(htpasswd) = &config.htpasswd {
            if let Some(file) = &htpasswd.file {
                users.add(&file.display().to_string(), &read_secret(file)?)?;
            }
            // These win, as in the Collector.
            users.add("htpasswd::inline", &htpasswd.inline)?;
            if users.is_empty() {
                return Err(Error::new("there is no user; set `htpasswd::file` or `inline`"));
            }
        }
        let client = config.client_auth.as_ref().map(ClientCredentials::header).transpose()?;
        Ok(Self { users, client })
    }
}

impl Config {
    fn files(&self) -> Vec<PathBuf> {
        let server = self.htpasswd.iter().filter_map(|htpasswd| htpasswd.file.clone());
        let client = self.client_auth.iter().flat_map(|client| {
            [client.username_file.clone(), client.password_file.clone()].into_iter().flatten()
        });
        server.chain(client).collect()
    }
}

impl ClientCredentials {
    fn header(&self) -> Result<Secret, Error> {
        let or_file = |text: &str, file: &Option<PathBuf>| match file {
            Some(file) => {
                let text = read_secret(file)?;
                Ok::<_, Error>(text.expose().trim_end_matches(['\r', '\n']).to_owned())
            }
            None => Ok(text.to_owned()),
        };
        let user = or_file(&self.username, &self.username_file)?;
        let password = or_file(self.password.expose(), &self.password_file)?;
        if user.is_empty() || user.contains(':') {
            return Err(Error::new("`client_auth::username` is empty or has a colon"));
        }
        Ok(Secret::new(format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))))
    }
}

#[async_trait]
impl Extension for BasicAuth {
    async fn run(self: Arc<Self>, life: Lifecycle) -> Result<(), Error> {
        self.known.keep_up(&self.id, life).await;
        Ok(())
    }

    fn client_auth(&self) -> Option<&dyn ClientAuth> {
        self.sends.then_some(self as &dyn ClientAuth)
    }

    fn server_auth(&self) -> Option<&dyn ServerAuth> {
        self.serves.then_some(self as &dyn ServerAuth)
    }
}

impl ClientAuth for BasicAuth {
    fn headers(&self) -> Result<Vec<(String, Secret)>, Error> {
        let known = self.known.get();
        let value = known.client.clone().ok_or_else(|| Error::new("`client_auth` is not set"))?;
        Ok(vec![("authorization".to_owned(), value)])
    }
}

impl ServerAuth for BasicAuth {
    fn challenge(&self) -> &str {
        "Basic realm=\"profpipe\", charset=\"UTF-8\""
    }

    fn authenticate(&self, values: &[&[u8]]) -> Result<Identity, Error> {
        let value = only("authorization", values)?;
        let encoded =
            after_scheme(value, "Basic").ok_or_else(|| Error::new("the scheme is not `Basic`"))?;
        let malformed = || Error::new("the credentials are not `user:password` in Base64");
        let decoded = STANDARD.decode(encoded).map_err(|_| malformed())?;
        let mut parts = decoded.splitn(2, |byte| *byte == b':');
        let (Some(user), Some(password)) = (parts.next(), parts.next()) else {
            return Err(malformed());
        };
        let user = std::str::from_utf8(user).map_err(|_| malformed())?;
        if !self.known.get().users.check(user, password) {
            return Err(Error::new("the user or the password is wrong"));
        }
        Ok(Identity { tenant: self.tenants.get(user).cloned() })
    }
}
