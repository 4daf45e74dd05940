//! What configurations say about queues and extensions, checked before anything is built.

use super::*;

fn plan(config: &str) -> Result<Vec<String>, Vec<String>> {
    let document = Layers::new().text(None, config).load().unwrap();
    let show = |error: &crate::config::ConfigError| {
        format!("{}:{} {}: {}", error.line, error.column, error.path, error.message)
    };
    match builder().0.plan(&document) {
        Ok(plan) => Ok(plan.warnings.iter().map(show).collect()),
        Err(errors) => Err(errors.0.iter().map(show).collect()),
    }
}

const PIPELINE: &str = "service: {extensions: [keep], pipelines: {profiles: {receivers: [in], \
                        exporters: [to]}}}\n";

/// Scenario: storages and authenticators that are there, misspelt, not listed, or of another kind.
/// Guarantees: each mistake with its place.
#[test]
fn references_are_checked() {
    let storage = |storage: &str, extensions: &str| {
        plan(&format!(
            "extensions: {extensions}\nexporters:\n  to:\n    sending_queue:\n      storage: {storage}\n\
             {PIPELINE}"
        ))
    };
    assert_eq!(storage("keep", "{keep: }"), Ok(vec![]));
    let at = "5:16 exporters::to::sending_queue::storage: ";
    assert_eq!(
        storage("kepp", "{keep: }"),
        Err(vec![format!("{at}`kepp` is not defined under `extensions`; did you mean `keep`?")])
    );
    assert_eq!(
        storage("keep/b", "{keep: , keep/b: }"),
        Err(vec![format!("{at}`keep/b` does not run; list it in `service::extensions`")])
    );
    let auth = "extensions: {keep: }\nexporters: {to: {name: x, auth: {authenticator: keep}}}\n";
    let errors = plan(&format!("{auth}{PIPELINE}")).unwrap_err();
    let expected =
        "2:49 exporters::to::auth::authenticator: `keep` has no credentials for requests";
    assert!(errors.contains(&expected.to_owned()), "{errors:?}");
}

/// Scenario: the engine's keys misspelt; dangerous ones; the schema and the defaults.
/// Guarantees: mistakes and warnings with their place; tools find the keys.
#[test]
fn delivery_belongs_to_every_exporter() {
    let with = |settings: &str| {
        plan(&format!(
            "exporters:\n  to: {{{settings}}}\n{}",
            &PIPELINE.replace("extensions: [keep], ", "")
        ))
    };
    assert_eq!(
        with("sending_queu: {}"),
        Err(vec![
            "2:8 exporters::to::sending_queu: unknown key; did you mean `sending_queue`?"
                .to_owned()
        ])
    );
    assert_eq!(
        with("nane: x"),
        Err(vec!["2:8 exporters::to::nane: unknown key; did you mean `name`?".to_owned()])
    );
    let warnings = with("sending_queue: {wait_for_result: false}").unwrap();
    assert!(
        warnings[0].starts_with("2:41 exporters::to::sending_queue::wait_for_result: senders"),
        "{warnings:?}"
    );
    let factory = Factory::exporter::<To>("to", Stability::Alpha, "a test");
    let schema = serde_json::to_value((factory.schema)()).unwrap();
    for key in ["name", "timeout", "retry_on_failure", "sending_queue"] {
        assert!(schema["properties"].get(key).is_some(), "{key}");
    }
    let defaults = (factory.defaults)();
    assert_eq!(defaults["timeout"], "5s");
    assert_eq!(defaults["retry_on_failure"]["max_elapsed_time"], "5m");
    assert_eq!(defaults["sending_queue"]["queue_size"], 1000);
}
