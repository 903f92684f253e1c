"""The machine and the moment of a run."""

import datetime
import os
import pathlib
import platform


def read(path, key=None, by=":"):
    """A file's text, or what stands after a key; empty where there is none."""
    try:
        text = pathlib.Path(path).read_text()
    except OSError:
        return ""
    if key is None:
        return text.strip()
    return next((line.partition(by)[2].strip() for line in text.splitlines() if line.startswith(key)), "")


def now():
    weak = {path.name: read(path) for path in sorted(pathlib.Path("/sys/devices/system/cpu/vulnerabilities").glob("*"))}
    return {
        "created": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": {
            "cpu": read("/proc/cpuinfo", "model name") or platform.machine(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(int(read("/proc/meminfo", "MemTotal").split()[0]) / 2**20, 1),
            "kernel": platform.release(),
            "system": read("/etc/os-release", "PRETTY_NAME", "=").strip('"'),
            "load_at_end": os.getloadavg()[0],
            "mitigations": {name: state for name, state in weak.items() if state.startswith("Mitigation")},
        },
    }
