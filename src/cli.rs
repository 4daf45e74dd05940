//! The command line: what users may type, in one place.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use profpipe_store::diff::Gate;

use crate::files::FileFormat;

/// Continuous and on-demand profiling for OpenTelemetry.
#[derive(Debug, Parser)]
#[command(name = "profpipe", version, about, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// A command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a pipeline until stopped; without --config, profile this host into ./profiles
    Run(Run),
    /// Check a configuration and print every mistake in it
    Validate(ConfigFiles),
    /// Print a configuration's pipelines as a Graphviz graph
    Graph(ConfigFiles),
    /// List the components that this program has
    Components(Components),
    /// Tell what this host allows, what is missing and how to grant it
    Doctor(Doctor),
    /// Profile a command, a process or the whole host into a file
    Record(Record),
    /// Print the functions that cost most
    Top(Top),
    /// Show profiles as a page, with the API that it is made of; also read by Pyroscope's clients
    Ui(Ui),
    /// Draw a profile as a flame graph
    Flamegraph(Flamegraph),
    /// Compare two profiles, or two sets of runs, and say what differs beyond chance
    #[command(
        after_help = "Runs are files. Two or more a side give intervals and verdicts, 4 or more are better;\n\
        with one only sizes are shown. Exit codes: 0 no finding, 1 failed, 2 wrong usage, 3 finding,\n\
        4 not decidable; 3 and 4 only with --fail-on.",
        override_usage = "profpipe diff [OPTIONS] <BASE> <NEW>\n       \
        profpipe diff [OPTIONS] <BASE>... -- <NEW>..."
    )]
    Diff(Diff),
    /// Print the source lines of functions with what they cost
    List(List),
    /// Convert a profile from one format to another
    Convert(Convert),
    /// Give the frames of a recorded profile their names, from binaries that are here or on a server
    Symbolize(Symbolize),
    /// Give binaries and debug files to a gateway that names frames
    Symbols(Symbols),
    /// Look at a queue on disk, check it, or put its dead letters back
    Queue(Queue),
    /// The symbolizer's worker process; started by profpipe itself
    #[command(hide = true)]
    SymbolizerWorker,
}

/// Where a configuration comes from.
#[derive(Debug, Args)]
pub(crate) struct ConfigFiles {
    /// A configuration file; later files override earlier ones
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) config: Vec<PathBuf>,
    /// Override one value, as receivers::perf::frequency=49
    #[arg(long, value_name = "PATH=VALUE")]
    pub(crate) set: Vec<String>,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// A configuration file; later files override earlier ones. None: the built-in agent
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Vec<PathBuf>,
    /// Override one value, as receivers::perf::frequency=49
    #[arg(long, value_name = "PATH=VALUE")]
    pub(crate) set: Vec<String>,
    /// Reload when a configuration file changes; SIGHUP does it too
    #[arg(long)]
    pub(crate) watch: bool,
}

/// How a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Arguments of `components`.
#[derive(Debug, Args)]
pub(crate) struct Components {
    /// How to print
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// How to print
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
    /// Also tell how the agent fares whose metrics are at this address (`service::telemetry::metrics`)
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) agent: Option<String>,
}

/// Arguments of `record`.
#[derive(Debug, Args)]
pub(crate) struct Record {
    /// Samples a second and CPU
    #[arg(short = 'F', long, value_name = "HZ", default_value_t = 99)]
    pub(crate) frequency: u32,
    /// What to sample: cpu, off_cpu (waiting), wall (both), page_faults, heap,
    /// calls=FILE:FUNCTION, tracepoint:name=…,
    /// counter:name=…; with options as off_cpu:rate=1000,parked=sum. May be given several times
    #[arg(short, long, value_name = "EVENT", default_values_t = [String::from("cpu")])]
    pub(crate) event: Vec<String>,
    /// Profile this process and its threads and children
    #[arg(short, long, value_name = "PID", conflicts_with_all = ["all", "cmd"])]
    pub(crate) pid: Option<u32>,
    /// Profile the whole host
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Stop after so many seconds. A command, and what it has started, is ended then: with SIGTERM,
    /// and with SIGKILL if it has not ended 5 s later
    #[arg(short, long, value_name = "SECS")]
    pub(crate) duration: Option<f64>,
    /// The file to write; its extension chooses the format
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,
    /// The command to profile, with its arguments. It gets Ctrl-C first; a second within 10 s ends the
    /// recording, which is written, and leaves the command alone. A second SIGTERM, SIGHUP or SIGQUIT
    /// ends the command too, a third at once
    #[arg(last = true, value_name = "CMD")]
    pub(crate) cmd: Vec<std::ffi::OsString>,
}

/// Which of a file's sample types to use.
#[derive(Debug, Args)]
pub(crate) struct TypeChoice {
    /// The sample type, such as cpu or alloc_space; default as pprof chooses
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) sample_type: Option<String>,
}

