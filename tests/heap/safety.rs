//! Programs are as they are without a profiler, and a profiler is as it is without hostile programs.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::recordings::{all, compile, obstacle, record, run, stacks, weight_of};

fn is_possible() -> bool {
    if let Some(obstacle) = obstacle() {
        profpipe_testing::skip!("nothing can be recorded: {obstacle}");
    }
    true
}

/// Waits for something that is to come.
fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_there() {
        assert!(Instant::now() < deadline, "{what} does not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Scenario: a program uses every function that allocates, from a hundred threads with little stack, in
/// children of children, in a signal handler, in libraries that come and go, in destructors of threads, and
/// executes itself; a sample is taken in 16 KiB.
/// Guarantees: it finds everything as it should be, and ends with its own exit code; libraries and children
/// are seen.
#[test]
fn programs_are_left_as_they_are() {
    if !is_possible() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let Some(program) = compile(home, "safe.c", &["-ldl"]) else {
        profpipe_testing::skip!("there is no C compiler");
    };
    let library = compile(home, "library.c", &["-shared", "-fPIC"]).unwrap();
    let event = ["record", "-e", "heap:interval=16KiB", "-o", "h.otlp", "--"];
    let command = [program.to_str().unwrap(), library.to_str().unwrap()];
    let output = run(home, &[], &[&event[..], &command].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "as it should be\n", "{said}");
    let found = stacks(home, "h.otlp", "alloc_space");
    for function in ["functions", "allocate", "forks", "thread", "at_exit_of_thread", "handler"] {
        assert!(weight_of(&found, function) > 0.0, "{function}: {said}");
    }
}

/// Scenario: a shell starts three programs at a time; a user preloads a library; a program whose allocator is
/// in a library, and one that has its own inside; a static one; one with another's rights.
/// Guarantees: what children allocate is seen, and the library of the user's is loaded, too; a library's
/// allocator is served; of what cannot be seen it is said why, and the program runs as ever.
#[test]
fn all_kinds_of_programs() {
    if !is_possible() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let Some(simple) = compile(home, "simple.c", &[]) else {
        profpipe_testing::skip!("there is no C compiler");
    };
    let simple = simple.to_str().unwrap();
    let script = format!("{simple} & {simple} & {simple} & wait");
    let said = record(home, "heap", &[], &["sh", "-c", &script]);
    let found = stacks(home, "h.otlp", "alloc_space");
    let total = weight_of(&found, "allocate");
    // 600 blocks of a million bytes, of which 0.85 are sampled: the standard error is 10⁷.
    assert!((540e6..660e6).contains(&total), "{total}: {said}");

    let library = compile(home, "library.c", &["-shared", "-fPIC"]).unwrap();
    let preloaded = [("LD_PRELOAD", library.to_str().unwrap())];
    let arguments = ["record", "-e", "heap", "-o", "x.otlp", "--", "cat", "/proc/self/maps"];
    let output = run(home, &preloaded, &arguments);
    let maps = String::from_utf8_lossy(&output.stdout);
    for name in ["libprofpipe_heap.so", library.to_str().unwrap()] {
        assert!(maps.contains(name), "{name}: {maps}");
    }

    let own = compile(home, "own.c", &["-shared", "-fPIC"]).unwrap();
    let rest = format!("-Wl,-rpath,{}", home.display());
    let linked =
        compile(home, "simple.c", &["-Wl,--no-as-needed", own.to_str().unwrap(), &rest]).unwrap();
    record(home, "heap", &[], &[linked.to_str().unwrap()]);
    let total = weight_of(&stacks(home, "h.otlp", "alloc_space"), "allocate");
    assert!((150e6..250e6).contains(&total), "{total}");

    for (name, options, expected) in [
        ("inside", vec![crate::recordings::source("own.c").to_str().unwrap().to_owned()], "inside"),
        ("static", vec!["-static".to_owned()], "statically linked"),
    ] {
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let program = compile(home, "simple.c", &options).unwrap();
        let other = home.join(name);
        std::fs::rename(program, &other).unwrap();
        let said = record(home, "heap", &[], &[other.to_str().unwrap()]);
        assert!(said.contains(expected), "{name}: {said}");
    }
    foreign_rights(home);
    let output = run(home, &[], &["record", "-e", "heap", "-o", "x.otlp", "-a", "-d", "1"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("give a command after `--`"), "{said}");
}

fn foreign_rights(home: &Path) {
    let simple = compile(home, "simple.c", &[]).unwrap();
    if chown(&simple, Some(65_534), None).is_err() {
        // Only root can give a file away.
        return;
    }
    std::fs::set_permissions(&simple, std::fs::Permissions::from_mode(0o4755)).unwrap();
    let said = record(home, "heap", &[], &[simple.to_str().unwrap()]);
    assert!(said.contains("rights of its own"), "{said}");
}

/// Scenario: the recorder is stopped while a program allocates, until its ring is full, and goes on; another
/// time it is killed.
/// Guarantees: the program ends in both cases; what was lost is said; nothing of the recorder's is left.
#[test]
fn a_program_does_not_wait() {
    if !is_possible() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let Some(simple) = compile(home, "simple.c", &[]) else {
        profpipe_testing::skip!("there is no C compiler");
    };
    for signal in [libc::SIGSTOP, libc::SIGKILL] {
        let command = format!(
            "touch begun; while ! test -e go; do sleep 0.01; done; {} 200 > out; touch ended",
            simple.display()
        );
        let mut recorder = Command::new(env!("CARGO_BIN_EXE_profpipe"))
            .current_dir(home)
            .env("TMPDIR", home)
            .env_remove("XDG_RUNTIME_DIR")
            .args([
                "record",
                "-e",
                "heap:interval=4KiB",
                "-o",
                "h.otlp",
                "--",
                "sh",
                "-c",
                &command,
            ])
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        wait_for("the command", || home.join("begun").exists());
        let pid = rustix::process::Pid::from_raw(recorder.id().cast_signed()).unwrap();
        let send = |number| {
            let signal = rustix::process::Signal::from_named_raw(number).unwrap();
            rustix::process::kill_process(pid, signal).unwrap();
        };
        send(signal);
        std::fs::write(home.join("go"), "").unwrap();
        wait_for("the end", || home.join("ended").exists());
        assert_eq!(std::fs::read_to_string(home.join("out")).unwrap(), "done\n");
        if signal == libc::SIGSTOP {
            send(libc::SIGCONT);
            let output = recorder.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && !said.contains(" 0 lost"), "{said}");
            let left = std::fs::read_dir(home).unwrap().flatten();
            let left: Vec<_> = left.map(|it| it.file_name()).collect();
            let is_ours =
                |name: &std::ffi::OsString| name.to_string_lossy().contains("profpipe-heap");
            assert!(!left.iter().any(is_ours), "{left:?}");
        } else {
            recorder.wait().unwrap();
        }
        for file in ["begun", "go", "ended"] {
            std::fs::remove_file(home.join(file)).unwrap();
        }
    }
}

/// Scenario: a command hands over files that are not rings, and rings that are full of nonsense and change
/// while they are read; beside it an honest one allocates.
/// Guarantees: the recorder goes on, says what was not a ring, and what the honest one has allocated is right.
#[test]
fn nonsense_is_borne() {
    if !is_possible() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let Some(hostile) = compile(home, "hostile.c", &[]) else {
        profpipe_testing::skip!("there is no C compiler");
    };
    let simple = compile(home, "simple.c", &[]).unwrap();
    let script = format!("{} & {}; wait", hostile.display(), simple.display());
    let said = record(home, "heap", &[], &["sh", "-c", &script]);
    assert!(said.contains("not a sealed memory file"), "{said}");
    let found = stacks(home, "h.otlp", "alloc_space");
    let honest = weight_of(&found, "allocate");
    assert!((150e6..250e6).contains(&honest), "{honest} of {}: {said}", all(&found));
}

/// Scenario: an agent listens, and a service is started with the library that it has written, allocates, and
/// goes on for some windows; one without it allocates, too.
/// Guarantees: what the first one allocates and has in use is in the agent's profiles, and the other is not.
#[test]
fn services_that_load_the_library() {
    if !is_possible() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let Some(simple) = compile(home, "simple.c", &[]) else {
        profpipe_testing::skip!("there is no C compiler");
    };
    let socket = home.join("heap.sock");
    let config = format!(
        "receivers: {{perf: {{interval: 500ms, scope: user, events: [{{heap: {{listen: {}}}}}]}}}}\n\
         processors: {{symbolize: {{}}}}\n\
         exporters: {{file: {{path: out, format: folded}}}}\n\
         service: {{pipelines: {{profiles: {{receivers: [perf], processors: [symbolize], exporters: [file]}}}}}}\n",
        socket.display()
    );
    std::fs::write(home.join("c.yaml"), config).unwrap();
    let mut agent = Command::new(env!("CARGO_BIN_EXE_profpipe"))
        .current_dir(home)
        .args(["run", "--config", "c.yaml"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let library = home.join("libprofpipe_heap.so");
    wait_for("the socket", || socket.exists() && library.exists());
    for variables in [true, false] {
        let mut service = Command::new(&simple);
        if variables {
            service.env("LD_PRELOAD", &library).env("PROFPIPE_HEAP", &socket);
        }
        assert!(service.arg("3").stdout(Stdio::null()).status().unwrap().success());
    }
    let files = || {
        let files = std::fs::read_dir(home.join("out")).into_iter().flatten().flatten();
        let text = |sample_type: &str| -> String {
            files
                .filter(|file| file.file_name().to_string_lossy().contains(sample_type))
                .map(|file| std::fs::read_to_string(file.path()).unwrap_or_default())
                .collect()
        };
        text("alloc_space")
    };
    wait_for("the profile", || files().contains("allocate"));
    let pid = rustix::process::Pid::from_raw(agent.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(agent.wait().unwrap().success());
    let total: f64 = files()
        .lines()
        .filter(|line| line.contains("allocate"))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum();
    // 600 blocks of a million bytes, of which 0.85 are sampled: the standard error is 10⁷.
    assert!((540e6..660e6).contains(&total), "{total}");
    assert!(!socket.exists());
}
