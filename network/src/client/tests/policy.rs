//! Which addresses are connected to, and where credentials go.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use profpipe_engine::component::{Extensions, Failure};
use profpipe_engine::settings::Secret;

use super::server::{Server, answer};
use super::token;
use crate::client::{Client, ErrorKind, Request, Resolver};
use crate::settings::{Authentication, ClientSettings};

/// Answers with the addresses of a list, one after the other, then with the last.
struct Names(Vec<IpAddr>, AtomicUsize);

impl Resolver for Names {
    fn resolve(&self, _: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let at = self.1.fetch_add(1, Ordering::Relaxed).min(self.0.len() - 1);
        let address = SocketAddr::new(self.0[at], port);
        Box::pin(async move { Ok(vec![address]) })
    }
}

fn names(addresses: &[&str]) -> Arc<Names> {
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Arc::new(Names(addresses, AtomicUsize::new(0)))
}

/// Scenario: a name that first has an allowed address and then, asked again, the metadata address
/// of a cloud; addresses written as numbers, as IPv6 that means IPv4.
/// Guarantees: the address that is connected to is the one that was checked, every time; forbidden
/// ones are never connected to, and the error says which.
#[tokio::test]
async fn names_that_change_their_mind() {
    let server = Server::start(|_| answer(200, "")).await;
    let checked: Arc<Mutex<Vec<IpAddr>>> = Arc::default();
    let seen = Arc::clone(&checked);
    let policy = move |_: &str, address: IpAddr| {
        seen.lock().unwrap().push(address);
        match address {
            IpAddr::V4(v4) if v4.is_link_local() => Err("which is link-local".to_owned()),
            _ => Ok(()),
        }
    };
    let settings = ClientSettings { disable_keep_alives: true, ..ClientSettings::default() };
    let client = Client::builder(&settings)
        .policy(Arc::new(policy))
        .resolver(names(&["127.0.0.1", "169.254.169.254"]))
        .build(&Extensions::default())
        .unwrap();
    let port = server.address.port();
    let get = |host: &str| Request::get(format!("http://{host}:{port}/").parse().unwrap());
    client.send(get("pull.test")).await.unwrap();
    let error = client.send(get("pull.test")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
    assert!(error.to_string().contains("169.254.169.254, which is link-local"), "{error}");
    for host in ["169.254.169.254", "[::ffff:169.254.169.254]"] {
        let error = client.send(get(host)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Forbidden, "{host}: {error}");
    }
    assert_eq!(server.seen().len(), 1);
    assert_eq!(checked.lock().unwrap().len(), 4);
}

/// Scenario: a name with one dead and one living address.
/// Guarantees: the second is tried.
#[tokio::test]
async fn the_next_address_is_tried() {
    struct Two;
    impl Resolver for Two {
        fn resolve(&self, _: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
            // Nobody listens there: the server has the port at another address.
            let dead = SocketAddr::new("127.0.0.9".parse().unwrap(), port);
            let alive = SocketAddr::new("127.0.0.1".parse().unwrap(), port);
            Box::pin(async move { Ok(vec![dead, alive]) })
        }
    }
    let server = Server::start(|_| answer(200, "")).await;
    let settings = ClientSettings::default();
    let client = Client::builder(&settings).resolver(Arc::new(Two));
    let client = client.build(&Extensions::default()).unwrap();
    let url = format!("http://two.test:{}/", server.address.port());
    client.send(Request::get(url.parse().unwrap())).await.unwrap();
    assert_eq!(server.seen().len(), 1);
}

/// Scenario: credentials for a server that is reached without TLS, here and over a network, with and
/// without saying that this is wanted.
/// Guarantees: over a network they are sent only if it is wanted.
#[tokio::test]
async fn credentials_without_tls() {
    let server = Server::start(|_| answer(200, "")).await;
    let auth = Some(Authentication { authenticator: "token".into() });
    let mut settings = ClientSettings { auth, ..ClientSettings::default() };
    let port = server.address.port();
    let send = async |settings: &ClientSettings, host: &str| {
        let client = Client::builder(settings).resolver(names(&["127.0.0.1"]));
        let client = client.build(&token("s3cret")).unwrap();
        client.send(Request::get(format!("http://{host}:{port}/").parse().unwrap())).await
    };
    let error = send(&settings, "backend.test").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credentials);
    assert!(matches!(Failure::from(error), Failure::Hold { .. }));
    assert!(server.seen().is_empty());
    send(&settings, "localhost").await.unwrap();
    settings.tls.insecure = true;
    send(&settings, "backend.test").await.unwrap();
    assert_eq!(server.seen().len(), 2);
}

/// Scenario: a policy and a proxy.
/// Guarantees: they are not combined, because the proxy would find the address.
#[test]
fn a_policy_does_not_go_with_a_proxy() {
    let proxy_url = Secret::new("http://127.0.0.1:3128");
    let settings = ClientSettings { proxy_url, ..ClientSettings::default() };
    let allow = |_: &str, _: IpAddr| Ok(());
    let client = Client::builder(&settings).policy(Arc::new(allow)).build(&Extensions::default());
    assert!(client.is_err());
}
