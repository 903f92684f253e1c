//! Can this host run the ring, and what has its kernel beyond the floor.
//!
//! Run once before anything else starts. An [`Unsupported`] says exactly what is missing and what to change.

use super::sys;
use super::uring::queue;
use std::fmt;
use std::io;

/// The first kernel with IORING_SETUP_DEFER_TASKRUN.
const KERNEL_FLOOR: (u32, u32) = (6, 1);
const PROBE_ENTRIES: u32 = 8;

/// What the kernel offers beyond the floor of Linux 6.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Features {
    /// As the kernel names itself, e.g. "6.12.8-amd64".
    pub kernel: String,
    /// IORING_SETUP_NO_SQARRAY (6.6): one indirection less for each submission.
    pub no_sqarray: bool,
    /// Socket options of direct descriptors (6.7): `abort` resets; before, it shuts down and closes.
    pub socket_options: bool,
    /// IORING_FEAT_RECVSEND_BUNDLE (6.10).
    pub bundles: bool,
    /// IORING_FEAT_MIN_TIMEOUT (6.12).
    pub min_wait: bool,
}

impl fmt::Display for Features {
    /// One log line's worth of text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = |found| if found { '+' } else { '-' };
        write!(
            f,
            "io_uring on Linux {}: {}no_sqarray {}socket_options {}bundles {}min_wait",
            self.kernel,
            sign(self.no_sqarray),
            sign(self.socket_options),
            sign(self.bundles),
            sign(self.min_wait),
        )
    }
}

/// Why this host cannot run the ring. The host's operator is the one who can change it.
#[derive(Debug)]
pub enum Unsupported {
    /// Older than Linux 6.1.
    KernelTooOld { kernel: String },
    /// Built without io_uring, or a seccomp profile that answers ENOSYS.
    NoIoUring,
    /// `kernel.io_uring_disabled` is 1 or 2.
    Disabled { value: u32 },
    /// EPERM although the kernel setting allows it.
    Forbidden,
    /// ENOMEM; RLIMIT_MEMLOCK in bytes.
    LockedMemory { limit: u64 },
    /// Something else; the error of io_uring_setup.
    Other(io::Error),
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unsupported::KernelTooOld { kernel } => write!(
                f,
                "this kernel is Linux {kernel}, and io_uring as used here needs Linux 6.1 or newer: upgrade the kernel"
            ),
            Unsupported::NoIoUring => write!(
                f,
                "the kernel has no io_uring (io_uring_setup: ENOSYS): use a kernel built with CONFIG_IO_URING=y, or, in a \
                 container, a seccomp profile that allows io_uring_setup, io_uring_enter and io_uring_register"
            ),
            Unsupported::Disabled { value: 1 } => write!(
                f,
                "kernel.io_uring_disabled is 1, which allows io_uring only to the group in kernel.io_uring_group and to \
                 CAP_SYS_ADMIN: run `sysctl kernel.io_uring_disabled=0`, or set kernel.io_uring_group to a group of this \
                 service"
            ),
            Unsupported::Disabled { value } => write!(
                f,
                "kernel.io_uring_disabled is {value}, which forbids io_uring: run `sysctl kernel.io_uring_disabled=0`"
            ),
            Unsupported::Forbidden => write!(
                f,
                "io_uring_setup is refused (EPERM) although kernel.io_uring_disabled is 0: a seccomp profile or security \
                 module forbids it; allow io_uring_setup, io_uring_enter and io_uring_register (in a container: \
                 `--security-opt seccomp=PROFILE` with the profile from tuning/)"
            ),
            Unsupported::LockedMemory { limit } => write!(
                f,
                "the kernel has no memory for the ring; if it counts rings against the limit on locked memory (here {} KiB), \
                 raise that: `ulimit -l unlimited`, `LimitMEMLOCK=infinity` in the systemd unit, or `memlock` in \
                 /etc/security/limits.conf",
                limit / 1024
            ),
            Unsupported::Other(error) => write!(f, "io_uring_setup failed: {error}"),
        }
    }
}

