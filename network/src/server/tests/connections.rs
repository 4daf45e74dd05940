//! Connections that do nothing, too much, or nonsense.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::support::{Echo, ask, collect, http2, raw, request, settings, setup, start, start_with};

/// Scenario: clients that connect and say nothing, send half a header, send nonsense, or too many
/// headers.
/// Guarantees: all are closed in time; an honest client is served all along.
#[tokio::test]
async fn dead_connections_are_closed() {
    let mut settings = settings();
    settings.header_timeout = Duration::from_millis(200);
    let server = start(settings);
    let to = server.address;
    let many = format!(
        "POST /echo HTTP/1.1\r\nhost: x\r\n{}\r\n",
        (0..200).map(|at| format!("h{at}: 1\r\n")).collect::<String>()
    );
    let long = format!("POST /echo HTTP/1.1\r\nhost: x\r\nh: {}\r\n\r\n", "x".repeat(100_000));
    let cases: [&[u8]; 6] = [
        b"",
        b"PO",
        b"POST /echo HTTP/1.1\r\nhost: x\r\nx-half",
        b"\x16\x03\x01nonsense\r\n\r\n",
        many.as_bytes(),
        long.as_bytes(),
    ];
    let talks = cases.map(|bytes| raw(to, bytes));
    let answers = timeout(Duration::from_secs(10), futures_util::future::join_all(talks));
    let honest = ask(to, "POST", "/echo", &[], b"x");
    let (answers, honest) = tokio::join!(answers, honest);
    assert_eq!(honest.status, 200);
    for (answer, case) in answers.unwrap().iter().zip(cases) {
        assert!(!answer.contains(" 200 "), "{case:?}: {answer}");
    }
}

/// Scenario: a connection is used, then quiet for longer than it may be, by HTTP/1.1 and HTTP/2.
/// Guarantees: it is closed, politely; one that is quiet for less long goes on.
#[tokio::test]
async fn quiet_connections_are_closed() {
    let mut settings = settings();
    settings.idle_timeout = Duration::from_millis(400);
    settings.header_timeout = Duration::from_millis(100);
    let server = start(settings);
    let to = server.address;
    let mut stream = TcpStream::connect(to).await.unwrap();
    let ask = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi";
    for _ in 0..3 {
        stream.write_all(ask).await.unwrap();
        let mut buffer = vec![0; 4096];
        let length = stream.read(&mut buffer).await.unwrap();
        assert!(buffer[..length].ends_with(b"hi"));
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let mut rest = Vec::new();
    timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await.unwrap().unwrap();

    let mut sender = http2(TcpStream::connect(to).await.unwrap()).await;
    let uri = format!("http://{to}/echo");
    let answer = sender.send_request(request("POST", &uri, &[], b"hi")).await.unwrap();
    assert_eq!(&collect(answer).await.body[..], b"hi");
    timeout(Duration::from_secs(5), async {
        while !sender.is_closed() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
}

/// Scenario: more connections than are taken at a time.
/// Guarantees: the rest wait and are served when others go.
#[tokio::test]
async fn connections_are_limited() {
    let mut settings = settings();
    settings.max_connections = 2;
    let server = start(settings);
    let to = server.address;
    let first = TcpStream::connect(to).await.unwrap();
    let second = TcpStream::connect(to).await.unwrap();
    let third = tokio::spawn(async move { ask(to, "POST", "/echo", &[], b"x").await.status });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!third.is_finished());
    drop(first);
    assert_eq!(timeout(Duration::from_secs(5), third).await.unwrap().unwrap(), 200);
    drop(second);
}

/// Scenario: a client says that it sends nothing more, as old proxies and `nc -N` do, while its request
/// waits.
/// Guarantees: it is answered all the same, and the connection ends.
#[tokio::test]
async fn half_closed_connections_are_answered() {
    let gate = Arc::new(Semaphore::new(0));
    let echo = Arc::new(Echo { gate: Some(Arc::clone(&gate)), ..Echo::default() });
    let server = start_with(settings(), Arc::clone(&echo), &setup());
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello";
    stream.write_all(request).await.unwrap();
    stream.shutdown().await.unwrap();
    echo.begun.notified().await;
    gate.add_permits(1);
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    timeout(Duration::from_secs(30), read).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("hello"), "{answer}");
}
