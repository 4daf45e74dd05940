//! Calls over gRPC.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Version};
use profpipe_engine::component::{Extensions, Failure};

use super::server::{Answer, Server, answer, pieces};
use crate::client::{CallError, Client, ErrorKind, compress, decompress};
use crate::grpc::{Code, Status, retry_delay, status};
use crate::settings::{ClientSettings, Compression};

const PATH: &str = "/package.Service/Method";

fn framed(message: &[u8], compressed: bool) -> Bytes {
    let length = (message.len() as u32).to_be_bytes();
    [&[u8::from(compressed)][..], &length, message].concat().into()
}

fn grpc(body: Vec<Bytes>, status: Option<Status>) -> Answer {
    let trailers = status.map(|status| headers(&status));
    let mut answer = pieces(body, trailers);
    answer.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    answer
}

fn headers(status: &Status) -> HeaderMap {
    let mut headers = status.clone().into_http::<()>().into_parts().0.headers;
    headers.remove("content-type");
    headers
}

fn ok() -> Option<Status> {
    Some(Status::new(Code::Ok, ""))
}

async fn call(
    settings: &ClientSettings,
    server: &Server,
    message: &[u8],
) -> Result<Bytes, CallError> {
    let client = Client::builder(settings).grpc().build(&Extensions::default()).unwrap();
    let message = Bytes::copy_from_slice(message);
    client.call(server.url(PATH), message, HeaderMap::new(), Some(Duration::from_secs(5))).await
}

/// Scenario: a call with each way of compressing.
/// Guarantees: HTTP/2, the headers of the specification, one frame, and the answer's message.
#[tokio::test]
async fn a_call() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let server = Server::start(|_| {
            let body = framed(b"the answer", false);
            grpc(vec![body.slice(..3), body.slice(3..)], ok())
        })
        .await;
        let settings = ClientSettings { compression, ..ClientSettings::default() };
        let answer = call(&settings, &server, &[7; 5000]).await.unwrap();
        assert_eq!(&answer[..], b"the answer");
        let seen = &server.seen()[0];
        assert_eq!((seen.version, seen.method.as_str()), (Version::HTTP_2, "POST"));
        assert!(seen.uri.ends_with(PATH), "{}", seen.uri);
        assert_eq!(seen.headers["content-type"], "application/grpc");
        assert_eq!(seen.headers["te"], "trailers");
        assert_eq!(seen.headers["grpc-timeout"], "5000000u");
        let encoding = seen.headers.get("grpc-encoding").map(|name| name.to_str().unwrap());
        assert_eq!(encoding, compression.name());
        let message = seen.body.slice(5..);
        assert_eq!(seen.body, framed(&message, compression != Compression::None));
        assert_eq!(&decompress(&message, compression, 5000).unwrap()[..], [7; 5000]);
    }
}

/// Scenario: errors in trailers, without a message, from a proxy, and answers that break off.
/// Guarantees: each is the status that the specification makes of it; what broke off may be tried
/// again.
#[tokio::test]
async fn errors_of_calls() {
    let busy = || status(Code::ResourceExhausted, "busy", Some(Duration::from_secs(3)));
    let server = Server::start(move |seen| match &seen.body[5..] {
        b"trailers" => grpc(vec![], Some(busy())),
        b"only headers" => {
            let mut answer = grpc(vec![], None);
            answer.headers_mut().extend(headers(&busy()));
            answer
        }
        b"proxy" => answer(502, "<html>\x1b[31mbad\ngateway"),
        b"small proxy" => answer(413, ""),
        b"another service" => answer(404, "no such page"),
        b"web page" => answer(200, "<html>"),
        b"no status" => grpc(vec![framed(b"x", false)], None),
        _ => grpc(vec![], Some(Status::new(Code::Unknown, "?"))),
    })
    .await;
    let settings = ClientSettings::default();
    for how in ["trailers", "only headers"] {
        match call(&settings, &server, how.as_bytes()).await.unwrap_err() {
            CallError::Status(status) => {
                assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "busy"));
                assert_eq!(retry_delay(&status), Some(Duration::from_secs(3)), "{how}");
            }
            error => panic!("{how}: {error}"),
        }
    }
    for (how, code) in [
        ("proxy", Code::Unavailable),
        ("another service", Code::Unimplemented),
        ("web page", Code::Unknown),
    ] {
        match call(&settings, &server, how.as_bytes()).await.unwrap_err() {
            CallError::Status(status) => {
                assert_eq!(status.code(), code, "{how}");
                assert!(!status.message().contains(['\x1b', '\n']), "{status}");
            }
            error => panic!("{how}: {error}"),
        }
    }
    let small = call(&settings, &server, b"small proxy").await.unwrap_err();
    assert!(matches!(Failure::from(small), Failure::TooLarge { .. }));
    match call(&settings, &server, b"no status").await.unwrap_err() {
        CallError::Client(error) => {
            assert_eq!(error.kind(), ErrorKind::Broken);
            assert!(matches!(Failure::from(error), Failure::Retry { .. }));
        }
        error => panic!("{error}"),
    }
}