impl std::error::Error for Unsupported {}

impl From<Unsupported> for io::Error {
    fn from(error: Unsupported) -> Self {
        io::Error::new(io::ErrorKind::Unsupported, error)
    }
}

/// Tries what the ring needs, on a small ring that is thrown away.
pub fn probe() -> Result<Features, Unsupported> {
    let host = Host {
        kernel: read_line("/proc/sys/kernel/osrelease"),
        disabled: read_line("/proc/sys/kernel/io_uring_disabled")
            .parse()
            .unwrap_or(0),
        locked_memory: sys::locked_memory_limit().map_err(Unsupported::Other)?,
    };
    let build = |no_sqarray| queue::build(PROBE_ENTRIES, PROBE_ENTRIES * 2, no_sqarray);
    let (mut io, no_sqarray) = match build(true) {
        Ok(io) => (io, true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            (build(false).map_err(|error| host.diagnose(error))?, false)
        }
        Err(error) => return Err(host.diagnose(error)),
    };
    Ok(Features {
        kernel: host.kernel,
        no_sqarray,
        socket_options: queue::sets_socket_options(&mut io).unwrap_or(false),
        bundles: io.params().is_feature_recvsend_bundle(),
        min_wait: io.params().is_feature_min_timeout(),
    })
}

/// What a refusal of io_uring_setup is explained by.
struct Host {
    kernel: String,
    disabled: u32,
    locked_memory: u64,
}

impl Host {
    fn diagnose(&self, error: io::Error) -> Unsupported {
        match error.raw_os_error() {
            Some(libc::ENOSYS) => Unsupported::NoIoUring,
            Some(libc::EPERM) if self.disabled > 0 => Unsupported::Disabled {
                value: self.disabled,
            },
            Some(libc::EPERM | libc::EACCES) => Unsupported::Forbidden,
            Some(libc::ENOMEM) => Unsupported::LockedMemory {
                limit: self.locked_memory,
            },
            Some(libc::EINVAL) if version(&self.kernel) < KERNEL_FLOOR => {
                Unsupported::KernelTooOld {
                    kernel: self.kernel.clone(),
                }
            }
            _ => Unsupported::Other(error),
        }
    }
}

fn read_line(path: &str) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Major and minor of a kernel release; zeros for what is not a number.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(kernel: &str, disabled: u32) -> Host {
        Host {
            kernel: kernel.into(),
            disabled,
            locked_memory: 8 << 20,
        }
    }

    #[test]
    fn a_refusal_names_its_cause_and_its_cure() {
        let cases = [
            (
                host("5.15.0-91-generic", 0),
                libc::EINVAL,
                "Linux 5.15.0-91-generic",
            ),
            (
                host("6.8.0", 2),
                libc::EPERM,
                "sysctl kernel.io_uring_disabled=0",
            ),
            (host("6.8.0", 1), libc::EPERM, "kernel.io_uring_group"),
            (host("6.8.0", 0), libc::EPERM, "seccomp"),
            (host("6.8.0", 0), libc::ENOSYS, "CONFIG_IO_URING"),
            (host("6.8.0", 0), libc::ENOMEM, "LimitMEMLOCK"),
            (host("6.8.0", 0), libc::EINVAL, "io_uring_setup failed"),
        ];
        for (host, errno, expected) in cases {
            let text = host
                .diagnose(io::Error::from_raw_os_error(errno))
                .to_string();
            assert!(text.contains(expected), "{text:?} lacks {expected:?}");
        }
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(version("6.10.3") > version("6.9"));
        assert!(version("5.19") < KERNEL_FLOOR);
        assert!(version("6.1.0-18-amd64") >= KERNEL_FLOOR);
        assert_eq!(version("custom"), (0, 0));
    }

    #[test]
    fn this_host_is_described_in_one_line() {
        match probe() {
            Ok(features) => {
                let line = features.to_string();
                assert!(
                    line.starts_with("io_uring on Linux ") && !line.contains('\n'),
                    "{line}"
                );
            }
            Err(error) => panic!("{error}"),
        }
    }
}
