//! The log as the engine has it, on the real file system.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::{AppendError, Destination, Durability, Log, LogSettings, Record, WhenFull};

fn open(directory: &Path) -> Arc<Log> {
    Log::open(directory, LogSettings::default()).unwrap()
}

fn record(text: &str) -> Record {
    Record {
        payload: Bytes::copy_from_slice(text.as_bytes()),
        samples: 3,
        tenant: Some("acme".into()),
        receiver: "otlp/x".into(),
    }
}

async fn next(destination: &Destination) -> String {
    let lease = destination.next().await.unwrap();
    let text = String::from_utf8(lease.record.payload.to_vec()).unwrap();
    lease.done();
    text
}

/// Scenario: records for one or two destinations; some are read, one is given back; the log is closed
/// and opened again, twice.
/// Guarantees: each destination gets its records, the oldest first, with everything known about
/// them; what was acknowledged before the end, out of order too, is not delivered again, and what was
/// not is.
#[tokio::test]
async fn closing_loses_and_repeats_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("queue");
    {
        let log = open(&path);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let (a, b) = (log.destination("otlp_http/a").unwrap(), log.destination("b").unwrap());
        for index in 0..4 {
            let to = if index % 2 == 0 { vec![a.id(), b.id()] } else { vec![a.id()] };
            log.append(record(&format!("r{index}")), &to).await.unwrap();
        }
        assert_eq!((a.pending().records, a.pending().samples, b.pending().records), (4, 12, 2));
        let first = a.next().await.unwrap();
        assert_eq!(first.record, record("r0"));
        assert_eq!(next(&a).await, "r1");
        drop(first);
        let first = a.next().await.unwrap();
        assert_eq!(&first.record.payload[..], b"r0");
        assert_eq!(next(&a).await, "r2");
        assert_eq!(next(&b).await, "r0");
        drop(first);
        log.close().await;
        assert!(a.next().await.is_none());
        let late = log.append(record("late"), &[a.id()]).await;
        assert!(matches!(late, Err(AppendError::Closed)), "{late:?}");
    }
    for _ in 0..2 {
        let log = open(&path);
        let (a, b) = (log.destination("otlp_http/a").unwrap(), log.destination("b").unwrap());
        assert_eq!((a.pending().records, b.pending().records), (2, 1));
        drop(a.next().await.unwrap());
    }
    let log = open(&path);
    let (a, b) = (log.destination("otlp_http/a").unwrap(), log.destination("b").unwrap());
    assert_eq!(
        (next(&a).await, next(&a).await, next(&b).await),
        ("r0".into(), "r3".into(), "r2".into())
    );
    assert_eq!((a.pending().records, b.pending().records), (0, 0));
    log.append(record("new"), &[a.id()]).await.unwrap();
    assert_eq!(next(&a).await, "new");
}

/// Scenario: a second log of the same directory; after the first was dropped, again.
/// Guarantees: an error that says what to do, then success.
#[tokio::test]
async fn a_directory_has_one_log() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let error = Log::open(directory.path(), LogSettings::default()).unwrap_err();
    assert!(error.to_string().contains("in use by another process"), "{error}");
    drop(log);
    open(directory.path());
}

/// Scenario: eight senders and four consumers on two threads; consumers give some records back.
/// Guarantees: everything arrives and nobody waits for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wake_up_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    // Next to no cache: most is read from the disk.
    let settings = LogSettings {
        segment_bytes: 8192,
        cache_bytes: 2000,
        durability: Durability::Os,
        ..LogSettings::default()
    };
    let log = Log::open(directory.path(), settings).unwrap();
    let destination = log.destination("d").unwrap();
    let (got, mut all) = tokio::sync::mpsc::unbounded_channel();
    for consumer in 0..4_u64 {
        let (destination, got) = (destination.clone(), got.clone());
        tokio::spawn(async move {
            let mut count = consumer;
            while let Some(lease) = destination.next().await {
                count += 1;
                if count % 5 == 0 {
                    drop(lease);
                    tokio::task::yield_now().await;
                    continue;
                }
                let text = String::from_utf8(lease.record.payload.to_vec()).unwrap();
                lease.done();
                got.send(text).unwrap();
            }
        });
    }
    drop(got);
    let mut senders = Vec::new();
    for sender in 0..8 {
        let (log, id) = (Arc::clone(&log), destination.id());
        senders.push(tokio::spawn(async move {
            for index in 0..100 {
                log.append(record(&format!("{sender}-{index}")), std::slice::from_ref(&id))
                    .await
                    .unwrap();
            }
        }));
    }
    for sender in senders {
        sender.await.unwrap();
    }
    let mut texts = std::collections::BTreeSet::new();
    while texts.len() < 800 {
        let text = tokio::time::timeout(Duration::from_secs(30), all.recv()).await;
        assert!(
            texts.insert(text.expect("somebody waits for ever").unwrap()),
            "a record came twice"
        );
    }
    assert_eq!(destination.pending().records, 0);
    log.close().await;
    assert_eq!(all.recv().await, None);
}

