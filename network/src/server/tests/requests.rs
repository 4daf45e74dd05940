//! What is answered to which request.

use std::sync::Arc;
use std::time::Duration;

use super::support::{Echo, ask, call, raw, settings, setup, start, start_with};
use crate::settings::server::ServerAuthentication;

/// Scenario: the same path by HTTP/1.1 and gRPC, and paths, methods and types that are not there.
/// Guarantees: each is answered in its own protocol.
#[tokio::test]
async fn routes() {
    let server = start(settings());
    let to = server.address;
    let answer = ask(to, "POST", "/echo", &[], b"hello").await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"hello"[..]));
    assert_eq!(answer.header("x-charge"), "5");
    assert_eq!(ask(to, "POST", "/none", &[], b"hello").await.status, 404);
    let answer = ask(to, "GET", "/echo", &[], b"").await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body[..]),
        (405, &b"this path takes POST only\n"[..])
    );
    assert_eq!(answer.header("allow"), "POST");
    assert_eq!(ask(to, "POST", "/test.Service/Only", &[], b"x").await.status, 415);
    assert_eq!(ask(to, "POST", "/test.Service/Echo", &[], b"x").await.status, 200);

    let answer = call(to, "/test.Service/Echo", &[], b"hello").await;
    assert_eq!((answer.code(), &answer.body[..]), (0, &b"\0\0\0\0\x05hello"[..]));
    assert_eq!(call(to, "/test.Service/None", &[], b"hello").await.code(), 12);
    assert_eq!(call(to, "/echo", &[], b"hello").await.code(), 12);
    assert_eq!(server.budget.used(), 0);
}

/// Scenario: a server that wants credentials, asked with good, bad, missing and repeated ones.
/// Guarantees: 401 or UNAUTHENTICATED before anything else; the tenant is that of the credentials,
/// whatever a header says.
#[tokio::test]
async fn senders_are_authenticated() {
    let mut settings = settings();
    settings.auth = Some(ServerAuthentication { authenticator: "doorman".into() });
    settings.tenant_header = Some("X-Scope-OrgID".into());
    let server = start(settings);
    let to = server.address;
    let good = ("authorization", "letmein");
    let answer = ask(to, "POST", "/echo", &[good, ("x-scope-orgid", "other")], b"x").await;
    assert_eq!((answer.status.as_u16(), answer.header("x-tenant")), (200, "acme"));
    assert_eq!(call(to, "/test.Service/Echo", &[good], b"x").await.code(), 0);
    let bad: [&[(&str, &str)]; 3] = [&[], &[("authorization", "letmeout")], &[good, good]];
    for headers in bad {
        let answer = ask(to, "POST", "/none", headers, b"x").await;
        assert_eq!(answer.status, 401);
        assert!(!answer.header("www-authenticate").is_empty());
        assert!(!String::from_utf8_lossy(&answer.body).contains("letmeout"));
        assert_eq!(call(to, "/test.Service/Echo", headers, b"x").await.code(), 16);
    }
}

/// Scenario: a tenant header that is trusted, with good and bad values; one that is not set.
/// Guarantees: the tenant, or 400; without the setting the header means nothing.
#[tokio::test]
async fn tenants_by_header() {
    let mut trusting = settings();
    trusting.tenant_header = Some("X-Scope-OrgID".into());
    let server = start(trusting);
    let to = server.address;
    let tenant = |value| [("x-scope-orgid", value)];
    let answer = ask(to, "POST", "/echo", &tenant("team-a"), b"x").await;
    assert_eq!(answer.header("x-tenant"), "team-a");
    assert_eq!(ask(to, "POST", "/echo", &[], b"x").await.header("x-tenant"), "");
    // What Grafana's backends take as a tenant.
    let longest = "a".repeat(150);
    for good in ["a!-_.*'()1", &longest] {
        let answer = ask(to, "POST", "/echo", &tenant(good), b"x").await;
        assert_eq!((answer.status.as_u16(), answer.header("x-tenant")), (200, good));
    }
    let long = "a".repeat(151);
    for bad in ["", "..", "../x", "a b", "c|d", &long] {
        assert_eq!(ask(to, "POST", "/echo", &tenant(bad), b"x").await.status, 400, "{bad}");
    }
    let other = start(settings());
    let plain = other.address;
    let answer = ask(plain, "POST", "/echo", &tenant("team-a"), b"x").await;
    assert_eq!((answer.status.as_u16(), answer.header("x-tenant")), (200, ""));
}

