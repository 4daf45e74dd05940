//! Pages of other sites: what a browser is told before it sends, and with the answer.

use super::support::{ask, settings, start};
use crate::settings::server::{Cors, ServerAuthentication};

fn cors() -> Cors {
    Cors {
        allowed_origins: vec!["https://*.example.com".into(), "https://one.test".into()],
        allowed_headers: vec!["X-Tenant".into()],
        exposed_headers: vec!["x-charge".into()],
        max_age: 600,
    }
}

/// Scenario: browsers ask from origins, for methods and with headers that are allowed or not, at a
/// server that wants credentials.
/// Guarantees: 204 for all, without credentials; only what is allowed is said to be.
#[tokio::test]
async fn browsers_ask_first() {
    let mut settings = settings();
    settings.cors = Some(cors());
    settings.auth = Some(ServerAuthentication { authenticator: "doorman".into() });
    let server = start(settings);
    for (origin, method, headers, is_allowed) in [
        ("https://a.example.com", "POST", "content-type, x-tenant", true),
        ("HTTPS://A.EXAMPLE.COM", "POST", "", true),
        ("https://one.test", "GET", "", true),
        ("https://example.com", "POST", "", false),
        ("https://a.example.com.evil.test", "POST", "", false),
        ("https://one.test", "DELETE", "", false),
        ("https://one.test", "POST", "x-other", false),
    ] {
        let asked = [
            ("origin", origin),
            ("access-control-request-method", method),
            ("access-control-request-headers", headers),
        ];
        let answer = ask(server.address, "OPTIONS", "/echo", &asked, b"").await;
        assert_eq!(answer.status, 204, "{origin}");
        let told = answer.header("access-control-allow-origin");
        assert_eq!(told, if is_allowed { origin } else { "" }, "{origin} {method} {headers}");
        let methods = answer.header("access-control-allow-methods");
        assert_eq!(methods, if is_allowed { method } else { "" });
        let age = answer.header("access-control-max-age");
        assert_eq!(age, if is_allowed { "600" } else { "" });
        assert!(answer.header("vary").contains("Origin"));
    }
}

/// Scenario: a page sends; the same where every origin is allowed, and where none is.
/// Guarantees: the answer names the origin, `*`, or nothing; without settings OPTIONS is no method.
#[tokio::test]
async fn pages_read_answers() {
    let from = [("origin", "https://a.example.com")];
    let every = Cors { allowed_origins: vec!["*".into()], ..cors() };
    for (cors, wanted, options) in
        [(Some(cors()), "https://a.example.com", 204), (Some(every), "*", 204), (None, "", 405)]
    {
        let exposed = if cors.is_some() { "x-charge" } else { "" };
        let mut settings = settings();
        settings.cors = cors;
        let server = start(settings);
        let answer = ask(server.address, "POST", "/echo", &from, b"hello").await;
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"hello"[..]));
        assert_eq!(answer.header("access-control-allow-origin"), wanted);
        assert_eq!(answer.header("access-control-expose-headers"), exposed);
        let answer = ask(server.address, "OPTIONS", "/echo", &from, b"").await;
        assert_eq!(answer.status, options);
    }
}
