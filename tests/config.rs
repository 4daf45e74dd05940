//! Configurations through the library and the program: examples, the Collector's snippets, and the
//! exact words for wrong ones.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use profpipe::config::{ConfigError, Section};
use profpipe::pipeline::engine::LogFormat;
use profpipe::{Engine, Environment, registry};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn examples() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("config-examples")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

fn profpipe(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_profpipe"))
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .output()
        .unwrap()
}

fn errors_of(text: &str) -> String {
    let plan = Engine::builder().config_named("c.yaml", text).plan();
    plan.map(|_| String::new()).unwrap_or_else(|errors| errors.to_string())
}

/// The warnings about a configuration that must be good.
fn warnings_of(text: &str) -> String {
    let plan = Engine::builder().config_named("c.yaml", text).plan().unwrap();
    plan.warnings.iter().map(|warning| format!("{warning}\n")).collect()
}

/// Scenario: two servers of a configuration that a client could take for each other: of one receiver,
/// of two, of an extension, of the metrics; then servers that only look alike.
/// Guarantees: a mistake that names both, at the place of the second; no mistake for the others.
#[test]
fn an_address_has_one_server() {
    let errors = |receivers: &str, listed: &str, health: &str, metrics: u16| {
        errors_of(&format!(
            "receivers: {receivers}\nextensions: {{health_check: {{endpoint: '{health}'}}}}\n\
             exporters: {{debug: }}\nservice:\n  extensions: [health_check]\n  telemetry: {{metrics: \
             {{readers: [{{pull: {{exporter: {{prometheus: {{host: '::', port: {metrics}}}}}}}}}]}}}}\n  \
             pipelines: {{profiles: {{receivers: {listed}, exporters: [debug]}}}}\n"
        ))
    };
    let otlp = "{otlp: {protocols: {grpc: {endpoint: 'localhost:9001'}, \
                http: {endpoint: '127.0.0.1:9001'}}}}";
    assert_eq!(
        errors(otlp, "[otlp]", "localhost:9002", 9003),
        "c.yaml:1:85: receivers::otlp::protocols::http::endpoint: `127.0.0.1:9001` is where \
         `receivers::otlp::protocols::grpc::endpoint` listens already, at `localhost:9001`; give one \
         of them another port"
    );
    let two = "{otlp: {protocols: {http: {endpoint: '127.0.0.1:9001'}}}, \
               pyroscope: {endpoint: '[::1]:9001'}}";
    assert_eq!(errors(two, "[otlp, pyroscope]", "127.0.0.2:9001", 9003), "");
    let found = errors(two, "[otlp, pyroscope]", "127.0.0.1:9001", 9003);
    assert!(found.contains("health_check::endpoint: `127.0.0.1:9001` is where `rec"), "{found}");
    let found = errors(two, "[otlp, pyroscope]", "127.0.0.1:9002", 9001);
    assert!(found.contains("readers::0::pull::exporter::prometheus: `[::]:9001` is"), "{found}");
    // What no pipeline uses does not listen, and port 0 is another one each time.
    assert_eq!(errors(two, "[otlp]", "[::1]:9001", 9003), "");
    let free = two.replace("9001", "0");
    assert_eq!(errors(&free, "[otlp, pyroscope]", "localhost:0", 9003), "");
}

