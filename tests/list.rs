//! `profpipe list`: source lines with what they cost, held against `go tool pprof -list`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn profpipe(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_profpipe")).current_dir(home).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/truth/programs").join(name)
}

/// Copies a source into a directory and compiles it there, so that the profile names it by that path.
fn compile(home: &Path, name: &str, compiler: &str, arguments: &[&str]) -> Option<PathBuf> {
    std::fs::copy(source(name), home.join(name)).unwrap();
    let mut parts = compiler.split(' ');
    let compiled = Command::new(parts.next().unwrap())
        .args(parts)
        .current_dir(home)
        .env("GOFLAGS", "-mod=mod")
        .env("GO111MODULE", "off")
        .args(arguments)
        .args(["-o", "program"])
        .arg(home.join(name))
        .output();
    match compiled {
        Ok(output) if output.status.success() => Some(home.join("program")),
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => profpipe_testing::skip!("{compiler}: {error}"),
    }
}

/// Records the program and returns the file; none, said, where sampling is not permitted.
fn record(home: &Path, program: &Path) -> Option<()> {
    if let Err(error) = profpipe_testing::sampling_is_permitted() {
        profpipe_testing::skip!("sampling is not permitted: {error}");
    }
    let program = program.to_str().unwrap();
    let arguments = ["record", "-F", "499", "-o", "p.pb.gz", "--", program, "truth", "2"];
    let recorded = Command::new(env!("CARGO_BIN_EXE_profpipe"))
        .current_dir(home)
        .args(arguments)
        .stdout(Stdio::null())
        .output()
        .unwrap();
    assert!(home.join("p.pb.gz").exists(), "{}", String::from_utf8_lossy(&recorded.stderr));
    Some(())
}

/// Scenario: profiles of a C and a Go program, with inlined functions, their callers, and code of libraries
/// whose sources are not here; functions by parts of their names.
/// Guarantees: every line is the one that `go tool pprof -list` prints.
#[test]
fn lists_what_pprof_lists() {
    for (name, compiler, arguments) in
        [("split.c", "cc", &["-O2", "-g", "-lm"][..]), ("split.go", "go build", &[])]
    {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        let Some(program) = compile(home, name, compiler, arguments) else { return };
        let Some(()) = record(home, &program) else { return };
        let mut lines = 0;
        for function in ["burn|stir", "main", "run", "."] {
            let theirs = Command::new("go")
                .current_dir(home)
                .args(["tool", "pprof", "-list", function, "p.pb.gz"])
                .output();
            let Ok(theirs) = theirs else {
                profpipe_testing::skip!("there is no `go tool pprof`");
            };
            let ours = profpipe(home, &["list", function, "p.pb.gz"]);
            let theirs = String::from_utf8_lossy(&theirs.stdout).into_owned();
            let ours = String::from_utf8_lossy(&ours.stdout).into_owned();
            for (number, (ours, theirs)) in ours.lines().zip(theirs.lines()).enumerate() {
                assert_eq!(ours, theirs, "{name} {function}: line {number}");
            }
            assert_eq!(ours.lines().count(), theirs.lines().count(), "{name} {function}");
            lines += ours.lines().count();
        }
        assert!(lines > 50, "{name}: {lines}");
    }
}

/// Scenario: a C program's instructions are asked for; then its source is gone and a server has it by build
/// id; then nobody has it; then the binary is another build.
/// Guarantees: the instructions of a function add up to what its lines cost by themselves; the source of the
/// server is shown; what is missing is said in a line, and another build is not shown.
#[test]
fn shows_instructions_and_sources_of_a_server() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let options = ["-O2", "-g", "-lm", "-Wl,--build-id=sha1"];
    let Some(program) = compile(home, "split.c", "cc", &options) else { return };
    let Some(()) = record(home, &program) else { return };
    let listed = text(&profpipe(home, &["list", "^burn_major$", "p.pb.gz", "--asm"]));
    let Some((lines, instructions)) = listed.split_once("INSTRUCTIONS ===") else {
        panic!("{listed}");
    };
    assert!(lines.contains("split.c"), "{listed}");
    assert!(instructions.contains(": ret") || instructions.contains(": jmp"), "{listed}");
    let milliseconds = |text: &str| {
        let own = |line: &str| {
            let amount = line.get(..10)?.trim();
            let number = |unit: &str| amount.strip_suffix(unit)?.parse::<f64>().ok();
            number("ms").or_else(|| Some(1000.0 * number("s")?))
        };
        text.lines().skip(3).filter_map(own).sum::<f64>()
    };
    let (by_lines, by_instructions) = (milliseconds(lines), milliseconds(instructions));
    assert!(by_lines > 0.0 && (by_instructions / by_lines - 1.0).abs() < 0.02, "{listed}");

    let content = std::fs::read(home.join("split.c")).unwrap();
    std::fs::remove_file(home.join("split.c")).unwrap();
    let missing = text(&profpipe(home, &["list", "^burn_major$", "p.pb.gz"]));
    assert!(missing.contains(" Error: could not find file"), "{missing}");
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", server.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).unwrap();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", content.len());
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&content).unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let arguments = ["list", "^burn_major$", "p.pb.gz", "--debuginfod", &url];
    let listed = text(&profpipe(home, &arguments));
    let request = answering.join().unwrap();
    assert!(listed.contains("burn_major(") && !listed.contains(" Error"), "{listed}");
    assert!(request.starts_with("GET /buildid/"), "{request}");
    assert!(request.contains("/source/") && request.contains("split.c"), "{request}");

    std::fs::copy(env!("CARGO_BIN_EXE_profpipe"), home.join("program")).unwrap();
    let other = text(&profpipe(home, &["list", "^burn_major$", "p.pb.gz", "--asm"]));
    assert!(other.contains("another build than was profiled"), "{other}");
}

/// Scenario: functions that there are not, an expression that is none, a file that is none.
/// Guarantees: one line that says what is wrong.
#[test]
fn mistakes_are_said() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    std::fs::write(home.join("p.folded"), "main;work 10\n").unwrap();
    for (arguments, expected) in [
        (["list", "nothing", "p.folded"], "no function matches `nothing`"),
        (["list", "(", "p.folded"], "`(` is not a regular expression"),
        (["list", "main", "nowhere"], "nowhere"),
    ] {
        let output = profpipe(home, &arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expected), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let listed = text(&profpipe(home, &["list", "work", "p.folded"]));
    assert!(listed.contains("No source information for work"), "{listed}");
}
