//! Who may send, through the real receiver and the real extensions.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use profpipe::{Engine, otlp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn status(to: SocketAddr, headers: &str) -> String {
    let body = otlp::encode(&profpipe::Profiles::new());
    let request = format!(
        "POST /v1development/profiles HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\
         content-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(&[request.as_bytes(), &body].concat()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(!answer.contains("s3cret"), "{answer}");
    answer.get(9..12).unwrap_or_default().to_owned()
}

/// Scenario: right, wrong, missing, empty and doubled credentials for a token in the usual header, a
/// token in another, and users with passwords.
/// Guarantees: only the right ones get in, and no answer repeats what was sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_right_credentials_get_in() {
    let basic = "Authorization: Basic dTpzM2NyZXQ=\r\n";
    let cases = [
        ("bearertokenauth: {token: s3cret}", "Authorization: Bearer s3cret\r\n"),
        ("bearertokenauth: {token: s3cret, header: X-Key, scheme: ''}", "X-Key: s3cret\r\n"),
        ("basicauth: {htpasswd: {inline: 'u:s3cret'}}", basic),
    ];
    for (extension, right) in cases {
        let to = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (id, _) = extension.split_once(':').unwrap();
        let engine = Engine::builder()
            .config_yaml(format!(
                "extensions: {{{extension}}}\n\
                 receivers: {{otlp: {{protocols: {{http: {{endpoint: '{to}', auth: \
                 {{authenticator: {id}}}}}}}}}}}\n\
                 exporters: {{nop: }}\n\
                 service: {{extensions: [{id}], pipelines: {{profiles: {{receivers: [otlp], \
                 exporters: [nop]}}}}}}"
            ))
            .start()
            .unwrap();
        assert_eq!(status(to, right).await, "200", "{extension}");
        let (name, value) = right.trim_end().split_once(": ").unwrap();
        for wrong in [
            String::new(),
            format!("{name}:\r\n"),
            format!("{name}: {value}x\r\n"),
            format!("{name}: {}\r\n", &value[..value.len() - 3]),
            format!("X{name}: {value}\r\n"),
            right.repeat(2),
        ] {
            assert_eq!(status(to, &wrong).await, "401", "{extension}: {wrong:?}");
        }
        engine.stop(Duration::from_secs(5)).await.unwrap();
    }
}
