"""A folder, free ports, certificates, and processes: everything that a comparison starts and must end."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
CACHE = TARGET / "comparison"
HOST = "127.0.0.1"


class Failed(Exception):
    """Something of one peer, or of one case, does not work; the text says what and why."""


def free_port():
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def children(pid):
    try:
        text = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in text.split()]


def rss_kib(pid, of="VmRSS:"):
    """Resident memory of a process; `VmHWM:` for the most it ever had."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(of):
            return int(line.split()[1])
    return 0


def cpu_seconds(pid):
    """What all threads of a process have run so far."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in pathlib.Path(f"/proc/{pid}/task").iterdir()) / 1e9


def kernel_kib():
    """What the kernel's own objects take, sockets among them; of the whole machine."""
    total = 0
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(("Slab:", "Percpu:", "PageTables:")):
            total += int(line.split()[1])
    return total


def established(pairs):
    """Counts connections of this machine by the far end's port: {port: connections}, for these ports."""
    counts = dict.fromkeys(pairs, 0)
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in pathlib.Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            port = int(fields[2].rsplit(":", 1)[1], 16)
            if fields[3] == "01" and port in counts:
                counts[port] += 1
    return counts


def tail(path, lines=12):
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


class Server:
    """A process that was started: its log, and how it is waited for and ended."""

    def __init__(self, name, process, log):
        self.name, self.process, self.log = name, process, log
        self.pid = process.pid

    def wait_until(self, what, look, seconds=20):
        """Waits until `look` is true; the process's end or the time's is a failure that shows the log's last lines."""
        deadline = time.monotonic() + seconds
        while not look():
            if self.process.poll() is not None:
                raise Failed(f"{self.name} ended with {self.process.returncode}:\n{tail(self.log)}")
            if time.monotonic() > deadline:
                raise Failed(f"{self.name}: {what}: not within {seconds} s:\n{tail(self.log)}")
            time.sleep(0.05)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                for child in children(self.pid):
                    os.kill(child, signal.SIGKILL)
                self.process.kill()
                self.process.wait()


class Lab:
    """Where one comparison lives. `pin` puts load and origin on the first core and the peers' processes on the others."""

    def __init__(self, program, pin=False):
        self.program = program
        self.servers = []
        self.cores = {"load": None, "peer": None}
        if pin:
            cores = sorted(os.sched_getaffinity(0))
            if len(cores) < 2:
                raise Failed("--pin: there is one core")
            self.cores = {"load": cores[:1], "peer": cores[1:]}
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="tidegate-compare-"))

    def certificates(self):
        """A PKI as `tidegate pki` makes it: ECDSA P-256 throughout. `both.pem` files are certificate and key in one."""
        for arguments in (["init"], ["server"], ["connector", "cp-1"], ["client", "device-1"]):
            command = [self.program, "pki", *arguments, "--dir", self.dir]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                raise Failed(f"tidegate pki {' '.join(arguments)}: {done.stderr.strip()}")
        for name in ("server", "cp-1"):
            both = self.dir / f"{name}-both.pem"
            both.write_text((self.dir / f"{name}.pem").read_text() + (self.dir / f"{name}.key").read_text())

    def on_cores(self, of, command):
        """The command line that keeps a process where processes of its kind (`load` or `peer`) belong."""
        command = [str(part) for part in command]
        if self.cores[of]:
            return ["taskset", "--cpu-list", ",".join(map(str, self.cores[of])), *command]
        return command

    def start(self, name, command, of="peer", folder=None, environment=None):
        """Starts a process in a session of its own: a Ctrl-C reaches this program alone, which then ends the rest."""
        folder = folder or self.dir
        log = folder / f"{name}.log"
        with open(log, "wb") as output:
            process = subprocess.Popen(self.on_cores(of, command), cwd=folder, stdin=subprocess.DEVNULL, stdout=output,
                                       stderr=output, start_new_session=True, env={**os.environ, **(environment or {})})
        server = Server(name, process, log)
        self.servers.append(server)
        return server

    def stop(self, server):
        server.stop()
        self.servers.remove(server)

    def stop_all(self):
        for server in reversed(self.servers):
            server.stop()
        self.servers = []

    def remove(self):
        shutil.rmtree(self.dir, ignore_errors=True)
