"""One step after the other. Each writes what it says into a log of its own, and ends within its time."""

import os
import resource
import signal
import subprocess
import sys
import time

from .read import ROOT
from .tools import BUILD_SECONDS, Unread

LOOK_SECONDS = 0.5
TELL_SECONDS = 30
END_SECONDS = 20
TICKS = os.sysconf("SC_CLK_TCK")


class Broken(Exception):
    """A step did not measure; the text says why."""


def clock(seconds):
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def left(seconds):
    return f"some {max(1, round(seconds / 60))} min left"


def reason(log, fallback):
    """The last line of a log that says something."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else fallback


def busy_seconds():
    """CPU seconds of the whole machine since its start, without waiting and what the hypervisor took."""
    with open("/proc/stat") as stat:
        fields = [int(field) for field in stat.readline().split()[1:8]]
    user, nice, system, _, _, irq, softirq = fields
    return (user + nice + system + irq + softirq) / TICKS


def own_seconds():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def end(process):
    """Ends a step with all that it started: tools clean up after themselves at SIGTERM."""
    for number, seconds in ((signal.SIGTERM, END_SECONDS), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass
        try:
            process.wait(seconds)
            return
        except subprocess.TimeoutExpired:
            continue


class Run:
    """`tell` gets lines of progress. Afterwards `figures` has a number, or an `Unread`, for each source of the steps, and
    `told` a line a step for the file of `--json`."""

    def __init__(self, steps, folder, tell=lambda text: print(text, file=sys.stderr, flush=True)):
        self.steps, self.folder, self.tell = steps, folder, tell
        self.figures, self.told, self.interrupted = {}, [], False

    def all(self):
        for number, step in enumerate(self.steps):
            after = sum(one.seconds for one in self.steps[number + 1:])
            began, busy, own = time.time(), busy_seconds(), own_seconds()
            why = None
            try:
                self.one(step, number, after)
                found = step.read(began)
            except KeyboardInterrupt:
                self.interrupted = True
                why = "ended before its time"
            except (Broken, Unread) as error:
                why = str(error)
            except (ArithmeticError, LookupError, OSError, TypeError, ValueError) as error:
                why = f"its figures cannot be read: {type(error).__name__}: {error}"
            if why:
                found = dict.fromkeys(step.sources, Unread(f"{step.title}: {why}"))
                self.tell(f"bench: {step.title}: {why}")
            self.figures |= found
            took = time.time() - began
            foreign = max(0.0, busy_seconds() - busy - (own_seconds() - own)) / max(took, 1e-3)
            self.told.append({"step": step.title, "seconds": round(took, 1), "failed": why, "foreign_cores": round(foreign, 2)})
            if self.interrupted:
                for later in self.steps[number + 1:]:
                    self.figures |= dict.fromkeys(later.sources, Unread("ended before its turn"))
                return

    def one(self, step, number, after):
        log = self.folder / f"{number + 1}.log"
        self.tell(f"bench: {number + 1} of {len(self.steps)}: {step.title} ({left(step.seconds + after)})")
        commands = ([[str(ROOT / "scripts" / "need"), *step.programs]] if step.programs else []) + step.commands
        deadline = time.monotonic() + 3 * step.seconds + BUILD_SECONDS
        with open(log, "wb") as output:
            for command in commands:
                status = self.command(command, output, step, deadline, after)
                is_last = command is commands[-1]
                if status != 0 and not (is_last and step.may_fail):
                    output.flush()
                    raise Broken(f"exit status {status}: {reason(log, 'it said nothing')}")

    def command(self, command, output, step, deadline, after):
        try:
            process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                       start_new_session=True)
        except OSError as error:
            raise Broken(f"{command[0]}: {error.strerror}") from None
        began = told = time.monotonic()
        try:
            while process.poll() is None:
                time.sleep(LOOK_SECONDS)
                now = time.monotonic()
                if now > deadline:
                    raise Broken(f"not done within {clock(now - began)}")
                if now - told >= TELL_SECONDS:
                    told = now
                    self.tell(f"bench:    {clock(now - began)} ({left(max(0, step.seconds - (now - began)) + after)})")
            return process.returncode
        finally:
            if process.poll() is None:
                end(process)