/// Scenario: keys of the Collector's servers and clients that do nothing here.
/// Guarantees: a warning at each, none without them.
#[test]
fn keys_without_effect_are_told() {
    let warnings = |http: &str, grpc: &str, push: &str, exporter: &str| {
        warnings_of(&format!(
            "receivers: {{otlp: {{protocols: {{http: {{{http}}}, grpc: {{{grpc}}}}}}}, pyroscope: \
             {{{push}}}}}\nexporters: {{otlp_http: {{endpoint: 'http://localhost:1', {exporter}}}, \
             otlp_grpc: {{endpoint: 'localhost:1', read_buffer_size: 1}}, \
             pyroscope: {{endpoint: 'http://localhost:1', {exporter}}}}}\nservice: {{pipelines: \
             {{profiles: {{receivers: [otlp, pyroscope], \
             exporters: [otlp_http, otlp_grpc, pyroscope]}}}}}}\n"
        ))
    };
    let tls = "tls: {cert_file: a, key_file: b, client_ca_file: c, client_ca_file_reload: true}";
    let found = warnings(
        &format!("include_metadata: true, write_timeout: 3s, {tls}"),
        "keepalive: {enforcement_policy: {min_time: 5m}}, read_buffer_size: 1MiB",
        "include_metadata: true",
        "max_conns_per_host: 3, force_attempt_http2: true, write_buffer_size: 1",
    );
    for key in [
        "receivers::otlp::protocols::http::include_metadata",
        "receivers::otlp::protocols::http::write_timeout",
        "receivers::otlp::protocols::http::tls::client_ca_file_reload",
        "receivers::otlp::protocols::grpc::keepalive::enforcement_policy",
        "receivers::otlp::protocols::grpc::read_buffer_size",
        "receivers::pyroscope::include_metadata",
        "exporters::otlp_http::max_conns_per_host",
        "exporters::otlp_http::force_attempt_http2",
        "exporters::otlp_grpc::read_buffer_size",
        "exporters::pyroscope::write_buffer_size",
    ] {
        assert!(
            found.contains(&format!("{key}: accepted, but it has no effect")),
            "{key}\n{found}"
        );
    }
    let found = warnings("cors: {allowed_origins: ['*'], max_age: 60}", "", "", "");
    assert_eq!(found.lines().count(), 1, "only what otlp_grpc has: {found}");
    let found = warnings("cors: {allowed_origins: ['*']}", "", "", "");
    assert!(found.contains("http::cors: without `max_age` browsers ask again"), "{found}");
}

