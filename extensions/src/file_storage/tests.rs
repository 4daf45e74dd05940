#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::os::unix::fs::PermissionsExt;

use profpipe_engine::Services;
use profpipe_engine::component::{Durability, ExtensionConfig, Setup};
use profpipe_engine::config::Section;

use super::{Config, FACTORY};

fn read(text: &str) -> Config {
    Section::from_yaml(text).unwrap().read_valid().unwrap()
}

/// Scenario: the Collector's snippet, with every key it has.
/// Guarantees: it is read; what has no effect is said at its place.
#[test]
fn the_collectors_keys_are_read() {
    let text = "\
directory: /x
timeout: 1s
compaction: {on_start: true, on_rebound: true, directory: /tmp/, max_transaction_size: 65536}
fsync: true
create_directory: true
directory_permissions: 0700
recreate: true
";
    let section = Section::from_yaml(text).unwrap();
    assert!((FACTORY.parse)(&section).is_ok());
    let advice: Vec<String> = (FACTORY.advise)(&section).iter().map(|a| a.path.clone()).collect();
    assert_eq!(advice, ["timeout", "compaction", "recreate"]);
    assert_eq!(read("{}").durability(), Durability::Fsync);
    assert_eq!(read("fsync: false").durability(), Durability::Os);
    assert_eq!(read("durability: os").durability(), Durability::Os);
    for wrong in ["{fsync: true, durability: os}", "directory: ''", "directory_permissions: 0050"] {
        assert!((FACTORY.parse)(&Section::from_yaml(wrong).unwrap()).is_err(), "{wrong}");
    }
}

/// Scenario: a directory that is not there, with and without leave to create it, and a file in its
/// place.
/// Guarantees: it is created with its permissions, or the error says what to do.
#[test]
fn the_directory_is_there_afterwards() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("a/b");
    let setup = Setup::new("file_storage", Services::default());
    let config = Config { directory: directory.clone(), ..Config::default() };
    let refused = Config { create_directory: false, ..config.clone() }.build(&setup);
    assert!(refused.err().unwrap().to_string().contains("create_directory"));
    let storage = config.build(&setup).unwrap().storage().unwrap();
    assert_eq!(storage.directory, directory.canonicalize().unwrap());
    let mode = directory.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o007, 0);
    let file = place.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Config { directory: file, ..Config::default() }.build(&setup).err().unwrap();
    assert!(error.to_string().starts_with("cannot create "), "{error}");
}
