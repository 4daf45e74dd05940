//! Requests over HTTP: what arrives, what is read of answers, what goes wrong.

use std::time::Duration;

use bytes::Bytes;
use http::Version;
use profpipe_engine::component::{Extensions, Failure};
use profpipe_engine::settings::Secret;

use super::server::{Server, answer, pieces};
use super::{client, token};
use crate::client::{Client, ErrorKind, MAX_ERROR_TEXT, Payload, Request};
use crate::settings::{Authentication, ClientSettings};

/// Scenario: two requests, with headers of their own, of the settings and of an extension.
/// Guarantees: one connection; the body arrives whole; the settings win over the request and the
/// extension over both; we say who we are.
#[tokio::test]
async fn a_request_arrives() {
    let server = Server::start(|_| answer(200, "done")).await;
    let mut settings = ClientSettings::default();
    settings.headers.insert("X-Scope-OrgID", Secret::new("team"));
    settings.headers.insert("authorization", Secret::new("of the settings"));
    settings.auth = Some(Authentication { authenticator: "token".into() });
    let client = Client::builder(&settings).build(&token("s3cret")).unwrap();
    for _ in 0..2 {
        let body = Payload::two(Bytes::from_static(b"head"), Bytes::from_static(b"tail"));
        let request = Request::post(server.url("/a?b=c"), body).header("x-scope-orgid", "other");
        let response = client.send(request).await.unwrap();
        assert_eq!((response.status.as_u16(), &response.body[..]), (200, &b"done"[..]));
        assert!(!response.truncated);
    }
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    for seen in seen {
        assert_eq!((seen.connection, seen.version), (0, Version::HTTP_11));
        assert_eq!((seen.method.as_str(), seen.uri.as_str()), ("POST", "/a?b=c"));
        assert_eq!(&seen.body[..], b"headtail");
        assert_eq!(seen.headers["x-scope-orgid"], "team");
        assert_eq!(seen.headers["authorization"], "Bearer s3cret");
        assert_eq!(seen.headers["content-length"], "8");
        let agent = seen.headers["user-agent"].to_str().unwrap();
        assert!(agent.starts_with("profpipe/"), "{agent}");
    }
}

/// Scenario: an answer in pieces, one that sends us elsewhere, one whose server is silent; each read
/// piece by piece.
/// Guarantees: the pieces are the body, whatever their number; the redirect is refused, the silence
/// ends in time.
#[tokio::test]
async fn an_answer_comes_piece_by_piece() {
    let server = Server::start(|seen| match seen.uri.as_str() {
        "/elsewhere" => {
            let mut answer = answer(302, "");
            answer.headers_mut().insert("location", "http://elsewhere.example/x".parse().unwrap());
            answer
        }
        _ => pieces(vec![Bytes::from(vec![1; 100_000]), Bytes::from_static(b"end")], None),
    })
    .await;
    let client = client(&ClientSettings::default());
    let mut stream = client.open(Request::get(server.url("/"))).await.unwrap();
    assert_eq!((stream.status.as_u16(), stream.length()), (200, None));
    let mut body = Vec::new();
    while let Some(piece) = stream.piece().await.unwrap() {
        body.extend_from_slice(&piece);
    }
    assert_eq!((body.len(), &body[100_000..]), (100_003, &b"end"[..]));

    let error = client.open(Request::get(server.url("/elsewhere"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Redirect);
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let mut request = Request::get(url.parse().unwrap());
    request.timeout = Some(Duration::from_millis(50));
    assert_eq!(client.open(request).await.unwrap_err().kind(), ErrorKind::Timeout);
}

/// Scenario: keep-alive is switched off.
/// Guarantees: every request has a connection of its own.
#[tokio::test]
async fn connections_are_not_kept() {
    let server = Server::start(|_| answer(200, "")).await;
    let client = client(&ClientSettings { disable_keep_alives: true, ..ClientSettings::default() });
    for _ in 0..3 {
        client.send(Request::get(server.url("/"))).await.unwrap();
    }
    let connections: Vec<_> = server.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 1, 2]);
}

/// Scenario: answers without end, one of success and one of an error.
/// Guarantees: only so much is read as is allowed, and the client says that there was more.
#[tokio::test]
async fn answers_are_capped() {
    let server = Server::start(|seen| {
        let mut many = pieces(vec![Bytes::from(vec![b'x'; 60_000]); 50], None);
        if seen.uri == "/error" {
            *many.status_mut() = http::StatusCode::BAD_GATEWAY;
        }
        many
    })
    .await;
    let client = client(&ClientSettings::default());
    let mut request = Request::get(server.url("/"));
    request.max_response = 100_000;
    let response = client.send(request).await.unwrap();
    assert_eq!((response.body.len(), response.truncated), (100_000, true));
    let response = client.send(Request::get(server.url("/error"))).await.unwrap();
    assert_eq!((response.body.len(), response.truncated), (MAX_ERROR_TEXT, true));
    let mut request = Request::get(server.url("/"));
    request.max_response = 3_000_000;
    let response = client.send(request).await.unwrap();
    assert_eq!((response.body.len(), response.truncated), (3_000_000, false));
}

