//! What machine this is and what runs it: the `system` detector.

use profpipe_profile::Value;

use super::facts::Facts;
use super::files::{self, Files};

/// What `/proc/cpuinfo` says of the first CPU.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Processor {
    pub(super) vendor: Option<String>,
    pub(super) family: Option<String>,
    pub(super) model: Option<String>,
    pub(super) name: Option<String>,
    pub(super) stepping: Option<String>,
    pub(super) microcode: Option<String>,
    pub(super) hypervisor: Option<bool>,
}

impl Processor {
    pub(super) fn read(files: &Files) -> Self {
        let text = files.text("/proc/cpuinfo").unwrap_or_default();
        let get = |names: &[&str]| {
            names.iter().find_map(|name| files::value(&text, name, ':')).map(str::to_owned)
        };
        Self {
            vendor: get(&["vendor_id", "CPU implementer"]),
            family: get(&["cpu family", "CPU architecture"]),
            model: get(&["model", "CPU part"]),
            name: get(&["model name"]),
            stepping: get(&["stepping", "CPU revision"]),
            microcode: get(&["microcode"]),
            hypervisor: files::value(&text, "flags", ':')
                .map(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
        }
    }

    /// The attributes that the semantic conventions have for it.
    pub(super) fn describe(&self, facts: &mut Facts) {
        facts.text("host.cpu.vendor.id", self.vendor.clone());
        facts.text("host.cpu.family", self.family.clone());
        facts.text("host.cpu.model.id", self.model.clone());
        facts.text("host.cpu.model.name", self.name.clone());
        facts.text("host.cpu.stepping", self.stepping.clone());
    }
}

/// Describes host and operating system.
pub(super) fn detect(files: &Files) -> Facts {
    let mut facts = Facts::default();
    facts.text("host.name", Some(name()));
    facts.text("host.id", id(files));
    facts.text("host.arch", Some(architecture()));
    Processor::read(files).describe(&mut facts);
    facts.add("host.cpu.cache.l2.size", cache(files));
    facts.text("os.type", Some(std::env::consts::OS.to_owned()));
    let release = files.line("/etc/os-release").or_else(|| files.line("/usr/lib/os-release"));
    let release = release.unwrap_or_default();
    let get = |key| files::value(&release, key, '=').map(str::to_owned);
    facts.text("os.name", get("NAME"));
    facts.text("os.version", get("VERSION_ID"));
    facts.text("os.description", get("PRETTY_NAME"));
    facts.text("os.build_id", get("BUILD_ID"));
    facts
}

/// The name of this host.
pub(super) fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The machine id.
pub(super) fn id(files: &Files) -> Option<String> {
    let id = files.line("/etc/machine-id").or_else(|| files.line("/var/lib/dbus/machine-id"))?;
    // `uninitialized` stands there while a system is set up.
    (id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit())).then_some(id)
}

/// The architecture, in the words of the semantic conventions.
fn architecture() -> String {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "x86",
        "arm" => "arm32",
        "powerpc64" => "ppc64",
        other => other,
    }
    .to_owned()
}

/// The size of the second-level cache in bytes.
fn cache(files: &Files) -> Option<Value> {
    let directory = "/sys/devices/system/cpu/cpu0/cache";
    files.names(directory).iter().find_map(|index| {
        let level = files.number(&format!("{directory}/{index}/level"))?;
        let size = files.text(&format!("{directory}/{index}/size"))?;
        let kib: i64 = size.strip_suffix('K')?.parse().ok()?;
        (level == 2).then(|| Value::Int(kib.saturating_mul(1024)))
    })
}
