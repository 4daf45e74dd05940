//! The log: lines for people, or JSON objects for programs; to the screen, to standard output or to
//! files.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use profpipe::pipeline::engine::{LogFormat, Telemetry};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime as Now};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use crate::status::{LogLine, Screen};

/// Logs as the configuration wants it; `PROFPIPE_LOG` is stronger than its level. A panic is one
/// line too.
///
/// # Errors
/// If a file of the log cannot be opened.
pub(crate) fn log_to(screen: &Screen, telemetry: &Telemetry) -> anyhow::Result<Log> {
    let filter = filter(telemetry);
    let outputs = Outputs::open(screen, &telemetry.output_paths)?;
    let builder = tracing_subscriber::fmt();
    let set: SetFilter = match telemetry.format {
        LogFormat::Console => {
            let to_screen = telemetry.output_paths.iter().all(|path| path == "stderr");
            let wanted = std::env::var_os("NO_COLOR").is_none();
            let colours = to_screen && screen.is_terminal() && wanted;
            let builder = builder.with_ansi(colours).with_writer(outputs).with_target(false);
            let builder = builder.with_env_filter(filter).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            Box::new(move |filter| handle.reload(filter).is_ok())
        }
        LogFormat::Json => {
            let fields = telemetry.initial_fields.clone().into_iter().collect();
            let builder = builder.event_format(Json { fields }).with_writer(outputs);
            let builder = builder.with_env_filter(filter).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            Box::new(move |filter| handle.reload(filter).is_ok())
        }
    };
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!("a bug in profpipe at {place}: {}", panic.payload_as_str().unwrap_or("?"));
    }));
    Ok(Log { set, telemetry: telemetry.clone() })
}

/// What is logged: of libraries from `info` on only, because their details are theirs.
fn filter(telemetry: &Telemetry) -> EnvFilter {
    let level = telemetry.level.as_deref().unwrap_or("info");
    EnvFilter::try_from_env("PROFPIPE_LOG").unwrap_or_else(|_| match level {
        "debug" => EnvFilter::new("info,profpipe=debug"),
        level => EnvFilter::new(level),
    })
}

type SetFilter = Box<dyn Fn(EnvFilter) -> bool>;

/// The log of this program, whose level may change.
pub(crate) struct Log {
    set: SetFilter,
    /// As what it was begun.
    telemetry: Telemetry,
}

impl Log {
    /// Logs at the level that a new configuration wants, and says what of it waits for a restart.
    pub(crate) fn follow(&mut self, wanted: &Telemetry) {
        if wanted.level != self.telemetry.level && (self.set)(filter(wanted)) {
            self.telemetry.level.clone_from(&wanted.level);
        }
        let now = &self.telemetry;
        let waiting = [
            ("level", now.level != wanted.level),
            ("encoding", now.format != wanted.format),
            ("initial_fields", now.initial_fields != wanted.initial_fields),
            ("output_paths", now.output_paths != wanted.output_paths),
        ];
        let waiting: Vec<&str> =
            waiting.iter().filter(|(_, changed)| *changed).map(|(key, _)| *key).collect();
        if !waiting.is_empty() {
            tracing::warn!(
                "service::telemetry::logs: a change of {} needs a restart; the log goes on as it is",
                waiting.join(", ")
            );
        }
    }
}

/// Where lines go.
#[derive(Debug, Clone)]
enum Output {
    Screen(Screen),
    Stdout,
    File(Arc<File>),
}

/// Everywhere lines go.
#[derive(Debug, Clone)]
struct Outputs(Vec<Output>);

impl Outputs {
    fn open(screen: &Screen, paths: &[String]) -> anyhow::Result<Self> {
        if paths.is_empty() {
            return Ok(Self(vec![Output::Screen(screen.clone())]));
        }
        let open = |path: &String| {
            Ok(match path.as_str() {
                "stderr" => Output::Screen(screen.clone()),
                "stdout" => Output::Stdout,
                path => Output::File(Arc::new(append_to(Path::new(path))?)),
            })
        };
        paths.iter().map(open).collect::<anyhow::Result<_>>().map(Self)
    }
}

fn append_to(path: &Path) -> anyhow::Result<File> {
    File::options().create(true).append(true).open(path).map_err(|error| {
        anyhow::anyhow!("service::telemetry::logs::output_paths: {}: {error}", path.display())
    })
}

impl<'a> MakeWriter<'a> for Outputs {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { outputs: &self.0, text: Vec::new() }
    }
}

/// One line, written as a whole when it is complete.
struct Line<'a> {
    outputs: &'a [Output],
    text: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        for output in self.outputs {
            // A log that cannot be written has nobody to be told about it.
            let _ = match output {
                Output::Screen(screen) => {
                    let mut line: LogLine = screen.make_writer();
                    line.write_all(&self.text)
                }
                Output::Stdout => io::stdout().lock().write_all(&self.text),
                Output::File(file) => (&**file).write_all(&self.text),
            };
        }
    }
}

/// A line as a JSON object, with the names that the Collector's log has.
struct Json {
    fields: Map<String, Value>,
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        Now.format_time(&mut Writer::new(&mut time))?;
        let mut line = Map::new();
        let level = event.metadata().level().as_str().to_lowercase();
        line.insert("level".to_owned(), Value::String(level));
        line.insert("ts".to_owned(), Value::String(time));
        line.extend(self.fields.clone());
        event.record(&mut Fields(&mut line));
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// The fields of an event as those of an object; its text is `msg`.
struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: Value) {
        let name = if field.name() == "message" { "msg" } else { field.name() };
        self.0.insert(name.to_owned(), value);
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = write!(text, "{value:?}");
        self.put(field, Value::String(text));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
}
