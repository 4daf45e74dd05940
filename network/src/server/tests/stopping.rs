//! Ends, and the socket's life after them.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::support::{Echo, ask, collect, http2, request, settings, setup, start_with};

/// Scenario: a server is stopped while a request is at work that has something to send, by both
/// protocols.
/// Guarantees: it waits for the request, answers it, and closes the connection.
#[tokio::test]
async fn requests_at_work_are_answered() {
    for early in [false, true] {
        let gate = Arc::new(Semaphore::new(0));
        let echo = Arc::new(Echo { gate: Some(gate.clone()), early, ..Echo::default() });
        let server = start_with(settings(), echo.clone(), &setup());
        let to = server.address;
        let first = tokio::spawn(async move { ask(to, "POST", "/echo", &[], b"one").await });
        echo.begun.notified().await;
        let mut sender = http2(TcpStream::connect(to).await.unwrap()).await;
        let uri = format!("http://{to}/echo");
        let second = sender.send_request(request("POST", &uri, &[], b"two"));
        let second = tokio::spawn(async move { collect(second.await.unwrap()).await });
        echo.begun.notified().await;
        server.stopper.stop(Duration::from_secs(20));
        let mut task = server.task;
        let ended = timeout(Duration::from_millis(200), &mut task).await;
        // One that only waits for what becomes of its batch does not hold up the stop.
        assert_eq!(ended.is_ok(), early);
        gate.add_permits(2);
        if !early {
            timeout(Duration::from_secs(5), task).await.unwrap().unwrap().unwrap();
        }
        assert_eq!(&first.await.unwrap().body[..], b"one");
        assert_eq!(&second.await.unwrap().body[..], b"two");
        assert!(sender.ready().await.is_err(), "the connection goes on");
    }
}

/// Scenario: servers replace each other at one address, while a client connects all the time.
/// Guarantees: no connection is refused and every request is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_socket_outlives_the_server() {
    let port = {
        let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        probe.local_addr().unwrap().port()
    };
    let mut settings = settings();
    settings.endpoint = format!("127.0.0.1:{port}");
    let setup = setup();
    let mut server = start_with(settings.clone(), Arc::default(), &setup);
    let to = server.address;
    let until = tokio::time::Instant::now() + Duration::from_millis(1500);
    // One client connects for each request, one keeps its connection as long as it may.
    let fresh = tokio::spawn(async move {
        let mut answered = 0;
        while tokio::time::Instant::now() < until {
            assert_eq!(ask(to, "POST", "/echo", &[], b"x").await.status, 200);
            answered += 1;
        }
        answered
    });
    let keeping = tokio::spawn(async move {
        let mut answered = 0;
        while tokio::time::Instant::now() < until {
            let stream = TcpStream::connect(to).await.unwrap();
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            // A connection that is closed between requests loses none.
            while tokio::time::Instant::now() < until && sender.ready().await.is_ok() {
                let answer = sender.send_request(request("POST", "/echo", &[], b"x")).await;
                let answer = collect(answer.unwrap()).await;
                assert_eq!(answer.status, 200);
                answered += 1;
            }
        }
        answered
    });
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        setup.services.listeners.begin();
        let next = start_with(settings.clone(), Arc::default(), &setup);
        server.stopper.stop(Duration::from_secs(1));
        server.task.await.unwrap().unwrap();
        server = next;
    }
    assert!(fresh.await.unwrap() > 20);
    assert!(keeping.await.unwrap() > 20);
    // With no server left, the socket is still there until it is given back.
    server.stopper.stop(Duration::from_secs(1));
    server.task.await.unwrap().unwrap();
    assert!(TcpStream::connect(to).await.is_ok());
    setup.services.listeners.release_unused();
    setup.services.listeners.release_unused();
    assert!(TcpStream::connect(to).await.is_err());
}

/// Scenario: two servers of one engine ask for one address, then one of the next engine does.
/// Guarantees: the second of the same engine does not get it, the next engine does.
#[tokio::test]
async fn an_address_has_one_server() {
    let listeners = profpipe_engine::Listeners::default();
    let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = probe.local_addr().unwrap();
    drop(probe);
    assert!(listeners.bind(address).is_ok());
    let second = listeners.bind(address).unwrap_err();
    assert_eq!(second.kind(), std::io::ErrorKind::AddrInUse);
    listeners.begin();
    assert!(listeners.bind(address).is_ok());
}

/// Scenario: a client watches the health of a server, which is stopped.
/// Guarantees: SERVING at once, NOT_SERVING when it stops, then the end of the call; the server does not
/// wait for it.
#[tokio::test]
async fn health_is_watched() {
    let server = start_with(settings(), Arc::default(), &setup());
    let mut sender = http2(TcpStream::connect(server.address).await.unwrap()).await;
    let uri = format!("http://{}/grpc.health.v1.Health/Watch", server.address);
    let headers = [("content-type", "application/grpc")];
    let watch = sender.send_request(request("POST", &uri, &headers, &[0; 5])).await.unwrap();
    let mut body = watch.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(&first[..], b"\0\0\0\0\x02\x08\x01");
    server.stopper.stop(Duration::from_secs(20));
    timeout(Duration::from_secs(5), server.task).await.unwrap().unwrap().unwrap();
    let last = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(&last[..], b"\0\0\0\0\x02\x08\x02");
    let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
}