/// Scenario: a server that redirects, to another host and to another path.
/// Guarantees: nothing follows; the error names the host and nothing else of the address; the batch is
/// held, because the configuration is wrong.
#[tokio::test]
async fn redirects_are_errors() {
    let server = Server::start(|seen| {
        let mut redirect = answer(307, "");
        let to = match seen.uri.as_str() {
            "/far" => "http://metadata.test/latest?token=s3cret",
            _ => "/elsewhere",
        };
        redirect.headers_mut().insert("location", to.parse().unwrap());
        redirect
    })
    .await;
    let client = client(&ClientSettings::default());
    let error = client.send(Request::get(server.url("/far"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Redirect);
    let text = error.to_string();
    assert!(text.contains("to metadata.test") && !text.contains("s3cret"), "{text}");
    assert!(matches!(Failure::from(error), Failure::Hold { .. }));
    let error = client.send(Request::get(server.url("/near"))).await.unwrap_err();
    assert!(error.to_string().contains("to another path"));
    assert_eq!(server.seen().len(), 2);
}

/// Scenario: no server listens; a server that accepts and is silent; one that cuts the connection
/// after some bytes of its answer.
/// Guarantees: each is an error of its kind, after which a batch is tried again.
#[tokio::test]
async fn no_answer() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let client = client(&ClientSettings::default());
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let mut request = Request::get(format!("http://{address}/").parse().unwrap());
    request.timeout = Some(Duration::from_millis(50));
    let error = client.send(request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    drop(silent);
    let closed = Request::get(format!("http://{address}/").parse().unwrap());
    let error = client.send(closed).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(matches!(Failure::from(error), Failure::Retry { .. }));

    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n01234567890123456789";
    for cut in 0..answer.len() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1000];
            let _ = stream.read(&mut buffer).await.unwrap();
            stream.write_all(&answer[..cut]).await.unwrap();
        };
        let request = Request::get(format!("http://{address}/").parse().unwrap());
        let (response, ()) = tokio::join!(client.send(request), server);
        let error = response.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Broken, "{cut}: {error}");
    }
}

/// Scenario: an extension that has no credentials now, one that is not there, and one that has none
/// to give.
/// Guarantees: no request leaves without them, and the text of the problem names the extension.
#[tokio::test]
async fn no_credentials() {
    let server = Server::start(|_| answer(200, "")).await;
    let auth = Some(Authentication { authenticator: "token".into() });
    let settings = ClientSettings { auth, ..ClientSettings::default() };
    let client = Client::builder(&settings).build(&token("")).unwrap();
    let error = client.send(Request::get(server.url("/"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credentials);
    assert!(error.to_string().contains("`token`"), "{error}");
    assert!(server.seen().is_empty());
    let missing = Client::builder(&settings).build(&Extensions::default());
    assert!(missing.unwrap_err().to_string().contains("`token`"));
}

/// Scenario: plain HTTP and TLS-less gRPC go through a proxy that wants a login.
/// Guarantees: the proxy gets the whole address and its login.
#[tokio::test]
async fn through_a_proxy() {
    let proxy = Server::start(|_| answer(200, "from the proxy")).await;
    let proxy_url = Secret::new(format!("http://user:pa%20ss@{}", proxy.address));
    let client = client(&ClientSettings { proxy_url, ..ClientSettings::default() });
    let url = "http://backend.test:4318/path".parse().unwrap();
    let response = client.send(Request::get(url)).await.unwrap();
    assert_eq!(&response.body[..], b"from the proxy");
    let seen = &proxy.seen()[0];
    assert_eq!(seen.uri, "http://backend.test:4318/path");
    assert_eq!(seen.headers["proxy-authorization"], "Basic dXNlcjpwYSBzcw==");
}

/// Scenario: secrets in every place of the settings, printed, and in errors.
/// Guarantees: none is seen.
#[tokio::test]
async fn secrets_are_not_seen() {
    let mut settings = ClientSettings::new("http://127.0.0.1:9");
    settings.headers.insert("x-api-key", Secret::new("s3cret"));
    settings.headers.insert("x-broken", Secret::new("s3cret\n"));
    settings.proxy_url = Secret::new("http://u:s3cret@127.0.0.1:9");
    settings.tls.key_pem = Some(Secret::new("s3cret"));
    let printed = format!("{settings:?}");
    assert!(!printed.contains("s3cret"), "{printed}");
    let error = Client::builder(&settings).build(&Extensions::default()).unwrap_err();
    assert!(!error.chain().contains("s3cret"), "{}", error.chain());
    settings.headers = crate::settings::Headers::default();
    let proxied =
        client(&ClientSettings { tls: crate::settings::ClientTls::default(), ..settings });
    let error =
        proxied.send(Request::get("http://127.0.0.1:9/".parse().unwrap())).await.unwrap_err();
    assert!(!format!("{error} {error:?} {proxied:?}").contains("s3cret"));
}
