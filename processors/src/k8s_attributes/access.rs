//! How the API server is reached: from inside a pod, by a kubeconfig file, or as the configuration
//! says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Uri};
use profpipe_engine::component::{Error, Extensions};
use profpipe_engine::config::Section;
use profpipe_engine::settings::{self, Secret};
use profpipe_network::client::{Client, ClientError, Request, Stream};
use profpipe_network::settings::{ClientSettings, Keepalive};
use serde::Deserialize;

use super::config::{AuthType, Config};

/// Where a pod finds what its service account may show.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long the head of an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long an HTTP/2 connection may be silent before it is asked whether it lives, and how long it may
/// take to answer.
const PING: settings::Duration = settings::Duration::from_secs(30);
const PONG: settings::Duration = settings::Duration::from_secs(15);
/// The largest kubeconfig file, and the largest token.
const MAX_FILE: u64 = 1 << 20;

/// The API server, and how to talk to it.
#[derive(Debug)]
pub(super) struct Access {
    base: String,
    client: Client,
    token: Token,
}

/// What shows who we are, beside a certificate.
#[derive(Debug, Clone)]
enum Token {
    None,
    Text(Secret),
    /// Read for every request: tokens change every hour.
    File(PathBuf),
    Basic(Secret),
}

impl Access {
    /// As the configuration says.
    ///
    /// # Errors
    /// If this is no pod, or the kubeconfig file is not what it should be.
    pub(super) fn of(config: &Config) -> Result<Self, Error> {
        let mut client = ClientSettings::new(String::new());
        client.tls = config.tls.clone();
        // A watch may be silent for long; this tells whether anybody is there.
        client.keepalive =
            Some(Keepalive { time: PING, timeout: PONG, permit_without_stream: false });
        let mut base = config.api_server.clone();
        let mut token = Token::None;
        match config.auth_type {
            AuthType::None => {}
            AuthType::ServiceAccount => {
                let is_pod = Path::new(ACCOUNT).exists();
                if is_pod {
                    client.tls.ca_file.get_or_insert(Path::new(ACCOUNT).join("ca.crt"));
                    token = Token::File(Path::new(ACCOUNT).join("token"));
                }
                if base.is_empty() {
                    base = own_cluster()?;
                }
            }
            AuthType::KubeConfig => {
                let file = config.kubeconfig.clone().map_or_else(usual_file, Ok)?;
                let known = kubeconfig(&file, &config.context).map_err(|error| {
                    Error::with_source(format!("{} cannot be used", file.display()), error)
                })?;
                if base.is_empty() {
                    base = known.server;
                }
                let tls = &mut client.tls;
                if tls.ca_file.is_none() && tls.ca_pem.is_none() {
                    (tls.ca_file, tls.ca_pem) = known.authority;
                }
                if tls.cert_file.is_none() && tls.cert_pem.is_none() {
                    (tls.cert_file, tls.cert_pem) = known.certificate;
                    (tls.key_file, tls.key_pem) = known.key;
                }
                tls.insecure_skip_verify |= known.skip_verify;
                if tls.server_name_override.is_none() {
                    tls.server_name_override = known.server_name;
                }
                token = known.token;
            }
        }
        if let Some(file) = &config.bearer_token_file {
            token = Token::File(file.clone());
        }
        let client = Client::builder(&client).build(&Extensions::default())?;
        Ok(Self { base: base.trim_end_matches('/').to_owned(), client, token })
    }

    /// Asks for a path and reads the head of the answer.
    ///
    /// # Errors
    /// If there is no answer or the token cannot be read.
    pub(super) async fn get(&self, path: &str, accept: &'static str) -> Result<Stream, Error> {
        let uri: Uri = format!("{}{path}", self.base)
            .parse()
            .map_err(|cause| Error::with_source("the API server has no valid address", cause))?;
        let mut request = Request::get(uri).header("accept", accept);
        let credentials = match &self.token {
            Token::None => None,
            Token::Text(token) => Some(format!("Bearer {}", token.expose())),
            Token::File(file) => Some(format!("Bearer {}", text_of(file)?.trim())),
            Token::Basic(pair) => Some(format!("Basic {}", STANDARD.encode(pair.expose()))),
        };
        if let Some(credentials) = credentials {
            let mut value = HeaderValue::try_from(credentials)
                .map_err(|_| Error::new("the token's file holds no token"))?;
            value.set_sensitive(true);
            request.headers.insert(AUTHORIZATION, value);
        }
        request.timeout = Some(TIMEOUT);
        self.client.open(request).await.map_err(ClientError::into_cause)
    }
}

/// The API server of the cluster that this pod is in.
fn own_cluster() -> Result<String, Error> {
    let of = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    match (of("KUBERNETES_SERVICE_HOST"), of("KUBERNETES_SERVICE_PORT")) {
        (Some(host), Some(port)) if host.contains(':') => Ok(format!("https://[{host}]:{port}")),
        (Some(host), Some(port)) => Ok(format!("https://{host}:{port}")),
        _ => Err(Error::new(
            "this is not a pod of a cluster; set `auth_type: kubeConfig`, or `api_server`",
        )),
    }
}

