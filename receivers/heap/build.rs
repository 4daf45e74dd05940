//! Builds the library that is preloaded, from the sources of this crate, so that it can be embedded.
//!
//! It stands for itself: without the standard library, without an allocator, and without a needed
//! library, so that it can be loaded beside any libc. That is another kind of build than this crate's
//! own, and cargo cannot ask for both: the compiler is called here.

use std::path::PathBuf;
use std::process::{Command, exit};
use std::{env, fs};

/// The name of the library.
const NAME: &str = "libprofpipe_heap.so";
/// Processors that its code is written for.
const PROCESSORS: [&str; 2] = ["x86_64", "aarch64"];

fn main() {
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rustc-check-cfg=cfg(profpipe_preload)");
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let output = PathBuf::from(variable("OUT_DIR")).join(NAME);
    let is_served = variable("CARGO_CFG_TARGET_OS") == "linux"
        && PROCESSORS.contains(&variable("CARGO_CFG_TARGET_ARCH").as_str());
    let built = if is_served {
        compile(&output, &variable)
    } else {
        // Nothing to preload: `record -e heap` says so.
        fs::write(&output, []).map_err(|error| error.to_string())
    };
    if let Err(error) = built {
        println!("cargo::error=the library to preload cannot be built: {error}");
        exit(1);
    }
}

fn compile(output: &std::path::Path, variable: &dyn Fn(&str) -> String) -> Result<(), String> {
    let mut compiler = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    compiler
        .args(["--crate-name", "profpipe_heap", "--crate-type", "cdylib", "--edition", "2024"])
        .args(["--cfg", "profpipe_preload", "--target", &variable("TARGET")])
        .args(["-C", "opt-level=3", "-C", "panic=abort", "-C", "codegen-units=1", "-C", "lto=fat"])
        // Also in programs that allow no lazy binding, and with no library that it needs.
        .args([
            "-C",
            "link-args=-nostdlib -nostartfiles -Wl,-z,now -Wl,-soname,libprofpipe_heap.so",
        ])
        .args(["-C", "strip=debuginfo"])
        .arg("-o")
        .arg(output)
        .arg("src/lib.rs");
    let linker = variable("RUSTC_LINKER");
    if !linker.is_empty() {
        compiler.arg("-C").arg(format!("linker={linker}"));
    }
    let done = compiler.output().map_err(|error| error.to_string())?;
    if done.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&done.stderr).replace('\n', " | "))
}