/// Scenario: a log that is full, refusing or dropping the oldest; then it is emptied.
/// Guarantees: refused records are told so and nothing kept is lost; dropped ones are counted; there
/// is room again; the disk never holds more than the limit and a segment.
#[tokio::test]
async fn a_full_log_refuses_or_drops() {
    for when_full in [WhenFull::Refuse, WhenFull::DropOldest] {
        let directory = tempfile::tempdir().unwrap();
        let settings = LogSettings { max_bytes: 40_000, when_full, ..LogSettings::default() };
        let log = Log::open(directory.path(), settings).unwrap();
        let destination = log.destination("d").unwrap();
        let text = "x".repeat(1000);
        let mut kept = 0;
        for _ in 0..100 {
            match log.append(record(&text), &[destination.id()]).await {
                Ok(()) => kept += 1,
                Err(error) => assert!(matches!(error, AppendError::Full { .. }), "{error}"),
            }
        }
        assert!(log.stats().bytes <= 50_000);
        let dropped = log.stats().dropped_records;
        match when_full {
            WhenFull::Refuse => assert!(kept < 40 && kept > 20 && dropped == 0, "{kept} {dropped}"),
            WhenFull::DropOldest => assert!(kept == 100 && dropped >= 60, "{kept} {dropped}"),
        }
        assert_eq!(destination.pending().records + dropped, kept);
        for _ in 0..destination.pending().records {
            next(&destination).await;
        }
        for _ in 0..100 {
            log.append(record(&text), &[destination.id()]).await.unwrap();
            next(&destination).await;
        }
        let large = log.append(record(&"x".repeat(50_000)), &[destination.id()]).await.unwrap_err();
        assert!(matches!(large, AppendError::TooLarge { .. }) && !large.is_retryable());
    }
}

/// Scenario: a record becomes a dead letter; another one follows.
/// Guarantees: the request and why it is there can be read from the folder; the queue goes on, also
/// after a restart.
#[tokio::test]
async fn dead_letters_are_files() {
    let directory = tempfile::tempdir().unwrap();
    {
        let log = open(directory.path());
        let destination = log.destination("otlp_http/a").unwrap();
        log.append(record("bad"), &[destination.id()]).await.unwrap();
        log.append(record("good"), &[destination.id()]).await.unwrap();
        destination.next().await.unwrap().dead("400 says the backend");
        assert_eq!(next(&destination).await, "good");
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while log.stats().dead_letters == 0 {
            assert!(std::time::Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(destination.pending().records, 0);
    }
    let folder = std::fs::read_dir(directory.path().join("dead")).unwrap().next().unwrap().unwrap();
    let mut files: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    let text = std::fs::read_to_string(&files[0]).unwrap();
    let letter: crate::Letter = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (letter.reason.as_str(), letter.destination.as_str()),
        ("400 says the backend", "otlp_http/a")
    );
    assert_eq!(std::fs::read(&files[1]).unwrap(), b"bad");
    let log = open(directory.path());
    assert_eq!(log.destination("otlp_http/a").unwrap().pending().records, 0);
}

/// Scenario: records that are larger than a segment may be, among small ones; then a restart.
/// Guarantees: they are kept and delivered in order.
#[tokio::test]
async fn records_larger_than_a_segment_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let settings = LogSettings { segment_bytes: 4096, ..LogSettings::default() };
    {
        let log = Log::open(directory.path(), settings.clone()).unwrap();
        let destination = log.destination("d").unwrap();
        for size in [10, 100_000, 20, 30_000, 5] {
            log.append(record(&"y".repeat(size)), &[destination.id()]).await.unwrap();
        }
    }
    let log = Log::open(directory.path(), settings).unwrap();
    let destination = log.destination("d").unwrap();
    for size in [10, 100_000, 20, 30_000, 5] {
        assert_eq!(next(&destination).await.len(), size);
    }
}