fn text_of(file: &Path) -> Result<String, Error> {
    let cannot = |cause| Error::with_source(format!("cannot read {}", file.display()), cause);
    let length = std::fs::metadata(file).map_err(cannot)?.len();
    if length > MAX_FILE {
        return Err(Error::new(format!("{} is larger than {MAX_FILE} bytes", file.display())));
    }
    std::fs::read_to_string(file).map_err(cannot)
}

/// The file that kubectl would take.
fn usual_file() -> Result<PathBuf, Error> {
    let named = std::env::var_os("KUBECONFIG").filter(|named| !named.is_empty());
    if let Some(named) = named {
        let first = std::env::split_paths(&named).find(|file| file.exists());
        return first.ok_or_else(|| Error::new("none of the files of KUBECONFIG is there"));
    }
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    let home = home.ok_or_else(|| Error::new("set `kubeconfig`: there is no home directory"))?;
    Ok(Path::new(&home).join(".kube/config"))
}

/// What a kubeconfig file says of one context.
#[derive(Debug)]
struct KubeconfigContext {
    server: String,
    authority: (Option<PathBuf>, Option<Secret>),
    certificate: (Option<PathBuf>, Option<Secret>),
    key: (Option<PathBuf>, Option<Secret>),
    skip_verify: bool,
    server_name: Option<String>,
    token: Token,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct File {
    current_context: String,
    contexts: Vec<Named<ContextEntry>>,
    clusters: Vec<Named<ClusterEntry>>,
    users: Vec<Named<UserEntry>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named<T> {
    name: String,
    #[serde(alias = "context", alias = "cluster", alias = "user")]
    value: T,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContextEntry {
    cluster: String,
    user: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct ClusterEntry {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    insecure_skip_tls_verify: bool,
    tls_server_name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct UserEntry {
    token: Option<Secret>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    username: Option<String>,
    password: Option<Secret>,
    exec: Option<serde_json::Value>,
    auth_provider: Option<serde_json::Value>,
}

fn kubeconfig(path: &Path, context: &str) -> Result<KubeconfigContext, Error> {
    let text = text_of(path)?;
    // There are keys in it that we do not know; the file holds secrets, so that only what is wrong is
    // told, not what stands there.
    let broken = |why: String| Error::new(format!("it is not a kubeconfig file: {why}"));
    let tree = Section::from_yaml(&text).and_then(|section| section.read::<serde_json::Value>());
    let tree = tree.map_err(|errors| {
        let line = errors.first().map_or(0, |error| error.line);
        broken(format!("line {line} is not YAML"))
    })?;
    let file: File = serde_json::from_value(tree)
        .map_err(|_| broken("a key has a value of the wrong type".to_owned()))?;
    let context = if context.is_empty() { &file.current_context } else { context };
    let entry = named(&file.contexts, "context", context)?;
    let cluster = named(&file.clusters, "cluster", &entry.cluster)?;
    let user = named(&file.users, "user", &entry.user)?;
    if user.exec.is_some() || user.auth_provider.is_some() {
        return Err(Error::new(format!(
            "the user `{}` gets its credentials from another program, which is not supported; use \
             `bearer_token_file`",
            entry.user
        )));
    }
    let beside = |file: &Option<PathBuf>| {
        file.as_ref().map(|file| path.parent().map_or_else(|| file.clone(), |at| at.join(file)))
    };
    let decoded = |what: &str, data: &Option<String>| -> Result<Option<Secret>, Error> {
        let Some(data) = data.as_deref().filter(|data| !data.is_empty()) else { return Ok(None) };
        let broken = || Error::new(format!("`{what}` is not text in base64"));
        let bytes = STANDARD.decode(data.trim()).map_err(|_| broken())?;
        String::from_utf8(bytes).map(|text| Some(Secret::new(text))).map_err(|_| broken())
    };
    // Data goes before files, as in kubectl.
    let pair = |what: &str, file: &Option<PathBuf>, data: &Option<String>| {
        decoded(what, data).map(|data| match data {
            Some(data) => (None, Some(data)),
            None => (beside(file), None),
        })
    };
    let token = match (&user.token, &user.token_file, &user.username) {
        (_, Some(file), _) => Token::File(beside(&Some(file.clone())).unwrap_or_default()),
        (Some(token), None, _) => Token::Text(token.clone()),
        (None, None, Some(name)) => {
            let password = user.password.as_ref().map_or("", |password| password.expose());
            Token::Basic(Secret::new(format!("{name}:{password}")))
        }
        (None, None, None) => Token::None,
    };
    Ok(KubeconfigContext {
        server: cluster.server.clone(),
        authority: pair(
            "certificate-authority-data",
            &cluster.certificate_authority,
            &cluster.certificate_authority_data,
        )?,
        certificate: pair(
            "client-certificate-data",
            &user.client_certificate,
            &user.client_certificate_data,
        )?,
        key: pair("client-key-data", &user.client_key, &user.client_key_data)?,
        skip_verify: cluster.insecure_skip_tls_verify,
        server_name: cluster.tls_server_name.clone(),
        token,
    })
}

fn named<'a, T>(list: &'a [Named<T>], what: &str, name: &str) -> Result<&'a T, Error> {
    let found = list.iter().find(|entry| entry.name == name).map(|entry| &entry.value);
    found.ok_or_else(|| Error::new(format!("it has no {what} `{name}`")))
}
