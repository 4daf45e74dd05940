//! Symbols by Pyroscope's generated client of `debuginfo.v1alpha1`, which `profilecli debuginfo upload` has: the same
//! three steps, with the calls by Connect in protobuf and JSON, gRPC and gRPC-Web.

use std::process::Command;

use profpipe_host::elf::Identity;

use crate::built;
use crate::process::{Running, free_address};

/// Scenario: the client uploads a binary four times, each time under another protocol, to a gateway that forgets it in
/// between; then once more; then under an id that it does not have, and under none.
/// Guarantees: each protocol is told to send it, sends it, and hears that it is there; whole it is kept; the next is not
/// told to; a wrong id is an error at the upload; none is not wanted.
#[test]
fn pyroscopes_client_uploads_symbols() {
    let Some(uploader) = built::peer("uploader") else { return };
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let address = free_address();
    let config = format!(
        "extensions: {{symbol_storage: {{directory: '{}/symbols'}}}}\n\
         receivers: {{pyroscope: {{endpoint: '{address}', symbol_storage: symbol_storage}}}}\n\
         exporters: {{nop: }}\n\
         service: {{extensions: [symbol_storage], pipelines: {{profiles: {{receivers: [pyroscope], \
         exporters: [nop]}}}}}}\n",
        place.display()
    );
    std::fs::write(place.join("gateway.yaml"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_profpipe"));
    command.args(["run", "--config", "gateway.yaml"]).current_dir(place);
    let mut gateway = Running::start("gateway", &mut command, place);
    gateway.ready(|said| said.contains("Ctrl-C stops").then_some(()));

    let binary = uploader.as_path();
    // Go writes no GNU build id unless it is told to: this test program has one.
    let own = std::env::current_exe().unwrap();
    let id = Identity::read(&std::fs::File::open(&own).unwrap()).unwrap().build_id.unwrap();
    let upload = |id: &str, protocol: &str| {
        let mut command = Command::new(binary);
        command.args([&format!("http://{address}"), id]).arg(&own).arg(protocol);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let kept = place.join(format!("symbols/files/~/{id}.executable"));
    for protocol in ["connect", "json", "grpc", "grpcweb"] {
        let _ = std::fs::remove_file(&kept);
        let (code, said) = upload(&id, protocol);
        assert_eq!((code, said.contains("finished")), (Some(0), true), "{protocol}: {said}");
        assert!(said.starts_with("true not here yet"), "{protocol}: {said}");
        assert_eq!(std::fs::metadata(&kept).unwrap().len(), own.metadata().unwrap().len());
        let (code, said) = upload(&id, protocol);
        assert_eq!((code, said.as_str()), (Some(0), "false it is here already\n"), "{protocol}");
    }
    let (code, said) = upload(&"ab".repeat(20), "connect");
    assert!(
        code == Some(1) && said.contains("400") && said.contains("failed_precondition"),
        "{said}"
    );
    let (code, said) = upload("", "connect");
    assert!(code == Some(0) && said.starts_with("false without a GNU build id"), "{said}");
    let (code, said) = upload("xyz", "connect");
    assert!(code == Some(1) && said.contains("invalid_argument"), "{said}");
}
