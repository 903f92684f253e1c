//! The submission and completion queues: what is under way is counted, arguments live until they are read, a full
//! queue loses nothing.

use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue, types};
use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Builds a ring with the flags that all of ours have. The kernel makes its descriptor close-on-exec.
pub(in crate::ring) fn build(
    entries: u32,
    completions: u32,
    no_sqarray: bool,
) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(completions);
    if no_sqarray {
        builder.setup_no_sqarray();
    }
    builder.build(entries)
}

/// Tries to set an option of a socket through the ring.
pub(in crate::ring) fn sets_socket_options(io: &mut IoUring) -> io::Result<bool> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    let fd = types::Fd(socket.as_raw_fd());
    let entry = opcode::SetSockOpt::new(
        fd,
        libc::SOL_SOCKET as u32,
        libc::SO_LINGER as u32,
        LINGER_RESET.as_ptr(),
        LINGER_RESET.len(),
    )
    .build();
    // SAFETY: the option's value is static; the socket is closed after the completion was seen.
    unsafe { io.submission().push(&entry).map_err(io::Error::other)? };
    while let Err(error) = io.submit_and_wait(1) {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    Ok(io
        .completion()
        .next()
        .is_some_and(|completion| completion.result() == 0))
}

/// SO_LINGER on, with no time: closing resets.
pub(super) static LINGER_RESET: Linger = Linger(libc::linger {
    l_onoff: 1,
    l_linger: 0,
});

pub(super) struct Linger(libc::linger);

impl Linger {
    pub(super) fn as_ptr(&'static self) -> *const libc::c_void {
        (&raw const self.0).cast()
    }
    pub(super) const fn len(&self) -> u32 {
        size_of::<libc::linger>() as u32
    }
}

pub(super) struct Queue {
    io: IoUring,
    /// Entries that found the submission queue full while the kernel would take none.
    overflow: VecDeque<squeue::Entry>,
    /// Arguments of entries not yet submitted, which the kernel copies when they are (IORING_FEAT_SUBMIT_STABLE).
    arguments: Vec<Box<dyn Any>>,
    /// Operations whose last completion has not been seen.
    in_flight: usize,
}

impl Queue {
    pub(super) fn new(io: IoUring) -> Queue {
        Queue {
            io,
            overflow: VecDeque::new(),
            arguments: Vec::new(),
            in_flight: 0,
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Keeps what the entry just pushed points to. (Before the push would be too early: pushing may submit, and what was
    /// submitted is no longer kept.)
    pub(super) fn keep(&mut self, argument: Box<dyn Any>) {
        self.arguments.push(argument);
    }

    /// # Safety
    /// What the entry points to stays valid until its last completion has been popped, or until it was submitted if
    /// the kernel copies it then (`keep`).
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry) {
        self.in_flight += 1;
        if self.overflow.is_empty() {
            // SAFETY: passed on to the caller.
            if unsafe { self.io.submission().push(&entry) }.is_ok() {
                return;
            }
            self.submit();
            // SAFETY: as above.
            if unsafe { self.io.submission().push(&entry) }.is_ok() {
                return;
            }
        }
        self.overflow.push_back(entry);
    }

    /// Two linked entries, kept together in one submission.
    ///
    /// # Safety
    /// As for `push`.
    pub(super) unsafe fn push_linked(&mut self, first: squeue::Entry, second: squeue::Entry) {
        let entries = [first.flags(squeue::Flags::IO_LINK), second];
        if !self.has_room(entries.len()) {
            self.submit();
        }
        for entry in entries {
            // SAFETY: passed on to the caller.
            unsafe { self.push(entry) };
        }
    }

    /// Asks for the end of one operation; the answer comes as a completion of `answer`.
    pub(super) fn cancel(&mut self, target: u64, answer: u64) {
        let entry = opcode::AsyncCancel::new(target).build().user_data(answer);
        // SAFETY: no pointers.
        unsafe { self.push(entry) };
    }

    /// Asks for the end of everything.
    pub(super) fn cancel_all(&mut self, answer: u64) {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::any().all())
            .build()
            .user_data(answer);
        // SAFETY: no pointers.
        unsafe { self.push(entry) };
    }

    /// Submits, runs deferred work, and waits for `want` completions, at most for `timeout`. A signal, a full
    /// completion queue and memory shortage in the kernel are no errors: the next call goes on.
    pub(super) fn enter(&mut self, want: u32, timeout: Option<Duration>) -> io::Result<()> {
        self.flush_overflow();
        let to_submit = self.io.submission().len() as u32;
        let result = match timeout {
            None => {
                let flags = EnterFlags::GETEVENTS.bits();
                // SAFETY: no argument is passed.
                unsafe {
                    self.io
                        .submitter()
                        .enter::<libc::sigset_t>(to_submit, want, flags, None)
                }
            }
            Some(timeout) => {
                let time = Timespec::from(timeout);
                let arguments = SubmitArgs::new().timespec(&time);
                let flags = (EnterFlags::GETEVENTS | EnterFlags::EXT_ARG).bits();
                // SAFETY: EXT_ARG says that the argument is a `SubmitArgs`; it and its time outlive the call.
                unsafe {
                    self.io
                        .submitter()
                        .enter(to_submit, want, flags, Some(&arguments))
                }
            }
        };
        self.submitted();
        match result {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Nothing waits to be submitted, run or seen: entering would find nothing.
    pub(super) fn is_quiet(&mut self) -> bool {
        let queue = self.io.submission();
        let quiet = queue.is_empty() && !queue.taskrun() && !queue.cq_overflow();
        drop(queue);
        quiet && self.overflow.is_empty() && self.io.completion().is_empty()
    }

    /// Completions that wait.
    pub(super) fn completions(&mut self) -> usize {
        self.io.completion().len()
    }

    pub(super) fn pop(&mut self) -> Option<cqueue::Entry> {
        let completion = self.io.completion().next()?;
        if !cqueue::more(completion.flags()) {
            self.in_flight -= 1;
        }
        Some(completion)
    }

    /// Hands the queue over without waiting or running deferred work, to make room.
    fn submit(&mut self) {
        // Whatever the error: the caller looks whether there is room now.
        let _ = self.io.submit();
        self.submitted();
    }

    /// In pairs of room, so that two linked entries are never torn apart.
    fn flush_overflow(&mut self) {
        while !self.overflow.is_empty() {
            if !self.has_room(2) {
                self.submit();
                if !self.has_room(2) {
                    return;
                }
            }
            if let Some(entry) = self.overflow.pop_front() {
                // SAFETY: the caller of `push` answered for it.
                let pushed = unsafe { self.io.submission().push(&entry) };
                debug_assert!(pushed.is_ok(), "there was room for two");
            }
        }
    }

    fn has_room(&mut self, entries: usize) -> bool {
        let queue = self.io.submission();
        queue.capacity() - queue.len() >= entries
    }

    fn submitted(&mut self) {
        if self.overflow.is_empty() && self.io.submission().is_empty() {
            self.arguments.clear();
        }
    }
}