/// Which of a type's samples to use.
#[derive(Debug, Args)]
pub(crate) struct WaitChoice {
    /// Only threads that waited for this: lock, futex, poll, sleep, read, write, sync, connect, accept,
    /// process, signal, fault, other. The sample type is off_cpu unless --type says otherwise
    #[arg(long, value_name = "WHAT")]
    pub(crate) wait: Option<String>,
}

/// What `top` sorts by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortBy {
    /// The function's own cost
    #[value(name = "self")]
    Own,
    /// The cost with everything it calls
    Total,
}

/// Arguments of `top`.
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// The profile, of any format; - for standard input; several are read as one
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The column to sort by
    #[arg(long, value_enum, default_value = "self")]
    pub(crate) by: SortBy,
    /// How many functions
    #[arg(short, default_value_t = 20)]
    pub(crate) n: usize,
    /// How to print
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
    #[command(flatten)]
    pub(crate) choice: TypeChoice,
    #[command(flatten)]
    pub(crate) waiting: WaitChoice,
}

/// Arguments of `ui`.
#[derive(Debug, Args)]
pub(crate) struct Ui {
    /// Profiles of any format, or directories whose files are; - for standard input
    #[arg(required = true, value_name = "FILE|DIR")]
    pub(crate) files: Vec<PathBuf>,
    /// Where to listen; only addresses of this host itself. Port 0 is any that is free
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(crate) listen: String,
    /// Do not open a browser
    #[arg(long)]
    pub(crate) no_open: bool,
}

/// Arguments of `flamegraph`.
#[derive(Debug, Args)]
pub(crate) struct Flamegraph {
    /// The profile, of any format; - for standard input; several are read as one
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The SVG file to write; - for standard output
    #[arg(short, long, value_name = "OUT.svg")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) choice: TypeChoice,
    #[command(flatten)]
    pub(crate) waiting: WaitChoice,
}

/// Arguments of `diff`.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags are what users type")]
pub(crate) struct Diff {
    /// The base and the new one: profiles of any format, or directories whose files are runs
    #[arg(required = true, value_name = "FILE|DIR")]
    pub(crate) base: Vec<PathBuf>,
    /// The new runs, if there are several files a side
    #[arg(last = true, value_name = "NEW")]
    pub(crate) new: Vec<PathBuf>,
    /// Compare what functions cost themselves, which is the default
    #[arg(long = "self", conflicts_with = "total")]
    pub(crate) own: bool,
    /// Compare what functions cost with everything they call
    #[arg(long)]
    pub(crate) total: bool,
    /// What costs are of: total (shares), time (of a run), or the name of a sample type or of an attribute of
    /// the resource that says how much a run did
    #[arg(long, value_name = "WHAT", default_value = "total")]
    pub(crate) per: String,
    /// How many functions; by default 20, and all in JSON
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// How to print
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: DiffFormat,
    /// A file to write instead; its extension chooses the format: .txt, .json, .md, .svg or .html. May be
    /// given several times
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: Vec<PathBuf>,
    /// Conditions that end with exit code 3: slower>5% (a function, beyond chance), total>3% (both in all),
    /// new>1% (a function that was not there, of the new total); separated by commas
    #[arg(long, value_name = "CONDITION", value_delimiter = ',')]
    pub(crate) fail_on: Vec<Gate>,
    /// What to do if a condition cannot be decided: end with exit code 4, or take it for not met
    #[arg(long, value_enum, default_value = "fail")]
    pub(crate) undecided: Undecided,
    /// What both sides must have run on alike: cpu, kernel, memory, limits, virtualization, libc, compiler,
    /// runtime, or an attribute's name; separated by commas
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    pub(crate) require_same: Vec<String>,
    #[command(flatten)]
    pub(crate) choice: TypeChoice,
}

/// How `diff` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DiffFormat {
    /// For people
    Text,
    /// For programs
    Json,
    /// For a pull request, of at most 20 functions
    #[value(alias = "md")]
    Markdown,
    /// A flame graph of both
    Svg,
    /// A page of its own, with table and flame graph
    Html,
}

/// What `diff` does with what cannot be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Undecided {
    /// Exit code 4
    Fail,
    /// Exit code 0
    Ok,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// The functions: a regular expression that their names match in some part
    pub(crate) function: String,
    /// The profile, of any format; - for standard input; several are read as one
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Where to look for source files that the profile names by a relative path, or by one that is not
    /// here: also in the directories above. By default the current directory
    #[arg(long, value_name = "DIR")]
    pub(crate) source: Vec<PathBuf>,
    /// What to take away from the beginning of paths before they are looked for
    #[arg(long, value_name = "PREFIX")]
    pub(crate) trim: Vec<String>,
    /// A server to ask for sources that are not here, by build id
    #[arg(long, value_name = "URL")]
    pub(crate) debuginfod: Vec<String>,
    /// Print the instructions too, from the binaries that are here
    #[arg(long)]
    pub(crate) asm: bool,
    #[command(flatten)]
    pub(crate) choice: TypeChoice,
}

