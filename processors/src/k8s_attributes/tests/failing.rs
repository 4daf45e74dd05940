//! A server that fails.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Scenario: a watch whose version the server has forgotten (by an event, then by a status), with
/// other pods since.
/// Guarantees: everything is listed anew; what is not there any more counts as gone.
#[test]
fn what_is_gone_is_listed_anew() {
    let round = AtomicUsize::new(0);
    let server = Server::start(move |asked| {
        others(asked).unwrap_or_else(|| {
            if !asked.is_watch() {
                return match round.fetch_add(1, Ordering::SeqCst) {
                    0 => list("Pod", &[pod("a", "ca", 1), pod("b", "cb", 2)], 10, ""),
                    1 => list("Pod", &[pod("b", "cb", 2)], 20, ""),
                    _ => list("Pod", &[pod("b", "cb", 2), pod("c", "cc", 3), pod("d", "cd", 4)], 30, ""),
                };
            }
            let gone = r#"{"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "too old resource version: 10 (15)", "reason": "Expired", "code": 410}"#;
            match asked.parameter("resourceVersion").as_deref() {
                Some("10") => Reply::Cut(vec![event("ERROR", gone)]),
                Some("20") => Reply::Json(410, gone.to_owned()),
                _ => Reply::Slow,
            }
        })
    });
    let mut tested = Tested::of(&server, "");
    tested.until_pods(3);
    for name in ["c", "d", "a"] {
        let found = tested.resource(&[("container.id", &format!("c{name}"))]);
        assert!(found.contains(&format!("k8s.pod.name={name}")), "{found:?}");
    }
}

/// Scenario: watches that break off within an event, after some whole ones and a bookmark.
/// Guarantees: the next watch begins where the last whole event was; nothing is listed anew.
#[test]
fn a_watch_that_breaks_off_goes_on() {
    let server = Server::start(|asked| {
        others(asked).unwrap_or_else(|| {
            if !asked.is_watch() {
                return list("Pod", &[], 10, "");
            }
            let bookmark = r#"{"kind": "Pod", "metadata": {"resourceVersion": "12"}}"#;
            match asked.parameter("resourceVersion").as_deref() {
                Some("10") => Reply::Cut(vec![
                    event("ADDED", &pod("a", "ca", 11)),
                    event("BOOKMARK", bookmark),
                ]),
                Some("12") => Reply::Cut(vec![event("ADDED", &pod("b", "cb", 13))]),
                Some("13") => Reply::Slow,
                other => panic!("{other:?}"),
            }
        })
    });
    let tested = Tested::of(&server, "");
    tested.until_pods(2);
    tested.until("the third watch", |_| {
        let asked = server.asked();
        asked.iter().any(|one| one.parameter("resourceVersion").as_deref() == Some("13"))
    });
    assert_eq!(tested.metrics.total(metric_names::LISTS), 2);
}

/// Scenario: a server that refuses with every status that there is, says nonsense, or sends a list
/// that never ends.
/// Guarantees: batches go on as they are, after a while at most; the server is asked again, and when
/// it answers all is as it should be.
#[test]
fn a_server_that_fails_is_asked_again() {
    for failure in [401, 403, 404, 429, 500, 200] {
        let round = AtomicUsize::new(0);
        let server = Server::start(move |asked| {
            others(asked).unwrap_or_else(|| {
                if asked.is_watch() {
                    return Reply::Slow;
                }
                let body = r#"{"kind": "Status", "status": "Failure", "code": 500}"#.to_owned();
                let nonsense = "[1, 2".to_owned();
                match round.fetch_add(1, Ordering::SeqCst) {
                    0 | 1 => Reply::Json(failure, if failure == 200 { nonsense } else { body }),
                    _ => list("Pod", &[pod("a", "ca", 1)], 10, ""),
                }
            })
        });
        let mut tested = Tested::of(&server, "wait: 20ms");
        let early = tested.resource(&[("container.id", "other")]);
        assert_eq!(early, ["container.id=other"]);
        tested.until_pods(1);
        assert!(tested.metrics.total(metric_names::FAILURES) >= 2);
        let found = tested.resource(&[("container.id", "ca")]);
        assert!(found.contains(&"k8s.pod.name=a".to_owned()), "{failure}: {found:?}");
    }
    let server = Server::start(|_| Reply::Slow);
    let mut tested = Tested::of(&server, "wait: 20ms");
    assert_eq!(tested.resource(&[("container.id", "ca")]), ["container.id=ca"]);
}

/// Scenario: an event larger than any object can be, an event that is no JSON, and one of an unknown
/// kind.
/// Guarantees: the first two are answered with a new list, the last is nothing; memory is bounded by
/// what one event may take.
#[test]
fn events_that_cannot_be_read() {
    let round = AtomicUsize::new(0);
    let server = Server::start(move |asked| {
        others(asked).unwrap_or_else(|| {
            if !asked.is_watch() {
                return list("Pod", &[pod("a", "ca", 1)], 10, "");
            }
            match round.fetch_add(1, Ordering::SeqCst) {
                0 => Reply::Cut(vec!["x".repeat(5 << 20)]),
                1 => Reply::Cut(vec!["{\"type\": \"ADDED\", \"object\": 7}".to_owned()]),
                _ => Reply::Cut(vec![event("MARKED", "{}"), event("ADDED", &pod("b", "cb", 20))]),
            }
        })
    });
    let tested = Tested::of(&server, "");
    tested.until_pods(2);
    let lists = server.asked().iter().filter(|asked| !asked.is_watch()).count();
    // Of pods three, of replica sets one.
    assert_eq!(lists, 4);
}

/// Scenario: a service account that may not see replica sets.
/// Guarantees: everything else is there at once; nobody waits for deployments.
#[test]
fn what_is_forbidden_is_not_waited_for() {
    let server = Server::start(|asked| match asked.target.contains("/replicasets") {
        true => Reply::Json(403, "{}".to_owned()),
        false if asked.is_watch() => Reply::Slow,
        false => list("Pod", &[pod("a", "ca", 1)], 10, ""),
    });
    let mut tested = Tested::of(&server, "wait: 1h");
    tested.until_pods(1);
    let found = tested.resource(&[("container.id", "ca")]);
    assert!(found.contains(&"k8s.pod.name=a".to_owned()), "{found:?}");
    assert!(!found.iter().any(|line| line.starts_with("k8s.deployment")), "{found:?}");
}

/// Scenario: a token that changes while the processor runs.
/// Guarantees: each request shows the one that the file has then.
#[test]
fn tokens_are_read_anew() {
    let (shown, good) = (AtomicUsize::new(0), "Bearer second");
    let server = Server::start(move |asked| {
        if asked.authorization != good {
            shown.fetch_add(1, Ordering::SeqCst);
            return Reply::Json(401, "{}".to_owned());
        }
        others(asked).unwrap_or_else(|| match asked.is_watch() {
            true => Reply::Slow,
            false => list("Pod", &[pod("a", "ca", 1)], 10, ""),
        })
    });
    let home = tempfile::tempdir().unwrap();
    let token = home.path().join("token");
    std::fs::write(&token, "first\n").unwrap();
    let tested = Tested::of(&server, &format!("bearer_token_file: '{}'", token.display()));
    tested.until("a refusal", |metrics| metrics.total(metric_names::FAILURES) > 0);
    std::fs::write(&token, "second\n").unwrap();
    tested.until_pods(1);
    assert_eq!(server.asked()[0].authorization, "Bearer first");
}