/// Scenario: dead letters are replayed, with the log in use and not; a destination is discarded; a byte
/// of a segment is flipped.
/// Guarantees: the tools show what is there, refuse what the lock forbids, bring the letters back, and
/// tell of the damage.
#[tokio::test]
async fn tools_show_verify_and_replay() {
    use crate::tools;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    {
        let log = open(path);
        let (a, b) = (log.destination("otlp_http/a").unwrap(), log.destination("b").unwrap());
        for index in 0..4 {
            log.append(record(&format!("r{index}")), &[a.id(), b.id()]).await.unwrap();
        }
        a.next().await.unwrap().dead("refused");
        b.next().await.unwrap().dead("refused too");
        assert!(tools::inspect(path).unwrap().in_use);
        let error = tools::replay(path, None).unwrap_err();
        assert!(error.to_string().contains("in use by another process"), "{error}");
        log.close().await;
    }
    let shown = tools::inspect(path).unwrap();
    assert!(!shown.in_use);
    assert_eq!((shown.segments.len(), shown.segments[0].records), (1, 4));
    let a = shown.destinations.iter().find(|one| one.id == "otlp_http/a").unwrap();
    assert_eq!((a.pending.records, a.dead_letters, a.cursor), (3, 1, 2));
    assert_eq!(tools::replay(path, Some("otlp_http/a")).unwrap().replayed, 1);
    assert_eq!(tools::replay(path, Some("nobody")).unwrap().replayed, 0);
    assert!(tools::discard(path, "nobody").is_err());
    assert_eq!(tools::discard(path, "b").unwrap(), 3);
    let sound = tools::verify(path).unwrap();
    assert_eq!((sound.damage.len(), sound.records, sound.dead_letters), (0, 5, 1));
    {
        let log = open(path);
        let (a, b) = (log.destination("otlp_http/a").unwrap(), log.destination("b").unwrap());
        assert_eq!((a.pending().records, b.pending().records), (4, 0));
        let mut got = Vec::new();
        for _ in 0..3 {
            got.push(next(&a).await);
        }
        assert_eq!(got, ["r1", "r2", "r3"]);
        let replayed = a.next().await.unwrap();
        assert_eq!(replayed.record, record("r0"));
    }
    let segment = path.join(&tools::inspect(path).unwrap().segments[0].name);
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[64 + 60] ^= 4;
    std::fs::write(&segment, bytes).unwrap();
    let damaged = tools::verify(path).unwrap();
    assert_eq!(damaged.damage.len(), 1, "{:?}", damaged.damage);
}

/// Scenario: the directory of a log is moved away and back, then its files are removed, then all of it.
/// Guarantees: what would not be found again is refused, and its sender may try again; what was
/// acknowledged before the directory moved is delivered; it goes on as soon as it can.
#[tokio::test]
async fn what_vanishes_is_noticed() {
    let home = tempfile::tempdir().unwrap();
    let (path, aside) = (home.path().join("queue"), home.path().join("aside"));
    let log = open(&path);
    let a = log.destination("a").unwrap();
    log.append(record("one"), &[a.id()]).await.unwrap();
    std::fs::rename(&path, &aside).unwrap();
    for _ in 0..2 {
        let refused = log.append(record("lost"), &[a.id()]).await.unwrap_err();
        assert!(refused.is_retryable() && refused.to_string().contains("was moved"), "{refused}");
    }
    std::fs::create_dir(&path).unwrap();
    assert!(log.append(record("elsewhere"), &[a.id()]).await.is_err());
    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    log.append(record("two"), &[a.id()]).await.unwrap();
    assert_eq!((next(&a).await, next(&a).await), ("one".into(), "two".into()));
    assert_eq!(a.pending().records, 0);
    for entry in std::fs::read_dir(&path).unwrap() {
        let file = entry.unwrap().path();
        if file.is_file() {
            std::fs::remove_file(file).unwrap();
        }
    }
    let refused = log.append(record("three"), &[a.id()]).await.unwrap_err();
    assert!(refused.is_retryable() && refused.to_string().contains("was removed"), "{refused}");
    log.append(record("three"), &[a.id()]).await.unwrap();
    assert_eq!(next(&a).await, "three");
    std::fs::remove_dir_all(&path).unwrap();
    assert!(log.append(record("four"), &[a.id()]).await.unwrap_err().is_retryable());
    assert_eq!(log.destinations(), []);
}