/// Scenario: every file in `config-examples`, in an empty environment.
/// Guarantees: no mistake, no warning, and the program says so.
#[test]
fn examples_are_good() {
    for file in examples() {
        let plan = Engine::builder().config_files([&file]).plan();
        let plan = plan.unwrap_or_else(|errors| panic!("{errors}"));
        assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
        let output = profpipe(root(), &["validate", "--config", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8(output.stdout).unwrap().contains(": ok, "));
        let output = profpipe(root(), &["graph", "--config", file.to_str().unwrap()]);
        assert!(String::from_utf8(output.stdout).unwrap().starts_with("digraph profpipe {"));
    }
    assert!(examples().iter().any(|file| file.ends_with("agent.yaml")));
}

/// The mistakes but for settings that are missing.
fn not_missing(mut errors: Vec<ConfigError>) -> Vec<ConfigError> {
    errors.retain(|error| !error.message.starts_with("is missing; "));
    errors
}

/// Scenario: every registered component with its defaults, with nothing, and with a key that no
/// component has.
/// Guarantees: the first two are read, but for settings that only the user can know; the third is a
/// mistake at that key.
#[test]
fn components_conform() {
    for factory in registry::components() {
        let defaults = (factory.defaults)().to_string();
        for good in ["", "{}", &defaults] {
            let section = Section::from_yaml(good).unwrap();
            if let Err(errors) = (factory.parse)(&section).map(drop).map_err(not_missing)
                && !errors.is_empty()
            {
                panic!("{}: `{good}`: {errors:?}", factory.name);
            }
        }
        let section = Section::from_yaml("no_such_key: 1").unwrap();
        let errors = (factory.parse)(&section).map(drop).expect_err(factory.name);
        let errors = not_missing(errors);
        assert_eq!((errors.len(), errors[0].path.as_str()), (1, "no_such_key"), "{errors:?}");
        assert_eq!((errors[0].line, errors[0].column), (1, 1));
        let mut names: Vec<&str> = vec![factory.name];
        names.extend(factory.aliases);
        for other in registry::components().filter(|other| other.kind == factory.kind) {
            let same = std::ptr::eq(factory, other);
            assert!(same || !names.contains(&other.name), "{} is taken", other.name);
        }
    }
}

/// Scenario: a configuration with a mistake of every kind, through the program.
/// Guarantees: all of them in one go, in the order of the file, each a line with its place and path;
/// exit code 2.
#[test]
fn every_mistake_in_one_go() {
    let text = "\
receivers:
  nop: {speed: 1}
  nopp:
  debug:
  9lives:
exporters:
  file:
    pathh: ./x
    format: pporf
    retention:
      max_age: 5 days
      max_bytes: many
  debug: [1]
  nop:
  nop:
service:
  telemetry: {logs: {level: loud}}
  extensions: [health_check]
  pipelines:
    profiles: {receivers: [nop, perff], exporters: [file, debu]}
    profiles/x: {receivers: [], exporters: [file, file], processor: []}
    traces: {receivers: [nop], exporters: [debug]}
    profile: {}
connectors: {forward: }
extensions: {file_storagee: {directory: /tmp}, zpages: }
exporter: {}
";
    let expected = "\
bad.yaml:2:9: receivers::nop::speed: unknown key; there are no settings here
bad.yaml:3:3: receivers::nopp: there is no receiver of type `nopp`; did you mean `nop`?
bad.yaml:4:3: receivers::debug: `debug` is an exporter, not a receiver
bad.yaml:5:3: receivers::9lives: an id is written `type` or `type/name`
bad.yaml:8:5: exporters::file::pathh: unknown key; did you mean `path`?
bad.yaml:9:13: exporters::file::format: `pporf` is not known here; use `pprof` or `otlp` or \
`otlp_json` or `folded`; did you mean `pprof`?
bad.yaml:11:16: exporters::file::retention::max_age: `5 days` is not a duration; write it like \
`10s`, `200ms` or `1h30m`
bad.yaml:12:18: exporters::file::retention::max_bytes: `many` is not a size; write it like \
`64MiB`, `1GB` or `1048576`
bad.yaml:13:10: exporters::debug: expected a map, found a list
bad.yaml:15:3: exporters::nop: `nop` is given twice; the first is in line 14
bad.yaml:17:29: service::telemetry::logs::level: `loud` is not a level; use debug, info, warn, error
bad.yaml:18:16: service::extensions::0: `health_check` is not defined under `extensions`
bad.yaml:20:33: service::pipelines::profiles::receivers::1: `perff` is not defined under `receivers`
bad.yaml:20:59: service::pipelines::profiles::exporters::1: `debu` is not defined under \
`exporters`; did you mean `debug`?
bad.yaml:21:58: service::pipelines::profiles/x::processor: unknown key; did you mean `processors`?
bad.yaml:22:5: service::pipelines::traces: profpipe carries profiles only; remove the traces \
pipeline or run it in a Collector
bad.yaml:23:5: service::pipelines::profile: `profile` is not a signal; a pipeline is `profiles` or \
`profiles/name`; did you mean `profiles`?
bad.yaml:24:14: connectors::forward: connectors are not supported; list the receiver in several \
pipelines
bad.yaml:25:14: extensions::file_storagee: there is no extension of type `file_storagee`; did you \
mean `file_storage`?
bad.yaml:26:1: exporter: unknown section; did you mean `exporters`?
profpipe: 20 mistakes in the configuration
";
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("bad.yaml"), text).unwrap();
    for arguments in [["validate", "--config", "bad.yaml"], ["graph", "--config", "bad.yaml"]] {
        let output = profpipe(directory.path(), &arguments);
        assert_eq!(output.status.code(), Some(2));
        let printed = String::from_utf8(output.stderr).unwrap();
        assert_eq!(printed, expected);
    }
}

/// Scenario: a governor in a pipeline without the sampler, and budgets that make no sense.
/// Guarantees: a line each that says what to do; in the right pipeline it is no mistake.
#[test]
fn a_governor_needs_a_sampler() {
    let text = "receivers: {otlp: {protocols: {grpc: }}, perf: }\n\
                processors: {governor: , governor/none: {cpu: 0%}, governor/bare: {cpu: 1}}\n\
                exporters: {debug: }\n\
                service: {pipelines: {\n  \
                profiles/a: {receivers: [otlp], processors: [governor], exporters: [debug]},\n  \
                profiles/b: {receivers: [perf], processors: [governor], exporters: [debug]}}}";
    assert_eq!(
        errors_of(text),
        "c.yaml:2:47: processors::governor/none::cpu: a budget of nothing allows no profiling; leave \
         `perf` out instead\n\
         c.yaml:2:73: processors::governor/bare::cpu: `1` is not a share; write it in percent, like \
         `1%` or `0.5%`\n\
         c.yaml:5:48: service::pipelines::profiles/a::processors::0: `governor` does nothing without \
         the receiver `perf`; list it in this pipeline or take `governor` out"
    );
}

