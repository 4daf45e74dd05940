//! What serves components without being on the way of the data: credentials, storage, endpoints.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Error, Lifecycle};
use crate::settings::Secret;
use profpipe_queue as queue;

/// Something that components use by its id, or that runs beside them.
///
/// An extension is started before any component and stopped after the last. It offers what it can
/// do through the methods below; one that offers nothing only runs.
#[async_trait]
pub trait Extension: Send + Sync {
    /// Runs until told to stop. An error stops the engine.
    async fn run(self: Arc<Self>, mut life: Lifecycle) -> Result<(), Error> {
        life.stopping().await;
        Ok(())
    }

    /// How it makes requests that leave the program known to their receiver.
    fn client_auth(&self) -> Option<&dyn ClientAuth> {
        None
    }

    /// How it recognises who sends a request.
    fn server_auth(&self) -> Option<&dyn ServerAuth> {
        None
    }

    /// Where queues can be kept.
    fn storage(&self) -> Option<StoragePlace> {
        None
    }
}

/// What an extension can be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// Keeping queues: [`Extension::storage`].
    Storage,
    /// Credentials for requests that leave: [`Extension::client_auth`].
    ClientAuth,
    /// Recognising who sends a request: [`Extension::server_auth`].
    ServerAuth,
}

/// Adds credentials to requests that leave the program.
pub trait ClientAuth: Send + Sync {
    /// The headers to add; asked for each request, because credentials change.
    ///
    /// # Errors
    /// If there are no credentials now. The request is then not sent.
    fn headers(&self) -> Result<Vec<(String, Secret)>, Error>;
}

/// Recognises who sends a request.
pub trait ServerAuth: Send + Sync {
    /// The header that carries the credentials, in lower case.
    fn header(&self) -> &str {
        "authorization"
    }

    /// What to ask for in `WWW-Authenticate` where they are missing or wrong.
    fn challenge(&self) -> &str {
        "Bearer"
    }

    /// Decides by the values of that header: usually one, none if it is missing.
    ///
    /// # Errors
    /// If the request must be refused; the text never repeats what was sent.
    fn authenticate(&self, authorization: &[&[u8]]) -> Result<Identity, Error>;
}

/// Who sent a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The tenant that the credentials belong to, if the configuration says so.
    pub tenant: Option<Arc<str>>,
}

impl Identity {
    /// Whether a text may be the name of a tenant: letters, digits, `.`, `_` and `-`, at most 64,
    /// and not only dots. Such a name is safe in a header, a label and a path.
    pub fn is_tenant(name: &str) -> bool {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        (1..=64).contains(&name.len())
            && name.bytes().all(allowed)
            && name.bytes().any(|byte| byte != b'.')
    }
}

/// Where and how safely queues are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoragePlace {
    /// The directory.
    pub directory: PathBuf,
    /// When a record counts as kept.
    pub durability: Durability,
    /// How much the queues may take together; none is the queue's own default.
    pub max_bytes: Option<u64>,
    /// How old a record may get before it is given up; none keeps it until it is delivered.
    pub max_age: Option<Duration>,
    /// How much space on the disk is left to others; none is the queue's own default.
    pub min_free_bytes: Option<u64>,
    /// How large one file of the queue gets; none is the queue's own default.
    pub segment_bytes: Option<u64>,
}

/// When a record of a queue counts as kept.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// When the disk has it: it survives a power cut.
    #[default]
    Fsync,
    /// When the operating system has it: it survives the end of this process, not of the machine.
    Os,
}

impl From<Durability> for queue::Durability {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Fsync => Self::Fsync,
            Durability::Os => Self::Os,
        }
    }
}

/// The extensions that are running, by id.
#[derive(Clone, Default)]
pub struct Extensions(Arc<BTreeMap<String, Arc<dyn Extension>>>);

impl Extensions {
    /// These extensions.
    pub fn new(extensions: BTreeMap<String, Arc<dyn Extension>>) -> Self {
        Self(Arc::new(extensions))
    }

    /// The extension of this id.
    ///
    /// # Errors
    /// If `service::extensions` does not list it.
    pub fn get(&self, id: &str) -> Result<&Arc<dyn Extension>, Error> {
        self.0.get(id).ok_or_else(|| {
            Error::new(format!("there is no extension `{id}`; list it in `service::extensions`"))
        })
    }

    /// All of them, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<dyn Extension>)> {
        self.0.iter().map(|(id, extension)| (id.as_str(), extension))
    }
}

impl std::fmt::Debug for Extensions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