/// Scenario: answers whose message is compressed, compressed in an unknown way, too large unpacked,
/// cut, or missing.
/// Guarantees: the call has succeeded in each case; what cannot be read is empty.
#[tokio::test]
async fn answers_that_cannot_be_read() {
    let server = Server::start(|seen| {
        let packed = |body: &Bytes, how| framed(&compress(body, how, 1).unwrap(), true);
        let small = Bytes::from_static(b"small");
        let large = Bytes::from(vec![0; 32 << 20]);
        let (encoding, body) = match &seen.body[5..] {
            b"gzip" => ("gzip", packed(&small, Compression::Gzip)),
            b"zstd" => ("zstd", packed(&small, Compression::Zstd)),
            b"snappy" => ("snappy", framed(b"?", true)),
            b"bomb" => ("gzip", packed(&large, Compression::Gzip)),
            b"cut" => ("identity", framed(b"small", false).slice(..7)),
            _ => ("identity", Bytes::new()),
        };
        let mut answer = grpc(vec![body], ok());
        answer.headers_mut().insert("grpc-encoding", encoding.parse().unwrap());
        answer
    })
    .await;
    let settings = ClientSettings::default();
    for (how, expected) in
        [("gzip", "small"), ("zstd", "small"), ("snappy", ""), ("bomb", ""), ("cut", ""), ("-", "")]
    {
        let answer = call(&settings, &server, how.as_bytes()).await.unwrap();
        assert_eq!(&answer[..], expected.as_bytes(), "{how}");
    }
}

/// Scenario: a name for the server that is not that of its address.
/// Guarantees: the connection goes to the address, the request has the name.
#[tokio::test]
async fn another_authority() {
    let server = Server::start(|_| grpc(vec![], ok())).await;
    let mut settings = ClientSettings::new(format!("http://{}", server.address));
    settings.authority = "profiles.test".into();
    call(&settings, &server, b"").await.unwrap();
    assert_eq!(server.seen()[0].uri, format!("http://profiles.test{PATH}"));
}

/// Scenario: errors whose text is not UTF-8, whose details are not base64 or none, and that come with a
/// message or a status of HTTP.
/// Guarantees: the code of the status, whatever comes along.
#[tokio::test]
async fn errors_that_cannot_be_read() {
    let server = Server::start(|seen| {
        let kind = &seen.body[5..];
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "14".parse().unwrap());
        trailers.insert("grpc-message", "later%ff".parse().unwrap());
        trailers.insert("grpc-status-details-bin", "%%%".parse().unwrap());
        if kind == b"details" {
            trailers.insert("grpc-status-details-bin", "AAAA".parse().unwrap());
        }
        let body =
            if kind == b"body" { vec![framed(b"x", false), Bytes::from("y")] } else { vec![] };
        let mut answer = if kind == b"headers" {
            let mut answer = grpc(body, None);
            answer.headers_mut().extend(trailers);
            answer
        } else {
            let mut answer = pieces(body, Some(trailers));
            answer.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
            answer
        };
        if kind == b"http" {
            *answer.status_mut() = http::StatusCode::BAD_GATEWAY;
        }
        answer
    })
    .await;
    for how in ["trailers", "headers", "details", "body", "http"] {
        let error = call(&ClientSettings::default(), &server, how.as_bytes()).await.unwrap_err();
        match &error {
            CallError::Status(status) => {
                assert_eq!((status.code(), status.message()), (Code::Unavailable, "later\u{fffd}"));
            }
            error => panic!("{how}: {error}"),
        }
        assert!(matches!(Failure::from(error), Failure::Retry { after: None, .. }), "{how}");
    }
}
