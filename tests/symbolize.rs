//! `profpipe symbolize`: names for a profile that was taken elsewhere.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says why it skips"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use profpipe::profile::attribute_names::BUILD_ID_GNU;
use profpipe::profile::{
    LocationRef, MappingRef, Profile, Profiles, ResourceProfiles, SampleRef, ScopeProfiles,
    StringIx, ValueType,
};
use profpipe::{otlp, pprof};

/// A program with two functions, its build id, and the addresses of `main` and `callee` in its file.
struct Program {
    path: PathBuf,
    build_id: String,
    addresses: [u64; 2],
}

/// Compiles it; none without a compiler.
fn program(directory: &Path) -> Option<Program> {
    let source = directory.join("program.c");
    std::fs::write(
        &source,
        "__attribute__((noinline)) int callee(int x) { return x * 3; }\n\
         int main(int n, char **a) { (void)a; return callee(n); }\n",
    )
    .unwrap();
    let path = directory.join("program");
    let mut compile = Command::new("cc");
    compile.args(["-O1", "-g", "-Wl,--build-id=sha1", "-o"]).arg(&path).arg(&source);
    assert!(compile.status().ok()?.success());
    let identity =
        profpipe_host::elf::Identity::read(&std::fs::File::open(&path).unwrap()).unwrap();
    let symbols = Command::new("nm").arg(&path).output().ok()?;
    let symbols = String::from_utf8(symbols.stdout).unwrap();
    let address = |name: &str| {
        let line = symbols.lines().find(|line| line.ends_with(&format!(" T {name}"))).unwrap();
        u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap()
    };
    let addresses = [address("main") + 4, address("callee")];
    Some(Program { path, build_id: identity.build_id.unwrap(), addresses })
}

/// A profile of it without names, as an agent without symbols sends it.
fn unnamed(program: &Program) -> Profiles {
    let mut profiles = Profiles::new();
    let dictionary = &mut profiles.dictionary;
    let key = dictionary.strings.intern(BUILD_ID_GNU);
    let build_id = program.build_id.as_str().into();
    let build_id = dictionary.attributes.intern(key, build_id, StringIx::NONE);
    let filename = dictionary.strings.intern("/srv/on/another/host");
    let mapping = dictionary.mappings.intern(MappingRef {
        memory_start: 0,
        memory_limit: 1 << 20,
        file_offset: 0,
        filename,
        attributes: &[build_id],
    });
    let [main, callee] = program.addresses.map(|address| {
        let (lines, attributes) = (&[][..], &[][..]);
        dictionary.locations.intern(LocationRef { mapping, address, lines, attributes })
    });
    let stack = dictionary.stacks.intern(&[callee, main]);
    let kind = dictionary.strings.intern("cpu");
    let unit = dictionary.strings.intern("nanoseconds");
    let sample_type = ValueType { kind, unit };
    let mut profile = Profile { sample_type, ..Profile::default() };
    profile.samples.push(SampleRef { stack, values: &[70], ..SampleRef::default() });
    let scope = ScopeProfiles { profiles: vec![profile], ..ScopeProfiles::default() };
    let resource = ResourceProfiles { scopes: vec![scope], ..ResourceProfiles::default() };
    profiles.resources.push(resource);
    profiles
}

fn profpipe(arguments: &[&str], directory: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_profpipe"));
    command.args(arguments).current_dir(directory).env_remove("DEBUGINFOD_URLS");
    command.env("CACHE_DIRECTORY", directory.join("cache"));
    command.output().unwrap()
}

