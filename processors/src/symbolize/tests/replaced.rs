//! Programs that are overwritten in place while they are remembered.

use std::path::Path;
use std::process::Command;

use profpipe_engine::modules::{Content, Module, ModuleId};
use profpipe_host::elf::htlhash;
use profpipe_profile::attribute_names::{BUILD_ID_GNU, BUILD_ID_HTLHASH};

use super::support::*;

/// Another program, in which other functions are where those of the first are.
const OTHER: &str = "int wrong(int a) { int b = 0; while (a) b += a--; return b; }\n\
                     int main(int n, char **v) { (void)v; return wrong(n); }\n";

/// Publishes a file as the sampler does, under what it is now; the attributes of its mappings.
pub(super) fn publish(bench: &Bench, program: &Path) -> Vec<(&'static str, String)> {
    let file = std::fs::File::open(program).unwrap();
    let hash = htlhash(&file).unwrap();
    let build_id = profpipe_host::elf::Identity::read(&file).unwrap().build_id;
    let content = Content::Elf(std::sync::Arc::new(file));
    let path = program.to_str().unwrap().to_owned();
    let module = std::sync::Arc::new(Module { path, pid: std::process::id(), content });
    bench.services.modules.publish(ModuleId::Htl(hash.clone()), std::sync::Arc::clone(&module));
    let mut attributes = vec![(BUILD_ID_HTLHASH, hash)];
    if let Some(id) = build_id {
        bench.services.modules.publish(ModuleId::Gnu(id.clone()), module);
        attributes.push((BUILD_ID_GNU, id));
    }
    attributes
}

/// Scenario: a program with a build id and one without are published. One address is asked for, the
/// file is overwritten in place with another program, then another address is asked for; then the first
/// content is there again.
/// Guarantees: names of the first program, then none and a reason, never one of the other's; once the
/// content is right, names again.
#[test]
fn names_are_of_what_was_mapped() {
    for flag in ["-Wl,--build-id=sha1", "-Wl,--build-id=none"] {
        let files = Files::new();
        let program = files.compile_c(&["-O1", flag]);
        let source = files.write("other.c", OTHER);
        let other = files.path("other");
        run(Command::new("cc").args(["-O1", flag, "-o"]).arg(&other).arg(source)).unwrap();
        let Some(functions) = functions(&program) else { return };
        let (outer, main) = (functions["outer"].0, functions["main"].0);
        // A build id says whose names a table has; without one only the content does.
        let has_build_id = flag.ends_with("sha1");
        let mut bench = if has_build_id { Bench::without_tables() } else { Bench::new() };
        let attributes = publish(&bench, &program);
        let attributes: Vec<_> = attributes.iter().map(|(key, id)| (*key, id.as_str())).collect();
        // What the other one says is known.
        bench.names(&other, &[outer, main]);
        let path = program.to_str().unwrap();
        let ask = |bench: &mut Bench, address: u64| {
            let names = bench.symbolize(batch_by(path, &attributes, &[address]));
            names[path][&address].clone()
        };
        assert_eq!(ask(&mut bench, outer).functions(), ["outer"], "{flag}");
        let before = std::fs::read(&program).unwrap();
        std::fs::write(&program, std::fs::read(&other).unwrap()).unwrap();
        let named = ask(&mut bench, main);
        assert!(named.frames.is_empty(), "{flag}: {named:?}");
        assert_eq!(named.attributes["profpipe.unsymbolized.reason"], "wrong build id");
        std::fs::write(&program, before).unwrap();
        publish(&bench, &program);
        assert_eq!(ask(&mut bench, main).functions(), ["main"], "{flag}");
    }
}
