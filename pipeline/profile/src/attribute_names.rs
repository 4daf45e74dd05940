//! Attribute names: the semantic conventions' where they have one, ours (`profpipe.*`) where not.

/// The GNU build id of a mapped file, in hex (mapping).
pub const BUILD_ID_GNU: &str = "process.executable.build_id.gnu";
/// The Go build id of a mapped file (mapping).
pub const BUILD_ID_GO: &str = "process.executable.build_id.go";
/// `hex(SHA256(first 4096 bytes ‖ last 4096 bytes ‖ BE64(length))[..16])` of a file (mapping).
pub const BUILD_ID_HTLHASH: &str = "process.executable.build_id.htlhash";
/// What kind of code a frame is: `native`, `kernel`, `go`, `cpython`, `v8js` … (location).
pub const FRAME_TYPE: &str = "profile.frame.type";
/// The process id (resource; and mapping, for code that only this process has, such as JIT code).
pub const PROCESS_PID: &str = "process.pid";
/// The name of the executable (resource).
pub const PROCESS_EXECUTABLE_NAME: &str = "process.executable.name";
/// The path of the executable (resource).
pub const PROCESS_EXECUTABLE_PATH: &str = "process.executable.path";
/// The container's id (resource).
pub const CONTAINER_ID: &str = "container.id";
/// The host's name (resource).
pub const HOST_NAME: &str = "host.name";
/// The logical name of the service (resource).
pub const SERVICE_NAME: &str = "service.name";
/// The thread's id (sample).
pub const THREAD_ID: &str = "thread.id";
/// The thread's name (sample).
pub const THREAD_NAME: &str = "thread.name";
/// The CPU's number (sample).
pub const CPU_LOGICAL_NUMBER: &str = "cpu.logical_number";
/// How far the stack was unwound, where it is not complete: `truncated` (it ended above the root)
/// or `broken` (no unwinding rule applied) (sample).
pub const STACK_STATE: &str = "profpipe.stack.state";
/// What a thread that does not run waits for: `lock`, `futex`, `poll`, `sleep`, `read`, `write`, `sync`,
/// `connect`, `accept`, `process`, `signal`, `fault` or `other` (sample).
pub const WAIT: &str = "profpipe.wait";
/// What was done with blocks of a disk: `read`, `readahead`, `write`, `discard`, `flush` or `other` (sample).
pub const IO_OPERATION: &str = "profpipe.io.operation";
/// Events that were asked for and that the host does not allow, with commas between their names (profile).
pub const EVENT_MISSING: &str = "profpipe.event.missing";
/// Events that were not counted for all of this profile's interval, because there were too many, with commas
/// between their names (profile).
pub const EVENT_PARTIAL: &str = "profpipe.event.partial";
/// Samples that the kernel or the agent lost in this profile's interval (profile, int).
pub const SAMPLES_LOST: &str = "profpipe.samples.lost";
/// How the samples of a downsampled profile were chosen: `varopt-cube` or `varopt-systematic`
/// (profile). It and the following tell the error, see the processor `downsample`; of
/// several steps of sampling the method, the number kept and the seed are the last one's.
pub const SAMPLING_METHOD: &str = "profile.sampling.method";
/// The weight that stands for dropped ones: a kept sample of a larger value is exact, and the
/// variance of the sum of others is at most this times the sum (profile, double).
pub const SAMPLING_TAU: &str = "profile.sampling.tau";
/// How many samples were kept (profile, int).
pub const SAMPLING_KEPT: &str = "profile.sampling.k";
/// How many samples there were, equal ones united (profile, int).
pub const SAMPLING_ROWS_IN: &str = "profile.sampling.n_in";
/// The sum of their values (profile, int).
pub const SAMPLING_TOTAL_IN: &str = "profile.sampling.total_in";
/// The seed of the choice (profile, int).
pub const SAMPLING_SEED: &str = "profile.sampling.seed";
/// Values were adjusted so that heavy functions are exact; others are unbiased only as the number
/// of samples grows (profile, bool).
pub const SAMPLING_CALIBRATED: &str = "profile.sampling.calibrated";
/// What profiling this host cost in the last ten seconds, as a share of one core (profile, double).
pub const OVERHEAD_CPU: &str = "profpipe.overhead.cpu";
/// What it may cost, as a share of one core (profile, double).
pub const OVERHEAD_BUDGET: &str = "profpipe.overhead.budget";
/// How the governor fares: `steady`, `limited`, `paying`, `infeasible`, `stopped` (profile).
pub const OVERHEAD_STATE: &str = "profpipe.overhead.state";
/// How user stacks are taken: `full`, `stack_16k`, `stack_8k`, `frame_pointers`, `leaf` (profile).
pub const OVERHEAD_RUNG: &str = "profpipe.overhead.rung";
/// Whether what a sample costs the kernel was `measured` on this host, or is a guess: `low`
/// (profile).
pub const OVERHEAD_CONFIDENCE: &str = "profpipe.overhead.confidence";
/// How long ago the oldest window of the sampler ended whose profile had not left, in seconds (profile,
/// double).
pub const OLDEST_WINDOW_AGE: &str = "profpipe.oldest_window.age";
/// What it waited for: a stage of the work, as `symbolize` or `send` (profile).
pub const OLDEST_WINDOW_STAGE: &str = "profpipe.oldest_window.stage";
/// The share of frames that got no name since the last profile, 0 to 1 (profile, double).
pub const FRAMES_UNNAMED: &str = "profpipe.symbolize.unnamed";
/// Samples a second and CPU that were in force at the end (profile, double).
pub const SAMPLING_FREQUENCY: &str = "profpipe.sampling.frequency";
/// Control windows whose credits were used up; the weights of their samples stand for what was not
/// seen, too (profile, int).
pub const SAMPLING_CAPPED: &str = "profpipe.sampling.capped";
/// What a profile is called where the sample types do not tell, as `__name__` of Pyroscope does:
/// `mutex` or `block` have equal types (profile).
pub const PROFILE_NAME: &str = "profpipe.profile.name";
/// The values count from the start of the process, not of the profile's interval (profile, bool).
pub const PROFILE_CUMULATIVE: &str = "profpipe.profile.cumulative";
/// Why a frame has no name: `no build id`, `not found`, `refused: limit` … (location).
pub const UNSYMBOLIZED_REASON: &str = "profpipe.unsymbolized.reason";
/// A frame has the name that a symbol table gives it, because debug information, which may say more,
/// was not read in time (location, bool).
pub const SYMBOLS_PROVISIONAL: &str = "profpipe.symbols.provisional";
/// The pprof flags of a mapping (mapping, bool).
pub const PPROF_HAS_FUNCTIONS: &str = "pprof.mapping.has_functions";
/// See [`PPROF_HAS_FUNCTIONS`].
pub const PPROF_HAS_FILENAMES: &str = "pprof.mapping.has_filenames";
/// See [`PPROF_HAS_FUNCTIONS`].
pub const PPROF_HAS_LINE_NUMBERS: &str = "pprof.mapping.has_line_numbers";
/// See [`PPROF_HAS_FUNCTIONS`].
pub const PPROF_HAS_INLINE_FRAMES: &str = "pprof.mapping.has_inline_frames";
/// Several functions were folded into this location (location, bool).
pub const PPROF_IS_FOLDED: &str = "pprof.location.is_folded";
/// Free text comments (profile, array of strings).
pub const PPROF_COMMENT: &str = "pprof.profile.comment";
/// A regular expression of functions to leave out (profile).
pub const PPROF_DROP_FRAMES: &str = "pprof.profile.drop_frames";
/// A regular expression of functions to keep although [`PPROF_DROP_FRAMES`] matches (profile).
pub const PPROF_KEEP_FRAMES: &str = "pprof.profile.keep_frames";
/// A link to documentation of the profile (profile).
pub const PPROF_DOC_URL: &str = "pprof.profile.doc_url";
/// The sample type to show first (scope).
pub const PPROF_DEFAULT_SAMPLE_TYPE: &str = "pprof.scope.default_sample_type";
/// The order of a pprof file's sample types, as positions (scope, array of ints).
pub const PPROF_SAMPLE_TYPE_ORDER: &str = "pprof.scope.sample_type_order";
