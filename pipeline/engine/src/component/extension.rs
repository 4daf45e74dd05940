//! What serves components without being on the way of the data: credentials, storage, endpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::symbols::SymbolStorage;
use super::{Error, Lifecycle};
use crate::settings::Secret;
use crate::storage::StoragePlace;

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

    /// Where binaries and debug files are kept that others bring.
    fn symbol_storage(&self) -> Option<Arc<dyn SymbolStorage>> {
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
    /// Keeping symbols: [`Extension::symbol_storage`].
    SymbolStorage,
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
    /// What the name of a tenant is made of, for people.
    pub const TENANT_RULE: &str = "1 to 150 letters, digits and `!-_.*'()`";

    /// Whether a text may be the name of a tenant, by the rules of Grafana's backends: letters, digits
    /// and `!-_.*'()`, at most 150, and not only dots. Such a name is safe in a header, a label and a
    /// path.
    pub fn is_tenant(name: &str) -> bool {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!-_.*'()".contains(&byte);
        (1..=150).contains(&name.len())
            && name.bytes().all(allowed)
            && name.bytes().any(|byte| byte != b'.')
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

    /// The storage of symbols that an extension has.
    ///
    /// # Errors
    /// If it is not there, or is of another kind.
    pub fn symbol_storage(&self, id: &str) -> Result<Arc<dyn SymbolStorage>, Error> {
        let problem = || Error::new(format!("the extension `{id}` keeps no symbols"));
        self.get(id)?.symbol_storage().ok_or_else(problem)
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