/// Scenario: a profile without names is taken to a machine that has the binary under another name, in
/// a directory below the one that is given; as OTLP and as pprof.
/// Guarantees: its frames get their names and lines, and how many is said.
#[test]
fn names_come_from_binaries_of_any_name() {
    let home = tempfile::tempdir().unwrap();
    let Some(program) = program(home.path()) else {
        profpipe_testing::skip!("there is no C compiler")
    };
    let binaries = home.path().join("binaries/below");
    std::fs::create_dir_all(&binaries).unwrap();
    std::fs::rename(&program.path, binaries.join("anything.bin")).unwrap();
    std::fs::write(binaries.join("text"), "no binary").unwrap();
    let profiles = unnamed(&program);
    std::fs::write(home.path().join("in.otlp"), otlp::encode(&profiles)).unwrap();
    std::fs::write(home.path().join("in.pb.gz"), pprof::encode(&profiles).unwrap()).unwrap();
    for input in ["in.otlp", "in.pb.gz"] {
        let arguments = ["symbolize", input, "out.otlp", "--symbols", "binaries"];
        let output = profpipe(&arguments, home.path());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        assert!(said.contains("2 of 2 frames have names, 2 more than before"), "{said}");
        let named = otlp::decode(&std::fs::read(home.path().join("out.otlp")).unwrap()).unwrap();
        let functions: Vec<_> = named
            .dictionary
            .locations
            .iter()
            .flat_map(|location| location.lines)
            .map(|line| {
                let function = named.dictionary.functions.get(line.function);
                (named.dictionary.strings.get(function.name).to_owned(), line.line)
            })
            .collect();
        assert!(functions.contains(&("callee".to_owned(), 1)), "{functions:?}");
        assert!(functions.contains(&("main".to_owned(), 2)), "{functions:?}");
    }
}

/// Scenario: a profile is named, then the binary is deleted and the profile named again; then the directory
/// of tables is emptied, or others may enter it.
/// Guarantees: the second time the same names come from the table; without it there are none. The directory
/// and the table are for their owner alone.
#[test]
fn names_outlive_their_binary() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = tempfile::tempdir().unwrap();
    let Some(program) = program(home.path()) else {
        profpipe_testing::skip!("there is no C compiler")
    };
    let binaries = home.path().join("binaries");
    std::fs::create_dir(&binaries).unwrap();
    std::fs::rename(&program.path, binaries.join("program")).unwrap();
    std::fs::write(home.path().join("in.otlp"), otlp::encode(&unnamed(&program))).unwrap();
    let first = ["symbolize", "in.otlp", "out.otlp", "--symbols", "binaries"];
    assert!(profpipe(&first, home.path()).status.success());
    let named = std::fs::read(home.path().join("out.otlp")).unwrap();
    std::fs::remove_dir_all(&binaries).unwrap();
    let again = |expected: &str| {
        let output = profpipe(&["symbolize", "in.otlp", "again.otlp"], home.path());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        assert!(said.contains(expected), "{said}");
    };
    again("2 of 2 frames have names");
    assert_eq!(std::fs::read(home.path().join("again.otlp")).unwrap(), named);
    let tables = home.path().join("cache/tables");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&tables), 0o700);
    let table = tables.join(format!("{}.names", program.build_id));
    assert_eq!(mode(&table), 0o600);
    std::fs::set_permissions(&tables, std::fs::Permissions::from_mode(0o750)).unwrap();
    again("0 of 2 frames have names");
    std::fs::set_permissions(&tables, std::fs::Permissions::from_mode(0o700)).unwrap();
    again("2 of 2 frames have names");
    std::fs::remove_file(table).unwrap();
    again("0 of 2 frames have names");
}

/// Scenario: nobody has the binary; a directory that is given is not there.
/// Guarantees: the profile is written as it was, and it is said why it has no names; the second is an
/// error, and nothing is written.
#[test]
fn what_has_no_names_says_why() {
    let home = tempfile::tempdir().unwrap();
    let Some(program) = program(home.path()) else {
        profpipe_testing::skip!("there is no C compiler")
    };
    std::fs::write(home.path().join("in.otlp"), otlp::encode(&unnamed(&program))).unwrap();
    let output = profpipe(&["symbolize", "in.otlp", "out.otlp"], home.path());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("0 of 2 frames have names") && said.contains("2 not found"), "{said}");
    assert!(home.path().join("out.otlp").exists());
    let arguments = ["symbolize", "in.otlp", "second.otlp", "--symbols", "missing"];
    let output = profpipe(&arguments, home.path());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("--symbols missing") && said.lines().count() == 1, "{said}");
    assert!(!home.path().join("second.otlp").exists());
}