/// Arguments of `convert`.
#[derive(Debug, Args)]
pub(crate) struct Convert {
    /// The profile to read, of any format; - for standard input
    pub(crate) input: PathBuf,
    /// The file to write; its extension chooses the format; - for standard output
    pub(crate) output: PathBuf,
    /// The format to write, whatever the name of the output
    #[arg(long, value_enum)]
    pub(crate) format: Option<FileFormat>,
    #[command(flatten)]
    pub(crate) choice: TypeChoice,
}

/// Arguments of `symbolize`.
#[derive(Debug, Args)]
pub(crate) struct Symbolize {
    /// The profile to read, of any format; - for standard input
    pub(crate) input: PathBuf,
    /// The file to write; its extension chooses the format; - for standard output
    pub(crate) output: PathBuf,
    /// A binary, or a directory with binaries and debug files under any name; also one of build ids
    /// (.build-id/ab/cdef.debug). Found by build id
    #[arg(long, value_name = "DIR")]
    pub(crate) symbols: Vec<PathBuf>,
    /// A server to ask for what is not there; files are kept in ~/.cache/profpipe
    #[arg(long, value_name = "URL")]
    pub(crate) debuginfod: Vec<String>,
    /// The format to write, whatever the name of the output
    #[arg(long, value_enum)]
    pub(crate) format: Option<FileFormat>,
}

/// Arguments of `symbols`.
#[derive(Debug, Args)]
pub(crate) struct Symbols {
    #[command(subcommand)]
    pub(crate) action: SymbolsAction,
}

/// What to do with symbols.
#[derive(Debug, Subcommand)]
pub(crate) enum SymbolsAction {
    /// Offer binaries by build id, and send those that the gateway does not have; exit code 1 if one was
    /// not taken
    Upload(SymbolsUpload),
}

/// Arguments of `symbols upload`.
#[derive(Debug, Args)]
pub(crate) struct SymbolsUpload {
    /// Executables, libraries and debug files, with a GNU build id
    #[arg(required = true, value_name = "BINARY")]
    pub(crate) binaries: Vec<PathBuf>,
    /// The `pyroscope` receiver of a gateway, or Pyroscope: https://host:port
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,
    /// A header of every request, such as `Authorization: Bearer …`; `NAME: @FILE` reads the value
    /// from a file, so that it does not stand in the list of processes
    #[arg(long, value_name = "NAME: VALUE")]
    pub(crate) header: Vec<String>,
    /// Certificates (PEM) that may sign the server's, in place of the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Our certificate (PEM), for a server that asks who we are
    #[arg(long, value_name = "FILE", requires = "key_file")]
    pub(crate) cert_file: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    pub(crate) key_file: Option<PathBuf>,
    /// Send credentials without TLS, too, beyond this machine
    #[arg(long)]
    pub(crate) insecure: bool,
}

/// Arguments of `queue`.
#[derive(Debug, Args)]
pub(crate) struct Queue {
    #[command(subcommand)]
    pub(crate) action: QueueAction,
}

/// What to do with a queue.
#[derive(Debug, Subcommand)]
pub(crate) enum QueueAction {
    /// Show segments, what waits for each destination, dead letters and damage; also while in use
    Inspect(QueueInspect),
    /// Read everything and print what is damaged; exit code 1 if anything is
    Verify(QueueVerify),
    /// Put dead letters back into the queue of their destination; profpipe must not be running
    Replay(QueueReplay),
    /// Drop what waits for a destination that is no longer configured; profpipe must not be running
    Drop(QueueDrop),
}

/// Arguments of `queue inspect`.
#[derive(Debug, Args)]
pub(crate) struct QueueInspect {
    /// The storage directory
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// How to print
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
}

/// Arguments of `queue verify`.
#[derive(Debug, Args)]
pub(crate) struct QueueVerify {
    /// The storage directory
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// How to print
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
}

/// Arguments of `queue replay`.
#[derive(Debug, Args)]
pub(crate) struct QueueReplay {
    /// The storage directory
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Only the dead letters of this exporter, as otlp_http or otlp_http/name
    #[arg(long, value_name = "ID")]
    pub(crate) destination: Option<String>,
    /// Replay dead letters; there is nothing else to replay, so this is the default
    #[arg(long)]
    pub(crate) dead: bool,
}

/// Arguments of `queue drop`.
#[derive(Debug, Args)]
pub(crate) struct QueueDrop {
    /// The storage directory
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// The exporter whose records are dropped
    #[arg(long, value_name = "ID")]
    pub(crate) destination: String,
}
