//! CPU and memory of another process, from `/proc`.

use std::fs;

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub cpu_ns: u64,
    pub rss_kib: u64,
}

impl Usage {
    /// Zeros of a process that is gone.
    pub fn of(pid: u32) -> Usage {
        Usage {
            cpu_ns: cpu_ns(pid).unwrap_or(0),
            rss_kib: status_kib(pid, "VmRSS:"),
        }
    }
}

/// KiB that the kernel's own objects take, sockets among them.
pub fn kernel_kib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let of = |key| kib(&text, key);
    of("Slab:") + of("Percpu:") + of("PageTables:")
}

/// A process under observation.
pub struct Process {
    pub name: String,
    pub pid: u32,
    began: Option<u64>,
    ended: Option<u64>,
    /// KiB at the end, and the peak of the process's life.
    pub rss_kib: u64,
    pub peak_kib: u64,
}

impl Process {
    pub fn new(name: &str, pid: u32) -> Result<Process, String> {
        let process = Process {
            name: name.to_owned(),
            pid,
            began: None,
            ended: None,
            rss_kib: 0,
            peak_kib: 0,
        };
        cpu_ns(pid)
            .map(|_| process)
            .ok_or_else(|| format!("there is no process {pid} ({name})"))
    }

    pub fn start(&mut self) {
        self.began = cpu_ns(self.pid);
    }

    /// The first call counts.
    pub fn stop(&mut self) {
        if self.ended.is_none() {
            self.ended = cpu_ns(self.pid);
            self.rss_kib = status_kib(self.pid, "VmRSS:");
            self.peak_kib = status_kib(self.pid, "VmHWM:");
        }
    }

    /// CPU time between start and stop, in nanoseconds.
    pub fn cpu_ns(&self) -> u64 {
        self.ended
            .unwrap_or(0)
            .saturating_sub(self.began.unwrap_or(0))
    }
}

/// Nanoseconds on a CPU, all threads of the process together.
fn cpu_ns(pid: u32) -> Option<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        sum += text
            .split(' ')
            .next()
            .and_then(|n| n.parse::<u64>().ok())
            .unwrap_or(0);
    }
    Some(sum)
}

fn status_kib(pid: u32, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    kib(&text, key)
}

fn kib(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|rest| rest.split_whitespace().next())
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}
