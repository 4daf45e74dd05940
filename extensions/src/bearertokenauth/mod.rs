//! The `bearertokenauth` extension: a token that proves who sends, in both directions.
//!
//! A receiver that names it accepts every token it knows, and the tenant that the token belongs to
//! becomes the tenant of the batch. An exporter that names it sends the first token. Tokens in files
//! are read again when the files change, so that they can be rotated: put the new one beside the old
//! one, move the senders, take the old one away.

mod config;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderName, HeaderValue};
use profpipe_engine::component::{
    ClientAuth, Error, Extension, Factory, Identity, Lifecycle, ServerAuth, Stability,
};
use profpipe_engine::settings::Secret;

use crate::credentials::{Fingerprint, after_scheme, only};
use crate::watched::{Watched, read_secret};

pub use config::{Config, Source};

/// How the component is registered.
pub const FACTORY: Factory = Factory::extension::<Config>(
    "bearertokenauth",
    Stability::Beta,
    "proves and checks who sends by a token",
)
.with_aliases(&["bearer_token_auth"]);

struct BearerTokenAuth {
    id: String,
    header: HeaderName,
    scheme: String,
    tokens: Watched<Tokens>,
}

/// The tokens as they are now.
struct Tokens {
    /// What exporters send.
    first: Option<Secret>,
    known: Vec<(Fingerprint, Option<Arc<str>>)>,
}

impl BearerTokenAuth {
    fn new(config: Config, id: &str) -> Result<Self, Error> {
        let header = HeaderName::from_bytes(config.header.as_bytes())
            .map_err(|_| Error::new(format!("`{}` is not the name of a header", config.header)))?;
        let Config { token, tokens, filename, .. } = config;
        let mut sources = vec![(None, Source { token, tokens, filename })];
        for (tenant, source) in config.tenants {
            sources.push((Some(Arc::from(tenant)), source));
        }
        let files = sources.iter().filter_map(|(_, source)| source.filename.clone());
        let files: Vec<PathBuf> = files.collect();
        let tokens = Watched::new(files, move || Tokens::read(&sources))?;
        Ok(Self { id: id.to_owned(), header, scheme: config.scheme, tokens })
    }
}

impl Tokens {
    fn read(sources: &[(Option<Arc<str>>, Source)]) -> Result<Self, Error> {
        let mut tokens = Self { first: None, known: Vec::new() };
        for (tenant, source) in sources {
            for token in source.read()? {
                if HeaderValue::from_str(token.expose()).is_err() {
                    return Err(Error::new("a token holds characters that no header may have"));
                }
                let fingerprint = Fingerprint::of(token.expose().as_bytes());
                if tokens.known.iter().any(|(other, of)| *other == fingerprint && of != tenant) {
                    return Err(Error::new("one token belongs to two tenants"));
                }
                tokens.known.push((fingerprint, tenant.clone()));
                tokens.first.get_or_insert(token);
            }
        }
        if tokens.known.is_empty() {
            return Err(Error::new("there is no token; set `token`, `tokens` or `filename`"));
        }
        Ok(tokens)
    }
}

impl Source {
    /// All of its tokens. An empty one would let everybody in, so it is none.
    fn read(&self) -> Result<Vec<Secret>, Error> {
        let mut tokens = Vec::new();
        if let Some(file) = &self.filename {
            let text = read_secret(file)?;
            let lines = text.expose().lines().map(str::trim).filter(|line| !line.is_empty());
            tokens.extend(lines.map(Secret::new));
            if tokens.is_empty() {
                return Err(Error::new(format!("there is no token in {}", file.display())));
            }
        }
        let inline = std::iter::once(&self.token).chain(&self.tokens);
        tokens.extend(inline.filter(|token| !token.is_empty()).cloned());
        Ok(tokens)
    }
}

#[async_trait]
impl Extension for BearerTokenAuth {
    async fn run(self: Arc<Self>, life: Lifecycle) -> Result<(), Error> {
        self.tokens.keep_up(&self.id, life).await;
        Ok(())
    }

    fn client_auth(&self) -> Option<&dyn ClientAuth> {
        Some(self)
    }

    fn server_auth(&self) -> Option<&dyn ServerAuth> {
        Some(self)
    }
}

impl ClientAuth for BearerTokenAuth {
    fn headers(&self) -> Result<Vec<(String, Secret)>, Error> {
        let tokens = self.tokens.get();
        let token = tokens.first.as_ref().ok_or_else(|| Error::new("there is no token"))?;
        let value = match self.scheme.as_str() {
            "" => token.clone(),
            scheme => Secret::new(format!("{scheme} {}", token.expose())),
        };
        Ok(vec![(self.header.as_str().to_owned(), value)])
    }
}

impl ServerAuth for BearerTokenAuth {
    fn header(&self) -> &str {
        self.header.as_str()
    }

    fn challenge(&self) -> &str {
        if self.scheme.is_empty() { "Bearer" } else { &self.scheme }
    }

    fn authenticate(&self, values: &[&[u8]]) -> Result<Identity, Error> {
        let value = only(self.header.as_str(), values)?;
        let token = after_scheme(value, &self.scheme)
            .ok_or_else(|| Error::new(format!("the scheme is not `{}`", self.scheme)))?;
        let sent = Fingerprint::of(token);
        // All are compared, whichever is right, so that the time says nothing.
        let tokens = self.tokens.get();
        let mut found = None;
        for (known, tenant) in &tokens.known {
            if bool::from(known.same(&sent)) {
                found = Some(tenant.clone());
            }
        }
        let tenant = found.ok_or_else(|| Error::new("the token is not known"))?;
        Ok(Identity { tenant })
    }
}
