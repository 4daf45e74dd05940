//! Symbols without a size, before code whose own symbols were stripped.

use std::process::Command;

use super::support::*;

/// Two labels of an assembler, the first with an entry in the unwinding table, and what a compiler
/// puts behind them.
pub(super) const SOURCE: &str = "__asm__(\".text\\n.globl ruled\\nruled:\\n.cfi_startproc\\nnop\\nnop\\nret\\n\
    .cfi_endproc\\n.globl plain\\nplain:\\nnop\\nnop\\nret\\n.balign 16\\n\");\n\
    __attribute__((noinline, used)) static int hidden(int a)\n\
    { volatile int b = a; return b + 1; }\n\
    int shown(int a) { return hidden(a) * 2; }\n";

/// Scenario: a library with all its symbols, one without those of static functions, and a stripped one
/// of which only the dynamic symbols are left.
/// Guarantees: what has no symbol any more is not called after the label before it; a label is what it
/// is where its entry in the unwinding table says so, or its neighbours are all there.
#[test]
fn a_label_does_not_name_what_comes_after() {
    let files = Files::new();
    let source = files.write("labels.c", SOURCE);
    let whole = files.path("whole.so");
    run(Command::new("cc").args(["-O1", "-shared", "-fPIC", "-o"]).arg(&whole).arg(source))
        .unwrap();
    let Some(text) = run(Command::new("nm").arg(&whole)) else { return };
    let address = |name: &str| {
        let line = text.lines().find(|line| line.ends_with(&format!(" {name}"))).unwrap();
        u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap()
    };
    let (ruled, plain) = (address("ruled"), address("plain"));
    let (hidden, shown) = (address("hidden"), address("shown"));
    let (partly, stripped) = (files.path("partly.so"), files.path("stripped.so"));
    run(Command::new("strip").args(["-x", "-o"]).args([&partly, &whole])).unwrap();
    run(Command::new("strip").arg("-o").args([&stripped, &whole])).unwrap();
    let asked = [ruled, ruled + 1, plain, plain + 1, hidden, hidden + 3, shown + 1];
    let name = |file, called: &[Option<&str>]| {
        let names = Bench::new().names(file, &asked);
        let are: Vec<_> = asked.iter().map(|at| names[at].functions().first().copied()).collect();
        assert_eq!(are, called, "{file:?}");
    };
    let (one, two) = (Some("ruled"), Some("plain"));
    name(&whole, &[one, one, two, two, Some("hidden"), Some("hidden"), Some("shown")]);
    name(&partly, &[one, one, two, two, None, None, Some("shown")]);
    name(&stripped, &[one, one, two, None, None, None, Some("shown")]);
}
