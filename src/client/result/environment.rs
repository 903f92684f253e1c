//! The machine that a run was measured on, as `/proc` and `/sys` tell it, and the programs that were measured. No program is
//! run to ask for its version: ours is known by its file, a distribution's by the package that the file came from.

use super::Environment;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

impl Environment {
    /// This machine now, with the programs of these processes; what cannot be read stays empty.
    pub fn read(processes: &[(String, u32)]) -> Environment {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut versions: BTreeMap<_, _> = processes
            .iter()
            .filter_map(|(name, pid)| Some((name.clone(), program(*pid)?)))
            .collect();
        versions.insert("load".to_owned(), own_version());
        Environment {
            cpu: processor(&text("/proc/cpuinfo")),
            cores: cores(&text("/proc/self/status")),
            memory_kib: number_after(&text("/proc/meminfo"), "MemTotal:"),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            mitigations: mitigations(Path::new("/sys/devices/system/cpu/vulnerabilities")),
            versions,
        }
    }
}

fn own_version() -> String {
    format!("tidegate {}", env!("CARGO_PKG_VERSION"))
}

/// The processor's name; under KVM the word for it, because figures of a shared host tell less.
fn processor(cpuinfo: &str) -> String {
    let field = |key: &str| {
        let of = |line: &str| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == key).then(|| value.trim().to_owned())
        };
        cpuinfo
            .lines()
            .find_map(of)
            .filter(|value| !value.is_empty())
    };
    let arm = || {
        let (implementer, part) = (field("CPU implementer")?, field("CPU part")?);
        Some(format!(
            "{} {implementer} part {part}",
            std::env::consts::ARCH
        ))
    };
    let name = field("model name")
        .or_else(|| field("cpu model"))
        .or_else(arm);
    let name = name.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    let virtual_machine =
        field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    if virtual_machine {
        name + " (virtual machine)"
    } else {
        name
    }
}

/// How many processors `Cpus_allowed_list: 0-3,8` names.
fn cores(status: &str) -> usize {
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let span = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (
            first.trim().parse::<usize>().ok()?,
            last.trim().parse::<usize>().ok()?,
        );
        (last.checked_sub(first)?).checked_add(1)
    };
    let spans = list.unwrap_or_default().split(',').filter_map(span);
    spans.fold(0, usize::saturating_add)
}

fn number_after(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn mitigations(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let each = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        Some((
            name,
            fs::read_to_string(entry.path()).ok()?.trim().to_owned(),
        ))
    });
    each.collect()
}

/// A process's program as far as its file tells; none of a process that is gone or another user's.
fn program(pid: u32) -> Option<String> {
    let link = format!("/proc/{pid}/exe");
    let path = fs::read_link(&link).ok()?;
    let file = |path: &str| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    if file(&link).is_some() && file(&link) == file("/proc/self/exe") {
        return Some(own_version());
    }
    let path = path.to_string_lossy().into_owned();
    let package = packaged(Path::new("/var/lib/dpkg"), &path);
    Some(package.map_or_else(|| path.clone(), |package| format!("{package} ({path})")))
}

/// Name and version of the Debian package that a file belongs to, by dpkg's own lists.
fn packaged(dpkg: &Path, file: &str) -> Option<String> {
    // Packages may list a file by its place from before /usr was merged.
    let before = file.strip_prefix("/usr").filter(|rest| !rest.is_empty());
    let holds = |list: &str| {
        list.lines()
            .any(|line| line == file || Some(line) == before)
    };
    let lists = fs::read_dir(dpkg.join("info")).ok()?.flatten();
    let list = lists
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "list"))
        .find(|path| fs::read_to_string(path).is_ok_and(|text| holds(&text)))?;
    // `libc6:amd64.list` where a package may be there for several architectures.
    let stem = list.file_stem()?.to_string_lossy().into_owned();
    let name = stem.split(':').next()?;
    let status = fs::read_to_string(dpkg.join("status")).ok()?;
    let own = format!("Package: {name}\n");
    let paragraph = status
        .split("\n\n")
        .find(|text| format!("{text}\n").starts_with(&own))?;
    let version = paragraph
        .lines()
        .find_map(|line| line.strip_prefix("Version: "))?;
    Some(format!("{name} {version}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing::Folder;

    #[test]
    fn this_machine_is_read() {
        let own = std::process::id();
        let environment =
            Environment::read(&[("gateway".to_owned(), own), ("gone".to_owned(), u32::MAX)]);
        assert!(!environment.cpu.is_empty() && !environment.kernel.is_empty());
        assert!(environment.cores >= 1 && environment.memory_kib > 1024);
        assert_eq!(environment.versions["gateway"], own_version());
        assert!(!environment.versions.contains_key("gone"));
    }

    #[test]
    fn processors_have_names() {
        let intel = "processor\t: 0\nmodel name\t: Fast  CPU @ 3.00GHz\nflags\t\t: fpu sse2\n";
        assert_eq!(processor(intel), "Fast CPU @ 3.00GHz");
        let guest = intel.replace("sse2", "hypervisor sse2");
        assert_eq!(processor(&guest), "Fast CPU @ 3.00GHz (virtual machine)");
        let arm = "processor : 0\nCPU implementer : 0x41\nCPU part : 0xd0c\n";
        assert!(processor(arm).ends_with("0x41 part 0xd0c"));
        assert_eq!(processor(""), std::env::consts::ARCH);
    }

    #[test]
    fn cores_are_those_of_the_affinity() {
        let of = |list: &str| cores(&format!("Name:\tx\nCpus_allowed_list:\t{list}\n"));
        assert_eq!(
            (of("0-3,8"), of("2"), of("0-15,32-47"), of("")),
            (5, 1, 32, 0)
        );
        assert_eq!(of("0-18446744073709551615"), 0);
    }

    #[test]
    fn a_packages_file_has_its_version() {
        let folder = Folder::new();
        std::fs::create_dir(folder.file("info")).unwrap();
        folder.write("info/nginx-core.list", "/.\n/usr/sbin/nginx\n");
        folder.write("info/sh:amd64.list", "/bin/sh\n");
        folder.write(
            "status",
            "Package: nginx\nVersion: 0\n\nPackage: nginx-core\nStatus: ok\nVersion: 1.22-9\n\nPackage: sh\nVersion: 2\n",
        );
        let of = |file| packaged(folder.path(), file);
        assert_eq!(of("/usr/sbin/nginx").unwrap(), "nginx-core 1.22-9");
        assert_eq!(of("/usr/bin/sh").unwrap(), "sh 2");
        assert_eq!(of("/usr/bin/other"), None);
        assert_eq!(packaged(&folder.file("none"), "/bin/sh"), None);
    }
}