/// Scenario: values that cannot be read beside values that make no sense, and sections of the wrong
/// shape.
/// Guarantees: both kinds are reported at once; nothing is reported twice.
#[test]
fn senseless_and_unreadable_values_together() {
    let text = "receivers: {perf: {scope: {pid: 3, x: 1}, interval: 0, frequency: 0, events: x}}\n\
                exporters: file\nservice: {pipelines: []}";
    assert_eq!(
        errors_of(text),
        "c.yaml:1:27: receivers::perf::scope: write exactly one of system, user, pid, cgroup, \
         container, match\n\
         c.yaml:1:53: receivers::perf::interval: must be at least 100ms\n\
         c.yaml:1:67: receivers::perf::frequency: must be between 1 and 10000 samples a second\n\
         c.yaml:1:78: receivers::perf::events: expected a list, found `x`; write it in brackets\n\
         c.yaml:2:12: exporters: expected a map, found `file`\n\
         c.yaml:3:22: service::pipelines: expected a map, found a list"
    );
}

/// Scenario: pipelines that lack an end, and files that lack pipelines.
/// Guarantees: the mistake names what is missing.
#[test]
fn pipelines_need_both_ends() {
    let errors =
        errors_of("receivers: {nop: }\nservice: {pipelines: {profiles: {receivers: [nop]}}}");
    assert_eq!(
        errors,
        "c.yaml:2:23: service::pipelines::profiles::exporters: a pipeline needs at least one exporter"
    );
    assert!(errors_of("").contains("there is no `service` section"));
    assert!(errors_of("service:").contains("service::pipelines: there is no pipeline"));
    assert!(errors_of("[]").contains("a configuration is a map"));
    let twice = "receivers: {nop: }\nexporters: {nop: }\nservice: {pipelines: {profiles: \
                 {receivers: [nop, nop], exporters: [nop]}}}";
    assert!(errors_of(twice).contains("receivers::1: `nop` is listed twice"));
}

/// Scenario: what the Collector's documentation shows, with the parts that we have.
/// Guarantees: it runs unchanged; what has no effect is said.
#[test]
fn collector_snippets_are_understood() {
    let text = "\
receivers:
  nop:
  nop/2: # a second one
exporters:
  debug:
    verbosity: detailed
  file/out:
    path: ${env:DIR:-./data}
  nop:
extensions:
  health_check:
    endpoint: 0.0.0.0:13133
  zpages:
service:
  extensions: [health_check, zpages]
  telemetry:
    logs:
      level: DEBUG
      encoding: json
    metrics:
      level: detailed
      readers:
        - pull: {exporter: {prometheus: {host: '0.0.0.0', port: 8888}}}
  pipelines:
    profiles:
      receivers: [nop]
      processors: []
      exporters:
        - debug
        - file/out
    profiles/2:
      receivers: [nop, nop/2]
      processors:
      exporters: [file/out]
";
    assert_eq!(
        warnings_of(text),
        "\
c.yaml:9:3: exporters::nop: defined, but no pipeline uses it
c.yaml:13:3: extensions::zpages: profpipe has no extension `zpages`; it is ignored
"
    );
    let plan = Engine::builder().config_yaml(text).plan().unwrap();
    assert_eq!(plan.telemetry.level.as_deref(), Some("debug"));
    assert_eq!(plan.telemetry.format, LogFormat::Json);
    let [prometheus] = plan.telemetry.prometheus.as_slice() else { panic!("{:?}", plan.telemetry) };
    assert_eq!((prometheus.host.as_str(), prometheus.port), ("0.0.0.0", 8888));
    let path = plan.setting(profpipe::Kind::Exporter, "file/out", "path");
    assert_eq!(path.as_deref(), Some("./data"));
}

