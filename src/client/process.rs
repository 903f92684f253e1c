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

/// The kernel's unit for times in `/proc/PID/stat`, whatever its own tick is.
const NANOS_A_TICK: u64 = 1_000_000_000 / 100;

/// Nanoseconds on a CPU, all threads of the process together.
fn cpu_ns(pid: u32) -> Option<u64> {
    let mut living = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        living += text
            .split(' ')
            .next()
            .and_then(|n| n.parse::<u64>().ok())
            .unwrap_or(0);
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Coarse, and with what threads have used that are gone: then it is more.
    Some(living.max(ticks(&stat).saturating_mul(NANOS_A_TICK)))
}

/// User and system time of a process, in ticks: fields 14 and 15 of proc(5)'s stat.
fn ticks(stat: &str) -> u64 {
    // The name, in brackets, may hold spaces and brackets itself.
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let mut times = fields.split(' ').skip(11).map(|n| n.parse().unwrap_or(0));
    times.next().unwrap_or(0) + times.next().unwrap_or(0)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn times_stand_behind_a_name_that_may_be_anything() {
        let stat = "7 (a) b (c) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14";
        assert_eq!(ticks(stat), 11 + 12);
        assert_eq!(ticks(""), 0);
    }

    #[test]
    fn what_a_thread_used_counts_when_it_is_gone() {
        let own = std::process::id();
        let before = cpu_ns(own).unwrap();
        let spins = || {
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(300) {
                std::hint::spin_loop();
            }
        };
        std::thread::spawn(spins).join().unwrap();
        let used = cpu_ns(own).unwrap() - before;
        assert!(used > 20_000_000, "{used} ns");
    }
}
