//! The older interface: its query, texts, pprof, forms.

use bytes::Bytes;
use profpipe_engine::settings::ByteSize;
use profpipe_profile::Profiles;
use profpipe_profile::attribute_names::PROFILE_NAME;

use super::{facts, mark, pprof};
use crate::pyroscope::convert::{self, ConvertError};
use crate::pyroscope::query::{Format, Query};

const SECOND: u64 = 1_000_000_000;
const NOW: u64 = 1_800_000_000 * SECOND;

fn query(text: &str, content_type: &str) -> Query {
    Query::parse(text, content_type, NOW).unwrap()
}

fn ingest(text: &str, content_type: &str, body: &[u8]) -> Result<Profiles, ConvertError> {
    let body = Bytes::copy_from_slice(body);
    convert::ingest(&query(text, content_type), content_type, &body, ByteSize::mib(16), &mut |_| {
        true
    })
}

/// Scenario: times in every form, also none.
/// Guarantees: nanoseconds, as Pyroscope reads them.
#[test]
fn times_are_read_by_their_length() {
    for (text, wanted) in [
        ("", NOW),
        ("nonsense", NOW),
        ("1700000000", 1_700_000_000 * SECOND),
        ("1700000000123", 1_700_000_000_123_000_000),
        ("1700000000123456", 1_700_000_000_123_456_000),
        ("1700000000123456789", 1_700_000_000_123_456_789),
        ("20240229", 1_709_164_800 * SECOND),
        ("20241329", 20_241_329 * SECOND),
        ("now", NOW),
        ("now-1h", NOW - 3600 * SECOND),
        ("now-15min", NOW - 900 * SECOND),
    ] {
        assert_eq!(query(&format!("name=a&from={text}"), "").from, wanted, "{text}");
    }
}

/// Scenario: names with labels, escapes and mistakes.
/// Guarantees: the application, its labels, or an error.
#[test]
fn names_hold_labels() {
    let one = query("name=my-app.cpu%7Bregion%3Deu%2C+zone=a,region=us%7D&sampleRate=x", "");
    assert_eq!(one.app, "my-app.cpu");
    let labels: Vec<_> = one.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(labels, ["region=us", "zone=a"]);
    assert_eq!((one.rate, one.spy.as_str()), (100, "unknown"));
    assert_eq!(query("name=a{}", "").app, "a");
    for wrong in ["", "name=", "name=a%20b", "name=a{=x}", "name=a{x y=z}", "name=%zz", "name=%ff"]
    {
        assert!(Query::parse(wrong, "", NOW).is_err(), "{wrong}");
    }
}

/// Scenario: every way to say what the body is.
/// Guarantees: Pyroscope's choice.
#[test]
fn formats_are_told_by_parameter_or_content_type() {
    let form = "multipart/form-data; boundary=x";
    for (text, content_type, wanted) in [
        ("", "", Format::Groups),
        ("&format=folded", "text/plain", Format::Groups),
        ("&format=lines", form, Format::Lines),
        ("&format=pprof", "", Format::Pprof),
        ("", form, Format::Multipart),
        ("&format=jfr", form, Format::Unsupported("jfr")),
        ("&format=speedscope", "", Format::Unsupported("speedscope")),
        ("", "binary/octet-stream+trie", Format::Unsupported("trie")),
        ("&format=tree", "", Format::Unsupported("tree")),
    ] {
        assert_eq!(query(&format!("name=a{text}"), content_type).format, wanted, "{text}");
    }
    let refused = ingest("name=a&format=jfr", "", b"FLR").unwrap_err();
    assert!(
        matches!(&refused, ConvertError::Unsupported(what) if what.contains("accepted are pprof"))
    );
}

/// Scenario: collapsed stacks with counts, and stacks alone, at 100 and 50 samples a second.
/// Guarantees: nanoseconds, and who it was.
#[test]
fn texts_become_time() {
    let batch = ingest("name=app.cpu{region=eu}&from=10&until=20", "", b"a;b 2\na;c 3\n").unwrap();
    assert_eq!(facts(&batch, "service.name"), (50_000_000, vec!["app".to_owned()]));
    assert_eq!(facts(&batch, "region").1, ["eu"]);
    assert_eq!(mark(&batch, PROFILE_NAME), Some("process_cpu"));
    let profile = batch.iter().next().unwrap().2;
    assert_eq!((profile.time_unix_nano, profile.duration_nano), (10 * SECOND, 10 * SECOND));
    assert_eq!(profile.period, 10_000_000);
    let text = b"a;b\na;b\n\na;c with space\n";
    let batch = ingest("name=app.wall&format=lines&sampleRate=50", "", text).unwrap();
    assert_eq!(facts(&batch, "service.name").0, 60_000_000);
    assert_eq!(mark(&batch, PROFILE_NAME), Some("wall"));
    let batch = ingest("name=app.inuse_space{service_name=s}", "", b"a;b 2000\n").unwrap();
    assert_eq!(facts(&batch, "service.name"), (2000, vec!["s".to_owned()]));
    assert_eq!(facts(&batch, "app_name").1, ["app"]);
    assert_eq!(mark(&batch, PROFILE_NAME), Some("memory"));
    assert_eq!(ingest("name=app", "", b"").unwrap().sample_count(), 0);
    let refused = ingest("name=app.nonsense", "", b"a 1\n").unwrap_err();
    assert_eq!(refused, ConvertError::Invalid("unknown profile type: nonsense".to_owned()));
    assert!(matches!(ingest("name=app", "", b"a;b x\n").unwrap_err(), ConvertError::Invalid(_)));
}

/// Scenario: pprof raw and in the form of older agents, with a time near the epoch; an empty body.
/// Guarantees: the same sum, a name by its types, the time of the query; nothing for nothing.
#[test]
fn pprof_is_taken_raw_and_in_a_form() {
    let profile = pprof(&[("a", 3), ("b", 4)], 7);
    let name = "name=app.cpu{pyroscope_spy=x}&from=10&until=20&spyName=gospy";
    let batch = ingest(&format!("{name}&format=pprof"), "", &profile).unwrap();
    assert_eq!(facts(&batch, "service.name"), (7, vec!["app.cpu".to_owned()]));
    assert_eq!(facts(&batch, "pyroscope_spy").1, ["gospy"]);
    assert_eq!(batch.iter().next().unwrap().2.time_unix_nano, 10 * SECOND);
    assert_eq!(mark(&batch, PROFILE_NAME), Some("process_cpu"));
    let part = |field: &str, content: &[u8]| {
        let head = format!(
            "--zz\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"f\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        [head.as_bytes(), content, b"\r\n"].concat()
    };
    let form = "multipart/form-data; boundary=\"zz\"";
    let body = [part("sample_type_config", b"{}"), part("profile", &profile), b"--zz--".to_vec()];
    assert_eq!(facts(&ingest(name, form, &body.concat()).unwrap(), "").0, 7);
    let body = [part("profile", &profile), part("prev_profile", b"x"), b"--zz--\r\n".to_vec()];
    let refused = ingest(name, form, &body.concat()).unwrap_err();
    assert!(refused.to_string().contains("unsupported client version"), "{refused}");
    for broken in [&b""[..], b"--zz", b"--zz\r\nx\r\n--zz--", b"--zz--"] {
        assert!(matches!(ingest(name, form, broken), Err(ConvertError::Invalid(_))), "{broken:?}");
    }
    assert_eq!(ingest("name=a&format=pprof", "", b"").unwrap().sample_count(), 0);
    assert!(matches!(ingest("name=a&format=pprof", "", b"no"), Err(ConvertError::Invalid(_))));
}
