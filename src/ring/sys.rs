//! The few system calls that neither the standard library nor socket2 offers, each behind a safe function.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Owns a descriptor that the kernel put in a completion.
pub(super) fn own(fd: RawFd) -> OwnedFd {
    debug_assert!(fd >= 0);
    // SAFETY: only called with a descriptor that a completed accept has just created for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A blocking eventfd: an io_uring read of it waits, where one of a non-blocking eventfd would fail.
pub(super) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(own(fd))
}

/// Adds one to an eventfd. It can only fail when 2^64 wake-ups are pending, which `Waker` rules out.
pub(super) fn signal(eventfd: &OwnedFd) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: `one` is 8 readable bytes.
    unsafe { libc::write(eventfd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
}

/// Sets an integer socket option.
pub(super) fn set_option(
    socket: &impl AsRawFd,
    level: i32,
    name: i32,
    value: i32,
) -> io::Result<()> {
    // SAFETY: `value` outlives the call and its size is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Raises the soft RLIMIT_NOFILE to the hard one and gives what is then in force.
pub(super) fn raise_open_files() -> io::Result<u64> {
    let mut limit = get_limit(libc::RLIMIT_NOFILE)?;
    if limit.rlim_cur < limit.rlim_max {
        let wanted = libc::rlimit {
            rlim_cur: limit.rlim_max,
            rlim_max: limit.rlim_max,
        };
        // SAFETY: `wanted` is a valid rlimit for the length of the call.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &wanted) } == 0 {
            limit = wanted;
        }
    }
    Ok(limit.rlim_cur)
}

/// Binds the calling thread to one core.
pub fn bind_to_core(core: usize) -> io::Result<()> {
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: an all-zero set is a valid one; `core` lies within it; the set is readable for the length of the call.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// The soft RLIMIT_MEMLOCK in bytes.
pub(super) fn locked_memory_limit() -> io::Result<u64> {
    Ok(get_limit(libc::RLIMIT_MEMLOCK)?.rlim_cur)
}

fn get_limit(which: libc::__rlimit_resource_t) -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is writable for the length of the call.
    if unsafe { libc::getrlimit(which, &mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit)
}

/// Private zeroed pages, backed by memory only where touched.
pub(super) struct Pages {
    start: *mut u8,
    len: usize,
}

impl Pages {
    pub(super) fn map(len: usize) -> io::Result<Pages> {
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Pages {
            start: start.cast(),
            len,
        })
    }

    pub(super) fn start(&self) -> *mut u8 {
        self.start
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: exactly what `map` mapped; whoever hands out pointers into it keeps it alive.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}