/// Scenario: several files, a variable, an override from the environment and `--set`.
/// Guarantees: the later and the stronger win, through the program too.
#[test]
fn layers_through_the_program() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("a.yaml", "receivers: {nop: }\nexporters: {file: {path: '${env:OUT}', format: pprof}}");
    write(
        "b.yaml",
        "exporters: {file: {format: otlp}}\n\
         service: {pipelines: {profiles: {receivers: [nop], exporters: [file]}}}",
    );
    let run = |sets: &[&str], variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_profpipe"));
        command.args(["validate", "--config", "a.yaml", "--config", "b.yaml"]);
        for set in sets {
            command.args(["--set", set]);
        }
        command.env_clear().envs(variables.iter().copied()).current_dir(directory.path());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(run(&[], &[("OUT", "x")]), (Some(0), String::new()));
    let (code, warning) = run(&[], &[]);
    assert_eq!(code, Some(0));
    assert!(warning.contains("a.yaml:2:26: exporters::file::path: the variable `OUT` is not set"));
    let (code, text) = run(&["exporters::file::format=x"], &[("OUT", "x")]);
    assert!(text.starts_with("--set: exporters::file::format: `x` is not known"), "{text}");
    assert_eq!(code, Some(2));
    let (_, text) = run(&[], &[("OUT", "x"), ("PROFPIPE__exporters__file__format", "y")]);
    let place = "environment variable PROFPIPE__exporters__file__format: exporters::file::format:";
    assert!(text.starts_with(place), "{text}");
    let (code, _) =
        run(&["exporters.file.format=otlp"], &[("PROFPIPE__exporters__file__format", "y")]);
    assert_eq!(code, Some(0));
    let (code, text) = run(&["nonsense"], &[]);
    assert!(text.starts_with("--set: `nonsense` has no `=`"), "{text}");
    assert_eq!(code, Some(2));
}

/// Scenario: a file that is not there, is a directory, or is not text.
/// Guarantees: one line that names it, exit code 2.
#[test]
fn unreadable_files_are_named() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("binary"), [0xff, 0xfe, 0, 1]).unwrap();
    for name in ["missing.yaml", ".", "binary"] {
        let output = profpipe(directory.path(), &["validate", "--config", name]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.starts_with(&format!("{name}: cannot read it: ")), "{text}");
    }
}

/// Scenario: the list of components, for people and for programs.
/// Guarantees: every one is there with its schema and defaults.
#[test]
fn components_are_listed() {
    let json = profpipe(root(), &["components", "--format", "json"]);
    let list: Vec<serde_json::Value> = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(list.len(), registry::components().count());
    for component in &list {
        for key in ["name", "kind", "aliases", "stability", "about", "defaults", "schema"] {
            assert!(component.get(key).is_some(), "{key} of {component}");
        }
    }
    let text = String::from_utf8(profpipe(root(), &["components"]).stdout).unwrap();
    for factory in registry::components() {
        assert!(text.contains(factory.about), "{text}");
    }
}

/// Scenario: a plan made with an environment that a test made up.
/// Guarantees: the library sees no other environment than it is given.
#[test]
fn the_environment_is_an_argument() {
    let text = "receivers: {nop: }\nexporters: {file: {path: '${PATH}'}}\nservice: {pipelines: \
                {profiles: {receivers: [nop], exporters: [file]}}}";
    let builder = || Engine::builder().config_named("c.yaml", text);
    assert_eq!(builder().plan().unwrap().warnings.len(), 1);
    let environment = Environment::from_iter([("PATH", "/p")]);
    assert_eq!(builder().environment(environment).plan().unwrap().warnings, []);
}

/// Scenario: the commands that print, to a full disk and to a pipe that nobody reads.
/// Guarantees: the first is told in one line, the second is fine; no panic.
#[test]
fn nobody_reads() {
    let example = root().join("config-examples/agent.yaml");
    let config = ["--config", example.to_str().unwrap()];
    let commands = [
        vec!["components"],
        vec!["components", "--format", "json"],
        [&["graph"], &config[..]].concat(),
        [&["validate"], &config[..]].concat(),
    ];
    for arguments in commands {
        let run = |output: std::process::Stdio| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_profpipe"));
            let child =
                command.args(&arguments).stdout(output).stderr(std::process::Stdio::piped());
            let output = child.spawn().unwrap().wait_with_output().unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(run(writer.into()), (Some(0), String::new()), "{arguments:?}");
        if let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") {
            let (code, said) = run(full.into());
            assert_eq!(code, Some(1), "{said}");
            assert!(said.starts_with("profpipe: cannot print to standard output: "), "{said}");
        }
    }
}
