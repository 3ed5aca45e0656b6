//! How many threads the pool has when nobody says: one per physical core that this process may use.
//!
//! A decode step is bound by memory and a prompt by the vector units, and the hardware threads of a core share both. What a container may use
//! counts: threads beyond a CPU quota are stopped in the middle of a loop, and the others wait for their jobs.

use std::collections::BTreeSet;
use std::fs::read_to_string;
use std::num::NonZeroUsize;
use std::path::Path;

/// More threads than this add more waiting than memory bandwidth.
const MOST: usize = 16;

/// The physical cores among the CPUs that affinity and the CPU quota of the cgroup leave to this process, at most 16. Where the machine does
/// not say which CPUs share a core (everywhere but on Linux), the CPUs.
pub fn default_threads() -> usize {
    // Looks at affinity and at the quota of both versions of cgroups, which it rounds down.
    let available = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let cores = allowed_cpus(Path::new("/proc/self/status"))
        .and_then(|cpus| physical_cores(Path::new("/sys/devices/system/cpu"), &cpus));
    threads_for(available, cores)
}

fn threads_for(available: usize, cores: Option<usize>) -> usize {
    available.min(cores.unwrap_or(available)).clamp(1, MOST)
}

/// The CPUs of the affinity mask.
fn allowed_cpus(status: &Path) -> Option<Vec<usize>> {
    let text = read_to_string(status).ok()?;
    let list = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    parse_cpu_list(list)
}

/// Numbers of a kernel's CPU list, "0-3,8".
fn parse_cpu_list(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cpus.extend(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?);
    }
    Some(cpus)
}

/// How many cores these CPUs are: CPUs with the same siblings share one.
fn physical_cores(system: &Path, cpus: &[usize]) -> Option<usize> {
    let siblings = |cpu: &usize| {
        let topology = system.join(format!("cpu{cpu}/topology"));
        // The second is its name in kernels before 5.3.
        read_to_string(topology.join("core_cpus_list")).or_else(|_| read_to_string(topology.join("thread_siblings_list")))
    };
    // A CPU of the mask may be offline, or be none at all.
    let cores: BTreeSet<String> = cpus.iter().filter_map(|cpu| siblings(cpu).ok()).collect();
    Some(cores.len()).filter(|&count| count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, remove_dir_all, write};
    use std::path::PathBuf;

    /// A `/sys/devices/system/cpu` whose CPUs have these lists of siblings.
    fn machine(name: &str, file: &str, siblings: &[&str]) -> PathBuf {
        let root = std::env::temp_dir().join(format!("filigree-{name}-{}", std::process::id()));
        for (cpu, list) in siblings.iter().enumerate() {
            let topology = root.join(format!("cpu{cpu}/topology"));
            create_dir_all(&topology).expect("a folder");
            write(topology.join(file), format!("{list}\n")).expect("a file");
        }
        root
    }

    #[test]
    fn two_hardware_threads_are_one_core() {
        let root = machine("smt", "core_cpus_list", &["0,2", "1,3", "0,2", "1,3"]);
        assert_eq!(physical_cores(&root, &[0, 1, 2, 3]), Some(2));
        assert_eq!(physical_cores(&root, &[0, 2]), Some(1), "an affinity mask of one core");
        assert_eq!(
            physical_cores(&root, &[0, 1]),
            Some(2),
            "an affinity mask of one thread of each"
        );
        remove_dir_all(root).expect("removed");
    }

    #[test]
    fn older_kernels_name_siblings_otherwise() {
        let root = machine("old", "thread_siblings_list", &["0-1", "0-1", "2-3", "2-3"]);
        assert_eq!(physical_cores(&root, &[0, 1, 2, 3]), Some(2));
        remove_dir_all(root).expect("removed");
    }

    #[test]
    fn cpus_that_are_not_there_do_not_count() {
        let root = machine("offline", "core_cpus_list", &["0", "1"]);
        assert_eq!(physical_cores(&root, &(0..64).collect::<Vec<_>>()), Some(2));
        assert_eq!(physical_cores(&root, &[7]), None);
        remove_dir_all(root).expect("removed");
    }

    #[test]
    fn cpu_lists_have_ranges() {
        assert_eq!(parse_cpu_list("\t0-2,8,10-11\n"), Some(vec![0, 1, 2, 8, 10, 11]));
        assert_eq!(parse_cpu_list(""), None);
        assert_eq!(parse_cpu_list("0-x"), None);
    }

    #[test]
    fn a_quota_below_the_cores_holds() {
        assert_eq!(threads_for(3, Some(8)), 3);
        assert_eq!(threads_for(16, Some(8)), 8);
        assert_eq!(threads_for(8, None), 8);
        assert_eq!(threads_for(128, Some(64)), MOST);
    }

    #[test]
    fn this_machine_has_a_number() {
        let available = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        assert!((1..=available.min(MOST)).contains(&default_threads()));
    }
}