/// Scenario: the budget is used up; bodies of a size that fits and of one that does not.
/// Guarantees: 429 with Retry-After or RESOURCE_EXHAUSTED with RetryInfo, before the body is sent;
/// then success as soon as there is room.
#[tokio::test]
async fn no_room_is_said_before_the_body() {
    let server = start(settings());
    let to = server.address;
    let all = server.budget.try_admit(32 << 20).unwrap();
    // The body never comes, and the answer does not wait for it.
    let head =
        "POST /echo HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 1000\r\n\r\n";
    let answer = raw(to, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    let answer = call(to, "/test.Service/Echo", &[], b"hello").await;
    assert_eq!(answer.code(), 8);
    assert!(!answer.header("grpc-status-details-bin").is_empty());
    // A client that does send its body gets to read the answer.
    let answer = ask(to, "POST", "/echo", &[], &vec![1; 700_000]).await;
    assert_eq!(answer.status, 429);
    drop(all);
    assert_eq!(ask(to, "POST", "/echo", &[], b"x").await.status, 200);
    let rest = server.budget.try_admit((32 << 20) - 100_000).unwrap();
    assert_eq!(ask(to, "POST", "/echo", &[], &vec![1; 200_000]).await.status, 429);
    assert_eq!(ask(to, "POST", "/echo", &[], &vec![1; 20_000]).await.status, 200);
    drop(rest);
    assert_eq!(server.budget.used(), 0);
}

/// Scenario: bodies past the limit: announced, sent in chunks, as a message.
/// Guarantees: 413 or RESOURCE_EXHAUSTED without a hint.
#[tokio::test]
async fn too_large() {
    let mut settings = settings();
    (settings.max_body, settings.max_message) = (1000, 500);
    let server = start(settings);
    let to = server.address;
    assert_eq!(ask(to, "POST", "/echo", &[], &[1; 1000]).await.status, 200);
    let answer = ask(to, "POST", "/echo", &[], &[1; 1001]).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (413, ""));
    let chunked =
        "POST /echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunked = format!("{chunked}7d0\r\n{}\r\n0\r\n\r\n", "x".repeat(2000));
    assert!(raw(to, chunked.as_bytes()).await.starts_with("HTTP/1.1 413"));
    let fits = call(to, "/test.Service/Echo", &[], &[1; 500]).await;
    assert_eq!(fits.code(), 0);
    let answer = call(to, "/test.Service/Echo", &[], &[1; 501]).await;
    assert_eq!((answer.code(), answer.header("grpc-status-details-bin")), (8, ""));
}

/// Scenario: codings that are not known.
/// Guarantees: 415 with Accept-Encoding, UNIMPLEMENTED with grpc-accept-encoding.
#[tokio::test]
async fn unknown_codings() {
    let server = start(settings());
    let to = server.address;
    let answer = ask(to, "POST", "/echo", &[("content-encoding", "br")], b"x").await;
    assert_eq!(answer.status, 415);
    assert_eq!(answer.header("accept-encoding"), "gzip, zstd, zlib, deflate");
    let answer = call(to, "/test.Service/Echo", &[("grpc-encoding", "snappy")], b"x").await;
    assert_eq!(answer.code(), 12);
    assert!(answer.header("grpc-accept-encoding").contains("gzip"));
}

/// Scenario: a call with a timeout whose handler takes longer.
/// Guarantees: DEADLINE_EXCEEDED.
#[tokio::test]
async fn deadlines_are_kept() {
    let echo =
        Arc::new(Echo { gate: Some(Arc::new(tokio::sync::Semaphore::new(0))), ..Echo::default() });
    let server = start_with(settings(), echo, &setup());
    let answer = call(server.address, "/test.Service/Echo", &[("grpc-timeout", "50m")], b"x").await;
    assert_eq!(answer.code(), 4);
    tokio::time::timeout(Duration::from_secs(5), async {
        while server.budget.used() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

/// Scenario: health checks of the server, of a service and of one that is not there; of a server without
/// room and with credentials; one whose question is too large.
/// Guarantees: SERVING without credentials or room for profiles; NOT_FOUND; rejected.
#[tokio::test]
async fn health_is_answered() {
    let mut settings = settings();
    settings.auth = Some(ServerAuthentication { authenticator: "doorman".into() });
    let server = start(settings);
    let _all = server.budget.try_admit(32 << 20).unwrap();
    const CHECK: &str = "/grpc.health.v1.Health/Check";
    let service = |name: &str| [&[1 << 3 | 2, name.len() as u8], name.as_bytes()].concat();
    for question in [Vec::new(), service("test.Service")] {
        let answer = call(server.address, CHECK, &[], &question).await;
        assert_eq!((answer.code(), &answer.body[..]), (0, &b"\0\0\0\0\x02\x08\x01"[..]));
    }
    let answer = call(server.address, CHECK, &[], &service("test.Other")).await;
    assert_eq!(answer.code(), 5);
    assert_eq!(call(server.address, CHECK, &[], &[0; 5000]).await.code(), 8);
    assert_eq!(call(server.address, "/grpc.health.v1.Health/List", &[], &[]).await.code(), 12);
}
