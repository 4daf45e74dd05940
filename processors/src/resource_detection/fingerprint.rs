//! What decides how fast the same program is: the `fingerprint` detector, as far as it is the same
//! for all processes of a host.
//!
//! Two profiles compare fairly where these are equal, and where they are not they explain the
//! difference. `profpipe.environment.id` is one short value for all of it: hosts of one kind have
//! the same, so that profiles can be grouped by it.

use profpipe_profile::Value;

use super::facts::{Facts, clean};
use super::files::{self, Files};
use super::system::Processor;

/// The longest text about one mitigation.
const MAX_MITIGATION: usize = 160;
const CPUS: &str = "/sys/devices/system/cpu";

/// The name of the value that stands for all others.
pub(super) const ID: &str = "profpipe.environment.id";

/// Describes what programs run on.
pub(super) fn detect(files: &Files) -> Facts {
    let mut facts = Facts::default();
    let processor = Processor::read(files);
    processor.describe(&mut facts);
    facts.text("profpipe.environment.cpu.microcode", processor.microcode.clone());
    facts.add("profpipe.environment.cpu.count", processors(files));
    facts.add("profpipe.environment.cpu.smt", smt(files));
    facts.text("profpipe.environment.cpu.governor", governor(files));
    facts.text("profpipe.environment.cpu.driver", {
        files.line(&format!("{CPUS}/cpu0/cpufreq/scaling_driver"))
    });
    facts.add("profpipe.environment.cpu.frequency.max", frequency(files));
    facts.add("profpipe.environment.cpu.boost", boost(files));
    facts.add("profpipe.environment.memory.size", memory(files));
    facts.text("profpipe.environment.memory.huge_pages", {
        files.text("/sys/kernel/mm/transparent_hugepage/enabled").and_then(|text| chosen(&text))
    });
    facts.add("profpipe.environment.numa.nodes", numa(files));
    facts.text("profpipe.environment.virtualization", virtualization(files, &processor));
    facts.text("profpipe.environment.machine", machine(files));
    facts.text("profpipe.environment.kernel.release", files.line("/proc/sys/kernel/osrelease"));
    facts.add("profpipe.environment.kernel.mitigations", mitigations(files));
    let id = identity(&facts);
    facts.add(ID, Some(id));
    facts
}

/// The CPUs that are online.
fn processors(files: &Files) -> Option<i64> {
    files.text(&format!("{CPUS}/online")).and_then(|list| files::count(&list))
}

/// Whether cores run several threads at a time.
fn smt(files: &Files) -> Option<bool> {
    match files.text(&format!("{CPUS}/smt/active"))?.as_str() {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

/// The frequency governors of the CPUs: one name, or several where they differ.
fn governor(files: &Files) -> Option<String> {
    let mut names = Vec::new();
    for policy in files.names(&format!("{CPUS}/cpufreq")) {
        let name = files.line(&format!("{CPUS}/cpufreq/{policy}/scaling_governor"));
        names.extend(name.filter(|_| policy.starts_with("policy")));
    }
    names.sort_unstable();
    names.dedup();
    (!names.is_empty()).then(|| names.join(","))
}

/// The highest frequency in hertz.
fn frequency(files: &Files) -> Option<i64> {
    let kilohertz = files.number(&format!("{CPUS}/cpu0/cpufreq/cpuinfo_max_freq"))?;
    i64::try_from(kilohertz).ok()?.checked_mul(1000)
}

/// Whether CPUs may go above their nominal frequency.
fn boost(files: &Files) -> Option<bool> {
    let boost = files.number(&format!("{CPUS}/cpufreq/boost")).map(|on| on != 0);
    let no_turbo = || files.number(&format!("{CPUS}/intel_pstate/no_turbo")).map(|off| off == 0);
    boost.or_else(no_turbo)
}

/// The memory in bytes.
fn memory(files: &Files) -> Option<i64> {
    let text = files.text("/proc/meminfo")?;
    let kib = files::value(&text, "MemTotal", ':')?.strip_suffix("kB")?.trim();
    kib.parse::<i64>().ok()?.checked_mul(1024)
}

/// The memory nodes.
fn numa(files: &Files) -> Option<i64> {
    files.text("/sys/devices/system/node/online").and_then(|list| files::count(&list))
}

/// The word in brackets of `always [madvise] never`.
fn chosen(text: &str) -> Option<String> {
    let (_, tail) = text.split_once('[')?;
    Some(tail.split_once(']')?.0.to_owned())
}

/// Under what this system runs: the hypervisor as far as it says, `vm` for an unknown one, `none`.
fn virtualization(files: &Files, processor: &Processor) -> Option<String> {
    let maker = files.line("/sys/class/dmi/id/sys_vendor").unwrap_or_default();
    let product = files.line("/sys/class/dmi/id/product_name").unwrap_or_default();
    let known = [
        ("QEMU", "kvm"),
        ("KVM", "kvm"),
        ("Amazon EC2", "amazon"),
        ("Google", "google"),
        ("VMware", "vmware"),
        ("Microsoft Corporation Virtual", "microsoft"),
        ("innotek", "virtualbox"),
        ("VirtualBox", "virtualbox"),
        ("Xen", "xen"),
        ("Parallels", "parallels"),
    ];
    let described = format!("{maker} {product}");
    let name = known.iter().find(|(text, _)| described.contains(text)).map(|(_, name)| *name);
    let kind = files.line("/sys/hypervisor/type");
    match (processor.hypervisor, kind, name) {
        (_, Some(kind), _) => Some(kind),
        // Some makers sell bare metal under the same name.
        (Some(false), ..) => Some("none".to_owned()),
        (Some(true), None, Some(name)) => Some(name.to_owned()),
        (Some(true), None, None) => Some("vm".to_owned()),
        (None, None, name) => name.map(str::to_owned),
    }
}

/// What the machine is sold as.
fn machine(files: &Files) -> Option<String> {
    let maker = files.line("/sys/class/dmi/id/sys_vendor");
    let product = files.line("/sys/class/dmi/id/product_name");
    // Boards without firmware of that kind, mostly arm64.
    let tree = || files.text("/proc/device-tree/model").map(|text| text.replace('\0', ""));
    match (maker, product) {
        (Some(maker), Some(product)) => Some(format!("{maker} {product}")),
        (one, other) => one.or(other).or_else(tree),
    }
}

/// Weaknesses of the CPU that this kernel does something about, or should: what it does costs time.
fn mitigations(files: &Files) -> Option<Value> {
    let directory = format!("{CPUS}/vulnerabilities");
    let mut found = Vec::new();
    let names = files.names(&directory);
    for name in &names {
        let Some(text) = files.line(&format!("{directory}/{name}")) else { continue };
        if text != "Not affected" {
            let text = clean(text.strip_prefix("Mitigation: ").unwrap_or(&text));
            let text: String = text.chars().take(MAX_MITIGATION).collect();
            found.push(Value::String(format!("{name}: {text}")));
        }
    }
    (!names.is_empty()).then_some(Value::Array(found))
}

/// A short value that is the same where all facts are. FNV-1a: it must be the same in every release
/// and on every platform, and hosts do not attack themselves.
fn identity(facts: &Facts) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for (key, value) in facts.iter() {
        for byte in format!("{key}={}\n", text(value)).bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(truth) => truth.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Array(values) => values.iter().map(|value| text(value) + "\n").collect(),
        // Nothing here is of another kind.
        Value::Empty | Value::Double(_) | Value::Bytes(_) | Value::Map(_) => String::new(),
    }
}
