"""One run of `tidegate load` against one peer, as a sample: plain figures and the raw histogram."""

import functools
import json
import os
import pathlib
import resource
import subprocess
import time

from . import lab

GRACE = 60
STUCK_US = 2_000_000


@functools.cache
def help_of(program, kind):
    done = subprocess.run([program, "load", kind, "--help"], check=False, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""


def require(program, kind, flags=()):
    """Fails when this build's load generator does not know the kind or one of the flags."""
    text = help_of(program, kind)
    missing = [flag for flag in flags if flag not in text]
    if not text or missing:
        raise lab.Failed(f"this build's `tidegate load {kind}` does not know {' '.join(missing) or kind}")


def pids(peer):
    named = {**peer.processes, **peer.origin.pids}
    return [part for name, ids in named.items() for pid in ids for part in ("--pid", f"{name}={pid}")]


def command(peer, kind, path, seconds, warm_up, flags):
    place = peer.place
    return [str(part) for part in (
        place.program, "load", kind, "--url", f"https://localhost:{peer.port}{path}", "--ca", place.dir / "ca.pem",
        "--duration", f"{round(seconds * 1000)}ms", "--warm-up", f"{round(warm_up * 1000)}ms",
        "--shards", peer.options.load_shards, *flags)]


def machine_seconds():
    """CPU seconds of the whole machine since its start: busy ones, and those that the hypervisor gave to others."""
    fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    user, nice, system, _, _, irq, softirq, steal = fields
    tick = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / tick, steal / tick


class Quiet:
    """What the machine did beside a sample: CPU of processes that are not the comparison's, in cores, and stolen CPU."""

    def __init__(self, peer):
        self.pids = [pid for ids in {**peer.processes, **peer.origin.pids}.values() for pid in ids]

    def own(self):
        used = resource.getrusage(resource.RUSAGE_CHILDREN), resource.getrusage(resource.RUSAGE_SELF)
        return sum(map(lab.cpu_seconds, self.pids)) + sum(one.ru_utime + one.ru_stime for one in used)

    def __enter__(self):
        self.began, self.before, (self.busy, self.stolen) = time.monotonic(), self.own(), machine_seconds()
        return self

    def __exit__(self, *of):
        seconds, (busy, stolen) = time.monotonic() - self.began, machine_seconds()
        own = self.own() - self.before if not of[0] else 0
        self.figures = {"foreign_cores": max(0.0, (busy - self.busy - own) / seconds),
                        "stolen_cores": (stolen - self.stolen) / seconds}


def result_file(place):
    """Where a run's result is, until the next run."""
    return place.dir / "load.json"


def run(peer, kind, path, seconds, warm_up, flags):
    """The sample, and the command line that it came from (ids of processes and the result file left out)."""
    require(peer.place.program, kind, [flag for flag in flags if str(flag).startswith("--")])
    line = command(peer, kind, path, seconds, warm_up, flags)
    file = result_file(peer.place)
    file.unlink(missing_ok=True)
    whole = peer.place.on_cores("load", [*line, *pids(peer), "--json", file])
    try:
        with Quiet(peer) as quiet:
            done = subprocess.run(whole, check=False, capture_output=True, text=True, timeout=seconds + warm_up + GRACE,
                                  start_new_session=True)
    except subprocess.TimeoutExpired:
        raise lab.Failed(f"the load did not end within {seconds + warm_up + GRACE:.0f} s") from None
    if not file.exists():
        raise lab.Failed(f"the load failed:\n{(done.stdout + done.stderr).strip()[-800:]}")
    return sample(json.loads(file.read_text()), kind) | quiet.figures, " ".join(line)


def sample(run_, kind):
    """What of a result file the comparison keeps. Anything that failed makes it a failure."""
    examples = run_.get("error_examples") or {}
    errors = [f"{count} × {what}" + (f" ({examples[what]})" if what in examples else "")
              for what, count in (run_.get("errors") or {}).items()]
    statuses = set(run_.get("statuses") or {})
    bytes_ = run_["body_bytes_received"] + run_["body_bytes_sent"]
    if errors:
        raise lab.Failed("; ".join(errors))
    if kind != "handshakes" and statuses - {"200"}:
        raise lab.Failed(f"statuses {run_['statuses']}")
    if not (bytes_ if kind == "transfer" else run_["requests"]):
        raise lab.Failed("nothing was carried in the measured time")
    if kind != "transfer" and run_["unfinished_longest_us"] > STUCK_US:
        raise lab.Failed(f"{run_['unfinished']} without an answer, one for {run_['unfinished_longest_us'] / 1e6:.1f} s")
    spent = {}
    for process in run_["processes"]:
        spent[process["name"]] = spent.get(process["name"], 0) + process["cpu_seconds"]
    latency = run_["latency_us"]
    handshakes = run_["handshakes_full"] + run_["handshakes_resumed"]
    return {
        "kind": kind, "requests": run_["requests"], "seconds": run_["seconds"], "rate": run_["requests_per_second"],
        "bytes": bytes_, "cpu_s": spent, "load_cpu_s": run_["load"]["cpu_seconds"], "histogram": run_["histogram_us"],
        "resumed_share": run_["handshakes_resumed"] / handshakes if handshakes else 0,
        **{name: latency.get(quantile, 0) / 1000 for name, quantile in
           (("p50_ms", "p50"), ("p90_ms", "p90"), ("p99_ms", "p99"), ("p999_ms", "p99.9"), ("max_ms", "max"))},
    }
